"""A projection of a projection is one projection; one that changes nothing is none.

Project(Project(x, a, b + 1), #1)  ->  Project(x, b + 1)
"""

from __future__ import annotations

from dataclasses import replace

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, has_subquery, is_volatile, substitute


def merge_projects(plan: Plan) -> Plan:
    """Merges where no expression would be computed twice."""
    return bottom_up(plan, _merge)


def _merge(plan: Plan) -> Plan:
    if not isinstance(plan, p.Project):
        return plan
    inner = plan.input
    if isinstance(inner, p.Project) and _may_merge(plan, inner):
        plan = p.Project(plan.columns, inner.input, tuple(substitute(x, inner.exprs) for x in plan.exprs))
        return _merge(plan)
    same = len(plan.exprs) == len(inner.columns) and all(
        isinstance(x, e.Column) and x.index == i for i, x in enumerate(plan.exprs)
    )
    if same and not isinstance(inner, p.OneRow):
        return replace(inner, columns=plan.columns)
    return plan


def _may_merge(outer: p.Project, inner: p.Project) -> bool:
    uses = [0] * len(inner.exprs)
    for x in outer.exprs:
        _count(x, uses)
    for times, x in zip(uses, inner.exprs, strict=True):
        if times and (is_volatile(x) or has_subquery(x)):
            return False
        if times > 1 and not isinstance(x, e.Column | e.Const | e.Param):
            return False
    return True


def _count(expr: e.Expr, uses: list[int]) -> None:
    if isinstance(expr, e.Column):
        uses[expr.index] += 1
    for part in e.children(expr):
        _count(part, uses)
