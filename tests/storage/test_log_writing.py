"""The log at work: group commit, groups larger than batches and files, reading, holding, trimming, threads."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections import deque
from typing import Any

import pytest

from filestore.errors import DataCorrupted, DiskFull, InternalError, StorageFailed
from filestore.hal import SimulatedDisk, open_filesystem
from filestore.storage.log_record import Record, RecordKind, encode_group
from filestore.storage.store import Store
from filestore.storage.wait import Wait, finished
from tests.storage import store_model as model
from tests.storage.store_model import Engine


def opened(disk: SimulatedDisk, **changes: object) -> Store:
    store = Store.open(disk, model.options(1, **changes))
    assert list(store.recover()) == []
    store.finish_recovery()
    return store


def group(t: int, size: int) -> list[Any]:
    return encode_group(t, t, [Record(RecordKind.ROWS, t, random.Random(t).randbytes(size))])


def test_lsns_are_positions_and_group_boundaries() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    log = store.log
    first = log.end_lsn
    ends = [log.append(group(t, 100 * t)) for t in range(1, 6)]
    before = disk.op_count
    assert ends == sorted(set(ends)) and ends[-1] == log.end_lsn and log.durable_lsn == first
    assert log.bytes_since(first) == ends[-1] - first
    assert log.flush() >= ends[-1]
    assert [op.kind for op in disk.ops[before:]] == ["write", "sync"], "one flush takes everything"
    again = list(log.read(first))
    assert [found.end_lsn for found in again] == ends
    assert [found.transaction for found in log.read(ends[2])] == [4, 5]
    store.close()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 3900, 3992, 4000, 8000, 8100, 28_000, 28_500, 70_000, 200_000])
def test_groups_of_any_size(size: int) -> None:
    """Over several batches, and over several files."""
    disk = SimulatedDisk()
    store = opened(disk)
    log = store.log
    first = log.end_lsn
    for t in range(1, 8):
        log.reserve(size + 200)
        log.append(group(t, size))
        if t % 3:
            log.flush()
    log.flush()
    assert [bytes(found.payload(0)) for found in log.read(first)] == [
        random.Random(t).randbytes(size) for t in range(1, 8)
    ]
    store.close()
    assert store.verify() == []


def test_waits_finish_in_one_go_and_beyond_the_end_is_an_error() -> None:
    store = opened(SimulatedDisk(), threaded=True)
    log = store.log
    published: list[int] = []
    log.subscribe(published.append)
    with pytest.raises(ValueError, match="beyond the end"):
        log.when_durable(log.end_lsn + 1)
    waits = [log.when_durable(log.append(group(t, 50))) for t in range(1, 50)]
    assert all(wait.result(10) for wait in waits)
    assert published[-1] == log.durable_lsn >= log.end_lsn
    assert log.when_durable(log.end_lsn).done
    store.close()
    with pytest.raises(StorageFailed, match="closed"):
        log.append(group(1, 1))


def test_a_host_flushes_while_that_is_short_and_nobody_else_is_at_it() -> None:
    store = opened(SimulatedDisk(), threaded=True)
    log = store.log
    asked: list[int] = []

    def host() -> bool:
        if log.hosted_s > 0.5:
            return False
        asked.append(log.end_lsn)
        return True

    log.hosted(host)
    first, second = (log.when_durable(log.append(group(t, 50))) for t in (1, 2))
    assert len(asked) == 1, "one promise covers both"
    assert not first.block(0.05) and log.durable_lsn < asked[0]
    log.flush_hosted()
    assert first.done and second.done and log.durable_lsn >= log.end_lsn

    third = log.when_durable(log.append(group(3, 50)))
    with log._flushing:  # a flush is under way
        log.flush_hosted()
        assert not third.done
    assert third.result(10), "left to the flusher"

    log.hosted_s = 1.0
    assert log.when_durable(log.append(group(4, 50))).result(10) and len(asked) == 2, "a slow disk is the flusher's"
    for _ in range(600):
        log.hosted_s *= 0.98  # what the flusher's flushes do
    log.when_durable(log.append(group(5, 50)))
    assert len(asked) == 3, "tried again some day"
    log.hosted(None)
    log.flush_hosted()
    assert log.when_durable(log.append(group(6, 50))).result(10) and len(asked) == 3
    store.close()


def test_a_hosted_flush_that_fails_ends_every_wait() -> None:
    disk = SimulatedDisk()
    store = opened(disk, threaded=True)
    log = store.log
    log.hosted(lambda: True)
    wait = log.when_durable(log.append(group(1, 50)))
    log.fail(StorageFailed("of the test"))
    log.flush_hosted()
    assert isinstance(wait.error, StorageFailed) and log.failed is not None
    store.close()


def test_a_bad_callback_neither_hides_a_commit_nor_stops_the_others() -> None:
    store = opened(SimulatedDisk())
    log = store.log
    lsn = log.append(group(1, 10))
    told: list[Wait] = []

    def bad(_: Wait) -> None:
        raise RuntimeError("of the callback")

    with log._mutex:  # both wait for the same flush
        waits = [Wait(), Wait()]
        log._waits += [(lsn, wait) for wait in waits]
    waits[0].on_done(bad)
    waits[1].on_done(told.append)
    with pytest.raises(RuntimeError):
        log.flush()
    assert told == [waits[1]] and log.durable_lsn >= lsn and log.failed is None
    store.close()


def test_an_idle_log_vouches_for_its_last_batch() -> None:
    """Then damage to the last acknowledged batch is found, also when the process was killed."""
    disk = SimulatedDisk()
    store = opened(disk, threaded=True)
    log = store.log
    end = log.append(group(1, 10))
    log.when_durable(end).result(10)
    deadline = time.monotonic() + 10
    while log.durable_lsn < log.files.live[-1].first_lsn + 8192 and time.monotonic() < deadline:
        time.sleep(0.02)
    image = disk.crash_image("none")
    store.close()
    again = Store.open(image.clone(), model.options(2))
    assert [found.transaction for found in again.recover()] == [1]
    image.flip_bit(log.files.live[-1].path, 4096 + 120)
    with pytest.raises(DataCorrupted, match="was durable"):
        deque(Store.open(image, model.options(2)).recover())


def test_files_are_recycled_and_holds_keep_them() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    log = store.log
    first = log.end_lsn
    log.hold("backup", first)
    for t in range(1, 200):
        log.reserve(2000)
        log.append(group(t, 2000))
        log.flush()
    log.trim(log.durable_lsn)
    assert [found.transaction for found in log.read(first)] == list(range(1, 200)), "a hold keeps the log"
    many = len(disk.list("wal"))
    log.release("backup")
    log.trim(log.durable_lsn)
    few = disk.list("wal")
    assert len(few) < many and len([name for name in few if name.endswith(".log")]) == 1
    before = disk.free_bytes()
    for t in range(200, 260):
        log.reserve(2000)
        log.append(group(t, 2000))
        log.flush()
        log.trim(log.durable_lsn)
    assert disk.free_bytes() == before, "recycled files take no new space"
    store.close()


def test_recovery_must_be_finished_first() -> None:
    disk = SimulatedDisk()
    store = Store.open(disk, model.options(1))
    with pytest.raises(InternalError):
        _ = store.log
    with pytest.raises(InternalError):
        store.finish_recovery()
    store.close()


def test_many_openings_do_not_pile_up_files() -> None:
    disk = SimulatedDisk()
    for round_ in range(12):
        engine = Engine.open(disk, model.options(round_))
        engine.append()
        engine.store.log.flush()
        engine.checkpoint()
        engine.close()
    assert len(disk.list("wal")) <= 8


def test_a_changed_file_size_is_taken_up() -> None:
    disk = SimulatedDisk()
    for size in (65536, 16384, 131072, 32768):
        engine = Engine.open(disk, model.options(1, log_file_bytes=size))
        for _ in range(25):
            engine.append()
        engine.store.log.flush()
        # Not closed: the tail stays unproven, and is written again by an epoch with another file size.
        disk = disk.clone()
    engine = Engine.open(disk, model.options(1))
    assert engine.count == 100
    engine.close()
    assert engine.store.verify() == []


def test_appends_flushes_and_checkpoints_from_threads(data_dir) -> None:
    """On a real disk: one writer under a lock, eager waiters, checkpoints beside them, then recovery."""
    engine = Engine.open(open_filesystem(str(data_dir)), model.options(1, threaded=True, log_file_bytes=1 << 18))
    engine_lock = threading.Lock()
    acknowledged: list[int] = []
    failures: list[BaseException] = []

    def client() -> None:
        try:
            for _ in range(60):
                with engine_lock:
                    lsn = engine.append()
                    t = engine.count
                engine.store.log.when_durable(lsn).result(30)
                acknowledged.append(t)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        with engine_lock:
            engine.checkpoint()
        assert engine.store.verify() == []
    for thread in threads:
        thread.join()
    assert failures == [] and sorted(acknowledged) == list(range(1, 241))
    engine.close()
    again = Engine.open(open_filesystem(str(data_dir)), model.options(2))
    assert again.count == 240
    again.close()


def test_a_wait_is_finished_once() -> None:
    wait = Wait()
    seen: list[Wait] = []
    wait.on_done(seen.append)
    assert not wait.block(0.001) and not wait.done
    error = StorageFailed("no")
    wait.finish(error)
    wait.finish()
    wait.on_done(seen.append)
    assert seen == [wait, wait] and wait.error is error and wait.block(0)
    with pytest.raises(StorageFailed):
        wait.result()
    assert finished().result()


def test_a_wait_wakes_a_blocked_thread() -> None:
    wait = Wait()
    threading.Timer(0.02, wait.finish).start()
    assert wait.block(5)


def test_a_file_that_cannot_be_named_on_a_full_disk_leaves_nothing() -> None:
    """A directory may have to grow for a name, and a megabyte nobody uses is what a full disk has not."""
    disk = SimulatedDisk()
    store = opened(disk)
    before = sorted(disk.files())
    fault = disk.fail("rename", "wal/prepare", error=errno.ENOSPC)
    with pytest.raises(DiskFull):
        store.log.files.make_spare()
    assert fault.injected == 1
    assert sorted(disk.files()) == before
    store.log.files.make_spare()
    store.close()
