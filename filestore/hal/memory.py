"""Anonymous memory for the engine: arenas at stable addresses, handed out as numpy arrays.

Idea: what can change lives in anonymous pages that the kernel never writes back by itself (RELIABILITY R11).
An arena reserves address space, generously; pages become real when first touched, and `trim` gives them back.
So a growing vector never moves: kernels and snapshots may keep its address.

Invariants: an arena's address is page-aligned and fixed for its life; untouched and trimmed bytes read as
zero; the memory lives as long as any array or view made from it.

It does not do: small allocations, pools, accounting per table, limits (the caller compares `reserved_bytes`).
"""

from __future__ import annotations

import errno
import mmap
import weakref
from typing import Final

import numpy as np

from filestore.errors import OutOfMemory
from filestore.hal.counters import COUNTERS
from filestore.hal.file import ALIGNMENT, Bytes, round_up
from filestore.hal.numa import get_numa

HUGE_PAGE: Final = 2 << 20
MAP_NORESERVE: Final = 0x4000  # Linux on x86 and arm; Python 3.11 has no name for it


def address(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
    """Address of an array's first element."""
    return int(array.ctypes.data)


def aligned_buffer(nbytes: int, alignment: int = ALIGNMENT) -> Bytes:
    """uint8[nbytes], not initialised, at an aligned address; heap memory, freed with its last view."""
    block = np.empty(nbytes + alignment, dtype=np.uint8)
    first = -address(block) % alignment
    return block[first : first + nbytes]


class Arena:
    """One reservation of address space. `array` is uint8[nbytes]; use `reserve` unless you want to trim or
    release.

    Thread rule: `array` is as safe as any numpy array; `trim` and `release` belong to the owner.
    Lifetime: the pages go back when `release` was called and no view is alive, or when the last of arena and
    views dies.
    """

    def __init__(self, nbytes: int, *, huge: bool = False, node: int | None = None) -> None:
        if nbytes <= 0:
            raise ValueError(f"cannot reserve {nbytes} bytes")
        self.nbytes = nbytes
        self.mapped_bytes = round_up(nbytes)
        try:
            pages = mmap.mmap(
                -1,
                self.mapped_bytes,
                flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            raise OutOfMemory(f"cannot reserve {nbytes} bytes of memory") from error
        if huge and self.mapped_bytes >= HUGE_PAGE:
            # First touch of a huge page clears 2 MiB at once: slower to start (measured 541 against 153 ms
            # for 256 MiB), faster to scan. Hence only on demand.
            pages.madvise(mmap.MADV_HUGEPAGE)
        self._pages: mmap.mmap | None = pages
        self.array: Bytes = np.frombuffer(pages, dtype=np.uint8, count=nbytes)
        self.address = address(self.array)
        if node is not None:
            get_numa().bind(self.address, self.mapped_bytes, node)
        COUNTERS.arenas += 1
        COUNTERS.arena_bytes += self.mapped_bytes
        # The buffer that numpy holds is a memoryview over the mmap, so the mmap object dies with the last
        # view.
        weakref.finalize(pages, _returned, self.mapped_bytes)

    def trim(self, first: int = 0, last: int | None = None) -> int:
        """Gives back the whole pages in bytes [first, last), which then read as zero. Returns their bytes."""
        if self._pages is None:
            raise ValueError("the arena is released")
        end = self.mapped_bytes if last is None or last >= self.nbytes else last - last % ALIGNMENT
        start = round_up(first)
        if start >= end:
            return 0
        self._pages.madvise(mmap.MADV_DONTNEED, start, end - start)
        COUNTERS.trimmed_bytes += end - start
        return end - start

    def release(self) -> None:
        """Drops the arena's own hold. Views that callers kept stay valid and keep the memory."""
        self._pages = None
        self.array = np.empty(0, dtype=np.uint8)


def _returned(nbytes: int) -> None:
    COUNTERS.arenas -= 1
    COUNTERS.arena_bytes -= nbytes


def reserve(nbytes: int, *, huge: bool = False, node: int | None = None) -> Bytes:
    """uint8[nbytes] of zeroed anonymous memory at a page-aligned address that never changes; gone with its
    last view.

    Costs address space, not memory, until touched. `huge` asks for transparent huge pages from 2 MiB up;
    `node` binds the pages to a NUMA node. Raises OutOfMemory.
    """
    return Arena(nbytes, huge=huge, node=node).array


def reserved_bytes() -> int:
    """Bytes of address space in living arenas."""
    return COUNTERS.arena_bytes


class Memory:
    """The arenas of one owner, bound to one NUMA node if given: `reserve` many, `release` all."""

    def __init__(self, *, node: int | None = None, huge: bool = False) -> None:
        self.node = node
        self.huge = huge
        self._arenas: list[Arena] = []

    def reserve(self, nbytes: int) -> Bytes:
        """uint8[nbytes] as `filestore.hal.memory.reserve`, kept alive by this object too."""
        arena = Arena(nbytes, huge=self.huge, node=self.node)
        self._arenas.append(arena)
        return arena.array

    def reserved_bytes(self) -> int:
        return sum(arena.mapped_bytes for arena in self._arenas)

    def release(self) -> None:
        """Drops every arena; views that are still alive keep theirs."""
        for arena in self._arenas:
            arena.release()
        self._arenas.clear()
