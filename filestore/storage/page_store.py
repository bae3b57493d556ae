"""The shadow page store: arena pages in `pages/pages.dat`, never overwritten while a live page map names them.

Idea: a checkpoint writes changed pages to free slots and a new page map to a new file; the manifest's switch makes them
live at once. Until then the old pages and the old map are untouched, so a crash anywhere loses nothing and a torn page
write tears only a page that nobody refers to. There is no double write and no in-place write (RELIABILITY R17).

Invariants: a slot is free iff the live map does not name it; slots of a checkpoint that failed are free again; the file
only grows. Thread rule: one checkpoint at a time, and no `load` during it (the store sees to both).
See docs/decisions/0002-shadow-page-store.md. It does not do: giving space back to the filesystem.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from filestore.errors import DataCorrupted, DiskFull, StorageFailed
from filestore.hal import File, FileSystem
from filestore.storage import crash_points, page_map
from filestore.storage.arena import Arena
from filestore.storage.layout import NO_SLOT, PAGE_SIZE, PAGES_DIR, PAGES_FILE, Bytes, round_up
from filestore.storage.manifest import PageMapRef
from filestore.storage.page_map import NAME_BYTES, Entries, MapHeader, map_path, page_crcs, page_seeds

READ_PAGES: Final = 256  # pages a read: 4 MiB, where sequential O_DIRECT reads reach the device's rate
GROW_PAGES: Final = 64  # the file grows by at least 1 MiB


@dataclass(frozen=True)
class PageImage:
    """Changed pages of one arena: `numbers` int64[k] ascending, `data` uint8[k, PAGE_SIZE] private copies.

    `used_pages` is the arena's at the moment of the image; pages beyond it are forgotten.
    """

    arena: str
    used_pages: int
    numbers: NDArray[np.int64]
    data: Bytes


@dataclass(frozen=True)
class PreparedPages:
    """Pages and a map that are durable but not live yet; `reference` goes into the manifest."""

    reference: PageMapRef | None
    arenas: dict[str, Entries]
    generation: int


class PageStore:
    """The pages of one store, as the live map says."""

    def __init__(self, fs: FileSystem, uuid: bytes, reference: PageMapRef | None) -> None:
        """Loads the map that the manifest names. Raises DataCorrupted."""
        self._fs = fs
        self._uuid = uuid
        self.reference = reference
        self._arenas: dict[str, Entries] = {}
        self._file: File | None = None
        self._unreadable: dict[int, str] = {}  # by slot: what the disk said
        if reference is not None:
            self._arenas = self._read_map(reference)

    def names(self) -> list[str]:
        """Arenas with pages on disk."""
        return sorted(self._arenas)

    def used_pages(self, name: str) -> int:
        """How many pages the arena has on disk, unwritten ones included; 0 for an unknown one."""
        found = self._arenas.get(name)
        return 0 if found is None else len(found)

    def load(self, arena: Arena) -> None:
        """Fills a fresh arena from disk, checking every page. Raises DataCorrupted naming file and offset."""
        entries = self._arenas.get(arena.name)
        if entries is None:
            return
        if len(entries) > arena.dirty.size:
            raise ValueError(f"arena {arena.name} has {len(entries)} pages on disk, room for {arena.dirty.size}")
        target = arena.data[: len(entries) * PAGE_SIZE].reshape(-1, PAGE_SIZE)
        for pages, data, bad in self._checked(arena.name, entries):
            if bad.size:
                raise self.damage(arena.name, entries, int(pages[bad[0]]))
            target[pages] = data
        arena.used_pages = len(entries)

    def damaged_pages(self) -> Iterator[tuple[str, int, DataCorrupted]]:
        """(arena, page, error) of every page on disk that fails its checksum; reads everything."""
        for name, entries in sorted(self._arenas.items()):
            for pages, _, bad in self._checked(name, entries):
                for i in bad.tolist():
                    yield name, int(pages[i]), self.damage(name, entries, int(pages[i]))

    def damage(self, name: str, entries: Entries, page: int) -> DataCorrupted:
        slot = int(entries["slot"][page])
        where = f"file {PAGES_FILE} is damaged at offset {slot * PAGE_SIZE}"
        reason = self._unreadable.get(slot)
        if reason is not None:
            return DataCorrupted(f"{where}: page {page} of arena {name} cannot be read", detail=reason)
        return DataCorrupted(f"{where}: the checksum of page {page} of arena {name} is wrong")

    # Checkpoint

    def prepare(self, images: Sequence[PageImage], live: set[str], sequence: int) -> PreparedPages:
        """Makes pages and map durable in new places. The live state is untouched, also when it raises.

        Raises DiskFull (everything as before), StorageFailed.
        """
        arenas = {name: entries for name, entries in self._arenas.items() if name in live}
        changed = len(arenas) != len(self._arenas)
        images = [image for image in images if image.arena in live]
        slots = self._free_slots(sum(len(image.numbers) for image in images))
        writes: list[tuple[int, Bytes]] = []
        taken = 0
        for image in images:
            count = len(image.numbers)
            entries = self._entries_for(image, arenas.get(image.arena))
            changed = changed or count > 0 or len(entries) != self.used_pages(image.arena)
            own = slots[taken : taken + count]
            taken += count
            self._number(entries, image, own, sequence)
            writes += _runs(own, image.data)
            if len(entries):
                arenas[image.arena] = entries
        if not changed:
            return PreparedPages(self.reference, self._arenas, sequence)
        if writes:
            file = self._pages_file()
            file.write_many(writes)
            crash_points.reach("checkpoint:pages_written")
            file.sync()
            crash_points.reach("checkpoint:pages_synced")
        header = self._write_map(arenas, sequence)
        return PreparedPages(PageMapRef(header.path, header.length, header.crc), arenas, sequence)

    def install(self, prepared: PreparedPages) -> None:
        """After the manifest's switch: the prepared pages are the live ones. Removes the old map file."""
        old = self.reference
        self.reference, self._arenas = prepared.reference, prepared.arenas
        if old is not None and (self.reference is None or old.name != self.reference.name):
            self._fs.unlink(old.name)
            self._fs.sync_dir(PAGES_DIR)
            crash_points.reach("checkpoint:old_map_removed")

    def remove_strays(self) -> None:
        """Startup: removes map files that the manifest does not name."""
        wanted = "" if self.reference is None else self.reference.name
        found = [f"{PAGES_DIR}/{name}" for name in self._fs.list(PAGES_DIR) if name.startswith(page_map.MAP_PREFIX)]
        strays = [path for path in found if path != wanted]
        for path in strays:
            self._fs.unlink(path)
        if strays:
            self._fs.sync_dir(PAGES_DIR)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # Steps

    def _read_map(self, reference: PageMapRef) -> dict[str, Entries]:
        try:
            file = self._fs.open(reference.name, read_only=True)
        except FileNotFoundError as error:
            raise DataCorrupted(f"file {reference.name} is missing: it holds the page map") from error
        try:
            data = file.read_at(0, file.size())
        finally:
            file.close()
        return page_map.decode(data, reference.name, self._uuid, reference.length, reference.crc)

    def _checked(self, name: str, entries: Entries) -> Iterator[tuple[NDArray[Any], Bytes, NDArray[Any]]]:
        """(page numbers, their bytes, indexes of bad ones), in the order of the file, in large reads."""
        written = np.flatnonzero(entries["slot"] != NO_SLOT)
        written = written[np.argsort(entries["slot"][written], kind="stable")]
        if written.size == 0:
            return
        slots = entries["slot"][written]
        seeds = page_seeds(self._uuid, name, written, slots, entries["generation"][written])
        breaks = np.flatnonzero(np.diff(slots) != 1) + 1
        for low, high in _pieces(breaks.tolist(), len(slots)):
            data = self._read_pages(int(slots[low]), high - low)
            whole = data.size // PAGE_SIZE
            pages = written[low:high]
            good = np.zeros(high - low, np.bool_)
            rows = np.zeros((high - low, PAGE_SIZE), np.uint8)
            rows[:whole] = data[: whole * PAGE_SIZE].reshape(-1, PAGE_SIZE)
            crcs = page_crcs(seeds[low : low + whole], rows[:whole])
            good[:whole] = crcs == entries["crc"][pages[:whole]]
            if self._unreadable:
                good &= [slot not in self._unreadable for slot in slots[low:high].tolist()]
            yield pages, rows, np.flatnonzero(~good)

    def _read_pages(self, slot: int, count: int) -> Bytes:
        """The bytes of adjacent pages, as far as the file goes; zeros for pages that the disk cannot read."""
        try:
            file = self._pages_file()
        except FileNotFoundError as error:
            raise DataCorrupted(f"file {PAGES_FILE} is missing") from error
        try:
            return file.read_at(slot * PAGE_SIZE, count * PAGE_SIZE)
        except StorageFailed as error:
            if count == 1:
                self._unreadable[slot] = error.message
                return np.zeros(PAGE_SIZE, np.uint8)
        # A bad sector costs its page, not all that are read with it.
        return np.concatenate([self._read_pages(slot + i, 1) for i in range(count)])

    def _pages_file(self) -> File:
        if self._file is None:
            self._file = self._fs.open(PAGES_FILE)
        return self._file

    def _free_slots(self, count: int) -> NDArray[np.int64]:
        """`count` places that the live map does not name, ascending; grows the file when it must. Raises DiskFull."""
        if count == 0:
            return np.empty(0, np.int64)
        if self._file is None and not self._fs.exists(PAGES_FILE):
            self._file = self._fs.open(PAGES_FILE, create=True)
            self._fs.sync_dir(PAGES_DIR)
        file = self._pages_file()
        lived = np.concatenate([np.empty(0, np.int64), *(entries["slot"] for entries in self._arenas.values())])
        lived = lived[lived != NO_SLOT]
        total = file.size() // PAGE_SIZE
        least = int(lived.max(initial=-1)) + 1
        if total < least:
            # Somebody cut the file. What was behind is damaged, and its places stay taken while the map names them.
            file.allocate(least * PAGE_SIZE)
            total = least
        used = np.zeros(total, np.bool_)
        used[lived] = True
        free = np.flatnonzero(~used).astype(np.int64)
        if free.size < count:
            least = total + count - free.size
            grown = max(least, total + max(GROW_PAGES, total // 8))
            try:
                file.allocate(grown * PAGE_SIZE)
            except DiskFull:
                grown = least
                file.allocate(grown * PAGE_SIZE)
            free = np.concatenate((free, np.arange(total, grown, dtype=np.int64)))
        return free[:count]

    def _entries_for(self, image: PageImage, old: Entries | None) -> Entries:
        if len(image.arena.encode()) > NAME_BYTES:
            raise ValueError(f"arena name {image.arena!r} is longer than {NAME_BYTES} bytes")
        entries = page_map.new_entries(image.used_pages)
        if old is not None:
            kept = min(len(old), image.used_pages)
            entries[:kept] = old[:kept]
        return entries

    def _number(self, entries: Entries, image: PageImage, slots: NDArray[np.int64], sequence: int) -> None:
        """Enters places and checksums of the image's pages."""
        numbers = image.numbers
        if len(numbers) == 0:
            return
        if int(numbers.max()) >= image.used_pages or image.data.shape != (len(numbers), PAGE_SIZE):
            raise ValueError(f"the image of arena {image.arena} does not fit its {image.used_pages} pages")
        generations = np.full(len(numbers), sequence, np.int64)
        seeds = page_seeds(self._uuid, image.arena, numbers, slots, generations)
        fresh = np.zeros(len(numbers), entries.dtype)
        fresh["slot"] = slots
        fresh["generation"] = sequence
        fresh["crc"] = page_crcs(seeds, image.data)
        entries[numbers] = fresh

    def _write_map(self, arenas: dict[str, Entries], sequence: int) -> MapHeader:
        data, header = page_map.encode(arenas, self._uuid, sequence)
        assert data.size == round_up(data.size)
        path = map_path(sequence)
        if self._fs.exists(path):
            self._fs.unlink(path)  # of a checkpoint that failed before its switch
        file = self._fs.open(path, create=True)
        try:
            try:
                file.write_at(0, data)
            except DiskFull:
                self._fs.unlink(path)
                raise
            crash_points.reach("checkpoint:map_written")
            file.sync()
        finally:
            file.close()
        self._fs.sync_dir(PAGES_DIR)
        crash_points.reach("checkpoint:map_synced")
        return header


def _runs(slots: NDArray[np.int64], data: Bytes) -> list[tuple[int, Bytes]]:
    """One write for each stretch of adjacent slots."""
    if slots.size == 0:
        return []
    bounds = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
    return [
        (int(slots[low]) * PAGE_SIZE, data[low:high].reshape(-1))
        for low, high in itertools.pairwise(bounds)
    ]


def _pieces(breaks: list[int], count: int) -> Iterator[tuple[int, int]]:
    """Stretches between breaks, cut into reads of at most READ_PAGES."""
    bounds = [0, *breaks, count]
    for low, high in itertools.pairwise(bounds):
        for start in range(low, high, READ_PAGES):
            yield start, min(start + READ_PAGES, high)
