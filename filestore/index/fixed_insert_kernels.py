"""Inserting packed keys, splitting nodes on the way; see `fixed_kernels` for the nodes and the rules.

Thread rule: that of `filestore.index.base`. Not here: undoing an insert for which pages ran out, which is
`filestore.index.btree`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.fixed_kernels import ONE, ZERO, descend, move_entries, open_slot, read_entry, search, write_entry
from filestore.index.layout import (
    COUNT,
    HEADER_WORDS,
    INNER,
    LEAF,
    LEVEL,
    META_ENTRIES,
    META_FORM,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_PAGE,
    META_ROOT,
    NEXT,
    NO_PAGE,
)
from filestore.index.page_kernels import allocate, get, link_after, page_words, pages_available

PRESENT = 0
NO_ROOM = -1
PACKED_FILL = (
    15  # sixteenths of a node that a bulk build fills, so that the first inserts after it do not split every leaf
)


@njit(nogil=True, cache=True)
def split(words: Any, dirty: Any, page: int, keep: int) -> Any:
    """Moves entries [keep, count) of a node to a new right neighbour and returns its page."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    at = page * pw
    level = get(words, at + LEVEL)
    leaf = level == 0
    cap = get(words, META_LEAF_CAPACITY) if leaf else get(words, META_INNER_CAPACITY)
    columns = kw + 1 if leaf else kw + 2
    count = get(words, at + COUNT)
    right = allocate(words, dirty, LEAF if leaf else INNER, level)
    move_entries(words, at, keep, count, right * pw, 0, cap, columns)
    words[at + COUNT] = keep
    words[right * pw + COUNT] = count - keep
    link_after(words, dirty, page, right)
    return right


@njit(nogil=True, cache=True)
def split_point(words: Any, at: int, count: int, slot: int, packed: bool) -> int:
    """How many entries stay left when a full node is split for an insert at `slot`."""
    if slot == count and get(words, at + NEXT) == NO_PAGE:
        return count if packed else count - max(1, count // 10)
    return count // 2


@njit(nogil=True, cache=True)
def grow_root(words: Any, dirty: Any, right: int, high: Any, low: Any, record: Any) -> None:
    """Puts a new root above the old one and its new right neighbour."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    height = get(words, META_HEIGHT)
    root = allocate(words, dirty, INNER, height)
    at = root * pw
    children = at + HEADER_WORDS + (kw + 1) * cap
    words[children] = words[META_ROOT]
    words[children + 1] = right
    write_entry(words, at, cap, kw, 1, high, low, record)
    words[at + COUNT] = 2
    words[META_ROOT] = root
    words[META_HEIGHT] = height + 1


@njit(nogil=True, cache=True)
def add_child(words: Any, dirty: Any, path: Any, right: int, high: Any, low: Any, record: Any, packed: bool) -> None:
    """Enters a new page, right neighbour of the one in path[0], into the levels above, splitting as needed."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    full = cap * PACKED_FILL // 16 if packed else cap
    height = get(words, META_HEIGHT)
    for level in range(1, height):
        page = path[2 * level]
        slot = path[2 * level + 1] + 1
        at = page * pw
        count = get(words, at + COUNT)
        up_high, up_low, up_record, up_page = ZERO, ZERO, ZERO, NO_PAGE
        if count >= full:
            keep = split_point(words, at, count, slot, packed)
            up_page = split(words, dirty, page, keep)
            if keep == count:  # packed: the new child alone goes right, under its own separator
                up_high, up_low, up_record = high, low, record
                high, low, record = ZERO, ZERO, ZERO
            else:
                up_high, up_low, up_record = read_entry(words, up_page * pw, cap, kw, 0)
                write_entry(words, up_page * pw, cap, kw, 0, ZERO, ZERO, ZERO)
            if slot > keep or keep == count:
                at = up_page * pw
                slot -= keep
            count = get(words, at + COUNT)
        open_slot(words, at, cap, kw + 2, count, slot)
        write_entry(words, at, cap, kw, slot, high, low, record)
        words[at + HEADER_WORDS + (kw + 1) * cap + slot] = right
        words[at + COUNT] = count + 1
        dirty[page] = 1
        if up_page == NO_PAGE:
            return
        right, high, low, record = up_page, up_high, up_low, up_record
    grow_root(words, dirty, right, high, low, record)


@njit(nogil=True, cache=True)
def put(
    words: Any, dirty: Any, limit: int, path: Any, finger: int, high: Any, low: Any, record: Any, packed: bool
) -> tuple[int, int]:
    """Inserts one entry. Returns (leaf, status): status 1 inserted, PRESENT, or NO_ROOM when a split might lack pages.

    `finger` is the leaf of the previous insert: an entry inside its bounds goes there without a descent. A full leaf
    is always descended to, because a split needs the path.
    """
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY)
    full = cap * PACKED_FILL // 16 if packed else cap
    page = finger
    at = page * pw
    count = get(words, at + COUNT)
    slot = 0
    if 0 < count < full:
        slot = search(words, at, cap, 0, count, kw, high, low, record)
        inside = slot > 0 and (slot < count or get(words, at + NEXT) == NO_PAGE)
    else:
        inside = False
    if not inside:
        page = descend(words, path, high, low, record)
        at = page * pw
        count = get(words, at + COUNT)
        slot = search(words, at, cap, 0, count, kw, high, low, record)
    if slot < count:
        old_high, old_low, old_record = read_entry(words, at, cap, kw, slot)
        if old_high == high and old_low == low and old_record == record:
            return page, PRESENT
    if count >= full:
        if pages_available(words, limit) < get(words, META_HEIGHT) + 1:
            return page, NO_ROOM
        keep = split_point(words, at, count, slot, packed)
        right = split(words, dirty, page, keep)
        if keep == count:
            write_entry(words, right * pw, cap, kw, 0, high, low, record)
            words[right * pw + COUNT] = 1
            add_child(words, dirty, path, right, high, low, record, packed)
            words[META_ENTRIES] += ONE
            return right, 1
        up_high, up_low, up_record = read_entry(words, right * pw, cap, kw, 0)
        add_child(words, dirty, path, right, up_high, up_low, up_record, packed)
        if slot > keep:  # an insert at `keep` itself is below the separator
            page = right
            slot -= keep
        at = page * pw
        count = get(words, at + COUNT)
    open_slot(words, at, cap, kw + 1, count, slot)
    write_entry(words, at, cap, kw, slot, high, low, record)
    words[at + COUNT] = count + 1
    words[META_ENTRIES] += ONE
    dirty[page] = 1
    dirty[META_PAGE] = 1
    return page, 1


@njit(nogil=True, cache=True)
def insert_fixed(
    data: Any, dirty: Any, limit: int, path: Any, keys: Any, records: Any, inserted: Any, packed: bool
) -> int:
    """Inserts pairs in order. keys: uint64[n * key words]. Fills inserted[n].

    Returns n, or the first pair that found no room.
    """
    words = data.view(np.uint64)
    kw = get(words, META_FORM)
    finger = get(words, META_ROOT)
    if get(words, META_HEIGHT) > 1:
        finger = NO_PAGE
    for i in range(len(records)):
        high = keys[2 * i] if kw == 2 else ZERO
        low = keys[kw * i + kw - 1]
        if finger == NO_PAGE:
            finger = descend(words, path, high, low, np.uint64(records[i]))
        finger, status = put(words, dirty, limit, path, finger, high, low, np.uint64(records[i]), packed)
        if status == NO_ROOM:
            return i
        inserted[i] = status
    return len(records)
