"""Damage at rest: flipped bits, zeroed, swapped and stale blocks, truncated and missing files.

Goal (RELIABILITY F8): damage is detected, by file, or harmless; a wrong answer never. Oracle: `store_model`, which
compares every page, group and sealed column with what it must be; "harmless" means that all of it is right and
complete.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from filestore.errors import DataCorrupted, Error, IncompatibleFormat
from filestore.hal import SimulatedDisk
from filestore.storage import manifest as manifests
from filestore.storage.segment_file import Role, SealedColumn, SealedContents
from filestore.storage.store import Store, sealed_name
from filestore.storage.verify import verify_directory
from tests.storage import store_model as model
from tests.storage.store_model import Engine

TRANSACTIONS = 75
BLOCK = 4096


@pytest.fixture(scope="module")
def sound() -> SimulatedDisk:
    """A closed store with pages, sealed files, and acknowledged groups behind the last checkpoint."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    for t in range(1, TRANSACTIONS + 1):
        engine.append()
        if t % 2 == 0:
            engine.store.log.flush()
        if t in (20, 40, 64):
            engine.checkpoint()
    engine.store.log.flush()
    assert len(engine.store.manifest.sealed) == 3
    engine.close()
    assert verify_directory(disk) == []
    return disk


def judge(disk: SimulatedDisk, what: str, path: str) -> str:
    """'detected' or 'harmless'; AssertionError when a damaged store gives a wrong answer."""
    try:
        engine = Engine.open(disk, model.options(3), finish=False)
    except (DataCorrupted, IncompatibleFormat) as error:
        place = re.search(r"file |directory |log ", error.message) and path.partition("/")[0] in error.message
        return "detected" if place or "log" in error.message else f"{what}: {error.message}"
    except AssertionError as error:
        raise AssertionError(f"{what}: a wrong answer: {error}") from error
    assert engine.count == TRANSACTIONS, f"{what}: {engine.count} transactions of {TRANSACTIONS}"
    engine.close()
    return "harmless"


def test_flipped_bits(sound: SimulatedDisk, seed: int) -> None:
    rng = random.Random(seed)
    verdicts = {"detected": 0, "harmless": 0}
    files = {path: data for path, data in sound.files().items() if not path.startswith("wal/spare")}
    for path, data in files.items():
        used = np.flatnonzero(np.frombuffer(data, np.uint8))
        places = {*rng.sample(range(len(data)), 40), *rng.sample(used.tolist(), min(100, used.size)), 0, len(data) - 1}
        for offset in sorted(places):
            disk = sound.clone()
            disk.flip_bit(path, offset, rng.randrange(8))
            what = f"seed={seed} {path}@{offset}"
            verdict = judge(disk, what, path)
            assert verdict in verdicts, verdict
            verdicts[verdict] += 1
            if verdict == "detected":
                assert verify_directory(disk) != [], f"{what}: the verifier is silent"
    print(verdicts, len(files))
    assert verdicts["detected"] > 500


def test_every_byte_that_the_manifest_vouches_for_is_checked(sound: SimulatedDisk, seed: int) -> None:
    """Sealed files and the page map have no byte that may change unseen, padding included."""
    rng = random.Random(seed)
    for path, data in sound.files().items():
        if not path.startswith(("tables/", "pages/map")):
            continue
        for offset in range(0, len(data), 97):
            disk = sound.clone()
            disk.flip_bit(path, offset, rng.randrange(8))
            assert verify_directory(disk) != [], f"seed={seed} {path}@{offset}"


def blocks_of(sound: SimulatedDisk) -> list[tuple[str, int]]:
    return [
        (path, offset)
        for path, data in sound.files().items()
        if not path.startswith("wal/spare")
        for offset in range(0, len(data), BLOCK)
    ]


def test_zeroed_swapped_and_stale_blocks(sound: SimulatedDisk, seed: int) -> None:
    rng = random.Random(seed)
    blocks = blocks_of(sound)
    files = sound.files()
    seen = set()
    for path, offset in rng.sample(blocks, 120):
        kind = rng.choice(("zero", "swap", "noise"))
        disk = sound.clone()
        if kind == "zero":
            disk.corrupt(path, offset, bytes(BLOCK))
        elif kind == "noise":
            disk.corrupt(path, offset, rng.randbytes(BLOCK))
        else:
            other, there = rng.choice(blocks)
            disk.corrupt(path, offset, files[other][there : there + BLOCK])
            disk.corrupt(other, there, files[path][offset : offset + BLOCK])
            if other.split("/")[0] != path.split("/")[0]:
                path = ""
        seen.add(judge(disk, f"seed={seed} {kind} {path}@{offset}", path))
    assert "detected" in seen


def test_a_page_of_an_older_checkpoint_is_not_believed(sound: SimulatedDisk) -> None:
    """A lost write leaves the old bytes, whose own checksum was right once."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, model.options(1))
    old: dict[str, Any] = {}
    for _ in range(6):
        for _ in range(10):
            engine.append()
        engine.checkpoint()
        old = {**disk.files(), **old}
    engine.close()
    stale = old["pages/pages.dat"]
    disk.corrupt("pages/pages.dat", 0, stale)
    assert judge(disk, "stale pages", "pages") == "detected"


def redo_of(disk: SimulatedDisk) -> int:
    return manifests.read(disk)[0].redo_lsn


def test_truncated_and_missing_files(sound: SimulatedDisk, seed: int) -> None:
    rng = random.Random(seed)
    for path, data in sound.files().items():
        if path.startswith("wal/spare"):
            continue
        for size in {0, 512, len(data) - 512, rng.randrange(len(data) // 512) * 512}:
            disk = sound.clone()
            disk.truncate(path, size)
            judge(disk, f"seed={seed} {path} cut to {size}", path)
    logs = sorted(path for path in sound.files() if path.startswith("wal/0"))
    for path in sound.files():
        # The newest log file cannot be missed: a log may end where a file does (docs/durability.md says so).
        if path.startswith("wal/spare") or path == logs[-1]:
            continue
        disk = sound.clone()
        disk.unlink(path)
        assert judge(disk, f"{path} is gone", path) == "detected" or path < f"wal/{redo_of(sound):020}", path


def test_one_bad_copy_of_the_manifest_is_survived_told_and_mended(sound: SimulatedDisk) -> None:
    for offset in (0, 200, len(sound.files()["manifest"]) // 2 + 30):
        disk = sound.clone()
        disk.flip_bit("manifest", offset)
        assert [finding.file for finding in verify_directory(disk)] == ["manifest"]
        engine = Engine.open(disk, model.options(3))
        assert engine.count == TRANSACTIONS
        engine.close()
        assert verify_directory(disk) == []


def test_an_unreadable_column_leaves_the_others_readable() -> None:
    disk = SimulatedDisk()
    store = Store.open(disk, model.options(1))
    assert list(store.recover()) == []
    store.finish_recovery()
    columns = [SealedColumn(np.arange(3000, dtype=np.int64) + i) for i in range(3)]
    name = sealed_name(1, 0)
    store.write_sealed(name, SealedContents(1, 0, 3000, columns))
    disk.flip_bit(name, BLOCK + 24576 + 100)
    file = store.open_sealed(name)
    assert (file.buffer(0, Role.DATA) == columns[0].data).all()
    for _ in range(2):
        with pytest.raises(DataCorrupted, match=rf"{name} is damaged at offset {BLOCK + 24576}"):
            file.buffer(1, Role.DATA)
    assert (file.buffer(2, Role.DATA) == columns[2].data).all()
    store.close()


def test_the_verifier_names_each_chunk_that_cannot_be_read() -> None:
    disk = SimulatedDisk()
    store = Store.open(disk, model.options(1))
    assert list(store.recover()) == []
    store.finish_recovery()
    name = sealed_name(1, 0)
    store.write_sealed(name, SealedContents(1, 0, 400_000, [SealedColumn(np.arange(400_000))]))
    file = store.open_sealed(name)
    for nth in (1, 3):  # all of it at once, then the second of its chunks
        disk.fail("read", name, nth=nth)
    (damage,) = file.verify()
    assert damage.message.startswith(f"cannot read 1048576 bytes of file {name} at offset {BLOCK + (1 << 20)}: EIO")
    store.close()


@pytest.mark.parametrize("copy", [0, 1])
def test_one_copy_of_the_manifest_that_cannot_be_read_is_survived_and_told(sound: SimulatedDisk, copy: int) -> None:
    disk = sound.clone()
    half = len(disk.files()["manifest"]) // 2
    for nth in (1, 2 + copy):  # both at once, then one of them
        disk.fail("read", "manifest", nth=nth)
    found, damage = manifests.read(disk)
    assert found == manifests.read(sound)[0]
    assert [offset for offset, _ in damage] == [half * copy]
    assert "EIO" in damage[0][1]
    disk.heal()
    disk.fail("read", "manifest", sticky=True)
    with pytest.raises(DataCorrupted, match="both copies"):
        Store.open(disk)


def test_a_directory_of_another_version_is_refused(sound: SimulatedDisk) -> None:
    disk = sound.clone()
    found, _ = manifests.read(disk)
    for changed in (replace(found, incompatible=4), replace(found, format_version=2)):
        manifests.switch(disk, changed, 0)
        with pytest.raises(IncompatibleFormat):
            Store.open(disk)
    manifests.switch(disk, replace(found, read_only=1), 0)
    before = disk.op_count
    engine = Engine.open(disk, model.options(2))
    assert engine.count == TRANSACTIONS and engine.store.read_only
    with pytest.raises(Error) as refused:
        engine.append()
    assert refused.value.sqlstate == "25006"
    engine.close()
    assert disk.op_count == before, "a read-only store writes nothing"
