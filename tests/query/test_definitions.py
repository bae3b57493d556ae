"""ALTER TABLE that looks at many rows: other sessions are answered meanwhile, and a cancel leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from filestore import errors
from filestore.database import Database
from filestore.session import Session
from filestore.txn import ddl
from filestore.txn.drive import Job, Steps, drive
from tests.conftest import close_sound

ROWS = 30_000  # more than `session.INLINE_ROWS`
SECONDS = 60  # for what takes milliseconds


def run(session: Session, text: str) -> list[Any]:
    """All statements of a text; the rows of the last."""
    rows: list[Any] = []
    for statement in session.parse(text):
        result = drive(session.execute(statement), session.database.lock, session.poll)
        rows = [row for b in result.batches for row in zip(*(c.data.tolist() for c in b.columns), strict=True)]
        drive(session.finish(), session.database.lock, session.poll)
    return rows


@pytest.fixture
def database(tmp_path: Any) -> Iterator[Database]:
    made = Database.open(str(tmp_path / "d"))
    rows = f"SELECT i, i % 7 FROM generate_series(1, {ROWS}) i"
    run(made.session(), f"CREATE TABLE t (a int8, b int8); INSERT INTO t {rows}")
    yield made
    close_sound(made)


class Turnstile:
    """The engine lock; a worker that has given it back `often` times waits until `answered`."""

    def __init__(self, lock: Any, often: int) -> None:
        self.lock, self.left, self.owner = lock, often, threading.get_ident()
        self.reached, self.answered = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        if threading.get_ident() != self.owner:
            self.left -= 1
            if self.left == 0:
                self.reached.set()
                assert self.answered.wait(SECONDS)


def begun(database: Database, session: Session, text: str) -> tuple[Steps[Any], Job[Any]]:
    """A statement's steps up to its work on the rows."""
    steps = session.execute(session.parse(text)[0])
    with database.lock:
        wait = next(steps)
    assert isinstance(wait, Job)
    return steps, wait


def finished(database: Database, session: Session, steps: Steps[Any], job: Job[Any]) -> str:
    assert job.block(SECONDS)
    tag: str = drive(steps, database.lock, session.poll).tag
    drive(session.finish(), database.lock, session.poll)
    return tag


@pytest.mark.parametrize("key", ["PRIMARY KEY (a)", "UNIQUE (a, b)"])
def test_others_are_answered_while_a_key_is_built(database: Database, monkeypatch: Any, key: str) -> None:
    monkeypatch.setattr(ddl, "BUILD_ROWS", 1_000)
    stile = Turnstile(database.lock, 5)
    monkeypatch.setattr(database.engine, "lock", stile)
    session, other = database.session(), database.session()
    steps, job = begun(database, session, f"ALTER TABLE t ADD CONSTRAINT k {key}")
    assert stile.reached.wait(SECONDS)
    assert run(other, "CREATE TABLE u (a int8); INSERT INTO u VALUES (5); SELECT a + 1 FROM u") == [(6,)]
    assert not job.done
    stile.answered.set()
    assert finished(database, session, steps, job) == "ALTER TABLE"
    assert run(other, f"SELECT b FROM t WHERE a = {ROWS - 1}") == [((ROWS - 1) % 7,)]
    with pytest.raises(errors.UniqueViolation):
        run(other, "INSERT INTO t SELECT a, b FROM t WHERE a = 7")


def test_a_check_reads_rows_without_the_engine_lock(database: Database, monkeypatch: Any) -> None:
    stile = Turnstile(database.lock, 1)  # a scan's list of segments
    monkeypatch.setattr(database.engine, "lock", stile)
    session = database.session()
    steps, job = begun(database, session, "ALTER TABLE t ADD CHECK (b < 7)")
    assert stile.reached.wait(SECONDS)
    with database.lock:
        stile.answered.set()
        assert job.block(SECONDS)
    assert finished(database, session, steps, job) == "ALTER TABLE"
    with pytest.raises(errors.CheckViolation):
        run(session, "INSERT INTO t VALUES (0, 7)")


def test_what_violates_is_found_by_a_worker(database: Database) -> None:
    with pytest.raises(errors.UniqueViolation) as raised:
        run(database.session(), "ALTER TABLE t ADD UNIQUE (b)")
    assert str(raised.value.detail).endswith("is duplicated.")
    with pytest.raises(errors.CheckViolation, match="is violated by some row"):
        run(database.session(), "ALTER TABLE t ADD CHECK (b < 6)")
    with pytest.raises(errors.NotNullViolation):
        run(database.session(), "INSERT INTO t VALUES (NULL, 0); ALTER TABLE t ADD PRIMARY KEY (a)")


def test_a_cancelled_key_is_not_built(database: Database, monkeypatch: Any) -> None:
    monkeypatch.setattr(ddl, "BUILD_ROWS", 1_000)
    stile = Turnstile(database.lock, 3)
    monkeypatch.setattr(database.engine, "lock", stile)
    session = database.session()
    steps, job = begun(database, session, "ALTER TABLE t ADD UNIQUE (a)")
    assert stile.reached.wait(SECONDS)
    with database.lock, pytest.raises(errors.QueryCanceled):
        steps.throw(errors.QueryCanceled("canceling statement due to user request"))
    stile.answered.set()
    assert job.block(SECONDS)
    with pytest.raises(errors.InFailedTransaction):
        job.value()
    table = next(iter(database.engine.tables.values()))
    assert table.stored_keys == () and not database.engine.added_keys
    assert run(session, "INSERT INTO t VALUES (1, 1); SELECT count(*) FROM t") == [(ROWS + 1,)]
