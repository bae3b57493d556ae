"""Relations and what belongs to them: pg_class, pg_attribute, pg_index, pg_constraint, pg_attrdef, pg_depend,
pg_tables, pg_views, pg_indexes.

Keys are a constraint and the index behind it under one oid, in pg_constraint and in pg_class. A default and
a table's dependencies have no oid of their own; `default_oid` makes one from the table's. System tables are
listed as PostgreSQL lists its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from filestore.catalog import system_definitions as define
from filestore.catalog import system_sizes as sizes
from filestore.catalog.system_relations import (
    BY_OID,
    OWNER_OID,
    RELATIONS,
    Changes,
    Row,
    Source,
    array_text,
    rows_of,
    vector_text,
)
from filestore.catalog.system_types import OPERATOR_CLASSES, TYPE_ROWS
from filestore.storage.registry import SYSTEM_SCHEMAS
from filestore.storage.schema import KeyDef, TableDef
from filestore.types import STRING_KINDS, Kind, SqlType

HEAP: Final = 2
BTREE: Final = 403
DEFAULT_COLLATION: Final = 100
C_COLLATION: Final = 950
CLASS_OID: Final = 1259
CONSTRAINT_OID: Final = 2606
DEFAULT_OID: Final = 2604
_PAGE_BYTES: Final = 8192  # as the setting block_size says


def default_oid(table: TableDef, number: int) -> int:
    """The oid of the default of column `number` (from 1); above every oid that the registry gives out."""
    return 0x8000_0000 | (table.oid << 11 | number) & 0x7FFF_FFFF


def collation(sql_type: SqlType) -> int:
    """The collation of a column of that type: name has its own, the other string types the default."""
    if sql_type.kind is Kind.NAME:
        return C_COLLATION
    return DEFAULT_COLLATION if sql_type.kind in STRING_KINDS and sql_type.kind is not Kind.CHAR else 0


@rows_of("pg_namespace", Changes.DEFINITIONS)
def _namespaces(source: Source) -> Iterator[Row]:
    for name, oid in source.registry.schemas().items():
        yield {"oid": oid, "nspname": name, "nspowner": OWNER_OID}


# --- pg_class -------------------------------------------------------------------------------------


def _class(oid: int, name: str, namespace: int, kind: str, width: int, **more: Any) -> Row:
    return {
        "oid": oid,
        "relname": name,
        "relnamespace": namespace,
        "relkind": kind,
        "relnatts": width,
        "relowner": OWNER_OID,
        "relpersistence": "p",
        "relispopulated": True,
        "relreplident": "n",
        "reltuples": -1.0,
        "relfrozenxid": "0",
        "relminmxid": "0",
        "relfilenode": oid if kind in "ri" else 0,
        **more,
    }


@rows_of("pg_class", Changes.NEVER)
def _system_classes(_source: Source) -> Iterator[Row]:
    for relation in RELATIONS.values():
        stored = relation.kind == "r"
        yield _class(
            relation.oid,
            relation.name,
            SYSTEM_SCHEMAS[relation.schema],
            relation.kind,
            len(relation.columns),
            relam=HEAP if stored else 0,
            relfilenode=0,
            relhasrules=not stored,
        )


@rows_of("pg_class", Changes.DATA)
def _classes(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        namespace = source.schema_oid(table.schema)
        rows = float(source.catalog.rows(table))
        yield _class(
            table.oid,
            table.name,
            namespace,
            "r",
            len(table.columns),
            relam=HEAP,
            reltuples=rows,
            relhasindex=bool(table.keys),
            relchecks=len(table.checks),
            relreplident="d",
            relfilenode=table.storage_id,
            relpages=-(-sizes.table_bytes(source.catalog, table) // _PAGE_BYTES),
        )
        for key in table.keys:
            yield _class(key.oid, key.name, namespace, "i", len(key.columns), relam=BTREE, reltuples=rows)


# --- pg_attribute ---------------------------------------------------------------------------------


def _attribute(
    relation: int, number: int, name: str, sql_type: SqlType, not_null: bool, has_default: bool = False
) -> Row:
    described = TYPE_ROWS[sql_type.oid]
    return {
        "attrelid": relation,
        "attname": name,
        "atttypid": sql_type.oid,
        "attnum": number,
        "atttypmod": sql_type.typmod,
        "attstattarget": -1,
        "attlen": described["typlen"],
        "attcacheoff": -1,
        "attbyval": described["typbyval"],
        "attalign": described["typalign"],
        "attstorage": described["typstorage"],
        "attnotnull": not_null,
        "atthasdef": has_default,
        "attislocal": True,
        "attcollation": collation(sql_type),
    }


@rows_of("pg_attribute", Changes.NEVER)
def _system_attributes(_source: Source) -> Iterator[Row]:
    for relation in RELATIONS.values():
        for number, column in enumerate(relation.columns, 1):
            yield _attribute(relation.oid, number, column.name, column.type, column.not_null)


@rows_of("pg_attribute", Changes.DEFINITIONS)
def _attributes(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for number, c in enumerate(table.columns, 1):
            yield _attribute(table.oid, number, c.name, c.type, c.not_null, c.default is not None)
        for key in table.keys:
            for number, ordinal in enumerate(key.columns, 1):
                c = table.columns[ordinal]
                yield _attribute(key.oid, number, c.name, c.type, not_null=False)


@rows_of("pg_attrdef", Changes.DEFINITIONS)
def _defaults(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for number, column in enumerate(table.columns, 1):
            if column.default is not None:
                yield {
                    "oid": default_oid(table, number),
                    "adrelid": table.oid,
                    "adnum": number,
                    "adbin": column.default,
                }


# --- keys and checks ------------------------------------------------------------------------------


@rows_of("pg_index", Changes.DEFINITIONS)
def _indexes(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for key in table.keys:
            types = [table.columns[i].type for i in key.columns]
            yield {
                "indexrelid": key.oid,
                "indrelid": table.oid,
                "indnatts": len(types),
                "indnkeyatts": len(types),
                "indisunique": True,
                "indisprimary": key.primary,
                "indimmediate": True,
                "indisvalid": True,
                "indisready": True,
                "indislive": True,
                "indkey": vector_text(i + 1 for i in key.columns),
                "indcollation": vector_text(map(collation, types)),
                "indoption": vector_text(0 for _ in types),
                "indclass": vector_text(_operator_class(t) for t in types),
            }


def _operator_class(sql_type: SqlType) -> int:
    return OPERATOR_CLASSES.get(sql_type.kind, OPERATOR_CLASSES[Kind.TEXT])


def _constraint(
    table: TableDef, namespace: int, oid: int, name: str, kind: str, columns: tuple[int, ...], **more: Any
) -> Row:
    return {
        "oid": oid,
        "conname": name,
        "connamespace": namespace,
        "contype": kind,
        "convalidated": True,
        "conrelid": table.oid,
        "conislocal": True,
        "connoinherit": kind != "c",
        "conkey": array_text(i + 1 for i in columns) if columns else None,
        **more,
    }


@rows_of("pg_constraint", Changes.DEFINITIONS)
def _constraints(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        namespace = source.schema_oid(table.schema)
        for key in table.keys:
            kind = "p" if key.primary else "u"
            yield _constraint(table, namespace, key.oid, key.name, kind, key.columns, conindid=key.oid)
        for check in table.checks:
            columns = define.columns_of(source.catalog, table, check)
            yield _constraint(table, namespace, check.oid, check.name, "c", columns, conbin=check.expression)


@rows_of("pg_depend", Changes.DEFINITIONS)
def _dependencies(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for key in table.keys:
            for ordinal in key.columns:
                yield _depends(CONSTRAINT_OID, key.oid, table, ordinal + 1, "a")
            yield {
                "classid": CLASS_OID,
                "objid": key.oid,
                "refclassid": CONSTRAINT_OID,
                "refobjid": key.oid,
                "deptype": "i",
            }
        for check in table.checks:
            for ordinal in define.columns_of(source.catalog, table, check):
                for how in "an":  # goes with the column, and holds it
                    yield _depends(CONSTRAINT_OID, check.oid, table, ordinal + 1, how)
        for number, column in enumerate(table.columns, 1):
            if column.default is not None:
                yield _depends(DEFAULT_OID, default_oid(table, number), table, number, "a")


def _depends(kind: int, oid: int, table: TableDef, number: int, how: str) -> Row:
    return {
        "classid": kind,
        "objid": oid,
        "refclassid": CLASS_OID,
        "refobjid": table.oid,
        "refobjsubid": number,
        "deptype": how,
    }


# --- views ----------------------------------------------------------------------------------------


def _owner(source: Source) -> str:
    return define.role_name(source.catalog, OWNER_OID)


@rows_of("pg_tables", Changes.DEFINITIONS)
def _tables(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        yield {
            "schemaname": table.schema,
            "tablename": table.name,
            "tableowner": _owner(source),
            "hasindexes": bool(table.keys),
            "hasrules": False,
            "hastriggers": False,
            "rowsecurity": False,
        }
    for relation in BY_OID.values():
        if relation.kind == "r":
            yield {
                "schemaname": relation.schema,
                "tablename": relation.name,
                "tableowner": _owner(source),
                "hasindexes": False,
                "hasrules": False,
                "hastriggers": False,
                "rowsecurity": False,
            }


@rows_of("pg_views", Changes.DEFINITIONS)
def _views(source: Source) -> Iterator[Row]:
    for relation in BY_OID.values():
        if relation.kind == "v":
            yield {"schemaname": relation.schema, "viewname": relation.name, "viewowner": _owner(source)}


def keys_of(source: Source) -> Iterator[tuple[TableDef, KeyDef]]:
    """Every key of every table."""
    for table in source.registry.tables():
        for key in table.keys:
            yield table, key


@rows_of("pg_indexes", Changes.DEFINITIONS)
def _index_definitions(source: Source) -> Iterator[Row]:
    for table, key in keys_of(source):
        yield {
            "schemaname": table.schema,
            "tablename": table.name,
            "indexname": key.name,
            "indexdef": define.index_definition(table, key, qualified=True),
        }
