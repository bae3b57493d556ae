"""Types and names of output columns, compared with what PostgreSQL 15 said. REWRITE=1 asks it again
(`types.txt`)."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from filestore.types import BY_OID
from tests.query.front.conftest import agrees
from tests.query.front.fixture_catalog import FixtureCatalog

HERE = Path(__file__).parent
GOLDEN = HERE / "types.txt"
CASES = [c for c in (HERE / "type_cases.txt").read_text().splitlines() if c and not c.startswith("#")]
# Where we answer otherwise, and why.
DIFFERENT = {
    "+i4": "sqlglot drops the sign, so the column keeps its name",
    "interval '3' month": "fields of an interval are no modifier of its type",
    "max(c)": "values are stored without their blanks, so the length stays with the type to show them",
}


def ours(catalog: FixtureCatalog, expression: str) -> tuple[str, str]:
    column = catalog.bind(f"select {expression} from kinds").plan.columns[0]
    return column.name, column.type.name


def golden() -> dict[str, tuple[str, str]]:
    rows = [line.split(" | ") for line in GOLDEN.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in rows}


def test_postgresql_agrees(connection: psycopg.Connection) -> None:
    lines = []
    for case in CASES:
        (column,) = list(connection.execute(f"select {case} from kinds limit 0").description or ())
        name = connection.execute(
            "select format_type(%s, %s)", (column.type_code, column._fmod if hasattr(column, "_fmod") else -1)
        ).fetchall()[0][0]
        lines.append(f"{case} | {column.name} | {name}")
    agrees(GOLDEN, lines)


@pytest.mark.parametrize("expression", CASES)
def test_type_and_name(expression: str) -> None:
    known = golden()
    assert expression in known, "run with REWRITE=1"
    name, type_name = ours(FixtureCatalog(), expression)
    expected_name, expected_type = known[expression]
    if expression in DIFFERENT:
        assert (name, type_name) != (expected_name, expected_type), "no longer different"
        return
    assert name == expected_name
    assert type_name.split("(")[0] == expected_type.split("(")[0]


def test_oids_are_known() -> None:
    assert BY_OID[23].name == "integer"
