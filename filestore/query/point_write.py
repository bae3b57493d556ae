"""Statements that write one row, without plans being run: UPDATE and DELETE by an integer key, INSERT of one row.

`write_of(bound)` returns the compact form of such a statement, None for any other. Its `attempt` looks the row up,
evaluates the few values that are asked for and writes, in two compiled calls, all under the engine lock and without
waiting; it touches nothing until it knows that all will go well. Whatever would not (a row that somebody holds, a
constraint that is broken, an error in an expression) it leaves untouched, for the general way (`dml`) to meet from the
start; so locks, errors and answers are the general way's by construction.

Thread rule: as `dml`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from filestore.query import dml
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query import point_kernels as k
from filestore.query.context import ExecutionContext
from filestore.query.dml import Written
from filestore.query.evaluate import evaluate
from filestore.query.point_values import WORD_KINDS, Parameters, Row, Unfit, Value, compiled
from filestore.query.rows import stored_form
from filestore.settings import Settings
from filestore.storage.row_write_kernels import BYTES, NULL, WORD
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.table import Table
from filestore.storage.vector import EMPTY_HEAP, Array, Batch, Vector, string_vector
from filestore.storage.wait import Wait
from filestore.txn.engine import Engine
from filestore.txn.snapshot import Snapshot
from filestore.txn.transaction import Transaction
from filestore.txn.writes import delete_row, insert_keys, write_row
from filestore.types import INTEGER_KINDS, Physical

ONE_ROW: Final = Batch([], 1)
# A statement's values of variable length may take this much before the general way is gone.
BLOB_BYTES: Final = 1 << 20
NO_BLOB: Final[Array] = np.zeros(1, np.uint8)

# What `attempt` says when it has done nothing: the general way must be gone, or (0 and more) the address of a version
# that somebody holds.
GENERAL: Final = -1


@dataclass(slots=True)
class At:
    """One execution: where, for whom, with what. `context` makes what `evaluate` needs, `write` what `dml` needs."""

    engine: Engine
    transaction: Transaction
    snapshot: Snapshot
    parameters: Parameters
    settings: Settings
    context: Callable[[], ExecutionContext]

    def write(self) -> dml.WriteContext:
        return dml.WriteContext(self.engine, self.transaction, self.context(), _no_source)


def _no_source(_: p.Plan) -> Generator[Wait, None, list[Batch]]:
    raise AssertionError("a claimed row has no source")


class Cells:
    """The values of some columns of one row, on their way to `write_row`.

    `made` are (ordinal, function or None, expression); functions are `point_values`'s, expressions without one are
    evaluated. Used by one statement at a time, with the engine lock held.
    """

    def __init__(self, table: TableDef, made: Sequence[tuple[int, Value | None, e.Expr]]) -> None:
        self.table = table
        self.made = tuple(made)
        self.array = np.zeros((len(table.columns), 3), np.int64)  # KEEP everywhere
        self.words: list[int | None] = [None] * len(table.columns)
        self._refused = [c.not_null for c in table.columns]

    def fill(self, row: Row, at: At, whole: Callable[[], Batch]) -> Array:
        """Evaluates; returns the blob. Raises Unfit for what the general way must see. `whole` is the old row."""
        array, words = self.array, self.words
        blob = b""
        for ordinal, value, expr in self.made:
            if value is not None:
                word = words[ordinal] = value(row, at.parameters, at.settings)
                if word is not None:
                    array[ordinal, 0] = WORD
                    array[ordinal, 1] = word
                elif self._refused[ordinal]:
                    raise Unfit
                else:
                    array[ordinal, 0] = NULL
                continue
            what, number, data = self._cell(ordinal, expr, at, whole)
            words[ordinal] = number if what == WORD else None
            if what == BYTES:
                number, blob = len(blob), blob + data
            array[ordinal] = what, number, len(data)
        if not blob:
            return NO_BLOB
        if len(blob) > BLOB_BYTES:
            raise Unfit
        return np.frombuffer(blob, np.uint8)

    def _cell(self, ordinal: int, expr: e.Expr, at: At, whole: Callable[[], Batch]) -> tuple[int, int, bytes]:
        sql_type = self.table.columns[ordinal].type
        if isinstance(expr, e.Const) and expr.value is None:
            vector = None
        else:
            batch = whole() if e.columns_of(expr) else ONE_ROW
            vector = stored_form(evaluate(expr, batch, at.context()), sql_type, 1)
        if vector is None or (vector.valid is not None and not vector.valid[0]):
            if self._refused[ordinal]:
                raise Unfit
            return NULL, 0, b""
        if vector.type.is_view:
            return BYTES, 0, vector.strings()[0] or b""
        if vector.type.physical is Physical.WIDE:
            return BYTES, 0, np.ascontiguousarray(vector.data[0]).tobytes()
        width = vector.type.width
        return WORD, int(np.ascontiguousarray(vector.data).view(_WORDS[width])[0]), b""

    def vectors(self, ordinals: Sequence[int], blob: Array) -> list[Vector]:
        """Columns of the row that was filled last, which has all its columns, one row each."""
        return [self._vector(i, blob) for i in ordinals]

    def _vector(self, ordinal: int, blob: Array) -> Vector:
        sql_type = self.table.columns[ordinal].type
        what, number, length = self.array[ordinal].tolist()
        valid = np.zeros(1, np.bool_) if what == NULL else None
        if sql_type.is_view:
            found = string_vector(sql_type, (None if what == NULL else blob[number : number + length].tobytes(),))
            return Vector(sql_type, found.data, valid, found.heap)
        if sql_type.physical is Physical.WIDE:
            raw = bytes(16) if what == NULL else blob[number : number + 16].tobytes()
            return Vector(sql_type, np.frombuffer(raw, np.uint64).reshape(1, 2), valid, EMPTY_HEAP)
        data = np.array((0 if what == NULL else number,), np.int64)
        stored = data.astype(_WORDS[sql_type.width]).view(sql_type.dtype)
        return Vector(sql_type, stored, valid, None, sql_type.scale or 0)


_INTEGERS: Final = ((1, "u1"), (2, "<i2"), (4, "<i4"), (8, "<i8"))
_WORDS: Final[dict[int, np.dtype[Any]]] = {size: np.dtype(name) for size, name in _INTEGERS}


class PointWrite:
    """An UPDATE or DELETE of the row with an integer key."""

    def __init__(self, node: p.Update | p.Delete, key: KeyDef, sought: e.Expr, rest: e.Expr | None) -> None:
        self.node = node
        self.table = node.table
        self.key = key
        self.stored: Any = None  # (Table, StoredKey) once it ran
        types = [c.type for c in node.table.columns]
        assignments = node.assignments if isinstance(node, p.Update) else ()
        checks = node.checks if isinstance(node, p.Update) else ()
        asked = [sought, *([] if rest is None else [rest]), *(x for _, x in assignments), *(c for _, c in checks)]
        read = sorted({i for x in asked for i in e.columns_of(x) if types[i].kind in WORD_KINDS})
        places = {ordinal: place for place, ordinal in enumerate(read)}
        found = compiled(sought, {})
        assert found is not None, "a key is sought by a parameter or a constant"
        self.sought: Value = found
        self.rest = None if rest is None else compiled(rest, places)
        self.cells = Cells(node.table, [(i, compiled(x, places), x) for i, x in assignments])
        self.checks = [compiled(c, places) for _, c in checks]
        self.after = [(places[i], i) for i, _ in assignments if i in places]
        pairs = [x for i in read for x in (i, types[i].width)]
        column = key.columns[0]
        self.shape = np.array([column, types[column].width * 8, len(read), *pairs], np.int64)
        self.out = np.zeros(1 + 2 * len(read), np.int64)
        self.fit = (rest is None or self.rest is not None) and None not in self.checks

    def attempt(self, at: At) -> Written | int:
        """Does it all, or nothing; see the module."""
        try:
            value = self.sought((), at.parameters, at.settings)
            if value is None:
                return Written(0)
            table, key = self._stored(at.engine)
            snapshot = at.snapshot
            found = k.find_row(
                table.directory,
                key.index.pages.data,
                snapshot.timestamp,
                snapshot.mark,
                snapshot.bounds.get(table.storage_id, 0),
                self.shape,
                value,
                self.out,
            )
            if found == k.ROW_NONE:
                return Written(0)
            if found == k.ROW_GENERAL:
                return GENERAL
            address, row = self._row()
            if self.rest is not None and not self.rest(row, at.parameters, at.settings):
                return Written(0)
            if found == k.ROW_BUSY:
                return address
            return self._write(table, address, row, at)
        except Unfit:
            return GENERAL

    def _stored(self, engine: Engine) -> Any:
        if self.stored is None or self.table.storage_id not in engine.tables:
            self.stored = engine.table(self.table), engine.index(self.table, self.key)
        return self.stored

    def _row(self) -> tuple[int, list[int | None]]:
        address, *pairs = self.out.tolist()
        return address, [None if pairs[i + 1] else pairs[i] for i in range(0, len(pairs), 2)]

    def _write(self, table: Table, address: int, row: list[int | None], at: At) -> Written | int:
        """Writes over a version that is free, or claimed already."""
        node = self.node
        if isinstance(node, p.Delete):
            return self._delete(node, table, address, at)
        width = range(len(self.table.columns))
        blob = self.cells.fill(row, at, lambda: Batch(table.gather(np.array((address,), np.int64), width), 1))
        if self.checks:
            for place, ordinal in self.after:
                row[place] = self.cells.words[ordinal]
            if any(check is not None and check(row, at.parameters, at.settings) == 0 for check in self.checks):
                return GENERAL
        new = write_row(at.transaction, table, self.cells.array, blob, address)
        if new < 0:
            return GENERAL
        written = Written(1)
        if node.returning is not None:
            written.returned = [_returned(node.returning, table, new, at)]
        return written

    def _delete(self, node: p.Delete, table: Table, address: int, at: At) -> Written:
        written = Written(1)
        if node.returning is not None:
            written.returned = [_returned(node.returning, table, address, at)]
        delete_row(at.transaction, table, address)
        return written

    def wait_and_write(self, address: int, at: At) -> Generator[Wait, None, Written]:
        """Goes on after `attempt` met a version that somebody holds: waits, looks again, writes."""
        node, ctx = self.node, at.write()
        claimed, extras = yield from dml.claim_found(
            self.table, np.array((address,), np.int64), [], node.predicate, ctx
        )
        if isinstance(node, p.Delete):
            return dml.delete_claimed(node, claimed, extras, ctx)
        if len(claimed) == 1:
            table, _ = self._stored(at.engine)
            try:
                if k.read_row(table.directory, int(claimed[0]), self.shape, self.out):
                    done = self._write(table, *self._row(), at)
                    if isinstance(done, Written):
                        return done
            except Unfit:
                pass  # the general way has the error
        return (yield from dml.update_claimed(node, claimed, extras, ctx))


class PointInsert:
    """An INSERT of one row of values."""

    def __init__(self, node: p.Insert, values: Sequence[e.Expr]) -> None:
        self.node = node
        self.table = node.table
        types = [c.type for c in node.table.columns]
        self.cells = Cells(node.table, [(i, compiled(x, {}), x) for i, x in enumerate(values)])
        columns = [i for _, c in node.checks for i in e.columns_of(c)]
        places = {i: i for i in columns if types[i].kind in WORD_KINDS}
        self.checks = [compiled(c, places) for _, c in node.checks]
        self.fit = None not in self.checks

    def attempt(self, at: At) -> Written | int:
        """Does it all, or nothing; see the module."""
        table = at.engine.table(self.table)
        cells = self.cells
        try:
            blob = cells.fill((), at, _no_row)
            for check in self.checks:
                if check is not None and check(cells.words, at.parameters, at.settings) == 0:
                    return GENERAL
        except Unfit:
            return GENERAL
        keys = []
        for key in table.stored_keys:
            encoded, rows = key.encode_valid(cells.vectors(key.ordinals, blob))
            if rows is not None:
                continue  # a null in it
            if len(key.index.lookup_many(encoded)[1]):
                return GENERAL
            keys.append((key, encoded))
        new = write_row(at.transaction, table, cells.array, blob)
        if new < 0:
            return GENERAL
        if keys:
            insert_keys(at.transaction, table, keys, new)
        written = Written(1)
        if self.node.returning is not None:
            written.returned = [_returned(self.node.returning, table, new, at)]
        return written


def _no_row() -> Batch:
    raise AssertionError("a new row reads no other")


def _returned(exprs: Sequence[e.Expr], table: Table, address: int, at: At) -> Batch:
    row = Batch(table.gather(np.array((address,), np.int64), range(len(table.definition.columns))), 1)
    ctx = at.context()
    return Batch([evaluate(x, row, ctx) for x in exprs], 1)


def write_of(bound: p.Bound) -> PointWrite | PointInsert | None:
    """The compact form of a bound statement, None when it has none."""
    plan = bound.plan
    found: PointWrite | PointInsert | None = None
    if isinstance(plan, p.Insert):
        if isinstance(plan.source, p.Values) and len(plan.source.rows) == 1:
            found = PointInsert(plan, plan.source.rows[0]) if _simple(plan.source.rows[0]) else None
    elif isinstance(plan, p.Update | p.Delete):
        found = _point_write(plan)
    return found if found is not None and found.fit else None


def _point_write(plan: p.Update | p.Delete) -> PointWrite | None:
    source = plan.source
    while isinstance(source, p.Project):
        source = source.input
    if not isinstance(source, p.IndexLookup) or len(plan.source.columns) != 1:
        return None
    if len(source.keys) != 1 or len(source.key.columns) != 1:
        return None
    column, sought = source.key.columns[0], source.keys[0][0]
    definition = plan.table.columns[column]
    if definition.type.kind not in INTEGER_KINDS or not (source.key.primary or definition.not_null):
        return None
    if compiled(sought, {}) is None or sought.type.kind not in INTEGER_KINDS:
        return None
    assigned = plan.assignments if isinstance(plan, p.Update) else ()
    keyed = {i for key in plan.table.keys for i in key.columns}
    if not keyed.isdisjoint(i for i, _ in assigned) or not _simple([x for _, x in assigned]):
        return None
    rest = source.predicate
    if rest is not None:
        rest = e.transform(rest, lambda x: _renumbered(x, source.ordinals))
    return PointWrite(plan, source.key, sought, rest)


def _renumbered(expr: e.Expr, ordinals: Sequence[int]) -> e.Expr:
    return e.Column(expr.type, ordinals[expr.index], expr.name) if isinstance(expr, e.Column) else expr


def _simple(exprs: Sequence[e.Expr]) -> bool:
    """Whether `evaluate` alone has their values: no subqueries in them."""
    return all(
        not isinstance(x, e.ScalarSubquery | e.InSubquery | e.Exists | e.Applied | e.OuterValue | e.Aggregate)
        and _simple(e.children(x))
        for x in exprs
    )
