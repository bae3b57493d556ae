"""The executor over real tables: sealed and open segments, updated and deleted rows, indexes with stale entries."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from filestore.database import Database, DatabaseOptions
from filestore.hal.simulated import SimulatedDisk
from filestore.query.operators import index_scan
from filestore.session import Session
from filestore.txn.drive import drive
from tests.conftest import close_sound
from tests.query.exec.standin import texts


class Driven:
    """A session and what drives it."""

    def __init__(self, compile_mode: str) -> None:
        self.database = Database.over(SimulatedDisk(record=False), DatabaseOptions(compile=compile_mode))
        self.session: Session = self.database.session()

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        rows: list[tuple[str | None, ...]] = []
        for statement in self.session.parse(sql):
            result = drive(self.session.execute(statement), self.database.lock, self.session.poll)
            for batch in result.batches:
                batch.verify()
                rows += zip(*(texts(c, self.session.settings) for c in batch.columns), strict=True)
            drive(self.session.finish(), self.database.lock, self.session.poll)
        return rows


@pytest.fixture(params=["never", "always"])
def driven(request: pytest.FixtureRequest) -> Iterator[Driven]:
    made = Driven(request.param)
    yield made
    made.session.close()
    close_sound(made.database)


def test_sealed_and_open_segments(driven: Driven) -> None:
    driven.query(
        "create table q (i int8 primary key, g char(1), t text, n numeric(15,2), d date);"
        "insert into q select x, case when x % 3 = 0 then 'a' else 'b' end, 'row number ' || x, x / 4.0,"
        " date '2024-01-01' + (x % 100)::int4 from generate_series(1, 150000) as s(x);"
        "insert into q values (200000, 'c', 'one more', 0.25, null);"
        "delete from q where i between 100 and 199;"
        "update q set n = n + 1 where i between 200 and 299"
    )
    assert driven.query("select g, count(*), min(d), max(t) from q group by g order by g") == [
        ("a", str(150000 // 3 - 33), "2024-01-01", "row number 99999"),
        ("b", str(100000 - 67), "2024-01-01", "row number 99998"),
        ("c", "1", None, "one more"),
    ]
    total = sum(x * 25 for x in range(1, 150001) if not 100 <= x < 200) + 100 * 100 + 25
    assert driven.query("select sum(n), count(*) from q where n > 0") == [
        (f"{total // 100}.{total % 100:02d}", "149901")
    ]
    assert driven.query("select count(*) from q where d = '2024-02-01' and g = 'a'") == driven.query(
        "select count(*) from (select d, g from q) x where d::text = '2024-02-01' and g::text = 'a'"
    )
    assert driven.query("select i, t from q where i = 77") == [("77", "row number 77")]
    assert driven.query("select i from q where i in (150, 250, 250, 200000) order by i") == [("250",), ("200000",)]
    assert driven.query("select a.i, b.t from q a join q b on a.i = b.i where a.i > 149998 order by 1") == [
        ("149999", "row number 149999"),
        ("150000", "row number 150000"),
        ("200000", "one more"),
    ]


@pytest.mark.parametrize("types", ["int4, int4", "int8, int8", "int4, text"], ids=["word", "words", "bytes"])
def test_ranges_of_an_index_with_stale_entries(
    types: str, driven: Driven, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Keys that moved inside the range: each row once, at its present key's place, for the snapshot that asks."""
    monkeypatch.setattr(index_scan, "_FIRST_CHUNK", 8)
    monkeypatch.setattr(index_scan, "_LAST_CHUNK", 40)
    rng = random.Random(seed)
    first, second = types.split(", ")
    driven.query(f"create table k (a {first}, b {second}, v int4, primary key (a, b))")
    part = ["b0", "b1", "b2"] if second == "text" else ["-1", "0", "1"]
    model: dict[int, tuple[int, str]] = {}
    for v in range(300):
        model[v] = (v * 10, part[v % 3])
        driven.query(f"insert into k values ({v * 10}, '{part[v % 3]}', {v})")
    for _ in range(200):
        v = rng.randrange(300)
        taken = set(model.values())
        key = (rng.randrange(3000), rng.choice(part))
        if key not in taken:
            driven.query(f"update k set a = {key[0]}, b = '{key[1]}' where v = {v}")
            model[v] = key
    for _ in range(20):
        low = rng.randrange(3000)
        high = low + rng.randrange(1000)
        want = sorted((a, b, v) for v, (a, b) in model.items() if low <= a < high)
        for direction in ("", " desc"):
            got = driven.query(
                f"select a, b, v from k where a >= {low} and a < {high} order by a{direction}, b{direction}"
            )
            assert got == [(str(a), b, str(v)) for a, b, v in (want if not direction else reversed(want))]
        assert len(driven.query(f"select * from k where a >= {low} and a < {high} limit 3")) == min(3, len(want))
    a, b = model[7]
    assert driven.query(f"select v from k where a = {a} and b = '{b}'") == [("7",)]
