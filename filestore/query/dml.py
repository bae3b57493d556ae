"""Running statements that change rows: INSERT, UPDATE, DELETE, with their constraints and RETURNING.

Each is a generator that yields what it must wait for (another transaction's row, a worker's scan) and returns a
`Written`. The order is always: run the source to its end, claim the rows, look again at rows that moved, evaluate the
new values, check the constraints, write. The source is run to its end first, so that a statement never meets its own
changes.

Thread rule: runs with the engine lock held, except inside the jobs it yields.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from filestore import errors
from filestore.query import plan as p
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate
from filestore.query.expr import Expr
from filestore.query.rows import describe_key, describe_row, stored_form
from filestore.query.vectors import broadcast, concat_batches
from filestore.storage.schema import CheckDef, KeyDef, TableDef
from filestore.storage.vector import Array, Batch, Vector
from filestore.storage.wait import Wait
from filestore.txn.engine import Engine
from filestore.txn.transaction import Transaction
from filestore.txn.writes import KeyConflict, claim_rows, delete_rows, insert_rows, update_rows

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
        raise unique_violation(node.table, conflict.key, rows.columns, conflict.row) from None
    if node.returning is not None:
        written.returned = [_project(node.returning, rows, ctx.execution)]
    return written


def run_update(node: p.Update, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Updates the source's rows. A row that another transaction changed meanwhile is looked at again (READ
    COMMITTED).
    """
    claimed, extras = yield from _claim(node.table, node.source, node.predicate, ctx)
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
    for ordinal, expr in node.assignments:
        columns[ordinal] = evaluate(expr, whole, ctx.execution)
    changed = _stored_rows(node.table, Batch(columns, len(claimed)))
    check_rows(node.table, node.checks, changed, ctx.execution)
    ordinals = [ordinal for ordinal, _ in node.assignments]
    try:
        yield from update_rows(ctx.transaction, table, claimed, changed.columns, ordinals)
    except KeyConflict as conflict:
        raise unique_violation(node.table, conflict.key, changed.columns, conflict.row) from None
    if node.returning is not None:
        row = Batch([*changed.columns, *extras], len(claimed))
        written.returned = [_project(node.returning, row, ctx.execution)]
    return written


def run_delete(node: p.Delete, ctx: WriteContext) -> Generator[Wait, None, Written]:
    """Deletes the source's rows; as `run_update` for rows that changed meanwhile."""
    claimed, extras = yield from _claim(node.table, node.source, node.predicate, ctx)
    return (yield from delete_claimed(node, claimed, extras, ctx))


def delete_claimed(
    node: p.Delete, claimed: Array, extras: Sequence[Vector], ctx: WriteContext
) -> Generator[Wait, None, Written]:
    """Deletes versions that are claimed; as `update_claimed`."""
    written = Written(len(claimed))
    if len(claimed) == 0:
        return written
    table = ctx.engine.table(node.table)
    if node.returning is not None:
        old = table.gather(claimed, range(len(node.table.columns)))
        written.returned = [_project(node.returning, Batch([*old, *extras], len(claimed)), ctx.execution)]
    yield from delete_rows(ctx.transaction, table, claimed)
    return written


def _claim(
    definition: TableDef, source: p.Plan, predicate: Expr | None, ctx: WriteContext
) -> Generator[Wait, None, tuple[Array, list[Vector]]]:
    """Runs the source and claims its rows; returns claimed addresses int64[n] and the extra columns of each.

    A row that several source rows name (UPDATE ... FROM) is claimed once, for the first of them, as PostgreSQL does.
    """
    batches = yield from ctx.source(source)
    found = concat_batches(batches, [c.type for c in source.columns])
    addresses, first = np.unique(found.columns[0].data, return_index=True)
    return (yield from claim_found(definition, addresses, found.take(first).columns[1:], predicate, ctx))


def claim_found(
    definition: TableDef, addresses: Array, extras: list[Vector], predicate: Expr | None, ctx: WriteContext
) -> Generator[Wait, None, tuple[Array, list[Vector]]]:
    """Claims versions int64[n], or the newer ones if the predicate holds for those too; with their extra columns."""
    types = [v.type for v in extras]
    table = ctx.engine.table(definition)
    claimed: list[Array] = []
    kept: list[list[Vector]] = []
    while len(addresses):
        outcome = yield from claim_rows(ctx.transaction, table, addresses)
        claimed.append(addresses[outcome.claimed])
        kept.append([v.take(outcome.claimed) for v in extras])
        moved = outcome.moved
        addresses, extras = outcome.newest[moved], [v.take(moved) for v in extras]
        if len(addresses) and predicate is not None:
            again = Batch([*table.gather(addresses, range(len(definition.columns))), *extras], len(addresses))
            holds = truth(evaluate(predicate, again, ctx.execution), again.length)
            addresses, extras = addresses[holds], [v.take(holds) for v in extras]
    if not claimed:
        return np.empty(0, np.int64), extras
    parts = [Batch(columns, len(a)) for columns, a in zip(kept, claimed, strict=True)]
    return np.concatenate(claimed), concat_batches(parts, types).columns


def truth(condition: Vector, length: int) -> Array:
    """bool[length]: where a condition is true (null counts as false)."""
    condition = broadcast(condition, length)
    holds: Array = condition.plain().data.astype(np.bool_)
    return holds if condition.valid is None else holds & condition.valid


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
