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


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_who_has_written_learns_nothing_after_a_failed_sync(level: str) -> None:
    """He can never commit, and his next statements would be decided by a commit that nobody was told of."""
    disk = SimulatedDisk()
    database = Database.over(disk, OPTIONS)
    writer, reader, other, late = (database.session() for _ in range(4))
    run(other, "CREATE TABLE t (id bigint PRIMARY KEY, v bigint)")
    run(other, "INSERT INTO t VALUES (1, 0), (2, 0)")
    run(writer, f"BEGIN ISOLATION LEVEL {level}; UPDATE t SET v = 5 WHERE id = 2")
    run(reader, f"BEGIN ISOLATION LEVEL {level}; SELECT 1")
    disk.fail("sync", "wal")
    with pytest.raises(errors.StorageFailed):
        run(other, "UPDATE t SET v = 7 WHERE id = 1")
    with pytest.raises(errors.StorageFailed):
        run(writer, "SELECT v FROM t WHERE id = 1")
    assert writer.status == "E"
    assert run(writer, "ROLLBACK") == []
    run(late, "BEGIN")
    for text in ("UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v", "INSERT INTO t VALUES (1, 1)", "DROP TABLE t"):
        with pytest.raises(errors.StorageFailed):
            run(late, text)
        run(late, "ROLLBACK; BEGIN")
    for session in (reader, writer, late):
        assert run(session, "SELECT id, v FROM t ORDER BY id") == [(1, 0), (2, 0)]
    database.close()


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
