"""Kernels over fields of bytes: UTF-8, lengths, string views, gathering; shared form as in `text_parse_kernels`."""

from __future__ import annotations

from typing import Any

from numba import njit

BLANK, PLUS = 32, 43


@njit(nogil=True, cache=True)
def invalid_utf8(data: Any, start: int, end: int) -> int:
    """Position of the first byte that begins no valid UTF-8 character (NUL counts as invalid), -1 when all is well."""
    at = start
    while at < end:
        c = data[at]
        if c < 0x80:
            if c == 0:
                return at
            at += 1
            continue
        length = 0
        low = 0x80
        high = 0xBF
        if 0xC2 <= c <= 0xDF:
            length = 2
        elif 0xE0 <= c <= 0xEF:
            length = 3
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif 0xF0 <= c <= 0xF4:
            length = 4
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        if length == 0 or at + length > end or data[at + 1] < low or data[at + 1] > high:
            return at
        for k in range(2, length):
            if data[at + k] & 0xC0 != 0x80:
                return at
        at += length
    return -1


@njit(nogil=True, cache=True)
def fit_length(data: Any, starts: Any, ends: Any, valid: Any, limit: int) -> int:
    """Cuts blanks beyond `limit` characters by moving `ends`; returns the first row with anything else there, or -1."""
    nulls = len(valid) > 0
    for i in range(len(starts)):
        if (nulls and not valid[i]) or ends[i] - starts[i] <= limit:
            continue
        count = 0
        at = starts[i]
        while at < ends[i]:
            if data[at] & 0xC0 != 0x80:
                count += 1
                if count > limit:
                    break
            at += 1
        for j in range(at, ends[i]):
            if data[j] != BLANK:
                return i
        ends[i] = at
    return -1


@njit(nogil=True, cache=True)
def trim_blanks(data: Any, starts: Any, ends: Any) -> None:
    """Moves `ends` before trailing blanks."""
    for i in range(len(starts)):
        end = ends[i]
        while end > starts[i] and data[end - 1] == BLANK:
            end -= 1
        ends[i] = end


@njit(nogil=True, cache=True)
def heap_size(starts: Any, ends: Any, valid: Any) -> int:
    """Bytes that the strings of more than 12 bytes take."""
    nulls = len(valid) > 0
    total = 0
    for i in range(len(starts)):
        length = ends[i] - starts[i]
        if length > 12 and (not nulls or valid[i]):
            total += length
    return total


@njit(nogil=True, cache=True)
def make_views(data: Any, starts: Any, ends: Any, valid: Any, raw: Any, words: Any, heap: Any) -> None:
    """String views of the rows; raw uint8[n, 16] and words uint32[n, 4] are the same zeroed memory.

    heap has `heap_size` bytes.
    """
    nulls = len(valid) > 0
    position = 0
    for i in range(len(starts)):
        if nulls and not valid[i]:
            continue
        at = starts[i]
        length = ends[i] - at
        words[i, 0] = length
        if length <= 12:
            for j in range(length):
                raw[i, 4 + j] = data[at + j]
        else:
            for j in range(4):
                raw[i, 4 + j] = data[at + j]
            words[i, 3] = position
            heap[position : position + length] = data[at : at + length]
            position += length


@njit(nogil=True, cache=True)
def pack(data: Any, starts: Any, ends: Any, rows: Any, out: Any, offsets: Any) -> int:
    """The fields of the given rows end to end, a leading plus left out; returns the bytes written."""
    position = 0
    for k in range(len(rows)):
        offsets[k] = position
        at = starts[rows[k]]
        end = ends[rows[k]]
        if at < end and data[at] == PLUS:
            at += 1
        while at < end:
            out[position] = data[at]
            position += 1
            at += 1
    offsets[len(rows)] = position
    return position


@njit(nogil=True, cache=True)
def gather_fixed(data: Any, starts: Any, ends: Any, valid: Any, out: Any) -> int:
    """Copies fields of exactly out.shape[1] bytes into out uint8[n, width]; returns the first other row, or -1."""
    nulls = len(valid) > 0
    width = out.shape[1]
    for i in range(len(starts)):
        if nulls and not valid[i]:
            out[i, :] = 0
            continue
        at = starts[i]
        if ends[i] - at != width:
            return i
        for j in range(width):
            out[i, j] = data[at + j]
    return -1
