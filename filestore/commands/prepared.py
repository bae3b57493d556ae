"""PREPARE, EXECUTE, DEALLOCATE: the SQL way to the same prepared statements that the protocol keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from filestore import errors
from filestore.query import statements as s
from filestore.query.bind import bind_argument
from filestore.query.evaluate import ev
from filestore.query.vectors import broadcast
from filestore.result import Result
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.Prepare | s.Execute | s.Deallocate


def run(session: Session, command: Command) -> Steps[Result]:
    """Raises 42P05 for a name in use, 26000 for an unknown one."""
    match command:
        case s.Prepare(name=name, types=types, statement=statement):
            if name in session.prepared:
                raise errors.DuplicatePreparedStatement(f'prepared statement "{name}" already exists')
            # A parameter has no modifiers: varchar(3) is varchar, as in PostgreSQL.
            plain = [None if t is None else SqlType(t.kind) for t in types]
            session.prepared[name] = session.prepare_statement(statement, plain)
            return Result("PREPARE")
        case s.Execute(name=name, arguments=arguments):
            found = session.named(name)
            if len(arguments) != len(found.parameters):
                raise errors.SqlSyntaxError(
                    f'wrong number of parameters for prepared statement "{name}"',
                    detail=f"Expected {len(found.parameters)} parameters but got {len(arguments)}.",
                )
            given = enumerate(zip(arguments, found.parameters, strict=True), 1)
            catalog = session.catalog()
            exprs = [bind_argument(text, start, n, t, catalog) for n, ((text, start), t) in given]
            context, row = session.context(), Batch([], 1)
            values = [broadcast(ev(expr, row, context), 1).plain() for expr in exprs]
            return (yield from session.execute_prepared(found, values))
        case s.Deallocate(name=None):
            session.prepared.clear()
            return Result("DEALLOCATE ALL")
        case s.Deallocate(name=name):
            session.named(name or "")
            del session.prepared[name or ""]
            return Result("DEALLOCATE")
        case _:
            assert_never(command)
