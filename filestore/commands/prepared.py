"""PREPARE, EXECUTE, DEALLOCATE: the SQL way to the same prepared statements that the protocol keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from filestore import errors
from filestore.query import statements as s
from filestore.query.bind import bind
from filestore.query.executor import execute
from filestore.query.parse import parse
from filestore.query.vectors import concat_batches
from filestore.result import Result
from filestore.storage.vector import Vector
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
            session.prepared[name] = session.prepare_statement(statement, types)
            return Result("PREPARE")
        case s.Execute(name=name, arguments=arguments):
            found = session.named(name)
            if len(arguments) != len(found.parameters):
                raise errors.SqlSyntaxError(
                    f'wrong number of parameters for prepared statement "{name}"',
                    detail=f"Expected {len(found.parameters)} parameters but got {len(arguments)}.",
                )
            values = [_argument(session, text, t) for text, t in zip(arguments, found.parameters, strict=True)]
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


def _argument(session: Session, text: str, sql_type: SqlType) -> Vector:
    """The value of an EXECUTE argument, as a vector of length 1 of the parameter's type."""
    statement = parse(f"SELECT CAST({text} AS {sql_type.name})")[0]
    bound = bind(statement, session.catalog(), ())
    context = session.context()
    return concat_batches(list(execute(bound.plan, context)), [sql_type]).columns[0]
