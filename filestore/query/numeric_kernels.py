"""Kernels over int64 that tell an overflow: the slow, exact twins of numpy's arithmetic. Policy: see kernels.py.

`valid` has length 0 when all rows count. Each returns the first row that overflows, -1 for none; a second operand is read at i * step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import WARMERS

_MIN = np.int64(-(2**63))


@njit(nogil=True, cache=True)
def add_checked(left: Any, right: Any, step: int, valid: Any, out: Any) -> int:
    """out = left + right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        total = a + b
        out[i] = total
        if ((a ^ total) & (b ^ total)) < 0 and (len(valid) == 0 or valid[i]):
            return i
    return -1


@njit(nogil=True, cache=True)
def subtract_checked(left: Any, right: Any, step: int, valid: Any, out: Any) -> int:
    """out = left - right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        total = a - b
        out[i] = total
        if ((a ^ b) & (a ^ total)) < 0 and (len(valid) == 0 or valid[i]):
            return i
    return -1


@njit(nogil=True, cache=True)
def multiply_checked(left: Any, right: Any, step: int, valid: Any, out: Any) -> int:
    """out = left * right."""
    for i in range(len(left)):
        a, b = left[i], right[i * step]
        product = a * b
        out[i] = product
        if a != 0 and (len(valid) == 0 or valid[i]):
            if (a == -1 and b == _MIN) or (a != -1 and product // a != b) or (a != -1 and product % a != 0):
                return i
    return -1


@njit(nogil=True, cache=True)
def divide_rounded(values: Any, divisor: int, out: Any) -> None:
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
    a = np.zeros(2, np.int64)
    none = np.zeros(0, np.bool_)
    add_checked(a, a, 1, none, a.copy())
    subtract_checked(a, a, 1, none, a.copy())
    multiply_checked(a, a, 1, none, a.copy())
    divide_rounded(a, 10, a.copy())


WARMERS.append(_warm)
