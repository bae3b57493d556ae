"""Casts between all types: vectorised where the types are numbers and moments, through their text forms where one
is text.

Errors are PostgreSQL's: 22003 for what does not fit, 22001 for strings that an assignment would cut (an explicit
cast cuts them), 22P02 and its kin for text that does not read. regclass and regtype names are asked of the session.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors
from filestore.query import render, string_kernels, text_parse
from filestore.query.kernels import frozen
from filestore.query.literals import fit_numeric, fit_string, format_literal, numeric_field_overflow, parse_literal
from filestore.query.scalar import decimals
from filestore.query.scalar.moments import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    DAY_US,
    INFINITY,
    MINUS_INFINITY,
    date_to_timestamp,
    is_infinite,
    local_of,
    make_interval,
    utc_of,
    zone_of,
)
from filestore.query.scalar.registry import scattered
from filestore.query.vectors import (
    EXACT,
    as_decimal64,
    bools,
    decimal128_rows,
    from_python,
    per_value,
    replaced,
    safe_views,
    to_decimals,
    to_python,
    typed,
)
from filestore.storage.vector import EMPTY_HEAP, Array, Vector
from filestore.types import INTEGER_KINDS, OID_KINDS, REG_KINDS, STRING_KINDS, Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

_BOUNDS = {Kind.INT2: 2**15, Kind.INT4: 2**31, Kind.INT8: 2**63}
_FLOATS = (Kind.FLOAT4, Kind.FLOAT8)
_BLANK: Array = np.zeros(256, np.bool_)
_BLANK[32] = True


def cast(vector: Vector, target: SqlType, explicit: bool, ctx: ExecutionContext) -> Vector:
    """The vector as `target`. Rows that are null stay null and are not looked at."""
    source = vector.type
    if source == target:
        return vector
    if source.kind in STRING_KINDS and target.kind in STRING_KINDS:
        return _strings(vector, target, explicit)
    if source.kind is target.kind and target.kind is not Kind.NUMERIC:
        return typed(vector, target)
    vector = vector.plain()
    if vector.valid is not None and not vector.valid.all():
        rows = np.flatnonzero(vector.valid)
        some = replaced(vector.take(rows), None)
        return scattered(_valid_cast(some, target, explicit, ctx), rows, len(vector))
    return _valid_cast(replaced(vector, None), target, explicit, ctx)


def _valid_cast(vector: Vector, target: SqlType, explicit: bool, ctx: ExecutionContext) -> Vector:
    source = vector.type.kind
    if source in STRING_KINDS:
        return _from_text(vector, target, explicit, ctx)
    if target.kind in STRING_KINDS:
        return _strings(_to_text(vector, target, ctx), target, explicit)
    convert = _CASTS.get((_family(source), _family(target.kind)))
    if convert is None:
        raise errors.CannotCoerce(f"cannot cast type {vector.type} to {target}")
    return convert(vector, target, ctx)


def _family(kind: Kind) -> str:
    if kind in INTEGER_KINDS:
        return "int"
    if kind in OID_KINDS:
        return "oid"
    return "float" if kind in _FLOATS else kind.name.lower()


# --- text ------------------------------------------------------------------------------------------------------------


def _from_text(vector: Vector, target: SqlType, explicit: bool, ctx: ExecutionContext) -> Vector:
    if target.kind in REG_KINDS:
        name = f"{target.kind.value}in"
        return per_value([vector], len(vector), target, lambda s: _registered(name, s, ctx))
    return per_value([vector], len(vector), target, lambda s: parse_literal(target, s, ctx.settings, explicit=explicit))


def _registered(name: str, text: str, ctx: ExecutionContext) -> Any:
    return int(text) if text.isdigit() else ctx.session_function(name, (text,))


def _to_text(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    kind = vector.type.kind
    plain = target.without_modifiers()
    if kind is Kind.BOOL:
        return per_value([vector], len(vector), plain, lambda b: "true" if b else "false")
    if kind in REG_KINDS:
        return per_value([vector], len(vector), plain, lambda oid: ctx.session_function(f"{kind.value}out", (oid,)))
    if len(vector) >= _RENDERED_ROWS:
        return _rendered(vector, plain, ctx)
    source = vector.type
    if kind in INTEGER_KINDS:
        return from_python(plain, [str(v) for v in vector.data.tolist()])
    return from_python(plain, [format_literal(source, v, ctx.settings) for v in to_python(vector)])


_RENDERED_ROWS = 64
"""From this many rows on the rendering kernels are used; below, plain Python starts faster."""


def _rendered(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    encoded = render.text(vector, ctx.settings)
    views = np.empty((len(vector), 2), np.uint64)
    string_kernels.split_views(frozen(encoded.offsets), frozen(encoded.data), views)
    return Vector(target, views, None, encoded.data if len(encoded.data) else EMPTY_HEAP)


def _strings(vector: Vector, target: SqlType, explicit: bool) -> Vector:
    """Text kinds among each other: lengths, char(n)'s blanks, names' 63 bytes."""
    kind = target.kind
    source = vector.type
    if kind in (Kind.NAME, Kind.CHAR):
        return per_value([vector], len(vector), target, lambda s: fit_string(target, s, explicit=explicit))
    strip = kind is Kind.BPCHAR and source.kind is not Kind.BPCHAR
    shorter = target.length is not None and (
        source.length is None or source.length > target.length or source.kind not in (Kind.BPCHAR, Kind.VARCHAR)
    )
    if not strip and not shorter:
        return typed(vector, target)
    words = vector.dictionary
    if words is not None and 0 < len(words) <= len(vector):
        try:
            return Vector(target, vector.data, vector.valid, None, 0, _fitted(words, target, explicit, shorter, strip))
        except errors.StringTooLong:
            pass  # perhaps only a value that no row has
    return _fitted(vector.plain(), target, explicit, shorter, strip)


def _fitted(vector: Vector, target: SqlType, explicit: bool, shorter: bool, strip: bool) -> Vector:
    views, heap = safe_views(vector)
    if shorter and target.length is not None:
        counts = np.empty(len(vector), np.int32)
        string_kernels.character_counts(views, heap, counts)
        if (counts > target.length).any():
            if not explicit:
                plain = Vector(target, views, vector.valid, heap)
                return per_value([plain], len(vector), target, lambda s: fit_string(target, s))
            out = np.empty_like(views)
            one, count = np.ones(1, np.int64), np.full(1, target.length, np.int64)
            string_kernels.substring_views(views, heap, one, count, 0, out, EMPTY_HEAP)
            views = out
    if strip:
        out = np.empty_like(views)
        string_kernels.trim_views(views, heap, _BLANK, False, True, out)
        views = out
    return Vector(target, views, vector.valid, heap)


# --- numbers ---------------------------------------------------------------------------------------------------------


def _out_of_range(target: SqlType) -> errors.NumericOutOfRange:
    return errors.NumericOutOfRange(f"{target.kind.value} out of range")


def _int_to_int(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    data = vector.data
    if target.kind in OID_KINDS:
        if vector.type.kind not in OID_KINDS and len(data) and vector.type.kind is not Kind.INT8:
            data = data.astype(np.int64) & 0xFFFFFFFF
        if len(data) and (int(data.min()) < 0 or int(data.max()) > 0xFFFFFFFF):
            raise errors.NumericOutOfRange("OID out of range")
        return Vector(target, data.astype(target.dtype, copy=False))
    bound = _BOUNDS[target.kind]
    if vector.type.kind in OID_KINDS and target.kind is Kind.INT4:
        return Vector(target, data.astype(np.uint32).view(np.int32))
    if len(data) and target.dtype.itemsize < data.dtype.itemsize:
        if int(data.min()) < -bound or int(data.max()) >= bound:
            raise _out_of_range(target)
    return Vector(target, data.astype(target.dtype))


def _int_to_float(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(target, vector.data.astype(target.dtype))


def _int_to_numeric(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    wide = Vector(SqlType(Kind.NUMERIC), vector.data.astype(np.int64), None)
    return _numeric_to_numeric(wide, target, ctx)


def _int_to_bool(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return bools(vector.data != 0)


def _float_to_int(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    rounded = np.rint(vector.data.astype(np.float64))
    bound = float(_BOUNDS[target.kind])
    if not ((rounded >= -bound) & (rounded < bound)).all():
        raise _out_of_range(target)
    return Vector(target, rounded.astype(target.dtype))


def _float_to_float(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    with np.errstate(all="ignore"):
        data = vector.data.astype(target.dtype)
    if (np.isinf(data) & np.isfinite(vector.data)).any():
        raise errors.NumericOutOfRange("value out of range: overflow")
    if ((data == 0) & (vector.data != 0)).any():
        raise errors.NumericOutOfRange("value out of range: underflow")
    return Vector(target, data)


def _float_to_numeric(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    digits = 15 if vector.type.kind is Kind.FLOAT8 else 6
    values = [_decimal_of_float(v, digits) for v in vector.data.tolist()]
    out = from_python(SqlType(Kind.NUMERIC), values)
    return _numeric_to_numeric(out, target, ctx)


def _decimal_of_float(value: float, digits: int) -> Decimal:
    number = Decimal(f"{value:.{digits}g}")
    if number.is_finite() and number.as_tuple().exponent > 0:  # type: ignore[operator]
        number = number.quantize(Decimal(1), context=EXACT)
    return decimals.positive_zero(number)


def _numeric_to_numeric(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    if target.precision is None:
        return typed(vector, target)
    scale = target.scale or 0
    if as_decimal64(vector) is None and decimal128_rows(vector) is None:
        return from_python(target, [fit_numeric(target, v) for v in to_decimals(vector).data.tolist()])
    out = decimals.rounded_vector(vector, np.array([scale]), target)
    if decimals.digits(out) > target.precision:
        raise numeric_field_overflow(target.precision, scale)
    return out


def _numeric_to_int(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    bound = _BOUNDS[target.kind]
    whole = None if vector.data.dtype == object else decimals.rounded_vector(vector, np.zeros(1, np.int64), vector.type)
    narrow = None if whole is None else as_decimal64(whole)
    if narrow is not None:
        data = narrow.data
        if len(data) and (int(data.min()) < -bound or int(data.max()) >= bound):
            raise _out_of_range(target)
        return Vector(target, data.astype(target.dtype))
    out = []
    for value in to_decimals(vector).data.tolist():
        if not value.is_finite():
            name = "NaN" if value.is_nan() else "infinity"
            raise errors.FeatureNotSupported(f"cannot convert {name} to {target.kind.value}")
        number = int(decimals.rounded(value, 0))
        if not -bound <= number < bound:
            raise _out_of_range(target)
        out.append(number)
    return Vector(target, np.array(out, target.dtype))


def _numeric_to_float(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    narrow = as_decimal64(vector)
    # Both are exact below 2**53 and 10**22, so that one division rounds as reading the digits would.
    if narrow is not None and narrow.scale <= 22 and (len(narrow) == 0 or np.abs(narrow.data).max() < 2**53):
        wide = narrow.data.astype(np.float64) / np.float64(10**narrow.scale)
        return _float_to_float(Vector(SqlType(Kind.FLOAT8), wide), target, ctx)
    # As PostgreSQL does: the digits are read, with the errors of reading.
    digits = render.text(vector, ctx.settings)
    return text_parse.from_text(target, digits.offsets, digits.data, None, ctx.settings)


def _bool_to_int(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(target, vector.data.astype(target.dtype))


# --- moments ---------------------------------------------------------------------------------------------------------


def _date_to_timestamp(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(target, date_to_timestamp(vector))


def _date_to_timestamptz(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    return Vector(target, utc_of(date_to_timestamp(vector), zone_of(ctx)))


def _timestamp_to_date(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    endless = np.where(vector.data > 0, DATE_INFINITY, DATE_MINUS_INFINITY)
    return Vector(target, np.where(is_infinite(vector), endless, vector.data // DAY_US).astype(np.int32))


def _timestamptz_to_date(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    return _timestamp_to_date(_local(vector, ctx), target, ctx)


def _local(vector: Vector, ctx: ExecutionContext) -> Vector:
    return Vector(SqlType(Kind.TIMESTAMP), local_of(vector.data, zone_of(ctx)))


def _timestamp_to_timestamptz(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    return Vector(target, utc_of(vector.data, zone_of(ctx)))


def _timestamptz_to_timestamp(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    return Vector(target, local_of(vector.data, zone_of(ctx)))


def _timestamp_to_time(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    out = scattered(Vector(target, vector.data % DAY_US), np.arange(len(vector)), len(vector))
    return (
        replaced(out, ~is_infinite(vector))
        if ((vector.data == INFINITY) | (vector.data == MINUS_INFINITY)).any()
        else out
    )


def _timestamptz_to_time(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:
    return _timestamp_to_time(_local(vector, ctx), target, ctx)


def _time_to_interval(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    zeros = np.zeros(1, np.int64)
    return make_interval(zeros, zeros, vector.data, target)


def _interval_to_time(vector: Vector, target: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    micros = np.ascontiguousarray(vector.data).view(np.int64)[:, 1]
    return Vector(target, np.mod(micros, DAY_US))


Convert = Callable[[Vector, SqlType, "ExecutionContext"], Vector]
_CASTS: dict[tuple[str, str], Convert] = {
    ("int", "int"): _int_to_int,
    ("int", "oid"): _int_to_int,
    ("oid", "int"): _int_to_int,
    ("oid", "oid"): _int_to_int,
    ("int", "float"): _int_to_float,
    ("int", "numeric"): _int_to_numeric,
    ("int", "bool"): _int_to_bool,
    ("bool", "int"): _bool_to_int,
    ("float", "int"): _float_to_int,
    ("float", "float"): _float_to_float,
    ("float", "numeric"): _float_to_numeric,
    ("numeric", "numeric"): _numeric_to_numeric,
    ("numeric", "int"): _numeric_to_int,
    ("numeric", "float"): _numeric_to_float,
    ("date", "timestamp"): _date_to_timestamp,
    ("date", "timestamptz"): _date_to_timestamptz,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamp", "timestamptz"): _timestamp_to_timestamptz,
    ("timestamp", "time"): _timestamp_to_time,
    ("timestamptz", "date"): _timestamptz_to_date,
    ("timestamptz", "timestamp"): _timestamptz_to_timestamp,
    ("timestamptz", "time"): _timestamptz_to_time,
    ("time", "interval"): _time_to_interval,
    ("interval", "time"): _interval_to_time,
}


def text_of(vector: Vector, ctx: ExecutionContext) -> Vector:
    """The vector's values as they are shown, which for booleans and char(n) is not the cast."""
    if vector.type.kind is Kind.BOOL:
        return per_value([vector], len(vector), SqlType(Kind.TEXT), lambda b: "t" if b else "f")
    width = vector.type.length
    if vector.type.kind is Kind.BPCHAR and width is not None:
        return per_value([vector], len(vector), SqlType(Kind.TEXT), lambda s: s.ljust(width))
    return cast(vector, SqlType(Kind.TEXT), True, ctx)
