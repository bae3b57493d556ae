"""The list of functions that are not built, beside PostgreSQL's own."""

from __future__ import annotations

import psycopg
import pytest

from filestore import errors
from filestore.query import functions as f
from filestore.query.unbuilt import UNBUILT_FUNCTIONS
from tests.query.front.fixture_catalog import FixtureCatalog

# What PostgreSQL spells as syntax, and so has no function of that name.
SYNTAX = {"grouping"}
ARGUMENTS = {"normalize": "'a'"}


def test_postgresql_has_them(postgres: object) -> None:
    with psycopg.connect(postgres.dsn) as connection:  # type: ignore[attr-defined]
        rows = connection.execute("SELECT DISTINCT proname::text FROM pg_proc").fetchall()
    assert UNBUILT_FUNCTIONS - {name for (name,) in rows} == SYNTAX


def test_what_is_built_is_not_among_them() -> None:
    assert UNBUILT_FUNCTIONS.isdisjoint(f.CALLS)
    assert UNBUILT_FUNCTIONS.isdisjoint(f.AGGREGATE_NAMES)


@pytest.mark.parametrize("name", sorted(UNBUILT_FUNCTIONS - SYNTAX))
def test_each_is_refused_by_name(name: str) -> None:
    arguments = ARGUMENTS.get(name, "1, 2")
    with pytest.raises(errors.FeatureNotSupported, match="not supported"):
        FixtureCatalog().bind(f"SELECT {name}({arguments})")
