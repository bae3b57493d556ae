"""Taking uncommitted data out of a checkpoint's page copies, and out of memory after an abort.

Thread rule: engine lock held; page copies are the caller's own. Not here: what is uncommitted, which
`filestore.storage.table_checkpoint` is told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.arena import PAGE_SHIFT
from filestore.storage.directory import COLUMN_FIELDS, DATA, HEADER, HEAP, SLOT_BITS, SLOT_MASK, VALID
from filestore.storage.layout import PAGE_SIZE
from filestore.storage.memory_kernels import load_u32, store_u8
from filestore.storage.segment_kernels import mark_dirty
from filestore.storage.vector import INLINE_BYTES as INLINE

_MASK = PAGE_SIZE - 1


@njit(nogil=True, cache=True)
def zero_ranges(copies: Any, position: Any, dirty: Any, starts: Any, lengths: Any) -> None:
    """Zeroes byte ranges of an arena in its page copies; pages that had any stay dirty.

    copies: uint8[k, PAGE_SIZE]; position: int64[pages], place of a page in them or -1.
    """
    for i in range(len(starts)):
        for at in range(starts[i], starts[i] + lengths[i]):
            place = position[at >> PAGE_SHIFT]
            if place >= 0:
                copies[place, at & _MASK] = 0
                dirty[at >> PAGE_SHIFT] = 1


@njit(nogil=True, cache=True)
def put_words(copies: Any, position: Any, dirty: Any, offsets: Any, values: Any) -> None:
    """Replaces 8-byte words of an arena in its page copies, last to first; pages that had any stay dirty."""
    for i in range(len(offsets) - 1, -1, -1):
        place = position[offsets[i] >> PAGE_SHIFT]
        if place >= 0:
            value = np.uint64(values[i])
            for b in range(8):
                copies[place, (offsets[i] & _MASK) + b] = np.uint8((value >> np.uint64(8 * b)) & np.uint64(255))
            dirty[offsets[i] >> PAGE_SHIFT] = 1


@njit(nogil=True, cache=True)
def heap_ranges(row: Any, field: Any, slots: Any, starts: Any, lengths: Any) -> None:
    """Where the long values of an open string column's slots lie in its heap; length 0 for short ones."""
    for i in range(len(slots)):
        at = row[field + DATA] + slots[i] * 16
        size = np.int64(load_u32(at))
        starts[i] = np.int64(load_u32(at + 12)) if size > INLINE else 0
        lengths[i] = size if size > INLINE else 0


@njit(nogil=True, cache=True)
def scrub(directory: Any, dirty: Any, layout: Any, addresses: Any) -> None:
    """Zeroes the values of versions that never were, in open segments."""
    for i in range(len(addresses)):
        segment = addresses[i] >> SLOT_BITS
        slot = addresses[i] & SLOT_MASK
        row = directory[segment]
        for c in range(layout.shape[0]):
            field = HEADER + c * COLUMN_FIELDS
            width = layout[c, 0]
            at = row[field + DATA] + slot * width
            if layout[c, 1] != 0:
                size = np.int64(load_u32(at))
                if size > INLINE:
                    offset = np.int64(load_u32(at + 12))
                    for b in range(size):
                        store_u8(row[field + HEAP] + offset + b, np.uint8(0))
                    mark_dirty(dirty[segment, field + HEAP], offset, offset + size)
            for b in range(width):
                store_u8(at + b, np.uint8(0))
            mark_dirty(dirty[segment, field + DATA], slot * width, (slot + 1) * width)
            if row[field + VALID] != 0:
                store_u8(row[field + VALID] + slot, np.uint8(0))
                mark_dirty(dirty[segment, field + VALID], slot, slot + 1)
