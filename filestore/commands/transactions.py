"""BEGIN, COMMIT, ROLLBACK, SET TRANSACTION."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from filestore import errors
from filestore.query import statements as s
from filestore.result import Result
from filestore.txn.drive import Steps
from filestore.txn.transaction import Isolation

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.Begin | s.Commit | s.Rollback | s.SetTransaction
_RUNS_AT: Final = {"read uncommitted": Isolation.READ_COMMITTED, **{level.value: level for level in Isolation}}


def run(session: Session, command: Command) -> Steps[Result]:
    """Runs a transaction command; COMMIT returns once it is durable."""
    match command:
        case s.Begin(modes=modes, tag=tag):
            if session.explicit:
                session.notice("WARNING", "25001", "there is already a transaction in progress")
                _change(session, modes)
                return Result(tag)
            if session.transaction is None:
                session.settings.begin()
                _apply(session, modes)
            else:
                _change(session, modes)
            session.explicit = True
            session.begin()
            return Result(tag)
        case s.Commit(chain=chain):
            _refuse_chain(chain)
            _warn_outside(session)
            return Result((yield from session.commit_block()))
        case s.Rollback(chain=chain):
            _refuse_chain(chain)
            _warn_outside(session)
            session.rollback_block()
            return Result("ROLLBACK")
        case s.SetTransaction(modes=modes, session=whole_session):
            if whole_session:
                _apply_default(session, modes)
            elif not session.explicit:
                session.notice("WARNING", "25P01", "SET TRANSACTION can only be used in transaction blocks")
            else:
                _change(session, modes)
            return Result("SET")
        case _:
            assert_never(command)


def _warn_outside(session: Session) -> None:
    if not session.explicit:
        session.notice("WARNING", "25P01", "there is no transaction in progress")


def _refuse_chain(chain: bool) -> None:
    if chain:
        raise errors.FeatureNotSupported("AND CHAIN is not supported", hint="Send BEGIN after it.")


def checked_isolation(level: str) -> Isolation:
    """The level that a requested one runs at: read uncommitted is read committed; serializable is refused by name."""
    found = _RUNS_AT.get(level)
    if found is None:
        raise errors.FeatureNotSupported(
            f"isolation level {level.upper()} is not supported",
            hint="REPEATABLE READ (snapshot isolation) is the strongest level built.",
        )
    return found


def _apply(session: Session, modes: s.TransactionModes) -> None:
    """Settings of the transaction that BEGIN starts; they end with it."""
    if modes.isolation is not None:
        checked_isolation(modes.isolation)
        session.settings.set_local("transaction_isolation", modes.isolation)
    if modes.read_only is not None:
        session.settings.set_local("transaction_read_only", "on" if modes.read_only else "off")


def _apply_default(session: Session, modes: s.TransactionModes) -> None:
    if modes.isolation is not None:
        checked_isolation(modes.isolation)
        session.settings.set("default_transaction_isolation", modes.isolation)
    if modes.read_only is not None:
        session.settings.set("default_transaction_read_only", "on" if modes.read_only else "off")


def _change(session: Session, modes: s.TransactionModes) -> None:
    transaction = session.begin()
    if modes.isolation is not None:
        level = checked_isolation(modes.isolation)
        if session.savepoints:
            raise errors.ActiveTransaction("SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction")
        if transaction.snapshot is not None and modes.isolation != session.settings.transaction_isolation:
            raise errors.ActiveTransaction("SET TRANSACTION ISOLATION LEVEL must be called before any query")
        transaction.isolation = level
        session.settings.set_local("transaction_isolation", modes.isolation)
    if modes.read_only is not None:
        if transaction.read_only and not modes.read_only and transaction.snapshot is not None:
            raise errors.ActiveTransaction("transaction read-write mode must be set before any query")
        transaction.read_only = modes.read_only
        session.settings.set_local("transaction_read_only", "on" if modes.read_only else "off")
