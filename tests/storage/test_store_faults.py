"""Every call of the disk failing, one by one: no false acknowledgement, a clear error, and nothing lost.

Goal (RELIABILITY F2, F9, F10): whatever fails, what was acknowledged survives; after a failed sync nothing is
acknowledged any more; a full disk is a clean refusal. Method: fail the n-th call of a kind, n = 1, 2, ... until a
run is clean.
"""

from __future__ import annotations

import errno
import random

import pytest

from filestore.errors import DataCorrupted, DiskFull, StorageFailed
from filestore.hal import SimulatedDisk
from tests.storage import store_model as model
from tests.storage.crash_harness import Trace
from tests.storage.store_model import Engine


def run(disk: SimulatedDisk, seed: int, steps: int = 30, already: int = 0) -> tuple[Trace, str]:
    """Works until a failure ends it; a full disk only refuses. Returns what was promised and how it ended."""
    trace = Trace(disk)
    for t in range(1, already + 1):
        trace.submitted(t)
        trace.acknowledged(t)
    rng = random.Random(seed)
    engine: Engine | None = None
    try:
        engine = Engine.open(disk, model.options(seed))
        for _ in range(steps):
            try:
                trace.submitted(engine.count + 1)
                lsn = engine.append()
                engine.store.log.when_durable(lsn).result()
                trace.acknowledged(engine.count)
                if rng.random() < 0.3:
                    engine.checkpoint()
            except DiskFull:
                continue
        ending = "well"
    except (StorageFailed, DiskFull, DataCorrupted) as error:
        ending = type(error).__name__
        if engine is not None and isinstance(error, StorageFailed):
            refuses_everything(engine)
    finally:
        if engine is not None:
            close_whatever(engine)
    return trace, ending


def refuses_everything(engine: Engine) -> None:
    """A store that failed acknowledges nothing more."""
    store = engine.store
    if store.failed is None:
        return  # a read failed, or the failure was before the log was open
    with pytest.raises(StorageFailed):
        store.log.append([b"x" * 100])
    with pytest.raises(StorageFailed):
        store.log.flush()
    if store.log.end_lsn > store.log.durable_lsn:
        assert isinstance(store.log.when_durable(store.log.end_lsn).error, StorageFailed)
    with pytest.raises(StorageFailed):
        engine.checkpoint()


def close_whatever(engine: Engine) -> None:
    try:
        engine.close()
    except (StorageFailed, DiskFull):
        pass


def check(image: SimulatedDisk, trace: Trace) -> None:
    engine = Engine.open(image, model.options(77))
    found = set(range(1, engine.count + 1))
    required, allowed = trace.required(1 << 60), trace.allowed(1 << 60)
    assert required <= found <= allowed, (sorted(required - found), sorted(found - allowed))
    engine.store.log.when_durable(engine.append()).result()
    engine.checkpoint()
    assert engine.store.verify() == []
    engine.close()


CALLS = ["write", "sync", "create", "rename", "unlink", "sync_dir", "allocate", "open", "read", "list", "map"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_each_call_failing_once(call: str, error: int, seed: int) -> None:
    rng = random.Random(seed)
    base = SimulatedDisk()
    first, _ = run(base, 1, steps=30)
    already = len(first.required(1 << 60))
    nth, injected = 1, 0
    while True:
        disk = base.clone()
        fault = disk.fail(call, nth=nth, error=error, sticky=rng.random() < 0.3)
        trace, ending = run(disk, 2, already=already)
        if fault.injected == 0:
            break
        injected += 1
        disk.heal()
        # The next process sees what the last one left, be it on the disk or not; then the power goes.
        images = [disk.clone(), *disk.crash_states(seed, start=disk.op_count, stop=disk.op_count, per_op=6)]
        for image in images:
            try:
                check(image, trace)
            except BaseException as failure:
                where = f"seed={seed} {call} {nth} {errno.errorcode[error]}, ended {ending}, {image.description}"
                raise AssertionError(f"{where}: {failure!r}") from failure
        nth += rng.choice((1, 1, 2, 3)) if call in ("write", "sync", "read") else 1
    assert injected > 0, "this fault never fired"


@pytest.mark.parametrize("prefix", ["wal/", "pages/", "manifest"])
def test_a_failed_sync_ends_acknowledgements_for_good(prefix: str) -> None:
    disk = SimulatedDisk()
    engine = Engine.open(disk)
    engine.store.log.when_durable(engine.append()).result()
    engine.checkpoint()
    disk.fail("sync", prefix)
    engine.append()
    with pytest.raises(StorageFailed):
        engine.checkpoint()
    assert engine.store.failed is not None
    before = disk.op_count
    refuses_everything(engine)  # although the disk would now answer every sync with success
    assert engine.store.log.durable_lsn <= engine.store.log.end_lsn
    assert disk.op_count == before, "nothing is written after a failure"
    with pytest.raises(StorageFailed):
        engine.store.log.when_durable(engine.store.log.append([b""]))
    close_whatever(engine)


def test_a_pending_wait_gets_the_failure() -> None:
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    disk.fail("write", "wal/0")
    seen = []
    wait = engine.store.log.when_durable(engine.append())
    wait.on_done(lambda done: seen.append(done.error))
    assert wait.done and isinstance(seen[0], StorageFailed)
    close_whatever(engine)


def test_a_full_disk_refuses_cleanly_and_a_checkpoint_makes_room() -> None:
    disk = SimulatedDisk(capacity=4_000_000)
    engine = Engine.open(disk, model.options(1, log_file_bytes=524_288))
    refused = 0
    for _ in range(900):
        try:
            engine.store.log.when_durable(engine.append()).result()
        except DiskFull:
            refused += 1
    assert refused > 0, "the disk was never full"
    assert engine.store.failed is None, "a full disk is not a failure"
    # One file is kept for the last resort: a small delete still commits, and a checkpoint may take its space.
    engine.store.log.when_durable(engine.append(last_resort=True)).result()
    assert engine.store.verify() == []
    engine.checkpoint()
    assert engine.store.metadata == {"count": engine.count}
    assert engine.store.log.files.spares > 0, "what the checkpoint took it gave back"
    count = engine.count
    for _ in range(10):
        engine.store.log.when_durable(engine.append()).result()
    assert engine.count == count + 10
    engine.close()


def test_a_checkpoint_on_a_full_disk_changes_nothing() -> None:
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    engine.store.log.when_durable(engine.append()).result()
    redo = engine.store.redo_lsn
    disk.capacity = 1
    with pytest.raises(DiskFull):
        engine.checkpoint()
    assert engine.store.failed is None and engine.store.redo_lsn == redo
    assert engine.store.arena("elements", model.ARENA_BYTES).dirty.any(), "its pages are owed again"
    disk.capacity = None
    engine.checkpoint()
    engine.close()
    again = Engine.open(disk, model.options(2))
    assert again.count == 1
    again.close()


def fill(disk: SimulatedDisk, room: int = 0) -> None:
    """From now on files can grow by `room` bytes altogether."""
    disk.capacity = room + sum(map(len, disk.files().values()))


def wal_names(disk: SimulatedDisk, prefix: str = "") -> list[str]:
    return sorted(name for name in disk.list("wal") if name.startswith(prefix))


def test_a_checkpoint_that_gives_nothing_back_leaves_the_spare_file() -> None:
    """The log is one file, so the spare's space would be gone for good, and with it commits and the next opening."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1, log_file_bytes=524_288))
    engine.store.log.when_durable(engine.append()).result()
    fill(disk)
    before = wal_names(disk)
    assert wal_names(disk, "spare.")
    for _ in range(3):
        with pytest.raises(DiskFull):
            engine.checkpoint()
        engine.store.log.when_durable(engine.append()).result()
    assert wal_names(disk) == before
    engine.close()
    again = Engine.open(disk, model.options(2, log_file_bytes=524_288))
    again.store.log.when_durable(again.append()).result()
    assert again.count == 5
    again.close()


def test_without_room_for_a_log_file_a_directory_opens_for_reading() -> None:
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    engine.store.log.when_durable(engine.append()).result()
    fill(disk)
    engine.close()
    Engine.open(disk, model.options(2)).close()  # takes the spare file
    Engine.open(disk, model.options(3)).close()  # finds none
    before = disk.files()
    engine = Engine.open(disk, model.options(4))
    assert engine.count == 1 and engine.store.verify() == []
    with pytest.raises(DiskFull, match="reading only"):
        engine.append()
    with pytest.raises(DiskFull, match="reading only"):
        engine.store.log.append([b"x" * 100])
    with pytest.raises(DiskFull, match="reading only"):
        engine.checkpoint()
    assert engine.store.failed is None
    engine.close()
    assert disk.files() == before, "nothing was written"
    disk.capacity = None
    engine = Engine.open(disk, model.options(5))
    engine.store.log.when_durable(engine.append()).result()
    engine.checkpoint()
    assert engine.count == 2 and engine.store.verify() == [] and wal_names(disk, "spare.")
    engine.close()


def test_without_a_spare_file_the_open_one_is_filled() -> None:
    """And a spare is made again as soon as there is room."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    log = engine.store.log
    while log.files.drop_spare():
        pass
    fill(disk)
    room = log.files.live[-1].end_lsn
    refused = False
    while not refused:
        try:
            log.when_durable(engine.append()).result()
        except DiskFull:
            refused = True
    assert engine.count > 0 and room - log.end_lsn < 100_000
    assert engine.store.failed is None
    disk.capacity = None
    log.when_durable(engine.append()).result()
    assert log.files.spares > 0
    engine.close()


def test_a_full_disk_and_a_crash_anywhere_in_a_checkpoint_that_takes_the_spare_file(seed: int) -> None:
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1, log_file_bytes=524_288))
    while len(engine.store.log.files.live) < 3:
        engine.store.log.when_durable(engine.append()).result()
    fill(disk, room=16384 * len(engine.sealed_names()))
    spares = wal_names(disk, "spare.")
    start = disk.op_count
    engine.checkpoint()
    stop = disk.op_count
    assert not set(spares) & set(wal_names(disk, "spare.")), "it was given up"
    assert engine.store.log.files.spares > 0, "and there is one again"
    for image in disk.crash_states(seed, start=start, stop=stop, per_op=3):
        again = Engine.open(image, model.options(2, log_file_bytes=524_288))
        assert again.count == engine.count, image.description
        again.close()
    engine.close()
