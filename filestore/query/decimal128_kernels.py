"""Kernels over numerics of 128 bits: a row is (high int64, low as int64, scale), a two's complement with its own
number of digits after the point. Policy: see kernels.py; arithmetic of two words: limb_kernels.py.

Shared form: rows int64[n, 3]; an operand is read at row i * step, so that step 0 makes it a constant; `valid` has
length 0 when all rows count, and rows that do not count become zero. A kernel that cannot hold a result in 2**126
returns that row, else FITS; the caller then has the slow twin (Decimals, `scalar.decimals`) do the whole vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import WARMERS, frozen, inlined
from filestore.query.limb_kernels import (
    DIGITS64,
    DIGITS128,
    LIMIT,
    MAX_DISPLAY_SCALE,
    ONE,
    TENS_HIGH,
    TENS_LOW,
    ZERO,
    digit_count,
    divide,
    divide_to,
    division_scale,
    less,
    minus,
    multiply_high,
    plus,
    times_power,
    times_word,
)

FITS = -1
ZERO_DIVISOR = -2
HALF_UP, DOWN, CEILING, FLOOR = range(4)
_INT64_LIMIT = np.uint64(1 << 63)


@inlined
def load(rows: Any, i: int) -> Any:
    """(negative, high, low, scale) of a row, high and low of its magnitude."""
    high, low = np.uint64(rows[i, 0]), np.uint64(rows[i, 1])
    negative = rows[i, 0] < 0
    if negative:
        high, low = minus(ZERO, ZERO, high, low)
    return negative, high, low, rows[i, 2]


@inlined
def store(out: Any, i: int, negative: Any, high: Any, low: Any, scale: Any) -> None:
    if negative:
        high, low = minus(ZERO, ZERO, high, low)
    out[i, 0] = np.int64(high)
    out[i, 1] = np.int64(low)
    out[i, 2] = scale


@inlined
def skipped(valid: Any, out: Any, i: int) -> Any:
    """Whether row i does not count; it is made zero then."""
    if len(valid) == 0 or valid[i]:
        return False
    out[i, 0] = 0
    out[i, 1] = 0
    out[i, 2] = 0
    return True


@njit(nogil=True, cache=True)
def widen(values: Any, scale: int, out: Any) -> None:
    """Rows of int64 values scaled by 10**scale."""
    for i in range(len(values)):
        out[i, 0] = values[i] >> 63
        out[i, 1] = values[i]
        out[i, 2] = scale


@njit(nogil=True, cache=True)
def narrow(rows: Any, valid: Any, out: Any) -> int:
    """out = the rows as int64 with one scale: that scale, -1 when scales differ or a value does not fit."""
    scale = -1
    for i in range(len(rows)):
        if len(valid) > 0 and not valid[i]:
            out[i] = 0
            continue
        if rows[i, 0] != rows[i, 1] >> 63 or (scale >= 0 and rows[i, 2] != scale):
            return -1
        scale = rows[i, 2]
        out[i] = rows[i, 1]
    return max(scale, 0)


@njit(nogil=True, cache=True)
def largest_scale(rows: Any, valid: Any) -> int:
    """The greatest scale, 0 for no rows."""
    scale = 0
    for i in range(len(rows)):
        if len(valid) == 0 or valid[i]:
            scale = max(scale, rows[i, 2])
    return scale


@njit(nogil=True, cache=True)
def largest_digits(rows: Any) -> int:
    """The most decimal digits, the point left out."""
    count = 0
    for i in range(len(rows)):
        _, high, low, _ = load(rows, i)
        count = max(count, digit_count(high, low))
    return count


@inlined
def aligned(left: Any, i: int, right: Any, j: int) -> Any:
    """(fits, negative, high, low of left[i], the same of right[j], scale), both at the greater scale of the two."""
    a_negative, a_high, a_low, a_scale = load(left, i)
    b_negative, b_high, b_low, b_scale = load(right, j)
    scale = max(a_scale, b_scale)
    a_fits, a_high, a_low = times_power(a_high, a_low, scale - a_scale)
    b_fits, b_high, b_low = times_power(b_high, b_low, scale - b_scale)
    fits = a_fits and b_fits and a_high < LIMIT and b_high < LIMIT
    return fits, a_negative, a_high, a_low, b_negative, b_high, b_low, scale


@njit(nogil=True, cache=True)
def add_rows(left: Any, left_step: int, right: Any, right_step: int, negate: bool, valid: Any, out: Any) -> int:
    """out = left + right, or left - right when `negate`."""
    for i in range(len(out)):
        if skipped(valid, out, i):
            continue
        fits, a_negative, a_high, a_low, b_negative, b_high, b_low, scale = aligned(
            left, i * left_step, right, i * right_step
        )
        if not fits:
            return i
        if a_negative == (b_negative != negate):
            high, low = plus(a_high, a_low, b_high, b_low)
        elif less(a_high, a_low, b_high, b_low):
            a_negative = not a_negative
            high, low = minus(b_high, b_low, a_high, a_low)
        else:
            high, low = minus(a_high, a_low, b_high, b_low)
        if high >= LIMIT:
            return i
        store(out, i, a_negative, high, low, scale)
    return FITS


@njit(nogil=True, cache=True)
def multiply_rows(left: Any, left_step: int, right: Any, right_step: int, valid: Any, out: Any) -> int:
    """out = left * right."""
    for i in range(len(out)):
        if skipped(valid, out, i):
            continue
        a_negative, a_high, a_low, a_scale = load(left, i * left_step)
        b_negative, b_high, b_low, b_scale = load(right, i * right_step)
        if a_high != ZERO:
            a_high, a_low, b_high, b_low = b_high, b_low, a_high, a_low
        if a_high != ZERO:
            return i
        if b_high == ZERO:
            fits, high, low = True, multiply_high(a_low, b_low), a_low * b_low
        else:
            fits, high, low = times_word(b_high, b_low, a_low)
        if not fits or high >= LIMIT:
            return i
        store(out, i, a_negative != b_negative, high, low, a_scale + b_scale)
    return FITS


@njit(nogil=True, cache=True)
def divide_rows(left: Any, left_step: int, right: Any, right_step: int, valid: Any, out: Any) -> int:
    """out = left / right with the scales of select_div_scale; ZERO_DIVISOR for a division by zero."""
    for i in range(len(out)):
        if skipped(valid, out, i):
            continue
        a_negative, a_high, a_low, a_scale = load(left, i * left_step)
        b_negative, b_high, b_low, b_scale = load(right, i * right_step)
        if (b_high | b_low) == ZERO:
            return ZERO_DIVISOR
        scale = division_scale(a_high, a_low, a_scale, b_high, b_low, b_scale)
        power = scale + b_scale - a_scale
        if power < 0:
            return i
        fits, high, low = divide_to(a_high, a_low, b_high, b_low, power)
        if not fits:
            return i
        store(out, i, a_negative != b_negative, high, low, scale)
    return FITS


@njit(nogil=True, cache=True)
def remainder_rows(left: Any, left_step: int, right: Any, right_step: int, valid: Any, out: Any) -> int:
    """out = left % right with the sign of left; ZERO_DIVISOR for a division by zero."""
    for i in range(len(out)):
        if skipped(valid, out, i):
            continue
        fits, a_negative, a_high, a_low, _, b_high, b_low, scale = aligned(left, i * left_step, right, i * right_step)
        if not fits:
            return i  # before anything is read from words that may have overflowed to zero
        if (b_high | b_low) == ZERO:
            return ZERO_DIVISOR
        _, _, high, low = divide(a_high, a_low, b_high, b_low)
        store(out, i, a_negative, high, low, scale)
    return FITS


@inlined
def rounded(high: Any, low: Any, drop: Any, mode: Any, negative: Any) -> Any:
    """(high, low) of a magnitude without its last `drop` digits, drop > 0."""
    if drop > DIGITS128:
        # less than half a unit
        up = (high | low) != ZERO and ((mode == CEILING and not negative) or (mode == FLOOR and negative))
        return ZERO, ONE if up else ZERO
    ten_high, ten_low = TENS_HIGH[drop], TENS_LOW[drop]
    if high == ZERO and drop <= DIGITS64:
        upper, lower = ZERO, low // ten_low
        rest_high, rest_low = ZERO, low - lower * ten_low
    else:
        upper, lower, rest_high, rest_low = divide(high, low, ten_high, ten_low)
    if mode == HALF_UP:
        left_high, left_low = minus(ten_high, ten_low, rest_high, rest_low)
        up = not less(rest_high, rest_low, left_high, left_low)
    else:
        up = (rest_high | rest_low) != ZERO and ((mode == CEILING and not negative) or (mode == FLOOR and negative))
    if up:
        upper, lower = plus(upper, lower, ZERO, ONE)
    return upper, lower


@njit(nogil=True, cache=True)
def round_rows(rows: Any, places: Any, places_step: int, mode: int, valid: Any, out: Any) -> int:
    """out = rows with places[i] digits after the point; negative places make zeros before it."""
    for i in range(len(out)):
        if skipped(valid, out, i):
            continue
        negative, high, low, scale = load(rows, i)
        target: Any = min(max(np.int64(places[i * places_step]), -MAX_DISPLAY_SCALE), MAX_DISPLAY_SCALE)
        if target > scale:
            fits, high, low = times_power(high, low, target - scale)
        elif target < scale:
            high, low = rounded(high, low, scale - target, mode, negative)
            fits, high, low = times_power(high, low, max(-target, 0))
        else:
            fits = True
        if not fits or high >= LIMIT:
            return i
        store(out, i, negative, high, low, max(target, 0))
    return FITS


@njit(nogil=True, cache=True)
def compare_rows(left: Any, left_step: int, right: Any, right_step: int, out: Any) -> None:
    """out int8 = the sign of left - right."""
    for i in range(len(out)):
        a_negative, a_high, a_low, a_scale = load(left, i * left_step)
        b_negative, b_high, b_low, b_scale = load(right, i * right_step)
        if a_negative != b_negative:
            out[i] = -1 if a_negative else 1
            continue
        sign = np.int8(-1) if a_negative else np.int8(1)
        a_fits, a_high, a_low = times_power(a_high, a_low, max(b_scale - a_scale, 0))
        b_fits, b_high, b_low = times_power(b_high, b_low, max(a_scale - b_scale, 0))
        # What outgrows 128 bits is the greater one: only one of them was multiplied.
        if not a_fits or (b_fits and less(b_high, b_low, a_high, a_low)):
            out[i] = sign
        elif not b_fits or less(a_high, a_low, b_high, b_low):
            out[i] = -sign
        else:
            out[i] = 0


@njit(nogil=True, cache=True)
def at_scale(rows: Any, scale: int, valid: Any, high: Any, low: Any, fits: Any) -> int:
    """(high int64, low uint64) = the rows times 10**scale, exactly; fits[i] false where that is no whole number below
    2**126. Returns how many do not fit.
    """
    strangers = 0
    for i in range(len(rows)):
        high[i] = 0
        low[i] = 0
        fits[i] = True
        if len(valid) > 0 and not valid[i]:
            continue
        negative, upper, lower, own = load(rows, i)
        good = True
        if own > scale:
            drop = own - scale
            rest = upper | lower
            if drop <= DIGITS128:
                upper, lower, rest_high, rest_low = divide(upper, lower, TENS_HIGH[drop], TENS_LOW[drop])
                rest = rest_high | rest_low
            good = rest == ZERO
        else:
            good, upper, lower = times_power(upper, lower, scale - own)
            good = good and upper < LIMIT
        if not good:
            fits[i] = False
            strangers += 1
            continue
        if negative:
            upper, lower = minus(ZERO, ZERO, upper, lower)
        high[i] = np.int64(upper)
        low[i] = lower
    return strangers


@njit(nogil=True, cache=True)
def sum_rows(codes: Any, rows: Any, valid: Any, scale: int, high: Any, low: Any, scales: Any) -> int:
    """(high, low)[g] += rows at `scale`, which is at least each row's; scales[g] = the greatest scale of its rows."""
    for i in range(len(codes)):
        if len(valid) > 0 and not valid[i]:
            continue
        negative, upper, lower, own = load(rows, i)
        fits, upper, lower = times_power(upper, lower, scale - own)
        if not fits or upper >= LIMIT:
            return i
        if negative:
            upper, lower = minus(ZERO, ZERO, upper, lower)
        g = codes[i]
        upper, lower = plus(np.uint64(high[g]), low[g], upper, lower)
        # Both were below 2**126, so that the sum has kept its sign.
        if upper + LIMIT >= _INT64_LIMIT:
            return i
        high[g] = np.int64(upper)
        low[g] = lower
        scales[g] = max(scales[g], own)
    return FITS


def _warm() -> None:
    rows, out, valid = frozen(np.zeros((2, 3), np.int64)), np.zeros((2, 3), np.int64), frozen(np.zeros(0, np.bool_))
    ones = np.ones((2, 3), np.int64)
    words, low, codes = np.zeros(2, np.int64), np.zeros(2, np.uint64), np.zeros(2, np.int64)
    widen(frozen(words), 2, out)
    narrow(rows, valid, words)
    largest_scale(rows, valid)
    largest_digits(rows)
    add_rows(rows, 1, rows, 0, False, valid, out)
    multiply_rows(rows, 1, rows, 0, valid, out)
    divide_rows(rows, 1, frozen(ones), 0, valid, out)
    remainder_rows(rows, 1, frozen(ones), 0, valid, out)
    round_rows(rows, frozen(words), 1, HALF_UP, valid, out)
    compare_rows(rows, 1, rows, 0, np.zeros(2, np.int8))
    at_scale(rows, 2, valid, words, low, np.zeros(2, np.bool_))
    sum_rows(codes, rows, valid, 2, words, low, words.copy())


WARMERS.append(_warm)
