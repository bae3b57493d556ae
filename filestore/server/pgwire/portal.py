"""What lies between Bind and the last row: prepared statements with all that can be made once, portals, and their rows.

`WireStatement` keeps beside a session's `Prepared` what the protocol needs of it on every use. `RowSource` hands out
the rows of a result as DataRow bytes, as many as asked for, and remembers where it stopped (row-limited Execute).
Batches are pulled one at a time and never held beyond that, so a result is as large as one batch, whatever its size.

Thread rule: a `RowSource` is used by one thread at a time, the loop's or a worker's; the rest belongs to the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from filestore.query.context import Cancel
from filestore.query.datetime_text import TextSettings
from filestore.query.plan import OutputColumn
from filestore.result import Result
from filestore.server.pgwire.encode import RowEncoder
from filestore.server.pgwire.messages import Bind
from filestore.server.pgwire.parameters import ParameterDecoder
from filestore.server.pgwire.replies import NO_DATA, ParameterDescription
from filestore.storage.vector import Batch, Vector

if TYPE_CHECKING:
    from filestore.session import Prepared

# Rows of one batch are encoded this many at a time, which bounds the memory of wide rows.
ROWS_AT_ONCE = 4096


class WireStatement:
    """A prepared statement with its descriptions, parameter decoders and row encoders.

    `prepared` may be bound again by the session when definitions change; then `stale` and everything here is made anew.
    """

    __slots__ = ("_encoders", "columns", "name", "parameters", "prepared", "types")

    def __init__(self, name: str, prepared: Prepared) -> None:
        self.name = name
        self.prepared = prepared
        self.types = prepared.parameters
        self.columns = prepared.columns
        self.parameters = ParameterDecoder(prepared.parameters)
        self._encoders: dict[tuple[int, ...], RowEncoder] = {}

    @property
    def stale(self) -> bool:
        return self.prepared.columns is not self.columns or self.prepared.parameters is not self.types

    def encoder(self, codes: tuple[int, ...]) -> RowEncoder | None:
        """The row encoder for a Bind's result formats; None when no rows come back. Errors: 08P01, 42883."""
        if self.columns is None:
            return None
        found = self._encoders.get(codes)
        if found is None:
            found = self._encoders[codes] = RowEncoder(self.columns, codes)
        return found

    def description(self) -> bytes:
        """The answer to Describe(S): parameters, then the row in text format, because no formats are known yet."""
        oids = ParameterDescription(tuple(t.oid for t in self.types)).encode()
        encoder = self.encoder(())
        return oids + (NO_DATA if encoder is None else encoder.description)


@dataclass(slots=True)
class Portal:
    """A prepared statement with its parameters, ready to run or half read.

    `bind` is what made it, for the compiled path, which reads the parameters itself. `result` is what running it gave,
    None for what cannot be run again; `cancel` is what its rows ask whether to stop.
    """

    name: str
    statement: WireStatement
    bind: Bind
    parameters: list[Vector]
    encoder: RowEncoder | None
    rows: RowSource | None = None
    result: Result | None = None
    ran: bool = False
    cancel: Cancel | None = None

    @property
    def columns(self) -> tuple[OutputColumn, ...] | None:
        """Those of its rows, None while there are none: see `filestore.commands.cursors.Portal`."""
        return self.statement.columns if self.rows is not None else None

    @property
    def inline(self) -> bool:
        """Whether its rows are made on the thread that asks."""
        return self.result is not None and self.result.inline

    def take(self, count: int | None) -> list[Batch]:
        """The next rows for SQL's FETCH and MOVE; what Execute sends goes on behind them."""
        return [] if self.rows is None else self.rows.take(count)

    def close(self) -> None:
        if self.rows is not None:
            self.rows.close()


@dataclass(slots=True)
class RowSource:
    """The rows of one result, encoded as they are asked for."""

    batches: Iterator[Batch]
    encoder: RowEncoder
    settings: TextSettings
    exhausted: bool = False
    _batch: Batch | None = field(default=None, repr=False)
    _at: int = 0

    def pull(self, rows_max: int, bytes_max: int) -> tuple[list[bytes], int]:
        """DataRow bytes of the next rows and their number: at most `rows_max` rows, and not much more than `bytes_max`
        bytes.

        Sets `exhausted` when no rows are left; as in PostgreSQL, a limit that is just met leaves that open. Raises
        what making the rows raises. Not with the engine lock held.
        """
        out: list[bytes] = []
        rows = used = 0
        while rows < rows_max and used < bytes_max:
            batch = self._next()
            if batch is None:
                break
            count = min(batch.length - self._at, rows_max - rows, ROWS_AT_ONCE)
            whole = count == batch.length
            part = batch if whole else batch.slice(self._at, self._at + count)
            encoded = self.encoder.rows(part, self.settings)
            out.append(encoded)
            rows += count
            used += len(encoded)
            self._at += count
        return out, rows

    def take(self, count: int | None) -> list[Batch]:
        """The next rows as they are, at most `count`; all for None."""
        out: list[Batch] = []
        left = count
        while left is None or left > 0:
            batch = self._next()
            if batch is None:
                break
            end = batch.length if left is None else min(batch.length, self._at + left)
            out.append(batch.slice(self._at, end))
            left = None if left is None else left - (end - self._at)
            self._at = end
        return out

    def _next(self) -> Batch | None:
        """The batch with the next row, None when there is none."""
        while self._batch is None or self._at >= self._batch.length:
            self._batch, self._at = next(self.batches, None), 0
            if self._batch is None:
                self.exhausted = True
                return None
        return self._batch

    def close(self) -> None:
        """Lets go of what the result holds."""
        self.exhausted = True
        self._batch = None
        close = getattr(self.batches, "close", None)
        if close is not None:
            close()
