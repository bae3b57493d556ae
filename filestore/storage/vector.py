"""Vectors and batches: the one form in which rows travel between storage, executor and ports.

A `Vector` is a column of n values of one SQL type in its physical form (filestore.types). A `Batch` is vectors of
equal length. Both are immutable by convention: kernels write into fresh arrays, never into a vector that was handed
out, because a vector is often a view of a segment that other threads read. Slicing never copies.

String views are Arrow's 16-byte layout as uint64[n, 2]: word 0 holds the length (low 32 bits) and the first 4 bytes;
word 1 holds bytes 4-11 when length <= 12, else buffer index (always 0, low 32 bits) and heap offset (high 32 bits).
Unused inline bytes are zero, so equal short strings are equal words.

A dictionary-encoded vector has unsigned `data` codes and a `dictionary` vector of the distinct values; `plain()`
decodes it. A general numeric (no declared scale, or an intermediate that outgrew int64) has `data` of dtype
DECIMAL128, a 128-bit integer with its own scale in each row, or, where that is not enough, of dtype object with
decimal.Decimal values.

Thread rule: read from anywhere, written by nobody. Not here: expressions, and how a value is written as text.

Source: Apache Arrow columnar format 1.4, "Variable-size Binary View Layout".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from filestore.types import Kind, SqlType

Array = NDArray[Any]

EMPTY_HEAP: Array = np.empty(0, np.uint8)
INLINE_BYTES: Final = 12  # that a view holds itself
DECIMAL128: np.dtype[Any] = np.dtype([("high", "<i8"), ("low", "<u8"), ("scale", "<i8")])
"""A numeric: (high, low) as a two's complement, times 10**-scale; less than 2**126 in magnitude."""


@dataclass(slots=True)
class Vector:
    """n values of one type.

    data: FIXED: dtype[n]; DEC64: int64[n] scaled by 10**scale; VIEW/VARNUM/WIDE: uint64[n, 2]; numeric intermediates:
    DECIMAL128[n] or object[n]; with a dictionary: uint8/uint16/uint32[n] codes. valid: bool[n], None means no nulls;
    data at null rows is zero or arbitrary and must not be looked at. heap: bytes behind the views. Thread rule: read
    from anywhere, written by nobody.
    """

    type: SqlType
    data: Array
    valid: Array | None = None
    heap: Array | None = None
    scale: int = 0
    dictionary: Vector | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def is_decimal64(self) -> bool:
        """Whether this is a numeric in scaled int64 form, with `scale` digits after the point."""
        return self.type.kind is Kind.NUMERIC and self.data.dtype == np.int64 and self.data.ndim == 1

    @property
    def is_decimal128(self) -> bool:
        """Whether this is a numeric in 128-bit form, each row with its own scale."""
        return self.data.dtype == DECIMAL128

    def slice(self, low: int, high: int) -> Vector:
        """Rows low..high, sharing memory."""
        valid = None if self.valid is None else self.valid[low:high]
        return Vector(self.type, self.data[low:high], valid, self.heap, self.scale, self.dictionary)

    def take(self, rows: Array) -> Vector:
        """The rows at the given positions (intp or a bool mask); heap and dictionary are shared."""
        valid = None if self.valid is None else self.valid[rows]
        return Vector(self.type, self.data[rows], valid, self.heap, self.scale, self.dictionary)

    def plain(self) -> Vector:
        """The same values without dictionary encoding."""
        if self.dictionary is None:
            return self
        words = self.dictionary
        if len(words) == 0:
            return Vector(self.type, np.zeros((len(self), 2), np.uint64), self.valid, EMPTY_HEAP, self.scale)
        return Vector(self.type, words.data[self.data], self.valid, words.heap, self.scale)

    def nulls(self) -> Array:
        """bool[n], true where null."""
        return np.zeros(len(self), np.bool_) if self.valid is None else ~self.valid

    def strings(self) -> list[bytes | None]:
        """The bytes of each value of a view vector (None for null); for small vectors, errors and tests."""
        plain = self.plain()
        heap = EMPTY_HEAP if plain.heap is None else plain.heap
        raw = np.ascontiguousarray(plain.data).view(np.uint8).reshape(-1, 16)
        lengths = (plain.data[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        offsets = (plain.data[:, 1] >> np.uint64(32)).astype(np.int64)
        out: list[bytes | None] = []
        for i, n in enumerate(lengths.tolist()):
            if plain.valid is not None and not plain.valid[i]:
                out.append(None)
            elif n <= INLINE_BYTES:
                out.append(raw[i, 4 : 4 + n].tobytes())
            else:
                out.append(heap[offsets[i] : offsets[i] + n].tobytes())
        return out

    def verify(self) -> None:
        """Raises AssertionError when shape, dtype or heap bounds break the contract; run by tests and debug builds."""
        n = len(self)
        assert self.valid is None or (self.valid.dtype == np.bool_ and self.valid.shape == (n,)), "valid is bool[n]"
        if self.dictionary is not None:
            assert self.data.dtype.kind == "u" and self.data.ndim == 1, "codes are unsigned"
            live = self.data if self.valid is None else self.data[self.valid]
            assert len(live) == 0 or int(live.max()) < len(self.dictionary), "codes lie inside the dictionary"
            self.dictionary.verify()
        elif self.data.dtype == object or self.is_decimal128:
            assert self.type.kind is Kind.NUMERIC, "only numeric has object or 128-bit data"
        elif self.type.kind is Kind.NUMERIC and self.data.ndim == 1:
            assert self.data.dtype == np.int64, "decimal64 is int64"
        elif self.type.width == 16:
            assert self.data.shape == (n, 2) and self.data.dtype == np.uint64, "16-byte forms are uint64[n, 2]"
        else:
            assert self.data.dtype == self.type.dtype, f"{self.type} data is {self.data.dtype}"
            assert self.data.shape == (n,), "one value a row"


@dataclass(slots=True)
class Batch:
    """Vectors of equal length; `length` stands alone because a batch may have no columns (SELECT count(*))."""

    columns: list[Vector]
    length: int

    def __len__(self) -> int:
        return self.length

    def take(self, rows: Array) -> Batch:
        count = int(np.count_nonzero(rows)) if rows.dtype == np.bool_ else len(rows)
        return Batch([c.take(rows) for c in self.columns], count)

    def slice(self, low: int, high: int) -> Batch:
        high = min(high, self.length)
        return Batch([c.slice(low, high) for c in self.columns], max(0, high - low))

    def verify(self) -> None:
        for column in self.columns:
            assert len(column) == self.length, "columns have the batch's length"
            column.verify()


def views_of(values: Sequence[bytes | None]) -> tuple[Array, Array, Array | None]:
    """Builds (views uint64[n, 2], heap uint8[], valid bool[n] or None) from Python bytes; for literals and small
    inputs.
    """
    views = np.zeros((len(values), 2), np.uint64)
    raw = views.view(np.uint8).reshape(-1, 16)
    lengths = views.view(np.uint32).reshape(-1, 4)
    valid = np.ones(len(values), np.bool_)
    heap = bytearray()
    for i, value in enumerate(values):
        if value is None:
            valid[i] = False
            continue
        n = len(value)
        lengths[i, 0] = n
        if n <= INLINE_BYTES:
            raw[i, 4 : 4 + n] = np.frombuffer(value, np.uint8)
        else:
            raw[i, 4:8] = np.frombuffer(value[:4], np.uint8)
            lengths[i, 3] = len(heap)
            heap += value
    return views, np.frombuffer(bytes(heap), np.uint8), None if valid.all() else valid


def string_vector(sql_type: SqlType, values: Sequence[bytes | None]) -> Vector:
    """A view vector from Python bytes."""
    views, heap, valid = views_of(values)
    return Vector(sql_type, views, valid, heap)
