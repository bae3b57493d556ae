"""A table in memory with the interface that scans use, a catalog over such tables, and SQL run over both.

The executor's tests need tables of any shape, cut into any units and encoded in any way, without a disk; that the
real table works as well is what the session's tests show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from filestore.query import plan as p
from filestore.query.bind import bind
from filestore.query.context import Cancel, ExecutionContext
from filestore.query.executor import execute
from filestore.query.optimize import optimize
from filestore.query.parse import parse
from filestore.query.pool import WorkerPool
from filestore.query.render import text
from filestore.query.rows import stored_form
from filestore.query.vectors import from_python
from filestore.storage.schema import ColumnDef, TableDef
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import Kind, Physical, SqlType


def encoded(vector: Vector) -> Vector:
    """A string vector with a dictionary, as sealed segments have."""
    raw = vector.strings()
    words = sorted({s for s in raw if s is not None})
    code = {w: i for i, w in enumerate(words)}
    from filestore.storage.vector import string_vector

    codes = np.array([0 if s is None else code[s] for s in raw], np.uint8 if len(words) < 256 else np.uint16)
    return Vector(vector.type, codes, vector.valid, dictionary=string_vector(vector.type, words))


class Unit:
    def __init__(self, columns: list[Vector], base: int, dead: Array | None) -> None:
        self.columns = columns
        self.rows = len(columns[0]) if columns else 0
        self.base = base
        self.dead = dead
        self.zones: dict[int, tuple[Any, Any, int] | None] = {}

    def batch(self, ordinals: Sequence[int], low: int, high: int) -> Batch:
        return Batch([self.columns[i].slice(low, high) for i in ordinals], high - low)

    def visible(self, snapshot: Any, low: int, high: int) -> Array | None:
        return None if self.dead is None else ~self.dead[low:high]

    def addresses(self, low: int, high: int) -> Array:
        return np.arange(self.base + low, self.base + high)

    def zone(self, ordinal: int) -> tuple[Any, Any, int] | None:
        if ordinal not in self.zones:
            self.zones[ordinal] = self._zone(ordinal)
        return self.zones[ordinal]

    def _zone(self, ordinal: int) -> tuple[Any, Any, int] | None:
        column = self.columns[ordinal]
        if column.dictionary is not None or column.data.ndim != 1 or column.data.dtype.kind != "i":
            return None
        live = column.data if column.valid is None else column.data[column.valid]
        nulls = len(column) - len(live)
        return (int(live.min()), int(live.max()), nulls) if len(live) else (None, None, nulls)


class MemoryTable:
    """Columns cut into units of `slots` rows; `dictionaries` encodes strings of few values."""

    def __init__(
        self, columns: list[Vector], slots: int = 65_536, dictionaries: bool = True, dead: Array | None = None
    ) -> None:
        n = len(columns[0])
        self.all: list[Unit] = []
        for number, low in enumerate(range(0, n, slots)):
            part = [c.slice(low, min(low + slots, n)) for c in columns]
            if dictionaries:
                part = [encoded(c) if c.type.physical is Physical.VIEW and c.dictionary is None and c.data.ndim == 2
                        and len(set(c.strings())) < 200 else c for c in part]  # fmt: skip
            self.all.append(Unit(part, number << 20, None if dead is None else dead[low : low + slots]))

    def units(self, snapshot: Any) -> list[Unit]:
        return self.all


class Memory:
    """Tables by name: the catalog for the binder, the tables for the executor."""

    def __init__(self) -> None:
        self.definitions: dict[str, TableDef] = {}
        self.tables: dict[int, MemoryTable] = {}
        self.sizes: dict[int, int] = {}

    def add(self, name: str, columns: dict[str, SqlType], rows: Iterable[Sequence[Any]], **options: Any) -> None:
        """A table of canonical Python values."""
        rows = list(rows)
        vectors = []
        for i, sql_type in enumerate(columns.values()):
            made = from_python(sql_type, [r[i] for r in rows])
            if sql_type.kind is Kind.NUMERIC and rows:
                made = stored_form(made, sql_type, len(rows))
            vectors.append(made)
        self.add_vectors(name, columns, vectors, **options)

    def add_vectors(self, name: str, columns: dict[str, SqlType], vectors: list[Vector], **options: Any) -> None:
        oid = 20_000 + len(self.definitions)
        definition = TableDef(oid, "public", name, tuple(ColumnDef(n, t) for n, t in columns.items()), storage_id=oid)
        self.definitions[name] = definition
        self.tables[oid] = MemoryTable(vectors, **options)
        self.sizes[oid] = len(vectors[0])

    # the binder's catalog

    def table(self, schema: str | None, name: str) -> TableDef | None:
        return self.definitions.get(name)

    def virtual(self, schema: str, name: str) -> None:
        return None

    def relation_oid(self, schema: str | None, name: str) -> int | None:
        found = self.definitions.get(name)
        return None if found is None else found.oid

    def rows(self, table: TableDef) -> float:
        return float(self.sizes.get(table.oid, 1000))

    def table_names(self) -> list[str]:
        return list(self.definitions)

    # running

    def plan(self, sql: str, parameters: Sequence[SqlType | None] = ()) -> p.Plan:
        return optimize(bind(parse(sql)[0], self, parameters), self).plan

    def context(self, **fields: Any) -> ExecutionContext:
        base: dict[str, Any] = {
            "table": lambda d: self.tables[d.oid],
            "cancel": Cancel(),
            "pool": POOL,
            "compile": "never",
        }
        return ExecutionContext(**{**base, **fields})

    def batches(self, sql: str, **fields: Any) -> list[Batch]:
        made = list(execute(self.plan(sql), self.context(**fields)))
        for batch in made:
            batch.verify()
        return made

    def query(self, sql: str, **fields: Any) -> list[tuple[str | None, ...]]:
        """The rows in text form."""
        rows: list[tuple[str | None, ...]] = []
        for batch in self.batches(sql, **fields):
            columns = [texts(c, fields.get("settings")) for c in batch.columns]
            rows.extend(zip(*columns, strict=True) if columns else [()] * batch.length)
        return rows


POOL = WorkerPool(2)


def texts(vector: Vector, settings: Any = None) -> list[str | None]:
    """The values of a vector as PostgreSQL prints them."""
    made = text(vector, settings)
    offsets, data = made.offsets.tolist(), made.data.tobytes()
    valid = [True] * len(vector) if vector.valid is None else vector.valid.tolist()
    pairs = zip(offsets[:-1], offsets[1:], valid, strict=True)
    return [data[a:b].decode() if ok else None for a, b, ok in pairs]
