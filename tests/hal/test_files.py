"""Conformance: what `File` and `FileSystem` promise, over direct, buffered and simulated."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filestore.errors import DataCorrupted, DirectoryInUse
from filestore.hal import ALIGNMENT, COUNTERS, File, FileSystem, Lock, SimulatedDisk, address, aligned_buffer

PAGE = ALIGNMENT


def pages(count: int, seed: int = 1) -> np.ndarray:
    """Random pages at an aligned address."""
    found = aligned_buffer(count * PAGE)
    found[:] = np.random.default_rng(seed).integers(0, 256, count * PAGE, dtype=np.uint8)
    return found


def test_implementations_are_the_protocols(filesystem: FileSystem) -> None:
    assert isinstance(filesystem, FileSystem)
    assert isinstance(filesystem.open("a", create=True), File)
    assert isinstance(filesystem.lock(), Lock)


def test_written_bytes_are_read(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    assert file.size() == 0
    data = pages(3)
    file.write_at(PAGE, data)
    assert file.size() == 4 * PAGE
    found = file.read_at(PAGE, data.size)
    assert np.array_equal(found, data)
    assert address(found) % ALIGNMENT == 0
    assert found.flags.writeable
    assert not file.read_at(0, PAGE).any(), "a hole reads as zero"
    file.sync()
    file.close()
    again = filesystem.open("a", read_only=True)
    assert np.array_equal(again.read_at(PAGE, data.size), data)
    again.close()


def test_reads_may_be_unaligned_and_stop_at_the_end(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    data = pages(2)
    file.write_at(0, data)
    assert np.array_equal(file.read_at(PAGE - 3, 7), data[PAGE - 3 : PAGE + 4])
    assert np.array_equal(file.read_at(PAGE + 1, 10 * PAGE), data[PAGE + 1 :])
    assert file.read_at(2 * PAGE, 10).size == 0
    assert file.read_at(1 << 40, 1 << 40).size == 0, "what does not exist costs nothing"
    assert file.read_at(5, 0).size == 0
    with pytest.raises(ValueError):
        file.read_at(-1, 10)


def test_misaligned_writes_are_refused_everywhere(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    data = pages(1)
    for offset, piece in ((1, data), (512, data), (0, data[:512]), (-PAGE, data)):
        with pytest.raises(ValueError):
            file.write_at(offset, piece)
    with pytest.raises(ValueError):
        file.write_at(0, pages(2)[::2])
    with pytest.raises(ValueError):
        file.write_at(0, np.zeros(PAGE, dtype=np.int8))
    with pytest.raises(ValueError):
        file.allocate(100)
    assert file.size() == 0


def test_arrays_at_odd_addresses_are_written_through_a_copy(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    odd = pages(3)[7 : 7 + 2 * PAGE]
    odd.flags.writeable = False
    assert address(odd) % ALIGNMENT
    copies = COUNTERS.bounce_copies
    file.write_at(0, odd)
    assert np.array_equal(file.read_at(0, odd.size), odd)
    assert COUNTERS.bounce_copies - copies == (1 if getattr(filesystem, "direct", False) else 0)


def test_batches_join_neighbours_and_refuse_overlap(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    first, second, third = pages(1, 1), pages(2, 2), pages(1, 3)
    writes = COUNTERS.writes
    file.write_many([(3 * PAGE, third), (0, first), (PAGE, second)])
    assert COUNTERS.writes - writes == 1
    assert np.array_equal(file.read_at(0, 4 * PAGE), np.concatenate([first, second, third]))
    with pytest.raises(ValueError):
        file.write_many([(0, second), (PAGE, first)])
    file.write_many([])
    scattered = [(2 * PAGE * place, pages(1, place)) for place in range(40)]
    file.write_many(scattered)
    for offset, data in scattered:
        assert np.array_equal(file.read_at(offset, PAGE), data)
    many = [(PAGE * place, pages(1, place)) for place in range(1500)]  # more parts than one pwritev takes
    file.write_many(many)
    assert np.array_equal(file.read_at(0, 1500 * PAGE), np.concatenate([data for _, data in many]))


def test_allocate_grows_and_never_shrinks(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    file.write_at(0, pages(1))
    file.allocate(8 * PAGE)
    assert file.size() == 8 * PAGE
    assert not file.read_at(PAGE, 7 * PAGE).any()
    file.allocate(PAGE)
    file.allocate(0)
    assert file.size() == 8 * PAGE
    assert np.array_equal(file.read_at(0, PAGE), pages(1))


def test_map_is_read_only_and_outlives_the_file(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    data = pages(3)
    file.write_at(0, data)
    with pytest.raises(ValueError, match="unsynced"):
        file.map_read(0, PAGE)
    file.sync()
    view = file.map_read(0, 3 * PAGE)
    part = file.map_read(PAGE + 16, 100)
    assert file.map_read(0, 0).size == 0
    with pytest.raises(ValueError, match="sealed"):
        file.write_at(0, data)
    with pytest.raises(DataCorrupted, match="ends at"):
        file.map_read(PAGE, 3 * PAGE)
    file.close()
    filesystem.unlink("a")
    gc.collect()
    assert np.array_equal(view, data)
    assert np.array_equal(part, data[PAGE + 16 : PAGE + 116])
    assert not view.flags.writeable
    with pytest.raises(ValueError):
        view[0] = 1


def test_names(filesystem: FileSystem) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.open("a")
    with pytest.raises(FileNotFoundError):
        filesystem.open("wal/a", create=True)
    filesystem.make_dir("wal")
    filesystem.make_dir("wal/old")
    with pytest.raises(FileExistsError):
        filesystem.make_dir("wal")
    filesystem.open("wal/a", create=True).close()
    with pytest.raises(FileExistsError):
        filesystem.open("wal/a", create=True)
    filesystem.open("b", create=True).close()
    assert filesystem.list() == ["b", "wal"]
    assert filesystem.list("wal") == ["a", "old"]
    assert filesystem.exists("wal/a") and filesystem.exists("wal") and not filesystem.exists("wal/b")
    filesystem.rename("wal/a", "b")
    assert filesystem.list() == ["b", "wal"] and filesystem.list("wal") == ["old"]
    filesystem.sync_dir("wal")
    filesystem.sync_dir()
    filesystem.unlink("b")
    assert not filesystem.exists("b")
    for refused in (
        lambda: filesystem.unlink("b"),
        lambda: filesystem.rename("b", "c"),
        lambda: filesystem.list("nowhere"),
        lambda: filesystem.sync_dir("nowhere"),
    ):
        with pytest.raises(FileNotFoundError):
            refused()


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "a\0b"])
def test_paths_stay_below_the_root(filesystem: FileSystem, path: str) -> None:
    with pytest.raises(ValueError):
        filesystem.open(path, create=True)


def test_rename_replaces_while_open_handles_keep_their_bytes(filesystem: FileSystem) -> None:
    old, new = filesystem.open("manifest", create=True), filesystem.open("manifest.tmp", create=True)
    old.write_at(0, pages(1, 1))
    new.write_at(0, pages(1, 2))
    filesystem.rename("manifest.tmp", "manifest")
    assert np.array_equal(old.read_at(0, PAGE), pages(1, 1))
    assert np.array_equal(filesystem.open("manifest").read_at(0, PAGE), pages(1, 2))


def test_closed_and_read_only_files_say_so(filesystem: FileSystem) -> None:
    file = filesystem.open("a", create=True)
    file.close()
    file.close()
    for call in (file.size, file.sync, lambda: file.read_at(0, 1), lambda: file.write_at(0, pages(1))):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="read-only"):
        filesystem.open("a", read_only=True).write_at(0, pages(1))
    with pytest.raises(ValueError):
        filesystem.open("b", create=True, read_only=True)


def test_one_lock_at_a_time(filesystem: FileSystem) -> None:
    lock = filesystem.lock()
    with pytest.raises(DirectoryInUse) as refused:
        filesystem.lock()
    assert refused.value.sqlstate == "55006"
    lock.release()
    lock.release()
    filesystem.lock().release()


def test_counters_and_free_space(filesystem: FileSystem) -> None:
    before = COUNTERS.snapshot()
    file = filesystem.open("a", create=True)
    file.write_at(0, pages(2))
    file.read_at(0, PAGE)
    file.sync()
    after = COUNTERS.snapshot()

    def grown(name: str) -> int:
        return after[name] - before[name]  # type: ignore[operator]

    assert grown("writes") == 1 and grown("write_bytes") == 2 * PAGE
    assert grown("reads") == 1 and grown("read_bytes") == PAGE
    assert grown("syncs") == 1
    assert sum(after["sync_us_histogram"]) == sum(before["sync_us_histogram"]) + 1  # type: ignore[arg-type]
    assert filesystem.free_bytes() > 0


@settings(
    max_examples=25, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "many", "grow", "sync"]), st.integers(0, 9), st.integers(1, 4)),
        max_size=20,
    )
)
def test_like_a_bytearray(filesystem: FileSystem, steps: list[tuple[str, int, int]]) -> None:
    """Any sequence of writes reads back as from a plain bytearray."""
    name = f"random{len(filesystem.list())}"
    file = filesystem.open(name, create=True)
    model = bytearray()

    def put(offset: int, data: np.ndarray) -> None:
        model.extend(bytes(max(0, offset + data.size - len(model))))
        model[offset : offset + data.size] = data.tobytes()

    for number, (kind, place, count) in enumerate(steps):
        if kind == "write":
            file.write_at(place * PAGE, pages(count, number))
            put(place * PAGE, pages(count, number))
        elif kind == "many":
            batch = [((place + 2 * nth) * PAGE, pages(1 + nth % 2, number)) for nth in range(count)]
            file.write_many(batch)
            for offset, data in batch:
                put(offset, data)
        elif kind == "grow":
            file.allocate(place * PAGE)
            model.extend(bytes(max(0, place * PAGE - len(model))))
        else:
            file.sync()
    assert file.size() == len(model)
    assert file.read_at(0, len(model) + 5).tobytes() == bytes(model)
    if isinstance(filesystem, SimulatedDisk):
        file.sync()
        filesystem.sync_dir()
        assert filesystem.durable_files()[name] == bytes(model)
    file.close()
