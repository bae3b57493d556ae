"""What clients leave behind: after the same work again, as many objects live as before.

Objects are counted, not bytes: what is told from the kernel depends on the allocator. Caches are made small, so that
they are full before anything is counted; what they drop has to go away.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from filestore.database import Database
from filestore.query.plan_cache import PlanCache
from tests.conftest import close_sound
from tests.server.pgwire.conftest import Running, run_port

CACHED = 16
SECONDS = 20  # for a session's end to be noticed


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory: Path = tmp_path_factory.mktemp("growth") / "data"
    database = Database.open(str(directory))
    database.plans, database.parsed = PlanCache(CACHED), PlanCache(CACHED)
    running = run_port(database)
    with psycopg.connect(running.dsn, autocommit=True) as made:
        made.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
    yield running
    running.stop()
    close_sound(database)


def ended(port: Running) -> None:
    """Waits until the server has seen that everybody has gone."""
    deadline = time.monotonic() + SECONDS
    while port.database.sessions:
        assert time.monotonic() < deadline, "sessions are left"
        time.sleep(0.01)


def living() -> Counter[str]:
    """Objects of our own and sqlglot's classes, by class."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith(("filestore", "sqlglot"))
    )


def distinct_statements(connection: psycopg.Connection, turn: int) -> None:
    for i in range(50):
        connection.execute(f"SELECT id AS c_{turn}_{i} FROM item WHERE id = {i} AND name ~ 'x{turn}{i}'")


def prepared_statements(connection: psycopg.Connection, turn: int) -> None:
    for i in range(50):
        connection.execute(f"PREPARE p{i} AS SELECT id AS c_{turn}_{i} FROM item WHERE id = $1")
        connection.execute(f"EXECUTE p{i}(1)")


def open_cursors(connection: psycopg.Connection, turn: int) -> None:
    connection.execute("BEGIN")
    for i in range(50):
        connection.execute(f"DECLARE c{i} CURSOR FOR SELECT g FROM generate_series(1, 100000) g")
        connection.execute(f"FETCH 1 FROM c{i}")


def tables_dropped(connection: psycopg.Connection, turn: int) -> None:
    for _ in range(CACHED):
        connection.execute("CREATE TABLE gone (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO gone VALUES (1, 'x')")
        connection.execute("DROP TABLE gone")


def failures(connection: psycopg.Connection, turn: int) -> None:
    for i in range(20):
        for text in (f"SELECT c_{turn}_{i} FROM item", f"SELEC {i}", "INSERT INTO item VALUES (7), (7)", "SELECT 1/0"):
            with pytest.raises(psycopg.Error):
                connection.execute(text)
    connection.execute("BEGIN; INSERT INTO item VALUES (7)")
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1/0")


def sessions(connection: psycopg.Connection, turn: int) -> None:
    for _ in range(20):
        with psycopg.connect(connection.info.dsn) as other:
            other.execute("SET TimeZone = 'Asia/Tokyo'")
            other.execute("SELECT * FROM item")


WORK = (
    distinct_statements,
    prepared_statements,
    open_cursors,
    tables_dropped,
    failures,
    sessions,
)


@pytest.mark.parametrize("work", WORK)
def test_nothing_is_left_behind(port: Running, work: Callable[[psycopg.Connection, int], None]) -> None:
    found = []
    for turn in range(4):
        with psycopg.connect(port.dsn, autocommit=True) as connection:
            work(connection, turn)
        ended(port)
        found.append(living())
    # What is made once for all is made by the second turn; a leak shows in each.
    growth = [later - earlier for earlier, later in itertools.pairwise(found[1:])]
    assert Counter() in growth, growth
    assert len(port.database.plans) <= CACHED and len(port.database.parsed) <= CACHED
