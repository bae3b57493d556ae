"""information_schema: the SQL standard's views of schemas, tables, columns and constraints.

System tables are listed beside the user's, as PostgreSQL does. A NOT NULL column is also a CHECK constraint
here, by the standard; its name is made of numbers, as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from filestore.catalog import system_definitions as define
from filestore.catalog.system_relations import (
    INFORMATION,
    OWNER_OID,
    RELATIONS,
    Changes,
    Row,
    Source,
    rows_of,
)
from filestore.catalog.system_types import INTERNAL_NAMES
from filestore.storage.schema import KeyDef, TableDef
from filestore.types import Kind, SqlType

_CATALOG: Final = "pg_catalog"
_DIGITS: Final = {Kind.INT2: 16, Kind.INT4: 32, Kind.INT8: 64, Kind.FLOAT4: 24, Kind.FLOAT8: 53}
_EXACT: Final = (Kind.INT2, Kind.INT4, Kind.INT8)
_MOMENTS: Final = (Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL)
_MAX_OCTETS: Final = 1 << 30
_UTF8_BYTES: Final = 4


def _owner(source: Source) -> str:
    return define.role_name(source.catalog, OWNER_OID)


@rows_of("information_schema_catalog_name", Changes.ALWAYS, INFORMATION)
def _catalog_name(source: Source) -> Iterator[Row]:
    yield {"catalog_name": source.database.name}


@rows_of("schemata", Changes.DEFINITIONS, INFORMATION)
def _schemata(source: Source) -> Iterator[Row]:
    for name in source.registry.schemas():
        yield {"catalog_name": source.database.name, "schema_name": name, "schema_owner": _owner(source)}


@rows_of("enabled_roles", Changes.ALWAYS, INFORMATION)
def _enabled_roles(source: Source) -> Iterator[Row]:
    for _, name in define.roles(source.catalog):
        yield {"role_name": name}


@rows_of("character_sets", Changes.ALWAYS, INFORMATION)
def _character_sets(source: Source) -> Iterator[Row]:
    database = source.database.name
    yield {
        "character_set_name": "UTF8",
        "character_repertoire": "UCS",
        "form_of_use": "UTF8",
        "default_collate_catalog": database,
        "default_collate_schema": _CATALOG,
        "default_collate_name": "C",
    }


# --- tables and columns ---------------------------------------------------------------------------


@rows_of("tables", Changes.DEFINITIONS, INFORMATION)
def _tables(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        yield _table(source, table.schema, table.name, "BASE TABLE", writable=True)
    for relation in RELATIONS.values():
        kind = "BASE TABLE" if relation.kind == "r" else "VIEW"
        yield _table(source, relation.schema, relation.name, kind, writable=False)


def _table(source: Source, schema: str, name: str, kind: str, *, writable: bool) -> Row:
    return {
        "table_catalog": source.database.name,
        "table_schema": schema,
        "table_name": name,
        "table_type": kind,
        "is_insertable_into": "YES" if writable else "NO",
        "is_typed": "NO",
    }


@rows_of("views", Changes.DEFINITIONS, INFORMATION)
def _views(source: Source) -> Iterator[Row]:
    for relation in RELATIONS.values():
        if relation.kind == "v":
            no = dict.fromkeys(
                (
                    "is_updatable",
                    "is_insertable_into",
                    "is_trigger_updatable",
                    "is_trigger_deletable",
                    "is_trigger_insertable_into",
                ),
                "NO",
            )
            yield {
                "table_catalog": source.database.name,
                "table_schema": relation.schema,
                "table_name": relation.name,
                "view_definition": "",
                "check_option": "NONE",
                **no,
            }


@rows_of("columns", Changes.DEFINITIONS, INFORMATION)
def _columns(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for number, c in enumerate(table.columns, 1):
            place = (table.schema, table.name, number)
            yield _column(source, place, c.name, c.type, c.not_null, default=c.default, updatable=True)
    for relation in RELATIONS.values():
        for number, column in enumerate(relation.columns, 1):
            place = (relation.schema, relation.name, number)
            yield _column(
                source, place, column.name, column.type, column.not_null, default=None, updatable=False
            )


def _column(
    source: Source,
    place: tuple[str, str, int],
    name: str,
    sql_type: SqlType,
    not_null: bool,
    *,
    default: str | None,
    updatable: bool,
) -> Row:
    schema, table, number = place
    database = source.database.name
    return {
        "table_catalog": database,
        "table_schema": schema,
        "table_name": table,
        "column_name": name,
        "ordinal_position": number,
        "column_default": default,
        "is_nullable": "NO" if not_null else "YES",
        "data_type": sql_type.kind.value,
        **_measures(sql_type),
        "udt_catalog": database,
        "udt_schema": _CATALOG,
        "udt_name": INTERNAL_NAMES[sql_type.kind],
        "dtd_identifier": str(number),
        "is_self_referencing": "NO",
        "is_identity": "NO",
        "identity_cycle": "NO",
        "is_generated": "NEVER",
        "is_updatable": "YES" if updatable else "NO",
    }


def _measures(sql_type: SqlType) -> dict[str, Any]:
    """Lengths and precisions of a column's type."""
    kind = sql_type.kind
    if kind in (Kind.VARCHAR, Kind.BPCHAR) and sql_type.length is not None:
        octets = min(sql_type.length * _UTF8_BYTES, _MAX_OCTETS)
        return {"character_maximum_length": sql_type.length, "character_octet_length": octets}
    if kind in (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR):
        return {"character_octet_length": _MAX_OCTETS}
    if kind in _DIGITS:
        return {
            "numeric_precision": _DIGITS[kind],
            "numeric_precision_radix": 2,
            "numeric_scale": 0 if kind in _EXACT else None,
        }
    if kind is Kind.NUMERIC:
        return {
            "numeric_precision": sql_type.precision,
            "numeric_precision_radix": 10,
            "numeric_scale": sql_type.scale,
        }
    if kind is Kind.DATE:
        return {"datetime_precision": 0}
    return {"datetime_precision": 6} if kind in _MOMENTS else {}


# --- constraints ----------------------------------------------------------------------------------


def _named(source: Source, table: TableDef, name: str) -> dict[str, Any]:
    return {
        "constraint_catalog": source.database.name,
        "constraint_schema": table.schema,
        "constraint_name": name,
        "table_catalog": source.database.name,
        "table_schema": table.schema,
        "table_name": table.name,
    }


def _not_null_names(source: Source, table: TableDef) -> Iterator[tuple[str, str]]:
    """(constraint, column) of the NOT NULL columns."""
    for number, column in enumerate(table.columns, 1):
        if column.not_null:
            yield f"{source.schema_oid(table.schema)}_{table.oid}_{number}_not_null", column.name


@rows_of("table_constraints", Changes.DEFINITIONS, INFORMATION)
def _table_constraints(source: Source) -> Iterator[Row]:
    common = {"is_deferrable": "NO", "initially_deferred": "NO", "enforced": "YES"}
    for table in source.registry.tables():
        for key in table.keys:
            kind = "PRIMARY KEY" if key.primary else "UNIQUE"
            distinct = None if key.primary else "YES"
            yield {
                **_named(source, table, key.name),
                **common,
                "constraint_type": kind,
                "nulls_distinct": distinct,
            }
        names = [check.name for check in table.checks] + [name for name, _ in _not_null_names(source, table)]
        for name in names:
            yield {**_named(source, table, name), **common, "constraint_type": "CHECK"}


@rows_of("check_constraints", Changes.DEFINITIONS, INFORMATION)
def _check_constraints(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        clauses = [(check.name, f"({check.expression})") for check in table.checks]
        clauses += [(name, f"{column} IS NOT NULL") for name, column in _not_null_names(source, table)]
        for name, clause in clauses:
            yield {**_named(source, table, name), "check_clause": clause}


def _keys(source: Source) -> Iterator[tuple[TableDef, KeyDef]]:
    for table in source.registry.tables():
        for key in table.keys:
            yield table, key


@rows_of("key_column_usage", Changes.DEFINITIONS, INFORMATION)
def _key_columns(source: Source) -> Iterator[Row]:
    for table, key in _keys(source):
        for number, ordinal in enumerate(key.columns, 1):
            column = table.columns[ordinal].name
            yield {**_named(source, table, key.name), "column_name": column, "ordinal_position": number}


@rows_of("constraint_column_usage", Changes.DEFINITIONS, INFORMATION)
def _constraint_columns(source: Source) -> Iterator[Row]:
    for table, key in _keys(source):
        for ordinal in key.columns:
            yield {**_named(source, table, key.name), "column_name": table.columns[ordinal].name}
    for table in source.registry.tables():
        for check in table.checks:
            for ordinal in define.columns_of(source.catalog, table, check):
                yield {**_named(source, table, check.name), "column_name": table.columns[ordinal].name}


@rows_of("constraint_table_usage", Changes.DEFINITIONS, INFORMATION)
def _constraint_tables(source: Source) -> Iterator[Row]:
    for table, key in _keys(source):
        yield _named(source, table, key.name)


# --- privileges -----------------------------------------------------------------------------------


@rows_of("table_privileges", Changes.DEFINITIONS, INFORMATION)
def _table_privileges(source: Source) -> Iterator[Row]:
    owner = _owner(source)
    for table in source.registry.tables():
        for privilege in ("INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"):
            yield {
                "grantor": owner,
                "grantee": owner,
                "table_catalog": source.database.name,
                "table_schema": table.schema,
                "table_name": table.name,
                "privilege_type": privilege,
                "is_grantable": "YES",
                "with_hierarchy": "YES" if privilege == "SELECT" else "NO",
            }
