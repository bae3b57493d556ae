"""SET, RESET, SHOW, DISCARD."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from filestore import errors
from filestore.commands.transactions import checked_isolation
from filestore.query import statements as s
from filestore.query.plan import OutputColumn
from filestore.query.rows import text_result
from filestore.result import Result
from filestore.settings_table import SETTINGS
from filestore.txn.drive import Steps
from filestore.types import TEXT

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.SetVariable | s.ResetVariable | s.ShowVariable | s.Discard

_ROLES = ("role", "session_authorization")
_ISOLATION = ("default_transaction_isolation", "transaction_isolation")


def run(session: Session, command: Command) -> Steps[Result]:
    """Runs a settings command. Raises 42704 for an unknown name, 22023 for a bad value, 0A000 for SERIALIZABLE."""
    yield from ()
    session.begin()
    match command:
        case s.SetVariable(name=name, values=values, local=local):
            if local and not session.explicit:
                session.notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks")
                return Result("SET")
            if name.lower() in _ROLES and values is not None:
                _check_role(session, name.lower(), values[0])
            if name.lower() == "session_authorization":
                return Result("SET")
            if name.lower() in _ISOLATION and values is not None:
                # Here, because every later statement of the session would be refused, RESET included.
                checked_isolation(values[0].lower())
            session.settings.set(name, values, local)
            return Result("SET")
        case s.ResetVariable(name=None):
            session.settings.reset_all()
            return Result("RESET")
        case s.ResetVariable(name="session_authorization"):
            return Result("RESET")
        case s.ResetVariable(name=name):
            session.settings.reset(name or "")
            return Result("RESET")
        case s.ShowVariable(name=None):
            columns, batch = text_result(("name", "setting", "description"), session.settings.all())
            return Result("SHOW", columns, iter((batch,)))
        case s.ShowVariable(name=name):
            columns, batch = text_result((shown_name(name or ""),), [(session.settings.get(name or ""),)])
            return Result("SHOW", columns, iter((batch,)))
        case s.Discard(what=what):
            if what == "all":
                if session.explicit:
                    raise errors.ActiveTransaction("DISCARD ALL cannot run inside a transaction block")
                session.settings.reset_all()
                session.prepared.clear()
                session.cursors.clear()
            return Result(f"DISCARD {what.upper()}")
        case _:
            assert_never(command)


def _check_role(session: Session, name: str, role: str) -> None:
    """There is one role a session, its user. Errors with 22023 for any other."""
    if role != session.user and not (name == "role" and role.lower() == "none"):
        raise errors.InvalidParameterValue(f'role "{role}" does not exist')


def shown_name(name: str) -> str:
    """The column name of SHOW: the setting's own spelling, e.g. TimeZone."""
    known = SETTINGS.get(name.lower())
    return name.lower() if known is None else known.name


def show_columns(name: str | None) -> tuple[OutputColumn, ...]:
    """The columns of SHOW name or SHOW ALL."""
    names = ("name", "setting", "description") if name is None else (shown_name(name),)
    return tuple(OutputColumn(n, TEXT) for n in names)
