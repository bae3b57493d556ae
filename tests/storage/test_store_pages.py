"""Arenas and shadow pages against a plain dict, over checkpoints, drops and reopenings; where pages lie on disk."""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore.errors import DataCorrupted
from filestore.hal import SimulatedDisk
from filestore.storage.arena import PAGE_SIZE, Arena
from filestore.storage.store import CheckpointImage, PageImage, Store
from tests.storage import store_model as model

ARENA_PAGES = 12


def opened(disk: SimulatedDisk) -> Store:
    store = Store.open(disk, model.options(1))
    assert list(store.recover()) == []
    store.finish_recovery()
    return store


def checkpoint(store: Store, arenas: dict[str, Arena]) -> None:
    images = [PageImage(name, arena.used_pages, *arena.take_dirty()) for name, arena in arenas.items()]
    store.checkpoint(CheckpointImage({}, store.log.end_lsn, images, set(arenas)))


def test_arenas_against_a_dict(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimulatedDisk()
    store = opened(disk)
    arenas: dict[str, Arena] = {}
    wanted: dict[str, np.ndarray] = {}
    for step in range(120):
        what = rng.random()
        if what < 0.15 or not arenas:
            name = f"t{step}/c{rng.randrange(9)}"
            arenas[name] = store.arena(name, ARENA_PAGES * PAGE_SIZE)
            wanted[name] = np.zeros(ARENA_PAGES * PAGE_SIZE, np.uint8)
        elif what < 0.2:
            name = rng.choice(sorted(arenas))
            store.drop_arena(name)
            del arenas[name], wanted[name]
        elif what < 0.75:
            name = rng.choice(sorted(arenas))
            low = rng.randrange(ARENA_PAGES * PAGE_SIZE - 1)
            high = min(low + rng.choice((1, 8, 5000, 40_000)), ARENA_PAGES * PAGE_SIZE)
            wanted[name][low:high] = rng.randrange(1, 256)
            arenas[name].data[low:high] = wanted[name][low:high]
            arenas[name].mark(low, high)
        elif what < 0.93:
            checkpoint(store, arenas)
        else:
            checkpoint(store, arenas)
            store.close()
            store = opened(disk)
            assert set(store.arena_names()) <= set(arenas)
            arenas = {name: store.arena(name, ARENA_PAGES * PAGE_SIZE) for name in arenas}
        for name, arena in arenas.items():
            assert np.array_equal(arena.data, wanted[name]), f"seed={seed} step={step} {name}"
    assert store.verify() == []
    store.close()


def test_the_page_file_grows_no_further_than_twice_what_changes() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    arena = store.arena("a", 50 * PAGE_SIZE)
    for round_ in range(1, 30):
        arena.data[:] = round_
        arena.mark(0, arena.data.size)
        checkpoint(store, {"a": arena})
    assert len(disk.files()["pages/pages.dat"]) <= 3 * 64 * PAGE_SIZE
    assert disk.list("pages") == ["map.000000000031", "pages.dat"]
    store.close()


def test_live_pages_are_never_overwritten() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    arena = store.arena("a", 8 * PAGE_SIZE)
    arena.data[:] = 1
    arena.mark(0, arena.data.size)
    checkpoint(store, {"a": arena})
    for round_ in range(2, 12):
        live = set(store._pages._arenas["a"]["slot"].tolist())
        first = len(disk._trace.ops)
        arena.data[: 3 * PAGE_SIZE] = round_
        arena.mark(0, 3 * PAGE_SIZE)
        checkpoint(store, {"a": arena})
        for op in disk._trace.ops[first:]:
            if op.kind == "write" and op.path == "pages/pages.dat":
                touched = range(op.offset // PAGE_SIZE, (op.offset + len(op.data)) // PAGE_SIZE)
                assert live.isdisjoint(touched)
    store.close()


def test_an_idle_checkpoint_writes_no_page_and_no_map() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    arena = store.arena("a", PAGE_SIZE)
    arena.mark(0, 1)
    checkpoint(store, {"a": arena})
    first = len(disk._trace.ops)
    checkpoint(store, {"a": arena})
    assert not [op for op in disk._trace.ops[first:] if op.path.startswith("pages")]
    store.close()


def test_marks_and_views() -> None:
    arena = Arena("a", 3 * PAGE_SIZE - 5)
    assert arena.data.size == 3 * PAGE_SIZE and arena.used_pages == 0
    vector = arena.vector("<i8", 4000)
    vector[2500] = 7
    arena.mark(2500 * 8, 2501 * 8)
    assert arena.dirty.tolist() == [0, 1, 0] and arena.used_pages == 2
    arena.mark(100, 100)
    pages, data = arena.take_dirty()
    assert pages.tolist() == [1] and data.shape == (1, PAGE_SIZE) and not arena.dirty.any()
    assert data.reshape(-1).view("<i8")[2500 - PAGE_SIZE // 8] == 7
    data[:] = 9
    assert vector[2500] == 7, "an image is a private copy"
    with pytest.raises(ValueError, match="bytes, not"):
        arena.vector("<i8", 7000)


def test_an_arena_name_is_used_once_and_must_hold_its_pages() -> None:
    disk = SimulatedDisk()
    store = opened(disk)
    arena = store.arena("a", 4 * PAGE_SIZE)
    arena.mark(0, 4 * PAGE_SIZE)
    checkpoint(store, {"a": arena})
    with pytest.raises(ValueError, match="not"):
        store.arena("a", 9 * PAGE_SIZE)
    store.drop_arena("a")
    with pytest.raises(ValueError, match="dropped"):
        store.arena("a", 4 * PAGE_SIZE)
    store.close()
    store = opened(disk)
    with pytest.raises(ValueError, match="pages on disk"):
        store.arena("a", PAGE_SIZE)
    disk.corrupt("pages/pages.dat", 2 * PAGE_SIZE + 9, b"x")
    with pytest.raises(DataCorrupted, match=f"pages.dat is damaged at offset {2 * PAGE_SIZE}: .* page 2 of arena a"):
        store.arena("a", 4 * PAGE_SIZE)
    store.close()
