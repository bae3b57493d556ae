"""A point SELECT in one compiled call: the parameters' bytes in, the DataRow's bytes out.

What the kernel does is what the general path does with Bind, index lookup, visibility, recheck and rendering; it
handles the common case only and returns a negative number for everything else, upon which the general path runs. It
writes nothing but `out`.

`shape` int64: [key column, bits of the key's integer, bits of the parameter's integer, outputs, then (column, form,
extra) for each].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.find_kernels import find_next_u64, find_u64
from filestore.index.key_kernels import sortable_int
from filestore.query.render_kernels import POWERS, put_decimal, put_int, put_integer, put_short
from filestore.storage.directory import (
    CODES,
    COLUMN_FIELDS,
    DATA,
    DICTIONARY,
    ENCODING,
    HEADER,
    HEAP,
    INFINITY,
    SLOT_BITS,
    SLOT_MASK,
    VALID,
    VALID_BITS,
    WIDTH,
)
from filestore.storage.memory_kernels import copy_bytes, load_i64, load_u8, load_u16, load_u32
from filestore.storage.segment_kernels import end_at
from filestore.storage.vector import INLINE_BYTES
from filestore.txn.kernels import visible_version

FALLBACK = -1
NOT_THERE = -2

# Forms of an output column.
INTEGER = 0
BOOLEAN = 1
STRING = 2
DECIMAL = 3

BLANK = 32
MINUS = 45
ZERO = 48
LETTER_D = 68
SHAPE_HEAD = 4


@njit(nogil=True, cache=True)
def read_short(raw: Any, at: int) -> Any:
    return (np.int64(raw[at]) << 8) | np.int64(raw[at + 1])


@njit(nogil=True, cache=True)
def read_signed(raw: Any, at: int, width: int) -> Any:
    """A big-endian two's complement integer of `width` bytes."""
    value = np.int64(raw[at])
    if value > 127:
        value -= 256
    for i in range(1, width):
        value = (value << 8) | np.int64(raw[at + i])
    return value


@njit(nogil=True, cache=True)
def read_decimal(raw: Any, at: int, length: int) -> Any:
    """(understood, value) of up to 18 digits with an optional minus; anything else is for the general parser."""
    negative = length > 0 and raw[at] == MINUS
    start = at + 1 if negative else at
    digits = at + length - start
    if digits < 1 or digits > 18:
        return False, 0
    value = np.int64(0)
    for i in range(start, at + length):
        digit = np.int64(raw[i]) - ZERO
        if digit < 0 or digit > 9:
            return False, 0
        value = value * 10 + digit
    return True, -value if negative else value


@njit(nogil=True, cache=True)
def parameter(request: Any, at: int, bits: int) -> Any:
    """(understood, value, position of the result formats) of Bind's only parameter, from its format codes on."""
    formats = read_short(request, at)
    at += 2
    binary = False
    if formats > 1:
        return False, 0, 0
    if formats == 1:
        binary = read_short(request, at) == 1
        at += 2
    if read_short(request, at) != 1:
        return False, 0, 0
    length = read_signed(request, at + 2, 4)
    at += 6
    if length < 1 or at + length + 2 > len(request):
        return False, 0, 0
    if binary:
        if length * 8 != bits:
            return False, 0, 0
        return True, read_signed(request, at, length), at + length
    good, value = read_decimal(request, at, length)
    return good, value, at + length


@njit(nogil=True, cache=True)
def load_integer(data: int, slot: int, width: int) -> Any:
    """A stored integer of 2, 4 or 8 bytes."""
    if width == 8:
        return load_i64(data + slot * 8)
    if width == 4:
        return np.int64(np.int32(load_u32(data + slot * 4)))
    return np.int64(np.int16(load_u16(data + slot * 2)))


@njit(nogil=True, cache=True)
def is_null(row: Any, field: int, slot: int) -> Any:
    valid = row[field + VALID]
    if valid == 0:
        return False
    if row[field + VALID_BITS] == 0:
        return load_u8(valid + slot) == 0
    return (load_u8(valid + (slot >> 3)) >> np.uint8(slot & 7)) & 1 == 0


@njit(nogil=True, cache=True)
def put_string(row: Any, field: int, slot: int, characters: int, out: Any, at: int) -> Any:
    """A string's bytes, padded with blanks to `characters`; FALLBACK when `out` is too small for it."""
    view = row[field + DATA] + slot * 16
    if row[field + ENCODING] == CODES:
        if row[field + WIDTH] == 1:
            code = np.int64(load_u8(row[field + DATA] + slot))
        else:
            code = np.int64(load_u16(row[field + DATA] + slot * 2))
        view = row[field + DICTIONARY] + code * 16
    length = np.int64(load_u32(view))
    if at + length + characters + 64 > len(out):
        return FALLBACK
    source = view + 4
    if length > INLINE_BYTES:
        source = row[field + HEAP] + np.int64(load_u32(view + 12))
    copy_bytes(out.ctypes.data + at, source, length)
    if characters > 0:
        count = 0
        for i in range(at, at + length):
            if out[i] & 0xC0 != 0x80:
                count += 1
        for i in range(count, characters):
            out[at + length + i - count] = BLANK
        length += max(0, characters - count)
    return at + length


@njit(nogil=True, cache=True)
def put_column(row: Any, field: int, slot: int, form: int, extra: int, binary: bool, out: Any, at: int) -> Any:
    """Writes one value's bytes; FALLBACK for what only the general path can write."""
    if form == STRING:
        return put_string(row, field, slot, extra, out, at)
    if form == BOOLEAN:
        value = load_u8(row[field + DATA] + slot)
        out[at] = value if binary else (116 if value else 102)
        return at + 1
    width = row[field + WIDTH]
    value = load_integer(row[field + DATA], slot, width)
    if form == DECIMAL:
        return FALLBACK if binary else put_decimal(out, at, value, extra, POWERS[extra])
    if not binary:
        return put_integer(out, at, value)
    for i in range(width):
        out[at + i] = (value >> (8 * (width - 1 - i))) & 0xFF
    return at + width


@njit(nogil=True, cache=True)
def put_row(directory: Any, address: int, shape: Any, request: Any, formats_at: int, out: Any, at: int) -> Any:
    """Writes a DataRow; returns the position behind it, or FALLBACK."""
    row = directory[address >> SLOT_BITS]
    slot = address & SLOT_MASK
    outputs = shape[3]
    formats = read_short(request, formats_at)
    if formats > 1 and formats != outputs:
        return FALLBACK
    start = at
    out[at] = LETTER_D
    at = put_short(out, at + 5, outputs)
    for i in range(outputs):
        field = HEADER + shape[SHAPE_HEAD + 3 * i] * COLUMN_FIELDS
        if row[field + DATA] == 0:
            return FALLBACK
        if is_null(row, field, slot):
            at = put_int(out, at, -1)
            continue
        binary = False
        if formats > 0:
            binary = read_short(request, formats_at + 2 + (2 * i if formats > 1 else 0)) == 1
        form, extra = shape[SHAPE_HEAD + 3 * i + 1], shape[SHAPE_HEAD + 3 * i + 2]
        if at + 64 > len(out):
            return FALLBACK
        end = put_column(row, field, slot, form, extra, binary, out, at + 4)
        if end < 0:
            return FALLBACK
        put_int(out, at, end - at - 4)
        at = end
    put_int(out, start + 1, at - start - 1)
    return at


@njit(nogil=True, cache=True)
def find_version(
    directory: Any, pages: Any, timestamp: int, mark: int, bound: int, column: int, bits: int, value: int
) -> Any:
    """Address of the version with a key that the snapshot sees, NOT_THERE, or FALLBACK.

    column, bits: of the key's integer, which `value` fits.
    """
    key = sortable_int(value, bits)
    record = find_u64(pages, key)
    while record >= 0:
        address = visible_version(directory, record, timestamp, mark, bound)
        if address >= 0:
            row = directory[address >> SLOT_BITS]
            field = HEADER + column * COLUMN_FIELDS
            if row[field + DATA] == 0:
                return FALLBACK
            if load_integer(row[field + DATA], address & SLOT_MASK, bits >> 3) == value:
                return address
        record = find_next_u64(pages, key, record)
    return NOT_THERE


# Answers of `find_row`.
ROW_NONE = 0
ROW_FREE = 1
ROW_BUSY = 2
ROW_GENERAL = 3
READ_HEAD = 3


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def find_row(
    directory: Any, pages: Any, timestamp: int, mark: int, bound: int, shape: Any, value: int, out: Any
) -> Any:
    """The version with a key that the snapshot sees, for a statement that writes: ROW_FREE when nobody has ended or
    claimed it, ROW_BUSY otherwise; out[0] is its address, then follow the columns asked for, see `read_row`.

    shape int64: [key column, bits of the key's integer, columns asked for, then (column, width) of each].
    """
    bits = shape[1]
    if bits < 64 and (value < -(1 << (bits - 1)) or value >= 1 << (bits - 1)):
        return ROW_GENERAL
    address = find_version(directory, pages, timestamp, mark, bound, shape[0], bits, value)
    if address == NOT_THERE:
        return ROW_NONE
    if address < 0 or not read_row(directory, address, shape, out):
        return ROW_GENERAL
    return ROW_FREE if end_at(directory, address) == INFINITY else ROW_BUSY


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def read_row(directory: Any, address: int, shape: Any, out: Any) -> bool:
    """Reads the columns asked for: out = [address, then (value, is null) of each]. False when one is not there yet."""
    row = directory[address >> SLOT_BITS]
    slot = address & SLOT_MASK
    out[0] = address
    for i in range(shape[2]):
        field = HEADER + shape[READ_HEAD + 2 * i] * COLUMN_FIELDS
        width = shape[READ_HEAD + 2 * i + 1]
        if row[field + DATA] == 0:
            return False
        null = is_null(row, field, slot)
        out[1 + 2 * i] = 0
        out[2 + 2 * i] = null
        if not null:
            data = row[field + DATA]
            out[1 + 2 * i] = np.int64(load_u8(data + slot)) if width == 1 else load_integer(data, slot, width)
    return True


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def point_select(
    directory: Any,
    pages: Any,
    timestamp: int,
    mark: int,
    bound: int,
    shape: Any,
    request: Any,
    bind_at: int,
    out: Any,
    out_at: int,
) -> Any:
    """Looks up the row that a Bind message names and writes its DataRow at `out_at`.

    timestamp, mark and bound are the snapshot's. Returns the position behind what was written (`out_at` itself when
    there is no such row), or FALLBACK. Errors are the general path's: a parameter that it would refuse is not
    understood here.
    """
    good, value, formats_at = parameter(request, bind_at, shape[2])
    if not good:
        return FALLBACK
    bits = shape[1]
    if bits < 64 and (value < -(1 << (bits - 1)) or value >= 1 << (bits - 1)):
        return FALLBACK
    address = find_version(directory, pages, timestamp, mark, bound, shape[0], bits, value)
    if address == NOT_THERE:
        return out_at
    if address < 0:
        return FALLBACK
    return put_row(directory, address, shape, request, formats_at, out, out_at)
