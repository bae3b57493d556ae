"""Streams: rows as independent pieces of work, so that whoever needs them decides on which threads they are made.

A `Stream` is a sequence of items (a storage unit, a slice of a finished batch) and a function that turns one item
into batches. Streaming operators wrap the function (`mapped`), so a chain scan - filter - project - probe runs as
one piece of work per item, inside one worker. Breakers consume with `fold`, readers with `batches`; both keep the
items' order, so results without ORDER BY are stable.

An item may become far more rows than it has (a join multiplies them). A reader's workers begin an item and stop after
a bounded number of rows; what follows is made on the reader's thread, batch by batch, when it asks. So memory is
bounded by items in work, not by what becomes of them, and who stops asking stops the work.

Thread rule: a stream is made and consumed by one thread; `work` is called by any, an item's generator by one at a
time, though not always the same.

Not here: which threads there are (pool.py), and spilling.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from filestore.query.context import ExecutionContext
from filestore.storage.vector import Batch

R = TypeVar("R")

MORSEL_ROWS = 65_536
AHEAD_ROWS = 4 * MORSEL_ROWS
"""Rows that a worker makes of an item before it leaves the rest to the reader: more than a scan, or a join that finds
a few partners for each row, makes of it.
"""

_MEASURING = threading.Lock()
_END = object()


@dataclass(slots=True)
class Stream:
    """items: read once, under a lock, cheap to produce. work: any thread. rows: an upper estimate of the items'
    rows, None unknown.
    """

    items: Iterable[Any]
    work: Callable[[Any], Iterable[Batch]]
    rows: int | None = None

    @staticmethod
    def of(batch: Batch, rows: int = MORSEL_ROWS) -> Stream:
        """A finished batch, in morsels."""
        if batch.length <= rows:
            return Stream([batch], _itself, batch.length)
        starts = range(0, batch.length, rows)
        return Stream(starts, lambda low: (batch.slice(low, low + rows),), batch.length)

    @staticmethod
    def of_batches(batches: Iterable[Batch], rows: int | None = None) -> Stream:
        """Batches made elsewhere, each a piece of work."""
        return Stream(batches, _itself, rows)

    def mapped(self, function: Callable[[Batch], Batch]) -> Stream:
        """The stream with a function applied to every batch that has rows."""
        work = self.work

        def run(item: Any) -> Iterator[Batch]:
            for batch in work(item):
                if batch.length:
                    yield function(batch)

        return Stream(self.items, run, self.rows)

    def expanded(self, function: Callable[[Batch], Iterable[Batch]]) -> Stream:
        """The stream with every batch replaced by any number of batches."""
        work = self.work

        def run(item: Any) -> Iterator[Batch]:
            for batch in work(item):
                if batch.length:
                    yield from function(batch)

        return Stream(self.items, run, self.rows)

    def measured(self, node: int, into: dict[int, tuple[int, float]]) -> Stream:
        """The stream with its rows and the time of making them (inputs included, summed over workers) added up in
        `into`.
        """
        work = self.work

        def run(item: Any) -> Iterator[Batch]:
            started = time.perf_counter()
            for batch in work(item):
                with _MEASURING:
                    rows, milliseconds = into.get(node, (0, 0.0))
                    into[node] = rows + batch.length, milliseconds + (time.perf_counter() - started) * 1000
                yield batch
                started = time.perf_counter()
            with _MEASURING:
                rows, milliseconds = into.get(node, (0, 0.0))
                into[node] = rows, milliseconds + (time.perf_counter() - started) * 1000

        return Stream(_timed(self.items, node, into), run, self.rows)

    def fold(self, ctx: ExecutionContext, function: Callable[[Iterator[Batch]], R]) -> Iterator[R]:
        """`function` over the batches of each item, in a worker; results in the items' order."""
        work, check = self.work, ctx.cancel.check

        def run(item: Any) -> R:
            check()
            return function(b for b in work(item) if b.length)

        return ctx.pool.map(run, self.items, self.rows)

    def batches(self, ctx: ExecutionContext, ahead: int = AHEAD_ROWS) -> Iterator[Batch]:
        """The batches that have rows, in order. Of each item, workers make `ahead` rows or a few more; the rest is
        made here.
        """
        for begun, rest in self.fold(ctx, lambda batches: _begun(batches, ahead)):
            yield from begun
            yield from rest


def _timed(items: Iterable[Any], node: int, into: dict[int, tuple[int, float]]) -> Iterator[Any]:
    """The items, with the time of making them (a breaker's whole work) added to the node's."""
    iterator = iter(items)
    while True:
        started = time.perf_counter()
        item = next(iterator, _END)
        with _MEASURING:
            rows, milliseconds = into.get(node, (0, 0.0))
            into[node] = rows, milliseconds + (time.perf_counter() - started) * 1000
        if item is _END:
            return
        yield item


def _begun(batches: Iterator[Batch], ahead: int) -> tuple[list[Batch], Iterator[Batch]]:
    """The first batches, up to `ahead` rows or a few more, and the rest, not made yet."""
    begun, rows = [], 0
    for batch in batches:
        begun.append(batch)
        rows += batch.length
        if rows >= ahead:
            break
    return begun, batches


def _itself(batch: Batch) -> tuple[Batch]:
    return (batch,)
