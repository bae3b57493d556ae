"""Scan: the visible rows of a stored table that satisfy a predicate, one storage unit per piece of work.

Units whose zone map excludes every row are skipped. The predicate's columns are looked at first, in a generated loop
where the conditions are simple enough (`fuse_filter.py`); then those whose keys a join further up has hashed (`Sieve`),
or these before the predicate when few rows have such keys. Columns are copied only for the rows that pass (late
materialisation: `ScanUnit.batch` hands out views of the segment).

Thread rule: units are listed under the engine lock and read without it, by all workers. What a sieve counts is advice:
workers count without a lock, and may lose a count.

Not here: reading through an index (index_scan.py), and what a unit is (storage/table.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, ev, matching_rows
from filestore.query.fuse_filter import fused_filter
from filestore.query.key_set import KeySet
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.plan import Scan
from filestore.query.vectors import concat_batches, to_python
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8, INTEGER_KINDS, Kind

_ZONED = INTEGER_KINDS | {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TIME, Kind.NUMERIC}
_TRIAL_ROWS = 2 * MORSEL_ROWS
_KEEPS_MOST = 0.8
"""Asking costs about as much as copying a column or two: what keeps more than this is not asked again."""
_KEEPS_FEW = 0.1
COMPILED_ROWS = 100_000
"""Smaller scans are not worth compiling their conditions for, unless compiling is asked for always."""
_BATCH_ROWS = MORSEL_ROWS // 8
"""Batches of fewer rows are put together before they are handed on: what is done for each batch costs as much as a few
thousand rows do."""
_ITEMS_PER_THREAD = 8
_BLANK = Vector(INT8, np.empty(0, np.int64))
_SWAPPED = {"eq": "eq", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


Morsel = tuple[Any, int, int]
"""Rows low..high of a unit."""


class Sieve:
    """A column of a scan and the keys that it is joined on. It is left out once it has been seen to keep most rows.

    Thread rule: used by all workers; the counts are estimates, so that a lost addition does no harm.
    """

    __slots__ = ("column", "kept", "keys", "seen")

    def __init__(self, column: int, keys: KeySet) -> None:
        self.column = column
        self.keys = keys
        self.seen = 0
        self.kept = 0

    @property
    def share(self) -> float:
        """Of the rows seen so far, those that were kept."""
        return self.kept / max(self.seen, 1)

    @property
    def sharp(self) -> bool:
        """Whether it has been seen to leave so few rows that asking it comes before any condition."""
        return self.seen > 0 and self.share < _KEEPS_FEW

    @property
    def useless(self) -> bool:
        return self.seen >= _TRIAL_ROWS and self.share > _KEEPS_MOST

    def excludes(self, unit: Any, ordinals: Sequence[int]) -> bool:
        """Whether no row of a unit can have one of the keys."""
        zone = unit.zone(ordinals[self.column])
        if zone is None or zone[0] is None or not isinstance(zone[0], int | np.integer):
            return self.keys.empty
        return self.keys.excludes(int(zone[0]), int(zone[1]))

    def passing(self, column: Vector, rows: Array | None) -> Array:
        """Positions in `rows` (None: in the column) of the rows that may have one of the keys."""
        found = self.keys.select(column, rows)
        self.seen += len(column) if rows is None else len(rows)
        self.kept += len(found)
        return found


def sieves_of(node: Scan, ctx: ExecutionContext) -> list[Sieve]:
    """The node's sieves whose keys are at hand."""
    return [Sieve(use.column, ctx.keys[use.number]) for use in node.keys if use.number in ctx.keys]


def scan(node: Scan, predicate: e.Expr | None, ctx: ExecutionContext) -> Stream:
    """The rows of a Scan node; `predicate` is the node's, with its subqueries held."""
    with ctx.lock:  # a commit under way would be seen in some of a unit's counters
        units = ctx.table(node.table).units(ctx.snapshot)
    conditions = e.conjuncts(predicate)
    skip = zone_tests(node, conditions, ctx)
    if skip:
        units = [u for u in units if not any(excluded(u) for excluded in skip)]
    sieves = sieves_of(node, ctx)
    if sieves:
        units = [u for u in units if not any(s.excludes(u, node.ordinals) for s in sieves)]

    rows = sum(u.rows for u in units)
    reader = Reader(node, conditions, sieves, rows, ctx)
    morsels: list[Morsel] = [
        (unit, low, min(low + MORSEL_ROWS, unit.rows)) for unit in units for low in range(0, unit.rows, MORSEL_ROWS)
    ]
    most = len(morsels) // (_ITEMS_PER_THREAD * ctx.pool.threads) if conditions or sieves else 1
    return Stream(_grouped(morsels, most), reader.run, rows)


def _grouped(morsels: Sequence[Morsel], most: int) -> list[tuple[Morsel, ...]]:
    """The morsels as a scan's items, several in one: what few rows of each are left is handed on together. The first
    items are small, since a LIMIT may want no more than these.
    """
    items: list[tuple[Morsel, ...]] = []
    at = 0
    while at < len(morsels):
        size = min(max(most, 1), 1 << len(items) // 4)
        items.append(tuple(morsels[at : at + size]))
        at += size
    return items


class Reader:
    """Reads morsels of a scan; used by all workers."""

    def __init__(
        self, node: Scan, conditions: Sequence[e.Expr], sieves: Sequence[Sieve], rows: int, ctx: ExecutionContext
    ) -> None:
        self.node = node
        self.conditions = conditions
        self.sieves = sieves
        self.ctx = ctx
        worth_it = ctx.compile == "always" or (ctx.compile != "never" and rows >= COMPILED_ROWS)
        types = [c.type for c in node.columns]
        self.fused = fused_filter(types, conditions) if conditions and worth_it and not node.address else None

    def run(self, item: Sequence[Morsel]) -> Iterator[Batch]:
        """The output for some morsels; small batches are put together."""
        waiting: list[Batch] = []
        for unit, low, high in item:
            batch = self.read(unit, low, high)
            if batch.length:
                waiting.append(batch)
            if sum(b.length for b in waiting) >= _BATCH_ROWS:
                yield concat_batches(waiting, ())
                waiting = []
        if waiting:
            yield concat_batches(waiting, ())

    def read(self, unit: Any, low: int, high: int) -> Batch:
        """The node's output for rows low..high of a unit."""
        part = _Part(unit, low, high, self.node)
        visible = unit.visible(self.ctx.snapshot, low, high)
        if visible is not None and visible.all():
            visible = None
        sieves = sorted((s for s in self.sieves if not s.useless), key=lambda s: s.share)
        if sieves and sieves[0].sharp:
            rows = self._sifted(part, sieves, None if visible is None else np.flatnonzero(visible))
            rows = self._matching(part, self.conditions, rows)
        else:
            rows = self._sifted(part, sieves, self._passing(part, visible))
        length = part.count if rows is None else len(rows)
        return Batch([part.column(i, rows) for i in range(part.width)], length)

    def _passing(self, part: _Part, visible: Array | None) -> Array | None:
        """Positions of the rows that are visible and meet the conditions; None when all do."""
        if self.fused is not None:
            found = self.fused.rows(part.batch(self.fused.shape.columns, None), part.zone, visible, self.ctx)
            if found is not None:
                return self._matching(part, self.fused.rest, None if len(found) == part.count else found)
        return self._matching(part, self.conditions, None if visible is None else np.flatnonzero(visible))

    def _matching(self, part: _Part, conditions: Sequence[e.Expr], rows: Array | None) -> Array | None:
        if not conditions:
            return rows
        wanted = {i for c in conditions for i in columns_read(c)}
        passed = matching_rows(conditions, part.batch(wanted, rows), self.ctx)
        if passed is None:
            return rows
        return passed if rows is None else rows[passed]

    def _sifted(self, part: _Part, sieves: Sequence[Sieve], rows: Array | None) -> Array | None:
        for sieve in sieves:
            if rows is None or len(rows):
                found = sieve.passing(part.column(sieve.column, None), rows)
                rows = found if rows is None else rows[found]
        return rows


class _Part:
    """Rows low..high of a unit, column by column as they are wanted."""

    __slots__ = ("_seen", "count", "high", "low", "node", "unit", "width")

    def __init__(self, unit: Any, low: int, high: int, node: Scan) -> None:
        self.unit, self.low, self.high, self.node = unit, low, high, node
        self.count = high - low
        self.width = len(node.ordinals) + node.address
        self._seen: dict[int, Vector] = {}

    def column(self, index: int, rows: Array | None) -> Vector:
        """Output column `index` at `rows` (None: all)."""
        view = self._seen.get(index)
        if view is None:
            if index == len(self.node.ordinals):
                view = Vector(INT8, self.unit.addresses(self.low, self.high))
            else:
                view = self.unit.batch([self.node.ordinals[index]], self.low, self.high).columns[0]
            self._seen[index] = view
        return view if rows is None else view.take(rows)

    def batch(self, wanted: Collection[int], rows: Array | None) -> Batch:
        """The output columns `wanted` at `rows` (None: all); the others are blank."""
        columns = [self.column(i, rows) if i in wanted else _BLANK for i in range(self.width)]
        return Batch(columns, self.count if rows is None else len(rows))

    def zone(self, index: int) -> tuple[int, int] | None:
        """Bounds of an output column's integers, of the whole unit; None when unknown."""
        found = self.unit.zone(self.node.ordinals[index])
        return None if found is None or found[0] is None else (int(found[0]), int(found[1]))


def zone_tests(node: Scan, conditions: Sequence[e.Expr], ctx: ExecutionContext) -> list[Callable[[Any], bool]]:
    """Tests that are true for units in which a condition (column compared with a constant) holds for no row."""
    tests = []
    for condition in conditions:
        found = comparison(condition, ctx)
        if found is not None and found[0] < len(node.ordinals):
            column, name, value = found
            tests.append(_excluder(node.ordinals[column], name, value))
    return tests


def comparison(condition: e.Expr, ctx: ExecutionContext) -> tuple[int, str, int] | None:
    """(column, operator, stored value) of a comparison of a zoned column with a non-null constant of the same
    stored form.
    """
    if not isinstance(condition, e.Call) or condition.name not in _SWAPPED or len(condition.args) != 2:
        return None
    left, right = condition.args
    name = condition.name
    if not isinstance(left, e.Column):
        left, right, name = right, left, _SWAPPED[name]
    if not isinstance(left, e.Column) or columns_read(right) or left.type.kind not in _ZONED:
        return None
    if not isinstance(right, e.Const | e.Param) and type(right).__name__ != "Held":
        return None
    vector = ev(right, Batch([], 1), ctx)
    value = to_python(vector)[0]
    if value is None:
        return None
    if left.type.kind is Kind.NUMERIC:
        scale = left.type.scale or 0
        if left.type.precision is None or not value.is_finite():
            return None
        scaled = value.scaleb(scale)
        if scaled != scaled.to_integral_value():
            return None
        value = int(scaled)
    return left.index, name, int(value)


def _excluder(ordinal: int, name: str, value: int) -> Callable[[Any], bool]:
    def excluded(unit: Any) -> bool:
        zone = unit.zone(ordinal)
        if zone is None or zone[0] is None or not isinstance(zone[0], int | np.integer):
            return False
        low, high = int(zone[0]), int(zone[1])
        match name:
            case "eq":
                return not low <= value <= high
            case "lt":
                return low >= value
            case "le":
                return low > value
            case "gt":
                return high <= value
            case _:
                return high < value

    return excluded
