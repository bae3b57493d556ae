"""INSERT of many rows of literals: read as columns, it does what the parsed statement does, or leaves it alone."""

from __future__ import annotations

import random

import pytest

import filestore
from filestore.query.literal_rows import literal_rows

SEED = 20261121
COLUMNS = "k int8, i int4, n numeric(10,2), f float8, b bool, s varchar(12), d date, t timestamptz, u numeric"
VALUES = {
    "k": ["1", "-7", "+9", "9223372036854775807"],
    "i": ["0", "2147483647", "NULL", "-0"],
    "n": ["1.005", "-.5", "3", "1e3", "null"],
    "f": ["1e-3", "12.", "7", "NULL"],
    "b": ["true", "FALSE", "Null"],
    "s": ["'it''s'", "''", "'äöü€'", "NULL", "'12 letters  '", "''''''"],
    "d": ["'2024-02-29'", "NULL", "'epoch'"],
    "t": ["'2024-02-29 12:00+02'", "NULL", "'1999-01-01'"],
    "u": ["123456789012345678901234567890.5", "'NaN'", "0"],
}


@pytest.fixture
def cursor(tmp_path):
    connection = filestore.connect(str(tmp_path / "data"))
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"create table taken ({COLUMNS})")
    cursor.execute(f"create table parsed ({COLUMNS})")
    yield cursor
    connection.close()


def insert(table: str, rows: list[list[str]], end: str = "") -> str:
    texts = " ,\n".join(f"({', '.join(row)} )" for row in rows)
    return f"INSERT INTO {table} ({', '.join(VALUES)})\nvalues {texts}{end}"


def test_the_rows_are_those_of_the_parsed_statement(cursor):
    rng = random.Random(SEED)
    for _ in range(12):
        # one kind of literal a column: strings and numbers do not mix in it
        rows = [[rng.choice(values) for values in VALUES.values()] for _ in range(rng.choice((60, 130)))]
        for row in rows:
            row[-1] = rng.choice(["1.5", "0"])
        assert literal_rows(insert("taken", rows, ";  ")) is not None, SEED
        cursor.execute(insert("taken", rows, ";  "))
        assert cursor.rowcount == len(rows)
        cursor.execute(insert("parsed", rows, " /* to the parser */"))
        assert cursor.rowcount == len(rows)
    found = [cursor.execute(f"select * from {table}").fetchall() for table in ("taken", "parsed")]
    assert repr(found[0]) == repr(found[1]), SEED


@pytest.mark.parametrize(
    "tail",
    [
        "(1, 1+1)",
        "(1, default)",
        "(1, 'a' 'b')",
        "(1, E'a')",
        "(1, 'a'::text)",
        "(1)",
        "(1, 2, 3)",
        "(1, nullx)",
        "(1, 1.5.2)",
        "(1, 'open)",
        "(1, 2) returning i",
        "(1, 2); select 1",
        "(1, 2),",
        "(1, $1)",
        "(1, - 2)",
        "(1, 1e)",
        "(1, 2",
        "",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(tail):
    plain = ", ".join(["(1, 2)"] * 100)
    assert literal_rows(f"insert into t (i, n) values {plain}") is not None
    assert literal_rows(f"insert into t (i, n) values {plain}, {tail}") is None


def test_errors_are_the_parser_s_and_nothing_stays(cursor):
    good = "(1, 1), " * 2000
    for bad, sqlstate in (("(1, 99999999999)", "22003"), ("(1, 'x')", "22P02"), ("(1, true)", "42804")):
        with pytest.raises(filestore.Error) as told:
            cursor.execute(f"insert into taken (k, i) values {good}{bad}")
        assert told.value.sqlstate == sqlstate
    with pytest.raises(filestore.Error) as told:
        cursor.execute(f"insert into taken (k, none) values {good}(1, 1)")
    assert told.value.sqlstate == "42703" and told.value.position == 23
    assert cursor.execute("select count(*) from taken").fetchone() == (0,)


def test_a_statement_too_deep_is_refused_and_the_next_one_works(cursor):
    with pytest.raises(filestore.Error) as told:
        cursor.execute("select " + "+".join(["1"] * 20_000))
    assert told.value.sqlstate == "54001"
    assert cursor.execute("select 1").fetchone() == (1,)
