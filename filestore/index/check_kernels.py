"""The verifier's loops: node by node, level by level. They return (code, page), code 0 when all is well; see `check`.

The walk trusts nothing it has not seen: page numbers are bounded by the high-water mark, counts by capacities,
offsets by the page, and each page may be visited once, so a damaged tree ends the walk and not the process.

Thread rule: that of `filestore.index.base`. Not here: what a code means in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index import fixed_kernels, slotted_kernels
from filestore.index.layout import (
    COUNT,
    FORM_BYTES,
    FREE,
    HEADER_BYTES,
    HEADER_WORDS,
    HEAP,
    HOLES,
    INNER,
    KIND,
    LEAF,
    LEVEL,
    META_ENTRIES,
    META_FORM,
    META_FREE_HEAD,
    META_FREE_PAGES,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_PAGES,
    META_ROOT,
    META_WORDS,
    NEXT,
    NO_PAGE,
    PAGE,
    PREV,
    SHARED,
    SLOT_BYTES,
    WORD,
)
from filestore.index.page_kernels import get, page_words

OK = 0
BAD_KIND = 1
BAD_NUMBER = 2
BAD_COUNT = 3
BAD_PREV = 4
BAD_CHILD = 5
BAD_ORDER = 6
BAD_BOUND = 7
BAD_FREE_BYTES = 8
BAD_ENTRIES = 9
BAD_FREE_LIST = 10
UNREACHABLE = 11
BAD_CELL = 12
BAD_SEPARATOR = 13
BAD_CHAIN = 14
BAD_RECORD = 15

_child_of = slotted_kernels.child_of
_slot_of = slotted_kernels.slot_of
_cell_size = slotted_kernels.cell_size
_cell_head = slotted_kernels.cell_head
_common_bytes = slotted_kernels.common_bytes
_head_of = slotted_kernels.head_of
_compare_slot = slotted_kernels.compare_slot
_record_of = slotted_kernels.record_of
_read_entry = fixed_kernels.read_entry


@njit(nogil=True, cache=True)
def is_zero(words: Any, first: int, last: int) -> bool:
    """Whether words[first:last] are all zero."""
    for i in range(first, last):  # noqa: SIM110 - numba has no all() over a generator
        if words[i] != 0:
            return False
    return True


@njit(nogil=True, cache=True)
def check_header(words: Any, page: int, level: int, prev: int, seen: Any) -> int:
    """A node's header, and that it was not met before; marks it seen."""
    at = page * page_words(words)
    if seen[page] != 0:
        return BAD_CHILD
    seen[page] = 1
    if get(words, at + KIND) != (LEAF if level == 0 else INNER) or get(words, at + LEVEL) != level:
        return BAD_KIND
    if get(words, at + PAGE) != page:
        return BAD_NUMBER
    if get(words, at + PREV) != prev:
        return BAD_PREV
    following = get(words, at + NEXT)
    if following < 0 or following >= get(words, META_PAGES):
        return BAD_CHAIN
    return OK


@njit(nogil=True, cache=True)
def check_fixed_node(words: Any, page: int, level: int) -> int:
    """Count, order inside the node, and zeros behind the entries of each column."""
    at = page * page_words(words)
    pw = page_words(words)
    kw = get(words, META_FORM)
    cap = get(words, META_LEAF_CAPACITY) if level == 0 else get(words, META_INNER_CAPACITY)
    columns = kw + 1 if level == 0 else kw + 2
    count = get(words, at + COUNT)
    lone = level == 0 and get(words, META_HEIGHT) == 1
    if (
        count < (0 if lone else 1)
        or count > cap
        or words[at + HEAP] != 0
        or words[at + HOLES] != 0
        or words[at + SHARED] != 0
    ):
        return BAD_COUNT
    for column in range(columns):
        base = at + HEADER_WORDS + column * cap
        if not is_zero(words, base + count, base + cap):
            return BAD_FREE_BYTES
        if level > 0 and column <= kw and words[base] != 0:
            return BAD_SEPARATOR
    if not is_zero(words, at + HEADER_WORDS + columns * cap, at + pw):
        return BAD_FREE_BYTES
    records = at + HEADER_WORDS + kw * cap
    for slot in range(count):
        if get(words, records + slot) < 0:
            return BAD_RECORD
    for slot in range(1 if level == 0 else 2, count):
        a_high, a_low, a_record = _read_entry(words, at, cap, kw, slot - 1)
        b_high, b_low, b_record = _read_entry(words, at, cap, kw, slot)
        above = a_low < b_low or (a_low == b_low and a_record < b_record)
        if not (a_high < b_high or (a_high == b_high and above)):
            return BAD_ORDER
    return OK


@njit(nogil=True, cache=True)
def check_cells(data: Any, words: Any, at: int, pw: int, level: int, mark: Any) -> int:
    """Every cell lies alone inside the heap with a right head, its padding zero.

    `mark` (words of a page) gets the covered words.
    """
    count = get(words, at + COUNT)
    heap = get(words, at + HEAP)
    for i in range(pw):
        mark[i] = 0
    live = 0
    shared = get(words, at + SHARED)
    _, any_offset, any_length = _slot_of(words, at, count - 1)
    any_key = at * WORD + any_offset + _cell_head(level)
    if count > (0 if level == 0 else 1) and (
        any_length < shared or any_offset + _cell_size(level, any_length) > pw * WORD
    ):
        return BAD_CELL
    for slot in range(count):
        head, offset, length = _slot_of(words, at, slot)
        size = _cell_size(level, length)
        if offset % WORD != 0 or offset < heap or offset + size > pw * WORD:
            return BAD_CELL
        if get(words, at + offset // WORD) < 0:
            return BAD_RECORD
        live += size
        for i in range(offset // WORD, (offset + size) // WORD):
            if mark[i] != 0:
                return BAD_CELL
            mark[i] = 1
        first = at * WORD + offset + _cell_head(level)
        if level > 0 and slot == 0:
            if head != 0:
                return BAD_SEPARATOR
        elif length < shared or head != _head_of(data, first + shared, first + length):
            return BAD_CELL
        if (level == 0 or slot > 0) and _common_bytes(data, first, data, any_key, shared) < shared:
            return BAD_CELL
        for i in range(first + length, at * WORD + offset + size):
            if data[i] != 0:
                return BAD_FREE_BYTES
    if live + get(words, at + HOLES) != pw * WORD - heap:
        return BAD_COUNT
    for i in range(HEADER_WORDS + count, pw):
        if mark[i] == 0 and words[at + i] != 0:
            return BAD_FREE_BYTES
    return OK


@njit(nogil=True, cache=True)
def compare_slots(data: Any, words: Any, a: int, a_level: int, a_slot: int, b: int, b_level: int, b_slot: int) -> int:
    """-1, 0 or 1 as one slot's entry sorts before, with or after another's."""
    _, offset, length = _slot_of(words, b, b_slot)
    first = b * WORD + offset + _cell_head(b_level)
    record = _record_of(words, b, b_slot)
    return int(_compare_slot(data, words, a, a_level, a_slot, data, first, first + length, record))


@njit(nogil=True, cache=True)
def check_slotted_node(data: Any, words: Any, page: int, level: int, mark: Any) -> int:
    """Count, cells, holes, order inside the node, zeros everywhere else."""
    pw = page_words(words)
    at = page * pw
    count = get(words, at + COUNT)
    heap = get(words, at + HEAP)
    lone = level == 0 and get(words, META_HEIGHT) == 1
    # Each bound is tested before a product with it is formed: a flipped high bit must not overflow back into range.
    if count < (0 if lone else 1) or count > pw or heap % WORD != 0 or heap > pw * WORD:
        return BAD_COUNT
    if heap < HEADER_BYTES + count * SLOT_BYTES or not 0 <= get(words, at + SHARED) <= pw * WORD:
        return BAD_COUNT
    code = check_cells(data, words, at, pw, level, mark)
    if code != OK:
        return code
    if level > 0:
        head, offset, length = _slot_of(words, at, 0)
        if head != 0 or length != 0 or words[at + offset // WORD] != 0:
            return BAD_SEPARATOR
    for slot in range(1 if level == 0 else 2, count):
        if compare_slots(data, words, at, level, slot - 1, at, level, slot) >= 0:
            return BAD_ORDER
    return OK


@njit(nogil=True, cache=True)
def child_page(words: Any, at: int, slot: int) -> Any:
    """An inner slot's child in either form."""
    if get(words, META_FORM) == FORM_BYTES:
        return _child_of(words, at, slot)
    cap = get(words, META_INNER_CAPACITY)
    return get(words, at + HEADER_WORDS + (get(words, META_FORM) + 1) * cap + slot)


@njit(nogil=True, cache=True)
def compare_entries(data: Any, words: Any, a: int, a_level: int, a_slot: int, b: int, b_level: int, b_slot: int) -> int:
    """-1, 0 or 1 as one node's entry or separator sorts before, with or after another's, in either form."""
    kw = get(words, META_FORM)
    if kw == FORM_BYTES:
        return compare_slots(data, words, a, a_level, a_slot, b, b_level, b_slot)
    a_cap = get(words, META_LEAF_CAPACITY) if a_level == 0 else get(words, META_INNER_CAPACITY)
    b_cap = get(words, META_LEAF_CAPACITY) if b_level == 0 else get(words, META_INNER_CAPACITY)
    a_high, a_low, a_record = _read_entry(words, a, a_cap, kw, a_slot)
    b_high, b_low, b_record = _read_entry(words, b, b_cap, kw, b_slot)
    if a_high == b_high and a_low == b_low and a_record == b_record:
        return 0
    if a_high != b_high:
        return -1 if a_high < b_high else 1
    if a_low != b_low:
        return -1 if a_low < b_low else 1
    return -1 if a_record < b_record else 1


@njit(nogil=True, cache=True)
def check_level(data: Any, words: Any, first: int, level: int, seen: Any, mark: Any) -> tuple[int, int, int]:
    """One level's chain from its first page: (code, page, entries or children in it)."""
    pw = page_words(words)
    page, prev, total = first, NO_PAGE, 0
    while page != NO_PAGE:
        code = check_header(words, page, level, prev, seen)
        if code == OK:
            if get(words, META_FORM) == FORM_BYTES:
                code = check_slotted_node(data, words, page, level, mark)
            else:
                code = check_fixed_node(words, page, level)
        if code != OK:
            return code, page, total
        at = page * pw
        least = 0 if level == 0 else 1  # slot 0 of an inner node has nothing to compare
        if prev != NO_PAGE and get(words, at + COUNT) > least and get(words, prev * pw + COUNT) > least:
            before = prev * pw
            if compare_entries(data, words, before, level, get(words, before + COUNT) - 1, at, level, least) >= 0:
                return BAD_ORDER, page, total
        total += get(words, at + COUNT)
        prev, page = page, get(words, at + NEXT)
    return OK, NO_PAGE, total


@njit(nogil=True, cache=True)
def check_chain(words: Any, first: int) -> tuple[int, int]:
    """The children of a level, in order, are the chain below it."""
    pw = page_words(words)
    page = first
    child = child_page(words, first * pw, 0)
    while page != NO_PAGE:
        at = page * pw
        for slot in range(get(words, at + COUNT)):
            if child == NO_PAGE or child_page(words, at, slot) != child:
                return BAD_CHILD, page
            child = get(words, child * pw + NEXT)
        page = get(words, at + NEXT)
    return (OK, NO_PAGE) if child == NO_PAGE else (BAD_CHAIN, child)


@njit(nogil=True, cache=True)
def check_bounds(data: Any, words: Any, first: int, level: int) -> tuple[int, int]:
    """
    ach separator of a level is above the last entry of the leaf left of it and not above the first entry right of it.
    """
    pw = page_words(words)
    page = first
    while page != NO_PAGE:
        at = page * pw
        for slot in range(1, get(words, at + COUNT)):
            leaf = child_page(words, at, slot)
            for _ in range(level - 1):
                leaf = child_page(words, leaf * pw, 0)
            left = get(words, leaf * pw + PREV)
            if compare_entries(data, words, at, level, slot, leaf * pw, 0, 0) > 0:
                return BAD_BOUND, leaf
            if compare_entries(data, words, left * pw, 0, get(words, left * pw + COUNT) - 1, at, level, slot) >= 0:
                return BAD_BOUND, left
        page = get(words, at + NEXT)
    return OK, NO_PAGE


@njit(nogil=True, cache=True)
def check_free(words: Any, seen: Any) -> tuple[int, int]:
    """The free list's pages are zero and met nowhere else,
    and every page below the high-water mark is a node or free."""
    pw = page_words(words)
    pages = get(words, META_PAGES)
    page, free = get(words, META_FREE_HEAD), 0
    while page != NO_PAGE:
        if page < 0 or page >= pages or seen[page] != 0:
            return BAD_FREE_LIST, page
        seen[page] = 1
        at = page * pw
        if get(words, at + KIND) != FREE or get(words, at + PAGE) != page:
            return BAD_FREE_LIST, page
        for i in range(pw):
            if words[at + i] != 0 and i != KIND and i != PAGE and i != NEXT:
                return BAD_FREE_BYTES, page
        free += 1
        page = get(words, at + NEXT)
    if free != get(words, META_FREE_PAGES):
        return BAD_FREE_LIST, 0
    for page in range(1, pages):
        if seen[page] == 0:
            return UNREACHABLE, page
    return OK, 0


@njit(nogil=True, cache=True)
def check_tree(data: Any, seen: Any, mark: Any) -> tuple[int, int]:
    """The whole index. seen: zeroed uint8[high-water mark]; mark: uint8[words of a page]."""
    words = data.view(np.uint64)
    pw = page_words(words)
    first = get(words, META_ROOT)
    height = get(words, META_HEIGHT)
    if first <= 0 or first >= get(words, META_PAGES) or get(words, first * pw + NEXT) != NO_PAGE:
        return BAD_CHILD, 0
    if height > 1 and get(words, first * pw + COUNT) < 2:
        return BAD_COUNT, first
    for level in range(height - 1, -1, -1):
        code, page, total = check_level(data, words, first, level, seen, mark)
        if code != OK:
            return code, page
        if level == 0 and total != get(words, META_ENTRIES):
            return BAD_ENTRIES, 0
        if level > 0:
            first = child_page(words, first * pw, 0)
            if first <= 0 or first >= get(words, META_PAGES):
                return BAD_CHILD, 0
    # What lies between nodes is compared only after every node has proved sound in itself.
    first = get(words, META_ROOT)
    for _ in range(height - 1, 0, -1):
        code, page = check_chain(words, first)
        if code != OK:
            return code, page
        first = child_page(words, first * pw, 0)
    first = get(words, META_ROOT)
    for level in range(height - 1, 0, -1):
        code, page = check_bounds(data, words, first, level)
        if code != OK:
            return code, page
        first = child_page(words, first * pw, 0)
    if not is_zero(words, META_WORDS, pw):
        return BAD_FREE_BYTES, 0
    return check_free(words, seen)
