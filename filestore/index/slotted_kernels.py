"""B+Tree kernels for keys of bytes: slotted nodes, entries (key bytes, record) compared as memcmp, then by record.

Same algorithm as `fixed_kernels`, measured in bytes instead of entries: split at half the bytes (9 : 1 at the right
edge), free what is empty, merge below a quarter if both fit in three quarters. No key is longer than
`layout.max_key_bytes`, so either half of a split node has room for one more cell.

Inner nodes carry truncated separators: the shortest prefix of the right key that is above the left key, with record
0; where two neighbours have the same key it is the whole key with the right one's record. Slot 0 has an empty
separator.

A slot repeats the first 4 bytes of its key, so that most comparisons of a search touch no cell. A removed cell is
zeroed and its bytes counted as holes; a node is compacted, through `scratch`, only when an insert needs them.

scratch: uint8[3 pages]: a page copy, and two separators on their way up.

Thread rule: that of `filestore.index.base`, for reading too. Not here: any check of what a page says; `check_kernels`
has those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import (
    COUNT,
    HEADER_BYTES,
    HEADER_WORDS,
    HEAP,
    HOLES,
    INNER_CELL_HEAD,
    LEAF_CELL_HEAD,
    LEVEL,
    META_HEIGHT,
    META_ROOT,
    NEXT,
    SHARED,
    SLOT_BYTES,
    SLOT_HEAD_SHIFT,
    SLOT_OFFSET_SHIFT,
    WORD,
)
from filestore.index.page_kernels import clear_body, get, page_words

MAX_RECORD = np.uint64(0xFFFFFFFFFFFFFFFF)  # above every record number
ONE = np.uint64(1)
ZERO = np.uint64(0)
HEAD_BYTES = 4
LOW16 = 0xFFFF


@njit(nogil=True, cache=True)
def head_of(key: Any, start: int, end: int) -> Any:
    """The first 4 bytes as a big-endian number, zero padded: unequal heads order as their keys do."""
    head: Any = 0
    for i in range(HEAD_BYTES):
        head = (head << 8) | (np.int64(key[start + i]) if start + i < end else 0)
    return head


@njit(nogil=True, cache=True)
def slot_of(words: Any, at: int, slot: int) -> tuple[Any, Any, Any]:
    """(head, cell offset, key length) of a slot."""
    word = words[at + HEADER_WORDS + slot]
    offset = np.int64(word >> np.uint64(SLOT_OFFSET_SHIFT)) & LOW16
    return np.int64(word >> np.uint64(SLOT_HEAD_SHIFT)), offset, np.int64(word) & LOW16


@njit(nogil=True, cache=True)
def make_slot(head: int, offset: int, length: int) -> Any:
    """The slot word."""
    return np.uint64((head << SLOT_HEAD_SHIFT) | (offset << SLOT_OFFSET_SHIFT) | length)


@njit(nogil=True, cache=True)
def cell_head(level: int) -> int:
    """Bytes of a cell before its key."""
    return LEAF_CELL_HEAD if level == 0 else INNER_CELL_HEAD


@njit(nogil=True, cache=True)
def cell_size(level: int, length: int) -> int:
    """Bytes of a cell with its padding."""
    return (cell_head(level) + length + WORD - 1) // WORD * WORD


@njit(nogil=True, cache=True)
def record_of(words: Any, at: int, slot: int) -> Any:
    """The record of an entry or a separator."""
    return words[at + slot_of(words, at, slot)[1] // WORD]


@njit(nogil=True, cache=True)
def child_of(words: Any, at: int, slot: int) -> Any:
    """The child page of an inner slot."""
    return get(words, at + slot_of(words, at, slot)[1] // WORD + 1)


@njit(nogil=True, cache=True)
def compare_bytes(a: Any, a_start: int, a_end: int, b: Any, b_start: int, b_end: int) -> int:
    """-1, 0 or 1 as a sorts before, with or after b; a prefix sorts first."""
    n = min(a_end - a_start, b_end - b_start)
    for i in range(n):
        x = a[a_start + i]
        y = b[b_start + i]
        if x != y:
            return -1 if x < y else 1
    if a_end - a_start == b_end - b_start:
        return 0
    return -1 if a_end - a_start < b_end - b_start else 1


@njit(nogil=True, cache=True)
def compare_slot(
    data: Any, words: Any, at: int, level: int, slot: int, key: Any, start: int, end: int, record: Any
) -> int:
    """-1, 0 or 1 as the slot's entry sorts before, with or after (key, record)."""
    _, offset, length = slot_of(words, at, slot)
    first = at * WORD + offset + cell_head(level)
    order = compare_bytes(data, first, first + length, key, start, end)
    if order != 0:
        return order
    own = words[at + offset // WORD]
    return 0 if own == record else (-1 if own < record else 1)


@njit(nogil=True, cache=True)
def common_bytes(a: Any, a_start: int, b: Any, b_start: int, most: int) -> int:
    """How many leading bytes two strings have in common, at most `most`."""
    same = 0
    while same < most and a[a_start + same] == b[b_start + same]:
        same += 1
    return same


@njit(nogil=True, cache=True)
def search(data: Any, words: Any, at: int, first: int, count: int, key: Any, start: int, end: int, record: Any) -> int:
    """First slot in [first, count) whose entry is >= (key, record); count if there is none.

    One look at a cell settles the shared bytes, heads settle most of the rest without touching cells. Entries
    between two that have k bytes in common with the key have them too, so a comparison starts behind those.
    """
    if first >= count:
        return first
    cells = at * WORD + cell_head(get(words, at + LEVEL))
    shared = get(words, at + SHARED)
    any_key = cells + slot_of(words, at, count - 1)[1]
    same = common_bytes(data, any_key, key, start, min(shared, end - start))
    if same < shared:
        return count if same < end - start and key[start + same] > data[any_key + same] else first
    head = head_of(key, start + shared, end)
    below_same, above_same = shared, shared
    n = count - first
    while n > 0:
        half = n >> 1
        slot_head, offset, length = slot_of(words, at, first + half)
        same = shared
        if slot_head != head:
            less = slot_head < head
        else:
            shorter = min(length, end - start)
            skip = max(min(shared + HEAD_BYTES, shorter), min(below_same, above_same))
            same = skip + common_bytes(data, cells + offset + skip, key, start + skip, shorter - skip)
            if same < shorter:
                less = data[cells + offset + same] < key[start + same]
            elif length != end - start:
                less = length < end - start
            else:
                less = words[at + offset // WORD] < record
        if less:
            first += half + 1
            n -= half + 1
            below_same = same
        else:
            n = half
            above_same = same
    return first


@njit(nogil=True, cache=True)
def child_slot(data: Any, words: Any, at: int, key: Any, start: int, end: int, record: Any) -> int:
    """Slot of the child whose subtree holds the entry: the last separator that is <= it."""
    above = record if record == MAX_RECORD else record + ONE
    return search(data, words, at, 1, get(words, at + COUNT), key, start, end, above) - 1


@njit(nogil=True, cache=True)
def descend(data: Any, words: Any, path: Any, key: Any, start: int, end: int, record: Any) -> Any:
    """The leaf that holds or would hold the entry; `path` gets the pages and slots on the way."""
    pw = page_words(words)
    page = get(words, META_ROOT)
    for level in range(get(words, META_HEIGHT) - 1, 0, -1):
        slot = child_slot(data, words, page * pw, key, start, end, record)
        path[2 * level] = page
        path[2 * level + 1] = slot
        page = child_of(words, page * pw, slot)
    path[0] = page
    return page


@njit(nogil=True, cache=True)
def seek(data: Any, words: Any, key: Any, start: int, end: int, record: Any) -> tuple[int, int]:
    """(leaf, slot) of the first entry >= (key, record); (NO_PAGE, 0) behind the last."""
    pw = page_words(words)
    page = get(words, META_ROOT)
    for _ in range(get(words, META_HEIGHT) - 1):
        page = child_of(words, page * pw, child_slot(data, words, page * pw, key, start, end, record))
    at = page * pw
    count = get(words, at + COUNT)
    slot = search(data, words, at, 0, count, key, start, end, record)
    if slot < count:
        return page, slot
    return get(words, at + NEXT), 0


@njit(nogil=True, cache=True)
def used_bytes(words: Any, at: int, pw: int) -> Any:
    """Bytes of a node's slots and live cells."""
    return get(words, at + COUNT) * SLOT_BYTES + pw * WORD - get(words, at + HEAP) - get(words, at + HOLES)


@njit(nogil=True, cache=True)
def narrow_shared(data: Any, words: Any, at: int, slot: int, key: Any, start: int, end: int) -> Any:
    """Makes `shared` hold for a key about to be inserted at `slot` too, and returns it.

    All heads follow when it shrinks.
    """
    level = get(words, at + LEVEL)
    count = get(words, at + COUNT)
    first = 0 if level == 0 else 1
    if count <= first:
        words[at + SHARED] = end - start
        return end - start
    shared = get(words, at + SHARED)
    if first < slot < count:
        return shared  # between two keys that have those bytes
    cells = at * WORD + cell_head(level)
    other = cells + slot_of(words, at, first if slot == first else count - 1)[1]
    same = common_bytes(data, other, key, start, min(shared, end - start))
    if same < shared:
        words[at + SHARED] = same
        for i in range(first, count):
            _, offset, length = slot_of(words, at, i)
            head = head_of(data, cells + offset + same, cells + offset + length)
            words[at + HEADER_WORDS + i] = make_slot(head, offset, length)
    return same


@njit(nogil=True, cache=True)
def append_cell(
    data: Any, words: Any, at: int, slot: int, record: Any, child: int, key: Any, start: int, end: int
) -> None:
    """Writes a cell below the others and its slot at `slot`, moving later slots up; the gap has room."""
    level = get(words, at + LEVEL)
    count = get(words, at + COUNT)
    length = end - start
    head = 0
    if level == 0 or slot > 0:
        head = head_of(key, start + narrow_shared(data, words, at, slot, key, start, end), end)
    offset = get(words, at + HEAP) - cell_size(level, length)
    words[at + HEAP] = offset
    words[at + offset // WORD] = record
    if level > 0:
        words[at + offset // WORD + 1] = child
    first = at * WORD + offset + cell_head(level)
    for i in range(length):
        data[first + i] = key[start + i]
    base = at + HEADER_WORDS
    for i in range(count, slot, -1):
        words[base + i] = words[base + i - 1]
    words[base + slot] = make_slot(head, offset, length)
    words[at + COUNT] = count + 1


@njit(nogil=True, cache=True)
def copy_cells(source: Any, source_at: int, first: int, last: int, data: Any, words: Any, at: int) -> None:
    """Appends the cells [first, last) of a page in `source` to the node at `at`."""
    source_words = source.view(np.uint64)
    level = get(words, at + LEVEL)
    for slot in range(first, last):
        _, offset, length = slot_of(source_words, source_at, slot)
        record = source_words[source_at + offset // WORD]
        child = get(source_words, source_at + offset // WORD + 1) if level > 0 else 0
        begin = source_at * WORD + offset + cell_head(level)
        append_cell(data, words, at, get(words, at + COUNT), record, child, source, begin, begin + length)


@njit(nogil=True, cache=True)
def empty_node(words: Any, at: int, pw: int) -> None:
    """Takes every cell out of a node."""
    clear_body(words, at, pw)
    words[at + COUNT] = 0
    words[at + HEAP] = pw * WORD
    words[at + HOLES] = 0
    words[at + SHARED] = 0


@njit(nogil=True, cache=True)
def copy_page(words: Any, at: int, pw: int, scratch: Any) -> None:
    """Copies a page to the start of scratch."""
    target = scratch.view(np.uint64)
    for i in range(pw):
        target[i] = words[at + i]


@njit(nogil=True, cache=True)
def compact(data: Any, words: Any, at: int, scratch: Any) -> None:
    """Closes a node's holes."""
    pw = page_words(words)
    count = get(words, at + COUNT)
    copy_page(words, at, pw, scratch)
    empty_node(words, at, pw)
    copy_cells(scratch, 0, 0, count, data, words, at)


@njit(nogil=True, cache=True)
def insert_cell(
    data: Any,
    words: Any,
    at: int,
    slot: int,
    record: Any,
    child: int,
    key: Any,
    start: int,
    end: int,
    scratch: Any,
) -> None:
    """Inserts a cell into a node that has room for it, if need be in its holes."""
    need = SLOT_BYTES + cell_size(get(words, at + LEVEL), end - start)
    gap = get(words, at + HEAP) - HEADER_BYTES - get(words, at + COUNT) * SLOT_BYTES
    if gap < need:
        compact(data, words, at, scratch)
    append_cell(data, words, at, slot, record, child, key, start, end)


@njit(nogil=True, cache=True)
def remove_cell(words: Any, at: int, slot: int) -> None:
    """Removes a cell and zeroes its bytes."""
    level = get(words, at + LEVEL)
    count = get(words, at + COUNT)
    _, offset, length = slot_of(words, at, slot)
    size = cell_size(level, length)
    for i in range(offset // WORD, (offset + size) // WORD):
        words[at + i] = 0
    base = at + HEADER_WORDS
    for i in range(slot, count - 1):
        words[base + i] = words[base + i + 1]
    words[base + count - 1] = 0
    words[at + COUNT] = count - 1
    if count == 1:
        words[at + HEAP] = page_words(words) * WORD
        words[at + HOLES] = 0
    elif offset == get(words, at + HEAP):
        words[at + HEAP] = offset + size
    else:
        words[at + HOLES] = get(words, at + HOLES) + size
