"""to_char, to_date, to_timestamp: PostgreSQL's template patterns for moments and numbers.

Templates are cut once into pieces and kept; values are formatted one distinct value at a time. Of formatting.c the
common patterns are built; the others (roman numerals and ordinal suffixes of numbers, rarer patterns of to_date) raise
0A000 by name. Names of months and days are English.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors, timezones
from filestore.query.calendar_text import civil_from_days, days_from_civil
from filestore.query.scalar.dates import fields_of, iso_year, iso_year_start, timestamp_of_epoch
from filestore.query.scalar.moments import DAY_US, INFINITY, MINUS_INFINITY, utc_of, zone_of
from filestore.query.scalar.registry import checked
from filestore.query.vectors import EXACT, from_python, per_value, to_python
from filestore.storage.vector import Vector
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_KEYS = (
    "HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6",
    "A.M.", "P.M.", "a.m.", "p.m.", "AM", "PM", "am", "pm", "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY",
    "IY", "I", "B.C.", "A.D.", "b.c.", "a.d.", "BC", "AD", "bc", "ad", "MONTH", "Month", "month", "MON", "Mon",
    "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD", "D", "IDDD", "ID", "IW", "WW", "W", "CC", "J",
    "Q", "RM", "rm", "TZH", "TZM", "OF", "TZ", "tz", "FX",
)  # fmt: skip
_PIECE = re.compile(
    r'"((?:[^"\\]|\\.)*)"?|((?:FM|fm|TM|tm)*)('
    + "|".join(re.escape(k) for k in sorted({*_KEYS, *(k.lower() for k in _KEYS)}, key=len, reverse=True))
    + r')(TH|th)?|\\?(")|(.)',
    re.DOTALL,
)
_UNDATED = frozenset(
    {
        "MONTH", "MON", "DAY", "DY", "D", "ID", "BC", "AD", "B.C.", "A.D.", "TZ", "TZH", "TZM", "OF",
    }
)  # fmt: skip
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


@lru_cache(maxsize=256)
def moment_pieces(template: str) -> tuple[tuple[str, bool, str], ...]:
    """(pattern or literal, fill mode, ordinal suffix) of a template; literals begin with an apostrophe."""
    out: list[tuple[str, bool, str]] = []
    for found in _PIECE.finditer(template):
        quoted, fill, key, suffix, mark, other = found.groups()
        if key is None:
            literal = (mark or other) if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            out.append(("'" + literal, False, ""))
        else:
            name = key if key in _KEYS else key.upper()
            named = name.upper() in ("MONTH", "MON", "DAY", "DY")
            out.append((name, "FM" in fill.upper() or (named and bool(fill)), suffix or ""))
    return tuple(out)


def _ordinal(text: str, suffix: str) -> str:
    if not suffix:
        return text
    ending = "th" if text[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(text[-1:], "th")
    return text + (ending.upper() if suffix == "TH" else ending)


class _Moment:
    """The fields of one local timestamp, or of an interval, whose fields have signs."""

    def __init__(self, local_us: int, zone: timezones.TimeZone | None, offset_s: int) -> None:
        self.is_interval = False
        self.local_us = local_us
        self.days, micros = divmod(local_us, DAY_US)
        self.year, self.month, self.day = civil_from_days(self.days)
        self.year_day = self.days - days_from_civil(self.year, 1, 1) + 1
        self.offset_s = offset_s
        self.zone = zone.abbreviation_at(local_us - offset_s * 1_000_000) if zone is not None else ""
        self._set_clock(micros)

    def _set_clock(self, micros: int) -> None:
        sign, rest = (-1 if micros < 0 else 1), abs(micros)
        self.seconds = sign * (rest // 1_000_000)
        self.hour = sign * (rest // 3_600_000_000)
        self.minute = sign * (rest // 60_000_000 % 60)
        self.second = sign * (rest // 1_000_000 % 60)
        self.fraction = sign * (rest % 1_000_000)

    @classmethod
    def of_interval(cls, months: int, days: int, micros: int) -> _Moment:
        out = cls(0, None, 0)
        out.is_interval = True
        out.year = _quotient(months, 12)
        out.month, out.day = months - out.year * 12, days
        out.year_day = (out.year * 12 + out.month) * 30 + days
        out._set_clock(micros)
        return out


def _quotient(value: int, divisor: int) -> int:
    """C's division: towards zero."""
    return abs(value) // divisor * (-1 if value < 0 else 1)


def _remainder(value: int, divisor: int) -> int:
    """C's remainder: with the sign of the value."""
    return abs(value) % divisor * (-1 if value < 0 else 1)


def _number(value: int, width: int, fill: bool) -> str:
    if fill:
        return str(value)
    return f"{value:0{width}d}" if value >= 0 else f"-{-value:0{width}d}"


def _padded(value: int, width: int, fill: bool = False) -> str:
    """As C's %0*d: the sign is part of the width."""
    return str(value) if fill else f"{value:0{width}d}"


def _name(names: tuple[str, ...], index: int, key: str, fill: bool, short: bool) -> str:
    text = names[index][:3] if short else names[index]
    text = text.upper() if key.isupper() else text.lower() if key.islower() else text
    return text if fill or short else text.ljust(9)


def _clock_piece(key: str, fill: bool, m: _Moment) -> str | None:
    match key:
        case "HH24":
            return _number(m.hour, 2, fill)
        case "HH" | "HH12":
            hour = _remainder(m.hour, 12) or 12
            return str(hour) if fill else _padded(hour, 2 if m.hour >= 0 else 3)
        case "MI":
            return _number(m.minute, 2, fill)
        case "SS":
            return _number(m.second, 2, fill)
        case "MS":
            return _padded(_quotient(m.fraction, 1000), 3)
        case "US":
            return _padded(m.fraction, 6)
        case "SSSS" | "SSSSS":
            return str(m.seconds)
    if key.startswith("FF"):
        return _padded(_quotient(m.fraction, 10 ** (6 - int(key[2]))), int(key[2]))
    if key.upper() in ("AM", "PM", "A.M.", "P.M."):
        text = "PM" if _remainder(m.hour, 24) >= 12 else "AM"
        text = f"{text[0]}.{text[1]}." if "." in key else text
        return text if key.isupper() else text.lower()
    return None


def _date_piece(key: str, fill: bool, m: _Moment) -> str | None:
    match key:
        case "MM":
            return _number(m.month, 2, fill)
        case "DD":
            return _padded(m.day, 2, fill)
        case "DDD":
            return _padded(m.year_day, 3, fill)
        case "WW":
            return _padded(_quotient(m.year_day - 1, 7) + 1, 2, fill)
        case "W":
            return str(_quotient(m.day - 1, 7) + 1)
        case "Q":
            return str((m.month - 1) // 3 + 1) if m.month else ""
        case "J":
            return str(m.days + 2_440_588)
        case "D":
            return str((m.days + 4) % 7 + 1)
        case "ID":
            return str((m.days + 3) % 7 + 1)
        case "RM" | "rm":
            return _roman(key, fill, m)
    if key.upper() in ("MONTH", "MON"):
        return _name(MONTHS, m.month - 1, key, fill, len(key) == 3)
    if key.upper() in ("DAY", "DY"):
        return _name(DAYS, (m.days + 4) % 7, key, fill, len(key) == 2)
    if key.upper() in ("BC", "AD", "B.C.", "A.D."):
        text = "AD" if m.year > 0 else "BC"
        text = f"{text[0]}.{text[1]}." if "." in key else text
        return text if key.isupper() else text.lower()
    return None


def _roman(key: str, fill: bool, m: _Moment) -> str:
    """The month; whole years of an interval show as December, negative months count from the year's end."""
    if not m.month and not m.year:
        return ""
    if m.month > 0:
        index = m.month - 1
    elif m.month < 0:
        index = 12 + m.month
    else:
        index = 11 if m.year >= 0 else 0
    text = _ROMAN[index] if fill else _ROMAN[index].ljust(4)
    return text if key == "RM" else text.lower()


def _year_piece(key: str, fill: bool, m: _Moment) -> str | None:
    year = m.year if m.year > 0 or m.is_interval else 1 - m.year
    match key:
        case "YYYY":
            return _number(year, 4, fill)
        case "YYY" | "YY" | "Y":
            return _number(_remainder(year, 10 ** len(key)), len(key), fill)
        case "Y,YYY":
            thousands = _quotient(year, 1000)
            return f"{thousands},{_padded(year - thousands * 1000, 3)}"
        case "CC":
            if m.is_interval:
                century = _quotient(m.year, 100)
            else:
                century = (m.year - 1) // 100 + 1 if m.year > 0 else _quotient(m.year, 100) - 1
            return _number(century, 2, fill) if abs(century) <= 99 else str(century)
    if key in ("IYYY", "IYY", "IY", "I", "IW", "IDDD"):
        fields = fields_of(np.array([m.local_us]))
        week_year = iso_year(fields)
        day = int((fields.days - iso_year_start(week_year))[0])
        if key == "IW":
            return _number(day // 7 + 1, 2, fill)
        if key == "IDDD":
            return _number(day + 1, 3, fill)
        year = int(week_year[0])
        year = year if year > 0 else 1 - year
        return _number(year % 10 ** len(key) if key != "IYYY" else year, len(key), fill)
    return None


def _zone_piece(key: str, fill: bool, m: _Moment) -> str | None:
    hours, minutes = abs(m.offset_s) // 3600, abs(m.offset_s) // 60 % 60
    sign = "-" if m.offset_s < 0 else "+"
    match key:
        case "TZ":
            return m.zone
        case "tz":
            return m.zone.lower()
        case "TZH":
            return f"{sign}{hours:02d}"
        case "TZM":
            return f"{minutes:02d}"
        case "OF":
            return sign + _padded(hours, 2, fill) + (f":{minutes:02d}" if minutes else "")
    return None


def moment_text(m: _Moment, template: str) -> str:
    """A moment through a template. Errors with 22007 for patterns that an interval has no answer to."""
    out = []
    for key, fill, suffix in moment_pieces(template):
        if key.startswith("'"):
            out.append(key[1:])
            continue
        if m.is_interval:
            _check_interval_pattern(key)
        text = _clock_piece(key, fill, m)
        text = _date_piece(key, fill, m) if text is None else text
        text = _year_piece(key, fill, m) if text is None else text
        text = _zone_piece(key, fill, m) if text is None else text
        out.append(_ordinal(text or "", suffix))  # FX has no text
    return "".join(out)


def _check_interval_pattern(key: str) -> None:
    if key.upper() in _UNDATED:
        raise errors.InvalidDatetimeFormat(
            "invalid format specification for an interval value",
            hint="Intervals are not tied to specific calendar dates.",
        )
    if key in ("IYYY", "IYY", "IY", "I", "IW", "IDDD", "J"):
        raise errors.FeatureNotSupported(
            f'to_char pattern "{key}" of an interval is not supported', hint="An interval has no calendar date."
        )


@checked("to_char")
def _to_char(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    kind = args[0].type.kind
    zone = zone_of(ctx)

    def moment(value: int, template: str) -> str | None:
        if value in (INFINITY, MINUS_INFINITY):
            return None
        offset = zone.offset_at(value) if kind is Kind.TIMESTAMPTZ else 0
        return moment_text(
            _Moment(value + offset * 1_000_000, zone if kind is Kind.TIMESTAMPTZ else None, offset), template
        )

    def interval(value: tuple[int, int, int], template: str) -> str:
        return moment_text(_Moment.of_interval(*value), template)

    function: Any = number_text
    if kind is Kind.INTERVAL:
        function = interval
    elif kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        function = moment
    return per_value(args, length, result, function)


# --- numbers ---------------------------------------------------------------------------------------------------------

_NUMBER_KEYS = re.compile(r'"([^"]*)"|(FM|MI|PL|SG|PR|TH|th|EEEE|RN|rn|V|[09.DG,LS])|(.)', re.DOTALL | re.IGNORECASE)


@lru_cache(maxsize=256)
def number_pieces(template: str) -> tuple[str, ...]:
    """Patterns of a number template; literals begin with an apostrophe. Errors with 0A000 for EEEE, V, RN, L."""
    out = []
    for quoted, key, other in _NUMBER_KEYS.findall(template):
        if key:
            upper = key.upper()
            if upper in ("EEEE", "V", "RN", "L", "PL", "SG", "TH"):
                raise errors.FeatureNotSupported(
                    f'to_char pattern "{key}" is not supported', hint="9, 0, D, G, S, MI, PR and FM are."
                )
            out.append({".": "D", ",": "G"}.get(upper, upper))
        else:
            out.append("'" + (quoted or other))
    return tuple(out)


def number_text(value: Any, template: str) -> str:
    """A number through a template, as PostgreSQL's NUM_processor."""
    pieces = number_pieces(template)
    fill = "FM" in pieces
    point = pieces.index("D") if "D" in pieces else len(pieces)
    whole = [p for p in pieces[:point] if p in "09"]
    after = [p for p in pieces[point:] if p in "09"]
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        return str(number)
    rounded = number.quantize(Decimal((0, (1,), -len(after))), rounding=ROUND_HALF_UP, context=EXACT)
    digits = f"{rounded.copy_abs():f}"
    left, _, right = digits.partition(".")
    negative = rounded < 0
    if len(left.lstrip("0")) > len(whole):
        left, right = "#" * len(whole), "#" * len(after)
    first_zero = whole.index("0") if "0" in whole else len(whole)
    left = left.lstrip("0").rjust(len(whole))
    left = "".join("0" if c == " " and i >= first_zero else c for i, c in enumerate(left))
    if not left.strip() and whole and (not after or (fill and not rounded and "0" not in pieces)):
        left = left[:-1] + "0"
    return _laid_out(pieces, left, right, negative, fill, point)


def _laid_out(pieces: tuple[str, ...], left: str, right: str, negative: bool, fill: bool, point: int) -> str:
    last_zero = max((i for i, p in enumerate(pieces[point:]) if p == "0"), default=-1)
    out: list[str] = []
    i = j = 0
    for k, piece in enumerate(pieces):
        if piece in "09" and k < point:
            out.append(left[i])
            i += 1
        elif piece in "09":
            kept = not fill or k - point <= last_zero or right[j:].strip("0#") or "#" in right
            out.append(right[j] if kept else "")
            j += 1
        elif piece == "G":
            out.append("," if i and left[:i].strip() else " ")
        elif piece == "D":
            out.append(".")
        elif piece == "S":
            out.append("\0")
        elif piece == "MI":
            out.append("-" if negative else "" if fill else " ")
        elif piece.startswith("'"):
            out.append(piece[1:])
    rest = [p for p in pieces if p != "FM"]
    lead = next((k for k, piece in enumerate(rest) if not piece.startswith("'")), 0)
    return "".join(out[:lead]) + _signed("".join(out[lead:]), pieces, negative, fill)


def _signed(text: str, pieces: tuple[str, ...], negative: bool, fill: bool) -> str:
    """The laid out digits with their sign; literals before them stay before the sign."""
    signed = any(p in ("S", "MI", "PR") for p in pieces)
    mark = "-" if negative else "+"
    if "\0" in text:
        text = (
            text.replace("\0", "", 1) + mark if text.endswith("\0") else _leading_sign(text.replace("\0", "", 1), mark)
        )
    elif "PR" in pieces:
        text = _bracketed(text, negative)
    elif not signed:
        text = _leading_sign(text, "-") if negative else " " + text
    return text.replace(" ", "") if fill and "'" not in "".join(pieces) else text.lstrip() if fill else text


def _leading_sign(text: str, mark: str) -> str:
    stripped = text.lstrip(" ")
    return " " * (len(text) - len(stripped)) + mark + stripped


def _bracketed(text: str, negative: bool) -> str:
    if not negative:
        return " " + text + " "
    stripped = text.lstrip(" ")
    return " " * (len(text) - len(stripped)) + "<" + stripped + ">"


# --- reading ---------------------------------------------------------------------------------------------------------


def read_moment(text: str, template: str) -> tuple[int, int]:
    """(days, microseconds of the day) of a text under a template. Errors with 22007, 22008."""
    values: dict[str, int] = {}
    at = 0
    for key, _, _ in moment_pieces(template):
        if key.startswith("'"):
            at = _skip_literal(text, at, key[1:])
            continue
        at = _read_piece(text, at, key, values)
    return _assembled(values, text)


def _skip_literal(text: str, at: int, literal: str) -> int:
    if literal.isalnum():
        return min(at + len(literal), len(text))
    while at < len(text) and not text[at].isalnum() and text[at] not in "+-":
        at += 1
    if literal.strip() and at < len(text) and text[at] == literal:
        at += 1
    return at


_WIDTHS = {
    "YYYY": 4, "YYY": 3, "YY": 2, "Y": 1, "MM": 2, "DD": 2, "DDD": 3, "HH24": 2, "HH12": 2, "HH": 2, "MI": 2, "SS": 2,
    "MS": 3, "US": 6, "SSSS": 5, "SSSSS": 5, "J": 7, "Q": 1, "CC": 2, "D": 1,
}  # fmt: skip


def _read_piece(text: str, at: int, key: str, values: dict[str, int]) -> int:
    while at < len(text) and text[at] == " ":
        at += 1
    upper = key.upper()
    if upper == "FX":
        raise errors.FeatureNotSupported('pattern "FX" is not supported here', hint="Leave it out.")
    if upper in ("MONTH", "MON"):
        for i, name in enumerate(MONTHS):
            for candidate in (name, name[:3]):
                if text[at : at + len(candidate)].lower() == candidate.lower():
                    values["MM"] = i + 1
                    return at + len(candidate)
        raise errors.InvalidDatetimeFormat(f'invalid value "{text[at : at + 3]}" for "{key}"')
    if upper in ("DAY", "DY"):
        while at < len(text) and text[at].isalpha():
            at += 1
        return at
    if upper in ("AM", "PM", "A.M.", "P.M."):
        values["PM"] = int(text[at : at + 1].lower() == "p")
        return at + len(key)
    width = _WIDTHS.get(upper)
    if width is None:
        raise errors.FeatureNotSupported(
            f'pattern "{key}" is not supported here', hint="Use numbers for dates and times."
        )
    found = re.compile(rf"[+-]?\d{{1,{width}}}").match(text, at)
    if found is None:
        if at >= len(text):
            return at
        raise errors.InvalidDatetimeFormat(
            f'invalid value "{text[at : at + width]}" for "{key}"', detail="Value must be an integer."
        )
    digits = found[0]
    if upper in ("MS", "US"):
        digits = digits.ljust(width, "0")
    values[upper] = int(digits)
    return found.end()


def _assembled(values: dict[str, int], text: str) -> tuple[int, int]:
    year = values.get("YYYY", 0)  # without any: 1 BC
    for key in ("YYY", "YY", "Y"):
        if key in values:
            year = values[key] + (2000 if values[key] < 70 or key != "YY" else 1900)
    month, day = values.get("MM", 1), values.get("DD", 1)
    hour = values.get("HH24", values.get("HH12", values.get("HH", 0)))
    if "HH24" not in values and "PM" in values:
        hour = hour % 12 + 12 * values["PM"]
    minute, second = values.get("MI", 0), values.get("SS", 0)
    if not (1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        raise errors.DatetimeOverflow(f'date/time field value out of range: "{text}"')
    if "J" in values:
        days = values["J"] - 2_440_588
    elif "DDD" in values:
        days = int(np.datetime64(f"{year:04d}-01-01", "D").astype(np.int64)) + values["DDD"] - 1
    else:
        days = int(np.datetime64(f"{year:04d}-{month:02d}", "D").astype(np.int64)) + day - 1
        if civil_from_days(days)[1] != month:
            raise errors.DatetimeOverflow(f'date/time field value out of range: "{text}"')
    micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + values.get("MS", 0) * 1000 + values.get("US", 0)
    for key in ("SSSS", "SSSSS"):
        micros = values[key] * 1_000_000 if key in values else micros
    return days, micros


@checked("to_date")
def _to_date(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, lambda text, template: read_moment(text, template)[0])


@checked("to_timestamp")
def _to_timestamp(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    if len(args) == 1:
        return from_python(result, [timestamp_of_epoch(v) for v in to_python(args[0])])

    def read(text: str, template: str) -> int:
        days, micros = read_moment(text, template)
        return days * DAY_US + micros

    local = per_value(args, length, result, read)
    return Vector(result, utc_of(local.data, zone_of(ctx)), local.valid)
