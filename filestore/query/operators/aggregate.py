"""Aggregate: groups rows and folds them into accumulators.

Every morsel is grouped by itself in a worker (`Partial`: its distinct keys and their states); partials are merged
in morsel order by grouping their keys again. Merging waits until as many groups have gathered as the last merge
left, so all merging together costs a few passes over the groups. Without keys there is one group, also when there
are no rows.

Not here: spilling. The groups must fit in memory.

Thread rule: partials are made by any thread and keep nothing; merging is the reader's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query.accumulate import Accumulator, accumulator
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate, taken, truth
from filestore.query.keys import Groups, group
from filestore.query.operators.stream import Stream
from filestore.query.vectors import concat, empty_values
from filestore.storage.vector import Batch, Vector

MERGE_GROUPS = 1 << 17
"""Groups that gather before the first merge: a few cache-sized tables."""


@dataclass(slots=True)
class Partial:
    """Groups of some rows: keys are vectors of `count` distinct keys, states one per call."""

    keys: list[Vector]
    count: int
    states: list[Any]


class Aggregation:
    """A grouping with its accumulators; used by all workers."""

    def __init__(self, keys: Sequence[e.Expr], calls: Sequence[e.Aggregate], ctx: ExecutionContext) -> None:
        self.keys = keys
        self.calls = calls
        self.ctx = ctx
        self.accumulators: list[Accumulator] = [accumulator(c) for c in calls]

    def partial(self, batches: Iterable[Batch]) -> Partial | None:
        """Folds the batches of one morsel; None for no rows."""
        parts = [self._one(batch) for batch in batches]
        if len(parts) <= 1:
            return parts[0] if parts else None
        return self.merge(parts)

    def _one(self, batch: Batch) -> Partial:
        keys = [evaluate(k, batch, self.ctx) for k in self.keys]
        groups = (
            group(keys, batch.length) if keys else Groups(np.zeros(batch.length, np.int64), 1, np.zeros(1, np.int64))
        )
        memory: dict[e.Expr, Vector] = {}
        states = [
            self._start(call, acc, batch, groups, memory)
            for call, acc in zip(self.calls, self.accumulators, strict=True)
        ]
        return Partial([k.take(groups.firsts) for k in keys], groups.count, states)

    def _start(
        self, call: e.Aggregate, acc: Accumulator, batch: Batch, groups: Groups, memory: dict[e.Expr, Vector]
    ) -> Any:
        if call.filter is not None:
            rows = np.flatnonzero(truth(evaluate(call.filter, batch, self.ctx)))
            some = taken(batch, rows, *call.args)
            args = [evaluate(a, some, self.ctx) for a in call.args]
            return acc.start(args, groups.codes[rows], groups.count)
        args = []
        for arg in call.args:
            if arg not in memory:
                memory[arg] = evaluate(arg, batch, self.ctx)
            args.append(memory[arg])
        return acc.start(args, groups.codes, groups.count)

    def merge(self, parts: Sequence[Partial]) -> Partial:
        """One partial of many, in order."""
        total = sum(p.count for p in parts)
        if self.keys:
            keys = [concat([p.keys[i] for p in parts]) for i in range(len(self.keys))]
            groups = group(keys, total)
        else:
            keys = []
            groups = Groups(np.zeros(total, np.int64), min(total, 1), np.zeros(min(total, 1), np.int64))
        states = [
            acc.merge([p.states[i] for p in parts], groups.codes, groups.count)
            for i, acc in enumerate(self.accumulators)
        ]
        return Partial([k.take(groups.firsts) for k in keys], groups.count, states)

    def merged(self, partials: Iterable[Partial | None]) -> Partial | None:
        """All partials in one; None for none."""
        waiting: list[Partial] = []
        size = 0
        limit = MERGE_GROUPS
        for partial in partials:
            if partial is None:
                continue
            waiting.append(partial)
            size += partial.count
            if size > limit:
                waiting = [self.merge(waiting)]
                size = waiting[0].count
                limit = max(MERGE_GROUPS, 2 * size)
        if not waiting:
            return None
        return waiting[0] if len(waiting) == 1 else self.merge(waiting)

    def finish(self, partial: Partial | None) -> Batch:
        """The output rows: keys, then results."""
        if partial is None:
            if self.keys:
                return Batch([empty_values(x.type, 0) for x in (*self.keys, *self.calls)], 0)
            partial = self._empty()
        results = [a.finish(s) for a, s in zip(self.accumulators, partial.states, strict=True)]
        return Batch([*partial.keys, *results], partial.count)

    def _empty(self) -> Partial:
        none = np.zeros(0, np.int64)
        states = [
            acc.start([empty_values(a.type, 0) for a in call.args], none, 1)
            for call, acc in zip(self.calls, self.accumulators, strict=True)
        ]
        return Partial([], 1, states)


def aggregated(
    source: Stream, keys: Sequence[e.Expr], calls: Sequence[e.Aggregate], ctx: ExecutionContext
) -> Iterator[Batch]:
    """Yields the one batch of groups, in the order of their first appearance."""
    aggregation = Aggregation(keys, calls, ctx)
    yield aggregation.finish(aggregation.merged(source.fold(ctx, aggregation.partial)))
