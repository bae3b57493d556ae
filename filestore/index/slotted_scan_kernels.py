"""Reading keys of bytes: lookups, ranges, and the merge sort that orders pairs for a bulk build.

See `slotted_kernels` for the nodes.

Thread rule: that of `filestore.index.base`, but for the sort, which any thread may run. Not here: remembering a place
between calls, which a cursor does by key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import COUNT, LEAF_CELL_HEAD, META_HEIGHT, META_ROOT, NEXT, NO_PAGE, PREV, WORD
from filestore.index.page_kernels import get, page_words
from filestore.index.slotted_kernels import (
    ZERO,
    child_of,
    child_slot,
    compare_bytes,
    compare_slot,
    record_of,
    search,
    seek,
    slot_of,
)


@njit(nogil=True, cache=True)
def same_key(data: Any, words: Any, at: int, slot: int, key: Any, start: int, end: int) -> bool:
    """Whether a leaf's slot has this key."""
    record = record_of(words, at, slot)
    return bool(compare_slot(data, words, at, 0, slot, key, start, end, record) == 0)


@njit(nogil=True, cache=True)
def lookup_slotted(data: Any, keys_offsets: Any, keys: Any, offsets: Any, out: Any) -> int:
    """Writes the records of each key to `out` while there is room and their bounds to offsets[n + 1].

    Returns the room needed.
    """
    words = data.view(np.uint64)
    pw = page_words(words)
    total = 0
    for i in range(len(offsets) - 1):
        offsets[i] = total
        start, end = keys_offsets[i], keys_offsets[i + 1]
        page, slot = seek(data, words, keys, start, end, ZERO)
        same = True
        while page != NO_PAGE and same:
            at = page * pw
            count = get(words, at + COUNT)
            while slot < count and same:
                same = same_key(data, words, at, slot, keys, start, end)
                if same:
                    if total < len(out):
                        out[total] = np.int64(record_of(words, at, slot))
                    total += 1
                    slot += 1
            page, slot = get(words, at + NEXT), 0
    offsets[len(offsets) - 1] = total
    return total


@njit(nogil=True, cache=True)
def range_slotted(
    data: Any, low: Any, low_record: Any, bounded: bool, high: Any, high_record: Any, out: Any, last: Any
) -> int:
    """Writes records of the entries in [(low, low_record), (high, high_record)) ascending.

    See `range_slotted_back`.
    """
    words = data.view(np.uint64)
    pw = page_words(words)
    page, slot = seek(data, words, low, 0, len(low), low_record)
    n = 0
    while page != NO_PAGE and n < len(out):
        at = page * pw
        count = get(words, at + COUNT)
        stop = count
        if bounded:
            stop = search(data, words, at, slot, count, high, 0, len(high), high_record)
        take = min(stop - slot, len(out) - n)
        for i in range(take):
            out[n + i] = np.int64(record_of(words, at, slot + i))
        n += take
        slot += take
        if take > 0:
            last[0], last[1] = page, slot - 1
        if stop < count:
            break
        if slot == count:
            page, slot = get(words, at + NEXT), 0
    return n


@njit(nogil=True, cache=True)
def last_leaf(words: Any) -> Any:
    """The right-most leaf."""
    pw = page_words(words)
    page = get(words, META_ROOT)
    for _ in range(get(words, META_HEIGHT) - 1):
        page = child_of(words, page * pw, get(words, page * pw + COUNT) - 1)
    return page


@njit(nogil=True, cache=True)
def range_slotted_back(
    data: Any, low: Any, low_record: Any, bounded: bool, high: Any, high_record: Any, out: Any, last: Any
) -> int:
    """Writes records of the entries in [(low, low_record), (high, high_record)) descending.

    No upper bound if not `bounded`.

    Returns how many, fewer than len(out) only at the range's end; last[2] gets the page and slot of the last one
    written.
    """
    words = data.view(np.uint64)
    pw = page_words(words)
    if bounded:
        page = get(words, META_ROOT)
        for _ in range(get(words, META_HEIGHT) - 1):
            slot = child_slot(data, words, page * pw, high, 0, len(high), high_record)
            page = child_of(words, page * pw, slot)
        count = get(words, page * pw + COUNT)
        stop = search(data, words, page * pw, 0, count, high, 0, len(high), high_record)
    else:
        page = last_leaf(words)
        stop = get(words, page * pw + COUNT)
    n = 0
    while page != NO_PAGE and n < len(out):
        at = page * pw
        start = search(data, words, at, 0, stop, low, 0, len(low), low_record)
        take = min(stop - start, len(out) - n)
        for i in range(take):
            out[n + i] = np.int64(record_of(words, at, stop - 1 - i))
        n += take
        if take > 0:
            last[0], last[1] = page, stop - take
        if start > 0:
            break
        page = get(words, at + PREV)
        stop = get(words, page * pw + COUNT) if page != NO_PAGE else 0
    return n


@njit(nogil=True, cache=True)
def not_above(offsets: Any, keys: Any, records: Any, a: int, b: int) -> bool:
    """Whether pair a sorts before or with pair b."""
    order = compare_bytes(keys, offsets[a], offsets[a + 1], keys, offsets[b], offsets[b + 1])
    return bool(order < 0 or (order == 0 and records[a] <= records[b]))


@njit(nogil=True, cache=True)
def sort_pairs(offsets: Any, keys: Any, records: Any, order: Any, spare: Any) -> None:
    """Sorts order[n], a permutation of the pairs, by (key, record).

    A bottom-up merge sort that passes over sorted runs.
    """
    n = len(order)
    width = 1
    while width < n:
        for low in range(0, n - width, 2 * width):
            middle = low + width
            end = min(middle + width, n)
            if not_above(offsets, keys, records, order[middle - 1], order[middle]):
                continue
            spare[low:middle] = order[low:middle]
            a, b, at = low, middle, low
            while a < middle:
                if b == end or not_above(offsets, keys, records, spare[a], order[b]):
                    order[at] = spare[a]
                    a += 1
                else:
                    order[at] = order[b]
                    b += 1
                at += 1
        width *= 2


@njit(nogil=True, cache=True)
def copy_key(data: Any, page: int, slot: int, out: Any) -> Any:
    """Copies a leaf entry's key to `out` and returns its length."""
    words = data.view(np.uint64)
    at = page * page_words(words)
    _, offset, length = slot_of(words, at, slot)
    first = at * WORD + offset + LEAF_CELL_HEAD
    for i in range(length):
        out[i] = data[first + i]
    return length
