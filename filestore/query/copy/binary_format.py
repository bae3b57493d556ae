"""COPY's binary format: a signed header, tuples of counted fields in the wire's binary forms, a trailer of -1.

Source: PostgreSQL 15, COPY, "Binary Format".
"""

from __future__ import annotations

import struct

import numpy as np

from filestore import errors
from filestore.query import render, text_parse
from filestore.query.copy import kernels
from filestore.query.copy.stream import CopyChunk, CopyReader, CopyWriter, Where
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import SqlType

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(SIGNATURE) + 8
_HAS_OIDS = 1 << 16


class BinaryReader(CopyReader):
    """Reads the binary format."""

    def _start(self, raw: bytes, final: bool) -> int | None:
        if len(raw) < _HEADER_BYTES:
            if not final and raw[: len(SIGNATURE)] == SIGNATURE[: len(raw)]:
                return None
            if raw.startswith(SIGNATURE):
                raise errors.BadCopyFileFormat("invalid COPY file header (missing flags)")
        if not raw.startswith(SIGNATURE):
            raise errors.BadCopyFileFormat("COPY file signature not recognized")
        flags, extension = struct.unpack_from(">iI", raw, len(SIGNATURE))
        if flags & _HAS_OIDS:
            raise errors.BadCopyFileFormat("invalid COPY file header (WITH OIDS)")
        if (flags >> 16) & 0x7FFF or flags < 0:
            raise errors.BadCopyFileFormat("unrecognized critical flags in COPY file header")
        if len(raw) < _HEADER_BYTES + extension:
            if final:
                raise errors.BadCopyFileFormat("invalid COPY file header (wrong length)")
            return None
        return _HEADER_BYTES + int(extension)

    def _cut(self, raw: bytes, final: bool) -> tuple[CopyChunk | None, int]:
        del final  # a tuple that is not complete is only wrong at the end
        data = np.frombuffer(raw, np.uint8)
        starts, ends, valid, rows_at = self._arrays(len(raw) // (2 + 4 * len(self.types)) + 1)
        state = self._state
        kernels.split_binary(data, len(raw), starts, ends, valid, rows_at, state)
        rows, consumed, status = int(state[kernels.ROWS]), int(state[kernels.CONSUMED]), int(state[kernels.STATUS])
        # Binary rows have a number but no line to show.
        where = Where(f"COPY {self.table}", raw, np.full(rows, -1), np.arange(1, rows + 1) + self.line)
        chunk = None
        if rows:
            columns = self._read_columns(data, starts, ends, valid, rows, where, checked=False)
            chunk = CopyChunk(columns, rows, where)
        self.line += rows
        if status == kernels.END_OF_DATA:
            self.ended = True
            if consumed < len(raw):
                raise self._error("received copy data after EOF marker")
        elif status == kernels.BINARY_COUNT:
            raise self._error(f"row field count is {int(state[kernels.COLUMN])}, expected {len(self.types)}")
        elif status == kernels.BAD_SIZE:
            raise self._error("invalid field size", self.names[int(state[kernels.COLUMN])])
        return chunk, consumed

    def _error(self, message: str, column: str | None = None) -> errors.BadCopyFileFormat:
        tail = f", column {column}" if column else ""
        return errors.BadCopyFileFormat(message, context=f"COPY {self.table}, line {self.line + 1}{tail}")

    def _at_end(self, raw: bytes) -> None:
        # PostgreSQL takes an end without a trailer for the end, but not one inside a row.
        if raw:
            raise self._error("unexpected EOF in COPY data")

    def _after_end(self, data: bytes | bytearray | memoryview) -> list[CopyChunk]:
        if len(data):
            raise self._error("received copy data after EOF marker")
        return []

    def _read_column(
        self, sql_type: SqlType, data: Array, starts: Array, ends: Array, valid: Array | None, checked: bool
    ) -> Vector:
        del checked
        return text_parse.from_binary_fields(sql_type, data, starts, ends, valid)


class BinaryWriter(CopyWriter):
    """Writes the binary format."""

    def header(self) -> bytes:
        return SIGNATURE + bytes(8)

    def rows(self, batch: Batch) -> Array:
        columns = [render.binary(c) for c in batch.columns]
        return render.copy_binary_rows(columns, [c.valid for c in batch.columns], batch.length)

    def trailer(self) -> bytes:
        return b"\xff\xff"
