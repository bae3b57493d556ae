"""INSERT ... VALUES with many rows of plain literals: one row is parsed, the others are read as columns.

A dump, a data frame or a driver that batches sends thousands of rows as one text. Parsed like any other statement each
literal costs tens of microseconds; here a kernel cuts the text, the values are read column by column as COPY reads
them, and the statement runs as the prepared INSERT of one row does for many (`widen`).

That is done only where it is surely the same: literals alone, numbers for numeric columns, strings for any column
(an unknown literal is read by its column's type), rows of one length. For everything else, and for whatever then
fails, `literal_rows` or `LiteralRows.vectors` says so and the whole statement is parsed, which words the errors.

Thread rule: pure functions; kernels release the GIL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from filestore import errors
from filestore.query import literal_rows_kernels as k
from filestore.query.datetime_text import TextSettings
from filestore.query.text_parse import from_fields
from filestore.query.widen import ROWS_MAX
from filestore.storage.vector import Array, Vector
from filestore.types import INTEGER_KINDS, Kind, SqlType

_NAME: Final = r'(?:[a-z_][a-z0-9_$]*|"[^"]+")'
_HEAD: Final = re.compile(
    rf"\s*insert\s+into\s+{_NAME}(?:\s*\.\s*{_NAME})?\s*(?:\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)\s*)?values\s*(?=\()",
    re.IGNORECASE,
)
# A shorter text is parsed as fast; and a single row has a plan of its own that is kept.
TEXT_MIN: Final = 256
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))
_NUMBERS: Final = 1 << k.INTEGER | 1 << k.DECIMAL
_NUMERIC_KINDS: Final = frozenset((Kind.NUMERIC, Kind.FLOAT4, Kind.FLOAT8))


@dataclass(frozen=True, slots=True, eq=False)
class LiteralRows:
    """The literals of an INSERT. `template` is the statement with parameters for one row.

    data: the statement's bytes, uint8[]; starts, ends: int64[rows, columns], where the values lie in them; kinds:
    uint8[rows, columns].
    """

    template: str
    data: Array
    starts: Array
    ends: Array
    kinds: Array

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.starts)

    def vectors(self, types: Sequence[SqlType], settings: TextSettings) -> list[Vector] | None:
        """One vector of all rows for each column of literals; None when the parser has to see them."""
        if len(types) != self.starts.shape[1]:
            return None
        out = []
        for i, sql_type in enumerate(types):
            kinds = self.kinds[:, i]
            found = int(np.bitwise_or.reduce(np.left_shift(1, kinds, dtype=np.int64)))
            if not _fit(found & ~(1 << k.NULL), sql_type):
                return None
            valid = kinds != k.NULL if found & 1 << k.NULL else None
            starts, ends = np.ascontiguousarray(self.starts[:, i]), self.ends[:, i].copy()
            try:
                out.append(from_fields(sql_type, self.data, starts, ends, valid, settings))
            except errors.Error:
                return None
        return out


def _fit(found: int, sql_type: SqlType) -> bool:
    """Whether literals of the kinds `found` mean in a column of this type what their texts mean to its input."""
    if found in (0, 1 << k.STRING):
        return True
    if found == 1 << k.BOOLEAN:
        return sql_type.kind is Kind.BOOL
    if found & ~_NUMBERS:
        return False
    return sql_type.kind in _NUMERIC_KINDS or (sql_type.kind in INTEGER_KINDS and found == 1 << k.INTEGER)


def literal_rows(text: str) -> LiteralRows | None:
    """The rows of an INSERT of two to ROWS_MAX rows of plain literals; None for any other statement."""
    if len(text) < TEXT_MIN:
        return None
    head = _HEAD.match(text)
    if head is None:
        return None
    data = np.frombuffer(bytearray(text, "utf-8", "surrogatepass"), np.uint8)
    cells = len(data) // 2 + 1  # each takes a byte and a comma or parenthesis
    starts, ends, kinds = np.empty(cells, np.int64), np.empty(cells, np.int64), np.empty(cells, np.uint8)
    begin = len(text[: head.end()].encode())
    count, width = k.cut_rows(data, begin, _NULL, _TRUE, _FALSE, starts, ends, kinds, np.zeros(1, np.int64))
    if count <= width or count > width * ROWS_MAX:
        return None
    shape = (count // width, width)
    template = f"{head.group()}({', '.join(f'${i + 1}' for i in range(width))})"
    return LiteralRows(
        template, data, starts[:count].reshape(shape), ends[:count].reshape(shape), kinds[:count].reshape(shape)
    )
