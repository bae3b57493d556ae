"""The calendar, and dates and times to text: DateStyle ISO.

Dates are days since 1970-01-01, times microseconds since midnight, timestamps microseconds since 1970-01-01 00:00; the
calendar is the Gregorian one at all times, with a year 0 for 1 BC. The least and greatest values are the infinities.
"""

from __future__ import annotations

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
SECOND_US = 1_000_000

DATE_INFINITY, DATE_MINUS_INFINITY = 2**31 - 1, -(2**31)
INFINITY, MINUS_INFINITY = 2**63 - 1, -(2**63)
JULIAN_1970 = 2_440_588
FIRST_DAY = -JULIAN_1970  # 4714-11-24 BC, Julian day 0
END_DATE = 2_147_483_494 - JULIAN_1970
FIRST_TIMESTAMP = FIRST_DAY * DAY_US


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a proleptic Gregorian date; year 0 is 1 BC. Howard Hinnant's algorithm."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def civil_from_days(days: int) -> tuple[int, int, int]:
    """(year, month, day) of days since 1970-01-01; the inverse of `days_from_civil`."""
    days += 719_468
    era = days // 146_097
    day_of_era = days - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


# Output


def _year_text(year: int) -> str:
    return f"{year if year > 0 else 1 - year:04d}"


def format_date(days: int) -> str:
    """ISO text, e.g. '2026-11-21', '0044-03-15 BC', 'infinity'."""
    if days >= DATE_INFINITY:
        return "infinity"
    if days <= DATE_MINUS_INFINITY:
        return "-infinity"
    year, month, day = civil_from_days(days)
    return f"{_year_text(year)}-{month:02d}-{day:02d}{'' if year > 0 else ' BC'}"


def format_time(microseconds: int) -> str:
    """'10:20:30[.123456]', trailing zeros of the fraction cut."""
    seconds, fraction = divmod(microseconds, SECOND_US)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    tail = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{hour:02d}:{minute:02d}:{second:02d}{tail}"


def format_offset(offset: int) -> str:
    """'+00', '-03:30', '-04:56:02'."""
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    text = f"{'-' if offset < 0 else '+'}{hours:02d}"
    if minutes or seconds:
        text += f":{minutes:02d}"
    return text + f":{seconds:02d}" if seconds else text


def format_timestamp(value: int, offset: int | None = None) -> str:
    """ISO text of a wall clock; with `offset` (seconds east) the value is UTC and is shown there."""
    if value == INFINITY:
        return "infinity"
    if value == MINUS_INFINITY:
        return "-infinity"
    days, clock = divmod(value + (offset or 0) * SECOND_US, DAY_US)
    year, month, day = civil_from_days(days)
    zone = "" if offset is None else format_offset(offset)
    return f"{_year_text(year)}-{month:02d}-{day:02d} {format_time(clock)}{zone}{'' if year > 0 else ' BC'}"
