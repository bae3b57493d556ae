"""Sort and top-k. Both are stable: rows with equal keys keep their input order.

Keys are evaluated in the workers. A top-k keeps, of every morsel, its own first k rows: first those whose leading
key word is not beyond the k-th least, which a selection finds without sorting. The rows kept are sorted once more
at the end.

Not here: spilling. The input must fit in memory.

Thread rule: keys are evaluated, and first rows chosen, by any thread; the reader's thread sorts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate
from filestore.query.keys import order_of, sort_words
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.plan import SortKey
from filestore.query.vectors import concat
from filestore.storage.vector import Array, Batch, Vector

TOP_K_MAX = 1 << 16
"""Above this many rows a top-k is a sort."""


def sorted_rows(source: Stream, keys: Sequence[SortKey], limit: int | None, ctx: ExecutionContext) -> Iterator[Batch]:
    """Yields the rows in order, in morsels; at most `limit` of them."""
    top = limit if limit is not None and limit <= TOP_K_MAX else None

    def run(batches: Iterator[Batch]) -> list[tuple[Batch, list[Vector]]]:
        out = []
        for batch in batches:
            vectors = [evaluate(k.expr, batch, ctx) for k in keys]
            if top is not None and batch.length > top:
                rows = first_rows(vectors, keys, batch.length, top)
                batch, vectors = batch.take(rows), [v.take(rows) for v in vectors]
            out.append((batch, vectors))
        return out

    if top == 0:
        return
    gathered: list[tuple[Batch, list[Vector]]] = []
    size = 0
    for made in source.fold(ctx, run):
        gathered.extend(made)
        size += sum(b.length for b, _ in made)
        if top is not None and size > max(4 * top, 2 * MORSEL_ROWS):
            gathered = [_kept(gathered, keys, top)]
            size = gathered[0][0].length
    if not gathered:
        return
    batch, vectors = _joined(gathered)
    ctx.cancel.check()
    order = order_of(_columns(vectors, keys), batch.length)
    if limit is not None:
        order = order[:limit]
    for low in range(0, len(order), MORSEL_ROWS):
        yield batch.take(order[low : low + MORSEL_ROWS])


def _columns(vectors: Sequence[Vector], keys: Sequence[SortKey]) -> list[tuple[Vector, bool, bool]]:
    return [(v, k.descending, k.nulls_first) for v, k in zip(vectors, keys, strict=True)]


def _joined(parts: Sequence[tuple[Batch, list[Vector]]]) -> tuple[Batch, list[Vector]]:
    batches = [b for b, _ in parts]
    columns = [concat([b.columns[i] for b in batches]) for i in range(len(batches[0].columns))]
    vectors = [concat([v[i] for _, v in parts]) for i in range(len(parts[0][1]))]
    return Batch(columns, sum(b.length for b in batches)), vectors


def _kept(parts: Sequence[tuple[Batch, list[Vector]]], keys: Sequence[SortKey], top: int) -> tuple[Batch, list[Vector]]:
    batch, vectors = _joined(parts)
    rows = first_rows(vectors, keys, batch.length, top)
    return batch.take(rows), [v.take(rows) for v in vectors]


def first_rows(vectors: Sequence[Vector], keys: Sequence[SortKey], length: int, top: int) -> Array:
    """Positions of the first `top` rows in key order, in input order."""
    candidates = _candidates(vectors[0], keys[0], length, top) if vectors else np.arange(length)
    columns = _columns([v.take(candidates) for v in vectors], keys)
    return np.sort(candidates[order_of(columns, len(candidates))[:top]])


def _candidates(vector: Vector, key: SortKey, length: int, top: int) -> Array:
    """Rows that can be among the first `top` by the leading key alone; all of them when nulls come into it."""
    if length <= top or (vector.valid is not None and not vector.valid.all()):
        return np.arange(length)
    if vector.type.is_view and vector.dictionary is None:
        return np.arange(length)
    word = sort_words(vector)[0]
    word = ~word if key.descending else word
    return np.flatnonzero(word <= np.partition(word, top - 1)[top - 1])
