"""B+Tree kernels for keys of bytes: slotted nodes, entries are (key bytes, record), compared as memcmp and then by record.

Same algorithm as `fixed_kernels`, measured in bytes instead of entries: split at half the bytes (9 : 1 at the right edge), free what is
empty, merge below a quarter if both fit in three quarters. No key is longer than `layout.max_key_bytes`, so either half of a split
node has room for one more cell.

Inner nodes carry truncated separators: the shortest prefix of the right key that is above the left key, with record 0; where two
neighbours have the same key it is the whole key with the right one's record. Slot 0 has an empty separator.

A slot repeats the first 4 bytes of its key, so that most comparisons of a search touch no cell. A removed cell is zeroed and its bytes
counted as holes; a node is compacted, through `scratch`, only when an insert needs them.

scratch: uint8[3 pages]: a page copy, and two separators on their way up.
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
    SHARED,
    SLOT_BYTES,
    SLOT_HEAD_SHIFT,
    SLOT_OFFSET_SHIFT,
    WORD,
)
from filestore.index.page_kernels import (
    allocate,
    clear_body,
    get,
    link_after,
    page_words,
    pages_available,
    release,
    unlink,
)

MAX_RECORD = np.uint64(0xFFFFFFFFFFFFFFFF)
ONE = np.uint64(1)
ZERO = np.uint64(0)
PRESENT = 0
NO_ROOM = -1
PACKED_FILL = 15  # sixteenths, as in fixed_kernels
HEAD_BYTES = 4
LOW16 = 0xFFFF


@njit(nogil=True, cache=True)
def head_of(key: Any, start: int, end: int) -> int:
    """The first 4 bytes as a big-endian number, zero padded: unequal heads order as their keys do."""
    head = 0
    for i in range(HEAD_BYTES):
        head = (head << 8) | (np.int64(key[start + i]) if start + i < end else 0)
    return head


@njit(nogil=True, cache=True)
def slot_of(words: Any, at: int, slot: int) -> tuple[int, int, int]:
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
def child_of(words: Any, at: int, slot: int) -> int:
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
def search(
    data: Any, words: Any, at: int, first: int, count: int, key: Any, start: int, end: int, record: Any
) -> int:
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
def descend(data: Any, words: Any, path: Any, key: Any, start: int, end: int, record: Any) -> int:
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
def used_bytes(words: Any, at: int, pw: int) -> int:
    """Bytes of a node's slots and live cells."""
    return get(words, at + COUNT) * SLOT_BYTES + pw * WORD - get(words, at + HEAP) - get(words, at + HOLES)


@njit(nogil=True, cache=True)
def narrow_shared(data: Any, words: Any, at: int, slot: int, key: Any, start: int, end: int) -> int:
    """Makes `shared` hold for a key about to be inserted at `slot` too, and returns it; all heads follow when it shrinks."""
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


@njit(nogil=True, cache=True)
def split(data: Any, words: Any, dirty: Any, page: int, keep: int, scratch: Any) -> int:
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
def split_point(words: Any, at: int, pw: int, slot: int, packed: bool) -> int:
    """How many cells stay left when a node is split for an insert at `slot`; between 1 and count - 1, or count if packed."""
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
    """Writes to into[base:] the shortest key above the left leaf's entry and not above (key, record); (length, record)."""
    _, offset, length = slot_of(words, left, slot)
    first = left * WORD + offset + LEAF_CELL_HEAD
    same = 0
    while same < length and same < end - start and data[first + same] == key[start + same]:
        same += 1
    # The left entry is below: either the key goes on behind the common prefix, or the keys are equal and the records ascend.
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
    """Enters a new page, right neighbour of the one in path[0], into the levels above. Its separator is in scratch's second page."""
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
    """Inserts the pairs order[0], order[1], ... Fills inserted[n]; returns n, or how many pairs were done when room ran out."""
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
    """Moves the child at `slot` of `parent` into its left neighbour if both together are at most three quarters full."""
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
    """Walks up from a leaf that lost an entry: frees what is empty, merges what is thin, stops where nothing changed."""
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
