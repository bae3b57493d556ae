"""The log read many groups at a time, against the same log read group by group: groups, ends, tails and errors."""

from __future__ import annotations

import random
from collections.abc import Callable

import google_crc32c
import numpy as np
import pytest

from filestore.errors import Error
from filestore.hal import SimulatedDisk
from filestore.storage import log_kernels
from filestore.storage import manifest as manifests
from filestore.storage.layout import BLOCK
from filestore.storage.log_batch import HEADER_BYTES, seal
from filestore.storage.log_reader import LogReader
from filestore.storage.log_record import LogGroup
from filestore.storage.log_runs import GroupRun
from tests.storage import store_model as model
from tests.storage.store_model import Engine

PLAIN = "lsn", "end_lsn", "transaction", "commit_timestamp"
VECTORS = "data", "kind", "storage_id", "offset", "length"


def same(one: LogGroup, other: LogGroup) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in PLAIN) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in VECTORS
    )


def outcome(disk: SimulatedDisk, from_lsn: int, limit: int | None, fast: bool) -> tuple[list[LogGroup], object]:
    """Groups, and what the reader knows at its end or the error that it raised."""
    manifest, _ = manifests.read(disk)
    reader = LogReader(disk, manifest.uuid, from_lsn, epoch_floor=manifest.epoch, limit=limit)
    try:
        groups = [group for run in reader.runs() for group in run.groups()] if fast else list(reader)
    except Error as error:
        return [], error.message
    tail = [(old.lsn, old.data.tobytes(), old.used, old.groups) for old in reader.tail]
    return groups, (reader.end_lsn, reader.proven_lsn, reader.proven_hash, reader.epoch, reader.batches, tail)


def compare(disk: SimulatedDisk, from_lsn: int | None = None, limit: int | None = None) -> object:
    """Reads the log both ways; returns what both say at the end."""
    start = manifests.read(disk)[0].redo_lsn if from_lsn is None else from_lsn
    slow, slow_end = outcome(disk, start, limit, fast=False)
    fast, fast_end = outcome(disk, start, limit, fast=True)
    assert fast_end == slow_end
    assert len(fast) == len(slow)
    assert all(map(same, fast, slow))
    return slow_end


def written(seed: int, transactions: int = 120, log_file_bytes: int = 32768) -> SimulatedDisk:
    """A directory with groups over several batches and files; its process died."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(seed, log_file_bytes=log_file_bytes))
    rng = random.Random(seed)
    for _ in range(transactions):
        lsn = engine.append()
        if rng.random() < 0.3:
            engine.store.log.when_durable(lsn).result()
        if rng.random() < 0.02:
            engine.checkpoint()
    engine.store.log.flush()
    return disk


def test_both_ways_read_the_same_groups(seed: int) -> None:
    disk = written(seed)
    groups, _ = outcome(disk, manifests.read(disk)[0].redo_lsn, None, fast=False)
    assert any(group.data.size > 32768 for group in groups) or len(groups) < 46
    compare(disk)
    rng = random.Random(seed)
    for group in rng.sample(groups, min(len(groups), 10)):
        compare(disk, from_lsn=group.lsn)
        compare(disk, limit=group.end_lsn + BLOCK & -BLOCK)


def test_both_ways_read_the_same_after_power_cuts(seed: int) -> None:
    disk = written(seed, 60)
    points = random.Random(seed).sample(range(10, disk.op_count), 60)
    ends = [compare(image) for op in points for image in disk.crash_states(seed, start=op, stop=op, per_op=4)]
    assert len(ends) > 60
    assert any(end[-1] for end in ends if isinstance(end, tuple)), "no image had a tail"


def last_batch(disk: SimulatedDisk) -> tuple[str, int, LogReader]:
    """(file, offset in it, a reader at its end) of the newest batch."""
    manifest, _ = manifests.read(disk)
    reader = LogReader(disk, manifest.uuid, manifest.redo_lsn, epoch_floor=manifest.epoch)
    list(reader)
    header = reader.headers[-1]
    return header.path, header.offset(reader._seen[-1].batch.lsn), reader


def test_both_ways_refuse_the_same_lies(seed: int) -> None:
    """Goal: what a bug of a writer could leave, sealed properly, is refused by both in the same words."""
    disk = written(seed, 40, log_file_bytes=1 << 20)
    path, offset, reader = last_batch(disk)
    seen, header, rng = reader._seen[-1], reader.headers[-1], random.Random(seed)
    whole = disk.files()[path][offset : offset + seen.batch.length]
    messages = set()
    # Every byte of the first fragment's head and some of the groups, then several at once and lengths that lie.
    single = [*range(8), *range(8, seen.batch.payload, max(1, seen.batch.payload // 40))]
    for number in range(150):
        data = np.frombuffer(whole, np.uint8).copy()
        payload = seen.batch.payload
        if number < len(single):
            data[HEADER_BYTES + single[number]] ^= 1
        else:
            for _ in range(rng.choice((1, 1, 3))):
                place = HEADER_BYTES + rng.randrange(rng.choice((8, 64, max(64, payload))))
                data[place] = rng.choice((0, 1, 2, 3, 8, 255, rng.randrange(256)))
            payload -= rng.choice((0, 0, 0, 4, 8, 16))
        seal(data, seen.batch.lsn, header.epoch, payload, 1, seen.previous_hash, 0, header.seed)
        lying = disk.clone()
        lying.corrupt(path, offset, data.tobytes())
        end = compare(lying)
        if isinstance(end, str):
            messages.add(end.rpartition(": ")[2])
    assert {"fragments do not fill the batch", "its checksum does not match"} <= messages, messages


def test_runs_cut_and_joined_keep_their_groups(seed: int) -> None:
    disk = written(seed)
    manifest, _ = manifests.read(disk)
    runs = list(LogReader(disk, manifest.uuid, manifest.redo_lsn).runs())
    run = max(runs, key=len)
    groups = list(run.groups())
    rng = random.Random(seed)
    low = rng.randrange(len(groups))
    high = rng.randrange(low, len(groups) + 1)
    assert all(map(same, run.cut(low, high).groups(), groups[low:high]))
    assert all(map(same, GroupRun.of(groups).groups(), groups))
    assert run.record_stamps().tolist() == [g.commit_timestamp for g in groups for _ in range(len(g))]


@pytest.mark.parametrize("skipped", [-1, 0, 3])
def test_crc32c_of_words(seed: int, skipped: int) -> None:
    rng = random.Random(seed)
    oracle: Callable[[bytes], int] = google_crc32c.value
    for words in (0, 1, 4, 100):
        data = np.frombuffer(rng.randbytes(8 * words), np.uint8)
        plain = bytearray(data.tobytes())
        if 0 <= skipped < words:
            plain[8 * skipped : 8 * skipped + 4] = bytes(4)
        assert log_kernels.crc32c_words(data.ctypes.data, words, skipped) == oracle(bytes(plain))
