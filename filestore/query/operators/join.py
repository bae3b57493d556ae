"""Hash join: the right side is built into a table of dense key codes, left morsels probe it in parallel.

Rows of the build side are listed by code (`offsets`, `rows`), so a probe is one lookup and one gather. Outputs of
every kind keep the left side's order, then the right side's. Without keys every row has code 0 and the same code
does nested loops, a bounded number of pairs at a time. A residual condition is evaluated over pairs before any
column that it does not need is gathered.

RIGHT and FULL joins remember which build rows found a partner; the others follow at the end. Null keys match nothing.

Not here: spilling; the build side must fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from filestore.query import expr as e
from filestore.query import kernels
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, evaluate, matching_rows
from filestore.query.keys import KeyTable
from filestore.query.operators.stream import Stream
from filestore.query.plan import Join, JoinKind
from filestore.query.vectors import concat_batches, null_vector, take_or_null
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8

PAIRS = 1 << 18
"""Pairs that one step makes before they are handed on."""

_KEEPS_LEFT = (JoinKind.LEFT, JoinKind.FULL)
_KEEPS_RIGHT = (JoinKind.RIGHT, JoinKind.FULL)


@dataclass(slots=True)
class Built:
    """The build side: its rows, the key table, and the rows of every code; `unique` rows per code when no code has
    two.
    """

    batch: Batch
    table: KeyTable
    offsets: Array
    rows: Array
    unique: bool
    matched: Array


def build(batch: Batch, keys: Sequence[Vector], track: bool) -> Built:
    """Builds the table of a join's right side."""
    table = KeyTable(keys, batch.length)
    offsets = np.zeros(table.count + 2, np.int64)
    most = kernels.count_codes(table.codes, offsets)
    np.cumsum(offsets, out=offsets)
    rows = np.empty(int(offsets[-1]), np.int64)
    kernels.list_rows(table.codes, offsets, rows)
    return Built(batch, table, offsets, rows, most <= 1, np.zeros(batch.length if track else 0, np.bool_))


class Probe:
    """The probing half of a join; `run` is called by all workers."""

    def __init__(self, node: Join, built: Built, residual: e.Expr | None, ctx: ExecutionContext) -> None:
        self.node = node
        self.built = built
        self.conditions = e.conjuncts(residual)
        self.wanted = {i for c in self.conditions for i in columns_read(c)}
        self.ctx = ctx

    def run(self, batch: Batch) -> Iterator[Batch]:
        """The join's output for one left batch."""
        keys = [evaluate(k, batch, self.ctx) for k in self.node.left_keys]
        codes = self.built.table.lookup(keys, batch.length)
        kind = self.node.kind
        if kind in (JoinKind.SEMI, JoinKind.ANTI):
            found = self._partnered(batch, codes) if self.conditions else codes >= 0
            yield batch.take(np.flatnonzero(found if kind is JoinKind.SEMI else ~found))
            return
        if self.built.unique and not self.conditions:
            yield self._unique(batch, codes)
            return
        start = 0
        while start < batch.length:
            end, count = kernels.count_matches(codes, self.built.offsets, start, PAIRS)
            yield self._pairs(batch, codes, start, end, count)
            start = end
            self.ctx.cancel.check()

    def _unique(self, batch: Batch, codes: Array) -> Batch:
        """At most one partner each, no residual: one gather."""
        kind = self.node.kind
        if len(self.built.rows) == 0:
            right = np.full(batch.length, -1, np.int64)
        else:
            right = np.where(codes >= 0, self.built.rows[self.built.offsets[np.maximum(codes, 0)]], -1)
        if kind in _KEEPS_RIGHT:
            self.built.matched[right[right >= 0]] = True
        if kind in _KEEPS_LEFT or (codes >= 0).all():
            return Batch([*batch.columns, *(take_or_null(c, right) for c in self.built.batch.columns)], batch.length)
        left = np.flatnonzero(codes >= 0)
        return self._gathered(batch, left, right[left])

    def _gathered(self, batch: Batch, left: Array, right: Array) -> Batch:
        columns = [c.take(left) for c in batch.columns]
        columns += [take_or_null(c, right) for c in self.built.batch.columns]
        return Batch(columns, len(left))

    def _matches(self, batch: Batch, codes: Array, start: int, end: int, count: int) -> tuple[Array, Array]:
        """(left, right) positions of the pairs of left rows start..end that pass the residual."""
        left, right = np.empty(count, np.int64), np.empty(count, np.int64)
        kernels.fill_matches(codes, self.built.offsets, self.built.rows, start, end, left, right)
        if self.conditions and count:
            blank = Vector(INT8, np.empty(0, np.int64))
            width = len(batch.columns)
            columns = [c.take(left) if i in self.wanted else blank for i, c in enumerate(batch.columns)]
            columns += [
                c.take(right) if i + width in self.wanted else blank for i, c in enumerate(self.built.batch.columns)
            ]
            passed = matching_rows(self.conditions, Batch(columns, count), self.ctx)
            if passed is not None:
                left, right = left[passed], right[passed]
        return left, right

    def _pairs(self, batch: Batch, codes: Array, start: int, end: int, count: int) -> Batch:
        left, right = self._matches(batch, codes, start, end, count)
        if self.node.kind in _KEEPS_RIGHT:
            self.built.matched[right] = True
        if self.node.kind in _KEEPS_LEFT:
            alone = np.ones(end - start, np.bool_)
            alone[left - start] = False
            lonely = np.flatnonzero(alone) + start
            if len(lonely):
                left = np.concatenate([left, lonely])
                right = np.concatenate([right, np.full(len(lonely), -1, np.int64)])
                order = np.argsort(left, kind="stable")
                left, right = left[order], right[order]
        return self._gathered(batch, left, right)

    def _partnered(self, batch: Batch, codes: Array) -> Array:
        """Which left rows have a pair that passes the residual."""
        found = np.zeros(batch.length, np.bool_)
        start = 0
        while start < batch.length:
            end, count = kernels.count_matches(codes, self.built.offsets, start, PAIRS)
            found[self._matches(batch, codes, start, end, count)[0]] = True
            start = end
        return found


def joined(node: Join, left: Stream, right: Stream, residual: e.Expr | None, ctx: ExecutionContext) -> Stream:
    """The rows of a Join node over its inputs; the right one is read when the first row is asked for."""
    keeps_right = node.kind in _KEEPS_RIGHT
    types = [c.type for c in node.right.columns]
    batch = concat_batches(list(right.batches(ctx)), types)
    keys = [evaluate(k, batch, ctx) for k in node.right_keys]
    probe = Probe(node, build(batch, keys, keeps_right), residual, ctx)
    bulky = not node.left_keys and node.kind not in (JoinKind.SEMI, JoinKind.ANTI)
    stream = left.expanded(probe.run, bulky)
    if not keeps_right:
        return stream
    return Stream.of_batches(_with_unmatched(stream, probe, node, ctx), stream.rows)


def _with_unmatched(stream: Stream, probe: Probe, node: Join, ctx: ExecutionContext) -> Iterator[Batch]:
    yield from stream.batches(ctx)
    rows = np.flatnonzero(~probe.built.matched)
    if len(rows):
        left = [null_vector(c.type, len(rows)) for c in node.left.columns]
        yield Batch([*left, *(c.take(rows) for c in probe.built.batch.columns)], len(rows))
