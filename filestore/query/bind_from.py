"""Binds FROM: tables, subqueries, VALUES, functions, common table expressions, and joins of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query import plan as p
from filestore.query.bind_context import NO_FUNCTION_HINT, Context, name_of, offset_of
from filestore.query.bind_expr import ExprBinder
from filestore.query.bind_names import output_name
from filestore.query.coerce import AMBIGUOUS, select
from filestore.query.hints import hint_of, not_supported
from filestore.query.names import nearest
from filestore.query.plan import JoinKind, OutputColumn, Plan
from filestore.query.scope import Relation, Scope, ScopeColumn, relation_of
from filestore.storage.schema import TableDef
from filestore.types import INT4, INT8, INTERVAL, NUMERIC, REGCLASS, TEXT, TIMESTAMP, TIMESTAMPTZ

QueryBinder = Callable[..., tuple[Plan, Scope]]

SERIES: Final = tuple(
    f.Overload("generate_series", types, types[0])
    for types in (
        *((t,) * count for t in (INT4, INT8, NUMERIC) for count in (2, 3)),
        *((t, t, INTERVAL) for t in (TIMESTAMP, TIMESTAMPTZ)),
    )
)
SET_FUNCTIONS: Final[dict[str, tuple[f.Overload, ...]]] = {
    "generate_series": SERIES,
    "unnest": (f.Overload("unnest", (TEXT,), TEXT),),
    "generate_subscripts": (f.Overload("generate_subscripts", (TEXT, INT4), INT4),),
    "pg_partition_ancestors": (f.Overload("pg_partition_ancestors", (REGCLASS,), REGCLASS),),
}
"""Functions that FROM may call; those over arrays take their text form, as system tables show it."""


def bind_from(context: Context, nodes: list[Any], joins: list[Any], scope: Scope, query: QueryBinder) -> Plan:
    """The plan of a FROM clause; its relations are added to `scope`. Without FROM: one row."""
    if not nodes:
        return p.OneRow(())
    # `a, b JOIN c`: a comma binds weaker than JOIN, so each comma starts a new item.
    items: list[tuple[Any, list[Any]]] = []
    for node in nodes:
        items.append((node, []))
        nested = list(node.args.get("joins") or []) if isinstance(node, exp.Table | exp.Subquery) else []
        for join in [*nested, *(joins if node is nodes[-1] else [])]:
            if _is_comma(join):
                items.append((join.this, []))
            else:
                items[-1][1].append(join)
    return _From(context, scope, query).items(items)


def stored_scan(table: TableDef, *, address: bool = False) -> p.Scan:
    """A scan of every column of a table, followed by the row's address if asked for."""
    columns = tuple(OutputColumn(c.name, c.type, table.oid, i + 1) for i, c in enumerate(table.columns))
    if address:
        columns += (OutputColumn("", e.ADDRESS_TYPE),)
    return p.Scan(columns, table, tuple(range(len(table.columns))), None, address)


def _is_comma(join: Any) -> bool:
    return not any(join.args.get(k) for k in ("on", "using", "side", "kind", "method"))


class _From:
    def __init__(self, context: Context, scope: Scope, query: QueryBinder) -> None:
        self.context = context
        self.scope = scope
        self.query = query
        self.before = Scope(scope.outer)
        """What stands to the left of the item that is bound, within its joins."""

    def position(self, node: Any) -> int | None:
        offset = offset_of(node)
        return None if offset is None else self.context.source.position(offset)

    def items(self, items: list[tuple[Any, list[Any]]]) -> Plan:
        plan: Plan | None = None
        for node, joins in items:
            part_scope = Scope(self.scope.outer)
            offset = 0 if plan is None else len(plan.columns)
            part = self.item(node, joins, part_scope, offset)
            plan = part if plan is None else _cross(plan, part)
            self._merge(part_scope, self.scope)
        if plan is None:
            return p.OneRow(())
        return plan

    def _merge(self, part: Scope, into: Scope) -> None:
        for relation in part.relations:
            if any(r.alias == relation.alias and r.schema == relation.schema for r in into.relations):
                raise errors.DuplicateAlias(f'table name "{relation.alias}" specified more than once')
            into.relations.append(relation)
        into.visible.extend(part.visible)
        into.correlated.extend(part.correlated)

    def item(self, node: Any, joins: list[Any], scope: Scope, offset: int) -> Plan:
        """One item with its joins; columns start at `offset` of the FROM row."""
        plan = self.factor(node, scope, offset)
        for join in joins:
            if isinstance(join.this, exp.Lateral):
                self._lateral(join, scope)
                continue
            right_scope = Scope(scope.outer)
            self.before = scope
            right = self.factor(join.this, right_scope, offset + len(plan.columns))
            for inner in (join.this.args.get("joins") or []) if isinstance(join.this, exp.Table) else []:
                right = self._join(inner, right, right_scope, offset + len(plan.columns))
            plan = self._joined(join, plan, right, scope, right_scope, offset)
        return plan

    def _join(self, join: Any, left: Plan, scope: Scope, offset: int) -> Plan:
        right_scope = Scope(scope.outer)
        right = self.factor(join.this, right_scope, offset + len(left.columns))
        return self._joined(join, left, right, scope, right_scope, offset)

    def _lateral(self, join: Any, scope: Scope) -> None:
        """CROSS JOIN LATERAL (SELECT expressions): names for expressions over the row so far; no rows are added or
        lost."""
        lateral = join.this
        query = lateral.this.this if isinstance(lateral.this, exp.Subquery) else None
        alias, names = self._alias(lateral)
        simple = isinstance(query, exp.Select) and not any(v for k, v in query.args.items() if k != "expressions")
        if query is None or not simple or alias is None or self._kind(join) is not JoinKind.CROSS:
            raise not_supported("LATERAL", self.position(lateral))
        binder = ExprBinder(self.context, scope, "LATERAL", self._no_subquery)
        exprs = [binder.bind_settled(x.this if isinstance(x, exp.Alias) else x) for x in query.expressions]
        self._check_names(alias, names, len(exprs))
        unnamed = query.expressions[len(names) :]
        given = names + [name_of(x.args["alias"]) if isinstance(x, exp.Alias) else output_name(x) for x in unnamed]
        columns = [ScopeColumn(n, x, OutputColumn(n, x.type)) for n, x in zip(given, exprs, strict=True)]
        scope.add(Relation(alias, columns))

    # -- factors -----------------------------------------------------------------------------------

    def factor(self, node: Any, scope: Scope, offset: int) -> Plan:
        if isinstance(node, exp.Lateral):
            raise not_supported("LATERAL", self.position(node))
        if isinstance(node, exp.Subquery):
            if isinstance(node.this, exp.Table | exp.Subquery) and not isinstance(node.this, exp.Query):
                return self._parenthesised(node, scope, offset)
            return self._derived(node, node.this if not node.args.get("with_") else node, scope, offset)
        if isinstance(node, exp.Values):
            return self._derived(node, node, scope, offset)
        if isinstance(node, exp.Table):
            if isinstance(node.this, exp.Values):  # (VALUES ...) in parentheses of a join
                return self._derived(node, node.this, scope, offset)
            if isinstance(node.this, exp.Anonymous | exp.Func):
                return self._function(node, scope, offset)
            return self._table(node, scope, offset)
        raise not_supported(f"{type(node).__name__} in FROM", self.position(node))

    def _parenthesised(self, node: Any, scope: Scope, offset: int) -> Plan:
        inner = Scope(scope.outer)
        plan = self.item(node.this, list(node.this.args.get("joins") or []), inner, offset)
        alias, names = self._alias(node)
        if alias is None:
            self._merge(inner, scope)
            return plan
        columns = [
            ScopeColumn(names[i] if i < len(names) else c.name, c.expr, c.output) for i, c in enumerate(inner.visible)
        ]
        scope.add(Relation(alias, columns))
        return plan

    def _alias(self, node: Any) -> tuple[str | None, list[str]]:
        alias = node.args.get("alias")
        if alias is None:
            return None, []
        names = [
            name_of(c) if isinstance(c, exp.Identifier) else name_of(c.this) for c in alias.args.get("columns") or []
        ]
        return (name_of(alias.this) if alias.this is not None else None), names

    def _derived(self, node: Any, query: Any, scope: Scope, offset: int) -> Plan:
        alias, names = self._alias(node)
        if alias is None:
            what = "VALUES" if isinstance(node, exp.Values) else "subquery"
            raise errors.SqlSyntaxError(
                f"{what} in FROM must have an alias",
                hint=f"For example, FROM ({'VALUES ...' if what == 'VALUES' else 'SELECT ...'}) [AS] foo.",
                position=self._opening(node),
            )
        plan, inner = self.query(self.context, query, self.scope.outer)
        self.scope.correlated.extend(inner.correlated)
        self._check_names(alias, names, len(plan.columns))
        scope.add(relation_of(plan, alias, offset, names))
        return plan

    def _opening(self, node: Any) -> int | None:
        """Where the parenthesis before a subquery stands."""
        offset = offset_of(node)
        found = -1 if offset is None else self.context.source.rewritten.rfind("(", 0, offset)
        return self.position(node) if found < 0 else self.context.source.position(found)

    def _check_names(self, alias: str, names: list[str], available: int) -> None:
        if len(names) > available:
            raise errors.InvalidColumnReference(
                f'table "{alias}" has {available} columns available but {len(names)} columns specified'
            )

    def _table(self, node: Any, scope: Scope, offset: int) -> Plan:
        self._refuse(node)
        name = name_of(node.this)
        schema = name_of(node.args["db"]) if node.args.get("db") else None
        alias, names = self._alias(node)
        plan, table = self._relation(schema, name, node)
        relation = relation_of(plan, alias or name, offset, names)
        self._check_names(alias or name, names, len(plan.columns))
        relation.table = table
        relation.oid = self._oid(plan, table)
        if alias is None and table is not None:
            relation.schema = table.schema
        elif alias is None and isinstance(plan, p.VirtualScan):
            relation.schema = plan.schema
        scope.add(relation)
        return plan

    def _oid(self, plan: Plan, table: TableDef | None) -> int:
        if table is not None:
            return table.oid
        if isinstance(plan, p.VirtualScan):
            return self.context.catalog.relation_oid(plan.schema, plan.name) or 0
        return 0

    def _refuse(self, node: Any, allowed: str = "") -> None:
        for key, value in node.args.items():
            if value and key not in ("this", "db", "alias", "only", "joins", "catalog", allowed):
                what = {"sample": "TABLESAMPLE", "ordinality": "WITH ORDINALITY", "version": "FOR SYSTEM_TIME"}.get(
                    key, key.upper()
                )
                raise not_supported(what, self.position(node))
        if node.args.get("catalog"):
            raise errors.FeatureNotSupported(
                "cross-database references are not implemented",
                hint=hint_of("cross-database references"),
                position=self.position(node),
            )

    def _relation(self, schema: str | None, name: str, node: Any) -> tuple[Plan, TableDef | None]:
        if schema is None:
            for frame in reversed(self.context.ctes):
                if name in frame:
                    unique, columns, _ = frame[name]
                    return p.CteScan(columns, unique), None
        catalog = self.context.catalog
        if schema is None or schema in ("pg_catalog", "information_schema"):
            virtual = catalog.virtual(schema or "pg_catalog", name)
            if virtual is not None:
                return p.VirtualScan(virtual, schema or "pg_catalog", name), None
        table = catalog.table(schema, name)
        if table is None:
            shown = f"{schema}.{name}" if schema else name
            near = nearest(name, catalog.table_names())
            hint = f'Perhaps you meant the table "{near}".' if near else None
            raise errors.UndefinedTable(f'relation "{shown}" does not exist', hint=hint, position=self.position(node))
        if table not in self.context.tables:
            self.context.tables.append(table)
        return stored_scan(table), table

    def _function(self, node: Any, scope: Scope, offset: int) -> Plan:
        call = node.this
        self._refuse(node, "ordinality")
        name = name_of(call.this) if isinstance(call, exp.Anonymous) else call.sql_name().lower()
        if name not in SET_FUNCTIONS:
            raise errors.FeatureNotSupported(
                f"function {name}() in FROM is not supported",
                hint="FROM takes generate_series() and unnest().",
                position=self.position(node),
            )
        from filestore.query.bind_query import subquery_binder

        outside = Scope(self.scope.outer)
        subquery = subquery_binder(self.context)
        binder = ExprBinder(self.context, outside, "function arguments", subquery)
        try:
            args = binder.all_of(call.expressions)
        except (errors.UndefinedColumn, errors.UndefinedTable):
            left = Scope(None, self.scope.relations + self.before.relations, self.scope.visible + self.before.visible)
            ExprBinder(self.context, left, "function arguments", subquery).all_of(call.expressions)  # or its error
            raise errors.FeatureNotSupported(
                "LATERAL is not supported: a function in FROM cannot read the tables before it",
                hint=f"Call {name}() with constants, and compare with the column in ON or WHERE.",
                position=self.position(node),
            ) from None
        self.scope.correlated.extend(outside.correlated)
        found = select(SET_FUNCTIONS[name], tuple(a.type for a in args))
        if found == AMBIGUOUS:
            shown = ", ".join(a.type.without_modifiers().name for a in args)
            raise errors.AmbiguousFunction(
                f"function {name}({shown}) is not unique",
                hint="Could not choose a best candidate function. You might need to add explicit type casts.",
                position=self.position(node),
            )
        if not isinstance(found, f.Overload):
            shown = ", ".join(a.type.without_modifiers().name for a in args)
            raise errors.UndefinedFunction(
                f"function {name}({shown}) does not exist",
                hint=NO_FUNCTION_HINT,
                position=self.position(node),
            )
        bound = self.context.coercion.call(found, args, [self.position(n) for n in call.expressions])
        alias, names = self._alias(node)
        shown_name = names[0] if names else alias or name
        columns: tuple[OutputColumn, ...] = (OutputColumn(shown_name, bound.type),)
        if node.args.get("ordinality"):
            columns += (OutputColumn("ordinality", INT8),)
        plan = p.FunctionScan(columns, name, bound.args)
        self._check_names(alias or name, names, len(columns))
        scope.add(relation_of(plan, alias or name, offset, names))
        return plan

    def _no_subquery(self, node: Any, _outer: Scope) -> tuple[Plan, Scope]:
        raise not_supported("a subquery in LATERAL", self.position(node))

    # -- joins -------------------------------------------------------------------------------------

    def _joined(self, join: Any, left: Plan, right: Plan, scope: Scope, right_scope: Scope, offset: int) -> Plan:
        kind = self._kind(join)
        columns = left.columns + right.columns
        using = self._using(join, scope, right_scope)
        if using is not None:
            return self._join_using(kind, using, left, right, scope, right_scope, offset)
        self._merge(right_scope, scope)
        on = join.args.get("on")
        if on is None:
            if kind is JoinKind.CROSS or _is_comma(join):
                return _cross(left, right)
            raise errors.SqlSyntaxError("JOIN needs ON or USING", position=self.position(join))
        here = Scope(scope.outer, scope.relations, scope.visible, scope.correlated)
        binder = ExprBinder(self.context, here, "JOIN/ON", self._on_subquery)
        condition = binder.condition(on)
        return _join(kind, left, right, columns, _shifted(condition, offset), len(left.columns))

    def _on_subquery(self, node: Any, _outer: Scope) -> tuple[Plan, Scope]:
        plan, inner = self.query(self.context, node, Scope(None))
        return plan, inner

    def _kind(self, join: Any) -> JoinKind:
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        if kind not in ("", "INNER", "OUTER", "CROSS"):
            raise not_supported(f"{kind} JOIN", self.position(join))
        if side:
            return {"LEFT": JoinKind.LEFT, "RIGHT": JoinKind.RIGHT, "FULL": JoinKind.FULL}[side]
        return JoinKind.CROSS if kind == "CROSS" else JoinKind.INNER

    def _using(self, join: Any, left: Scope, right: Scope) -> list[str] | None:
        method = str(join.args.get("method") or "").upper()
        if method == "NATURAL":
            names = {c.name for c in right.visible}
            return list(dict.fromkeys(c.name for c in left.visible if c.name in names))
        if method:
            raise not_supported(f"{method} JOIN", self.position(join))
        using = join.args.get("using")
        return [name_of(n if isinstance(n, exp.Identifier) else n.this) for n in using] if using else None

    def _join_using(
        self, kind: JoinKind, names: list[str], left: Plan, right: Plan, scope: Scope, right_scope: Scope, offset: int
    ) -> Plan:
        pairs = [(self._one(scope, n, "left"), self._one(right_scope, n, "right")) for n in names]
        binder = ExprBinder(self.context, scope, "JOIN/USING", self._on_subquery)
        parts: list[e.Expr] = []
        merged: list[ScopeColumn] = []
        for name, (a, b) in zip(names, pairs, strict=True):
            parts.append(binder.operate("=", [a.expr, b.expr], exp.EQ(this=exp.Null(), expression=exp.Null())))
            expr = a.expr if kind in (JoinKind.INNER, JoinKind.LEFT) else b.expr
            if kind is JoinKind.FULL:
                both = self.context.coercion.unify([a.expr, b.expr], "JOIN/USING")
                expr = e.Coalesce(both[0].type, tuple(both))
            source = a if kind in (JoinKind.INNER, JoinKind.LEFT) else b
            output = source.output if expr is source.expr else OutputColumn(name, expr.type)
            merged.append(ScopeColumn(name, expr, output))
        used = set(names)
        visible = [
            *merged,
            *(c for c in scope.visible if c.name not in used),
            *(c for c in right_scope.visible if c.name not in used),
        ]
        self._merge(right_scope, scope)
        scope.visible[:] = visible
        columns = left.columns + right.columns
        condition = e.conjunction(parts)
        if condition is None:
            return _cross(left, right)
        return _join(kind, left, right, columns, _shifted(condition, offset), len(left.columns))

    def _one(self, scope: Scope, name: str, side: str) -> ScopeColumn:
        matches = [c for c in scope.visible if c.name == name]
        if not matches:
            raise errors.UndefinedColumn(f'column "{name}" specified in USING clause does not exist in {side} table')
        if len(matches) > 1:
            raise errors.AmbiguousColumn(f'common column name "{name}" appears more than once in {side} table')
        return matches[0]


def _shifted(condition: e.Expr, offset: int) -> e.Expr:
    """The condition over the join's own row instead of the whole FROM row."""
    if offset == 0:
        return condition
    return e.transform(
        condition, lambda x: e.Column(x.type, x.index - offset, x.name) if isinstance(x, e.Column) else x
    )


def _cross(left: Plan, right: Plan) -> Plan:
    return p.Join(left.columns + right.columns, JoinKind.CROSS, left, right, (), ())


def _join(
    kind: JoinKind, left: Plan, right: Plan, columns: tuple[OutputColumn, ...], condition: e.Expr, width: int
) -> Plan:
    """A join whose equalities between the sides are keys, the rest residual."""
    from filestore.query.rules.extract_join_keys import split_condition

    if kind is JoinKind.CROSS:
        kind = JoinKind.INNER
    left_keys, right_keys, residual = split_condition(condition, width)
    return p.Join(columns, kind, left, right, left_keys, right_keys, residual)
