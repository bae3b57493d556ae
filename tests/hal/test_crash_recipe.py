"""The recipe that crash tests of the engine follow, on a store of forty lines; and that it finds planted bugs.

Goal: a right protocol survives every crash state, crashes inside recovery included, and each wrong one is caught.
Method: `Ledger` appends checksummed pages to a log and switches a manifest by rename. Its switches leave one step out.
Oracle: what was acknowledged before the crash must be there, in order, and nothing that was never written.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from filestore.hal import ALIGNMENT, FileSystem, SimulatedCrash, SimulatedDisk
from tests.seeds import seed_of

PAGE = ALIGNMENT
SEED = seed_of(__name__)


def sealed_page(number: int, checksum: bool = True) -> np.ndarray:
    """A page of `number` with its CRC in front, or 1 in its place."""
    body = np.full(PAGE // 4 - 1, number, dtype="<u4")
    crc = zlib.crc32(body.tobytes()) if checksum else 1
    return np.concatenate([np.array([crc], dtype="<u4"), body]).view(np.uint8)


def opened_page(page: np.ndarray, checksum: bool = True) -> int | None:
    """The number on a page, or None if the page is not valid."""
    words = page.view("<u4")
    if page.size < PAGE or words[0] == 0 or (checksum and zlib.crc32(words[1:].tobytes()) != words[0]):
        return None
    return int(words[PAGE // 8])


class Ledger:
    """Numbers 1.. in logs of two pages; the manifest names the log in use and how many came before it."""

    def __init__(self, disk: FileSystem, leave_out: str = "") -> None:
        self.disk = disk
        self.leave_out = leave_out
        if not disk.exists("manifest"):
            self._switch(0)
        file = disk.open("manifest")
        base = opened_page(file.read_at(0, PAGE))
        assert base is not None, "the manifest is damaged"
        self.base = base - 1
        self.log = disk.open(f"log{self.base}")
        numbers: list[int] = []
        while (number := opened_page(self._slot(len(numbers)), leave_out != "checksum")) is not None:
            numbers.append(number)
        assert numbers == list(range(self.base + 1, self.base + 1 + len(numbers))), f"a hole: {numbers}"
        self.count = self.base + len(numbers)
        self.log.sync()  # a tail that was read may still be in flight on a real disk: make it so before going on

    def _slot(self, place: int) -> np.ndarray:
        return self.log.read_at(place * PAGE, PAGE)

    def append(self) -> None:
        """Adds the next number; durable on return."""
        if self.count - self.base == 2:
            self._switch(self.count)
        self.log.write_at((self.count - self.base) * PAGE, sealed_page(self.count + 1, self.leave_out != "checksum"))
        if self.leave_out != "log sync":
            self.log.sync()
        self.count += 1

    def _switch(self, base: int) -> None:
        for leftover in (f"log{base}", "manifest.tmp"):
            if self.disk.exists(leftover):
                self.disk.unlink(leftover)
        self.log = self.disk.open(f"log{base}", create=True)
        self.log.allocate(2 * PAGE)
        self.log.sync()
        if self.leave_out != "early directory sync":
            self.disk.sync_dir()  # names survive in any order: the log's must be there before the manifest says so
        manifest = self.disk.open("manifest.tmp", create=True)
        manifest.write_at(0, sealed_page(base + 1))
        if self.leave_out != "manifest sync":
            manifest.sync()
        self.disk.rename("manifest.tmp", "manifest")
        if self.leave_out != "directory sync":
            self.disk.sync_dir()
        self.base = base


def check(image: SimulatedDisk, promised: int, leave_out: str) -> None:
    """Recovers a disk, and goes on working on it; AssertionError or FileNotFoundError when something is wrong."""
    ledger = Ledger(image, leave_out)
    assert promised <= ledger.count <= promised + 1, f"promised {promised}, found {ledger.count}"
    ledger.append()
    assert Ledger(image.crash_image("none"), leave_out).count == ledger.count, "acknowledged after recovery, lost"


def crash_everywhere(leave_out: str = "") -> int:
    """Runs six appends, crashes at every operation in every way, recovers; returns how many states were tried."""
    disk = SimulatedDisk()
    ledger = Ledger(disk, leave_out)
    acknowledged = {disk.op_count: 0}  # after this many operations, so many numbers are promised
    for _ in range(6):
        ledger.append()
        acknowledged[disk.op_count] = ledger.count
    tried = 0
    for image in disk.crash_states(SEED, per_op=40):
        promised = max([count for ops, count in acknowledged.items() if ops <= image.crash_op], default=0)
        # The same state again, with the power going once more at some operation of the recovery.
        twice = image.clone()
        twice.crash_at(twice.op_count + tried % 9)
        try:
            try:
                Ledger(twice, leave_out)
            except SimulatedCrash:
                check(twice.crash_image("all" if tried % 2 else "none"), promised, leave_out)
            check(image, promised, leave_out)
        except (AssertionError, FileNotFoundError) as error:
            raise AssertionError(f"seed {SEED} state {image.description}: {error!r}") from error
        tried += 1
    return tried


def test_a_right_protocol_survives_every_crash() -> None:
    tried = crash_everywhere()
    print(f"seed {SEED}: {tried} states")
    assert tried > 200


@pytest.mark.parametrize("bug", ["log sync", "manifest sync", "early directory sync", "directory sync", "checksum"])
def test_every_planted_bug_is_found(bug: str) -> None:
    with pytest.raises(AssertionError, match=r"seed \d+ state op="):
        crash_everywhere(bug)
