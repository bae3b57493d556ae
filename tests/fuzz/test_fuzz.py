"""Random queries against PostgreSQL 15, and questions whose answers must agree with each other."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from filestore.database import Database, DatabaseOptions
from tests.fuzz import metamorphic
from tests.fuzz.compare import fuzz, prepare
from tests.seeds import FRESH, seed_of
from tests.slt.transports import Embedded, Extended, Transport, Wire, oracle_dsn

SEED: Final = 20261121
QUERIES, SECONDS = 500, 60
SLOW_QUERIES = 20_000


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """One seed for all quick tests: their queries are known to be done in seconds; fresh ones at length."""
    fresh = FRESH or request.node.get_closest_marker("slow") is not None
    return seed_of(request.node.nodeid, fresh=True) if fresh else SEED


@pytest.fixture
def oracle(postgres: Any) -> Iterator[Wire]:
    """PostgreSQL, in a schema of its own."""
    wire = Wire(oracle_dsn(postgres.dsn))
    for sql in ("DROP SCHEMA IF EXISTS fuzz CASCADE", "CREATE SCHEMA fuzz", "SET search_path = fuzz"):
        assert wire.run(sql).error is None
    yield wire
    wire.run("DROP SCHEMA fuzz CASCADE")
    wire.close()


@pytest.fixture
def store(data_dir: Path, seed: int) -> Iterator[Embedded]:
    """A store with the tables, whose queries are never compiled."""
    yield from _store(data_dir, seed, "never")


@pytest.fixture
def compiling(data_dir: Path, seed: int) -> Iterator[Embedded]:
    """Its twin that compiles every query that it can."""
    yield from _store(data_dir.with_name("compiling"), seed, "always")


def _store(path: Path, seed: int, fusing: str) -> Iterator[Embedded]:
    database = Database.open(str(path), DatabaseOptions(compile=fusing))
    session = Embedded(database)
    prepare(session, seed)
    yield session
    session.close()
    database.close()


def _compare(ours: Transport, theirs: Transport, seed: int, count: int, seconds: float) -> None:
    prepare(theirs, seed)
    outcome = fuzz(ours, theirs, seed, iter(range(count)), time.monotonic() + seconds)
    print(f"{outcome.ran} queries: {dict(outcome.kinds)}")
    assert not outcome.faults, "\n".join(outcome.faults[:10])
    assert outcome.kinds["same"] > outcome.ran * 0.9, "queries that fail test nothing"


def test_against_postgresql(store: Embedded, oracle: Wire, seed: int) -> None:
    """The same rows and errors, embedded."""
    _compare(store, oracle, seed, QUERIES, SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_against_postgresql_at_length(store: Embedded, oracle: Wire, seed: int) -> None:
    _compare(store, oracle, seed, SLOW_QUERIES, 3000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_against_postgresql_over_the_extended_protocol(server: Any, oracle: Wire, seed: int) -> None:
    """By Parse and Bind, whose binary results must hold the values of the text ones."""
    wire = Extended(server.dsn)
    for sql in ("CREATE SCHEMA fuzz", "SET search_path = fuzz"):
        assert wire.run(sql).error is None
    prepare(wire, seed)
    try:
        _compare(wire, oracle, seed, SLOW_QUERIES // 4, 3000)
    finally:
        wire.run("ROLLBACK")
        wire.run("DROP SCHEMA fuzz CASCADE")
        wire.close()


def test_answers_agree_with_each_other(store: Embedded, seed: int) -> None:
    """Partition by a condition, index on and off, prepared and not."""
    found = list(metamorphic.faults(store, seed, 60))
    assert not found, "\n".join(found[:10])


def test_compiled_queries_answer_as_plain_ones(store: Embedded, compiling: Embedded, seed: int) -> None:
    """Fused loops against operators, on rows of which some were updated and deleted."""
    rounds = (random.Random(f"{seed}/c/{number}") for number in range(25))
    found = [fault for rng in rounds if (fault := metamorphic.compiled(compiling, store, rng))]
    assert not found, "\n".join(found[:10])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_answers_agree_at_length(store: Embedded, compiling: Embedded, seed: int) -> None:
    found = list(metamorphic.faults(store, seed, 3000))
    rounds = (random.Random(f"{seed}/c/{number}") for number in range(1000))
    found += [fault for rng in rounds if (fault := metamorphic.compiled(compiling, store, rng))]
    assert not found, "\n".join(found[:10])
