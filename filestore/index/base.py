"""The index interface, what an index stores its pages in, and what a key is.

An index is an ordered set of unique pairs (key, record). Record numbers are >= 0. Entries may be stale: whoever looks
a key up checks visibility and compares the key again, so an index never needs to know about transactions.

The whole state of an index is in its pages, meta page first: a copy of the dirty pages is a checkpoint, and opening
the loaded pages is recovery. An index object keeps nothing that matters beside them.

Thread rule: one thread at a time for all calls: who has the engine lock, or who builds an index that nobody else
knows yet. Result arrays are fresh copies and belong to the caller. Not here: uniqueness, visibility, and how values
become keys (`filestore.index.key`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from filestore import errors
from filestore.index import layout

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]

Keys = U64 | tuple[I64, U8]
"""n keys in an index's form: uint64[n] (u64), uint64[n, 2] (u128, high word first), or (offsets int64[n + 1],
bytes uint8[]) (bytes)."""

Key = Keys | int | tuple[int, int] | bytes
"""One key: Keys of length 1, or the plain Python value of it."""


class Pages(Protocol):
    """The memory of one index: reserved once, so that addresses stay; touched lazily, so that the unused costs nothing.

    data: uint8[page_size * limit], zero where never written, 8-byte aligned. dirty: uint8[limit], set to 1 by whoever
    changes a page and cleared by the checkpoint. limit: pages the index may use.
    """

    @property
    def data(self) -> U8: ...

    @property
    def dirty(self) -> U8: ...

    @property
    def page_size(self) -> int: ...

    @property
    def limit(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Position:
    """A pair (key, record) where a range scan stopped.

    The scan goes on behind it even if the pair is gone by then.
    """

    key: Key
    record: int


class Cursor(Protocol):
    """A range being read in chunks.

    Survives changes of the index between fetches: it remembers a pair, not a page.
    """

    def fetch(self, limit: int) -> I64:
        """The next records in key order, at most `limit`.

        Fewer only at the end of the range, then empty ever after.
        """

    @property
    def position(self) -> Position | None:
        """The last pair fetched, None before the first."""


@runtime_checkable
class Index(Protocol):
    """What every index can do. `range` and `scan` raise FeatureNotSupported on an index without an order (hash)."""

    @property
    def entry_count(self) -> int:
        """Number of (key, record) pairs, stale ones included."""

    def build(self, keys: Keys, records: I64) -> None:
        """Fills an empty index from pairs in any order, repeated pairs once.

        Errors with 55000 if the index is not empty.
        """

    def insert(self, keys: Keys, records: I64) -> Bools:
        """Adds pairs; True where the pair was new.

        All or nothing: errors with 54000, unchanged, when pages run out.
        """

    def remove(self, keys: Keys, records: I64) -> Bools:
        """Takes pairs out; True where the pair was there."""

    def lookup(self, key: Key) -> I64:
        """Records of one key, ascending."""

    def lookup_many(self, keys: Keys) -> tuple[I64, I64]:
        """(offsets int64[n + 1], records): the records of key i are records[offsets[i]:offsets[i + 1]], ascending."""

    def range(
        self,
        low: Key | None = None,
        low_inclusive: bool = True,
        high: Key | None = None,
        high_inclusive: bool = True,
        *,
        reverse: bool = False,
        limit: int | None = None,
        after: Position | None = None,
    ) -> I64:
        """Records of the keys between low and high (None: unbounded) by (key, record), descending if reverse,
        behind `after`."""

    def scan(
        self,
        low: Key | None = None,
        low_inclusive: bool = True,
        high: Key | None = None,
        high_inclusive: bool = True,
        *,
        reverse: bool = False,
        after: Position | None = None,
    ) -> Cursor:
        """The same range as a cursor, for results too big to hold at once."""

    def check(self) -> None:
        """Verifies the whole structure. Raises IndexCorrupted (a DataCorrupted) naming the page."""


def key_count(keys: Keys) -> int:
    """Number of keys in a Keys value."""
    return len(keys[0]) - 1 if isinstance(keys, tuple) else len(keys)


def one_key(key: Key, form: int) -> Any:
    """Normalises one key: uint64[1], uint64[2] (high, low) or uint8[k].

    Raises InternalError if it is not of the form.
    """
    if form == layout.FORM_BYTES:
        if isinstance(key, bytes):
            return np.frombuffer(key, np.uint8).copy()  # a copy is writable, see btree._owned
        if isinstance(key, tuple) and isinstance(key[0], np.ndarray) and len(key[0]) == 2:
            offsets, data = key
            return np.array(data[offsets[0] : offsets[1]])
    else:
        words = np.asarray(key, np.uint64).reshape(-1)
        if len(words) == form:
            return np.array(words)
    raise errors.InternalError(f"index key has not the index's form {form}: {key!r}")
