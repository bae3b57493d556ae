"""Who sees what: the one rule by which every read decides whether a version exists for it.

A version exists from `begin` to `end`. Both hold a commit timestamp, or the mark (negative) of the
transaction that is writing it. A snapshot is a timestamp, and the mark of the transaction that reads:

    begin               the version exists ...
    <= timestamp        it was committed before the snapshot
    >  timestamp        not yet; ABORTED is greater than every timestamp
    own mark            if an earlier statement wrote it: its address is below the bound taken when the statement began
    another's mark      not yet

    end                 ... and exists still
    >  timestamp        it was ended after the snapshot; INFINITY is not ended
    <= timestamp        no more
    own mark            no more: ended by an earlier statement of this transaction
    another's mark      still

Own new versions need the bound, lest an UPDATE that appends while it scans meets its own rows (the Halloween
problem). Own ends need none: a statement claims rows only when its scan has come to its end, so what a scan
finds marked as its own is an earlier statement's. Addresses ascend in the order of writing within a
transaction (see `Table`), so no counter of commands is stored in any version.

What a snapshot does not see can still conflict with a write. Which versions count then is `may_stay`, the rule of all
who ask for what is newest and not for what somebody sees: uniqueness, new indexes, the verifier. What to do about them
is theirs.

Thread rule: snapshots are immutable, all else is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from filestore.storage.directory import ABORTED, INFINITY
from filestore.storage.vector import Array
from filestore.txn import kernels

_NONE: Final[Array] = np.empty(0, np.int64)
_EMPTY: Final[Mapping[int, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Snapshot:
    """What a statement (READ COMMITTED) or transaction (REPEATABLE READ) sees.

    mark: the reader's own, 0 for a transaction that wrote nothing. bounds: storage id -> first address that
    the statement's own writes may get, for tables that the transaction wrote before. Thread rule: immutable,
    used anywhere.
    """

    timestamp: int
    mark: int = 0
    bounds: Mapping[int, int] = field(default_factory=lambda: _EMPTY)

    def sees(self, begin: int, end: int, address: int, bound: int = 0) -> bool:
        """Whether a version exists for this snapshot. `bound`: that of its table. See the module."""
        if begin < 0:
            created = begin == self.mark and address < bound
        else:
            created = begin <= self.timestamp
        if not created:
            return False
        return end != self.mark if end < 0 else end > self.timestamp

    def mask(self, begin: Array | None, begin_value: int, end: Array | None, low: int, high: int, bound: int) -> Array:
        """bool[high - low]: the rule for slots low..high; `bound` is a slot here."""
        out = np.empty(high - low, np.bool_)
        begins = _NONE if begin is None else begin
        ends = _NONE if end is None else end
        kernels.visible(begins, begin_value, ends, low, self.timestamp, self.mark, bound, out)
        return out

    def versions(self, directory: Array, records: Array, bound: int) -> Array:
        """int64[n]: the version of each row that is seen, -1 for none."""
        out = np.empty(len(records), np.int64)
        kernels.visible_versions(directory, records, self.timestamp, self.mark, bound, out)
        return out


def may_stay(begins: Array, ends: Array, mark: int = 0) -> Array:
    """bool[n]: versions that exist, or will if open transactions commit, and that neither a commit nor the transaction
    `mark` has ended.
    """
    stays: Array = (begins != ABORTED) & ((ends == INFINITY) | ((ends < 0) & (ends != mark)))
    return stays


def committed(begins: Array) -> Array:
    """bool[n]: versions that a commit began, ended since or not; 0 is what no checkpoint and no replay wrote."""
    began: Array = (begins > 0) & (begins < INFINITY)
    return began
