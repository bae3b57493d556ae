"""Uncorrelated subqueries and parameters: run once, before the node that uses them, and held as values.

`hold` rewrites an expression: parameters and scalar subqueries become `Held` constants, IN (subquery) becomes `InSet` over a key table,
EXISTS a boolean constant. Constants become vectors here once, not again for every morsel. Correlated subqueries do not reach
the executor: the binder makes joins of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from filestore import errors
from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import EVALUATORS, Held, InSet, ev
from filestore.query.keys import KeyTable
from filestore.query.plan import Plan
from filestore.query.vectors import concat_batches, null_vector
from filestore.storage.vector import Batch, Vector
from filestore.types import BOOL

Run = Callable[[Plan, ExecutionContext], Iterator[Batch]]


def hold(expr: e.Expr, ctx: ExecutionContext, run: Run) -> e.Expr:
    """The expression with everything that is the same for all rows evaluated."""

    def rewrite(node: e.Expr) -> e.Expr:
        match node:
            case e.Const() | e.Param():
                return Held(node.type, node, ev(node, Batch([], 1), ctx))
            case e.ScalarSubquery():
                return _scalar(node, ctx, run)
            case e.Exists():
                found = any(batch.length for batch in run(node.plan, ctx))
                return Held(BOOL, node, ev(e.Const(BOOL, found), Batch([], 1), ctx))
            case e.InSubquery():
                return _in_set(node, ctx, run)
            case _:
                return node

    return e.transform(expr, rewrite)


def hold_constants(expr: e.Expr, ctx: ExecutionContext) -> e.Expr:
    """As `hold`, for expressions outside operators: subqueries are run by the executor."""
    from filestore.query.executor import execute

    return hold(expr, ctx, execute)


def _evaluated(expr: e.Expr, batch: Batch, ctx: ExecutionContext) -> Vector:
    """A subquery that nobody held (DML evaluates its expressions by itself): run for this batch."""
    return ev(hold_constants(expr, ctx), batch, ctx)


EVALUATORS.update({e.ScalarSubquery: _evaluated, e.Exists: _evaluated, e.InSubquery: _evaluated})


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
