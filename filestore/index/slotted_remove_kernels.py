"""Removing keys of bytes, freeing and merging nodes on the way; see `slotted_kernels` for the nodes and the rules.

Thread rule: that of `filestore.index.base`. Not here: compacting a node, which waits for an insert that needs the
bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import (
    COUNT,
    HEADER_BYTES,
    INNER_CELL_HEAD,
    LEVEL,
    META_ENTRIES,
    META_HEIGHT,
    META_PAGE,
    META_ROOT,
    WORD,
)
from filestore.index.page_kernels import get, page_words, release, unlink
from filestore.index.slotted_kernels import (
    ONE,
    append_cell,
    cell_size,
    child_of,
    compact,
    compare_slot,
    copy_cells,
    descend,
    record_of,
    remove_cell,
    search,
    slot_of,
    used_bytes,
)


@njit(nogil=True, cache=True)
def drop_child(words: Any, dirty: Any, page: int, slot: int) -> None:
    """Takes a child out of an inner node. The child of slot 1 steps into slot 0 without its separator."""
    at = page * page_words(words)
    if slot == 0 and get(words, at + COUNT) > 1:
        _, offset, _ = slot_of(words, at, 0)
        words[at + offset // WORD + 1] = child_of(words, at, 1)
        slot = 1
    remove_cell(words, at, slot)
    dirty[page] = 1


@njit(nogil=True, cache=True)
def merge(data: Any, words: Any, dirty: Any, parent: int, slot: int, scratch: Any) -> bool:
    """
    oves the child at `slot` of `parent` into its left neighbour if both together are at most three quarters full."""
    pw = page_words(words)
    up = parent * pw
    left = child_of(words, up, slot - 1)
    right = child_of(words, up, slot)
    a = left * pw
    b = right * pw
    level = get(words, a + LEVEL)
    _, offset, length = slot_of(words, up, slot)
    total = used_bytes(words, a, pw) + used_bytes(words, b, pw)
    if level > 0:
        total += cell_size(level, length)
    if 4 * total > 3 * (pw * WORD - HEADER_BYTES):
        return False
    compact(data, words, a, scratch)
    first = 0
    if level > 0:  # the separator between the two comes down in front of the right one's first child
        begin = up * WORD + offset + INNER_CELL_HEAD
        record, child = record_of(words, up, slot), child_of(words, b, 0)
        append_cell(data, words, a, get(words, a + COUNT), record, child, data, begin, begin + length)
        first = 1
    copy_cells(data, b, first, get(words, b + COUNT), data, words, a)
    dirty[left] = 1
    unlink(words, dirty, right)
    release(words, dirty, right)
    drop_child(words, dirty, parent, slot)
    return True


@njit(nogil=True, cache=True)
def shrink_root(words: Any, dirty: Any) -> None:
    """Drops inner roots that have one child."""
    pw = page_words(words)
    while get(words, META_HEIGHT) > 1:
        root = get(words, META_ROOT)
        if get(words, root * pw + COUNT) != 1:
            return
        words[META_ROOT] = child_of(words, root * pw, 0)
        words[META_HEIGHT] -= ONE
        release(words, dirty, root)


@njit(nogil=True, cache=True)
def mend(data: Any, words: Any, dirty: Any, path: Any, scratch: Any) -> None:
    """Walks up from a leaf that lost an entry: frees what is empty, merges what is thin,
    stops where nothing changed."""
    pw = page_words(words)
    space = pw * WORD - HEADER_BYTES
    for level in range(get(words, META_HEIGHT) - 1):
        page = path[2 * level]
        parent = path[2 * level + 2]
        slot = path[2 * level + 3]
        if get(words, page * pw + COUNT) == 0:
            unlink(words, dirty, page)
            release(words, dirty, page)
            drop_child(words, dirty, parent, slot)
        elif 4 * used_bytes(words, page * pw, pw) < space:
            merged = slot > 0 and merge(data, words, dirty, parent, slot, scratch)
            if not merged:
                more = slot + 1 < get(words, parent * pw + COUNT)
                merged = more and merge(data, words, dirty, parent, slot + 1, scratch)
            if not merged:
                return
        else:
            return
    shrink_root(words, dirty)


@njit(nogil=True, cache=True)
def remove_slotted(
    data: Any, dirty: Any, path: Any, scratch: Any, offsets: Any, keys: Any, order: Any, records: Any, removed: Any
) -> None:
    """Removes the pairs order[0], order[1], ... and fills removed[n]."""
    words = data.view(np.uint64)
    pw = page_words(words)
    for i in order:
        start, end = offsets[i], offsets[i + 1]
        record = np.uint64(records[i])
        page = descend(data, words, path, keys, start, end, record)
        at = page * pw
        count = get(words, at + COUNT)
        slot = search(data, words, at, 0, count, keys, start, end, record)
        removed[i] = 0
        if slot == count or compare_slot(data, words, at, 0, slot, keys, start, end, record) != 0:
            continue
        remove_cell(words, at, slot)
        words[META_ENTRIES] -= ONE
        dirty[page] = 1
        dirty[META_PAGE] = 1
        removed[i] = 1
        if 4 * used_bytes(words, at, pw) < pw * WORD - HEADER_BYTES:
            mend(data, words, dirty, path, scratch)
