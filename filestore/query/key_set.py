"""The keys that a join has hashed, as a set that scans can ask: may this row find a partner at all?

A scan that knows what its rows will be joined with drops most of them before it reads their other columns. The answer
is one of "no" and "perhaps": a key is a bit in a map over the keys' range, or, where that would be far larger than the
keys, two bits of one word of a Bloom filter. So whoever asks must join all the same.

Only for types that are one integer (integers, dates, times, timestamps): what value_words leaves as it is. A null is in
no set. Read from any thread; written by nobody.

Sources: Bratbergsengen, "Hashing Methods and Relational Algebra Operations", VLDB 1984; Putze, Sanders, Singler,
"Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007 (both bits in one word: one cache miss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from filestore.query import kernels
from filestore.query.kernels import frozen
from filestore.storage.vector import Array, Vector
from filestore.types import INTEGER_KINDS, Kind

KINDS: Final = INTEGER_KINDS | {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TIME}
_BITS_PER_KEY: Final = 64
"""A map may take as many bits as the keys themselves do; a Bloom filter takes a quarter of that."""
_MAP_MIN: Final = 1 << 16
_EMPTY: Final[Array] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class KeySet:
    """bits: uint64 words. low, high: the range of the keys (high < low: there are none). exact: a map, not a filter."""

    bits: Array
    low: int
    high: int
    exact: bool

    @property
    def empty(self) -> bool:
        return self.high < self.low

    def excludes(self, low: int, high: int) -> bool:
        """Whether no key lies in low..high."""
        return self.high < low or high < self.low

    def select(self, column: Vector, rows: Array | None) -> Array:
        """int64: the positions in `rows` (None: in the column) whose value may be in the set, ascending."""
        if self.empty:  # the kernels take the range for one
            return _EMPTY
        keys = frozen(column.data)
        count = len(keys) if rows is None else len(rows)
        out = np.empty(count, np.int64)
        at = frozen(_EMPTY if rows is None else rows)
        kernel = kernels.select_mapped if self.exact else kernels.select_bloomed
        found = out[: kernel(keys, at, rows is None, self.low, self.high, self.bits, out)]
        if column.valid is not None:
            places = found if rows is None else rows[found]
            found = found[column.valid[places]]
        return found


def key_set(columns: Sequence[Vector], position: int) -> KeySet | None:
    """The set of a key column's values; None when it is not of one of KINDS."""
    column = columns[position]
    if column.type.kind not in KINDS:
        return None
    words = column.data.astype(np.int64, copy=False)
    if column.valid is not None:
        words = words[column.valid]
    if len(words) == 0:
        return KeySet(frozen(np.zeros(1, np.uint64)), 0, -1, True)
    low, high = int(words.min()), int(words.max())
    span = high - low + 1
    if span <= max(_MAP_MIN, _BITS_PER_KEY * len(words)):
        bits = np.zeros((span + 63) // 64, np.uint64)
        kernels.map_keys(frozen(words), low, bits)
        return KeySet(frozen(bits), low, high, True)
    bits = np.zeros(1 << max(len(words) * _BITS_PER_KEY // 4 // 64, 1).bit_length(), np.uint64)
    kernels.bloom_keys(frozen(words), bits)
    return KeySet(frozen(bits), low, high, False)
