"""Point SELECTs, which a kernel answers, against the same rows by the general way."""

from __future__ import annotations

import random
from decimal import Decimal

import filestore

TABLE = """CREATE TABLE item (id integer PRIMARY KEY, s smallint, b bigint, f boolean, n numeric(12,3), t text,
    v varchar(30), c char(6), big numeric(30,2), d date)"""


def fill(connection: filestore.Connection, chance: random.Random, rows: int) -> None:
    def row(number: int) -> tuple[object, ...]:
        values = (
            chance.randrange(-(2**15), 2**15),
            chance.randrange(-(2**63), 2**63),
            chance.random() < 0.5,
            Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-3),
            "".join(chance.choices("aé日 ", k=chance.randrange(30))),
            "".join(chance.choices("xyz", k=chance.randrange(30))),
            "".join(chance.choices("pé", k=chance.randrange(7))),
            Decimal(chance.randrange(10**20)),
            f"2{chance.randrange(1000):03}-01-01",
        )
        return (number - rows // 2, *(None if chance.random() < 0.1 else value for value in values))

    connection.execute(TABLE)
    connection.executemany(f"INSERT INTO item VALUES ({', '.join('?' * 10)})", [row(number) for number in range(rows)])


def test_as_the_general_way(connection: filestore.Connection, seed: int) -> None:
    chance = random.Random(seed)
    fill(connection, chance, 500)
    connection.commit()
    narrow = "id, s, b, f, n, t, v, c"
    every = {row[0]: row for row in connection.execute(f"SELECT {narrow} FROM item").fetchall()}
    cursor = connection.cursor()
    answered = 0
    for key in [*chance.sample(sorted(every), 200), 10**6, -(10**6)]:
        cursor.execute(f"SELECT {narrow} FROM item WHERE id = ?", (key,))
        answered += cursor._result is None
        assert cursor.rowcount == (key in every)
        assert cursor.fetchone() == every.get(key)
        assert cursor.fetchone() is None
    assert answered == 202, "the compiled way is the one that is tested"
    wide = connection.execute("SELECT * FROM item WHERE id = ?", (0,)).fetchone()
    assert wide is not None
    assert wide[:8] == every[0]


def test_its_own_changes_and_definitions(connection: filestore.Connection) -> None:
    select = "SELECT t FROM item WHERE id = ?"
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, t text)")
    connection.execute("INSERT INTO item VALUES (1, 'one')")
    assert connection.execute(select, (1,)).fetchall() == [("one",)]
    connection.commit()
    assert connection.execute(select, (1,)).fetchall() == [("one",)]
    connection.execute("UPDATE item SET t = 'two' WHERE id = 1")
    assert connection.execute(select, (1,)).fetchall() == [("two",)]
    connection.rollback()
    assert connection.execute(select, (1,)).fetchall() == [("one",)]
    connection.execute("DROP TABLE item")
    connection.execute("CREATE TABLE item (id integer PRIMARY KEY, t text)")
    assert connection.execute(select, (1,)).fetchall() == []
    connection.rollback()
    cursor = connection.execute(select, (1,))
    assert cursor.arrow().to_pylist() == [{"t": "one"}]
    assert cursor.fetchall() == []
    assert connection.execute(select, (2,)).arrow().num_rows == 0
    for value in (2**40, "1", True, None, 1.0):
        rows = connection.execute(select, (value,)).fetchall() if value is not True else []
        assert rows == ([("one",)] if value in ("1", 1.0) and value is not True else [])
