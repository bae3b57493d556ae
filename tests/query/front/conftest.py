"""PostgreSQL with the tables of `fixture_catalog`, and its answers beside those in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.query.front.fixture_catalog import TABLES


@pytest.fixture
def connection(postgres: object) -> Iterator[psycopg.Connection]:
    dsn = postgres.dsn  # type: ignore[attr-defined]
    with psycopg.connect(dsn, autocommit=True) as made:
        made.execute("CREATE SCHEMA front")
        made.execute("SET search_path = front")
        made.execute(TABLES)
        yield made
        made.execute("DROP SCHEMA front CASCADE")


def agrees(golden: Path, lines: list[str]) -> None:
    """What PostgreSQL says is what the file says. With REWRITE=1 in the environment the file is written instead."""
    text = "\n".join(lines) + "\n"
    if os.environ.get("REWRITE"):
        golden.write_text(text)
    assert golden.read_text() == text, "REWRITE=1 writes PostgreSQL's answers"
