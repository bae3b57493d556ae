"""Kernels over string views: comparison, matching, searching, decimals in text.

Strings are (views uint64[n, 2], heap uint8[]), see storage/vector.py. Comparison is bytewise, which for UTF-8 is
the order of code points and PostgreSQL's "C" collation. Where a kernel counts characters it counts bytes that are
not UTF-8 continuation bytes. A second operand is read at `j = i * step`: step 0 is a constant. Policy: see kernels.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.kernels import WARMERS, frozen, same_view
from filestore.storage.vector import INLINE_BYTES

_LENGTH = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True, inline="always")
def byte_of(views: Any, heap: Any, i: Any, k: Any, n: Any) -> Any:
    """Byte k of string i, whose length is n."""
    if n <= INLINE_BYTES:
        if k < 4:
            return np.int64((views[i, 0] >> np.uint64(32 + 8 * k)) & np.uint64(255))
        return np.int64((views[i, 1] >> np.uint64(8 * (k - 4))) & np.uint64(255))
    return np.int64(heap[np.int64(views[i, 1] >> np.uint64(32)) + k])


@njit(nogil=True, cache=True)
def equal_views(left: Any, left_heap: Any, right: Any, right_heap: Any, step: Any, out: Any) -> None:
    """out[i] = 1 when left[i] equals right[i * step], else 0."""
    for i in range(len(left)):
        out[i] = same_view(left, left_heap, i, right, right_heap, i * step)


@njit(nogil=True, cache=True)
def order_views(left: Any, left_heap: Any, right: Any, right_heap: Any, step: Any, out: Any) -> None:
    """out[i] (int8) = -1, 0, 1 as left[i] sorts before, equal to or after right[i * step]."""
    for i in range(len(left)):
        j = i * step
        n = np.int64(left[i, 0] & _LENGTH)
        m = np.int64(right[j, 0] & _LENGTH)
        shorter = min(n, m)
        sign = 0
        for k in range(shorter):
            a = byte_of(left, left_heap, i, k, n)
            b = byte_of(right, right_heap, j, k, m)
            if a != b:
                sign = -1 if a < b else 1
                break
        if sign == 0 and n != m:
            sign = -1 if n < m else 1
        out[i] = sign


@njit(nogil=True, cache=True)
def word_at(views: Any, heap: Any, rows: Any, start: Any, out: Any) -> bool:
    """out[r] = bytes start..start+8 of string rows[r], big-endian, zero behind its end. Returns whether any string
    goes on behind them.
    """
    more = False
    for r in range(len(rows)):
        i = rows[r]
        n = np.int64(views[i, 0] & _LENGTH)
        word = np.uint64(0)
        for k in range(start, min(n, start + 8)):
            word |= np.uint64(byte_of(views, heap, i, k, n)) << np.uint64(8 * (7 - (k - start)))
        out[r] = word
        if n > start + 8:
            more = True
    return more


@njit(nogil=True, cache=True)
def character_counts(views: Any, heap: Any, out: Any) -> None:
    """out[i] (int32) = number of characters."""
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        count = 0
        for k in range(n):
            if (byte_of(views, heap, i, k, n) & 0xC0) != 0x80:
                count += 1
        out[i] = count


@njit(nogil=True, cache=True)
def substring_views(views: Any, heap: Any, start: Any, count: Any, step: Any, out: Any, out_heap: Any) -> Any:
    """Characters start..start+count (from 1, as SQL counts) of each string; count -1 means to the end. Returns
    heap bytes used.

    A result of more than 12 bytes is copied to out_heap, which must have room for all of them; with an empty
    out_heap it points into `heap`, which is then the result's heap.
    """
    used = 0
    share = len(out_heap) == 0
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        first = start[i * step]
        wanted = count[i * step]
        last = first + wanted if wanted >= 0 else np.int64(2**62)
        character = 0
        begin: Any = n
        end: Any = n
        for k in range(n):
            if (byte_of(views, heap, i, k, n) & 0xC0) != 0x80:
                character += 1
                if character >= last:
                    end = k
                    break
                if character >= first and begin == n:
                    begin = k
        begin = min(begin, end)
        used = put_slice(views, heap, i, n, begin, end, out, out_heap, share, used)
    return used


@njit(nogil=True, cache=True, inline="always")
def put_slice(
    views: Any, heap: Any, i: Any, n: Any, begin: Any, end: Any, out: Any, out_heap: Any, share: bool, used: int
) -> Any:
    """Writes bytes begin..end of string i to out[i]; returns the heap bytes used so far."""
    size = end - begin
    first = np.uint64(size)
    for k in range(min(size, 4)):
        first |= np.uint64(byte_of(views, heap, i, begin + k, n)) << np.uint64(32 + 8 * k)
    second = np.uint64(0)
    if size <= INLINE_BYTES:
        for k in range(4, size):
            second |= np.uint64(byte_of(views, heap, i, begin + k, n)) << np.uint64(8 * (k - 4))
    elif share:
        second = ((views[i, 1] >> np.uint64(32)) + np.uint64(begin)) << np.uint64(32)
    else:
        for k in range(size):
            out_heap[used + k] = byte_of(views, heap, i, begin + k, n)
        second = np.uint64(used) << np.uint64(32)
        used += size
    out[i, 0] = first
    out[i, 1] = second
    return used


@njit(nogil=True, cache=True)
def trim_views(views: Any, heap: Any, cut: Any, left: bool, right: bool, out: Any) -> None:
    """Each string without the bytes b with cut[b] at its ends; results share `heap`."""
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        begin = 0
        end: Any = n
        while left and begin < end and cut[byte_of(views, heap, i, begin, n)]:
            begin += 1
        while right and end > begin and cut[byte_of(views, heap, i, end - 1, n)]:
            end -= 1
        put_slice(views, heap, i, n, begin, end, out, heap, True, 0)


@njit(nogil=True, cache=True)
def join_views(views: Any, heap: Any, valid: Any, offsets: Any, data: Any) -> None:
    """The strings end to end: offsets int64[n + 1], bytes into data unless that is empty. Invalid rows are empty."""
    position: Any = 0
    offsets[0] = 0
    for i in range(len(views)):
        if len(valid) == 0 or valid[i]:
            n = np.int64(views[i, 0] & _LENGTH)
            if len(data) > 0:
                for k in range(n):
                    data[position + k] = byte_of(views, heap, i, k, n)
            position += n
        offsets[i + 1] = position


@njit(nogil=True, cache=True)
def append_views(views: Any, heap: Any, places: Any, data: Any) -> None:
    """String i goes to data[places[i]:], and places[i] behind it."""
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        for k in range(n):
            data[places[i] + k] = byte_of(views, heap, i, k, n)
        places[i] += n


@njit(nogil=True, cache=True)
def split_views(offsets: Any, data: Any, out: Any) -> None:
    """Views over the slices of `data`, which is their heap."""
    for i in range(len(offsets) - 1):
        begin = offsets[i]
        n = offsets[i + 1] - begin
        first = np.uint64(n)
        second = np.uint64(0)
        for k in range(min(n, 4)):
            first |= np.uint64(data[begin + k]) << np.uint64(32 + 8 * k)
        if n <= INLINE_BYTES:
            for k in range(4, n):
                second |= np.uint64(data[begin + k]) << np.uint64(8 * (k - 4))
        else:
            second = np.uint64(begin) << np.uint64(32)
        out[i, 0] = first
        out[i, 1] = second


@njit(nogil=True, cache=True)
def map_bytes(views: Any, heap: Any, low: Any, high: Any, delta: Any, out: Any, out_heap: Any) -> Any:
    """Adds delta to every byte in low..high (ASCII case); out_heap is a copy of heap's size. Returns the row of
    the first non-ASCII string (nothing useful is then written), -1 for none."""
    used: Any = 0
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        first = np.uint64(n)
        second = np.uint64(used) << np.uint64(32) if n > INLINE_BYTES else np.uint64(0)
        for k in range(n):
            b = byte_of(views, heap, i, k, n)
            if b >= 128:
                return i
            if low <= b <= high:
                b += delta
            if k < 4:
                first |= np.uint64(b) << np.uint64(32 + 8 * k)
            elif n <= INLINE_BYTES:
                second |= np.uint64(b) << np.uint64(8 * (k - 4))
            if n > INLINE_BYTES:
                out_heap[used + k] = b
        if n > INLINE_BYTES:
            used += n
        out[i, 0] = first
        out[i, 1] = second
    return -1


@njit(nogil=True, cache=True)
def find_bytes(views: Any, heap: Any, i: Any, n: Any, needle: Any, low: Any, high: Any, start: Any) -> Any:
    """Position of needle[low:high] in string i at or after `start`, -1 when absent."""
    size = high - low
    if size == 0:
        return start
    head = np.int64(needle[low])
    for at in range(start, n - size + 1):
        if byte_of(views, heap, i, at, n) != head:
            continue
        k = 1
        while k < size and byte_of(views, heap, i, at + k, n) == np.int64(needle[low + k]):
            k += 1
        if k == size:
            return at
    return -1


@njit(nogil=True, cache=True)
def like_segments(views: Any, heap: Any, pattern: Any, bounds: Any, open_start: bool, open_end: bool, out: Any) -> None:
    """LIKE for patterns of literal pieces between '%': piece p is pattern[bounds[p]:bounds[p + 1]].

    Without open_start the first piece is a prefix, without open_end the last one a suffix; pieces between are
    found from the left.
    """
    pieces = len(bounds) - 1
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        at: Any = 0
        limit: Any = n
        matched = True
        first = 0
        last = pieces
        if not open_start:
            size = bounds[1] - bounds[0]
            matched = size <= n and (pieces > 1 or open_end or size == n)
            k = 0
            while matched and k < size:
                matched = byte_of(views, heap, i, k, n) == np.int64(pattern[bounds[0] + k])
                k += 1
            at = size
            first = 1
        if matched and not open_end and last > first:
            size = bounds[pieces] - bounds[pieces - 1]
            last = pieces - 1
            matched = n - size >= at
            limit = n - size
            k = 0
            while matched and k < size:
                matched = byte_of(views, heap, i, limit + k, n) == np.int64(pattern[bounds[pieces - 1] + k])
                k += 1
        piece = first
        while matched and piece < last:
            low, high = bounds[piece], bounds[piece + 1]
            found = find_bytes(views, heap, i, n, pattern, low, high, at)
            matched = found >= 0 and found + (high - low) <= limit
            at = found + (high - low)
            piece += 1
        out[i] = matched


@njit(nogil=True, cache=True)
def positions(views: Any, heap: Any, needle: Any, out: Any) -> None:
    """out[i] (int32) = position in characters, from 1, of the bytes `needle` in string i; 0 when absent."""
    for i in range(len(views)):
        n = np.int64(views[i, 0] & _LENGTH)
        at = find_bytes(views, heap, i, n, needle, 0, len(needle), 0)
        count = 0
        if at >= 0:
            count = 1
            for k in range(at):
                if (byte_of(views, heap, i, k, n) & 0xC0) != 0x80:
                    count += 1
        out[i] = count


@njit(nogil=True, cache=True)
def parse_decimal64(views: Any, heap: Any, valid: Any, out: Any) -> Any:
    """Canonical decimal texts as int64 scaled by their common number of digits after the point: that number, or -1.

    -1 when scales differ, a value is NaN or infinite, or has more than 18 digits.
    """
    scale = -1
    for i in range(len(views)):
        if len(valid) > 0 and not valid[i]:
            continue
        n = np.int64(views[i, 0] & _LENGTH)
        if n > 20:
            return -1
        value = 0
        digits = 0
        own = 0
        point = False
        negative = False
        for k in range(n):
            b = byte_of(views, heap, i, k, n)
            if b == 45:
                negative = True
            elif b == 46:
                point = True
            elif 48 <= b <= 57:
                value = value * 10 + (b - 48)
                digits += 1
                if point:
                    own += 1
            else:
                return -1
        if digits > 18 or (scale >= 0 and own != scale):
            return -1
        scale = own
        out[i] = -value if negative else value
    return max(scale, 0)


def _warm() -> None:
    views, heap = frozen(np.zeros((2, 2), np.uint64)), frozen(np.zeros(1, np.uint8))
    valid = frozen(np.zeros(0, np.bool_))
    rows = np.zeros(2, np.int64)
    flags = np.zeros(2, np.uint8)
    counts = np.zeros(2, np.int32)
    out, out_heap = np.zeros((2, 2), np.uint64), np.zeros(1, np.uint8)
    equal_views(views, heap, views, heap, 1, flags)
    order_views(views, heap, views, heap, 1, np.zeros(2, np.int8))
    word_at(views, heap, frozen(rows), 0, np.zeros(2, np.uint64))
    character_counts(views, heap, counts)
    substring_views(views, heap, rows, rows, 0, out, out_heap)
    trim_views(views, heap, np.zeros(256, np.bool_), True, True, out)
    join_views(views, heap, valid, np.zeros(3, np.int64), out_heap)
    append_views(views, heap, np.zeros(2, np.int64), out_heap)
    split_views(frozen(np.zeros(3, np.int64)), heap, out)
    map_bytes(views, heap, 65, 90, 32, out, out_heap)
    like_segments(views, heap, out_heap, rows, True, True, flags)
    positions(views, heap, out_heap, counts)
    parse_decimal64(views, heap, valid, rows)


WARMERS.append(_warm)
