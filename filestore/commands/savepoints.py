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
    read_only: bool


def run(session: Session, command: Command) -> Steps[Result]:
    """Raises 25P01 outside a transaction block, 3B001 for a name that is none."""
    if not session.explicit:
        raise errors.NoActiveTransaction(f"{_NAMES[type(command)]} can only be used in transaction blocks")
    yield from ()
    match command:
        case s.Savepoint(name=name):
            transaction = session.begin()
            mark = Savepoint(name, session.settings.mark(), dict(session.cursors), transaction.read_only)
            session.savepoints.append(mark)
            transaction.behind_savepoint = True
            return Result("SAVEPOINT")
        case s.Release(name=name):
            place = _place(session, name)
            _set_read_only(session, session.savepoints[place].read_only)
            del session.savepoints[place:]
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
    _set_read_only(session, savepoint.read_only)
    for name, cursor in list(session.cursors.items()):
        if savepoint.cursors.get(name) is not cursor:
            del session.cursors[name]


def _set_read_only(session: Session, read_only: bool) -> None:
    """READ ONLY behind a savepoint ends with it, as in PostgreSQL."""
    transaction = session.begin()
    if transaction.read_only != read_only:
        transaction.read_only = read_only
        session.settings.set_local("transaction_read_only", "on" if read_only else "off")
