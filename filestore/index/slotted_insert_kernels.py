"""Inserting keys of bytes, splitting nodes on the way; see `slotted_kernels` for the nodes and the rules.

Thread rule: that of `filestore.index.base`. Not here: undoing an insert for which pages ran out, which is
`filestore.index.btree`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import (
    COUNT,
    HEADER_BYTES,
    HEAP,
    INNER,
    INNER_CELL_HEAD,
    LEAF,
    LEAF_CELL_HEAD,
    LEVEL,
    META_ENTRIES,
    META_HEIGHT,
    META_PAGE,
    META_ROOT,
    NEXT,
    NO_PAGE,
    SLOT_BYTES,
    WORD,
)
from filestore.index.page_kernels import allocate, get, link_after, page_words, pages_available
from filestore.index.slotted_kernels import (
    ONE,
    ZERO,
    append_cell,
    cell_size,
    child_of,
    compare_bytes,
    compare_slot,
    copy_cells,
    copy_page,
    descend,
    empty_node,
    insert_cell,
    record_of,
    remove_cell,
    search,
    slot_of,
    used_bytes,
)

PRESENT = 0
NO_ROOM = -1
PACKED_FILL = (
    15  # sixteenths of a node that a bulk build fills, so that the first inserts after it do not split every leaf
)


@njit(nogil=True, cache=True)
def split(data: Any, words: Any, dirty: Any, page: int, keep: int, scratch: Any) -> Any:
    """Moves the cells [keep, count) of a node to a new right neighbour and returns its page."""
    pw = page_words(words)
    at = page * pw
    level = get(words, at + LEVEL)
    count = get(words, at + COUNT)
    right = allocate(words, dirty, LEAF if level == 0 else INNER, level)
    words[right * pw + HEAP] = pw * WORD
    if keep < count:
        copy_page(words, at, pw, scratch)
        empty_node(words, at, pw)
        copy_cells(scratch, 0, 0, keep, data, words, at)
        copy_cells(scratch, 0, keep, count, data, words, right * pw)
    link_after(words, dirty, page, right)
    return right


@njit(nogil=True, cache=True)
def split_point(words: Any, at: int, pw: int, slot: int, packed: bool) -> Any:
    """How many cells stay left when a node is split for an insert at `slot`.

    Between 1 and count - 1, or count if packed.
    """
    level = get(words, at + LEVEL)
    count = get(words, at + COUNT)
    used = used_bytes(words, at, pw)
    target = used // 2
    if slot == count and get(words, at + NEXT) == NO_PAGE:
        if packed:
            return count
        target = used - used // 10
    left = 0
    for i in range(count - 1):
        left += SLOT_BYTES + cell_size(level, slot_of(words, at, i)[2])
        if left >= target:
            return i + 1
    return count - 1


@njit(nogil=True, cache=True)
def separator(
    data: Any, words: Any, left: int, slot: int, key: Any, start: int, end: int, record: Any, into: Any, base: int
) -> tuple[int, Any]:
    """Writes to into[base:] the shortest key above the left leaf's entry and not above (key, record).

    (length, record).
    """
    _, offset, length = slot_of(words, left, slot)
    first = left * WORD + offset + LEAF_CELL_HEAD
    same = 0
    while same < length and same < end - start and data[first + same] == key[start + same]:
        same += 1
    # The left entry is below: the key goes on behind the common prefix, or the keys are equal and the records ascend.
    equal = same == end - start
    size = same if equal else same + 1
    for i in range(size):
        into[base + i] = key[start + i]
    return size, record if equal else ZERO


@njit(nogil=True, cache=True)
def grow_root(data: Any, words: Any, dirty: Any, right: int, key: Any, start: int, end: int, record: Any) -> None:
    """Puts a new root above the old one and its new right neighbour."""
    pw = page_words(words)
    height = get(words, META_HEIGHT)
    old = get(words, META_ROOT)
    root = allocate(words, dirty, INNER, height)
    words[root * pw + HEAP] = pw * WORD
    append_cell(data, words, root * pw, 0, ZERO, old, key, start, start)
    append_cell(data, words, root * pw, 1, record, right, key, start, end)
    words[META_ROOT] = root
    words[META_HEIGHT] = height + 1


@njit(nogil=True, cache=True)
def strip_first(data: Any, words: Any, at: int, into: Any, base: int) -> tuple[int, Any]:
    """Takes the separator off slot 0 of an inner node, copies it to into[base:] and returns (length, record)."""
    _, offset, length = slot_of(words, at, 0)
    record = record_of(words, at, 0)
    child = child_of(words, at, 0)
    first = at * WORD + offset + INNER_CELL_HEAD
    for i in range(length):
        into[base + i] = data[first + i]
    remove_cell(words, at, 0)
    append_cell(data, words, at, 0, ZERO, child, into, base, base)
    return length, record


@njit(nogil=True, cache=True)
def add_child(
    data: Any, words: Any, dirty: Any, path: Any, right: int, size: int, record: Any, scratch: Any, packed: bool
) -> None:
    """Enters a new page, right neighbour of the one in path[0], into the levels above.

    Its separator is in scratch's second page.
    """
    pw = page_words(words)
    page_size = pw * WORD
    full = (page_size - HEADER_BYTES) * PACKED_FILL // 16 if packed else page_size - HEADER_BYTES
    carry, spare = page_size, 2 * page_size
    for level in range(1, get(words, META_HEIGHT)):
        page = path[2 * level]
        slot = path[2 * level + 1] + 1
        at = page * pw
        up_page, up_size, up_record = NO_PAGE, 0, ZERO
        end = carry + size
        if used_bytes(words, at, pw) + SLOT_BYTES + cell_size(level, size) > full:
            count = get(words, at + COUNT)
            keep = split_point(words, at, pw, slot, packed)
            up_page = split(data, words, dirty, page, keep, scratch)
            if keep == count:  # packed: the new child alone goes right, under its own separator
                for i in range(size):
                    scratch[spare + i] = scratch[carry + i]
                up_size, up_record = size, record
                end, record = carry, ZERO
            else:
                up_size, up_record = strip_first(data, words, up_page * pw, scratch, spare)
            if slot > keep or keep == count:
                at = up_page * pw
                slot -= keep
        insert_cell(data, words, at, slot, record, right, scratch, carry, end, scratch)
        dirty[page] = 1
        if up_page == NO_PAGE:
            return
        right, size, record = up_page, up_size, up_record
        carry, spare = spare, carry
    grow_root(data, words, dirty, right, scratch, carry, carry + size, record)


@njit(nogil=True, cache=True)
def put(
    data: Any,
    words: Any,
    dirty: Any,
    limit: int,
    path: Any,
    scratch: Any,
    finger: int,
    key: Any,
    start: int,
    end: int,
    record: Any,
    packed: bool,
) -> tuple[int, int]:
    """Inserts one entry. Returns (leaf, status): status 1 inserted, PRESENT, or NO_ROOM when a split might lack pages.

    `finger` is the leaf of the previous insert, see fixed_kernels.put.
    """
    pw = page_words(words)
    full = (pw * WORD - HEADER_BYTES) * PACKED_FILL // 16 if packed else pw * WORD - HEADER_BYTES
    need = SLOT_BYTES + cell_size(0, end - start)
    page = finger
    at = page * pw
    slot = 0
    inside = False
    count = get(words, at + COUNT)
    if count > 0 and used_bytes(words, at, pw) + need <= full:
        slot = search(data, words, at, 0, count, key, start, end, record)
        inside = slot > 0 and (slot < count or get(words, at + NEXT) == NO_PAGE)
    if not inside:
        page = descend(data, words, path, key, start, end, record)
        at = page * pw
        count = get(words, at + COUNT)
        slot = search(data, words, at, 0, count, key, start, end, record)
    if slot < count and compare_slot(data, words, at, 0, slot, key, start, end, record) == 0:
        return page, PRESENT
    if used_bytes(words, at, pw) + need > full:
        if pages_available(words, limit) < get(words, META_HEIGHT) + 1:
            return page, NO_ROOM
        keep = split_point(words, at, pw, slot, packed)
        right = split(data, words, dirty, page, keep, scratch)
        if keep == count:
            size, up_record = separator(data, words, at, count - 1, key, start, end, record, scratch, pw * WORD)
        else:
            _, offset, length = slot_of(words, right * pw, 0)
            first = right * pw * WORD + offset + LEAF_CELL_HEAD
            other = record_of(words, right * pw, 0)
            size, up_record = separator(
                data, words, at, keep - 1, data, first, first + length, other, scratch, pw * WORD
            )
            carry = pw * WORD
            order = compare_bytes(scratch, carry, carry + size, key, start, end)
            if order == 0:
                order = -1 if up_record <= record else 1
            keep = keep if order <= 0 else count + 1
        if slot >= keep:
            page = right
            slot -= keep
        add_child(data, words, dirty, path, right, size, up_record, scratch, packed)
        at = page * pw
    insert_cell(data, words, at, slot, record, 0, key, start, end, scratch)
    words[META_ENTRIES] += ONE
    dirty[page] = 1
    dirty[META_PAGE] = 1
    return page, 1


@njit(nogil=True, cache=True)
def insert_slotted(
    data: Any,
    dirty: Any,
    limit: int,
    path: Any,
    scratch: Any,
    offsets: Any,
    keys: Any,
    order: Any,
    records: Any,
    inserted: Any,
    packed: bool,
) -> int:
    """Inserts the pairs order[0], order[1], ... Fills inserted[n].

    Returns n, or how many pairs were done when room ran out.
    """
    words = data.view(np.uint64)
    finger = NO_PAGE
    for j in range(len(order)):
        i = order[j]
        record = np.uint64(records[i])
        start, end = offsets[i], offsets[i + 1]
        if finger == NO_PAGE:
            finger = descend(data, words, path, keys, start, end, record)
        finger, status = put(data, words, dirty, limit, path, scratch, finger, keys, start, end, record, packed)
        if status == NO_ROOM:
            return j
        inserted[i] = status
    return len(order)
