"""executemany: an INSERT of one row of VALUES takes all its parameters as columns; anything else runs row by row.

Same result as running the statement once for each set of parameters, except that an error names no row: the
statement fails as a whole, and the transaction with it.

Thread rule: inside `Connection.work`, so one thread of a connection at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

from filestore.dbapi.placeholders import Template
from filestore.query.python_values import common_type, type_of, vector
from filestore.query.widen import can_widen
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.dbapi.connection import Connection


def execute(connection: Connection, of: Template, rows: Sequence[Sequence[Any]]) -> int:
    """Runs the statement for every row of parameters inside `Connection.work`; the number of rows changed."""
    session = connection.session
    columns = list(zip(*rows, strict=True))
    prepared = connection.prepare(of.text, tuple([column_type(column) for column in columns]))
    statement = prepared.statement
    if statement is None:
        return 0
    connection.begin(statement)
    settings = session.settings
    vectors = [vector(t, column, settings) for t, column in zip(prepared.parameters, columns, strict=True)]
    if columns and prepared.planned is not None and can_widen(prepared.planned.bound):
        return _changed(connection.run(session.execute_prepared(prepared, vectors, len(rows))).tag)
    total = 0
    for row in range(len(rows)):
        result = connection.run(session.execute_prepared(prepared, [v.slice(row, row + 1) for v in vectors]))
        for _ in result.batches:
            pass
        total += _changed(result.tag)
    return total


def column_type(values: Sequence[Any]) -> SqlType | None:
    """The type that all values of a parameter are sent as."""
    classes = set(map(type, values)) - {NoneType}
    if classes == {str}:
        return None
    if classes == {int}:
        given = values if None not in values else [value for value in values if value is not None]
        return common_type(type_of(min(given)), type_of(max(given)))
    found: SqlType | None = None
    for value in values:
        if value is None:
            continue
        this = type_of(value)
        if this is None:
            return None
        if found is None:
            found = this
        elif found != this:
            found = common_type(found, this)
            if found is None:
                return None
    return found


def _changed(tag: str) -> int:
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdecimal() else 0
