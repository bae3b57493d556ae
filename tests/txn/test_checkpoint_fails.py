"""A checkpoint that meets a bug ends the store and says so; a dead thread would let the log grow and tell nobody.

Goal: whatever goes wrong in the checkpoint's thread, the next commit is refused, the reason is logged, and the
directory recovers everything that was acknowledged. Method: the image, once the pages are no longer dirty, is made to
raise what nobody expects.
"""

from __future__ import annotations

import logging
import time

import pytest

from filestore import errors
from filestore.hal import SimulatedDisk, open_filesystem
from filestore.storage.store import StoreOptions
from filestore.txn import checkpoint
from filestore.txn.engine import Engine, EngineOptions
from tests.txn import engine_model as m


def insert(engine, table, number):
    """One row in a transaction of its own, durable on return."""
    with engine.lock:
        txn = engine.begin()
        m.run(m.insert(txn, table, [(number, b"x")]))
        wait = engine.commit(txn)
    assert wait.result()


@pytest.fixture
def broken(monkeypatch):
    """Images are taken and then lost."""
    take_image = checkpoint.take_image

    def lost(engine):
        take_image(engine)
        raise RuntimeError("a bug")

    monkeypatch.setattr(checkpoint, "take_image", lost)
    return monkeypatch


def test_the_thread_ends_the_store(data_dir, caplog, broken):
    options = EngineOptions(store=StoreOptions(log_file_bytes=1 << 20), checkpoint_log_bytes=1)
    engine = Engine.open(open_filesystem(data_dir), options)
    with caplog.at_level(logging.ERROR, "filestore"):
        with engine.lock:
            table = m.create(engine, m.table_def("t"))  # its commit makes a checkpoint due
        deadline = time.monotonic() + 20
        while engine.failed is None and time.monotonic() < deadline:
            time.sleep(0.01)
    assert engine.failed is not None
    assert "a bug" in engine.failed.message
    assert any("a bug" in str(r.exc_info) for r in caplog.records)
    with pytest.raises(errors.StorageFailed):
        insert(engine, table, 1)
    engine.close()
    broken.undo()
    again = Engine.open(open_filesystem(data_dir), options)
    table = again.table(next(again.registry.tables()))
    insert(again, table, 1)
    assert again.check() == []
    again.close()


def test_a_checkpoint_that_was_asked_for_ends_the_store(broken):
    """The image's pages are clean now, so that another checkpoint would leave them out."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, m.options())
    table = m.create(engine, m.table_def("t"))
    insert(engine, table, 1)
    with pytest.raises(errors.StorageFailed):
        engine.checkpoint()
    broken.undo()
    with pytest.raises(errors.StorageFailed):
        engine.checkpoint()
    engine.close()
    again = Engine.open(disk, m.options())
    assert [row[1:] for row in m.found(again, again.begin(), again.table(next(again.registry.tables())))] == [(1, b"x")]
    again.close()
