"""Filter and Project: row by row of the batch, without state.

Thread rule: both are pure functions of a batch, run by any thread.

Not here: conditions on a table's columns, which the scan looks at itself (scan.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import evaluate, matching_rows
from filestore.query.operators.stream import Stream
from filestore.storage.vector import Batch


def filtered(source: Stream, predicate: e.Expr, ctx: ExecutionContext) -> Stream:
    """The rows for which the predicate is true."""
    conditions = e.conjuncts(predicate)

    def run(batch: Batch) -> Batch:
        rows = matching_rows(conditions, batch, ctx)
        return batch if rows is None else batch.take(rows)

    return source.mapped(run)


def projected(source: Stream, exprs: Sequence[e.Expr], ctx: ExecutionContext) -> Stream:
    """The expressions over every row."""

    def run(batch: Batch) -> Batch:
        return Batch([evaluate(x, batch, ctx) for x in exprs], batch.length)

    return source.mapped(run)
