"""Text and binary forms of numerics of 128 bits, rows as in decimal128_kernels.py. Policy: kernels.py; the form of
printing kernels: render_kernels.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.decimal128_kernels import FITS, load, store
from filestore.query.kernels import WARMERS, frozen, inlined
from filestore.query.limb_kernels import (
    DIGITS64,
    LIMIT,
    TENS,
    ZERO,
    digit_count,
    divide,
    plus,
    times_word,
)
from filestore.query.render_kernels import MINUS, POINT, put_short
from filestore.query.string_kernels import byte_of

DIGIT_0, DIGIT_9 = 48, 57
_TEN = np.uint64(10)
_GROUP = np.uint64(10_000)
_CHUNK = TENS[DIGITS64]
_LENGTH = np.uint64(0xFFFFFFFF)
_GROUPS_MAX = 12  # 38 digits, and up to 3 zeros at either end


@inlined
def joined(high: Any, low: Any, chunk: Any, digits: Any) -> Any:
    """(fits, high, low) of a magnitude with `digits` digits appended."""
    fits, high, low = times_word(high, low, TENS[digits])
    high, low = plus(high, low, ZERO, chunk)
    return fits and high < LIMIT, high, low


@njit(nogil=True, cache=True)
def parse_views(views: Any, heap: Any, valid: Any, out: Any) -> int:
    """Canonical decimal texts as rows. Returns the first that is NaN, infinite or too large, else FITS."""
    for i in range(len(views)):
        negative, fits = False, True
        high, low, chunk = ZERO, ZERO, ZERO
        pending = 0
        scale = -1
        n = np.int64(views[i, 0] & _LENGTH) if len(valid) == 0 or valid[i] else 0
        for k in range(n):
            byte = byte_of(views, heap, i, k, n)
            if byte == MINUS:
                negative = True
            elif byte == POINT:
                scale = 0
            elif DIGIT_0 <= byte <= DIGIT_9:
                if pending == DIGITS64 - 1:
                    fits, high, low = joined(high, low, chunk, pending)
                    chunk, pending = ZERO, 0
                    if not fits:
                        return i
                chunk = chunk * _TEN + np.uint64(byte - DIGIT_0)
                pending += 1
                if scale >= 0:
                    scale += 1
            else:
                return i
        fits, high, low = joined(high, low, chunk, pending)
        if not fits:
            return i
        store(out, i, negative, high, low, max(scale, 0))
    return FITS


@inlined
def put_digits(out: Any, at: int, value: Any, count: int) -> None:
    """Writes the last `count` digits of a uint64."""
    for k in range(at + count - 1, at - 1, -1):
        rest = value // _TEN
        out[k] = DIGIT_0 + np.int64(value - rest * _TEN)
        value = rest


@njit(nogil=True, cache=True)
def decimal128_text(rows: Any, valid: Any, out: Any, offsets: Any) -> int:
    """Decimal digits with the row's scale; at most 41 bytes and its scale a row."""
    digits = np.empty(2 * DIGITS64, np.uint8)
    at = 0
    for i in range(len(rows)):
        offsets[i] = at
        if len(valid) > 0 and not valid[i]:
            continue
        negative, high, low, scale = load(rows, i)
        if negative:
            out[at] = MINUS
            at += 1
        count = digit_count(high, low)
        if count > DIGITS64:
            _, first, _, low = divide(high, low, ZERO, _CHUNK)
            put_digits(digits, 0, first, count - DIGITS64)
            put_digits(digits, count - DIGITS64, low, DIGITS64)
        else:
            put_digits(digits, 0, low, count)
        whole = max(count - scale, 0)
        for k in range(whole):
            out[at + k] = digits[k]
        at += whole
        if whole == 0:
            out[at] = DIGIT_0
            at += 1
        if scale > 0:
            out[at] = POINT
            at += 1
            for _ in range(scale - count):
                out[at] = DIGIT_0
                at += 1
            for k in range(whole, count):
                out[at + k - whole] = digits[k]
            at += count - whole
    offsets[len(rows)] = at
    return at


@njit(nogil=True, cache=True)
def decimal128_binary(rows: Any, valid: Any, out: Any, offsets: Any) -> int:
    """The wire's numeric: ndigits, weight, sign, dscale, base-10000 digits; at most 32 bytes a row."""
    groups = np.empty(_GROUPS_MAX, np.int64)
    at = 0
    for i in range(len(rows)):
        offsets[i] = at
        if len(valid) > 0 and not valid[i]:
            continue
        negative, high, low, scale = load(rows, i)
        # Groups from the last one on, which may be filled up with zeros.
        behind = (scale + 3) >> 2
        missing = 4 * behind - scale
        count = 0
        if missing > 0 and (high | low) != ZERO:
            high, low, _, group = divide(high, low, ZERO, TENS[4 - missing])
            groups[0] = np.int64(group * TENS[missing])
            count = 1
        while (high | low) != ZERO:
            high, low, _, group = divide(high, low, ZERO, _GROUP)
            groups[count] = np.int64(group)
            count += 1
        last = 0
        while last < count and groups[last] == 0:
            last += 1
        at = put_short(out, at, count - last)
        at = put_short(out, at, count - behind - 1 if count > last else 0)
        at = put_short(out, at, 0x4000 if negative else 0)
        at = put_short(out, at, scale)
        for k in range(count - 1, last - 1, -1):
            at = put_short(out, at, groups[k])
    offsets[len(rows)] = at
    return at


def _warm() -> None:
    rows, valid = frozen(np.zeros((2, 3), np.int64)), frozen(np.zeros(0, np.bool_))
    out, offsets = np.zeros(96, np.uint8), np.zeros(3, np.int64)
    parse_views(frozen(np.zeros((2, 2), np.uint64)), frozen(np.zeros(1, np.uint8)), valid, np.zeros((2, 3), np.int64))
    decimal128_text(rows, valid, out, offsets)
    decimal128_binary(rows, valid, out, offsets)


WARMERS.append(_warm)
