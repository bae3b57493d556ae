"""The 22 queries of TPC-H: all bind, and their plans are on record. REWRITE=1 writes them; the diff is the review."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from filestore.query.explain import plan_lines
from filestore.query.optimize import optimize
from tests.query.front.fixture_catalog import FixtureCatalog

HERE = Path(__file__).parent / "tpch"
QUERIES = sorted(HERE.glob("q*.sql"))
# Rows at scale factor 1.
SIZES = {
    "region": 5, "nation": 25, "supplier": 10_000, "customer": 150_000, "part": 200_000, "partsupp": 800_000,
    "orders": 1_500_000,
    "lineitem": 6_001_215,
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> FixtureCatalog:
    return FixtureCatalog((HERE / "schema.sql").read_text(), SIZES)


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_plan(path: Path, catalog: FixtureCatalog) -> None:
    actual = "\n".join(plan_lines(optimize(catalog.bind(path.read_text()), catalog).plan)) + "\n"
    golden = path.with_suffix(".txt")
    if os.environ.get("REWRITE"):
        golden.write_text(actual)
    assert actual == golden.read_text()
    assert "Nested Loop" not in actual or path.stem in ("q11", "q22")


def test_all_are_here() -> None:
    assert len(QUERIES) == 22
