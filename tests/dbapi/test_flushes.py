"""Who flushes the log: the thread that commits, where it would only wait; the log's own thread for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import filestore
from filestore.storage import log


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, the log does not take a pause between statements for the end of the work."""
    monkeypatch.setattr(log, "IDLE_S", 3600)


@pytest.fixture
def flushers(connection: filestore.Connection) -> list[int]:
    """The threads that have flushed the log, in order."""
    found: list[int] = []
    connection.session.database.engine.log.subscribe(lambda _: found.append(threading.get_ident()))
    connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connection.commit()
    found.clear()
    return found


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_thread_flushes_its_own_commit(connection: filestore.Connection, flushers: list[int]) -> None:
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    assert flushers == [threading.get_ident()]
    connection.autocommit = True
    connection.execute("INSERT INTO t VALUES (2)")
    assert flushers == [threading.get_ident()] * 2


def test_what_does_not_wait_is_flushed_by_the_log(connection: filestore.Connection, flushers: list[int]) -> None:
    connection.autocommit = True
    connection.execute("SET synchronous_commit = off")
    connection.execute("INSERT INTO t VALUES (1)")
    until(lambda: bool(flushers))
    assert threading.get_ident() not in flushers


def test_a_promise_that_is_broken_off_is_kept_by_the_log(
    connection: filestore.Connection, flushers: list[int]
) -> None:
    connection.execute("INSERT INTO t VALUES (1)")
    session, flushes = connection.session, connection._lease.flushes
    flushes.begin()
    steps = session.execute(session.parse("COMMIT")[0])
    with session.database.lock:
        wait = next(steps)
        steps.close()
    assert not wait.done
    assert not flushers
    flushes.end()
    assert wait.result(60)
    assert threading.get_ident() not in flushers


def test_threads_that_commit_at_once(data_dir: Path) -> None:
    """Each waits for its own flush, or for one that took its commit along; nobody waits for ever."""
    threads, rows = 4, 50

    def work(number: int) -> None:
        with filestore.connect(str(data_dir), autocommit=True) as connection:
            for i in range(rows):
                connection.execute("INSERT INTO t VALUES (?)", (number * rows + i,))
                done.append(number)

    done: list[int] = []
    with filestore.connect(str(data_dir), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert len(done) == threads * rows
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(threads * rows,)]
