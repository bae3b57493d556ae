"""The engine: one open directory's tables, indexes, transactions and log, wired together. What `database.py`
opens.

Life: `Engine.open` loads the last checkpoint, replays the log and begins; `close` ends it. A change happens
under `lock`, in memory; commit makes it durable; the checkpoint carries memory to disk in the background and
lets the log go.

Thread rule: every method is called with `lock` held, unless it says otherwise; generators are resumed with it
held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from filestore import errors
from filestore.hal import FileSystem
from filestore.storage.directory import SEGMENT_SLOTS
from filestore.storage.log import Log
from filestore.storage.registry import Registry
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.segment import HEAP_BYTES
from filestore.storage.store import Store, StoreOptions
from filestore.storage.table import Table
from filestore.storage.vector import Vector
from filestore.storage.verify import Finding
from filestore.storage.wait import Wait
from filestore.txn import bulk, check, recovery
from filestore.txn.checkpoint import Checkpointer
from filestore.txn.keys import INDEX_BYTES, StoredKey, open_key
from filestore.txn.locks import LockMode, LockTable
from filestore.txn.manager import TransactionManager
from filestore.txn.snapshot import Snapshot
from filestore.txn.transaction import Isolation, State, Transaction

LOG: Final = logging.getLogger("filestore.txn")
# From here on a bulk load is followed by a checkpoint: replaying it means to index its rows again.
LARGE_LOAD_ROWS: Final = 100_000
DAMAGE_HINT: Final = "Restore a backup of the directory, or drop the table. The other tables are not affected."


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs. slots, heap_bytes, index_bytes: small in tests, so that boundaries are met.

    checkpoint_log_bytes: log since the last checkpoint that starts the next one; what a recovery has to read.
    workers: threads that encode and write the segments of one bulk load: one for each core of the smallest machine that
    this is meant for.
    threaded: False takes checkpoints only when asked and flushes inline, for tests on a simulated disk.
    """

    slots: int = SEGMENT_SLOTS
    heap_bytes: int = HEAP_BYTES
    index_bytes: int = INDEX_BYTES
    checkpoint_log_bytes: int = 64 << 20
    workers: int = 2
    threaded: bool = True
    store: StoreOptions = field(default_factory=StoreOptions)


class Engine:
    """An open store; made by `Engine.open`."""

    def __init__(self, store: Store, options: EngineOptions) -> None:
        self.store = store
        self.options = options
        self.lock = threading.RLock()
        self.registry = Registry()
        self.tables: dict[int, Table] = {}
        self.damaged: dict[int, str] = {}  # tables that could not be loaded, by storage id: what is wrong
        self.added_keys: dict[int, list[tuple[Table, StoredKey]]] = {}
        self.manager: TransactionManager  # from `open` on
        self.checkpointer = Checkpointer(self)
        self.closed = False

    @classmethod
    def open(cls, fs: FileSystem, options: EngineOptions | None = None) -> Engine:
        """Opens or makes the store in a directory. Raises what `Store.open` and replay raise; nothing stays
        open then.
        """
        options = options or EngineOptions()
        store = Store.open(fs, options.store)
        try:
            engine = cls(store, options)
            clock, next_id = recovery.recover(engine)
            engine.manager = TransactionManager(engine.registry, store.log, clock, next_id)
            engine.manager.on_finish = engine.after
            engine.checkpointer.start()
        except BaseException:
            store.close()
            raise
        return engine

    def close(self) -> None:
        """Aborts what is open, takes a last checkpoint if the store is sound, and gives the directory back.
        Not under `lock`.
        """
        if self.closed:
            return
        self.closed = True
        with self.lock:
            for txn in list(self.manager.active.values()):
                self.abort(txn)
        self.checkpointer.stop()
        try:
            if self.failed is None and not self.store.read_only and not self.damaged:
                self.checkpointer.run()
        except (errors.DiskFull, errors.StorageFailed) as error:
            # The log has everything: the next open replays more.
            LOG.warning("no checkpoint at close: %s", error.message)
        finally:
            self.store.close()

    # --- what there is

    @property
    def log(self) -> Log:
        """The open log."""
        return self.store.log

    @property
    def defined(self) -> bool:
        """Whether new snapshots show the rows of the commit that changed definitions last."""
        return self.manager.defined_at <= self.manager.durable_timestamp

    @property
    def locks(self) -> LockTable:
        """Locks on tables and names."""
        return self.manager.locks

    @property
    def failed(self) -> errors.StorageFailed | None:
        """Why nothing can be committed any more; None while all is well. Any thread."""
        return self.store.failed

    def table(self, definition: TableDef) -> Table:
        """The rows of a definition. Raises XX001 when they are damaged, 42P01 when their storage is gone: the
        definition is an old one.
        """
        found = self.tables.get(definition.storage_id)
        if found is None:
            problem = self.damaged.get(definition.storage_id)
            if problem is not None:
                raise errors.DataCorrupted(f'table "{definition.name}" cannot be read: {problem}', hint=DAMAGE_HINT)
            raise errors.UndefinedTable(f'relation "{definition.name}" does not exist')
        return found

    def to_drop(self, definition: TableDef) -> list[Table]:
        """What a transaction that drops the table has to let go: nothing when it is damaged, see `after`."""
        return [] if definition.storage_id in self.damaged else [self.table(definition)]

    def index(self, definition: TableDef, key: KeyDef) -> StoredKey:
        """The index behind a key of a table. Raises 42704."""
        found = self.indexes(self.table(definition).storage_id).get(key.oid)
        if found is not None:
            return found
        raise errors.UndefinedObject(f'index "{key.name}" does not exist')

    def indexes(self, storage_id: int) -> dict[int, StoredKey]:
        """The keys of a table's rows, by the key's oid."""
        return {key.definition.oid: key for key in self.tables[storage_id].stored_keys}

    # --- transactions

    def begin(
        self, isolation: Isolation = Isolation.READ_COMMITTED, *, read_only: bool = False, minimum_timestamp: int = 0
    ) -> Transaction:
        """A new transaction; `minimum_timestamp`: `Transaction.timestamp` of the session's last commit."""
        return self.manager.begin(isolation, read_only, minimum_timestamp)

    def statement_snapshot(self, txn: Transaction) -> Snapshot:
        """What the transaction's next statement sees; taken once per statement."""
        return self.manager.statement_snapshot(txn)

    def commit(self, txn: Transaction) -> Wait:
        """Commits; the wait ends when the commit is durable. Raises with the transaction still active, to be
        aborted.
        """
        wait = self.manager.commit(txn)
        if txn.timestamp:
            rows = sum(a.rows for writes in txn.writes.values() for a in writes.attached)
            self.checkpointer.consider(loaded=rows >= LARGE_LOAD_ROWS)
        return wait

    def abort(self, txn: Transaction) -> None:
        """Takes everything back. Harmless when the transaction is over."""
        self.manager.abort(txn)

    def after(self, txn: Transaction) -> None:
        """A transaction has ended, its locks are still held: storage goes that nobody will name again."""
        committed = txn.state is State.COMMITTED
        for table in txn.dropped if committed else txn.created:
            # A table that was made and dropped in one transaction is in both lists.
            self.drop_storage(table)
        for table, key in self.added_keys.pop(txn.id, ()):
            if not committed:
                table.stored_keys = tuple(k for k in table.stored_keys if k is not key)
                self.drop_key(key)
        if not committed:
            for writes in txn.writes.values():
                for attached in writes.attached:
                    bulk.discard(self, attached)
        elif txn.registry is not None:
            self._redefine_all(txn.registry)
            for storage_id in self.damaged.keys() - {t.storage_id for t in self.registry.tables()}:
                self.forget_damaged(storage_id)

    def lock_table(self, txn: Transaction, oid: int, mode: LockMode) -> Generator[Wait, None, None]:
        """Takes a lock on a table until the transaction ends. What those did who had it before is seen by the next
        snapshot, if this took a wait, or a lock that excludes writers.
        """
        if mode < LockMode.SHARE_UPDATE_EXCLUSIVE and self.locks.try_acquire(txn, oid, mode):
            return
        yield from self.locks.acquire(txn, oid, mode)
        yield from self.manager.settled()

    def settled(self) -> Generator[Wait, None, None]:
        """Waits until all that is committed now is seen by every new snapshot."""
        return self.manager.settled()

    def bulk_load(
        self, txn: Transaction, table: Table, batches: Iterable[Sequence[Vector] | Wait]
    ) -> Generator[Wait, None, int]:
        """Loads many rows as sealed segments; returns how many. See `filestore.txn.bulk`."""
        return bulk.load(self, txn, table, batches)

    # --- storage

    def make_table(self, definition: TableDef) -> Table:
        """Storage for a definition, empty; with the indexes of its keys."""
        table = self.make_rows(definition, self.options.slots)
        table.stored_keys = tuple(self.make_key(definition, key) for key in definition.keys)
        return table

    def make_rows(self, definition: TableDef, slots: int) -> Table:
        """Storage for a definition, without indexes."""
        table = Table(definition, self.store, slots=slots, heap_bytes=self.options.heap_bytes)
        self.tables[definition.storage_id] = table
        return table

    def redefine(self, table: Table, definition: TableDef) -> None:
        """Rows take a new definition: indexes that it does not name go, those that are missing are built (a replay's; a
        transaction has built its own). Raises DataCorrupted.
        """
        table.definition = definition
        have = {key.definition.oid: key for key in table.stored_keys}
        stored = []
        for key in definition.keys:
            found = have.pop(key.oid, None)
            stored.append(found or recovery.build_key(table, self.make_key(definition, key)))
        for dropped in have.values():
            self.drop_key(dropped)
        table.stored_keys = tuple(stored)

    def _redefine_all(self, overlay: Registry) -> None:
        """Tables take the definitions that a transaction has committed."""
        for operation in overlay.operations:
            if operation["op"] != "table":
                continue
            definition = self.registry.by_oid(operation["table"]["oid"])
            table = None if definition is None else self.tables.get(definition.storage_id)
            if definition is not None and table is not None:
                self.redefine(table, definition)

    def make_key(self, definition: TableDef, key: KeyDef) -> StoredKey:
        """Opens or makes a key's index; the caller adds it to the table."""
        return open_key(self.store, definition, key, self.options.index_bytes)

    def drop_key(self, key: StoredKey) -> None:
        """Forgets an index."""
        self.store.drop_arena(key.arena.name)

    def drop_storage(self, table: Table) -> None:
        """Forgets a table's rows and indexes; its sealed files go with the next checkpoints."""
        if self.tables.pop(table.storage_id, None) is None:
            return
        for segment in table.segment_list():
            if segment.sealed is not None:
                self.store.discard_sealed(segment.sealed.name)
        for key in table.stored_keys:
            self.drop_key(key)
        table.drop()

    def quarantine(self, definition: TableDef, error: errors.DataCorrupted) -> None:
        """A table could not be loaded: it answers nothing but this error, until it is dropped.

        No checkpoint is taken until then: the log has what the table lacks, for the day on which its page is restored.
        """
        LOG.error("table %s cannot be read: %s", definition.qualified_name, error.message)
        self.tables.pop(definition.storage_id, None)
        self.damaged[definition.storage_id] = error.message

    def forget_damaged(self, storage_id: int) -> None:
        """A damaged table was dropped, or got new storage."""
        if self.damaged.pop(storage_id, None) is not None:
            for name in self.store.arena_names():
                if name.startswith((f"t{storage_id}/", f"i{storage_id}/")):
                    self.store.drop_arena(name)

    # --- checkpoint and check

    def checkpoint(self) -> None:
        """Takes a checkpoint now and returns when it is durable. Any thread, not under `lock`. Raises
        DiskFull, StorageFailed.
        """
        self.checkpointer.run()

    def check(self) -> list[Finding]:
        """Verifies everything: files, tables, versions, indexes. Empty when sound. Any thread; holds `lock`
        table by table.
        """
        return check.check(self)

    def statistics(self) -> dict[str, Any]:
        """Counters for the views of activity."""
        manager = self.manager
        return {
            "commits": manager.commits,
            "aborts": manager.aborts,
            "active": len(manager.active),
            "last_committed": manager.last_committed,
            "durable_timestamp": manager.durable_timestamp,
            "checkpoints": self.checkpointer.taken,
            "log_bytes": self.log.bytes_since(self.store.redo_lsn),
        }
