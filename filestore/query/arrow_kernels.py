"""Kernels at the border to Arrow: string views from outside are looked at before they are believed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.field_kernels import invalid_utf8


@njit(nogil=True, cache=True)
def move_views(views: Any, words: Any, bases: Any, sizes: Any, valid: Any, out: Any) -> int:
    """Points the views of several heaps at those heaps laid end to end; returns the first row out of bounds, or -1.

    words int32[n, 4] is the memory of views uint64[n, 2]; bases, sizes int64[heaps]; out uint64[n, 2].
    """
    nulls = len(valid) > 0
    for i in range(len(views)):
        out[i, 0] = 0
        out[i, 1] = 0
        if nulls and not valid[i]:
            continue
        length = np.int64(words[i, 0])
        if length < 0:
            return i
        out[i, 0] = views[i, 0]
        if length <= 12:
            out[i, 1] = views[i, 1]
            continue
        heap = np.int64(words[i, 2])
        offset = np.int64(words[i, 3])
        if heap < 0 or heap >= len(bases) or offset < 0 or offset + length > sizes[heap]:
            return i
        out[i, 1] = np.uint64(bases[heap] + offset) << np.uint64(32)
    return -1


@njit(nogil=True, cache=True)
def invalid_view(views: Any, raw: Any, heap: Any) -> int:
    """The first row whose bytes are not UTF-8 or hold a NUL, or -1; raw is the views' memory as uint8[n * 16]."""
    for i in range(len(views)):
        length: Any = np.int64(views[i, 0] & np.uint64(0xFFFFFFFF))
        start: Any = i * 16 + 4
        if length <= 12:
            if invalid_utf8(raw, start, start + length) >= 0:
                return i
        else:
            start = np.int64(views[i, 1] >> np.uint64(32))
            if invalid_utf8(heap, start, start + length) >= 0:
                return i
    return -1
