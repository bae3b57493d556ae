"""One-row INSERTs widened to many rows: VALUES of parameters becomes a projection over as many rows.

`INSERT INTO t VALUES ($1, $2)` run for n rows of parameters is `INSERT INTO t SELECT $1, $2` over n rows in which
every parameter is a vector of length n. That holds for rows made of parameters, constants and conversions of them;
where a subquery or an aggregate is in the row the statement is run row by row instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.operators.stream import MORSEL_ROWS
from filestore.types import INT4

# All rows must come in one batch, as long as the parameters are.
ROWS_MAX: Final = MORSEL_ROWS
_SAME_FOR_EACH_ROW: Final = (e.Param, e.Const, e.Cast, e.Call)


def can_widen(bound: p.Bound) -> bool:
    """Whether the statement is an INSERT of one row of VALUES that can take its parameters as columns."""
    plan = bound.plan
    if not isinstance(plan, p.Insert) or not isinstance(plan.source, p.Values) or len(plan.source.rows) != 1:
        return False
    return all(isinstance(node, _SAME_FOR_EACH_ROW) for value in plan.source.rows[0] for node in _nodes(value))


def _nodes(expr: e.Expr) -> Iterator[e.Expr]:
    yield expr
    for child in e.children(expr):
        yield from _nodes(child)


def widened(bound: p.Bound, rows: int) -> p.Bound:
    """The statement for `rows` rows of parameters, at most ROWS_MAX. Requires `can_widen`."""
    plan = bound.plan
    if (
        not can_widen(bound)
        or not isinstance(plan, p.Insert)
        or not isinstance(plan.source, p.Values)
        or rows > ROWS_MAX
    ):
        raise errors.InternalError("the statement does not take many rows of parameters at once")
    bounds = (e.Const(INT4, 1), e.Const(INT4, rows))
    numbers = p.FunctionScan((p.OutputColumn("generate_series", INT4),), "generate_series", bounds)
    return replace(bound, plan=replace(plan, source=p.Project(plan.source.columns, numbers, plan.source.rows[0])))
