"""128-bit integers as two uint64 words, for kernels: scalars in, scalars out.

A magnitude is (high, low) below 2**126 (`LIMIT` bounds `high`), so that two of them add without a carry out. Signs are
kept beside magnitudes. Nothing here raises: what may outgrow its words says so in its first result.

Source: Hacker's Delight, 2nd edition, 9-2 to 9-5 (long division in two words); PostgreSQL 15 numeric.c,
select_div_scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from filestore.query.kernels import inlined

ZERO, ONE = np.uint64(0), np.uint64(1)
LIMIT = np.uint64(1 << 62)
DIGITS64 = 19
"""The largest power of ten in one word."""
DIGITS128 = 38
_HALF = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_BASE = np.uint64(1 << 32)
_WORD = (1 << 64) - 1

TENS = np.array([10**i for i in range(DIGITS64 + 1)], np.uint64)
TENS_HIGH = np.array([10**i >> 64 for i in range(DIGITS128 + 1)], np.uint64)
TENS_LOW = np.array([10**i & _WORD for i in range(DIGITS128 + 1)], np.uint64)

MIN_SIGNIFICANT = 16
MAX_DISPLAY_SCALE = 1000

# What is too large to be put into every caller.
_compiled = njit(nogil=True, cache=True, error_model="numpy")

_intrinsic: Any = intrinsic  # its types describe the typing function, not what kernels call


@_intrinsic
def multiply_high(_typing: Any, _left: Any, _right: Any) -> Any:
    """multiply_high(a, b): the upper word of the product of two uint64."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = context.get_value_type(types.uint64).__class__(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, wide(64)), args[0].type)

    return types.uint64(types.uint64, types.uint64), codegen


@_intrinsic
def leading_zeros(_typing: Any, _word: Any) -> Any:
    """leading_zeros(a): zero bits above the first one of a uint64; 64 for zero."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], args[0].type.__class__(1)(0))

    return types.int64(types.uint64), codegen


@inlined
def less(high: Any, low: Any, other_high: Any, other_low: Any) -> Any:
    return high < other_high or (high == other_high and low < other_low)


@inlined
def plus(high: Any, low: Any, other_high: Any, other_low: Any) -> Any:
    """Modulo 2**128; so for two's complements as well."""
    total = low + other_low
    return high + other_high + (ONE if total < low else ZERO), total


@inlined
def minus(high: Any, low: Any, other_high: Any, other_low: Any) -> Any:
    """Modulo 2**128; so for two's complements as well."""
    return high - other_high - (ONE if low < other_low else ZERO), low - other_low


@inlined
def times_word(high: Any, low: Any, factor: Any) -> Any:
    """(fits in 128 bits, high, low)."""
    over = multiply_high(high, factor)
    middle = high * factor
    top = middle + multiply_high(low, factor)
    return over == ZERO and top >= middle, top, low * factor


@inlined
def times_power(high: Any, low: Any, power: Any) -> Any:
    """(fits in 128 bits, high, low) of a magnitude times 10**power, power >= 0."""
    while power > 0 and (high | low) != ZERO:
        step = min(power, DIGITS64)
        fits, high, low = times_word(high, low, TENS[step])
        if not fits:
            return False, high, low
        power -= step
    return True, high, low


@_compiled
def divide_word(high: Any, low: Any, divisor: Any) -> Any:
    """(quotient, remainder) of two words by one; high < divisor, so that the quotient is one word."""
    if high == ZERO:
        quotient = low // divisor
        return quotient, low - quotient * divisor
    shift = np.uint64(leading_zeros(divisor))
    divisor <<= shift
    top, bottom = divisor >> _HALF, divisor & _MASK
    if shift > ZERO:
        high = (high << shift) | (low >> (np.uint64(64) - shift))
        low <<= shift
    first, rest = _half_digit(high, low >> _HALF, divisor, top, bottom)
    second, rest = _half_digit(rest, low & _MASK, divisor, top, bottom)
    return (first << _HALF) + second, rest >> shift


@inlined
def _half_digit(high: Any, half: Any, divisor: Any, top: Any, bottom: Any) -> Any:
    """One 32-bit digit of the quotient of (high, half), and what is left."""
    digit = high // top
    rest = high - digit * top
    while digit >= _BASE or digit * bottom > (rest << _HALF) + half:
        digit -= ONE
        rest += top
        if rest >= _BASE:
            break
    return digit, (high << _HALF) + half - digit * divisor


@_compiled
def divide(high: Any, low: Any, divisor_high: Any, divisor_low: Any) -> Any:
    """(quotient high, low, remainder high, low) of magnitudes; the divisor is not zero."""
    if divisor_high == ZERO:
        upper = high // divisor_low
        quotient, rest = divide_word(high - upper * divisor_low, low, divisor_low)
        return upper, quotient, ZERO, rest
    if less(high, low, divisor_high, divisor_low):
        return ZERO, ZERO, high, low
    # The divisor's upper word, normalised, into half the dividend: the quotient or one more than it.
    shift = np.uint64(leading_zeros(divisor_high))
    top = divisor_high << shift
    if shift > ZERO:
        top |= divisor_low >> (np.uint64(64) - shift)
    quotient, _ = divide_word(high >> ONE, (high << np.uint64(63)) | (low >> ONE), top)
    quotient >>= np.uint64(63) - shift
    if quotient > ZERO:
        quotient -= ONE
    _, product_high, product_low = times_word(divisor_high, divisor_low, quotient)
    high, low = minus(high, low, product_high, product_low)
    if not less(high, low, divisor_high, divisor_low):
        quotient += ONE
        high, low = minus(high, low, divisor_high, divisor_low)
    return ZERO, quotient, high, low


@inlined
def bit_length(high: Any, low: Any) -> Any:
    return 128 - leading_zeros(high) if high != ZERO else 64 - leading_zeros(low)


@inlined
def digit_count(high: Any, low: Any) -> Any:
    """Decimal digits of a magnitude; 0 for zero."""
    count = bit_length(high, low) * 1233 >> 12  # times log10(2), rounded down
    return count if less(high, low, TENS_HIGH[count], TENS_LOW[count]) else count + 1


@_compiled
def weight_and_digit(high: Any, low: Any, scale: Any) -> Any:
    """numeric.c's weight of the first base-10000 digit of a magnitude / 10**scale, and that digit; (0, 0) for zero."""
    if (high | low) == ZERO:
        return 0, 0
    weight = (digit_count(high, low) - 1 - scale) >> 2
    behind = 4 * weight + scale
    if behind < 0:
        return weight, np.int64(low * TENS[-behind])
    if high == ZERO and behind <= DIGITS64:
        return weight, np.int64(low // TENS[behind])
    _, digit, _, _ = divide(high, low, TENS_HIGH[behind], TENS_LOW[behind])
    return weight, np.int64(digit)


@_compiled
def division_scale(
    high: Any, low: Any, scale: Any, divisor_high: Any, divisor_low: Any, divisor_scale: Any
) -> Any:
    """Digits after the point of a quotient: numeric.c's select_div_scale."""
    left_weight, left_digit = weight_and_digit(high, low, scale)
    right_weight, right_digit = weight_and_digit(divisor_high, divisor_low, divisor_scale)
    weight = left_weight - right_weight - (1 if left_digit <= right_digit else 0)
    found = max(MIN_SIGNIFICANT - 4 * weight, scale, divisor_scale, 0)
    return min(found, MAX_DISPLAY_SCALE)


@_compiled
def divide_to(high: Any, low: Any, divisor_high: Any, divisor_low: Any, power: Any) -> Any:
    """(fits, high, low) of magnitude * 10**power / divisor, rounded half up; power >= 0, the divisor is not zero.

    Digits are made as many at a time as the remainder leaves room for.
    """
    upper, lower, rest_high, rest_low = divide(high, low, divisor_high, divisor_low)
    room = DIGITS64
    if divisor_high != ZERO:
        room = min(leading_zeros(divisor_high) * 1233 >> 12, DIGITS64)
        if room == 0:
            return False, upper, lower
    while power > 0 and (upper | lower | rest_high | rest_low) != ZERO:
        step = min(power, room)
        power -= step
        fits, upper, lower = times_word(upper, lower, TENS[step])
        if not fits or upper >= LIMIT:
            return False, upper, lower
        if divisor_high == ZERO:
            digits, rest_low = divide_word(multiply_high(rest_low, TENS[step]), rest_low * TENS[step], divisor_low)
        else:
            _, rest_high, rest_low = times_word(rest_high, rest_low, TENS[step])
            _, digits, rest_high, rest_low = divide(rest_high, rest_low, divisor_high, divisor_low)
        upper, lower = plus(upper, lower, ZERO, digits)
    # Twice the rest reaches the divisor, told without doubling: the rest may fill its word.
    left_high, left_low = minus(divisor_high, divisor_low, rest_high, rest_low)
    if not less(rest_high, rest_low, left_high, left_low):
        upper, lower = plus(upper, lower, ZERO, ONE)
    return upper < LIMIT, upper, lower
