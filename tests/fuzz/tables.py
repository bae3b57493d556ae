"""The tables that random queries read: the same rows in every engine, made from a seed.

`a` and `b` hold a few rows of every type, many of them NULL, with values at the edges of what types can show; `big` has
sealed segments, whose rows were then updated and deleted in part, so that old and new versions are met.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

SMALL_ROWS: Final = 50
BIG_ROWS: Final = 200_000

# name -> (SQL type, kind of expression that reads it)
COLUMNS: Final[dict[str, tuple[str, str]]] = {
    "id": ("int PRIMARY KEY", "int"),
    "i2": ("smallint", "int"),
    "i4": ("int", "int"),
    "i8": ("bigint", "big"),
    "n": ("numeric(10,2)", "num"),
    "m": ("numeric", "num"),
    "f": ("float8", "float"),
    "t": ("text", "text"),
    "v": ("varchar(10)", "text"),
    "c": ("char(4)", "char"),
    "b": ("bool", "bool"),
    "d": ("date", "date"),
    "ts": ("timestamp", "ts"),
    "tz": ("timestamptz", "tz"),
    "iv": ("interval", "iv"),
    "u": ("uuid", "uuid"),
    "y": ("bytea", "bytea"),
}
BIG_COLUMNS: Final[dict[str, str]] = {
    "id": "int", "k": "int", "i8": "big", "t": "text", "n": "num", "f": "float", "d": "date", "b": "bool", "ts": "ts",
}  # fmt: skip

WORDS: Final = (
    "",
    "a",
    "b",
    "ab",
    "abc",
    "Abc",
    "zebra",
    "a%b",
    "a_b",
    "x y",
    "é",
    "日本",
    "  pad ",
    "NULL",
    "0",
    "12",
)


def _value(rng: random.Random, kind: str) -> str:
    """A literal of a column's type, NULL every fifth time."""
    if rng.random() < 0.2:
        return "NULL"
    match kind:
        case "smallint":
            return str(rng.choice([0, 1, -1, 7, 100, -100, rng.randint(-300, 300)]))
        case "int":
            return str(rng.choice([0, 1, 2, 3, -5, 42, rng.randint(-1000, 1000)]))
        case "bigint":
            return str(rng.choice([0, 1, -1, 1 << 33, -(1 << 40), rng.randint(-(10**6), 10**6)]))
        case "numeric(10,2)":
            return str(
                rng.choice(["0", "0.01", "-0.01", "1.50", "99.99", "-7.25", f"{rng.randint(-10000, 10000) / 100}"])
            )
        case "numeric":
            return rng.choice(["0", "1.5", "1.25", "-2.000", "12345678901234567890.12345", "0.000001", "'NaN'", "3"])
        case "float8":
            return rng.choice(["0", "0.5", "-1.25", "1e10", "3", "-0.125", "'NaN'", "'Infinity'", "'-0'", "2.5"])
        case "text" | "varchar(10)":
            return "'" + rng.choice(WORDS) + "'"
        case "char(4)":
            return "'" + rng.choice(("", "a", "ab", "abcd", "é", "b ")) + "'"
        case "bool":
            return rng.choice(["true", "false"])
        case "date":
            return f"'{rng.choice(['2020-02-29', '1969-12-31', '2000-01-01', _day(rng)])}'"
        case "timestamp":
            return f"'{_day(rng)} {rng.choice(['00:00:00', '12:34:56.789', '23:59:59.999999', '06:00:00'])}'"
        case "timestamptz":
            return f"'{_day(rng)} {rng.choice(['00:00:00', '12:34:56', '02:30:00'])}+0{rng.randint(0, 9)}'"
        case "interval":
            return (
                "'"
                + rng.choice(["1 day", "-1 day", "1 mon", "23:00:00", "1 year 2 mons -3 days 04:05:06.7", "0"])
                + "'"
            )
        case "uuid":
            return f"'00000000-0000-4000-8000-{rng.randint(0, 20):012d}'"
        case _:
            return "'\\x" + rng.choice(["", "00", "ff00", "616263", "61"]) + "'"


def _day(rng: random.Random) -> str:
    return f"{rng.randint(1999, 2022):04d}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def setup(seed: int, big_rows: int = BIG_ROWS) -> Iterator[str]:
    """The statements that make the tables."""
    rng = random.Random(seed)
    yield "SET timezone = 'UTC'"
    for table in ("a", "b"):
        columns = ", ".join(f"{name} {sql}" for name, (sql, _) in COLUMNS.items())
        yield f"CREATE TABLE {table} ({columns})"
        for number in range(SMALL_ROWS):
            values = [_value(rng, sql) for name, (sql, _) in COLUMNS.items() if name != "id"]
            yield f"INSERT INTO {table} VALUES ({number}, {', '.join(values)})"
    yield (
        "CREATE TABLE big (id int PRIMARY KEY, k int, i8 bigint, t text, n numeric(12,2), f float8, d date, b bool,"
        " ts timestamp)"
    )
    yield (
        "INSERT INTO big SELECT g, g % 97, g::int8 * 1000003 % 1000000, 'w' || g % 13, g % 1000 / 4.0, g % 77 * 0.25,"
        f" date '2020-01-01' + g % 500, g % 3 = 0, NULL FROM generate_series(1, {big_rows}) g"
    )
    yield "UPDATE big SET k = NULL, t = 'changed' WHERE id % 1009 = 0"
    yield "UPDATE big SET ts = d + interval '90 minutes', n = n + 1 WHERE id % 501 < 3"
    yield "UPDATE big SET f = NULL, b = NULL WHERE id BETWEEN 70000 AND 70100"
    yield "DELETE FROM big WHERE id % 211 = 5 OR id BETWEEN 150 AND 300"
    yield "INSERT INTO big (id, k, t, d) VALUES (900001, -1, '', '1999-12-31'), (900002, NULL, NULL, NULL)"
