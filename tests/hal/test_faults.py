"""Injected failures: what is clean, what poisons, and that every fault fired."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from filestore.errors import DiskFull, StorageFailed
from filestore.hal import ALIGNMENT, SimulatedDisk

PAGE = ALIGNMENT


def page(fill: int = 1) -> np.ndarray:
    return np.full(PAGE, fill, dtype=np.uint8)


def test_failed_sync_poisons_the_file_for_good() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    file.write_at(0, page())
    disk.fail("sync")
    with pytest.raises(StorageFailed, match="cannot sync file a: EIO") as failed:
        file.sync()
    assert failed.value.sqlstate == "58030"
    disk.heal()
    for call in (
        file.sync,
        lambda: file.write_at(0, page()),
        lambda: file.write_many([(0, page())]),
        lambda: file.allocate(PAGE),
    ):
        with pytest.raises(StorageFailed, match="earlier failure"):
            call()
    assert disk.ops[-1].kind == "sync", "nothing reached the disk after the failure"
    assert file.read_at(0, 1)[0] == 1, "reads go on"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_a_clean_refusal(error: int) -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    fault = disk.fail("write", "a", nth=2, error=error)
    file.write_at(0, page(1))
    with pytest.raises(DiskFull, match=r"4096 bytes to a at offset 4096: E"):
        file.write_at(PAGE, page(2))
    assert fault.injected == 1
    file.write_at(PAGE, page(3))
    file.sync()
    assert file.read_at(0, 2 * PAGE).tobytes() == (bytes([1]) * PAGE) + bytes([3]) * PAGE


def test_full_disk_within_a_batch_poisons() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    disk.fail("write", nth=2, error=errno.ENOSPC)
    with pytest.raises(StorageFailed):
        file.write_many([(0, page()), (5 * PAGE, page())])
    with pytest.raises(StorageFailed, match="earlier"):
        file.sync()


def test_failed_write_poisons_and_may_have_reached_the_disk() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    disk.sync_dir()
    disk.fail("write", error=errno.EIO)
    with pytest.raises(StorageFailed, match="EIO"):
        file.write_at(0, page(7))
    assert file.size() == 0
    with pytest.raises(StorageFailed, match="earlier"):
        file.write_at(0, page(7))
    sizes = {len(image.files()["a"]) for image in disk.crash_states(start=disk.op_count)}
    assert {0, 512, PAGE} <= sizes


def test_short_write_is_a_failure() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    disk.fail("write", error=errno.ENOSPC, short=1024)
    with pytest.raises(StorageFailed):
        file.write_at(0, page(7))
    assert file.size() == 1024
    with pytest.raises(StorageFailed, match="earlier"):
        file.sync()


def test_capacity_is_a_real_limit() -> None:
    disk = SimulatedDisk(capacity=4 * PAGE)
    file = disk.open("a", create=True)
    file.allocate(3 * PAGE)
    assert disk.free_bytes() == PAGE
    with pytest.raises(DiskFull):
        file.allocate(5 * PAGE)
    with pytest.raises(DiskFull):
        file.write_at(4 * PAGE, page())
    file.write_at(0, page())
    file.write_at(3 * PAGE, page())
    file.sync()
    disk.unlink("a")
    assert disk.free_bytes() == 4 * PAGE


def test_every_call_can_fail_once_or_for_good() -> None:
    disk = SimulatedDisk()
    disk.make_dir("d")
    file = disk.open("d/a", create=True)
    file.write_at(0, page())
    file.sync()
    calls = {
        "open": lambda: disk.open("d/a"),
        "read": lambda: file.read_at(0, 1),
        "map": lambda: disk.open("d/a").map_read(0, PAGE),
        "list": lambda: disk.list("d"),
        "create": lambda: disk.open("d/b", create=True),
        "make_dir": lambda: disk.make_dir("d/e"),
        "rename": lambda: disk.rename("d/a", "d/c"),
        "unlink": lambda: disk.unlink("d/a"),
        "allocate": lambda: file.allocate(PAGE),
    }
    before = disk.files()
    for op, call in calls.items():
        fault = disk.fail(op, "d", sticky=True)
        for _ in range(2):
            with pytest.raises(StorageFailed, match="EIO"):
                call()
        assert fault.injected == 2
        disk.heal()
    assert disk.files() == before, "a failed name operation changes nothing"
    for op in ("read", "open"):
        elsewhere = disk.fail(op, "other")
        calls[op]()
        assert elsewhere.seen == 0
    with pytest.raises(ValueError):
        disk.fail("fsync")
    with pytest.raises(ValueError):
        disk.fail("sync", nth=0)


def test_failed_directory_sync_is_final() -> None:
    disk = SimulatedDisk()
    disk.open("a", create=True)
    disk.fail("sync_dir")
    for _ in range(2):
        with pytest.raises(StorageFailed):
            disk.sync_dir()
    assert disk.injected == 1
    assert {"a" in image.files() for image in disk.crash_states(start=disk.op_count)} == {True, False}


def test_rot_at_rest() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    file.write_at(0, page(1))
    file.sync()
    disk.sync_dir()
    disk.flip_bit("a", 100, 3)
    assert file.read_at(100, 1)[0] == 1 ^ 8
    disk.corrupt("a", 0, b"\0" * 512)
    assert disk.durable_files()["a"][:512] == bytes(512)
    disk.truncate("a", 600)
    assert file.size() == 600
    with pytest.raises(ValueError):
        disk.corrupt("a", 600, b"x")
