"""Rows through an index: equality on a whole key, and ranges in key order.

An index gives records under a key that some version of the row has or had. What counts is the version that the
snapshot sees: its address is found through the version chain and its own key compared again. In a range this also
decides order: an entry is kept only where the visible version's key stands at the entry's own place, which a chunk
knows because it knows the pairs it begins behind and ends with.

Thread rule: the index is read on the thread that asks for rows (the rows estimate keeps these streams off the pool),
a lookup or a chunk at a time under the engine lock, because writers change its pages in place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import ev, matching_rows
from filestore.query.operators.stream import Stream
from filestore.query.plan import IndexLookup, IndexRange
from filestore.query.rows import stored_form
from filestore.query.scalar.compare import compare
from filestore.query.subquery import hold_constants
from filestore.query.vectors import concat
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8

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
    low, high = (None if bound is None else _plain(bound) for bound in (bounds.low, bounds.high))
    behind: tuple[Any, int] | None = None
    size = _FIRST_CHUNK
    while True:
        ctx.cancel.check()
        with ctx.lock:
            records = cursor.fetch(size)
        if len(records) == 0:
            return
        last = len(records) < size
        position = cursor.position
        until = None if position is None else (_plain(position.key), position.record)
        size = min(size * 4, _LAST_CHUNK)
        addresses = table.resolve(records, ctx.snapshot)
        seen = addresses >= 0
        records, addresses = records[seen], addresses[seen]
        keys = comparable(key.encode(table.gather(addresses, key.ordinals)))
        inside = [(low is None or low <= k) and (high is None or k < high) for k in keys]
        if not all(inside):
            records, addresses = records[inside], addresses[inside]
            keys = list(itertools.compress(keys, inside))
        yield _fetched(table, _placed(keys, records, addresses, behind, until, node.reverse), node, predicate, ctx)
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


def comparable(keys: Any) -> list[Any]:
    """Keys as Python values in the index's order: int, (int, int) or bytes."""
    if isinstance(keys, tuple):
        offsets, data = keys
        raw, ends = data.tobytes(), offsets.tolist()
        return [raw[a:b] for a, b in itertools.pairwise(ends)]
    if keys.ndim == 2:
        return [tuple(row) for row in keys.tolist()]
    return list(keys.tolist())


def _plain(key: Any) -> Any:
    """One key of a cursor's position as `comparable` gives it."""
    if isinstance(key, int | bytes):
        return key
    if isinstance(key, tuple) and not isinstance(key[0], np.ndarray):
        return tuple(int(k) for k in key)
    return comparable(key)[0]


def _placed(
    keys: Sequence[Any],
    records: Array,
    addresses: Array,
    behind: tuple[Any, int] | None,
    until: tuple[Any, int] | None,
    reverse: bool,
) -> Array:
    """Addresses whose (key, record) lies behind one pair and not behind another, once each, in the range's order."""
    if reverse:
        behind, until = until, behind
    pairs = list(zip(keys, records.tolist(), range(len(keys)), strict=True))
    kept = {
        (key, record): at
        for key, record, at in pairs
        if (behind is None or ((key, record) >= behind if reverse else (key, record) > behind))
        and (until is None or ((key, record) < until if reverse else (key, record) <= until))
    }
    if len(kept) == len(pairs) and all(a <= b for a, b in itertools.pairwise(pairs)) and not reverse:
        return addresses
    order = [kept[pair] for pair in sorted(kept, reverse=reverse)]
    return addresses[np.array(order, np.int64)] if order else addresses[:0]
