"""Every byte of an index page, told once: the B+Tree's meta page, node header, fixed nodes, slotted nodes, free pages.

All numbers are little-endian 64-bit words, so a kernel reads a field as `words[page * page_words + FIELD]`; the word
offsets below are derived from the dtypes and from each other. Page 0 is the meta page (`META`). Every other page
starts with `HEADER`:

    fixed node    HEADER | column 0 [capacity] | column 1 [capacity] | ...
                  a leaf's columns are the key words and the record, an inner node's the key words, the record and the
                  child
    slotted node  HEADER | slot 0 | slot 1 | ... -> free, zero <- ... cells, growing down from the end of the page
                  slot: head (4 bytes of the key behind the shared ones, big-endian, zero padded) << 32 | cell offset
                  << 16 | key length leaf cell: record, key bytes; inner cell: record, child, key bytes; padded with
                  zeros to a multiple of 8
    free page     HEADER with kind FREE, `next` is the next free page; the rest is zero

Invariants that `check` verifies: bytes that no field, entry or cell uses are zero; entries ascend by (key, record);
slot 0 of an inner node has an all-zero separator that no search looks at; prev and next chain the nodes of one level
from left to right.

Pages are only ever read through 64-bit words, so the layout is that of a little-endian machine, which the import
asserts.

Thread rule: constants. Not here: the algorithms, and the checksums of pages, which are the page store's.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np

MAGIC: Final = int.from_bytes(b"FSBTREE1", "little")
VERSION: Final = 1
WORD: Final = 8

META_PAGE: Final = 0
NO_PAGE: Final = 0  # page 0 is never a node, so it can stand for "none" in links

LEAF: Final = 1
INNER: Final = 2
FREE: Final = 3

FORM_U64: Final = 1  # the key is one word
FORM_U128: Final = 2  # the key is two words, high first; the fixed forms' numbers are their key words
FORM_BYTES: Final = 3

META: Final = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u8"),
        ("page_size", "<u8"),
        ("form", "<u8"),
        ("root", "<u8"),
        ("height", "<u8"),  # levels, 1 for a lone leaf
        ("entries", "<u8"),
        ("pages", "<u8"),  # high-water mark: pages below it are the meta page, nodes, or on the free list
        ("free_head", "<u8"),
        ("free_pages", "<u8"),
        ("leaf_capacity", "<u8"),  # entries of a fixed leaf; 0 in the bytes form
        ("inner_capacity", "<u8"),
    ]
)
HEADER: Final = np.dtype(
    [
        ("kind", "<u8"),
        ("level", "<u8"),  # 0 in leaves
        ("count", "<u8"),
        ("page", "<u8"),  # its own number, so that a misplaced page is seen
        ("prev", "<u8"),
        ("next", "<u8"),
        ("heap", "<u8"),  # slotted: offset of the lowest cell; 0 in fixed nodes
        ("holes", "<u8"),  # slotted: bytes of removed cells above `heap`; 0 in fixed nodes
        (
            "shared",
            "<u8",
        ),  # slotted: leading bytes that all keys of the node have in common, or fewer; 0 in fixed nodes
    ]
)


def _word(dtype: np.dtype[np.void], name: str) -> int:
    """Word offset of a field."""
    fields = dtype.fields
    assert fields is not None
    offset = int(fields[name][1])
    assert offset % WORD == 0
    return offset // WORD


META_MAGIC: Final = _word(META, "magic")
META_VERSION: Final = _word(META, "version")
META_PAGE_SIZE: Final = _word(META, "page_size")
META_FORM: Final = _word(META, "form")
META_ROOT: Final = _word(META, "root")
META_HEIGHT: Final = _word(META, "height")
META_ENTRIES: Final = _word(META, "entries")
META_PAGES: Final = _word(META, "pages")
META_FREE_HEAD: Final = _word(META, "free_head")
META_FREE_PAGES: Final = _word(META, "free_pages")
META_LEAF_CAPACITY: Final = _word(META, "leaf_capacity")
META_INNER_CAPACITY: Final = _word(META, "inner_capacity")
META_WORDS: Final = META.itemsize // WORD

KIND: Final = _word(HEADER, "kind")
LEVEL: Final = _word(HEADER, "level")
COUNT: Final = _word(HEADER, "count")
PAGE: Final = _word(HEADER, "page")
PREV: Final = _word(HEADER, "prev")
NEXT: Final = _word(HEADER, "next")
HEAP: Final = _word(HEADER, "heap")
HOLES: Final = _word(HEADER, "holes")
SHARED: Final = _word(HEADER, "shared")
HEADER_WORDS: Final = HEADER.itemsize // WORD
HEADER_BYTES: Final = HEADER.itemsize

SLOT_BYTES: Final = WORD
LEAF_CELL_HEAD: Final = WORD  # record
INNER_CELL_HEAD: Final = LEAF_CELL_HEAD + WORD  # record, child
SLOT_OFFSET_SHIFT: Final = 16
SLOT_HEAD_SHIFT: Final = 32

PAGE_SIZE: Final = 16384
MIN_PAGE_SIZE: Final = 256  # below it an inner node of the widest fixed form would hold fewer than 4 children
MAX_PAGE_SIZE: Final = 32768  # a slot has 16 bits for a cell's offset, one of them spare
MAX_HEIGHT: Final = 64  # bounds the descent's path; 64 levels of 2 children outnumber all record numbers
MIN_CELLS: Final = 4  # cells of the greatest size that a slotted page must hold, so that any split leaves room

assert sys.byteorder == "little"
assert META.itemsize <= MIN_PAGE_SIZE
assert HEADER.itemsize % WORD == 0, "so that columns and cells are aligned words"
assert MAX_PAGE_SIZE <= 1 << SLOT_OFFSET_SHIFT
assert SLOT_HEAD_SHIFT == 2 * SLOT_OFFSET_SHIFT


def leaf_capacity(form: int, page_size: int) -> int:
    """Entries of a leaf; 0 in the bytes form, where bytes decide."""
    return 0 if form == FORM_BYTES else (page_size - HEADER_BYTES) // (WORD * (form + 1))


def inner_capacity(form: int, page_size: int) -> int:
    """Children of an inner node; 0 in the bytes form."""
    return 0 if form == FORM_BYTES else (page_size - HEADER_BYTES) // (WORD * (form + 2))


def max_key_bytes(page_size: int) -> int:
    """The longest key of the bytes form: MIN_CELLS inner cells with their slots fit a page."""
    share = (page_size - HEADER_BYTES) // MIN_CELLS - SLOT_BYTES - INNER_CELL_HEAD
    return share // WORD * WORD


assert inner_capacity(FORM_U128, MIN_PAGE_SIZE) >= 4
assert max_key_bytes(MIN_PAGE_SIZE) >= 16
