"""Every function and operator gives what PostgreSQL 15 gives, digits and errors included. The cases are lines of
text.
"""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from filestore import errors
from filestore.query.functions import FUNCTIONS
from filestore.query.scalar import IMPLEMENTATIONS
from filestore.types import NUMERIC
from tests.query.exec import oracle
from tests.query.exec.standin import Memory

CASES = [line for line in (Path(__file__).parent / "scalar_cases.txt").read_text().splitlines() if line]


def ours(sql: str, memory: Memory | None = None) -> list[tuple[str | None, ...]]:
    try:
        return (memory or Memory()).query(sql, transaction_us=1_700_000_000_000_000)
    except errors.Error as error:
        return [(f"ERROR {error.sqlstate}: {error.message}",)]


def test_cases(postgres: psycopg.Connection) -> None:
    different = []
    for case in CASES:
        want, got = oracle.texts(postgres, f"select {case}"), ours(f"select {case}")
        if want != got:
            different.append(f"{case}\n  PostgreSQL {want}\n  FileStore  {got}")
    if different:
        pytest.fail("\n".join(different), pytrace=False)


def test_every_function_is_implemented() -> None:
    assert set(FUNCTIONS) - set(IMPLEMENTATIONS) == set()


def test_operations_over_columns_as_over_constants(postgres: psycopg.Connection, seed: int) -> None:
    """The vectorised paths, with nulls in between: quotients, products, roundings and comparisons of random
    decimals.
    """
    rng = random.Random(seed)

    def number() -> Decimal | None:
        if rng.random() < 0.1:
            return None
        digits = rng.choice([1, 3, 8, 15, 25])
        return Decimal(rng.randint(-(10**digits), 10**digits)).scaleb(-rng.randint(0, 8))

    rows = [(number(), number()) for _ in range(400)]
    memory = Memory()
    memory.add("t", {"a": NUMERIC, "b": NUMERIC}, rows, slots=64)
    postgres.execute("create temp table t (a numeric, b numeric, i serial)")
    with postgres.cursor() as cursor:
        cursor.executemany("insert into t (a, b) values (%s, %s)", rows)
    for expr in ("a + b", "a - b", "a * b", "a / nullif(b, 0)", "a % nullif(b, 0)", "a < b", "a = b", "round(a, 2)",
                 "-a", "abs(b)", "trunc(a, 1)", "sqrt(abs(a))", "a::text", "greatest(a, b)", "sign(a)"):  # fmt: skip
        assert ours(f"select {expr} from t", memory) == oracle.texts(postgres, f"select {expr} from t order by i"), expr
    postgres.execute("drop table t")
