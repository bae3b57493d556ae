"""Scan: the visible rows of a stored table that satisfy a predicate, one storage unit per piece of work.

Units whose zone map excludes every row are skipped. The predicate's columns are read first; the others only for
the rows that pass (late materialisation: `ScanUnit.batch` hands out views of the segment, a gather copies only
what is kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, ev, matching_rows
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.plan import Scan
from filestore.query.vectors import to_python
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INT8, INTEGER_KINDS, Kind

_ZONED = INTEGER_KINDS | {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TIME, Kind.NUMERIC}
_SWAPPED = {"eq": "eq", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def scan(node: Scan, predicate: e.Expr | None, ctx: ExecutionContext) -> Stream:
    """The rows of a Scan node; `predicate` is the node's, with its subqueries held."""
    with ctx.lock:  # a commit under way would be seen in some of a unit's counters
        units = ctx.table(node.table).units(ctx.snapshot)
    conditions = e.conjuncts(predicate)
    skip = zone_tests(node, conditions, ctx)
    if skip:
        units = [u for u in units if not any(excluded(u) for excluded in skip)]

    def run(item: tuple[Any, int, int]) -> Iterator[Batch]:
        unit, low, high = item
        yield read_unit(unit, low, high, node, conditions, ctx)

    items = [
        (unit, low, min(low + MORSEL_ROWS, unit.rows)) for unit in units for low in range(0, unit.rows, MORSEL_ROWS)
    ]
    return Stream(items, run, sum(u.rows for u in units))


def read_unit(unit: Any, low: int, high: int, node: Scan, conditions: Sequence[e.Expr], ctx: ExecutionContext) -> Batch:
    """The node's output for rows low..high of a unit."""
    count = high - low
    width = len(node.ordinals)
    wanted = {i for c in conditions for i in columns_read(c)}
    columns: list[Vector | None] = [None] * (width + (1 if node.address else 0))
    first = sorted(i for i in wanted if i < width)
    visible = unit.visible(ctx.snapshot, low, high)
    rows: Array | None = None
    if visible is not None and not visible.all():
        rows = np.flatnonzero(visible)
    _fill(columns, unit, node, first, low, high, rows, width in wanted)
    if conditions:
        length = count if rows is None else len(rows)
        blank = Vector(INT8, np.empty(0, np.int64))
        passed = matching_rows(conditions, Batch([c if c is not None else blank for c in columns], length), ctx)
        if passed is not None:
            columns = [None if c is None else c.take(passed) for c in columns]
            rows = passed if rows is None else rows[passed]
    length = count if rows is None else len(rows)
    missing = [i for i in range(width) if columns[i] is None]
    _fill(columns, unit, node, missing, low, high, rows, node.address and columns[-1] is None)
    return Batch([c for c in columns if c is not None], length)


def _fill(
    columns: list[Vector | None],
    unit: Any,
    node: Scan,
    wanted: Sequence[int],
    low: int,
    high: int,
    rows: Array | None,
    address: bool,
) -> None:
    """Reads some output columns of a unit, at `rows` (None: all)."""
    if wanted:
        batch = unit.batch([node.ordinals[i] for i in wanted], low, high)
        for i, column in zip(wanted, batch.columns, strict=True):
            columns[i] = column if rows is None else column.take(rows)
    if address:
        addresses = unit.addresses(low, high)
        columns[len(node.ordinals)] = Vector(INT8, addresses if rows is None else addresses[rows])


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
