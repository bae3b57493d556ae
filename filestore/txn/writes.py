"""Writing rows: insert, claim, update, delete, with unique keys, against other transactions.

What may have to wait for another open transaction is a generator that yields a `Wait` then; the driver waits with
the engine lock released and resumes it, and it looks at everything again. Between two yields nobody else changes
anything.

A row's write lock is the mark in its version's `end` (`claim_rows`). Uniqueness is decided against the newest
versions, whoever may see them:
- committed, or written by this transaction, and not ended: a conflict;
- written or ended by another open transaction: wait for it, then look again;
- ended: free. A null in a key never conflicts. An update writes all its versions before it looks, so `set id
  = id + 1` meets only what stays.

Thread rule: engine lock held, as for all generators. Not here: conditions, checks and defaults (`filestore.query.dml`),
locks on tables (`locks`), and deciding again what a moved row is to become.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from filestore import errors
from filestore.index.base import Keys
from filestore.storage.directory import INFINITY
from filestore.storage.log_record import Record, RecordKind
from filestore.storage.schema import KeyDef
from filestore.storage.segment_kernels import previous_at
from filestore.storage.table import Table
from filestore.storage.vector import Array, Vector
from filestore.storage.wait import Wait
from filestore.txn import kernels
from filestore.txn.keys import StoredKey, equal_keys, first_duplicate, have_keys, take_keys
from filestore.txn.snapshot import may_stay
from filestore.txn.transaction import Isolation, Transaction

_RETRY_HINT: Final = "Run the transaction again."


class KeyConflict(Exception):
    """Row `row` (of the call's rows) has a key that another row has; `query.dml` makes it a 23505 with its
    detail.
    """

    def __init__(self, key: KeyDef, row: int) -> None:
        super().__init__(f"key {key.name}, row {row}")
        self.key = key
        self.row = row


@dataclass(slots=True)
class ClaimResult:
    """What became of each version: states uint8[n] (CLAIMED, GONE, MOVED), newest int64[n] for moved ones."""

    states: Array
    newest: Array

    @property
    def claimed(self) -> Array:
        """bool[n]: this transaction may update or delete the version."""
        return self._with(kernels.CLAIMED)

    @property
    def gone(self) -> Array:
        """bool[n]: deleted meanwhile, or changed before by this very transaction."""
        return self._with(kernels.GONE)

    @property
    def moved(self) -> Array:
        """bool[n]: superseded; `newest` is to be looked at again, and claimed in its turn."""
        return self._with(kernels.MOVED)

    def _with(self, state: int) -> Array:
        found: Array = self.states == state
        return found


def insert_rows(txn: Transaction, table: Table, columns: Sequence[Vector], n: int) -> Generator[Wait, None, Array]:
    """Inserts n rows (table order, stored types) and returns their addresses, which are their record numbers.

    Raises KeyConflict, 25006, 40P01, 54000; nothing is written then.
    """
    writes = txn.writes_of(table)
    wanted = [(key, *key.encode_rows(columns)) for key in table.stored_keys]
    for key, keys, rows in wanted:
        duplicate = first_duplicate(keys)
        if duplicate >= 0:
            raise KeyConflict(key.definition, duplicate if rows is None else int(rows[duplicate]))
    while (mark := first_blocker(txn, table, wanted, None)) != 0:
        yield from txn.manager.wait_for(txn, mark)
    images: list[bytes] = []
    addresses = table.append(txn.mark, columns, n, images=images)
    writes.inserted.append(addresses)
    for key, keys, rows in wanted:
        records = addresses if rows is None else addresses[rows]
        if len(records):
            key.index.insert(keys, records)
            writes.entries.append((key, keys, records))
    txn.records += [Record(RecordKind.ROWS, table.storage_id, image) for image in images]
    return addresses


def claim_rows(txn: Transaction, table: Table, addresses: Array) -> Generator[Wait, None, ClaimResult]:
    """Takes the write locks of versions that the statement found, waiting for who has them.

    READ COMMITTED: a version that was superseded meanwhile is MOVED, a deleted one GONE. REPEATABLE READ:
    either is 40001.
    """
    writes = txn.writes_of(table)
    table.ensure_ends(addresses)
    result = ClaimResult(np.zeros(len(addresses), np.uint8), addresses.copy())
    done = 0
    while True:
        low = done
        done = int(kernels.claim(table.directory, addresses, low, txn.mark, result.states, result.newest))
        fresh = addresses[low:done][result.states[low:done] == kernels.CLAIMED]
        if len(fresh):
            writes.ended.append(fresh)
        if txn.isolation is not Isolation.READ_COMMITTED and (result.states[low:done] != kernels.CLAIMED).any():
            yield from txn.manager.settled()  # whoever tries again sees what was changed
            _refuse_changed(txn, table, addresses[low:done], result.states[low:done])
        if done == len(addresses):
            return result
        mark = int(table.stamps_of(addresses[done : done + 1])[1][0])
        yield from txn.manager.wait_for(txn, mark)
        table.ensure_ends(addresses[done:])


def look_again(txn: Transaction, table: Table, addresses: Array) -> Generator[Wait, None, Array]:
    """int64[n]: the newest versions of rows, which nobody else is changing any more; -1 for rows that are deleted, or
    were changed by this transaction.

    What is returned can be claimed without waiting, until the caller yields.
    """
    newest = np.empty(len(addresses), np.int64)
    while True:
        at = int(kernels.look_again(table.directory, addresses, txn.mark, newest))
        if at == len(addresses):
            return newest
        mark = int(table.stamps_of(newest[at : at + 1])[1][0])
        yield from txn.manager.wait_for(txn, mark)


@contextmanager
def as_before(txn: Transaction, table: Table, claimed: Array) -> Iterator[None]:
    """While it lasts, versions that the transaction has claimed look as if it had not.

    A statement's subqueries may run after its rows were claimed, and must see them still; a snapshot that knows the
    transaction's mark takes every end of its own for an earlier statement's. Nothing may be yielded inside. To
    readers without the engine lock a foreign mark and no end are the same.
    """
    kernels.put_ends(table.directory, claimed, INFINITY)
    try:
        yield
    finally:
        kernels.put_ends(table.directory, claimed, txn.mark)


def update_rows(
    txn: Transaction, table: Table, old: Array, columns: Sequence[Vector], changed: Sequence[int]
) -> Generator[Wait, None, Array]:
    """Replaces claimed versions by whole new rows; `changed` are the ordinals that were assigned. Returns the
    new addresses.

    Raises KeyConflict (after writing: the transaction must abort), 40P01, 54000.
    """
    writes = txn.writes_of(table)
    records = np.empty(len(old), np.int64)
    images: list[bytes] = []
    addresses = table.append(txn.mark, columns, len(old), records, old, images)
    writes.inserted.append(addresses)
    writes.heads.append((records, old))
    txn.records += [Record(RecordKind.ROWS, table.storage_id, image) for image in images]
    wanted = []
    for key in table.stored_keys:
        if not set(key.ordinals).isdisjoint(changed):
            moved = _changed_keys(table, key, old, columns)
            if len(moved):
                keys, rows = key.encode_rows([v.take(moved) for v in columns])
                rows = moved if rows is None else moved[rows]
                new = key.index.insert(keys, records[rows])
                if new.all():
                    writes.entries.append((key, keys, records[rows]))
                else:
                    kept = np.flatnonzero(new)
                    writes.entries.append((key, take_keys(keys, kept), records[rows[kept]]))
                wanted.append((key, keys, rows))
    while wanted and (mark := first_blocker(txn, table, wanted, records)) != 0:
        yield from txn.manager.wait_for(txn, mark)
    return addresses


def write_row(txn: Transaction, table: Table, cells: Array, blob: Array, old: int = -1) -> int:
    """Inserts one row, or replaces the version `old`, by one compiled call; returns the new address, -1 when the
    general way has to be gone (then nothing has happened).

    cells, blob: see `storage.row_write_kernels`. `old` is free or claimed by this transaction. Keys are the caller's:
    an update leaves them alone, for an insert see `insert_keys`. Never waits. Raises 25006.
    """
    writes = txn.writes_of(table)
    written = table.write_row(txn.mark, cells, blob, old)
    if written is None:
        return -1
    address, record, image, claimed = written
    writes.inserted.append(np.array((address,), np.int64))
    if old >= 0:
        before = np.array((old,), np.int64)
        writes.heads.append((np.array((record,), np.int64), before))
        if claimed:
            writes.ended.append(before)
    txn.records.append(Record(RecordKind.ROWS, table.storage_id, image))
    return address


def delete_row(txn: Transaction, table: Table, address: int) -> None:
    """Claims and deletes one version that is free. Never waits. Raises 25006."""
    writes = txn.writes_of(table)
    addresses = np.array((address,), np.int64)
    table.ensure_ends(addresses)
    states = np.zeros(1, np.uint8)
    kernels.claim(table.directory, addresses, 0, txn.mark, states, addresses.copy())
    if states[0] != kernels.CLAIMED:
        raise errors.InternalError(f"version {address} is not free")
    writes.ended.append(addresses)
    txn.records.append(Record(RecordKind.ENDS, table.storage_id, addresses.tobytes()))


def insert_keys(txn: Transaction, table: Table, keys: Sequence[tuple[StoredKey, Keys]], address: int) -> None:
    """Enters a row that `write_row` inserted under its keys, of which nobody else has one."""
    records = np.array((address,), np.int64)
    writes = txn.writes_of(table)
    for key, encoded in keys:
        key.index.insert(encoded, records)
        writes.entries.append((key, encoded, records))


def delete_rows(txn: Transaction, table: Table, claimed: Array) -> None:
    """Deletes claimed versions. The end marks are there already; what is left is to tell the log. Raises 25006."""
    if len(claimed):
        txn.writes_of(table)
        payload = np.ascontiguousarray(claimed, np.int64).tobytes()
        txn.records.append(Record(RecordKind.ENDS, table.storage_id, payload))


# --- keys


def _changed_keys(table: Table, key: StoredKey, old: Array, columns: Sequence[Vector]) -> Array:
    """Rows whose key really differs from that of the version they replace."""
    before = key.encode(table.gather(old, key.ordinals))
    after = key.encode([columns[i] for i in key.ordinals])
    return np.flatnonzero(~equal_keys(before, after))


def first_blocker(
    txn: Transaction, table: Table, wanted: Sequence[tuple[StoredKey, Keys, Array | None]], own: Array | None
) -> int:
    """Raises KeyConflict for a key that is taken; else the mark of a transaction that one depends on, 0 for
    none.

    own: for an update, the record number of each row, whose own entries do not count.
    """
    blocker = 0
    for key, keys, rows in wanted:
        offsets, records = key.index.lookup_many(keys)
        if len(records) == 0:
            continue
        positions = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        if own is not None:
            mine = own if rows is None else own[rows]
            others = records != mine[positions]
            positions, records = positions[others], records[others]
        heads = table.heads_of(records)
        begins, ends = table.stamps_of(heads)
        # What is ended for good, or by this transaction, or never was, is in nobody's way.
        alive = np.flatnonzero(may_stay(begins, ends, txn.mark))
        begins, ends, heads, positions = begins[alive], ends[alive], heads[alive], positions[alive]
        waiting = ((begins < 0) & (begins != txn.mark)) | (ends < 0)
        taken = have_keys(table, key, heads[~waiting], keys, positions[~waiting])
        if taken.any():
            position = int(positions[~waiting][taken].min())
            raise KeyConflict(key.definition, position if rows is None else int(rows[position]))
        for i in np.flatnonzero(waiting).tolist():
            foreign = int(ends[i]) if begins[i] >= 0 or begins[i] == txn.mark else int(begins[i])
            if _may_have_key(table, key, int(heads[i]), keys, int(positions[i]), foreign):
                blocker = foreign
    return blocker


def _may_have_key(table: Table, key: StoredKey, address: int, keys: Keys, row: int, foreign: int) -> bool:
    """Whether any version of the row that may yet be the newest committed one, whatever becomes of the
    transaction `foreign`, has the key.
    """
    position = np.array([row], np.int64)
    while address >= 0:
        here = np.array([address], np.int64)
        if have_keys(table, key, here, keys, position)[0]:
            return True
        if int(table.stamps_of(here)[0][0]) != foreign:
            return False
        address = int(previous_at(table.directory, address))
    return False


def _refuse_changed(txn: Transaction, table: Table, addresses: Array, states: Array) -> None:
    """40001 when another transaction changed a row that this one's snapshot shows (REPEATABLE READ)."""
    for i in np.flatnonzero(states != kernels.CLAIMED).tolist():
        end = int(table.stamps_of(addresses[i : i + 1])[1][0])
        if end == txn.mark:
            continue
        what = "update" if states[i] == kernels.MOVED else "delete"
        raise errors.SerializationFailure(f"could not serialize access due to concurrent {what}", hint=_RETRY_HINT)
