"""Subqueries that read columns of the query around them become joins. The binder applies this: nothing else
knows `Outer`.

    WHERE EXISTS (SELECT FROM u WHERE u.a = t.a AND u.b > t.b)
        ->  t SEMI JOIN u ON u.a = t.a AND u.b > t.b
    WHERE t.x > (SELECT avg(u.x) FROM u WHERE u.a = t.a)
        ->  t LEFT JOIN (SELECT a, avg(x) FROM u GROUP BY a) s ON s.a = t.a WHERE t.x > s.avg

`_pull` lifts the correlated conditions out of a subquery's plan; what is computed from outer columns in its
select list is computed after the join. An aggregate can be passed by equalities only, which become group
keys. A scalar subquery without aggregate must be seen to yield one row at most: by a unique key, or by LIMIT
1; over system tables the first row is taken.

What does not fit is run once for each distinct combination of the outer values that it reads (`applied`); in
joins' conditions and ORDER BY it is refused (0A000). Source of the idea: Neumann, Kemper, "Unnesting Arbitrary
Queries", BTW 2015; only the simple half of it is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import JoinKind, OutputColumn, Plan
from filestore.query.rules.extract_join_keys import split_condition
from filestore.query.rules.traversal import (
    bottom_up,
    exprs_of,
    map_exprs,
    map_subplans,
    renumber,
    shift,
    subplans,
    substitute,
)
from filestore.query.scope import Outer
from filestore.types import BOOL, INT8

Subquery = e.ScalarSubquery | e.InSubquery | e.Exists


def decorrelate(plan: Plan) -> Plan:
    """The plan without `Outer`. Errors with 0A000 for a correlated subquery that is not one of the known
    shapes."""
    plan = _decorrelated(plan)
    if _reads_outer(plan):
        raise _refused()
    return plan


def _refused(why: str = "in this place") -> errors.FeatureNotSupported:
    return errors.FeatureNotSupported(
        f"correlated subqueries are not supported {why}", hint="Write the query as a join."
    )


def _decorrelated(plan: Plan) -> Plan:
    return bottom_up(plan, _node)


def _node(plan: Plan) -> Plan:
    plan = map_exprs(plan, lambda x: map_subplans(x, _decorrelated))
    if not any(_is_correlated(sub) for x in exprs_of(plan) for sub in subplans(x)):
        return plan
    match plan:
        case p.Filter():
            return _filter(plan)
        case p.Project():
            below, exprs = _with_values(plan.input, list(plan.exprs))
            return replace(plan, input=below, exprs=tuple(exprs))
        case p.Aggregate():
            below, exprs = _with_values(plan.input, [*plan.keys, *plan.calls])
            width = len(plan.keys)
            calls = tuple(c for c in exprs[width:] if isinstance(c, e.Aggregate))
            return replace(plan, input=below, keys=tuple(exprs[:width]), calls=calls)
        case p.FunctionScan() | p.Values():  # no row of their own: what they read is further out
            return map_exprs(plan, lambda x: e.transform(x, _run_for_each))
        case _:
            raise _refused()


def row_by_row(expr: e.Expr) -> e.Expr:
    """The expression with its correlated subqueries run for each row: it can be evaluated by itself, over any rows."""
    return e.transform(expr, _run_for_each)


def _run_for_each(x: e.Expr) -> e.Expr:
    if isinstance(x, e.ScalarSubquery | e.InSubquery | e.Exists) and _is_correlated(x.plan):
        return applied(x)
    return x


# --- what reads what ------------------------------------------------------------------------------


def outers(expr: e.Expr, depth: int = 0) -> list[Outer]:
    """Outer references that leave an expression, those of its subqueries included; their level counts from
    the expression."""
    found: list[Outer] = []
    if isinstance(expr, Outer):
        if expr.level > depth:
            found.append(replace(expr, level=expr.level - depth))
    elif isinstance(expr, e.ScalarSubquery | e.InSubquery | e.Exists):
        found += _plan_outers(expr.plan, depth + 1)
    for part in e.children(expr):
        found += outers(part, depth)
    return found


def _plan_outers(plan: Plan, depth: int) -> list[Outer]:
    found = [o for x in exprs_of(plan) for o in outers(x, depth)]
    from filestore.query.rules.traversal import inputs

    for below in inputs(plan):
        found += _plan_outers(below, depth)
    return found


def _is_correlated(plan: Plan) -> bool:
    """Whether a subquery's plan reads columns from outside of it."""
    return bool(_plan_outers(plan, 0))


def _reads_outer(plan: Plan) -> bool:
    return bool(_plan_outers(plan, 0))


def map_outers(expr: e.Expr, change: Callable[[Outer, int], e.Expr], depth: int = 0) -> e.Expr:
    """`change(reference, depth)` for every Outer; depth counts the subqueries entered."""

    def one(x: e.Expr) -> e.Expr:
        if isinstance(x, Outer):
            return change(x, depth)
        if isinstance(x, e.ScalarSubquery | e.InSubquery | e.Exists):
            inner = bottom_up(x.plan, lambda node: map_exprs(node, lambda y: map_outers(y, change, depth + 1)))
            return replace(x, plan=inner)
        return x

    return e.transform(expr, one)


def is_correlated(expr: e.Expr) -> bool:
    """Whether an expression has a subquery that reads the columns around it."""
    return any(_is_correlated(sub) for sub in subplans(expr))


def map_columns(expr: e.Expr, change: Callable[[e.Column], e.Expr]) -> e.Expr:
    """`change` for every column of this query level, those that its subqueries read included."""

    def one(x: e.Expr) -> e.Expr:
        return change(x) if isinstance(x, e.Column) else x

    def outer(x: Outer, depth: int) -> e.Expr:
        return replace(x, column=e.transform(x.column, one)) if x.level == depth else x

    return map_outers(e.transform(expr, one), outer)


def _arrived(expr: e.Expr) -> e.Expr:
    """The expression one query level further out: level 1 becomes the column itself."""

    def change(x: Outer, depth: int) -> e.Expr:
        if x.level == depth + 1 and depth == 0:
            return x.column
        return replace(x, level=x.level - 1) if x.level > depth + 1 else x

    if any(_nested_level_one(sub, 1) for sub in subplans(expr)):
        raise _refused("at this depth")
    return map_outers(expr, change)


def _nested_level_one(plan: Plan, depth: int) -> bool:
    return any(o.level == 1 for o in _plan_outers(plan, depth))


# --- what no join can do ---------------------------------------------------------------------------


def applied(subquery: Subquery) -> e.Applied:
    """The subquery as one that is run for each distinct combination of the outer columns that it reads."""
    first = 1 + max((x.number for x in _outer_values(subquery.plan)), default=0)
    args: list[e.Expr] = list(subquery.args) if isinstance(subquery, e.InSubquery) else []
    given = len(args)

    def change(x: Outer, depth: int) -> e.Expr:
        if x.level <= depth:
            return x
        arrived = x.column if x.level == depth + 1 else replace(x, level=x.level - depth - 1)
        if arrived not in args[given:]:
            args.append(arrived)
        return e.OuterValue(x.type, first + args.index(arrived, given))

    plan = bottom_up(subquery.plan, lambda node: map_exprs(node, lambda x: map_outers(x, change)))
    numbers = tuple(first + i for i in range(len(args)))
    inner: Subquery = replace(subquery, plan=plan)
    if isinstance(inner, e.InSubquery):
        inner = replace(inner, args=tuple(e.OuterValue(a.type, first + i) for i, a in enumerate(inner.args)))
    return e.Applied(subquery.type, tuple(args), numbers, inner)


def _outer_values(plan: Plan) -> list[e.OuterValue]:
    """The values of outer rows that a plan reads, through all its subqueries."""
    from filestore.query.rules.traversal import inputs

    found: list[e.OuterValue] = []

    def note(x: e.Expr) -> e.Expr:
        if isinstance(x, e.OuterValue):
            found.append(x)
        return x

    for expr in exprs_of(plan):
        e.transform(expr, note)
        for sub in subplans(expr):
            found += _outer_values(sub)
    for below in inputs(plan):
        found += _outer_values(below)
    return found


# --- pulling conditions out of a subquery ---------------------------------------------------------


@dataclass(slots=True)
class _Pulled:
    """A subquery without its correlation: rows of `plan` that meet `conditions` (over its columns and Outer),
    of which `outputs` (likewise) are the result. `single`: at most one row per binding of the outer columns.
    `counts`: columns of `plan` that are 0, not null, when there is no row."""

    plan: Plan
    conditions: list[e.Expr]
    outputs: list[e.Expr]
    single: bool = False
    counts: frozenset[int] = frozenset()


def _columns(plan: Plan) -> list[e.Expr]:
    return [e.Column(c.type, i, c.name) for i, c in enumerate(plan.columns)]


def _substituted(expr: e.Expr, outputs: list[e.Expr]) -> e.Expr:
    return substitute(expr, outputs)


def _pull(plan: Plan) -> _Pulled:
    if not _reads_outer(plan):
        return _Pulled(plan, [], _columns(plan))
    match plan:
        case p.Filter():
            return _pull_filter(plan)
        case p.Project():
            below = _pull(plan.input)
            below.outputs = [_substituted(x, below.outputs) for x in plan.exprs]
            return below
        case p.Aggregate():
            return _pull_aggregate(plan)
        case p.Join():
            return _pull_join(plan)
        case p.Sort() if plan.limit is None:
            return _pull(plan.input)  # rows are joined, not listed; LIMIT 1 keeps its order below
        case p.Distinct() if not plan.keys:
            below = _pull(plan.input)
            below.plan, below.outputs, below.conditions = _narrowed(below)
            below.plan = p.Distinct(below.plan.columns, below.plan)
            return below
        case p.Limit(limit=e.Const(value=1), offset=None):
            return _pull_first(plan)
        case _:
            raise _refused("with this clause")


def _pull_filter(plan: p.Filter) -> _Pulled:
    below = _pull(plan.input)
    stay: list[e.Expr] = []
    for condition in e.conjuncts(plan.predicate):
        moved = _substituted(condition, below.outputs)
        if outers(moved):
            below.conditions.append(moved)
        elif below.counts and _is_over_counts(moved, below.counts):
            raise _refused("with HAVING over count()")
        else:
            stay.append(moved)
    predicate = e.conjunction(stay)
    if predicate is not None:
        below.plan = p.Filter(below.plan.columns, below.plan, predicate)
    return below


def _is_over_counts(expr: e.Expr, counts: frozenset[int]) -> bool:
    return bool(e.columns_of(expr) & counts)


def _pull_join(plan: p.Join) -> _Pulled:
    if any(outers(k) for k in (*plan.left_keys, *plan.right_keys)):
        raise _refused("with this join condition")
    inner = plan.kind in (JoinKind.INNER, JoinKind.CROSS)
    if _reads_outer(plan.right) and not inner:
        raise _refused("on this side of a join")
    if not inner and plan.kind not in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI):
        raise _refused("in a RIGHT or FULL join")
    left, right = _pull(plan.left), _pull(plan.right)
    width = len(left.plan.columns)
    right_outputs = [shift(x, width) for x in right.outputs]
    both = left.outputs + right_outputs
    conditions = left.conditions + [shift(c, width) for c in right.conditions]
    stay: list[e.Expr] = []
    for condition in e.conjuncts(plan.residual):
        moved = _substituted(condition, both)
        if not outers(moved):
            stay.append(moved)
        elif inner:
            conditions.append(moved)
        else:
            raise _refused("in the condition of an outer join")
    left_keys = tuple(_substituted(k, left.outputs) for k in plan.left_keys)
    right_keys = tuple(_substituted(k, right.outputs) for k in plan.right_keys)
    one_sided = plan.kind in (JoinKind.SEMI, JoinKind.ANTI)
    columns = left.plan.columns if one_sided else left.plan.columns + right.plan.columns
    new = p.Join(columns, plan.kind, left.plan, right.plan, left_keys, right_keys, e.conjunction(stay))
    return _Pulled(new, conditions, left.outputs if one_sided else both)


def _keys_of(conditions: list[e.Expr]) -> list[tuple[e.Expr, e.Expr]]:
    """(inner expression, outer expression) of conditions that are all equalities between inside and outside."""
    found: list[tuple[e.Expr, e.Expr]] = []
    for condition in conditions:
        if not isinstance(condition, e.Call) or condition.name != "eq":
            raise _refused("with a condition other than equality below an aggregate")
        a, b = condition.args
        if outers(a) and not e.columns_of(a) and not outers(b):
            a, b = b, a
        if outers(a) or e.columns_of(b) or not outers(b):
            raise _refused("with this condition below an aggregate")
        found.append((a, b))
    return found


def _pull_aggregate(plan: p.Aggregate) -> _Pulled:
    below = _pull(plan.input)
    pairs = _keys_of(below.conditions)
    keys = tuple(_substituted(k, below.outputs) for k in plan.keys)
    calls = [_substituted(c, below.outputs) for c in plan.calls]
    if any(outers(x) for x in (*keys, *calls)):
        raise _refused("inside an aggregate")
    extra = tuple(a for a, _ in pairs)
    width, added = len(keys), len(extra)
    columns = (
        plan.columns[:width]
        + tuple(OutputColumn(x.name if isinstance(x, e.Column) else "", x.type) for x in extra)
        + plan.columns[width:]
    )
    new = p.Aggregate(columns, below.plan, keys + extra, tuple(c for c in calls if isinstance(c, e.Aggregate)))
    produced = _columns(new)
    outputs = produced[:width] + produced[width + added :]
    conditions: list[e.Expr] = [e.Call(BOOL, "eq", (produced[width + i], outer)) for i, (_, outer) in enumerate(pairs)]
    alone = not plan.keys
    counts = (
        frozenset(width + added + i for i, c in enumerate(plan.calls) if c.name in ("count", "count_star"))
        if alone
        else frozenset()
    )
    return _Pulled(new, conditions, outputs, alone, counts)


def _narrowed(below: _Pulled) -> tuple[Plan, list[e.Expr], list[e.Expr]]:
    """(projection to what outputs and conditions read, both over it)."""
    wanted = sorted({i for x in (*below.outputs, *below.conditions) for i in e.columns_of(x)})
    places = {old: new for new, old in enumerate(wanted)}
    columns = tuple(below.plan.columns[i] for i in wanted)
    plan = p.Project(
        columns, below.plan, tuple(e.Column(c.type, i, c.name) for i, c in zip(wanted, columns, strict=True))
    )
    return plan, [renumber(x, places) for x in below.outputs], [renumber(x, places) for x in below.conditions]


def _pull_first(plan: p.Limit) -> _Pulled:
    """LIMIT 1: the first row of each binding, in the order asked for."""
    node: Plan = plan.input
    projects: list[p.Project] = []
    while isinstance(node, p.Project):
        projects.append(node)
        node = node.input
    order = node.keys if isinstance(node, p.Sort) else ()
    below = _pull(node)
    pairs = _keys_of(below.conditions)
    if any(not isinstance(a, e.Column) for a, _ in pairs):
        raise _refused("with LIMIT and this condition")
    keys = tuple(a for a, _ in pairs)
    sort_keys = tuple(p.SortKey(k) for k in keys) + tuple(
        replace(k, expr=_substituted(k.expr, below.outputs)) for k in order
    )
    if any(outers(k.expr) for k in sort_keys):
        raise _refused("with this ORDER BY")
    below.plan = p.Sort(below.plan.columns, below.plan, sort_keys)
    below.plan = p.Distinct(below.plan.columns, below.plan, keys)
    for project in reversed(projects):
        below.outputs = [_substituted(x, below.outputs) for x in project.exprs]
    below.single = True
    return below


# --- filters --------------------------------------------------------------------------------------


def _filter(plan: p.Filter) -> Plan:
    """Conjuncts that are (NOT) EXISTS or IN become semi and anti joins; other subqueries become columns of a
    left join."""
    below: Plan = plan.input
    width = len(below.columns)
    rest: list[e.Expr] = []
    for condition in e.conjuncts(plan.predicate):
        negated = isinstance(condition, e.Not)
        inner = condition.arg if isinstance(condition, e.Not) else condition
        try:
            if isinstance(inner, e.Exists) and _is_correlated(inner.plan):
                kind = JoinKind.ANTI if negated else JoinKind.SEMI
                below = _semi(below, _pull(_without_limit(inner.plan)), [], kind)
            elif isinstance(inner, e.InSubquery) and _is_correlated(inner.plan):
                below = _membership(below, inner, negated != inner.negated)
            else:
                rest.append(condition)
        except errors.FeatureNotSupported:
            rest.append(condition)
    below, rest = _with_values(below, rest)
    predicate = e.conjunction(rest)
    if predicate is not None:
        below = p.Filter(below.columns, below, predicate)
    return _cut(below, width)


def _cut(plan: Plan, width: int) -> Plan:
    if len(plan.columns) == width:
        return plan
    columns = plan.columns[:width]
    return p.Project(columns, plan, tuple(e.Column(c.type, i, c.name) for i, c in enumerate(columns)))


def _without_limit(plan: Plan) -> Plan:
    """EXISTS does not care how many rows there are, as long as LIMIT leaves one."""
    if isinstance(plan, p.Limit) and isinstance(plan.limit, e.Const) and plan.offset is None and plan.limit.value:
        return plan.input
    return plan


def _semi(left: Plan, pulled: _Pulled, more: list[e.Expr], kind: JoinKind) -> Plan:
    """left SEMI/ANTI JOIN of the subquery on its correlated conditions and `more` (already over both sides)."""
    if pulled.counts or (pulled.single and isinstance(pulled.plan, p.Aggregate)):
        raise _refused("with an aggregate in EXISTS or IN")  # it has a row even where nothing matches
    width = len(left.columns)
    conditions = [_arrived(shift(c, width)) for c in pulled.conditions] + more
    left_keys, right_keys, residual = split_condition(e.conjunction(conditions), width)
    return p.Join(left.columns, kind, left, pulled.plan, left_keys, right_keys, residual)


def _membership(left: Plan, inner: e.InSubquery, negated: bool) -> Plan:
    pulled = _pull(inner.plan)
    width = len(left.columns)
    outputs = [_arrived(shift(x, width)) for x in pulled.outputs]
    pairs: list[e.Expr] = [e.Call(BOOL, "eq", (a, b)) for a, b in zip(inner.args, outputs, strict=True)]
    if negated:  # a null on either side may be equal: such a row is not let through
        pairs = [e.IsBool(BOOL, x, False, True) for x in pairs]
    return _semi(left, pulled, pairs, JoinKind.ANTI if negated else JoinKind.SEMI)


# --- values ---------------------------------------------------------------------------------------


def _with_values(below: Plan, exprs: list[e.Expr]) -> tuple[Plan, list[e.Expr]]:
    """`below` left-joined with every correlated subquery of the expressions, and the expressions over the
    joined row."""
    plan = below

    def replaced(x: e.Expr) -> e.Expr:
        nonlocal plan
        if not isinstance(x, e.ScalarSubquery | e.InSubquery | e.Exists) or not _is_correlated(x.plan):
            return x
        if isinstance(x, e.InSubquery):
            return applied(x)
        try:
            plan, value = _exists_value(plan, x) if isinstance(x, e.Exists) else _scalar_value(plan, x)
        except errors.FeatureNotSupported:
            return applied(x)
        return value

    changed = [e.transform(x, replaced) for x in exprs]
    return plan, changed


def _left_join(left: Plan, right: Plan, conditions: list[e.Expr]) -> Plan:
    width = len(left.columns)
    moved = [_arrived(shift(c, width)) for c in conditions]
    left_keys, right_keys, residual = split_condition(e.conjunction(moved), width)
    return p.Join(left.columns + right.columns, JoinKind.LEFT, left, right, left_keys, right_keys, residual)


def _scalar_value(left: Plan, subquery: e.ScalarSubquery) -> tuple[Plan, e.Expr]:
    pulled = _pull(subquery.plan)
    width = len(left.columns)
    if not pulled.single and not _is_unique(pulled):
        if not _is_virtual(pulled.plan):
            raise errors.FeatureNotSupported(
                "correlated subqueries that may return several rows are not supported",
                hint="Add LIMIT 1 or an aggregate, or write the query as a join.",
            )
        _take_first(pulled)
    joined = _left_join(left, pulled.plan, pulled.conditions)
    value = _arrived(shift(pulled.outputs[0], width))
    if pulled.counts:
        zeros = {i + width for i in pulled.counts}
        value = e.transform(
            value,
            lambda x: e.Coalesce(INT8, (x, e.Const(INT8, 0))) if isinstance(x, e.Column) and x.index in zeros else x,
        )
    elif not e.columns_of(pulled.outputs[0]):  # a constant or an outer value: null where nothing matched
        raise _refused("with a select list that reads none of its own columns")
    return joined, value


def _take_first(pulled: _Pulled) -> None:
    keys = tuple(a for a, _ in _keys_of([c for c in pulled.conditions if e.columns_of(c)]))
    if any(not isinstance(k, e.Column) for k in keys):
        raise _refused("with this condition")
    pulled.plan = p.Distinct(pulled.plan.columns, pulled.plan, keys)


def _exists_value(left: Plan, subquery: e.Exists) -> tuple[Plan, e.Expr]:
    """EXISTS as a value: left join with the distinct keys, and whether one was found."""
    pulled = _pull(_without_limit(subquery.plan))
    if pulled.single:
        raise _refused("with an aggregate in EXISTS")
    pairs = _keys_of(pulled.conditions)
    columns = (*(OutputColumn("", a.type) for a, _ in pairs), OutputColumn("", BOOL))
    keys: Plan = p.Project(columns, pulled.plan, (*(a for a, _ in pairs), e.TRUE))
    keys = p.Distinct(columns, keys)
    conditions: list[e.Expr] = [e.Call(BOOL, "eq", (e.Column(a.type, i), outer)) for i, (a, outer) in enumerate(pairs)]
    joined = _left_join(left, keys, conditions)
    return joined, e.IsNull(BOOL, e.Column(BOOL, len(left.columns) + len(pairs)), True)


def _is_virtual(plan: Plan) -> bool:
    from filestore.query.rules.traversal import inputs

    below = inputs(plan)
    if not below:
        return isinstance(plan, p.VirtualScan)
    return all(_is_virtual(x) for x in below)


def _is_unique(pulled: _Pulled) -> bool:
    """Whether the correlated equalities bind a whole unique key of the only table."""
    node, conditions = pulled.plan, list(pulled.conditions)
    while isinstance(node, p.Filter):
        conditions += e.conjuncts(node.predicate)
        node = node.input
    if not isinstance(node, p.Scan):
        return False
    bound: set[int] = set()
    for c in conditions:
        if isinstance(c, e.Call) and c.name == "eq":
            a, b = c.args
            for x, y in ((a, b), (b, a)):
                inner = x.arg if isinstance(x, e.Cast) else x
                if isinstance(inner, e.Column) and not e.columns_of(y):
                    bound.add(node.ordinals[inner.index])
    return any(set(key.columns) <= bound for key in node.table.keys)
