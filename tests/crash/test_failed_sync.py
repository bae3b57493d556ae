"""A commit whose sync failed was not acknowledged, so nobody is shown it, its own session not either (RELIABILITY F9).

Goal: after the failure every session answers from what is durable; reopening shows one of the two outcomes, whole.
"""

from __future__ import annotations

import pytest

from filestore import errors
from filestore.database import Database, DatabaseOptions
from filestore.hal import SimulatedDisk
from filestore.txn.engine import EngineOptions
from tests.crash.statements import run

OPTIONS = DatabaseOptions(compile="never", engine=EngineOptions(threaded=False))


@pytest.mark.parametrize("block", [False, True])
def test_a_failed_sync_shows_nobody_the_commit(block: bool) -> None:
    disk = SimulatedDisk()
    database = Database.over(disk, OPTIONS)
    own, other = database.session(), database.session()
    run(own, "CREATE TABLE t (id bigint PRIMARY KEY)")
    run(own, "INSERT INTO t VALUES (1)")
    fault = disk.fail("sync", "wal")
    with pytest.raises(errors.StorageFailed):
        run(own, "BEGIN; INSERT INTO t VALUES (2); COMMIT" if block else "INSERT INTO t VALUES (2)")
    assert fault.injected == 1
    for session in (own, other):
        assert run(session, "SELECT id FROM t ORDER BY id") == [(1,)]
        assert run(session, "SELECT id FROM t WHERE id = 2") == []
        with pytest.raises(errors.StorageFailed):
            run(session, "INSERT INTO t VALUES (3)")
        assert run(session, "SELECT id FROM t ORDER BY id") == [(1,)]
    database.close()
    disk.heal()
    again = Database.over(disk, OPTIONS)
    assert run(again.session(), "SELECT id FROM t ORDER BY id") in ([(1,)], [(1,), (2,)])
    again.close()


def test_an_asynchronous_commit_is_seen_by_its_own_session_at_once() -> None:
    disk = SimulatedDisk()
    database = Database.over(disk, OPTIONS)
    own, other = database.session(), database.session()
    run(own, "CREATE TABLE t (id bigint PRIMARY KEY)")
    run(own, "SET synchronous_commit = off")
    disk.fail("sync", "wal")
    run(own, "INSERT INTO t VALUES (1)")  # answered before anybody knows of the failure
    assert run(own, "SELECT id FROM t") == [(1,)]
    assert run(other, "SELECT id FROM t") == []
    database.close()
