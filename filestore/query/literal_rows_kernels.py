"""The rows of a VALUES list cut into literals, in one pass over the statement's bytes.

Only what is plain is cut: numbers with or without a sign, '...' strings, NULL, TRUE, FALSE, blanks between them, and
rows of one length. Whatever else comes (a comment, a cast, an E'' string, a string that goes on after a line break)
ends the attempt, and the parser reads the statement.
"""

from __future__ import annotations

from typing import Any

from numba import njit

NULL = 0
INTEGER = 1
DECIMAL = 2
STRING = 3
BOOLEAN = 4

NOT_PLAIN = -1


@njit(nogil=True, cache=True)
def after_blanks(data: Any, at: int, end: int) -> Any:
    while at < end and (data[at] == 32 or (9 <= data[at] <= 13 and data[at] != 11)):
        at += 1
    return at


@njit(nogil=True, cache=True)
def after_digits(data: Any, at: int, end: int) -> Any:
    while at < end and 48 <= data[at] <= 57:
        at += 1
    return at


@njit(nogil=True, cache=True)
def word_is(data: Any, at: int, end: int, word: Any) -> bool:
    """Whether the bytes from `at` are the lower-case `word`, in any case."""
    if at + len(word) > end:
        return False
    same = True
    for i in range(len(word)):
        same &= (data[at + i] | 32) == word[i]
    return same


@njit(nogil=True, cache=True)
def number_end(data: Any, at: int, end: int, kind: Any) -> Any:
    """Where the number that begins at `at` ends; NOT_PLAIN for none. kind[0] becomes what it is."""
    if data[at] == 43 or data[at] == 45:
        at += 1
    first = at
    at = after_digits(data, at, end)
    digits = at - first
    kind[0] = INTEGER
    if at < end and data[at] == 46:
        kind[0] = DECIMAL
        first = at + 1
        at = after_digits(data, first, end)
        digits += at - first
    if digits == 0:
        return NOT_PLAIN
    if at < end and (data[at] | 32) == 101:
        kind[0] = DECIMAL
        at += 1
        if at < end and (data[at] == 43 or data[at] == 45):
            at += 1
        first = at
        at = after_digits(data, at, end)
        if at == first:
            return NOT_PLAIN
    return at


@njit(nogil=True, cache=True)
def string_end(data: Any, at: int, end: int, value_end: Any) -> Any:
    """Where the string whose quote is at `at` ends, behind its quote; its doubled quotes are made single in place, and
    value_end[0] is where its value ends then. NOT_PLAIN for one without an end.
    """
    read = write = at + 1
    while read < end:
        if data[read] == 39:
            if read + 1 < end and data[read + 1] == 39:
                read += 1
            else:
                value_end[0] = write
                return read + 1
        if write != read:
            data[write] = data[read]
        read += 1
        write += 1
    return NOT_PLAIN


@njit(nogil=True, cache=True)
def cut_rows(
    data: Any, at: int, null: Any, true: Any, false: Any, starts: Any, ends: Any, kinds: Any, scratch: Any
) -> Any:
    """Cuts `(literal, ...), (literal, ...) [;]` from `at` to the end of the data into cells, row after row.

    data: uint8[], changed where quotes are doubled. starts, ends: int64[cells], where each value lies; kinds:
    uint8[cells]. scratch: int64[1]. Returns (cells, cells of a row), or (NOT_PLAIN, 0).
    """
    end = len(data)
    cell = width = in_row = 0
    at = after_blanks(data, at, end)
    while True:
        if at >= end or data[at] != 40 or cell >= len(starts):
            return NOT_PLAIN, 0
        in_row = 0
        while True:
            at = after_blanks(data, at + 1, end)
            if at >= end or cell >= len(starts):
                return NOT_PLAIN, 0
            starts[cell] = at
            byte = data[at]
            if byte == 39:
                starts[cell] = at + 1
                at = string_end(data, at, end, scratch)
                ends[cell] = scratch[0]
                kinds[cell] = STRING
            else:
                scratch[0] = NULL
                if word_is(data, at, end, null):
                    at += len(null)
                elif word_is(data, at, end, true):
                    scratch[0] = BOOLEAN
                    at += len(true)
                elif word_is(data, at, end, false):
                    scratch[0] = BOOLEAN
                    at += len(false)
                else:
                    at = number_end(data, at, end, scratch)
                ends[cell] = at
                kinds[cell] = scratch[0]
            if at < 0:
                return NOT_PLAIN, 0
            cell += 1
            in_row += 1
            at = after_blanks(data, at, end)
            if at >= end or data[at] != 44:
                break
        if at >= end or data[at] != 41 or (width and in_row != width):
            return NOT_PLAIN, 0
        width = in_row
        at = after_blanks(data, at + 1, end)
        if at < end and data[at] == 44:
            at = after_blanks(data, at + 1, end)
            continue
        if at < end and data[at] == 59:
            at = after_blanks(data, at + 1, end)
        return (cell, width) if at == end else (NOT_PLAIN, 0)
