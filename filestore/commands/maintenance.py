"""VACUUM, ANALYZE, CHECKPOINT, LOCK TABLE; LISTEN and NOTIFY are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filestore import errors
from filestore.commands.definitions import locked
from filestore.query import statements as s
from filestore.result import Result
from filestore.txn.drive import Job, Steps
from filestore.txn.locks import LockMode

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.Vacuum | s.Analyze | s.Checkpoint | s.LockTable | s.Listen | s.Unlisten | s.Notify


def run(session: Session, command: Command) -> Steps[Result]:
    """Raises 42P01 for an unknown table."""
    match command:
        case s.Vacuum(tables=tables):
            if session.explicit:
                raise errors.ActiveTransaction("VACUUM cannot run inside a transaction block")
            for name in tables:
                session.catalog().required(name)
            return Result("VACUUM")
        case s.Analyze(tables=tables):
            for name in tables:
                session.catalog().required(name)
            return Result("ANALYZE")
        case s.Checkpoint():
            job = Job(session.database.workers, session.database.engine.checkpoint)
            yield job
            job.value()
            return Result("CHECKPOINT")
        case s.LockTable(tables=tables, mode=mode, nowait=nowait):
            if not session.explicit:
                raise errors.NoActiveTransaction("LOCK TABLE can only be used in transaction blocks")
            for name in tables:
                definition = session.catalog().required(name)
                kind = LockMode[mode.upper().replace(" ", "_")]
                if nowait:
                    locks = session.engine.locks
                    if not locks.try_acquire(session.begin(), definition.oid, kind):
                        raise errors.LockNotAvailable(f'could not obtain lock on relation "{definition.name}"')
                elif (yield from locked(session, name, kind)) is None:
                    session.catalog().required(name)  # dropped meanwhile: says so
            return Result("LOCK TABLE")
        case s.Unlisten():
            return Result("UNLISTEN")
        case _:
            word = "LISTEN" if isinstance(command, s.Listen) else "NOTIFY"
            raise errors.FeatureNotSupported(f"{word} is not supported", hint="Poll a table instead.")
