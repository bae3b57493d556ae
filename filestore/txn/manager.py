"""Begin, snapshot, commit, abort: the life of transactions, and the one order of commits.

Commit, in this order and under the engine lock throughout:
1. reserve log space and see that the store has not failed; errors leave the transaction active, to be
   aborted;
2. take the next timestamp, append the whole group to the log's buffer;
3. stamp begins and ends, count rows, apply the registry's operations;
4. release locks and wake who waits for the transaction;
5. hand out a wait for durability. The client is answered when it ends.

So commit order, log order and timestamp order are one. Snapshots are taken at `durable_timestamp`: what a
crash could still lose is seen by nobody, except by the session that wrote it without waiting
(synchronous_commit off), and by transactions that have written: they meet the newest versions when they claim
rows and check keys, so their next statements must see those too. Their own record lies behind in the log, so
nothing that they answer is durable before what they saw. Who learns of a commit in another way, by a lock that he
has waited for, a key that is taken or a definition that has changed, waits until it is durable (`settled`), so that
his next snapshot shows it.

A failed log is final: `commit` raises StorageFailed from then on, and waits end with it; nothing is stamped
back, since nothing was answered. Who only reads goes on at `durable_timestamp`. Who has written, or is about to, gets
the error with his next statement: he can never commit, and what decides his writes are commits that may be lost.

Thread rule: engine lock held, but for `durable_timestamp`, which is read anywhere, and what the log's flusher calls.
Not here: waiting for anything, and what statements write.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from typing import Protocol

import numpy as np

from filestore.errors import StorageFailed
from filestore.index.base import Keys
from filestore.storage import image_kernels, segment_kernels
from filestore.storage.directory import ABORTED, INFINITY, transaction_of
from filestore.storage.log_record import Part, Record, RecordKind, encode_group
from filestore.storage.registry import Registry
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.wait import Wait, finished
from filestore.txn.keys import StoredKey
from filestore.txn.locks import LockTable
from filestore.txn.snapshot import Snapshot
from filestore.txn.transaction import Isolation, State, TableWrites, Transaction


class CommitLog(Protocol):
    """What committing asks of the log (`filestore.storage.log.Log`)."""

    @property
    def failed(self) -> StorageFailed | None: ...

    def reserve(self, nbytes: int) -> None: ...

    def append(self, parts: list[Part]) -> int: ...

    def when_durable(self, lsn: int) -> Wait: ...


class TransactionManager:
    """Timestamps, active transactions, locks. Engine lock held for every call; `durable_timestamp` is read
    anywhere.
    """

    def __init__(self, registry: Registry, log: CommitLog, clock: int, next_id: int) -> None:
        self.registry = registry
        self.log = log
        self.locks = LockTable()
        self.active: dict[int, Transaction] = {}
        self.last_committed = clock
        self.durable_timestamp = clock
        self.next_id = next_id
        self.defined_at = clock  # timestamp of the last commit that changed definitions
        self._answered = finished()  # of the last commit
        self._durability = threading.Lock()  # the flusher and an embedded caller may both come with news
        self.commits = 0
        self.aborts = 0
        self.on_finish: Callable[[Transaction], None] = _nothing

    def begin(
        self, isolation: Isolation = Isolation.READ_COMMITTED, read_only: bool = False, minimum_timestamp: int = 0
    ) -> Transaction:
        """A new transaction; `minimum_timestamp`: the session's last commit."""
        txn = Transaction(self, self.next_id, isolation, read_only, minimum_timestamp)
        self.next_id += 1
        self.active[txn.id] = txn
        return txn

    def statement_snapshot(self, txn: Transaction) -> Snapshot:
        """What the next statement sees: everything durable (READ COMMITTED), or what the first one saw; and
        own writes. Raises StorageFailed for who has written when the log has failed.
        """
        if txn.writes:
            self.check_log()
        if txn.isolation is Isolation.READ_COMMITTED and txn.writes:
            timestamp = self.last_committed
        elif txn.isolation is Isolation.READ_COMMITTED or txn.snapshot is None:
            timestamp = max(self.durable_timestamp, txn.minimum_timestamp)
        else:
            timestamp = txn.snapshot.timestamp
        if txn.writes:
            bounds = {table.storage_id: table.next_address for table in txn.writes}
            txn.snapshot = Snapshot(timestamp, txn.mark, bounds)
        else:
            txn.snapshot = Snapshot(timestamp)
        return txn.snapshot

    def check_log(self) -> None:
        """Raises StorageFailed once the log has failed; asked for all who write."""
        failed = self.log.failed
        if failed is not None:
            raise StorageFailed(failed.message, detail=failed.detail, hint=failed.hint)

    def oldest_timestamp(self) -> int:
        """No snapshot in use, or yet to be taken, is older."""
        oldest = self.durable_timestamp
        for txn in self.active.values():
            if txn.snapshot is not None:
                oldest = min(oldest, txn.snapshot.timestamp, *txn.pinned())
        return oldest

    def settled(self) -> Generator[Wait, None, None]:
        """Waits until all that is committed now is durable, so that every new snapshot shows it."""
        while self.durable_timestamp < self.last_committed and not self._answered.done:
            yield self._answered

    def wait_for(self, txn: Transaction, mark: int) -> Generator[Wait, None, None]:
        """Waits until the transaction behind a mark is over. Raises 40P01 when that would close a cycle."""
        other = self.active.get(transaction_of(mark))
        if other is not None:
            yield from self.locks.wait(txn, other.until_finished(), {other.id}, "transactionid")

    # --- commit

    def commit(self, txn: Transaction) -> Wait:
        """Commits and returns the wait for durability. Raises StorageFailed or DiskFull with the transaction
        still active.
        """
        if not txn.has_writes and not _has_operations(txn):
            # Who looked for rows to write saw the newest commits, found nothing and answers that: behind them.
            seen = self._answered if txn.writes and txn.synchronous else finished()
            self._end(txn, State.COMMITTED)
            return seen
        records = list(txn.records)
        if txn.registry is not None and txn.registry.operations:
            # First, so that replay knows a table before its rows.
            payload = json.dumps(txn.registry.operations, separators=(",", ":")).encode()
            records.insert(0, Record(RecordKind.DDL, 0, payload))
        parts = encode_group(self.last_committed + 1, txn.id, records)
        self.log.reserve(sum(map(len, parts)))
        lsn = self.log.append(parts)
        timestamp = self.last_committed + 1
        self.last_committed = timestamp
        txn.timestamp = timestamp
        for table, writes in txn.writes.items():
            _stamp(table, writes, timestamp)
        if txn.registry is not None and txn.registry.operations:
            self.registry.apply_all(txn.registry.operations)
            self.defined_at = timestamp
        self.commits += 1
        # A wait of its own: who is woken by it must find `durable_timestamp` moved on already.
        answered = self._answered = Wait()
        self._end(txn, State.COMMITTED)
        self.log.when_durable(lsn).on_done(lambda ended: self._durable(timestamp, ended, answered))
        return answered if txn.synchronous else finished()

    def _durable(self, timestamp: int, ended: Wait, answered: Wait) -> None:
        """The log says that a commit is durable, and with it all before; on the flushing thread, or at once."""
        if ended.error is None:
            with self._durability:
                self.durable_timestamp = max(self.durable_timestamp, timestamp)
        answered.finish(ended.error)

    # --- abort

    def abort(self, txn: Transaction) -> None:
        """Takes back everything, newest first. Cannot fail; aborting what is over is harmless."""
        if txn.state is not State.ACTIVE:
            return
        for table, writes in reversed(txn.writes.items()):
            _undo(table, writes)
        self.aborts += 1
        self._end(txn, State.ABORTED)

    def _end(self, txn: Transaction, state: State) -> None:
        txn.state = state
        self.active.pop(txn.id, None)
        self.on_finish(txn)
        self.locks.release_all(txn)
        txn.registry = None
        txn.snapshot = None
        if txn.finished is not None:
            txn.finished.finish()


def _nothing(_: Transaction) -> None:
    """No one else takes part in the end of transactions."""


def _has_operations(txn: Transaction) -> bool:
    return txn.registry is not None and bool(txn.registry.operations)


def joined(parts: list[Array]) -> Array:
    """One int64 array of several; none gives an empty one."""
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])


def _stamp(table: Table, writes: TableWrites, timestamp: int) -> None:
    """Gives a transaction's versions their timestamps."""
    dirty = table.addresses.dirty
    inserted = ended = 0
    for addresses in writes.inserted:
        segment_kernels.stamp_begin(table.directory, dirty, addresses, timestamp)
        inserted += len(addresses)
    for addresses in writes.ended:
        segment_kernels.stamp_end(table.directory, dirty, addresses, timestamp)
        ended += len(addresses)
    for attached in writes.attached:
        for number in attached.segments:
            segment = table.segments[number]
            assert segment is not None, "attached segments stay"
            segment.set_begin(timestamp)
            segment.set_pending(0)
        inserted += attached.rows
    table.live_rows += inserted - ended


def _undo(table: Table, writes: TableWrites) -> None:
    """Takes a transaction's versions, ends, heads and index entries back."""
    dirty = table.addresses.dirty
    for entry in reversed(writes.entries):
        take_entries(*entry)
    for records, before in reversed(writes.heads):
        segment_kernels.set_heads(table.directory, dirty, records, before)
    for addresses in writes.ended:
        segment_kernels.stamp_end(table.directory, dirty, addresses, INFINITY)
    for addresses in writes.inserted:
        segment_kernels.stamp_begin(table.directory, dirty, addresses, ABORTED)
        # Nobody sees the values; zeroed, they do not reach a file either.
        image_kernels.scrub(table.directory, dirty, table.layout.matrix, addresses)
    for attached in writes.attached:
        for number in attached.segments:
            table.detach(number)


def take_entries(key: StoredKey, keys: Keys, records: Array) -> None:
    """Takes index entries out again; an index that has no others is emptied at once."""
    if key.index.entry_count == len(records):
        key.index.clear()
    else:
        key.index.remove(keys, records)


def restore_entries(key: StoredKey, keys: Keys, records: Array) -> None:
    """Puts entries back that `take_entries` took."""
    key.index.insert(keys, records)
