"""Kernels that lay string views and dictionary words end to end, as text or hex; shared form as in `render_kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.query.render_kernels import BLANK, put_hex


@njit(nogil=True, cache=True)
def view_lengths(views: Any, valid: Any, offsets: Any) -> Any:
    """offsets int64[n + 1] of the strings laid end to end; returns the total."""
    nulls = len(valid) > 0
    at: Any = 0
    for i in range(len(views)):
        offsets[i] = at
        if not nulls or valid[i]:
            at += np.int64(views[i, 0] & np.uint64(0xFFFFFFFF))
    offsets[len(views)] = at
    return at


@njit(nogil=True, cache=True)
def copy_views(views: Any, raw: Any, heap: Any, offsets: Any, out: Any) -> None:
    """Lays the strings out by offsets; raw is views as uint8[n, 16]."""
    for i in range(len(views)):
        at = offsets[i]
        length = offsets[i + 1] - at
        if length <= 12:
            for j in range(length):
                out[at + j] = raw[i, 4 + j]
        else:
            start = np.int64(views[i, 1] >> np.uint64(32))
            out[at : at + length] = heap[start : start + length]


@njit(nogil=True, cache=True)
def pad_blanks(starts: Any, data: Any, characters: int, valid: Any, out: Any, offsets: Any) -> int:
    """Strings filled with blanks up to `characters` UTF-8 characters; out holds data plus `characters` bytes a row."""
    nulls = len(valid) > 0
    at = 0
    n = len(starts) - 1
    for i in range(n):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        count = 0
        for j in range(starts[i], starts[i + 1]):
            byte = data[j]
            out[at] = byte
            at += 1
            if byte & 0xC0 != 0x80:
                count += 1
        while count < characters:
            out[at] = BLANK
            at += 1
            count += 1
    offsets[n] = at
    return at


@njit(nogil=True, cache=True)
def hex_bytes(starts: Any, data: Any, valid: Any, out: Any, offsets: Any) -> int:
    """bytea as \\x6162; 2 bytes a row and 2 a byte."""
    nulls = len(valid) > 0
    at = 0
    n = len(starts) - 1
    for i in range(n):
        offsets[i] = at
        if nulls and not valid[i]:
            continue
        out[at] = 92
        out[at + 1] = 120
        at += 2
        for j in range(starts[i], starts[i + 1]):
            at = put_hex(out, at, data[j])
    offsets[n] = at
    return at


@njit(nogil=True, cache=True)
def gather_lengths(codes: Any, valid: Any, word_offsets: Any, offsets: Any) -> int:
    """offsets int64[n + 1] of dictionary words taken by int64[n] codes; returns the total."""
    nulls = len(valid) > 0
    at = 0
    for i in range(len(codes)):
        offsets[i] = at
        if not nulls or valid[i]:
            at += word_offsets[codes[i] + 1] - word_offsets[codes[i]]
    offsets[len(codes)] = at
    return at


@njit(nogil=True, cache=True)
def gather_words(codes: Any, word_offsets: Any, words: Any, offsets: Any, out: Any) -> None:
    """Copies each row's dictionary word to its place."""
    for i in range(len(codes)):
        at = offsets[i]
        length = offsets[i + 1] - at
        start = word_offsets[codes[i]] if length else 0
        for j in range(length):
            out[at + j] = words[start + j]
