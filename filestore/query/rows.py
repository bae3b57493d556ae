"""Rows on their way to storage and into words: stored forms, the details of error messages, small results of text.

Between executor, storage and ports; does nothing per row except for the one row that an error message shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from filestore.query.plan import OutputColumn
from filestore.query.render import text
from filestore.query.text_parse import from_text
from filestore.query.vectors import broadcast, from_python
from filestore.storage.vector import Batch, Vector
from filestore.types import TEXT, Kind, Physical, SqlType


def stored_form(vector: Vector, sql_type: SqlType, length: int) -> Vector:
    """The vector as a column of `sql_type` stores it: `length` rows, no dictionary, numerics as scaled int64 or
    canonical text.

    The value already has the column's type (the binder put the cast there); only the physical form changes.
    """
    vector = broadcast(vector, length).plain()
    if sql_type.kind is Kind.NUMERIC and sql_type.physical is Physical.VARNUM and vector.data.ndim == 1:
        encoded = text(vector, None)
        words = from_text(TEXT, encoded.offsets, encoded.data, vector.valid, None)
        return Vector(sql_type, words.data, vector.valid, words.heap)
    return Vector(sql_type, vector.data, vector.valid, vector.heap, vector.scale)


def describe_row(rows: Batch, row: int) -> str:
    """`(1, null, abc)`: the row as PostgreSQL shows it in the detail of 23502 and 23514."""
    return "(" + ", ".join(describe_value(c, row) for c in rows.columns) + ")"


def describe_key(columns: Sequence[Vector], row: int) -> str:
    """`1, abc`: a key's values as in the detail of 23505."""
    return ", ".join(describe_value(c, row) for c in columns)


def describe_value(column: Vector, row: int) -> str:
    """One value in text form; `null` for null."""
    one = column.slice(row, row + 1)
    if one.valid is not None and not one.valid[0]:
        return "null"
    return text(one, None).data.tobytes().decode()


def text_result(names: Sequence[str], rows: Sequence[Sequence[str | None]]) -> tuple[tuple[OutputColumn, ...], Batch]:
    """Columns and one batch of text: the answer of SHOW and EXPLAIN."""
    columns = tuple(OutputColumn(name, TEXT) for name in names)
    return columns, Batch([from_python(TEXT, [r[i] for r in rows]) for i in range(len(names))], len(rows))
