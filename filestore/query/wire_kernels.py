"""Kernels for the wire's binary forms and for rows put together from columns; shared form as in `render_kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.render_kernels import POWERS, put_int, put_short


@njit(nogil=True, cache=True)
def numeric_binary(values: Any, scale: int, valid: Any, out: Any, offsets: Any) -> int:
    """The wire's numeric (ndigits, weight, sign, dscale, base-10000 digits) of scaled int64; at most 28 bytes a row."""
    nulls = len(valid) > 0
    groups = np.empty(16, np.int64)
    power = POWERS[scale]
    at = 0
    for i in range(len(values)):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        value = values[i]
        negative = value < 0
        size = np.uint64(-(value + 1)) + np.uint64(1) if negative else np.uint64(value)
        whole = size // power
        rest = size - whole * power
        count = 0
        left = whole
        while left > np.uint64(0):
            count += 1
            left = left // np.uint64(10_000)
        weight = count - 1
        left = whole
        for k in range(count - 1, -1, -1):
            groups[k] = np.int64(left % np.uint64(10_000))
            left = left // np.uint64(10_000)
        digits = scale
        while digits > 0:
            if digits >= 4:
                divisor = POWERS[digits - 4]
                group = rest // divisor
                rest -= group * divisor
            else:
                group = rest * POWERS[4 - digits]
            groups[count] = np.int64(group)
            count += 1
            digits -= 4
        first = 0
        while first < count and groups[first] == 0:
            first += 1
            weight -= 1
        while count > first and groups[count - 1] == 0:
            count -= 1
        if count == first:
            weight = 0
        at = put_short(out, at, count - first)
        at = put_short(out, at, weight)
        at = put_short(out, at, 0x4000 if negative else 0)
        at = put_short(out, at, scale)
        for k in range(first, count):
            at = put_short(out, at, groups[k])
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def tuple_rows(offsets: Any, data: Any, valid: Any, framed: bool, out: Any) -> int:
    """Interleaves columns into rows of (int16 columns, then per column int32 length or -1 and bytes).

    offsets int64[columns, n + 1] into data uint8[]; valid bool[columns, n]. `framed` puts DataRow's 'D' and length
    in front; without it the rows are those of a binary COPY. out holds exactly the result.
    """
    columns, n = valid.shape
    at = 0
    for i in range(n):
        start = at
        if framed:
            out[at] = 68
            at += 5
        at = put_short(out, at, columns)
        for c in range(columns):
            if not valid[c, i]:
                at = put_int(out, at, -1)
                continue
            low = offsets[c, i]
            length = offsets[c, i + 1] - low
            at = put_int(out, at, length)
            if length < 64:
                for j in range(length):
                    out[at + j] = data[low + j]
            else:
                out[at : at + length] = data[low : low + length]
            at += length
        if framed:
            put_int(out, start + 1, at - start - 1)
    return at
