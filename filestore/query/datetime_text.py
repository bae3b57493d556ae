"""Dates and times from text and to text, by PostgreSQL's rules; one value at a time, the reference for the kernels.

Input is cut into tokens (`tokens_of`), which one `_Reading` takes in, filling in the fields that are still free: so
'2026-11-21 10:00', 'Nov 21 2026 10am', '20261121T100000Z' and '11/21/2026' go one way. Two-digit years, BC,
weekdays, Julian days, 'now', 'infinity', zone names and abbreviations are understood. Output is DateStyle ISO only.

Values: days since 1970-01-01, microseconds since midnight or since 1970-01-01 00:00 (UTC). Timestamps end where
int64 microseconds from 1970 end, in 294247; PostgreSQL's, counted from 2000, go on for 29 years more.
"""

from __future__ import annotations

import re
import time
from typing import Protocol

from filestore import errors, timezones
from filestore.query.calendar_text import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    DAY_US,
    END_DATE,
    FIRST_DAY,
    FIRST_TIMESTAMP,
    INFINITY,
    JULIAN_1970,
    MINUS_INFINITY,
    SECOND_US,
    civil_from_days,
    days_from_civil,
    days_in_month,
    format_timestamp,
)
from filestore.query.datetime_tokens import FILLERS, LABELS, MONTHS, SPECIAL, WEEKDAYS, BadSyntax, OutOfRange, tokens_of
from filestore.query.zone_abbreviations import ABBREVIATIONS
from filestore.timezones import TimeZone
from filestore.types import Kind, number_registered, registered_number

MAX_ZONE_HOURS = 15

YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, ZONE = 1, 2, 4, 8, 16, 32, 64
DATE_FIELDS = YEAR | MONTH | DAY
TIME_FIELDS = HOUR | MINUTE | SECOND


class TextSettings(Protocol):
    """What of a session's settings the text forms depend on; `Settings` is one."""

    @property
    def timezone(self) -> TimeZone: ...
    @property
    def date_order(self) -> str: ...
    @property
    def transaction_us(self) -> int: ...
    @property
    def bytea_output(self) -> str: ...
    @property
    def extra_float_digits(self) -> int: ...
    def registered_name(self, kind: Kind, oid: int) -> str:
        """How an oid of a reg* type is shown: the name it stands for, in a session."""

    def registered_oid(self, kind: Kind, text: str) -> int:
        """The oid of what a reg* type's text names; 42P01, 42704, 42883, 3F000."""


class _Defaults:
    """PostgreSQL's defaults, for values read outside any session."""

    timezone: TimeZone = timezones.UTC
    date_order = "MDY"
    bytea_output = "hex"
    extra_float_digits = 1

    @staticmethod
    def registered_name(kind: Kind, oid: int) -> str:
        """The number, or a type's name: nothing else is known here."""
        return registered_number(kind, oid)

    @staticmethod
    def registered_oid(kind: Kind, text: str) -> int:
        """A number stands for itself: nothing else is known here."""
        return number_registered(kind, text)

    @property
    def transaction_us(self) -> int:
        return time.time_ns() // 1000


DEFAULTS: TextSettings = _Defaults()


_LABELLED = {
    "y": ("year", YEAR), "m": ("month", MONTH), "d": ("day", DAY), "h": ("hour", HOUR), "mm": ("minute", MINUTE),
}  # fmt: skip


def _fraction_us(digits: str) -> int:
    """Microseconds of '.123456789', rounded half to even on the double, as strtod and rint do."""
    if digits == ".":
        return 0
    return round(float("0" + digits) * 1e6)


def _whole(digits: str) -> int:
    if not digits.isdigit():
        raise BadSyntax
    value = int(digits)
    if value > 2**31 - 1:
        raise OutOfRange
    return value


def zone_offset(text: str) -> int:
    """Seconds east of '+05', '-0530', '+05:30', '+05:30:15'. Raises BadSyntax, or OutOfRange beyond 15:59:59."""
    parts = text[1:].split(":")
    if len(parts) > 3 or not all(p.isdigit() for p in parts):
        raise BadSyntax
    if len(parts) == 1 and len(parts[0]) > 2:
        if len(parts[0]) > 9:
            raise OutOfRange(zone=True)
        hours, minutes, seconds = int(parts[0]) // 100, int(parts[0]) % 100, 0
    else:
        hours, minutes, seconds = (int(p[:9]) for p in (*parts, "0", "0")[:3])
    if hours > MAX_ZONE_HOURS or minutes > 59 or seconds > 59:
        raise OutOfRange(zone=True)
    offset = hours * 3600 + minutes * 60 + seconds
    return -offset if text[0] == "-" else offset


class _Reading:
    """Takes tokens in and keeps what they said. `have` is a mask of the fields that are known."""

    def __init__(self, settings: TextSettings, time_only: bool) -> None:
        self.settings = settings
        self.time_only = time_only
        self.have = 0
        self.year = self.month = self.day = 0
        self.hour = self.minute = self.second = self.fraction = 0
        self.offset: int | None = None
        self.zone: TimeZone | None = None
        self.special = ""
        self.label = ""
        self.meridiem = ""
        self.before_christ = self.text_month = self.two_digits = self.julian = False

    def read(self, text: str) -> None:
        tokens = tokens_of(text)
        if not tokens:
            raise BadSyntax
        for i, (kind, token) in enumerate(tokens):
            gained = self._take(tokens, i, kind, token)
            if gained & self.have:
                raise BadSyntax
            self.have |= gained
        self._finish()

    def _take(self, tokens: list[tuple[str, str]], i: int, kind: str, token: str) -> int:
        if kind == "date":
            return self._date_token(tokens, i, token)
        if kind == "time":
            if self.label not in ("", "t"):
                raise BadSyntax
            self.label = ""
            return self._time(token)
        if kind == "zone":
            self.offset = zone_offset(token)
            return ZONE
        if kind == "number":
            return self._number_token(tokens, i, token)
        return self._word(tokens, i, token)

    def _date_token(self, tokens: list[tuple[str, str]], i: int, token: str) -> int:
        if self.time_only:
            # A date may precede a time that is wanted alone: '2026-11-21 10:00'::time.
            if i == 0 and len(tokens) >= 2 and (tokens[-1][0] == "date" or tokens[1][0] == "time"):
                return self._date(token)
        elif not self.label and self.have & (MONTH | DAY) != MONTH | DAY:
            return self._date(token)
        if token[0].isdigit() or self.label:
            if self.label not in ("", "t") or self.have & TIME_FIELDS == TIME_FIELDS or "-" not in token:
                raise BadSyntax
            self.label = ""
            at = token.index("-")
            self.offset = zone_offset(token[at:])
            have = self.have | (DATE_FIELDS if self.time_only else 0)
            return self._run_together(token[:at], have) | ZONE
        self.zone = timezones.named(token)
        if self.zone is None:
            raise errors.InvalidParameterValue(f'time zone "{token}" not recognized')
        return ZONE

    def _number_token(self, tokens: list[tuple[str, str]], i: int, token: str) -> int:
        if self.label:
            return self._labelled(token)
        if self.time_only:
            if i == 0 and len(tokens) >= 2 and tokens[-1][0] == "date":
                return self._date(token)
            return self._run_together(token, self.have | DATE_FIELDS)
        point = token.find(".")
        if point >= 0 and not self.have & DATE_FIELDS:
            return self._date(token)
        if point > 2:
            return self._run_together(token, self.have)
        done = DATE_FIELDS | TIME_FIELDS
        if len(token) >= 6 and self.have & done != done:
            return self._run_together(token, self.have)
        return self._number(token, self.have)

    def _labelled(self, token: str) -> int:
        """The number after 'J' or 'T' (and the rarer y, m, d, h, mm, s)."""
        label, self.label = self.label, ""
        whole, point, fraction = token.partition(".")
        if label == "t":
            return self._run_together(token, self.have | DATE_FIELDS)
        if point and label not in ("j", "s"):
            raise BadSyntax
        value = _whole(whole)
        if label == "j":
            self.year, self.month, self.day = civil_from_days(value - JULIAN_1970)
            self.julian = True
            if not point:
                return DATE_FIELDS
            self._set_time(int(float("0." + (fraction or "0")) * DAY_US))
            return DATE_FIELDS | TIME_FIELDS
        if label == "s":
            self.second, self.fraction = value, _fraction_us(point + fraction) if point else 0
            return SECOND
        if label == "m" and self.have & MONTH and self.have & HOUR:
            label = "mm"
        name, mask = _LABELLED[label]
        setattr(self, name, value)
        return mask

    def _set_time(self, microseconds: int) -> None:
        seconds, self.fraction = divmod(microseconds, SECOND_US)
        minutes, self.second = divmod(seconds, 60)
        self.hour, self.minute = divmod(minutes, 60)

    def _run_together(self, token: str, have: int) -> int:
        """YYYYMMDD, YYMMDD, HHMMSS[.fff] or HHMM, whichever is still wanted."""
        whole, point, fraction = token.partition(".")
        if point:
            self.fraction = _fraction_us(point + fraction)
        elif have & DATE_FIELDS != DATE_FIELDS and len(whole) >= 6:
            self.day, self.month, self.year = int(whole[-2:]), int(whole[-4:-2]), _whole(whole[:-4])
            self.two_digits = len(whole) == 6
            return DATE_FIELDS
        if have & TIME_FIELDS != TIME_FIELDS and whole.isdigit():
            if len(whole) == 6:
                self.hour, self.minute, self.second = int(whole[:2]), int(whole[2:4]), int(whole[4:])
                return TIME_FIELDS
            if len(whole) == 4:
                self.hour, self.minute, self.second = int(whole[:2]), int(whole[2:]), 0
                return TIME_FIELDS
        raise BadSyntax

    def _number(self, token: str, have: int) -> int:
        """A number on its own: year, month or day by what is known, its length and DateStyle's order."""
        whole, point, fraction = token.partition(".")
        if point:
            if len(whole) > 2:
                return self._run_together(token, have | DATE_FIELDS)
            self.fraction = _fraction_us(point + fraction)
        value = _whole(whole)
        known = have & DATE_FIELDS
        length = len(token)
        if length == 3 and known == YEAR and 1 <= value <= 366:
            days = days_from_civil(self.year, 1, 1) + value - 1
            self.year, self.month, self.day = civil_from_days(days)
            return MONTH | DAY
        gained = self._place(token, value, known, length, have)
        if gained == YEAR:
            self.two_digits = length <= 2
        return gained

    def _place(self, token: str, value: int, known: int, length: int, have: int) -> int:
        order = self.settings.date_order
        if known == 0:
            target = YEAR if length >= 3 or order == "YMD" else DAY if order == "DMY" else MONTH
        elif known == YEAR:
            target = MONTH
        elif known == MONTH and self.text_month:
            target = YEAR if length >= 3 or order == "YMD" else DAY
        elif known == YEAR | MONTH and self.text_month and length >= 3 and self.two_digits:
            # 'Feb 07 1997': what was taken for a year is the day.
            self.day, self.year, self.two_digits = self.year, value, False
            return DAY
        elif known in (MONTH, YEAR | MONTH):
            target = DAY
        elif known == DAY:
            target = MONTH
        elif known == MONTH | DAY:
            target = YEAR
        elif known == DATE_FIELDS:
            return self._run_together(token, have)
        else:
            raise BadSyntax
        setattr(self, {YEAR: "year", MONTH: "month", DAY: "day"}[target], value)
        return target

    def _date(self, token: str) -> int:
        """'2026-11-21', '11/21/2026', '21-Nov-2026', '2026.325'."""
        parts = re.findall(r"[0-9]+|[a-z]+|[^0-9a-z]", token)
        fields = [p for p in parts if p[0].isalnum()]
        if not fields or not parts[0][0].isalnum() or not parts[-1][0].isalnum():
            raise BadSyntax
        have, gained = self.have, 0
        numbers = []
        for field in fields:
            if field[0].isdigit():
                numbers.append(field)
                continue
            if field in WEEKDAYS or field in FILLERS:
                continue
            if field not in MONTHS or have & MONTH:
                raise BadSyntax
            self.month, self.text_month = MONTHS[field], True
            have |= MONTH
            gained |= MONTH
        for number in numbers:
            mask = self._number(number, have)
            if have & mask:
                raise BadSyntax
            have |= mask
            gained |= mask
        if have & DATE_FIELDS != DATE_FIELDS or have & ~(DATE_FIELDS | ZONE | self.have):
            raise BadSyntax
        return gained

    def _time(self, token: str) -> int:
        self.hour, self.minute, self.second, self.fraction = clock_fields(token)
        if self.hour > 24 or (self.hour == 24 and (self.minute or self.second or self.fraction)):
            raise OutOfRange
        return TIME_FIELDS

    def _word(self, tokens: list[tuple[str, str]], i: int, token: str) -> int:
        if token in SPECIAL or token == "zulu":
            return self._special(token)
        if token in ABBREVIATIONS:
            self.offset = ABBREVIATIONS[token]
            return ZONE
        if token in MONTHS:
            if self.have & MONTH and not self.text_month and not self.have & DAY and 1 <= self.month <= 31:
                # '21 Nov': the number that was taken for a month is the day.
                self.day, self.month, self.text_month = self.month, MONTHS[token], True
                return DAY
            self.month, self.text_month = MONTHS[token], True
            return MONTH
        if token in WEEKDAYS or token in FILLERS:
            return 0
        if token in ("am", "pm"):
            self.meridiem = token
            return 0
        if token in ("ad", "bc"):
            self.before_christ = token == "bc"
            return 0
        if token == "t":
            ready = self.time_only or self.have & DATE_FIELDS == DATE_FIELDS
            if not ready or i + 1 == len(tokens) or tokens[i + 1][0] not in ("number", "time", "date"):
                raise BadSyntax
            self.label = "t"
            return 0
        if token in LABELS:
            self.label = "j" if token[0] == "j" else token
            return 0
        zone = timezones.named(token)
        if zone is None:
            raise BadSyntax
        self.zone = zone
        return ZONE

    def _special(self, token: str) -> int:
        if token == "allballs" or token == "zulu":
            self.offset = 0
            return (TIME_FIELDS if token == "allballs" else 0) | ZONE
        if token in ("now", "today", "tomorrow", "yesterday"):
            utc_us = self.settings.transaction_us
            offset = self.settings.timezone.offset_at(utc_us)
            days, clock = divmod(utc_us + offset * SECOND_US, DAY_US)
            days += {"tomorrow": 1, "yesterday": -1}.get(token, 0)
            self.year, self.month, self.day = civil_from_days(days)
            self.julian = True  # a whole year already
            if token != "now":
                return DATE_FIELDS
            self._set_time(clock)
            self.offset = offset
            return DATE_FIELDS | TIME_FIELDS | ZONE
        self.special = token
        return DATE_FIELDS | TIME_FIELDS | ZONE

    def _finish(self) -> None:
        if self.special:
            if self.time_only:
                raise BadSyntax
            return
        if not self.time_only or self.have & DATE_FIELDS:
            self._check_date()
        if self.meridiem:
            if self.hour > 12:
                raise OutOfRange
            self.hour = self.hour % 12 + (12 if self.meridiem == "pm" else 0)
        if self.minute > 59 or self.second > 60 or self.hour > 24:
            raise OutOfRange
        if self.clock_us() > DAY_US:
            raise OutOfRange
        wanted = TIME_FIELDS if self.time_only else DATE_FIELDS
        if self.have & wanted != wanted:
            raise BadSyntax
        if self.time_only and self.zone is not None and self.zone.fixed_offset is None and not self.have & DATE_FIELDS:
            raise BadSyntax  # the offset of such a zone depends on a date

    def _check_date(self) -> None:
        if self.have & YEAR and not self.julian:
            if self.before_christ:
                if self.year <= 0:
                    raise OutOfRange
                self.year = 1 - self.year
            elif self.two_digits:
                self.year += 2000 if self.year < 70 else 1900 if self.year < 100 else 0
            elif self.year <= 0:
                raise OutOfRange
        if self.have & MONTH and not 1 <= self.month <= 12:
            raise OutOfRange(order=True)
        if self.have & DAY and not 1 <= self.day <= 31:
            raise OutOfRange(order=True)
        if self.have & DATE_FIELDS == DATE_FIELDS and self.day > days_in_month(self.year, self.month):
            raise OutOfRange

    def days(self) -> int:
        return days_from_civil(self.year, self.month, self.day)

    def clock_us(self) -> int:
        return ((self.hour * 60 + self.minute) * 60 + self.second) * SECOND_US + self.fraction


def clock_fields(token: str, fields: str = "") -> tuple[int, int, int, int]:
    """(hour, minute, second, microsecond) of 'h:m[:s[.f]]'; 'm:s.f' and 'minute to second' begin with minutes."""
    found = re.fullmatch(r"([0-9]+):([0-9]*)(?::([0-9]*))?(\.[0-9]*)?", token)
    if found is None:
        raise BadSyntax
    hour, minute = int(found[1][:20]), _whole(found[2] or "0")
    second = _whole(found[3] or "0")
    fraction = _fraction_us(found[4]) if found[4] else 0
    if found[3] is None and (found[4] is not None or fields == "minute to second"):
        hour, minute, second = 0, hour, minute
    if minute > 59 or second > 60:
        raise OutOfRange
    return hour, minute, second, fraction


def _read(text: str, type_name: str, settings: TextSettings, time_only: bool = False) -> _Reading:
    reading = _Reading(settings, time_only)
    try:
        reading.read(text)
    except BadSyntax:
        raise errors.InvalidDatetimeFormat(f'invalid input syntax for type {type_name}: "{text}"') from None
    except OutOfRange as problem:
        raise _range_error(text, problem) from None
    return reading


def _range_error(text: str, problem: OutOfRange) -> errors.DataError:
    if problem.zone:
        return errors.InvalidTimeZone(f'time zone displacement out of range: "{text}"')
    hint = 'Perhaps you need a different "datestyle" setting.' if problem.order else None
    return errors.DatetimeOverflow(f'date/time field value out of range: "{text}"', hint=hint)


def parse_date(text: str, settings: TextSettings = DEFAULTS) -> int:
    """Days since 1970-01-01; infinity is the greatest int4. Errors with 22007, 22008, 22009."""
    reading = _read(text, "date", settings)
    if reading.special:
        if reading.special == "epoch":
            return 0
        return DATE_INFINITY if reading.special == "infinity" else DATE_MINUS_INFINITY
    days = reading.days()
    if not FIRST_DAY <= days < END_DATE:
        raise errors.DatetimeOverflow(f'date out of range: "{text}"')
    return days


def parse_time(text: str, settings: TextSettings = DEFAULTS) -> int:
    """Microseconds since midnight, 24:00:00 included. Errors with 22007, 22008, 22009."""
    return _read(text, "time", settings, time_only=True).clock_us()


def parse_timestamp(text: str, settings: TextSettings = DEFAULTS) -> int:
    """Microseconds since 1970-01-01 00:00 of the wall clock in the text; a zone in it is checked and ignored."""
    reading = _read(text, "timestamp", settings)
    if reading.special:
        return _special_timestamp(reading.special)
    return _checked_timestamp(reading.days() * DAY_US + reading.clock_us(), text)


def parse_timestamptz(text: str, settings: TextSettings = DEFAULTS) -> int:
    """Microseconds since 1970-01-01 00:00 UTC; without a zone the text is in the session's."""
    reading = _read(text, "timestamp with time zone", settings)
    if reading.special:
        return _special_timestamp(reading.special)
    local = reading.days() * DAY_US + reading.clock_us()
    offset = reading.offset
    if offset is None:
        offset = (reading.zone or settings.timezone).offset_of_local(local)
    return _checked_timestamp(local - offset * SECOND_US, text)


def _special_timestamp(word: str) -> int:
    if word == "epoch":
        return 0
    return INFINITY if word == "infinity" else MINUS_INFINITY


def _checked_timestamp(value: int, text: str) -> int:
    if not FIRST_TIMESTAMP <= value < INFINITY:
        raise errors.DatetimeOverflow(f'timestamp out of range: "{text}"')
    return value


def format_timestamptz(value: int, settings: TextSettings = DEFAULTS) -> str:
    """ISO text in the session's zone."""
    if value in (INFINITY, MINUS_INFINITY):
        return format_timestamp(value)
    return format_timestamp(value, settings.timezone.offset_at(value))
