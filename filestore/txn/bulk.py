"""Bulk loads: many rows straight into sealed segments, without the log carrying them.

Batches are cut into segments of full size; each is encoded and written on a worker thread while the next is
read, and its keys are encoded there too. When all are written, keys are checked (within the load by sorting
once, against the table by the rule of `writes`), index entries are added, and the segments are attached with
the transaction's mark as their one `begin`. The log gets one ATTACH record at commit. A failure, or an abort,
detaches the segments and removes the files.

Fewer rows than a threshold, and what is left over behind the last full segment when the table has an open
one, go the ordinary way.

Thread rule: engine lock held, as for all generators; the workers take no lock. Not here: reading bytes or rows from
anywhere, defaults and checks.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore.index.base import Keys
from filestore.storage import directory as d
from filestore.storage.log_record import Record, RecordKind
from filestore.storage.sealed import SealedSegment, encode_column
from filestore.storage.segment_file import SealedContents
from filestore.storage.store import sealed_name
from filestore.storage.table import Table
from filestore.storage.vector import Array, Vector
from filestore.storage.wait import Wait
from filestore.txn.keys import StoredKey, concat_keys, first_duplicate
from filestore.txn.transaction import Attached, Transaction
from filestore.txn.writes import KeyConflict, first_blocker, insert_rows

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

# Of fewer rows a segment would be a file of little but padding, for a sync of the file and one of its directory.
THRESHOLD_ROWS: Final = 20_000
QUEUED: Final = 2  # segments that may wait for a worker: bounds memory, keeps workers busy


@dataclass(slots=True)
class _Written:
    """A segment on disk, and the keys of its rows with the rows that have one (None: all)."""

    number: int
    name: str
    rows: int
    keys: list[tuple[Keys, Array | None]]


@dataclass(slots=True)
class _Pending:
    """Rows collected for the next segment."""

    parts: list[Sequence[Vector]] = field(default_factory=list)
    rows: int = 0

    def take(self, count: int, columns: int) -> list[list[Vector]]:
        """The first `count` rows: for each column its parts."""
        taken: list[list[Vector]] = [[] for _ in range(columns)]
        left = count
        while left:
            part = self.parts[0]
            have = len(part[0])
            if have <= left:
                self.parts.pop(0)
                for i, vector in enumerate(part):
                    taken[i].append(vector)
                left -= have
            else:
                for i, vector in enumerate(part):
                    taken[i].append(vector.slice(0, left))
                self.parts[0] = [v.slice(left, have) for v in part]
                left = 0
        self.rows -= count
        return taken


class _FutureWait(Wait):
    """A worker's result as a Wait."""

    def __init__(self, future: Future[Any]) -> None:
        super().__init__()
        future.add_done_callback(lambda _: self.finish())


def load(
    engine: Engine, txn: Transaction, table: Table, batches: Iterable[Sequence[Vector] | Wait]
) -> Generator[Wait, None, int]:
    """Loads batches (table order, stored types, dictionary-encoded or not); returns the rows. Engine lock
    held.

    Raises KeyConflict with the row's number in the load, and whatever the iterable raises; the transaction
    must abort then. Reading the iterable happens under the lock, so it must not block: while the next batch
    is being made it gives a Wait instead. After an error it waits under the lock for the segments that workers are
    writing just then, at most one each: their files must be there before they can be given up.
    """
    txn.writes_of(table)
    pending = _Pending()
    futures: list[Future[_Written]] = []
    loaded = 0
    with ThreadPoolExecutor(engine.options.workers, "filestore-bulk") as workers:
        try:
            for batch in batches:
                if isinstance(batch, Wait):
                    yield batch
                    continue
                if len(batch[0]):
                    pending.parts.append(batch)
                    pending.rows += len(batch[0])
                while pending.rows >= table.slots:
                    futures.append(workers.submit(_write, engine, table, *_next(table, pending, table.slots)))
                    while len([f for f in futures if not f.done()]) > QUEUED:
                        yield _FutureWait(next(f for f in futures if not f.done()))
            if pending.rows >= min(THRESHOLD_ROWS, table.slots) or (futures and pending.rows):
                futures.append(workers.submit(_write, engine, table, *_next(table, pending, pending.rows)))
            for future in futures:
                if not future.done():
                    yield _FutureWait(future)
            written = [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            workers.shutdown(wait=True)
            for future in futures:
                if not future.cancelled() and future.exception() is None:
                    engine.store.discard_sealed(future.result().name)
            raise
    if written:
        yield from _attach(engine, txn, table, written)
        loaded = sum(w.rows for w in written)
    for part in pending.parts:
        try:
            yield from insert_rows(txn, table, part, len(part[0]))
        except KeyConflict as conflict:
            raise KeyConflict(conflict.key, conflict.row + loaded) from None
        loaded += len(part[0])
    return loaded


def discard(engine: Engine, attached: Attached) -> None:
    """Gives an aborted load's files up."""
    for name in attached.files:
        engine.store.discard_sealed(name)


def _next(table: Table, pending: _Pending, rows: int) -> tuple[int, int, list[list[Vector]], tuple[StoredKey, ...]]:
    """A job for a worker: segment number, rows, the columns' parts, the keys to encode."""
    return table.reserve_segment(), rows, pending.take(rows, len(table.layout.types)), table.stored_keys


def _write(
    engine: Engine, table: Table, number: int, rows: int, columns: list[list[Vector]], keys: tuple[StoredKey, ...]
) -> _Written:
    """Encodes and writes one segment. Worker thread."""
    name = sealed_name(table.storage_id, number)
    encoded_keys = [_keys(key, columns) for key in keys]
    encoded = [encode_column(t, parts, rows) for t, parts in zip(table.layout.types, columns, strict=True)]
    engine.store.write_sealed(name, SealedContents(table.storage_id, number, rows, encoded))
    return _Written(number, name, rows, encoded_keys)


def _keys(key: StoredKey, columns: list[list[Vector]]) -> tuple[Keys, Array | None]:
    """Keys of a segment's rows, part by part."""
    parts: list[Keys] = []
    rows: list[Array] = []
    whole = True
    base = 0
    for i in range(len(columns[0])):
        keys, here = key.encode_rows([column[i] for column in columns])
        count = len(columns[0][i])
        whole = whole and here is None
        parts.append(keys)
        rows.append(np.arange(base, base + count) if here is None else here + base)
        base += count
    return concat_keys(parts), None if whole else np.concatenate(rows)


def _attach(engine: Engine, txn: Transaction, table: Table, written: list[_Written]) -> Generator[Wait, None, None]:
    """Checks the keys, attaches the segments as the transaction's own, and adds the index entries."""
    writes = txn.writes_of(table)
    attached = Attached([w.number for w in written], [w.name for w in written], sum(w.rows for w in written))
    # From here on an abort gives the files up.
    writes.attached.append(attached)
    starts = np.cumsum([0] + [w.rows for w in written])
    wanted: list[tuple[StoredKey, Keys, Array | None]] = []
    entries = []
    for i, key in enumerate(table.stored_keys):
        keys = concat_keys([w.keys[i][0] for w in written])
        rows = None
        if any(w.keys[i][1] is not None for w in written):
            rows = np.concatenate(
                [
                    starts[j] + (np.arange(w.rows) if w.keys[i][1] is None else w.keys[i][1])
                    for j, w in enumerate(written)
                ]
            )
        duplicate = first_duplicate(keys)
        if duplicate >= 0:
            raise KeyConflict(key.definition, duplicate if rows is None else int(rows[duplicate]))
        wanted.append((key, keys, rows))
        records = np.concatenate([np.arange(w.rows, dtype=np.int64) + (w.number << d.SLOT_BITS) for w in written])
        entries.append((key, keys, records if rows is None else records[rows]))
    busy = [entry for entry in wanted if entry[0].index.entry_count]
    while busy and (mark := first_blocker(txn, table, busy, None)) != 0:
        yield from txn.manager.wait_for(txn, mark)
    for w in written:
        columns = SealedSegment(engine.store.open_sealed(w.name), table.layout)
        table.attach(w.number, columns, txn.mark).set_pending(w.rows)
    for key, keys, records in entries:
        if len(records):
            key.index.insert(keys, records)
            writes.entries.append((key, keys, records))
    payload = json.dumps({"segments": attached.segments, "files": attached.files}).encode()
    txn.records.append(Record(RecordKind.ATTACH, table.storage_id, payload))
