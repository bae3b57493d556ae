"""Kernels that print columns: values in, bytes out, one after the other in one pass.

Shared form: `out` uint8[] is large enough for the widest text of every row, `offsets` int64[n + 1] receives where each
value begins; rows with `valid` false get no bytes (`valid` of length 0 means no nulls). Every kernel returns the bytes
written. The plain twins are the format functions of `literals`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import inlined

# "000102...99": two digits at a time halves the divisions.
PAIRS = np.frombuffer("".join(f"{i:02d}" for i in range(100)).encode(), np.uint8).copy()
HEX = np.frombuffer(b"0123456789abcdef", np.uint8).copy()
POWERS = np.array([10**i for i in range(19)], np.uint64)

DAY_US = 86_400_000_000
SECOND_US = 1_000_000
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)
MINUS, PLUS, POINT, ZERO, COLON, BLANK, LETTER_E = 45, 43, 46, 48, 58, 32, 101


@inlined
def put_unsigned(out: Any, at: int, value: Any) -> int:
    """Writes a uint64 in decimal; returns the position behind it."""
    digits = 1
    limit = np.uint64(10)
    while digits < 20 and value >= limit:
        digits += 1
        if digits < 20:
            limit *= np.uint64(10)
    end = at + digits
    position = end
    while value >= np.uint64(100):
        pair = np.int64(value % np.uint64(100)) * 2
        value = value // np.uint64(100)
        position -= 2
        out[position] = PAIRS[pair]
        out[position + 1] = PAIRS[pair + 1]
    if value >= np.uint64(10):
        pair = np.int64(value) * 2
        out[position - 2] = PAIRS[pair]
        out[position - 1] = PAIRS[pair + 1]
    else:
        out[position - 1] = ZERO + np.int64(value)
    return end


@inlined
def put_padded(out: Any, at: int, value: Any, width: int) -> int:
    """Writes a non-negative int with exactly `width` digits."""
    for i in range(width - 1, -1, -1):
        out[at + i] = ZERO + value % 10
        value //= 10
    return at + width


@inlined
def put_pair(out: Any, at: int, value: Any) -> int:
    out[at] = PAIRS[value * 2]
    out[at + 1] = PAIRS[value * 2 + 1]
    return at + 2


@inlined
def put_word(out: Any, at: int, word: Any) -> int:
    for i in range(len(word)):
        out[at + i] = word[i]
    return at + len(word)


INFINITY_WORD = np.frombuffer(b"infinity", np.uint8).copy()


@inlined
def put_integer(out: Any, at: int, value: Any) -> Any:
    """Writes an int64 in decimal; returns the position behind it."""
    if value < 0:
        out[at] = MINUS
        return put_unsigned(out, at + 1, np.uint64(-(value + 1)) + np.uint64(1))
    return put_unsigned(out, at, np.uint64(value))


@inlined
def put_decimal(out: Any, at: int, value: Any, scale: int, power: Any) -> Any:
    """Writes an int64 scaled by power = POWERS[scale], with `scale` digits behind the point."""
    if value < 0:
        out[at] = MINUS
        at += 1
        size = np.uint64(-(value + 1)) + np.uint64(1)
    else:
        size = np.uint64(value)
    if scale == 0:
        return put_unsigned(out, at, size)
    whole = size // power
    at = put_unsigned(out, at, whole)
    out[at] = POINT
    return put_padded(out, at + 1, np.int64(size - whole * power), scale)


@njit(nogil=True, cache=True)
def integers(values: Any, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n]; at most 20 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if not nulls or valid[i]:
            at = put_integer(out, at, values[i])
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def decimals(values: Any, scale: int, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n] scaled by 10**scale, 0 <= scale <= 18; at most 22 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    power = POWERS[scale]
    for i in range(len(values)):
        offsets[i] = at
        if not nulls or valid[i]:
            at = put_decimal(out, at, values[i], scale, power)
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def booleans(values: Any, valid: Any, out: Any, offsets: Any) -> int:
    """uint8[n]; one byte a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        out[at] = 116 if values[i] else 102
        at += 1
    offsets[len(values)] = at
    return at


@inlined
def put_date(out: Any, at: int, days: Any) -> Any:
    """Writes YYYY-MM-DD of days since 1970; returns (position, whether the year is BC)."""
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    bc = year <= 0
    if bc:
        year = 1 - year
    if year < 10_000:
        at = put_pair(out, at, year // 100)
        at = put_pair(out, at, year % 100)
    else:
        at = put_unsigned(out, at, np.uint64(year))
    out[at] = MINUS
    at = put_pair(out, at + 1, month)
    out[at] = MINUS
    at = put_pair(out, at + 1, day)
    return at, bc


@inlined
def put_bc(out: Any, at: int) -> int:
    out[at] = BLANK
    out[at + 1] = 66
    out[at + 2] = 67
    return at + 3


@inlined
def put_infinity(out: Any, at: int, negative: Any) -> int:
    if negative:
        out[at] = MINUS
        at += 1
    return put_word(out, at, INFINITY_WORD)


@inlined
def put_fraction(out: Any, at: int, fraction: Any) -> int:
    """'.123456' without trailing zeros, nothing for 0."""
    if fraction == 0:
        return at
    digits = 6
    while fraction % 10 == 0:
        fraction //= 10
        digits -= 1
    out[at] = POINT
    return put_padded(out, at + 1, fraction, digits)


@inlined
def put_clock(out: Any, at: int, microseconds: Any) -> int:
    """HH:MM:SS[.ffffff] of microseconds since midnight (or of a length of time; hours may exceed 24)."""
    seconds = microseconds // SECOND_US
    fraction = microseconds - seconds * SECOND_US
    minutes = seconds // 60
    hours = minutes // 60
    if hours < 100:
        at = put_pair(out, at, hours)
    else:
        at = put_unsigned(out, at, np.uint64(hours))
    out[at] = COLON
    at = put_pair(out, at + 1, minutes - hours * 60)
    out[at] = COLON
    at = put_pair(out, at + 1, seconds - minutes * 60)
    return put_fraction(out, at, fraction)


@njit(nogil=True, cache=True)
def dates(values: Any, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n] days; at most 16 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        days = values[i]
        if days >= INT32_MAX or days <= INT32_MIN:
            at = put_infinity(out, at, days < 0)
            continue
        at, bc = put_date(out, at, days)
        if bc:
            at = put_bc(out, at)
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def times(values: Any, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n] microseconds since midnight; at most 15 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        at = put_clock(out, at, values[i])
    offsets[len(values)] = at
    return at


@inlined
def put_offset(out: Any, at: int, offset: Any) -> int:
    """'+05:30' of seconds east."""
    out[at] = MINUS if offset < 0 else PLUS
    size = -offset if offset < 0 else offset
    at = put_pair(out, at + 1, size // 3600)
    rest = size % 3600
    if rest:
        out[at] = COLON
        at = put_pair(out, at + 1, rest // 60)
        if rest % 60:
            out[at] = COLON
            at = put_pair(out, at + 1, rest % 60)
    return at


@njit(nogil=True, cache=True)
def timestamps(values: Any, zone_offsets: Any, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n] microseconds; zone_offsets int64[n] seconds east, int64[1] for all rows, int64[0] for no zone.

    At most 41 bytes a row.
    """
    nulls = len(valid) > 0
    zones = len(zone_offsets)
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        value = values[i]
        if value == INT64_MAX or value == INT64_MIN:  # noqa: SIM109 - a tuple test is slower here
            at = put_infinity(out, at, value < 0)
            continue
        offset = 0 if zones == 0 else zone_offsets[0] if zones == 1 else zone_offsets[i]
        # The day first, so that an offset cannot overflow at the end of time.
        days = value // DAY_US
        clock = value - days * DAY_US + offset * SECOND_US
        if clock < 0:
            clock += DAY_US
            days -= 1
        elif clock >= DAY_US:
            clock -= DAY_US
            days += 1
        at, bc = put_date(out, at, days)
        out[at] = BLANK
        at = put_clock(out, at + 1, clock)
        if zones:
            at = put_offset(out, at, offset)
        if bc:
            at = put_bc(out, at)
    offsets[len(values)] = at
    return at


@inlined
def put_hex(out: Any, at: int, byte: Any) -> int:
    out[at] = HEX[byte >> 4]
    out[at + 1] = HEX[byte & 15]
    return at + 2


@njit(nogil=True, cache=True)
def uuids(raw: Any, valid: Any, out: Any, offsets: Any) -> int:
    """uint8[n, 16]; 36 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(raw)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        for j in range(16):
            if j == 4 or j == 6 or j == 8 or j == 10:
                out[at] = MINUS
                at += 1
            at = put_hex(out, at, raw[i, j])
    offsets[len(raw)] = at
    return at


YEAR_WORD = np.frombuffer(b" year", np.uint8).copy()
MON_WORD = np.frombuffer(b" mon", np.uint8).copy()
DAY_WORD = np.frombuffer(b" day", np.uint8).copy()


@inlined
def put_part(out: Any, at: int, start: int, number: Any, word: Any, negative: Any) -> int:
    """One 'n units' of an interval that begins at `start`; `negative` when the part before it was."""
    if at > start:
        out[at] = BLANK
        at += 1
    if number < 0:
        out[at] = MINUS
        at = put_unsigned(out, at + 1, np.uint64(-number))
    else:
        if negative:
            out[at] = PLUS
            at += 1
        at = put_unsigned(out, at, np.uint64(number))
    at = put_word(out, at, word)
    if number != 1:
        out[at] = 115
        at += 1
    return at


@njit(nogil=True, cache=True)
def intervals(words: Any, valid: Any, out: Any, offsets: Any) -> int:
    """int64[n, 2] (months | days << 32, microseconds); at most 80 bytes a row."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(words)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        start = at
        days = words[i, 0] >> 32
        months = words[i, 0] & 0xFFFFFFFF
        if months >= 0x80000000:
            months -= 0x100000000
        years = months // 12 if months >= 0 else -(-months // 12)
        months -= years * 12
        negative = False
        if years:
            at = put_part(out, at, start, years, YEAR_WORD, negative)
            negative = years < 0
        if months:
            at = put_part(out, at, start, months, MON_WORD, negative)
            negative = months < 0
        if days:
            at = put_part(out, at, start, days, DAY_WORD, negative)
            negative = days < 0
        clock = words[i, 1]
        if clock != 0 or at == start:
            if at > start:
                out[at] = BLANK
                at += 1
            if clock < 0:
                out[at] = MINUS
                at += 1
                # Divided before negating, so that the least int64 prints as well.
                seconds = -(clock // SECOND_US)
                fraction = clock + seconds * SECOND_US
                if fraction:
                    seconds -= 1
                    fraction = SECOND_US - fraction
                at = put_clock(out, at, seconds * SECOND_US)
                at = put_fraction(out, at, fraction)
            else:
                if negative:
                    out[at] = PLUS
                    at += 1
                at = put_clock(out, at, clock)
    offsets[len(words)] = at
    return at


@njit(nogil=True, cache=True)
def floats(starts: Any, digits: Any, fixed_digits: int, valid: Any, out: Any, offsets: Any) -> int:
    """Lays out shortest decimals ('1e+20', '-1.5E-7', 'nan', 'inf') as PostgreSQL does; at most 26 bytes a row.

    starts int64[n + 1] into digits uint8[]; an exponent is printed below 1e-4 and from 10**fixed_digits (15 for double,
    6 for real).
    """
    nulls = len(valid) > 0
    at = 0
    mantissa = np.empty(32, np.uint8)
    n = len(starts) - 1
    for i in range(n):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        j = starts[i]
        end = starts[i + 1]
        negative = digits[j] == MINUS
        if negative:
            j += 1
        first = digits[j]
        if first == 110 or first == 78:  # n, N
            out[at] = 78
            out[at + 1] = 97
            out[at + 2] = 78
            at += 3
            continue
        if negative:
            out[at] = MINUS
            at += 1
        if first == 105 or first == 73:  # i, I
            at = put_word(out, at, INFINITY_WORD)
            out[at - 8] = 73
            continue
        count = 0
        point = 0
        seen_point = False
        exponent: Any = 0
        while j < end:
            c = digits[j]
            j += 1
            if c == POINT:
                seen_point = True
            elif c == LETTER_E or c == 69:
                minus = digits[j] == MINUS
                if minus or digits[j] == PLUS:
                    j += 1
                while j < end:
                    exponent = exponent * 10 + (digits[j] - ZERO)
                    j += 1
                if minus:
                    exponent = -exponent
            elif count == 0 and c == ZERO:
                if seen_point:
                    point -= 1
            else:
                if count < 32:
                    mantissa[count] = c
                    count += 1
                if not seen_point:
                    point += 1
        while count > 0 and mantissa[count - 1] == ZERO:
            count -= 1
        point += exponent
        at = put_float(out, at, mantissa, count, point, fixed_digits)
    offsets[n] = at
    return at


@njit(nogil=True, cache=True)
def float_ties(starts: Any, digits: Any, rows: Any, significands: Any, out: Any) -> None:
    """Sets out[k] where the decimal of row rows[k] lies just between two floats: its odd part is that of the middle
    between the significand (uint64, even) and a neighbour. All decimals are integers without leading zeros.
    """
    five, ten, one = np.uint64(5), np.uint64(10), np.uint64(1)
    for k in range(len(rows)):
        value, power, after, point = np.uint64(0), 0, 0, False
        j, end = starts[rows[k]], starts[rows[k] + 1]
        while j < end:
            c = digits[j]
            j += 1
            if c == LETTER_E or c == 69:
                exponent: Any = 0
                while j < end:
                    if digits[j] != PLUS:
                        exponent = exponent * 10 + (digits[j] - ZERO)
                    j += 1
                power += exponent
            elif c == POINT:
                point = True
            elif c != MINUS:
                after += point
                if c == ZERO:
                    power += 1  # perhaps the last: counted, and undone when another digit follows
                else:
                    while power > 0:
                        value *= ten
                        power -= 1
                    value = value * ten + np.uint64(c - ZERO)
        power -= after
        fives = one
        for _ in range(min(power, 24)):
            fives *= five
        while value and value & one == 0:
            value >>= one
        m = significands[k] * np.uint64(2)
        # Below a power of two the floats are twice as dense.
        for middle in (m - one, m + one, m * np.uint64(2) - one):
            if middle % fives == 0 and middle // fives == value:
                out[k] = True


@inlined
def put_float(out: Any, at: int, mantissa: Any, count: int, point: int, fixed_digits: int) -> int:
    """0.mantissa * 10**point; `count` digits without zeros at either end."""
    if count == 0:
        out[at] = ZERO
        return at + 1
    scientific = point - 1
    if scientific < -4 or scientific >= fixed_digits:
        out[at] = mantissa[0]
        at += 1
        if count > 1:
            out[at] = POINT
            at += 1
            for k in range(1, count):
                out[at] = mantissa[k]
                at += 1
        out[at] = LETTER_E
        out[at + 1] = MINUS if scientific < 0 else PLUS
        at += 2
        size = -scientific if scientific < 0 else scientific
        if size < 10:
            out[at] = ZERO
            at += 1
        return put_unsigned(out, at, np.uint64(size))
    if point <= 0:
        out[at] = ZERO
        out[at + 1] = POINT
        at += 2
        for _ in range(-point):
            out[at] = ZERO
            at += 1
        for k in range(count):
            out[at] = mantissa[k]
            at += 1
        return at
    whole = count if count > point else point
    for k in range(whole):
        if k == point:
            out[at] = POINT
            at += 1
        out[at] = mantissa[k] if k < count else ZERO
        at += 1
    return at


@inlined
def put_short(out: Any, at: int, value: Any) -> int:
    out[at] = (value >> 8) & 0xFF
    out[at + 1] = value & 0xFF
    return at + 2


@inlined
def put_int(out: Any, at: int, value: Any) -> int:
    out[at] = (value >> 24) & 0xFF
    out[at + 1] = (value >> 16) & 0xFF
    out[at + 2] = (value >> 8) & 0xFF
    out[at + 3] = value & 0xFF
    return at + 4
