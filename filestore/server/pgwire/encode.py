"""Batches to DataRow messages: the formats a portal was bound with, and two ways to the same bytes.

A batch goes through whole-vector kernels (`query/render`). A batch of a few rows is put together value by value: for
those the fixed cost of two kernel calls a column is more than the work. Both give the same bytes (tests compare them);
what the short way does not know it leaves to the long one.

A `RowEncoder` belongs to (columns, formats) and is kept with the prepared statement. Thread rule: no state, any thread.
Source of the forms: PostgreSQL 15, 55.2.2 and the types' send functions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from filestore import errors
from filestore.query import render
from filestore.query.datetime_text import TextSettings
from filestore.query.plan import OutputColumn
from filestore.server.pgwire.replies import Field, RowDescription
from filestore.storage.vector import INLINE_BYTES, Batch, Vector
from filestore.types import Kind, SqlType

# Up to this many rows the short way is the faster one (measured: 1.5 us a row of two columns, 12 us for a batch either
# way).
FEW_ROWS = 7

NULL = b"\xff\xff\xff\xff"
_HEAD = struct.Struct("!cih")
_LENGTH = struct.Struct("!i")

Putter = Callable[[Vector, int], bytes]


def all_formats(codes: Sequence[int], count: int, what: str) -> tuple[int, ...]:
    """One format code for each of `count` things from a Bind's list of none, one or all. Errors: 08P01."""
    if len(codes) == count:
        return tuple(codes)
    if not codes:
        return (0,) * count
    if len(codes) == 1:
        return (codes[0],) * count
    raise errors.ProtocolViolation(f"bind message has {len(codes)} {what}")


def row_description(columns: Sequence[OutputColumn], formats: Sequence[int]) -> bytes:
    """The RowDescription message of result columns."""
    fields = [
        Field(c.name, c.table_oid, c.attnum, c.type.oid, c.type.info.size, c.type.typmod, f)
        for c, f in zip(columns, formats, strict=True)
    ]
    return RowDescription(tuple(fields)).encode()


class RowEncoder:
    """Makes DataRows of batches with these columns in these formats; `description` is their RowDescription."""

    __slots__ = ("_putters", "columns", "description", "formats")

    def __init__(self, columns: Sequence[OutputColumn], codes: Sequence[int] = ()) -> None:
        """Errors: 08P01 for a wrong number of format codes, 42883 for a type without a binary form."""
        if len(codes) > 1 and len(codes) != len(columns):
            raise errors.ProtocolViolation(
                f"bind message has {len(codes)} result formats but query has {len(columns)} columns"
            )
        self.columns = tuple(columns)
        self.formats = all_formats(codes, len(columns), "result formats")
        self.description = row_description(columns, self.formats)
        putters = [_putter(c.type, f) for c, f in zip(columns, self.formats, strict=True)]
        self._putters: list[Putter] | None = None
        if all(p is not None for p in putters):
            self._putters = [p for p in putters if p is not None]

    def rows(self, batch: Batch, settings: TextSettings) -> bytes:
        """The DataRow messages of all rows of the batch."""
        if batch.length <= FEW_ROWS and self._putters is not None:
            try:
                return self._few(batch, self._putters)
            except _NotKnown:
                pass  # a physical form that is rare in results this small
        columns = [
            render.binary(v) if f else render.text(v, settings)
            for v, f in zip(batch.columns, self.formats, strict=True)
        ]
        return render.data_rows(columns, [v.valid for v in batch.columns], batch.length).tobytes()

    @staticmethod
    def _few(batch: Batch, putters: list[Putter]) -> bytes:
        out = []
        count = len(putters)
        for row in range(batch.length):
            parts = [
                NULL if v.valid is not None and not v.valid[row] else put(v, row)
                for v, put in zip(batch.columns, putters, strict=True)
            ]
            body = b"".join(parts)
            out.append(_HEAD.pack(b"D", len(body) + 6, count) + body)
        return b"".join(out)


class _NotKnown(Exception):
    """The short way does not know this physical form."""


def _counted(raw: bytes) -> bytes:
    return _LENGTH.pack(len(raw)) + raw


def view_bytes(vector: Vector, row: int) -> bytes:
    """The bytes of one value of a plain view vector."""
    word = vector.data[row]
    length = int(word[0]) & 0xFFFFFFFF
    if length <= INLINE_BYTES:
        return word.tobytes()[4 : 4 + length]  # type: ignore[no-any-return]
    heap = vector.heap
    if heap is None:
        raise errors.InternalError("a long string has no heap")
    start = int(word[1]) >> 32
    return heap[start : start + length].tobytes()


def _put_view(vector: Vector, row: int) -> bytes:
    if vector.dictionary is not None:
        return _put_view(vector.dictionary, int(vector.data[row]))
    if vector.data.ndim != 2:
        raise _NotKnown
    raw = view_bytes(vector, row)
    return _LENGTH.pack(len(raw)) + raw


def _padded(length: int) -> Putter:
    def put(vector: Vector, row: int) -> bytes:
        if vector.dictionary is not None:
            return put(vector.dictionary, int(vector.data[row]))
        raw = view_bytes(vector, row)
        characters = len(raw) if raw.isascii() else len(raw.decode())
        return _counted(raw + b" " * (length - characters))

    return put


def _put_integer(vector: Vector, row: int) -> bytes:
    raw = b"%d" % vector.data.item(row)
    return _LENGTH.pack(len(raw)) + raw


def _put_bool(vector: Vector, row: int) -> bytes:
    return b"\0\0\0\1t" if vector.data[row] else b"\0\0\0\1f"


def _put_numeric(vector: Vector, row: int) -> bytes:
    if vector.data.ndim == 2:
        return _put_view(vector, row)
    if not vector.is_decimal64:
        raise _NotKnown
    scale = vector.scale
    value = vector.data.item(row)
    if not scale:
        return _counted(b"%d" % value)
    digits = str(abs(value)).rjust(scale + 1, "0")
    return _counted(f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:]}".encode())


def _fixed(form: str, size: int) -> Putter:
    pack = struct.Struct(f"!i{form}").pack

    def put(vector: Vector, row: int) -> bytes:
        return pack(size, vector.data.item(row))

    return put


_STRINGS = (Kind.TEXT, Kind.VARCHAR, Kind.NAME, Kind.CHAR, Kind.UNKNOWN, Kind.BPCHAR)
_TEXT: dict[Kind, Putter] = {
    Kind.INT2: _put_integer,
    Kind.INT4: _put_integer,
    Kind.INT8: _put_integer,
    Kind.OID: _put_integer,
    Kind.BOOL: _put_bool,
    Kind.NUMERIC: _put_numeric,
}
_BINARY: dict[Kind, Putter] = {
    Kind.INT2: _fixed("h", 2),
    Kind.INT4: _fixed("i", 4),
    Kind.INT8: _fixed("q", 8),
    Kind.OID: _fixed("I", 4),
    Kind.FLOAT4: _fixed("f", 4),
    Kind.FLOAT8: _fixed("d", 8),
    Kind.BOOL: _fixed("B", 1),
    Kind.BYTEA: _put_view,
}


def _putter(sql_type: SqlType, code: int) -> Putter | None:
    kind = sql_type.kind
    if kind in _STRINGS:
        if kind is Kind.BPCHAR and sql_type.length is not None:
            return _padded(sql_type.length)
        return _put_view
    return (_BINARY if code else _TEXT).get(kind)
