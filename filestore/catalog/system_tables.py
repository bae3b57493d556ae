"""pg_catalog and information_schema as relations for the binder and the executor, made from the registry.

Nothing is matched by a statement's text: a query over these tables is planned and run as any other. Rows
are kept as vectors: those that never change once a process, those about definitions until the registry's
next version, those that count rows until the next commit; only views of what is going on now
(pg_stat_activity, pg_locks) are made at each reading.

What is here and with which columns: `system_relations.py`. Not here: writing to them (refused: they are no
tables of the registry).

Thread rule: engine lock held.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from filestore import errors
from filestore.catalog import (  # noqa: F401 - they register their makers
    system_activity,
    system_classes,
    system_cluster,
    system_information,
    system_procedures,
    system_types,
)
from filestore.catalog.system_relations import (
    MAKERS,
    RELATIONS,
    Changes,
    Source,
    SystemRelation,
    vectors_of,
)
from filestore.query.plan import OutputColumn
from filestore.query.vectors import concat
from filestore.storage.registry import Registry
from filestore.storage.vector import Batch, Vector

if TYPE_CHECKING:
    from filestore.catalog.names import SessionCatalog

_kept: WeakKeyDictionary[Registry, dict[tuple[str, str, Changes], tuple[tuple[Any, ...], list[Vector]]]] = (
    WeakKeyDictionary()
)
_constant: dict[tuple[str, str], list[Vector]] = {}


@cache
def columns_of(schema: str, name: str) -> tuple[OutputColumn, ...] | None:
    """Columns of a system table, None when there is none of that name."""
    relation = RELATIONS.get((schema, name))
    return None if relation is None else relation.output


def rows_of(schema: str, name: str, catalog: SessionCatalog) -> Batch:
    """All rows of a system table. Raises 42P01 for an unknown one."""
    relation = RELATIONS.get((schema, name))
    if relation is None:
        raise errors.UndefinedTable(f'relation "{schema}.{name}" does not exist')
    source = Source(catalog)
    made = MAKERS.get((schema, name), [])
    parts = [_part(relation, changes, source) for changes in sorted({changes for changes, _ in made})]
    full = [part for part in parts if len(part[0])]
    if not full:
        return Batch(vectors_of(relation, ()), 0)
    columns = full[0] if len(full) == 1 else [concat(list(same)) for same in zip(*full, strict=True)]
    return Batch(columns, len(columns[0]))


def _part(relation: SystemRelation, changes: Changes, source: Source) -> list[Vector]:
    """The rows of those makers of a relation whose rows change by the same rule."""
    if changes is Changes.ALWAYS:
        return _made(relation, changes, source)
    if changes is Changes.NEVER:
        key = (relation.schema, relation.name)
        if key not in _constant:
            _constant[key] = _made(relation, changes, source)
        return _constant[key]
    registry = source.registry
    base = registry.base
    version: tuple[Any, ...] = (registry.version, None if base is None else base.version)
    if changes is Changes.DATA:
        version += (source.database.engine.manager.last_committed,)
    kept = _kept.setdefault(registry, {})
    place = (relation.schema, relation.name, changes)
    found = kept.get(place)
    if found is None or found[0] != version:
        found = kept[place] = (version, _made(relation, changes, source))
    return found[1]


def _made(relation: SystemRelation, changes: Changes, source: Source) -> list[Vector]:
    makers = MAKERS[relation.schema, relation.name]
    return vectors_of(relation, (row for rule, maker in makers if rule is changes for row in maker(source)))
