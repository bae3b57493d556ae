"""One row written in one compiled call: what `Table.append` does with vectors, for a single row given as cells.

    cells: int64[columns, 3] = (what, value, length) of each column
    KEEP   the value of the version that is replaced
    WORD   `value`, whose low bytes are stored
    BYTES  `blob[value : value + length]`: a string, or the 16 bytes of a wide value
    NULL   null

`write_row` looks at everything before it writes anything, so whatever it cannot do leaves no trace: it then says
what is missing, or that the general way has to be gone. Directory and fields: `filestore.storage.directory`.

Thread rule: engine lock held. Not here: keys, constraints, and waiting for a version that is not free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.directory import (
    COLUMN_FIELDS,
    DATA,
    END,
    ENDED,
    HEAD,
    HEADER,
    HEAP,
    HEAP_USED,
    INFINITY,
    PREVIOUS,
    RECORD,
    ROWS,
    SLOT_BITS,
    SLOT_MASK,
    VALID,
)
from filestore.storage.memory_kernels import copy_bytes, copy_value, load_i64, load_u32, store_i64, store_u8, store_u32
from filestore.storage.row_kernels import encode_rows
from filestore.storage.segment_kernels import (
    is_valid,
    mark_dirty,
    publish,
    record_at,
    set_head,
    view_address,
)
from filestore.storage.vector import INLINE_BYTES as INLINE

KEEP = 0
WORD = 1
BYTES = 2
NULL = 3

DONE = 0
GENERAL = 1  # what this kernel does not do: a full heap, a sealed column not touched yet, a version that is not free
NEED_LINKS = 2  # RECORD and PREVIOUS of the segment that is written
NEED_HEAD = 3  # HEAD of the segment where the row begins
NEED_END = 4  # END of the segment of the version that is replaced
NEED_VALID = 8  # and from here on: VALID of column (answer - NEED_VALID)

# What `write_row` tells in `out`: the new version's address, the row's record number, bytes of the log's image
# (negative: as many are needed), and whether it claimed the old version itself.
OUT_ADDRESS = 0
OUT_RECORD = 1
OUT_IMAGE = 2
OUT_CLAIMED = 3
OUT_FIELDS = 4


@njit(nogil=True, cache=True)
def old_is_null(directory: Any, old: Any, field: Any) -> bool:
    return not is_valid(directory[old >> SLOT_BITS], field, old & SLOT_MASK)


@njit(nogil=True, cache=True)
def missing(directory: Any, layout: Any, segment: int, mark: int, old: int, cells: Any, room: int) -> Any:
    """Why the row cannot be written as things are; DONE when it can."""
    row = directory[segment]
    if old >= 0:
        ends = directory[old >> SLOT_BITS, END]
        if ends == 0:
            return NEED_END
        end = load_i64(ends + (old & SLOT_MASK) * 8)
        if end != INFINITY and end != mark:
            return GENERAL
        if row[RECORD] == 0 or row[PREVIOUS] == 0:
            return NEED_LINKS
        if directory[record_at(directory, old) >> SLOT_BITS, HEAD] == 0:
            return NEED_HEAD
    for c in range(layout.shape[0]):
        field = HEADER + c * COLUMN_FIELDS
        what = cells[c, 0]
        size = np.int64(0)
        null = what == NULL
        if what == KEEP:
            before = directory[old >> SLOT_BITS]
            if before[field + DATA] == 0:
                return GENERAL
            null = old_is_null(directory, old, field)
            if not null and layout[c, 1] != 0:
                size = np.int64(load_u32(view_address(before, field, old & SLOT_MASK)))
        elif what == BYTES:
            size = cells[c, 2]
        if null and row[field + VALID] == 0:
            return NEED_VALID + c
        if layout[c, 1] != 0 and size > INLINE and row[field + HEAP_USED] + size > room:
            return GENERAL
    return DONE


@njit(nogil=True, cache=True)
def put_view(row: Any, marks: Any, field: Any, target: Any, source: Any, size: Any) -> None:
    """Stores a string of `size` bytes at `source` as the view at `target`, its bytes in the column's heap when
    they are many.
    """
    store_i64(target, 0)
    store_i64(target + 8, 0)
    store_u32(target, np.uint32(size))
    if size <= INLINE:
        copy_bytes(target + 4, source, size)
        return
    used = row[field + HEAP_USED]
    copy_bytes(target + 4, source, 4)
    copy_bytes(row[field + HEAP] + used, source, size)
    store_u32(target + 12, np.uint32(used))
    mark_dirty(marks[field + HEAP], used, used + size)
    row[field + HEAP_USED] = used + size


@njit(nogil=True, cache=True)
def keep_value(
    directory: Any, marks: Any, segment: Any, field: Any, target: Any, old: Any, width: Any, view: Any
) -> None:
    """Copies the value of the old version, which is not null."""
    before = directory[old >> SLOT_BITS]
    slot = old & SLOT_MASK
    if view == 0:
        copy_value(target, before[field + DATA] + slot * width, width)
        return
    source = view_address(before, field, slot)
    size = np.int64(load_u32(source))
    if size <= INLINE:
        copy_value(target, source, 16)
    else:
        at = before[field + HEAP] + np.int64(load_u32(source + 12))
        put_view(directory[segment], marks, field, target, at, int(size))


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def write_row(
    directory: Any,
    dirty: Any,
    layout: Any,
    segment: int,
    mark: int,
    old: int,
    cells: Any,
    blob: Any,
    room: int,
    scratch: Any,
    out: Any,
) -> Any:
    """Writes one row as a version of the transaction `mark` into the next slot of the open segment, which has one left.

    old: address of the version that it replaces, which is claimed by the transaction or free, and is claimed then; -1
    for a new row. room: bytes of a heap. scratch: uint8, receives the
    log's image. Returns DONE, or what is missing (then nothing has changed).
    """
    answer = missing(directory, layout, segment, mark, old, cells, room)
    if answer != DONE:
        return answer
    row = directory[segment]
    marks = dirty[segment]
    slot = row[ROWS]
    word = scratch.ctypes.data
    for c in range(layout.shape[0]):
        field = HEADER + c * COLUMN_FIELDS
        width = layout[c, 0]
        target = row[field + DATA] + slot * width
        what = cells[c, 0]
        if what == KEEP and old_is_null(directory, old, field):
            what = NULL
        if what == NULL:
            for i in range(width):
                store_u8(target + i, np.uint8(0))
        elif what == KEEP:
            keep_value(directory, marks, segment, field, target, old, width, layout[c, 1])
        elif what == WORD:
            store_i64(word, cells[c, 1])
            copy_value(target, word, width)
        elif layout[c, 1] != 0:
            put_view(row, marks, field, target, blob.ctypes.data + cells[c, 1], cells[c, 2])
        else:
            copy_bytes(target, blob.ctypes.data + cells[c, 1], width)
        if row[field + VALID] != 0:
            store_u8(row[field + VALID] + slot, np.uint8(what != NULL))
    publish(directory, dirty, layout, segment, slot, 1, mark)
    address = (segment << SLOT_BITS) | slot
    out[OUT_ADDRESS] = out[OUT_RECORD] = address
    out[OUT_CLAIMED] = 0
    if old >= 0:
        at = directory[old >> SLOT_BITS, END] + (old & SLOT_MASK) * 8
        if load_i64(at) != mark:
            store_i64(at, mark)
            directory[old >> SLOT_BITS, ENDED] += 1
            out[OUT_CLAIMED] = 1
        record = record_at(directory, old)
        store_i64(row[RECORD] + slot * 8, record + 1)
        store_i64(row[PREVIOUS] + slot * 8, old + 1)
        mark_dirty(marks[RECORD], slot * 8, slot * 8 + 8)
        mark_dirty(marks[PREVIOUS], slot * 8, slot * 8 + 8)
        set_head(directory, dirty, record, address)
        out[OUT_RECORD] = record
    out[OUT_IMAGE] = encode_rows(directory, layout, segment, slot, 1, old >= 0, scratch)
    return DONE
