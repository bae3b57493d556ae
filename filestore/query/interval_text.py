"""Intervals from text and to text, by PostgreSQL's rules: verbose units, '1-2', '1 2:03:04', ISO 8601, DAY TO HOUR.

An interval is (months, days, microseconds), three numbers that never mix. Fields are read from the last to the first,
because the unit stands behind its number. Output is IntervalStyle postgres only.
"""

from __future__ import annotations

import re

from filestore import errors
from filestore.query.calendar_text import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from filestore.query.datetime_text import clock_fields
from filestore.query.datetime_tokens import BadSyntax, OutOfRange, tokens_of

Interval = tuple[int, int, int]

_UNIT_WORDS = {
    "microsecond": "us usec usecs useconds usecond microsecon microsecond microseconds",
    "millisecond": "ms msec msecs msecond mseconds millisecon millisecond milliseconds",
    "second": "s sec secs second seconds",
    "minute": "m min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "d day days",
    "week": "w week weeks",
    "month": "mon mons month months",
    "quarter": "qtr quarter",
    "year": "y yr yrs year years",
    "decade": "dec decs decade decades",
    "century": "c cent century centuries",
    "millennium": "mil mils millennium millennia",
}
# Only ten letters of a unit count.
UNITS = {word[:10]: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_US = {"microsecond": 1, "millisecond": 1000, "second": SECOND_US, "minute": MINUTE_US, "hour": HOUR_US}
_MONTHS = {"month": 1, "year": 12, "decade": 120, "century": 1200, "millennium": 12_000}

FIELDS = (
    "year", "month", "day", "hour", "minute", "second", "year to month", "day to hour", "day to minute",
    "day to second", "hour to minute", "hour to second", "minute to second",
)  # fmt: skip
# The unit of a bare number under `fields`: its last one.
_LAST_FIELD = {f: f.rsplit(" ", 1)[-1] for f in FIELDS}


def _fits(value: int) -> bool:
    return -(2**31) <= value < 2**31


class _Sum:
    """The three numbers while fields come in, with the units already named."""

    def __init__(self) -> None:
        self.months = self.days = self.microseconds = 0
        self.seen: set[str] = set()

    def note(self, *units: str) -> None:
        for unit in units:
            if unit in self.seen:
                raise BadSyntax
            self.seen.add(unit)

    def add_us(self, fraction: float, scale: int) -> None:
        """fraction * scale microseconds, halves rounded away from zero."""
        if fraction == 0:
            return
        product = fraction * scale
        whole = int(product)
        rest = product - whole
        self.microseconds += whole + (1 if rest > 0.5 else -1 if rest < -0.5 else 0)

    def add_days(self, fraction: float, scale: int) -> None:
        if fraction == 0:
            return
        product = fraction * scale
        whole = int(product)
        self.days += whole
        self.add_us(product - whole, DAY_US)

    def add(self, unit: str, value: int, fraction: float) -> None:
        if unit in _US:
            self.microseconds += value * _US[unit]
            self.add_us(fraction, _US[unit])
        elif unit == "day":
            self.days += value
            self.add_us(fraction, DAY_US)
        elif unit == "week":
            self.days += value * 7
            self.add_days(fraction, 7)
        elif unit == "month":
            if not _fits(value):
                raise OutOfRange
            self.months += value
            self.add_days(fraction, 30)
        else:
            self.months += value * _MONTHS[unit] + round(fraction * _MONTHS[unit])

    def result(self) -> Interval:
        if not (_fits(self.days) and _fits(self.months // 12) and -(2**63) <= self.microseconds < 2**63):
            raise OutOfRange
        if not _fits(self.months):
            raise errors.DatetimeOverflow("interval out of range")
        return self.months, self.days, self.microseconds


def parse_interval(text: str, fields: str | None = None, precision: int | None = None) -> Interval:
    """(months, days, microseconds). `fields` restricts as in `interval day to hour` and gives a bare number its unit;
    what is finer is cut off. `precision` rounds seconds. Errors with 22007 and 22015."""
    lowered = " ".join(fields.lower().split()) if fields else ""
    try:
        try:
            value = _verbose(text, lowered)
        except BadSyntax:
            value = _iso8601(text)
    except BadSyntax:
        raise errors.InvalidDatetimeFormat(f'invalid input syntax for type interval: "{text}"') from None
    except OutOfRange:
        raise errors.IntervalOverflow(f'interval field value out of range: "{text}"') from None
    return restrict(value, lowered, precision)


def restrict(value: Interval, fields: str = "", precision: int | None = None) -> Interval:
    """The interval cut to `fields` ('year to month', 'hour', ...) and its seconds rounded to `precision` digits."""
    months, days, microseconds = value
    last = _LAST_FIELD.get(fields, "second")
    if last in ("year", "month"):
        return (_truncate(months, 12) if last == "year" else months), 0, 0
    unit = {"day": 0, "hour": HOUR_US, "minute": MINUTE_US}.get(last)
    if unit is not None:
        microseconds = _truncate(microseconds, unit) if unit else 0
    if precision is not None and precision < 6:
        step = 10 ** (6 - precision)
        sign = -1 if microseconds < 0 else 1
        microseconds = sign * ((abs(microseconds) + step // 2) // step * step)
    return months, days, microseconds


def _truncate(value: int, unit: int) -> int:
    return abs(value) // unit * unit * (-1 if value < 0 else 1)


def _verbose(text: str, fields: str) -> Interval:
    total = _Sum()
    unit = ""
    ago = False
    for kind, token in reversed(tokens_of(text)):
        if kind == "time":
            total.note("hour", "minute", "second")
            total.microseconds += _clock(token, fields)
            unit = "day"
        elif kind == "zone" and ":" in token:
            try:
                clock = _clock(token[1:], fields)
            except (BadSyntax, OutOfRange):
                unit = _number(total, token, unit, fields)
                continue
            total.note("hour", "minute", "second")
            total.microseconds += -clock if token[0] == "-" else clock
            unit = "day"
        elif kind in ("zone", "date", "number"):
            unit = _number(total, token, unit, fields)
        elif token == "ago":
            ago = True
            unit = ""
        elif token[:10] in UNITS:
            unit = UNITS[token[:10]]
            if unit == "quarter":
                raise BadSyntax
        else:
            raise BadSyntax
    if not total.seen:
        raise BadSyntax
    if ago:
        total.months, total.days, total.microseconds = -total.months, -total.days, -total.microseconds
    return total.result()


def _clock(token: str, fields: str) -> int:
    hour, minute, second, fraction = clock_fields(token, fields)
    return ((hour * 60 + minute) * 60 + second) * SECOND_US + fraction


_NUMBER = re.compile(r"([+-]?[0-9]*)(?:-([0-9]+)|(\.[0-9]*))?\Z")


def _number(total: _Sum, token: str, unit: str, fields: str) -> str:
    """Adds a number of `unit`; returns the unit that a bare number before it would have."""
    found = _NUMBER.match(token)
    if found is None:
        raise BadSyntax
    unit = unit or _LAST_FIELD.get(fields, "second")
    negative = token[0] == "-"
    digits = found[1].lstrip("+-") or "0"
    value = int(digits)
    if value > 2**63 - 1 + negative:
        raise OutOfRange
    value = -value if negative else value
    fraction = 0.0
    if found[2] is not None:
        months = int(found[2])
        if months >= 12:
            raise OutOfRange
        unit, value = "month", value * 12 + (-months if negative else months)
    elif found[3] is not None:
        fraction = float("0" + found[3]) if found[3] != "." else 0.0
        fraction = -fraction if negative else fraction
    if unit == "second" and fraction:
        total.note("second", "millisecond", "microsecond")
    else:
        total.note(unit)
    total.add(unit, value, fraction)
    return "day" if unit == "hour" else unit


_DESIGNATOR = re.compile(r"([+-]?[0-9]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)([A-Za-z:-]?)")


def _iso8601(text: str) -> Interval:
    """'P1Y2M3DT4H5M6.7S', and the alternative forms 'P0001-02-03T04:05:06' and 'P00010203T040506'."""
    if not text.startswith("P") or len(text) < 2:
        raise BadSyntax
    date, _, clock = text[1:].partition("T")
    total = _Sum()
    if date:
        alternative = re.fullmatch(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})", date)
        partial = re.fullmatch(r"([+-]?[0-9]+)-([+-]?[0-9]+)(?:-([+-]?[0-9]+))?", date)
        if alternative or partial:
            found = alternative or partial
            year, month, day = (int(g or 0) for g in found.groups()) if found else (0, 0, 0)
            total.months, total.days = year * 12 + month, day
        else:
            _designated(total, date, {"": "year", "Y": "year", "M": "month", "W": "week", "D": "day"})
    if clock:
        alternative = re.fullmatch(r"([0-9]{2})([0-9]{2})([0-9]{2})(\.[0-9]+)?", clock)
        colons = re.fullmatch(r"([+-]?[0-9]+):([+-]?[0-9]+)(?::([+-]?[0-9]+)(\.[0-9]+)?)?", clock)
        found = alternative or colons
        if found:
            total.add("hour", int(found[1]), 0)
            total.add("minute", int(found[2]), 0)
            total.add("second", int(found[3] or 0), float(found[4]) if found[4] else 0.0)
        else:
            _designated(total, clock, {"": "hour", "H": "hour", "M": "minute", "S": "second"})
    return total.result()


def _designated(total: _Sum, text: str, units: dict[str, str]) -> None:
    at = 0
    while at < len(text):
        found = _DESIGNATOR.match(text, at)
        if found is None or not any(c.isdigit() for c in found[1]) or found[2] not in units:
            raise BadSyntax
        if not found[2] and at:
            raise BadSyntax  # only the first number may lack its letter
        if "e" in found[1].lower():
            number = float(found[1])
            whole, fraction = int(number), number - int(number)
        else:
            sign = -1 if found[1][0] == "-" else 1
            digits, _, decimals = found[1].lstrip("+-").partition(".")
            whole = sign * int(digits or "0")
            fraction = sign * float("0." + (decimals or "0"))
        if abs(whole) > 2**31:
            raise OutOfRange
        total.add(units[found[2]], whole, fraction)
        at = found.end()


def format_interval(value: Interval) -> str:
    """IntervalStyle postgres: '1 year 2 mons -3 days +04:05:06.7', '00:00:00' for none."""
    months, days, microseconds = value
    years = abs(months) // 12 * (-1 if months < 0 else 1)
    out: list[str] = []
    negative = False
    for number, unit in ((years, "year"), (months - years * 12, "mon"), (days, "day")):
        if number:
            plus = "+" if negative and number > 0 else ""
            out.append(f"{plus}{number} {unit}{'' if number == 1 else 's'}")
            negative = number < 0
    if microseconds or not out:
        seconds, fraction = divmod(abs(microseconds), SECOND_US)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        sign = "-" if microseconds < 0 else "+" if negative else ""
        tail = f".{fraction:06d}".rstrip("0") if fraction else ""
        out.append(f"{sign}{hour:02d}:{minute:02d}:{second:02d}{tail}")
    return " ".join(out)
