"""Table and name locks: the matrix, the queue, the cycles."""

from __future__ import annotations

import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.txn import ddl
from filestore.txn.deadlock import cycle
from filestore.txn.engine import Engine
from filestore.txn.locks import CONFLICTS, LockMode
from tests.txn import engine_model as m

# PostgreSQL 15, table 13.2: X = conflict, modes weakest first.
MATRIX = """
.......X
......XX
....XXXX
...XXXXX
..XX.XXX
..XXXXXX
.XXXXXXX
XXXXXXXX
"""


@pytest.fixture
def engine():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    yield engine
    engine.close()


def test_the_matrix_is_postgresql_s_and_symmetric():
    rows = MATRIX.split()
    for a in LockMode:
        for b in LockMode:
            assert (b in CONFLICTS[a]) == (rows[a - 1][b - 1] == "X"), (a, b)
            assert (b in CONFLICTS[a]) == (a in CONFLICTS[b])


def test_first_come_first_served(engine):
    a, b, c, d = (engine.begin() for _ in range(4))
    assert engine.locks.try_acquire(a, 1, LockMode.ACCESS_SHARE)
    wants_all = engine.lock_table(b, 1, LockMode.ACCESS_EXCLUSIVE)
    first = next(wants_all)
    assert not engine.locks.try_acquire(c, 1, LockMode.ACCESS_SHARE), "not past who waits already"
    wants_share = engine.lock_table(c, 1, LockMode.ACCESS_SHARE)
    second = next(wants_share)
    assert engine.locks.try_acquire(a, 1, LockMode.ROW_EXCLUSIVE), "who holds it is not held up"
    assert not engine.locks.try_acquire(d, 1, LockMode.SHARE)
    engine.abort(a)
    assert first.done and not second.done
    with pytest.raises(StopIteration):
        next(wants_all)
    engine.abort(b)
    assert second.done
    with pytest.raises(StopIteration):
        next(wants_share)
    assert [row[1:] for row in engine.locks.held()] == [(c.id, LockMode.ACCESS_SHARE, True)]
    engine.abort(c)
    assert engine.locks.held() == []


def test_giving_up_lets_the_next_one_pass(engine):
    a, b, c = (engine.begin() for _ in range(3))
    assert engine.locks.try_acquire(a, 1, LockMode.ACCESS_SHARE)
    wants_all = engine.lock_table(b, 1, LockMode.ACCESS_EXCLUSIVE)
    next(wants_all)
    wants_share = engine.lock_table(c, 1, LockMode.ACCESS_SHARE)
    wait = next(wants_share)
    with pytest.raises(errors.LockNotAvailable):
        wants_all.throw(errors.LockNotAvailable("canceling statement due to lock timeout"))
    assert wait.done


def test_upgrades_of_two_holders_are_a_deadlock(engine):
    a, b = engine.begin(), engine.begin()
    for txn in (a, b):
        assert engine.locks.try_acquire(txn, 1, LockMode.ACCESS_SHARE)
    steps = engine.lock_table(a, 1, LockMode.ACCESS_EXCLUSIVE)
    next(steps)
    with pytest.raises(errors.DeadlockDetected) as caught:
        m.run(engine.lock_table(b, 1, LockMode.ACCESS_EXCLUSIVE))
    assert f"Transaction {b.id} waits for transaction {a.id}." in str(caught.value.detail)
    engine.abort(b)
    m.run(steps)


def test_two_creators_of_one_name(engine):
    a, b = engine.begin(), engine.begin()
    m.run(ddl.create_table(engine, a, m.table_def("t")))
    steps = ddl.create_table(engine, b, m.table_def("t"))
    next(steps)
    assert engine.registry.table("public", "t") is None
    engine.commit(a).result()
    with pytest.raises(errors.DuplicateTable):
        m.run(steps)
    engine.abort(b)
    c = engine.begin()
    m.run(ddl.drop_table(engine, c, engine.registry.table("public", "t").oid))
    engine.abort(c)
    assert engine.registry.table("public", "t") is not None


def test_cycles():
    assert cycle({1: [2], 2: [3]}, 1) == []
    assert cycle({1: [2], 2: [3], 3: [1]}, 1) == [1, 2, 3]
    assert cycle({1: [4, 2], 2: [5, 3], 3: [1], 4: [4]}, 1) == [1, 2, 3]
    assert cycle({1: [2], 2: [3], 3: [2]}, 1) == [], "another's cycle is not this one's"
    assert cycle({1: [1]}, 1) == [1]
