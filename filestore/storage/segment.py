"""Segments: the memory of a fixed number of rows, column by column, open (arenas, growing) or sealed (a file,
immutable).

A segment's hidden vectors (begin, end, head, record, previous) are arenas in both states and are made when
first needed; a segment that was loaded in bulk and never changed has none. An open segment's columns are
arenas: values, one validity byte a slot once there is a null, and a heap for long strings. A sealed segment's
columns are maps of its file, checked when first touched.

Invariants: addresses never move while anyone holds the segment; slots below a scan's bound never change,
except `begin` and `end`, each stamped once from a mark. Sealing makes a new Segment object that shares the
hidden vectors, so a reader of the old one is undisturbed.

Thread rule: made and written under the engine lock; read from anywhere up to a bound taken under it. Not here: which
slot a row gets (`filestore.storage.table`), who sees it, and the bytes of a sealed file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from filestore.hal.memory import address
from filestore.storage import directory as d
from filestore.storage.arena import Arena
from filestore.storage.vector import Array, Vector
from filestore.types import SqlType

HEAP_BYTES: Final = (
    256 << 20
)  # address space, not memory; 4 times the longest value, so that any row fits an empty segment
LONGEST_VALUE: Final = 64 << 20

HIDDEN: Final = {d.BEGIN: "begin", d.END: "end", d.HEAD: "head", d.RECORD: "record", d.PREVIOUS: "previous"}
NAMES: Final = {name: field for field, name in HIDDEN.items()}


class Arenas(Protocol):
    """Where arenas come from: a Store, or memory alone (tests)."""

    def arena(self, name: str, nbytes: int) -> Arena: ...

    def drop_arena(self, name: str) -> None: ...

    def arena_names(self) -> Any: ...


class Layout:
    """What the kernels must know of a table's columns: `matrix` is int64[columns, 2] of (width, is a string
    view).
    """

    def __init__(self, types: Sequence[SqlType]) -> None:
        self.types: Final = tuple(types)
        self.widths: Final = tuple(t.width for t in self.types)
        self.views: Final = tuple(t.is_view for t in self.types)
        pairs = [(w, int(v)) for w, v in zip(self.widths, self.views, strict=True)]
        self.matrix: Final[Array] = np.array(pairs, np.int64).reshape(-1, 2)


class Directory:
    """The two matrices of `filestore.storage.directory`, growing by doubling; a grown copy replaces, never
    moves, the old one.
    """

    def __init__(self, columns: int) -> None:
        self.matrix: Array = np.zeros((4, d.fields(columns)), np.int64)
        self.dirty: Array = np.zeros_like(self.matrix)

    def reserve(self, segments: int) -> None:
        """Makes room for so many segments."""
        have = len(self.matrix)
        if segments > have:
            more = max(segments, 2 * have) - have
            self.matrix = np.concatenate((self.matrix, np.zeros((more, self.matrix.shape[1]), np.int64)))
            self.dirty = np.concatenate((self.dirty, np.zeros((more, self.dirty.shape[1]), np.int64)))

    def replace(self) -> None:
        """Goes on with a copy, so that who holds the present matrix keeps its addresses."""
        self.matrix = self.matrix.copy()
        self.dirty = self.dirty.copy()


class SealedColumns(Protocol):
    """The columns of a sealed file, as the table sees them (see `sealed.SealedSegment`)."""

    rows: int

    @property
    def name(self) -> str: ...

    def vector(self, ordinal: int, low: int, high: int) -> Vector:
        """Rows low..high of a column, checked before its first use. Raises DataCorrupted."""

    def fill(self, ordinal: int, row: Array) -> None:
        """Writes the addresses of a column, checked before its first use, into a row of the directory."""

    def zone(self, ordinal: int) -> tuple[Any, Any, int] | None: ...


@dataclass(slots=True)
class OpenColumn:
    """A column of an open segment; `valid` is made at the first null."""

    data: Array
    arena: Arena
    valid: Array | None = None
    valid_arena: Arena | None = None
    heap: Array | None = None
    heap_arena: Arena | None = None


class Segment:
    """One segment of one table; see the module. `columns` is None when sealed, `sealed` is None when open."""

    __slots__ = (
        "begin",
        "begin_value",
        "columns",
        "directory",
        "end",
        "heap_bytes",
        "hidden",
        "layout",
        "number",
        "prefix",
        "sealed",
        "slots",
        "source",
        "vacant",
    )

    def __init__(
        self,
        source: Arenas,
        prefix: str,
        number: int,
        slots: int,
        layout: Layout,
        directory: Directory,
        heap_bytes: int,
    ) -> None:
        self.source = source
        self.prefix = f"{prefix}/s{number}/"
        self.number = number
        self.slots = slots
        self.layout = layout
        self.directory = directory
        self.heap_bytes = heap_bytes
        self.hidden: dict[int, Arena] = {}
        self.begin: Array | None = None
        self.begin_value = 0
        self.end: Array | None = None
        self.columns: list[OpenColumn] | None = None
        self.sealed: SealedColumns | None = None
        self.vacant = False  # every version has ended for everybody: no columns, hidden vectors only

    # --- making

    def open(self, existing: frozenset[str] = frozenset()) -> None:
        """Makes or loads the arenas of an open segment; `existing` are the names that a checkpoint left."""
        self.directory.reserve(self.number + 1)
        self.columns = []
        self._load_hidden(existing)
        self.ensure(d.BEGIN)
        for i, width in enumerate(self.layout.widths):
            arena = self.source.arena(f"{self.prefix}c{i}", self.slots * width)
            column = OpenColumn(self._typed(i, arena), arena)
            self.columns.append(column)
            self._point(d.column_field(i, d.DATA), arena)
            self.directory.matrix[self.number, d.column_field(i, d.WIDTH)] = width
            if self.layout.views[i]:
                column.heap_arena = self.source.arena(f"{self.prefix}h{i}", self.heap_bytes)
                column.heap = column.heap_arena.data
                self._point(d.column_field(i, d.HEAP), column.heap_arena)
            if f"{self.prefix}v{i}" in existing:
                self.ensure_valid(i, 0)

    def attach(self, sealed: SealedColumns, begin: int | None, existing: frozenset[str] = frozenset()) -> None:
        """Makes this a sealed segment; `begin` is that of all rows, None when it has a vector."""
        self.directory.reserve(self.number + 1)
        self.sealed = sealed
        self._load_hidden(existing)
        row = self.directory.matrix[self.number]
        row[d.ROWS] = sealed.rows
        if begin is not None:
            self.set_begin(begin)

    def reopen_vacant(self, rows: int, existing: frozenset[str]) -> None:
        """Loads the hidden vectors of a segment whose values are gone."""
        self.directory.reserve(self.number + 1)
        self.vacant = True
        self._load_hidden(existing)
        self.directory.matrix[self.number, d.ROWS] = rows
        if self.begin is None:
            self.set_begin(d.FIRST_TIMESTAMP)

    def set_begin(self, begin: int) -> None:
        """One begin for all slots."""
        self.begin, self.begin_value = None, begin
        row = self.directory.matrix[self.number]
        row[d.BEGIN], row[d.BEGIN_VALUE] = 0, begin
        self.directory.dirty[self.number, d.BEGIN] = 0

    def set_pending(self, versions: int) -> None:
        """How many versions are of open transactions; appends count by themselves."""
        self.directory.matrix[self.number, d.PENDING] = versions

    def _load_hidden(self, existing: frozenset[str]) -> None:
        for name, field in NAMES.items():
            if self.prefix + name in existing:
                self.ensure(field)

    def _typed(self, ordinal: int, arena: Arena) -> Array:
        if self.layout.widths[ordinal] == 16:
            return arena.vector(np.uint64, self.slots * 2).reshape(-1, 2)
        return arena.vector(self.layout.types[ordinal].dtype, self.slots)

    def _point(self, field: int, arena: Arena) -> None:
        self.directory.matrix[self.number, field] = address(arena.data)
        self.directory.dirty[self.number, field] = address(arena.dirty)

    def ensure(self, field: int) -> None:
        """Makes a hidden vector if there is none: nothing ended, every row its own head and record."""
        if field in self.hidden:
            return
        arena = self.source.arena(self.prefix + HIDDEN[field], self.slots * 8)
        vector = arena.vector(np.int64, self.slots)
        if field == d.END:
            vector[vector == 0] = d.INFINITY  # what no checkpoint wrote is zero
            self.end = vector
        elif field == d.BEGIN:
            self.begin = vector
        self.hidden[field] = arena
        self._point(field, arena)

    def ensure_valid(self, ordinal: int, rows: int) -> Array:
        """The validity bytes of an open column, made with `rows` valid slots if there are none yet."""
        assert self.columns is not None, "only open segments grow"
        column = self.columns[ordinal]
        if column.valid is None:
            column.valid_arena = self.source.arena(f"{self.prefix}v{ordinal}", self.slots)
            vector = column.valid_arena.vector(np.uint8, self.slots).view(np.bool_)
            if rows:
                vector[:rows] = True
                column.valid_arena.mark(0, rows)
            column.valid = vector
            self._point(d.column_field(ordinal, d.VALID), column.valid_arena)
        return column.valid

    def take_over(self, old: Segment, sealed: SealedColumns | None) -> None:
        """Makes this the successor of a segment: the same hidden vectors, columns from the file, or none."""
        self.sealed = sealed
        self.vacant = sealed is None
        self.hidden = dict(old.hidden)
        self.begin, self.begin_value, self.end = old.begin, old.begin_value, old.end
        matrix, dirty = self.directory.matrix[self.number], self.directory.dirty[self.number]
        matrix[d.HEADER :] = 0
        dirty[d.HEADER :] = 0
        for column in old.columns or ():
            for arena in (column.arena, column.valid_arena, column.heap_arena):
                if arena is not None:
                    self.source.drop_arena(arena.name)

    def drop_begin(self, value: int) -> None:
        """Forgets the vector of begins for one value."""
        self.set_begin(value)
        arena = self.hidden.pop(d.BEGIN, None)
        if arena is not None:
            self.source.drop_arena(arena.name)

    # --- reading

    @property
    def rows(self) -> int:
        """Slots in use."""
        return int(self.directory.matrix[self.number, d.ROWS])

    @property
    def pending(self) -> int:
        """Versions of open transactions."""
        return int(self.directory.matrix[self.number, d.PENDING])

    def vector(self, ordinal: int, low: int, high: int) -> Vector:
        """Rows low..high of a column, sharing memory. Sealed string columns may come with a dictionary."""
        if self.columns is None:
            assert self.sealed is not None, "a segment is open or sealed"
            return self.sealed.vector(ordinal, low, high)
        column = self.columns[ordinal]
        sql_type = self.layout.types[ordinal]
        valid = None if column.valid is None else column.valid[low:high]
        return Vector(sql_type, column.data[low:high], valid, column.heap, sql_type.scale or 0)

    def touch(self, ordinal: int) -> None:
        """Sees to it that the directory has the addresses of a column. Raises DataCorrupted when its checksum
        fails.
        """
        if self.sealed is not None:
            self.sealed.fill(ordinal, self.directory.matrix[self.number])

    # --- leaving

    def arenas(self) -> list[Arena]:
        """Every arena of this segment."""
        found = list(self.hidden.values())
        for column in self.columns or ():
            found += [a for a in (column.arena, column.valid_arena, column.heap_arena) if a is not None]
        return found

    def drop(self) -> None:
        """Forgets all arenas; views that readers hold stay alive."""
        for arena in self.arenas():
            self.source.drop_arena(arena.name)
