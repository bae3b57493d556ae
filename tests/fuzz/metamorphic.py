"""Questions whose answers must agree with each other, whatever they are: no second engine is asked.

Partition: the rows where p, where NOT p and where p IS NULL are all rows. Index: `id + 0` hides a key from the planner.
Protocol: a prepared statement answers as the same text does. Compilation: fused loops answer as the operators do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.compare import rows_differ
from tests.fuzz.grammar import Expressions, table_scope
from tests.fuzz.queries import Query
from tests.slt.transports import Row, Transport

TABLES = ("a", "a", "a", "b", "b", "b", "big")


def _rows(transport: Transport, sql: str) -> list[Row] | str:
    """The rows, or the class of the error."""
    answer = transport.run(sql)
    return answer.rows if answer.error is None else answer.error.sqlstate[:2]


def _fault(name: str, sql: str, left: list[Row] | str, right: list[Row] | str) -> str:
    if isinstance(left, str) or isinstance(right, str):
        return "" if left == right else f"{name}: {left!r:.200} against {right!r:.200}\n    {sql}"
    different = rows_differ(Query(sql), left, right)
    return f"{name}: {different}\n    {sql}" if different else ""


def partition(transport: Transport, rng: random.Random) -> str:
    """Rows by p, NOT p and p IS NULL together are all rows."""
    table = rng.choice(TABLES)
    x = Expressions(rng)
    x.scope = table_scope(table, "q")
    condition = x.make("bool", 3)
    parts = [
        f"SELECT q.id FROM {table} q WHERE {test}" for test in (condition, f"NOT {condition}", f"({condition}) IS NULL")
    ]
    found: list[Row] = []
    for sql in parts:
        rows = _rows(transport, sql)
        if isinstance(rows, str):
            return "" if rows in ("22", "0A") else f"partition: {rows}\n    {sql}"
        found += rows
    whole = _rows(transport, f"SELECT q.id FROM {table} q")
    return _fault("partition", parts[0], found, whole)


def index(transport: Transport, rng: random.Random) -> str:
    """A condition on a key answers alike with the key hidden."""
    table = rng.choice(TABLES)
    x = Expressions(rng)
    x.scope = table_scope(table, "q")
    high = 200_000 if table == "big" else 50
    low = rng.randint(-1, high)
    test = rng.choice(
        (
            f"KEY = {low}",
            f"KEY IN ({low}, {rng.randint(0, high)}, NULL, {rng.randint(0, high)})",
            f"KEY BETWEEN {low} AND {low + rng.randint(0, 500)}",
            f"KEY > {high - rng.randint(0, 300)}",
            f"KEY = {low} OR KEY = {low + 1}",
            f"KEY >= {low} AND KEY < {low + 2} AND q.k IS NOT NULL" if table == "big" else f"KEY <= {low}",
        )
    )
    rest = f" AND {x.make('bool', 2)}" if rng.random() < 0.5 else ""
    sql = f"SELECT q.id, {x.make('text', 1)} FROM {table} q WHERE ({test}){rest}"
    return _fault(
        "index", sql, _rows(transport, sql.replace("KEY", "q.id")), _rows(transport, sql.replace("KEY", "(q.id + 0)"))
    )


def prepared(transport: Transport, rng: random.Random) -> str:
    """PREPARE and EXECUTE with parameters answer as the literals do."""
    number, word = rng.randint(-5, 100), rng.choice(("a", "abc", "b", "w3", "é"))
    table = rng.choice(TABLES)
    test = rng.choice(
        (
            "q.id = {0}", "q.id > {0} AND q.t = {1}", "q.t LIKE {1} || '%'", "q.id % 7 = {0} % 7", "q.n > {0}",
            "q.t IN ({1}, 'x y')", "q.id BETWEEN {0} AND {0} + 10", "coalesce(q.t, {1}) = {1}",
        )
    )  # fmt: skip
    sql = f"SELECT q.id, q.n, q.t FROM {table} q WHERE {test}"
    used = [name for name in ("{0}", "{1}") if name in sql]
    types = ", ".join("int" if name == "{0}" else "text" for name in used)
    with_parameters = sql.format(*(f"${used.index(n) + 1}" if n in used else "" for n in ("{0}", "{1}")))
    values = ", ".join(str(number) if name == "{0}" else f"'{word}'" for name in used)
    transport.run("DEALLOCATE ALL")
    transport.run(f"PREPARE m ({types}) AS {with_parameters}")
    literal = sql.format(number, f"'{word}'")
    return _fault("prepared", literal, _rows(transport, f"EXECUTE m ({values})"), _rows(transport, literal))


def aggregations(rng: random.Random) -> str:
    """A query that fusing may compile."""
    x = Expressions(rng)
    x.scope = table_scope("big", "g")
    keys = [f"g.{name}" for name in rng.sample(("k", "t", "b", "d"), rng.randint(0, 2))]
    folds = rng.sample(
        (
            "count(*)", "count(g.k)", "sum(g.n)", "sum(g.id)", "avg(g.n)", "min(g.d)", "max(g.n * 2)", "sum(g.k * g.k)",
            "sum(CASE WHEN g.b THEN g.n ELSE 0 END)", "count(*) FILTER (WHERE g.k > 50)", "max(g.ts)", "avg(g.k)",
            "sum(g.n * (1 - g.n))", "min(g.i8)", "sum(g.f)",
        ),
        rng.randint(1, 4),
    )  # fmt: skip
    test = rng.choice(
        (
            "", "g.k > 10", "g.d < date '2020-06-01'", "g.t = 'w3'", "g.t LIKE 'w1%'", "g.b", "NOT g.b",
            "g.n BETWEEN 5 AND 100",
            "g.k IN (1, 2, 3, NULL)", "g.k IS NULL OR g.n > 10", "g.ts IS NOT NULL", "g.d - date '2020-01-01' > 30",
            "NOT (g.k < 40 AND g.n < 100)", "g.t <> 'w5' AND g.d >= date '2020-03-01' AND g.d < date '2020-09-01'",
        )
    )  # fmt: skip
    sql = f"SELECT {', '.join([*keys, *folds])} FROM big g" + (f" WHERE {test}" if test else "")
    return sql + (f" GROUP BY {', '.join(keys)}" if keys else "")


def compiled(fused: Transport, plain: Transport, rng: random.Random) -> str:
    """A database that always compiles answers as one that never does."""
    sql = aggregations(rng)
    return _fault("compiled", sql, _rows(fused, sql), _rows(plain, sql))


def faults(transport: Transport, seed: int, count: int) -> Iterator[str]:
    """What `count` rounds of the checks find."""
    for number in range(count):
        rng = random.Random(f"{seed}/m/{number}")
        for check in (partition, index, prepared):
            found = check(transport, rng)
            if found:
                yield f"seed {seed} round {number} {found}"
