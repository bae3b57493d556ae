"""Power cuts in the store's life: at every sync, and at operations drawn from all until there are enough, in every way
the disk model knows; recovery of recovery too.

Goal: after any crash the store holds exactly the acknowledged transactions plus possibly a prefix of those in
flight, its verifier is silent, it recovers to the same again, and it takes new work. Oracle: `store_model`.
"""

from __future__ import annotations

import random
import threading
from functools import partial
from typing import Any

import pytest

from filestore.hal import SimulatedDisk
from filestore.storage import crash_points
from filestore.storage.wait import Wait
from tests.storage import crash_harness as harness
from tests.storage import store_model as model
from tests.storage.crash_harness import Trace
from tests.storage.store_model import Engine


def workload(seed: int, steps: int):
    """A run of appends, flushes and checkpoints, drawn from `seed`, on whatever the disk holds already."""

    def run(disk: SimulatedDisk) -> Trace:
        trace = Trace(disk)
        rng = random.Random(seed)
        engine = Engine.open(disk, model.options(seed))
        for t in range(1, engine.count + 1):
            trace.submitted(t)
            trace.acknowledged(t)
        for _ in range(steps):
            for _ in range(rng.choice((1, 1, 2, 5))):
                trace.submitted(engine.count + 1)
                lsn = engine.append()
            if rng.random() < 0.8:
                assert engine.store.log.when_durable(lsn).result()
                for t in range(1, engine.count + 1):
                    trace.acknowledged(t)
            if rng.random() < 0.15:
                engine.checkpoint()
        engine.close()
        return trace

    return run


def recovered(image: SimulatedDisk, trace: Trace) -> int:
    """How many transactions a crash image holds, checked against the trace; leaves the image recovered and closed."""
    engine = Engine.open(image, model.options(99))
    required, allowed = trace.required(image.crash_op), trace.allowed(image.crash_op)
    found = set(range(1, engine.count + 1))
    assert required <= found, f"lost {sorted(required - found)}"
    assert found <= allowed, f"invented {sorted(found - allowed)}"
    count = engine.count
    engine.close()
    return count


def check_image(image: SimulatedDisk, trace: Trace, rng: random.Random, nested: int = 0) -> None:
    count = recovered(image, trace)
    for _ in range(nested):
        # The recovery's own operations are the image's trace: cut the power inside of it.
        point = rng.randrange(image.op_count + 1)
        for again in image.crash_states(rng.randrange(1 << 30), start=point, stop=point, per_op=2):
            engine = Engine.open(again, model.options(7))
            assert engine.count == count, f"{engine.count} after a crash in recovery: {again.description}"
            engine.close()
    engine = Engine.open(image, model.options(5))
    assert engine.count == count, "recovering twice gives something else"
    engine.store.log.when_durable(engine.append()).result()
    engine.checkpoint()
    assert engine.store.verify() == []
    engine.store.log.when_durable(engine.append()).result()
    engine.close()
    final = Engine.open(image, model.options(6), finish=False)
    assert final.count == count + 2
    final.close()


@pytest.mark.parametrize(("steps", "name"), [(50, "store, few checkpoints"), (150, "store, many checkpoints")])
def test_every_crash_recovers_what_was_acknowledged(seed: int, steps: int, name: str) -> None:
    rng = random.Random(seed)
    report = harness.enumerate_crashes(
        workload(seed, steps),
        lambda image, trace: check_image(image, trace, rng, nested=rng.random() < 0.1),
        seed=seed,
        states=harness.QUOTAS[name],
    )
    report.meets(name)
    assert {"none", "all", "torn", "dropped", "shorn"} <= set(report.kinds)


def test_crashes_under_threads(seed: int) -> None:
    """Flusher, spare maker and checkpoints on their own threads, so operations of different files interleave."""

    def run(disk: SimulatedDisk) -> Trace:
        trace = Trace(disk)
        engine = Engine.open(disk, model.options(seed, threaded=True))
        engine_lock = threading.Lock()

        def checkpoints() -> None:
            for _ in range(5):
                engine.checkpoint(engine_lock)

        def acknowledged(t: int, done: Wait) -> None:
            if done.error is None:
                trace.acknowledged(t)

        worker = threading.Thread(target=checkpoints)
        worker.start()
        for t in range(1, 120):
            with engine_lock:
                trace.submitted(t)
                lsn = engine.append()
            wait = engine.store.log.when_durable(lsn)
            wait.on_done(partial(acknowledged, t))
            if t % 4 == 0:
                wait.result(30)
        worker.join()
        engine.close()
        return trace

    rng = random.Random(seed)
    quota = harness.QUOTAS["store, threads"]
    report = harness.enumerate_crashes(
        run, lambda image, trace: check_image(image, trace, rng), seed=seed, states=quota, per_op=10
    )
    report.meets("store, threads")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [30, 120, 400])
def test_many_more_crashes(seed: int, steps: int) -> None:
    """The same, 20 000 states a run, half of them with crashes inside the recovery."""
    rng = random.Random(seed)
    report = harness.enumerate_crashes(
        workload(seed, steps),
        lambda image, trace: check_image(image, trace, rng, nested=rng.randrange(3)),
        seed=seed,
        states=20_000,
        per_op=200,
        seconds=400,
    )
    print(report)


class LyingDisk(SimulatedDisk):
    """Answers syncs of some paths without doing them: what an engine that forgot them would leave."""

    def __init__(self, kind: str, prefix: str) -> None:
        super().__init__()
        self.kind, self.prefix, self.skipped = kind, prefix, 0

    def traced(self, kind: str, path: str, **rest: Any) -> None:
        if kind == self.kind and path.startswith(self.prefix):
            self.skipped += 1
            return
        super().traced(kind, path, **rest)


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("sync", "wal/0"),
        ("sync", "wal/spare"),
        ("sync_dir", "wal"),
        ("sync", "pages/pages.dat"),
        ("sync", "pages/map"),
        ("sync_dir", "pages"),
        ("sync", "manifest"),
        ("sync", "tables"),
        ("sync_dir", "tables/3"),
    ],
)
def test_a_forgotten_sync_is_found(kind: str, prefix: str) -> None:
    """The enumeration is worth something: leaving out any one sync makes it fail."""
    rng = random.Random(5)
    disk = LyingDisk(kind, prefix)
    with pytest.raises(AssertionError):
        harness.enumerate_crashes(
            workload(5, 60), lambda image, trace: check_image(image, trace, rng), seed=5, states=5000, disk=disk
        )
    assert disk.skipped > 0


class Killed(BaseException):
    """The process is gone; the disk, and what is on its way to it, is not."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("point", crash_points.STORE_NAMES)
def test_kill_at_a_named_point_then_power_cuts(point: str) -> None:
    """A killed process leaves its writes in flight. Its successor must make durable what it builds upon."""
    disk = SimulatedDisk()
    traces: list[Trace] = []

    def until_killed(target: SimulatedDisk) -> Trace:
        trace = Trace(target)
        traces.append(trace)
        engine = Engine.open(target, model.options(1))
        for t in range(1, 60):
            trace.submitted(t)
            engine.append()
            if t % 3 == 0:
                engine.store.log.flush()
                for done in range(t - 2, t + 1):
                    trace.acknowledged(done)
            if t % 17 == 0:
                engine.checkpoint()
        engine.close()
        return trace

    crash_points.arm(point, kill, nth=1 if point.startswith(("recovery", "store")) else 2)
    with pytest.raises(Killed):
        until_killed(disk)
    successor = disk.clone()
    before = traces[0]
    required, allowed = before.required(disk.op_count), before.allowed(disk.op_count)

    def go_on(target: SimulatedDisk) -> Trace:
        trace = Trace(target)
        for t in allowed:
            trace.submitted(t)
        for t in required:
            trace.acknowledged(t)
        engine = Engine.open(target, model.options(2))
        assert required <= set(range(1, engine.count + 1)) <= allowed
        for t in range(1, engine.count + 1):
            trace.acknowledged(t)
        for _ in range(4):
            trace.submitted(engine.count + 1)
            engine.store.log.when_durable(engine.append()).result()
            trace.acknowledged(engine.count)
        engine.checkpoint()
        engine.close()
        return trace

    def check(image: SimulatedDisk, trace: Trace) -> None:
        # Keys at the start of the trace were acknowledged by the killed process.
        recovered(image, trace)

    harness.enumerate_crashes(go_on, check, seed=3, states=60, per_op=4, disk=successor)


def test_the_state_of_a_failure_can_be_built_again() -> None:
    seen: list[str] = []

    def check(image: SimulatedDisk, trace: Trace) -> None:
        seen.append(image.description)
        if len(seen) == 40:
            raise AssertionError("enough")

    with pytest.raises(AssertionError, match="enough"):
        harness.enumerate_crashes(workload(9, 20), check, seed=9, states=1000)
    harness.replay(workload(9, 20), check, seen[-1])
    assert seen[-1] == seen[-2]
