"""The verifier: files, versions and indexes of an open engine, against one another. Product code: `filestore
check`, tests.

For every table: the order of begin and end, the counters, the chain of versions of every row (head to first,
each older than the next), and every index both ways: each live version has its entry, and each entry leads to
a row that exists. Then every checksum of the directory (`Store.verify`). It changes nothing and collects
findings instead of stopping at the first of a kind.

Thread rule: any thread; holds the engine lock for one table at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from filestore.errors import Error
from filestore.storage import check as rows_check
from filestore.storage import directory as d
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.verify import Finding
from filestore.txn import kernels
from filestore.txn.keys import StoredKey, key_bytes

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

CHECK_ROWS = 65536
SHOWN = 3  # findings of one kind and place that are worth reading


def check(engine: Engine) -> list[Finding]:
    """Everything wrong, an empty list when the store is sound."""
    findings: list[Finding] = []
    with engine.lock:
        definitions = list(engine.registry.tables())
    for definition in definitions:
        with engine.lock:
            table = engine.tables.get(definition.storage_id)
            if table is None:
                problem = engine.damaged.get(definition.storage_id, "the registry names rows that do not exist")
                findings.append(Finding(definition.qualified_name, problem))
                continue
            try:
                findings += rows_check.check_rows(table, {t.mark for t in engine.manager.active.values()})
                for key in table.stored_keys:
                    findings += check_key(table, key)
            except Error as error:
                findings.append(Finding(definition.qualified_name, error.message))
    return findings + engine.store.verify()


def check_key(table: Table, key: StoredKey) -> list[Finding]:
    """An index against its table, both ways."""
    place = f"{table.definition.qualified_name}, index {key.definition.name}"
    try:
        key.index.check()
    except Error as error:
        return [Finding(place, error.message)]
    problems = [*_entries(table, key), *_missing(table, key)]
    return [Finding(place, problem) for problem in problems[:SHOWN]]


def _entries(table: Table, key: StoredKey) -> list[str]:
    """Entries whose record number is no row's."""
    records = np.unique(key.index.range())
    problems = []
    numbers, slots = records >> d.SLOT_BITS, records & d.SLOT_MASK
    for number in np.unique(numbers).tolist():
        segment = table.segments[number] if number < len(table.segments) else None
        here = slots[numbers == number]
        if segment is None or int(here.max()) >= segment.rows:
            problems.append(f"an entry names a row in segment {number} that does not exist")
            continue
        own = table.records_of((number << d.SLOT_BITS) | here)
        if not (own == ((number << d.SLOT_BITS) | here)).all():
            problems.append(f"an entry names a version in segment {number} that does not begin a row")
    return problems


def _missing(table: Table, key: StoredKey) -> list[str]:
    """Live versions whose key does not lead to their row; two live rows with one key."""
    problems = []
    for segment in table.segment_list():
        for low in range(0, segment.rows, CHECK_ROWS):
            high = min(segment.rows, low + CHECK_ROWS)
            addresses = np.arange(low, high, dtype=np.int64) + (segment.number << d.SLOT_BITS)
            live = addresses[_live(table, addresses)]
            if len(live):
                problems += _unindexed(table, key, live)
    return problems


def _unindexed(table: Table, key: StoredKey, live: Array) -> list[str]:
    columns = table.gather(live, key.ordinals)
    valid = np.ones(len(live), np.bool_)
    for column in columns:
        valid &= True if column.valid is None else column.valid
    rows = np.flatnonzero(valid)
    if len(rows) == 0:
        return []
    keys: Any = key.encode([c.take(rows) for c in columns])
    own = table.records_of(live[rows])
    offsets, records = key.index.lookup_many(keys)
    positions = np.repeat(np.arange(len(rows)), np.diff(offsets))
    hits = np.bincount(positions[records == own[positions]], minlength=len(rows))
    problems = []
    for i in np.flatnonzero(hits != 1)[:SHOWN].tolist():
        problems.append(f"row {own[i]} with key {key_bytes(keys, i)!r} has {hits[i]} entries instead of one")
    others = np.flatnonzero(records != own[positions])
    heads = table.heads_of(records[others])
    alive = _live(table, heads)
    for i in others[alive][:CHECK_ROWS].tolist():
        head = table.heads_of(records[i : i + 1])
        there = table.gather(head, key.ordinals)
        null = any(c.valid is not None and not c.valid[0] for c in there)
        if not null and key_bytes(key.encode(there), 0) == key_bytes(keys, int(positions[i])):
            problems.append(f"rows {own[positions[i]]} and {records[i]} are both live with one key")
    return problems


def _live(table: Table, addresses: Array) -> Array:
    """bool[n]: committed and not ended."""
    begins, ends = np.empty(len(addresses), np.int64), np.empty(len(addresses), np.int64)
    kernels.ends_of(table.directory, addresses, begins, ends)
    live: Array = (begins >= 0) & (begins < d.INFINITY) & (ends == d.INFINITY)
    return live
