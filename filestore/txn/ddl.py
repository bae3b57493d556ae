"""Definitions: making, changing and dropping schemas, tables and keys, inside transactions.

A change goes into the transaction's overlay of the registry; commit logs the overlay's operations and applies
them, abort forgets them. Storage of a table that the transaction made, or replaced (TRUNCATE), exists from
the statement on and goes away with an abort; storage that it dropped goes away with the commit. So DDL and
rows of one transaction stand or fall together.

Locks: ACCESS EXCLUSIVE on a table that changes; the name, for as long as the transaction lasts, of whatever
is made. All are generators: they may wait for locks. Key oids, table oids and storage ids of 0 in what is
given are filled in here.

A new key's index is built by a worker, which takes the engine lock for some rows at a time: the table's lock keeps
writers off, the engine lock the checkpoint, which moves rows to other memory. Thread rule: engine lock held, but for
that worker. Not here: who may do it, and whether rows meet a new check.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.storage import registry as ops
from filestore.storage.directory import INFINITY, SLOT_BITS
from filestore.storage.registry import Registry
from filestore.storage.schema import CheckDef, KeyDef, TableDef
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.wait import Wait
from filestore.txn.drive import Job
from filestore.txn.keys import StoredKey, concat_keys, first_duplicate
from filestore.txn.locks import LockMode
from filestore.txn.snapshot import committed, may_stay
from filestore.txn.transaction import Transaction
from filestore.txn.writes import KeyConflict

if TYPE_CHECKING:
    from filestore.txn.engine import Engine

BUILD_ROWS = 65536  # rows that are read at a time: some milliseconds under the engine lock


def overlay(engine: Engine, txn: Transaction) -> Registry:
    """The transaction's own registry, made at its first DDL. Raises 25006 in a read-only transaction."""
    txn.check_writable()
    if txn.registry is None:
        txn.registry = engine.registry.fork()
    return txn.registry


def create_schema(engine: Engine, txn: Transaction, name: str) -> Generator[Wait, None, None]:
    """Makes a schema. Raises 42P06."""
    yield from engine.locks.acquire(txn, ("name", name), LockMode.ACCESS_EXCLUSIVE)
    registry = overlay(engine, txn)
    if registry.schema_oid(name) is not None:
        raise errors.DuplicateSchema(f'schema "{name}" already exists')
    registry.apply(ops.put_schema(name, registry.new_oid()))


def drop_schema(engine: Engine, txn: Transaction, name: str) -> Generator[Wait, None, None]:
    """Drops an empty schema. Raises 3F000, 2BP01."""
    yield from engine.locks.acquire(txn, ("name", name), LockMode.ACCESS_EXCLUSIVE)
    registry = overlay(engine, txn)
    if registry.schema_oid(name) is None:
        raise errors.InvalidSchemaName(f'schema "{name}" does not exist')
    if name in ops.SYSTEM_SCHEMAS and name != ops.PUBLIC:
        raise errors.InsufficientPrivilege(f"permission denied for schema {name}")
    for table in registry.tables():
        if table.schema == name:
            raise errors.DependentObjectsExist(
                f"cannot drop schema {name} because other objects depend on it",
                detail=f"table {table.qualified_name} depends on schema {name}",
                hint="Use DROP ... CASCADE to drop the dependent objects too.",
            )
    registry.apply(ops.drop_schema(name))


def create_table(engine: Engine, txn: Transaction, definition: TableDef) -> Generator[Wait, None, TableDef]:
    """Makes a table and the indexes of its keys; returns the definition with its numbers. Raises 3F000,
    42P07.
    """
    # The schema must outlive this transaction, the name be nobody else's.
    yield from engine.locks.acquire(txn, ("name", definition.schema), LockMode.ACCESS_SHARE)
    yield from engine.locks.acquire(txn, ("name", definition.schema, definition.name), LockMode.ACCESS_EXCLUSIVE)
    registry = overlay(engine, txn)
    if registry.schema_oid(definition.schema) is None:
        raise errors.InvalidSchemaName(f'schema "{definition.schema}" does not exist')
    if registry.table(definition.schema, definition.name) is not None:
        raise errors.DuplicateTable(f'relation "{definition.name}" already exists')
    numbered = definition.changed(
        oid=definition.oid or registry.new_oid(),
        keys=tuple(_numbered_key(registry, k) for k in definition.keys),
        checks=tuple(_numbered_check(registry, c) for c in definition.checks),
        storage_id=registry.new_storage_id(),
    )
    yield from engine.locks.acquire(txn, numbered.oid, LockMode.ACCESS_EXCLUSIVE)
    txn.created.append(engine.make_table(numbered))
    registry.apply(ops.put_table(numbered))
    return numbered


def drop_table(engine: Engine, txn: Transaction, oid: int) -> Generator[Wait, None, None]:
    """Drops a table. Raises 42P01 if another transaction dropped it while this one waited."""
    definition = yield from exclusive(engine, txn, oid)
    overlay(engine, txn).apply(ops.drop_table(definition.oid))
    txn.dropped += engine.to_drop(definition)


def truncate(engine: Engine, txn: Transaction, oid: int) -> Generator[Wait, None, TableDef]:
    """Gives a table new, empty storage; the old one goes with the commit."""
    definition = yield from exclusive(engine, txn, oid)
    registry = overlay(engine, txn)
    fresh = definition.changed(storage_id=registry.new_storage_id())
    txn.dropped += engine.to_drop(definition)
    txn.created.append(engine.make_table(fresh))
    registry.apply(ops.put_table(fresh))
    return fresh


def redefine(engine: Engine, txn: Transaction, definition: TableDef) -> Generator[Wait, None, TableDef]:
    """Replaces a definition whose stored columns stay as they are: names, defaults, NOT NULL, checks, dropped
    keys.

    New checks get oids. Rows are not looked at: whoever adds a constraint has checked them under this lock.
    """
    old = yield from exclusive(engine, txn, definition.oid)
    if old.qualified_name != definition.qualified_name:
        yield from engine.locks.acquire(txn, ("name", definition.schema, definition.name), LockMode.ACCESS_EXCLUSIVE)
    registry = overlay(engine, txn)
    if old.qualified_name != definition.qualified_name and registry.table(definition.schema, definition.name):
        raise errors.DuplicateTable(f'relation "{definition.name}" already exists')
    numbered = definition.changed(checks=tuple(_numbered_check(registry, c) for c in definition.checks))
    registry.apply(ops.put_table(numbered))
    return numbered


def add_key(
    engine: Engine, txn: Transaction, oid: int, key: KeyDef, workers: ThreadPoolExecutor | None = None
) -> Generator[Wait, None, TableDef]:
    """Adds a key and builds its index over the rows, more than BUILD_ROWS of them on a worker. Raises KeyConflict (its
    row is -1), 42P16, 23502.

    A primary key makes its columns NOT NULL.
    """
    definition = yield from exclusive(engine, txn, oid)
    registry = overlay(engine, txn)
    if key.primary and definition.primary_key is not None:
        raise errors.InvalidTableDefinition(f'multiple primary keys for table "{definition.name}" are not allowed')
    numbered = _numbered_key(registry, key)
    columns = definition.columns
    if key.primary:
        columns = tuple(replace(c, not_null=True) if i in key.columns else c for i, c in enumerate(columns))
    changed = definition.changed(keys=(*definition.keys, numbered), columns=columns)
    table = engine.table(definition)
    stored = engine.make_key(changed, numbered)
    work = partial(_build, engine, txn, table, stored)
    if sum(segment.rows for segment in table.segment_list()) <= BUILD_ROWS:
        work()
    else:
        job = Job(workers, work)
        yield job
        job.value()
    registry.apply(ops.put_table(changed))
    return changed


def exclusive(engine: Engine, txn: Transaction, oid: int) -> Generator[Wait, None, TableDef]:
    """Locks a table against everybody and returns its definition as it is then. Raises 42P01."""
    txn.check_writable()
    yield from engine.lock_table(txn, oid, LockMode.ACCESS_EXCLUSIVE)
    definition = (txn.registry or engine.registry).by_oid(oid)
    if definition is None:
        raise errors.UndefinedTable(f"relation with OID {oid} does not exist")
    return definition


def _numbered_key(registry: Registry, key: KeyDef) -> KeyDef:
    return key if key.oid else replace(key, oid=registry.new_oid())


def _numbered_check(registry: Registry, check: CheckDef) -> CheckDef:
    return check if check.oid else replace(check, oid=registry.new_oid())


def _build(engine: Engine, txn: Transaction, table: Table, key: StoredKey) -> None:
    """Fills a new index and gives it to the table as the transaction's. Any thread; it ends soon when the transaction
    does, which leaves nothing of it behind.
    """
    try:
        _fill(engine, txn, table, key)
        with engine.lock:
            txn.check_writable()
            table.stored_keys = (*table.stored_keys, key)
            engine.added_keys.setdefault(txn.id, []).append((table, key))
    except BaseException:
        with engine.lock:
            engine.drop_key(key)
        raise


def _fill(engine: Engine, txn: Transaction, table: Table, key: StoredKey) -> None:
    """Index entries of the rows that are live or of this transaction; nobody else has the table.

    Versions that an older snapshot may still see get entries too: whoever reads by the index must find them.
    """
    keys, records, old = [], [], []
    oldest = txn.manager.oldest_timestamp()
    for number in range(len(table.segments)):
        low, high = 0, 1
        while low < high:
            with engine.lock:
                txn.check_writable()  # while it is open, nobody takes the table away
                segment = table.segments[number]
                high = 0 if segment is None or segment.vacant else segment.rows
                addresses = np.arange(low, min(high, low + BUILD_ROWS), dtype=np.int64) + (number << SLOT_BITS)
                low += BUILD_ROWS
                newest, seen = _worth_an_entry(table, addresses, txn.mark, oldest)
                live = table.gather(addresses[newest], key.ordinals), table.records_of(addresses[newest])
                ended = table.gather(addresses[seen], key.ordinals), table.records_of(addresses[seen])
            encoded, rows = key.encode_valid(live[0])
            if key.definition.primary and rows is not None:
                name = table.definition.columns[key.ordinals[0]].name
                raise errors.NotNullViolation(
                    f'column "{name}" of relation "{table.definition.name}" contains null values',
                    table=table.definition.name,
                )
            keys.append(encoded)
            records.append(live[1] if rows is None else live[1][rows])
            if len(ended[1]):
                encoded, rows = key.encode_valid(ended[0])
                old.append((encoded, ended[1] if rows is None else ended[1][rows]))
    if not keys:
        return
    joined = concat_keys(keys)
    duplicate = first_duplicate(joined)
    if duplicate >= 0:
        raise KeyConflict(key.definition, -1)
    together: Array = np.concatenate(records)
    if len(together):
        key.index.build(joined, together)
    for pair in old:
        key.index.insert(*pair)


def _worth_an_entry(table: Table, addresses: Array, mark: int, oldest: int) -> tuple[Array, Array]:
    """(newest, old), bool[n]: versions that are neither ended nor aborted, and ended ones that a snapshot may see."""
    begins, ends = table.stamps_of(addresses)
    # Other transactions have none that are open.
    old: Array = committed(begins) & (((ends > oldest) & (ends < INFINITY)) | (ends == mark))
    return may_stay(begins, ends, mark), old
