"""A Limit above a Sort makes it a top-k.

Limit(Sort(x, a), 10, offset 5)  ->  Limit(Sort(x, a, keep 15), 10, offset 5)
"""

from __future__ import annotations

from dataclasses import replace

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, is_fixed
from filestore.types import INT8


def limit_into_sort(plan: Plan) -> Plan:
    """Tells each Sort below a Limit (through projections) how many rows are wanted of it."""
    return bottom_up(plan, _limit)


def _limit(plan: Plan) -> Plan:
    if not isinstance(plan, p.Limit) or plan.limit is None or not is_fixed(plan.limit):
        return plan
    wanted = plan.limit
    if plan.offset is not None:
        if not is_fixed(plan.offset):
            return plan
        wanted = _sum(wanted, plan.offset)
    return replace(plan, input=_bounded(plan.input, wanted))


def _sum(a: e.Expr, b: e.Expr) -> e.Expr:
    if isinstance(a, e.Const) and isinstance(b, e.Const) and a.value is not None and b.value is not None:
        total = a.value + b.value
        if a.value >= 0 and b.value >= 0 and total < 1 << 63:
            return e.Const(INT8, total)
    # A null OFFSET is none; null LIMIT stays null, which is no limit.
    return e.Call(INT8, "add", (a, e.Coalesce(INT8, (b, e.Const(INT8, 0)))))


def _bounded(plan: Plan, wanted: e.Expr) -> Plan:
    if isinstance(plan, p.Project):
        return replace(plan, input=_bounded(plan.input, wanted))
    if isinstance(plan, p.Sort) and plan.limit is None:
        return replace(plan, limit=wanted)
    return plan
