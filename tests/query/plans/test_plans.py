"""Rewriting rules, one fixture each: SQL, and the plan that the rule makes. REWRITE=1 writes the plans; the
diff is the review.

A fixture is blocks of SQL and plan, parted by `----` and empty lines. `# rules: a, b` names what is applied
to the bound plan, in that order; `# all` is the whole pipeline. The catalog is the front's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from filestore.query.explain import plan_lines
from filestore.query.optimize import RULES, optimize_plan
from filestore.query.plan import Plan
from tests.query.front.fixture_catalog import FixtureCatalog

HERE = Path(__file__).parent
FIXTURES = sorted(HERE.glob("*.plan"))
BY_NAME: dict[str, Callable[..., Plan]] = {rule.__name__: rule for rule in RULES}
SIZES = {"t": 1000, "u": 100_000, "pair": 10, "kinds": 5000}


def applied(catalog: FixtureCatalog, sql: str, rules: list[str]) -> str:
    plan = catalog.bind(sql).plan
    if rules == ["all"]:
        return "\n".join(plan_lines(optimize_plan(plan, catalog.rows)))
    for name in rules:
        plan = BY_NAME[name](plan, catalog.rows)
    return "\n".join(plan_lines(plan))


def blocks(text: str) -> tuple[str, list[str], list[tuple[str, str]]]:
    """(heading, rules, (sql, plan) of each block)."""
    heading, *rest = text.split("\n\n")
    line = next(h for h in heading.splitlines() if h.startswith("# rules:"))
    rules = [r.strip() for r in line.removeprefix("# rules:").split(",")]
    found: list[tuple[str, str]] = []
    for block in rest:
        sql, _, plan = block.strip("\n").partition("\n----")
        if sql:
            found.append((sql, plan.strip("\n")))
    return heading, rules, found


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_fixture(path: Path) -> None:
    heading, rules, cases = blocks(path.read_text())
    catalog: Any = FixtureCatalog(sizes=SIZES)
    answers = [(sql, applied(catalog, sql, rules)) for sql, _ in cases]
    if os.environ.get("REWRITE"):
        path.write_text(heading + "\n\n" + "\n\n".join(f"{sql}\n----\n{plan}" for sql, plan in answers) + "\n")
    for (sql, expected), (_, actual) in zip(cases, answers, strict=True):
        assert actual == expected or os.environ.get("REWRITE"), sql


def test_every_rule_has_a_fixture() -> None:
    assert {p.stem for p in FIXTURES} >= set(BY_NAME) | {"decorrelate"}
