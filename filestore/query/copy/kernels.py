"""Kernels that cut COPY data into fields and put fields together into COPY data.

A splitter works on a private, writable copy of the input: fields that need unescaping are unescaped in place, so that
every field is data[starts[c, r]:ends[c, r]]. It stops at the first record that is not complete, at an error, or when
the arrays are full, and leaves its findings in `state` int64[8] by the names below. The plain twin of the tests
goes byte by byte over one record.
"""

# ruff: noqa: SIM109, SIM110 - tuple tests and generators are slow or unknown in compiled code

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Slots of `state`
ROWS = 0  # complete records found
CONSUMED = 1  # where the first incomplete record begins
STATUS = 2
COLUMN = 3  # the column of MISSING, the field count of BINARY_COUNT
LINE_END = 4  # how lines end; kept from call to call
LINES = 5  # physical lines in the consumed part
UNCHECKED = 6  # an escape made a byte that may break UTF-8
RECORD_END = 7  # end of the record at fault, its line end left out

OK, END_OF_DATA, MISSING, EXTRA, CORRUPT_END = range(5)
LITERAL_CR, LITERAL_NEWLINE, UNTERMINATED, BAD_SIZE, BINARY_COUNT = range(5, 10)
UNKNOWN, NEWLINE, CR_NEWLINE, CR = range(4)

BACKSLASH, LF, CRET, DOT = 92, 10, 13, 46


@njit(nogil=True, cache=True, inline="always")
def matches(data: Any, at: int, end: int, word: Any) -> bool:
    if end - at < len(word):
        return False
    for i in range(len(word)):
        if data[at + i] != word[i]:
            return False
    return True


@njit(nogil=True, cache=True, inline="always")
def line_end(data: Any, at: int, end: int, final: bool, state: Any) -> int:
    """Length of the line end at data[at] (a LF or CR): 1 or 2; 0 when more input is needed; -1 for a stray one."""
    known = state[LINE_END]
    if data[at] == LF:
        if known == UNKNOWN:
            state[LINE_END] = NEWLINE
        elif known != NEWLINE:
            return -1
        return 1
    if known == NEWLINE:
        return -1
    if known == CR:
        return 1
    if at + 1 == end and not final:
        return 0
    followed = at + 1 < end and data[at + 1] == LF
    if followed:
        state[LINE_END] = CR_NEWLINE
        return 2
    if known == CR_NEWLINE:
        return -1
    state[LINE_END] = CR
    return 1


@njit(nogil=True, cache=True)
def octal(c: Any) -> Any:
    return 48 <= c <= 55


@njit(nogil=True, cache=True)
def hex_value(c: Any) -> Any:
    if 48 <= c <= 57:
        return np.int64(c) - 48
    if 97 <= c <= 102:
        return np.int64(c) - 87
    if 65 <= c <= 70:
        return np.int64(c) - 55
    return -1


@njit(nogil=True, cache=True)
def unescape(data: Any, at: int, end: int, write: int, state: Any) -> int:
    """Writes the character that the escape at data[at] (behind the backslash) means to data[write].

    Returns the position behind the escape.
    """
    c = data[at]
    at += 1
    value: Any = np.int64(c)
    if octal(c):
        value = np.int64(c) - 48
        count = 1
        while count < 3 and at < end and octal(data[at]):
            value = value * 8 + np.int64(data[at]) - 48
            at += 1
            count += 1
        value &= 0xFF
        if value >= 128 or value == 0:
            state[UNCHECKED] = 1
    elif c == 120:  # x
        if at < end and hex_value(data[at]) >= 0:
            value = hex_value(data[at])
            at += 1
            if at < end and hex_value(data[at]) >= 0:
                value = value * 16 + hex_value(data[at])
                at += 1
            if value >= 128 or value == 0:
                state[UNCHECKED] = 1
    elif c == 98:
        value = 8
    elif c == 102:
        value = 12
    elif c == 110:
        value = 10
    elif c == 114:
        value = 13
    elif c == 116:
        value = 9
    elif c == 118:
        value = 11
    data[write] = value
    return at


@njit(nogil=True, cache=True, inline="always")
def put_field(starts: Any, ends: Any, valid: Any, column: int, row: int, start: int, end: int, live: bool) -> None:
    """Notes a field; one beyond the last column is only counted."""
    if column < starts.shape[0]:
        starts[column, row] = start
        ends[column, row] = end
        valid[column, row] = live


@njit(nogil=True, cache=True, inline="always")
def record_done(column: int, columns: int, at: int, state: Any) -> bool:
    """Whether the record that ends at `at` has the right number of fields; notes the error otherwise."""
    if column + 1 == columns:
        return True
    state[STATUS] = EXTRA if column + 1 > columns else MISSING
    state[COLUMN] = column + 1
    state[RECORD_END] = at
    return False


@njit(nogil=True, cache=True)
def split_text(
    data: Any,
    end: int,
    final: bool,
    delimiter: Any,
    null: Any,
    special: Any,
    starts: Any,
    ends: Any,
    valid: Any,
    rows_at: Any,
    state: Any,
) -> None:
    """COPY's text format. starts, ends int64[columns, capacity], valid bool of that shape, rows_at int64[capacity].

    special uint8[256] marks the bytes that end a run of plain ones: delimiter, backslash, line ends.
    """
    columns, capacity = starts.shape
    null_size = len(null)
    at = 0
    row = 0
    state[STATUS] = OK
    while at < end and row < capacity:
        record = at
        column = 0
        finished = False
        more = False
        while not finished and not more and state[STATUS] == OK:  # fields
            start = at
            write = -1  # where the next byte goes; -1 while nothing was moved
            is_null = False
            if null_size and at < end and data[at] == null[0] and matches(data, at, end, null):
                behind = at + null_size
                if behind < end:
                    following = data[behind]
                    is_null = following == delimiter or following == LF or following == CRET
                else:
                    is_null = final
                    more = not final
                if is_null:
                    at = behind
            while not more:
                if write < 0:
                    while at < end and special[data[at]] == 0:
                        at += 1
                else:
                    while at < end and special[data[at]] == 0:
                        data[write] = data[at]
                        write += 1
                        at += 1
                if at >= end or data[at] != BACKSLASH:
                    break
                # A backslash at the very end stands for itself; an octal escape may go on behind the input.
                if end - at < 5 and not final:
                    more = True
                elif at + 1 < end and data[at + 1] == DOT:
                    clean = at == record and (at + 2 >= end or data[at + 2] == LF or data[at + 2] == CRET)
                    state[STATUS] = END_OF_DATA if clean else CORRUPT_END
                    state[RECORD_END] = at
                    break
                else:
                    if write < 0:
                        write = at
                    if at + 1 < end:
                        at = unescape(data, at + 1, end, write, state)
                    else:
                        at += 1
                    write += 1
            if more or state[STATUS] != OK:
                break
            stop = at if write < 0 else write
            if null_size == 0:
                is_null = stop == start
            size = 0
            if at < end and data[at] == delimiter:
                size = 1
            elif at < end:
                size = line_end(data, at, end, final, state)
                more = size == 0
                finished = size > 0
                if size < 0:
                    state[STATUS] = LITERAL_NEWLINE if data[at] == LF else LITERAL_CR
                    state[RECORD_END] = at
            else:
                more = not final
                finished = final
            if column < columns:
                starts[column, row] = start
                ends[column, row] = stop
                valid[column, row] = not is_null
            column += 1
            if finished and column != columns:
                state[STATUS] = EXTRA if column > columns else MISSING
                state[COLUMN] = column
                state[RECORD_END] = at
            at += size
        if not finished or state[STATUS] != OK:
            state[ROWS] = row
            state[CONSUMED] = record
            state[LINES] = row
            return
        rows_at[row] = record
        row += 1
    state[ROWS] = row
    state[CONSUMED] = at
    state[LINES] = row


@njit(nogil=True, cache=True)
def split_csv(
    data: Any,
    end: int,
    final: bool,
    delimiter: Any,
    quote: Any,
    escape: Any,
    null: Any,
    special: Any,
    force_null: Any,
    force_not_null: Any,
    starts: Any,
    ends: Any,
    valid: Any,
    rows_at: Any,
    lines: Any,
    state: Any,
) -> None:
    """COPY's CSV format; as split_text, with force_null and force_not_null bool[columns].

    special uint8[256]: bit 1 marks bytes that end a plain run outside quotes, bit 2 inside. lines int64[capacity]:
    physical lines up to the end of each record.
    """
    columns, capacity = starts.shape
    at = 0
    row = 0
    total_lines = 0
    state[STATUS] = OK
    while at < end and row < capacity:
        record = at
        column = 0
        start = at
        write = -1
        quoted = False
        saw_quote = False
        count = 1
        finished = False
        stop = False
        while not stop:
            size = 0
            boundary = False
            if at >= end:
                if not final:
                    break
                if quoted:
                    state[STATUS] = UNTERMINATED
                    state[RECORD_END] = at
                    break
                boundary = True
                stop = True
            else:
                c = data[at]
                if quoted:
                    if c == escape and at + 1 < end and (data[at + 1] == quote or data[at + 1] == escape):
                        data[write] = data[at + 1]
                        write += 1
                        at += 2
                    elif c == escape and at + 1 >= end and not final:
                        break
                    elif c == quote:
                        quoted = False
                        at += 1
                    else:
                        if c == LF or (c == CRET and state[LINE_END] == CR):
                            count += 1
                        data[write] = c
                        write += 1
                        at += 1
                        while at < end and special[data[at]] & 2 == 0:
                            data[write] = data[at]
                            write += 1
                            at += 1
                    continue
                if c == delimiter:
                    boundary = True
                elif c == LF or c == CRET:
                    size = line_end(data, at, end, final, state)
                    if size == 0:
                        break
                    if size < 0:
                        state[STATUS] = LITERAL_NEWLINE if c == LF else LITERAL_CR
                        state[RECORD_END] = at
                        break
                    boundary = True
                    stop = True
                elif c == quote:
                    if write < 0:
                        write = at
                    quoted = True
                    saw_quote = True
                    at += 1
                    continue
                elif c == BACKSLASH and at == record and at + 1 < end and data[at + 1] == DOT:
                    if at + 2 >= end and not final:
                        break
                    if at + 2 >= end or data[at + 2] == LF or data[at + 2] == CRET:
                        state[STATUS] = END_OF_DATA
                        break
                if not boundary:
                    if write >= 0:
                        data[write] = c
                        write += 1
                        at += 1
                        continue
                    at += 1
                    while at < end and special[data[at]] & 1 == 0:
                        at += 1
                    continue
            stop_at = at if write < 0 else write
            is_null = stop_at - start == len(null) and matches(data, start, stop_at, null)
            if is_null and column < columns:
                is_null = force_null[column] if saw_quote else not force_not_null[column]
            put_field(starts, ends, valid, column, row, start, stop_at, not is_null)
            if stop:
                finished = record_done(column, columns, at, state)
                at += size
            else:
                column += 1
                at += 1
                start = at
                write = -1
                saw_quote = False
        if not finished:
            state[ROWS] = row
            state[CONSUMED] = record
            state[LINES] = total_lines
            if state[STATUS] != OK:
                state[LINES] += count
            return
        rows_at[row] = record
        total_lines += count
        lines[row] = total_lines
        row += 1
    state[ROWS] = row
    state[CONSUMED] = at
    state[LINES] = total_lines


@njit(nogil=True, cache=True)
def read_short(data: Any, at: int) -> Any:
    value = np.int64(data[at]) * 256 + np.int64(data[at + 1])
    return value - 65_536 if value >= 32_768 else value


@njit(nogil=True, cache=True)
def read_int(data: Any, at: int) -> Any:
    value = (read_short(data, at) & 0xFFFF) * 65_536 + (read_short(data, at + 2) & 0xFFFF)
    return value - 4_294_967_296 if value >= 2_147_483_648 else value


@njit(nogil=True, cache=True)
def split_binary(data: Any, end: int, starts: Any, ends: Any, valid: Any, rows_at: Any, state: Any) -> None:
    """The tuples of the binary format, its header taken off; as split_text."""
    columns, capacity = starts.shape
    at = 0
    row = 0
    state[STATUS] = OK
    while row < capacity:
        record = at
        complete = at + 2 <= end
        if complete:
            count = read_short(data, at)
            if count == -1:
                state[STATUS] = END_OF_DATA
                at += 2
                record = at
                complete = False
            elif count != columns:
                state[STATUS] = BINARY_COUNT
                state[COLUMN] = count
                complete = False
        column = 0
        at += 2
        while complete and column < columns:
            if at + 4 > end:
                complete = False
                break
            size = read_int(data, at)
            at += 4
            if size < -1:
                state[STATUS] = BAD_SIZE
                state[COLUMN] = column
                complete = False
                break
            starts[column, row] = at
            valid[column, row] = size >= 0
            if size > 0:
                if at + size > end:
                    complete = False
                    break
                at += size
            ends[column, row] = at
            column += 1
        if not complete:
            state[ROWS] = row
            state[CONSUMED] = record
            return
        rows_at[row] = record
        row += 1
    state[ROWS] = row
    state[CONSUMED] = at


@njit(nogil=True, cache=True)
def count_specials(data: Any, special: Any) -> int:
    """Bytes of data uint8[] that are marked in special uint8[256]."""
    count = 0
    for i in range(len(data)):
        count += special[data[i]]
    return count


@njit(nogil=True, cache=True)
def text_rows(
    offsets: Any, data: Any, valid: Any, escaped: Any, letters: Any, delimiter: Any, null: Any, out: Any
) -> int:
    """Rows of the text format, escaped where escaped bool[columns] says so.

    letters uint8[256]: 0 for a plain byte, else what stands behind the backslash.
    """
    columns, n = valid.shape
    at = 0
    for i in range(n):
        for c in range(columns):
            if c:
                out[at] = delimiter
                at += 1
            if not valid[c, i]:
                for k in range(len(null)):
                    out[at] = null[k]
                    at += 1
                continue
            low = offsets[c, i]
            high = offsets[c, i + 1]
            if escaped[c]:
                for j in range(low, high):
                    byte = data[j]
                    letter = letters[byte]
                    if letter:
                        out[at] = BACKSLASH
                        out[at + 1] = letter
                        at += 2
                    else:
                        out[at] = byte
                        at += 1
            else:
                for j in range(low, high):
                    out[at] = data[j]
                    at += 1
        out[at] = LF
        at += 1
    return at


@njit(nogil=True, cache=True)
def csv_rows(
    offsets: Any, data: Any, valid: Any, forced: Any, delimiter: Any, quote: Any, escape: Any, null: Any, out: Any
) -> int:
    """Rows of the CSV format; forced bool[columns] are quoted always.

    out has 2 bytes a byte of data and 3 + len(null) a field.
    """
    columns, n = valid.shape
    at = 0
    for i in range(n):
        for c in range(columns):
            if c:
                out[at] = delimiter
                at += 1
            if not valid[c, i]:
                for k in range(len(null)):
                    out[at] = null[k]
                    at += 1
                continue
            low = offsets[c, i]
            high = offsets[c, i + 1]
            quoting = forced[c]
            if not quoting:
                quoting = high - low == len(null) and matches(data, low, high, null)
                quoting = quoting or (
                    columns == 1 and high - low == 2 and data[low] == BACKSLASH and data[low + 1] == DOT
                )
                for j in range(low, high):
                    byte = data[j]
                    if byte == delimiter or byte == quote or byte == LF or byte == CRET:
                        quoting = True
                        break
            if quoting:
                out[at] = quote
                at += 1
                for j in range(low, high):
                    byte = data[j]
                    if byte == quote or byte == escape:
                        out[at] = escape
                        at += 1
                    out[at] = byte
                    at += 1
                out[at] = quote
                at += 1
            else:
                for j in range(low, high):
                    out[at] = data[j]
                    at += 1
        out[at] = LF
        at += 1
    return at
