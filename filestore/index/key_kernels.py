"""Order-preserving encoding in compiled code: packed words and components of byte keys; their meaning is told in `key`.

Batch kernels work a column at a time: `*_lengths` add the bytes of each row's component to lengths[n], `put_*` write
them at cursor[n] of `out` and move the cursors on. `valid` is uint8[n], or empty when the column has no nulls;
`marker` is 1 if the column is nullable and so has a marker byte before each component.

The scalar functions are for compiled statements that encode one key without leaving their kernel.

Thread rule: any thread; they write into the arrays that they are given. Not here: which form a key has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.vector import INLINE_BYTES as INLINE

NOT_NULL = 0x01  # below NULL, because PostgreSQL's default is NULLS LAST
NULL = 0x02
ESCAPE = 0xFF  # behind a zero byte of the value; the end is 0x00 0x00, below any continuation
END_BYTES = 2
BLANK = 0x20
PREFIX = 4
LENGTH_MASK = np.uint64(0xFFFFFFFF)
SIGN64 = np.uint64(1 << 63)
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
NAN64 = np.uint64(0xFFF8000000000000)  # the one NaN, in sorted form: above infinity
NAN32 = np.uint64(0xFFC00000)


@njit(nogil=True, cache=True)
def sortable_int(value: int, bits: int) -> Any:
    """An integer of 16, 32 or 64 bits as an unsigned number of as many bits, in the same order."""
    if bits == 64:
        return np.uint64(value) ^ SIGN64
    return np.uint64(value + (1 << (bits - 1)))


@njit(nogil=True, cache=True)
def sortable_float8_bits(bits: Any) -> Any:
    """A float8, given as its bits, in PostgreSQL's order: -0.0 equals 0.0, NaN equals NaN and is greatest."""
    magnitude = bits & ~SIGN64
    if magnitude > np.uint64(0x7FF0000000000000):
        return NAN64
    if magnitude == np.uint64(0):
        return SIGN64
    return bits ^ ONES if bits & SIGN64 else bits ^ SIGN64


@njit(nogil=True, cache=True)
def sortable_float4_bits(bits: Any) -> Any:
    """The same for a float4's 32 bits."""
    sign = np.uint64(1 << 31)
    magnitude = bits & ~sign
    if magnitude > np.uint64(0x7F800000):
        return NAN32
    if magnitude == np.uint64(0):
        return sign
    return bits ^ LENGTH_MASK if bits & sign else bits ^ sign


@njit(nogil=True, cache=True)
def put_big_endian(value: Any, width: int, out: Any, at: int) -> int:
    """Writes the low `width` bytes of a sortable number, highest first; returns the end."""
    for i in range(width):
        out[at + i] = np.uint8((value >> np.uint64(8 * (width - 1 - i))) & np.uint64(0xFF))
    return at + width


@njit(nogil=True, cache=True)
def sortable_floats8(bits: Any, out: Any) -> None:
    """sortable_float8_bits over uint64[n]."""
    for i in range(len(bits)):
        out[i] = sortable_float8_bits(bits[i])


@njit(nogil=True, cache=True)
def sortable_floats4(bits: Any, out: Any) -> None:
    """sortable_float4_bits over uint32[n]."""
    for i in range(len(bits)):
        out[i] = sortable_float4_bits(np.uint64(bits[i]))


@njit(nogil=True, cache=True)
def view_byte(views: Any, row: int, heap: Any, length: Any, i: Any) -> Any:
    """Byte i of a string view."""
    if length > INLINE:
        return heap[np.int64(views[row, 1] >> np.uint64(32)) + i]
    if i < PREFIX:
        return np.uint8((views[row, 0] >> np.uint64(32 + 8 * i)) & np.uint64(0xFF))
    return np.uint8((views[row, 1] >> np.uint64(8 * (i - PREFIX))) & np.uint64(0xFF))


@njit(nogil=True, cache=True)
def view_length(views: Any, row: int, heap: Any, strip: bool) -> Any:
    """Bytes of a string view, without trailing blanks if strip."""
    full = np.int64(views[row, 0] & LENGTH_MASK)
    length = full
    while strip and length > 0 and view_byte(views, row, heap, full, length - 1) == BLANK:
        length -= 1
    return length


@njit(nogil=True, cache=True)
def put_marker(valid: Any, row: int, marker: int, out: Any, at: int) -> tuple[int, bool]:
    """Writes the marker byte of a nullable column; returns the next byte and whether a value follows."""
    present = len(valid) == 0 or valid[row] != 0
    if marker:
        out[at] = NOT_NULL if present else NULL
    return at + marker, present


@njit(nogil=True, cache=True)
def text_lengths(views: Any, heap: Any, valid: Any, marker: int, strip: bool, lengths: Any) -> None:
    """Adds the component lengths of a text column."""
    for row in range(len(views)):
        lengths[row] += marker
        if len(valid) == 0 or valid[row] != 0:
            full = np.int64(views[row, 0] & LENGTH_MASK)
            length = view_length(views, row, heap, strip)
            zeros = 0
            for i in range(length):
                if view_byte(views, row, heap, full, i) == 0:
                    zeros += 1
            lengths[row] += length + zeros + END_BYTES


@njit(nogil=True, cache=True)
def put_text(views: Any, heap: Any, valid: Any, marker: int, strip: bool, cursor: Any, out: Any) -> None:
    """Writes the components of a text column."""
    for row in range(len(views)):
        at, present = put_marker(valid, row, marker, out, cursor[row])
        if present:
            full = np.int64(views[row, 0] & LENGTH_MASK)
            for i in range(view_length(views, row, heap, strip)):
                byte = view_byte(views, row, heap, full, i)
                out[at] = byte
                at += 1
                if byte == 0:
                    out[at] = ESCAPE
                    at += 1
            out[at] = 0
            out[at + 1] = 0
            at += END_BYTES
        cursor[row] = at


@njit(nogil=True, cache=True)
def put_words(high: Any, low: Any, width: int, valid: Any, marker: int, cursor: Any, out: Any) -> None:
    """Writes the components of a fixed-width column: the low `width` bytes of low[n],
    or all of high[n] and low[n] at 16."""
    for row in range(len(low)):
        at, present = put_marker(valid, row, marker, out, cursor[row])
        if present:
            if width > 8:
                at = put_big_endian(high[row], width - 8, out, at)
            at = put_big_endian(low[row], min(width, 8), out, at)
        cursor[row] = at


@njit(nogil=True, cache=True)
def put_raw(offsets: Any, source: Any, valid: Any, marker: int, cursor: Any, out: Any) -> None:
    """Writes components that are encoded already."""
    for row in range(len(offsets) - 1):
        at, present = put_marker(valid, row, marker, out, cursor[row])
        if present:
            for i in range(offsets[row], offsets[row + 1]):
                out[at] = source[i]
                at += 1
        cursor[row] = at
