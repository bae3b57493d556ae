"""The fused loop gives, to the bit, what the vectorised operators give: random data with nulls, dead rows, all
kinds of conditions.
"""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import sys
import time
from decimal import Decimal

import numpy as np
import pytest

from filestore import types
from filestore.query import fuse
from filestore.query.compile import Compiler, cache_directory
from filestore.query.operators import fused_aggregate, scan
from tests.query.exec.standin import Memory

QUERIES = """
select count(*) from t
select sum(n), avg(n), min(n), max(n), count(n), count(*) from t where i < 700
select s, c, sum(n * (1 - m)), sum(n * (1 - m) * (1 + m)), avg(m), count(*) from t where d <= '2021-06-01' group by s, c
select sum(n * m) from t where d >= '2020-03-01' and d < '2021-03-01' and m between 0.02 and 0.06 and n < 24
select g, count(*), sum(i), min(d), max(d), sum(i) filter (where b) from t group by g
select b, sum(case when i % 2 = 0 then 1 else 0 end) from t group by b
select b, sum(case when i > 500 then n else 0.00 end) from t group by b
select s, count(*) from t where s like 'a%' or s = 'bb' group by s
select count(*) from t where s in ('a', 'bb') and not b
select c, max(i + g) from t where (g = 1 or i < 100) and n > m group by c
select sum(i), count(g) from t where g is null
select sum(k), avg(k) from t where k <> 5
select g, b, sum(g * 2 - i) from t where d > date '2020-05-05' group by g, b
""".strip().splitlines()


FILTERS = """
select i, s from t where d >= '2020-03-01' and d < '2021-03-01' and m between 0.02 and 0.06 and n < 24
select i, s, c from t where s like 'a%' or s = 'bb'
select i from t where s in ('a', 'bb') and not b and upper(c) = 'X'
select i, n from t where (g = 1 or i < 100) and n > m and length(s) > 1
select i, k from t where k <> 5 and i % 3 = 0 and 10 / (i % 3 + 1) > 5
select i from t where i < 0
select i, d from t where i >= 0
select a.i, b.i from t a, t b where a.i = b.g and b.n > 20 and a.d > '2020-06-01'
select s, count(distinct g) from t where d > date '2020-05-05' and g is not null group by s
""".strip().splitlines()


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    made = Compiler(tmp_path_factory.getbasetemp() / "plans")
    monkeypatch.setattr(fuse, "COMPILER", made)
    return made


def table(rng: random.Random, nulls: float, rows: int) -> Memory:
    def maybe(value: object) -> object:
        return None if rng.random() < nulls else value

    memory = Memory()
    data = [
        (
            i,
            maybe(rng.randint(0, 3)),
            maybe(rng.choice(["a", "bb", "a long string of characters"])),
            rng.choice(["x", "y"]),
            maybe(Decimal(rng.randint(-5000, 5000)).scaleb(-2)),
            maybe(Decimal(rng.randint(0, 10)).scaleb(-2)),
            rng.randint(18262, 19000),
            rng.random() < 0.5,
            maybe(rng.randint(-(2**62), 2**62)),
        )
        for i in range(rows)
    ]
    columns = {
        "i": types.INT4, "g": types.INT2, "s": types.TEXT, "c": types.bpchar(1), "n": types.numeric(15, 2),
        "m": types.numeric(15, 2), "d": types.DATE, "b": types.BOOL, "k": types.INT8,
    }  # fmt: skip
    dead = np.array([rng.random() < 0.1 for _ in data]) if nulls else None
    memory.add("t", columns, data, slots=300, dead=dead)
    return memory


@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_fused_is_vectorised(nulls: float, seed: int) -> None:
    memory = table(random.Random(seed), nulls, 1000)
    for sql in QUERIES:
        assert memory.query(sql, compile="always") == memory.query(sql, compile="never"), sql


@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_a_fused_filter_is_the_vectorised_one(nulls: float, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(scan, "_BATCH_ROWS", 50)
    monkeypatch.setattr(scan, "_ITEMS_PER_THREAD", 1)
    memory = table(random.Random(seed), nulls, 2000)
    for sql in FILTERS:
        assert memory.query(sql, compile="always") == memory.query(sql, compile="never"), sql


def test_the_filters_really_run(compiler: Compiler) -> None:
    memory = table(random.Random(1), 0.0, 1000)
    fused = 0
    for sql in FILTERS:
        before = len(compiler._ready)
        memory.query(sql, compile="always")
        fused += len(compiler._ready) > before
    assert fused >= 6


def test_rows_of_grouped_morsels_come_in_order() -> None:
    memory = Memory()
    memory.add("t", {"i": types.INT4}, [(i,) for i in range(50_000)], slots=100)
    want = [(str(i),) for i in range(50_000) if i % 7 == 0]
    assert memory.query("select i from t where i % 7 = 0") == want
    assert memory.query("select i from t where i % 7 = 0 limit 3") == want[:3]


def test_the_loops_really_run(compiler: Compiler) -> None:
    memory = table(random.Random(1), 0.0, 1000)
    fused = 0
    for sql in QUERIES:
        before = len(compiler._ready)
        memory.query(sql, compile="always")
        fused += len(compiler._ready) > before
    assert fused >= 9


def test_source_survives_and_is_found_again(compiler: Compiler) -> None:
    memory = table(random.Random(2), 0.0, 500)
    sql = "select c, sum(n) from t where i > 5 group by c"
    want = memory.query(sql, compile="always")
    again = Compiler(compiler._directory)
    stored = sorted(p.name for p in pathlib.Path(compiler._directory or "").glob("plan_*.py"))
    assert stored
    assert again.get("def kernel(n):\n    return n\n", [1], "always") is not None
    assert memory.query(sql.replace("5", "6"), compile="always") != []
    assert memory.query(sql, compile="always") == want


def test_background_compiles_meanwhile(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_aggregate, "MIN_ROWS", 1)
    memory = table(random.Random(3), 0.0, 1000)
    sql = "select c, sum(n), count(*) from t where i > 9 group by c"
    want = memory.query(sql, compile="never")
    assert memory.query(sql, compile="background") == want
    assert compiler.wait(60)
    assert memory.query(sql, compile="background") == want


def test_a_query_does_not_wait_for_what_compiles(compiler: Compiler) -> None:
    slow = "import time\ntime.sleep(2)\ndef kernel(n):\n    return n\n"
    quick = "def kernel(n):\n    return n + 1\n"
    assert compiler.get(slow, [1], "background") is None
    started = time.monotonic()
    for _ in range(10):
        assert compiler.get(slow, [1], "background") is None
        assert compiler.get(quick, [1], "background") is None
        time.sleep(0.02)
    assert time.monotonic() - started < 1.5
    assert compiler.wait(60)
    assert [compiler.get(source, [1], "background")(1) for source in (slow, quick)] == [1, 2]  # type: ignore[misc]


def test_a_process_makes_so_many_kernels(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Compiler(tmp_path, kernels_max=2)
    sources = [f"def kernel(n):\n    return n + {i}\n" for i in range(4)]
    assert [made.get(s, [1], "always") is not None for s in sources] == [True, True, False, False]
    assert [made.get(s, [1], "background") is not None for s in sources] == [True, True, False, False]
    assert caplog.messages == ["2 pipelines are compiled: further ones stay vectorised"]
    assert not [name for name in sys.modules if name.startswith("plan_")]


def test_kernels_are_loaded_from_the_cache_by_another_process(tmp_path: pathlib.Path) -> None:
    program = (
        "import pathlib, sys; from filestore.query.compile import Compiler;"
        "kernel = Compiler(pathlib.Path(sys.argv[1])).get('def kernel(n):\\n    return n * 2\\n', [1], 'always');"
        "print(kernel(21), sum(kernel.stats.cache_hits.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    command = [sys.executable, "-c", program, str(tmp_path / "plans")]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment) for _ in range(2)]
    assert [run.stdout for run in runs] == ["42 0\n", "42 1\n"]


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_nothing_is_kept_where_others_may_write(tmp_path: pathlib.Path, mode: int) -> None:
    tmp_path.chmod(mode)
    kernel = Compiler(tmp_path).get("def kernel(n):\n    return n - 1\n", [1], "always")
    assert kernel is not None and kernel(43) == 42
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_there_is_no_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FILESTORE_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_directory() is None
    kernel = Compiler().get("def kernel(n):\n    return n - 2\n", [1], "always")
    assert kernel is not None and kernel(44) == 42


def test_sums_beyond_64_bits_take_the_other_way() -> None:
    memory = Memory()
    big = 2**62 + 12345
    memory.add("t", {"k": types.INT8}, [(big,)] * 1000, slots=100)
    assert memory.query("select sum(k) from t", compile="always") == [(str(big * 1000),)]
