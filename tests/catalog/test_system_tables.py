"""System tables against PostgreSQL's own: the same columns, the same rows where both know the object."""

from __future__ import annotations

import pytest

from filestore.catalog.system_relations import MAKERS, RELATIONS, Changes
from filestore.types import TEXT
from tests.catalog.conftest import Ask, Local, statements

NAMED = "select oid from pg_class where relname in ('author', 'book')"


def test_columns_are_postgresql_s(ask: Ask, oracle: Ask) -> None:
    """Every system table has PostgreSQL 15's columns in its order."""
    sql = """
        select n.nspname, c.relname, a.attnum, a.attname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
            join pg_attribute a on a.attrelid = c.oid
        where n.nspname in ('pg_catalog', 'information_schema') and c.relkind in ('r', 'v') and a.attnum > 0
        order by 1, 2, 3
    """
    ours = ask(sql)
    known = {(r[0], r[1]) for r in ours}
    assert len(known) == len(RELATIONS)
    assert ours == [r for r in oracle(sql) if (r[0], r[1]) in known]


def test_types_of_columns(ask: Ask, oracle: Ask) -> None:
    """A column has PostgreSQL's type, or is text where that type does not exist here."""
    sql = """
        select c.relname || '.' || a.attname, format_type(a.atttypid, null)
        from pg_class c join pg_attribute a on a.attrelid = c.oid
            join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'pg_catalog' and c.relkind in ('r', 'v') and a.attnum > 0 order by 1
    """
    theirs = {row[0]: row[1] for row in oracle(sql)}
    differing = {n: t for n, t in ask(sql) if t != theirs[n]}
    assert set(differing.values()) == {"text"}
    built = {
        "integer",
        "bigint",
        "smallint",
        "oid",
        "name",
        "boolean",
        "timestamp with time zone",
        "regproc",
        "regtype",
    }
    assert not {theirs[n] for n in differing} & built


def test_every_system_table_can_be_read(ask: Ask) -> None:
    for schema, name in RELATIONS:
        ask(f'select * from {schema}."{name}"')
        assert int(ask(f'select count(*) from {schema}."{name}"')[0][0] or 0) >= 0


def test_pg_catalog_comes_first_without_being_named(ask: Ask) -> None:
    assert ask("select count(*) from pg_am") == ask("select count(*) from pg_catalog.pg_am")


SAME_ROWS = """
select typname, typlen, typbyval, typtype, typcategory, typispreferred, typdelim, typinput, typoutput,
  typreceive, typsend, typmodin, typmodout, typalign, typstorage, typcollation, typarray, typelem, oid
  from pg_type where oid in ({types}) order by oid;

select relname, relkind, relnatts, relchecks, relhasindex, relpersistence, relreplident, relispopulated
  from pg_class where oid in (select oid from pg_class where relname in ('author', 'book')) order by 1;

select relname, relkind, relnatts, am.amname from pg_class c join pg_am am on am.oid = c.relam where
  relkind = 'i' and relname in ('author_pkey', 'book_pkey', 'once') order by 1;

select attname, attnum, format_type(atttypid, atttypmod), attnotnull, atthasdef, attlen, attbyval,
  attalign, attstorage, attcollation, attidentity, attgenerated, attisdropped, atttypmod from
  pg_attribute where attrelid in (select oid from pg_class where relname in ('author', 'book')) and
  attnum > 0 order by 1, 2;

select c.relname, indnatts, indnkeyatts, indisunique, indisprimary, indimmediate, indisvalid, indkey,
  indoption, indcollation, indclass from pg_index i join pg_class c on c.oid = i.indexrelid where
  c.relname in ('author_pkey', 'book_pkey', 'once') order by 1;

select conname, contype, condeferrable, convalidated, conkey, conrelid::regclass, conindid::regclass,
  connoinherit from pg_constraint where conrelid in (select oid from pg_class where relname in
  ('author', 'book')) order by 1;

select adrelid::regclass, adnum from pg_attrdef where adrelid in (select oid from pg_class where relname
  in ('author', 'book'));

select distinct classid::regclass, refclassid::regclass, refobjsubid, deptype from pg_depend where
  refobjid in (select oid from pg_class where relname in ('author', 'book')) and refobjsubid > 0 order
  by 1, 2, 3;

select schemaname, tablename, tableowner, hasindexes from pg_tables where schemaname = 'app' order by 2;

select schemaname, tablename, indexname, indexdef from pg_indexes where schemaname = 'app' order by 3;

select table_name, table_type, is_insertable_into from information_schema.tables where table_schema =
  'app' order by 1;

select table_name, column_name, ordinal_position, is_nullable, data_type, character_maximum_length,
  character_octet_length, numeric_precision, numeric_precision_radix, numeric_scale, datetime_precision,
  udt_name, is_identity, is_generated, is_updatable from information_schema.columns where table_schema =
  'app' order by 1, 3;

select table_name, constraint_name, constraint_type, is_deferrable, enforced, nulls_distinct from
  information_schema.table_constraints where constraint_schema = 'app' and constraint_name !~ '^[0-9]'
  order by 1, 2;

select constraint_name, column_name, ordinal_position from information_schema.key_column_usage where
  table_schema = 'app' order by 1, 3;

select constraint_name, table_name, column_name from information_schema.constraint_column_usage where
  table_schema = 'app' order by 1, 3;

select datname, encoding, datcollate, datctype from pg_database where datname = 'postgres';

select spcname, oid from pg_tablespace order by 1;

select rolname, rolsuper, rolcanlogin, oid from pg_roles where rolname = 'postgres';

select amname, amtype, oid from pg_am where amname in ('heap', 'btree') order by 1;

select collname, collprovider, oid from pg_collation where collname in ('default', 'C', 'POSIX') order
  by 1;
"""


@pytest.mark.parametrize("sql", statements(SAME_ROWS))
def test_rows_are_postgresql_s(sql: str, ask: Ask, oracle: Ask) -> None:
    types = ",".join(str(r[0]) for r in ask("select oid from pg_type"))
    assert ask(sql.format(types=types)) == oracle(sql.format(types=types))


def test_definitions_follow_a_transaction(ask: Local) -> None:
    """A transaction sees its own definitions, another session only committed ones."""
    other = Local(ask.session.database)
    count = "select count(*) from pg_class where relname = 'fresh'"
    try:
        ask("begin")
        ask("create table fresh (id int primary key)")
        assert ask(count) == [["1"]]
        assert other(count) == [["0"]]
        ask("rollback")
        assert ask(count) == [["0"]]
        ask("create table fresh (id int)")
        assert other(count) == [["1"]]
        ask("drop table fresh")
        assert other(count) == [["0"]]
    finally:
        other.session.close()


def test_row_counts_are_current(ask: Ask) -> None:
    sql = "select reltuples from pg_class where relname = 'author'"
    assert ask(sql) == [["2"]]
    ask("insert into app.author (id, name) values (3, 'cleo')")
    assert ask(sql) == [["3"]]
    assert ask("select n_live_tup from pg_stat_user_tables where relname = 'author'") == [["3"]]
    ask("delete from app.author where id = 3")


def test_definitions_are_made_once(ask: Local) -> None:
    """Rows about definitions are kept until one changes."""
    session = ask.session
    first = session.catalog().system_table("pg_catalog", "pg_attribute")
    again = (
        session.catalog().system_table("pg_catalog", "pg_attrdef"),
        session.catalog().system_table("pg_catalog", "pg_type"),
    )
    assert session.catalog().system_table("pg_catalog", "pg_type").columns[0] is again[1].columns[0]
    ask("create table brief (id int)")
    later = session.catalog().system_table("pg_catalog", "pg_attribute")
    ask("drop table brief")
    assert later.length == first.length + 1


def test_activity_and_locks(ask: Local) -> None:
    other = Local(ask.session.database)
    try:
        other("begin")
        other("insert into app.author (id, name) values (9, 'zoe')")
        pid = other.session.process_id
        rows = ask(f"select state, query from pg_stat_activity where pid = {pid}")
        assert rows == [["idle in transaction", "insert into app.author (id, name) values (9, 'zoe')"]]
        locks = ask(
            "select relation::regclass, mode, granted from pg_locks"
            f" where pid = {pid} and locktype = 'relation'"
        )
        assert locks == [["app.author", "RowExclusiveLock", "t"]]
        assert ask("select state from pg_stat_activity where pid = pg_backend_pid()") == [["active"]]
        other("rollback")
        assert ask(f"select count(*) from pg_locks where pid = {pid}") == [["0"]]
    finally:
        other.session.close()


def test_makers_are_of_known_relations() -> None:
    for (schema, name), makers in MAKERS.items():
        assert (schema, name) in RELATIONS
        assert all(isinstance(changes, Changes) for changes, _ in makers)
    assert all(c.type == TEXT for r in RELATIONS.values() for c in r.columns if c.declared.startswith("_"))
