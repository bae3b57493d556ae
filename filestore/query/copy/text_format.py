"""COPY's text format: tab-separated, backslash escapes, \\N for null, an optional end marker \\. on a line of its own.

Source: PostgreSQL 15, COPY, "Text Format".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from filestore.query import render
from filestore.query.copy import kernels
from filestore.query.copy.options import CopyOptions
from filestore.query.copy.stream import CopyWriter, LineReader, bytes_array, flags, marks
from filestore.query.datetime_text import TextSettings
from filestore.storage.vector import Array, Batch
from filestore.types import STRING_KINDS, Kind, SqlType

_ESCAPES = {8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 92: "\\"}


class TextReader(LineReader):
    """Reads the text format."""

    def _split(self, data: Array, final: bool, starts: Array, ends: Array, valid: Array, rows_at: Array) -> Array:
        options = self.options
        null, special = bytes_array(options.null), marks(options.delimiter + b"\\\n\r")
        kernels.split_text(
            data, len(data), final, options.delimiter[0], null, special, starts, ends, valid, rows_at, self._state
        )
        return np.arange(1, int(self._state[kernels.ROWS]) + 1)

    def _header_fields(self, line: bytes) -> list[bytes | None]:
        return [None if f == self.options.null else f for f in line.split(self.options.delimiter)]


class TextWriter(CopyWriter):
    """Writes the text format."""

    def __init__(
        self, names: Sequence[str], types: Sequence[SqlType], options: CopyOptions, settings: TextSettings | None = None
    ) -> None:
        super().__init__(names, types, options, settings)
        self._letters: Array = np.zeros(256, np.uint8)
        for byte, letter in _ESCAPES.items():
            self._letters[byte] = ord(letter)
        delimiter = options.delimiter[0]
        if delimiter not in _ESCAPES:
            self._letters[delimiter] = delimiter
        self._special: Array = (self._letters != 0).astype(np.uint8)
        # The text of a number holds no escaped byte, unless the delimiter is one that numbers or dates have.
        plain = delimiter not in b"+-: "
        stringy = STRING_KINDS | {Kind.BYTEA, Kind.VOID}
        self._escaped: Array = flags([t.kind in stringy or not plain for t in types])

    def header(self) -> bytes:
        if not self.options.header:
            return b""
        table = {byte: "\\" + chr(letter) for byte, letter in enumerate(self._letters.tolist()) if letter}
        return self.options.delimiter.join(n.translate(table).encode() for n in self.names) + b"\n"

    def rows(self, batch: Batch) -> Array:
        columns = [render.text(c, self.settings) for c in batch.columns]
        offsets, data, valid = render.joined(columns, [c.valid for c in batch.columns], batch.length)
        null = bytes_array(self.options.null)
        size = len(data) + kernels.count_specials(data, self._special)
        size += batch.length * len(columns) + int((~valid).sum()) * len(null)
        out = np.empty(size + batch.length, np.uint8)
        used = kernels.text_rows(
            offsets, data, valid, self._escaped, self._letters, self.options.delimiter[0], null, out
        )
        return out[:used]
