"""Functions of dates, times and intervals: extract, date_trunc, age, justify, make_date and their kin.

Vectorised through calendar fields (`Fields`): numpy's datetime64 gives year, month and day of any number of days
at once. Sources: PostgreSQL 15 timestamp.c, date.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors, timezones
from filestore.query.literals import format_literal
from filestore.query.scalar.decimals import divide
from filestore.query.scalar.moments import (
    DAY_US,
    INFINITY,
    MINUS_INFINITY,
    date_to_timestamp,
    is_infinite,
    local_of,
    make_interval,
    timestamp_out_of_range,
    truncated_days,
    utc_of,
    zone_of,
)
from filestore.query.scalar.registry import checked, constant_bytes, strict
from filestore.query.vectors import bools, broadcast, from_decimals, from_python, interval_fields, per_value, to_python
from filestore.query.zone_abbreviations import ABBREVIATIONS
from filestore.storage.vector import Array, Vector
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

HOUR_US, MINUTE_US, SECOND_US = 3_600_000_000, 60_000_000, 1_000_000

UNITS = {
    **dict.fromkeys(("microseconds", "microsecond", "us", "usec", "usecs", "usecond", "useconds"), "microseconds"),
    **dict.fromkeys(("milliseconds", "millisecond", "ms", "msec", "msecs", "msecond", "mseconds"), "milliseconds"),
    **dict.fromkeys(("second", "seconds", "s", "sec", "secs"), "second"),
    **dict.fromkeys(("minute", "minutes", "m", "min", "mins"), "minute"),
    **dict.fromkeys(("hour", "hours", "h", "hr", "hrs"), "hour"),
    **dict.fromkeys(("day", "days", "d"), "day"),
    **dict.fromkeys(("week", "weeks", "w"), "week"),
    **dict.fromkeys(("month", "months", "mon", "mons"), "month"),
    **dict.fromkeys(("quarter", "qtr"), "quarter"),
    **dict.fromkeys(("year", "years", "y", "yr", "yrs"), "year"),
    **dict.fromkeys(("decade", "decades", "dec", "decs"), "decade"),
    **dict.fromkeys(("century", "centuries", "c", "cent"), "century"),
    **dict.fromkeys(("millennium", "millennia", "mil", "mils"), "millennium"),
    "dow": "dow", "isodow": "isodow", "doy": "doy", "epoch": "epoch", "isoyear": "isoyear", "julian": "julian",
    "timezone": "timezone", "timezone_hour": "timezone_hour", "timezone_h": "timezone_hour",
    "timezone_minute": "timezone_minute", "timezone_m": "timezone_minute",
}  # fmt: skip


@dataclass(slots=True)
class Fields:
    """Calendar fields of local microseconds; all int64[n]."""

    days: Array
    micros: Array
    year: Array
    month: Array
    day: Array


def fields_of(local_us: Array) -> Fields:
    """Fields of finite timestamps."""
    days = local_us // DAY_US
    months = days.astype("M8[D]").astype("M8[M]")
    month_index = months.astype(np.int64)
    year = month_index // 12 + 1970
    day = days - months.astype("M8[D]").astype(np.int64) + 1
    return Fields(days, local_us - days * DAY_US, year, month_index % 12 + 1, day)


def days_of(year: Array, month: Array, day: Array) -> Array:
    """Days since 1970 of calendar dates; day may be any number."""
    months = ((year - 1970) * 12 + (month - 1)).astype("M8[M]")
    days: Array = months.astype("M8[D]").astype(np.int64) + day - 1
    return days


def unit_of(name: str, sql_type: SqlType) -> str:
    """The canonical unit. Errors with 22023 for an unknown one."""
    unit = UNITS.get(name.lower())
    if unit is None:
        raise errors.InvalidParameterValue(f'unit "{name.lower()}" not recognized for type {sql_type.kind.value}')
    return unit


def unsupported_unit(name: str, sql_type: SqlType) -> errors.FeatureNotSupported:
    return errors.FeatureNotSupported(f'unit "{name.lower()}" not supported for type {sql_type.kind.value}')


def iso_year_start(year: Array) -> Array:
    """Days since 1970 of the Monday of ISO week 1."""
    january4 = days_of(year, np.ones_like(year), np.full_like(year, 4))
    monday: Array = january4 - (january4 + 3) % 7
    return monday


def iso_year(fields: Fields) -> Array:
    """The ISO 8601 year of each date."""
    year = fields.year
    year = np.where(fields.days >= iso_year_start(year + 1), year + 1, year)
    return np.where(fields.days < iso_year_start(year), year - 1, year)


def _historic(year: Array) -> Array:
    """Years as people count: there is no year 0."""
    return np.where(year > 0, year, year - 1)


def _calendar_value(unit: str, fields: Fields) -> Array | None:
    """Whole-number fields of timestamps."""
    year = fields.year
    match unit:
        case "year":
            return _historic(year)
        case "month":
            return fields.month
        case "day":
            return fields.day
        case "hour":
            return fields.micros // HOUR_US
        case "minute":
            return fields.micros // MINUTE_US % 60
        case "quarter":
            return (fields.month - 1) // 3 + 1
        case "dow":
            return (fields.days + 4) % 7
        case "isodow":
            return (fields.days + 3) % 7 + 1
        case "doy":
            return fields.days - days_of(year, np.ones_like(year), np.ones_like(year)) + 1
        case "week":
            return (fields.days - iso_year_start(iso_year(fields))) // 7 + 1
        case "isoyear":
            return _historic(iso_year(fields))
        case "decade":
            return year // 10
        case "century":
            return np.where(year > 0, (year + 99) // 100, -((99 - (year - 1)) // 100))
        case "millennium":
            return np.where(year > 0, (year + 999) // 1000, -((999 - (year - 1)) // 1000))
    return None


def _scaled(values: Array, scale: int, result: SqlType) -> Vector:
    """A value of `scale` digits as numeric or, for date_part, as a float."""
    if result.kind is Kind.NUMERIC:
        return Vector(result, values.astype(np.int64), None, scale=scale)
    return Vector(result, values / np.float64(10**scale))


@checked("extract", "date_part")
def _extract(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    name = constant_bytes(args[0])
    source = args[1]
    if name is None:
        raise errors.FeatureNotSupported("the unit of extract must be a constant", hint="Write the unit as a literal.")
    unit = unit_of(name.decode(), source.type)
    if len(source) == 0:
        return Vector(result, np.zeros(0, np.int64 if result.kind is Kind.NUMERIC else np.float64))
    match source.type.kind:
        case Kind.INTERVAL:
            return _extract_interval(unit, source, result)
        case Kind.TIME:
            return _extract_time(unit, source.data, source.type, result)
        case _:
            return _extract_moment(unit, source, result, ctx)


def _extract_time(unit: str, micros: Array, sql_type: SqlType, result: SqlType) -> Vector:
    match unit:
        case "hour":
            return _scaled(micros // HOUR_US, 0, result)
        case "minute":
            return _scaled(micros // MINUTE_US % 60, 0, result)
        case "epoch":
            return _scaled(micros, 6, result)
    found = _second_field(unit, micros, result)
    if found is None:
        raise unsupported_unit(unit, sql_type)
    return found


def _second_field(unit: str, micros: Array, result: SqlType) -> Vector | None:
    within = micros % MINUTE_US
    match unit:
        case "second":
            return _scaled(within, 6, result)
        case "milliseconds":
            return _scaled(within, 3, result)
        case "microseconds":
            return _scaled(within, 0, result)
    return None


def _extract_moment(unit: str, source: Vector, result: SqlType, ctx: ExecutionContext) -> Vector:
    kind = source.type.kind
    endless = is_infinite(source)
    if endless.any():
        return _extract_infinite(unit, source, endless, result, ctx)
    stamps = date_to_timestamp(source) if kind is Kind.DATE else source.data
    zone = zone_of(ctx)
    if kind is Kind.TIMESTAMPTZ:
        local = local_of(stamps, zone)
        offset = (local - stamps) // SECOND_US
        seconds = np.abs(offset)
        match unit:
            case "timezone":
                return _scaled(offset, 0, result)
            case "timezone_hour":
                return _scaled(np.sign(offset) * (seconds // 3600), 0, result)
            case "timezone_minute":
                return _scaled(np.sign(offset) * (seconds % 3600 // 60), 0, result)
    else:
        local = stamps
    if unit == "epoch":
        return _scaled(stamps // SECOND_US, 0, result) if kind is Kind.DATE else _scaled(stamps, 6, result)
    fields = fields_of(local)
    values = _calendar_value(unit, fields)
    if kind is Kind.DATE and unit in ("hour", "minute", "second", "milliseconds", "microseconds"):
        raise unsupported_unit(unit, source.type)
    if values is not None:
        return _scaled(values, 0, result)
    if unit == "julian":
        return _julian(fields, kind, result)
    found = _second_field(unit, fields.micros, result)
    if found is None:
        raise unsupported_unit(unit, source.type)
    return found


def _julian(fields: Fields, kind: Kind, result: SqlType) -> Vector:
    days = fields.days + 2_440_588
    if kind is Kind.DATE:
        return _scaled(days, 0, result)
    if result.kind is not Kind.NUMERIC:
        return Vector(result, days + fields.micros / float(DAY_US))
    pairs = zip(days.tolist(), fields.micros.tolist(), strict=True)
    values = [Decimal(d) + divide(Decimal(us), Decimal(DAY_US)) if us else Decimal(d) for d, us in pairs]
    return from_decimals(result, values, None)


def _extract_infinite(unit: str, source: Vector, endless: Array, result: SqlType, ctx: ExecutionContext) -> Vector:
    """Fields that grow without bound are infinite, others null."""
    finite = to_python(_extract_moment(unit, source.take(np.flatnonzero(~endless)), result, ctx))
    grows = unit in ("year", "decade", "century", "millennium", "epoch", "julian", "isoyear")
    make: Any = Decimal if result.kind is Kind.NUMERIC else float
    rest = iter(finite)
    values = []
    for value, infinite in zip(source.data.tolist(), endless.tolist(), strict=True):
        if infinite:
            values.append(make("Infinity" if value > 0 else "-Infinity") if grows else None)
        else:
            values.append(next(rest))
    return from_python(result, values)


def _extract_interval(unit: str, source: Vector, result: SqlType) -> Vector:
    months, days, micros = interval_fields(source)
    years = np.abs(months) // 12 * np.sign(months)
    rest = months - years * 12
    sign = np.sign(micros)
    clock = np.abs(micros)
    simple = {
        "year": years,
        "month": rest,
        "quarter": rest // 3 + 1,
        "day": days,
        "hour": sign * (clock // HOUR_US),
        "minute": sign * (clock // MINUTE_US % 60),
        "decade": np.abs(years) // 10 * np.sign(years),
        "century": np.abs(years) // 100 * np.sign(years),
        "millennium": np.abs(years) // 1000 * np.sign(years),
    }.get(unit)
    if simple is not None:
        return _scaled(simple, 0, result)
    within = sign * (clock % MINUTE_US)
    match unit:
        case "second":
            return _scaled(within, 6, result)
        case "milliseconds":
            return _scaled(within, 3, result)
        case "microseconds":
            return _scaled(within, 0, result)
        case "epoch":
            # a year has 365.25 days here, a month 30
            seconds = (years * 36525 * 864) + (rest * 30 + days) * 86_400
            return _scaled(seconds * SECOND_US + micros, 6, result)
    raise unsupported_unit(unit, source.type)


@checked("date_trunc")
def _date_trunc(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    name = constant_bytes(args[0])
    if name is None:
        raise errors.FeatureNotSupported("the unit of date_trunc must be a constant", hint="Write it as a literal.")
    unit = unit_of(name.decode(), result)
    source = args[1]
    if result.kind is Kind.INTERVAL:
        return _truncate_interval(unit, source, result)
    endless = is_infinite(source)
    finite = np.where(endless, 0, source.data)
    if result.kind is Kind.TIMESTAMPTZ:
        zones = [zone_of(ctx)] if len(args) == 2 else _zones(args[2])
        out = _by_zone(zones, finite, lambda values, zone: _truncate_in_zone(unit, values, zone, result))
    else:
        out = truncate(unit, finite, result)
    return Vector(result, np.where(endless, source.data, out))


def _truncate_in_zone(unit: str, utc_us: Array, zone: timezones.TimeZone, result: SqlType) -> Array:
    local = local_of(utc_us, zone)
    cut: Array = truncate(unit, local, result)
    # Below a day the offset stays the instant's own.
    return utc_us - (local - cut) if unit in _CLOCK_UNITS else utc_of(cut, zone)


_CLOCK_UNITS = {"hour": HOUR_US, "minute": MINUTE_US, "second": SECOND_US, "milliseconds": 1000, "microseconds": 1}


def truncate(unit: str, local_us: Array, sql_type: SqlType) -> Any:
    """Local microseconds cut down to a unit. Errors with 0A000 for units that cannot be cut to."""
    if unit in _CLOCK_UNITS:
        return local_us - local_us % _CLOCK_UNITS[unit]
    if unit == "day":
        return local_us - local_us % DAY_US
    fields = fields_of(local_us)
    year, one = fields.year, np.ones_like(fields.year)
    match unit:
        case "week":
            days = fields.days - (fields.days + 3) % 7
        case "month":
            days = days_of(year, fields.month, one)
        case "quarter":
            days = days_of(year, (fields.month - 1) // 3 * 3 + 1, one)
        case "year":
            days = days_of(year, one, one)
        case "decade":
            days = days_of(year // 10 * 10, one, one)
        case "century":
            days = days_of((year - 1) // 100 * 100 + 1, one, one)
        case "millennium":
            days = days_of((year - 1) // 1000 * 1000 + 1, one, one)
        case _:
            raise unsupported_unit(unit, sql_type)
    return days * DAY_US


def _truncate_interval(unit: str, source: Vector, result: SqlType) -> Vector:
    months, days, micros = interval_fields(source)
    spans = {"year": 12, "decade": 120, "century": 1200, "millennium": 12_000, "quarter": 3, "month": 1}
    if unit in spans:
        span = spans[unit]
        zeros = np.zeros_like(days)
        return make_interval(np.abs(months) // span * span * np.sign(months), zeros, zeros, result)
    if unit == "day":
        return make_interval(months, days, np.zeros_like(micros), result)
    if unit not in _CLOCK_UNITS:
        raise unsupported_unit(unit, result)
    span = _CLOCK_UNITS[unit]
    return make_interval(months, days, np.abs(micros) // span * span * np.sign(micros), result)


# --- making and measuring --------------------------------------------------------------------------------------------


def _civil(year: int, month: int, day: int) -> int:
    """Days since 1970. Errors with 22008."""
    own = year + 1 if year < 0 else year
    valid = year != 0 and 1 <= month <= 12 and -4713 <= year <= 5_874_897
    if valid:
        first = int(days_of(np.array([own]), np.array([month]), np.array([1]))[0])
        following = int(days_of(np.array([own]), np.array([month + 1]), np.array([1]))[0])
        if 1 <= day <= following - first:
            return first + day - 1
    raise errors.DatetimeOverflow(f"date field value out of range: {year}-{month:02d}-{day:02d}")


@checked("make_date")
def _make_date(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, _civil)


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: float) -> int:
    days = _civil(year, month, day)
    micros = round(second * 1e6) if second == second else -1
    if not (0 <= hour <= 24 and 0 <= minute < 60 and 0 <= micros <= 60 * SECOND_US) or (
        hour == 24 and (minute or micros)
    ):
        raise errors.DatetimeOverflow(f"time field value out of range: {hour}:{minute:02d}:{second:02g}")
    return days * DAY_US + hour * HOUR_US + minute * MINUTE_US + micros


@checked("make_timestamp")
def _make_timestamp(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, _moment)


def _time(hour: int, minute: int, second: float) -> int:
    return _moment(1970, 1, 1, hour, minute, second)


@checked("make_time")
def _make_time(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, _time)


@strict("isfinite")
def _isfinite(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    endless = args[0].type.kind is not Kind.INTERVAL and is_infinite(args[0])
    return bools(~np.broadcast_to(endless, len(args[0])))


@checked("date_bin")
def _date_bin(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    months, days, micros = interval_fields(args[0])
    if months.any():
        raise errors.FeatureNotSupported(
            "timestamps cannot be binned into intervals containing months or years", hint="Use date_trunc."
        )
    stride = days * DAY_US + micros
    if (stride <= 0).any():
        raise errors.DatetimeOverflow("stride must be greater than zero")
    source, origin = broadcast(args[1], length), args[2]
    endless = is_infinite(source)
    if is_infinite(origin).any():
        raise errors.DatetimeOverflow("origin out of range")
    binned = origin.data + (source.data - origin.data) // stride * stride
    return Vector(result, np.where(endless, source.data, binned))


def timestamp_of_epoch(seconds: float) -> int:
    """to_timestamp(float8). Errors with 22008."""
    if seconds != seconds:
        raise errors.DatetimeOverflow("timestamp cannot be NaN")
    if seconds in (float("inf"), float("-inf")):
        return INFINITY if seconds > 0 else MINUS_INFINITY
    micros = round(seconds * 1e6)
    if not MINUS_INFINITY < micros < INFINITY:
        raise timestamp_out_of_range()
    return micros


@checked("age")
def _age(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    zoned = args[0].type.kind is Kind.TIMESTAMPTZ
    if len(args) == 1:
        today = local_of(np.full(1, ctx.transaction_us, np.int64), zone_of(ctx)) // DAY_US * DAY_US
        args = [Vector(args[0].type, utc_of(today, zone_of(ctx)) if zoned else today), args[0]]
    for vector in args:
        if is_infinite(vector).any():
            raise timestamp_out_of_range()
    left, right = (local_of(a.data, zone_of(ctx)) if zoned else a.data for a in args)
    left, right = (np.ascontiguousarray(a) for a in np.broadcast_arrays(left, right))
    return _symbolic_difference(left, right, result)


def _symbolic_difference(left: Array, right: Array, result: SqlType) -> Vector:
    """Years, months, days and time from right to left, borrowing months by the length of the earlier one."""
    sign = np.where(left < right, -1, 1)
    later, earlier = fields_of(np.maximum(left, right)), fields_of(np.minimum(left, right))
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    days = later.day - earlier.day
    micros = later.micros - earlier.micros
    borrow = micros < 0
    micros, days = np.where(borrow, micros + DAY_US, micros), np.where(borrow, days - 1, days)
    one = np.ones_like(earlier.month)
    span = days_of(earlier.year, earlier.month + 1, one) - days_of(earlier.year, earlier.month, one)
    borrow = days < 0
    days, months = np.where(borrow, days + span, days), np.where(borrow, months - 1, months)
    return make_interval(months * sign, days * sign, micros * sign, result)


def _justified(hours: bool, days: bool) -> Any:
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        month, day, micros = interval_fields(args[0])
        if hours and days:
            # as interval_justify_interval: days to months first, so that the carries end with equal signs
            early = ((day > 0) & (micros > 0)) | ((day < 0) & (micros < 0))
            whole = np.where(early, np.abs(day) // 30 * np.sign(day), 0)
            month, day = month + whole, day - whole * 30
        if hours:
            whole, micros = truncated_days(micros)
            day = day + whole
        if days:
            whole = np.abs(day) // 30 * np.sign(day)
            month, day = month + whole, day - whole * 30
        if days:
            down, up = (
                (month > 0) & ((day < 0) | ((day == 0) & (micros < 0) & hours)),
                (month < 0) & ((day > 0) | ((day == 0) & (micros > 0) & hours)),
            )
            day = day + 30 * down - 30 * up
            month = month - down + up
        if hours:
            down, up = (day > 0) & (micros < 0), (day < 0) & (micros > 0)
            micros = micros + DAY_US * down - DAY_US * up
            day = day - down + up
        return make_interval(month, day, micros, result)

    return run


strict("justify_hours")(_justified(True, False))
strict("justify_days")(_justified(False, True))
strict("justify_interval")(_justified(True, True))


def zone_named(name: str) -> timezones.TimeZone:
    """The zone of AT TIME ZONE: an abbreviation, else a name, POSIX ones too. Errors with 22023, 0A000."""
    offset = ABBREVIATIONS.get(name.lower())
    found = timezones.named(name) if offset is None else timezones.fixed(offset)
    if found is None:
        raise errors.InvalidParameterValue(f'time zone "{name}" not recognized')
    return found


def _zones(vector: Vector) -> list[timezones.TimeZone]:
    """The zones that names or intervals stand for. Errors with 22023 as `zone_named`, and for months and days."""
    if vector.type.kind is not Kind.INTERVAL:
        return [zone_named((name or b"").decode()) for name in vector.strings()]
    months, days, micros = interval_fields(vector)
    if months.any() or days.any():
        shown = format_literal(vector.type, to_python(vector)[0])
        raise errors.InvalidParameterValue(f'interval time zone "{shown}" must not include months or days')
    return [timezones.fixed(int(us) // SECOND_US) for us in micros]


@checked("timezone")
def _timezone(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    convert = local_of if result.kind is Kind.TIMESTAMP else utc_of
    return Vector(result, _by_zone(_zones(args[0]), args[1].data, convert))


def _by_zone(zones: list[timezones.TimeZone], values: Array, convert: Callable[..., Array]) -> Array:
    """convert(values, zone), with one zone for all values or one for each."""
    if len(zones) == 1:
        return convert(values, zones[0])
    values = np.broadcast_to(values, len(zones))
    out = np.empty(len(zones), np.int64)
    for zone in set(zones):
        rows = np.array([z is zone for z in zones])
        out[rows] = convert(values[rows], zone)
    return out
