"""Bulk loads: rows, keys, aborts, restarts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from filestore.hal import SimulatedDisk
from filestore.storage.schema import KeyDef
from filestore.txn import ddl
from filestore.txn.engine import Engine
from filestore.txn.writes import KeyConflict
from tests.txn import engine_model as m


@pytest.fixture
def disk():
    return SimulatedDisk()


@pytest.fixture
def engine(disk):
    engine = Engine.open(disk, m.options(1))
    yield engine
    problems = engine.check()
    engine.close()
    assert not problems, problems


def rows(low, high):
    return [(i, b"value %d" % i) for i in range(low, high)]


def load(engine, table, batches, commit=True):
    txn = engine.begin()
    try:
        count = m.run(engine.bulk_load(txn, table, [m.vectors(b) for b in batches]))
    except BaseException:
        engine.abort(txn)
        raise
    if commit:
        engine.commit(txn).result()
    return txn, count


@pytest.mark.parametrize("sizes", [[100], [1] * 50, [16, 16], [15], [7, 0, 90, 3]])
def test_all_rows_arrive_whatever_the_batches(engine, sizes):
    table = m.create(engine, m.table_def("t", unique=True))
    starts = np.cumsum([0, *sizes]).tolist()
    _, count = load(engine, table, [rows(a, b) for a, b in itertools.pairwise(starts)])
    assert count == sum(sizes)
    assert m.committed(engine, table) == dict(rows(0, sum(sizes)))
    assert table.live_rows == sum(sizes)


def test_others_see_nothing_before_the_commit_and_appends_go_on(engine):
    table = m.create(engine, m.table_def("t"))
    txn = engine.begin()
    m.run(m.insert(txn, table, rows(0, 3)))
    engine.commit(txn).result()
    loading, _ = load(engine, table, [rows(100, 150)], commit=False)
    other = engine.begin()
    m.run(m.insert(other, table, rows(3, 5)))
    assert m.contents(engine, other, table) == dict(rows(0, 5))
    engine.commit(other).result()
    m.run(m.insert(loading, table, rows(200, 203)))
    assert m.contents(engine, loading, table) == dict(rows(0, 5) + rows(100, 150) + rows(200, 203))
    m.run(m.update(engine, loading, table, {120: (120, b"changed")}))
    m.run(m.delete(engine, loading, table, {121}))
    engine.commit(loading).result()
    expected = dict(rows(0, 5) + rows(100, 150) + rows(200, 203))
    expected[120] = b"changed"
    del expected[121]
    assert m.committed(engine, table) == expected


def test_an_aborted_load_leaves_nothing(engine, disk):
    table = m.create(engine, m.table_def("t"))
    txn, _ = load(engine, table, [rows(0, 50)], commit=False)
    m.run(m.update(engine, txn, table, {3: (1003, b"moved")}))
    directory = f"tables/{table.storage_id}"
    assert disk.list(directory)
    engine.abort(txn)
    assert m.committed(engine, table) == {}
    assert table.stored_keys[0].index.entry_count == 0
    engine.checkpoint()
    engine.checkpoint()
    assert disk.list(directory) == []
    load(engine, table, [rows(0, 20)])
    assert len(m.committed(engine, table)) == 20


@pytest.mark.parametrize(
    ("batches", "key", "row"),
    [
        ([rows(0, 40), [(3, b"x")]], "t_pkey", 40),
        ([rows(0, 40), [(77, b"value 5")]], "t_value_key", 40),
        ([rows(1000, 1030) + [(5, b"there")]], "t_pkey", 30),
    ],
)
def test_conflicts_name_the_row_of_the_load(engine, batches, key, row):
    table = m.create(engine, m.table_def("t", unique=True))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(5, b"five")] if key == "t_pkey" and row == 30 else []))
    engine.commit(txn).result()
    before = m.committed(engine, table)
    with pytest.raises(KeyConflict) as caught:
        load(engine, table, batches)
    assert (caught.value.key.name, caught.value.row) == (key, row)
    assert m.committed(engine, table) == before


def test_a_failing_source_gives_everything_back(engine, disk):
    table = m.create(engine, m.table_def("t"))

    def source():
        yield m.vectors(rows(0, 40))
        raise ValueError("line 41 is bad")

    txn = engine.begin()
    with pytest.raises(ValueError, match="line 41"):
        m.run(engine.bulk_load(txn, table, source()))
    engine.abort(txn)
    engine.checkpoint()
    engine.checkpoint()
    assert disk.list(f"tables/{table.storage_id}") == []


@pytest.mark.parametrize("checkpoint", ["none", "open", "after"])
def test_a_load_survives_a_restart(disk, checkpoint):
    engine = Engine.open(disk, m.options(1))
    table = m.create(engine, m.table_def("t", unique=True))
    txn, _ = load(engine, table, [rows(0, 60)], commit=False)
    if checkpoint == "open":
        engine.checkpoint()
    engine.commit(txn).result()
    if checkpoint == "after":
        engine.checkpoint()
    engine.store.close()
    engine = Engine.open(disk, m.options(2))
    table = engine.table(m.defined(engine, "t"))
    assert m.committed(engine, table) == dict(rows(0, 60))
    assert not engine.check()
    with pytest.raises(KeyConflict):
        load(engine, table, [rows(59, 99)])
    engine.close()


def test_a_key_added_to_loaded_rows(engine):
    table = m.create(engine, m.table_def("t"))
    load(engine, table, [rows(0, 60)])
    txn = engine.begin()
    definition = m.run(ddl.add_key(engine, txn, table.definition.oid, KeyDef(0, "u", (1,), False)))
    engine.abort(txn)
    assert len(table.stored_keys) == 1
    txn = engine.begin()
    definition = m.run(ddl.add_key(engine, txn, table.definition.oid, KeyDef(0, "u", (1,), False)))
    engine.commit(txn).result()
    assert engine.index(definition, definition.keys[1]).index.entry_count == 60
    with pytest.raises(KeyConflict):
        m.run(m.insert(engine.begin(), table, [(1000, b"value 7")]))


def test_a_key_over_duplicates_is_refused(engine):
    table = m.create(engine, m.table_def("t"))
    load(engine, table, [[(i, b"same") for i in range(30)]])
    txn = engine.begin()
    with pytest.raises(KeyConflict):
        m.run(ddl.add_key(engine, txn, table.definition.oid, KeyDef(0, "u", (1,), False)))
    engine.abort(txn)
    assert len(table.stored_keys) == 1
