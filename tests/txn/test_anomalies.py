"""One script per anomaly and level (Hermitage's names), with the outcome that PostgreSQL 15 has.

Permitted anomalies are asserted as such.
"""

from __future__ import annotations

import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.txn.engine import Engine
from filestore.txn.transaction import Isolation
from tests.txn import engine_model as m

LEVELS = (Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ)


@pytest.fixture
def db():
    engine = Engine.open(SimulatedDisk(), m.options(1))
    table = m.create(engine, m.table_def("test"))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(1, b"10"), (2, b"20")]))
    engine.commit(txn).result()
    yield engine, table
    assert not engine.check()
    engine.close()


def set_value(db, txn, number, value):
    return m.update(db[0], txn, db[1], {number: (number, value)})


def read(db, txn):
    return m.contents(db[0], txn, db[1])


@pytest.mark.parametrize("level", LEVELS)
def test_g0_dirty_write(db, level):
    engine, table = db
    a, b = engine.begin(level), engine.begin(level)
    read(db, a), read(db, b)
    m.run(set_value(db, a, 1, b"11"))
    steps = set_value(db, b, 1, b"12")
    next(steps)
    m.run(set_value(db, a, 2, b"21"))
    engine.commit(a).result()
    if level == Isolation.REPEATABLE_READ:
        with pytest.raises(errors.SerializationFailure):
            m.run(steps)
        engine.abort(b)
        assert m.committed(engine, table) == {1: b"11", 2: b"21"}
        return
    m.run(steps)
    m.run(set_value(db, b, 2, b"22"))
    engine.commit(b).result()
    assert m.committed(engine, table) == {1: b"12", 2: b"22"}


@pytest.mark.parametrize("level", LEVELS)
def test_g1a_aborted_read(db, level):
    engine, _ = db
    a, b = engine.begin(level), engine.begin(level)
    m.run(set_value(db, a, 1, b"101"))
    assert read(db, b)[1] == b"10"
    engine.abort(a)
    assert read(db, b)[1] == b"10"
    engine.abort(b)


@pytest.mark.parametrize("level", LEVELS)
def test_g1b_intermediate_read(db, level):
    engine, _ = db
    a, b = engine.begin(level), engine.begin(level)
    m.run(set_value(db, a, 1, b"101"))
    assert read(db, b)[1] == b"10"
    m.run(set_value(db, a, 1, b"11"))
    engine.commit(a).result()
    assert read(db, b)[1] == (b"11" if level == Isolation.READ_COMMITTED else b"10")
    engine.abort(b)


@pytest.mark.parametrize("level", LEVELS)
def test_g1c_circular_information_flow(db, level):
    engine, _ = db
    a, b = engine.begin(level), engine.begin(level)
    m.run(set_value(db, a, 1, b"11"))
    m.run(set_value(db, b, 2, b"22"))
    assert read(db, a) == {1: b"11", 2: b"20"}
    assert read(db, b) == {1: b"10", 2: b"22"}
    engine.commit(a).result()
    engine.commit(b).result()


@pytest.mark.parametrize("level", LEVELS)
def test_pmp_predicate_many_preceders(db, level):
    engine, table = db
    a, b = engine.begin(level), engine.begin(level)
    assert 3 not in read(db, a)
    m.run(m.insert(b, table, [(3, b"30")]))
    engine.commit(b).result()
    assert (3 in read(db, a)) == (level == Isolation.READ_COMMITTED), "a phantom is permitted at READ COMMITTED only"
    engine.abort(a)


@pytest.mark.parametrize("level", LEVELS)
def test_p4_lost_update(db, level):
    engine, table = db
    a, b = engine.begin(level), engine.begin(level)
    read(db, a), read(db, b)
    m.run(set_value(db, a, 1, b"11"))
    steps = set_value(db, b, 1, b"11 too")
    next(steps)
    engine.commit(a).result()
    if level == Isolation.REPEATABLE_READ:
        with pytest.raises(errors.SerializationFailure):
            m.run(steps)
        engine.abort(b)
    else:
        # Permitted: the second writer's value was computed before the first one's commit.
        m.run(steps)
        engine.commit(b).result()
        assert m.committed(engine, table)[1] == b"11 too"


@pytest.mark.parametrize("level", LEVELS)
def test_g_single_read_skew(db, level):
    engine, _ = db
    a, b = engine.begin(level), engine.begin(level)
    assert read(db, a)[1] == b"10"
    m.run(set_value(db, b, 1, b"12"))
    m.run(set_value(db, b, 2, b"18"))
    engine.commit(b).result()
    assert read(db, a)[2] == (b"18" if level == Isolation.READ_COMMITTED else b"20")
    engine.abort(a)


@pytest.mark.parametrize("level", LEVELS)
def test_g2_item_write_skew(db, level):
    engine, table = db
    a, b = engine.begin(level), engine.begin(level)
    assert read(db, a) == read(db, b)
    m.run(set_value(db, a, 1, b"11"))
    m.run(set_value(db, b, 2, b"21"))
    engine.commit(a).result()
    engine.commit(b).result()
    # Permitted below SERIALIZABLE.
    assert m.committed(engine, table) == {1: b"11", 2: b"21"}


@pytest.mark.parametrize("level", LEVELS)
def test_otv_observed_transaction_vanishes(db, level):
    engine, _ = db
    a, b, c = (engine.begin(level) for _ in range(3))
    for txn in (a, b, c):
        read(db, txn)
    m.run(set_value(db, a, 1, b"11"))
    m.run(set_value(db, a, 2, b"19"))
    steps = set_value(db, b, 1, b"12")
    next(steps)
    engine.commit(a).result()
    seen = read(db, c)
    assert seen == ({1: b"11", 2: b"19"} if level == Isolation.READ_COMMITTED else {1: b"10", 2: b"20"})
    if level == Isolation.REPEATABLE_READ:
        with pytest.raises(errors.SerializationFailure):
            m.run(steps)
        engine.abort(b)
        assert read(db, c) == seen
    else:
        m.run(steps)
        m.run(set_value(db, b, 2, b"18"))
        assert read(db, c) == seen
        engine.commit(b).result()
        assert read(db, c) == {1: b"12", 2: b"18"}
    engine.abort(c)
