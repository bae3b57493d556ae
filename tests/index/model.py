"""Small pages force splits; a set of pairs is the model; a shadow fed by the dirty bytes alone must be the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from filestore.index.base import Key, Keys
from filestore.index.btree import BTree, open_btree
from tests.index.memory_pages import MemoryPages, bytes_keys

FORMS = ("u64", "u128", "bytes")
PAGE_SIZES = (256, 512)


def key_of(form: str, number: int) -> Key:
    """A key of the form; numbers order as their keys do. Byte keys share prefixes and some are prefixes of others."""
    if form == "u64":
        return number * 0x10001
    if form == "u128":
        return number // 7, number % 7
    digits = f"{number // 4:04}".encode()
    return b"\x00pre\xff" + digits + b"\x00" * (number % 4)


def keys_of(form: str, numbers: list[int]) -> Keys:
    keys: list[Any] = [key_of(form, number) for number in numbers]
    if form == "bytes":
        return bytes_keys(keys)
    return np.array(keys, np.uint64) if form == "u64" else np.array(keys, np.uint64).reshape(-1, 2)


@dataclass
class Pair:
    """A tree with its model and its shadow."""

    form: str
    pages: MemoryPages
    tree: BTree
    model: set[tuple[int, int]]
    shadow: MemoryPages

    @classmethod
    def make(cls, form: str, page_size: int, limit: int = 4000) -> Pair:
        pages = MemoryPages(limit, page_size)
        return cls(form, pages, open_btree(pages, form), set(), MemoryPages(limit, page_size))

    def insert(self, pairs: list[tuple[int, int]]) -> None:
        got = self.tree.insert(keys_of(self.form, [k for k, _ in pairs]), np.array([r for _, r in pairs], np.int64))
        for pair, new in zip(pairs, got.tolist(), strict=True):
            assert new == (pair not in self.model)
            self.model.add(pair)

    def remove(self, pairs: list[tuple[int, int]]) -> None:
        got = self.tree.remove(keys_of(self.form, [k for k, _ in pairs]), np.array([r for _, r in pairs], np.int64))
        for pair, gone in zip(pairs, got.tolist(), strict=True):
            assert gone == (pair in self.model)
            self.model.discard(pair)

    def verify(self) -> None:
        """The tree is sound and holds the model; the shadow, fed with dirty pages only, is the same memory."""
        self.tree.check()
        assert self.tree.entry_count == len(self.model)
        ordered = [record for _, record in sorted(self.model)]
        assert self.tree.range().tolist() == ordered
        size = self.pages.page_size
        for page in np.flatnonzero(self.pages.dirty).tolist():
            self.shadow.data[page * size : (page + 1) * size] = self.pages.data[page * size : (page + 1) * size]
        self.pages.dirty[:] = 0
        assert np.array_equal(self.shadow.data, self.pages.data)

    def reopen(self) -> None:
        """Goes on with a tree opened on a copy of the pages."""
        copy = MemoryPages(self.pages.limit, self.pages.page_size)
        copy.data[:] = self.shadow.data
        self.pages = copy
        self.tree = open_btree(copy, self.form)
        assert not copy.dirty.any()
