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

from filestore.query.kernels import inlined

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


@inlined
def matches(data: Any, at: int, end: int, word: Any) -> bool:
    if end - at < len(word):
        return False
    for i in range(len(word)):
        if data[at + i] != word[i]:
            return False
    return True


@inlined
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


@inlined
def put_field(starts: Any, ends: Any, valid: Any, column: int, row: int, start: int, end: int, live: bool) -> None:
    """Notes a field; one beyond the last column is only counted."""
    if column < starts.shape[0]:
        starts[column, row] = start
        ends[column, row] = end
        valid[column, row] = live


@inlined
def record_done(column: int, columns: int, at: int, state: Any) -> None:
    """Notes an error when the record that ends at `at` has too few or too many fields."""
    if column + 1 != columns:
        state[STATUS] = EXTRA if column + 1 > columns else MISSING
        state[COLUMN] = column + 1
        state[RECORD_END] = at


@inlined
def stopped(row: int, at: int, lines: int, state: Any) -> None:
    """Notes how far the input was taken: `row` records, up to `at`."""
    state[ROWS] = row
    state[CONSUMED] = at
    state[LINES] = lines


@inlined
def plain_run(data: Any, at: int, end: int, special: Any, bit: int, write: int) -> Any:
    """(at, write) behind the bytes that are not special; they move to `write` unless that is -1."""
    if write < 0:
        while at < end and special[data[at]] & bit == 0:
            at += 1
    else:
        while at < end and special[data[at]] & bit == 0:
            data[write] = data[at]
            write += 1
            at += 1
    return at, write


@inlined
def field_end(data: Any, at: int, end: int, final: bool, delimiter: Any, state: Any) -> Any:
    """(bytes between this field and the next, whether the record ends, whether that takes more input to know)."""
    if at >= end:
        return 0, final, not final
    if data[at] == delimiter:
        return 1, False, False
    size = line_end(data, at, end, final, state)
    if size < 0:
        state[STATUS] = LITERAL_NEWLINE if data[at] == LF else LITERAL_CR
        state[RECORD_END] = at
    return size, size > 0, size == 0


@inlined
def ends_line(data: Any, at: int, end: int) -> Any:
    return at >= end or data[at] == LF or data[at] == CRET


@inlined
def null_field(data: Any, at: int, end: int, final: bool, delimiter: Any, null: Any) -> Any:
    """(whether the field at `at` is the null string, whether that takes more input to know)."""
    if len(null) == 0 or at >= end or data[at] != null[0] or not matches(data, at, end, null):
        return False, False
    behind = at + len(null)
    if behind >= end:
        return final, not final
    return data[behind] == delimiter or ends_line(data, behind, end), False


@inlined
def text_escape(data: Any, at: int, end: int, final: bool, record: int, write: int, state: Any) -> Any:
    """(at, write, whether it takes more input) behind the escape at `at`; the end-of-data mark is noted."""
    # An octal escape may go on behind the input; a backslash at the very end stands for nothing.
    if end - at < 5 and not final:
        return at, write, True
    if at + 1 < end and data[at + 1] == DOT:
        state[STATUS] = END_OF_DATA if at == record and ends_line(data, at + 2, end) else CORRUPT_END
        state[RECORD_END] = at
        return at, write, False
    write = at if write < 0 else write
    if at + 1 >= end:
        return at + 1, write, False
    return unescape(data, at + 1, end, write, state), write + 1, False


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
    at = row = 0
    state[STATUS] = OK
    while at < end and row < capacity:
        record = at
        column = 0
        finished = False
        while not finished:
            start = at
            write = -1  # where the next byte goes; -1 while nothing was moved
            is_null, more = null_field(data, at, end, final, delimiter, null)
            if is_null:
                at += len(null)
            while not is_null and not more and state[STATUS] == OK:
                at, write = plain_run(data, at, end, special, 1, write)
                if at >= end or data[at] != BACKSLASH:
                    break
                at, write, more = text_escape(data, at, end, final, record, write, state)
            if more or state[STATUS] != OK:
                return stopped(row, record, row, state)
            stop = at if write < 0 else write
            size, finished, more = field_end(data, at, end, final, delimiter, state)
            is_null = is_null or (len(null) == 0 and stop == start)
            put_field(starts, ends, valid, column, row, start, stop, not is_null)
            if finished:
                record_done(column, columns, at, state)
            if more or state[STATUS] != OK:
                return stopped(row, record, row, state)
            at += size
            column += 1
        rows_at[row] = record
        row += 1
    return stopped(row, at, row, state)


@inlined
def quoted_run(
    data: Any, at: int, end: int, final: bool, quote: Any, escape: Any, special: Any, write: int, state: Any
) -> Any:
    """(at, write, line ends passed, whether it takes more input) behind the closing quote; a missing one is noted."""
    lines = 0
    while at < end:
        c = data[at]
        if c == escape and at + 1 < end and (data[at + 1] == quote or data[at + 1] == escape):
            data[write] = data[at + 1]
            write += 1
            at += 2
        elif c == escape and at + 1 >= end and not final:
            return at, write, lines, True
        elif c == quote:
            return at + 1, write, lines, False
        else:
            if c == LF or (c == CRET and state[LINE_END] == CR):
                lines += 1
            data[write] = c
            at, write = plain_run(data, at + 1, end, special, 2, write + 1)
    if final:
        state[STATUS] = UNTERMINATED
        state[RECORD_END] = at
    return at, write, lines, not final


@inlined
def end_mark(data: Any, at: int, end: int, final: bool, state: Any) -> Any:
    """Whether it takes more input to know if the record at `at` is the end-of-data mark, which is noted."""
    if data[at] != BACKSLASH or at + 1 >= end or data[at + 1] != DOT:
        return False
    if at + 2 >= end and not final:
        return True
    if ends_line(data, at + 2, end):
        state[STATUS] = END_OF_DATA
    return False


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
    at = row = total = 0
    state[STATUS] = OK
    while at < end and row < capacity:
        record = at
        column = 0
        count = 1  # physical lines of this record
        finished = False
        while not finished:
            start = at
            write = -1
            quoted = False
            more = at == record and end_mark(data, at, end, final, state)
            while not more and state[STATUS] == OK:
                at, write = plain_run(data, at, end, special, 1, write)
                if at >= end or data[at] != quote:
                    break
                quoted = True
                write = at if write < 0 else write
                at, write, passed, more = quoted_run(data, at + 1, end, final, quote, escape, special, write, state)
                count += passed
            size = 0
            if not more and state[STATUS] == OK:
                size, finished, more = field_end(data, at, end, final, delimiter, state)
            if more or state[STATUS] != OK:
                return stopped(row, record, total if state[STATUS] == OK else total + count, state)
            stop = at if write < 0 else write
            is_null = stop - start == len(null) and matches(data, start, stop, null)
            if is_null and column < columns:
                is_null = force_null[column] if quoted else not force_not_null[column]
            put_field(starts, ends, valid, column, row, start, stop, not is_null)
            if finished:
                record_done(column, columns, at, state)
            if state[STATUS] != OK:
                return stopped(row, record, total + count, state)
            at += size
            column += 1
        rows_at[row] = record
        total += count
        lines[row] = total
        row += 1
    return stopped(row, at, total, state)


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
