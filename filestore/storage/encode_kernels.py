"""Encoding string columns for sealed files: dense heaps, distinct values, extremes. `valid` is empty for no
nulls.

Thread rule: any thread; they read and write what they are given and nothing else. Not here: which column gets a
dictionary, which `filestore.storage.sealed` decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.memory_kernels import copy_bytes, load_i64, load_u8
from filestore.storage.vector import INLINE_BYTES as INLINE

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def long_bytes(views: Any, valid: Any) -> Any:
    """Bytes behind the long values."""
    nulls = len(valid) > 0
    total: Any = 0
    for i in range(len(views)):
        size = np.int64(views[i, 0]) & 0xFFFFFFFF
        if size > INLINE and not (nulls and not valid[i]):
            total += size
    return total


@njit(nogil=True, cache=True)
def copy_views(views: Any, heap: Any, valid: Any, out: Any, out_heap: Any, used: Any) -> Any:
    """Copies views, and the bytes behind long ones into out_heap from `used` on; nulls become zero. Returns
    the bytes used.
    """
    nulls = len(valid) > 0
    source = heap.ctypes.data
    target = out_heap.ctypes.data
    for i in range(len(views)):
        size = np.int64(views[i, 0]) & 0xFFFFFFFF
        if nulls and not valid[i]:
            out[i, 0] = 0
            out[i, 1] = 0
            continue
        out[i, 0] = views[i, 0]
        if size <= INLINE:
            out[i, 1] = views[i, 1]
        else:
            copy_bytes(target + used, source + np.int64(views[i, 1] >> np.uint64(32)), size)
            out[i, 1] = np.uint64(used) << np.uint64(32)
            used += size
    return used


@njit(nogil=True, cache=True)
def bytes_of(views: Any, heap: Any, row: Any) -> Any:
    """Address of a value's bytes."""
    if np.int64(views[row, 0]) & 0xFFFFFFFF <= INLINE:
        return views.ctypes.data + row * 16 + 4
    return heap.ctypes.data + np.int64(views[row, 1] >> np.uint64(32))


@njit(nogil=True, cache=True)
def hash_value(views: Any, heap: Any, row: Any) -> Any:
    """A hash of a value's bytes; short values are hashed by their words."""
    size = np.int64(views[row, 0]) & 0xFFFFFFFF
    if size <= INLINE:
        h = (views[row, 0] ^ (views[row, 1] * _GOLDEN)) * _GOLDEN
        return h ^ (h >> np.uint64(29))
    at = bytes_of(views, heap, row)
    h = np.uint64(size) * _GOLDEN
    i = 0
    while i + 8 <= size:
        h = (h ^ np.uint64(load_i64(at + i))) * _GOLDEN
        h ^= h >> np.uint64(32)
        i += 8
    while i < size:
        h = (h ^ np.uint64(load_u8(at + i))) * _GOLDEN
        i += 1
    return h ^ (h >> np.uint64(29))


@njit(nogil=True, cache=True)
def same_value(views: Any, heap: Any, a: Any, b: Any) -> Any:
    """Whether two rows have equal bytes."""
    if views[a, 0] != views[b, 0]:
        return False
    size = np.int64(views[a, 0]) & 0xFFFFFFFF
    if size <= INLINE:
        return views[a, 1] == views[b, 1]
    left = bytes_of(views, heap, a)
    right = bytes_of(views, heap, b)
    i = 0
    while i < size and load_u8(left + i) == load_u8(right + i):
        i += 1
    return i == size


@njit(nogil=True, cache=True)
def find_distinct(views: Any, heap: Any, valid: Any, codes: Any, firsts: Any, table: Any) -> Any:
    """Numbers the distinct values in order of appearance: codes per row (0 at nulls), first row of each.

    Returns how many there are, -1 when more than len(firsts). table: int32[power of two], at least twice
    len(firsts).
    """
    nulls = len(valid) > 0
    table[:] = -1
    bits = np.uint64(len(table) - 1)
    count = 0
    for i in range(len(views)):
        if nulls and not valid[i]:
            codes[i] = 0
            continue
        place = np.int64(hash_value(views, heap, i) & bits)
        while True:
            code = table[place]
            if code < 0:
                if count == len(firsts):
                    return -1
                table[place] = count
                firsts[count] = i
                codes[i] = count
                count += 1
                break
            if same_value(views, heap, firsts[code], i):
                codes[i] = code
                break
            place = np.int64(np.uint64(place + 1) & bits)
    return count


@njit(nogil=True, cache=True)
def compare(views: Any, heap: Any, a: Any, b: Any) -> Any:
    """memcmp order of two rows: negative, 0, positive."""
    left_size = np.int64(views[a, 0]) & 0xFFFFFFFF
    right_size = np.int64(views[b, 0]) & 0xFFFFFFFF
    left = bytes_of(views, heap, a)
    right = bytes_of(views, heap, b)
    for i in range(min(left_size, right_size)):
        x, y = np.int64(load_u8(left + i)), np.int64(load_u8(right + i))
        if x != y:
            return x - y
    return left_size - right_size


@njit(nogil=True, cache=True)
def view_extremes(views: Any, heap: Any, valid: Any) -> Any:
    """(row of the least, row of the greatest) value, -1 for none."""
    nulls = len(valid) > 0
    low = high = -1
    for i in range(len(views)):
        if nulls and not valid[i]:
            continue
        if low < 0 or compare(views, heap, i, low) < 0:
            low = i
        if high < 0 or compare(views, heap, i, high) > 0:
            high = i
    return low, high
