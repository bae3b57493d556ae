"""CREATE TABLE, DROP TABLE, TRUNCATE, ALTER TABLE ADD key or check, CREATE SCHEMA, DROP SCHEMA.

`query/bind_ddl.py` says what a definition is, `txn/ddl.py` changes it inside the transaction; here the two are
joined, with PostgreSQL's IF EXISTS notices, and existing rows are checked against what is added.

Those rows are read without the engine lock, on a worker when they are many: the table's lock keeps writers off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from filestore import errors
from filestore.identifiers import quote_ident
from filestore.query import plan as p
from filestore.query import statements as s
from filestore.query.bind_ddl import add_check, add_key, bind_check, define_table
from filestore.query.dml import check_rows
from filestore.query.executor import execute
from filestore.query.parse import parse
from filestore.query.rows import describe_value
from filestore.result import Result
from filestore.storage.registry import PUBLIC, SYSTEM_SCHEMAS
from filestore.storage.schema import ColumnDef, KeyDef, TableDef
from filestore.txn import ddl
from filestore.txn.drive import Steps
from filestore.txn.locks import LockMode
from filestore.txn.writes import KeyConflict

if TYPE_CHECKING:
    from filestore.session import Session


def run(session: Session, command: s.Utility) -> Steps[Result]:
    """Runs a definition command. Raises 25006 in a read-only transaction."""
    session.begin().check_writable()
    session.engine.statement_snapshot(session.begin())  # at REPEATABLE READ it counts as the first statement
    return _steps(session, command)


def _steps(session: Session, command: s.Utility) -> Steps[Result]:
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
    if command.persistence == "temporary":
        raise errors.FeatureNotSupported(
            "temporary tables are not supported", hint="Create the table and drop it in the same transaction."
        )
    schema, name = _creation_schema(session, command.table.schema), command.table.name
    registry = session.catalog().registry
    if command.if_not_exists and registry.table(schema, name) is not None:
        session.notice("NOTICE", "42P07", f'relation "{name}" already exists, skipping')
        return Result("CREATE TABLE")
    definition = define_table(command, schema, session.catalog(), registry.new_oid, _taken(session, schema))
    try:
        yield from ddl.create_table(session.engine, session.begin(), definition)
    except errors.DuplicateTable:
        if not command.if_not_exists:  # made by another while its name was waited for
            raise
        session.notice("NOTICE", "42P07", f'relation "{name}" already exists, skipping')
    return Result("CREATE TABLE")


def locked(session: Session, name: s.Name, mode: LockMode) -> Steps[TableDef | None]:
    """The table of a name, locked; None when there is none.

    Who had the lock may have dropped the table, and made another of its name: the name is looked up again after each
    wait.
    """
    while True:
        found = session.catalog().table(name.schema, name.name)
        if found is None:
            return None
        yield from session.lock_table(found, mode)
        again = session.catalog().table(name.schema, name.name)
        if again is not None and again.oid == found.oid:
            return again


def _drop_tables(session: Session, command: s.DropTable) -> Steps[Result]:
    for name in command.tables:
        definition = yield from locked(session, name, LockMode.ACCESS_EXCLUSIVE)
        if definition is None and command.if_exists:
            session.notice("NOTICE", "00000", f'table "{name.name}" does not exist, skipping')
            continue
        if definition is None:
            raise errors.UndefinedTable(f'table "{name.name}" does not exist', position=name.position or None)
        yield from ddl.drop_table(session.engine, session.begin(), definition.oid)
    return Result("DROP TABLE")


def _truncate(session: Session, command: s.Truncate) -> Steps[Result]:
    for name in command.tables:
        session.catalog().required(name)
        definition = yield from locked(session, name, LockMode.ACCESS_EXCLUSIVE)
        yield from ddl.truncate(session.engine, session.begin(), (definition or session.catalog().required(name)).oid)
    return Result("TRUNCATE TABLE")


def _altered(session: Session, name: s.Name, if_exists: bool) -> Steps[TableDef | None]:
    """The table that an ALTER names, locked; None (with a notice) when it is missing and may be."""
    found = yield from locked(session, name, LockMode.ACCESS_EXCLUSIVE)
    if found is None and if_exists:
        session.notice("NOTICE", "00000", f'relation "{name.name}" does not exist, skipping')
        return None
    return found or session.catalog().required(name)


def _add_key(session: Session, command: s.AlterTableAddKey) -> Steps[Result]:
    before = yield from _altered(session, command.table, command.if_exists)
    if before is None:
        return Result("ALTER TABLE")
    taken = _taken(session, before.schema)
    after = add_key(before, command.key, session.catalog().registry.new_oid, lambda name: not taken(name))
    key = after.keys[-1]
    try:
        yield from ddl.add_key(session.engine, session.begin(), before.oid, key, session.database.workers)
    except KeyConflict:
        raise errors.UniqueViolation(
            f'could not create unique index "{key.name}"',
            detail=(yield from _duplicated(session, before, key)),
            schema=before.schema,
            table=before.name,
            constraint=key.name,
        ) from None
    return Result("ALTER TABLE")


def _duplicated(session: Session, definition: TableDef, key: KeyDef) -> Steps[str]:
    """Names the columns and one key that stands in several rows, as PostgreSQL does."""
    names = [quote_ident(definition.columns[i].name) for i in key.columns]
    listed = ", ".join(names)
    shown = " || ', ' || ".join(f"{n}::text" for n in names)
    table = f"{quote_ident(definition.schema)}.{quote_ident(definition.name)}"
    query = f"SELECT {shown} FROM {table} GROUP BY {listed} HAVING count(*) > 1 LIMIT 1"
    bound = session.plan(parse(query)[0])
    found = yield from session.run_source(bound.plan, bound, session.context())
    value = next((describe_value(b.columns[0], 0) for b in found if b.length), "null")
    return f"Key ({listed})=({value}) is duplicated."


def _add_check(session: Session, command: s.AlterTableAddCheck) -> Steps[Result]:
    before = yield from _altered(session, command.table, command.if_exists)
    if before is None:
        return Result("ALTER TABLE")
    catalog = session.catalog()
    after = add_check(before, command.check, catalog, catalog.registry.new_oid)
    check = after.checks[-1]
    condition = bind_check(check, after, catalog)
    nullable = before.changed(columns=tuple(ColumnDef(c.name, c.type) for c in before.columns))
    columns = tuple(p.OutputColumn(c.name, c.type, before.oid, i + 1) for i, c in enumerate(before.columns))
    rows = p.Scan(columns, before, tuple(range(len(columns))))
    context = session.context()

    def look() -> None:
        for batch in execute(rows, context):
            check_rows(nullable, [(check, condition)], batch, context)

    try:
        yield from session.aside(session.engine.table(before).live_rows, look)
    except errors.CheckViolation:
        raise errors.CheckViolation(
            f'check constraint "{check.name}" of relation "{before.name}" is violated by some row',
            schema=before.schema,
            table=before.name,
            constraint=check.name,
        ) from None
    yield from ddl.redefine(session.engine, session.begin(), after)
    return Result("ALTER TABLE")


def _taken(session: Session, schema: str) -> Callable[[str], bool]:
    """Whether a relation of the schema (a table, or a key's index) has a name."""
    names: set[str] = set()
    for table in session.catalog().registry.tables():
        if table.schema == schema:
            names.add(table.name)
            names.update(key.name for key in table.keys)
    return names.__contains__


# --- schemas


def _creation_schema(session: Session, schema: str | None) -> str:
    registry = session.catalog().registry
    if schema is None:
        path = (p for p in session.settings.search_path if registry.schema_oid(p) is not None)
        schema = next(path, None)
        if schema is None:
            raise errors.InvalidSchemaName("no schema has been selected to create in")
    if schema in SYSTEM_SCHEMAS and schema != PUBLIC:
        raise errors.InsufficientPrivilege(f"permission denied for schema {schema}")
    return schema


def _create_schema(session: Session, command: s.CreateSchema) -> Steps[Result]:
    name = command.name
    if command.if_not_exists and session.catalog().registry.schema_oid(name) is not None:
        session.notice("NOTICE", "42P06", f'schema "{name}" already exists, skipping')
        return Result("CREATE SCHEMA")
    if name.startswith("pg_"):
        raise errors.InvalidSchemaName(
            f'unacceptable schema name "{name}"', detail='The prefix "pg_" is reserved for system schemas.'
        )
    try:
        yield from ddl.create_schema(session.engine, session.begin(), name)
    except errors.DuplicateSchema:
        if not command.if_not_exists:  # made by another while its name was waited for
            raise
        session.notice("NOTICE", "42P06", f'schema "{name}" already exists, skipping')
    return Result("CREATE SCHEMA")


def _drop_schemas(session: Session, command: s.DropSchema) -> Steps[Result]:
    engine, transaction = session.engine, session.begin()
    for name in command.names:
        if session.catalog().registry.schema_oid(name) is not None:
            # nobody makes a table in it from here on
            yield from engine.locks.acquire(transaction, ("name", name), LockMode.ACCESS_EXCLUSIVE)
        registry = session.catalog().registry
        if command.if_exists and registry.schema_oid(name) is None:
            session.notice("NOTICE", "00000", f'schema "{name}" does not exist, skipping')
            continue
        if command.cascade and name not in SYSTEM_SCHEMAS:
            for table in [t for t in registry.tables() if t.schema == name]:
                yield from engine.lock_table(transaction, table.oid, LockMode.ACCESS_EXCLUSIVE)
                if session.catalog().registry.by_oid(table.oid) is not None:
                    yield from ddl.drop_table(engine, transaction, table.oid)
        yield from ddl.drop_schema(session.engine, session.begin(), name)
    return Result("DROP SCHEMA")
