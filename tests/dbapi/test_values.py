"""Python values through a directory and back: random rows of every type against what went in."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pytest

import filestore
from filestore import types
from filestore.query.python_values import python_values, type_of, vector

UTC = dt.UTC
COLUMNS = {
    "b": "boolean",
    "i2": "smallint",
    "i4": "integer",
    "i8": "bigint",
    "f8": "double precision",
    "n": "numeric(12,2)",
    "m": "numeric",
    "t": "text",
    "v": "varchar(40)",
    "y": "bytea",
    "d": "date",
    "h": "time",
    "s": "timestamp",
    "z": "timestamptz",
    "k": "interval",
    "u": "uuid",
}


def random_row(chance: random.Random) -> tuple[Any, ...]:
    moment = dt.datetime(1, 1, 1) + dt.timedelta(microseconds=chance.randrange(3155378975999_999_999 // 10))
    text = "".join(chance.choices("aZ0 'é日\n\"\\", k=chance.randrange(40)))
    row = (
        chance.random() < 0.5,
        chance.randrange(-(2**15), 2**15),
        chance.randrange(-(2**31), 2**31),
        chance.randrange(-(2**63), 2**63),
        chance.uniform(-1e300, 1e300),
        Decimal(chance.randrange(-(10**12) + 1, 10**12)).scaleb(-2),
        Decimal(chance.randrange(-(10**40), 10**40)).scaleb(-chance.randrange(30), Context(prec=100)),
        text,
        text,
        chance.randbytes(chance.randrange(30)),
        moment.date(),
        moment.time(),
        moment,
        moment.replace(tzinfo=UTC),
        dt.timedelta(microseconds=chance.randrange(-(10**15), 10**15)),
        uuid.UUID(int=chance.getrandbits(128)),
    )
    return tuple(None if chance.random() < 0.1 else value for value in row)


def test_round_trip(connection: filestore.Connection, seed: int) -> None:
    chance = random.Random(seed)
    rows = [(number, *random_row(chance)) for number in range(300)]
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE every (id integer PRIMARY KEY, {columns})")
    marks = ", ".join("?" * (len(COLUMNS) + 1))
    connection.executemany(f"INSERT INTO every VALUES ({marks})", rows[:200])
    for row in rows[200:]:
        connection.execute(f"INSERT INTO every VALUES ({marks})", row)
    assert connection.execute("SELECT * FROM every ORDER BY id").fetchall() == rows
    for name in COLUMNS:
        position = list(COLUMNS).index(name) + 1
        row = next(r for r in rows if r[position] is not None)
        found = connection.execute(f"SELECT count(*) FROM every WHERE {name} = ? AND id = ?", (row[position], row[0]))
        assert found.fetchone() == (1,), name


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, types.INT4),
        (2**31, types.INT8),
        (2**63, types.NUMERIC),
        (True, types.BOOL),
        (1.5, types.FLOAT8),
        (np.int64(5), types.INT4),
        (np.float32(0.5), types.FLOAT8),
        ("x", None),
        (None, None),
        (bytearray(b"x"), types.BYTEA),
        (dt.datetime(2000, 1, 1), types.TIMESTAMP),
        (dt.datetime(2000, 1, 1, tzinfo=UTC), types.TIMESTAMPTZ),
        (dt.date(2000, 1, 1), types.DATE),
    ],
)
def test_types_of_values(value: object, kind: types.SqlType | None) -> None:
    assert type_of(value) == kind


def test_a_value_without_a_type(connection: filestore.Connection) -> None:
    with pytest.raises(filestore.ProgrammingError) as caught:
        connection.execute("SELECT ?", (object(),))
    assert caught.value.sqlstate == "42846"


@pytest.mark.parametrize("text", ["DATE 'infinity'", "DATE '20000-01-01'", "TIMESTAMP '-infinity'", "TIME '24:00'"])
def test_what_python_cannot_hold(connection: filestore.Connection, text: str) -> None:
    with pytest.raises(filestore.DataError) as caught:
        connection.execute(f"SELECT {text}").fetchone()
    assert caught.value.sqlstate == "22008"
    connection.rollback()
    assert connection.execute(f"SELECT ({text})::text").fetchone() is not None


def test_texts_are_read_as_the_place_asks(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (d date, n numeric(6,2))")
    connection.execute("INSERT INTO t VALUES (?, ?)", ("2020-02-29", "12.345"))
    assert connection.execute("SELECT * FROM t").fetchall() == [(dt.date(2020, 2, 29), Decimal("12.35"))]
    with pytest.raises(filestore.DataError) as caught:
        connection.execute("INSERT INTO t VALUES (?, 1)", ("2021-02-29",))
    assert caught.value.sqlstate == "22008"


def test_timestamptz_comes_in_the_session_zone(connection: filestore.Connection) -> None:
    connection.execute("SET TimeZone = 'Europe/Zurich'")
    ((value,),) = connection.execute("SELECT TIMESTAMPTZ '2024-07-01 12:00:00Z'").fetchall()
    assert value == dt.datetime(2024, 7, 1, 12, tzinfo=UTC)
    assert value.utcoffset() == dt.timedelta(hours=2)


def test_vectors_of_mixed_nulls() -> None:
    values = ["a", None, "x" * 50, "日本"]
    made = vector(types.TEXT, values)
    made.verify()
    assert python_values(made) == values


@pytest.mark.parametrize(
    ("zone", "hours"), [("+02", 2), ("UTC-3", 3), ("<+03>-3", 3), ("5.5", 5.5), ("Etc/GMT+5", -5), ("utc", 0)]
)
def test_timestamptz_of_zones_that_only_the_engine_knows(
    connection: filestore.Connection, zone: str, hours: float
) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET TimeZone = '{zone}'")
    cursor.execute("SELECT timestamptz '2024-07-01 12:00:00Z', (timestamptz '2024-07-01 12:00:00Z')::timestamp")
    row = cursor.fetchone()
    assert row is not None
    assert row[0].utcoffset() == dt.timedelta(hours=hours)
    assert row[0].replace(tzinfo=None) == row[1]


def test_timestamptz_that_python_cannot_hold(connection: filestore.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("SET TimeZone = '-100'")
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)
    cursor.execute("SELECT now()")
    with pytest.raises(filestore.DataError) as caught:
        cursor.fetchone()
    assert caught.value.sqlstate == "22008"
    connection.rollback()
    cursor.execute("SET TimeZone = '14'")
    cursor.execute("SELECT timestamptz '9999-12-31 23:00:00Z'")
    with pytest.raises(filestore.DataError) as caught:
        cursor.fetchone()
    assert caught.value.sqlstate == "22008"
