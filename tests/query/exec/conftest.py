"""The PostgreSQL server that the executor's results are held against, one for all tests of this directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.query.exec import oracle


@pytest.fixture(scope="session")
def postgres() -> Iterator[psycopg.Connection]:
    """A connection to a PostgreSQL 15 of our own."""
    # A short path: a socket's name has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="fsq") as directory, oracle.server(Path(directory)) as connection:
        yield connection
