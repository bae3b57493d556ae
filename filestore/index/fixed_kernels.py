"""B+Tree kernels for packed keys: nodes are columns of words, entries are (high, low, record) compared as unsigned.

In form u64 the key has no high word and kernels are given 0 for it. A range of entries is half open, [low entry, high
entry): with records below 2**63 every inclusive or exclusive bound on keys is such an entry bound, (key, 0) or (key,
MAX_RECORD).

Algorithm: descend to the leaf, split a full node in the middle (9 : 1 where the insert appends at the right edge, so
that ascending keys leave full nodes behind), route the new entry by the separator. Removal frees an empty node and
merges a node that is less than a quarter full into a neighbour below the same parent when both together are at most
three quarters full; it never borrows. So a node may be thin between unlucky neighbours; the tree stays shallow all
the same because empty nodes go.

Slot 0 of an inner node has no separator, its words are zero.

Thread rule: that of `filestore.index.base`, for reading too: no order of writes in a page is kept that a reader could
rely on. Not here: keys of bytes, and any check of what a page says; `check_kernels` has those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import (
    COUNT,
    HEADER_WORDS,
    META_FORM,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_ROOT,
    NEXT,
)
from filestore.index.page_kernels import get, page_words

MAX_RECORD = np.uint64(0xFFFFFFFFFFFFFFFF)  # above every record number
ONE = np.uint64(1)
ZERO = np.uint64(0)


@njit(nogil=True, cache=True)
def search(words: Any, at: int, cap: int, start: int, count: int, kw: int, high: Any, low: Any, record: Any) -> int:
    """First slot in [start, count) of the node at `at` whose entry is >= (high, low, record).

    Count if there is none.
    """
    n = count - start
    if kw == 1:
        keys = at + HEADER_WORDS
        while n > 0:
            half = n >> 1
            key = words[keys + start + half]
            if key < low or (key == low and words[keys + cap + start + half] < record):
                start += half + 1
                n -= half + 1
            else:
                n = half
        return start
    highs = at + HEADER_WORDS
    lows = highs + cap
    while n > 0:
        half = n >> 1
        i = start + half
        key = words[highs + i]
        second = words[lows + i]
        less = key < high
        if key == high:
            less = second < low or (second == low and words[lows + cap + i] < record)
        if less:
            start += half + 1
            n -= half + 1
        else:
            n = half
    return start


@njit(nogil=True, cache=True)
def child_slot(words: Any, at: int, cap: int, kw: int, high: Any, low: Any, record: Any) -> int:
    """Slot of the child whose subtree holds the entry: the last separator that is <= it."""
    count = get(words, at + COUNT)
    above = record if record == MAX_RECORD else record + ONE
    return search(words, at, cap, 1, count, kw, high, low, above) - 1


@njit(nogil=True, cache=True)
def descend(words: Any, path: Any, high: Any, low: Any, record: Any) -> Any:
    """The leaf that holds or would hold the entry; `path` gets the pages and slots on the way."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    page = get(words, META_ROOT)
    level = get(words, META_HEIGHT) - 1
    while level > 0:
        at = page * pw
        slot = child_slot(words, at, cap, kw, high, low, record)
        path[2 * level] = page
        path[2 * level + 1] = slot
        page = get(words, at + HEADER_WORDS + (kw + 1) * cap + slot)
        level -= 1
    path[0] = page
    return page


@njit(nogil=True, cache=True)
def seek(words: Any, high: Any, low: Any, record: Any) -> tuple[int, int]:
    """(leaf, slot) of the first entry >= the given one; (NO_PAGE, 0) behind the last."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    page = get(words, META_ROOT)
    for _ in range(get(words, META_HEIGHT) - 1):
        at = page * pw
        slot = child_slot(words, at, cap, kw, high, low, record)
        page = get(words, at + HEADER_WORDS + (kw + 1) * cap + slot)
    at = page * pw
    count = get(words, at + COUNT)
    slot = search(words, at, get(words, META_LEAF_CAPACITY), 0, count, kw, high, low, record)
    if slot < count:
        return page, slot
    return get(words, at + NEXT), 0


@njit(nogil=True, cache=True)
def open_slot(words: Any, at: int, cap: int, columns: int, count: int, slot: int) -> None:
    """Moves entries [slot, count) up by one; the caller fills the slot and sets the count."""
    for column in range(columns):
        base = at + HEADER_WORDS + column * cap
        for i in range(count, slot, -1):
            words[base + i] = words[base + i - 1]


@njit(nogil=True, cache=True)
def close_slot(words: Any, at: int, cap: int, columns: int, count: int, slot: int) -> None:
    """Moves entries (slot, count) down by one, zeroes what the last one leaves, and sets the count."""
    for column in range(columns):
        base = at + HEADER_WORDS + column * cap
        for i in range(slot, count - 1):
            words[base + i] = words[base + i + 1]
        words[base + count - 1] = 0
    words[at + COUNT] = count - 1


@njit(nogil=True, cache=True)
def move_entries(
    words: Any, source: int, first: int, last: int, target: int, slot: int, cap: int, columns: int
) -> None:
    """Moves entries [first, last) of the node at `source` to `slot` and on of the node at `target`,
    zeroing their place."""
    for column in range(columns):
        a = source + HEADER_WORDS + column * cap
        b = target + HEADER_WORDS + column * cap
        for i in range(last - first):
            words[b + slot + i] = words[a + first + i]
            words[a + first + i] = 0


@njit(nogil=True, cache=True)
def write_entry(words: Any, at: int, cap: int, kw: int, slot: int, high: Any, low: Any, record: Any) -> None:
    """Stores an entry's key and record."""
    base = at + HEADER_WORDS + slot
    if kw == 2:
        words[base] = high
        base += cap
    words[base] = low
    words[base + cap] = record


@njit(nogil=True, cache=True)
def read_entry(words: Any, at: int, cap: int, kw: int, slot: int) -> tuple[Any, Any, Any]:
    """(high, low, record) of a slot."""
    base = at + HEADER_WORDS + slot
    if kw == 2:
        return words[base], words[base + cap], words[base + 2 * cap]
    return ZERO, words[base], words[base + cap]
