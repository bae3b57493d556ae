"""Removing packed keys, freeing and merging nodes on the way; see `fixed_kernels` for the nodes and the rules.

Thread rule: that of `filestore.index.base`. Not here: shrinking the file; free pages are used again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.fixed_kernels import ONE, ZERO, close_slot, descend, move_entries, read_entry, search, write_entry
from filestore.index.layout import (
    COUNT,
    HEADER_WORDS,
    LEVEL,
    META_ENTRIES,
    META_FORM,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_PAGE,
    META_ROOT,
)
from filestore.index.page_kernels import get, page_words, release, unlink


@njit(nogil=True, cache=True)
def shrink_root(words: Any, dirty: Any) -> None:
    """Drops inner roots that have one child."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    while get(words, META_HEIGHT) > 1:
        root = get(words, META_ROOT)
        at = root * pw
        if get(words, at + COUNT) != 1:
            return
        words[META_ROOT] = words[at + HEADER_WORDS + (kw + 1) * cap]
        words[META_HEIGHT] -= ONE
        release(words, dirty, root)


@njit(nogil=True, cache=True)
def drop_child(words: Any, dirty: Any, page: int, slot: int) -> None:
    """Takes a child out of an inner node. The child of slot 1 steps into slot 0 without its separator."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_INNER_CAPACITY)
    at = page * pw
    count = get(words, at + COUNT)
    close_slot(words, at, cap, kw + 2, count, slot)
    if slot == 0 and count > 1:
        write_entry(words, at, cap, kw, 0, ZERO, ZERO, ZERO)
    dirty[page] = 1


@njit(nogil=True, cache=True)
def merge(words: Any, dirty: Any, parent: int, slot: int) -> bool:
    """
    oves the child at `slot` of `parent` into its left neighbour if both together are at most three quarters full."""
    pw = page_words(words)
    kw = get(words, META_FORM)
    inner_cap = get(words, META_INNER_CAPACITY)
    up = parent * pw
    children = up + HEADER_WORDS + (kw + 1) * inner_cap
    left = get(words, children + slot - 1)
    right = get(words, children + slot)
    a = left * pw
    b = right * pw
    leaf = get(words, a + LEVEL) == 0
    cap = get(words, META_LEAF_CAPACITY) if leaf else inner_cap
    columns = kw + 1 if leaf else kw + 2
    n = get(words, a + COUNT)
    m = get(words, b + COUNT)
    if 4 * (n + m) > 3 * cap:
        return False
    if not leaf:  # the separator between the two comes down in front of the right one's first child
        high, low, record = read_entry(words, up, inner_cap, kw, slot)
        write_entry(words, b, cap, kw, 0, high, low, record)
    move_entries(words, b, 0, m, a, n, cap, columns)
    words[a + COUNT] = n + m
    dirty[left] = 1
    unlink(words, dirty, right)
    release(words, dirty, right)
    drop_child(words, dirty, parent, slot)
    return True


@njit(nogil=True, cache=True)
def mend(words: Any, dirty: Any, path: Any) -> None:
    """Walks up from a leaf that lost an entry: frees what is empty, merges what is thin,
    stops where nothing changed."""
    pw = page_words(words)
    height = get(words, META_HEIGHT)
    for level in range(height - 1):
        page = path[2 * level]
        parent = path[2 * level + 2]
        slot = path[2 * level + 3]
        count = get(words, page * pw + COUNT)
        cap = get(words, META_LEAF_CAPACITY) if level == 0 else get(words, META_INNER_CAPACITY)
        if count == 0:
            unlink(words, dirty, page)
            release(words, dirty, page)
            drop_child(words, dirty, parent, slot)
        elif 4 * count < cap:
            merged = slot > 0 and merge(words, dirty, parent, slot)
            if not merged:
                merged = slot + 1 < get(words, parent * pw + COUNT) and merge(words, dirty, parent, slot + 1)
            if not merged:
                return
        else:
            return
    shrink_root(words, dirty)


@njit(nogil=True, cache=True)
def remove_fixed(data: Any, dirty: Any, path: Any, keys: Any, records: Any, removed: Any) -> None:
    """Removes pairs in order and fills removed[n]."""
    words = data.view(np.uint64)
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY)
    for i in range(len(records)):
        high = keys[2 * i] if kw == 2 else ZERO
        low = keys[kw * i + kw - 1]
        record = np.uint64(records[i])
        page = descend(words, path, high, low, record)
        at = page * pw
        count = get(words, at + COUNT)
        slot = search(words, at, cap, 0, count, kw, high, low, record)
        removed[i] = 0
        if slot == count:
            continue
        old_high, old_low, old_record = read_entry(words, at, cap, kw, slot)
        if old_high != high or old_low != low or old_record != record:
            continue
        close_slot(words, at, cap, kw + 1, count, slot)
        words[META_ENTRIES] -= ONE
        dirty[page] = 1
        dirty[META_PAGE] = 1
        removed[i] = 1
        if 4 * (count - 1) < cap:
            mend(words, dirty, path)
