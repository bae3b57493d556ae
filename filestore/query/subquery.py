"""Subqueries and parameters: what is the same for all rows is run once, before the node that uses it, and held.

`hold` rewrites an expression: parameters and scalar subqueries become `Held` constants, IN (subquery) becomes
`InSet` over a key table, EXISTS a boolean constant. Constants become vectors here once, not again for every
morsel.

Of correlated subqueries most have become joins before they get here (`rules/decorrelate.py`). The others arrive as
`Applied` and are run once for each distinct combination of the outer values of a batch: a plan's whole cost each time,
and a dictionary look-up for every row.

Thread rule: `hold` on the thread that makes the stream, `evaluated` on any.

Not here: remembering an `Applied` result from batch to batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from filestore import errors
from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import Held, InSet, ev
from filestore.query.functions import CHANGING
from filestore.query.keys import KeyTable
from filestore.query.plan import Plan
from filestore.query.scalar.moments import DAY_US, is_infinite
from filestore.query.vectors import broadcast, concat, concat_batches, from_python, null_vector, to_python
from filestore.storage.vector import Batch, Vector
from filestore.types import BOOL, DATE, Kind

Run = Callable[[Plan, ExecutionContext], Iterator[Batch]]


def hold(expr: e.Expr, ctx: ExecutionContext, run: Run) -> e.Expr:
    """The expression with everything that is the same for all rows evaluated."""

    def rewrite(node: e.Expr) -> e.Expr:
        match node:
            case e.Const() | e.Param() | e.OuterValue():
                return Held(node.type, node, ev(node, Batch([], 1), ctx))
            case e.ScalarSubquery():
                return _scalar(node, ctx, run)
            case e.Exists():
                found = any(batch.length for batch in run(node.plan, ctx))
                return Held(BOOL, node, ev(e.Const(BOOL, found), Batch([], 1), ctx))
            case e.InSubquery():
                return _in_set(node, ctx, run)
            case e.Call() | e.Cast():
                return _by_date(_folded(node, ctx))
            case _:
                return node

    return e.transform(expr, rewrite)


def _folded(node: e.Call | e.Cast, ctx: ExecutionContext) -> e.Expr:
    """The value of a function of held values; itself when it must be called for every row, or fails (perhaps no
    row reaches it).
    """
    parts = e.children(node)
    if not all(isinstance(part, Held) for part in parts) or (isinstance(node, e.Call) and node.name in CHANGING):
        return node
    try:
        return Held(node.type, node, ev(node, Batch([], 1), ctx))
    except errors.Error:
        return node


def _by_date(node: e.Expr) -> e.Expr:
    """A comparison of a date column with a timestamp as one with a date: the column's zone map and narrow form can
    then be used.
    """
    match node:
        case e.Call(
            name="lt" | "le" | "gt" | "ge" as name, args=(e.Cast(arg=e.Column() as column), Held(vector=vector))
        ):
            if column.type.kind is not Kind.DATE or vector.type.kind is not Kind.TIMESTAMP:
                return node
            if is_infinite(vector)[0] or (vector.valid is not None and not vector.valid[0]):
                return node
            days, rest = divmod(int(vector.data[0]), DAY_US)
            # midnight of a date is below a later moment of the same day
            days += 1 if rest and name in ("lt", "ge") else 0
            bound = e.Const(DATE, days)
            return e.Call(node.type, name, (column, Held(DATE, bound, from_python(DATE, [days]))))
    return node


def hold_constants(expr: e.Expr, ctx: ExecutionContext) -> e.Expr:
    """As `hold`, for expressions outside operators: subqueries are run by the executor."""
    from filestore.query.executor import execute

    return hold(expr, ctx, execute)


def evaluated(expr: e.Expr, batch: Batch, ctx: ExecutionContext) -> Vector:
    """A correlated subquery's value for every row; one that nobody held (DML evaluates its expressions by itself) is
    run for this batch.
    """
    return _applied(expr, batch, ctx) if isinstance(expr, e.Applied) else ev(hold_constants(expr, ctx), batch, ctx)


def _distinguished(column: Vector) -> list[object]:
    """The column's values such that different ones differ: 1.0 and 1.00 are equal numbers, but do not look alike."""
    values = to_python(column)
    return [str(v) for v in values] if column.type.kind is Kind.NUMERIC else values


def _applied(expr: e.Applied, batch: Batch, ctx: ExecutionContext) -> Vector:
    """A subquery run for each distinct combination of what it reads of the batch's rows."""
    columns = [broadcast(ev(a, batch, ctx), batch.length).plain() for a in expr.args]
    rows = list(zip(*map(_distinguished, columns), strict=True)) if columns else [()] * batch.length
    places: dict[tuple[object, ...], int] = {}
    found: list[Vector] = []
    which = np.empty(batch.length, np.intp)
    for row, values in enumerate(rows):
        if values not in places:
            ctx.cancel.check()
            places[values] = len(found)
            inner = ctx.with_outer({n: c.slice(row, row + 1) for n, c in zip(expr.numbers, columns, strict=True)})
            found.append(broadcast(ev(hold_constants(expr.subquery, inner), Batch([], 1), inner), 1).plain())
        which[row] = places[values]
    if not found:
        return null_vector(expr.type, batch.length)
    return concat(found, expr.type).take(which)


def _scalar(node: e.ScalarSubquery, ctx: ExecutionContext, run: Run) -> Held:
    rows: Batch | None = None
    for batch in run(node.plan, ctx):
        if batch.length == 0:
            continue
        if rows is not None or batch.length > 1:
            raise errors.CardinalityViolation("more than one row returned by a subquery used as an expression")
        rows = batch
    if rows is None:
        return Held(node.type, node, null_vector(node.type, 1))
    return Held(node.type, node, rows.columns[0].plain())


def _in_set(node: e.InSubquery, ctx: ExecutionContext, run: Run) -> InSet:
    types = [c.type for c in node.plan.columns]
    batch = concat_batches(list(run(node.plan, ctx)), types)
    nulls = np.zeros(batch.length, np.bool_)
    for column in batch.columns:
        nulls |= column.nulls()
    table = KeyTable(batch.columns, batch.length)
    rows = tuple(batch.columns) if len(batch.columns) > 1 else ()
    return InSet(node.type, node.args, table, batch.length == 0, bool(nulls.any()), node.negated, rows)
