"""Binds queries: SELECT with its clauses, VALUES, set operations, WITH.

The plan of a SELECT is, from the bottom: FROM, Filter (WHERE), Aggregate, Filter (HAVING), Project (the
select list and hidden sort columns), Distinct, Sort, Project (hidden columns cut), Limit. `bind_from.py`
makes FROM; `bind_expr.py` the expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_expr import AggregateRef, Collected, Context, ExprBinder, name_of
from filestore.query.bind_from import bind_from
from filestore.query.bind_names import output_name
from filestore.query.coerce import can_coerce
from filestore.query.plan import OutputColumn, Plan
from filestore.query.rules.decorrelate import map_outers
from filestore.query.scope import Outer, Relation, Scope
from filestore.types import INT8, TEXT, UNKNOWN, Kind, SqlType

_SELECT_ARGS: Final = frozenset(
    {"expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_"}
)
_CLAUSES: Final = {
    "windows": "WINDOW", "into": "SELECT INTO", "locks": "SELECT FOR UPDATE", "laterals": "LATERAL VIEW",
    "qualify": "QUALIFY", "sample": "TABLESAMPLE", "pivots": "PIVOT", "hint": "hints", "kind": "SELECT AS",
    "match": "MATCH_RECOGNIZE", "connect": "CONNECT BY", "cluster": "CLUSTER BY",
    "distribute": "DISTRIBUTE BY", "sort": "SORT BY", "prewhere": "PREWHERE", "format": "FORMAT",
    "settings": "SETTINGS", "options": "OPTION", "operation_modifiers": "this modifier", "exclude": "EXCLUDE",
    "for_": "FOR",
}  # fmt: skip


def position(context: Context, node: Any) -> int | None:
    from filestore.query.bind_expr import offset_of

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
        raise errors.FeatureNotSupported(f"{what} is not supported", hint=hint, position=position(context, node))


def bind_query(context: Context, node: Any, outer: Scope | None, *, settle: bool = True) -> tuple[Plan, Scope]:
    """The plan of a query and the scope it was bound in (its `correlated` tells what it read from outside).

    Unless `settle`, literals in the select list keep type unknown (for INSERT ... SELECT and set operations).
    """
    with_ = node.args.get("with_")
    if with_ is not None:
        return _bind_with(context, node, with_, outer, settle=settle)
    return _bind_body(context, node, outer, settle=settle)


def _from_nodes(node: Any) -> list[Any]:
    from_ = node.args.get("from_")
    return [] if from_ is None else [from_.this]


def _bind_body(context: Context, node: Any, outer: Scope | None, *, settle: bool) -> tuple[Plan, Scope]:
    """A query whose WITH is already in scope."""
    if isinstance(node, exp.Select):
        return _Select(context, outer).bind(node, settle=settle)
    if isinstance(node, exp.SetOperation):
        return _bind_set(context, node, outer, settle=settle)
    if isinstance(node, exp.Values):
        return _bind_values(context, node, outer)
    if isinstance(node, exp.Subquery):
        plan, scope = bind_query(context, node.this, outer, settle=settle)
        refuse_others(context, node, frozenset({"this", "alias", "order", "limit", "offset", "with_"}))
        return _order_outputs(context, node, plan, scope), scope
    if isinstance(node, exp.Table):
        select = exp.Select(expressions=[exp.Star()], from_=exp.From(this=node))
        return _Select(context, outer).bind(select, settle=settle)
    raise errors.FeatureNotSupported(
        f"{type(node).__name__} is not supported as a query", position=position(context, node)
    )


# --- WITH -----------------------------------------------------------------------------------------


def _bind_with(context: Context, node: Any, with_: Any, outer: Scope | None, *, settle: bool) -> tuple[Plan, Scope]:
    if with_.args.get("recursive"):
        raise errors.FeatureNotSupported("WITH RECURSIVE is not supported", position=position(context, with_))
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
                    "data-modifying statements in WITH are not supported", position=position(context, cte)
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
    binder = ExprBinder(context, scope, "VALUES", _subquery_binder(context))
    rows = [_row_nodes(row) for row in node.expressions]
    if len({len(r) for r in rows}) > 1:
        raise errors.SqlSyntaxError("VALUES lists must all be the same length", position=position(context, node))
    bound = [binder.all_of(r) for r in rows]
    columns: list[list[e.Expr]] = []
    for i in range(len(rows[0])):
        spots = [binder.position(r[i]) for r in rows]
        columns.append(context.coercion.unify([r[i] for r in bound], "VALUES", spots))
    output = tuple(OutputColumn(f"column{i + 1}", c[0].type) for i, c in enumerate(columns))
    plan: Plan = p.Values(output, tuple(zip(*columns, strict=True)))
    return _order_outputs(context, node, plan, scope), scope


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
            types.append(context.coercion.common_type(pair, kind.name, position(context, node.expression)))
    left, right = cast_output(context, left, types), cast_output(context, right, types)
    columns = tuple(OutputColumn(c.name, t) for c, t in zip(left.columns, types, strict=True))
    plan: Plan = p.SetOp(columns, kind, not node.args.get("distinct"), left, right)
    scope = Scope(outer, correlated=[*left_scope.correlated, *right_scope.correlated])
    return _order_outputs(context, node, plan, scope), scope


def cast_output(context: Context, plan: Plan, types: Sequence[SqlType]) -> Plan:
    """`plan` with its columns cast; a Project's or Values' own expressions are cast, so that literals become
    constants at once."""
    if all(c.type == t for c, t in zip(plan.columns, types, strict=True)):
        return plan
    columns = tuple(OutputColumn(c.name, t, c.table_oid, c.attnum) for c, t in zip(plan.columns, types, strict=True))
    if isinstance(plan, p.Project):
        return p.Project(
            columns, plan.input, tuple(_cast_to(context, x, t) for x, t in zip(plan.exprs, types, strict=True))
        )
    exprs = tuple(
        _cast_to(context, e.Column(c.type, i, c.name), t)
        for i, (c, t) in enumerate(zip(plan.columns, types, strict=True))
    )
    return p.Project(columns, plan, exprs)


def _cast_to(context: Context, expr: e.Expr, target: SqlType) -> e.Expr:
    if expr.type.kind is not Kind.UNKNOWN and not can_coerce(expr.type, target):
        raise errors.CannotCoerce(f"could not convert type {expr.type.name} to {target.name}")
    return context.coercion.to(expr, target)


# --- ORDER BY and LIMIT over finished outputs -----------------------------------------------------


def _order_outputs(context: Context, node: Any, plan: Plan, scope: Scope) -> Plan:
    """ORDER BY of a set operation, VALUES or parenthesised query: only its output columns can be named."""
    order = node.args.get("order")
    if order is not None:
        keys: list[p.SortKey] = []
        for item in order.expressions:
            index = _ordinal(context, item.this, len(plan.columns), "ORDER BY")
            if index is None:
                names = [c.name for c in plan.columns]
                if (
                    not isinstance(item.this, exp.Column)
                    or item.this.args.get("table")
                    or name_of(item.this.this) not in names
                ):
                    raise errors.FeatureNotSupported(
                        "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        hint="Only result column names can be used, not expressions or functions.",
                        position=position(context, item),
                    )
                index = names.index(name_of(item.this.this))
            keys.append(_sort_key(e.Column(plan.columns[index].type, index, plan.columns[index].name), item))
        plan = p.Sort(plan.columns, plan, tuple(keys))
    return _limited(context, node, plan, scope)


def _ordinal(context: Context, node: Any, count: int, clause: str) -> int | None:
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


def _sort_key(expr: e.Expr, item: Any) -> p.SortKey:
    return p.SortKey(expr, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))


def _limited(context: Context, node: Any, plan: Plan, scope: Scope) -> Plan:
    limit, offset = node.args.get("limit"), node.args.get("offset")
    if limit is None and offset is None:
        return plan
    count: Any = None
    if isinstance(limit, exp.Fetch):
        options = limit.args.get("limit_options")
        if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
            raise errors.FeatureNotSupported(
                "FETCH FIRST ... WITH TIES is not supported", position=position(context, limit)
            )
        count = limit.args.get("count") or exp.Literal.number(1)
    elif limit is not None:
        count = limit.expression
        if isinstance(count, exp.Var) and str(count.this).upper() == "ALL":
            count = None
    empty = Scope(None)

    def bound(value: Any, clause: str) -> e.Expr | None:
        if value is None or isinstance(value, exp.Null):
            return None
        binder = ExprBinder(context, empty, clause, _subquery_binder(context))
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


def _subquery_binder(context: Context) -> Any:
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


# --- SELECT ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Item:
    """A select list item: its expression, what it is called, and where it stands."""

    expr: e.Expr
    output: OutputColumn
    node: Any
    alias: bool


class _Select:
    """Binds one SELECT."""

    def __init__(self, context: Context, outer: Scope | None) -> None:
        self.context = context
        self.scope = Scope(outer)
        self.collected = Collected()
        self.subquery = _subquery_binder(context)

    def binder(self, clause: str, *, aggregates: bool = False) -> ExprBinder:
        return ExprBinder(self.context, self.scope, clause, self.subquery, self.collected if aggregates else None)

    def bind(self, node: Any, *, settle: bool) -> tuple[Plan, Scope]:
        refuse_others(self.context, node, _SELECT_ARGS)
        plan = bind_from(self.context, _from_nodes(node), node.args.get("joins") or [], self.scope, bind_query)
        where = node.args.get("where")
        if where is not None:
            plan = self._where(plan, where.this)
        items = self._items(node, settle=settle)
        groups = self._group_keys(node.args.get("group"), items)
        having = node.args.get("having")
        condition = self.binder("HAVING", aggregates=True).condition(having.this) if having is not None else None
        distinct = node.args.get("distinct")
        sort, hidden = self._sort_keys(node.args.get("order"), items, distinct)
        on = self._distinct_on(distinct, items, hidden)
        exprs = [i.expr for i in items] + hidden
        if groups is not None or self.collected.calls or having is not None:
            plan, exprs, condition = self._aggregate(plan, groups or [], exprs, condition)
            if condition is not None:
                plan = p.Filter(plan.columns, plan, condition)
        outputs = [i.output for i in items] + [OutputColumn("", x.type) for x in hidden]
        columns = tuple(
            OutputColumn(o.name, x.type, o.table_oid, o.attnum) for o, x in zip(outputs, exprs, strict=True)
        )
        plan = p.Project(columns, plan, tuple(exprs))
        plan = self._finish(plan, len(items), sort, on, distinct)
        return _limited(self.context, node, plan, self.scope), self.scope

    def _where(self, plan: Plan, node: Any) -> Plan:
        return p.Filter(plan.columns, plan, self.binder("WHERE").condition(node))

    # -- select list -------------------------------------------------------------------------------

    def _items(self, node: Any, *, settle: bool) -> list[_Item]:
        binder = self.binder("SELECT", aggregates=True)
        items: list[_Item] = []
        for item in node.expressions:
            star = self._star(item)
            if star is not None:
                items += star
                continue
            inner = item.this if isinstance(item, exp.Alias) else item
            expr = binder.bind(inner)
            if settle:
                expr = self.context.coercion.settle(expr)
            name = name_of(item.args["alias"]) if isinstance(item, exp.Alias) else output_name(inner)
            items.append(_Item(expr, self._output(inner, expr, name), inner, isinstance(item, exp.Alias)))
        return items

    def _output(self, node: Any, expr: e.Expr, name: str) -> OutputColumn:
        if isinstance(node, exp.Column) and isinstance(expr, e.Column):
            for relation in self.scope.relations:
                for column in relation.columns:
                    if column.expr == expr:
                        return OutputColumn(name, expr.type, column.output.table_oid, column.output.attnum)
        return OutputColumn(name, expr.type)

    def _star(self, item: Any) -> list[_Item] | None:
        if isinstance(item, exp.Star):
            if any(item.args.get(k) for k in ("except_", "replace", "rename", "except")):
                raise errors.FeatureNotSupported(
                    "* with modifiers is not supported", position=position(self.context, item)
                )
            if not self.scope.relations:
                raise errors.SqlSyntaxError(
                    "SELECT * with no tables specified is not valid", position=position(self.context, item)
                )
            found = self.scope.visible
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            schema = item.args.get("db")
            alias = name_of(item.args["table"])
            relation: Relation | None = self.scope.relation(name_of(schema) if schema else None, alias)
            if relation is None:
                raise errors.UndefinedTable(
                    f'missing FROM-clause entry for table "{alias}"', position=position(self.context, item)
                )
            found = relation.columns
        else:
            return None
        spot = position(self.context, item)
        for column in found:
            if isinstance(column.expr, e.Column):
                owner = self.scope.owner(column)
                shown = f"{owner.alias}.{column.name}" if owner else column.name
                self.collected.first_read.setdefault(column.expr.index, (spot, shown))
        return [_Item(c.expr, c.output, item, alias=False) for c in found]

    # -- GROUP BY, HAVING --------------------------------------------------------------------------

    def _group_keys(self, group: Any, items: list[_Item]) -> list[e.Expr] | None:
        if group is None:
            return None
        refuse_others(self.context, group, frozenset({"expressions"}))
        binder = self.binder("GROUP BY")
        keys: list[e.Expr] = []
        for node in group.expressions:
            if isinstance(node, exp.Tuple):
                keys += [self._group_key(n, items, binder) for n in node.expressions]
            else:
                keys.append(self._group_key(node, items, binder))
        return list(dict.fromkeys(keys))

    def _group_key(self, node: Any, items: list[_Item], binder: ExprBinder) -> e.Expr:
        while isinstance(node, exp.Paren):
            node = node.this
        index = _ordinal(self.context, node, len(items), "GROUP BY")
        if index is None and isinstance(node, exp.Column) and not node.args.get("table"):
            name = name_of(node.this)
            if not any(c.name == name for c in self.scope.visible):
                index = next((i for i, item in enumerate(items) if item.output.name == name), None)
        if index is None:
            return binder.bind_settled(node)
        if any(isinstance(x, AggregateRef) for x in walk(items[index].expr)):
            raise errors.GroupingError(
                "aggregate functions are not allowed in GROUP BY", position=position(self.context, items[index].node)
            )
        items[index].expr = self.context.coercion.settle(items[index].expr)
        return items[index].expr

    def _aggregate(
        self, plan: Plan, keys: list[e.Expr], exprs: list[e.Expr], condition: e.Expr | None
    ) -> tuple[Plan, list[e.Expr], e.Expr | None]:
        keys = keys + self._dependent_columns(keys)
        rewrite = _OverGroups(keys, self.collected)
        new = [rewrite.apply(x) for x in exprs]
        new_condition = rewrite.apply(condition) if condition is not None else None
        columns = tuple(OutputColumn(_shown(k), k.type) for k in keys)
        columns += tuple(OutputColumn(c.name, c.type) for c in self.collected.calls)
        return p.Aggregate(columns, plan, tuple(keys), tuple(self.collected.calls)), new, new_condition

    def _dependent_columns(self, keys: list[e.Expr]) -> list[e.Expr]:
        """Columns of tables whose whole primary key is grouped by: they may be read freely, as in PostgreSQL."""
        found: list[e.Expr] = []
        for relation in self.scope.relations:
            primary = relation.table.primary_key if relation.table is not None else None
            if primary is None or not all(relation.columns[i].expr in keys for i in primary.columns):
                continue
            for column in relation.columns:
                read = isinstance(column.expr, e.Column) and column.expr.index in self.collected.first_read
                if read and column.expr not in keys:
                    found.append(column.expr)
        return found

    # -- ORDER BY, DISTINCT ------------------------------------------------------------------------

    def _sort_keys(self, order: Any, items: list[_Item], distinct: Any) -> tuple[list[p.SortKey], list[e.Expr]]:
        """Sort keys over the select list followed by the returned hidden expressions."""
        keys: list[p.SortKey] = []
        hidden: list[e.Expr] = []
        if order is None:
            return keys, hidden
        binder = self.binder("ORDER BY", aggregates=True)
        plain_distinct = distinct is not None and distinct.args.get("on") is None
        for item in order.expressions:
            index = self._output_index(item.this, items)
            if index is None:
                expr = binder.bind_settled(item.this)
                index = next((i for i, x in enumerate(items) if x.expr == expr), None)
                if index is None and plain_distinct:
                    raise errors.InvalidColumnReference(
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                        position=position(self.context, item),
                    )
                if index is None:
                    index = len(items) + (hidden.index(expr) if expr in hidden else len(hidden))
                    if index == len(items) + len(hidden):
                        hidden.append(expr)
                column = e.Column(expr.type, index)
            else:
                items[index].expr = self.context.coercion.settle(items[index].expr)
                column = e.Column(items[index].expr.type, index, items[index].output.name)
            keys.append(_sort_key(column, item))
        return keys, hidden

    def _output_index(self, node: Any, items: list[_Item]) -> int | None:
        index = _ordinal(self.context, node, len(items), "ORDER BY")
        if (
            index is not None
            or not isinstance(node, exp.Column)
            or node.args.get("table")
            or isinstance(node.this, exp.Star)
        ):
            return index
        name = name_of(node.this)
        matches = [i for i, item in enumerate(items) if item.output.name == name]
        if not matches:
            return None
        if len({_identity(items[i].expr) for i in matches}) > 1:
            raise errors.AmbiguousColumn(f'ORDER BY "{name}" is ambiguous', position=position(self.context, node))
        return matches[0]

    def _distinct_on(self, distinct: Any, items: list[_Item], hidden: list[e.Expr]) -> list[int]:
        on = distinct.args.get("on") if distinct is not None else None
        if on is None:
            return []
        nodes = on.expressions if isinstance(on, exp.Tuple) else [on]
        binder = self.binder("DISTINCT ON", aggregates=True)
        found: list[int] = []
        for node in nodes:
            while isinstance(node, exp.Paren):
                node = node.this
            index = self._output_index(node, items)
            if index is None:
                expr = binder.bind_settled(node)
                index = next((i for i, x in enumerate(items) if x.expr == expr), None)
                if index is None:
                    if expr not in hidden:
                        hidden.append(expr)
                    index = len(items) + hidden.index(expr)
            found.append(index)
        return found

    def _finish(self, plan: Plan, width: int, sort: list[p.SortKey], on: list[int], distinct: Any) -> Plan:
        if on:
            leading = [k.expr.index for k in sort[: len(set(on))] if isinstance(k.expr, e.Column)]
            if sort and not set(leading) <= set(on):
                raise errors.InvalidColumnReference(
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
                )
            if sort:
                plan = p.Sort(plan.columns, plan, tuple(sort))
            plan = p.Distinct(
                plan.columns, plan, tuple(e.Column(plan.columns[i].type, i, plan.columns[i].name) for i in on)
            )
        else:
            if distinct is not None:
                plan = p.Distinct(plan.columns, plan)
            if sort:
                plan = p.Sort(plan.columns, plan, tuple(sort))
        if len(plan.columns) > width:
            kept = plan.columns[:width]
            plan = p.Project(kept, plan, tuple(e.Column(c.type, i, c.name) for i, c in enumerate(kept)))
        return plan


def _identity(expr: e.Expr) -> Any:
    return expr


def _shown(expr: e.Expr) -> str:
    return expr.name if isinstance(expr, e.Column) else ""


def walk(expr: e.Expr) -> list[e.Expr]:
    """The expression and everything below it; plans of subqueries are not entered."""
    found = [expr]
    for part in e.children(expr):
        found += walk(part)
    return found


class _OverGroups:
    """Rewrites an expression over input rows and AggregateRefs into one over the output of the Aggregate
    node."""

    def __init__(self, keys: list[e.Expr], collected: Collected) -> None:
        self.keys = keys
        self.collected = collected

    def apply(self, expr: e.Expr) -> e.Expr:
        """Errors with 42803 at a column that is neither grouped by nor inside an aggregate."""
        if expr in self.keys:
            return e.Column(expr.type, self.keys.index(expr), _shown(expr))
        if isinstance(expr, AggregateRef):
            return e.Column(expr.type, len(self.keys) + expr.number, self.collected.calls[expr.number].name)
        if isinstance(expr, e.Column):
            spot, shown = self.collected.first_read.get(expr.index, (None, expr.name))
            raise errors.GroupingError(
                f'column "{shown}" must appear in the GROUP BY clause or be used in an aggregate function',
                position=spot,
            )
        parts = e.children(expr)
        if parts:
            expr = e.rebuild(expr, tuple(self.apply(x) for x in parts))
        if isinstance(expr, e.ScalarSubquery | e.InSubquery | e.Exists):
            return map_outers(expr, self._outer)
        return expr

    def _outer(self, reference: Outer, depth: int) -> e.Expr:
        """What a subquery reads of this query's rows is read of its groups."""
        if reference.level != depth:
            return reference
        return replace(reference, column=self.apply(reference.column))


__all__ = ["UNKNOWN", "bind_query", "cast_output", "position", "refuse_others", "walk"]
