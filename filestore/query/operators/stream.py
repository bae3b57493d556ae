"""Streams: rows as independent pieces of work, so that whoever needs them decides on which threads they are made.

A `Stream` is a sequence of items (a storage unit, a slice of a finished batch) and a function that turns one item
into batches. Streaming operators wrap the function (`mapped`), so a chain scan - filter - project - probe runs as
one piece of work per item, inside one worker. Breakers consume with `fold`, readers with `batches`; both keep the
items' order, so results without ORDER BY are stable.
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

_MEASURING = threading.Lock()
_END = object()


@dataclass(slots=True)
class Stream:
    """items: read once, under a lock, cheap to produce. work: any thread. rows: an upper estimate of the items'
    rows, None unknown.

    `bulky` marks work whose output may be far larger than its item (a cross join): readers take it batch by batch,
    on one thread.
    """

    items: Iterable[Any]
    work: Callable[[Any], Iterable[Batch]]
    rows: int | None = None
    bulky: bool = False

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

        return Stream(self.items, run, self.rows, self.bulky)

    def expanded(self, function: Callable[[Batch], Iterable[Batch]], bulky: bool = False) -> Stream:
        """The stream with every batch replaced by any number of batches."""
        work = self.work

        def run(item: Any) -> Iterator[Batch]:
            for batch in work(item):
                if batch.length:
                    yield from function(batch)

        return Stream(self.items, run, self.rows, self.bulky or bulky)

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

        return Stream(_timed(self.items, node, into), run, self.rows, self.bulky)

    def fold(self, ctx: ExecutionContext, function: Callable[[Iterator[Batch]], R]) -> Iterator[R]:
        """`function` over the batches of each item, in a worker; results in the items' order."""
        work, check = self.work, ctx.cancel.check

        def run(item: Any) -> R:
            check()
            return function(b for b in work(item) if b.length)

        return ctx.pool.map(run, self.items, self.rows)

    def batches(self, ctx: ExecutionContext) -> Iterator[Batch]:
        """The batches that have rows, in order."""
        if self.bulky:
            return self._lazily(ctx)
        return (batch for made in self.fold(ctx, list) for batch in made)

    def _lazily(self, ctx: ExecutionContext) -> Iterator[Batch]:
        for item in self.items:
            for batch in self.work(item):
                ctx.cancel.check()
                if batch.length:
                    yield batch


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


def _itself(batch: Batch) -> tuple[Batch]:
    return (batch,)
