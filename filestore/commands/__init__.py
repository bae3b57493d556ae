"""Statements that are not planned: transactions, settings, definitions, COPY, EXPLAIN. One module a family, one
dispatch here.

Each command is a generator over the session (`txn/drive.py`) that returns a `Result`; what is not built is refused by
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from filestore import errors
from filestore.commands import (
    copy,
    cursors,
    definitions,
    explaining,
    maintenance,
    prepared,
    savepoints,
    settings,
    transactions,
)
from filestore.query import statements as s
from filestore.query.plan import OutputColumn
from filestore.result import Result
from filestore.storage.vector import Vector
from filestore.txn.drive import Steps

if TYPE_CHECKING:
    from filestore.session import Session


def run(session: Session, statement: s.Statement, parameters: Sequence[Vector] = ()) -> Steps[Result]:
    """Runs a utility statement; `parameters` are its inner statement's. Raises 0A000 by name for what is not built."""
    command = statement.utility
    match command:
        case s.Begin() | s.Commit() | s.Rollback() | s.SetTransaction():
            return transactions.run(session, command)
        case s.Savepoint() | s.Release() | s.RollbackTo():
            return savepoints.run(session, command)
        case s.SetVariable() | s.ResetVariable() | s.ShowVariable() | s.Discard():
            return settings.run(session, command)
        case s.Prepare() | s.Execute() | s.Deallocate():
            return prepared.run(session, command)
        case s.Declare() | s.Fetch() | s.CloseCursor():
            return cursors.run(session, command, parameters)
        case s.Explain():
            return explaining.run(session, command, parameters)
        case s.Copy():
            return copy.run(session, command)
        case s.Vacuum() | s.Analyze() | s.Checkpoint() | s.LockTable() | s.Listen() | s.Unlisten() | s.Notify():
            return maintenance.run(session, command)
        case s.Refused():
            raise errors.FeatureNotSupported(command.message, hint=command.hint)
        case None:
            raise errors.InternalError("a planned statement reached the commands")
        case _:
            return definitions.run(session, command)


def describe(session: Session, statement: s.Statement) -> tuple[OutputColumn, ...] | None:
    """The columns that a utility statement will return, None for none; runs nothing."""
    match statement.utility:
        case s.ShowVariable(name=name):
            return settings.show_columns(name)
        case s.Explain():
            return explaining.columns()
        case s.Execute(name=name):
            return session.named(name).columns
        case s.Fetch(cursor=cursor, move=False):
            return cursors.columns(session, cursor)
        case s.Refused(message=message, hint=hint):
            raise errors.FeatureNotSupported(message, hint=hint)
        case _:
            return None


def inner(statement: s.Statement) -> s.Statement | None:
    """The statement inside that has the parameters; None for commands that take none."""
    match statement.utility:
        case s.Declare(statement=found) | s.Explain(statement=found):
            return found if found.utility is None else None
        case _:
            return None


def ends_transaction(statement: s.Statement) -> bool:
    """Whether the statement may run in a failed transaction block."""
    return isinstance(statement.utility, s.Commit | s.Rollback | s.RollbackTo)
