"""Kernels over int64 that tell an overflow: the slow, exact twins of numpy's arithmetic. Policy: see kernels.py.

`valid` has length 0 when all rows count. Each returns the first row that overflows, -1 for none; a second operand
is read at i * step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import WARMERS, frozen

_SIGN = np.uint64(2**63)


@njit(nogil=True, cache=True)
def add_checked(left: Any, right: Any, step: Any, valid: Any, out: Any) -> Any:
    """out = left + right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        # unsigned arithmetic wraps; signed overflow is undefined to the compiler, which would drop the test
        total = np.int64(np.uint64(a) + np.uint64(b))
        out[i] = total
        if ((a ^ total) & (b ^ total)) < 0 and (len(valid) == 0 or valid[i]):
            return i
    return -1


@njit(nogil=True, cache=True)
def subtract_checked(left: Any, right: Any, step: Any, valid: Any, out: Any) -> Any:
    """out = left - right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        total = np.int64(np.uint64(a) - np.uint64(b))
        out[i] = total
        if ((a ^ b) & (a ^ total)) < 0 and (len(valid) == 0 or valid[i]):
            return i
    return -1


@njit(nogil=True, cache=True)
def multiply_checked(left: Any, right: Any, step: Any, valid: Any, out: Any) -> Any:
    """out = left * right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        x, y = np.uint64(a), np.uint64(b)
        product = x * y
        out[i] = np.int64(product)
        if len(valid) > 0 and not valid[i]:
            continue
        x = np.uint64(0) - x if a < 0 else x
        y = np.uint64(0) - y if b < 0 else y
        size = x * y
        limit = _SIGN if (a < 0) != (b < 0) else _SIGN - np.uint64(1)
        if x != 0 and (size // x != y or size > limit):
            return i
    return -1


@njit(nogil=True, cache=True)
def divide_rounded(values: Any, divisor: Any, out: Any) -> None:
    """out = values / divisor, rounded half away from zero; divisor > 0."""
    half = divisor // 2
    odd = divisor - half  # the least remainder that rounds up
    for i in range(len(values)):
        v = values[i]
        q = v // divisor
        r = v - q * divisor
        if v >= 0:
            if r >= odd:
                q += 1
        elif r > half:
            q += 1
        out[i] = q


def _warm() -> None:
    a, out = frozen(np.zeros(2, np.int64)), np.zeros(2, np.int64)
    none = frozen(np.zeros(0, np.bool_))
    add_checked(a, a, 1, none, out)
    subtract_checked(a, a, 1, none, out)
    multiply_checked(a, a, 1, none, out)
    divide_rounded(a, 10, out)


WARMERS.append(_warm)
