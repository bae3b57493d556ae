"""DECLARE, FETCH, MOVE, CLOSE: cursors over a query's rows, forward and back; portals of the protocol forward only.

A cursor keeps its query's iterator and, unless it is NO SCROLL, the batches already made, so that it can go back; rows
it has not reached have not been computed, unless a later statement of its transaction was to change some
(`filestore.result.Unread`). It ends with its transaction; one WITH HOLD copies what it has still to show when that
commits, and lives on until it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, assert_never

from filestore import errors
from filestore.query import statements as s
from filestore.query.context import Cancel
from filestore.query.plan import OutputColumn
from filestore.query.vectors import owned
from filestore.result import Result
from filestore.storage.vector import Batch, Vector
from filestore.txn.drive import Job, Steps

if TYPE_CHECKING:
    from filestore.session import Session

Command = s.Declare | s.Fetch | s.CloseCursor


@dataclass(slots=True)
class Cursor:
    """An open cursor. `position` is the 1-based current row, 0 before the first; `rows` how many have been made."""

    columns: tuple[OutputColumn, ...]
    source: Iterator[Batch]
    cancel: Cancel
    inline: bool = True
    scroll: bool | None = None
    binary: bool = False
    hold: bool = False
    held: bool = False  # by whom it was made is over
    made: list[Batch] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: int = 0
    position: int = 0
    complete: bool = False

    def reach(self, row: int | None) -> int:
        """Makes rows up to `row` (all for None) and returns how many there are."""
        while not self.complete and (row is None or self.rows < row):
            batch = next(self.source, None)
            if batch is None:
                self.complete = True
            elif batch.length:
                self.made.append(batch)
                self.starts.append(self.rows)
                self.rows += batch.length
        return self.rows

    def between(self, low: int, high: int) -> list[Batch]:
        """The rows low < row <= high as slices of the batches."""
        found = []
        for start, batch in zip(self.starts, self.made, strict=True):
            first, last = max(low - start, 0), min(high - start, batch.length)
            if first < last:
                found.append(batch.slice(first, last))
        return found

    def forget_passed(self) -> None:
        """Lets go of the batches that a cursor without a way back has passed."""
        while len(self.starts) > 1 and self.starts[1] < self.position:
            del self.starts[0], self.made[0]


class Portal(Protocol):
    """A portal of the wire protocol, whose rows FETCH and MOVE pass as well. Thread rule: as its session."""

    @property
    def columns(self) -> tuple[OutputColumn, ...] | None:
        """None unless its rows can be asked for: it returns some, and has been run."""

    @property
    def inline(self) -> bool: ...

    cancel: Cancel | None

    def take(self, count: int | None) -> list[Batch]:
        """The next rows, all for None. Not with the engine lock held unless `inline`."""


def run(session: Session, command: Command, parameters: Sequence[Vector] = ()) -> Steps[Result]:
    """Raises 25P01 outside a transaction block, 42P03 for a name in use, 34000 for an unknown one.

    55000 for the way back of a cursor that was declared without it.
    """
    match command:
        case s.Declare(name=name, statement=statement, hold=hold, scroll=scroll):
            if not session.explicit and not hold:
                raise errors.NoActiveTransaction("DECLARE CURSOR can only be used in transaction blocks")
            if name in session.cursors:
                raise errors.DuplicateCursor(f'cursor "{name}" already exists')
            result = yield from session.execute(statement, parameters)
            assert result.columns is not None
            cursor = Cursor(result.columns, result.batches, session.cancel, result.inline, scroll, command.binary, hold)
            session.cursors[name] = cursor
            return Result("DECLARE CURSOR")
        case s.Fetch() if command.cursor in session.portals and command.cursor not in session.cursors:
            return (yield from _fetch_portal(session, session.portals[command.cursor], command))
        case s.Fetch():
            cursor = find(session, command.cursor)
            if cursor.scroll is False and goes_back(cursor, command.direction, command.count):
                raise _only_forward()
            batches, rows = yield from _fetched(session, cursor, command)
            if cursor.scroll is False:
                cursor.forget_passed()
            if command.move:
                return Result(f"MOVE {rows}")
            return Result(
                "FETCH", cursor.columns, iter(batches), cursor.inline, counts_rows=True, binary=cursor.binary
            )
        case s.CloseCursor(name=None):
            session.cursors.clear()
            return Result("CLOSE CURSOR ALL")
        case s.CloseCursor(name=name):
            find(session, name or "")
            del session.cursors[name or ""]
            return Result("CLOSE CURSOR")
        case _:
            assert_never(command)


def hold(session: Session) -> Steps[None]:
    """The session's transaction is about to commit: makes the rows of its cursors WITH HOLD, in memory of their own."""
    for cursor in [c for c in session.cursors.values() if c.hold and not c.held]:
        session.resume(cursor.cancel)
        if cursor.inline:
            _keep(cursor)
        else:
            job = Job(session.database.workers, partial(_keep, cursor))
            yield job
            job.value()


def _keep(cursor: Cursor) -> None:
    cursor.reach(None)
    cursor.made = [owned(batch) for batch in cursor.made]
    cursor.source = iter(())
    cursor.held = cursor.inline = True


def find(session: Session, name: str) -> Cursor:
    """The open cursor of that name; 34000 when there is none."""
    cursor = session.cursors.get(name)
    if cursor is None:
        raise errors.InvalidCursorName(f'cursor "{name}" does not exist')
    return cursor


def columns(session: Session, name: str) -> tuple[OutputColumn, ...] | None:
    """What FETCH from a cursor or portal returns."""
    portal = None if name in session.cursors else session.portals.get(name)
    return find(session, name).columns if portal is None else portal.columns


def _only_forward() -> errors.Error:
    return errors.ObjectNotInPrerequisiteState(
        "cursor can only scan forward", hint="Declare it with SCROLL option to enable backward scan."
    )


def _fetch_portal(session: Session, portal: Portal, command: s.Fetch) -> Steps[Result]:
    columns = portal.columns
    if columns is None:
        raise errors.ObjectNotInPrerequisiteState(f'portal "{command.cursor}" cannot be run')
    count = 1 if command.direction == "next" else command.count
    if command.direction not in ("next", "forward") or (count is not None and count < 1):
        raise _only_forward()
    if portal.cancel is not None:
        session.resume(portal.cancel)
    if portal.inline:
        batches = portal.take(count)
    else:
        job = Job(session.database.workers, lambda: portal.take(count))
        yield job
        batches = job.value()
    if command.move:
        return Result(f"MOVE {sum(batch.length for batch in batches)}")
    return Result("FETCH", columns, iter(batches), portal.inline, counts_rows=True)


def _fetched(session: Session, cursor: Cursor, command: s.Fetch) -> Steps[tuple[list[Batch], int]]:
    """The rows that a FETCH passes; many of them are made on a worker, without the engine lock."""
    session.resume(cursor.cancel)
    if cursor.inline:
        return fetch(cursor, command.direction, command.count)
    job = Job(session.database.workers, lambda: fetch(cursor, command.direction, command.count))
    yield job
    return job.value()


def goes_back(cursor: Cursor, direction: str, count: int | None) -> bool:
    """Whether a FETCH asks for a row that the cursor has passed, its own included."""
    on_row = 1 <= cursor.position <= cursor.rows
    match direction:
        case "next":
            return False
        case "forward" | "relative":
            return count is not None and (count < 0 or (count == 0 and on_row))
        case "backward":
            return count is None or count > 0 or (count == 0 and on_row)
        case "first":
            return cursor.position > 0
        case "absolute":
            return count is None or count < 0 or 0 < cursor.position >= count
        case _:
            return True


def fetch(cursor: Cursor, direction: str, count: int | None) -> tuple[list[Batch], int]:
    """Moves the cursor and returns the rows it passes, with their number."""
    match direction:
        case "next":
            return _forward(cursor, 1)
        case "forward":
            return _forward(cursor, count) if count is None or count >= 0 else _backward(cursor, -count)
        case "prior":
            return _backward(cursor, 1)
        case "backward":
            return _backward(cursor, count) if count is None or count >= 0 else _forward(cursor, -count)
        case "first":
            return _at(cursor, 1)
        case "last":
            return _at(cursor, cursor.reach(None))
        case "absolute":
            row = count or 0
            return _at(cursor, row if row >= 0 else cursor.reach(None) + 1 + row)
        case _:
            return _at(cursor, cursor.position + (count or 0))


def _forward(cursor: Cursor, count: int | None) -> tuple[list[Batch], int]:
    low = cursor.position
    if count == 0:
        return _at(cursor, low)
    reached = cursor.reach(None if count is None else low + count)
    high = reached if count is None else min(low + count, reached)
    cursor.position = high if count is not None and low + count <= reached else reached + 1
    return cursor.between(low, high), max(0, high - low)


def _backward(cursor: Cursor, count: int | None) -> tuple[list[Batch], int]:
    high = cursor.position - 1
    low = 0 if count is None else max(0, high - count)
    cursor.position = 0 if count is None or high - count < 0 else low + 1
    passed = reversed(cursor.between(low, high))
    rows = [batch.slice(i, i + 1) for batch in passed for i in reversed(range(batch.length))]
    return rows, len(rows)


def _at(cursor: Cursor, row: int) -> tuple[list[Batch], int]:
    inside = 1 <= row <= cursor.reach(max(row, 0))
    cursor.position = row if inside else 0 if row < 1 else cursor.rows + 1
    return (cursor.between(row - 1, row), 1) if inside else ([], 0)
