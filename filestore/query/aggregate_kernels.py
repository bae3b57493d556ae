"""Kernels that fold rows into groups: codes int64[n] name each row's group, `valid` has length 0 when all rows
count. Policy: kernels.py.

128-bit sums are two words: high int64 and low uint64, two's complement.

Thread rule: as the others, without the GIL and without state; each call writes to arrays of its caller's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import WARMERS, frozen
from filestore.query.string_kernels import byte_of

_LENGTH = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def count_rows(codes: Any, valid: Any, out: Any) -> None:
    """out[g] += rows of group g."""
    for i in range(len(codes)):
        if len(valid) == 0 or valid[i]:
            out[codes[i]] += 1


@njit(nogil=True, cache=True)
def sum_int64(codes: Any, values: Any, valid: Any, out: Any) -> None:
    """out[g] += values; the caller has made sure that no sum leaves 64 bits."""
    if len(valid) == 0:
        for i in range(len(codes)):
            out[codes[i]] += values[i]
    else:
        for i in range(len(codes)):
            if valid[i]:
                out[codes[i]] += values[i]


@njit(nogil=True, cache=True)
def sum_limbs(codes: Any, high: Any, low: Any, out_high: Any, out_low: Any) -> None:
    """out[g] += (high, low), 128 bits."""
    for i in range(len(codes)):
        g = codes[i]
        before = out_low[g]
        after = before + low[i]
        out_low[g] = after
        out_high[g] += high[i] + (1 if after < before else 0)


@njit(nogil=True, cache=True)
def sum_floats(codes: Any, values: Any, valid: Any, out: Any) -> None:
    """out[g] += values, in row order."""
    for i in range(len(codes)):
        if len(valid) == 0 or valid[i]:
            out[codes[i]] += values[i]


@njit(nogil=True, cache=True)
def spread_floats(codes: Any, values: Any, valid: Any, count: Any, total: Any, squares: Any) -> None:
    """Youngs and Cramer's update of N, Sx, Sxx, as float8_accum."""
    for i in range(len(codes)):
        if len(valid) == 0 or valid[i]:
            g = codes[i]
            x = values[i]
            count[g] += 1.0
            total[g] += x
            n = count[g]
            if n > 1.0:
                t = x * n - total[g]
                squares[g] += t * t / (n * (n - 1.0))
            elif not np.isfinite(x):
                squares[g] = np.nan


@njit(nogil=True, cache=True)
def merge_spreads(
    codes: Any, count: Any, total: Any, squares: Any, out_count: Any, out_total: Any, out_squares: Any
) -> None:
    """Combines partial (N, Sx, Sxx), as float8_combine."""
    for i in range(len(codes)):
        g = codes[i]
        if count[i] == 0.0:
            continue
        if out_count[g] == 0.0:
            out_count[g] = count[i]
            out_total[g] = total[i]
            out_squares[g] = squares[i]
            continue
        n1, n2 = out_count[g], count[i]
        t = out_total[g] / n1 - total[i] / n2
        out_squares[g] += squares[i] + n1 * n2 * t * t / (n1 + n2)
        out_count[g] = n1 + n2
        out_total[g] += total[i]


@njit(nogil=True, cache=True)
def extreme_words(codes: Any, first: Any, second: Any, valid: Any, greatest: bool, best: Any) -> None:
    """best[g] = the last row with the least (greatest) word, -1 without rows; `second` breaks ties unless it has
    length 0.
    """
    for i in range(len(codes)):
        if len(valid) > 0 and not valid[i]:
            continue
        g = codes[i]
        b = best[g]
        if b < 0:
            best[g] = i
            continue
        x, y = first[i], first[b]
        if x == y and len(second) > 0:
            x, y = second[i], second[b]
        if (x >= y) if greatest else (x <= y):
            best[g] = i


@njit(nogil=True, cache=True)
def extreme_views(codes: Any, views: Any, heap: Any, valid: Any, greatest: bool, best: Any) -> None:
    """As extreme_words over strings, bytewise."""
    for i in range(len(codes)):
        if len(valid) > 0 and not valid[i]:
            continue
        g = codes[i]
        b = best[g]
        if b < 0:
            best[g] = i
            continue
        n = np.int64(views[i, 0] & _LENGTH)
        m = np.int64(views[b, 0] & _LENGTH)
        sign = n - m
        for k in range(min(n, m)):
            p = byte_of(views, heap, i, k, n)
            q = byte_of(views, heap, b, k, m)
            if p != q:
                sign = p - q
                break
        if (sign >= 0) if greatest else (sign <= 0):
            best[g] = i


def _warm() -> None:
    codes = np.zeros(2, np.int64)
    out, out_low = np.zeros(2, np.int64), np.zeros(2, np.uint64)
    words, low = frozen(np.zeros(2, np.int64)), frozen(np.zeros(2, np.uint64))
    valid = frozen(np.zeros(0, np.bool_))
    floats, sums = frozen(np.zeros(2, np.float64)), [np.zeros(2, np.float64) for _ in range(3)]
    count_rows(codes, valid, out)
    sum_int64(codes, words, valid, out)
    sum_limbs(codes, words, low, out, out_low)
    sum_floats(codes, floats, valid, sums[0])
    spread_floats(codes, floats, valid, *sums)
    merge_spreads(codes, floats, floats, floats, *sums)
    best = np.full(2, -1, np.int64)
    extreme_words(codes, words, words, valid, True, best)
    extreme_views(codes, frozen(np.zeros((2, 2), np.uint64)), frozen(np.zeros(1, np.uint8)), valid, True, best)


WARMERS.append(_warm)
