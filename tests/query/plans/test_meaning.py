"""What the rules keep: every SELECT of the fixtures gives the same rows as bound, as optimised, and on
PostgreSQL 15."""

from __future__ import annotations

import decimal
import random
import shutil
from collections import Counter
from typing import Any

import pytest

from filestore.query.bind import bind
from filestore.query.executor import execute
from filestore.query.parse import parse
from filestore.types import BOOL, DATE, INT4, INT8, TEXT, TIMESTAMP, numeric, varchar
from tests.query.exec.standin import Memory, texts
from tests.query.plans.test_plans import FIXTURES, blocks

TABLES = {
    "t": {"a": INT4, "b": TEXT, "c": numeric(10, 2), "d": DATE, "e": INT8, "f": BOOL},
    "u": {"a": INT4, "x": varchar(10), "y": TIMESTAMP},
    "pair": {"k": INT4, "l": INT4, "m": TEXT, "z": INT4},
}
# Not the same rows each time, tables that are not here, or any of several rows.
UNSTEADY = (
    "$",
    "random()",
    "now()",
    "kinds",
    "/ 0",
    "(select t.b from t",
    "'a' || 'b'",
    "order by c limit",
    "order by b limit 5",
    "order by 2 desc limit",
    "limit 5\n",
    "limit 5)",
    "y desc limit 1",
    "b, a desc",
)
MORE = """
select t.a, u.x from t left join u on t.a = u.a and u.x > 'b' where t.b is not null
select t.a, u.x from t full join u on t.a = u.a where u.x = 'b' or t.b = 'c'
select t.a, u.a from t right join u on t.a = u.a and t.f where u.x like 'b%'
select count(*), sum(c), min(b), max(d) from t where exists (select 1 from u where u.a = t.a and u.x <> t.b)
select b, count(*) from t where a not in (select a from u where u.x = t.b) group by b
select b, count(*) from t where a not in (select a from u) group by b
select a from t where a not in (select a from u where a is not null)
select a, (select count(*) from u where u.a = t.a), (select sum(u.a) from u where u.x = t.b) from t
select a from t where (select count(*) from u where u.a = t.a) = 0
select a from t where c > (select avg(t2.c) from t t2 where t2.b = t.b)
select t.b, u.x, count(*) from t, u, pair where t.a = u.a and pair.k = t.a and (t.b = 'b' or u.x = 'c') group by 1, 2
select distinct b, f from t where d < date '2020-01-01' + interval '200' day
select a from t where d > timestamp '2020-02-01 12:00'
select a, b from t union select a, x from u except select 3, 'b'
select a from t intersect all select a from u
select s.n, count(*) from (select a, count(*) as n from u group by a) s group by s.n having count(*) > 1
select case when f then c else 0 end, coalesce(b, 'none'), nullif(a, 3) from t
select a from t where b in ('a', 'b', null)
select a from t where b not in ('a', 'b')
select a from t where f is not true and (a, b) in (select a, x from u)
select x from u where y >= '2020-03-01' and y < '2020-03-01'::date + 60
select t.a, p.z from t join (select k, max(z) as z from pair group by k) p on p.k = t.a where p.z > 5
"""


def memory(seed: int) -> tuple[Memory, dict[str, list[tuple[Any, ...]]]]:
    r = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if r.random() < 0.15 else value

    def word() -> Any:
        return maybe(r.choice("abcde"))

    def money() -> decimal.Decimal:
        return decimal.Decimal(r.randint(1, 999)) / 100

    def day() -> int:
        return 18262 + r.randint(0, 300)

    rows: dict[str, list[tuple[Any, ...]]] = {
        "t": [
            (i % 40, word(), maybe(money()), maybe(day()), maybe(r.randint(0, 9)), maybe(r.random() < 0.5))
            for i in range(60)
        ],
        "u": [(r.randint(0, 50), word(), maybe((18262 + r.randint(0, 300)) * 86_400_000_000)) for _ in range(80)],
        "pair": [(r.randint(0, 20), i, word(), maybe(r.randint(0, 9))) for i in range(40)],
    }  # fmt: skip
    store = Memory()
    for name, columns in TABLES.items():
        store.add(name, columns, rows[name], slots=16)
    return store, rows


def selects() -> list[str]:
    found = [sql for path in FIXTURES for sql, _ in blocks(path.read_text())[2]]
    found = [s for s in found if s.startswith(("select", "with")) and not any(u in s + "\n" for u in UNSTEADY)]
    return found + MORE.strip().splitlines()


def rows_of(store: Memory, sql: str, *, optimised: bool) -> Counter[tuple[Any, ...]]:
    plan = store.plan(sql) if optimised else bind(parse(sql)[0], store).plan
    found: Counter[tuple[Any, ...]] = Counter()
    for batch in execute(plan, store.context()):
        columns = [texts(c) for c in batch.columns]
        found.update(zip(*columns, strict=True) if columns else [()] * batch.length)
    return found


@pytest.mark.parametrize("sql", selects())
def test_rules_keep_the_rows(sql: str, seed: int) -> None:
    store, _ = memory(seed)
    assert rows_of(store, sql, optimised=True) == rows_of(store, sql, optimised=False)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("postgres", path="/usr/lib/postgresql/15/bin"), reason="needs PostgreSQL 15")
def test_postgresql_agrees(request: pytest.FixtureRequest, seed: int) -> None:
    import psycopg

    store, rows = memory(seed)
    running = request.getfixturevalue("postgres")
    types = {
        "t": "int, text, numeric(10,2), int, bigint, bool",
        "u": "int, text, bigint",
        "pair": "int, int, text, int",
    }
    with psycopg.connect(running.dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        connection.execute("create table t (a int, b text, c numeric(10,2), d date, e bigint, f boolean)")
        connection.execute("create table u (a int, x varchar(10), y timestamp)")
        connection.execute("create table pair (k int, l int, m text, z int)")
        for name, lines in rows.items():
            for line in lines:
                marks = [f"${i + 1}::{kind.strip()}" for i, kind in enumerate(_kinds(types[name]))]
                if name == "t":
                    marks[3] = f"date '1970-01-01' + {marks[3]}"
                if name == "u":
                    marks[2] = f"timestamp '1970-01-01' + {marks[2]} * interval '1 microsecond'"
                connection.execute(f"insert into {name} values ({', '.join(marks)})", line)
        differing = []
        for sql in selects():
            expected = Counter(tuple(None if v is None else v.decode() for v in row) for row in _texts(connection, sql))
            if rows_of(store, sql, optimised=True) != expected:
                differing.append(sql)
    assert differing == []


def _kinds(text: str) -> list[str]:
    return [k.replace(";", ",") for k in text.replace("10,2", "10;2").split(",")]


def _texts(connection: Any, sql: str) -> list[tuple[bytes | None, ...]]:
    """Rows in text form, undecoded."""
    result = connection.pgconn.exec_(sql.encode())
    assert result.status == 2, result.error_message
    return [tuple(result.get_value(i, j) for j in range(result.nfields)) for i in range(result.ntuples)]
