"""Bytes of tables, indexes and the database: pages in use of their arenas, and their sealed files.

Pages in memory count as what the next checkpoint will write. The log is part of the database's size, and of
no table's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore import errors
from filestore.storage.arena import PAGE_SIZE, Arena
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.sealed import SealedSegment

if TYPE_CHECKING:
    from filestore.catalog.names import SessionCatalog

DATABASE_OID: Final = 5
TABLESPACE_OIDS: Final = {"pg_default": 1663, "pg_global": 1664}


def table_bytes(catalog: SessionCatalog, definition: TableDef) -> int:
    """Bytes of a table's rows, without its indexes; 0 when it is damaged."""
    total = 0
    stored = catalog.session.database.engine.tables.get(definition.storage_id)
    for segment in () if stored is None else stored.segment_list():
        total += sum(map(_arena_bytes, segment.arenas()))
        if isinstance(segment.sealed, SealedSegment):
            total += segment.sealed.file.reference.size
    return total


def key_bytes(catalog: SessionCatalog, definition: TableDef, key: KeyDef) -> int:
    """Bytes of the index behind a key; 0 when its table is damaged."""
    engine = catalog.session.database.engine
    return 0 if definition.storage_id in engine.damaged else _arena_bytes(engine.index(definition, key).arena)


def _arena_bytes(arena: Arena) -> int:
    """Up to the last page in use: `used_pages` is as of the last checkpoint, `dirty` knows what came later."""
    dirty = np.flatnonzero(arena.dirty)
    return max(arena.used_pages, int(dirty[-1]) + 1 if len(dirty) else 0) * PAGE_SIZE


def _find(catalog: SessionCatalog, oid: int) -> tuple[TableDef, KeyDef | None] | None:
    table = catalog.registry.by_oid(oid)
    if table is not None:
        return table, None
    return next(((t, key) for t in catalog.registry.tables() for key in t.keys if key.oid == oid), None)


def relation_size(catalog: SessionCatalog, oid: int, fork: str = "main") -> int | None:
    """pg_relation_size and pg_table_size, of a table or an index; system tables have no bytes."""
    found = _find(catalog, oid)
    if found is None:
        from filestore.catalog.system_relations import BY_OID

        return 0 if oid in BY_OID else None
    if fork != "main":
        return 0
    table, key = found
    return table_bytes(catalog, table) if key is None else key_bytes(catalog, table, key)


def indexes_size(catalog: SessionCatalog, oid: int) -> int | None:
    """pg_indexes_size: of all indexes of a table."""
    found = _find(catalog, oid)
    if found is None or found[1] is not None:
        return 0
    return sum(key_bytes(catalog, found[0], key) for key in found[0].keys)


def total_size(catalog: SessionCatalog, oid: int) -> int | None:
    """pg_total_relation_size: rows and indexes."""
    own = relation_size(catalog, oid)
    return None if own is None else own + (indexes_size(catalog, oid) or 0)


def file_node(catalog: SessionCatalog, oid: int) -> int | None:
    """pg_relation_filenode: the number that names a table's storage."""
    found = _find(catalog, oid)
    if found is None:
        return None
    table, key = found
    return table.storage_id if key is None else key.oid


def check_database(catalog: SessionCatalog, name: str) -> None:
    """Raises 3D000 for any other than this one."""
    if name != catalog.session.database.name:
        raise errors.InvalidCatalogName(f'database "{name}" does not exist')


def database_size(catalog: SessionCatalog, which: Any) -> int | None:
    """pg_database_size, by name or oid."""
    if isinstance(which, str):
        check_database(catalog, which)
    elif which != DATABASE_OID:
        return None
    engine = catalog.session.database.engine
    tables = (total_size(catalog, table.oid) or 0 for table in engine.registry.tables())
    return sum(tables) + int(engine.statistics()["log_bytes"])


def tablespace_size(catalog: SessionCatalog, which: Any) -> int | None:
    """pg_tablespace_size: everything is in pg_default."""
    oid = TABLESPACE_OIDS.get(which) if isinstance(which, str) else which
    if oid is None:
        raise errors.UndefinedObject(f'tablespace "{which}" does not exist')
    if oid == TABLESPACE_OIDS["pg_default"]:
        return database_size(catalog, DATABASE_OID)
    return 0 if oid == TABLESPACE_OIDS["pg_global"] else None
