"""COPY data to and from CopyData messages, without Python for each row.

In: a run of CopyData messages joined into one piece of the stream. Out: a piece of COPY output cut into one CopyData
message a row, which is what psycopg's and others' row-wise readers count on.

Oracles in the tests: `Codec` fed one message at a time; Python's csv and split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

BINARY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
BINARY_HEADER_BYTES = 19  # signature, flags, length of an empty extension
NO_QUOTE = -1


@njit(nogil=True, cache=True)
def big_endian(source: Any, at: int) -> Any:
    """The int32 at source[at], uint8[]."""
    word = (
        (np.int64(source[at]) << 24)
        | (np.int64(source[at + 1]) << 16)
        | (np.int64(source[at + 2]) << 8)
        | np.int64(source[at + 3])
    )
    return word - (np.int64(1) << 32) if word >= np.int64(1) << 31 else word


@njit(nogil=True, cache=True)
def strip_headers(source: Any, at: int, out: Any) -> Any:
    """Copies the bodies of complete CopyData messages from source[at:] to `out`, both uint8[].

    Returns (end, used): where the first other, broken or incomplete message begins, and the bytes written. `out` holds
    at least len(source) - at bytes. A length below 4 or beyond the source stops the run; the caller judges it.
    """
    used = 0
    size = len(source)
    while at + 5 <= size and source[at] == 100:
        length = big_endian(source, at + 1)
        end = at + 1 + length
        if length < 4 or end > size:
            break
        for i in range(at + 5, end):
            out[used] = source[i]
            used += 1
        at = end
    return at, used


@njit(nogil=True, cache=True)
def line_ends(source: Any, quote: int, escape: int, ends: Any) -> int:
    """Where each line of source uint8[] ends, its line end included; a line end between quotes is data.

    `ends` int64[] has room for every line end and one more. Returns the number of lines; bytes after the last line end
    are one.
    """
    lines = 0
    inside = False
    escaped = False
    for i in range(len(source)):
        byte = source[i]
        if escaped:
            escaped = False
        elif inside and byte == escape and escape != quote:
            escaped = True
        elif byte == quote:
            inside = not inside
        elif byte == 10 and not inside:
            ends[lines] = i + 1
            lines += 1
    if len(source) > 0 and (lines == 0 or ends[lines - 1] != len(source)):
        ends[lines] = len(source)
        lines += 1
    return lines


@njit(nogil=True, cache=True)
def tuple_ends(source: Any, at: int, ends: Any) -> int:
    """Where each tuple of binary COPY ends, from source[at], uint8[]; the trailer counts as one. Returns their number.

    `ends` has room for a tuple in every two bytes. A tuple that does not fit ends at the end.
    """
    found = 0
    size = len(source)
    while at + 2 <= size:
        fields = (np.int64(source[at]) << 8) | np.int64(source[at + 1])
        at += 2
        if fields != 0xFFFF:
            for _ in range(fields):
                if at + 4 > size:
                    at = size
                    break
                length = big_endian(source, at)
                at += 4
                if length > 0:
                    at += length
        ends[found] = min(at, size)
        found += 1
    return found


@njit(nogil=True, cache=True)
def add_headers(source: Any, ends: Any, out: Any) -> None:
    """Writes source[..ends[0]], source[ends[0]..ends[1]] ... as CopyData messages; `out` is 5 bytes a message
    longer.
    """
    at = start = 0
    for k in range(len(ends)):
        length = ends[k] - start + 4
        out[at] = 100
        out[at + 1] = (length >> 24) & 255
        out[at + 2] = (length >> 16) & 255
        out[at + 3] = (length >> 8) & 255
        out[at + 4] = length & 255
        at += 5
        for i in range(start, ends[k]):
            out[at] = source[i]
            at += 1
        start = ends[k]


def join_copy_data(data: bytes, at: int) -> tuple[bytes, int]:
    """The joined bodies of the CopyData messages that begin at `at`, and where the run ends."""
    source = np.frombuffer(data, np.uint8)
    out = np.empty(len(data) - at, np.uint8)
    end, used = strip_headers(source, at, out)
    return out[:used].tobytes(), int(end)


def copy_data_rows(piece: bytes, binary: bool, quote: int = NO_QUOTE, escape: int = NO_QUOTE) -> bytes:
    """CopyData messages of one row each for whole rows of COPY output; binary's header goes with its first row."""
    source = np.frombuffer(piece, np.uint8)
    if binary:
        ends = np.empty(len(source) // 2 + 1, np.int64)
        count = tuple_ends(source, BINARY_HEADER_BYTES if piece.startswith(BINARY_SIGNATURE) else 0, ends)
    else:
        ends = np.empty(piece.count(b"\n") + 1, np.int64)
        count = line_ends(source, quote, escape, ends)
    out = np.empty(len(source) + 5 * count, np.uint8)
    add_headers(source, ends[:count], out)
    return out.tobytes()
