"""Binds SELECT with its clauses.

The plan of a SELECT is, from the bottom: FROM, Filter (WHERE), Aggregate, Filter (HAVING), Project (the select list and
hidden sort columns), Distinct, Sort, Project (hidden columns cut), Limit. `bind_from.py` makes FROM; `bind_expr.py` the
expressions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_context import AggregateRef, Collected, Context, name_of
from filestore.query.bind_expr import ExprBinder
from filestore.query.bind_from import QueryBinder, bind_from
from filestore.query.bind_names import output_name
from filestore.query.bind_order import SubqueryBinder, limited, ordinal, position, refuse_others, sort_key
from filestore.query.hints import not_supported
from filestore.query.names import ONLY_AFTER_AS
from filestore.query.plan import OutputColumn, Plan
from filestore.query.rules.decorrelate import map_outers
from filestore.query.scope import Outer, Relation, Scope

_SELECT_ARGS: Final = frozenset(
    {"expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_"}
)


@dataclass(slots=True)
class _Item:
    """A select list item: its expression, what it is called, and where it stands."""

    expr: e.Expr
    output: OutputColumn
    node: Any
    alias: bool


class Select:
    """Binds one SELECT."""

    def __init__(self, context: Context, outer: Scope | None, query: QueryBinder, subquery: SubqueryBinder) -> None:
        self.context = context
        self.scope = Scope(outer)
        self.collected = Collected()
        self.query = query
        self.subquery = subquery

    def binder(self, clause: str, *, aggregates: bool = False) -> ExprBinder:
        return ExprBinder(self.context, self.scope, clause, self.subquery, self.collected if aggregates else None)

    def bind(self, node: Any, *, settle: bool) -> tuple[Plan, Scope]:
        refuse_others(self.context, node, _SELECT_ARGS)
        plan = bind_from(self.context, _from_nodes(node), node.args.get("joins") or [], self.scope, self.query)
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
        return limited(self.context, node, plan, self.subquery), self.scope

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
            if isinstance(item, exp.Alias):
                self._check_label(item.args["alias"])
            name = name_of(item.args["alias"]) if isinstance(item, exp.Alias) else output_name(inner)
            items.append(_Item(expr, self._output(inner, expr, name), inner, isinstance(item, exp.Alias)))
        return items

    def _check_label(self, label: Any) -> None:
        """42601 for a word that labels only behind AS; behind it, it was quoted before sqlglot read it."""
        if not label.args.get("quoted") and str(label.this).upper() in ONLY_AFTER_AS:
            raise errors.SqlSyntaxError(
                f'syntax error at or near "{label.this}"', position=position(self.context, label)
            )

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
                raise not_supported("* with modifiers", position(self.context, item))
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
                raise self.scope.missing(alias, position(self.context, item))
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
        index = ordinal(self.context, node, len(items), "GROUP BY")
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
            keys.append(sort_key(column, item))
        return keys, hidden

    def _output_index(self, node: Any, items: list[_Item]) -> int | None:
        index = ordinal(self.context, node, len(items), "ORDER BY")
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
        if len({items[i].expr for i in matches}) > 1:
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


def _shown(expr: e.Expr) -> str:
    return expr.name if isinstance(expr, e.Column) else ""


def walk(expr: e.Expr) -> list[e.Expr]:
    """The expression and everything below it; plans of subqueries are not entered."""
    found = [expr]
    for part in e.children(expr):
        found += walk(part)
    return found


def _from_nodes(node: Any) -> list[Any]:
    from_ = node.args.get("from_")
    return [] if from_ is None else [from_.this]


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
