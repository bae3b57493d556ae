"""Keys: column values to packed words or bytes whose unsigned or memcmp order is SQL's order of the columns.

One total order, PostgreSQL's ascending default, per column and then by column from left to right:

    BOOL                           false, true
    INT2 INT4 INT8 DATE TIME       as numbers; TIMESTAMP for both timestamp types, INT8 for the oid types
    DEC64                          numeric of a fixed scale, as its scaled integer
    FLOAT4 FLOAT8                  as numbers; -0.0 equals 0.0; NaN equals NaN and is above infinity
    VARNUM                         as numbers (1.5 equals 1.50); -Infinity, numbers, Infinity, NaN
    TEXT BYTEA                     bytes as memcmp, a prefix first (collation C)
    BPCHAR                         the same without trailing blanks
    INTERVAL                       by length, with 30 days to the month and 24 hours to the day
    UUID                           its 16 bytes
    NULL                           above every value, equal to NULL (here; uniqueness decides for itself)

Equal values have equal keys and unequal values unequal ones, so a key comparison is a value comparison.

Forms. If the column widths (plus one bit for each nullable column, 1 for NULL) come to 64 bits at most, the key is
one uint64 (`u64`); up to 128 bits two, high first (`u128`). Columns lie next to each other, the last in the lowest
bits. Anything else is `bytes`, the components one behind another:

    nullable column    0x01, then the component; or 0x02 alone for NULL
    numbers            big-endian, sign bit flipped (floats: negative ones inverted), 1 to 16 bytes
    text, bytea        the bytes, 0x00 as 0x00 0xFF, then 0x00 0x00
    VARNUM             class byte (1 -Infinity, 2 negative, 3 zero, 4 positive, 5 Infinity, 6 NaN); behind 2 and 4 the
                       exponent of 10 in four bytes, pairs of digits as 1 + 0..99, then 0; all inverted if negative

No component is a prefix of another one of its column, so a component that ends decides before the next one is looked
at. Source: the shape is toydb's keycode and FoundationDB's tuple layer; PostgreSQL 15 float8_cmp_internal,
interval_cmp_value, numeric_cmp.

What this does not do: descending columns, NULLS FIRST, collations other than C, decoding (entries lead to rows, which
hold the values). Thread rule: a codec is immutable, used anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from filestore import errors
from filestore.index import key_kernels
from filestore.index.base import I64, U8, U64, Key, Keys
from filestore.storage.vector import INLINE_BYTES
from filestore.types import OID_KINDS, Kind, Physical, SqlType

Array = NDArray[Any]
Column = tuple[Array | tuple[Array, Array | None], Array | None]
"""(data, valid): data in the store's physical form, or (views uint64[n, 2], heap uint8[]).

Valid bool[n], None: no nulls.
"""


class KeyKind(enum.Enum):
    """How a column is compared; several SQL types share one."""

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    DEC64 = "dec64"
    VARNUM = "varnum"
    TEXT = "text"
    BPCHAR = "bpchar"
    BYTEA = "bytea"
    INTERVAL = "interval"
    UUID = "uuid"


BITS: Final = {
    KeyKind.BOOL: 8,
    KeyKind.INT2: 16,
    KeyKind.INT4: 32,
    KeyKind.INT8: 64,
    KeyKind.FLOAT4: 32,
    KeyKind.FLOAT8: 64,
    KeyKind.DATE: 32,
    KeyKind.TIME: 64,
    KeyKind.TIMESTAMP: 64,
    KeyKind.DEC64: 64,
    KeyKind.INTERVAL: 128,
    KeyKind.UUID: 128,
}
"""Width of a fixed component; kinds that are not here have none."""

_INTEGERS: Final = {
    KeyKind.INT2: np.int16,
    KeyKind.INT4: np.int32,
    KeyKind.INT8: np.int64,
    KeyKind.DATE: np.int32,
    KeyKind.TIME: np.int64,
    KeyKind.TIMESTAMP: np.int64,
    KeyKind.DEC64: np.int64,
}
_BY_KIND: Final = {
    Kind.TIMESTAMPTZ: KeyKind.TIMESTAMP,
    Kind.VARCHAR: KeyKind.TEXT,
    Kind.CHAR: KeyKind.TEXT,
    Kind.NAME: KeyKind.TEXT,
    Kind.UNKNOWN: KeyKind.TEXT,
    **dict.fromkeys(OID_KINDS, KeyKind.INT8),
}
_NO_BYTES: Final = np.zeros(0, np.uint8)
_DAY_US: Final = 86_400_000_000
_DAYS_A_MONTH: Final = 30
_INTERVAL_DTYPE: Final = np.dtype([("months", "<i4"), ("days", "<i4"), ("microseconds", "<i8")])
_EXPONENT_BIAS: Final = 1 << 31


def key_kind(sql_type: SqlType) -> KeyKind:
    """The kind under which a SQL type is indexed. Errors with 0A000 for a type that has no order."""
    if sql_type.kind is Kind.NUMERIC:
        return KeyKind.DEC64 if sql_type.physical is Physical.DEC64 else KeyKind.VARNUM
    found = _BY_KIND.get(sql_type.kind)
    if found is None and sql_type.kind.name in KeyKind.__members__:
        found = KeyKind[sql_type.kind.name]
    if found is None:
        raise errors.FeatureNotSupported(f"an index on type {sql_type} is not supported", hint="Index another column.")
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """The keys k with low <= k < high; None is unbounded. Pass to Index.range as (low, True, high, False)."""

    low: Key | None
    high: Key | None


@dataclass(frozen=True, slots=True)
class _Words:
    """A fixed-width component: its sortable number per row, high word only at 128 bits."""

    high: U64
    low: U64
    bits: int


class KeyCodec:
    """Encodes the columns of one index. Immutable; safe to share between threads."""

    def __init__(self, kinds: Sequence[KeyKind], nullable: Sequence[bool]) -> None:
        if not kinds or len(kinds) != len(nullable):
            raise errors.InternalError(f"index with {len(kinds)} columns, nullability of {len(nullable)}")
        self.kinds: Final = tuple(kinds)
        self.nullable: Final = tuple(bool(n) for n in nullable)
        fixed = all(kind in BITS for kind in self.kinds)
        self._bits = sum(BITS[kind] for kind in self.kinds) + sum(self.nullable) if fixed else 0
        self.form: Final = "u64" if fixed and self._bits <= 64 else "u128" if fixed and self._bits <= 128 else "bytes"

    @classmethod
    def of(cls, types: Sequence[SqlType], nullable: Sequence[bool]) -> KeyCodec:
        """The codec of an index on columns of these types."""
        return cls([key_kind(t) for t in types], nullable)

    def encode(self, columns: Sequence[Column]) -> Keys:
        """Keys of n rows, in this codec's form. All columns, of equal length.

        Errors with 22P02 for a VARNUM that is no number.
        """
        if len(columns) != len(self.kinds):
            raise errors.InternalError(f"{len(columns)} values for an index of {len(self.kinds)} columns")
        if self.form == "bytes":
            return self._bytes(columns)
        high, low = self._pack(columns)
        return low if self.form == "u64" else np.stack((high, low), axis=1)

    def prefix(self, columns: Sequence[Column]) -> Span:
        """The keys that begin with these values of the leading columns, one row each; a null value means IS NULL.

        With no columns, every key.
        """
        low, high = self._edges(columns)
        return Span(low, high)

    def span(
        self, equal: Sequence[Column], low: tuple[Column, bool] | None = None, high: tuple[Column, bool] | None = None
    ) -> Span | None:
        """The keys whose leading columns equal `equal` (null: IS NULL) and whose next one lies between low and high.

        low, high: (column of one row, inclusive), or None for no bound. With either, nulls of the next column are
        left out, as SQL's comparisons do. None: certainly no key (a bound is null, or nothing can be above it).
        """
        first, behind = self._edges(equal)
        if low is None and high is None:
            return Span(first, behind)
        if any(bound is not None and _is_null(bound[0]) for bound in (low, high)):
            return None
        start, stop = first, behind
        if low is not None:
            at, above = self._edges([*equal, low[0]])
            start = at if low[1] else above
            if start is None:
                return None
        if high is not None:
            at, above = self._edges([*equal, high[0]])
            stop = above if high[1] else at
        elif self.nullable[len(equal)]:
            stop = self._edges([*equal, self._null(len(equal))])[0]
        return Span(start, stop)

    def _null(self, column: int) -> Column:
        """One NULL of a column."""
        kind = self.kinds[column]
        valid = np.zeros(1, np.bool_)
        if kind not in BITS:
            return (np.zeros((1, 2), np.uint64), _NO_BYTES), valid
        if BITS[kind] == 128:
            return np.zeros((1, 2), np.uint64), valid
        return np.zeros(1, _INTEGERS.get(kind, np.float64 if kind is KeyKind.FLOAT8 else np.uint8)), valid

    def _edges(self, columns: Sequence[Column]) -> tuple[Key | None, Key | None]:
        """The least key with this prefix, and the least key above all of them (None: there is none)."""
        if len(columns) > len(self.kinds):
            raise errors.InternalError(f"{len(columns)} values for an index of {len(self.kinds)} columns")
        if not columns:
            return None, None
        if self.form == "bytes":
            offsets, data = self._bytes(columns)
            low = bytes(data[offsets[0] : offsets[1]])
            return low, _successor(low)
        high_word, low_word = self._pack(columns)
        number = (int(high_word[0]) << 64) | int(low_word[0])
        rest = self._bits - sum(BITS[k] + n for k, n in zip(self.kinds[: len(columns)], self.nullable, strict=False))
        return self._plain(number << rest), self._plain((number + 1) << rest)

    def _plain(self, number: int) -> Key | None:
        """A packed key as a Python value; None if it is above every key."""
        if number >> (64 if self.form == "u64" else 128):
            return None
        return number if self.form == "u64" else (number >> 64, number & 0xFFFFFFFFFFFFFFFF)

    def _pack(self, columns: Sequence[Column]) -> tuple[U64, U64]:
        """(high, low) words of leading columns, right-aligned."""
        rows = _length(columns[0])
        high, low = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
        for i, (kind, column) in enumerate(zip(self.kinds, columns, strict=False)):
            words = _words(kind, column[0])
            valid = self._valid(i, column)
            if words.bits == 128:  # fills the key alone
                return words.high, words.low
            if self.nullable[i]:
                nulls = np.zeros(rows, np.uint64) if valid is None else (~valid).astype(np.uint64)
                high, low = _push(high, low, nulls, 1)
            number = words.low if valid is None else np.where(valid, words.low, np.uint64(0))
            high, low = _push(high, low, number, words.bits)
        return high, low

    def _valid(self, i: int, column: Column) -> Array | None:
        """The column's validity, None if it has no nulls. Raises InternalError for a null where there can be none."""
        valid = column[1]
        if valid is None or bool(valid.all()):
            return None
        if not self.nullable[i]:
            raise errors.InternalError(f"null in column {i} of an index on NOT NULL columns")
        return valid.astype(np.bool_, copy=False)

    def _bytes(self, columns: Sequence[Column]) -> tuple[I64, U8]:
        """Byte keys of leading columns."""
        rows = _length(columns[0])
        lengths = np.zeros(rows, np.int64)
        parts: list[tuple[Any, U8, int]] = []
        for i, (kind, column) in enumerate(zip(self.kinds, columns, strict=False)):
            valid = self._valid(i, column)
            marker = int(self.nullable[i])
            flags = _NO_BYTES if valid is None else np.ascontiguousarray(valid).view(np.uint8)
            part = self._part(kind, column, flags)
            parts.append((part, flags, marker))
            if isinstance(part, _Words):
                lengths += marker + (part.bits // 8 if valid is None else np.where(valid, part.bits // 8, 0))
            elif kind is KeyKind.VARNUM:
                lengths += marker + np.diff(part[0])
            else:
                key_kernels.text_lengths(part[0], part[1], flags, marker, kind is KeyKind.BPCHAR, lengths)
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        out = np.empty(int(offsets[-1]), np.uint8)
        cursor = offsets[:-1].copy()
        for kind, (part, flags, marker) in zip(self.kinds, parts, strict=False):
            if isinstance(part, _Words):
                key_kernels.put_words(part.high, part.low, part.bits // 8, flags, marker, cursor, out)
            elif kind is KeyKind.VARNUM:
                key_kernels.put_raw(part[0], part[1], flags, marker, cursor, out)
            else:
                key_kernels.put_text(part[0], part[1], flags, marker, kind is KeyKind.BPCHAR, cursor, out)
        return offsets, out

    @staticmethod
    def _part(kind: KeyKind, column: Column, flags: U8) -> Any:
        """A column ready to be written: _Words, (views, heap), or (offsets, bytes) of encoded decimals."""
        data = column[0]
        if kind in BITS:
            return _words(kind, data)
        if not isinstance(data, tuple):
            raise errors.InternalError(f"an index column of kind {kind.value} needs (views, heap)")
        views = np.ascontiguousarray(data[0], np.uint64)
        heap = _NO_BYTES if data[1] is None else np.ascontiguousarray(data[1], np.uint8)
        return _decimals(views, heap, flags) if kind is KeyKind.VARNUM else (views, heap)


def _length(column: Column) -> int:
    """Rows of a column."""
    data = column[0]
    return len(data[0]) if isinstance(data, tuple) else len(data)


def _is_null(column: Column) -> bool:
    """Whether a column of one row is null."""
    return column[1] is not None and not bool(column[1][0])


def _push(high: U64, low: U64, number: U64, bits: int) -> tuple[U64, U64]:
    """(high, low) shifted left by `bits`, the number in the room made."""
    if bits == 64:
        return low, number
    left, right = np.uint64(bits), np.uint64(64 - bits)
    return (high << left) | (low >> right), (low << left) | number


def _successor(prefix: bytes) -> bytes | None:
    """The least byte string above everything that starts with prefix; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def _words(kind: KeyKind, data: Any) -> _Words:
    """A fixed-width column as sortable numbers."""
    bits = BITS[kind]
    if kind is KeyKind.UUID:
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1, 16).view(">u8").astype(np.uint64)
        return _Words(np.ascontiguousarray(raw[:, 0]), np.ascontiguousarray(raw[:, 1]), bits)
    if kind is KeyKind.INTERVAL:
        return _interval(np.ascontiguousarray(data).view(np.uint8).reshape(-1, 16).view(_INTERVAL_DTYPE)[:, 0])
    if kind is KeyKind.BOOL:
        low = np.asarray(data).astype(np.uint64)
    elif kind in (KeyKind.FLOAT8, KeyKind.FLOAT4):
        low = np.empty(len(data), np.uint64)
        if kind is KeyKind.FLOAT8:
            key_kernels.sortable_floats8(np.ascontiguousarray(data, np.float64).view(np.uint64), low)
        else:
            key_kernels.sortable_floats4(np.ascontiguousarray(data, np.float32).view(np.uint32), low)
    else:
        integers = np.asarray(data, _INTEGERS[kind])
        flip = np.uint64(1 << (bits - 1))
        low = (integers.astype(np.int64).view(np.uint64) + flip) & np.uint64((1 << bits) - 1)
    return _Words(low, low, bits)


def _interval(values: Any) -> _Words:
    """Intervals as (days, microseconds of the day), which order as their total lengths do and cannot overflow."""
    days = values["months"].astype(np.int64) * _DAYS_A_MONTH + values["days"]
    days += values["microseconds"] // _DAY_US
    low = (values["microseconds"] % _DAY_US).astype(np.uint64)
    return _Words(days.view(np.uint64) ^ key_kernels.SIGN64, low, BITS[KeyKind.INTERVAL])


def _decimals(views: U64, heap: U8, flags: U8) -> tuple[I64, U8]:
    """Encodes canonical decimal texts row by row: such columns are rare in indexes,
    and a kernel would have to parse."""
    raw = views.view(np.uint8).reshape(-1, 16)
    offsets = np.zeros(len(views) + 1, np.int64)
    out = bytearray()
    for row, (word, place) in enumerate(views.tolist()):
        length, start = word & 0xFFFFFFFF, place >> 32
        if not len(flags) or flags[row]:
            text = raw[row, 4 : 4 + length] if length <= INLINE_BYTES else heap[start : start + length]
            out += encode_decimal(text.tobytes())
        offsets[row + 1] = len(out)
    return offsets, np.frombuffer(bytes(out), np.uint8)


def encode_decimal(text: bytes) -> bytes:
    """The order-preserving form of a canonical decimal text ('-123.450', 'NaN', 'Infinity').

    Errors with 22P02 for anything else.
    """
    special = _SPECIAL_DECIMALS.get(text)
    if special is not None:
        return special
    negative = text.startswith(b"-")
    whole, _, fraction = text[negative:].partition(b".")
    digits = whole + fraction
    if not digits.isdigit():
        raise errors.InvalidTextRepresentation(
            f'invalid input syntax for type numeric: "{text.decode(errors="replace")}"'
        )
    significant = digits.lstrip(b"0")
    if not significant:
        return b"\x03"
    exponent = len(whole) - (len(digits) - len(significant))  # the value is 0.significant * 10**exponent
    significant = significant.rstrip(b"0")
    significant += b"0" * (len(significant) % 2)
    pairs = bytes(1 + int(significant[i : i + 2]) for i in range(0, len(significant), 2))
    body = (exponent + _EXPONENT_BIAS).to_bytes(4, "big") + pairs + b"\x00"
    return b"\x02" + bytes(0xFF - byte for byte in body) if negative else b"\x04" + body


_SPECIAL_DECIMALS: Final = {b"-Infinity": b"\x01", b"Infinity": b"\x05", b"NaN": b"\x06"}
