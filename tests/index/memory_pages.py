"""Indexes in memory: pages that no checkpoint carries, and keys of the bytes form from Python's bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from filestore.index import layout
from filestore.index.base import I64, U8


@dataclass(slots=True)
class MemoryPages:
    """Pages in ordinary zeroed memory, untouched pages are not resident."""

    limit: int
    page_size: int = layout.PAGE_SIZE
    data: U8 = field(init=False)
    dirty: U8 = field(init=False)

    def __post_init__(self) -> None:
        self.data = np.zeros(self.limit * self.page_size, np.uint8)
        self.dirty = np.zeros(self.limit, np.uint8)


def bytes_keys(values: list[bytes]) -> tuple[I64, U8]:
    """Keys of the bytes form from Python bytes."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(values), np.uint8).copy()
