"""Columns that nobody reads are not produced.

Project(Scan(t: a, b, c; b > 1), a)  ->  Project(Scan(t: a, b; b > 1), a)
"""

from __future__ import annotations

from dataclasses import replace

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import JoinKind, Plan, SetKind
from filestore.query.rules.traversal import inputs, renumber, with_inputs

Kept = list[int]


def prune_columns(plan: Plan) -> Plan:
    """The same plan, with the same output, whose nodes yield only what is read above them."""
    if isinstance(plan, p.Insert | p.Update | p.Delete):
        return with_inputs(plan, [prune_columns(x) for x in inputs(plan)])
    pruned, kept = _prune(plan, set(range(len(plan.columns))))
    if kept != list(range(len(plan.columns))):
        return _chosen(pruned, kept, list(range(len(plan.columns))))
    return pruned


def _chosen(plan: Plan, kept: Kept, wanted: list[int]) -> Plan:
    places = [kept.index(i) for i in wanted]
    columns = tuple(plan.columns[i] for i in places)
    return p.Project(columns, plan, tuple(e.Column(c.type, i, c.name) for i, c in zip(places, columns, strict=True)))


def _places(kept: Kept) -> dict[int, int]:
    return {old: new for new, old in enumerate(kept)}


def _read(*exprs: e.Expr | None) -> set[int]:
    return {i for x in exprs if x is not None for i in e.columns_of(x)}


def _prune(plan: Plan, needed: set[int]) -> tuple[Plan, Kept]:
    """(plan that yields at least the needed columns, the old numbers of the columns it yields, ascending)."""
    match plan:
        case p.Scan() | p.IndexLookup() | p.IndexRange():
            return _prune_scan(plan, needed)
        case p.Filter():
            inner, kept = _prune(plan.input, needed | _read(plan.predicate))
            predicate = renumber(plan.predicate, _places(kept))
            return p.Filter(inner.columns, inner, predicate), kept
        case p.Project():
            return _prune_project(plan, needed)
        case p.Aggregate():
            return _prune_aggregate(plan, needed)
        case p.Join():
            return _prune_join(plan, needed)
        case p.Sort():
            inner, kept = _prune(plan.input, needed | _read(*(k.expr for k in plan.keys)))
            keys = tuple(replace(k, expr=renumber(k.expr, _places(kept))) for k in plan.keys)
            return replace(plan, columns=inner.columns, input=inner, keys=keys), kept
        case p.Limit():
            inner, kept = _prune(plan.input, needed)
            return replace(plan, columns=inner.columns, input=inner), kept
        case p.Distinct():
            everything = set(range(len(plan.columns)))
            wanted = needed | _read(*plan.keys) if plan.keys else everything
            inner, kept = _prune(plan.input, wanted)
            on = tuple(renumber(k, _places(kept)) for k in plan.keys)
            return replace(plan, columns=inner.columns, input=inner, keys=on), kept
        case p.SetOp():
            return _prune_set(plan, needed)
        case p.With():
            ctes = tuple((n, prune_columns(c)) for n, c in plan.ctes)
            inner, kept = _prune(plan.input, needed)
            return replace(plan, columns=inner.columns, ctes=ctes, input=inner), kept
        case _:
            return with_inputs(plan, [prune_columns(x) for x in inputs(plan)]), list(range(len(plan.columns)))


def _prune_scan(plan: p.Scan | p.IndexLookup | p.IndexRange, needed: set[int]) -> tuple[Plan, Kept]:
    kept = sorted(needed | _read(plan.predicate))
    if len(kept) == len(plan.columns):
        return plan, kept
    width = len(plan.ordinals)
    predicate = None if plan.predicate is None else renumber(plan.predicate, _places(kept))
    columns = tuple(plan.columns[i] for i in kept)
    ordinals = tuple(plan.ordinals[i] for i in kept if i < width)
    address = plan.address and width in kept
    return replace(plan, columns=columns, ordinals=ordinals, predicate=predicate, address=address), kept


def _prune_project(plan: p.Project, needed: set[int]) -> tuple[Plan, Kept]:
    kept = sorted(needed)
    exprs = [plan.exprs[i] for i in kept]
    inner, inner_kept = _prune(plan.input, _read(*exprs))
    places = _places(inner_kept)
    columns = tuple(plan.columns[i] for i in kept)
    return p.Project(columns, inner, tuple(renumber(x, places) for x in exprs)), kept


def _prune_aggregate(plan: p.Aggregate, needed: set[int]) -> tuple[Plan, Kept]:
    width = len(plan.keys)
    kept = [i for i in range(len(plan.columns)) if i < width or i in needed]
    calls = [plan.calls[i - width] for i in kept if i >= width]
    inner, inner_kept = _prune(plan.input, _read(*plan.keys, *calls))
    places = _places(inner_kept)
    keys = tuple(renumber(k, places) for k in plan.keys)
    renumbered = [renumber(c, places) for c in calls]
    new_calls = tuple(c for c in renumbered if isinstance(c, e.Aggregate))
    return p.Aggregate(tuple(plan.columns[i] for i in kept), inner, keys, new_calls), kept


def _prune_join(plan: p.Join, needed: set[int]) -> tuple[Plan, Kept]:
    width = len(plan.left.columns)
    only_right = plan.kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI)
    read = {i + width for i in needed} if only_right else needed
    read = read | _read(plan.residual)
    left, left_kept = _prune(plan.left, {i for i in read if i < width} | _read(*plan.left_keys))
    right, right_kept = _prune(plan.right, {i - width for i in read if i >= width} | _read(*plan.right_keys))
    both = left_kept + [i + width for i in right_kept]
    left_places, right_places = _places(left_kept), _places(right_kept)
    residual = None if plan.residual is None else renumber(plan.residual, _places(both))
    one_sided = plan.kind in (JoinKind.SEMI, JoinKind.ANTI)
    columns = left.columns if one_sided else left.columns + right.columns
    if only_right:
        columns = right.columns
    new = p.Join(
        columns,
        plan.kind,
        left,
        right,
        tuple(renumber(k, left_places) for k in plan.left_keys),
        tuple(renumber(k, right_places) for k in plan.right_keys),
        residual,
    )
    return new, right_kept if only_right else left_kept if one_sided else both


def _prune_set(plan: p.SetOp, needed: set[int]) -> tuple[Plan, Kept]:
    everything = list(range(len(plan.columns)))
    wanted = sorted(needed) if plan.kind is SetKind.UNION and plan.all else everything
    sides: list[Plan] = []
    for side in (plan.left, plan.right):
        pruned, kept = _prune(side, set(wanted))
        sides.append(pruned if kept == wanted else _chosen(pruned, kept, wanted))
    return replace(plan, columns=tuple(plan.columns[i] for i in wanted), left=sides[0], right=sides[1]), wanted
