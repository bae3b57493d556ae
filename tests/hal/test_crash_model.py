"""Random workloads against an independent model of durability: what each sector may hold after a power cut.

Goal: no state that a disk could not be left in, and the extremes are both there. Method: every write has a fill of its
own, so a sector tells which write it came from. Oracle: per file and sector, the fills that may be found there.
"""

from __future__ import annotations

import errno
import random

import numpy as np
import pytest

from filestore.errors import DiskFull, StorageFailed
from filestore.hal import ALIGNMENT, File, SimulatedDisk

PAGE = ALIGNMENT
PAGES = 6
SECTORS = PAGES * PAGE // 512


class Model:
    """One file: per sector the fill that is durable, and those that may have replaced it."""

    def __init__(self) -> None:
        self.durable = [0] * SECTORS
        self.maybe: list[set[int]] = [set() for _ in range(SECTORS)]
        self.live = [0] * SECTORS

    def write(self, page: int, fill: int) -> None:
        for sector in range(page * 8, page * 8 + 8):
            self.maybe[sector].add(fill)
            self.live[sector] = fill

    def sync(self) -> None:
        self.durable = self.live.copy()
        self.maybe = [set() for _ in range(SECTORS)]


def sector_fills(content: bytes) -> list[int]:
    """The fill of each sector; -1 for garbage. Beyond the end is zero."""
    found = []
    for first in range(0, SECTORS * 512, 512):
        sector = content[first : first + 512].ljust(512, b"\0")
        words = np.frombuffer(sector, dtype="<u4")
        found.append(int(words[0]) if (words == words[0]).all() else -1)
    return found


def check_images(disk: SimulatedDisk, models: dict[str, Model], seed: int) -> None:
    for image in disk.crash_states(seed, start=disk.op_count, per_op=25):
        files = image.files()
        assert set(files) == set(models)
        garbage = 0
        for name, model in models.items():
            for sector, fill in enumerate(sector_fills(files[name])):
                if fill == -1:
                    garbage += 1
                    assert model.maybe[sector], f"garbage outside any write in flight: {image.description}"
                else:
                    allowed = model.maybe[sector] | {model.durable[sector]}
                    assert fill in allowed, f"{name} sector {sector}: {fill}, not {allowed}: {image.description}"
        assert garbage <= 1
    nothing, everything = disk.crash_image("none").files(), disk.crash_image("all").files()
    for name, model in models.items():
        assert sector_fills(nothing[name]) == model.durable
        assert sector_fills(everything[name]) == model.live


@pytest.mark.parametrize("nth", range(6))
def test_every_sector_is_one_that_the_model_allows(nth: int, seed: int) -> None:
    rng = random.Random(seed)
    disk = SimulatedDisk()
    models = {name: Model() for name in ("a", "b")}
    handles: dict[str, File] = {name: disk.open(name, create=True) for name in models}
    disk.sync_dir()
    for fill in range(1, 40):
        name = rng.choice(list(models))
        step = rng.random()
        if step < 0.6:
            page, count = rng.randrange(PAGES - 1), rng.choice([1, 1, 2])
            handles[name].write_at(page * PAGE, np.full(count * PAGE // 4, fill, dtype="<u4").view(np.uint8))
            for touched in range(page, page + count):
                models[name].write(touched, fill)
        elif step < 0.85:
            handles[name].sync()
            models[name].sync()
        else:
            handles[name].allocate(rng.randrange(1, PAGES + 1) * PAGE)
        if rng.random() < 0.3:
            check_images(disk, models, seed)
    check_images(disk, models, seed)


def test_random_failures_raise_typed_errors_and_leave_a_readable_disk(seed: int) -> None:
    rng = random.Random(seed)
    fired = 0
    for _ in range(40):
        disk = SimulatedDisk()
        disk.fail(
            rng.choice(["write", "sync", "allocate", "create", "rename", "unlink", "sync_dir", "read"]),
            nth=rng.randrange(1, 6),
            error=rng.choice([errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM]),
            sticky=rng.random() < 0.5,
            short=rng.choice([None, None, 0, 100, 512, 1024]),
        )
        for number in range(12):
            try:
                file = disk.open(f"f{number}", create=True)
                file.allocate(2 * PAGE)
                file.write_many([(0, np.ones(PAGE, dtype=np.uint8)), (3 * PAGE, np.ones(PAGE, dtype=np.uint8))])
                file.sync()
                file.read_at(0, 10)
                disk.rename(f"f{number}", "same")
                disk.sync_dir()
            except (DiskFull, StorageFailed):
                continue  # anything else fails the test
        fired += disk.injected
        for image in disk.crash_states(seed, per_op=6):
            image.heal()
            for name, content in image.files().items():
                assert len(image.open(name).read_at(0, 1 << 20)) == len(content), image.description
    assert fired > 20
