"""Keys of stored tables: a constraint, the index behind it, and the codec between columns and index keys.

An index maps keys to record numbers; entries may be stale, since an update of key columns leaves the old
entry and a delete leaves all. So what `find` returns must be resolved to a version that the reader sees, and
its key columns compared again.

The codec's nullability rests on the key alone (a primary key has no nulls, any other may), never on the
columns' NOT NULL, which ALTER TABLE can change while the index stays.

Thread rule: what touches an index under the engine lock, all else on any thread. Not here: uniqueness, which `writes`
decides, and the order of keys, which is `filestore.index.key`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from filestore.index.base import Keys
from filestore.index.btree import BTree, open_btree
from filestore.index.key import Column, KeyCodec
from filestore.storage.arena import Arena
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.segment import Arenas
from filestore.storage.table import Table
from filestore.storage.vector import EMPTY_HEAP, Array, Vector
from filestore.txn import kernels
from filestore.types import SqlType

INDEX_BYTES: Final = 16 << 30  # address space, not memory


class IndexPages:
    """An arena as the pages of an index (`filestore.index.base.Pages`)."""

    def __init__(self, arena: Arena) -> None:
        self.arena: Final = arena
        self.data = arena.data
        self.dirty = arena.dirty
        self.page_size: Final = arena.page_size
        self.limit: Final = len(arena.dirty)


@dataclass(frozen=True, slots=True, eq=False)
class StoredKey:
    """A key of one table's rows. Engine thread for all that touches `index`."""

    definition: KeyDef
    types: tuple[SqlType, ...]
    codec: KeyCodec
    index: BTree
    arena: Arena

    @property
    def ordinals(self) -> tuple[int, ...]:
        """The key's columns."""
        return self.definition.columns

    def encode(self, columns: Sequence[Vector]) -> Keys:
        """Keys of rows; `columns` are the key's columns, in its order. Any thread."""
        return self.codec.encode([codec_column(v) for v in columns])

    def encode_valid(self, columns: Sequence[Vector]) -> tuple[Keys, Array | None]:
        """(keys, rows): the keys of the rows that have no null in them, which no index holds; rows is None when that
        is all of them. Any thread.
        """
        valid: Array | None = None
        for column in columns:
            if column.valid is not None:
                valid = column.valid if valid is None else valid & column.valid
        if valid is None or bool(valid.all()):
            return self.encode(columns), None
        rows = np.flatnonzero(valid)
        return self.encode([c.take(rows) for c in columns]), rows

    def encode_rows(self, columns: Sequence[Vector]) -> tuple[Keys, Array | None]:
        """`encode_valid` of whole rows: `columns` are the table's."""
        return self.encode_valid([columns[i] for i in self.ordinals])

    def find(self, columns: Sequence[Vector]) -> tuple[Array, Array]:
        """(offsets int64[n + 1], records): rows that have or had these values; see the module."""
        return self.index.lookup_many(self.encode(columns))


def codec_column(vector: Vector) -> Column:
    """A vector in the form that the codec takes."""
    plain = vector.plain()
    if plain.type.is_view:
        return (plain.data, EMPTY_HEAP if plain.heap is None else plain.heap), plain.valid
    return plain.data, plain.valid


def arena_name(storage_id: int, key_oid: int) -> str:
    """Name of an index's arena."""
    return f"i{storage_id}/{key_oid}"


def open_key(source: Arenas, table: TableDef, key: KeyDef, nbytes: int = INDEX_BYTES) -> StoredKey:
    """Opens or makes the index of a key. Raises 0A000 for columns that have no order, IndexCorrupted,
    DataCorrupted.
    """
    types = tuple(table.columns[i].type for i in key.columns)
    codec = KeyCodec.of(types, [not key.primary] * len(types))
    arena = source.arena(arena_name(table.storage_id, key.oid), nbytes)
    return StoredKey(key, types, codec, open_btree(IndexPages(arena), codec.form), arena)


def take_keys(keys: Keys, rows: Array) -> Keys:
    """The keys at some positions."""
    if not isinstance(keys, tuple):
        return keys[rows]
    offsets, data = keys
    lengths = np.diff(offsets)[rows]
    out = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    # Positions of all bytes: each row's start, repeated, plus a running count within the row.
    at = np.repeat(offsets[:-1][rows] - out[:-1], lengths) + np.arange(int(out[-1]))
    return out, data[at]


def concat_keys(parts: Sequence[Keys]) -> Keys:
    """Keys one after the other."""
    if len(parts) == 1:
        return parts[0]
    if not isinstance(parts[0], tuple):
        return np.concatenate([p for p in parts if not isinstance(p, tuple)])
    chunks = [p for p in parts if isinstance(p, tuple)]
    lengths = np.concatenate([np.diff(offsets) for offsets, _ in chunks])
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out, np.concatenate([data[int(offsets[0]) : int(offsets[-1])] for offsets, data in chunks])


def equal_keys(a: Keys, b: Keys) -> Array:
    """bool[n]: which of two equally many keys of one form are equal."""
    if isinstance(a, tuple):
        assert isinstance(b, tuple), "one codec has one form"
        out = np.empty(len(a[0]) - 1, np.bool_)
        kernels.equal_bytes(*a, *b, out)
        return out
    assert not isinstance(b, tuple), "one codec has one form"
    same: Array = a == b
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def have_keys(table: Table, key: StoredKey, addresses: Array, keys: Keys, positions: Array) -> Array:
    """bool[n]: whether each version has the one of `keys` that is at its position; entries may be stale."""
    if len(addresses) == 0:
        return np.zeros(0, np.bool_)
    there, rows = key.encode_valid(table.gather(addresses, key.ordinals))
    wanted = take_keys(keys, positions if rows is None else positions[rows])
    same = equal_keys(there, wanted)
    if rows is None:
        return same
    found = np.zeros(len(addresses), np.bool_)
    found[rows] = same
    return found


def key_bytes(keys: Keys, row: int) -> Any:
    """One key as a hashable value."""
    if isinstance(keys, tuple):
        offsets, data = keys
        return data[int(offsets[row]) : int(offsets[row + 1])].tobytes()
    return keys[row].tobytes()


def first_duplicate(keys: Keys) -> int:
    """The least position whose key stands at an earlier one too, -1 for none."""
    n = len(keys[0]) - 1 if isinstance(keys, tuple) else len(keys)
    if n < 2:
        return -1
    if isinstance(keys, tuple):
        table = np.full(1 << (2 * n - 1).bit_length(), -1, np.int64)
        return int(kernels.first_repeated_bytes(*keys, table))
    if keys.ndim == 1:
        if bool((keys[1:] > keys[:-1]).all()):
            return -1
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
    else:
        high, low = keys[:, 0], keys[:, 1]
        rising = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
        if bool(rising.all()):
            return -1
        order = np.lexsort((low, high))
        same = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    repeated = order[1:][same]
    return int(repeated.min()) if len(repeated) else -1
