"""B+Tree kernels for packed keys: nodes are columns of words, entries are (high, low, record) compared as unsigned.

In form u64 the key has no high word and kernels are given 0 for it. A range of entries is half open, [low entry, high entry): with
records below 2**63 every inclusive or exclusive bound on keys is such an entry bound, (key, 0) or (key, MAX_RECORD).

Algorithm: descend to the leaf, split a full node in the middle (9 : 1 where the insert appends at the right edge, so that ascending keys
leave full nodes behind), route the new entry by the separator. Removal frees an empty node and merges a node that is less than a quarter
full into a neighbour below the same parent when both together are at most three quarters full; it never borrows. So a node may be
thin between unlucky neighbours; the tree stays shallow all the same because empty nodes go.

Slot 0 of an inner node has no separator, its words are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

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
    PREV,
)
from filestore.index.page_kernels import allocate, get, link_after, page_words, pages_available, release, unlink

MAX_RECORD = np.uint64(0xFFFFFFFFFFFFFFFF)  # above every record number
ONE = np.uint64(1)
ZERO = np.uint64(0)
PRESENT = 0
NO_ROOM = -1
PACKED_FILL = (
    15  # sixteenths of a node that a bulk build fills, so that the first inserts after it do not split every leaf
)


@njit(nogil=True, cache=True)
def search(words: Any, at: int, cap: int, start: int, count: int, kw: int, high: Any, low: Any, record: Any) -> int:
    """First slot in [start, count) of the node at `at` whose entry is >= (high, low, record); count if there is none."""
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
def descend(words: Any, path: Any, high: Any, low: Any, record: Any) -> int:
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
    """Moves entries [first, last) of the node at `source` to `slot` and on of the node at `target`, zeroing their place."""
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


@njit(nogil=True, cache=True)
def split(words: Any, dirty: Any, page: int, keep: int) -> int:
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

    `finger` is the leaf of the previous insert: an entry inside its bounds goes there without a descent. A full leaf is
    always descended to, because a split needs the path.
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
    """Inserts pairs in order. keys: uint64[n * key words]. Fills inserted[n]; returns n, or the first pair that found no room."""
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
    """Moves the child at `slot` of `parent` into its left neighbour if both together are at most three quarters full."""
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
    """Walks up from a leaf that lost an entry: frees what is empty, merges what is thin, stops where nothing changed."""
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


@njit(nogil=True, cache=True)
def lookup_fixed(data: Any, keys: Any, offsets: Any, out: Any) -> int:
    """Writes the records of each key to `out` while there is room and their bounds to offsets[n + 1]; returns the room needed."""
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
    """Writes records of the entries in [low, high) descending; returns how many, fewer than len(out) only at the range's end.

    bounds: uint64[6], the low entry (high word, low word, record), then the high one; the last entry written goes to last[3].
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
