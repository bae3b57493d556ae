"""Binds INSERT, UPDATE and DELETE onto the plan nodes that `dml.py` runs.

Rows that are written are whole: INSERT's source yields every column of the table with defaults and casts in
it. UPDATE and DELETE read addresses, and keep their condition and assignments over the table's whole row, so
that a moved row can be looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_context import Context, name_of, row_items
from filestore.query.bind_ddl import bind_checks, bind_default
from filestore.query.bind_expr import ExprBinder
from filestore.query.bind_from import bind_from, stored_scan
from filestore.query.bind_names import output_name
from filestore.query.bind_order import position
from filestore.query.bind_query import bind_query, subquery_binder
from filestore.query.hints import not_supported
from filestore.query.names import nearest
from filestore.query.plan import OutputColumn, Plan
from filestore.query.rules.decorrelate import is_correlated, map_columns, row_by_row
from filestore.query.scope import Relation, Scope, relation_of
from filestore.storage.schema import ColumnDef, TableDef
from filestore.types import Kind

_INSERT_ARGS: Final = frozenset(
    {"this", "expression", "default", "returning", "with_", "stored", "exists", "is_function"}
)


def _target(context: Context, node: Any) -> tuple[TableDef, str]:
    """The stored table a statement changes, and its alias. Errors: 42P01; 42809 for a system table."""
    for key, value in node.args.items():
        if value and key not in ("this", "db", "alias", "only", "joins"):
            raise not_supported(f"{key} of the target table", position(context, node))
    name = name_of(node.this)
    schema = name_of(node.args["db"]) if node.args.get("db") else None
    table = context.catalog.table(schema, name)
    if table is None:
        shown = f"{schema}.{name}" if schema else name
        if context.catalog.virtual(schema or "pg_catalog", name) is not None:
            raise errors.InsufficientPrivilege(f'permission denied: "{name}" is a system catalog')
        near = nearest(name, context.catalog.table_names())
        hint = f'Perhaps you meant the table "{near}".' if near else None
        raise errors.UndefinedTable(f'relation "{shown}" does not exist', hint=hint, position=position(context, node))
    if table not in context.tables:
        context.tables.append(table)
    alias = node.args.get("alias")
    return table, name_of(alias.this) if alias is not None else name


def _table_relation(table: TableDef, alias: str, offset: int = 0) -> Relation:
    relation = relation_of(stored_scan(table), alias, offset)
    relation.table = table
    relation.oid = table.oid
    return relation


def _ordinal(context: Context, table: TableDef, node: Any) -> int:
    """The column a target list names. Errors: 42703."""
    column = node.this if isinstance(node, exp.Column) else node
    name = name_of(column)
    ordinal = table.ordinal(name)
    if ordinal is None:
        raise errors.UndefinedColumn(
            f'column "{name}" of relation "{table.name}" does not exist', position=position(context, node)
        )
    return ordinal


def _is_default(node: Any) -> bool:
    if isinstance(node, exp.Var):
        return str(node.this).upper() == "DEFAULT"
    return (
        isinstance(node, exp.Column)
        and not node.args.get("table")
        and not node.this.args.get("quoted")
        and (isinstance(node.this, exp.Identifier) and str(node.this.this).upper() == "DEFAULT")
    )


def _default(context: Context, table: TableDef, ordinal: int) -> e.Expr:
    column = table.columns[ordinal]
    if column.default is None:
        return e.Const(column.type, None)
    return bind_default(column, context.catalog)


def _assigned(binder: ExprBinder, node: Any, column: ColumnDef) -> e.Expr:
    expr = binder.bind(node)
    return binder.coercion.assign(expr, column.type, column.name, binder.position(node))


# --- INSERT ---------------------------------------------------------------------------------------


def bind_insert(context: Context, node: Any) -> Plan:
    """INSERT. Errors: 42601 for a wrong number of values, 42701 for a column named twice, 42804 for a wrong
    type."""
    conflict = node.args.get("conflict")
    if conflict is not None:
        raise errors.FeatureNotSupported(
            "INSERT ... ON CONFLICT is not supported",
            hint="Update first, and insert when no row was updated.",
            position=position(context, conflict),
        )
    for key, value in node.args.items():
        if value and key not in _INSERT_ARGS:
            raise not_supported(f"INSERT ... {key.upper()}", position(context, node))
    target = node.this
    listed: list[int] | None = None
    nodes = list(target.expressions) if isinstance(target, exp.Schema) else []
    if isinstance(target, exp.Schema):
        table, alias = _target(context, target.this)
        listed = [_ordinal(context, table, n) for n in target.expressions]
        _no_twice(context, table, listed, target.expressions)
    else:
        table, alias = _target(context, target)
    query = node.args.get("expression")
    with_ = node.args.get("with_")
    if with_ is not None and query is not None:
        query.set("with_", with_)
    if query is None:
        row = tuple(_default(context, table, i) for i in range(len(table.columns)))
        source: Plan = p.Values(stored_scan(table).columns, (row,))
    elif isinstance(query, exp.Values) and not any(query.args.get(k) for k in ("order", "limit", "offset", "with_")):
        source = _insert_values(context, _Target(table, listed, nodes), query)
    else:
        source = _insert_query(context, _Target(table, listed, nodes), query)
    returning = _returning(context, node, table, alias, Scope(None))
    columns = _returned_columns(context, node, returning, table, alias)
    exprs = None if returning is None else tuple(x for x, _ in returning)
    return p.Insert(columns, table, source, bind_checks(table, context.catalog), exprs)


def _no_twice(context: Context, table: TableDef, ordinals: list[int], nodes: list[Any]) -> None:
    for i, ordinal in enumerate(ordinals):
        if ordinal in ordinals[:i]:
            name = table.columns[ordinal].name
            raise errors.DuplicateColumn(
                f'column "{name}" specified more than once', position=position(context, nodes[i])
            )


@dataclass(frozen=True, slots=True)
class _Target:
    """An INSERT's table and its column list; without one `listed` is None and `nodes` empty."""

    table: TableDef
    listed: list[int] | None
    nodes: list[Any]

    def columns(self, context: Context, given: int, values: Sequence[Any]) -> list[int]:
        """The target columns of `given` values. Errors with 42601, at the first one too many on either side."""
        targets = self.listed if self.listed is not None else list(range(len(self.table.columns)))
        if given > len(targets):
            excess = values[len(targets)] if len(values) == given else values[0]
            raise errors.SqlSyntaxError(
                "INSERT has more expressions than target columns", position=position(context, excess)
            )
        if self.listed is not None and given < len(targets):
            raise errors.SqlSyntaxError(
                "INSERT has more target columns than expressions", position=position(context, self.nodes[given])
            )
        return targets[:given]


def _insert_values(context: Context, target: _Target, node: Any) -> Plan:
    table = target.table
    binder = ExprBinder(context, Scope(None), "VALUES", subquery_binder(context))
    rows: list[tuple[e.Expr, ...]] = []
    width = None
    for row in node.expressions:
        nodes = (
            list(row.expressions) if isinstance(row, exp.Tuple) else [row.this if isinstance(row, exp.Paren) else row]
        )
        if width is not None and len(nodes) != width:
            raise errors.SqlSyntaxError("VALUES lists must all be the same length", position=position(context, row))
        if width is None:
            targets = target.columns(context, len(nodes), nodes)
            width = len(nodes)
            missing = {i: _default(context, table, i) for i in range(len(table.columns)) if i not in targets}
        values = dict(missing)
        for ordinal, item in zip(targets, nodes, strict=True):
            if _is_default(item):
                values[ordinal] = _default(context, table, ordinal)
            else:
                values[ordinal] = _assigned(binder, item, table.columns[ordinal])
        rows.append(tuple(values[i] for i in range(len(table.columns))))
    return p.Values(stored_scan(table).columns, tuple(rows))


def _insert_query(context: Context, target: _Target, query: Any) -> Plan:
    table = target.table
    plan, _ = bind_query(context, query, None, settle=False)
    items = query.expressions if isinstance(query, exp.Select) else [query]
    targets = target.columns(context, len(plan.columns), items)
    # Literals of the select list take the type of their column, so they are converted where they stand.
    for i, ordinal in enumerate(targets):
        column = table.columns[ordinal]
        if plan.columns[i].type.kind is Kind.UNKNOWN:
            plan = _typed_output(context, plan, i, column)
    exprs: list[e.Expr] = []
    for ordinal, column in enumerate(table.columns):
        if ordinal in targets:
            i = targets.index(ordinal)
            value = e.Column(plan.columns[i].type, i, plan.columns[i].name)
            exprs.append(context.coercion.assign(value, column.type, column.name, position(context, query)))
        else:
            exprs.append(_default(context, table, ordinal))
    return p.Project(stored_scan(table).columns, plan, tuple(exprs))


def _typed_output(context: Context, plan: Plan, index: int, column: ColumnDef) -> Plan:
    """`plan` with an output of unknown type turned into the column's type, at the Project that makes it."""
    columns = tuple(
        OutputColumn(c.name, column.type if i == index else c.type, c.table_oid, c.attnum)
        for i, c in enumerate(plan.columns)
    )
    if isinstance(plan, p.Project):
        expr = plan.exprs[index]
        if isinstance(expr, e.Column) and expr.type.kind is Kind.UNKNOWN and not isinstance(plan.input, p.OneRow):
            inner = _typed_output(context, plan.input, expr.index, column)
            moved: e.Expr = e.Column(column.type, expr.index, expr.name)
            return p.Project(columns, inner, tuple(moved if i == index else x for i, x in enumerate(plan.exprs)))
        typed = context.coercion.to(expr, column.type, "assignment")
        return p.Project(columns, plan.input, tuple(typed if i == index else x for i, x in enumerate(plan.exprs)))
    if isinstance(plan, p.Limit):
        return p.Limit(columns, _typed_output(context, plan.input, index, column), plan.limit, plan.offset)
    if isinstance(plan, p.Distinct):
        return p.Distinct(columns, _typed_output(context, plan.input, index, column), plan.keys)
    if isinstance(plan, p.Sort):
        return p.Sort(columns, _typed_output(context, plan.input, index, column), plan.keys, plan.limit)
    if isinstance(plan, p.With):
        return p.With(columns, plan.ctes, _typed_output(context, plan.input, index, column))
    return p.Project(
        columns,
        plan,
        tuple(
            context.coercion.to(e.Column(c.type, i, c.name), columns[i].type, "assignment")
            for i, c in enumerate(plan.columns)
        ),
    )


# --- UPDATE, DELETE -------------------------------------------------------------------------------


def _with_refused(context: Context, node: Any) -> None:
    if node.args.get("with_") is not None:
        raise errors.FeatureNotSupported(
            f"WITH before {type(node).__name__.upper()} is not supported",
            hint="Use a subquery in FROM.",
            position=position(context, node),
        )


def _sources(context: Context, table: TableDef, alias: str, items: list[Any]) -> tuple[Plan, Scope, int]:
    """(scan of the target followed by the other tables, scope, how many columns the target has)."""
    scope = Scope(None)
    scope.add(_table_relation(table, alias))
    scan: Plan = stored_scan(table, address=True)
    width = len(table.columns)
    if not items:
        return scan, scope, width
    others = Scope(None)
    plan = bind_from(context, items, [], others, bind_query)
    _shift_into(scope, others, width)
    joined = p.Join(scan.columns + plan.columns, p.JoinKind.CROSS, scan, plan, (), ())
    return joined, scope, width


def _shift_into(scope: Scope, others: Scope, width: int) -> None:
    from filestore.query.rules.traversal import shift

    for relation in others.relations:
        for column in relation.columns:
            column.expr = shift(column.expr, width)
        if any(r.alias == relation.alias and r.schema == relation.schema for r in scope.relations):
            raise errors.DuplicateAlias(f'table name "{relation.alias}" specified more than once')
        scope.relations.append(relation)
    moved = {id(c) for r in others.relations for c in r.columns}
    for column in others.visible:
        if id(column) not in moved:
            column.expr = shift(column.expr, width)
        scope.visible.append(column)


def _addressed(source: Plan, predicate: e.Expr | None, width: int, values: Sequence[e.Expr] = ()) -> Plan:
    """(address, extra columns ..., values ...) of the rows that meet the condition. The source has the
    address behind the target's columns; `values` are computed with the rows because they hold correlated
    subqueries."""
    total = len(source.columns)

    def moved(x: e.Column) -> e.Expr:
        return e.Column(x.type, x.index + 1, x.name) if x.index >= width else x

    plan = source
    if predicate is not None:
        plan = p.Filter(source.columns, source, map_columns(predicate, moved))
    kept = [width, *range(width + 1, total)]
    columns = tuple(source.columns[i] for i in kept) + tuple(OutputColumn("", x.type) for x in values)
    exprs = [e.Column(source.columns[i].type, i, source.columns[i].name) for i in kept]
    return p.Project(columns, plan, (*exprs, *(map_columns(x, moved) for x in values)))


def _looked_at_again(predicate: e.Expr | None) -> e.Expr | None:
    """A condition in the form that can be evaluated for rows that moved."""
    return None if predicate is None else row_by_row(predicate)


def bind_update(context: Context, node: Any) -> Plan:
    """UPDATE. Errors: 42601 when a column is assigned twice, 42703, 42804."""
    _with_refused(context, node)
    for key, value in node.args.items():
        if value and key not in ("this", "expressions", "from_", "where", "returning"):
            raise not_supported(f"UPDATE ... {key.upper()}", position(context, node))
    table, alias = _target(context, node.this)
    from_ = node.args.get("from_")
    source, scope, width = _sources(context, table, alias, [from_.this] if from_ is not None else [])
    predicate = _predicate(context, node, scope)
    assignments = _assignments(context, node, table, scope)
    returning = _returning(context, node, table, alias, scope)
    columns = _returned_columns(context, node, returning, table, alias)
    exprs = None if returning is None else tuple(x for x, _ in returning)
    extra = len(source.columns) - 1
    values: list[e.Expr] = []
    for i, (ordinal, value) in enumerate(assignments):
        if is_correlated(value):
            assignments[i] = (ordinal, e.Column(value.type, extra + len(values)))
            values.append(value)
    plan = _addressed(source, predicate, width, values)
    again = _looked_at_again(predicate)
    checks = bind_checks(table, context.catalog)
    moved = tuple(row_by_row(x) for x in values)
    return p.Update(columns, table, plan, again, tuple(assignments), checks, exprs, moved)


def _predicate(context: Context, node: Any, scope: Scope) -> e.Expr | None:
    where = node.args.get("where")
    if where is None:
        return None
    return ExprBinder(context, scope, "WHERE", subquery_binder(context)).condition(where.this)


def _assignments(context: Context, node: Any, table: TableDef, scope: Scope) -> list[tuple[int, e.Expr]]:
    binder = ExprBinder(context, scope, "UPDATE", subquery_binder(context))
    found: dict[int, e.Expr] = {}
    for item in node.expressions:
        if not isinstance(item, exp.EQ):
            raise errors.SqlSyntaxError("syntax error in SET", position=position(context, item))
        targets = list(item.this.expressions) if isinstance(item.this, exp.Tuple) else [item.this]
        values = [item.expression]
        if isinstance(item.this, exp.Tuple):
            row = row_items(item.expression)
            if row is None and isinstance(item.expression, exp.Paren) and len(targets) == 1:
                row = [item.expression.this]
            if row is None and not isinstance(item.expression, exp.Subquery):
                raise errors.FeatureNotSupported(
                    "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
                    position=position(context, item.expression),
                )
            if row is None:
                raise errors.FeatureNotSupported(
                    "UPDATE ... SET (columns) = (subquery) is not supported",
                    hint="Give each column a subquery of its own.",
                    position=position(context, item),
                )
            values = row
        if len(targets) != len(values):
            raise errors.SqlSyntaxError(
                "number of columns does not match number of values", position=position(context, item)
            )
        for target, value in zip(targets, values, strict=True):
            if isinstance(target, exp.Column) and target.args.get("table") is not None:
                name = name_of(target.args["table"])
                raise errors.UndefinedColumn(
                    f'column "{name}" of relation "{table.name}" does not exist',
                    hint="SET target columns cannot be qualified with the relation name."
                    if name == table.name
                    else None,
                    position=position(context, target),
                )
            ordinal = _ordinal(context, table, target)
            if ordinal in found:
                raise errors.SqlSyntaxError(
                    f'multiple assignments to same column "{table.columns[ordinal].name}"'
                )
            if _is_default(value):
                found[ordinal] = _default(context, table, ordinal)
            else:
                found[ordinal] = _assigned(binder, value, table.columns[ordinal])
    return list(found.items())


def bind_delete(context: Context, node: Any) -> Plan:
    """DELETE."""
    _with_refused(context, node)
    for key, value in node.args.items():
        if value and key not in ("this", "using", "where", "returning"):
            raise not_supported(f"DELETE ... {key.upper()}", position(context, node))
    table, alias = _target(context, node.this)
    source, scope, width = _sources(context, table, alias, list(node.args.get("using") or []))
    predicate = _predicate(context, node, scope)
    returning = _returning(context, node, table, alias, scope)
    columns = _returned_columns(context, node, returning, table, alias)
    exprs = None if returning is None else tuple(x for x, _ in returning)
    return p.Delete(columns, table, _addressed(source, predicate, width), _looked_at_again(predicate), exprs)


# --- RETURNING ------------------------------------------------------------------------------------


def _returning(
    context: Context, node: Any, table: TableDef, alias: str, scope: Scope
) -> list[tuple[e.Expr, OutputColumn]] | None:
    returning = node.args.get("returning")
    if returning is None:
        return None
    if not scope.relations:
        scope = Scope(None)
        scope.add(_table_relation(table, alias))
    binder = ExprBinder(context, scope, "RETURNING", subquery_binder(context))
    found: list[tuple[e.Expr, OutputColumn]] = []
    for item in returning.expressions:
        if isinstance(item, exp.Star):
            found += [(c.expr, c.output) for c in scope.visible]
            continue
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            relation = scope.relation(None, name_of(item.args["table"]))
            if relation is None:
                raise errors.UndefinedTable(
                    f'missing FROM-clause entry for table "{name_of(item.args["table"])}"',
                    position=position(context, item),
                )
            found += [(c.expr, c.output) for c in relation.columns]
            continue
        inner = item.this if isinstance(item, exp.Alias) else item
        expr = binder.bind_settled(inner)
        name = name_of(item.args["alias"]) if isinstance(item, exp.Alias) else output_name(inner)
        origin = next((c.output for c in scope.visible if c.expr == expr), None)
        oid, attnum = (origin.table_oid, origin.attnum) if origin is not None else (0, 0)
        found.append((expr, OutputColumn(name, expr.type, oid, attnum)))
    return found


def _returned_columns(
    _context: Context, _node: Any, returning: list[tuple[e.Expr, OutputColumn]] | None, _table: TableDef, _alias: str
) -> tuple[OutputColumn, ...]:
    return () if returning is None else tuple(o for _, o in returning)
