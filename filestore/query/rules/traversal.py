"""Plans taken apart and put together again: inputs, expressions, and maps over both. Every rule is written
with these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import Plan

Rewrite = Callable[[e.Expr], e.Expr]


def inputs(plan: Plan) -> tuple[Plan, ...]:
    """The plans a node reads from, left before right; CTEs before the query that uses them."""
    match plan:
        case p.Join(left=left, right=right) | p.SetOp(left=left, right=right):
            return (left, right)
        case p.With(ctes=ctes, input=body):
            return (*(c for _, c in ctes), body)
        case p.Filter() | p.Project() | p.Aggregate() | p.Sort() | p.Limit() | p.Distinct():
            return (plan.input,)
        case p.Insert(source=source) | p.Update(source=source) | p.Delete(source=source):
            return (source,)
        case _:
            return ()


def with_inputs(plan: Plan, parts: Sequence[Plan]) -> Plan:
    """The same node over other inputs (in the order of `inputs`)."""
    match plan:
        case p.Join() | p.SetOp():
            return replace(plan, left=parts[0], right=parts[1])
        case p.With():
            names = [n for n, _ in plan.ctes]
            return replace(plan, ctes=tuple(zip(names, parts[:-1], strict=True)), input=parts[-1])
        case p.Filter() | p.Project() | p.Aggregate() | p.Sort() | p.Limit() | p.Distinct():
            return replace(plan, input=parts[0])
        case p.Insert() | p.Update() | p.Delete():
            return replace(plan, source=parts[0])
        case _:
            return plan


def bottom_up(plan: Plan, rewrite: Callable[[Plan], Plan]) -> Plan:
    """Rewrites inputs first, then the node itself."""
    parts = inputs(plan)
    changed = [bottom_up(x, rewrite) for x in parts]
    if any(a is not b for a, b in zip(parts, changed, strict=True)):
        plan = with_inputs(plan, changed)
    return rewrite(plan)


def map_exprs(plan: Plan, rewrite: Rewrite) -> Plan:
    """The node with `rewrite` applied to each of its expressions as a whole (not to its inputs)."""

    def each(items: Sequence[e.Expr]) -> tuple[e.Expr, ...]:
        return tuple(rewrite(x) for x in items)

    def maybe(x: e.Expr | None) -> e.Expr | None:
        return None if x is None else rewrite(x)

    match plan:
        case p.Scan():
            return plan if plan.predicate is None else replace(plan, predicate=rewrite(plan.predicate))
        case p.IndexLookup():
            return replace(plan, keys=tuple(each(k) for k in plan.keys), predicate=maybe(plan.predicate))
        case p.IndexRange():
            return replace(
                plan,
                prefix=each(plan.prefix),
                low=maybe(plan.low),
                high=maybe(plan.high),
                predicate=maybe(plan.predicate),
            )
        case p.FunctionScan():
            return replace(plan, args=each(plan.args))
        case p.Values():
            return replace(plan, rows=tuple(each(r) for r in plan.rows))
        case p.Filter():
            return replace(plan, predicate=rewrite(plan.predicate))
        case p.Project():
            return replace(plan, exprs=each(plan.exprs))
        case p.Aggregate():
            calls: tuple[Any, ...] = tuple(rewrite(c) for c in plan.calls)
            return replace(plan, keys=each(plan.keys), calls=calls)
        case p.Join():
            return replace(
                plan, left_keys=each(plan.left_keys), right_keys=each(plan.right_keys), residual=maybe(plan.residual)
            )
        case p.Sort():
            keys = tuple(replace(k, expr=rewrite(k.expr)) for k in plan.keys)
            return replace(plan, keys=keys, limit=maybe(plan.limit))
        case p.Limit():
            return replace(plan, limit=maybe(plan.limit), offset=maybe(plan.offset))
        case p.Distinct():
            return replace(plan, keys=each(plan.keys))
        case p.Insert():
            returning = None if plan.returning is None else each(plan.returning)
            return replace(plan, checks=tuple((c, rewrite(x)) for c, x in plan.checks), returning=returning)
        case p.Update():
            returning = None if plan.returning is None else each(plan.returning)
            return replace(
                plan,
                predicate=maybe(plan.predicate),
                assignments=tuple((i, rewrite(x)) for i, x in plan.assignments),
                checks=tuple((c, rewrite(x)) for c, x in plan.checks),
                returning=returning,
                values=each(plan.values),
            )
        case p.Delete():
            returning = None if plan.returning is None else each(plan.returning)
            return replace(plan, predicate=maybe(plan.predicate), returning=returning)
        case _:
            return plan


def exprs_of(plan: Plan) -> list[e.Expr]:
    """The expressions of a node itself."""
    found: list[e.Expr] = []

    def note(x: e.Expr) -> e.Expr:
        found.append(x)
        return x

    map_exprs(plan, note)
    return found


def subplans(expr: e.Expr) -> list[Plan]:
    """Plans of the subqueries inside an expression."""
    found: list[Plan] = []
    if isinstance(expr, e.ScalarSubquery | e.InSubquery | e.Exists):
        found.append(expr.plan)
    elif isinstance(expr, e.Applied):
        found.append(expr.subquery.plan)
    for part in e.children(expr):
        found += subplans(part)
    return found


def map_subplans(expr: e.Expr, rewrite: Callable[[Plan], Plan]) -> e.Expr:
    """The expression with the plans of its subqueries rewritten."""

    def one(x: e.Expr) -> e.Expr:
        if isinstance(x, e.ScalarSubquery | e.InSubquery | e.Exists):
            changed = rewrite(x.plan)
            return x if changed is x.plan else replace(x, plan=changed)
        if isinstance(x, e.Applied):
            return replace(x, subquery=replace(x.subquery, plan=rewrite(x.subquery.plan)))
        return x

    return e.transform(expr, one)


def shift(expr: e.Expr, by: int) -> e.Expr:
    """The expression with every column number moved by `by`."""
    if by == 0:
        return expr
    return e.transform(expr, lambda x: e.Column(x.type, x.index + by, x.name) if isinstance(x, e.Column) else x)


def substitute(expr: e.Expr, exprs: Sequence[e.Expr]) -> e.Expr:
    """The expression with column i replaced by `exprs[i]`."""
    return e.transform(expr, lambda x: exprs[x.index] if isinstance(x, e.Column) else x)


def renumber(expr: e.Expr, places: dict[int, int]) -> e.Expr:
    """The expression with column i renamed to `places[i]`."""
    return e.transform(expr, lambda x: e.Column(x.type, places[x.index], x.name) if isinstance(x, e.Column) else x)


def has_subquery(expr: e.Expr) -> bool:
    return isinstance(expr, e.ScalarSubquery | e.InSubquery | e.Exists | e.Applied) or any(
        has_subquery(x) for x in e.children(expr)
    )


def is_volatile(expr: e.Expr) -> bool:
    """Whether evaluating it twice, or elsewhere, may give another value."""
    if isinstance(expr, e.Call) and expr.name in (
        "random",
        "clock_timestamp",
        "gen_random_uuid",
        "set_config",
        "pg_notify",
    ):
        return True
    return any(is_volatile(x) for x in e.children(expr))


def is_fixed(expr: e.Expr) -> bool:
    """Whether it reads no columns and no subqueries and has one value for the whole statement."""
    if isinstance(expr, e.Column) or has_subquery(expr):
        return False
    return not is_volatile(expr) and all(is_fixed(x) for x in e.children(expr))
