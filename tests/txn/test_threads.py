"""Writers, readers and checkpoints at once, on threads and a real disk: money is moved, never made.

Writers move amounts between rows and give up what loses; readers scan without the engine lock; checkpoints
seal segments under them. Every snapshot must show the same total, and so must the directory when it is opened
again.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from filestore import errors
from filestore.hal import open_filesystem
from filestore.storage.store import StoreOptions
from filestore.storage.vector import Vector
from filestore.txn.drive import drive
from filestore.txn.engine import Engine, EngineOptions
from filestore.txn.transaction import Isolation
from filestore.txn.writes import claim_rows, update_rows
from tests.txn import engine_model as m

ACCOUNTS = 40
TOTAL = ACCOUNTS * 100


def amounts(engine, table, txn):
    """Sum over a snapshot, scanned without the lock, each unit in pieces."""
    with engine.lock:
        snapshot = engine.statement_snapshot(txn)
        units = table.units(snapshot)
    total = seen = 0
    for unit in units:
        for low in range(0, unit.rows, 100):
            high = min(unit.rows, low + 100)
            values = unit.batch([1], low, high).columns[0].plain()
            visible = unit.visible(snapshot, low, high)
            keep = np.arange(high - low) if visible is None else np.flatnonzero(visible)
            total += sum(int(v or 0) for v in values.take(keep).strings())
            seen += len(keep)
            addresses = unit.addresses(low, high)[keep]
            fetched = table.gather(addresses, [1])[0].strings()
            assert fetched == values.take(keep).strings()
    assert seen == ACCOUNTS
    return total


def transfer(engine, table, rng, level):
    """Moves an amount between two rows; a generator to be driven. Whether it happened."""
    txn = engine.begin(level)
    try:
        rows = {i: (a, int(v or 0)) for a, i, v in m.found(engine, txn, table)}
        source, target = rng.sample(sorted(rows), 2)
        amount = rng.randrange(10)
        for number, change in sorted(((source, -amount), (target, amount))):
            result = yield from claim_rows(txn, table, np.array([rows[number][0]]))
            address = np.array([rows[number][0]])
            while result.moved.any():
                address = result.newest
                result = yield from claim_rows(txn, table, address)
            assert result.claimed.all()
            id_column, value = table.gather(address, [0, 1])
            new = m.vectors([(number, b"%d" % (int(value.strings()[0]) + change))])
            yield from update_rows(txn, table, address, [Vector(id_column.type, id_column.data), new[1]], [1])
        if rng.random() < 0.1:
            engine.abort(txn)
            return None
        return engine.commit(txn)
    except (errors.SerializationFailure, errors.DeadlockDetected):
        engine.abort(txn)
        return None


@pytest.mark.parametrize("seconds", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_money_is_moved_never_made(data_dir, seed, seconds):
    options = EngineOptions(
        slots=256, checkpoint_log_bytes=1 << 17, store=StoreOptions(log_file_bytes=1 << 20), index_bytes=1 << 24
    )
    engine = Engine.open(open_filesystem(str(data_dir)), options)
    with engine.lock:
        table = m.create(engine, m.table_def("accounts"))
        txn = engine.begin()
        m.run(m.insert(txn, table, [(i, b"100") for i in range(ACCOUNTS)]))
        wait = engine.commit(txn)
    assert wait.result(10)
    until = time.monotonic() + seconds
    done = [0, 0]

    def writer(number):
        rng = random.Random(seed + number)
        while time.monotonic() < until:
            level = rng.choice((Isolation.READ_COMMITTED, Isolation.REPEATABLE_READ))
            durable = drive(transfer(engine, table, rng, level), engine.lock, lambda: None)
            if durable is not None:
                assert durable.result(10)
                done[0] += 1

    def reader():
        while time.monotonic() < until:
            with engine.lock:
                txn = engine.begin(Isolation.REPEATABLE_READ)
            assert amounts(engine, table, txn) == TOTAL
            assert amounts(engine, table, txn) == TOTAL
            with engine.lock:
                engine.abort(txn)
            done[1] += 1

    with ThreadPoolExecutor(6) as threads:
        running = [threads.submit(writer, i) for i in range(4)] + [threads.submit(reader) for _ in range(2)]
        for future in running:
            future.result()
    assert done[0] > 0
    assert done[1] > 0
    assert engine.checkpointer.taken > 0
    assert not engine.check()
    engine.checkpoint()
    # A full segment is sealed, or gives up its columns when all its versions are superseded: which, timing decides.
    assert any(s.sealed is not None or s.vacant for s in table.segment_list())
    engine.close()
    engine = Engine.open(open_filesystem(str(data_dir)), options)
    table = engine.table(m.defined(engine, "accounts"))
    assert amounts(engine, table, engine.begin()) == TOTAL
    assert not engine.check()
    engine.close()
