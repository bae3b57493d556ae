"""Definitions: CREATE TABLE's specification to a `TableDef`; DEFAULT and CHECK bound from their SQL text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from filestore import errors
from filestore.query import expr as e
from filestore.query.bind_context import Context
from filestore.query.bind_expr import ExprBinder
from filestore.query.coerce import Coercion
from filestore.query.names import MAX_NAME_BYTES
from filestore.query.parse import expression
from filestore.query.plan import Plan
from filestore.query.scope import Catalog, Scope
from filestore.query.statements import CheckSpec, CreateTable, KeySpec
from filestore.storage.schema import CheckDef, ColumnDef, KeyDef, TableDef

SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})


def _no_subquery(_node: object, _outer: Scope) -> tuple[Plan, Scope]:
    raise errors.FeatureNotSupported("cannot use subquery in this expression")


def _no_check_subquery(_node: object, _outer: Scope) -> tuple[Plan, Scope]:
    raise errors.FeatureNotSupported("cannot use subquery in check constraint")


def bind_default(column: ColumnDef, catalog: Catalog) -> e.Expr:
    """The value of a column that is not given, in the column's type. Errors: 42804, 42703 (a default reads no
    columns)."""
    if column.default is None:
        return e.Const(column.type, None)
    tree, source = expression(column.default)
    context = Context(catalog, Coercion(()), source)
    binder = ExprBinder(context, Scope(None), "DEFAULT expressions", _no_subquery)
    try:
        expr = binder.bind(tree)
    except errors.UndefinedColumn as error:
        raise errors.FeatureNotSupported("cannot use column reference in DEFAULT expression") from error
    if context.coercion.highest:
        raise errors.UndefinedParameter("there is no parameter $1")
    try:
        return context.coercion.assign(expr, column.type, column.name, None)
    except errors.DatatypeMismatch as error:
        raise errors.DatatypeMismatch(
            f'column "{column.name}" is of type {column.type.name} but default expression is of type {expr.type.name}',
            hint=error.hint,
            column=column.name,
        ) from None


def bind_check(check: CheckDef, table: TableDef, catalog: Catalog) -> e.Expr:
    """A CHECK condition over the table's row. Errors: 42703, 42804."""
    from filestore.query.bind_from import stored_scan
    from filestore.query.scope import relation_of

    tree, source = expression(check.expression)
    scope = Scope(None)
    relation = relation_of(stored_scan(table), table.name, 0)
    relation.table = table
    scope.add(relation)
    context = Context(catalog, Coercion(()), source)
    binder = ExprBinder(context, scope, "check constraints", _no_check_subquery)
    return context.coercion.boolean(binder.bind(tree), "CHECK", binder.position(tree))


def bind_checks(table: TableDef, catalog: Catalog) -> tuple[tuple[CheckDef, e.Expr], ...]:
    return tuple((check, bind_check(check, table, catalog)) for check in table.checks)


def define_table(
    spec: CreateTable,
    schema: str,
    catalog: Catalog,
    next_oid: Callable[[], int],
    taken: Callable[[str], bool] = lambda _name: False,
) -> TableDef:
    """The definition a CREATE TABLE asks for, named and checked; the caller gives `storage_id` and registers
    it.

    `taken(name)` tells whether a relation of this name exists in the schema (index names share that space).
    Errors: 42701, 42703, 42P16 (two primary keys, a system column's name), and whatever binding DEFAULT and
    CHECK finds.
    """
    names = [c.name for c in spec.columns]
    for i, column in enumerate(spec.columns):
        if column.name in names[:i]:
            raise errors.DuplicateColumn(f'column "{column.name}" specified more than once')
        if column.name in SYSTEM_COLUMNS:
            raise errors.DuplicateColumn(f'column name "{column.name}" conflicts with a system column name')
    columns = tuple(ColumnDef(c.name, c.type, c.not_null, c.default) for c in spec.columns)
    table = TableDef(next_oid(), schema, spec.table.name, columns)
    for defined in columns:
        if defined.default is not None:
            bind_default(defined, catalog)
    used: set[str] = {spec.table.name}

    def free(name: str) -> bool:
        return name not in used and not taken(name)

    for key in spec.keys:
        table = add_key(table, key, next_oid, free)
        used.add(table.keys[-1].name)
    for check in spec.checks:
        table = add_check(table, check, catalog, next_oid)
    return table


def add_key(table: TableDef, key: KeySpec, next_oid: Callable[[], int], free: Callable[[str], bool]) -> TableDef:
    """`table` with a key. A primary key makes its columns NOT NULL. Errors: 42703, 42701, 42P16, 42P07 when
    the name is taken."""
    ordinals: list[int] = []
    for name in key.columns:
        ordinal = table.ordinal(name)
        if ordinal is None:
            raise errors.UndefinedColumn(f'column "{name}" named in key does not exist', position=key.position or None)
        if ordinal in ordinals:
            what = "primary key" if key.primary else "unique"
            raise errors.DuplicateColumn(f'column "{name}" appears twice in {what} constraint')
        ordinals.append(ordinal)
    if key.primary and table.primary_key is not None:
        raise errors.InvalidTableDefinition(f'multiple primary keys for table "{table.name}" are not allowed')
    if key.name is not None:
        if not free(key.name):
            raise errors.DuplicateTable(f'relation "{key.name}" already exists')
        chosen = key.name
    else:
        suffix = "pkey" if key.primary else "key"
        parts = [] if key.primary else list(key.columns)
        chosen = _free_name([table.name, *parts], suffix, free)
    made = KeyDef(next_oid(), chosen, tuple(ordinals), key.primary)
    columns = table.columns
    if key.primary:
        columns = tuple(
            ColumnDef(c.name, c.type, True, c.default) if i in ordinals else c for i, c in enumerate(columns)
        )
    return table.changed(columns=columns, keys=(*table.keys, made))


def add_check(table: TableDef, check: CheckSpec, catalog: Catalog, next_oid: Callable[[], int]) -> TableDef:
    """`table` with a CHECK constraint, bound once to see that it is right. Errors: 42710 when its name is
    taken."""
    known = {c.name for c in table.checks}
    if check.name is not None:
        if check.name in known:
            raise errors.DuplicateObject(f'constraint "{check.name}" for relation "{table.name}" already exists')
        chosen = check.name
    else:
        read = e.columns_of(bind_check(CheckDef(0, "", check.expression), table, catalog))
        parts = [table.name, *(table.columns[i].name for i in read)] if len(read) == 1 else [table.name]
        chosen = _free_name(parts, "check", lambda name: name not in known)
    made = CheckDef(next_oid(), chosen, check.expression)
    bind_check(made, table, catalog)
    return table.changed(checks=(*table.checks, made))


def _free_name(parts: Sequence[str], suffix: str, free: Callable[[str], bool]) -> str:
    """PostgreSQL's ChooseIndexName: parts_suffix, with a number behind it until it is free; parts are cut to
    fit 63 bytes."""
    number = 0
    while True:
        tail = f"_{suffix}{number or ''}"
        head = "_".join(parts)
        room = MAX_NAME_BYTES - len(tail.encode())
        name = head.encode()[:room].decode(errors="ignore") + tail
        if free(name):
            return name
        number += 1
