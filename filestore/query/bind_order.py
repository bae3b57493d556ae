"""Clauses that every query form shares: ORDER BY over finished outputs, LIMIT, OFFSET; refusal of those not built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_context import Context, name_of, offset_of
from filestore.query.bind_expr import ExprBinder
from filestore.query.coerce import can_coerce
from filestore.query.hints import not_supported
from filestore.query.plan import Plan
from filestore.query.scope import Scope
from filestore.types import INT8

SubqueryBinder = Callable[[Any, Scope], tuple[Plan, Scope]]

_CLAUSES: Final = {
    "windows": "WINDOW", "into": "SELECT INTO", "locks": "SELECT FOR UPDATE", "laterals": "LATERAL VIEW",
    "qualify": "QUALIFY", "sample": "TABLESAMPLE", "pivots": "PIVOT", "hint": "hints", "kind": "SELECT AS",
    "match": "MATCH_RECOGNIZE", "connect": "CONNECT BY", "cluster": "CLUSTER BY",
    "distribute": "DISTRIBUTE BY", "sort": "SORT BY", "prewhere": "PREWHERE", "format": "FORMAT",
    "settings": "SETTINGS", "options": "OPTION", "operation_modifiers": "this modifier", "exclude": "EXCLUDE",
    "for_": "FOR",
}  # fmt: skip


def position(context: Context, node: Any) -> int | None:
    offset = offset_of(node)
    return None if offset is None else context.source.position(offset)


def refuse_others(context: Context, node: Any, allowed: frozenset[str]) -> None:
    """0A000 for every clause that is set and not allowed here."""
    for key, value in node.args.items():
        if not value or key in allowed:
            continue
        what = _CLAUSES.get(key, key.strip("_").upper())
        hint = None
        if key == "locks":
            update = value[0].args.get("update")
            what = "SELECT FOR UPDATE" if update else "SELECT FOR SHARE"
            hint = "Under REPEATABLE READ a conflicting update is reported as 40001."
        raise not_supported(what, position(context, node), hint)


def order_outputs(context: Context, node: Any, plan: Plan, subquery: SubqueryBinder) -> Plan:
    """ORDER BY of a set operation, VALUES or parenthesised query: only its output columns can be named."""
    order = node.args.get("order")
    if order is not None:
        keys: list[p.SortKey] = []
        for item in order.expressions:
            index = ordinal(context, item.this, len(plan.columns), "ORDER BY")
            if index is None:
                names = [c.name for c in plan.columns]
                plain = isinstance(item.this, exp.Column) and not item.this.args.get("table")
                if plain and name_of(item.this.this) not in names:
                    raise errors.UndefinedColumn(
                        f'column "{name_of(item.this.this)}" does not exist', position=position(context, item)
                    )
                if not plain:
                    raise errors.FeatureNotSupported(
                        "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        hint="Only result column names can be used, not expressions or functions.",
                        position=position(context, item),
                    )
                index = names.index(name_of(item.this.this))
            keys.append(sort_key(e.Column(plan.columns[index].type, index, plan.columns[index].name), item))
        plan = p.Sort(plan.columns, plan, tuple(keys))
    return limited(context, node, plan, subquery)


def ordinal(context: Context, node: Any, count: int, clause: str) -> int | None:
    """The column a bare integer names; errors with 42P10 when out of range."""
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string or not str(node.this).isdecimal():
        raise errors.SqlSyntaxError(f"non-integer constant in {clause}", position=position(context, node))
    index = int(node.this) - 1
    if not 0 <= index < count:
        raise errors.InvalidColumnReference(
            f"{clause} position {node.this} is not in select list", position=position(context, node)
        )
    return index


def sort_key(expr: e.Expr, item: Any) -> p.SortKey:
    return p.SortKey(expr, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))


def limited(context: Context, node: Any, plan: Plan, subquery: SubqueryBinder) -> Plan:
    limit, offset = node.args.get("limit"), node.args.get("offset")
    if limit is None and offset is None:
        return plan
    count: Any = None
    if isinstance(limit, exp.Fetch):
        options = limit.args.get("limit_options")
        if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
            raise not_supported("FETCH FIRST ... WITH TIES", position(context, limit))
        count = limit.args.get("count") or exp.Literal.number(1)
    elif limit is not None:
        count = limit.expression
        if isinstance(count, exp.Var) and str(count.this).upper() == "ALL":
            count = None
    empty = Scope(None)

    def bound(value: Any, clause: str) -> e.Expr | None:
        if value is None or isinstance(value, exp.Null):
            return None
        binder = ExprBinder(context, empty, clause, subquery)
        try:
            expr = binder.bind(value)
        except errors.UndefinedColumn:
            raise errors.InvalidColumnReference(
                f"argument of {clause} must not contain variables", position=position(context, value)
            ) from None
        if not can_coerce(expr.type, INT8, "assignment"):
            raise errors.DatatypeMismatch(
                f"argument of {clause} must be type bigint, not type {expr.type.name}",
                position=position(context, value),
            )
        return context.coercion.to(expr, INT8, "assignment", position(context, value))

    low = bound(offset.expression if offset is not None else None, "OFFSET")
    high = bound(count, "LIMIT")
    return plan if low is None and high is None else p.Limit(plan.columns, plan, high, low)
