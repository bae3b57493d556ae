"""Checks of a table's rows: stamps, counters, chains of versions. No transactions, no indexes; see
`filestore.txn.check`.

Every version is looked at; what is wrong is told by kind, the first few in words and the others as a number. A check
works piece by piece (`check_segment`, then `check_count`), and each piece is whole: it compares what is there at one
moment, so that others may write between two pieces.

Thread rule: engine lock held for each call. Not here: values and their checksums (`filestore.storage.verify`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from filestore.storage import check_kernels as k
from filestore.storage import directory as d
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.verify import Finding

SHOWN: Final = 3  # findings of one kind and place that are worth reading

# What is wrong with version {0}; {1} and {2} are the numbers that `check_kernels` keeps, as addresses.
LINKS: Final = {
    k.NO_VALUES: "version {0} has not ended, but its segment has no values any more",
    k.LOST_RECORD: "version {0} is of row {1}, which does not exist",
    k.LOST_PREVIOUS: "version {0} follows {1}, which does not exist",
    k.LOST_HEAD: "version {0} is of row {1}, whose head {2} does not exist",
    k.FOREIGN_RECORD: "version {0} is of row {1}, which its place in the chain denies",
    k.FOREIGN_PREVIOUS: "version {0} follows {1}, which is another row's",
    k.FOREIGN_HEAD: "version {0} is of row {1}, whose head {2} is another row's",
    k.NOT_OLDER: "version {0} follows {1}, which is not older",
    k.GAP: "version {0} does not begin when {1} ends",
    k.OLD_HEAD: "version {0} is of row {1}, whose head {2} is older",
    k.NOT_HEAD: "version {0} is the newest of row {1}, but {2} is the head",
}
# The same with {1} and {2} as timestamps.
STAMPS: Final = {
    k.NO_BEGIN: "version {0} has a begin that none can have: {1}",
    k.NO_END: "version {0} has an end that none can have: {1}",
    k.ENDED_EARLY: "version {0} began at {1} and ended before, at {2}",
}
# And with {1} as the number of a transaction.
MARKS: Final = {
    k.BEGIN_MARK: "version {0} was written by transaction {1}, which is not open",
    k.END_MARK: "version {0} is being ended by transaction {1}, which is not open",
}
COUNTERS: Final = (
    ("DEAD", d.DEAD, k.DEAD_FOUND),
    ("PENDING", d.PENDING, k.PENDING_FOUND),
    ("ENDED", d.ENDED, k.ENDED_FOUND),
)

assert set(LINKS) | set(STAMPS) | set(MARKS) == set(range(k.KINDS))


def told(address: int) -> str:
    """An address for humans: segment:slot."""
    return f"{address >> d.SLOT_BITS}:{address & d.SLOT_MASK}"


class Problems:
    """What was found in one place, by kind: the first SHOWN in words, the others counted."""

    def __init__(self, place: str) -> None:
        self.place: Final = place
        self._counts: dict[object, int] = {}
        self._words: dict[object, list[str]] = {}

    def add(self, kind: object, words: Sequence[str], count: int | None = None) -> None:
        """Problems of a kind; `words` tell the first of `count` of them, or all."""
        if words:
            told_before = self._words.setdefault(kind, [])
            told_before += words[: SHOWN - len(told_before)]
            self._counts[kind] = self._counts.get(kind, 0) + (len(words) if count is None else count)

    def findings(self) -> list[Finding]:
        """Everything, in the order in which kinds were first met."""
        found = []
        for kind, words in self._words.items():
            more = self._counts[kind] - len(words)
            lines = words if not more else [*words[:-1], f"{words[-1]}; and {more} more of this kind"]
            found += [Finding(self.place, line) for line in lines]
        return found


def slots_in_use(table: Table) -> Array:
    """int64[segments]: what `check_kernels.exists` asks for; 0 where there is no segment."""
    limits: Array = table.directory[:, d.ROWS].copy()
    return limits


def check_segment(table: Table, number: int, open_marks: Iterable[int], problems: Problems) -> None:
    """The versions and counters of one segment; `open_marks`: those of active transactions."""
    segment = table.segments[number]
    if segment is None:
        return
    counts = np.zeros(k.KINDS, np.int64)
    first = np.zeros((k.KINDS, SHOWN, 3), np.int64)
    found = np.zeros(k.FOUND_FIELDS, np.int64)
    marks = np.fromiter(open_marks, np.int64)
    k.check_versions(table.directory, slots_in_use(table), number, segment.vacant, marks, counts, first, found)
    for kind in np.flatnonzero(counts).tolist():
        count = int(counts[kind])
        problems.add(kind, [_words(kind, *kept) for kept in first[kind, :count].tolist()], count)
    row = table.directory[number]
    for name, field, place in COUNTERS:
        if row[field] != found[place]:
            problems.add(name, [f"segment {number}: {name} is {row[field]}, not {found[place]}"])
    last, latest = row[d.LAST_BEGIN], found[k.LAST_BEGIN_FOUND]
    if segment.begin is not None and last < latest:
        problems.add("LAST_BEGIN", [f"segment {number}: LAST_BEGIN is {last}, but a version began at {latest}"])
    if segment.sealed is not None and segment.sealed.rows != segment.rows:
        problems.add("ROWS", [f"segment {number}: ROWS is {segment.rows}, its file has {segment.sealed.rows}"])


def check_count(table: Table, problems: Problems) -> None:
    """The number of live rows, over all segments at one moment: some 2 ms a million rows that have stamps."""
    live = int(k.count_live(table.directory, slots_in_use(table)))
    if live != table.live_rows:
        problems.add("live", [f"{live} rows live, {table.live_rows} counted"])


def _words(kind: int, address: int, a: int, b: int) -> str:
    if kind in LINKS:
        return LINKS[kind].format(told(address), told(a), told(b))
    if kind in MARKS:
        return MARKS[kind].format(told(address), d.transaction_of(a))
    return STAMPS[kind].format(told(address), a, b)
