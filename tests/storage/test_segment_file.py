"""Sealed files: every kind of buffer comes back as a view, alignment, zones, first touch from many threads."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from filestore.errors import DataCorrupted
from filestore.hal import SimulatedDisk, address, open_filesystem
from filestore.storage.layout import BLOCK
from filestore.storage.segment_file import Hidden, Role, SealedColumn, SealedContents, SealedFile, Zone, write_segment
from filestore.storage.store import CheckpointImage, Store, sealed_name
from tests.storage import store_model as model

UUID = bytes(range(16))


def contents(rows: int, seed: int) -> SealedContents:
    rng = np.random.default_rng(seed)
    views = rng.integers(0, 2**60, (rows, 2)).astype(np.uint64)
    words = rng.integers(0, 2**60, (200, 2)).astype(np.uint64)
    bitmap = np.packbits(rng.random(rows) < 0.5, bitorder="little")
    heap = rng.integers(0, 256, rows * 30).astype(np.uint8)
    columns = [
        SealedColumn(rng.integers(-(2**62), 2**62, rows), zone=Zone(0, rows, b"\1" * 8, b"\2" * 8)),
        SealedColumn(rng.integers(0, 9, rows).astype(np.int16), bitmap, zone=Zone(7)),
        SealedColumn(views, heap=heap),
        SealedColumn(rng.integers(0, 200, rows).astype(np.uint8), words=words, words_heap=heap[:1000]),
        SealedColumn(rng.random(rows), heap=np.empty(0, np.uint8)),
    ]
    vector = np.arange(rows, dtype=np.int64)
    return SealedContents(7, 3, rows, columns, begin=vector + 5, end=None, previous=vector, record=vector * 2)


def same(file: SealedFile, written: SealedContents) -> None:
    wanted = {(column, role): array for column, role, array in written.buffers()}
    for column in [*range(len(written.columns)), *map(int, Hidden)]:
        for role in Role:
            found = file.buffer(column, role)
            if (column, role) not in wanted:
                assert found is None and not file.has(column, role)
                continue
            array = wanted[column, role]
            assert found is not None
            assert found.dtype == array.dtype and np.array_equal(found, array)
            assert not found.flags.writeable
            assert found.size == 0 or address(found) % BLOCK == 0, "kernels rely on alignment"


@pytest.mark.parametrize("rows", [0, 1, 1000, 70_000, 300_000])
def test_round_trip(rows: int, data_dir, seed: int) -> None:
    fs = open_filesystem(str(data_dir))
    written = contents(rows, seed)
    reference = write_segment(fs, "x.seg", UUID, written)
    file = SealedFile(fs, "x.seg", UUID, reference)
    assert (file.storage_id, file.segment, file.rows, file.columns, file.begin) == (7, 3, rows, 5, None)
    same(file, written)
    assert file.zone(0) == Zone(0, rows, b"\1" * 8 + bytes(8), b"\2" * 8 + bytes(8))
    assert file.zone(1) == Zone(7)
    assert file.verify() == []
    assert (file.hidden(Hidden.RECORD) == np.arange(rows) * 2).all()


def test_a_scalar_begin_and_no_hidden_vectors() -> None:
    disk = SimulatedDisk()
    write_segment(disk, "x.seg", UUID, SealedContents(1, 0, 4, [SealedColumn(np.arange(4))], begin=123))
    file = SealedFile(disk, "x.seg", UUID)
    assert file.begin == 123 and file.hidden(Hidden.BEGIN) is None and file.hidden(Hidden.END) is None


def test_what_cannot_be_held_is_refused() -> None:
    disk = SimulatedDisk()
    for array in (np.array(["a"]), np.arange(4).astype(">i8"), np.arange(8).reshape(2, 4)[:, ::2], np.zeros((1, 1, 1))):
        with pytest.raises(ValueError, match="cannot hold"):
            write_segment(disk, "x.seg", UUID, SealedContents(1, 0, len(array), [SealedColumn(array)]))


def test_the_wrong_file_under_the_right_name_is_refused() -> None:
    disk = SimulatedDisk()
    one = write_segment(disk, "x.seg", UUID, contents(50, 1))
    write_segment(disk, "x.seg", UUID, contents(50, 2))
    with pytest.raises(DataCorrupted, match="not the file that the manifest names"):
        SealedFile(disk, "x.seg", UUID, one)
    with pytest.raises(DataCorrupted, match="another store"):
        SealedFile(disk, "x.seg", bytes(16))


def test_first_touch_from_many_threads(data_dir) -> None:
    fs = open_filesystem(str(data_dir))
    written = contents(40_000, 1)
    write_segment(fs, "x.seg", UUID, written)
    file = SealedFile(fs, "x.seg", UUID)
    errors: list[BaseException] = []

    def touch() -> None:
        try:
            same(file, written)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=touch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def checkpoint(store: Store, sealed: set[str]) -> None:
    store.checkpoint(CheckpointImage({}, store.log.end_lsn, [], set(), sealed))


def test_life_of_sealed_files() -> None:
    """Named by a checkpoint, dropped by a later one, removed when nobody reads it; strays go after a restart."""
    disk = SimulatedDisk()
    store = Store.open(disk, model.options(1))
    assert list(store.recover()) == []
    store.finish_recovery()
    names = [sealed_name(4, k) for k in range(4)]
    for k, name in enumerate(names):
        store.write_sealed(name, SealedContents(4, k, 3, [SealedColumn(np.arange(3) + k)]))
    checkpoint(store, set(names[:3]))
    assert len(disk.list("tables/4")) == 4, "a log record may yet attach the last one"
    with pytest.raises(ValueError, match="never written again"):
        store.write_sealed(names[0], SealedContents(4, 0, 0, []))
    reader = store.open_sealed(names[0])
    assert store.open_sealed(names[0]) is reader
    checkpoint(store, {names[1]})
    assert disk.list("tables/4") == ["00000000.seg", "00000001.seg", "00000003.seg"], "0 is still read"
    assert reader.buffer(0).tolist() == [0, 1, 2]
    del reader
    gc.collect()
    store.discard_sealed(names[3])
    checkpoint(store, {names[1]})
    assert "00000003.seg" in disk.list("tables/4"), "a checkpoint under way may still replay its record"
    checkpoint(store, {names[1]})
    assert disk.list("tables/4") == ["00000001.seg"]
    store.write_sealed(sealed_name(4, 9), SealedContents(4, 9, 0, []))
    store.close()
    store = Store.open(disk, model.options(2))
    assert list(store.recover()) == []
    store.finish_recovery()
    assert "00000009.seg" in disk.list("tables/4"), "the log might have attached it"
    checkpoint(store, {names[1]})
    assert disk.list("tables/4") == ["00000001.seg"]
    for bad in ("x.seg", "tables/1/../x.seg/y", "tables/4/x"):
        with pytest.raises(ValueError):
            store.write_sealed(bad, SealedContents(4, 9, 0, []))
    store.close()
