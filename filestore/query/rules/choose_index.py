"""Scans become index lookups and ranges where a key's columns are bound, or where a key's order is asked for.

    Scan(t, id = $1 AND b > 2)            ->  IndexLookup(t_pkey: id = $1; b > 2)
    Limit(Sort(Scan(t), id), 10)          ->  Limit(IndexRange(t_pkey), 10)

A range without a bound prefix is taken only when it is closed on both sides and looks small: a scan reads a
row in a nanosecond or two, an index range in a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, is_fixed
from filestore.storage.schema import KeyDef, TableDef
from filestore.types import BOOL, INTEGER_KINDS, Kind, SqlType

Rows = Callable[[TableDef], float]

_FLIPPED: Final = {"eq": "eq", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_LIMITS: Final = {
    Kind.INT2: (-(1 << 15), (1 << 15) - 1),
    Kind.INT4: (-(1 << 31), (1 << 31) - 1),
    Kind.INT8: (-(1 << 63), (1 << 63) - 1),
}
# An IN list longer than this is left to the scan, whose hash set does not care.
LOOKUPS_MAX: Final = 1000
# A closed range of integers at most this share of the rows is read by the index.
RANGE_SHARE: Final = 0.05


def choose_index(plan: Plan, rows: Rows) -> Plan:
    """Replaces scans by the best index access; `rows` estimates a table's rows."""
    return bottom_up(plan, lambda node: _choose(node, rows))


def _choose(node: Plan, rows: Rows) -> Plan:
    if isinstance(node, p.Scan):
        return _indexed(node, rows)
    if isinstance(node, p.Limit):
        return _ordered(node)
    return node


def _bindings(scan: p.Scan) -> list[tuple[e.Expr, int, str, tuple[e.Expr, ...]]]:
    """(condition, table column, operator, values) of each conjunct that binds one column by a fixed value of
    its own type."""
    found: list[tuple[e.Expr, int, str, tuple[e.Expr, ...]]] = []
    for condition in e.conjuncts(scan.predicate):
        if (
            isinstance(condition, e.InList)
            and len(condition.items) <= LOOKUPS_MAX
            and all(is_fixed(x) for x in condition.items)
        ):
            column = _column(condition.arg, scan)
            values = [] if column is None else [_as_key(x, column[1]) for x in condition.items]
            if column is not None and all(v is not None for v in values):
                found.append((condition, column[0], "in", tuple(v for v in values if v is not None)))
        elif isinstance(condition, e.Call) and condition.name in _FLIPPED:
            left, right = condition.args
            name = condition.name
            if is_fixed(left):
                left, right, name = right, left, _FLIPPED[name]
            column = _column(left, scan)
            if column is None or not is_fixed(right):
                continue
            value = _as_key(right, column[1])
            if value is not None:
                found.append((condition, column[0], name, (value,)))
    return found


def _column(expr: e.Expr, scan: p.Scan) -> tuple[int, SqlType] | None:
    """(table column, its type) that an operand is, seen through casts that change neither order nor equality."""
    if isinstance(expr, e.Cast):
        inner = expr.arg
        widened = inner.type.kind in INTEGER_KINDS and expr.type.kind in INTEGER_KINDS
        same_text = (
            inner.type.kind in (Kind.VARCHAR, Kind.TEXT)
            and expr.type.kind in (Kind.TEXT, Kind.VARCHAR)
            and expr.type.length is None
        )
        if not (widened or same_text):
            return None
        expr = inner
    if not isinstance(expr, e.Column) or expr.index >= len(scan.ordinals):
        return None
    return scan.ordinals[expr.index], expr.type


def _as_key(value: e.Expr, target: SqlType) -> e.Expr | None:
    """The value in the key column's kind; None when that could fail or change what is found. Null finds
    nothing."""
    plain = SqlType(target.kind)
    if value.type.kind is target.kind:
        return value if target.kind is not Kind.NUMERIC else None
    if isinstance(value, e.Const) and value.value is None:
        return e.Const(plain, None)
    if target.kind in (Kind.VARCHAR, Kind.TEXT) and value.type.kind in (Kind.TEXT, Kind.VARCHAR):
        return e.Const(plain, value.value) if isinstance(value, e.Const) else e.Cast(plain, value, False)
    if target.kind in INTEGER_KINDS and value.type.kind in INTEGER_KINDS:
        low, high = _LIMITS[target.kind]
        if isinstance(value, e.Const):
            return e.Const(plain, value.value) if low <= value.value <= high else None
        # A wider parameter may not fit: then no row can equal it, and null finds none.
        fits = e.And(
            BOOL,
            (
                e.Call(BOOL, "ge", (value, e.Const(value.type, low))),
                e.Call(BOOL, "le", (value, e.Const(value.type, high))),
            ),
        )
        return e.Case(plain, ((fits, e.Cast(plain, value, False)),), e.Const(plain, None))
    return None


def _indexed(scan: p.Scan, rows: Rows) -> Plan:
    if scan.predicate is None:
        return scan
    bindings = _bindings(scan)
    if not bindings:
        return scan
    best: Plan | None = None
    for key in sorted(scan.table.keys, key=lambda k: (not k.primary, len(k.columns))):
        lookup = _lookup(scan, key, bindings)
        if lookup is not None:
            return lookup
        if best is None:
            best = _range(scan, key, bindings, rows)
    return best if best is not None else scan


def _rest(scan: p.Scan, used: list[e.Expr]) -> e.Expr | None:
    return e.conjunction([c for c in e.conjuncts(scan.predicate) if not any(c is u for u in used)])


def _lookup(scan: p.Scan, key: KeyDef, bindings: list[Any]) -> Plan | None:
    used: list[e.Expr] = []
    tuples: list[tuple[e.Expr, ...]] = [()]
    for ordinal in key.columns:
        match = next((b for b in bindings if b[1] == ordinal and b[2] in ("eq", "in")), None)
        if match is None or len(tuples) * len(match[3]) > LOOKUPS_MAX:
            return None
        used.append(match[0])
        values = list(dict.fromkeys(match[3]))
        tuples = [(*t, v) for t in tuples for v in values]
    return p.IndexLookup(scan.columns, scan.table, key, tuple(tuples), scan.ordinals, _rest(scan, used), scan.address)


def _bound(bindings: list[Any], ordinal: int, names: tuple[str, ...]) -> Any:
    return next((b for b in bindings if b[1] == ordinal and b[2] in names and _certain(b[3][0])), None)


def _certain(value: e.Expr) -> bool:
    """A bound that may not be null by narrowing: a range below null is another thing than no row."""
    return not isinstance(value, e.Case)


def _range(scan: p.Scan, key: KeyDef, bindings: list[Any], rows: Rows) -> Plan | None:
    used: list[e.Expr] = []
    prefix: list[e.Expr] = []
    for ordinal in key.columns:
        match = next((b for b in bindings if b[1] == ordinal and b[2] == "eq"), None)
        if match is None:
            break
        used.append(match[0])
        prefix.append(match[3][0])
    low = high = None
    if len(prefix) < len(key.columns):
        ordinal = key.columns[len(prefix)]
        low, high = _bound(bindings, ordinal, ("gt", "ge")), _bound(bindings, ordinal, ("lt", "le"))
    if not prefix and not (low is not None and high is not None and _is_small(low[3][0], high[3][0], rows(scan.table))):
        return None
    used += [b[0] for b in (low, high) if b is not None]
    return p.IndexRange(
        scan.columns,
        scan.table,
        key,
        tuple(prefix),
        low[3][0] if low is not None else None,
        low is not None and low[2] == "ge",
        high[3][0] if high is not None else None,
        high is not None and high[2] == "le",
        scan.ordinals,
        _rest(scan, used),
        scan.address,
    )


def _is_small(low: e.Expr, high: e.Expr, rows: float) -> bool:
    """Whether a closed range is likely to hold few of the rows. Parameters are taken to ask for little."""
    if isinstance(low, e.Const) and isinstance(high, e.Const):
        if isinstance(low.value, int) and isinstance(high.value, int):
            return high.value - low.value <= max(rows * RANGE_SHARE, 100)
        return False
    return True


# --- order ----------------------------------------------------------------------------------------


def _ordered(limit: p.Limit) -> Plan:
    """Limit over Sort over a scan in the order of a key: read in that order, and stop."""
    projects: list[p.Project] = []
    node: Plan = limit.input
    while isinstance(node, p.Project):
        projects.append(node)
        node = node.input
    if not isinstance(node, p.Sort) or limit.limit is None:
        return limit
    below: list[p.Project] = []
    inner: Plan = node.input
    while isinstance(inner, p.Project):
        below.append(inner)
        inner = inner.input
    columns = _sort_columns(node, below)
    if columns is None:
        return limit
    found = _in_order(inner, columns)
    if found is None:
        return limit
    for project in reversed(below):
        found = replace(project, input=found)
    for project in reversed(projects):
        found = replace(project, input=found)
    return replace(limit, input=found)


def _sort_columns(sort: p.Sort, below: list[p.Project]) -> list[tuple[int, bool, bool]] | None:
    """(column of the scan, descending, nulls first) of each sort key; None when one is not a plain column."""
    found: list[tuple[int, bool, bool]] = []
    for key in sort.keys:
        expr = key.expr
        for project in below:
            if not isinstance(expr, e.Column):
                return None
            expr = project.exprs[expr.index]
        if not isinstance(expr, e.Column):
            return None
        found.append((expr.index, key.descending, key.nulls_first))
    return found


def _in_order(scan: Plan, columns: list[tuple[int, bool, bool]]) -> Plan | None:
    """The scan as a range of a key whose order this is, None when there is none."""
    if isinstance(scan, p.IndexRange):
        wanted = _key_order(scan, columns)
        start = len(scan.prefix)
        keys = scan.key.columns
        if wanted is None or not any(_follows(wanted[0], keys[at:]) for at in range(start + 1)):
            return None
        return replace(scan, reverse=wanted[1])
    if not isinstance(scan, p.Scan) or scan.predicate is not None:
        return None
    wanted = _key_order(scan, columns)
    if wanted is None:
        return None
    for key in scan.table.keys:
        if _follows(wanted[0], key.columns):
            return p.IndexRange(
                scan.columns,
                scan.table,
                key,
                (),
                None,
                False,
                None,
                False,
                scan.ordinals,
                None,
                scan.address,
                wanted[1],
            )
    return None


def _key_order(scan: p.Scan | p.IndexRange, columns: list[tuple[int, bool, bool]]) -> tuple[list[int], bool] | None:
    """(table columns in order, reversed); None for mixed directions or columns that may be null."""
    if len({descending for _, descending, _ in columns}) != 1:
        return None
    ordinals: list[int] = []
    for index, _, _ in columns:
        if index >= len(scan.ordinals) or not scan.table.columns[scan.ordinals[index]].not_null:
            return None
        if scan.table.columns[scan.ordinals[index]].type.kind in (Kind.FLOAT4, Kind.FLOAT8, Kind.NUMERIC):
            return None
        ordinals.append(scan.ordinals[index])
    return ordinals, columns[0][1]


def _follows(wanted: list[int], keys: tuple[int, ...]) -> bool:
    """Whether rows in the order of `keys` are in the wanted order; a whole unique key may be followed by
    anything."""
    if len(wanted) <= len(keys):
        return tuple(wanted) == tuple(keys[: len(wanted)])
    return False
