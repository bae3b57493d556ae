"""The verifier: files, versions and indexes of an open engine, against one another. Product code: `filestore
check`, tests.

For every table: the order of begin and end, the counters, the chain of versions of every row (head to first,
each older than the next), and every index both ways: each version that counts has its entry, and each entry leads to
a row that exists. Then every checksum of the directory (`Store.verify`). It changes nothing; it looks at everything
and collects findings, the first few of a kind in words.

A table is checked piece by piece, and each piece compares what is there at one moment, so that statements go on in
between: a segment's versions, the count of live rows, an index's pages, SLICE_ROWS of its entries, SLICE_ROWS of rows.
What one piece has seen, the next does not believe. Segments that are begun meanwhile are left to the next check.

Thread rule: any thread; holds the engine lock for one piece at a time. Not here: repairs, and values that no key has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from filestore.errors import Error
from filestore.index.base import Keys
from filestore.storage import check as rows_check
from filestore.storage import directory as d
from filestore.storage.check import SHOWN, Problems, told
from filestore.storage.schema import TableDef
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.verify import Finding
from filestore.txn.keys import StoredKey, have_keys, key_bytes
from filestore.txn.snapshot import committed, may_stay

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

# Rows or entries that are looked at in one piece: a few milliseconds under the engine lock, and few enough for the
# caches, while what Python does for a piece still counts for little.
SLICE_ROWS: Final = 16384


def check(engine: Engine) -> list[Finding]:
    """Everything wrong, an empty list when the store is sound."""
    with engine.lock:
        definitions = list(engine.registry.tables())
    findings = [finding for definition in definitions for finding in _check_table(engine, definition)]
    return findings + engine.store.verify()


def _check_table(engine: Engine, definition: TableDef) -> list[Finding]:
    with engine.lock:
        present = engine.registry.by_oid(definition.oid)
        if present is None:
            return []
        name = present.qualified_name
        table = engine.tables.get(present.storage_id)
        if table is None:
            problem = engine.damaged.get(present.storage_id, "the registry names rows that do not exist")
            return [Finding(name, problem)]
    findings: list[Finding] = []
    pieces = _pieces(engine, table, findings)
    while True:
        with engine.lock:
            # Who dropped or truncated it meanwhile left nothing to be checked.
            if engine.tables.get(table.storage_id) is not table or next(pieces, None) is None:
                return findings


def _pieces(engine: Engine, table: Table, findings: list[Finding]) -> Iterator[bool]:
    """One piece for each value. Findings are added when all of their kind have been counted."""
    problems = Problems(table.definition.qualified_name)
    for number in range(len(table.segments)):
        marks = [txn.mark for txn in engine.manager.active.values()]
        rows_check.check_segment(table, number, marks, problems)
        yield True
    rows_check.check_count(table, problems)
    findings += problems.findings()
    yield True
    for key in table.stored_keys:
        problems = Problems(f"{table.definition.qualified_name}, index {key.definition.name}")
        try:
            for _ in _key_pieces(table, key, problems):
                yield True
                if key not in table.stored_keys:
                    break
        except Error as error:
            problems.add("error", [error.message])
        findings += problems.findings()
        yield True


def _key_pieces(table: Table, key: StoredKey, problems: Problems) -> Iterator[None]:
    """An index against its table, both ways. Raises IndexCorrupted, after which nothing can be looked up in it, and
    DataCorrupted when a key column cannot be read.
    """
    key.index.check()
    yield
    cursor = key.index.scan()
    while len(records := cursor.fetch(SLICE_ROWS)):
        _check_entries(table, records, problems)
        yield
    for number in range(len(table.segments)):
        low, high = 0, 1
        while low < high:
            segment = table.segments[number]
            high = 0 if segment is None or segment.vacant else segment.rows
            addresses = np.arange(low, min(high, low + SLICE_ROWS), dtype=np.int64) + (number << d.SLOT_BITS)
            low += SLICE_ROWS
            if len(addresses):
                _check_rows(table, key, addresses, problems)
                yield


def _check_entries(table: Table, records: Array, problems: Problems) -> None:
    """Entries: their record numbers are rows'."""
    there = _exist(rows_check.slots_in_use(table), records)
    lost = records[~there]
    words = [f"an entry names row {told(i)}, which does not exist" for i in lost[:SHOWN].tolist()]
    problems.add("lost", words, len(lost))
    found = records[there]
    wrong = found[table.records_of(found) != found]
    words = [f"an entry names version {told(i)}, which does not begin a row" for i in wrong[:SHOWN].tolist()]
    problems.add("wrong", words, len(wrong))


def _check_rows(table: Table, key: StoredKey, addresses: Array, problems: Problems) -> None:
    """Versions that count: the key of each leads to its row, and to no other row that counts and has it."""
    live = addresses[may_stay(*table.stamps_of(addresses))]
    if len(live) == 0:
        return
    keys, rows = key.encode_valid(table.gather(live, key.ordinals))
    live = live if rows is None else live[rows]
    own = table.records_of(live)
    offsets, records = key.index.lookup_many(keys)
    positions = np.repeat(np.arange(len(live)), np.diff(offsets))
    hits = np.bincount(positions[records == own[positions]], minlength=len(live))
    odd = np.flatnonzero(hits != 1)
    words = [
        f"row {told(own[i])} with key {key_bytes(keys, i)!r} has {hits[i]} entries instead of one"
        for i in odd[:SHOWN].tolist()
    ]
    problems.add("unindexed", words, len(odd))
    # Each pair of rows is seen from both; keys that open transactions write may yet be refused.
    lasting = committed(table.stamps_of(live)[0])
    others = np.flatnonzero((records > own[positions]) & lasting[positions])
    for low in range(0, len(others), SLICE_ROWS):
        some = others[low : low + SLICE_ROWS]
        _check_unique(table, key, own[positions[some]], keys, positions[some], records[some], problems)


def _check_unique(
    table: Table, key: StoredKey, own: Array, keys: Keys, positions: Array, records: Array, problems: Problems
) -> None:
    """Whether rows that an index names under the keys of rows `own` count, and have those keys."""
    limits = rows_check.slots_in_use(table)
    for segment in table.segment_list():
        if segment.vacant:
            limits[segment.number] = 0
    kept = np.flatnonzero(_exist(limits, records))
    heads = table.heads_of(records[kept])
    there = _exist(limits, heads)
    kept, heads = kept[there], heads[there]
    begins, ends = table.stamps_of(heads)
    counts = committed(begins) & may_stay(begins, ends)
    kept, heads = kept[counts], heads[counts]
    twice = kept[have_keys(table, key, heads, keys, positions[kept])]
    words = [
        f"rows {told(own[i])} and {told(records[i])} are both live with key {key_bytes(keys, int(positions[i]))!r}"
        for i in twice[:SHOWN].tolist()
    ]
    problems.add("twice", words, len(twice))


def _exist(limits: Array, addresses: Array) -> Array:
    """bool[n]: `check_kernels.exists` of many."""
    numbers = addresses >> d.SLOT_BITS
    inside = (numbers >= 0) & (numbers < len(limits))
    found: Array = inside & ((addresses & d.SLOT_MASK) < limits[np.where(inside, numbers, 0)])
    return found
