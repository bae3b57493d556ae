"""Time zones as tables of transitions, so that a zone's offset is an array lookup for one value as for a million.

A `TimeZone` is either a fixed offset or the transitions of an IANA zone, found once per zone by probing Python's
zoneinfo and kept for the life of the process. The Gregorian calendar repeats every 400 years to the weekday, so
instants after the table's end are moved back by whole 400-year cycles; instants before its start have the zone's first
(local mean) offset. Offsets are seconds east of Greenwich, instants microseconds since 1970 UTC.

A POSIX zone counts west of Greenwich as positive, as in PostgreSQL: `+03:30` as a name is three and a half hours west,
while the number 3.5 is as much east.

A local time that a transition skipped or repeated is read in standard time, as PostgreSQL does: with the offset before
the gap, after the overlap.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from bisect import bisect_right
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filestore import errors

Array = NDArray[Any]

DAY_SECONDS = 86_400
SECOND_US = 1_000_000
FIRST_YEAR = 1840  # no zone left local mean time before
CYCLE_SECONDS = 146_097 * DAY_SECONDS  # 400 Gregorian years
CYCLE_FROM_YEAR = 2040  # rules of all zones are periodic from here on
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEVER_S = -(1 << 60)


class TimeZone:
    """A zone: `name` as SHOW TimeZone prints it. Immutable; used from any thread."""

    __slots__ = ("_abbreviation", "_first_cycle_s", "_instants", "_offsets", "_source", "instants", "name", "offsets")

    def __init__(
        self,
        name: str,
        instants: list[int],
        offsets: list[int],
        abbreviation: str = "",
        source: zoneinfo.ZoneInfo | None = None,
    ) -> None:
        """instants[k] is the second at which offsets[k] begins to hold; instants[0] is before everything. `source`, an
        IANA zone, knows the abbreviations."""
        self.name = name
        self._abbreviation = abbreviation
        self._source = source
        self._instants = instants
        self._offsets = offsets
        self.instants: Array = np.array(instants, np.int64)
        self.offsets: Array = np.array(offsets, np.int64)
        self._first_cycle_s = _year_start_s(CYCLE_FROM_YEAR + 400)

    def __repr__(self) -> str:
        return f"TimeZone({self.name!r})"

    def abbreviation_at(self, utc_us: int) -> str:
        """What the zone calls itself at an instant, as to_char's TZ shows it: `CEST`, `+03`; empty without a name."""
        if self._source is None:
            return self._abbreviation
        second = self._folded(utc_us // SECOND_US)
        moment = _EPOCH + dt.timedelta(seconds=max(second, _year_start_s(FIRST_YEAR)))
        return moment.astimezone(self._source).tzname() or ""

    @property
    def fixed_offset(self) -> int | None:
        """Seconds east when the zone never changes, else None."""
        return self._offsets[0] if len(self._offsets) == 1 else None

    def _folded(self, seconds: int) -> int:
        if seconds < self._first_cycle_s:
            return seconds
        return seconds - ((seconds - self._first_cycle_s) // CYCLE_SECONDS + 1) * CYCLE_SECONDS

    def offset_at(self, utc_us: int) -> int:
        """Seconds east of Greenwich at an instant."""
        if len(self._offsets) == 1:
            return self._offsets[0]
        return self._offsets[bisect_right(self._instants, self._folded(utc_us // SECOND_US)) - 1]

    def offset_of_local(self, local_us: int) -> int:
        """Seconds east for a local wall-clock time (microseconds as if it were UTC)."""
        if len(self._offsets) == 1:
            return self._offsets[0]
        local_s = self._folded(local_us // SECOND_US)
        k = bisect_right(self._instants, local_s - DAY_SECONDS) - 1
        before = self._offsets[k]
        if k + 1 == len(self._instants) or self._instants[k + 1] > local_s + DAY_SECONDS:
            return before
        boundary, after = self._instants[k + 1], self._offsets[k + 1]
        return _choose(local_s, boundary, before, after)

    def offsets_at(self, utc_us: Array) -> Array:
        """int64[n] seconds east at int64[n] instants."""
        if len(self._offsets) == 1:
            return np.full(len(utc_us), self._offsets[0], np.int64)
        seconds = self._folded_many(utc_us // SECOND_US)
        return self.offsets[np.searchsorted(self.instants, seconds, side="right") - 1]

    def offsets_of_local(self, local_us: Array) -> Array:
        """int64[n] seconds east for int64[n] local wall-clock times; the vectorised twin of `offset_of_local`."""
        if len(self._offsets) == 1:
            return np.full(len(local_us), self._offsets[0], np.int64)
        seconds = self._folded_many(local_us // SECOND_US)
        k = np.searchsorted(self.instants, seconds - DAY_SECONDS, side="right") - 1
        following = np.minimum(k + 1, len(self.instants) - 1)
        boundary, before, after = self.instants[following], self.offsets[k], self.offsets[following]
        before_s, after_s = seconds - before, seconds - after
        first = (before_s < boundary) & (after_s < boundary)
        second = (before_s >= boundary) & (after_s >= boundary)
        chosen = np.where(first, before, np.where(second, after, np.minimum(before, after)))
        return np.where(boundary > seconds + DAY_SECONDS, before, chosen)

    def _folded_many(self, seconds: Array) -> Array:
        late = seconds >= self._first_cycle_s
        if not late.any():
            return seconds
        return np.where(
            late, seconds - ((seconds - self._first_cycle_s) // CYCLE_SECONDS + 1) * CYCLE_SECONDS, seconds
        )


def _choose(local_s: int, boundary: int, before: int, after: int) -> int:
    before_s, after_s = local_s - before, local_s - after
    if before_s < boundary and after_s < boundary:
        return before
    if before_s >= boundary and after_s >= boundary:
        return after
    return min(before, after)  # a skipped or repeated time: the smaller offset is standard time


def _year_start_s(year: int) -> int:
    return (dt.date(year, 1, 1).toordinal() - dt.date(1970, 1, 1).toordinal()) * DAY_SECONDS


@lru_cache(maxsize=256)
def fixed(offset: int, name: str = "", abbreviation: str | None = None) -> TimeZone:
    """The zone that is `offset` seconds east for ever; without a name it gets PostgreSQL's `<+03>-03`."""
    name = name or _posix_name(offset)
    if abbreviation is None:
        abbreviation = name.partition(">")[0].removeprefix("<")
    return TimeZone(name, [_NEVER_S], [offset], abbreviation)


UTC = fixed(0, "UTC")


def _posix_name(offset: int) -> str:
    hours, rest = divmod(abs(offset), 3600)
    text = f"{hours:02d}" + (f":{rest // 60:02d}" if rest else "") + (f":{rest % 60:02d}" if rest % 60 else "")
    return f"<{'-' if offset < 0 else '+'}{text}>{'+' if offset < 0 else '-'}{text}"


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones()}


def named(name: str) -> TimeZone | None:
    """The IANA zone of a name in any case, or a POSIX one (`UTC-3`, `<+03>-3`, `-3`); None when unknown.

    Errors with 0A000 for a POSIX zone with daylight saving time.
    """
    lowered = name.lower()
    if lowered in ("utc", "gmt", "z", "zulu"):
        return fixed(0, name.upper() if lowered in ("utc", "gmt") else name, "GMT" if lowered == "gmt" else "UTC")
    proper = _names().get(lowered)
    if proper is not None and not lowered.startswith(("posix/", "right/")):
        return _load(proper)
    return _posix(name)


_POSIX = re.compile(r"(<[^>]*>|[^\d,+-]*)([+-]?)(\d{1,3})(?::(\d{1,2}))?(?::(\d{1,2}))?(.*)\Z", re.DOTALL)
_POSIX_LIMIT_S = 168 * 3600  # a week, as PostgreSQL's getoffset


def _posix(name: str) -> TimeZone | None:
    """A POSIX zone: the sign is west-positive, also where there is no name before it (`+3` is west of Greenwich)."""
    found = _POSIX.match(name)
    if found is None:
        return None
    minutes, rest = int(found[4] or 0), int(found[5] or 0)
    seconds = int(found[3]) * 3600 + minutes * 60 + rest
    if int(found[3]) * 3600 >= _POSIX_LIMIT_S or minutes > 59 or rest > 60:
        return None
    if found[6]:
        if re.match(r"<[^>]+>|[A-Za-z]{3}", found[6]) is None:
            return None
        raise errors.FeatureNotSupported(
            f'time zone "{name}" is not supported: POSIX zones with daylight saving time are not built',
            hint="Use a named zone such as America/New_York, or a fixed one such as EST+5.",
        )
    upper = name.upper()
    return fixed(seconds if found[2] == "-" else -seconds, upper, found[1].upper().strip("<>"))


@lru_cache(maxsize=64)
def _load(name: str) -> TimeZone:
    zone = zoneinfo.ZoneInfo(name)

    def offset_at(second: int) -> int:
        moment = (_EPOCH + dt.timedelta(seconds=second)).astimezone(zone)
        offset = moment.utcoffset()
        return 0 if offset is None else offset.days * DAY_SECONDS + offset.seconds

    instants, offsets = [_NEVER_S], [offset_at(_year_start_s(FIRST_YEAR))]
    _probe(offset_at, _year_start_s(FIRST_YEAR), _year_start_s(CYCLE_FROM_YEAR), instants, offsets)
    _probe(offset_at, _year_start_s(CYCLE_FROM_YEAR), _year_start_s(CYCLE_FROM_YEAR + 400), instants, offsets)
    return TimeZone(name, instants, offsets, source=zone)


def _probe(
    offset_at: Callable[[int], int], start: int, stop: int, instants: list[int], offsets: list[int]
) -> None:
    """Appends the transitions in [start, stop): probes every fortnight, then halves to the second."""
    step = 14 * DAY_SECONDS
    low, low_offset = start, offset_at(start)
    while low < stop:
        high = min(low + step, stop)
        high_offset = offset_at(high)
        if high_offset != low_offset:
            a, b = low, high
            while b - a > 1:
                middle = (a + b) // 2
                if offset_at(middle) == low_offset:
                    a = middle
                else:
                    b = middle
            instants.append(b)
            offsets.append(offset_at(b))
        low, low_offset = high, high_offset
