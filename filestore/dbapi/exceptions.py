"""PEP 249's exceptions, and which of them an error of the store becomes: by its SQLSTATE class, as psycopg does.

Every exception carries the error's fields: `sqlstate`, `detail`, `hint`, `position` (1-based, in the statement as
it was given), `schema`, `table`, `column`, `datatype`, `constraint`, and `retryable`, which says that the
transaction may be run again. The error of the store itself is its `__cause__`.

Thread rule: any thread.
"""

from __future__ import annotations

from typing import Final

from filestore import errors


class Warning(Exception):  # noqa: A001 - the name is PEP 249's
    """Never raised; PEP 249 asks for it."""


class Error(Exception):
    """Base of everything that this driver raises. The fields are None where the error has none."""

    def __init__(self, message: str = "", *, sqlstate: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.hint = hint
        self.retryable = False
        self.detail: str | None = None
        self.context: str | None = None
        self.position: int | None = None
        self.schema: str | None = None
        self.table: str | None = None
        self.column: str | None = None
        self.datatype: str | None = None
        self.constraint: str | None = None

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.detail:
            parts.append(f"DETAIL: {self.detail}")
        if self.hint:
            parts.append(f"HINT: {self.hint}")
        if self.context:
            parts.append(f"CONTEXT: {self.context}")
        return "\n".join(parts)


class InterfaceError(Error):
    """The driver was used wrongly: a closed cursor, a fetch without a result, a missing parameter."""


class DatabaseError(Error):
    """Base of what the database refused."""


class DataError(DatabaseError):
    """A value does not fit (SQLSTATE class 22)."""


class OperationalError(DatabaseError):
    """Not the statement's fault: a lock timeout, a serialization failure, a directory in use, a failed disk."""


class IntegrityError(DatabaseError):
    """A constraint was violated (class 23)."""


class InternalError(DatabaseError):
    """A transaction in the wrong state (class 25), damaged data or a bug (class XX)."""


class ProgrammingError(DatabaseError):
    """Syntax, names, types (class 42)."""


class NotSupportedError(DatabaseError):
    """PostgreSQL has it, FileStore has not built it (class 0A)."""


_BY_CLASS: Final[dict[str, type[DatabaseError]]] = {
    "08": OperationalError,
    "0A": NotSupportedError,
    "20": ProgrammingError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "24": InternalError,
    "25": InternalError,
    "26": OperationalError,
    "28": OperationalError,
    "2B": InternalError,
    "34": OperationalError,
    "3B": OperationalError,
    "3D": ProgrammingError,
    "3F": ProgrammingError,
    "40": OperationalError,
    "42": ProgrammingError,
    "53": OperationalError,
    "54": OperationalError,
    "55": OperationalError,
    "57": OperationalError,
    "58": OperationalError,
    "XX": InternalError,
}


def class_of(sqlstate: str) -> type[DatabaseError]:
    """The exception class of a SQLSTATE."""
    return _BY_CLASS.get(sqlstate[:2], DatabaseError)


def translated(error: errors.Error) -> DatabaseError:
    """The exception that stands for an error of the store; raise it `from` the error."""
    found = class_of(error.sqlstate)(error.message, sqlstate=error.sqlstate, hint=error.hint)
    found.retryable = error.retryable
    found.detail, found.context, found.position = error.detail, error.context, error.position
    found.schema, found.table, found.column = error.schema, error.table, error.column
    found.datatype, found.constraint = error.datatype, error.constraint
    return found
