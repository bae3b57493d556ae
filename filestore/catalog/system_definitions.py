"""Definitions as text, names of oids: pg_get_indexdef, pg_get_constraintdef, format_type, `oid::regclass`.

Defaults and checks are shown as they were written: the registry keeps their text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from filestore import errors
from filestore.catalog.system_procedures import PROCEDURE_NAMES, PROCEDURE_OIDS
from filestore.catalog.system_relations import BY_OID, CATALOG, OWNER_OID, RELATIONS
from filestore.catalog.system_types import ARRAY_ELEMENTS
from filestore.identifiers import quote_ident
from filestore.query import expr
from filestore.query.bind_ddl import bind_check
from filestore.query.names import resolve_type
from filestore.query.utility import split_name
from filestore.storage.schema import CheckDef, KeyDef, TableDef
from filestore.types import BY_OID as TYPES_BY_OID
from filestore.types import Kind, SqlType, from_typmod

if TYPE_CHECKING:
    from filestore.catalog.names import SessionCatalog

OWNER: str = "postgres"


# --- types ----------------------------------------------------------------------------------------


def format_type(oid: int | None, typmod: int | None = None) -> str | None:
    """A type's SQL name with its modifiers; `???` for an oid that is no type, `-` for none."""
    if oid is None:
        return None
    if oid == 0:
        return "-"
    element = ARRAY_ELEMENTS.get(oid)
    if element is not None:
        shown = format_type(SqlType(element).oid, typmod)
        return f"{shown}[]"
    if oid not in TYPES_BY_OID:
        return "???"
    found = from_typmod(oid, -1 if typmod is None else typmod)
    # Without a modifier char means char(1): only a column that says -1 is bpchar.
    return "character" if found.kind is Kind.BPCHAR and typmod is None else found.name


def type_oid(text: str) -> int:
    """The oid of a type's name. Raises 42704, 0A000."""
    words = " ".join(text.replace('"', "").lower().split())
    if words.endswith("[]"):
        return resolve_type(words[:-2], (), None).info.array_oid
    name = words.removeprefix("pg_catalog.")
    if name.startswith("_"):
        return resolve_type(name[1:], (), None).info.array_oid
    return SqlType(Kind.CHAR).oid if text.strip() == '"char"' else resolve_type(words, (), None).oid


# --- keys and checks ------------------------------------------------------------------------------


def key_columns(table: TableDef, key: KeyDef) -> str:
    """The columns of a key as a list in SQL."""
    return ", ".join(quote_ident(table.columns[i].name) for i in key.columns)


def index_definition(table: TableDef, key: KeyDef, *, qualified: bool) -> str:
    """The CREATE INDEX that would make a key's index."""
    where = f"{quote_ident(table.schema)}.{quote_ident(table.name)}" if qualified else quote_ident(table.name)
    return f"CREATE UNIQUE INDEX {quote_ident(key.name)} ON {where} USING btree ({key_columns(table, key)})"


def key_definition(table: TableDef, key: KeyDef) -> str:
    """A key as it is written in CREATE TABLE."""
    return f"{'PRIMARY KEY' if key.primary else 'UNIQUE'} ({key_columns(table, key)})"


def check_definition(check: CheckDef, *, pretty: bool) -> str:
    """A check as it is written in CREATE TABLE."""
    return f"CHECK ({check.expression})" if pretty else f"CHECK (({check.expression}))"


def columns_of(catalog: SessionCatalog, table: TableDef, check: CheckDef) -> tuple[int, ...]:
    """Ordinals of the columns that a check reads."""
    return tuple(sorted(expr.columns_of(bind_check(check, table, catalog))))


def constraint(catalog: SessionCatalog, oid: int) -> tuple[TableDef, KeyDef | CheckDef] | None:
    """The key or check with that oid, and its table."""
    for table in catalog.registry.tables():
        constraints: tuple[KeyDef | CheckDef, ...] = (*table.keys, *table.checks)
        for found in constraints:
            if found.oid == oid:
                return table, found
    return None


# --- names of oids --------------------------------------------------------------------------------


def role_name(catalog: SessionCatalog, oid: int) -> str:
    """The name of a role."""
    return dict(roles(catalog)).get(oid, f"unknown (OID={oid})")


def roles(catalog: SessionCatalog) -> list[tuple[int, str]]:
    """(oid, name) of the roles: the owner of everything, and the session's user where that is another."""
    user = catalog.session.user
    return [(OWNER_OID, OWNER), *([(OWNER_OID + 1, user)] if user != OWNER else [])]


def relation(catalog: SessionCatalog, oid: int) -> tuple[str, str] | None:
    """(schema, name) of a table, index or system table."""
    table = catalog.registry.by_oid(oid)
    if table is not None:
        return table.schema, table.name
    system = BY_OID.get(oid)
    if system is not None:
        return system.schema, system.name
    for other in catalog.registry.tables():
        for key in other.keys:
            if key.oid == oid:
                return other.schema, key.name
    return None


def visible(catalog: SessionCatalog, schema: str, name: str) -> bool:
    """Whether a relation is what its bare name means in this session."""
    for candidate in search_path(catalog, implicit=True):
        if candidate == schema:
            return True
        if catalog.registry.table(candidate, name) is not None or (candidate, name) in RELATIONS:
            return False
    return False


def search_path(catalog: SessionCatalog, *, implicit: bool) -> list[str]:
    """The schemas of the search path that exist; `implicit` ones (pg_catalog, first) included."""
    path = [s for s in catalog.session.settings.search_path if catalog.registry.schema_oid(s) is not None]
    return [CATALOG, *path] if implicit and CATALOG not in path else path


def registered_name(catalog: SessionCatalog, kind: Kind, oid: int) -> str:
    """How an oid of a reg* type is shown: by name, qualified where the bare one would mean another."""
    if oid == 0:
        return "-"
    if kind is Kind.REGTYPE:
        shown = format_type(oid) or ""
        return str(oid) if shown == "???" else shown
    if kind is Kind.REGCLASS:
        found = relation(catalog, oid)
        if found is None:
            return str(oid)
        schema, name = found
        return quote_ident(name) if visible(catalog, schema, name) else f"{quote_ident(schema)}.{quote_ident(name)}"
    if kind is Kind.REGNAMESPACE:
        return next((quote_ident(s) for s, number in catalog.registry.schemas().items() if number == oid), str(oid))
    if kind is Kind.REGROLE:
        return quote_ident(dict(roles(catalog)).get(oid, str(oid)))
    return PROCEDURE_NAMES.get(oid, str(oid))


def registered_oid(catalog: SessionCatalog, kind: Kind, text: str) -> int:
    """The oid that a reg* type's text means. Raises 42P01, 42704, 42883, 3F000 for an unknown name."""
    if text == "-":
        return 0
    if text.isdecimal():
        return int(text)
    if kind is Kind.REGTYPE:
        return type_oid(text)
    schema, name = split_name(text)
    found = _lookup(catalog, kind, schema, name)
    if found is None:
        raise _unknown(kind, text if kind is Kind.REGPROC else f"{schema}.{name}" if schema else name)
    return found


def _lookup(catalog: SessionCatalog, kind: Kind, schema: str | None, name: str) -> int | None:
    if kind is Kind.REGNAMESPACE:
        return catalog.registry.schema_oid(name)
    if kind is Kind.REGROLE:
        return next((oid for oid, role in roles(catalog) if role == name), None)
    if kind is Kind.REGPROC:
        return PROCEDURE_OIDS.get(name) if schema in (None, CATALOG) else None
    return relation_oid(catalog, schema, name)


def relation_oid(catalog: SessionCatalog, schema: str | None, name: str) -> int | None:
    """The oid of a table, index or system table; without a schema of the first along the search path."""
    keys = {(t.schema, key.name): key.oid for t in catalog.registry.tables() for key in t.keys}
    for place in [schema] if schema is not None else search_path(catalog, implicit=True):
        table = catalog.registry.table(place, name)
        if table is not None:
            return table.oid
        if (place, name) in keys:
            return keys[place, name]
        if (place, name) in RELATIONS:
            return RELATIONS[place, name].oid
    return None


def _unknown(kind: Kind, text: str) -> errors.Error:
    if kind is Kind.REGNAMESPACE:
        return errors.InvalidSchemaName(f'schema "{text}" does not exist')
    if kind is Kind.REGROLE:
        return errors.UndefinedObject(f'role "{text}" does not exist')
    if kind is Kind.REGPROC:
        return errors.UndefinedFunction(f'function "{text}" does not exist')
    return errors.UndefinedTable(f'relation "{text}" does not exist')
