"""Joins hand the keys that they have hashed to the scans that run after them: rows that will find no partner are
dropped where they are read.

    Join(Scan(lineitem), Scan(part, p_size = 1), l_partkey = p_partkey)
        ->  Join(Scan(lineitem, keys: l_partkey from p_partkey), Scan(part, p_size = 1), ...)

A join without which no row of its left side survives (INNER, SEMI, RIGHT ...) may restrict that side by its right
keys. The columns that such keys are equal to are followed through the joins of a spine (`plan.spine`) in both
directions, so that the keys of a small table also restrict the right sides that are hashed after it: the spine's right
sides are ranked, those that read the least first. Below, keys go through whatever hands a column on as it is:
projections, filters, group keys, distinct rows, the sides of further joins.

Why this is safe beyond inner joins: a row whose value is not among the keys is dropped by the join that handed them
out, and a null, which an outer join may put in its place, matches nothing there. So whatever becomes of the rows below
it does not matter. What is not known to be cheap is left alone: keys are columns of the kinds of `key_set`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.key_set import KINDS
from filestore.query.plan import JoinKind, KeyUse, Plan
from filestore.query.rules.traversal import inputs, with_inputs
from filestore.storage.schema import TableDef
from filestore.types import INTEGER_KINDS

Rows = Callable[[TableDef], float]

_DROPS_LEFT = frozenset(
    {JoinKind.INNER, JoinKind.SEMI, JoinKind.RIGHT, JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI}
)
_BOTH_WAYS = frozenset({JoinKind.INNER, JoinKind.SEMI})


def hand_out_keys(plan: Plan, rows: Rows) -> Plan:
    """The plan with `Join.rank`, `Join.hands_out` and `Scan.keys` filled in."""
    return _handed(plan, rows, itertools.count(1))


def _handed(plan: Plan, rows: Rows, numbers: Iterator[int]) -> Plan:
    if isinstance(plan, p.Join):
        return _Spine(plan, rows, numbers).rewritten()
    parts = inputs(plan)
    return with_inputs(plan, [_handed(x, rows, numbers) for x in parts]) if parts else plan


def _column(expr: e.Expr) -> int | None:
    """The column that a key shows, through casts between integers, which keep the value."""
    while isinstance(expr, e.Cast) and {expr.type.kind, expr.arg.type.kind} <= INTEGER_KINDS:
        expr = expr.arg
    return expr.index if isinstance(expr, e.Column) and expr.type.kind in KINDS else None


def _pairs(join: p.Join) -> list[tuple[int, int, int]]:
    """(position, left column, right column) of the join's keys that are columns on both sides."""
    sides = [(_column(a), _column(b)) for a, b in zip(join.left_keys, join.right_keys, strict=True)]
    return [(i, a, b) for i, (a, b) in enumerate(sides) if a is not None and b is not None]


class _Spine:
    """The joins of a spine, bottom first, over the row of all their columns."""

    def __init__(self, plan: p.Join, rows: Rows, numbers: Iterator[int]) -> None:
        self.rows = rows
        self.numbers = numbers
        self.joins = p.spine(plan)[::-1]
        self.leaves = [_handed(self.joins[0].left, rows, numbers)]  # the leftmost, then each join's right side
        self.leaves += [_handed(j.right, rows, numbers) for j in self.joins]
        widths = [len(self.joins[0].left.columns)]
        widths += [len(j.columns) - len(j.left.columns) if j.kind in _BOTH_WAYS or j.kind is JoinKind.LEFT else 0
                   for j in self.joins]  # fmt: skip
        self.starts = list(itertools.accumulate(widths, initial=0))
        work = [_work(j.right, rows) for j in self.joins]
        order = sorted(range(len(self.joins)), key=lambda i: (work[i], i))
        self.rank = {at: rank for rank, at in enumerate(order)}
        self.given: dict[int, list[tuple[int, int]]] = {}

    def rewritten(self) -> Plan:
        for at in sorted(self.rank, key=lambda i: self.rank[i]):
            if self.joins[at].kind in _DROPS_LEFT:
                for position, left, right in _pairs(self.joins[at]):
                    self._hand_out(at, position, left, right)
        plan = self.leaves[0]
        for at, join in enumerate(self.joins):
            plan = replace(
                join, left=plan, right=self.leaves[at + 1], rank=self.rank[at],
                hands_out=tuple(self.given.get(at, ())),
            )  # fmt: skip
        return plan

    def _hand_out(self, at: int, position: int, left: int, right: int) -> None:
        """Gives one key of join `at` to every leaf that runs after it and has a column equal to it."""
        number = 0
        for leaf, column in self._equal_to(at, left):
            if leaf > 0 and self.rank[leaf - 1] <= self.rank[at]:
                continue
            number = number or next(self.numbers)
            use = KeyUse(0, number, self.joins[at].right.columns[right].name)
            changed = _push(self.leaves[leaf], column, use)
            if changed is not self.leaves[leaf]:
                self.leaves[leaf] = changed
                if (position, number) not in self.given.setdefault(at, []):
                    self.given[at].append((position, number))

    def _equal_to(self, at: int, left: int) -> list[tuple[int, int]]:
        """(leaf, its column) of everything that equals column `left` of the spine's row in the rows that matter."""
        found: set[int] = {left}
        leaves: dict[tuple[int, int], None] = {}
        grown = True
        while grown:
            grown = False
            for i, join in enumerate(self.joins):
                for _, a, b in _pairs(join):
                    place = self.starts[i + 1] + b if join.kind in (JoinKind.INNER, JoinKind.LEFT) else None
                    if a in found:
                        if i != at:
                            leaves[(i + 1, b)] = None
                        if place is not None and place not in found and join.kind is JoinKind.INNER:
                            found.add(place)
                            grown = True
                    elif place in found and join.kind in _BOTH_WAYS:
                        found.add(a)
                        grown = True
        for column in found:
            leaf = max(k for k in range(len(self.leaves)) if self.starts[k] <= column)
            if leaf != at + 1:
                leaves[(leaf, column - self.starts[leaf])] = None
        return sorted(leaves)


def _work(plan: Plan, rows: Rows) -> float:
    """The stored rows that a plan reads."""
    if isinstance(plan, p.Scan | p.IndexRange):
        return rows(plan.table)
    return sum((_work(x, rows) for x in inputs(plan)), 0.0)


def _push(plan: Plan, column: int, use: KeyUse) -> Plan:
    """The plan with the keys applied to its output column as far down as that goes; itself when nowhere."""
    match plan:
        case p.Scan():
            if column >= len(plan.ordinals) or any(k.column == column and k.number == use.number for k in plan.keys):
                return plan
            return replace(plan, keys=(*plan.keys, replace(use, column=column)))
        case p.Filter() | p.Sort(limit=None) | p.Distinct(keys=()):
            return _over(plan, column, use)
        case p.Project(exprs=exprs):
            below = _column(exprs[column])
            return plan if below is None else _over(plan, below, use)
        case p.Aggregate(keys=keys):
            key = _column(keys[column]) if column < len(keys) else None
            return plan if key is None else _over(plan, key, use)
        case p.Distinct(keys=keys):
            return _over(plan, column, use) if any(_column(k) == column for k in keys) else plan
        case p.SetOp():
            return _rebuilt(plan, [_push(x, column, use) for x in inputs(plan)])
        case p.Join():
            return _push_join(plan, column, use)
        case _:
            return plan


def _over(plan: Plan, column: int, use: KeyUse) -> Plan:
    (below,) = inputs(plan)
    return _rebuilt(plan, [_push(below, column, use)])


def _rebuilt(plan: Plan, parts: list[Plan]) -> Plan:
    same = all(a is b for a, b in zip(inputs(plan), parts, strict=True))
    return plan if same else with_inputs(plan, parts)


def _push_join(plan: p.Join, column: int, use: KeyUse) -> Plan:
    """To the side that has the column, and to the other one where that is bound to be equal to it."""
    width = 0 if plan.kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI) else len(plan.left.columns)
    on_left = column < width
    here, there = (plan.left, plan.right) if on_left else (plan.right, plan.left)
    own = column if on_left else column - width
    here = _push(here, own, use)
    for _, a, b in _pairs(plan):
        mine, other = (a, b) if on_left else (b, a)
        if mine == own:
            there = _push(there, other, use)
    return _rebuilt(plan, [here, there] if on_left else [there, here])
