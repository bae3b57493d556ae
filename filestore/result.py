"""What a statement answers: the one value that every port translates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from filestore.query.plan import OutputColumn
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps


@dataclass(slots=True)
class Notice:
    """A warning or notice that goes to the client beside the answer."""

    severity: str
    sqlstate: str
    message: str


@dataclass(slots=True)
class CopyIn:
    """COPY ... FROM STDIN waiting for data. A port feeds chunks (any thread, one at a time, without the engine lock),
    then runs `Session.finish_copy(copy)` as a statement, or `Session.abort_copy(copy)` when the client gives up."""

    column_count: int
    binary: bool
    feed: Callable[[bytes], None]
    finish: Callable[[], Steps[Result]]
    abort: Callable[[], None]


@dataclass(slots=True)
class CopyOut:
    """COPY ... TO STDOUT: (bytes, rows in them) of the chosen format, made as they are asked for.

    quote, escape: CSV's characters, between which a line end is data and no row's end; -1 for the other formats.
    """

    column_count: int
    binary: bool
    chunks: Iterator[tuple[bytes, int]]
    quote: int = -1
    escape: int = -1


@dataclass(slots=True)
class Result:
    """The answer to one statement.

    columns: None when the statement returns no rows (NoData), else the row description. batches: the rows, once;
    iterating may raise, may take long and must not happen with the engine lock held; `inline` says that it is cheap
    enough for the event loop. tag: the command tag without SELECT's count (see `command_tag`). binary: a simple Query's
    rows are sent in binary form (FETCH from a BINARY cursor).
    """

    tag: str
    columns: tuple[OutputColumn, ...] | None = None
    batches: Iterator[Batch] = field(default_factory=lambda: iter(()))
    inline: bool = True
    copy_in: CopyIn | None = None
    copy_out: CopyOut | None = None
    notices: list[Notice] = field(default_factory=list)
    counts_rows: bool = False
    binary: bool = False

    def command_tag(self, rows: int) -> str:
        """The CommandComplete tag after `rows` rows were sent."""
        return f"{self.tag} {rows}" if self.counts_rows else self.tag
