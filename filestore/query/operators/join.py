"""Hash join: the right side is built into a table of dense key codes, left morsels probe it in parallel.

Rows of the build side are listed by code (`offsets`, `rows`), so a probe is one lookup and one gather. Where no key
comes twice and none is null, a row's code is its number, and nothing is listed. Outputs of every kind keep the left
side's order, then the right side's. Without keys every row has code 0 and the same code does nested loops. A residual
condition is evaluated over pairs before any column that it does not need is gathered.

Pairs are made a bounded number at a time, whatever the matches of a batch or of one row, and only when the next are
asked for: a LIMIT above a join that multiplies its rows pays for the first pairs, not for a morsel's.

RIGHT and FULL joins remember which build rows found a partner; the others follow at the end. RIGHT_SEMI and
RIGHT_ANTI do nothing but remember: their rows are those of the build side that found one, or none. Null keys match
nothing.

Not here: spilling; the build side must fit in memory.

Thread rule: a table is built by the thread that makes the stream and does not change afterwards; all workers probe it.
`Built.matched` is the exception: workers only ever set its elements to true, and it is read after the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from filestore.query import expr as e
from filestore.query import kernels
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, evaluate, matching_rows
from filestore.query.key_set import KeySet, key_set
from filestore.query.keys import KeyTable
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.plan import Join, JoinKind
from filestore.query.vectors import concat_batches, null_vector, take_or_null
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8

PAIRS = 1 << 18
"""Pairs that one step makes at most before they are handed on."""
FIRST_PAIRS = 1 << 12
"""Pairs of a batch's first step when it takes several: nobody may want more."""

_KEEPS_LEFT = (JoinKind.LEFT, JoinKind.FULL)
_KEEPS_RIGHT = (JoinKind.RIGHT, JoinKind.FULL)
_ONLY_RIGHT = (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI)


@dataclass(slots=True)
class Built:
    """The build side: its rows, their keys, the key table, and the rows of every code; `unique` when no code has two
    rows, and `direct` when code i is row i (`rows` is empty then).
    """

    batch: Batch
    keys: list[Vector]
    table: KeyTable
    offsets: Array
    rows: Array
    unique: bool
    direct: bool
    matched: Array

    def handed_out(self, node: Join) -> dict[int, KeySet]:
        """The sets of the keys that the node hands out, by number."""
        made = {number: key_set(self.keys, position) for position, number in node.hands_out}
        return {number: keys for number, keys in made.items() if keys is not None}

    def row_of(self, codes: Array) -> Array:
        """The row of each code of a unique table, -1 for code -1."""
        if self.direct:
            return codes
        if len(self.rows) == 0:
            return np.full(len(codes), -1, np.int64)
        return np.where(codes >= 0, self.rows[self.offsets[np.maximum(codes, 0)]], -1)


def build(node: Join, right: Stream, right_keys: Sequence[e.Expr], ctx: ExecutionContext) -> Built:
    """Reads a join's right side and builds its table."""
    batch = concat_batches(list(right.batches(ctx)), [c.type for c in node.right.columns])
    keys = [evaluate(k, batch, ctx) for k in right_keys]
    table = KeyTable(keys, batch.length)
    matched = np.zeros(batch.length if node.kind in _KEEPS_RIGHT or node.kind in _ONLY_RIGHT else 0, np.bool_)
    none = np.zeros(0, np.int64)
    if keys and table.count == batch.length and batch.length and not any(k.valid is not None for k in keys):
        # Codes are numbered by first appearance, and each row was the first with its key.
        return Built(batch, keys, table, none, none, True, True, matched)
    offsets = np.zeros(table.count + 2, np.int64)
    most = kernels.count_codes(table.codes, offsets)
    np.cumsum(offsets, out=offsets)
    rows = np.empty(int(offsets[-1]), np.int64)
    kernels.list_rows(table.codes, offsets, rows)
    return Built(batch, keys, table, offsets, rows, most <= 1, False, matched)


class Step(NamedTuple):
    """Some of a batch's pairs, `pairs` of them: those of the left rows row..end, without the first `skip` of `row`,
    and the first `end_skip` of `end`. The rows row..end are decided with it, `end` is not.
    """

    row: int
    skip: int
    end: int
    end_skip: int
    pairs: int


class Probe:
    """The probing half of a join; `run` is called by all workers."""

    def __init__(
        self, node: Join, built: Built, keys: Sequence[e.Expr], residual: e.Expr | None, ctx: ExecutionContext
    ) -> None:
        self.node = node
        self.keys = keys
        self.built = built
        self.conditions = e.conjuncts(residual)
        self.wanted = {i for c in self.conditions for i in columns_read(c)}
        self.ctx = ctx

    def run(self, batch: Batch) -> Iterator[Batch]:
        """The join's output for one left batch."""
        codes = self._codes(batch)
        kind = self.node.kind
        if kind in (JoinKind.SEMI, JoinKind.ANTI):
            found = self._partnered(batch, codes) if self.conditions else codes >= 0
            yield batch.take(np.flatnonzero(found if kind is JoinKind.SEMI else ~found))
            return
        if self.built.unique and not self.conditions:
            yield self._unique(batch, codes)
            return
        met = False
        for step in self._steps(codes):
            left, right = self._matches(batch, codes, step)
            if kind in _KEEPS_RIGHT:
                self.built.matched[right] = True
            if kind in _KEEPS_LEFT:
                left, right, met = _with_lonely(left, right, step, met)
            yield self._gathered(batch, left, right)

    def mark(self, batches: Iterator[Batch]) -> None:
        """Remembers the build rows that find a partner among the batches."""
        matched = self.built.matched
        for batch in batches:
            codes = self._codes(batch)
            if self.conditions or not self.built.unique:
                for step in self._steps(codes):
                    matched[self._matches(batch, codes, step)[1]] = True
            else:
                right = self.built.row_of(codes)
                matched[right[right >= 0]] = True

    def _codes(self, batch: Batch) -> Array:
        return self.built.table.lookup([evaluate(k, batch, self.ctx) for k in self.keys], batch.length)

    def _steps(self, codes: Array) -> Iterator[Step]:
        """A batch's pairs in pieces of a bounded number."""
        if self.built.direct:
            yield Step(0, 0, len(codes), 0, int(np.count_nonzero(codes >= 0)))
            return
        step = self._step(codes, 0, 0, PAIRS)
        if step.end < len(codes):
            step = self._step(codes, 0, 0, FIRST_PAIRS)
        yield step
        while step.end < len(codes):
            step = self._step(codes, step.end, step.end_skip, PAIRS)
            yield step

    def _step(self, codes: Array, row: int, skip: int, most: int) -> Step:
        return Step(row, skip, *kernels.count_matches(codes, self.built.offsets, row, skip, most))

    def _unique(self, batch: Batch, codes: Array) -> Batch:
        """At most one partner each, no residual: one gather."""
        kind = self.node.kind
        right = self.built.row_of(codes)
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

    def _matches(self, batch: Batch, codes: Array, step: Step) -> tuple[Array, Array]:
        """(left, right) positions of a step's pairs that pass the residual."""
        self.ctx.cancel.check()
        count = step.pairs
        if self.built.direct:
            left = np.flatnonzero(codes >= 0)
            right = codes[left]
        else:
            left, right = np.empty(count, np.int64), np.empty(count, np.int64)
            kernels.fill_matches(codes, self.built.offsets, self.built.rows, step.row, step.skip, left, right)
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

    def _partnered(self, batch: Batch, codes: Array) -> Array:
        """Which left rows have a pair that passes the residual."""
        found = np.zeros(batch.length, np.bool_)
        for step in self._steps(codes):
            found[self._matches(batch, codes, step)[0]] = True
        return found


def _with_lonely(left: Array, right: Array, step: Step, met: bool) -> tuple[Array, Array, bool]:
    """A step's pairs and, with right -1, the rows decided with it that have none. met: whether the first row has had
    one before; the third result says so of the row that the step ends in.
    """
    alone = np.ones(step.end - step.row, np.bool_)
    alone[left[left < step.end] - step.row] = False
    if met:
        alone[:1] = False
    lonely = np.flatnonzero(alone) + step.row
    met = bool(left.size and left[-1] == step.end) or (met and step.end == step.row)
    if len(lonely):
        left = np.concatenate([left, lonely])
        right = np.concatenate([right, np.full(len(lonely), -1, np.int64)])
        order = np.argsort(left, kind="stable")
        left, right = left[order], right[order]
    return left, right, met


def probed(
    node: Join, left: Stream, built: Built, left_keys: Sequence[e.Expr], residual: e.Expr | None, ctx: ExecutionContext
) -> Stream:
    """The rows of a Join node: its left rows sent through the table of its right ones."""
    probe = Probe(node, built, left_keys, residual, ctx)
    if node.kind in _ONLY_RIGHT:
        return Stream.of_batches(_marked(left, probe, node, ctx), built.batch.length)
    stream = left.expanded(probe.run)
    if node.kind not in _KEEPS_RIGHT:
        return stream
    return Stream.of_batches(_with_unmatched(stream, probe, node, ctx), stream.rows)


def _marked(left: Stream, probe: Probe, node: Join, ctx: ExecutionContext) -> Iterator[Batch]:
    for _ in left.fold(ctx, probe.mark):
        pass
    matched = probe.built.matched
    rows = np.flatnonzero(matched if node.kind is JoinKind.RIGHT_SEMI else ~matched)
    for low in range(0, len(rows), MORSEL_ROWS):
        yield probe.built.batch.take(rows[low : low + MORSEL_ROWS])


def _with_unmatched(stream: Stream, probe: Probe, node: Join, ctx: ExecutionContext) -> Iterator[Batch]:
    yield from stream.batches(ctx)
    rows = np.flatnonzero(~probe.built.matched)
    if len(rows):
        left = [null_vector(c.type, len(rows)) for c in node.left.columns]
        yield Batch([*left, *(c.take(rows) for c in probe.built.batch.columns)], len(rows))
