"""WHERE with its subqueries."""

from __future__ import annotations

from typing import Any

from filestore.query import plan as p
from filestore.query.bind_expr import Context, ExprBinder
from filestore.query.plan import Plan
from filestore.query.scope import Scope


def apply_where(context: Context, scope: Scope, plan: Plan, node: Any, subquery: Any) -> Plan:
    """`plan` filtered by a WHERE condition."""
    condition = ExprBinder(context, scope, "WHERE", subquery).condition(node)
    return p.Filter(plan.columns, plan, condition)
