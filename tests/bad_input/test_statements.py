"""Bad statements and bad data, each over the port and embedded: SQLSTATE, message, position, hint and constraint
fields.

Every case is one that users meet; the words are PostgreSQL's where PostgreSQL has any. After each the table must be
as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import filestore
from filestore.demo.server import Server


@dataclass
class Diagnostic:
    """An error's fields, from whichever door it came."""

    sqlstate: str | None
    message: str
    detail: str | None = None
    hint: str | None = None
    context: str | None = None
    position: int | None = None
    schema: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None


class Door(Protocol):
    def run(self, sql: str) -> list[Any]: ...
    def error(self, sql: str) -> Diagnostic: ...
    def copy_in(self, sql: str, data: bytes) -> Diagnostic | None: ...


class Port:
    """Over the PostgreSQL port."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)

    def run(self, sql: str) -> list[Any]:
        cursor = self.connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def error(self, sql: str) -> Diagnostic:
        with pytest.raises(psycopg.Error) as caught:
            self.run(sql)
        return _from_wire(caught.value)

    def copy_in(self, sql: str, data: bytes) -> Diagnostic | None:
        try:
            with self.connection.cursor() as cursor, cursor.copy(sql) as copy:
                copy.write(data)
        except psycopg.Error as error:
            return _from_wire(error)
        return None


def _from_wire(error: psycopg.Error) -> Diagnostic:
    d = error.diag
    position = None if d.statement_position is None else int(d.statement_position)
    return Diagnostic(
        error.sqlstate, d.message_primary or str(error), d.message_detail, d.message_hint, d.context, position,
        d.schema_name, d.table_name, d.column_name, d.constraint_name,
    )  # fmt: skip


class Embedded:
    """In this process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.connection = filestore.connect(str(directory), autocommit=True)

    def run(self, sql: str) -> list[Any]:
        cursor = self.connection.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []

    def error(self, sql: str) -> Diagnostic:
        with pytest.raises(filestore.Error) as caught:
            self.run(sql)
        return _from_driver(caught.value)

    def copy_in(self, sql: str, data: bytes) -> Diagnostic | None:
        path = self.directory.parent / "copy.data"
        path.write_bytes(data)
        try:
            self.run(sql.replace("FROM STDIN", f"FROM '{path}'"))
        except filestore.Error as error:
            return _from_driver(error)
        return None


def _from_driver(error: Any) -> Diagnostic:
    return Diagnostic(
        error.sqlstate, str(error.args[0]), error.detail, error.hint, error.context, error.position,
        error.schema, error.table, error.column, error.constraint,
    )  # fmt: skip


@pytest.fixture(params=["port", "embedded"])
def door(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[Door]:
    """Both doors, each with the tables `item` (two rows) and `line`."""
    if request.param == "port":
        server: Server = request.getfixturevalue("server")
        opened: Any = Port(server.dsn)
    else:
        opened = Embedded(data_dir)
    opened.run("DROP TABLE IF EXISTS item, line")
    opened.run(
        "CREATE TABLE item (id integer PRIMARY KEY, name varchar(8) NOT NULL, price numeric(6,2) CHECK (price > 0),"
        " code text UNIQUE)"
    )
    opened.run("INSERT INTO item VALUES (1, 'one', 1.50, 'a'), (2, 'two', 2.50, NULL)")
    yield opened
    opened.run("DROP TABLE IF EXISTS item, line")
    opened.connection.close()


def unchanged(door: Door) -> bool:
    """Whether the table holds what the fixture put there."""
    return [tuple(r) for r in door.run("SELECT id, name FROM item ORDER BY id")] == [(1, "one"), (2, "two")]


# (statement, SQLSTATE, part of the message, 1-based position of what is marked with ^ in the statement)
WRONG = [
    ("^SELEC 1", "42601", 'syntax error at or near "SELEC"'),
    ("SELECT * FORM ^item", "42601", "syntax error at or near"),
    ("SELECT 1 +", "42601", "syntax error at end of input"),
    ("SELECT (1", "42601", "syntax error"),
    ("SELECT * FROM ^itm", "42P01", 'relation "itm" does not exist'),
    ("SELECT ^nme FROM item", "42703", 'column "nme" does not exist'),
    ("SELECT ^x.id FROM item", "42P01", 'missing FROM-clause entry for table "x"'),
    ("SELECT ^id FROM item a JOIN item b ON true", "42702", 'column reference "id" is ambiguous'),
    ("SELECT ^nosuch(1)", "42883", "function nosuch(integer) does not exist"),
    ("SELECT 1::nosuch", "42704", 'type "nosuch" does not exist'),
    ("SELECT id ^+ true FROM item", "42883", "operator does not exist: integer + boolean"),
    ("SELECT id FROM item WHERE ^name", "42804", "argument of WHERE must be type boolean"),
    ("SELECT ^name, count(*) FROM item", "42803", 'column "item.name" must appear in the GROUP BY clause'),
    ("SELECT ^'abc'::integer", "22P02", 'invalid input syntax for type integer: "abc"'),
    ("SELECT 2147483647 + 1", "22003", "integer out of range"),
    ("SELECT 9223372036854775807 + 1", "22003", "bigint out of range"),
    ("SELECT 1 / 0", "22012", "division by zero"),
    ("SELECT 12345.678::numeric(6,2)", "22003", "numeric field overflow"),
    ("SELECT 'x'::date", "22007", 'invalid input syntax for type date: "x"'),
    ("SELECT '2026-13-01'::date", "22008", "date/time field value out of range"),
    ("SELECT (SELECT id FROM item)", "21000", "more than one row returned by a subquery"),
    ("UPDATE item SET ^nosuch = 1", "42703", 'column "nosuch" of relation "item" does not exist'),
    ("INSERT INTO item (id, ^nosuch) VALUES (3, 4)", "42703", 'column "nosuch" of relation "item" does not exist'),
    ("CREATE TABLE item (a int)", "42P07", 'relation "item" already exists'),
    ("DROP TABLE nosuch", "42P01", 'table "nosuch" does not exist'),
    ("SET nosuch_setting = 1", "42704", 'unrecognized configuration parameter "nosuch_setting"'),
    ("SELECT id FROM item WHERE id = ^'x'", "22P02", 'invalid input syntax for type integer: "x"'),
    ("  SELECT id FROM item WHERE price < ^'y' AND id = 1", "22P02", 'invalid input syntax for type numeric: "y"'),
    ("\n SELECT 1 + ^'a' -- why", "22P02", 'invalid input syntax for type integer: "a"'),
    ("SELECT id FROM ^`item`", "42601", 'syntax error at or near "`"'),
    ("SELECT 1 LIMIT -1", "2201W", "LIMIT must not be negative"),
]


@pytest.mark.parametrize(("marked", "sqlstate", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_statements(door: Door, marked: str, sqlstate: str, message: str) -> None:
    position = marked.find("^") + 1 or None
    error = door.error(marked.replace("^", "", 1))
    assert (error.sqlstate, message in error.message) == (sqlstate, True), error
    if position is not None:
        assert error.position == position, error
    assert unchanged(door)


def test_text_with_a_nul_is_refused(data_dir: Path) -> None:
    """Embedded; libpq ends its texts there. The second text is one whose shape is known by then."""
    with filestore.connect(str(data_dir), autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT 'b' WHERE 'b' = 'b'")
        for text in ("SELECT 1\0", "SELECT 'b' WHERE 'b' = 'a\0b'", 'SELECT 1 AS "a\0b"', "\0"):
            with pytest.raises(filestore.Error) as caught:
                cursor.execute(text)
            error = _from_driver(caught.value)
            assert (error.sqlstate, error.position) == ("22021", text.index("\0") + 1), text


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("SELECT nam FROM item", 'Perhaps you meant to reference the column "item.name".'),
        ("SELECT * FROM itm", "item"),
    ],
)
def test_unknown_names_come_with_a_suggestion(door: Door, statement: str, hint: str) -> None:
    assert hint in (door.error(statement).hint or "")


def test_constraints_name_themselves(door: Door) -> None:
    null = door.error("INSERT INTO item VALUES (3, NULL, 1)")
    assert (null.sqlstate, null.table, null.column, null.detail) == (
        "23502", "item", "name", "Failing row contains (3, null, 1.00, null).",
    )  # fmt: skip
    check = door.error("UPDATE item SET price = -1 WHERE id = 1")
    assert (check.sqlstate, check.schema, check.table, check.constraint) == (
        "23514", "public", "item", "item_price_check",
    )  # fmt: skip
    duplicate = door.error("INSERT INTO item VALUES (2, 'again', 1)")
    assert (duplicate.sqlstate, duplicate.schema, duplicate.table, duplicate.constraint, duplicate.detail) == (
        "23505", "public", "item", "item_pkey", "Key (id)=(2) already exists.",
    )  # fmt: skip
    second = door.error("INSERT INTO item VALUES (9, 'nine', 1, 'a')")
    assert (second.constraint, second.detail) == ("item_code_key", "Key (code)=(a) already exists.")
    long = door.error("INSERT INTO item VALUES (3, 'much too long', 1)")
    assert (long.sqlstate, long.message) == ("22001", "value too long for type character varying(8)")
    assert unchanged(door)


@pytest.mark.parametrize(
    ("data", "sqlstate", "where"),
    [
        (b"3,three,3\n4,four\n", "22P04", "line 2"),
        (b"3,three,3\n4,four,4,extra\n", "22P04", "line 2"),
        (b"3,three,3\nx,four,4\n", "22P02", "line 2, column id"),
        (b'3,three,3\n4,"four,4\n', "22P04", "line"),
        (b"3,three,3\n4,four,99999999\n", "22003", "line 2"),
        (b"3,three,3\n4,much too long,4\n", "22001", "line 2"),
        (b"3,three,3\n4,,4\n", "23502", "line 2"),
        (b"3,three,3\n4,four,-4\n", "23514", "line 2"),
        (b"3,three,3\n4,f\xffour,4\n", "22021", "line 2"),
        (b"3,three,3\n1,one,4\n", "23505", ""),
        (b"3,three,3\n3,three,4\n", "23505", ""),
    ],
)
def test_malformed_csv_names_its_line_and_loads_nothing(door: Door, data: bytes, sqlstate: str, where: str) -> None:
    error = door.copy_in("COPY item (id, name, price) FROM STDIN (FORMAT csv)", data)
    assert error is not None
    assert error.sqlstate == sqlstate, error
    assert where in (error.context or ""), error
    assert unchanged(door)


def test_a_load_of_many_rows_fails_whole(door: Door) -> None:
    rows = [f"{i},n,1" for i in range(100, 70_100)]
    rows[65_000] = "oops,n,1"
    error = door.copy_in("COPY item (id, name, price) FROM STDIN (FORMAT csv)", "\n".join(rows).encode())
    assert error is not None and error.sqlstate == "22P02" and "line 65001" in (error.context or ""), error
    rows[65_000] = "100,n,1"
    error = door.copy_in("COPY item (id, name, price) FROM STDIN (FORMAT csv)", "\n".join(rows).encode())
    assert error is not None and error.sqlstate == "23505" and error.detail == "Key (id)=(100) already exists.", error
    assert unchanged(door)


def test_malformed_parquet_is_named_and_loads_nothing(door: Door, data_dir: Path) -> None:
    path = data_dir.parent / "bad.parquet"
    data_dir.parent.chmod(0o755)

    def load() -> Diagnostic:
        return door.error(f"COPY item (id, name, price) FROM '{path}' (FORMAT parquet)")

    path.write_bytes(b"PAR1 this is none PAR1")
    error = load()
    assert error.sqlstate == "22P04" and str(path) in error.message, error
    pq.write_table(pa.table({"id": [3], "title": ["x"]}), path)
    error = load()
    assert error.sqlstate == "22P04" and "column" in error.message, error
    pq.write_table(pa.table({"id": [3, 4, 2**40], "name": ["x", "y", "z"], "price": ["1", "2", "3"]}), path)
    error = load()
    assert error.sqlstate == "22003" and "row 3" in (error.context or ""), error
    pq.write_table(pa.table({"id": [3, 4], "name": ["x", None], "price": ["1", "2"]}), path)
    error = load()
    assert error.sqlstate == "23502" and "row 2" in (error.context or ""), error
    whole = path.read_bytes()
    pq.write_table(pa.table({"id": list(range(3, 3000)), "name": ["x"] * 2997, "price": ["1"] * 2997}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert load().sqlstate == "22P04"
    path.unlink()
    assert load().sqlstate == "58P01"
    assert unchanged(door)


REFUSED = [
    "LISTEN c", "CREATE VIEW v AS SELECT 1", "CREATE INDEX i ON item (name)",
    "ALTER TABLE item ADD COLUMN x int",
    "CREATE SEQUENCE s", "GRANT SELECT ON item TO postgres", "SELECT row_number() OVER () FROM item",
    "INSERT INTO item VALUES (1, 'x', 1) ON CONFLICT DO NOTHING", "WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r",
    "CREATE TABLE other (a int REFERENCES item)", "CREATE TABLE other (a serial)", "CREATE TABLE other (a int[])",
    "SELECT * FROM item FOR UPDATE", "MERGE INTO item USING item b ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE other AS SELECT 1", "COPY item FROM PROGRAM 'true'", "PREPARE TRANSACTION 'x'",
]  # fmt: skip


@pytest.mark.parametrize("statement", REFUSED)
def test_what_is_not_built_is_refused_by_name(door: Door, statement: str) -> None:
    error = door.error(statement)
    assert error.sqlstate == "0A000", error
    assert "not supported" in error.message, error
    assert unchanged(door)


def test_a_failed_block_says_so_until_it_ends(door: Door) -> None:
    door.run("BEGIN")
    door.error("SELECT 1/0")
    assert door.error("SELECT 1").sqlstate == "25P02"
    door.run("ROLLBACK")
    door.run("BEGIN READ ONLY")
    assert door.error("DELETE FROM item").sqlstate == "25006"
    door.run("ROLLBACK")
    assert unchanged(door)


def test_nesting_beyond_bounds_is_an_error(door: Door) -> None:
    assert door.error("SELECT " + "(" * 20_000 + "1" + ")" * 20_000).sqlstate in ("54001", "42601")
    assert unchanged(door)
