"""Columns from bytes: PostgreSQL's text and binary forms of many values at once into vectors.

The usual spellings are read by `text_parse_kernels`, everything else value by value by `literals`, so the result is
always that of `literals`. An error carries `.row`, the 0-based row of the value at fault; with several, the first.

`from_text`/`from_binary` take values that lie end to end; `from_fields`/`from_binary_fields` take any bounds within
a buffer, as COPY cuts them. Thread rule: pure functions; kernels release the GIL.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filestore import errors
from filestore.query import field_kernels
from filestore.query import text_parse_kernels as kernels
from filestore.query.calendar_text import DATE_INFINITY, DATE_MINUS_INFINITY, DAY_US, FIRST_TIMESTAMP
from filestore.query.datetime_text import DEFAULTS, TextSettings
from filestore.query.literals import fit_numeric, format_numeric, parse_literal, too_long
from filestore.query.render import EPOCH_DAYS, EPOCH_US, NO_NULLS
from filestore.storage.vector import Array, Vector, string_vector
from filestore.types import OID_KINDS, STRING_KINDS, Kind, Physical, SqlType

# data uint8[], starts int64[n], ends int64[n], valid bool[n] or bool[0] for no nulls
Fields = tuple[Array, Array, Array, Array]


def from_text(
    sql_type: SqlType, offsets: Array, data: Array, valid: Array | None, settings: TextSettings | None = None
) -> Vector:
    """A stored-form vector of the texts data[offsets[i]:offsets[i + 1]]; modifiers apply as on assignment."""
    starts = np.ascontiguousarray(offsets[:-1], np.int64)
    return from_fields(sql_type, data, starts, np.array(offsets[1:], np.int64), valid, settings)


def from_fields(
    sql_type: SqlType,
    data: Array,
    starts: Array,
    ends: Array,
    valid: Array | None,
    settings: TextSettings | None = None,
    *,
    checked: bool = False,
) -> Vector:
    """A stored-form vector of the texts data[starts[i]:ends[i]]. `checked`: the bytes are UTF-8 without NUL for sure.

    `ends` may be changed. Errors as `literals`, 22021 for bytes that are not UTF-8.
    """
    fields = (data, starts, ends, NO_NULLS if valid is None else valid)
    if not checked:
        check_utf8(*fields)
    settings = settings or DEFAULTS
    kind = sql_type.kind
    if kind in STRING_KINDS or kind is Kind.VOID:
        result = _strings(sql_type, fields)
    elif kind is Kind.NUMERIC and sql_type.physical is Physical.VARNUM:
        result = _varnum(sql_type, fields)
    else:
        result = _READERS.get(kind, _one_by_one)(sql_type, fields, settings)
    result.valid = valid
    return result


def check_utf8(data: Array, starts: Array, ends: Array, valid: Array) -> None:
    """Raises 22021, with `.row`, when a value is not UTF-8 or holds a NUL."""
    if len(data) == 0 or (int(data.max()) < 0x80 and int(data.min()) > 0):
        return
    nulls = len(valid) > 0
    if not nulls and len(starts) and bool((starts[1:] == ends[:-1]).all()):
        # End to end and valid as a whole: then every value is, unless a character was cut in two.
        whole = field_kernels.invalid_utf8(data, int(starts[0]), int(ends[-1])) < 0
        inside = starts[starts < len(data)]
        if whole and not ((data[inside] & 0xC0) == 0x80).any():
            return
    for row in range(len(starts)):
        if nulls and not valid[row]:
            continue
        at = field_kernels.invalid_utf8(data, int(starts[row]), int(ends[row]))
        if at >= 0:
            raise at_row(utf8_error(data[at : ends[row]].tobytes()), row)


def utf8_error(rest: bytes) -> errors.CharacterNotInRepertoire:
    """PostgreSQL's 22021 for bytes that begin with an invalid sequence."""
    first = rest[0]
    length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    shown = " ".join(f"0x{b:02x}" for b in rest[:length])
    return errors.CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {shown}')


def at_row(error: errors.Error, row: int) -> errors.Error:
    """The error with its 0-based row noted."""
    error.row = row
    return error


def _new(sql_type: SqlType, n: int) -> Array:
    return np.zeros((n, 2) if sql_type.width == 16 else n, sql_type.dtype)


def _slow(
    sql_type: SqlType, fields: Fields, rows: Iterable[int], settings: TextSettings
) -> Iterable[tuple[int, Any]]:
    """(row, canonical value) of the rows that no kernel understood."""
    data, starts, ends, _ = fields
    for row in rows:
        content = data[starts[row] : ends[row]].tobytes().decode()
        try:
            yield row, parse_literal(sql_type, content, settings)
        except errors.Error as error:
            raise at_row(error, row) from None


def _mend(sql_type: SqlType, fields: Fields, bad: Array, out: Array, settings: TextSettings) -> None:
    for row, value in _slow(sql_type, fields, np.flatnonzero(bad).tolist(), settings):
        out[row] = value


_INT_LIMITS = {Kind.INT2: 2**15, Kind.INT4: 2**31, Kind.INT8: 2**63}


def _integers(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.empty(n, np.int64), np.zeros(n, np.uint8)
    limit = _INT_LIMITS.get(sql_type.kind)
    low, high = (0, 2**32 - 1) if limit is None else (-limit, limit - 1)
    if kernels.integers(*fields, low, high, out, bad):
        _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out.astype(sql_type.dtype, copy=False))


def _decimals(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    scale = sql_type.scale or 0
    out, bad = np.empty(n, np.int64), np.zeros(n, np.uint8)
    if kernels.decimals(*fields, sql_type.precision or 0, scale, out, bad):
        for row, value in _slow(sql_type, fields, np.flatnonzero(bad).tolist(), settings):
            out[row] = scaled(value)
    return Vector(sql_type, out, scale=scale)


def scaled(value: Decimal) -> int:
    """The digits of a Decimal as one integer, the point left out."""
    sign, digits, _ = value.as_tuple()
    number = int("".join(map(str, digits)) or "0")
    return -number if sign else number


def _floats(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.empty(n, np.float64), np.zeros(n, np.uint8)
    if kernels.floats(*fields, out, bad):
        _hard_floats(fields, bad, out)
    if sql_type.kind is Kind.FLOAT4:
        # A double that is no single's neighbour but exactly between two may have been rounded there: the text decides.
        size = np.abs(out)
        between = (out.view(np.int64) & 0x1FFFFFFF) == 0x10000000
        bad[between | (size > 3e38) | ((size < 2e-38) & (size > 0))] = 1
        with np.errstate(over="ignore", under="ignore"):
            out = out.astype(np.float32)
    _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out)


# Texts that Arrow reads as PostgreSQL does and that stay inside a double's range.
_SAFE_FLOAT = (
    r"^-?([0-9](\.[0-9]+)?([eE][-+]?[0-2]?[0-9]{1,2})?"
    r"|[0-9]{1,8}(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?"
    r"|[0-9]{1,40}(\.[0-9]+)?)$"
)


def _hard_floats(fields: Fields, bad: Array, out: Array) -> None:
    """Reads long digits by Arrow, which rounds correctly; what it might refuse stays bad."""
    data, starts, ends, _ = fields
    rows = np.flatnonzero(bad)
    offsets = np.empty(len(rows) + 1, np.int64)
    packed = np.empty(int((ends[rows] - starts[rows]).sum()), np.uint8)
    field_kernels.pack(data, starts, ends, rows, packed, offsets)
    texts = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(packed))
    safe = pc.match_substring_regex(texts, _SAFE_FLOAT)
    read = pc.cast(pc.if_else(safe, texts, pa.scalar("0", pa.large_string())), pa.float64())
    fine, values = safe.to_numpy(zero_copy_only=False), read.to_numpy(zero_copy_only=False)
    if (values == 0).any():
        # A zero that has other digits is out of range.
        fine = fine & ~((values == 0) & pc.match_substring_regex(texts, "[1-9]").to_numpy(zero_copy_only=False))
    out[rows[fine]] = values[fine]
    bad[rows[fine]] = 0


def _booleans(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.empty(n, np.uint8), np.zeros(n, np.uint8)
    if kernels.booleans(*fields, out, bad):
        _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out)


def _dates(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.empty(n, np.int32), np.zeros(n, np.uint8)
    if kernels.dates(*fields, out, bad):
        _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out)


def _times(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.empty(n, np.int64), np.zeros(n, np.uint8)
    if kernels.times(*fields, out, bad):
        _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out)


def _timestamps(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad, local = np.empty(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    zoned = sql_type.kind is Kind.TIMESTAMPTZ
    count = kernels.timestamps(*fields, zoned, out, local, bad)
    if zoned:
        rows = np.flatnonzero(local)
        if len(rows):
            out[rows] -= settings.timezone.offsets_of_local(out[rows]) * 1_000_000
    if count:
        _mend(sql_type, fields, bad, out, settings)
    return Vector(sql_type, out)


def _uuids(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    n = len(fields[1])
    out, bad = np.zeros((n, 2), np.uint64), np.zeros(n, np.uint8)
    raw = out.view(np.uint8).reshape(-1, 16)
    if kernels.uuids(*fields, raw, bad):
        for row, value in _slow(sql_type, fields, np.flatnonzero(bad).tolist(), settings):
            raw[row] = np.frombuffer(value, np.uint8)
    return Vector(sql_type, out)


def _bytea(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    data, starts, ends, valid = fields
    n = len(starts)
    out, bad = np.empty(len(data) // 2 + 1, np.uint8), np.zeros(n, np.uint8)
    out_starts, out_ends = np.empty(n, np.int64), np.empty(n, np.int64)
    # The fields may overlap in a test or an odd caller, never in COPY; their sum bounds what is written.
    needed = int(np.maximum(ends - starts, 0).sum()) // 2 + 1
    if needed > len(out):
        out = np.empty(needed, np.uint8)
    if kernels.hex_bytes(*fields, out, out_starts, out_ends, bad):
        rows = np.flatnonzero(valid).tolist() if len(valid) else range(n)
        values: list[bytes | None] = [None] * n
        for row, value in _slow(sql_type, fields, rows, settings):
            values[row] = value
        return string_vector(sql_type, values)
    return _views(sql_type, (out, out_starts, out_ends, valid))


def _one_by_one(sql_type: SqlType, fields: Fields, settings: TextSettings) -> Vector:
    """Intervals, regclass, regtype: rare enough for Python."""
    valid = fields[3]
    n = len(fields[1])
    rows = np.flatnonzero(valid).tolist() if len(valid) else range(n)
    out = _new(sql_type, n)
    interval = sql_type.kind is Kind.INTERVAL
    for row, value in _slow(sql_type, fields, rows, settings):
        out[row] = interval_words(value) if interval else value
    return Vector(sql_type, out)


def interval_words(value: tuple[int, int, int]) -> tuple[int, int]:
    """The two stored words of (months, days, microseconds)."""
    months, days, microseconds = value
    return (months & 0xFFFFFFFF) | (days & 0xFFFFFFFF) << 32, microseconds & 0xFFFFFFFFFFFFFFFF


def _strings(sql_type: SqlType, fields: Fields) -> Vector:
    data, starts, ends, valid = fields
    if sql_type.length is not None:
        row = field_kernels.fit_length(data, starts, ends, valid, sql_type.length)
        if row >= 0:
            raise at_row(too_long(sql_type), row)
    if sql_type.kind is Kind.BPCHAR:
        field_kernels.trim_blanks(data, starts, ends)
    elif sql_type.kind in (Kind.NAME, Kind.CHAR) and len(starts):
        if int((ends - starts).max()) > (63 if sql_type.kind is Kind.NAME else 1):
            return _cut_strings(sql_type, fields)
    return _views(sql_type, fields)


def _cut_strings(sql_type: SqlType, fields: Fields) -> Vector:
    valid = fields[3]
    values: list[bytes | None] = [None] * len(fields[1])
    rows = np.flatnonzero(valid).tolist() if len(valid) else range(len(values))
    for row, value in _slow(sql_type, fields, rows, DEFAULTS):
        values[row] = value.encode()
    return string_vector(sql_type, values)


def _views(sql_type: SqlType, fields: Fields) -> Vector:
    data, starts, ends, valid = fields
    views = np.zeros((len(starts), 2), np.uint64)
    size = field_kernels.heap_size(starts, ends, valid)
    if size > 0xFFFFFFFF:
        raise errors.ProgramLimitExceeded("a column's strings exceed 4 GB in one batch")
    heap = np.empty(size, np.uint8)
    raw, words = views.view(np.uint8).reshape(-1, 16), views.view(np.uint32).reshape(-1, 4)
    field_kernels.make_views(data, starts, ends, valid, raw, words, heap)
    return Vector(sql_type, views, None, heap)


def _varnum(sql_type: SqlType, fields: Fields) -> Vector:
    data, starts, ends, valid = fields
    n = len(starts)
    bad = np.zeros(n, np.uint8)
    kernels.plain_numerics(*fields, bad)
    if sql_type.precision is not None:
        bad[:] = 1
    if not bad.any():
        return _views(sql_type, fields)
    live = valid if len(valid) else np.ones(n, np.bool_)
    values: list[bytes | None] = [
        data[starts[i] : ends[i]].tobytes() if live[i] else None for i in range(n)
    ]
    for row, value in _slow(sql_type, fields, np.flatnonzero(live & (bad != 0)).tolist(), DEFAULTS):
        values[row] = format_numeric(value, sql_type.scale).encode()
    return string_vector(sql_type, values)


_READERS: dict[Kind, Callable[[SqlType, Fields, TextSettings], Vector]] = {
    Kind.BOOL: _booleans,
    Kind.INT2: _integers,
    Kind.INT4: _integers,
    Kind.INT8: _integers,
    Kind.OID: _integers,
    Kind.FLOAT4: _floats,
    Kind.FLOAT8: _floats,
    Kind.NUMERIC: _decimals,
    Kind.DATE: _dates,
    Kind.TIME: _times,
    Kind.TIMESTAMP: _timestamps,
    Kind.TIMESTAMPTZ: _timestamps,
    Kind.UUID: _uuids,
    Kind.BYTEA: _bytea,
}


# Binary


def from_binary(sql_type: SqlType, offsets: Array, data: Array, valid: Array | None) -> Vector:
    """A stored-form vector of the binary values data[offsets[i]:offsets[i + 1]]."""
    starts = np.ascontiguousarray(offsets[:-1], np.int64)
    return from_binary_fields(sql_type, data, starts, np.array(offsets[1:], np.int64), valid)


def from_binary_fields(sql_type: SqlType, data: Array, starts: Array, ends: Array, valid: Array | None) -> Vector:
    """As `from_fields` for the wire's binary form. Errors with 22P03 for a wrong length or value, 22008, 22021."""
    fields = (data, starts, ends, NO_NULLS if valid is None else valid)
    kind = sql_type.kind
    if kind in STRING_KINDS or kind is Kind.VOID:
        check_utf8(*fields)
        result = _strings(sql_type, fields)
    elif kind is Kind.BYTEA:
        result = _views(sql_type, fields)
    elif kind is Kind.NUMERIC:
        result = _binary_numeric(sql_type, fields)
    else:
        dtype, convert = _BINARY[kind]
        width = 16 if dtype is None else np.dtype(dtype).itemsize
        raw = np.empty((len(starts), width), np.uint8)
        row = field_kernels.gather_fixed(*fields, raw)
        if row >= 0:
            raise at_row(errors.InvalidBinaryRepresentation("incorrect binary data format"), row)
        values = raw if dtype is None else raw.reshape(-1).view(dtype)
        result = Vector(sql_type, convert(values, sql_type))
    result.valid = valid
    return result


def _native(values: Array, sql_type: SqlType) -> Array:
    out: Array = values.astype(sql_type.dtype)
    return out


def _bool_bytes(values: Array, _sql_type: SqlType) -> Array:
    out: Array = (values != 0).view(np.uint8)
    return out


def _wire_date(values: Array, _sql_type: SqlType) -> Array:
    days = values.astype(np.int64)
    finite = (days != DATE_INFINITY) & (days != DATE_MINUS_INFINITY)
    moved = np.where(finite, days + EPOCH_DAYS, days)
    _check_range(finite & ((moved >= DATE_INFINITY) | (moved < -2_440_588)), "date out of range")
    return moved.astype(np.int32)


def _wire_timestamp(values: Array, _sql_type: SqlType) -> Array:
    native = values.astype(np.int64)
    finite = (native != 2**63 - 1) & (native != -(2**63))
    low, high = FIRST_TIMESTAMP - EPOCH_US, 2**63 - 1 - EPOCH_US
    _check_range(finite & ((native >= high) | (native < low)), "timestamp out of range")
    with np.errstate(over="ignore"):
        return np.where(finite, native + EPOCH_US, native)


def _wire_time(values: Array, _sql_type: SqlType) -> Array:
    native = values.astype(np.int64)
    _check_range((native < 0) | (native > DAY_US), "time out of range")
    return native


def _check_range(wrong: Array, message: str) -> None:
    if wrong.any():
        raise at_row(errors.DatetimeOverflow(message), int(np.argmax(wrong)))


def _wire_interval(raw: Array, _sql_type: SqlType) -> Array:
    out = np.empty((len(raw), 2), np.uint64)
    out[:, 1] = np.ascontiguousarray(raw[:, :8]).view(">u8")[:, 0]
    days = np.ascontiguousarray(raw[:, 8:12]).view(">u4")[:, 0].astype(np.uint64)
    months = np.ascontiguousarray(raw[:, 12:]).view(">u4")[:, 0].astype(np.uint64)
    out[:, 0] = months | days << np.uint64(32)
    return out


def _wire_uuid(raw: Array, _sql_type: SqlType) -> Array:
    words: Array = raw.reshape(-1).view(np.uint64).reshape(-1, 2)
    return words


_BINARY: dict[Kind, tuple[str | None, Callable[[Array, SqlType], Array]]] = {
    Kind.BOOL: ("u1", _bool_bytes),
    Kind.INT2: (">i2", _native),
    Kind.INT4: (">i4", _native),
    Kind.INT8: (">i8", _native),
    Kind.FLOAT4: (">f4", _native),
    Kind.FLOAT8: (">f8", _native),
    Kind.DATE: (">i4", _wire_date),
    Kind.TIME: (">i8", _wire_time),
    Kind.TIMESTAMP: (">i8", _wire_timestamp),
    Kind.TIMESTAMPTZ: (">i8", _wire_timestamp),
    Kind.INTERVAL: (None, _wire_interval),
    Kind.UUID: (None, _wire_uuid),
    **dict.fromkeys(OID_KINDS, (">u4", _native)),
}


def _binary_numeric(sql_type: SqlType, fields: Fields) -> Vector:
    data, starts, ends, valid = fields
    n = len(starts)
    if sql_type.physical is Physical.DEC64:
        out, bad = np.empty(n, np.int64), np.zeros(n, np.uint8)
        scale = sql_type.scale or 0
        kernels.binary_decimals(*fields, sql_type.precision or 0, scale, out, bad)
        for row in np.flatnonzero(bad).tolist():
            out[row] = scaled(_fitted_numeric(sql_type, data[starts[row] : ends[row]].tobytes(), row))
        return Vector(sql_type, out, scale=scale)
    values: list[bytes | None] = [None] * n
    for row in np.flatnonzero(valid).tolist() if len(valid) else range(n):
        value = _fitted_numeric(sql_type, data[starts[row] : ends[row]].tobytes(), row)
        values[row] = format_numeric(value, sql_type.scale).encode()
    return string_vector(sql_type, values)


def _fitted_numeric(sql_type: SqlType, raw: bytes, row: int) -> Decimal:
    try:
        return fit_numeric(sql_type, numeric_value(raw))
    except errors.Error as error:
        raise at_row(error, row) from None


def numeric_value(raw: bytes) -> Decimal:
    """The Decimal of a wire's binary numeric; the slow twin of the kernel. Errors with 22P03."""
    if len(raw) < 8:
        raise errors.InvalidBinaryRepresentation("incorrect binary data format")
    count, weight, sign, places = struct.unpack_from(">hhHh", raw)
    if sign in (0xC000, 0xD000, 0xF000):
        return Decimal({0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign])
    if count < 0 or len(raw) != 8 + 2 * count:
        raise errors.InvalidBinaryRepresentation("incorrect binary data format")
    if sign not in (0, 0x4000):
        raise errors.InvalidBinaryRepresentation('invalid sign in external "numeric" value')
    if not 0 <= places <= 0x3FFF:
        raise errors.InvalidBinaryRepresentation('invalid scale in external "numeric" value')
    groups = struct.unpack_from(f">{count}h", raw, 8)
    if any(not 0 <= g <= 9999 for g in groups):
        raise errors.InvalidBinaryRepresentation('invalid digit in external "numeric" value')
    digits = "".join(f"{g:04d}" for g in groups)
    point = 4 * (weight + 1)
    integer = digits[:point].ljust(point, "0") if point > 0 else ""
    fraction = ("0" * -point + digits if point < 0 else digits[point:])[:places].ljust(places, "0")
    value = Decimal((0, tuple(map(int, (integer + fraction).lstrip("0") or "0")), -places))
    return value.copy_negate() if sign and value else value  # copies are exact, a minus would round
