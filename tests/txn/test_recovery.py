"""Replay: any suffix again gives the same state; damage to a record is named; what is left behind is used again."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.storage import replay
from filestore.storage.directory import MARK_BASE
from filestore.storage.log_record import Record, RecordKind, encode_group
from filestore.storage.segment_file import sealed_name
from filestore.txn import recovery
from filestore.txn.engine import Engine
from filestore.txn.transaction import Isolation
from tests.txn import engine_model as m


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


def refusal(*records, timestamp=99):
    """What an opening says of a log that ends with a group of these records, about table `t` of two rows."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"a long enough value"), (2, None)]))
    engine.commit(txn).result()
    made = [(kind, payload(table) if callable(payload) else payload) for kind, payload in records]
    group = [Record(kind, table.storage_id, payload) for kind, payload in made]
    engine.log.when_durable(engine.log.append(encode_group(timestamp, 99, group)))
    engine.store.close()
    with pytest.raises(errors.Error) as refused:
        Engine.open(disk, m.options(2))
    return refused.value


def image(change=None, linked=False):
    """A maker of a row image for `refusal`, with one of its int64 changed."""

    def make(table):
        images: list[bytes] = []
        previous = np.array([0], np.int64) if linked else None
        records = np.zeros(1, np.int64) if linked else None
        table.append(MARK_BASE + 5, m.vectors([(3, b"a long enough value")]), 1, records, previous, images)
        if change is None:
            return images[0][:-5]
        words = bytearray(images[0])
        place, value = change
        words[8 * place : 8 * place + 8] = value.to_bytes(8, "little", signed=True)
        return bytes(words)

    return make


FAR = 1 << 60


@pytest.mark.parametrize(
    "make",
    [
        image(),
        *(image((0, value)) for value in (-1, -(1 << 20), FAR, 1 << 19)),  # its address
        *(image((1, value)) for value in (-1, 2, FAR, FAR + 1)),  # its count
        *(image((2, value)) for value in (2, -2)),  # its flags
        *(image((place, value), linked=True) for place in (3, 4) for value in (0, -1, FAR, 1 << 19)),
    ],
)
def test_a_row_image_that_lies_is_refused(make):
    error = refusal((RecordKind.ROWS, make))
    assert isinstance(error, errors.DataCorrupted)
    assert "public.t" in error.message


@pytest.mark.parametrize("address", [-1, -(1 << 62), FAR, 1 << 19])
def test_ends_of_places_that_cannot_be_are_refused(address):
    error = refusal((RecordKind.ENDS, address.to_bytes(8, "little", signed=True)))
    assert isinstance(error, errors.DataCorrupted)
    assert "public.t" in error.message


def test_ends_are_whole_addresses():
    assert isinstance(refusal((RecordKind.ENDS, bytes(12))), errors.DataCorrupted)


@pytest.mark.parametrize("kind", [RecordKind.DDL, RecordKind.ATTACH])
@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"17", b'[{"op": 3}]', b'{"segments": [0]}', b"[[]]", b"[" * 100_000]
)
def test_definitions_and_attachments_that_make_no_sense_are_refused(kind, payload):
    error = refusal((kind, payload))
    assert isinstance(error, errors.DataCorrupted)
    assert "LSN" in error.message


def test_attached_segments_have_numbers_and_files():
    for payload in (
        b'{"segments": [0, 1], "files": ["tables/1/00000000.seg"]}',
        b'{"segments": [-1], "files": ["tables/1/00000000.seg"]}',
        b'{"segments": [1152921504606846976], "files": ["tables/1/00000000.seg"]}',
        b'{"segments": ["0"], "files": ["tables/1/00000000.seg"]}',
    ):
        assert isinstance(refusal((RecordKind.ATTACH, payload)), errors.DataCorrupted), payload


@pytest.mark.parametrize("kind", [0, 5, 77, 2**32 - 1])
def test_records_of_an_unknown_kind_are_refused(kind):
    """A newer version may have meant something by them: to leave them out would be to lose a commit's part."""
    error = refusal((RecordKind.ROWS, b"not looked at"), (kind, b""))
    assert isinstance(error, errors.IncompatibleFormat)
    assert f"kind {kind}" in error.message
    assert "LSN" in error.message


def test_an_unknown_operation_is_refused():
    error = refusal((RecordKind.DDL, b'[{"op": "rename", "oid": 20000}]'))
    assert isinstance(error, errors.IncompatibleFormat)
    assert "rename" in error.message


def test_a_failed_log_acknowledges_nothing_more():
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"kept")]))
    engine.commit(txn).result()
    disk.fail("sync", "wal")
    before = engine.begin()
    m.run(m.insert(before, table, [(3, b"refused")]))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(2, b"unknown")]))
    with pytest.raises(errors.StorageFailed):
        engine.commit(txn).result()
    assert engine.failed is not None
    assert m.committed(engine, table) == {1: b"kept"}, "what is not durable is not seen"
    with pytest.raises(errors.StorageFailed):
        engine.statement_snapshot(before)
    with pytest.raises(errors.StorageFailed):
        engine.commit(before)
    engine.abort(before)
    txn = engine.begin()
    with pytest.raises(errors.StorageFailed):
        m.run(m.insert(txn, table, [(4, b"refused")]))
    engine.abort(txn)
    engine.close()
    engine = Engine.open(disk, m.options(2))
    rows = m.committed(engine, engine.table(m.defined(engine, "t")))
    assert rows in ({1: b"kept"}, {1: b"kept", 2: b"unknown"})
    engine.close()


def test_segments_without_live_versions_give_their_values_up():
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("hot"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"0")]))
    engine.commit(txn).result()
    old = engine.begin(Isolation.REPEATABLE_READ)
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
        table = engine.table(m.defined(engine, "hot"))
    engine.close()


@pytest.mark.parametrize("attached", ["by the log", "by a checkpoint"])
@pytest.mark.parametrize("other", ["of another table", "of the same table"])
def test_a_sealed_file_in_anothers_place_is_named(attached, other):
    """Each is a sound file of this store, and has been written in full: only its place is wrong."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options(1))
    expected = {}
    for name, first in (("a", 0), ("b", 500)):
        table = m.create(engine, m.table_def(name))
        txn = engine.begin()
        rows = [(i, b"%d" % i) for i in range(first, first + 32)]
        m.run(engine.bulk_load(txn, table, [m.vectors(rows)]))
        engine.commit(txn).result()
        expected[name] = dict(rows)
    if attached == "by a checkpoint":
        engine.checkpoint()
    a, b = (m.defined(engine, name).storage_id for name in "ab")
    engine.store.close()
    place = sealed_name(a, 0)
    files = disk.files()
    wrong = files[sealed_name(b, 0) if other == "of another table" else sealed_name(a, 1)]
    assert len(wrong) == len(files[place])
    disk.corrupt(place, 0, wrong)
    engine = Engine.open(disk, m.options(2))
    assert m.committed(engine, engine.table(m.defined(engine, "b"))) == expected["b"]
    with pytest.raises(errors.DataCorrupted, match=place):
        engine.table(m.defined(engine, "a"))
    assert any(place in finding.problem for finding in engine.check())
    engine.close()
    disk.corrupt(place, 0, files[place])
    engine = Engine.open(disk, m.options(3))
    assert m.committed(engine, engine.table(m.defined(engine, "a"))) == expected["a"]
    assert engine.check() == []
    engine.close()
