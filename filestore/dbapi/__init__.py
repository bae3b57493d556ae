"""The embedded driver: PEP 249 over a directory that this process opens.

    with filestore.connect("./data") as connection:
        cursor = connection.execute("SELECT name FROM city WHERE people > ?", (100_000,))
        cursor.fetchall()

`paramstyle` is "qmark"; `:name` with a mapping and `$1` work as well. Connections may be shared by threads
(`threadsafety` 2): their statements wait for each other. Beyond PEP 249: `Cursor.arrow`, `df`, `pl`,
`fetch_record_batch`; `Connection.execute`, `executescript`, `interrupt`, `autocommit`; exceptions carry the
SQLSTATE and the error's fields. See the modules `connection`, `cursor`, `exceptions`, and
`filestore.query.python_values`.

It does not do: remote connections (use any PostgreSQL driver), stored procedures, `lastrowid` (use RETURNING).
"""

from __future__ import annotations

from typing import Final

from filestore.dbapi.connection import Connection, connect
from filestore.dbapi.cursor import Cursor
from filestore.dbapi.exceptions import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 - the name is PEP 249's
)
from filestore.dbapi.kinds import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel: Final = "2.0"
threadsafety: Final = 2
paramstyle: Final = "qmark"

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
