"""What a power cut may leave on the simulated disk: semantics, completeness, reproducibility, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from filestore.errors import StorageFailed
from filestore.hal import ALIGNMENT, SimulatedCrash, SimulatedDisk
from filestore.hal.crash import Survivors
from tests.seeds import seed_of

PAGE = ALIGNMENT
SEED = seed_of(__name__)
KINDS = {"none", "all", "nameless", "empty", "dropped", "torn", "shorn", "subset"}


def page(fill: int, count: int = 1) -> np.ndarray:
    return np.full(count * PAGE, fill, dtype=np.uint8)


def durable_disk(*fills: int) -> SimulatedDisk:
    """A disk with one durable file 'a', a page per fill."""
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    for place, fill in enumerate(fills):
        file.write_at(place * PAGE, page(fill))
    file.sync()
    disk.sync_dir()
    disk.forget_trace()
    return disk


def runs(data: bytes) -> list[tuple[int, int]]:
    """(value, sectors) of consecutive equal 512-byte sectors of uniform fill; -1 for garbage."""
    found: list[tuple[int, int]] = []
    for first in range(0, len(data), 512):
        sector = data[first : first + 512]
        value = sector[0] if sector == sector[:1] * 512 else -1
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1] + 1)
        else:
            found.append((value, 1))
    return found


def last_states(disk: SimulatedDisk, per_op: int | None = None) -> list[SimulatedDisk]:
    return list(disk.crash_states(SEED, start=disk.op_count, per_op=per_op))


def whole_states(disk: SimulatedDisk) -> list[SimulatedDisk]:
    """Those in which each operation survived wholly or not at all."""
    return [image for image in last_states(disk) if "torn= shorn= " in image.description]


def test_what_is_synced_survives_everything() -> None:
    disk = durable_disk(1, 2)
    assert [image.files()["a"] for image in last_states(disk)] == [disk.files()["a"]]
    disk.open("a").write_at(0, page(9))
    for image in disk.crash_states(SEED):
        assert image.files()["a"][PAGE:] == bytes([2]) * PAGE, image.description


def test_one_write_in_flight_takes_every_shape() -> None:
    disk = durable_disk(1)
    disk.open("a").write_at(0, page(2))
    states = {tuple(runs(image.files()["a"])) for image in last_states(disk)}
    assert ((1, 8),) in states, "lost"
    assert ((2, 8),) in states, "survived"
    for edge in range(1, 8):
        assert ((2, edge), (1, 8 - edge)) in states, "torn, head kept"
        assert ((1, edge), (2, 8 - edge)) in states, "torn, tail kept"
    assert any((-1, 1) in state for state in states), "shorn"


def test_writes_survive_out_of_order_and_all_subsets_are_tried() -> None:
    disk = durable_disk(1, 1, 1, 1)
    file = disk.open("a")
    for place in range(4):
        file.write_at(place * PAGE, page(10 + place))
    whole = {tuple(image.files()["a"][place * PAGE] for place in range(4)) for image in whole_states(disk)}
    assert len(whole) == 16


def test_a_later_write_of_the_same_page_covers_the_earlier() -> None:
    disk = durable_disk(1)
    file = disk.open("a")
    file.write_at(0, page(2))
    file.write_at(0, page(3))
    seen = {image.files()["a"][0] for image in whole_states(disk)}
    assert seen == {1, 2, 3}


def test_a_lost_extension_is_short_and_a_hole_is_zero() -> None:
    disk = durable_disk(1)
    file = disk.open("a")
    file.write_at(PAGE, page(2))
    file.write_at(2 * PAGE, page(3))
    contents = {image.files()["a"] for image in last_states(disk)}
    one, two, three, hole = (bytes([fill]) * PAGE for fill in (1, 2, 3, 0))
    assert {one, one + two, one + two + three, one + hole + three} <= contents


def test_allocation_in_flight_may_be_lost() -> None:
    disk = durable_disk(1)
    disk.open("a").allocate(4 * PAGE)
    assert {len(image.files()["a"]) for image in last_states(disk)} == {PAGE, 4 * PAGE}


def test_names_survive_only_after_a_directory_sync() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    file.write_at(0, page(1))
    file.sync()
    assert {"a" in image.files() for image in last_states(disk)} == {True, False}, "a sync does not name the file"
    disk.sync_dir()
    assert all(image.files() == {"a": bytes([1]) * PAGE} for image in last_states(disk))


def test_a_name_may_survive_without_its_content() -> None:
    disk = SimulatedDisk()
    disk.open("a", create=True).write_at(0, page(1))
    disk.sync_dir()
    assert b"" in {image.files()["a"] for image in last_states(disk)}


def test_rename_is_atomic_and_needs_the_directory_sync() -> None:
    disk = durable_disk(1)
    file = disk.open("a.tmp", create=True)
    file.write_at(0, page(2))
    file.sync()
    disk.rename("a.tmp", "a")
    contents = {image.files()["a"][0] for image in last_states(disk)}
    assert contents == {1, 2}, "never absent, never mixed"
    disk.sync_dir()
    assert [image.files() for image in last_states(disk)] == [{"a": bytes([2]) * PAGE}]


def test_rename_before_sync_of_the_content_can_lose_both() -> None:
    """The bug that R25 is about: rename first, and the new name may be empty."""
    disk = durable_disk(1)
    disk.open("a.tmp", create=True).write_at(0, page(2))
    disk.rename("a.tmp", "a")
    disk.sync_dir()
    assert b"" in {image.files()["a"] for image in last_states(disk)}


def test_unlink_may_come_back() -> None:
    disk = durable_disk(1)
    disk.unlink("a")
    assert {"a" in image.files() for image in last_states(disk)} == {True, False}
    disk.sync_dir()
    assert {"a" in image.files() for image in last_states(disk)} == {False}


def test_a_lost_directory_takes_its_files_along() -> None:
    disk = SimulatedDisk()
    disk.make_dir("wal")
    disk.open("wal/0", create=True).sync()
    disk.sync_dir("wal")
    assert {"wal/0" in image.files() for image in last_states(disk)} == {True, False}
    disk.sync_dir()
    assert all(image.list("wal") == ["0"] for image in last_states(disk))


def workload(disk: SimulatedDisk) -> None:
    """Creates, writes in batches, renames, unlinks: every kind of operation, some in flight at most points."""
    rng = np.random.default_rng(SEED)
    disk.make_dir("wal")
    disk.sync_dir()
    for number in range(4):
        file = disk.open(f"wal/{number}", create=True)
        file.allocate(8 * PAGE)
        file.write_many([(place * PAGE, page(int(rng.integers(1, 255)))) for place in (0, 1, 3, 6)])
        if number % 2:
            file.sync()
            disk.sync_dir("wal")
    disk.rename("wal/3", "wal/1")
    disk.unlink("wal/0")


def test_enumeration_is_deterministic_and_each_state_reproduces_itself() -> None:
    print("seed", SEED)
    disk, twin = SimulatedDisk(), SimulatedDisk()
    workload(disk)
    workload(twin)
    states = list(disk.crash_states(SEED, per_op=30))
    again = list(twin.crash_states(SEED, per_op=30))
    assert [image.description for image in states] == [image.description for image in again]
    assert [image.files() for image in states] == [image.files() for image in again]
    for image in states:
        assert str(Survivors.parse(image.description)) == image.description
        assert disk.crash_image(image.description).files() == image.files(), image.description
    assert {part for image in states for part in image.description.split() if part.startswith("kind=")} == {
        f"kind={kind}" for kind in KINDS
    }, "sampling drops no kind"
    other = [image.description for image in disk.crash_states(SEED + 1, per_op=30)]
    assert other != [image.description for image in states]


def test_per_op_bounds_and_ranges_cut() -> None:
    disk = SimulatedDisk()
    workload(disk)
    counts: dict[int, int] = {}
    for image in disk.crash_states(SEED, start=5, stop=12, per_op=9):
        counts[image.crash_op] = counts.get(image.crash_op, 0) + 1
    assert set(counts) == set(range(5, 13))
    assert max(counts.values()) <= 9
    with pytest.raises(ValueError):
        next(disk.crash_states(start=10_000))


def test_replay_of_the_trace_is_the_disk() -> None:
    disk = SimulatedDisk()
    workload(disk)
    assert disk.crash_image("all").files() == disk.files()
    disk.forget_trace()
    disk.open("wal/2").write_at(0, page(77))
    assert disk.crash_image("all").files() == disk.files()
    assert len(disk.ops) == 1
    unrecorded = SimulatedDisk(record=False)
    workload(unrecorded)
    assert not unrecorded.ops
    assert unrecorded.crash_image("all").files() == unrecorded.files()
    assert list(unrecorded.crash_states(SEED))


def test_images_are_independent_disks() -> None:
    disk = durable_disk(1)
    first, second = disk.crash_image("none"), disk.crash_image("none")
    file = first.open("a")
    file.write_at(0, page(5))
    file.sync()
    assert second.files()["a"][0] == 1 and disk.files()["a"][0] == 1
    assert [op.kind for op in first.ops] == ["write", "sync"]
    lock = first.lock()
    assert first.crash_image("none").lock() is not lock, "a dead process holds no lock"


def test_crash_at_cuts_the_power_for_good() -> None:
    disk = durable_disk(1)
    file = disk.open("a")
    disk.crash_at(disk.op_count + 1)
    file.write_at(0, page(2))
    with pytest.raises(SimulatedCrash):
        file.sync()
    for call in (file.sync, file.size, lambda: disk.open("a"), disk.list, lambda: disk.exists("a")):
        with pytest.raises(SimulatedCrash):
            call()
    assert {image.files()["a"][0] for image in whole_states(disk)} == {1, 2}
    survivor = disk.crash_image("all")
    assert survivor.open("a").read_at(0, 1)[0] == 2


def test_failed_sync_loses_data_that_reads_still_show() -> None:
    """As measured on Linux: the second fsync succeeds, and the disk holds the old bytes."""
    disk = durable_disk(1)
    file = disk.open("a")
    file.write_at(0, page(2))
    fault = disk.fail("sync", "a")
    with pytest.raises(StorageFailed):
        file.sync()
    assert fault.injected == 1
    assert {image.files()["a"][0] for image in whole_states(disk)} == {1, 2}
    naive = disk.open("a")
    naive.sync()
    assert naive.read_at(0, 1)[0] == 2, "the page cache lies"
    assert {image.files()["a"][0] for image in last_states(disk)} == {1}
    with pytest.raises(StorageFailed, match="earlier failure"):
        file.sync()


def test_images_are_cheap() -> None:
    """Under 1 ms for a state of 1 MiB; the bound is generous for a loaded machine, the figure is printed."""
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    file.write_at(0, page(1, 240))
    file.sync()
    disk.sync_dir()
    disk.forget_trace()
    for place in range(16):
        file.write_at(place * PAGE, page(2))
    started = time.perf_counter()
    count = sum(1 for _ in disk.crash_states(SEED, per_op=64))
    each = (time.perf_counter() - started) / count
    print(f"{count} images, {each * 1e6:.0f} us each")
    assert each < 0.005
