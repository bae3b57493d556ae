"""SAVEPOINT, RELEASE, ROLLBACK TO, for transactions that only read behind them; changes there are refused by name.

Drivers look types up behind a savepoint (psycopg's TypeInfo, and with it SQLAlchemy), psql's ON_ERROR_ROLLBACK and
pgjdbc's autosave wrap every statement in one. None of them needs more than the way back from an error as long as
nothing is written, and then ROLLBACK TO is exact: settings and cursors are what they were. So a savepoint may be set
at any time, and while one is set whatever changes data or definitions is refused
(`filestore.txn.transaction.Transaction.check_writable`); RELEASE ends that.

A deadlock ends the whole transaction, since its locks are what the other waits for: ROLLBACK TO finds no savepoint
then. It does not do: undoing changes in part, giving back the locks that were taken behind the savepoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from filestore import errors
from filestore.commands.cursors import Cursor
from filestore.query import statements as s
from filestore.result import Result
from filestore.settings import SettingsMark
from filestore.txn.drive import Steps

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.Savepoint | s.Release | s.RollbackTo
_NAMES = {s.Savepoint: "SAVEPOINT", s.Release: "RELEASE SAVEPOINT", s.RollbackTo: "ROLLBACK TO SAVEPOINT"}


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What ROLLBACK TO goes back to."""

    name: str
    settings: SettingsMark
    cursors: dict[str, Cursor]


def run(session: Session, command: Command) -> Steps[Result]:
    """Raises 25P01 outside a transaction block, 3B001 for a name that is none."""
    if not session.explicit:
        raise errors.NoActiveTransaction(f"{_NAMES[type(command)]} can only be used in transaction blocks")
    yield from ()
    match command:
        case s.Savepoint(name=name):
            session.savepoints.append(Savepoint(name, session.settings.mark(), dict(session.cursors)))
            session.begin().behind_savepoint = True
            return Result("SAVEPOINT")
        case s.Release(name=name):
            del session.savepoints[_place(session, name) :]
            session.begin().behind_savepoint = bool(session.savepoints)
            return Result("RELEASE")
        case s.RollbackTo(name=name):
            place = _place(session, name)
            del session.savepoints[place + 1 :]
            _go_back(session, session.savepoints[place])
            return Result("ROLLBACK")


def _place(session: Session, name: str) -> int:
    """The newest savepoint of that name."""
    for i in reversed(range(len(session.savepoints))):
        if session.savepoints[i].name == name:
            return i
    raise errors.InvalidSavepoint(f'savepoint "{name}" does not exist')


def _go_back(session: Session, savepoint: Savepoint) -> None:
    session.failed_block = False
    session.settings.back_to(savepoint.settings)
    for name, cursor in list(session.cursors.items()):
        if savepoint.cursors.get(name) is not cursor:
            del session.cursors[name]
