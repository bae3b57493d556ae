"""Columns to bytes: PostgreSQL's text and binary forms of whole vectors, and rows put together from them.

`text` and `binary` print one vector into an `Encoded`: all values end to end with their offsets. `data_rows` and
`copy_binary_rows` interleave such columns into protocol rows. Work is done by `render_kernels`; a form that no kernel
knows (general numerics as Decimals, regtype, a float under extra_float_digits <= 0, bytea_output escape) is printed
value by value by `literals`.

A dictionary-encoded vector is printed once per distinct value. Thread rule: pure functions; kernels release the GIL.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filestore import errors
from filestore.query import decimal128_text_kernels as decimal128
from filestore.query import render_kernels as kernels
from filestore.query import view_kernels
from filestore.query import wire_kernels as wire
from filestore.query.datetime_text import DEFAULTS, TextSettings
from filestore.query.kernels import frozen
from filestore.query.literals import format_literal, parse_numeric, strictly_shortest
from filestore.storage.vector import EMPTY_HEAP, Array, Vector
from filestore.types import OID_KINDS, STRING_KINDS, Kind

NO_NULLS: Array = np.empty(0, np.bool_)
EPOCH_DAYS = 10_957  # from 1970-01-01 to 2000-01-01, where the wire's dates begin
EPOCH_US = EPOCH_DAYS * 86_400_000_000


@dataclass(slots=True)
class Encoded:
    """n values end to end: value i is data[offsets[i]:offsets[i + 1]], a null has no bytes.

    offsets int64[n + 1] from 0, data uint8[].
    """

    offsets: Array
    data: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return bytes(self.data[self.offsets[row] : self.offsets[row + 1]])


def text(vector: Vector, settings: TextSettings | None = None) -> Encoded:
    """The text form of every value, as psql shows it."""
    settings = settings or DEFAULTS
    if vector.dictionary is not None:
        return _through_dictionary(vector, text(vector.dictionary, settings))
    kind = vector.type.kind
    if kind is Kind.NUMERIC:
        return _numeric_text(vector)
    if kind in STRING_KINDS or kind is Kind.VOID:
        return _string_text(vector)
    printer = _TEXT.get(kind)
    if printer is None:
        return _one_by_one(vector, settings)
    return printer(vector, settings)


def binary(vector: Vector) -> Encoded:
    """The binary form of every value, as the wire's binary format and binary COPY carry it."""
    if vector.dictionary is not None:
        return _through_dictionary(vector, binary(vector.dictionary))
    kind = vector.type.kind
    if kind is Kind.NUMERIC:
        return _numeric_binary(vector)
    if kind in STRING_KINDS or kind is Kind.VOID:
        return _string_text(vector)
    if kind is Kind.BYTEA:
        return _views(vector)
    wire = _BINARY.get(kind)
    if wire is None:
        raise errors.UndefinedFunction(f"no binary output function available for type {vector.type}")
    return _fixed(wire(vector.data), vector.valid)


def _valid(vector: Vector) -> Array:
    return NO_NULLS if vector.valid is None else vector.valid


def _finish(offsets: Array, out: Array, used: int) -> Encoded:
    return Encoded(offsets, out[:used])


def _buffers(n: int, width: int) -> tuple[Array, Array]:
    return np.empty(n + 1, np.int64), np.empty(n * width, np.uint8)


def _as_int64(values: Array) -> Array:
    return np.ascontiguousarray(values, np.int64)


def _through_dictionary(vector: Vector, words: Encoded) -> Encoded:
    offsets = np.empty(len(vector) + 1, np.int64)
    codes = _as_int64(vector.data)
    if len(words) == 0:
        offsets[:] = 0
        return Encoded(offsets, EMPTY_HEAP)
    total = view_kernels.gather_lengths(codes, _valid(vector), words.offsets, offsets)
    out = np.empty(total, np.uint8)
    view_kernels.gather_words(codes, words.offsets, words.data, offsets, out)
    return Encoded(offsets, out)


def _one_by_one(vector: Vector, settings: TextSettings) -> Encoded:
    """Through `literals`; for the forms that are rare or small."""
    values = canonical(vector)
    return encode_all([None if v is None else format_literal(vector.type, v, settings).encode() for v in values])


def encode_all(values: Sequence[bytes | None]) -> Encoded:
    """An `Encoded` of Python bytes."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([0 if v is None else len(v) for v in values], out=offsets[1:])
    return Encoded(offsets, np.frombuffer(b"".join(v for v in values if v is not None), np.uint8))


def _integer_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 20)
    return _finish(offsets, out, kernels.integers(_as_int64(vector.data), _valid(vector), out, offsets))


def _boolean_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 1)
    values = np.ascontiguousarray(vector.data).view(np.uint8)
    return _finish(offsets, out, kernels.booleans(values, _valid(vector), out, offsets))


def _date_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 20)
    return _finish(offsets, out, kernels.dates(_as_int64(vector.data), _valid(vector), out, offsets))


def _time_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 16)
    return _finish(offsets, out, kernels.times(_as_int64(vector.data), _valid(vector), out, offsets))


_NO_ZONE: Array = np.empty(0, np.int64)


def _timestamp_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 48)
    values = _as_int64(vector.data)
    return _finish(offsets, out, kernels.timestamps(values, _NO_ZONE, _valid(vector), out, offsets))


def _timestamptz_text(vector: Vector, settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 48)
    values = _as_int64(vector.data)
    fixed = settings.timezone.fixed_offset
    zones = settings.timezone.offsets_at(values) if fixed is None else np.array([fixed], np.int64)
    if len(zones) == 1 and fixed is None:
        zones = np.array([zones[0], zones[0]], np.int64)
    return _finish(offsets, out, kernels.timestamps(values, zones, _valid(vector), out, offsets))


def _interval_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 96)
    words = np.ascontiguousarray(vector.data).view(np.int64)
    return _finish(offsets, out, kernels.intervals(words, _valid(vector), out, offsets))


def _uuid_text(vector: Vector, _settings: TextSettings) -> Encoded:
    offsets, out = _buffers(len(vector), 36)
    raw = np.ascontiguousarray(vector.data).view(np.uint8).reshape(-1, 16)
    return _finish(offsets, out, kernels.uuids(raw, _valid(vector), out, offsets))


def _float_text(vector: Vector, settings: TextSettings) -> Encoded:
    if settings.extra_float_digits <= 0:
        return _one_by_one(vector, settings)
    fixed_digits = 6 if vector.type.kind is Kind.FLOAT4 else 15
    # Arrow finds the shortest digits; only their layout is ours.
    data = np.ascontiguousarray(vector.data)
    shortest = pc.cast(pa.array(data), pa.large_string())
    ties = _float_ties(data, *_pieces(shortest))
    if len(ties):
        strict = [strictly_shortest(float(x), data.itemsize == 4) for x in data[ties]]
        mask = np.zeros(len(data), np.bool_)
        mask[ties] = True
        shortest = pc.replace_with_mask(shortest, mask, pa.array(strict, pa.large_string()))
    positions, raw = _pieces(shortest)
    offsets, out = _buffers(len(vector), 28)
    return _finish(offsets, out, kernels.floats(positions, raw, fixed_digits, _valid(vector), out, offsets))


def _pieces(strings: pa.LargeStringArray) -> tuple[Array, Array]:
    """(offsets int64[n + 1], bytes uint8[]) of an array of Arrow's."""
    _, starts, raw = strings.buffers()
    n = len(strings)
    positions = np.frombuffer(starts, np.int64, n + 1, strings.offset * 8) if n else np.zeros(1, np.int64)
    return positions, np.frombuffer(raw, np.uint8) if raw is not None and n else EMPTY_HEAP


def _float_ties(data: Array, positions: Array, raw: Array) -> Array:
    """The rows whose shortest decimal only reads back because readers round to even. Such a decimal lies between two
    floats with an even and an odd significand of 53 (24) bits, has fewer than 18 (10) digits and no fraction.
    """
    if data.itemsize == 4:
        fraction, least, most, words = 23, 2.0**24, 1e19, data.view(np.uint32)
    else:
        fraction, least, most, words = 52, 2.0**53, 1e40, data.view(np.uint64)
    size = np.abs(data)
    rows = np.flatnonzero((size >= least) & (size < most) & (words & words.dtype.type(1) == 0))
    if len(rows) == 0:
        return rows
    hidden = np.uint64(1 << fraction)
    significands = words[rows].astype(np.uint64) & (hidden - np.uint64(1)) | hidden
    found = np.zeros(len(rows), np.bool_)
    kernels.float_ties(frozen(positions), frozen(raw), rows, significands, found)
    return rows[found]


def _numeric_text(vector: Vector) -> Encoded:
    if vector.data.dtype == object:
        # Decimals print with their own scale unless the column's type has one.
        return _one_by_one(vector, DEFAULTS)
    if vector.data.ndim == 2:
        return _views(vector)
    if vector.is_decimal128:
        return _decimal128(vector, 41, decimal128.decimal128_text, with_digits=True)
    offsets, out = _buffers(len(vector), 24)
    used = kernels.decimals(_as_int64(vector.data), vector.scale, _valid(vector), out, offsets)
    return _finish(offsets, out, used)


def _decimal128(
    vector: Vector, width: int, kernel: Callable[[Array, Array, Array, Array], int], *, with_digits: bool
) -> Encoded:
    """Numerics of 128 bits, `width` bytes a row and perhaps as many as its scale."""
    rows = np.ascontiguousarray(vector.data).view(np.int64).reshape(-1, 3)
    valid = _valid(vector)
    room = len(rows) * width
    if with_digits:
        room += int((rows[:, 2] if vector.valid is None else rows[valid, 2]).sum())
    offsets, out = np.empty(len(rows) + 1, np.int64), np.empty(room, np.uint8)
    return _finish(offsets, out, kernel(frozen(rows), frozen(valid), out, offsets))


def _views(vector: Vector) -> Encoded:
    """The bytes of string views end to end."""
    views = np.ascontiguousarray(vector.data)
    offsets = np.empty(len(views) + 1, np.int64)
    total = view_kernels.view_lengths(views, _valid(vector), offsets)
    out = np.empty(total, np.uint8)
    heap = EMPTY_HEAP if vector.heap is None else vector.heap
    view_kernels.copy_views(views, views.view(np.uint8).reshape(-1, 16), heap, offsets, out)
    return Encoded(offsets, out)


def _string_text(vector: Vector) -> Encoded:
    plain = _views(vector)
    length = vector.type.length
    if vector.type.kind is not Kind.BPCHAR or length is None:
        return plain
    offsets, out = np.empty(len(vector) + 1, np.int64), np.empty(len(plain.data) + len(vector) * length, np.uint8)
    used = view_kernels.pad_blanks(plain.offsets, plain.data, length, _valid(vector), out, offsets)
    return _finish(offsets, out, used)


def _bytea_text(vector: Vector, settings: TextSettings) -> Encoded:
    if settings.bytea_output != "hex":
        return _one_by_one(vector, settings)
    plain = _views(vector)
    offsets, out = np.empty(len(vector) + 1, np.int64), np.empty(2 * (len(plain.data) + len(vector)), np.uint8)
    return _finish(offsets, out, view_kernels.hex_bytes(plain.offsets, plain.data, _valid(vector), out, offsets))


_TEXT: dict[Kind, Callable[[Vector, TextSettings], Encoded]] = {
    Kind.BOOL: _boolean_text,
    Kind.INT2: _integer_text,
    Kind.INT4: _integer_text,
    Kind.INT8: _integer_text,
    Kind.OID: _integer_text,
    Kind.FLOAT4: _float_text,
    Kind.FLOAT8: _float_text,
    Kind.DATE: _date_text,
    Kind.TIME: _time_text,
    Kind.TIMESTAMP: _timestamp_text,
    Kind.TIMESTAMPTZ: _timestamptz_text,
    Kind.INTERVAL: _interval_text,
    Kind.UUID: _uuid_text,
    Kind.BYTEA: _bytea_text,
}


# Binary forms: each gives uint8[n, width]


def _big_endian(dtype: str) -> Callable[[Array], Array]:
    width = np.dtype(dtype).itemsize

    def convert(values: Array) -> Array:
        return np.ascontiguousarray(values.astype(dtype)).view(np.uint8).reshape(-1, width)

    return convert


def _wire_date(values: Array) -> Array:
    finite = (values != kernels.INT32_MAX) & (values != kernels.INT32_MIN)
    return _big_endian(">i4")(np.where(finite, values - np.int32(EPOCH_DAYS), values))


def _wire_timestamp(values: Array) -> Array:
    finite = (values != kernels.INT64_MAX) & (values != kernels.INT64_MIN)
    return _big_endian(">i8")(np.where(finite, values - EPOCH_US, values))


def _wire_interval(values: Array) -> Array:
    words = np.ascontiguousarray(values)
    out = np.empty((len(words), 16), np.uint8)
    out[:, :8] = _big_endian(">u8")(words[:, 1])
    out[:, 8:12] = _big_endian(">u4")(words[:, 0] >> np.uint64(32))
    out[:, 12:] = _big_endian(">u4")(words[:, 0] & np.uint64(0xFFFFFFFF))
    return out


_BINARY: dict[Kind, Callable[[Array], Array]] = {
    Kind.BOOL: _big_endian("u1"),
    Kind.INT2: _big_endian(">i2"),
    Kind.INT4: _big_endian(">i4"),
    Kind.INT8: _big_endian(">i8"),
    Kind.FLOAT4: _big_endian(">f4"),
    Kind.FLOAT8: _big_endian(">f8"),
    Kind.DATE: _wire_date,
    Kind.TIME: _big_endian(">i8"),
    Kind.TIMESTAMP: _wire_timestamp,
    Kind.TIMESTAMPTZ: _wire_timestamp,
    Kind.INTERVAL: _wire_interval,
    Kind.UUID: lambda values: np.ascontiguousarray(values).view(np.uint8).reshape(-1, 16),
    **{kind: _big_endian(">u4") for kind in OID_KINDS},
}


def _fixed(rows: Array, valid: Array | None) -> Encoded:
    n, width = rows.shape
    if valid is None:
        return Encoded(np.arange(n + 1, dtype=np.int64) * width, rows.reshape(-1))
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(valid * np.int64(width), out=offsets[1:])
    return Encoded(offsets, rows[valid].reshape(-1))


def _numeric_binary(vector: Vector) -> Encoded:
    if vector.is_decimal64:
        offsets, out = _buffers(len(vector), 32)
        used = wire.numeric_binary(_as_int64(vector.data), vector.scale, _valid(vector), out, offsets)
        return _finish(offsets, out, used)
    if vector.is_decimal128:
        return _decimal128(vector, 32, decimal128.decimal128_binary, with_digits=False)
    scale = vector.type.scale
    return encode_all([None if v is None else numeric_bytes(v, scale) for v in canonical(vector)])


def numeric_bytes(value: Decimal, scale: int | None = None) -> bytes:
    """The wire's binary numeric of a Decimal; the slow twin of the kernel."""
    if value.is_nan():
        return struct.pack(">hhHh", 0, 0, 0xC000, 0)
    if value.is_infinite():
        return struct.pack(">hhHh", 0, 0, 0xD000 if value > 0 else 0xF000, 32)
    sign, digits, exponent = value.as_tuple()
    places = max(0, -int(exponent)) if scale is None else scale
    whole = "".join(map(str, digits)) + "0" * max(0, int(exponent))
    fraction_digits = max(0, -int(exponent))
    whole = whole.rjust(fraction_digits, "0")
    integer, fraction = whole[: len(whole) - fraction_digits].lstrip("0"), whole[len(whole) - fraction_digits :]
    integer = integer.rjust(-(-len(integer) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((integer + fraction)[i : i + 4]) for i in range(0, len(integer) + len(fraction), 4)]
    weight = len(integer) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    if not groups:
        weight, sign = 0, 0
    header = struct.pack(">hhHh", len(groups), weight, 0x4000 if sign else 0, places)
    return header + struct.pack(f">{len(groups)}h", *groups)


# Rows


def data_rows(columns: Sequence[Encoded], valids: Sequence[Array | None], length: int) -> Array:
    """uint8[]: `length` DataRow messages ('D', length, column count, then per column its length or -1 and bytes)."""
    return _tuple_rows(columns, valids, length, framed=True)


def copy_binary_rows(columns: Sequence[Encoded], valids: Sequence[Array | None], length: int) -> Array:
    """uint8[]: `length` tuples of the binary COPY format, without its header and trailer."""
    return _tuple_rows(columns, valids, length, framed=False)


def joined(columns: Sequence[Encoded], valids: Sequence[Array | None], length: int) -> tuple[Array, Array, Array]:
    """The columns as one block for a kernel: offsets int64[columns, n + 1], data uint8[], valid bool[columns, n]."""
    offsets = np.empty((len(columns), length + 1), np.int64)
    valid = np.ones((len(columns), length), np.bool_)
    base = 0
    for i, (column, live) in enumerate(zip(columns, valids, strict=True)):
        np.add(column.offsets, base, out=offsets[i])
        base += len(column.data)
        if live is not None:
            valid[i] = live
    data = columns[0].data if len(columns) == 1 else np.concatenate([EMPTY_HEAP, *(c.data for c in columns)])
    return offsets, data, valid


def _tuple_rows(columns: Sequence[Encoded], valids: Sequence[Array | None], length: int, framed: bool) -> Array:
    offsets, data, valid = joined(columns, valids, length)
    used = sum(int(c.offsets[-1] - c.offsets[0]) for c in columns)
    out = np.empty(used + length * ((7 if framed else 2) + 4 * len(columns)), np.uint8)
    wire.tuple_rows(offsets, data, valid, framed, out)
    return out


# Canonical values


def canonical(vector: Vector) -> list[Any]:
    """The values as `query.expr.Const` holds them, None for null; value by value, for errors, tests and rare forms."""
    vector = vector.plain()
    kind = vector.type.kind
    valid = None if vector.valid is None else vector.valid.tolist()
    values: list[Any]
    if kind is Kind.NUMERIC:
        values = _canonical_numeric(vector)
    elif kind in STRING_KINDS or kind is Kind.VOID:
        values = [None if s is None else s.decode() for s in vector.strings()]
    elif kind is Kind.BYTEA:
        values = list(vector.strings())
    elif kind is Kind.UUID:
        raw = np.ascontiguousarray(vector.data).view(np.uint8).reshape(-1, 16)
        values = [row.tobytes() for row in raw]
    elif kind is Kind.INTERVAL:
        words = np.ascontiguousarray(vector.data)
        halves = words.view(np.int32).reshape(-1, 4)
        clocks = words.view(np.int64)[:, 1]
        values = list(zip(halves[:, 0].tolist(), halves[:, 1].tolist(), clocks.tolist(), strict=True))
    elif kind is Kind.BOOL:
        values = [bool(v) for v in vector.data.tolist()]
    else:
        values = vector.data.tolist()
    return values if valid is None else [v if live else None for v, live in zip(values, valid, strict=True)]


def _canonical_numeric(vector: Vector) -> list[Any]:
    if vector.data.dtype == object:
        return list(vector.data)
    if vector.data.ndim == 2:
        return [None if s is None else parse_numeric(s.decode()) for s in vector.strings()]
    # From parts, not by scaleb: that would round to the context's 28 digits.
    if vector.is_decimal128:
        return [_from_parts((h << 64) | w, s) for h, w, s in vector.data.tolist()]
    return [_from_parts(v, vector.scale) for v in vector.data.tolist()]


def _from_parts(value: int, scale: int) -> Decimal:
    return Decimal((value < 0, tuple(map(int, str(abs(value)))), -scale))


