"""Long lists of literals are taken out before the parser sees them: nobody can tell by an answer or an error."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from filestore.dbapi import Connection, connect, exceptions
from filestore.query import expr as e
from filestore.query.literal_lists import constants, split_lists
from filestore.query.parse import parse
from filestore.query.statements import Declare, Explain, Prepare
from filestore.types import BOOL

ROWS = 500
LONG = ", ".join(map(str, range(200, 700)))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    made = connect(str(tmp_path_factory.mktemp("lists") / "d"))
    made.execute("CREATE TABLE t (a int4, b int8, s text, c char(6), n numeric, f float8, d date)")
    made.execute(
        "INSERT INTO t SELECT i, i, 'k''' || i, 'c' || i, i * 1.5, i / 2.0, date '2020-01-01' + i"
        f" FROM generate_series(0, {ROWS - 1}) i"
    )
    made.execute("INSERT INTO t DEFAULT VALUES")
    made.commit()
    yield made
    made.close()


def count(connection: Connection, condition: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM t WHERE {condition}").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize(
    ("column", "literal"),
    [
        ("a", "{0}"),
        ("b", "{0}"),
        ("a", "+{0}"),
        ("a", "'{0}'"),
        ("n", "{1}"),
        ("f", "{0}e0"),
        ("n", "'{1}'"),
        ("s", "'k''{0}'"),
        ("c", "'c{0}  '"),
        ("d", "'2020-01-01'"),
        ("a + 1", "{0}"),
        ("a::numeric", "{0}.0"),
    ],
)
def test_as_equal_to_each(connection: Connection, column: str, literal: str) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    values = [rng.randrange(-ROWS, ROWS) for _ in range(400)]
    items = [literal.format(v, v * 1.5) for v in values if v >= 0 or literal in ("{0}", "{1}", "'{0}'", "{0}e0")]
    items += items[:100]  # at least 64 of them
    expected = count(connection, " OR ".join(f"{column} = {x}" for x in items))
    listed = rng.choice([",", ", ", " ,\n"]).join(items)
    assert split_lists(f"SELECT {column} in ( {listed} )")[2], "a list was meant"
    assert count(connection, f"{column} IN ({listed})") == expected
    assert count(connection, f"{column} = ANY (ARRAY[{listed}])") == expected or "'" in literal
    assert count(connection, f"{column} NOT IN ({listed})") == ROWS - expected
    assert count(connection, f"({column} IN ({listed})) IS NULL") == 1
    assert count(connection, f"{column} IN ({listed}) AND {column} NOT IN (\n{listed}\n)") == 0


def test_rows_of_values_are_a_list(connection: Connection) -> None:
    rows = "), (".join(LONG.split(", "))
    for spelled in (f"VALUES ({rows})", f"values( {rows} ) ", f"\nVALUES\n({rows.replace(', ', ',')})"):
        assert split_lists(f"SELECT a IN ({spelled})")[2], "a list was meant"
        for column in ("a", "b", "f * 2", "n / 1.5"):
            assert count(connection, f"{column} IN ({spelled})") == 300
        assert count(connection, f"a NOT IN ({spelled})") == 200
        assert count(connection, f"(a IN ({spelled})) IS NULL") == 1
    strings = f"VALUES ('{rows.replace('), (', chr(39) + '), (' + chr(39))}')"
    assert not split_lists(f"SELECT a IN ({strings})")[2]
    for wrong, sqlstate in ((f"s IN (VALUES ({rows}))", "42883"), (f"a IN ({strings})", "42883")):
        with pytest.raises(exceptions.Error) as raised:
            count(connection, wrong)
        assert raised.value.sqlstate == sqlstate
        connection.rollback()


def test_types_are_those_of_the_literals(connection: Connection) -> None:
    assert [c.type.name for c in constants("1, -2147483649, 3")] == ["integer", "bigint", "integer"]
    assert [c.type.name for c in constants("1, 1.5, 9223372036854775808")] == ["integer", "numeric", "numeric"]
    assert count(connection, f"a IN ({LONG}, 5000000000)") == 300
    assert count(connection, f"a IN ({LONG}, 250.5, 1e1)") == 301
    assert count(connection, f"a IN ({LONG}, {'9' * 5000})") == 300
    with pytest.raises(exceptions.Error) as raised:
        connection.execute(f"SELECT 1 FROM t WHERE a IN ({LONG}, 'x')")
    assert raised.value.sqlstate == "22P02"
    connection.rollback()


def test_positions_are_those_of_the_text(connection: Connection) -> None:
    text = f"SELECT a FROM t WHERE a IN ({LONG}) AND a IN (/*,*/ {LONG}) AND nosuch = 1"
    with pytest.raises(exceptions.Error) as raised:
        connection.execute(text)
    assert raised.value.position == text.index("nosuch") + 1
    connection.rollback()
    text = f"SELECT a FROM t WHERE a IN ({LONG}) )"
    with pytest.raises(exceptions.Error) as syntax:
        connection.execute(text)
    assert syntax.value.position == len(text)
    connection.rollback()


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT ' in ({LONG}, ', ' in ({LONG})'",
        f"SELECT 1 /* in ({LONG}) */",
        f"SELECT 1 -- in ({LONG})",
        f'SELECT 1 AS " in ({LONG})"',
        f"SELECT $$ in ({LONG}) $$",
    ],
)
def test_what_only_looks_like_a_list_is_left_alone(text: str) -> None:
    assert (split_lists(text)[0], split_lists(text)[2]) == (text, {})


def test_what_stands_around_a_query_leaves_its_lists_out_too(connection: Connection) -> None:
    for head in ("EXPLAIN", "EXPLAIN (FORMAT json)", "PREPARE around AS", "DECLARE around CURSOR FOR"):
        utility = parse(f"{head} SELECT a FROM t WHERE a IN ({LONG})")[0].utility
        assert isinstance(utility, Explain | Prepare | Declare)
        inner = utility.statement
        assert inner.source is not None and inner.source.lists and inner.text.endswith(f"({LONG})"), head
    check = parse(f"CREATE TABLE z (a int CHECK (a IN ({LONG})))")[0]
    assert LONG in str(check.utility)
    connection.execute(f"CREATE TABLE z (a int CHECK (a IN ({LONG})))")
    with pytest.raises(exceptions.Error):
        connection.execute("INSERT INTO z VALUES (1)")
    connection.rollback()
    text = f"EXPLAIN SELECT a FROM t WHERE a IN ({LONG}) AND nosuch = 1"
    with pytest.raises(exceptions.Error) as raised:
        connection.execute(text)
    assert raised.value.position == text.index("nosuch") + 1
    connection.rollback()


def test_a_statement_keeps_its_text() -> None:
    text = f"SELECT 1 WHERE 1 IN ({LONG}); SELECT 2"
    assert [s.text for s in parse(text)] == text.split("; ")
    assert parse(f"EXPLAIN {text}")[0].text == "EXPLAIN " + text.split("; ", maxsplit=1)[0]


def test_lists_that_differ_have_plans_that_differ(connection: Connection) -> None:
    other = LONG.replace("200,", "1,  ")
    for name, items in (("p", LONG), ("q", other)):
        connection.execute(f"PREPARE {name} AS SELECT min(a) FROM t WHERE a IN ({items})")
    assert connection.execute("EXECUTE p").fetchone() == (200,)
    assert connection.execute("EXECUTE q").fetchone() == (1,)
    assert parse(f"PREPARE r AS SELECT 1 WHERE 1 IN ({LONG})")[0].text.endswith(f"({LONG})")
    for items, least in ((LONG, 200), (other, 1), (LONG, 200)):
        assert connection.execute(f"SELECT min(a) FROM t WHERE a IN ({items})").fetchone() == (least,)


def test_the_planner_sees_one_value(connection: Connection) -> None:
    items = e.list_items([e.Const(e.ADDRESS_TYPE, i) for i in range(e.LONG_LIST)])
    node = e.InList(BOOL, e.Column(e.ADDRESS_TYPE, 0), items)
    assert e.children(node) == (node.arg,)
    assert e.rebuild(node, (e.Column(e.ADDRESS_TYPE, 1),)).items is items  # type: ignore[attr-defined]
    connection.execute(f"UPDATE t SET f = 0 WHERE b IN ({LONG})")
    assert connection.execute(f"DELETE FROM t WHERE b IN ({LONG}) AND f = 0").rowcount == 300
    connection.rollback()
