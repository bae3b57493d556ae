"""Random transactions with checkpoints and reopening against dicts."""

from __future__ import annotations

import pytest

from filestore.hal import SimulatedDisk, open_filesystem
from tests.txn import engine_model as model


def test_random_transactions_equal_dicts(seed):
    disk = SimulatedDisk()
    db = model.Model(disk, seed)
    for round_number in range(4):
        for _ in range(25):
            if db.rng.random() < 0.3:
                db.open_transaction()
            db.transaction()
            if db.rng.random() < 0.2:
                db.engine.checkpoint()
            if db.rng.random() < 0.3:
                db.end_open()
        db.end_open()
        db.verify()
        states, tables, next_id = db.states, db.tables, db.next_id
        if round_number % 2:
            db.engine.close()
        else:
            db.engine.store.close()
        db = model.Model(disk, seed + round_number + 1)
        db.states, db.tables, db.next_id = states, tables, next_id
        db.verify()
    db.close()


@pytest.mark.parametrize("slots", [16, 65536])
def test_on_a_real_disk(data_dir, seed, slots):
    filesystem = open_filesystem(str(data_dir))
    db = model.Model(filesystem, seed)
    for _ in range(20):
        db.transaction()
    db.engine.checkpoint()
    db.verify()
    db.close()
