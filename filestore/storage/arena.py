"""Arenas: named, growing, page-aligned memory that the checkpoint carries to disk page by page.

Idea: everything that can change (open segments, `head`, `end`, index pages) lives in arenas: anonymous memory at an
address that never moves, with one dirty byte a page. Writers change `data` in place and `mark` what they changed; the
checkpoint copies dirty pages under the engine lock and hands the copies to the store (see `page_store.py`).

Invariants: `data` is zero where never written; a page at or beyond `used_pages` is zero and never dirty.
Thread rule: written under the engine lock; `data` may be read by any thread that knows what it reads.
It does not do: allocation inside the arena, shrinking, any I/O.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from filestore.hal import memory
from filestore.storage.layout import PAGE_SIZE, Bytes

__all__ = ["PAGE_SIZE", "Arena"]

PAGE_SHIFT = PAGE_SIZE.bit_length() - 1


class Arena:
    """uint8[nbytes] under a name. `dirty` is uint8[pages], 1 = changed since the last image was taken."""

    __slots__ = ("data", "dirty", "name", "page_size", "used_pages")

    def __init__(self, name: str, nbytes: int) -> None:
        size = -(-max(nbytes, 1) // PAGE_SIZE) * PAGE_SIZE
        self.name = name
        self.page_size = PAGE_SIZE
        self.data: Bytes = memory.reserve(size)
        self.dirty: Bytes = np.zeros(size // PAGE_SIZE, np.uint8)
        self.used_pages = 0

    def vector(self, dtype: DTypeLike, count: int) -> NDArray[Any]:
        """A view of the first `count` elements of `dtype`. ValueError when the arena is smaller."""
        wanted = np.dtype(dtype)
        if count * wanted.itemsize > self.data.size:
            raise ValueError(f"arena {self.name} has {self.data.size} bytes, not {count} x {wanted}")
        return self.data[: count * wanted.itemsize].view(wanted)

    def mark(self, low_byte: int, high_byte: int) -> None:
        """Bytes low..high have changed: their pages are dirty, and used."""
        if high_byte <= low_byte:
            return
        last = ((high_byte - 1) >> PAGE_SHIFT) + 1
        self.dirty[low_byte >> PAGE_SHIFT : last] = 1
        if last > self.used_pages:
            self.used_pages = last

    def take_dirty(self, pages: int | None = None) -> tuple[NDArray[np.int64], Bytes]:
        """(page numbers int64[k], private copies uint8[k, PAGE_SIZE]) of the dirty pages, which are clean afterwards.

        `pages`: of the first so many only. What was marked by a kernel counts as used from now on. Engine lock held.
        Whoever calls it owes the pages to the store: they are not dirty any more.
        """
        numbers = np.flatnonzero(self.dirty if pages is None else self.dirty[:pages]).astype(np.int64)
        if len(numbers):
            self.used_pages = max(self.used_pages, int(numbers[-1]) + 1)
        # Aligned, so that they go to the disk without another copy.
        copies = memory.aligned_buffer(numbers.size * PAGE_SIZE).reshape(-1, PAGE_SIZE)
        np.take(self.data.reshape(-1, PAGE_SIZE), numbers, axis=0, out=copies, mode="clip")
        self.dirty[numbers] = 0
        return numbers, copies
