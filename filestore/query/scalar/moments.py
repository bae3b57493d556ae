"""Arithmetic of dates, times, timestamps and intervals, vectorised, with PostgreSQL's rules.

Months are added first and the day clamped to the month's end, then days, then microseconds; for timestamptz months
and days are those of the session's time zone. The least and greatest stored integers are -infinity and infinity
and stay what they are. Sources: PostgreSQL 15 date.c, timestamp.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from filestore import errors, timezones
from filestore.query.vectors import interval_fields
from filestore.storage.vector import Array, Vector
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

DAY_US = 86_400_000_000
INFINITY = 2**63 - 1
MINUS_INFINITY = -(2**63)
DATE_INFINITY = 2**31 - 1
DATE_MINUS_INFINITY = -(2**31)
LEAST_DAY = -2_440_588  # 4714-11-24 BC, as PostgreSQL
LEAST_TIMESTAMP = LEAST_DAY * DAY_US
GREATEST_DAY = 2_145_031_948  # 5874897-12-31


def timestamp_out_of_range() -> errors.DatetimeOverflow:
    return errors.DatetimeOverflow("timestamp out of range")


def interval_out_of_range() -> errors.DatetimeOverflow:
    return errors.DatetimeOverflow("interval out of range")


def is_infinite(vector: Vector) -> Array:
    """Rows of a date or timestamp vector that are -infinity or infinity."""
    if vector.type.kind is Kind.DATE:
        low, high = DATE_MINUS_INFINITY, DATE_INFINITY
    else:
        low, high = MINUS_INFINITY, INFINITY
    endless: Array = (vector.data == high) | (vector.data == low)
    return endless


def date_to_timestamp(vector: Vector) -> Array:
    """Microseconds at midnight; infinities stay. Errors with 22008 'date out of range for timestamp'."""
    days = vector.data.astype(np.int64)
    endless = is_infinite(vector)
    if vector.valid is not None:
        endless = endless | ~vector.valid
    finite = np.where(endless, 0, days)
    if len(finite) and int(finite.max()) * DAY_US > INFINITY:
        raise errors.DatetimeOverflow("date out of range for timestamp")
    out = finite * DAY_US
    return np.where(endless, np.where(days > 0, INFINITY, MINUS_INFINITY), out)


def add_months(days: Array, months: Array) -> Array:
    """Days since 1970 moved by months, the day of the month clamped to the new month's end."""
    month = days.astype("M8[D]").astype("M8[M]")
    day = days - month.astype("M8[D]").astype(np.int64)
    moved = month + months.astype("m8[M]")
    start = moved.astype("M8[D]").astype(np.int64)
    length = (moved + np.timedelta64(1, "M")).astype("M8[D]").astype(np.int64) - start
    clamped: Array = start + np.minimum(day, length - 1)
    return clamped


def zone_of(ctx: ExecutionContext) -> timezones.TimeZone:
    """The session's time zone; UTC without settings."""
    zone = getattr(ctx.settings, "timezone", None) or "UTC"
    if isinstance(zone, timezones.TimeZone):
        return zone
    return timezones.named(zone) or timezones.UTC


def local_of(utc_us: Array, zone: timezones.TimeZone) -> Array:
    """Wall-clock microseconds of instants; infinities stay."""
    endless = (utc_us == INFINITY) | (utc_us == MINUS_INFINITY)
    finite = np.where(endless, 0, utc_us)
    return np.where(endless, utc_us, finite + zone.offsets_at(finite) * 1_000_000)


def utc_of(local_us: Array, zone: timezones.TimeZone) -> Array:
    """Instants of wall-clock microseconds; infinities stay."""
    endless = (local_us == INFINITY) | (local_us == MINUS_INFINITY)
    finite = np.where(endless, 0, local_us)
    return np.where(endless, local_us, finite - zone.offsets_of_local(finite) * 1_000_000)


def shift_timestamp(
    base: Array, interval: Vector, sign: int, zone: timezones.TimeZone | None, valid: Array | None
) -> Array:
    """base + sign * interval; with a zone, base is UTC and months and days are the zone's. Errors with 22008."""
    months, days, micros = (f * sign for f in interval_fields(interval))
    base, months, days, micros = np.broadcast_arrays(base, months, days, micros)
    endless = (base == INFINITY) | (base == MINUS_INFINITY)
    if valid is not None:
        endless = endless | ~np.broadcast_to(valid, len(base))
    out = np.where(endless, 0, base)
    if months.any() or days.any():
        local = out if zone is None else local_of(out, zone)
        whole = local // DAY_US
        rest = local - whole * DAY_US
        whole = (add_months(whole, months) if months.any() else whole) + days
        if len(whole) and (int(whole.max()) * DAY_US > INFINITY - DAY_US or int(whole.min()) < LEAST_DAY):
            raise timestamp_out_of_range()
        local = whole * DAY_US + rest
        out = local if zone is None else utc_of(local, zone)
    moved = out + micros
    if (((out ^ moved) & (micros ^ moved)) < 0).any() or (moved < LEAST_TIMESTAMP).any() or (moved == INFINITY).any():
        raise timestamp_out_of_range()
    return np.where(endless, base, moved)


def make_interval(months: Array, days: Array, micros: Array, result: SqlType, valid: Array | None = None) -> Vector:
    """Intervals of int64 fields. Errors with 22008 when months or days leave 32 bits."""
    months, days, micros = np.broadcast_arrays(months, days, micros)
    for field in (months, days):
        bad = (field < -(2**31)) | (field >= 2**31)
        if (bad if valid is None else bad & valid).any():
            raise interval_out_of_range()
    words = np.empty((len(months), 2), np.uint64)
    parts = words.view(np.int32).reshape(-1, 4)
    parts[:, 0], parts[:, 1] = months.astype(np.int32), days.astype(np.int32)
    words.view(np.int64)[:, 1] = micros
    return Vector(result, words, None)


def truncated_days(micros: Array) -> tuple[Array, Array]:
    """(whole days, rest), both with the sign of the input: interval_justify_hours."""
    days = np.abs(micros) // DAY_US * np.sign(micros)
    return days, micros - days * DAY_US


def _check_finite(args: list[Vector], what: str) -> None:
    for vector in args:
        endless = is_infinite(vector)
        if (endless if vector.valid is None else endless & vector.valid).any():
            raise errors.DatetimeOverflow(f"cannot subtract infinite {what}")


def _date_days(args: list[Vector], sign: int, result: SqlType) -> Vector:
    dates, days = args
    wide = dates.data.astype(np.int64) + sign * days.data.astype(np.int64)
    endless = np.broadcast_to(is_infinite(dates), len(wide))
    bad = ((wide < LEAST_DAY) | (wide > GREATEST_DAY)) & ~endless
    for vector in args:
        if vector.valid is not None:
            bad = bad & vector.valid
    if bad.any():
        raise errors.DatetimeOverflow("date out of range")
    return Vector(result, np.where(endless, dates.data, wide).astype(np.int32))


def _difference(args: list[Vector], result: SqlType) -> Vector:
    """date - date, timestamp - timestamp, time - time."""
    left, right = args
    kind = left.type.kind
    if kind is Kind.TIME:
        zeros = np.zeros(1, np.int64)
        return make_interval(zeros, zeros, left.data - right.data, result)
    _check_finite(args, "dates" if kind is Kind.DATE else "timestamps")
    if kind is Kind.DATE:
        return Vector(result, left.data - right.data)
    a, b = np.broadcast_arrays(left.data, right.data)
    micros = a - b
    if (((a ^ b) & (a ^ micros)) < 0).any():
        raise interval_out_of_range()
    days, rest = truncated_days(micros)
    return make_interval(np.zeros(1, np.int64), days, rest, result)


def _intervals(args: list[Vector], sign: int, result: SqlType) -> Vector:
    left, right = (interval_fields(a) for a in args)
    months, days, micros = (x + sign * y for x, y in zip(left, right, strict=True))
    if (((left[2] ^ micros) & ((sign * right[2]) ^ micros)) < 0).any():
        raise interval_out_of_range()
    return make_interval(months, days, micros, result)


def scale_interval(interval: Vector, factor: Array, result: SqlType) -> Vector:
    """interval * factor: what is left of months goes to days (30 each), what is left of days to microseconds."""
    months, days, micros = interval_fields(interval)
    with np.errstate(all="ignore"):
        month_product, day_product = months * factor, days * factor
        if not (np.isfinite(month_product).all() and np.isfinite(day_product).all()):
            raise interval_out_of_range()
        out_months, out_days = np.trunc(month_product), np.trunc(day_product)
        extra_days = _rounded((month_product - out_months) * 30)
        seconds = _rounded((day_product - out_days + extra_days - np.trunc(extra_days)) * 86_400)
        carry = np.where(np.abs(seconds) >= 86_400, np.trunc(seconds / 86_400), 0)
        seconds = seconds - carry * 86_400
        out_days = out_days + carry + np.trunc(extra_days)
        out_micros = np.rint(micros * factor + seconds * 1e6)
    if not (np.abs(out_micros) < 9.2e18).all() or not (np.abs(out_months) < 2**31).all():
        raise interval_out_of_range()
    return make_interval(out_months.astype(np.int64), out_days.astype(np.int64), out_micros.astype(np.int64), result)


def _rounded(seconds: Array) -> Array:
    return np.rint(seconds * 1e6) / 1e6


def moment_arithmetic(name: str, args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    """add, sub, mul, div, neg where a date or time type takes part."""
    del length
    left = args[0]
    sign = -1 if name in ("sub", "neg") else 1
    kind = left.type.kind
    other = args[1].type.kind if len(args) > 1 else None
    if name == "neg":
        months, days, micros = interval_fields(left)
        return make_interval(-months, -days, -micros, result)
    if name in ("mul", "div"):
        return _product(name, args, result)
    if other is Kind.INTERVAL:
        return _plus_interval(args, sign, result, ctx)
    if kind is Kind.DATE and other is Kind.INT4:
        return _date_days(args, sign, result)
    if kind is Kind.DATE and other is Kind.TIME:
        base = date_to_timestamp(left)
        return Vector(result, np.where((base == INFINITY) | (base == MINUS_INFINITY), base, base + args[1].data))
    if kind is other and name == "sub":
        return _difference(args, result)
    raise errors.InternalError(f"no implementation of {name}({left.type}, {args[-1].type})")


def _product(name: str, args: list[Vector], result: SqlType) -> Vector:
    factor = args[1].data.astype(np.float64)
    if name == "mul":
        return scale_interval(args[0], factor, result)
    if (factor == 0).any():
        raise errors.DivisionByZero("division by zero")
    return scale_interval(args[0], 1.0 / factor, result)


def _plus_interval(args: list[Vector], sign: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    left, interval = args
    kind = left.type.kind
    valid = None
    for vector in args:
        if vector.valid is not None:
            valid = vector.valid if valid is None else valid & vector.valid
    if kind is Kind.INTERVAL:
        return _intervals(args, sign, result)
    if kind is Kind.TIME:
        micros = left.data + sign * interval_fields(interval)[2]
        return Vector(result, np.mod(micros, DAY_US))
    base = date_to_timestamp(left) if kind is Kind.DATE else left.data
    zone = zone_of(ctx) if kind is Kind.TIMESTAMPTZ else None
    return Vector(result, shift_timestamp(base, interval, sign, zone, valid))
