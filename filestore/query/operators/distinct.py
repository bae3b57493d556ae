"""DISTINCT, DISTINCT ON and the set operations.

DISTINCT keeps the first row of every key in input order: each morsel its own, then those of the morsels together,
as Aggregate merges. INTERSECT and EXCEPT code the rows of both sides together and compare how often each code appears.

Thread rule: first rows of morsels are found by any thread, put together by the reader's; INTERSECT and EXCEPT work on
the reader's alone.

Not here: spilling. The keys of DISTINCT, and both sides of INTERSECT and EXCEPT, must fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from filestore.query import expr as e
from filestore.query import kernels
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate
from filestore.query.keys import group
from filestore.query.operators.stream import Stream
from filestore.query.plan import SetKind
from filestore.query.vectors import concat, concat_batches
from filestore.storage.vector import Batch
from filestore.types import SqlType

_MERGE_ROWS = 1 << 17


def distinct(source: Stream, keys: Sequence[e.Expr], ctx: ExecutionContext) -> Iterator[Batch]:
    """Yields one batch: the first row of every distinct key (all columns without `keys`)."""

    def first_of(batches: Iterable[Batch]) -> list[Batch]:
        return [_deduplicated([b], keys, ctx) for b in batches]

    waiting: list[Batch] = []
    size, limit = 0, _MERGE_ROWS
    for made in source.fold(ctx, first_of):
        waiting.extend(made)
        size += sum(b.length for b in made)
        if size > limit:
            waiting = [_deduplicated(waiting, keys, ctx)]
            size = waiting[0].length
            limit = max(_MERGE_ROWS, 2 * size)
    if waiting:
        yield waiting[0] if len(waiting) == 1 else _deduplicated(waiting, keys, ctx)


def _deduplicated(batches: Sequence[Batch], keys: Sequence[e.Expr], ctx: ExecutionContext) -> Batch:
    columns = [concat([b.columns[i] for b in batches]) for i in range(len(batches[0].columns))]
    batch = Batch(columns, sum(b.length for b in batches))
    found = group([evaluate(k, batch, ctx) for k in keys] if keys else columns, batch.length)
    return batch if found.count == batch.length else batch.take(found.firsts)


def union_all(left: Stream, right: Stream) -> Stream:
    """The rows of both, left first."""
    rows = None if left.rows is None or right.rows is None else left.rows + right.rows

    def items() -> Iterator[tuple[Stream, object]]:
        for side in (left, right):
            for item in side.items:
                yield side, item

    def run(pair: tuple[Stream, object]) -> Iterable[Batch]:
        side, item = pair
        return side.work(item)

    return Stream(items(), run, rows)


def compared(
    kind: SetKind, all_rows: bool, left: Stream, right: Stream, types: Sequence[SqlType], ctx: ExecutionContext
) -> Iterator[Batch]:
    """INTERSECT and EXCEPT, with or without ALL, in the left side's order."""
    ours = concat_batches(list(left.batches(ctx)), types)
    theirs = concat_batches(list(right.batches(ctx)), types)
    if ours.length == 0:
        return
    columns = [concat([a, b]) if len(b) else a for a, b in zip(ours.columns, theirs.columns, strict=True)]
    found = group(columns, ours.length + theirs.length)
    mine, other = found.codes[: ours.length], found.codes[ours.length :]
    left_counts = np.bincount(mine, minlength=found.count)
    right_counts = np.bincount(other, minlength=found.count)
    intersect = kind is SetKind.INTERSECT
    if not all_rows:
        left_counts = (left_counts > 0).astype(np.int64)
        right_counts = (right_counts > 0).astype(np.int64)
    keep = np.zeros(ours.length, np.bool_)
    kernels.keep_counts(mine, left_counts, right_counts, intersect, np.zeros(found.count, np.int64), keep)
    yield ours.take(np.flatnonzero(keep))
