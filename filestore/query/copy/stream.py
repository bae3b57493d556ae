"""What the COPY formats share: collecting input into chunks, reading the columns, saying where an error is.

A `CopyReader` takes bytes of any sizes (`feed`, then `finish`) and gives back `CopyChunk`s of whole rows; a record may
lie across any number of feeds. Small feeds are collected up to CHUNK_BYTES; a record larger than that makes the next
look wait for twice as much, so that giant fields are not scanned again and again. A `CopyWriter` turns batches into
bytes.

Errors carry PostgreSQL's context: COPY t, line 3, column b: "x". Lines are the input's own, those inside CSV quotes
counted. Thread rule: one thread at a time; kernels release the GIL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filestore import errors
from filestore.query import field_kernels, text_parse
from filestore.query.copy import kernels
from filestore.query.copy.options import CopyOptions
from filestore.query.datetime_text import DEFAULTS, TextSettings
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import SqlType

CHUNK_BYTES = 1 << 20
DISPLAY_BYTES = 100  # of a line or value in an error's context


class CopyChunk:
    """Rows that were read. `columns` are stored-form vectors; `context(row)` says where a row came from."""

    __slots__ = ("_where", "columns", "length")

    def __init__(self, columns: list[Vector], length: int, where: Where) -> None:
        self.columns = columns
        self.length = length
        self._where = where

    def context(self, row: int) -> str:
        """`COPY t, line 7: "1,a"` of the row; for errors that the caller finds, such as a null in a NOT NULL column."""
        return self._where.of_row(row)


@dataclass(slots=True)
class Where:
    """Where the records of a piece of input lie: byte starts in `raw` and line numbers, int64[rows]."""

    prefix: str
    raw: bytes
    starts: Array
    lines: Array

    def of_row(self, row: int, column: str | None = None, value: bytes | None = None) -> str:
        line = f"{self.prefix}, line {self.lines[row]}"
        if column is not None:
            return f'{line}, column {column}: "{clipped(value)}"' if value is not None else f"{line}, column {column}"
        start = int(self.starts[row])
        if start < 0:
            return line
        end = int(self.starts[row + 1]) if row + 1 < len(self.starts) else len(self.raw)
        content = clipped(self.raw[start:end].rstrip(b"\r\n"))
        return f'{line}: "{content}"'


def clipped(value: bytes) -> str:
    """The value for a message, cut after 100 bytes at a character's end."""
    if len(value) <= DISPLAY_BYTES:
        return value.decode(errors="replace")
    return value[:DISPLAY_BYTES].decode(errors="ignore") + "..."


class CopyReader(ABC):
    """Reads COPY data into vectors of `types`; `names` are the columns' names, `table` stands in error contexts."""

    def __init__(
        self,
        table: str,
        names: Sequence[str],
        types: Sequence[SqlType],
        options: CopyOptions,
        settings: TextSettings | None = None,
    ) -> None:
        self.table = table
        self.names = tuple(names)
        self.types = tuple(types)
        self.options = options
        self.settings = settings or DEFAULTS
        self.line = 0  # lines consumed
        self.ended = False  # the end marker was seen
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._wait_for = CHUNK_BYTES
        self._started = False
        self._state = np.zeros(8, np.int64)
        if not types:
            raise errors.FeatureNotSupported("COPY without columns is not supported", hint="Name a column.")

    def feed(self, data: bytes | bytearray | memoryview) -> list[CopyChunk]:
        """Takes bytes in; returns the rows that became complete. Errors with 22P04 and those of the values."""
        if self.ended:
            return self._after_end(data)
        self._pending.append(bytes(data))
        self._pending_bytes += len(data)
        return self._work(final=False) if self._pending_bytes >= self._wait_for else []

    def finish(self) -> list[CopyChunk]:
        """The input is at its end; returns the last rows."""
        return [] if self.ended else self._work(final=True)

    def _after_end(self, data: bytes | bytearray | memoryview) -> list[CopyChunk]:
        """Text and CSV ignore what follows the end marker."""
        del data
        return []

    def _work(self, final: bool) -> list[CopyChunk]:
        raw = b"".join(self._pending)
        out: list[CopyChunk] = []
        if not self._started:
            taken = self._start(raw, final)
            if taken is None:
                self._keep(raw)
                return out
            self._started = True
            raw = raw[taken:]
        while raw and not self.ended:
            chunk, consumed = self._cut(raw, final)
            if chunk is not None:
                out.append(chunk)
            raw = raw[consumed:]
            if not consumed or not final:
                break
        if final and not self.ended:
            self._at_end(raw)
        self._keep(b"" if self.ended else raw)
        return out

    def _keep(self, raw: bytes) -> None:
        self._pending = [raw] if raw else []
        self._pending_bytes = len(raw)
        self._wait_for = max(CHUNK_BYTES, 2 * len(raw))

    def _start(self, raw: bytes, final: bool) -> int | None:
        """Takes a header off; returns its bytes, None when more input is needed."""
        del raw, final
        return 0

    def _at_end(self, raw: bytes) -> None:
        """Called with what is left when the input has ended without an end marker; lines leave nothing."""
        del raw

    @abstractmethod
    def _cut(self, raw: bytes, final: bool) -> tuple[CopyChunk | None, int]:
        """Reads the complete records at the start of `raw`; returns them and the bytes that they took."""

    def _arrays(self, capacity: int) -> tuple[Array, Array, Array, Array]:
        shape = (len(self.types), capacity)
        starts, ends, valid = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.bool_)
        return starts, ends, valid, np.empty(capacity, np.int64)

    def _read_columns(
        self, data: Array, starts: Array, ends: Array, valid: Array, rows: int, where: Where, checked: bool
    ) -> list[Vector]:
        """The vectors of the cut fields; of several errors the first row's, and there the first column's."""
        columns: list[Vector] = []
        found: tuple[int, int, errors.Error] | None = None
        for c, sql_type in enumerate(self.types[: len(starts)]):
            live = valid[c, :rows]
            nulls = None if live.all() else live.copy()
            low, high = starts[c, :rows], ends[c, :rows]
            shown = high.copy()  # reading may move the ends
            try:
                columns.append(self._read_column(sql_type, data, low, high, nulls, checked))
            except errors.Error as error:
                row = error.row or 0
                if found is None or row < found[0]:
                    found = (row, c, error)
                    value = None if self.options.format == "binary" else data[low[row] : shown[row]].tobytes()
                    error.context = where.of_row(row, self.names[c], value)
        if found is not None:
            raise found[2]
        return columns

    @abstractmethod
    def _read_column(
        self, sql_type: SqlType, data: Array, starts: Array, ends: Array, valid: Array | None, checked: bool
    ) -> Vector: ...


class LineReader(CopyReader):
    """What text and CSV share: a header line, lines, the ways a record can be wrong."""

    def _read_column(
        self, sql_type: SqlType, data: Array, starts: Array, ends: Array, valid: Array | None, checked: bool
    ) -> Vector:
        return text_parse.from_fields(sql_type, data, starts, ends, valid, self.settings, checked=checked)

    def _cut(self, raw: bytes, final: bool) -> tuple[CopyChunk | None, int]:
        data = np.frombuffer(bytearray(raw), np.uint8)  # a private copy: fields are unescaped in place
        capacity = int(np.count_nonzero(data == kernels.LF)) + 1
        if self._state[kernels.LINE_END] in (kernels.UNKNOWN, kernels.CR):
            capacity += int(np.count_nonzero(data == kernels.CRET))
        arrays = self._arrays(capacity)
        lines = self._split(data, final, *arrays)
        state = self._state
        rows, consumed, status = int(state[kernels.ROWS]), int(state[kernels.CONSUMED]), int(state[kernels.STATUS])
        starts, ends, valid, rows_at = arrays
        bounds = np.append(rows_at[:rows], consumed)
        where = Where(f"COPY {self.table}", raw, bounds, lines[:rows] + self.line)
        chunk = None
        if rows:
            checked = not state[kernels.UNCHECKED]
            self._check_utf8(raw, consumed, bounds, where)
            columns = self._read_columns(data, starts, ends, valid, rows, where, checked)
            chunk = CopyChunk(columns, rows, where)
        if status == kernels.MISSING:
            # As PostgreSQL, which reads the fields that are there before it misses the next.
            self._read_short_record(data, arrays, rows, raw)
        state[kernels.UNCHECKED] = 0
        self.line += int(state[kernels.LINES])
        if status == kernels.END_OF_DATA:
            self.ended = True
        elif status != kernels.OK:
            raise self._record_error(raw, status)
        return chunk, consumed

    def _read_short_record(self, data: Array, arrays: tuple[Array, Array, Array, Array], row: int, raw: bytes) -> None:
        starts, ends, valid, rows_at = (a[..., row : row + 1] for a in arrays)
        present = int(self._state[kernels.COLUMN])
        if present:
            line = np.array([self.line + int(self._state[kernels.LINES]) + (self.options.format != "csv")])
            where = Where(f"COPY {self.table}", raw, rows_at, line)
            self._read_columns(data, starts[:present], ends[:present], valid[:present], 1, where, checked=False)

    @abstractmethod
    def _split(self, data: Array, final: bool, starts: Array, ends: Array, valid: Array, rows_at: Array) -> Array:
        """Runs the format's kernel; returns each row's line number, int64[rows or more], from this piece's start."""

    def _check_utf8(self, raw: bytes, consumed: int, bounds: Array, where: Where) -> None:
        data = np.frombuffer(raw, np.uint8, consumed)
        if consumed == 0 or (int(data.max()) < 0x80 and int(data.min()) > 0):
            return
        at = field_kernels.invalid_utf8(data, 0, consumed)
        if at >= 0:
            row = int(np.searchsorted(bounds, at, side="right")) - 1
            error = text_parse.utf8_error(raw[at : at + 4])
            error.context = f"{where.prefix}, line {where.lines[row]}"
            error.row = row
            raise error

    def _record_error(self, raw: bytes, status: int) -> errors.BadCopyFileFormat:
        state = self._state
        csv = self.options.format == "csv"
        line = self.line if csv else self.line + 1
        content = raw[int(state[kernels.CONSUMED]) : int(state[kernels.RECORD_END])]
        hint = None
        if status == kernels.MISSING:
            message = f'missing data for column "{self.names[int(state[kernels.COLUMN])]}"'
        elif status == kernels.EXTRA:
            message = "extra data after last expected column"
        elif status == kernels.CORRUPT_END:
            message = "end-of-copy marker corrupt"
        elif status == kernels.UNTERMINATED:
            message = "unterminated CSV quoted field"
            if state[kernels.LINE_END] == kernels.UNKNOWN:  # the first record; PostgreSQL then counts CRs only
                line = self.line - int(state[kernels.LINES]) + 1 + content.count(b"\r")
        else:
            name = "carriage return" if status == kernels.LITERAL_CR else "newline"
            sign = "\\r" if status == kernels.LITERAL_CR else "\\n"
            message = f"{'unquoted' if csv else 'literal'} {name} found in data"
            hint = f"Use quoted CSV field to represent {name}." if csv else f'Use "{sign}" to represent {name}.'
        shows_line = status in (kernels.MISSING, kernels.EXTRA, kernels.UNTERMINATED)
        tail = f': "{clipped(content)}"' if shows_line else ""
        return errors.BadCopyFileFormat(message, hint=hint, context=f"COPY {self.table}, line {line}{tail}")

    def _start(self, raw: bytes, final: bool) -> int | None:
        if not self.options.header:
            return 0
        line, taken = self._header_line(raw)
        if taken is None:
            if not final:
                return None
            line, taken = raw, len(raw)
        self.line = 1
        if self.options.header == "match" and line:
            self._match_header(line)
        return taken

    def _header_line(self, raw: bytes) -> tuple[bytes, int | None]:
        """The first line without its end and the bytes it takes, None when its end is not there yet."""
        at = 0
        quoted = False
        quote = self.options.quote[0] if self.options.format == "csv" else -1
        while at < len(raw):
            c = raw[at]
            if c == quote:
                quoted = not quoted
            elif not quoted and c in (kernels.LF, kernels.CRET):
                if c == kernels.CRET and at + 1 == len(raw):
                    break
                size = 2 if raw[at : at + 2] == b"\r\n" else 1
                self._state[kernels.LINE_END] = (
                    kernels.CR_NEWLINE if size == 2 else kernels.NEWLINE if c == kernels.LF else kernels.CR
                )
                return raw[:at], at + size
            at += 1
        return raw, None

    @abstractmethod
    def _header_fields(self, line: bytes) -> list[bytes | None]:
        """The fields of the header line, None for null."""

    def _match_header(self, line: bytes) -> None:
        fields = self._header_fields(line)
        context = f'COPY {self.table}, line 1: "{clipped(line)}"'
        if len(fields) != len(self.names):
            raise errors.BadCopyFileFormat(
                f"wrong number of fields in header line: got {len(fields)}, expected {len(self.names)}", context=context
            )
        for i, (field, name) in enumerate(zip(fields, self.names, strict=True), start=1):
            if field is None:
                got = f'null value ("{self.options.null.decode()}")'
            elif field != name.encode():
                got = f'"{field.decode(errors="replace")}"'
            else:
                continue
            raise errors.BadCopyFileFormat(
                f'column name mismatch in header line field {i}: got {got}, expected "{name}"', context=context
            )


class CopyWriter(ABC):
    """Writes batches as COPY data: `header`, any number of `rows`, `trailer`."""

    def __init__(
        self, names: Sequence[str], types: Sequence[SqlType], options: CopyOptions, settings: TextSettings | None = None
    ) -> None:
        self.names = tuple(names)
        self.types = tuple(types)
        self.options = options
        self.settings = settings or DEFAULTS

    def header(self) -> bytes:
        return b""

    @abstractmethod
    def rows(self, batch: Batch) -> Array:
        """uint8[]: the batch's rows. Its columns are those the writer was made for."""

    def trailer(self) -> bytes:
        return b""


def bytes_array(value: bytes) -> Array:
    """uint8[] of bytes, for kernels."""
    return np.frombuffer(value, np.uint8).copy()


def marks(*sets: bytes) -> Array:
    """uint8[256] whose bit k is set for the bytes of the k-th set."""
    table = np.zeros(256, np.uint8)
    for bit, members in enumerate(sets):
        table[list(members)] |= np.uint8(1 << bit)
    return table


def flags(values: Sequence[Any]) -> Array:
    """bool[] of truth values, for kernels."""
    return np.array([bool(v) for v in values], np.bool_)
