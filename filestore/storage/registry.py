"""The table registry: schemas and tables by name and oid, and the operations that change them.

A change is an operation, a small JSON object; the same list of operations is a transaction's overlay, its DDL
log record and what replay applies. So memory, log and recovery cannot disagree about what a statement meant.

    {"op": "schema", "name": s, "oid": n}    {"op": "drop_schema", "name": s}
    {"op": "table", "table": TableDef}       makes, or replaces the definition with the same oid
    {"op": "drop_table", "oid": n}

Operations are idempotent: applying a suffix again gives the same registry. Oids and storage ids are never
used twice, also not those of transactions that aborted after a checkpoint or a commit has named a greater
one.

Thread rule: changed under the engine lock; `version` tells who caches by it that something changed. It does
not lock names (`filestore.txn.locks`), and does not know rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from filestore.storage.schema import FIRST_USER_OID, TableDef

PUBLIC: Final = "public"
SYSTEM_SCHEMAS: Final = {"pg_catalog": 11, PUBLIC: 2200, "information_schema": 13183}

Operation = dict[str, Any]
OPERATIONS: Final[Mapping[str, Mapping[str, type]]] = {  # what each one must hold
    "schema": {"name": str, "oid": int},
    "drop_schema": {"name": str},
    "table": {"table": dict},
    "drop_table": {"oid": int},
}


def put_table(definition: TableDef) -> Operation:
    """The operation that makes or replaces a table."""
    return {"op": "table", "table": definition.to_json()}


def drop_table(oid: int) -> Operation:
    """The operation that removes a table."""
    return {"op": "drop_table", "oid": oid}


def put_schema(name: str, oid: int) -> Operation:
    """The operation that makes a schema."""
    return {"op": "schema", "name": name, "oid": oid}


def drop_schema(name: str) -> Operation:
    """The operation that removes an empty schema."""
    return {"op": "drop_schema", "name": name}


class Registry:
    """What is committed; or, with a `base`, a transaction's overlay of operations over it."""

    def __init__(self, base: Registry | None = None) -> None:
        self.base = base
        self.operations: list[Operation] = []
        self.version = 0
        self._counter: _Counter = _Counter() if base is None else base._counter
        # None stands for what the overlay has dropped.
        self._tables: dict[int, TableDef | None] = {}
        self._names: dict[tuple[str, str], int | None] = {}
        self._schemas: dict[str, int | None] = dict(SYSTEM_SCHEMAS) if base is None else {}

    def fork(self) -> Registry:
        """An overlay: sees this registry, changes only itself; its `operations` commit it."""
        return Registry(self)

    # --- numbers

    def new_oid(self) -> int:
        """An oid never given out before."""
        return self._counter.take()

    def new_storage_id(self) -> int:
        """A storage id never given out before; from the same sequence as oids, so that a number names one
        thing.
        """
        return self._counter.take()

    def reserve(self, number: int) -> None:
        """No number up to this one is given out again."""
        self._counter.next = max(self._counter.next, number + 1)

    # --- asking

    def table(self, schema: str, name: str) -> TableDef | None:
        """The table of that name, None if there is none."""
        if (schema, name) in self._names:
            oid = self._names[schema, name]
            return None if oid is None else self._tables[oid]
        return None if self.base is None else self.base.table(schema, name)

    def by_oid(self, oid: int) -> TableDef | None:
        """The table with that oid."""
        if oid in self._tables:
            return self._tables[oid]
        return None if self.base is None else self.base.by_oid(oid)

    def resolve(self, name: str, search_path: Sequence[str]) -> TableDef | None:
        """The first table of that name along the path."""
        return next((t for s in search_path if (t := self.table(s, name)) is not None), None)

    def tables(self) -> Iterator[TableDef]:
        """All tables, by oid."""
        found: dict[int, TableDef | None] = {}
        if self.base is not None:
            found.update((t.oid, t) for t in self.base.tables())
        found.update(self._tables)
        for oid in sorted(found):
            table = found[oid]
            if table is not None:
                yield table

    def schema_oid(self, name: str) -> int | None:
        """The oid of a schema, None if there is none."""
        if name in self._schemas:
            return self._schemas[name]
        return None if self.base is None else self.base.schema_oid(name)

    def schemas(self) -> dict[str, int]:
        """All schemas with their oids."""
        found: dict[str, int | None] = {} if self.base is None else dict(self.base.schemas())
        found.update(self._schemas)
        return {name: oid for name, oid in found.items() if oid is not None}

    # --- changing

    def apply(self, operation: Operation) -> None:
        """Does one operation and remembers it (overlays only)."""
        kind = operation["op"]
        if kind == "table":
            self._put(TableDef.from_json(operation["table"]))
        elif kind == "drop_table":
            self._forget(operation["oid"])
        elif kind == "schema":
            self._schemas[operation["name"]] = operation["oid"]
            self.reserve(operation["oid"])
        elif kind == "drop_schema":
            self._schemas[operation["name"]] = None
        else:
            raise ValueError(f"registry operation {kind!r} is not known")
        self.version += 1
        if self.base is not None:
            self.operations.append(operation)
        else:
            self._sweep()

    def apply_all(self, operations: Iterable[Operation]) -> None:
        """Does operations in order."""
        for operation in operations:
            self.apply(operation)

    def _put(self, definition: TableDef) -> None:
        self._forget_name(definition.oid)
        self._tables[definition.oid] = definition
        self._names[definition.schema, definition.name] = definition.oid
        numbers = [definition.oid, definition.storage_id]
        self.reserve(max(numbers + [k.oid for k in definition.keys] + [c.oid for c in definition.checks]))

    def _forget(self, oid: int) -> None:
        self._forget_name(oid)
        self._tables[oid] = None

    def _forget_name(self, oid: int) -> None:
        """Frees the name of a table, unless another one has it by now (replay of a suffix again)."""
        old = self.by_oid(oid)
        if old is not None:
            holder = self.table(old.schema, old.name)
            if holder is not None and holder.oid == oid:
                self._names[old.schema, old.name] = None

    def _sweep(self) -> None:
        """The base needs no tombstones."""
        self._tables = {k: v for k, v in self._tables.items() if v is not None}
        self._names = {k: v for k, v in self._names.items() if v is not None}
        self._schemas = {k: v for k, v in self._schemas.items() if v is not None}

    # --- storing

    def to_json(self) -> dict[str, Any]:
        """The committed registry, for the manifest."""
        return {
            "next_number": self._counter.next,
            "schemas": self.schemas(),
            "tables": [t.to_json() for t in self.tables()],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Registry:
        """The registry as `to_json` told it."""
        registry = Registry()
        registry._schemas = dict(value["schemas"])
        for table in value["tables"]:
            registry._put(TableDef.from_json(table))
        registry.reserve(value["next_number"] - 1)
        return registry


class _Counter:
    """The next unused number, shared by a registry and its overlays."""

    def __init__(self) -> None:
        self.next = FIRST_USER_OID

    def take(self) -> int:
        number = self.next
        self.next += 1
        return number
