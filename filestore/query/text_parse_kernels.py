"""Kernels that read columns of text: the usual spellings only.

Shared form: row i is data[starts[i]:ends[i]] (uint8[] data, int64[n] bounds), skipped where `valid` is false (length 0:
no nulls). What a kernel understands goes to `out`; any other row is marked in `bad` uint8[n] and read by `literals`,
which also words the errors. Every kernel returns the number of bad rows. So kernels may be strict, but what they accept
they must read alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

POWERS = np.array([10**i for i in range(19)], np.int64)
# Exact in a double, so that one multiplication or division rounds correctly (Clinger's fast path).
FLOAT_POWERS = np.array([10.0**i for i in range(23)], np.float64)
EXACT_DOUBLE = 2**53

DAY_US = 86_400_000_000
SECOND_US = 1_000_000
MINUS, PLUS, POINT, ZERO, COLON, BLANK = 45, 43, 46, 48, 58, 32


@njit(nogil=True, cache=True)
def integers(data: Any, starts: Any, ends: Any, valid: Any, low: int, high: int, out: Any, bad: Any) -> int:
    """[sign]digits within low..high, at most 18 digits; out int64[n]."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        if nulls and not valid[i]:
            out[i] = 0
            continue
        at, end = starts[i], ends[i]
        negative = at < end and data[at] == MINUS
        if at < end and (negative or data[at] == PLUS):
            at += 1
        value: Any = 0
        good: Any = 0 < end - at <= 18
        if good:
            while at < end:
                digit = np.int64(data[at]) - ZERO
                if digit < 0 or digit > 9:
                    good = False
                    break
                value = value * 10 + digit
                at += 1
        if negative:
            value = -value
        if good and low <= value <= high:
            out[i] = value
        else:
            out[i] = 0
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def decimals(
    data: Any, starts: Any, ends: Any, valid: Any, precision: int, scale: int, out: Any, bad: Any
) -> int:
    """[sign]digits[.digits] as int64 times 10**scale, rounded half away from zero; at most 18 significant digits."""
    nulls = len(valid) > 0
    limit = POWERS[precision]
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        negative = at < end and data[at] == MINUS
        if at < end and (negative or data[at] == PLUS):
            at += 1
        value: Any = 0
        digits = 0
        places = -1
        up: Any = False
        good: Any = True
        while at < end:
            c = np.int64(data[at])
            at += 1
            if c == POINT and places < 0:
                places = 0
                continue
            digit = c - ZERO
            if digit < 0 or digit > 9:
                good = False
                break
            digits += 1
            if places >= 0:
                places += 1
                if places > scale:
                    if places == scale + 1:
                        up = digit >= 5
                    continue
            if value >= POWERS[17]:
                good = False
                break
            value = value * 10 + digit
        good = good and digits > 0
        if good:
            missing = scale - max(places, 0)
            if missing > 0:
                if value >= POWERS[18 - missing]:
                    good = False
                else:
                    value *= POWERS[missing]
            elif up:
                value += 1
        if good and value < limit:
            out[i] = -value if negative else value
        else:
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def floats(data: Any, starts: Any, ends: Any, valid: Any, out: Any, bad: Any) -> int:
    """[sign]digits[.digits][e[sign]digits] whose digits are below 2**53 and whose power of ten is at most 22.

    out float64[n].
    """
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i] = 0.0
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        negative = at < end and data[at] == MINUS
        if at < end and (negative or data[at] == PLUS):
            at += 1
        value: Any = 0
        digits = 0
        exponent: Any = 0
        seen_point = False
        good: Any = True
        while at < end:
            c = np.int64(data[at])
            if c == POINT and not seen_point:
                seen_point = True
                at += 1
                continue
            digit = c - ZERO
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            if value >= EXACT_DOUBLE:
                good = False
                break
            digits += 1
            if seen_point:
                exponent -= 1
            at += 1
        good = good and digits > 0
        if good and at < end and (data[at] == 101 or data[at] == 69):
            at += 1
            minus = at < end and data[at] == MINUS
            if at < end and (minus or data[at] == PLUS):
                at += 1
            power: Any = 0
            good = 0 < end - at <= 3
            while good and at < end:
                digit = np.int64(data[at]) - ZERO
                good = 0 <= digit <= 9
                power = power * 10 + digit
                at += 1
            exponent += -power if minus else power
        if not good or at < end or exponent > 22 or exponent < -22:
            bad[i] = 1
            count += 1
            continue
        result = np.float64(value)
        result = result * FLOAT_POWERS[exponent] if exponent >= 0 else result / FLOAT_POWERS[-exponent]
        out[i] = -result if negative else result
    return count


@njit(nogil=True, cache=True)
def booleans(data: Any, starts: Any, ends: Any, valid: Any, out: Any, bad: Any) -> int:
    """t, f, true, false, 1, 0; out uint8[n]."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        if nulls and not valid[i]:
            continue
        at = starts[i]
        length = ends[i] - at
        if length == 1 and (data[at] == 116 or data[at] == 49):
            out[i] = 1
        elif length == 1 and (data[at] == 102 or data[at] == 48):
            continue
        elif length == 4 and data[at] == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
            out[i] = 1
        elif (
            length == 5
            and data[at] == 102
            and data[at + 1] == 97
            and data[at + 2] == 108
            and data[at + 3] == 115
            and data[at + 4] == 101
        ):
            continue
        else:
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def two(data: Any, at: int) -> Any:
    """The number of two digits, -100000 or so when they are not digits."""
    tens = np.int64(data[at]) - ZERO
    ones = np.int64(data[at + 1]) - ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -100_000
    return tens * 10 + ones


@njit(nogil=True, cache=True)
def civil_days(year: int, month: int, day: int) -> int:
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


NO_DATE = -(2**40)


@njit(nogil=True, cache=True)
def iso_date(data: Any, at: int) -> int:
    """Days of the ten bytes YYYY-MM-DD, NO_DATE when they are not a date of the years 1 to 9999."""
    if data[at + 4] != MINUS or data[at + 7] != MINUS:
        return NO_DATE
    year = two(data, at) * 100 + two(data, at + 2)
    month = two(data, at + 5)
    day = two(data, at + 8)
    if year < 1 or month < 1 or month > 12 or day < 1 or day > 31:
        return NO_DATE
    if day > 28:
        if month == 2:
            leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
            if day > (29 if leap else 28):
                return NO_DATE
        elif day == 31 and (month == 4 or month == 6 or month == 9 or month == 11):
            return NO_DATE
    return civil_days(year, month, day)


@njit(nogil=True, cache=True)
def iso_clock(data: Any, at: int, end: int) -> Any:
    """(microseconds, position behind) of HH:MM[:SS[.f to six digits]]; -1 when it is not one below 24:00."""
    if end - at < 5 or data[at + 2] != COLON:
        return -1, at
    hour = two(data, at)
    minute = two(data, at + 3)
    at += 5
    second = 0
    fraction: Any = 0
    if at < end and data[at] == COLON:
        if end - at < 3:
            return -1, at
        second = two(data, at + 1)
        at += 3
        if at < end and data[at] == POINT:
            at += 1
            digits = 0
            while at < end and digits < 7:
                digit = np.int64(data[at]) - ZERO
                if digit < 0 or digit > 9:
                    break
                fraction = fraction * 10 + digit
                digits += 1
                at += 1
            if digits == 0 or digits > 6:
                return -1, at
            for _ in range(6 - digits):
                fraction *= 10
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1, at
    return ((hour * 60 + minute) * 60 + second) * SECOND_US + fraction, at


@njit(nogil=True, cache=True)
def dates(data: Any, starts: Any, ends: Any, valid: Any, out: Any, bad: Any) -> int:
    """YYYY-MM-DD; out int32[n]."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        if nulls and not valid[i]:
            continue
        days = iso_date(data, starts[i]) if ends[i] - starts[i] == 10 else NO_DATE
        if days == NO_DATE:
            bad[i] = 1
            count += 1
        else:
            out[i] = days
    return count


@njit(nogil=True, cache=True)
def times(data: Any, starts: Any, ends: Any, valid: Any, out: Any, bad: Any) -> int:
    """HH:MM[:SS[.ffffff]]; out int64[n]."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        if nulls and not valid[i]:
            continue
        clock, at = iso_clock(data, starts[i], ends[i])
        if clock < 0 or at != ends[i]:
            bad[i] = 1
            count += 1
        else:
            out[i] = clock
    return count


@njit(nogil=True, cache=True)
def iso_zone(data: Any, at: int, end: int) -> Any:
    """Seconds east of Z, +HH, +HHMM, +HH:MM or +HH:MM:SS that fill the rest; 10**6 when it is none of them."""
    none = 1_000_000
    length = end - at
    if length == 1 and (data[at] == 90 or data[at] == 122):
        return 0
    if length < 3 or (data[at] != PLUS and data[at] != MINUS):
        return none
    hours = two(data, at + 1)
    minutes = 0
    seconds = 0
    if length == 5:
        minutes = two(data, at + 3)
    elif length == 6 and data[at + 3] == COLON:
        minutes = two(data, at + 4)
    elif length == 9 and data[at + 3] == COLON and data[at + 6] == COLON:
        minutes = two(data, at + 4)
        seconds = two(data, at + 7)
    elif length != 3:
        return none
    if hours < 0 or hours > 15 or minutes < 0 or minutes > 59 or seconds < 0 or seconds > 59:
        return none
    offset = hours * 3600 + minutes * 60 + seconds
    return -offset if data[at] == MINUS else offset


@njit(nogil=True, cache=True)
def timestamps(data: Any, starts: Any, ends: Any, valid: Any, use_zone: bool, out: Any, local: Any, bad: Any) -> int:
    """YYYY-MM-DD[( |T)HH:MM[:SS[.ffffff]][zone]]; out int64[n].

    With `use_zone` the zone is applied, and rows without one are marked in `local` uint8[n]; otherwise it is ignored.
    """
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        local[i] = 0
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        good = end - at >= 10
        days = iso_date(data, at) if good else NO_DATE
        good = days != NO_DATE
        clock = 0
        offset = 1_000_000
        at += 10
        if good and at < end:
            good = data[at] == BLANK or data[at] == 84
            if good:
                clock, at = iso_clock(data, at + 1, end)
                good = clock >= 0
                if good and at < end:
                    if data[at] == BLANK and at + 1 < end:
                        at += 1
                    offset = iso_zone(data, at, end)
                    good = offset != 1_000_000
        if not good:
            bad[i] = 1
            count += 1
            continue
        value = days * DAY_US + clock
        if use_zone:
            if offset == 1_000_000:
                local[i] = 1
            else:
                value -= offset * SECOND_US
        out[i] = value
    return count


@njit(nogil=True, cache=True)
def hex_digit(c: Any) -> Any:
    if 48 <= c <= 57:
        return c - 48
    if 97 <= c <= 102:
        return c - 87
    if 65 <= c <= 70:
        return c - 55
    return -1000


@njit(nogil=True, cache=True)
def uuids(data: Any, starts: Any, ends: Any, valid: Any, out: Any, bad: Any) -> int:
    """The 36-character form; out uint8[n, 16]."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        out[i, :] = 0
        if nulls and not valid[i]:
            continue
        at = starts[i]
        good = ends[i] - at == 36
        if good:
            for j in range(16):
                if j == 4 or j == 6 or j == 8 or j == 10:
                    good = good and data[at] == MINUS
                    at += 1
                byte = hex_digit(np.int64(data[at])) * 16 + hex_digit(np.int64(data[at + 1]))
                at += 2
                if byte < 0:
                    good = False
                    break
                out[i, j] = byte
        if not good:
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def hex_bytes(data: Any, starts: Any, ends: Any, valid: Any, out: Any, out_starts: Any, out_ends: Any, bad: Any) -> int:
    """bytea in hex form, unpacked into out uint8[] with its bounds; no blanks between the digits."""
    nulls = len(valid) > 0
    count = 0
    position = 0
    for i in range(len(starts)):
        out_starts[i] = position
        out_ends[i] = position
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        good = end - at >= 2 and data[at] == 92 and data[at + 1] == 120 and (end - at) % 2 == 0
        at += 2
        while good and at < end:
            byte = hex_digit(np.int64(data[at])) * 16 + hex_digit(np.int64(data[at + 1]))
            good = byte >= 0
            out[position] = byte & 0xFF
            position += 1
            at += 2
        if good:
            out_ends[i] = position
        else:
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def plain_numerics(data: Any, starts: Any, ends: Any, valid: Any, bad: Any) -> int:
    """Marks rows that are not a numeric's canonical text yet: -?(0|[1-9][0-9]*)(.[0-9]+)?, not minus zero, no giant."""
    nulls = len(valid) > 0
    count = 0
    for i in range(len(starts)):
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        negative = at < end and data[at] == MINUS
        if negative:
            at += 1
        whole = at
        nonzero = False
        while at < end and 48 <= data[at] <= 57:
            nonzero = nonzero or data[at] != ZERO
            at += 1
        good = at > whole and end - whole < 1000 and (data[whole] != ZERO or at == whole + 1)
        if good and at < end:
            good = data[at] == POINT and at + 1 < end
            at += 1
            while good and at < end:
                good = 48 <= data[at] <= 57
                nonzero = nonzero or data[at] != ZERO
                at += 1
        if not good or (negative and not nonzero):
            bad[i] = 1
            count += 1
    return count


@njit(nogil=True, cache=True)
def binary_decimals(
    data: Any, starts: Any, ends: Any, valid: Any, precision: int, scale: int, out: Any, bad: Any
) -> int:
    """The wire's numeric as int64 times 10**scale; values that need rounding or do not surely fit are bad."""
    nulls = len(valid) > 0
    limit = POWERS[precision]
    count = 0
    for i in range(len(starts)):
        out[i] = 0
        if nulls and not valid[i]:
            continue
        at, end = starts[i], ends[i]
        good = end - at >= 8
        value = 0
        negative = False
        if good:
            digits = np.int64(data[at]) * 256 + data[at + 1]
            weight = np.int64(data[at + 2]) * 256 + data[at + 3]
            if weight >= 32768:
                weight -= 65536
            sign = np.int64(data[at + 4]) * 256 + data[at + 5]
            negative = sign == 0x4000
            good = (sign == 0 or negative) and end - at == 8 + 2 * digits and digits <= 6
            at += 8
            power = 4 * weight + scale  # of ten, of the first group
            for _ in range(digits if good else 0):
                group = np.int64(data[at]) * 256 + data[at + 1]
                at += 2
                good = good and group < 10_000
                if power >= 0:
                    if power > 18 or group > (limit - 1) // POWERS[power]:
                        good = False
                        break
                    value += group * POWERS[power]
                elif power > -4:
                    if group % POWERS[-power] != 0:
                        good = False
                        break
                    value += group // POWERS[-power]
                elif group != 0:
                    good = False
                    break
                power -= 4
        if good and value < limit:
            out[i] = -value if negative else value
        else:
            bad[i] = 1
            count += 1
    return count
