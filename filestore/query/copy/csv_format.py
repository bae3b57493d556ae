"""COPY's CSV format: quotes, doubled or escaped inside quotes, line ends inside quotes, an unquoted empty null.

Source: PostgreSQL 15, COPY, "CSV Format".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from filestore.query import render
from filestore.query.copy import kernels
from filestore.query.copy.options import CopyOptions
from filestore.query.copy.stream import CopyWriter, LineReader, bytes_array, flags, marks
from filestore.query.datetime_text import TextSettings
from filestore.storage.vector import Array, Batch, string_vector
from filestore.types import TEXT, SqlType


class CsvReader(LineReader):
    """Reads the CSV format."""

    def _split(self, data: Array, final: bool, starts: Array, ends: Array, valid: Array, rows_at: Array) -> Array:
        options = self.options
        lines = np.empty(len(rows_at), np.int64)
        kernels.split_csv(
            data,
            len(data),
            final,
            options.delimiter[0],
            options.quote[0],
            options.escape[0],
            bytes_array(options.null),
            self._special(),
            flags(options.flags(options.force_null, self.names)),
            flags(options.flags(options.force_not_null, self.names)),
            starts,
            ends,
            valid,
            rows_at,
            lines,
            self._state,
        )
        return lines

    def _special(self) -> Array:
        quote, ends = self.options.quote, b"\n\r"
        return marks(self.options.delimiter + quote + ends, quote + self.options.escape + ends)

    def _header_fields(self, line: bytes) -> list[bytes | None]:
        """One record by the kernel, which then stands for as many columns as the line has."""
        data = bytes_array(line)
        # The kernel needs the number of fields beforehand; a quoted delimiter only makes this bound too large.
        for columns in range(line.count(self.options.delimiter) + 1, 0, -1):
            none = np.zeros(columns, np.bool_)
            starts, ends = np.zeros((columns, 1), np.int64), np.zeros((columns, 1), np.int64)
            valid, one, state = np.zeros((columns, 1), np.bool_), np.zeros(1, np.int64), np.zeros(8, np.int64)
            work = data.copy()
            characters = (self.options.delimiter[0], self.options.quote[0], self.options.escape[0])
            words = (bytes_array(self.options.null), self._special())
            kernels.split_csv(
                work, len(work), True, *characters, *words, none, none, starts, ends, valid, one, one.copy(), state
            )
            if state[kernels.STATUS] == kernels.OK:
                cut = zip(starts[:, 0], ends[:, 0], valid[:, 0], strict=True)
                return [work[low:high].tobytes() if live else None for low, high, live in cut]
        return [line]


class CsvWriter(CopyWriter):
    """Writes the CSV format."""

    def __init__(
        self, names: Sequence[str], types: Sequence[SqlType], options: CopyOptions, settings: TextSettings | None = None
    ) -> None:
        super().__init__(names, types, options, settings)
        self._forced: Array = flags(options.flags(options.force_quote, self.names))

    def header(self) -> bytes:
        if not self.options.header:
            return b""
        vectors = [string_vector(TEXT, [n.encode()]) for n in self.names]
        return self._encode(Batch(vectors, 1), np.zeros(len(self.names), np.bool_)).tobytes()

    def rows(self, batch: Batch) -> Array:
        return self._encode(batch, self._forced)

    def _encode(self, batch: Batch, forced: Array) -> Array:
        options = self.options
        columns = [render.text(c, self.settings) for c in batch.columns]
        offsets, data, valid = render.joined(columns, [c.valid for c in batch.columns], batch.length)
        null = bytes_array(options.null)
        out = np.empty(2 * len(data) + batch.length * (len(columns) * (3 + len(null)) + 1), np.uint8)
        used = kernels.csv_rows(
            offsets, data, valid, forced, options.delimiter[0], options.quote[0], options.escape[0], null, out
        )
        return out[:used]
