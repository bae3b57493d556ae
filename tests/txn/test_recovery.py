"""Replay: any suffix again gives the same state; damage to a record is named; what is left behind is used again."""

from __future__ import annotations

import dataclasses
import random

import engine_model as m
import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.storage import replay
from filestore.storage.log_record import Record, RecordKind, encode_group
from filestore.txn import recovery
from filestore.txn.engine import Engine


def written(seed, checkpoints):
    """A directory with a log to replay, and the states it went through."""
    disk = SimulatedDisk()
    db = m.Model(disk, seed)
    for i in range(40):
        db.transaction()
        if checkpoints and i % 15 == 7:
            db.engine.checkpoint()
    db.engine.store.close()
    return disk, db


def without_definitions(group):
    """The group without DDL, which would make storage anew whose arenas are gone; test_crash_engine does that."""
    rest = group.kind != RecordKind.DDL
    fields = {name: getattr(group, name)[rest] for name in ("kind", "storage_id", "offset", "length")}
    return dataclasses.replace(group, **fields)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_any_suffix_may_be_replayed_again(seed, checkpoints, monkeypatch):
    disk, db = written(seed, checkpoints)
    rng = random.Random(seed)

    class Twice(recovery.Recovery):
        def finish(self):
            self.replayer.finish()
            start = rng.randrange(len(groups) + 1)
            for group in groups[start:]:
                self.replayer.feed(without_definitions(group))
                if rng.random() < 0.2:
                    self.replayer.finish()
            super().finish()

    store = Engine.open(disk, m.options(3)).store
    store.close()
    groups = []
    real = m.Engine.__init__

    def opened(self, store, options):
        real(self, store, options)
        recover = store.recover_runs

        def remember():
            for run in recover():
                groups.extend(run.groups())
                yield run

        store.recover_runs = remember

    monkeypatch.setattr(recovery, "Recovery", Twice)
    monkeypatch.setattr(m.Engine, "__init__", opened)
    engine = Engine.open(disk, m.options(4))
    last = len(db.states) - 1
    m.verify(engine, db.states, last, last)
    engine.close()


@pytest.mark.parametrize("collected", [1, 7, 8192])
def test_groups_one_by_one_and_in_runs_replay_alike(seed, collected, monkeypatch):
    disk, db = written(seed, checkpoints=True)
    twin = disk.clone()
    engine = Engine.open(disk, m.options(5))

    def one_by_one(self, run):
        for group in run.groups():
            self.feed(group)

    monkeypatch.setattr(replay, "RUN_GROUPS", collected)
    monkeypatch.setattr(replay.Replayer, "feed_run", one_by_one)
    slow = Engine.open(twin, m.options(5))
    last = len(db.states) - 1
    for each in (engine, slow):
        m.verify(each, db.states, last, last)
    assert slow.registry.to_json() == engine.registry.to_json()
    for definition in engine.registry.tables():
        stored = [m.found(e, e.begin(), e.table(definition)) for e in (engine, slow)]
        assert stored[0] == stored[1], "not the same rows at the same places"
    engine.close()
    slow.close()


def test_numbers_go_on_after_a_restart(seed):
    disk, db = written(seed, True)
    before = db.engine.manager
    engine = Engine.open(disk, m.options(5))
    assert engine.manager.last_committed == before.last_committed
    assert engine.manager.durable_timestamp == before.last_committed
    numbers = [n for t in engine.registry.tables() for n in (t.oid, t.storage_id, *(k.oid for k in t.keys))]
    assert engine.registry.new_oid() > max(numbers)
    engine.close()


def test_a_record_that_lies_is_refused():
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("t"))
    images: list[bytes] = []
    table.append(engine.begin().mark, m.vectors([(1, b"a long enough value")]), 1, images=images)
    lie = images[0][:-5]
    engine.log.when_durable(engine.log.append(encode_group(99, 99, [Record(RecordKind.ROWS, table.storage_id, lie)])))
    engine.store.close()
    with pytest.raises(errors.DataCorrupted, match=r"public\.t"):
        Engine.open(disk, m.options(2))


def test_a_failed_log_acknowledges_nothing_more():
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"kept")]))
    engine.commit(txn).result()
    disk.fail("sync", "wal")
    txn = engine.begin()
    m.run(m.insert(txn, table, [(2, b"unknown")]))
    with pytest.raises(errors.StorageFailed):
        engine.commit(txn).result()
    assert engine.failed is not None
    assert m.committed(engine, table) == {1: b"kept"}, "what is not durable is not seen"
    txn = engine.begin()
    m.run(m.insert(txn, table, [(3, b"refused")]))
    with pytest.raises(errors.StorageFailed):
        engine.commit(txn)
    engine.abort(txn)
    engine.close()
    engine = Engine.open(disk, m.options(2))
    rows = m.committed(engine, engine.table(engine.registry.table("public", "t")))
    assert rows in ({1: b"kept"}, {1: b"kept", 2: b"unknown"})
    engine.close()


def test_segments_without_live_versions_give_their_values_up():
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("hot"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"0")]))
    engine.commit(txn).result()
    old = engine.begin("repeatable read")
    seen = m.contents(engine, old, table)
    for i in range(1, 100):
        txn = engine.begin()
        m.run(m.update(engine, txn, table, {1: (1, b"%d" % i)}))
        engine.commit(txn).result()
        if i == 50:
            engine.checkpoint()
            assert m.contents(engine, old, table) == seen == {1: b"0"}, "an old snapshot keeps what it sees"
            assert not table.segments[0].vacant
            engine.abort(old)
    engine.checkpoint()
    assert [s.vacant for s in table.segment_list()] == [True] * 6 + [False]
    snapshot = engine.statement_snapshot(engine.begin())
    assert len(table.units(snapshot)) == 1
    for _ in range(2):
        m.verify_table(engine, table, {1: b"99"})
        assert not engine.check()
        engine.close()
        engine = Engine.open(disk, m.options(2))
        table = engine.table(engine.registry.table("public", "hot"))
    engine.close()
