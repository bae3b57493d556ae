"""The connection to PostgreSQL that the executor's results are held against, one for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from bench.postgres import Postgres
from tests.slt.transports import oracle_dsn


@pytest.fixture(scope="session")
def postgres(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(oracle_dsn(postgres.dsn), autocommit=True, options="-c timezone=UTC") as connection:
        yield connection
