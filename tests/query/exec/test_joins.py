"""Joins that hand their keys to scans, or hash the other side, against the plan as it was bound; joins that multiply
rows, piece by piece; key sets against Python's."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from filestore import types
from filestore.query import plan as p
from filestore.query.bind import bind
from filestore.query.executor import execute
from filestore.query.key_set import key_set
from filestore.query.operators import join, scan, stream
from filestore.query.parse import parse
from filestore.query.rules import choose_build_side
from filestore.query.rules.traversal import inputs
from filestore.query.vectors import from_python
from filestore.storage.vector import Array, Batch, Vector
from tests.query.exec.standin import Memory, texts

COLUMNS = {"i": types.INT4, "g": types.INT8, "h": types.INT2, "d": types.DATE, "s": types.TEXT}
QUERIES = """
select a.i, b.i from a, b where a.g = b.i
select a.i, b.i, c.i from a, b, c where a.g = b.i and b.g = c.i and c.h > 2
select a.i, b.i, c.i from a, b, c where a.g = b.i and a.g = c.i and c.h > 2 and b.s <> c.s
select a.i, b.i, c.i from a join b on a.h = b.h and a.i = b.g left join c on c.i = a.i and c.g <> b.g
select a.i, b.i from a left join b on a.g = b.i and a.h < b.h
select a.i, b.i from a right join b on a.g = b.i and a.h < b.h
select a.i, b.i from a full join b on a.g = b.i where a.h > 1
select a.i from a where exists (select 1 from b where b.g = a.i and b.h <> a.h)
select a.i from a where exists (select 1 from b where b.i = a.g)
select a.i from a where not exists (select 1 from b where b.g = a.i and b.h <> a.h)
select a.i from a where not exists (select 1 from b where b.i = a.g)
select a.i from a, c where not exists (select 1 from b where b.i = a.g) and a.g = c.i
select a.i from a, c where exists (select 1 from b where b.g = a.g and b.i > c.i) and a.g = c.i and c.h = 1
select a.i, b.i, c.g from a left join b on a.g = b.i join c on c.i = b.i
select a.i, b.i, c.g from a left join b on a.g = b.i join c on c.i = a.g
select a.i, b.i, c.g from (a full join b on a.g = b.i) join c on c.i = b.i
select a.i, b.i, c.g from c right join (a right join b on a.g = b.i) on c.i = a.g
select c.i, x.n from c, (select g, count(*) as n, sum(i) from a group by g) x where c.i = x.g and c.h = 2
select c.i, a.i from c, a where c.i = a.g and a.i > (select avg(b.i) from b where b.g = a.g)
select c.i, x.g from c, (select g from a union select i from b) x where c.i = x.g and c.h < 3
select c.i, x.g from c, (select g from a except all select i from b) x where c.i = x.g and c.h < 3
select c.i, x.g from c, (select distinct g, h from a) x where c.i = x.g and c.h < 3
select c.i, x.i from c, (select i, g, d from a where h > 0 order by i limit 50) x where c.i = x.g
select a.i, b.i from a, b where a.d = b.d and a.i < 20
select a.i, b.i from a, b where a.s = b.s and a.g = b.g and a.i < 100
select a.i from a where (a.g, a.h) in (select b.g, b.h from b where b.s <> a.s)
with x as (select g, h from a where h > 1) select x.h, c.i from x, c, b where x.g = c.i and c.i = b.i
""".strip().splitlines()


def rows(rng: random.Random, count: int, spread: int) -> list[tuple[Any, ...]]:
    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.1 else value

    far = 10**15 if rng.random() < 0.5 else 1  # keys far apart are not a map, but a filter
    return [
        (i, maybe(rng.randrange(spread) * rng.choice([1, 1, 1, far])), maybe(rng.randrange(5)),
         maybe(rng.randrange(300)), maybe(rng.choice("abc")))
        for i in range(count)
    ]  # fmt: skip


def tables(rng: random.Random) -> Memory:
    memory = Memory()
    for name in "abc":
        count = rng.choice([0, 5, 60, 400])
        dead = np.array([rng.random() < 0.1 for _ in range(count)], np.bool_) if rng.random() < 0.5 else None
        memory.add(name, COLUMNS, rows(rng, count, rng.choice([10, 300])), slots=rng.choice([64, 1000]), dead=dead)
        memory.sizes[memory.definitions[name].oid] = rng.choice([1, 1000, 100_000])
    return memory


def answer(memory: Memory, plan: p.Plan) -> list[tuple[str | None, ...]]:
    found = []
    for batch in execute(plan, memory.context()):
        batch.verify()
        found += list(zip(*(texts(c) for c in batch.columns), strict=True))
    return sorted(found, key=str)


def nodes(plan: p.Plan) -> list[p.Plan]:
    return [plan, *(x for part in inputs(plan) for x in nodes(part))]


def test_the_answers_are_those_of_the_plan_as_bound(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(choose_build_side, "_SMALL", 0.0)
    monkeypatch.setattr(scan, "_TRIAL_ROWS", 100)
    rng = random.Random(seed)
    kinds, handed = set(), 0
    for _ in range(6):
        memory = tables(rng)
        for sql in QUERIES:
            plan = memory.plan(sql)
            want, got = answer(memory, bind(parse(sql)[0], memory).plan), answer(memory, plan)
            assert got == want, sql
            kinds |= {node.kind for node in nodes(plan) if isinstance(node, p.Join)}
            handed += sum(len(node.keys) for node in nodes(plan) if isinstance(node, p.Scan))
    assert handed > 100
    assert {p.JoinKind.INNER, p.JoinKind.SEMI, p.JoinKind.ANTI} & kinds


def test_turned_joins_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_build_side, "_SMALL", 0.0)
    memory = Memory()
    for name, count in (("a", 3), ("b", 200_000)):
        memory.add(name, {"i": types.INT4, "g": types.INT4}, [(i, i % 7) for i in range(count)], slots=4096)
    for sql, kind, want in (
        ("select i from a where exists (select 1 from b where b.i = a.i)", p.JoinKind.RIGHT_SEMI, "012"),
        ("select i from a where not exists (select 1 from b where b.i = a.i + 199999)", p.JoinKind.RIGHT_ANTI, "12"),
        ("select i from a where exists (select from b where b.g = a.i and b.i > 199997)", p.JoinKind.RIGHT_SEMI, "12"),
        ("select count(*) from a left join b on a.i = b.g and b.i < 14", p.JoinKind.RIGHT, "6"),
    ):
        assert kind in {node.kind for node in nodes(memory.plan(sql)) if isinstance(node, p.Join)}
        assert "".join(str(row[0]) for row in memory.query(sql)) == want


def test_pairs_in_small_pieces_are_those_of_one_large_one(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Pieces that end inside a row's matches, of every kind of join; the order of the rows counts, too."""
    memory, rng = Memory(), random.Random(seed)
    for name in "ab":
        memory.add(name, COLUMNS, rows(rng, 60, 10), slots=32)
    queries = [
        f"select a.*, b.* from a {kind} join b on {condition}"
        for kind in ("inner", "left", "right", "full")
        for condition in ("a.h = b.h", "a.h = b.h and a.i < b.g", "a.s = b.s and a.i = 3 * b.i")
    ]
    queries += [f"select a.i, b.i from a {kind} join b on a.i < b.g" for kind in ("inner", "left")]
    queries += ["select a.i, b.i from a, b", *(sql for sql in QUERIES if "exists" in sql and " c" not in sql)]
    whole = [memory.query(sql) for sql in queries]
    for first, others in ((1, 1), (2, 7), (16, rng.randint(8, 500))):
        monkeypatch.setattr(join, "FIRST_PAIRS", first)
        monkeypatch.setattr(join, "PAIRS", others)
        for sql, want in zip(queries, whole, strict=True):
            assert memory.query(sql) == want, (sql, first, others)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from many a join many b using (g) limit 10",
        "select a.i + b.i from many a left join many b on a.g = b.g offset 5 limit 10",
        "select * from many a join many b on a.g = b.g and a.i <> b.i limit 10",
        "select * from many a, many b limit 10",
    ],
)
def test_a_limit_stops_a_join_that_multiplies_its_rows(sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 partners a row, 200,000 rows: what is gathered is a few first pieces, however many threads there are."""
    memory = Memory()
    memory.add("many", {"i": types.INT4, "g": types.INT4}, [(i, i % 200) for i in range(200_000)], slots=65_536)
    gathered: list[int] = []
    gather = join.Probe._gathered

    def counted(self: join.Probe, batch: Batch, left: Array, right: Array) -> Batch:
        gathered.append(len(left))
        return gather(self, batch, left, right)

    monkeypatch.setattr(join.Probe, "_gathered", counted)
    assert len(memory.query(sql)) == 10
    assert max(gathered) <= join.FIRST_PAIRS
    assert len(gathered) <= 4  # one for each item


def test_readers_get_a_multiplying_join_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LIMIT the workers run ahead by a bounded number of rows, too: a cursor may be closed early."""
    memory = Memory()
    memory.add("many", {"i": types.INT4, "g": types.INT4}, [(i, i % 50) for i in range(200_000)], slots=65_536)
    made: list[int] = []
    gather = join.Probe._gathered

    def counted(self: join.Probe, batch: Batch, left: Array, right: Array) -> Batch:
        made.append(len(left))
        return gather(self, batch, left, right)

    monkeypatch.setattr(join.Probe, "_gathered", counted)
    batches = execute(memory.plan("select * from many a join many b using (g)"), memory.context())
    assert 0 < next(batches).length <= join.PAIRS
    batches.close()  # type: ignore[attr-defined]
    assert sum(made) <= 4 * (stream.AHEAD_ROWS + join.PAIRS)  # of 800 million
    assert max(made) <= join.PAIRS


def test_rows_with_nulls_in_sets_of_rows(seed: int) -> None:
    """[NOT] IN over rows: true for an equal one, unknown where one is equal but for nulls, else false."""
    rng = random.Random(seed)
    for _ in range(12):
        memory, width = Memory(), rng.choice([2, 2, 3])
        columns = dict(list({"x": types.INT4, "y": types.TEXT, "z": types.numeric(6, 2)}.items())[:width])
        made = {}
        for name in ("own", "other"):
            share, count = rng.choice([0, 0.1, 0.5]), rng.choice([0, 1, 40])
            made[name] = [
                tuple(None if rng.random() < share else value for value in full[:width])
                for full in ((rng.randrange(4), rng.choice("ab"), Decimal(rng.randrange(3))) for _ in range(count))
            ]
            memory.add(name, columns, made[name], slots=16)

        def member(row: tuple[Any, ...], rows: list[tuple[Any, ...]] = made["other"]) -> bool | None:
            if any(None not in row and row == other for other in rows):
                return True
            alike = (all(a is None or b is None or a == b for a, b in zip(row, o, strict=True)) for o in rows)
            return None if any(alike) else False

        names = ", ".join(columns)
        within = f"({names}) in (select {names} from other), ({names}) not in (select * from other)"
        got = memory.query(f"select {within} from own")
        text = {True: "t", False: "f", None: None}
        want = [member(row) for row in made["own"]]
        assert got == [(text[w], text[None if w is None else not w]) for w in want]


def test_what_joins_hand_out_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that hold none of the keys are skipped; other rows leave the scan only when they may have a partner."""
    memory = Memory()
    memory.add("few", {"i": types.INT4}, [(70_001,), (70_003,)])
    memory.add("big", {"i": types.INT4, "s": types.TEXT}, [(i, "x") for i in range(200_000)], slots=4096)
    units = memory.tables[memory.definitions["big"].oid].all
    read: list[tuple[int, ...]] = []
    for unit in units:
        plain = unit.batch

        def batch(ordinals: Any, low: int, high: int, plain: Any = plain, number: int = unit.base) -> Any:
            read.append((number, *ordinals))
            return plain(ordinals, low, high)

        monkeypatch.setattr(unit, "batch", batch, raising=False)
    assert memory.query("select s, big.i from big, few where big.i = few.i") == [("x", "70001"), ("x", "70003")]
    assert {number for number, *_ in read} == {70_001 // 4096 << 20}


@pytest.mark.parametrize("sql_type", [types.INT2, types.INT4, types.INT8, types.DATE, types.TIMESTAMP], ids=str)
def test_key_sets(sql_type: types.SqlType, seed: int) -> None:
    rng = random.Random(seed)
    for spread in (3, 1000, 30_000, 2**40, 2**62):
        top = min(spread, 2 ** (8 * sql_type.dtype.itemsize - 1) - 1)
        built = [rng.choice([None, rng.randint(-top, top)]) for _ in range(rng.choice([0, 1, 500]))]
        probe = [rng.choice([None, rng.randint(-top, top), *built[:50]]) for _ in range(700)]
        keys = key_set([from_python(sql_type, built)], 0)
        assert keys is not None
        column = from_python(sql_type, probe)
        for chosen in (None, np.array(sorted(rng.sample(range(700), 90)), np.int64)):
            found = keys.select(column, chosen).tolist()
            values = probe if chosen is None else [probe[i] for i in chosen]
            must = [i for i, v in enumerate(values) if v is not None and v in built]
            assert found == sorted(found)
            assert set(must) <= set(found)
            assert not any(values[i] is None for i in found)
            if keys.exact:
                assert found == must
            elif len(values) > 500:
                assert len(found) - len(must) < 50
        assert keys.empty == (not any(v is not None for v in built))


def test_a_key_set_is_of_integers() -> None:
    assert key_set([Vector(types.FLOAT8, np.zeros(1))], 0) is None
