"""The whole engine on the simulated disk, cut off at every sync, and at operations drawn from all until there are
enough, in every way the disk model knows.

Goal: recovery yields exactly the acknowledged transactions plus possibly whole unacknowledged ones, in commit
order; tables agree with their indexes; a second recovery, and one that was itself cut off, give the same.
Oracle: `engine_model`.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore.hal import SimulatedDisk
from filestore.hal.simulated import SimulatedCrash
from filestore.txn.engine import Engine
from tests.storage import crash_harness as harness
from tests.txn import engine_model as model

STATES = 8  # at each operation that is drawn: the four simple ones, one of each other kind, so that many are drawn


class Run:
    """A random workload with checkpoints and open transactions; keeps the states for the check."""

    def __init__(self, seed: int, steps: int, *, padding: int = 0, held: float = 0.3) -> None:
        """held: how often a transaction stays open over others; padding: see `engine_model.Model`."""
        self.seed, self.steps, self.padding, self.held = seed, steps, padding, held
        self.index_pages = 0  # of the padded index, at the end
        self.states: list[dict[str, model.Rows]] = [{}]
        self.nested = 0  # recoveries that were cut off themselves

    def __call__(self, disk: SimulatedDisk) -> harness.Trace:
        trace = harness.Trace(disk)
        db = model.Model(disk, self.seed, self.padding)
        trace.submitted(0)
        trace.acknowledged(0)
        self.states[0] = db.states[0]
        db.before_commit = lambda: trace.submitted(len(db.states) - 1)  # type: ignore[method-assign]
        db.after_commit = lambda: trace.acknowledged(len(db.states) - 1)  # type: ignore[method-assign]
        if self.padding:
            # Whatever the seed, the index has split before the first transaction is left open over it.
            txn = db.engine.begin()
            rows: model.Rows = {number: b"unique %d" % number + b"." * self.padding for number, _ in db.rows(60)}
            model.run(model.insert(txn, db.stored("held", txn), rows.items()))
            db.commit(txn, {**db.tables, "held": rows})
        for _ in range(self.steps):
            if db.rng.random() < self.held:
                db.open_transaction()
            db.transaction()
            if db.rng.random() < 0.2:
                db.engine.checkpoint()
            if db.rng.random() < 0.3:
                db.end_open()
        db.end_open()
        self.states = db.states
        held = next(t for t in db.engine.registry.tables() if t.name == "held")
        self.index_pages = db.engine.table(held).stored_keys[1].index.page_count
        db.close()
        return trace

    def check(self, image: SimulatedDisk, trace: harness.Trace) -> None:
        required, allowed = trace.required(image.crash_op), trace.allowed(image.crash_op)
        if 0 not in required:
            # Before the first tables were there for sure: it opens, and is sound.
            engine = Engine.open(image, model.options(7))
            assert not engine.check()
            engine.close()
            return
        least, most = max(required, default=0), max(allowed, default=0)
        rng = random.Random(image.crash_op)
        if rng.random() < 0.3:
            # Cut off inside recovery first.
            again = image
            again.crash_at(again.op_count + rng.randrange(1, 12))
            try:
                Engine.open(again, model.options(5)).store.close()
            except SimulatedCrash:
                self.nested += 1
            image = next(
                iter(again.crash_states(rng.randrange(2**32), start=again.op_count, stop=again.op_count, per_op=1)),
                again,
            )
        engine = Engine.open(image, model.options(7))
        first = model.verify(engine, self.states, least, most)
        if rng.random() < 0.5:
            engine.close()
        else:
            engine.store.close()
        engine = Engine.open(image, model.options(8))
        assert model.verify(engine, self.states, first, first) == first
        engine.close()


@pytest.mark.timeout(600)
def test_every_crash_recovers_a_prefix_of_commits(seed):
    run = Run(seed, 40)
    quota = harness.QUOTAS["engine, statements"]
    report = harness.enumerate_crashes(run, run.check, seed=seed, states=quota, per_op=STATES)
    report.meets("engine, statements")
    assert {"none", "all", "torn", "dropped", "shorn"} <= set(report.kinds)
    assert run.nested > report.states // 20, f"only {run.nested} recoveries were cut off"


@pytest.mark.timeout(600)
def test_every_crash_while_an_index_splits(seed):
    """Twenty rows fill a page of the unique index: it splits under open, aborted and committed transactions."""
    run = Run(seed, 20, padding=600, held=0.9)
    quota = harness.QUOTAS["engine, index splits"]
    report = harness.enumerate_crashes(run, run.check, seed=seed, states=quota, per_op=STATES)
    report.meets("engine, index splits")
    assert run.index_pages > 3, f"only {run.index_pages} pages"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("padding", [0, 600])
def test_many_more_crashes_of_the_engine(seed, padding):
    run = Run(seed, 150, padding=padding, held=0.9 if padding else 0.3)
    report = harness.enumerate_crashes(run, run.check, seed=seed, states=4000)
    print(f"{report.states} states, {run.nested} of them cut off again in recovery")
    assert run.nested > report.states // 20


def test_no_uncommitted_value_reaches_any_file(seed):
    disk = SimulatedDisk()
    db = model.Model(disk, seed)
    aborted = 0
    for _ in range(25):
        db.open_transaction()
        db.transaction()
        db.engine.checkpoint()
        aborted += not db.open[0][1]
        db.end_open()
        db.engine.checkpoint()
    assert aborted
    db.engine.checkpoint()  # the files of a bulk load that was given up go with the second one
    for directory in ("", "wal", "pages", *(f"tables/{n}" for n in disk.list("tables"))):
        for name in disk.list(directory):
            path = f"{directory}/{name}" if directory else name
            if path in ("wal", "pages", "tables"):
                continue
            file = disk.open(path, read_only=True)
            data = file.read_at(0, file.size())
            assert model.SECRET not in np.asarray(data).tobytes(), path
    db.close()
