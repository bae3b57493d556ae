"""Chains of inner joins are put in the order that keeps intermediate results small: the largest input
streams, small ones are hashed.

    Join(Join(region, nation), lineitem)  ->  Join(Join(lineitem, nation), region)

Greedy: start from the largest input; join next, as build (right) side, the input by which the result grows
least: one that is bound by a unique key shrinks it by its own selectivity, any other connected one is taken
to multiply it by the square root of its rows. Estimates are rows of the table times a fixed factor per
condition: there are no column statistics yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import JoinKind, Plan
from filestore.query.rules.traversal import has_subquery, inputs, renumber, shift, with_inputs
from filestore.storage.schema import TableDef
from filestore.types import BOOL as _BOOL

Rows = Callable[[TableDef], float]

_SELECTIVITY: Final = {
    "eq": 0.02,
    "lt": 0.35,
    "le": 0.35,
    "gt": 0.35,
    "ge": 0.35,
    "like": 0.1,
    "ilike": 0.1,
    "ne": 0.95,
}
_OTHER: Final = 0.5
_VIRTUAL_ROWS: Final = 1000.0


def order_joins(plan: Plan, rows: Rows) -> Plan:
    """Reorders every chain of inner and cross joins; other joins keep their sides (but swap them when inner
    and lopsided)."""
    if isinstance(plan, p.Join) and plan.kind in (JoinKind.INNER, JoinKind.CROSS):
        return _Chain(plan, rows).ordered()
    parts = inputs(plan)
    return with_inputs(plan, [order_joins(x, rows) for x in parts]) if parts else plan


def estimate(plan: Plan, rows: Rows) -> float:
    """About how many rows a plan yields; at least 1."""
    match plan:
        case p.Scan():
            return max(rows(plan.table) * selectivity(plan.predicate), 1.0)
        case p.IndexLookup():
            return float(len(plan.keys))
        case p.IndexRange():
            return max(rows(plan.table) * 0.05, 1.0)
        case p.Values():
            return float(max(len(plan.rows), 1))
        case p.VirtualScan():
            return _VIRTUAL_ROWS
        case p.FunctionScan():
            return 1000.0
        case p.Filter():
            return max(estimate(plan.input, rows) * selectivity(plan.predicate), 1.0)
        case p.Aggregate():
            return max(estimate(plan.input, rows) * 0.1, 1.0) if plan.keys else 1.0
        case p.Limit(limit=e.Const(value=int(value))):
            return max(min(estimate(plan.input, rows), float(value)), 1.0)
        case p.Join():
            left, right = estimate(plan.left, rows), estimate(plan.right, rows)
            if plan.kind in (JoinKind.SEMI, JoinKind.ANTI):
                return max(left * 0.5, 1.0)
            if plan.kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI):
                return max(right * 0.5, 1.0)
            return max(left, right) if plan.left_keys else left * right
        case p.SetOp():
            return estimate(plan.left, rows) + estimate(plan.right, rows)
        case _:
            return max((estimate(x, rows) for x in inputs(plan)), default=1.0)


def selectivity(condition: e.Expr | None) -> float:
    """The share of rows that meet a condition, guessed from its form."""
    if condition is None:
        return 1.0
    match condition:
        case e.And(args=args):
            share = 1.0
            for x in args:
                share *= selectivity(x)
            return share
        case e.Or(args=args):
            return min(sum(selectivity(x) for x in args), 1.0)
        case e.Not(arg=arg):
            return 1.0 - selectivity(arg)
        case e.Call(name=name):
            return _SELECTIVITY.get(name, _OTHER)
        case e.InList(items=items):
            return min(len(items) * 0.02, 1.0)
        case e.Const(value=value):
            return 1.0 if value else 0.0
        case _:
            return _OTHER


class _Chain:
    """The inputs and conditions of a tree of inner joins, over one row of all inputs' columns."""

    def __init__(self, plan: p.Join, rows: Rows) -> None:
        self.rows = rows
        self.columns = plan.columns
        self.leaves: list[Plan] = []
        self.conditions: list[e.Expr] = []
        self._flatten(plan)

    def _flatten(self, plan: Plan) -> None:
        if not (isinstance(plan, p.Join) and plan.kind in (JoinKind.INNER, JoinKind.CROSS)):
            self.leaves.append(order_joins(plan, self.rows))
            return
        start = self._width()
        self._flatten(plan.left)
        middle = self._width()
        self._flatten(plan.right)
        for a, b in zip(plan.left_keys, plan.right_keys, strict=True):
            self.conditions.append(e.Call(_BOOL, "eq", (shift(a, start), shift(b, middle))))
        self.conditions += [shift(c, start) for c in e.conjuncts(plan.residual)]

    def _width(self) -> int:
        return sum(len(x.columns) for x in self.leaves)

    def ordered(self) -> Plan:
        """The joins in the chosen order; columns are put back into the original order by a projection when it
        changed."""
        starts: list[int] = []
        at = 0
        for leaf in self.leaves:
            starts.append(at)
            at += len(leaf.columns)
        owner = [i for i, leaf in enumerate(self.leaves) for _ in leaf.columns]
        order = self._order(owner, starts)
        pending = list(self.conditions)
        plan = self.leaves[order[0]]
        layout = list(range(starts[order[0]], starts[order[0]] + len(plan.columns)))
        joined = {order[0]}
        for i in order[1:]:
            leaf = self.leaves[i]
            joined.add(i)
            layout += range(starts[i], starts[i] + len(leaf.columns))
            ready = [c for c in pending if {owner[x] for x in e.columns_of(c)} <= joined]
            pending = [c for c in pending if not any(c is r for r in ready)]
            places = {old: new for new, old in enumerate(layout)}
            plan = _joined(plan, leaf, [renumber(c, places) for c in ready])
        plan = _filtered(plan, [renumber(c, {old: new for new, old in enumerate(layout)}) for c in pending])
        if layout == list(range(len(layout))):
            return plan
        back = [layout.index(i) for i in range(len(layout))]
        exprs = tuple(e.Column(plan.columns[i].type, i, plan.columns[i].name) for i in back)
        return p.Project(self.columns, plan, exprs)

    def _order(self, owner: list[int], starts: list[int]) -> list[int]:
        sizes = [estimate(leaf, self.rows) for leaf in self.leaves]
        tables = [_size(leaf, self.rows) for leaf in self.leaves]
        remaining = set(range(len(self.leaves)))
        first = max(remaining, key=lambda i: (tables[i], -i))
        order = [first]
        remaining.remove(first)
        while remaining:
            joined = set(order)
            growth = {i: self._growth(i, joined, owner, starts[i], sizes[i], tables[i]) for i in remaining}
            chosen = min(remaining, key=lambda i: (growth[i], sizes[i], i))
            order.append(chosen)
            remaining.remove(chosen)
        return order

    def _growth(
        self, leaf: int, joined: set[int], owner: list[int], start: int, size: float, table: float
    ) -> tuple[bool, float]:
        """(unconnected, by what factor joining a leaf next makes the result grow: its selectivity when a
        unique key is bound)."""
        bound: set[int] = set()
        for condition in self.conditions:
            if isinstance(condition, e.Call) and condition.name == "eq" and not has_subquery(condition):
                for here, there in (condition.args, condition.args[::-1]):
                    inner = here.arg if isinstance(here, e.Cast) else here
                    others = {owner[x] for x in e.columns_of(there)}
                    if isinstance(inner, e.Column) and owner[inner.index] == leaf and others and others <= joined:
                        bound.add(inner.index - start)
        if not bound:
            return True, size
        if _is_unique(self.leaves[leaf], bound):
            return False, size / max(table, 1.0)
        return False, float(size**0.5)


def _is_unique(plan: Plan, bound: set[int]) -> bool:
    """Whether equality on these output columns leaves one row at most."""
    match plan:
        case p.Scan():
            columns = {plan.ordinals[i] for i in bound if i < len(plan.ordinals)}
            return any(set(key.columns) <= columns for key in plan.table.keys)
        case p.Filter():
            return _is_unique(plan.input, bound)
        case p.Project():
            below = (plan.exprs[i] for i in bound)
            return _is_unique(plan.input, {x.index for x in below if isinstance(x, e.Column)})
        case p.Aggregate():
            return set(range(len(plan.keys))) <= bound
        case _:
            return False


def _size(plan: Plan, rows: Rows) -> float:
    """Rows before conditions: what streams through the whole chain should be the largest table."""
    if isinstance(plan, p.Scan):
        return rows(plan.table)
    return estimate(plan, rows)


def _joined(left: Plan, right: Plan, conditions: list[e.Expr]) -> Plan:
    from filestore.query.rules.extract_join_keys import split_condition

    columns = left.columns + right.columns
    left_keys, right_keys, residual = split_condition(e.conjunction(conditions), len(left.columns))
    kind = JoinKind.INNER if conditions else JoinKind.CROSS
    return p.Join(columns, kind, left, right, left_keys, right_keys, residual)


def _filtered(plan: Plan, conditions: list[e.Expr]) -> Plan:
    predicate = e.conjunction(conditions)
    return plan if predicate is None else p.Filter(plan.columns, plan, predicate)
