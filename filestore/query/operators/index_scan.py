"""Rows through an index: equality on a whole key, and ranges in key order.

An index gives records under a key that some version of the row has or had. What counts is the version that the
snapshot sees: its address is found through the version chain and its own key compared again. In a range this also
decides order: an entry is kept only where the visible version's key stands at the entry's own place, which a chunk
knows because it knows the pairs it begins behind and ends with.

Keys are compared as words, an array a column, with the record as the last: those of an index in words as they are,
others by their ranks among a chunk's keys and the bounds.

Thread rule: the index is read on the thread that asks for rows, a lookup or a chunk at a time under the engine lock,
because writers change its pages in place. A rows estimate of 0 keeps these streams off the pool; a subquery that is
run for each row is read by whichever thread evaluates it.

Not here: choosing the index (`rules/choose_index.py`), and reading one without visiting the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from filestore.index.base import Position
from filestore.query import expr as e
from filestore.query import field_kernels
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import ev, matching_rows
from filestore.query.keys import string_ranks
from filestore.query.operators.stream import Stream
from filestore.query.plan import IndexLookup, IndexRange
from filestore.query.rows import stored_form
from filestore.query.scalar.compare import compare
from filestore.query.subquery import hold_constants
from filestore.query.vectors import concat
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import BYTEA, INT8

_FIRST_CHUNK = 256
_LAST_CHUNK = 65_536
_NOTHING = Batch([], 1)


def index_lookup(node: IndexLookup, predicate: e.Expr | None, ctx: ExecutionContext) -> Stream:
    """The rows of an IndexLookup node."""

    def run(_: None) -> Iterator[Batch]:
        table = ctx.table(node.table)
        columns = _sought(node, ctx)
        if columns is None:
            return
        with ctx.lock:
            offsets, records = ctx.index(node.table, node.key).find(columns)
            if len(records) == 0:
                return
            addresses = table.resolve(records, ctx.snapshot)
        asked = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        seen = addresses >= 0
        addresses, asked = addresses[seen], asked[seen]
        same = np.ones(len(addresses), np.bool_)
        for stored, wanted in zip(table.gather(addresses, node.key.columns), columns, strict=True):
            same &= compare("eq", stored, wanted.take(asked)) & ~stored.nulls()
        addresses = addresses[same]
        if len(node.keys) > 1:
            # The same key may be asked for twice: IN (1, 1).
            addresses = addresses[np.sort(np.unique(addresses, return_index=True)[1])]
        yield _fetched(table, addresses, node, predicate, ctx)

    return Stream([None], run, 0)


def _sought(node: IndexLookup, ctx: ExecutionContext) -> list[Vector] | None:
    """The key columns' values, one row per key without nulls; None when no key is left."""
    types = [node.table.columns[i].type for i in node.key.columns]
    rows = []
    for key in node.keys:
        cells = [stored_form(ev(hold_constants(x, ctx), _NOTHING, ctx), t, 1) for x, t in zip(key, types, strict=True)]
        if all(c.valid is None or c.valid[0] for c in cells):
            rows.append(cells)
    if not rows:
        return None
    return [concat([row[i] for row in rows]) for i in range(len(types))]


def _fetched(
    table: Any, addresses: Array, node: IndexLookup | IndexRange, predicate: e.Expr | None, ctx: ExecutionContext
) -> Batch:
    """The node's output columns of versions, less the rows that fail the rest of the predicate."""
    columns = table.gather(addresses, node.ordinals)
    if node.address:
        columns.append(Vector(INT8, addresses))
    batch = Batch(columns, len(addresses))
    rows = matching_rows(e.conjuncts(predicate), batch, ctx)
    return batch if rows is None else batch.take(rows)


def index_range(node: IndexRange, predicate: e.Expr | None, ctx: ExecutionContext) -> Stream:
    """The rows of an IndexRange node, in key order."""
    return Stream.of_batches(_range_batches(node, predicate, ctx), 0)


def _range_batches(node: IndexRange, predicate: e.Expr | None, ctx: ExecutionContext) -> Iterator[Batch]:
    key = ctx.index(node.table, node.key)
    table = ctx.table(node.table)
    bounds = _bounds(node, key, ctx)
    if bounds is None:
        return
    cursor = key.index.scan(bounds.low, True, bounds.high, False, reverse=node.reverse)
    span = Edges(bounds.low, bounds.high)
    behind: Position | None = None
    size = _FIRST_CHUNK
    while True:
        ctx.cancel.check()
        with ctx.lock:
            records = cursor.fetch(size)
        if len(records) == 0:
            return
        last = len(records) < size
        until = cursor.position
        size = min(size * 4, _LAST_CHUNK)
        addresses = table.resolve(records, ctx.snapshot)
        seen = addresses >= 0
        records, addresses = records[seen], addresses[seen]
        keys = key.encode(table.gather(addresses, key.ordinals))
        places = placed(keys, records, Edges(span.low, span.high, behind, until), node.reverse)
        yield _fetched(table, addresses[places], node, predicate, ctx)
        behind = until
        if last:
            return


def _bounds(node: IndexRange, key: Any, ctx: ExecutionContext) -> Any:
    """The codec's span; None for certainly no row (a null bound or prefix)."""
    from filestore.txn.keys import codec_column

    ordinals = node.key.columns

    def column(expr: e.Expr, place: int) -> Any:
        sql_type = node.table.columns[ordinals[place]].type
        return codec_column(stored_form(ev(hold_constants(expr, ctx), _NOTHING, ctx), sql_type, 1))

    equal = [column(x, i) for i, x in enumerate(node.prefix)]
    if any(valid is not None and not valid[0] for _, valid in equal):
        return None
    low = None if node.low is None else (column(node.low, len(equal)), node.low_inclusive)
    high = None if node.high is None else (column(node.high, len(equal)), node.high_inclusive)
    return key.codec.span(equal, low, high)


class Edges(NamedTuple):
    """Where a chunk begins and ends: keys, low inclusive and high exclusive, and the pairs that the cursor stood at."""

    low: Any = None
    high: Any = None
    behind: Position | None = None
    until: Position | None = None


def placed(keys: Any, records: Array, edges: Edges, reverse: bool) -> Array:
    """Positions of the pairs (key, record) between the edges, each pair once, in the range's order.

    keys: as StoredKey.encode gives them.
    """
    behind, until = (edges.until, edges.behind) if reverse else (edges.behind, edges.until)
    bounds = [edges.low, edges.high, None if behind is None else behind.key, None if until is None else until.key]
    words, (low, high, first, last) = _words(keys, bounds)
    pairs = [*words, records]
    kept = np.ones(len(records), np.bool_)
    if low is not None:
        kept &= ~_greater(low, words)
    if high is not None:
        kept &= _greater(high, words)
    # What the cursor stood at belongs to the chunk that ended there.
    if behind is not None and first is not None:
        pair = [*first, behind.record]
        kept &= ~_greater(pair, pairs) if reverse else _greater(pairs, pair)
    if until is not None and last is not None:
        pair = [*last, until.record]
        kept &= _greater(pair, pairs) if reverse else ~_greater(pairs, pair)
    rows = np.flatnonzero(kept)
    pairs = [word[rows] for word in pairs]
    before, after = [word[:-1] for word in pairs], [word[1:] for word in pairs]
    if not (_greater(before, after) if reverse else _greater(after, before)).all():
        order = np.lexsort(pairs[::-1])
        new = np.ones(len(order), np.bool_)
        new[1:] = np.any([word[order[1:]] != word[order[:-1]] for word in pairs], axis=0)
        rows = rows[order[new][::-1] if reverse else order[new]]
    return rows


def _greater(left: Sequence[Any], right: Sequence[Any]) -> Array:
    """Where the left words, the first the most significant, are more than the right ones."""
    out: Array = left[-1] > right[-1]
    for a, b in zip(left[-2::-1], right[-2::-1], strict=True):
        out = (a > b) | ((a == b) & out)
    return out


def _words(keys: Any, bounds: Sequence[Any]) -> tuple[list[Array], list[list[Any] | None]]:
    """Keys as words in the index's order, the most significant first, and each bound's words, None for no bound."""
    if not isinstance(keys, tuple):
        words = [keys] if keys.ndim == 1 else [keys[:, 0], keys[:, 1]]
        return words, [None if b is None else [np.uint64(w) for w in np.ravel(np.array(b, np.uint64))] for b in bounds]
    given = [b if isinstance(b, bytes) else b[1].tobytes() for b in bounds if b is not None]
    offsets, data = keys
    ends = np.cumsum([offsets[-1], *map(len, given)])
    data = np.concatenate([data[: offsets[-1]], np.frombuffer(b"".join(given), np.uint8)])
    offsets = np.concatenate([offsets[:-1], ends])
    rank = string_ranks(_strings_of(data, offsets[:-1], offsets[1:]))
    own = iter(rank[len(rank) - len(given) :])
    return [rank[: len(rank) - len(given)]], [None if b is None else [next(own)] for b in bounds]


def _strings_of(data: Array, starts: Array, ends: Array) -> Vector:
    """The pieces starts..ends of uint8 data, which they are copied from."""
    views = np.zeros((len(starts), 2), np.uint64)
    none = np.zeros(0, np.bool_)
    heap = np.empty(field_kernels.heap_size(starts, ends, none), np.uint8)
    raw, words = views.view(np.uint8).reshape(-1, 16), views.view(np.uint32).reshape(-1, 4)
    field_kernels.make_views(data, starts, ends, none, raw, words, heap)
    return Vector(BYTEA, views, heap=heap)
