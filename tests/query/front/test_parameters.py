"""Types inferred for parameters, as PostgreSQL 15 infers them. REWRITE=1 asks it again (`parameters.txt`)."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from filestore import errors
from filestore.types import FLOAT8, INT2, INT4, INT8, TEXT
from tests.query.front.conftest import agrees
from tests.query.front.fixture_catalog import FixtureCatalog

HERE = Path(__file__).parent
GOLDEN = HERE / "parameters.txt"
CASES = [c for c in (HERE / "parameter_cases.txt").read_text().splitlines() if c and not c.startswith("#")]
DIFFERENT = {
    "select a from t where a = any($1)": "arrays are not supported",
    "select count($1)": "text, where PostgreSQL gives up",
    "select $1 is null": "text, where PostgreSQL gives up",
    "select $1 from t where a = $1": "WHERE is bound before the select list, so both are integers",
    "select substring(b from $1 for $2) from t": "the SQL form's regular expressions are not supported",
}


def test_postgresql_agrees(connection: psycopg.Connection) -> None:
    lines = []
    for case in CASES:
        try:
            connection.execute(f"prepare zz as {case}")
            row = connection.execute(
                "select parameter_types::text[] from pg_prepared_statements where name = 'zz'"
            ).fetchall()[0]
            connection.execute("deallocate zz")
            lines.append(f"{case} | {', '.join(row[0])}")
        except psycopg.Error as error:
            lines.append(f"{case} | {error.diag.sqlstate}")
    agrees(GOLDEN, lines)


def ours(sql: str) -> str:
    try:
        return ", ".join(t.name for t in FixtureCatalog().bind(sql).parameters).replace("bpchar", "character")
    except errors.Error as error:
        return error.sqlstate


@pytest.mark.parametrize("sql", CASES)
def test_inferred(sql: str) -> None:
    expected = dict(line.rsplit(" | ", 1) for line in GOLDEN.read_text().splitlines())[sql]
    if sql in DIFFERENT:
        assert ours(sql) != expected
        return
    assert ours(sql) == expected


def test_declared_types_win() -> None:
    catalog = FixtureCatalog()
    assert catalog.bind("select a from t where a = $1", [INT2]).parameters == (INT2,)
    assert catalog.bind("select a from t where a = $1", [INT8]).parameters == (INT8,)
    assert catalog.bind("select $1", [FLOAT8]).parameters == (FLOAT8,)
    assert catalog.bind("select a from t where b = $1 and a = $2", [None, INT4]).parameters == (TEXT, INT4)


def test_declared_and_unused_is_kept() -> None:
    assert FixtureCatalog().bind("select 1", [INT4, None]).parameters == (INT4, TEXT)
