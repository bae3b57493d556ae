"""Binds queries of every form: SELECT (by `bind_select.py`), VALUES, set operations, WITH, and subqueries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_context import Context, name_of
from filestore.query.bind_expr import ExprBinder
from filestore.query.bind_order import SubqueryBinder, order_outputs, position, refuse_others
from filestore.query.bind_select import Select
from filestore.query.coerce import can_coerce
from filestore.query.hints import not_supported
from filestore.query.plan import OutputColumn, Plan
from filestore.query.scope import Scope
from filestore.types import TEXT, Kind, SqlType


def bind_query(context: Context, node: Any, outer: Scope | None, *, settle: bool = True) -> tuple[Plan, Scope]:
    """The plan of a query and the scope it was bound in (its `correlated` tells what it read from outside).

    Unless `settle`, literals in the select list keep type unknown (for INSERT ... SELECT and set operations).
    """
    with_ = node.args.get("with_")
    if with_ is not None:
        return _bind_with(context, node, with_, outer, settle=settle)
    return _bind_body(context, node, outer, settle=settle)


def _bind_body(context: Context, node: Any, outer: Scope | None, *, settle: bool) -> tuple[Plan, Scope]:
    """A query whose WITH is already in scope."""
    if isinstance(node, exp.Select):
        return Select(context, outer, bind_query, subquery_binder(context)).bind(node, settle=settle)
    if isinstance(node, exp.SetOperation):
        return _bind_set(context, node, outer, settle=settle)
    if isinstance(node, exp.Values):
        return _bind_values(context, node, outer)
    if isinstance(node, exp.Subquery):
        plan, scope = bind_query(context, node.this, outer, settle=settle)
        refuse_others(context, node, frozenset({"this", "alias", "order", "limit", "offset", "with_"}))
        return order_outputs(context, node, plan, subquery_binder(context)), scope
    if isinstance(node, exp.Table):
        select = exp.Select(expressions=[exp.Star()], from_=exp.From(this=node))
        return Select(context, outer, bind_query, subquery_binder(context)).bind(select, settle=settle)
    raise not_supported(f"{type(node).__name__} as a query", position(context, node))


# --- WITH -----------------------------------------------------------------------------------------


def _bind_with(context: Context, node: Any, with_: Any, outer: Scope | None, *, settle: bool) -> tuple[Plan, Scope]:
    if with_.args.get("recursive"):
        raise not_supported("WITH RECURSIVE", position(context, with_))
    frame: dict[str, tuple[str, tuple[OutputColumn, ...], list[str]]] = {}
    context.ctes.append(frame)
    plans: list[tuple[str, Plan]] = []
    try:
        for cte in with_.expressions:
            name = name_of(cte.args["alias"].this)
            if name in frame:
                raise errors.DuplicateAlias(
                    f'WITH query name "{name}" specified more than once', position=position(context, cte.args["alias"])
                )
            if isinstance(cte.this, exp.Insert | exp.Update | exp.Delete):
                raise errors.FeatureNotSupported(
                    "data-modifying statements in WITH are not supported",
                    hint="Run them before, in the same transaction.",
                    position=position(context, cte),
                )
            plan, inner = bind_query(context, cte.this, outer)
            _uncorrelated(inner)
            names = [name_of(c) for c in cte.args["alias"].args.get("columns") or []]
            if len(names) > len(plan.columns):
                raise errors.InvalidColumnReference(
                    f'WITH query "{name}" has {len(plan.columns)} columns available but {len(names)} columns specified',
                    position=position(context, cte),
                )
            context.cte_count += 1
            unique = name if context.cte_count == 1 else f"{name}_{context.cte_count}"
            columns = tuple(
                OutputColumn(names[i] if i < len(names) else c.name, c.type, c.table_oid, c.attnum)
                for i, c in enumerate(plan.columns)
            )
            plans.append((unique, plan))
            frame[name] = (unique, columns, names)
        plan, scope = _bind_body(context, node, outer, settle=settle)
    finally:
        context.ctes.pop()
    return p.With(plan.columns, tuple(plans), plan), scope


def _uncorrelated(scope: Scope) -> None:
    if scope.correlated:
        raise errors.FeatureNotSupported(
            "correlated subqueries are not supported here", hint="Write the query as a join.", position=None
        )


# --- VALUES ---------------------------------------------------------------------------------------


def _bind_values(context: Context, node: Any, outer: Scope | None) -> tuple[Plan, Scope]:
    refuse_others(context, node, frozenset({"expressions", "alias", "order", "limit", "offset", "with_"}))
    scope = Scope(outer)
    binder = ExprBinder(context, scope, "VALUES", subquery_binder(context))
    rows = [_row_nodes(row) for row in node.expressions]
    for row in rows:
        if len(row) != len(rows[0]):
            raise errors.SqlSyntaxError(
                "VALUES lists must all be the same length", position=position(context, row[0]) if row else None
            )
    bound = [binder.all_of(r) for r in rows]
    columns: list[list[e.Expr]] = []
    for i in range(len(rows[0])):
        spots = [binder.position(r[i]) for r in rows]
        columns.append(context.coercion.unify([r[i] for r in bound], "VALUES", spots))
    output = tuple(OutputColumn(f"column{i + 1}", c[0].type) for i, c in enumerate(columns))
    plan: Plan = p.Values(output, tuple(zip(*columns, strict=True)))
    return order_outputs(context, node, plan, subquery_binder(context)), scope


def _row_nodes(row: Any) -> list[Any]:
    return list(row.expressions) if isinstance(row, exp.Tuple) else [row.this if isinstance(row, exp.Paren) else row]


# --- set operations -------------------------------------------------------------------------------


_SET_KINDS: Final = {exp.Union: p.SetKind.UNION, exp.Intersect: p.SetKind.INTERSECT, exp.Except: p.SetKind.EXCEPT}


def _bind_set(context: Context, node: Any, outer: Scope | None, *, settle: bool) -> tuple[Plan, Scope]:
    refuse_others(context, node, frozenset({"this", "expression", "distinct", "order", "limit", "offset", "with_"}))
    kind = next(k for cls, k in _SET_KINDS.items() if isinstance(node, cls))
    left, left_scope = bind_query(context, node.this, outer, settle=False)
    right, right_scope = bind_query(context, node.expression, outer, settle=False)
    if len(left.columns) != len(right.columns):
        raise errors.SqlSyntaxError(
            f"each {kind.name} query must have the same number of columns", position=position(context, node.expression)
        )
    types: list[SqlType] = []
    for a, b in zip(left.columns, right.columns, strict=True):
        pair = [a.type, b.type]
        if not settle and all(t.kind is Kind.UNKNOWN for t in pair):
            types.append(TEXT)
        else:
            types.append(context.coercion.common_type(pair, kind.name, [None, position(context, node.expression)]))
    left = cast_output(context, left, types, _item_positions(context, node.this, left))
    right = cast_output(context, right, types, _item_positions(context, node.expression, right))
    columns = tuple(OutputColumn(c.name, t) for c, t in zip(left.columns, types, strict=True))
    plan: Plan = p.SetOp(columns, kind, not node.args.get("distinct"), left, right)
    scope = Scope(outer, correlated=[*left_scope.correlated, *right_scope.correlated])
    return order_outputs(context, node, plan, subquery_binder(context)), scope


def _item_positions(context: Context, node: Any, plan: Plan) -> Sequence[int | None]:
    """Where the items of a select list stand, for errors of literals that get their type late; none for other
    queries."""
    items = node.expressions if isinstance(node, exp.Select) else ()
    if len(items) != len(plan.columns) or all(c.type.kind is not Kind.UNKNOWN for c in plan.columns):
        return ()
    return [position(context, item) for item in items]


def cast_output(
    context: Context, plan: Plan, types: Sequence[SqlType], positions: Sequence[int | None] = ()
) -> Plan:
    """`plan` with its columns cast; a Project's or Values' own expressions are cast, so that literals become
    constants at once. `positions` are those of its items, where they are known."""
    if all(c.type == t for c, t in zip(plan.columns, types, strict=True)):
        return plan
    columns = tuple(OutputColumn(c.name, t, c.table_oid, c.attnum) for c, t in zip(plan.columns, types, strict=True))
    if isinstance(plan, p.Project):
        spots = positions or [None] * len(types)
        exprs = tuple(_cast_to(context, x, t, at) for x, t, at in zip(plan.exprs, types, spots, strict=True))
        return p.Project(columns, plan.input, exprs)
    exprs = tuple(
        _cast_to(context, e.Column(c.type, i, c.name), t)
        for i, (c, t) in enumerate(zip(plan.columns, types, strict=True))
    )
    return p.Project(columns, plan, exprs)


def _cast_to(context: Context, expr: e.Expr, target: SqlType, at: int | None = None) -> e.Expr:
    if expr.type.kind is not Kind.UNKNOWN and not can_coerce(expr.type, target):
        raise errors.CannotCoerce(f"could not convert type {expr.type.name} to {target.name}", position=at)
    return context.coercion.to(expr, target, position=at)


def subquery_binder(context: Context) -> SubqueryBinder:
    """Binds a nested query, noting in the context that it reads columns of the query around it."""

    def bind(node: Any, outer: Scope) -> tuple[Plan, Scope]:
        inner = (
            node.this
            if isinstance(node, exp.Subquery)
            and not any(node.args.get(k) for k in ("order", "limit", "offset", "with_"))
            else node
        )
        plan, scope = bind_query(context, inner, outer)
        if scope.correlated:
            context.correlated = True
            # What it read from further out than the query around it, that query reads too.
            outer.correlated.extend(replace(o, level=o.level - 1) for o in scope.correlated if o.level > 1)
        return plan, scope

    return bind
