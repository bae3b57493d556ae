"""SQLSTATE, position and message of wrong statements, as PostgreSQL 15 gives them. REWRITE=1 asks it again
(`errors.txt`)."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from filestore import errors
from filestore.query.parse import parse
from tests.query.front.conftest import agrees
from tests.query.front.fixture_catalog import FixtureCatalog

HERE = Path(__file__).parent
GOLDEN = HERE / "errors.txt"
CASES = [c for c in (HERE / "error_cases.txt").read_text().splitlines() if c and not c.startswith("#")]
# Statement -> what we do otherwise, and why.
DIFFERENT: dict[str, str] = json.loads((HERE / "errors_different.json").read_text())


def test_postgresql_agrees(connection: psycopg.Connection) -> None:
    lines = []
    for case in CASES:
        try:
            connection.execute(f"prepare zz as {case}")
            connection.execute("deallocate zz")
            lines.append(f"{case} | 00000 | 0 | ")
        except psycopg.Error as error:
            diag = error.diag
            place = int(diag.statement_position or 0)
            lines.append(f"{case} | {diag.sqlstate} | {max(place - 14, 0)} | {diag.message_primary}")
    agrees(GOLDEN, lines)


def golden() -> dict[str, tuple[str, int, str]]:
    rows = [line.rsplit(" | ", 3) for line in GOLDEN.read_text().splitlines()]
    return {row[0]: (row[1], int(row[2]), row[3]) for row in rows}


def ours(sql: str) -> tuple[str, int, str]:
    catalog = FixtureCatalog()
    try:
        for _ in parse(sql):
            catalog.bind(sql)
    except errors.Error as error:
        return error.sqlstate, error.position or 0, error.message
    return "00000", 0, ""


@pytest.mark.parametrize("sql", CASES)
def test_error(sql: str) -> None:
    expected = golden()[sql]
    if sql in DIFFERENT:
        assert ours(sql) != expected, "no longer different"
        return
    assert ours(sql) == expected


def test_every_difference_is_a_case() -> None:
    assert set(DIFFERENT) <= set(CASES)
