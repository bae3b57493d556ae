"""Running statements that change rows: INSERT, UPDATE, DELETE, with their constraints and RETURNING.

Each is a generator that yields what it must wait for (another transaction's row, a worker's scan) and returns a
`Written`. The order is always: run the source to its end, claim the rows, look again at rows that moved, evaluate the
new values, check the constraints, write. The source is run to its end first, so that a statement never meets its own
changes.

Thread rule: runs with the engine lock held, except inside the jobs it yields.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from filestore import errors
from filestore.query import plan as p
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate, truth
from filestore.query.expr import Expr
from filestore.query.rows import describe_key, describe_row, stored_form
from filestore.query.rules.traversal import has_subquery
from filestore.query.vectors import broadcast, concat_batches
from filestore.storage.schema import CheckDef, KeyDef, TableDef
from filestore.storage.table import Table
from filestore.storage.vector import Array, Batch, Vector
from filestore.storage.wait import Wait
from filestore.txn.engine import Engine
from filestore.txn.transaction import Transaction
from filestore.txn.writes import KeyConflict, as_before, claim_rows, delete_rows, insert_rows, look_again, update_rows

# From this many rows on an INSERT builds sealed segments instead of logging every row.
BULK_ROWS = 20_000

Source = Callable[[p.Plan], Generator[Wait, None, list[Batch]]]


@dataclass(slots=True)
class Written:
    """What a statement did: how many rows, and RETURNING's batches."""

    count: int
    returned: list[Batch] = field(default_factory=list)


@dataclass(slots=True)
class WriteContext:
    """What a write needs: where it writes (`engine`, `transaction`), how it evaluates (`execution`), how it runs a
    source to its end (`source`: inline or on a worker)."""

    engine: Engine
    transaction: Transaction
    execution: ExecutionContext
    source: Source


def run(plan: p.Plan, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Runs an INSERT, UPDATE or DELETE."""
    match plan:
        case p.Insert():
            return run_insert(plan, ctx)
        case p.Update():
            return run_update(plan, ctx)
        case p.Delete():
            return run_delete(plan, ctx)
        case _:
            raise errors.InternalError(f"no way to run {type(plan).__name__}")


def run_insert(node: p.Insert, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Inserts the source's rows. Raises 23502, 23514, 23505 with the constraint's fields."""
    batches = yield from ctx.source(node.source)
    rows = concat_batches(batches, [c.type for c in node.table.columns])
    written = Written(rows.length)
    if rows.length == 0:
        return written
    rows = _stored_rows(node.table, rows)
    check_rows(node.table, node.checks, rows, ctx.execution)
    table = ctx.engine.table(node.table)
    try:
        if rows.length >= BULK_ROWS:
            yield from ctx.engine.bulk_load(ctx.transaction, table, [rows.columns])
        else:
            yield from insert_rows(ctx.transaction, table, rows.columns, rows.length)
    except KeyConflict as conflict:
        yield from ctx.engine.settled()  # who looks for the row that has the key, finds it
        raise unique_violation(node.table, conflict.key, rows.columns, conflict.row) from None
    if node.returning is not None:
        written.returned = [_project(node.returning, rows, ctx.execution)]
    return written


def run_update(node: p.Update, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Updates the source's rows. A row that another transaction changed meanwhile is looked at again (READ
    COMMITTED).
    """
    claimed, extras = yield from _claim(node, ctx)
    return (yield from update_claimed(node, claimed, extras, ctx))


def update_claimed(
    node: p.Update, claimed: Array, extras: Sequence[Vector], ctx: WriteContext
) -> Generator[Wait, None, Written]:
    """Updates versions that are claimed, int64[n]; `extras` are the extra columns of each."""
    written = Written(len(claimed))
    if len(claimed) == 0:
        return written
    table = ctx.engine.table(node.table)
    width = len(node.table.columns)
    whole = Batch([*table.gather(claimed, range(width)), *extras], len(claimed))
    columns = list(whole.columns[:width])
    with as_found(ctx, table, claimed, [x for _, x in node.assignments]):
        for ordinal, expr in node.assignments:
            columns[ordinal] = evaluate(expr, whole, ctx.execution)
    changed = _stored_rows(node.table, Batch(columns, len(claimed)))
    check_rows(node.table, node.checks, changed, ctx.execution)
    ordinals = [ordinal for ordinal, _ in node.assignments]
    try:
        yield from update_rows(ctx.transaction, table, claimed, changed.columns, ordinals)
    except KeyConflict as conflict:
        yield from ctx.engine.settled()  # who looks for the row that has the key, finds it
        raise unique_violation(node.table, conflict.key, changed.columns, conflict.row) from None
    if node.returning is not None:
        row = Batch([*changed.columns, *extras], len(claimed))
        with as_found(ctx, table, claimed, node.returning):
            written.returned = [_project(node.returning, row, ctx.execution)]
    return written


def run_delete(node: p.Delete, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Deletes the source's rows; as `run_update` for rows that changed meanwhile."""
    claimed, extras = yield from _claim(node, ctx)
    return delete_claimed(node, claimed, extras, ctx)


def delete_claimed(node: p.Delete, claimed: Array, extras: Sequence[Vector], ctx: WriteContext) -> Written:
    """Deletes versions that are claimed; as `update_claimed`."""
    written = Written(len(claimed))
    if len(claimed) == 0:
        return written
    table = ctx.engine.table(node.table)
    if node.returning is not None:
        old = table.gather(claimed, range(len(node.table.columns)))
        with as_found(ctx, table, claimed, node.returning):
            written.returned = [_project(node.returning, Batch([*old, *extras], len(claimed)), ctx.execution)]
    delete_rows(ctx.transaction, table, claimed)
    return written


def as_found(
    ctx: WriteContext, table: Table, claimed: Array, exprs: Sequence[Expr]
) -> AbstractContextManager[None]:
    """Expressions are evaluated as the statement's snapshot has it: before its own claims."""
    if ctx.execution.snapshot.mark and len(claimed) and any(map(has_subquery, exprs)):
        return as_before(ctx.transaction, table, claimed)
    return nullcontext()  # a snapshot without a mark takes the claims for another's


@dataclass(frozen=True, slots=True)
class Again:
    """How rows that moved are looked at again: the condition, the values that the source has computed with the rows
    (the last of the extra columns), and every extra row that a version was joined with: those of version i are
    `extras` from `starts[i]` on.
    """

    predicate: Expr | None
    values: Sequence[Expr] = ()
    extras: Sequence[Vector] = ()
    starts: Array | None = None

    def extras_of(self, rows: Array, first: Sequence[Vector]) -> tuple[Array, list[Vector]]:
        """(which of `rows`, its extra columns) of every candidate of some versions; `first` are those claimed with."""
        if self.starts is None:
            return np.arange(len(rows)), list(first)
        counts = np.diff(self.starts)[rows]
        which = np.repeat(np.arange(len(rows)), counts)
        begins = np.cumsum(counts) - counts
        at = np.arange(len(which)) - begins[which] + self.starts[rows][which]
        return which, [v.take(at) for v in self.extras]


def _claim(node: p.Update | p.Delete, ctx: WriteContext) -> Generator[Wait, None, tuple[Array, list[Vector]]]:
    """Runs the source and claims its rows; returns claimed addresses int64[n] and the extra columns of each.

    A row that several source rows name (UPDATE ... FROM) is claimed once, for the first of them, as PostgreSQL does.
    """
    batches = yield from ctx.source(node.source)
    found = concat_batches(batches, [c.type for c in node.source.columns])
    order = np.argsort(found.columns[0].data, kind="stable")
    addresses, first = np.unique(found.columns[0].data[order], return_index=True)
    extras = [v.take(order) for v in found.columns[1:]]
    starts = np.append(first, found.length)
    again = Again(node.predicate, node.values if isinstance(node, p.Update) else (), extras, starts)
    return (yield from _claim_all(node.table, addresses, [v.take(first) for v in extras], again, ctx))


def claim_found(
    definition: TableDef, addresses: Array, extras: list[Vector], predicate: Expr | None, ctx: WriteContext
) -> Generator[Wait, None, tuple[Array, list[Vector]]]:
    """Claims versions int64[n], or the newer ones if the predicate holds for those too; with their extra columns."""
    return (yield from _claim_all(definition, addresses, extras, Again(predicate), ctx))


def _claim_all(
    definition: TableDef, addresses: Array, extras: list[Vector], again: Again, ctx: WriteContext
) -> Generator[Wait, None, tuple[Array, list[Vector]]]:
    """Claims versions. Those that moved are claimed in their newest form, once nobody else is changing it, if the
    condition holds for that form with one of their extra rows (READ COMMITTED; PostgreSQL's EvalPlanQual).
    """
    table = ctx.engine.table(definition)
    outcome = yield from claim_rows(ctx.transaction, table, addresses)
    claimed, kept = addresses[outcome.claimed], [v.take(outcome.claimed) for v in extras]
    rows = np.flatnonzero(outcome.moved)
    if len(rows) == 0:
        return claimed, kept
    newest = yield from look_again(ctx.transaction, table, outcome.newest[rows])
    rows, newest = rows[newest >= 0], newest[newest >= 0]
    candidates = again.extras_of(rows, [v.take(rows) for v in extras])
    asked = [*again.values, *(() if again.predicate is None else (again.predicate,))]
    with as_found(ctx, table, claimed, asked):
        chosen, more = _holding(definition, table, newest, again, candidates, ctx)
    newest = newest[chosen]
    outcome = yield from claim_rows(ctx.transaction, table, newest)
    if not outcome.claimed.all():
        raise errors.InternalError("a version that was free has been claimed")
    types = [v.type for v in extras]
    parts = [Batch(kept, len(claimed)), Batch(more, len(newest))]
    return np.concatenate([claimed, newest]), concat_batches(parts, types).columns


def _holding(
    definition: TableDef,
    table: Table,
    newest: Array,
    again: Again,
    candidates: tuple[Array, list[Vector]],
    ctx: WriteContext,
) -> tuple[Array, list[Vector]]:
    """(positions in `newest`, extra columns) of the versions for which the condition holds, each with the first of its
    candidates.
    """
    which, extras = candidates
    whole = table.gather(newest[which], range(len(definition.columns)))
    joined = len(extras) - len(again.values)
    holds = np.ones(len(which), np.bool_)
    if again.predicate is not None and len(which):
        seen = Batch([*whole, *extras[:joined]], len(which))
        holds = truth(evaluate(again.predicate, seen, ctx.execution))
    chosen, first = np.unique(which[holds], return_index=True)
    at = np.flatnonzero(holds)[first]
    extras = [v.take(at) for v in extras[:joined]]
    row = Batch([*(v.take(at) for v in whole), *extras], len(at))
    return chosen, [*extras, *(evaluate(x, row, ctx.execution) for x in again.values)]


def _stored_rows(definition: TableDef, rows: Batch) -> Batch:
    columns = [stored_form(v, c.type, rows.length) for v, c in zip(rows.columns, definition.columns, strict=True)]
    return Batch(columns, rows.length)


def _project(exprs: Sequence[Expr], rows: Batch, ctx: ExecutionContext) -> Batch:
    return Batch([broadcast(evaluate(e, rows, ctx), rows.length) for e in exprs], rows.length)


class RowError(Exception):
    """A constraint that row `row` of a batch breaks; `error` is what the user is to see."""

    def __init__(self, row: int, error: errors.IntegrityError) -> None:
        super().__init__(error.message)
        self.row = row
        self.error = error


def check_rows(
    definition: TableDef, checks: Sequence[tuple[CheckDef, Expr]], rows: Batch, ctx: ExecutionContext
) -> None:
    """Raises 23502 or 23514, with the constraint's fields, for the first row that breaks NOT NULL or a CHECK."""
    try:
        check_each(definition, checks, rows, ctx)
    except RowError as error:
        raise error.error from None


def check_each(
    definition: TableDef, checks: Sequence[tuple[CheckDef, Expr]], rows: Batch, ctx: ExecutionContext
) -> None:
    """As `check_rows`, but raises RowError, which says which row it was."""
    for column, vector in zip(definition.columns, rows.columns, strict=True):
        if column.not_null and vector.valid is not None and not vector.valid.all():
            row = int(np.argmin(vector.valid))
            error: errors.IntegrityError = errors.NotNullViolation(
                f'null value in column "{column.name}" of relation "{definition.name}" violates not-null constraint',
                detail=f"Failing row contains {describe_row(rows, row)}.",
                schema=definition.schema,
                table=definition.name,
                column=column.name,
            )
            raise RowError(row, error)
    for check, condition in checks:
        outcome = broadcast(evaluate(condition, rows, ctx), rows.length)
        broken = ~outcome.plain().data.astype(np.bool_)
        if outcome.valid is not None:
            broken &= outcome.valid
        if broken.any():
            row = int(np.argmax(broken))
            error = errors.CheckViolation(
                f'new row for relation "{definition.name}" violates check constraint "{check.name}"',
                detail=f"Failing row contains {describe_row(rows, row)}.",
                schema=definition.schema,
                table=definition.name,
                constraint=check.name,
            )
            raise RowError(row, error)


def unique_violation(
    definition: TableDef, key: KeyDef, columns: Sequence[Vector | None], row: int
) -> errors.UniqueViolation:
    """23505 with PostgreSQL's detail line, which ORMs parse; `columns` holds the key's columns at their ordinals."""
    names = ", ".join(definition.columns[i].name for i in key.columns)
    values = describe_key([v for i in key.columns if (v := columns[i]) is not None], row)
    return errors.UniqueViolation(
        f'duplicate key value violates unique constraint "{key.name}"',
        detail=f"Key ({names})=({values}) already exists.",
        schema=definition.schema,
        table=definition.name,
        constraint=key.name,
    )
