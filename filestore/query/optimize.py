"""The rules, in order: a bound plan in, one with the same rows out.

`RULES` can be read, cut or reordered; each rule is a function of a plan (and of the tables' sizes) in a file
of its own name, with a fixture of that name under tests/query/plans. Plans of subqueries and common table
expressions go through the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Bound, Plan
from filestore.query.rules.choose_build_side import choose_build_side
from filestore.query.rules.choose_index import choose_index
from filestore.query.rules.extract_join_keys import extract_join_keys
from filestore.query.rules.fold_constants import fold_constants
from filestore.query.rules.hand_out_keys import hand_out_keys
from filestore.query.rules.limit_into_sort import limit_into_sort
from filestore.query.rules.merge_projects import merge_projects
from filestore.query.rules.order_joins import order_joins
from filestore.query.rules.prune_columns import prune_columns
from filestore.query.rules.push_down_predicates import push_down_predicates
from filestore.query.rules.traversal import bottom_up, has_subquery, map_exprs, map_subplans
from filestore.query.rules.unwrap_casts import unwrap_casts
from filestore.query.scope import Catalog
from filestore.storage.schema import TableDef

Rows = Callable[[TableDef], float]
Rule = Callable[[Plan, Rows], Plan]


def _plain(rule: Callable[[Plan], Plan]) -> Rule:
    def apply(plan: Plan, _rows: Rows) -> Plan:
        return rule(plan)

    apply.__name__ = rule.__name__
    return apply


RULES: Final[tuple[Rule, ...]] = (
    _plain(fold_constants),
    _plain(unwrap_casts),
    _plain(push_down_predicates),
    _plain(extract_join_keys),
    order_joins,
    choose_build_side,
    _plain(merge_projects),
    choose_index,
    _plain(prune_columns),
    _plain(merge_projects),
    _plain(limit_into_sort),
    hand_out_keys,
)


def optimize(bound: Bound, catalog: Catalog) -> Bound:
    """The same statement with its plan rewritten; EXPLAIN's inner statement likewise."""
    if isinstance(bound.plan, p.Explain):
        inner = optimize(bound.plan.statement, catalog)
        return replace(bound, plan=replace(bound.plan, statement=inner))
    plan = optimize_plan(bound.plan, catalog.rows)
    if plan.columns != bound.plan.columns and len(plan.columns) == len(bound.plan.columns):
        plan = replace(plan, columns=bound.plan.columns)  # rules keep rows, not what the statement calls its columns
    return replace(bound, plan=plan)


def optimize_plan(plan: Plan, rows: Rows) -> Plan:
    """All rules over a plan; over the plans of its subqueries first."""

    def inner(expr: e.Expr) -> e.Expr:
        return map_subplans(expr, lambda sub: optimize_plan(sub, rows)) if has_subquery(expr) else expr

    plan = bottom_up(plan, lambda node: map_exprs(node, inner))
    for rule in RULES:
        plan = rule(plan, rows)
    return plan
