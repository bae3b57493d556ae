"""Reading packed keys: lookups and ranges; see `fixed_kernels` for the nodes and the rules.

Thread rule: that of `filestore.index.base`; what is found is copied out. Not here: remembering a place between calls,
which a cursor does by key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.fixed_kernels import ZERO, child_slot, read_entry, search, seek
from filestore.index.layout import (
    COUNT,
    HEADER_WORDS,
    META_FORM,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_ROOT,
    NEXT,
    NO_PAGE,
    PREV,
)
from filestore.index.page_kernels import get, page_words


@njit(nogil=True, cache=True)
def lookup_fixed(data: Any, keys: Any, offsets: Any, out: Any) -> int:
    """Writes the records of each key to `out` while there is room and their bounds to offsets[n + 1].

    Returns the room needed.
    """
    words = data.view(np.uint64)
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY)
    total = 0
    for i in range(len(offsets) - 1):
        offsets[i] = total
        high = keys[2 * i] if kw == 2 else ZERO
        low = keys[kw * i + kw - 1]
        page, slot = seek(words, high, low, ZERO)
        while page != NO_PAGE:
            at = page * pw
            count = get(words, at + COUNT)
            same = True
            while slot < count:
                entry_high, entry_low, record = read_entry(words, at, cap, kw, slot)
                same = entry_high == high and entry_low == low
                if not same:
                    break
                if total < len(out):
                    out[total] = np.int64(record)
                total += 1
                slot += 1
            if not same:
                break
            page, slot = get(words, at + NEXT), 0
    offsets[len(offsets) - 1] = total
    return total


@njit(nogil=True, cache=True)
def range_fixed(data: Any, bounds: Any, out: Any, last: Any) -> int:
    """Writes records of the entries in [low, high) ascending. bounds, last: see `range_fixed_back`."""
    words = data.view(np.uint64)
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY)
    page, slot = seek(words, bounds[0], bounds[1], bounds[2])
    n = 0
    at = page * pw
    while page != NO_PAGE and n < len(out):
        at = page * pw
        count = get(words, at + COUNT)
        stop = search(words, at, cap, slot, count, kw, bounds[3], bounds[4], bounds[5])
        take = min(stop - slot, len(out) - n)
        records = at + HEADER_WORDS + kw * cap + slot
        for i in range(take):
            out[n + i] = np.int64(words[records + i])
        n += take
        slot += take
        if take > 0:
            last[0], last[1], last[2] = read_entry(words, at, cap, kw, slot - 1)
        if stop < count:
            break
        page, slot = (get(words, at + NEXT), 0) if slot == count else (page, slot)
    return n


@njit(nogil=True, cache=True)
def range_fixed_back(data: Any, bounds: Any, out: Any, last: Any) -> int:
    """Writes records of the entries in [low, high) descending; returns how many.

    Fewer than len(out) only at the range's end.

    bounds: uint64[6], the low entry (high word, low word, record), then the high one; the last entry written goes to
    last[3].
    """
    words = data.view(np.uint64)
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY)
    page = get(words, META_ROOT)
    inner_cap = get(words, META_INNER_CAPACITY)
    for _ in range(get(words, META_HEIGHT) - 1):
        at = page * pw
        slot = child_slot(words, at, inner_cap, kw, bounds[3], bounds[4], bounds[5])
        page = get(words, at + HEADER_WORDS + (kw + 1) * inner_cap + slot)
    at = page * pw
    stop = search(words, at, cap, 0, get(words, at + COUNT), kw, bounds[3], bounds[4], bounds[5])
    n = 0
    while page != NO_PAGE and n < len(out):
        start = search(words, at, cap, 0, stop, kw, bounds[0], bounds[1], bounds[2])
        take = min(stop - start, len(out) - n)
        records = at + HEADER_WORDS + kw * cap + stop - 1
        for i in range(take):
            out[n + i] = np.int64(words[records - i])
        n += take
        if take > 0:
            last[0], last[1], last[2] = read_entry(words, at, cap, kw, stop - take)
        if start > 0:
            break
        page = get(words, at + PREV)
        at = page * pw
        stop = get(words, at + COUNT) if page != NO_PAGE else 0
    return n


@njit(nogil=True, cache=True)
def is_sorted(keys: Any, records: Any, kw: int) -> bool:
    """Whether the pairs ascend by (key, record), equal neighbours allowed."""
    for i in range(1, len(records)):
        order = 0
        for j in range(kw):
            a, b = keys[kw * (i - 1) + j], keys[kw * i + j]
            if order == 0 and a != b:
                order = -1 if a < b else 1
        if order > 0 or (order == 0 and records[i - 1] > records[i]):
            return False
    return True
