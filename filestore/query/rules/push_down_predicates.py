"""Conditions move towards the rows they restrict: through projections, joins, set operations and group keys,
into the scans.

    Filter(Join(a, b), a.x = 1 AND b.y = 2)  ->  Join(Scan(a, x = 1), Scan(b, y = 2))

An outer join is only crossed on the side it keeps; a condition that null-extended rows cannot meet turns the
outer join into an inner one first. Conditions move as they are: none is evaluated for a row that it was not
evaluated for before, save that the order of two conditions is not kept (nor does PostgreSQL promise one).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import JoinKind, Plan
from filestore.query.rules.traversal import has_subquery, inputs, is_volatile, shift, substitute, with_inputs

_STRICT: Final = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "like", "ilike", "regex_match", "regex_imatch", "similar_to"}
)


def push_down_predicates(plan: Plan) -> Plan:
    """Pushes every Filter's conjuncts as far down as they go; Filters that become empty disappear."""
    if isinstance(plan, p.Filter):
        return _push(plan.input, [f for c in e.conjuncts(plan.predicate) for f in factored(c)])
    if isinstance(plan, p.Join):
        return _push(plan, [])
    parts = inputs(plan)
    return with_inputs(plan, [push_down_predicates(x) for x in parts]) if parts else plan


def factored(condition: e.Expr) -> list[e.Expr]:
    """(a AND b) OR (a AND c) as a, (b OR c): conjuncts that all branches of an OR share."""
    if not isinstance(condition, e.Or):
        return [condition]
    branches = [e.conjuncts(x) for x in condition.args]
    shared = [c for c in branches[0] if all(c in b for b in branches[1:])]
    if not shared:
        return [condition]
    rests = [e.conjunction([c for c in b if c not in shared]) for b in branches]
    if any(r is None for r in rests):
        return shared
    return [*shared, e.Or(condition.type, tuple(r for r in rests if r is not None))]


def _above(plan: Plan, conditions: list[e.Expr]) -> Plan:
    predicate = e.conjunction(conditions)
    return plan if predicate is None else p.Filter(plan.columns, plan, predicate)


def _push(plan: Plan, conditions: list[e.Expr]) -> Plan:
    """`plan` restricted by the conditions over its output, each put as low as it may be."""
    stay = [c for c in conditions if is_volatile(c)]
    move = [c for c in conditions if not is_volatile(c)]
    match plan:
        case p.Filter():
            return _push_with(
                plan.input, [*(f for c in e.conjuncts(plan.predicate) for f in factored(c)), *move], stay, plan
            )
        case p.Scan():
            found = e.conjunction([*e.conjuncts(plan.predicate), *move])
            return _above(replace(plan, predicate=found), stay)
        case p.Project():
            return _through_project(plan, move, stay)
        case p.Join():
            return _above(_into_join(plan, move), stay)
        case p.Aggregate():
            low = [c for c in move if plan.keys and max(e.columns_of(c), default=len(plan.keys)) < len(plan.keys)]
            kept = [c for c in move if c not in low]
            inner = _push(plan.input, [substitute(c, plan.keys) for c in low])
            return _above(replace(plan, input=inner), kept + stay)
        case p.Sort() if plan.limit is None:
            return _above(replace(plan, input=_push(plan.input, move)), stay)
        case p.Distinct():
            on = {k.index for k in plan.keys if isinstance(k, e.Column)}
            low = [c for c in move if not plan.keys or e.columns_of(c) <= on]
            kept = [c for c in move if c not in low]
            return _above(replace(plan, input=_push(plan.input, low)), kept + stay)
        case p.SetOp():
            both = replace(plan, left=_push(plan.left, move), right=_push(plan.right, move))
            return _above(both, stay)
        case p.With():
            ctes = tuple((n, push_down_predicates(c)) for n, c in plan.ctes)
            return replace(plan, ctes=ctes, input=_push(plan.input, conditions))
        case _:
            return _above(push_down_predicates(plan), conditions)


def _push_with(plan: Plan, conditions: list[e.Expr], stay: list[e.Expr], _old: Plan) -> Plan:
    return _above(_push(plan, conditions), stay)


def _through_project(plan: p.Project, move: list[e.Expr], stay: list[e.Expr]) -> Plan:
    low: list[e.Expr] = []
    kept = list(stay)
    for c in move:
        read = [plan.exprs[i] for i in e.columns_of(c)]
        if any(is_volatile(x) or has_subquery(x) for x in read):
            kept.append(c)
        else:
            low.append(substitute(c, plan.exprs))
    return _above(replace(plan, input=_push(plan.input, low)), kept)


def _into_join(plan: p.Join, conditions: list[e.Expr]) -> Plan:
    width = len(plan.left.columns)
    kind = _simplified(plan.kind, conditions, width)
    inner = kind in (JoinKind.INNER, JoinKind.CROSS)
    keep_left = inner or kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI)
    keep_right = inner or kind is JoinKind.RIGHT
    left: list[e.Expr] = []
    right: list[e.Expr] = []
    joined: list[e.Expr] = []
    above: list[e.Expr] = []
    for c in conditions:
        side = _side(c, width)
        if side == "left" and keep_left:
            left.append(c)
        elif side == "right" and keep_right:
            right.append(shift(c, -width))
        elif inner and not has_subquery(c):
            joined.append(c)
            _imply(c, width, left, right)
        else:
            above.append(c)
    rest: list[e.Expr] = []
    for c in [f for x in e.conjuncts(plan.residual) for f in factored(x)]:  # ON: the sides that may lose rows
        side = _side(c, width)
        if side == "left" and (inner or kind in (JoinKind.RIGHT, JoinKind.SEMI)):
            left.append(c)
        elif side == "right" and (inner or kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI)):
            right.append(shift(c, -width))
        else:
            rest.append(c)
            if inner:
                _imply(c, width, left, right)
    residual = e.conjunction([*rest, *joined])
    if kind is JoinKind.CROSS and residual is not None:
        kind = JoinKind.INNER
    new = replace(plan, kind=kind, left=_push(plan.left, left), right=_push(plan.right, right), residual=residual)
    return _above(new, above)


def _side(condition: e.Expr, width: int) -> str:
    """left | right | both | none, by the columns that are read."""
    read = e.columns_of(condition)
    if not read:
        return "left"
    if max(read) < width:
        return "left"
    return "right" if min(read) >= width else "both"


def _imply(condition: e.Expr, width: int, left: list[e.Expr], right: list[e.Expr]) -> None:
    """(a.x = 1 AND b.y = 2) OR (a.x = 3 AND b.y = 4) restricts a to x = 1 OR x = 3, and b likewise."""
    if not isinstance(condition, e.Or):
        return
    for side, into, by in (("left", left, 0), ("right", right, -width)):
        branches: list[e.Expr] = []
        for branch in condition.args:
            parts = [c for c in e.conjuncts(branch) if e.columns_of(c) and _side(c, width) == side]
            found = e.conjunction(parts)
            if found is None:
                break
            branches.append(shift(found, by))
        else:
            into.append(e.Or(condition.type, tuple(branches)))


def _simplified(kind: JoinKind, conditions: list[e.Expr], width: int) -> JoinKind:
    """The join that is left when rows padded with nulls cannot pass the conditions above it."""
    if kind not in (JoinKind.LEFT, JoinKind.RIGHT, JoinKind.FULL):
        return kind
    rejects_left = any(_rejects_nulls(c, lambda i: i < width) for c in conditions)
    rejects_right = any(_rejects_nulls(c, lambda i: i >= width) for c in conditions)
    if kind is JoinKind.LEFT:
        return JoinKind.INNER if rejects_right else kind
    if kind is JoinKind.RIGHT:
        return JoinKind.INNER if rejects_left else kind
    if rejects_left and rejects_right:
        return JoinKind.INNER
    return JoinKind.LEFT if rejects_left else JoinKind.RIGHT if rejects_right else kind


def _rejects_nulls(condition: e.Expr, padded: object) -> bool:
    """Whether the condition is not true when every column chosen by `padded` is null."""
    if isinstance(condition, e.Call) and condition.name in _STRICT:
        return any(_null_if(x, padded) for x in condition.args)
    if isinstance(condition, e.InList):
        return _null_if(condition.arg, padded)
    if isinstance(condition, e.IsNull):
        return condition.negated and _null_if(condition.arg, padded)
    if isinstance(condition, e.Not):  # not false is not enough: NOT (null AND false) is true
        return _unknown(condition.arg, padded)
    if isinstance(condition, e.And):
        return any(_rejects_nulls(x, padded) for x in condition.args)
    if isinstance(condition, e.Or):
        return all(_rejects_nulls(x, padded) for x in condition.args)
    return False


def _unknown(condition: e.Expr, padded: object) -> bool:
    """Whether the condition is null when every column chosen by `padded` is."""
    if isinstance(condition, e.And | e.Or):
        return all(_unknown(x, padded) for x in condition.args)
    if isinstance(condition, e.Not):
        return _unknown(condition.arg, padded)
    strict = isinstance(condition, e.InList) or (isinstance(condition, e.Call) and condition.name in _STRICT)
    return strict and _rejects_nulls(condition, padded)


def _null_if(expr: e.Expr, padded: object) -> bool:
    """Whether the expression is null when the padded columns are: a column, or a strict function of one."""
    if isinstance(expr, e.Column):
        return bool(callable(padded) and padded(expr.index))
    if isinstance(expr, e.Cast):
        return _null_if(expr.arg, padded)
    if isinstance(expr, e.Call) and expr.name in (
        "add",
        "sub",
        "mul",
        "div",
        "mod",
        "neg",
        "lower",
        "upper",
        "substring",
    ):
        return any(_null_if(x, padded) for x in expr.args)
    return False
