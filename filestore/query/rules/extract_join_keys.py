"""Equalities between the two sides of a join become hash keys.

Join(cross, a, b) under Filter(a.x = b.y AND a.z > b.z)  ->  Join(inner, a, b, keys x = y, residual z > z)
"""

from __future__ import annotations

from dataclasses import replace

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, has_subquery, shift


def extract_join_keys(plan: Plan) -> Plan:
    """Moves equalities from residual conditions into the keys; a CROSS join that gets a condition becomes
    INNER."""
    return bottom_up(plan, _extract)


def _extract(plan: Plan) -> Plan:
    if not isinstance(plan, p.Join) or plan.residual is None:
        return plan
    left, right, rest = split_condition(plan.residual, len(plan.left.columns))
    kind = p.JoinKind.INNER if plan.kind is p.JoinKind.CROSS else plan.kind
    if not left:
        return plan if kind is plan.kind else replace(plan, kind=kind)
    return replace(plan, kind=kind, left_keys=plan.left_keys + left, right_keys=plan.right_keys + right, residual=rest)


def split_condition(
    condition: e.Expr | None, width: int
) -> tuple[tuple[e.Expr, ...], tuple[e.Expr, ...], e.Expr | None]:
    """Left keys, right keys and the rest of a condition over left columns (numbers below `width`) followed by
    right ones."""
    left_keys: list[e.Expr] = []
    right_keys: list[e.Expr] = []
    rest: list[e.Expr] = []
    for part in e.conjuncts(condition):
        sides = _sides(part, width)
        if sides is None:
            rest.append(part)
        else:
            left_keys.append(sides[0])
            right_keys.append(shift(sides[1], -width))
    return tuple(left_keys), tuple(right_keys), e.conjunction(rest)


def _sides(part: e.Expr, width: int) -> tuple[e.Expr, e.Expr] | None:
    if not isinstance(part, e.Call) or part.name != "eq" or has_subquery(part):
        return None
    a, b = part.args
    left, right = e.columns_of(a), e.columns_of(b)
    if not left or not right:
        return None
    if max(left) < width <= min(right):
        return a, b
    if max(right) < width <= min(left):
        return b, a
    return None
