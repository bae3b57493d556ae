"""Functions that ask the session or the registry: PostgreSQL's answers where the question has one."""

from __future__ import annotations

import re

import pytest

from filestore import errors
from tests.catalog.conftest import Ask, Local, statements

SAME_ANSWERS = """
select format_type(23, null), format_type(1700, 655366), format_type(1043, 54), format_type(1042, null),
  format_type(1042, -1), format_type(1042, 7), format_type(1007, null), format_type(0, null),
  format_type(99999, null), format_type(null, 1), format_type(1184, -1), format_type(18, null);

select pg_get_indexdef('app.book_pkey'::regclass), pg_get_indexdef('app.once'::regclass, 2, true),
  pg_get_indexdef('app.once'::regclass, 0, true), pg_get_indexdef('app.once'::regclass, 9, false),
  pg_get_indexdef(1);

select conname, pg_get_constraintdef(oid), pg_get_constraintdef(oid, true) from pg_constraint where
  conrelid = 'app.book'::regclass and contype in ('p', 'u') order by 1;

select 'app.book'::regclass, 'app.book'::regclass::text, 'pg_class'::regclass::oid, 1259::regclass,
  0::regclass, 4294967295::regclass, 'app.once'::regclass, 'information_schema.tables'::regclass;

select 'int4'::regtype, 'character varying'::regtype, 23::regtype::text, 'timestamptz'::regtype::oid,
  0::regtype;

select 'app'::regnamespace, 11::regnamespace, 'postgres'::regrole, 10::regrole::text, 'now'::regproc;

select to_regclass('app.book'), to_regclass('nothing'), to_regclass('app.nothing'), to_regtype('int8'),
  to_regtype('nothing'), to_regnamespace('app'), to_regnamespace('nothing');

select pg_table_is_visible('app.book'::regclass), pg_table_is_visible('pg_class'::regclass),
  pg_table_is_visible(1), pg_table_is_visible('information_schema.tables'::regclass),
  pg_type_is_visible(23);

select current_schemas(false), current_schemas(true), current_schema(), current_schema;

select pg_get_userbyid(10), pg_get_userbyid(4000000), pg_encoding_to_char(6),
  pg_char_to_encoding('utf-8'), getdatabaseencoding();

select has_table_privilege('app.book', 'select'), has_schema_privilege('app', 'usage'),
  has_any_column_privilege('app.book', 'insert'), has_database_privilege('postgres', 'connect'),
  has_table_privilege('postgres', 'app.book', 'select'), has_table_privilege(1, 'select'),
  has_column_privilege('app.book', 'id', 'select');

select obj_description(1, 'pg_class'), col_description(1, 1), shobj_description(99999, 'pg_database'),
  pg_my_temp_schema();

select array_to_string('{a,NULL,b}'::text, ',') , array_to_string('{}', ',');

select array_length('{1,2}', 1), array_upper('{1,2}', 1), array_lower('{1,2}', 1), array_length('{}',
  1), array_length('{1}', 2);

select array(select relname from pg_class where relname in ('author', 'book') order by 1 desc)::text;

select array(select relname from pg_class where false)::text, array(select null::text)::text;

select * from unnest(array(select attname::text from pg_attribute where attrelid = 'app.book'::regclass
  and attnum > 0 order by attnum)) with ordinality as t(name, n);

select indkey[0], indkey[1], conkey[1], conkey[3] from pg_index join pg_constraint on conindid =
  indexrelid where conname = 'once';

select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum =
  any(i.indkey) where i.indrelid = 'app.book'::regclass order by 1;

select a.attname from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum <>
  all(c.conkey) where c.conname = 'once' and a.attnum > 0 order by 1;

select relname, (select count(*) from pg_attribute a where a.attrelid = c.oid and attnum > 0), exists
  (select 1 from pg_index where indrelid = c.oid), array(select conname::text from pg_constraint where
  conrelid = c.oid and contype <> 'c' order by 1)::text from pg_class c where relname in ('author',
  'book', 'once') order by 1;

select relname from pg_class c where relname in ('author', 'book') and (oid in (select conrelid from
  pg_constraint where contype = 'u' and conrelid = c.oid) or relname = 'nothing');

select o.n, p.partstrat, pg_catalog.count(i.inhparent) from pg_catalog.pg_class as c join
  pg_catalog.pg_namespace as n on (n.oid = c.relnamespace) cross join lateral (select
  pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)) as o(n) left join
  pg_catalog.pg_partitioned_table as p on (p.partrelid = c.oid) left join pg_catalog.pg_inherits as i on
  (c.oid = i.inhparent) where c.relname = 'pg_class' and o.n is not null group by 1, 2 order by 1 asc
  limit 1;
"""


@pytest.mark.parametrize("sql", statements(SAME_ANSWERS))
def test_answers_are_postgresql_s(sql: str, ask: Ask, oracle: Ask) -> None:
    # PostgreSQL must be told that these literals are arrays.
    theirs = re.sub(r"(array_to_string\('[^']*'(?:::text)?)", r"\1::text[]", sql)
    theirs = re.sub(r"(array_(?:length|upper|lower)\('[^']*')", r"\1::int4[]", theirs)
    assert ask(sql) == oracle(theirs)


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("select 'nothing'::regclass", "42P01"),
        ("select 'nothing'::regtype", "42704"),
        ("select 'nothing'::regnamespace", "3F000"),
        ("select 'nothing'::regrole", "42704"),
        ("select 'nothing'::regproc", "42883"),
        ("select pg_table_size('nothing')", "42P01"),
        ("select has_table_privilege('nothing', 'select')", "42P01"),
        ("select has_schema_privilege('nothing', 'usage')", "3F000"),
        ("select has_database_privilege('nothing', 'connect')", "3D000"),
        ("select has_column_privilege('app.book', 'nothing', 'select')", "42703"),
        ("select current_setting('nothing')", "42704"),
        ("select pg_database_size('nothing')", "3D000"),
        ("select pg_get_serial_sequence('app.book', 'nothing')", "42703"),
        ("select * from pg_catalog.nothing", "42P01"),
        ("insert into pg_class (oid) values (1)", "42501"),
        ("select array[1, 2]", "0A000"),
    ],
)
def test_errors(sql: str, sqlstate: str, ask: Ask) -> None:
    with pytest.raises(errors.Error) as caught:
        ask(sql)
    assert caught.value.sqlstate == sqlstate, caught.value


def test_sizes_grow(ask: Ask) -> None:
    ask("create table heavy (id int primary key, t text)")
    sizes = "select pg_relation_size('heavy'), pg_indexes_size('heavy'), pg_total_relation_size('heavy')"
    ask("insert into heavy select g, repeat('x', 100) from generate_series(1, 5000) g")
    rows, indexes, total = (int(v or 0) for v in ask(sizes)[0])
    assert rows > 5000 * 100
    assert indexes > 5000 * 4
    assert total == rows + indexes
    assert int(ask("select pg_database_size('postgres')")[0][0] or 0) >= total
    assert ask("select pg_size_pretty(pg_table_size('heavy')) ~ '^[0-9]+ (kB|MB)$'") == [["t"]]
    ask("drop table heavy")


def test_session_functions(ask: Local) -> None:
    assert ask("select pg_backend_pid(), current_user, session_user, current_database()") == [
        [str(ask.session.process_id), "postgres", "postgres", "postgres"]
    ]
    assert ask("select version() ~ '^PostgreSQL 15[.]', pg_postmaster_start_time() < now()") == [["t", "t"]]
    assert ask("select set_config('application_name', 'me', false)") == [["me"]]
    assert ask("select current_setting('application_name')") == [["me"]]
    assert ask(
        "select current_setting('nothing', true), current_setting('server_version_num')::int / 100"
    ) == [[None, "1500"]]
    assert ask("select pg_cancel_backend(123456)") == [["f"]]


def test_names_of_oids_follow_the_search_path(ask: Ask) -> None:
    assert ask("select 'app.book'::regclass") == [["app.book"]]
    ask("set search_path = app, public")
    try:
        assert ask("select 'book'::regclass, pg_table_is_visible('app.book'::regclass)") == [["book", "t"]]
        assert ask("select pg_get_indexdef('app.once'::regclass, 0, true)") == [
            ["CREATE UNIQUE INDEX once ON book USING btree (author_id, title)"]
        ]
    finally:
        ask("reset search_path")
