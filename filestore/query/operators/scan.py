"""Scan: the visible rows of a stored table that satisfy a predicate, one storage unit per piece of work.

Units whose zone map excludes every row are skipped. The predicate's columns are looked at first; then those whose
keys a join further up has hashed (`Sieve`); columns are copied only for the rows that pass (late materialisation:
`ScanUnit.batch` hands out views of the segment).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, ev, matching_rows
from filestore.query.key_set import KeySet
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.plan import Scan
from filestore.query.vectors import to_python
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8, INTEGER_KINDS, Kind

_ZONED = INTEGER_KINDS | {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TIME, Kind.NUMERIC}
_TRIAL_ROWS = 2 * MORSEL_ROWS
_KEEPS_MOST = 0.8
"""Asking costs about as much as copying a column or two: what keeps more than this is not asked again."""
_SWAPPED = {"eq": "eq", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


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

    def run(item: tuple[Any, int, int]) -> Iterator[Batch]:
        unit, low, high = item
        yield read_unit(unit, low, high, node, conditions, ctx, sieves)

    items = [
        (unit, low, min(low + MORSEL_ROWS, unit.rows)) for unit in units for low in range(0, unit.rows, MORSEL_ROWS)
    ]
    return Stream(items, run, sum(u.rows for u in units))


def read_unit(
    unit: Any,
    low: int,
    high: int,
    node: Scan,
    conditions: Sequence[e.Expr],
    ctx: ExecutionContext,
    sieves: Sequence[Sieve] = (),
) -> Batch:
    """The node's output for rows low..high of a unit."""
    visible = unit.visible(ctx.snapshot, low, high)
    rows: Array | None = None
    if visible is not None and not visible.all():
        rows = np.flatnonzero(visible)
    part = _Part(unit, low, high, node)
    if conditions:
        wanted = {i for c in conditions for i in columns_read(c)}
        blank = Vector(INT8, np.empty(0, np.int64))
        columns = [part.column(i, rows) if i in wanted else blank for i in range(part.width)]
        passed = matching_rows(conditions, Batch(columns, part.count if rows is None else len(rows)), ctx)
        if passed is not None:
            rows = passed if rows is None else rows[passed]
    for sieve in sorted(sieves, key=lambda s: s.share):
        if not sieve.useless and (rows is None or len(rows)):
            found = sieve.passing(part.column(sieve.column, None), rows)
            rows = found if rows is None else rows[found]
    length = part.count if rows is None else len(rows)
    return Batch([part.column(i, rows) for i in range(part.width)], length)


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
