"""CREATE TABLE, DROP TABLE, TRUNCATE, ALTER TABLE ADD key or check, CREATE SCHEMA, DROP SCHEMA.

A definition is changed in the transaction's overlay of the registry, under the table's ACCESS EXCLUSIVE lock, and is logged with the
transaction's rows; names are locked too, so that two transactions cannot make the same table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from filestore import errors
from filestore.query import statements as s
from filestore.query.bind import check_condition, default_value
from filestore.query.context import ExecutionContext
from filestore.query.dml import check_rows, unique_violation
from filestore.result import Result
from filestore.storage.registry import PUBLIC, SYSTEM_SCHEMAS
from filestore.storage.schema import CheckDef, ColumnDef, KeyDef, TableDef
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps
from filestore.txn.locks import LockMode
from filestore.txn.writes import KeyConflict

if TYPE_CHECKING:
    from filestore.session import Session

_MAX_COLUMNS = 1600


def run(session: Session, command: s.Utility) -> Steps[Result]:
    """Runs a definition command. Raises 25006 in a read-only transaction."""
    transaction = session.begin()
    transaction.check_writable()
    match command:
        case s.CreateTable():
            return _create_table(session, command)
        case s.DropTable():
            return _drop_tables(session, command)
        case s.Truncate():
            return _truncate(session, command)
        case s.AlterTableAddKey():
            return _add_key(session, command)
        case s.AlterTableAddCheck():
            return _add_check(session, command)
        case s.CreateSchema():
            return _create_schema(session, command)
        case s.DropSchema():
            return _drop_schemas(session, command)
        case _:
            raise errors.InternalError(f"no way to run {type(command).__name__}")


# --- tables


def _create_table(session: Session, command: s.CreateTable) -> Steps[Result]:
    name = command.table.name
    if command.persistence == "temporary":
        raise errors.FeatureNotSupported(
            "temporary tables are not supported", hint="Create the table and drop it in the same transaction."
        )
    schema = _creation_schema(session, command.table.schema)
    yield from _lock_name(session, schema, name)
    catalog = session.catalog()
    if catalog.registry.table(schema, name) is not None:
        if command.if_not_exists:
            session.notice("NOTICE", "42P07", f'relation "{name}" already exists, skipping')
            return Result("CREATE TABLE")
        raise errors.DuplicateTable(f'relation "{name}" already exists')
    if len(command.columns) > _MAX_COLUMNS:
        raise errors.InvalidTableDefinition(f"tables can have at most {_MAX_COLUMNS} columns")
    _check_distinct(c.name for c in command.columns)
    columns = [ColumnDef(c.name, c.type, c.not_null, c.default) for c in command.columns]
    new_oid = catalog.registry.new_oid
    definition = TableDef(new_oid(), schema, name, tuple(columns), storage_id=catalog.registry.new_storage_id())
    for spec in command.keys:
        definition = _with_key(session, definition, spec)
    for check in command.checks:
        definition = _with_check(session, definition, check)
    for column in definition.columns:
        if column.default is not None:
            default_value(column, catalog)
    session.database.engine.create_table(session.begin(), definition)
    return Result("CREATE TABLE")


def _drop_tables(session: Session, command: s.DropTable) -> Steps[Result]:
    for name in command.tables:
        definition = session.catalog().table(name.schema, name.name)
        if definition is None and command.if_exists:
            session.notice("NOTICE", "00000", f'table "{name.name}" does not exist, skipping')
            continue
        if definition is None:
            raise errors.UndefinedTable(f'table "{name.name}" does not exist', position=name.position or None)
        yield from session.lock_table(definition, LockMode.ACCESS_EXCLUSIVE)
        current = session.catalog().registry.by_oid(definition.oid)
        if current is not None:
            session.database.engine.drop_table(session.begin(), current)
    return Result("DROP TABLE")


def _truncate(session: Session, command: s.Truncate) -> Steps[Result]:
    for name in command.tables:
        definition = session.catalog().required(name)
        yield from session.lock_table(definition, LockMode.ACCESS_EXCLUSIVE)
        session.database.engine.truncate(session.begin(), session.catalog().required(name))
    return Result("TRUNCATE TABLE")


def _add_key(session: Session, command: s.AlterTableAddKey) -> Steps[Result]:
    definition = session.catalog().table(command.table.schema, command.table.name)
    if definition is None and command.if_exists:
        session.notice("NOTICE", "00000", f'relation "{command.table.name}" does not exist, skipping')
        return Result("ALTER TABLE")
    definition = session.catalog().required(command.table)
    yield from session.lock_table(definition, LockMode.ACCESS_EXCLUSIVE)
    before = session.catalog().required(command.table)
    after = _with_key(session, before, command.key)
    if command.key.primary:
        rows = session.visible_rows(before)
        for batch in rows:
            for i in after.keys[-1].columns:
                valid = batch.columns[i].valid
                if valid is not None and not valid.all():
                    column = before.columns[i].name
                    raise errors.NotNullViolation(
                        f'column "{column}" of relation "{before.name}" contains null values',
                        schema=before.schema,
                        table=before.name,
                        column=column,
                    )
    try:
        session.database.engine.add_key(session.begin(), before, after, after.keys[-1])
    except KeyConflict as conflict:
        values = unique_violation(before, conflict, session.conflicting_row(before, conflict))
        raise errors.UniqueViolation(
            f'could not create unique index "{conflict.key.name}"',
            detail=(values.detail or "").replace("already exists", "is duplicated"),
            schema=before.schema,
            table=before.name,
            constraint=conflict.key.name,
        ) from None
    return Result("ALTER TABLE")


def _add_check(session: Session, command: s.AlterTableAddCheck) -> Steps[Result]:
    definition = session.catalog().table(command.table.schema, command.table.name)
    if definition is None and command.if_exists:
        session.notice("NOTICE", "00000", f'relation "{command.table.name}" does not exist, skipping')
        return Result("ALTER TABLE")
    definition = session.catalog().required(command.table)
    yield from session.lock_table(definition, LockMode.ACCESS_EXCLUSIVE)
    before = session.catalog().required(command.table)
    after = _with_check(session, before, command.check)
    check = after.checks[-1]
    condition = check_condition(check.expression, after, session.catalog())
    context = session.context()
    for batch in session.visible_rows(before):
        _check_existing(before, check, condition, batch, context)
    session.database.engine.replace_table(session.begin(), after)
    return Result("ALTER TABLE")


def _check_existing(
    definition: TableDef, check: CheckDef, condition: object, batch: Batch, context: ExecutionContext
) -> None:
    nullable = definition.changed(columns=tuple(ColumnDef(c.name, c.type) for c in definition.columns))
    try:
        check_rows(nullable, [(check, condition)], batch, context)  # type: ignore[list-item]
    except errors.CheckViolation:
        raise errors.CheckViolation(
            f'check constraint "{check.name}" of relation "{definition.name}" is violated by some row',
            schema=definition.schema,
            table=definition.name,
            constraint=check.name,
        ) from None


# --- constraints


def _with_key(session: Session, definition: TableDef, spec: s.KeySpec) -> TableDef:
    """The definition with one more key; a primary key's columns become NOT NULL."""
    if spec.primary and definition.primary_key is not None:
        raise errors.InvalidTableDefinition(
            f'multiple primary keys for table "{definition.name}" are not allowed', position=spec.position or None
        )
    ordinals = []
    for name in spec.columns:
        ordinal = definition.ordinal(name)
        if ordinal is None:
            raise errors.UndefinedColumn(
                f'column "{name}" named in key does not exist', position=spec.position or None
            )
        if ordinal in ordinals:
            kind = "primary key" if spec.primary else "unique"
            raise errors.DuplicateColumn(f'column "{name}" appears twice in {kind} constraint')
        ordinals.append(ordinal)
    suffix = "pkey" if spec.primary else "key"
    parts = [definition.name] if spec.primary else [definition.name, *spec.columns]
    name = _constraint_name(session, definition, spec.name, "_".join([*parts, suffix]))
    key = KeyDef(session.catalog().registry.new_oid(), name, tuple(ordinals), spec.primary)
    columns = definition.columns
    if spec.primary:
        columns = tuple(
            ColumnDef(c.name, c.type, True, c.default) if i in ordinals else c for i, c in enumerate(columns)
        )
    return definition.changed(columns=columns, keys=(*definition.keys, key))


def _with_check(session: Session, definition: TableDef, spec: s.CheckSpec) -> TableDef:
    """The definition with one more check, whose expression binds."""
    parts = [definition.name, *([spec.column] if spec.column else []), "check"]
    name = _constraint_name(session, definition, spec.name, "_".join(parts))
    check_condition(spec.expression, definition, session.catalog())
    check = CheckDef(session.catalog().registry.new_oid(), name, spec.expression)
    return definition.changed(checks=(*definition.checks, check))


def _constraint_name(session: Session, definition: TableDef, given: str | None, default: str) -> str:
    """The given name if it is free, else the default with the least number that makes it free."""
    taken = {k.name for k in definition.keys} | {c.name for c in definition.checks}
    for table in session.catalog().registry.tables():
        if table.schema == definition.schema and table.oid != definition.oid:
            taken.add(table.name)
            taken.update(k.name for k in table.keys)
    if given is not None:
        if given in taken:
            raise errors.DuplicateObject(f'relation "{given}" already exists')
        return given
    name, number = default, 0
    while name in taken:
        number += 1
        name = f"{default}{number}"
    return name


def _check_distinct(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise errors.DuplicateColumn(f'column "{name}" specified more than once')
        seen.add(name)


# --- schemas


def _creation_schema(session: Session, schema: str | None) -> str:
    if schema is None:
        path = [p for p in session.settings.search_path if session.catalog().registry.schema_oid(p) is not None]
        if not path:
            raise errors.InvalidSchemaName("no schema has been selected to create in")
        schema = path[0]
    if session.catalog().registry.schema_oid(schema) is None:
        raise errors.InvalidSchemaName(f'schema "{schema}" does not exist')
    if schema in SYSTEM_SCHEMAS and schema != PUBLIC:
        raise errors.InsufficientPrivilege(f"permission denied to create in schema \"{schema}\"")
    return schema


def _create_schema(session: Session, command: s.CreateSchema) -> Steps[Result]:
    yield from _lock_name(session, "", command.name)
    registry = session.catalog().registry
    if registry.schema_oid(command.name) is not None:
        if command.if_not_exists:
            session.notice("NOTICE", "42P06", f'schema "{command.name}" already exists, skipping')
            return Result("CREATE SCHEMA")
        raise errors.DuplicateSchema(f'schema "{command.name}" already exists')
    if command.name.startswith("pg_"):
        raise errors.InvalidSchemaName(
            f'unacceptable schema name "{command.name}"', detail='The prefix "pg_" is reserved for system schemas.'
        )
    session.database.engine.create_schema(session.begin(), command.name)
    return Result("CREATE SCHEMA")


def _drop_schemas(session: Session, command: s.DropSchema) -> Steps[Result]:
    for name in command.names:
        registry = session.catalog().registry
        if registry.schema_oid(name) is None:
            if command.if_exists:
                session.notice("NOTICE", "00000", f'schema "{name}" does not exist, skipping')
                continue
            raise errors.InvalidSchemaName(f'schema "{name}" does not exist')
        if name in SYSTEM_SCHEMAS:
            raise errors.DependentObjectsExist(f"cannot drop schema {name} because it is required by the database system")
        inside = [t for t in registry.tables() if t.schema == name]
        if inside and not command.cascade:
            listed = "\n".join(f"table {t.qualified_name} depends on schema {name}" for t in inside)
            raise errors.DependentObjectsExist(
                f"cannot drop schema {name} because other objects depend on it",
                detail=listed,
                hint="Use DROP ... CASCADE to drop the dependent objects too.",
            )
        for table in inside:
            yield from session.lock_table(table, LockMode.ACCESS_EXCLUSIVE)
            session.database.engine.drop_table(session.begin(), table)
        session.database.engine.drop_schema(session.begin(), name)
    return Result("DROP SCHEMA")


def _lock_name(session: Session, schema: str, name: str) -> Steps[None]:
    """Keeps other transactions from making an object of the same name until this one is over."""
    transaction = session.begin()
    locks = session.database.engine.transactions.locks
    yield from session.lock_waits(locks.acquire(transaction, ("name", schema, name), LockMode.ACCESS_EXCLUSIVE))
