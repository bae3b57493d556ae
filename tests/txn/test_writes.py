"""Transactions against one another, interleaved by hand: who waits, who wins, who must run again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.txn import ddl
from filestore.txn.engine import Engine
from filestore.txn.transaction import Isolation
from filestore.txn.writes import KeyConflict
from tests.txn import engine_model as m


class Session:
    """A statement that may stop and be resumed."""

    def __init__(self, engine, **begin):
        self.engine = engine
        self.txn = engine.begin(**begin)
        self.steps: Any = None
        self.wait: Any = None
        self.value: Any = None

    def start(self, steps):
        """Runs until the end (True) or the first wait (False)."""
        self.steps = steps
        return self.resume()

    def resume(self):
        try:
            self.wait = next(self.steps)
        except StopIteration as stop:
            self.value, self.wait = stop.value, None
            return True
        return False

    def commit(self):
        self.engine.commit(self.txn).result()

    def abort(self):
        self.engine.abort(self.txn)


@pytest.fixture
def engine():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    yield engine
    problems = engine.check()
    engine.close()
    assert not problems, problems


@pytest.fixture
def table(engine):
    table = m.create(engine, m.table_def("t", unique=True))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"one"), (2, b"two"), (3, None)]))
    engine.commit(txn).result()
    return table


def change(session, table, number, value):
    return session.start(m.update(session.engine, session.txn, table, {number: (number, value)}))


def test_a_second_writer_waits_and_follows_the_row(engine, table):
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"a")
    assert not change(b, table, 1, b"b")
    assert engine.locks.edges() == {b.txn.id: frozenset({a.txn.id})}
    assert not b.wait.done
    a.commit()
    assert b.wait.done
    assert b.resume()
    assert b.value == 1
    b.commit()
    assert m.committed(engine, table)[1] == b"b"
    assert engine.locks.edges() == {}


def test_an_abort_wakes_the_waiter_on_the_old_row(engine, table):
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"a")
    assert not change(b, table, 1, b"b")
    a.abort()
    assert b.resume()
    b.commit()
    assert m.committed(engine, table)[1] == b"b"


def test_a_waiter_does_nothing_to_a_row_that_was_deleted(engine, table):
    a, b = Session(engine), Session(engine)
    assert a.start(m.delete(engine, a.txn, table, {1}))
    assert not change(b, table, 1, b"b")
    a.commit()
    assert b.resume()
    assert b.value == 0
    b.commit()
    assert 1 not in m.committed(engine, table)


def test_three_writers_in_a_row(engine, table):
    a, b, c = (Session(engine) for _ in range(3))
    assert change(a, table, 1, b"a")
    assert not change(b, table, 1, b"b")
    assert not change(c, table, 1, b"c")
    a.commit()
    assert b.resume()
    # c found the row under a's mark; now it is b's.
    assert not c.resume()
    b.commit()
    assert c.resume()
    c.commit()
    assert m.committed(engine, table)[1] == b"c"


def test_a_newest_version_that_is_uncommitted_is_never_looked_at(engine, table):
    old = Session(engine)
    engine.statement_snapshot(old.txn)
    snapshot_addresses = np.array([a for a, i, _ in m.found(engine, old.txn, table) if i == 1])
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"a")
    a.commit()
    assert change(b, table, 1, b"b")
    assert old.start(m.claim_rows(old.txn, table, snapshot_addresses))
    assert old.value.moved.tolist() == [True]
    newest = table.gather(old.value.newest, [1])[0].strings()
    assert newest == [b"a"], "the committed one, not b's"
    assert not old.start(m.claim_rows(old.txn, table, old.value.newest))
    b.abort()
    assert old.resume()
    assert old.value.claimed.all()
    old.abort()


@pytest.mark.parametrize("end", ["update", "delete"])
def test_repeatable_read_loses_to_the_first_updater(engine, table, end):
    a, b = Session(engine), Session(engine, isolation=Isolation.REPEATABLE_READ)
    m.contents(engine, b.txn, table)
    if end == "update":
        assert change(a, table, 1, b"a")
    else:
        assert a.start(m.delete(engine, a.txn, table, {1}))
    assert not change(b, table, 1, b"b")
    a.commit()
    with pytest.raises(errors.SerializationFailure, match=f"concurrent {end}"):
        b.resume()
    b.abort()


def test_repeatable_read_goes_on_when_the_other_aborts(engine, table):
    a, b = Session(engine), Session(engine, isolation=Isolation.REPEATABLE_READ)
    m.contents(engine, b.txn, table)
    assert change(a, table, 1, b"a")
    assert not change(b, table, 1, b"b")
    a.abort()
    assert b.resume()
    b.commit()
    assert m.committed(engine, table)[1] == b"b"


def test_repeatable_read_sees_its_own_changes_and_nothing_newer(engine, table):
    a, b = Session(engine), Session(engine, isolation=Isolation.REPEATABLE_READ)
    before = m.contents(engine, b.txn, table)
    assert change(a, table, 1, b"a")
    a.commit()
    m.run(m.insert(b.txn, table, [(9, b"mine")]))
    assert m.contents(engine, b.txn, table) == {**before, 9: b"mine"}
    b.abort()


def test_deadlock_ends_the_one_that_closes_the_cycle(engine, table):
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"a")
    assert change(b, table, 2, b"b")
    assert not change(a, table, 2, b"a2")
    with pytest.raises(errors.DeadlockDetected):
        change(b, table, 1, b"b2")
    b.abort()
    assert a.resume()
    a.commit()
    assert m.committed(engine, table)[2] == b"a2"


def test_a_statement_that_gives_up_waiting_leaves_no_edge(engine, table):
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"a")
    assert not change(b, table, 1, b"b")
    with pytest.raises(errors.LockNotAvailable):
        b.steps.throw(errors.LockNotAvailable("canceling statement due to lock timeout"))
    assert engine.locks.edges() == {}
    b.abort()
    a.commit()


# --- unique keys


def test_a_taken_key_is_a_conflict_that_names_key_and_row(engine, table):
    a = Session(engine)
    with pytest.raises(KeyConflict) as caught:
        m.run(m.insert(a.txn, table, [(7, b"seven"), (8, b"two")]))
    assert (caught.value.key.name, caught.value.row) == ("t_value_key", 1)
    a.abort()


def test_keys_repeat_within_a_statement(engine, table):
    a = Session(engine)
    with pytest.raises(KeyConflict) as caught:
        m.run(m.insert(a.txn, table, [(7, b"x"), (8, b"y"), (7, b"z")]))
    assert (caught.value.key.name, caught.value.row) == ("t_pkey", 2)
    a.abort()


def test_nulls_never_conflict(engine, table):
    a = Session(engine)
    m.run(m.insert(a.txn, table, [(7, None), (8, None)]))
    a.commit()
    assert len(m.committed(engine, table)) == 5


@pytest.mark.parametrize("commits", [True, False])
def test_an_insert_waits_for_the_inserter_of_its_key(engine, table, commits):
    a, b = Session(engine), Session(engine)
    assert a.start(m.insert(a.txn, table, [(7, b"a")]))
    assert not b.start(m.insert(b.txn, table, [(7, b"b")]))
    if commits:
        a.commit()
        with pytest.raises(KeyConflict):
            b.resume()
        b.abort()
    else:
        a.abort()
        assert b.resume()
        b.commit()
    assert m.committed(engine, table)[7] == (b"a" if commits else b"b")


@pytest.mark.parametrize("commits", [True, False])
def test_an_insert_waits_for_the_deleter_of_its_key(engine, table, commits):
    a, b = Session(engine), Session(engine)
    assert a.start(m.delete(engine, a.txn, table, {1}))
    assert not b.start(m.insert(b.txn, table, [(1, b"b")]))
    if commits:
        a.commit()
        assert b.resume()
        assert m.contents(engine, b.txn, table)[1] == b"b"
        b.commit()
    else:
        a.abort()
        with pytest.raises(KeyConflict):
            b.resume()
        b.abort()


@pytest.mark.parametrize("commits", [True, False])
def test_an_insert_waits_for_who_changes_a_key_away(engine, table, commits):
    a, b = Session(engine), Session(engine)
    assert change(a, table, 1, b"other")
    assert not b.start(m.insert(b.txn, table, [(7, b"one")]))
    if commits:
        a.commit()
        assert b.resume()
        b.commit()
    else:
        a.abort()
        with pytest.raises(KeyConflict):
            b.resume()
        b.abort()


def test_a_deleted_key_is_free_within_its_transaction_and_behind_it(engine, table):
    a = Session(engine)
    m.run(m.delete(engine, a.txn, table, {1}))
    m.run(m.insert(a.txn, table, [(1, b"again")]))
    a.commit()
    assert m.committed(engine, table)[1] == b"again"


def test_swapped_keys_in_one_update(engine, table):
    a = Session(engine)
    m.run(m.update(engine, a.txn, table, {1: (2, b"two"), 2: (1, b"one")}))
    a.commit()
    assert m.committed(engine, table) == {1: b"one", 2: b"two", 3: None}


def test_every_key_moves_up_by_one(engine, table):
    a = Session(engine)
    rows = m.contents(engine, a.txn, table)
    m.run(m.update(engine, a.txn, table, {i: (i + 1, v) for i, v in rows.items()}))
    a.commit()
    assert m.committed(engine, table) == {i + 1: v for i, v in rows.items()}


def test_an_update_onto_a_taken_key_is_a_conflict(engine, table):
    a = Session(engine)
    with pytest.raises(KeyConflict) as caught:
        m.run(m.update(engine, a.txn, table, {1: (2, b"fresh")}))
    assert caught.value.key.name == "t_pkey"
    a.abort()
    assert m.committed(engine, table) == {1: b"one", 2: b"two", 3: None}


# --- statements and sessions


def test_a_statement_does_not_see_its_own_rows(engine, table):
    a = Session(engine)
    snapshot = engine.statement_snapshot(a.txn)
    m.run(m.insert(a.txn, table, [(10 + i, None) for i in range(40)]))
    seen = sum(int(np.count_nonzero(u.visible(snapshot, 0, u.rows))) for u in table.units(snapshot))
    assert seen == 3
    assert len(m.contents(engine, a.txn, table)) == 43
    a.abort()
    assert len(m.committed(engine, table)) == 3


def test_a_read_only_transaction_writes_nothing(engine, table):
    a = Session(engine, read_only=True)
    with pytest.raises(errors.ReadOnlyTransaction):
        m.run(m.insert(a.txn, table, [(7, None)]))
    with pytest.raises(errors.ReadOnlyTransaction):
        m.run(ddl.create_schema(engine, a.txn, "s"))
    a.abort()


def test_a_commit_without_waiting_is_seen_by_its_own_session():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    table = m.create(engine, m.table_def("t"))
    engine.log._threaded = True  # nobody flushes: commits stay in memory until asked
    txn = engine.begin()
    txn.synchronous = False
    m.run(m.insert(txn, table, [(1, None)]))
    assert engine.commit(txn).done
    assert m.committed(engine, table) == {}, "others see what is durable"
    mine = engine.begin(minimum_timestamp=txn.timestamp)
    assert m.contents(engine, mine, table) == {1: None}
    engine.abort(mine)
    engine.log.flush()
    assert m.committed(engine, table) == {1: None}
    engine.close()


def test_a_writer_that_found_nothing_answers_behind_what_it_saw():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"old")]))
    engine.commit(txn).result()
    engine.log._threaded = True  # nobody flushes: commits stay in memory until asked
    gone = engine.begin()
    assert m.run(m.delete(engine, gone, table, {1})) == 1
    engine.commit(gone)
    txn = engine.begin()
    txn.writes_of(table)  # a statement that is about to write
    assert m.run(m.update(engine, txn, table, {1: (1, b"new")})) == 0
    answer = engine.commit(txn)
    assert not answer.done, "that the row is gone may still be lost"
    engine.log.flush()
    assert answer.result() is not None
    engine.close()


def test_a_writer_that_met_newer_rows_sees_them_afterwards():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"old")]))
    engine.commit(txn).result()
    engine.log._threaded = True
    first, second = engine.begin(), engine.begin()
    m.run(m.update(engine, first, table, {1: (1, b"first")}))
    engine.commit(first)  # not durable yet
    assert m.run(m.update(engine, second, table, {1: (1, b"second")})) == 1
    assert m.contents(engine, second, table) == {1: b"second"}, "one version, not two"
    engine.commit(second)
    engine.log.flush()
    assert m.committed(engine, table) == {1: b"second"}
    assert not engine.check()
    engine.close()
