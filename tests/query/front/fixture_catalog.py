"""A catalog over tables that are only defined: what the front's tests bind against."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from filestore.query.bind import bind
from filestore.query.bind_ddl import define_table
from filestore.query.optimize import optimize
from filestore.query.parse import parse
from filestore.query.plan import Bound, OutputColumn
from filestore.query.statements import CreateTable
from filestore.storage.schema import TableDef
from filestore.types import NAME, OID, SqlType

TABLES = """
create table t (a int primary key, b text, c numeric(10,2) check (c > 0), d date, e bigint default 1 + 1, f boolean);
create table u (a int not null, x varchar(10), y timestamp);
create table kinds (
  i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric, np numeric(15,2), s text, v varchar(20),
  c char(5), b boolean, by bytea, d date, ti time, ts timestamp, tz timestamptz, iv interval, id uuid, nm name, o oid);
create table pair (k int, l int, m text unique, z int, primary key (k, l));
create table "Mixed Case" ("Id" int, "order" text);
"""
VIRTUAL = {("pg_catalog", "pg_class"): (OutputColumn("oid", OID), OutputColumn("relname", NAME))}


class FixtureCatalog:
    """`sizes` are rows by table name, 1000 for the others."""

    def __init__(self, definitions: str = TABLES, sizes: dict[str, int] | None = None) -> None:
        self.tables: dict[str, TableDef] = {}
        self.sizes = sizes or {}
        oids = itertools.count(16384)
        for statement in parse(definitions):
            assert isinstance(statement.utility, CreateTable)
            table = define_table(statement.utility, "public", self, lambda: next(oids))
            self.tables[table.name] = table

    def table(self, schema: str | None, name: str) -> TableDef | None:
        return self.tables.get(name) if schema in (None, "public") else None

    def virtual(self, schema: str, name: str) -> tuple[OutputColumn, ...] | None:
        return VIRTUAL.get((schema, name))

    def relation_oid(self, schema: str | None, name: str) -> int | None:
        found = self.table(schema, name)
        return found.oid if found is not None else None

    def rows(self, table: TableDef) -> float:
        return float(self.sizes.get(table.name, 1000))

    def table_names(self) -> list[str]:
        return list(self.tables)

    def bind(self, sql: str, types: Sequence[SqlType | None] = ()) -> Bound:
        (statement,) = parse(sql)
        return bind(statement, self, types)

    def plan(self, sql: str, types: Sequence[SqlType | None] = ()) -> Bound:
        return optimize(self.bind(sql, types), self)
