"""Opening: the last checkpoint's metadata and pages, then the log, then a new epoch.

1. the registry and every table's segments as the checkpoint left them, indexes with them;
2. replay of the log behind it: rows, ends, definitions, attached segments, and index entries of replayed
   rows;
3. what no committed transaction filled is marked dead, counters are counted;
4. the store opens its log for appends.
Each step can be repeated: a crash in any of them leaves what it found.

A page that fails its checksum costs its table, not the store: the table is put aside (`Engine.quarantine`), and
what the log says of it is skipped. A damaged index costs nothing, it is built again from its table.

Thread rule: the opening thread, before anybody else knows the engine. Not here: where the log ends and what damage in
it means (`filestore.storage.log_reader`), and going back to an earlier moment.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore.errors import DataCorrupted
from filestore.storage import crash_points, table_checkpoint
from filestore.storage import directory as d
from filestore.storage.registry import Registry
from filestore.storage.replay import Replayer
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.sealed import SealedSegment
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.txn.keys import StoredKey, arena_name
from filestore.txn.snapshot import committed

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

LOG: Final = logging.getLogger("filestore.txn")


def recover(engine: Engine) -> tuple[int, int]:
    """Brings the engine's tables to the last committed state; returns (clock, next transaction id)."""
    clock, next_id = load_checkpoint(engine)
    crash_points.reach("recovery:checkpoint_loaded")
    recovery = Recovery(engine)
    for run in engine.store.recover_runs():
        recovery.replayer.feed_run(run)
        crash_points.reach("recovery:run_replayed")
    recovery.finish()
    crash_points.reach("recovery:tables_settled")
    engine.store.finish_recovery()
    return max(clock, recovery.replayer.last_timestamp), max(next_id, recovery.replayer.last_transaction + 1)


def load_checkpoint(engine: Engine) -> tuple[int, int]:
    """Registry, tables and indexes of the last checkpoint; (clock, next transaction id)."""
    metadata: dict[str, Any] = engine.store.metadata
    if not metadata:
        return 0, 1
    engine.registry = Registry.from_json(metadata["registry"])
    names = frozenset(engine.store.arena_names())
    for definition in engine.registry.tables():
        described = metadata["tables"][str(definition.storage_id)]
        try:
            table = engine.make_rows(definition, described["slots"])
            table_checkpoint.load(table, described, partial(open_file, engine, table), names)
            table.stored_keys = tuple(load_key(engine, table, key) for key in definition.keys)
        except DataCorrupted as error:
            engine.quarantine(definition, error)
    return metadata["clock"], metadata["next_id"]


def load_key(engine: Engine, table: Table, key: KeyDef) -> StoredKey:
    """The index of a key as the checkpoint left it; built again from the rows where its pages are damaged.

    Raises DataCorrupted when the rows cannot be read either.
    """
    definition = table.definition
    try:
        return engine.make_key(definition, key)
    except DataCorrupted as error:
        LOG.warning("index %s of table %s is built again: %s", key.name, definition.qualified_name, error.message)
    engine.store.renew_arena(arena_name(definition.storage_id, key.oid), engine.options.index_bytes)
    stored = build_key(table, engine.make_key(definition, key))
    stored.arena.dirty[: stored.index.page_count] = 1
    return stored


def open_file(engine: Engine, table: Table, name: str) -> SealedSegment:
    """A sealed file as the columns of a segment."""
    return SealedSegment(engine.store.open_sealed(name), table.layout)


class Recovery:
    """What replay does to an engine beyond rows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.replayer = Replayer(engine.tables, self._on_rows, self._on_ddl, self._on_attach)

    def finish(self) -> None:
        """Replays the rest and settles every table."""
        self.replayer.finish()
        for table in self.engine.tables.values():
            table_checkpoint.settle(table)

    def _on_rows(self, table: Table, addresses: Array) -> None:
        for key in table.stored_keys:
            add_entries(table, key, addresses)

    def _on_ddl(self, operations: list[dict[str, Any]]) -> None:
        engine = self.engine
        for operation in operations:
            before = engine.registry.by_oid(operation["oid"]) if operation["op"] == "drop_table" else None
            if operation["op"] == "table":
                definition = TableDef.from_json(operation["table"])
                try:
                    self._put(definition, engine.registry.by_oid(definition.oid))
                except DataCorrupted as error:
                    engine.quarantine(definition, error)
            elif before is not None:
                self._drop(before)
            engine.registry.apply(operation)

    def _drop(self, definition: TableDef) -> None:
        if definition.storage_id in self.engine.tables:
            self.engine.drop_storage(self.engine.tables[definition.storage_id])
        self.engine.forget_damaged(definition.storage_id)

    def _put(self, definition: TableDef, before: TableDef | None) -> None:
        """Makes the storage of a definition, or changes its keys."""
        engine = self.engine
        if before is not None and before.storage_id != definition.storage_id:
            self._drop(before)
        if definition.storage_id in engine.damaged:
            return
        table = engine.tables.get(definition.storage_id)
        if table is None:
            engine.make_table(definition)
        else:
            engine.redefine(table, definition)

    def _on_attach(self, table: Table, value: dict[str, Any], timestamp: int) -> None:
        try:
            self._attach(table, value, timestamp)
        except DataCorrupted as error:
            self.engine.quarantine(table.definition, error)

    def _attach(self, table: Table, value: dict[str, Any], timestamp: int) -> None:
        for number, name in zip(value["segments"], value["files"], strict=True):
            present = table.segments[number] if number < len(table.segments) else None
            if present is None:
                present = table.attach(number, open_file(self.engine, table, name), timestamp)
            present.set_begin(timestamp)
            base = number << d.SLOT_BITS
            self._on_rows(table, np.arange(base, base + present.rows, dtype=np.int64))


def build_key(table: Table, key: StoredKey) -> StoredKey:
    """Entries of all rows that are there; dead ones are stale entries, which lookups see through."""
    for segment in table.segment_list():
        if segment.vacant:
            continue
        base = segment.number << d.SLOT_BITS
        addresses = np.arange(base, base + segment.rows, dtype=np.int64)
        if segment.begin is not None:
            addresses = addresses[committed(segment.begin[: segment.rows])]
        add_entries(table, key, addresses)
    return key


def add_entries(table: Table, key: StoredKey, addresses: Array) -> None:
    """Index entries of versions; those that are there already stay."""
    if len(addresses) == 0:
        return
    keys, rows = key.encode_valid(table.gather(addresses, key.ordinals))
    records = table.records_of(addresses if rows is None else addresses[rows])
    if len(records):
        key.index.insert(keys, records)
