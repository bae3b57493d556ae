"""Rows in and out of segments, by raw address: publishing, stamping, linking, gathering.

Every kernel takes the table's `directory` and, where it writes, `dirty` (see `filestore.storage.directory`),
both int64[segments, fields] and C-contiguous. They check nothing; `Table` owns the proof that addresses and
slots exist. What a kernel writes it marks in the dirty bytes of the vector's arena. A kernel that needs a
vector that is not there yet returns -1 - segment, before it changes anything.

Thread rule: what writes, under the engine lock; what gathers, on any thread that holds the segments and asks for
versions that it found visible. Not here: visibility, and the row images of the log (`filestore.storage.row_kernels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.arena import PAGE_SHIFT
from filestore.storage.directory import (
    ABORTED,
    BEGIN,
    BEGIN_VALUE,
    CODES,
    COLUMN_FIELDS,
    DATA,
    DEAD,
    DICTIONARY,
    ENCODING,
    END,
    ENDED,
    HEAD,
    HEADER,
    HEAP,
    INFINITY,
    LAST_BEGIN,
    PENDING,
    PREVIOUS,
    RECORD,
    ROWS,
    SLOT_BITS,
    SLOT_MASK,
    VALID,
    VALID_BITS,
    WIDTH,
)
from filestore.storage.memory_kernels import (
    copy_bytes,
    copy_value,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_i64,
    store_u8,
    store_u32,
)
from filestore.storage.vector import INLINE_BYTES as INLINE


@njit(nogil=True, cache=True)
def mark_dirty(dirty: Any, low: Any, high: Any) -> None:
    """Marks the pages of bytes low..high-1 of the arena whose dirty bytes lie at `dirty` (0: it has none)."""
    if dirty != 0:
        for page in range(low >> PAGE_SHIFT, ((high - 1) >> PAGE_SHIFT) + 1):
            store_u8(dirty + page, np.uint8(1))


@njit(nogil=True, cache=True)
def begin_at(directory: Any, address: Any) -> Any:
    """`begin` of a version."""
    base = directory[address >> SLOT_BITS, BEGIN]
    if base == 0:
        return directory[address >> SLOT_BITS, BEGIN_VALUE]
    return load_i64(base + (address & SLOT_MASK) * 8)


@njit(nogil=True, cache=True)
def end_at(directory: Any, address: Any) -> Any:
    """`end` of a version."""
    base = directory[address >> SLOT_BITS, END]
    return INFINITY if base == 0 else load_i64(base + (address & SLOT_MASK) * 8)


@njit(nogil=True, cache=True)
def record_at(directory: Any, address: Any) -> Any:
    """The record number of the row that a version belongs to."""
    base = directory[address >> SLOT_BITS, RECORD]
    link = 0 if base == 0 else load_i64(base + (address & SLOT_MASK) * 8)
    return address if link == 0 else link - 1


@njit(nogil=True, cache=True)
def previous_at(directory: Any, address: Any) -> Any:
    """Address of the next older version of the row, -1 for none."""
    base = directory[address >> SLOT_BITS, PREVIOUS]
    return -1 if base == 0 else load_i64(base + (address & SLOT_MASK) * 8) - 1


@njit(nogil=True, cache=True)
def head_at(directory: Any, record: Any) -> Any:
    """Address of the newest version of a row."""
    base = directory[record >> SLOT_BITS, HEAD]
    link = 0 if base == 0 else load_i64(base + (record & SLOT_MASK) * 8)
    return record if link == 0 else link


@njit(nogil=True, cache=True)
def publish(directory: Any, dirty: Any, layout: Any, segment: Any, slot: Any, count: Any, mark: Any) -> None:
    """Makes `count` slots from `slot`, whose values are written, versions of the transaction `mark`."""
    row = directory[segment]
    marks = dirty[segment]
    base = row[BEGIN]
    for i in range(slot, slot + count):
        store_i64(base + i * 8, mark)
    high = slot + count
    mark_dirty(marks[BEGIN], slot * 8, high * 8)
    for c in range(layout.shape[0]):
        field = HEADER + c * COLUMN_FIELDS
        width = layout[c, 0]
        mark_dirty(marks[field + DATA], slot * width, high * width)
        mark_dirty(marks[field + VALID], slot, high)
    row[ROWS] = high
    row[PENDING] += count


@njit(nogil=True, cache=True)
def link(directory: Any, dirty: Any, segment: Any, slot: Any, old: Any, low: Any, count: Any, records: Any) -> Any:
    """Ties the versions at `slot`.. to the versions old[low:low + count] that they replace; writes their
    record numbers.

    Returns 0, or -1 - segment where RECORD, PREVIOUS (the new versions' segment) or HEAD (a row's first one)
    is missing.
    """
    row = directory[segment]
    if row[RECORD] == 0 or row[PREVIOUS] == 0:
        return -1 - segment
    for i in range(count):
        record = record_at(directory, old[low + i])
        records[low + i] = record
        if directory[record >> SLOT_BITS, HEAD] == 0:
            return -1 - (record >> SLOT_BITS)
    for i in range(count):
        record = records[low + i]
        at = (slot + i) * 8
        store_i64(row[RECORD] + at, record + 1)
        store_i64(row[PREVIOUS] + at, old[low + i] + 1)
        set_head(directory, dirty, record, (segment << SLOT_BITS) | (slot + i))
    mark_dirty(dirty[segment, RECORD], slot * 8, (slot + count) * 8)
    mark_dirty(dirty[segment, PREVIOUS], slot * 8, (slot + count) * 8)
    return 0


@njit(nogil=True, cache=True)
def set_head(directory: Any, dirty: Any, record: Any, address: Any) -> None:
    """Sets the newest version of one row; the vector exists."""
    at = (record & SLOT_MASK) * 8
    store_i64(directory[record >> SLOT_BITS, HEAD] + at, address)
    mark_dirty(dirty[record >> SLOT_BITS, HEAD], at, at + 8)


@njit(nogil=True, cache=True)
def set_heads(directory: Any, dirty: Any, records: Any, addresses: Any) -> None:
    """Sets the newest versions of rows, last to first, so that the first of several settings of one row
    stays.
    """
    for i in range(len(records) - 1, -1, -1):
        set_head(directory, dirty, records[i], addresses[i])


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def stamp_begin(directory: Any, dirty: Any, addresses: Any, value: Any) -> None:
    """Gives pending versions their begin: a commit timestamp, or ABORTED."""
    for i in range(len(addresses)):
        segment = addresses[i] >> SLOT_BITS
        at = (addresses[i] & SLOT_MASK) * 8
        store_i64(directory[segment, BEGIN] + at, value)
        mark_dirty(dirty[segment, BEGIN], at, at + 8)
        directory[segment, PENDING] -= 1
        if value == ABORTED:
            directory[segment, DEAD] += 1
        else:
            directory[segment, LAST_BEGIN] = max(directory[segment, LAST_BEGIN], value)


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def stamp_end(directory: Any, dirty: Any, addresses: Any, value: Any) -> None:
    """Gives marked versions their end: a commit timestamp, or INFINITY again."""
    for i in range(len(addresses)):
        segment = addresses[i] >> SLOT_BITS
        at = (addresses[i] & SLOT_MASK) * 8
        store_i64(directory[segment, END] + at, value)
        mark_dirty(dirty[segment, END], at, at + 8)
        if value == INFINITY:
            directory[segment, ENDED] -= 1


@njit(nogil=True, cache=True)
def stamps_of(directory: Any, addresses: Any, begins: Any, ends: Any) -> None:
    """`begin` and `end` of versions."""
    for i in range(len(addresses)):
        begins[i] = begin_at(directory, addresses[i])
        ends[i] = end_at(directory, addresses[i])


@njit(nogil=True, cache=True)
def records_of(directory: Any, addresses: Any, records: Any) -> None:
    """Record numbers of versions."""
    for i in range(len(addresses)):
        records[i] = record_at(directory, addresses[i])


@njit(nogil=True, cache=True)
def heads_of(directory: Any, records: Any, addresses: Any) -> None:
    """Newest versions of rows."""
    for i in range(len(records)):
        addresses[i] = head_at(directory, records[i])


@njit(nogil=True, cache=True)
def put_views(
    views: Any,
    heap: Any,
    valid: Any,
    low: Any,
    count: Any,
    target: Any,
    target_heap: Any,
    used: Any,
    room: Any,
    longest: Any,
) -> Any:
    """Copies string views low..low+count and the bytes behind them into a segment's column.

    `valid` is empty for no nulls; nulls become zero views. Returns the heap bytes used after it, -1 when they
    exceed `room`, -2 when a value is longer than `longest`.
    """
    nulls = len(valid) > 0
    source = heap.ctypes.data
    for i in range(count):
        at = target + i * 16
        word0 = np.int64(views[low + i, 0])
        size = word0 & 0xFFFFFFFF
        if nulls and not valid[low + i]:
            store_i64(at, 0)
            store_i64(at + 8, 0)
        elif size <= INLINE:
            store_i64(at, word0)
            store_i64(at + 8, np.int64(views[low + i, 1]))
        else:
            if size > longest:
                return -2
            if used + size > room:
                return -1
            copy_bytes(target_heap + used, source + np.int64(views[low + i, 1] >> np.uint64(32)), size)
            store_i64(at, word0)
            store_i64(at + 8, used << 32)
            used += size
    return used


@njit(nogil=True, cache=True)
def views_that_fit(views: Any, valid: Any, low: Any, count: Any, room: Any) -> Any:
    """How many of the views low..low+count have their long values fit `room` bytes of heap."""
    nulls = len(valid) > 0
    for i in range(count):
        size = np.int64(views[low + i, 0]) & 0xFFFFFFFF
        if size > INLINE and not (nulls and not valid[low + i]):
            room -= size
            if room < 0:
                return i
    return count


@njit(nogil=True, cache=True)
def is_valid(row: Any, field: Any, slot: Any) -> Any:
    """Whether the value of a column (its first directory field is `field`) in a slot is not null."""
    base = row[field + VALID]
    if base == 0:
        return True
    if row[field + VALID_BITS] != 0:
        return (load_u8(base + (slot >> 3)) >> (slot & 7)) & 1 != 0
    return load_u8(base + slot) != 0


@njit(nogil=True, cache=True)
def view_address(row: Any, field: Any, slot: Any) -> Any:
    """Where the string view of a slot lies: in the vector, or in the dictionary."""
    if row[field + ENCODING] == CODES:
        width = row[field + WIDTH]
        base = row[field + DATA] + slot * width
        if width == 1:
            return row[field + DICTIONARY] + np.int64(load_u8(base)) * 16
        if width == 2:
            return row[field + DICTIONARY] + np.int64(load_u16(base)) * 16
        return row[field + DICTIONARY] + np.int64(load_u32(base)) * 16
    return row[field + DATA] + slot * 16


@njit(nogil=True, cache=True)
def gather_fixed(directory: Any, field: Any, width: Any, addresses: Any, out: Any) -> None:
    """Values of a fixed-width column; out is uint8[n * width]."""
    base = out.ctypes.data
    for i in range(len(addresses)):
        source = directory[addresses[i] >> SLOT_BITS, field + DATA]
        copy_value(base + i * width, source + (addresses[i] & SLOT_MASK) * width, width)


@njit(nogil=True, cache=True)
def gather_valid(directory: Any, field: Any, addresses: Any, out: Any) -> Any:
    """Validity of a column into bool[n]; returns the number of nulls."""
    nulls = 0
    for i in range(len(addresses)):
        out[i] = is_valid(directory[addresses[i] >> SLOT_BITS], field, addresses[i] & SLOT_MASK)
        nulls += not out[i]
    return nulls


@njit(nogil=True, cache=True)
def gather_views(directory: Any, field: Any, addresses: Any, out: Any) -> Any:
    """String views as they are (offsets into their segments' heaps), zero for nulls; returns the bytes behind
    the long ones.
    """
    base = out.ctypes.data
    total = 0
    for i in range(len(addresses)):
        row = directory[addresses[i] >> SLOT_BITS]
        slot = addresses[i] & SLOT_MASK
        if not is_valid(row, field, slot):
            store_i64(base + i * 16, 0)
            store_i64(base + i * 16 + 8, 0)
            continue
        copy_value(base + i * 16, view_address(row, field, slot), 16)
        size = load_i64(base + i * 16) & 0xFFFFFFFF
        if size > INLINE:
            total += size
    return total


@njit(nogil=True, cache=True)
def gather_heap(directory: Any, field: Any, addresses: Any, views: Any, heap: Any) -> None:
    """Copies the bytes behind the long ones of gathered views into one heap and points the views there."""
    base = views.ctypes.data
    target = heap.ctypes.data
    used = 0
    for i in range(len(addresses)):
        size = load_i64(base + i * 16) & 0xFFFFFFFF
        if size > INLINE:
            source = directory[addresses[i] >> SLOT_BITS, field + HEAP]
            offset = np.int64(load_u32(base + i * 16 + 12))
            copy_bytes(target + used, source + offset, size)
            store_u32(base + i * 16 + 12, np.uint32(used))
            store_u32(base + i * 16 + 8, np.uint32(0))
            used += size


@njit(nogil=True, cache=True)
def settle(directory: Any, segment: Any, rows: Any) -> None:
    """After recovery: slots below `rows` that no committed version filled become ABORTED; the counters are
    counted anew.
    """
    row = directory[segment]
    base = row[BEGIN]
    dead, last = 0, 0
    for slot in range(rows):
        begin = load_i64(base + slot * 8)
        if begin <= 0 or begin == ABORTED:
            store_i64(base + slot * 8, ABORTED)
            dead += 1
        else:
            last = max(last, begin)
    row[ROWS] = rows
    row[PENDING] = 0
    row[DEAD] = dead
    row[LAST_BEGIN] = last
    row[ENDED] = count_ended(row[END], rows)


@njit(nogil=True, cache=True)
def count_ended(base: Any, rows: Any) -> Any:
    """Versions with an end."""
    ended = 0
    if base != 0:
        for slot in range(rows):
            ended += load_i64(base + slot * 8) != INFINITY
    return ended

