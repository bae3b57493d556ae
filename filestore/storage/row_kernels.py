"""Row images: what the log says of new versions, and the kernels that write and replay it.

    image = ROW_IMAGE | if linked: ROW_RECORD of each row, then ROW_PREVIOUS of each row | rows
    row   = null bits (1 = null), one per column, padded to bytes | values, each of its stored width, zero if null
            | bytes of the long strings, column after column

The structures are those of `filestore.storage.layout`. An image is of rows in consecutive slots of one segment. A
string view is stored as in memory; its heap offset means nothing there, the bytes follow the row's fixed part.
Little-endian, no padding inside.

`layout` is int64[columns, 2]: width of the stored value, 1 where it is a string view. Replay is two passes over
many images: `scan_images` checks that each holds what it says and finds what it needs, `replay_images` writes.

Thread rule: the caller's; writing and replaying under the engine lock. It does not do: looking whether the places that
an image names exist, which is `replay.py`'s.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from filestore.storage.directory import (
    BEGIN,
    COLUMN_FIELDS,
    DATA,
    END,
    HEADER,
    HEAP,
    HEAP_USED,
    PREVIOUS,
    RECORD,
    ROWS,
    SLOT_BITS,
    SLOT_MASK,
    VALID,
)
from filestore.storage.layout import ROW_IMAGE, ROW_PREVIOUS, ROW_RECORD, offset_of
from filestore.storage.layout import ROW_IMAGE_LINKED as LINKED
from filestore.storage.memory_kernels import (
    copy_bytes,
    copy_value,
    load_i64,
    load_u8,
    load_u32,
    store_i64,
    store_u8,
    store_u32,
)
from filestore.storage.segment_kernels import is_valid, mark_dirty, set_head
from filestore.storage.vector import INLINE_BYTES as INLINE

IMAGE_HEADER: Final = ROW_IMAGE.itemsize
LINK: Final = ROW_RECORD.itemsize  # one of the two numbers of a row that replaces another
COUNT: Final = offset_of(ROW_IMAGE, "count")
FLAGS: Final = offset_of(ROW_IMAGE, "flags")
assert offset_of(ROW_IMAGE, "first") == 0 and ROW_PREVIOUS.itemsize == LINK


@njit(nogil=True, cache=True)
def row_bytes(layout: Any) -> Any:
    """Bytes of the fixed part of a row: null bits, then every value."""
    total = (layout.shape[0] + 7) >> 3
    for c in range(layout.shape[0]):
        total += layout[c, 0]
    return total


@njit(nogil=True, cache=True)
def long_bytes(row: Any, layout: Any, slot: Any) -> Any:
    """Bytes behind the fixed part of the row in a slot of an open segment."""
    total: Any = 0
    for c in range(layout.shape[0]):
        field = HEADER + c * COLUMN_FIELDS
        if layout[c, 1] != 0 and is_valid(row, field, slot):
            size = np.int64(load_u32(row[field + DATA] + slot * 16))
            if size > INLINE:
                total += size
    return total


@njit(nogil=True, cache=True)
def encode_rows(directory: Any, layout: Any, segment: Any, slot: Any, count: Any, linked: bool, out: Any) -> Any:
    """Writes the image of slots slot..slot+count of an open segment; returns its bytes, or minus the bytes
    needed.
    """
    row = directory[segment]
    fixed = row_bytes(layout)
    need = IMAGE_HEADER + (2 * LINK * count if linked else 0) + fixed * count
    for i in range(slot, slot + count):
        need += long_bytes(row, layout, i)
    if need > len(out):
        return -need
    base = out.ctypes.data
    store_i64(base, (segment << SLOT_BITS) | slot)
    store_i64(base + COUNT, count)
    store_i64(base + FLAGS, LINKED if linked else 0)
    at = base + IMAGE_HEADER
    if linked:
        copy_bytes(at, row[RECORD] + slot * 8, LINK * count)
        copy_bytes(at + LINK * count, row[PREVIOUS] + slot * 8, LINK * count)
        at += 2 * LINK * count
    for i in range(slot, slot + count):
        at = encode_row(row, layout, i, at, fixed)
    return at - base


@njit(nogil=True, cache=True)
def encode_row(row: Any, layout: Any, slot: Any, at: Any, fixed: Any) -> Any:
    """Writes one row at an address; returns the address behind it."""
    columns = layout.shape[0]
    for i in range((columns + 7) >> 3):
        store_u8(at + i, np.uint8(0))
    value = at + ((columns + 7) >> 3)
    behind = at + fixed
    for c in range(columns):
        field = HEADER + c * COLUMN_FIELDS
        width = layout[c, 0]
        source = row[field + DATA] + slot * width
        if not is_valid(row, field, slot):
            store_u8(at + (c >> 3), np.uint8(load_u8(at + (c >> 3)) | (1 << (c & 7))))
            for i in range(width):
                store_u8(value + i, np.uint8(0))
        else:
            copy_value(value, source, width)
            if layout[c, 1] != 0:
                size = np.int64(load_u32(source))
                if size > INLINE:
                    copy_bytes(behind, row[field + HEAP] + np.int64(load_u32(source + 12)), size)
                    behind += size
        value += width
    return behind


@njit(nogil=True, cache=True)
def scan_images(data: Any, offsets: Any, lengths: Any, layout: Any, segments: Any, nulls: Any) -> Any:
    """First pass of replay. segments[i]: segment of record i; nulls[c]: 1 where a null was seen.

    Returns the number of rows, or -1 - i when record i does not hold what it says. Sets nulls[-1] to 1 when a
    record is linked.
    """
    fixed = row_bytes(layout)
    columns = layout.shape[0]
    rows = 0
    for i in range(len(offsets)):
        base = data.ctypes.data + offsets[i]
        if lengths[i] < IMAGE_HEADER:
            return -1 - i
        count = load_i64(base + COUNT)
        linked = load_i64(base + FLAGS)
        # No segment has more slots: only then do the products below not overflow.
        if load_i64(base) < 0 or count < 0 or count > SLOT_MASK or linked & ~LINKED:
            return -1 - i
        at = IMAGE_HEADER + (2 * LINK * count if linked else 0)
        if at + fixed * count > lengths[i]:
            return -1 - i
        segments[i] = load_i64(base) >> SLOT_BITS
        if linked:
            nulls[columns] = 1
        for _ in range(count):
            if at + fixed > lengths[i]:
                return -1 - i
            value = at + ((columns + 7) >> 3)
            behind = at + fixed
            for c in range(columns):
                if (load_u8(base + at + (c >> 3)) >> (c & 7)) & 1:
                    nulls[c] = 1
                elif layout[c, 1] != 0 and np.int64(load_u32(base + value)) > INLINE:
                    behind += np.int64(load_u32(base + value))
                value += layout[c, 0]
            at = behind
        if at > lengths[i]:
            return -1 - i
        rows += count
    return rows


@njit(nogil=True, cache=True)
def linked_places(data: Any, offsets: Any, records: Any, previous: Any) -> Any:
    """The record numbers and addresses of previous versions that linked images name; returns how many of
    each.
    """
    found = 0
    for i in range(len(offsets)):
        base = data.ctypes.data + offsets[i]
        if load_i64(base + FLAGS) & LINKED:
            count = load_i64(base + COUNT)
            for j in range(count):
                records[found] = load_i64(base + IMAGE_HEADER + LINK * j) - 1
                previous[found] = load_i64(base + IMAGE_HEADER + LINK * (count + j)) - 1
                found += 1
    return found


@njit(nogil=True, cache=True)
def replay_images(
    directory: Any, dirty: Any, layout: Any, data: Any, offsets: Any, stamps: Any, room: Any, slots: Any, out: Any
) -> Any:
    """Second pass: writes the rows into their slots, begun at stamps[i]; ends what linked rows replace;
    addresses into `out`.

    Every segment and vector that is needed exists. Returns the rows written, or -1 - i when record i
    overflows its segment.
    """
    fixed = row_bytes(layout)
    written = 0
    for i in range(len(offsets)):
        base = data.ctypes.data + offsets[i]
        first = load_i64(base)
        count = load_i64(base + COUNT)
        linked = load_i64(base + FLAGS) & LINKED
        segment = first >> SLOT_BITS
        slot = first & SLOT_MASK
        row = directory[segment]
        if slot + count > slots:
            return -1 - i
        at = base + IMAGE_HEADER + (2 * LINK * count if linked else 0)
        for j in range(count):
            at = decode_row(row, dirty[segment], layout, slot + j, at, fixed, room)
            if at == 0:
                return -1 - i
            store_i64(row[BEGIN] + (slot + j) * 8, stamps[i])
            if linked:
                record = load_i64(base + IMAGE_HEADER + LINK * j)
                previous = load_i64(base + IMAGE_HEADER + LINK * (count + j))
                replay_link(directory, dirty, first + j, record, previous, stamps[i])
            out[written] = first + j
            written += 1
        mark_dirty(dirty[segment, BEGIN], slot * 8, (slot + count) * 8)
        row[ROWS] = max(row[ROWS], slot + count)
    return written


@njit(nogil=True, cache=True)
def replay_link(directory: Any, dirty: Any, address: Any, record: Any, previous: Any, stamp: Any) -> None:
    """Ties a replayed version to its row (links are stored one too high, see directory) and ends the one
    before.
    """
    segment = address >> SLOT_BITS
    at = (address & SLOT_MASK) * 8
    store_i64(directory[segment, RECORD] + at, record)
    store_i64(directory[segment, PREVIOUS] + at, previous)
    mark_dirty(dirty[segment, RECORD], at, at + 8)
    mark_dirty(dirty[segment, PREVIOUS], at, at + 8)
    set_head(directory, dirty, record - 1, address)
    old = previous - 1
    old_at = (old & SLOT_MASK) * 8
    store_i64(directory[old >> SLOT_BITS, END] + old_at, stamp)
    mark_dirty(dirty[old >> SLOT_BITS, END], old_at, old_at + 8)


@njit(nogil=True, cache=True)
def decode_row(row: Any, marks: Any, layout: Any, slot: Any, at: Any, fixed: Any, room: Any) -> Any:
    """Writes one image at `at` into a slot of an open segment; returns the address behind it, 0 when the heap
    is full.
    """
    columns = layout.shape[0]
    value = at + ((columns + 7) >> 3)
    behind = at + fixed
    for c in range(columns):
        field = HEADER + c * COLUMN_FIELDS
        width = layout[c, 0]
        target = row[field + DATA] + slot * width
        null = (load_u8(at + (c >> 3)) >> (c & 7)) & 1
        copy_value(target, value, width)
        mark_dirty(marks[field + DATA], slot * width, (slot + 1) * width)
        if row[field + VALID] != 0:
            store_u8(row[field + VALID] + slot, np.uint8(1 - null))
            mark_dirty(marks[field + VALID], slot, slot + 1)
        if layout[c, 1] != 0 and null == 0:
            size = np.int64(load_u32(value))
            if size > INLINE:
                used = row[field + HEAP_USED]
                if used + size > room:
                    return 0
                copy_bytes(row[field + HEAP] + used, behind, size)
                mark_dirty(marks[field + HEAP], used, used + size)
                store_u32(target + 8, np.uint32(0))
                store_u32(target + 12, np.uint32(used))
                row[field + HEAP_USED] = used + size
                behind += size
        value += width
    return behind


@njit(nogil=True, cache=True)
def replay_ends(directory: Any, dirty: Any, addresses: Any, stamps: Any) -> None:
    """Ends versions at their stamps; the END vectors exist."""
    for i in range(len(addresses)):
        segment = addresses[i] >> SLOT_BITS
        at = (addresses[i] & SLOT_MASK) * 8
        store_i64(directory[segment, END] + at, stamps[i])
        mark_dirty(dirty[segment, END], at, at + 8)
