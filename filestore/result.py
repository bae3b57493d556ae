"""What a statement answers: the one value that every port translates."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from filestore import errors
from filestore.query.context import Cancel
from filestore.query.plan import OutputColumn
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps

LOG = logging.getLogger("filestore.session")


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


def pulled(rows: Iterator[Batch]) -> Iterator[Batch]:
    """A plan's rows for those who pull them after the statement has answered, where the session no longer watches:
    what fails is an `errors.Error`, as in `Session.execute`.
    """
    try:
        yield from rows
    except errors.Error:
        raise
    except RecursionError:
        raise errors.StatementTooComplex("statement is nested too deeply") from None
    except MemoryError:
        raise errors.OutOfMemory("out of memory") from None
    except Exception as error:
        LOG.exception("a statement's rows failed with a bug")
        text = f"{type(error).__name__}: {error}"
        raise errors.InternalError(text, hint="This is a bug; please report it.") from error


class Unread(Iterator[Batch]):
    """Batches made as they are asked for, until `make` makes all that are left: what an open cursor or portal shows is
    settled when it is opened, and its snapshot takes every end that its own transaction writes for an earlier one
    (`filestore.txn.snapshot`). Before rows are ended the session therefore makes the rest.

    `cancel` is what stops the making, `inline` as in `Result`. Thread rule: one thread at a time.
    """

    def __init__(self, source: Iterator[Batch], cancel: Cancel, inline: bool) -> None:
        self.cancel = cancel
        self.inline = inline
        self.complete = False
        self._source = source
        self._made: deque[Batch] = deque()
        self._error: Exception | None = None

    def __next__(self) -> Batch:
        if self._made:
            return self._made.popleft()
        if self._error is not None:
            raise self._error
        try:
            return next(self._source)
        except BaseException:
            self.complete = True
            raise

    def make(self) -> None:
        """Makes what is left. An error is kept for who asks for the row; only a cancel is raised (57014)."""
        if self.complete:
            return
        try:
            self._made.extend(self._source)
        except errors.QueryCanceled:
            raise
        except Exception as error:  # noqa: BLE001 - raised when its row is asked for
            self._error = error
        self.complete = True

    def close(self) -> None:
        """Lets go of what the rows hold."""
        self.complete = True
        self._made.clear()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


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
