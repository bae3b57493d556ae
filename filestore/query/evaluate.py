"""Evaluating a bound expression over a batch: one vector per node, a column at a time.

Inside, a vector of length 1 stands for a constant (`ev`); `evaluate` returns vectors of the batch's length.
Conditions are three-valued: a boolean vector whose null rows are unknown; `truth` is the mask of rows that are true.

What is evaluated for which rows is part of the meaning: CASE and COALESCE evaluate a branch for the rows that
reach it, AND and OR a condition that may fail only for rows still undecided. A function of one dictionary-encoded
column runs on the dictionary, each distinct value once.

Thread rule: everything here on any thread; vectors are not changed once made.

Not here: how subqueries are run (subquery.py). Before a node runs, `subquery.hold` replaces those that do not depend on
its rows by `Held` and `InSet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors
from filestore.query import expr as e
from filestore.query.functions import VOLATILE
from filestore.query.keys import KeyTable
from filestore.query.scalar import IMPLEMENTATIONS
from filestore.query.scalar.casts import cast
from filestore.query.scalar.compare import compare
from filestore.query.vectors import (
    bools,
    broadcast,
    concat,
    constant,
    empty_values,
    from_python,
    null_vector,
    replaced,
    to_decimals,
    to_python,
    typed,
)
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import Kind

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

__all__ = ["EVALUATORS", "Held", "InSet", "ev", "evaluate", "matching_rows", "to_decimals", "truth"]


@dataclass(frozen=True, slots=True)
class Held(e.Expr):
    """A value known before the node runs, of a constant, a parameter or a subquery: two are equal when their
    origins are.

    `vector` has length 1.
    """

    origin: e.Expr
    vector: Vector = field(compare=False)


@dataclass(frozen=True, slots=True)
class InSet(e.Expr):
    """[NOT] IN (subquery) whose rows are known: `table` holds the keys.

    `empty` and `nulls` say whether there were no rows, or rows with nulls; `rows` are those of a subquery of
    several columns.
    """

    args: tuple[e.Expr, ...]
    table: KeyTable
    empty: bool
    nulls: bool
    negated: bool
    rows: tuple[Vector, ...] = field(compare=False)


def evaluate(expr: e.Expr, batch: Batch, ctx: ExecutionContext) -> Vector:
    """The expression's value for every row of the batch. Errors as the functions in it raise."""
    return broadcast(ev(expr, batch, ctx), batch.length)


def truth(vector: Vector) -> Array:
    """bool[n]: the rows where a condition is true (not false, not null)."""
    mask = vector.data.view(np.bool_) if vector.data.dtype == np.uint8 else vector.data.astype(np.bool_)
    return mask if vector.valid is None else mask & vector.valid


def matching_rows(conditions: Sequence[e.Expr], batch: Batch, ctx: ExecutionContext) -> Array | None:
    """Positions (int64, ascending) of the rows for which all conditions are true; None when all rows are.

    Later conditions that could raise an error see only rows that passed the earlier ones, and so does every one once
    few rows have passed.
    """
    mask: Array | None = None
    for condition in conditions:
        if mask is None or (cannot_fail(condition) and _FEW * np.count_nonzero(mask) > batch.length):
            own = truth(broadcast(ev(condition, batch, ctx), batch.length))
            mask = own if mask is None else mask & own
            continue
        rows = np.flatnonzero(mask)
        own = truth(evaluate(condition, taken(batch, rows, condition), ctx))
        mask = np.zeros(batch.length, np.bool_)
        mask[rows[own]] = True
    if mask is None or mask.all():
        return None
    return np.flatnonzero(mask)


_FEW = 8
"""Copying the rows that have passed pays when they are fewer than one in so many."""
_SAFE_CALLS = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "distinct", "not_distinct", "like", "ilike", "starts_with"}
)


def cannot_fail(expr: e.Expr) -> bool:
    """Whether evaluating the expression can never raise an error, whatever the row."""
    match expr:
        case e.Column() | e.Const() | Held():
            return True
        case e.Call(name=name):
            return name in _SAFE_CALLS and all(cannot_fail(a) for a in expr.args)
        case e.And() | e.Or() | e.Not() | e.IsNull() | e.IsBool() | e.InList() | InSet() | e.Coalesce() | e.Case():
            parts = expr.args if isinstance(expr, InSet) else e.children(expr)
            return all(cannot_fail(part) for part in parts)
        case _:
            return False


def taken(batch: Batch, rows: Array, *exprs: e.Expr) -> Batch:
    """The given rows of the batch, only the columns that the expressions read; others stay as they are and must
    not be looked at.
    """
    wanted = {i for expr in exprs for i in columns_read(expr)}
    columns = [c.take(rows) if i in wanted else c for i, c in enumerate(batch.columns)]
    return Batch(columns, len(rows))


def columns_read(expr: e.Expr) -> set[int]:
    """As expr.columns_of, and through InSet."""
    if isinstance(expr, e.Column):
        return {expr.index}
    parts = expr.args if isinstance(expr, InSet) else e.children(expr)
    return {i for part in parts for i in columns_read(part)}


def ev(expr: e.Expr, batch: Batch, ctx: ExecutionContext) -> Vector:
    """The expression's vector: of the batch's length, or of length 1 for a constant."""
    evaluator = EVALUATORS.get(type(expr))
    if evaluator is None:
        raise errors.InternalError(f"cannot evaluate {type(expr).__name__} here")
    return evaluator(expr, batch, ctx)


def _const(expr: e.Const, batch: Batch, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return null_vector(expr.type, 1) if expr.value is None else constant(expr.type, expr.value)


def _column(expr: e.Column, batch: Batch, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return batch.columns[expr.index]


def _param(expr: e.Param, batch: Batch, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    if not 0 < expr.number <= len(ctx.parameters):
        raise errors.UndefinedParameter(f"there is no parameter ${expr.number}")
    return ctx.parameters[expr.number - 1]


def _held(expr: Held, batch: Batch, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return expr.vector


def _outer_value(expr: e.OuterValue, batch: Batch, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return ctx.outer[expr.number]


def _subquery(expr: e.Expr, batch: Batch, ctx: ExecutionContext) -> Vector:
    from filestore.query.subquery import evaluated  # which is built on this module

    return evaluated(expr, batch, ctx)


def _call(expr: e.Call, batch: Batch, ctx: ExecutionContext) -> Vector:
    function = IMPLEMENTATIONS.get(expr.name)
    if function is None:
        raise errors.UndefinedFunction(f"function {expr.name} has no implementation")
    args = [ev(a, batch, ctx) for a in expr.args]
    if batch.length == 0:
        return empty_values(expr.type, 0)
    encoded = [i for i, a in enumerate(args) if a.dictionary is not None]
    if encoded and expr.name not in VOLATILE:
        found = _over_dictionary(function, expr, args, encoded, batch.length, ctx)
        if found is not None:
            return found
    return function([a.plain() if a.dictionary is not None else a for a in args], batch.length, expr.type, ctx)


def _over_dictionary(
    function: Callable[..., Vector],
    expr: e.Expr,
    args: list[Vector],
    encoded: list[int],
    length: int,
    ctx: ExecutionContext,
) -> Vector | None:
    """The function over the distinct values of its one encoded argument; None when that is no gain or a value not
    in use fails.
    """
    at = encoded[0]
    column = args[at]
    words = column.dictionary
    others = [a for i, a in enumerate(args) if i != at]
    if words is None or len(encoded) > 1 or len(words) > length or len(words) == 0 or len(column) != length:
        return None
    # A null must reach functions that are not strict (concat, greatest ...): they take the plain way.
    if any(len(a) != 1 for a in others) or (
        column.valid is not None and isinstance(expr, e.Call) and expr.name in _NOT_STRICT
    ):
        return None
    try:
        mapped = function([words if i == at else a for i, a in enumerate(args)], len(words), expr.type, ctx)
    except errors.DataError:
        return None  # perhaps a value that no row here has; the plain way tells
    return decoded(mapped, column)


_NOT_STRICT = frozenset({"concat_fn", "concat_ws", "format", "greatest", "least", "distinct", "not_distinct"})


def decoded(mapped: Vector, column: Vector) -> Vector:
    """A function's results for the dictionary of `column`, spread over its rows."""
    mapped = broadcast(mapped, len(column.dictionary or ())).plain()
    valid = column.valid
    if mapped.valid is not None:
        own = mapped.valid[column.data]
        valid = own if valid is None else own & valid
    if mapped.type.is_view and mapped.data.ndim == 2:
        words = replaced(mapped, None)
        if mapped.valid is not None:
            words.data = np.where(mapped.valid[:, None], mapped.data, np.uint64(0))
        return Vector(mapped.type, column.data, valid, None, mapped.scale, words)
    return Vector(mapped.type, mapped.data[column.data], valid, mapped.heap, mapped.scale)


def _cast(expr: e.Cast, batch: Batch, ctx: ExecutionContext) -> Vector:
    vector = ev(expr.arg, batch, ctx)
    if len(vector) == 0:
        return empty_values(expr.type, 0)
    if (vector.dictionary is not None and not expr.type.is_view) or (
        vector.dictionary and expr.type.length is not None
    ):

        def run(args: list[Vector], length: int, result: Any, context: ExecutionContext) -> Vector:  # noqa: ARG001
            return cast(args[0], result, expr.explicit, context)

        found = _over_dictionary(run, expr, [vector], [0], batch.length, ctx)
        if found is not None:
            return found
    return cast(vector, expr.type, expr.explicit, ctx)


def _connective(expr: e.And | e.Or, batch: Batch, ctx: ExecutionContext) -> Vector:
    """Three-valued AND/OR. `decided` is false for AND, true for OR: a row with it needs no further argument."""
    decided = isinstance(expr, e.Or)
    n = batch.length
    value, known = np.full(n, not decided), np.ones(n, np.bool_)
    for i, arg in enumerate(expr.args):
        if i == 0 or cannot_fail(arg):
            one = broadcast(ev(arg, batch, ctx), n)
            own, own_valid = one.data.view(np.bool_), one.valid
        else:
            rows = np.flatnonzero(~(known & (value == decided)))
            if len(rows) == 0:
                break
            one = evaluate(arg, taken(batch, rows, arg), ctx)
            own, own_known = np.full(n, not decided), np.ones(n, np.bool_)
            own[rows] = one.data.view(np.bool_)
            if one.valid is not None:
                own_known[rows] = one.valid
            own_valid = own_known
        if own_valid is None:
            known = known | (own == decided)
        else:
            known = (known & own_valid) | (known & (value == decided)) | (own_valid & (own == decided))
        value = value | own if decided else value & own
        if own_valid is not None or not known.all():
            # an unknown argument must neither decide nor hide a decided one
            value = np.where(known, value, not decided)
    if known.all():
        return bools(value)
    return bools(value & known, known)


def _not(expr: e.Not, batch: Batch, ctx: ExecutionContext) -> Vector:
    vector = ev(expr.arg, batch, ctx)
    return bools(~vector.data.view(np.bool_), vector.valid)


def _is_null(expr: e.IsNull, batch: Batch, ctx: ExecutionContext) -> Vector:
    nulls = ev(expr.arg, batch, ctx).nulls()
    return bools(~nulls if expr.negated else nulls)


def _is_bool(expr: e.IsBool, batch: Batch, ctx: ExecutionContext) -> Vector:
    vector = ev(expr.arg, batch, ctx)
    value = vector.data.view(np.bool_)
    mask = value if expr.value else ~value
    if vector.valid is not None:
        mask = mask & vector.valid
    return bools(~mask if expr.negated else mask)


def _case(expr: e.Case, batch: Batch, ctx: ExecutionContext) -> Vector:
    n = batch.length
    rows: Array | None = None  # rows that no condition took yet; None is all
    pieces: list[tuple[Vector, Array | None]] = []
    current = batch
    for condition, value in expr.whens:
        own = truth(evaluate(condition, current, ctx))
        if own.any():
            if own.all():
                pieces.append((evaluate(value, current, ctx), rows))
                return _assembled(pieces, n, expr)
            chosen = np.flatnonzero(own)
            pieces.append(
                (evaluate(value, taken(current, chosen, value), ctx), chosen if rows is None else rows[chosen])
            )
            rest = np.flatnonzero(~own)
            rows = rest if rows is None else rows[rest]
            current = taken(batch, rows, expr)
    if rows is None or len(rows):
        pieces.append((evaluate(expr.default, current, ctx), rows))
    return _assembled(pieces, n, expr)


def _assembled(pieces: list[tuple[Vector, Array | None]], length: int, expr: e.Expr) -> Vector:
    """Vectors put back at their rows."""
    if not pieces:
        return empty_values(expr.type, length)
    if len(pieces) == 1:
        return pieces[0][0]
    vectors = [p[0] for p in pieces]
    places = [np.arange(length) if p[1] is None else p[1] for p in pieces]
    joined = concat([typed(v, expr.type) if v.type != expr.type else v for v in vectors], expr.type)
    order = np.empty(length, np.int64)
    order[np.concatenate(places)] = np.arange(length)
    return joined.take(order)


def _coalesce(expr: e.Coalesce, batch: Batch, ctx: ExecutionContext) -> Vector:
    n = batch.length
    rows: Array | None = None
    pieces: list[tuple[Vector, Array | None]] = []
    current = batch
    last = len(expr.args) - 1
    for i, arg in enumerate(expr.args):
        value = evaluate(arg, current, ctx)
        if i == last or value.valid is None or value.valid.all():
            pieces.append((value, rows))
            break
        some, rest = np.flatnonzero(value.valid), np.flatnonzero(~value.valid)
        if len(some):
            pieces.append((replaced(value.take(some), None), some if rows is None else rows[some]))
        rows = rest if rows is None else rows[rest]
        current = taken(batch, rows, expr)
    return _assembled(pieces, n, expr)


def _in_list(expr: e.InList, batch: Batch, ctx: ExecutionContext) -> Vector:
    value = ev(expr.arg, batch, ctx)
    if (
        value.dictionary is not None
        and len(value.dictionary)
        and (isinstance(expr.items, e.Constants) or all(isinstance(i, e.Const | Held) for i in expr.items))
    ):
        words = value.dictionary
        return decoded(_in_items(expr, words, Batch([], len(words)), ctx), value)
    return _in_items(expr, value, batch, ctx)


def _in_items(expr: e.InList, value: Vector, batch: Batch, ctx: ExecutionContext) -> Vector:
    n = len(value)
    if isinstance(expr.items, e.Constants):
        found = _table_of(expr.items, value).lookup([value], n) >= 0
        return bools(found, value.valid)
    items = [ev(item, batch, ctx) for item in expr.items]
    found = np.zeros(n, np.bool_)
    unknown = np.zeros(n, np.bool_)
    constants = [i for i in items if len(i) == 1 and (i.valid is None or i.valid[0])]
    if len(constants) > 8 and len(constants) == len(items) and n > 1:
        table = KeyTable([concat(items, value.type)], len(items))
        found = table.lookup([value], n) >= 0
    else:
        for item in items:
            if item.valid is not None and len(item) == 1 and not item.valid[0]:
                unknown[:] = True
                continue
            hit = compare("eq", value, item)
            if len(hit) != n:
                value = broadcast(value, len(hit))
                n = len(hit)
                found, unknown = np.broadcast_to(found, n).copy(), np.broadcast_to(unknown, n).copy()
            if item.valid is not None:
                unknown |= ~item.valid
                hit = hit & item.valid
            found |= hit
    known = found | ~unknown
    if value.valid is not None:
        known = known & value.valid
    return bools(found, None if known.all() else known)


def _table_of(items: e.Constants, value: Vector) -> KeyTable:
    """A long list's keys, made once."""
    if items.kept is None or items.kept[0] != value.type:
        item_type = items[0].type
        if item_type.kind is Kind.NUMERIC:  # with scales of their own
            vectors = [constant(item_type, item.value) for item in items]
        else:
            vectors = [from_python(item_type, [item.value for item in items])]
        items.kept = value.type, KeyTable([concat(vectors, value.type)], len(items))
    table: KeyTable = items.kept[1]
    return table


def _in_set(expr: InSet, batch: Batch, ctx: ExecutionContext) -> Vector:
    n = batch.length
    if expr.empty:
        return bools(np.full(n, expr.negated))
    columns = [broadcast(ev(a, batch, ctx), n) for a in expr.args]
    found = expr.table.lookup(columns, n) >= 0
    known = np.ones(n, np.bool_)
    null_rows = np.zeros(n, np.bool_)
    for column in columns:
        if column.valid is not None:
            null_rows |= ~column.valid
    if len(columns) == 1:
        known = found | ~(null_rows | expr.nulls)
    elif expr.nulls or null_rows.any():
        known = found | ~_possible(expr, columns)
    value = found != expr.negated
    return bools(value, None if known.all() else known)


def _possible(expr: InSet, columns: list[Vector]) -> Array:
    """Rows for which some row of the subquery is neither equal nor unequal: equal wherever neither side is null.

    Rows are taken together by where they have nulls, on both sides, and looked up by the columns left: the work grows
    with the number of such patterns, not with the pairs of rows.
    """
    out = np.zeros(len(columns[0]), np.bool_)
    for stored_nulls, stored in _by_nulls(expr.rows):
        for own_nulls, rows in _by_nulls(columns):
            left = np.flatnonzero(~(stored_nulls | own_nulls)).tolist()
            if len(left) == len(columns):
                continue  # neither has nulls: equal, which the set's own table has found, or unequal
            if not left:
                out[rows] = True
                continue
            table = KeyTable([expr.rows[i].take(stored) for i in left], len(stored))
            hit = table.lookup([columns[i].take(rows) for i in left], len(rows)) >= 0
            out[rows[hit]] = True
    return out


def _by_nulls(columns: Sequence[Vector]) -> list[tuple[Array, Array]]:
    """(which columns are null, the positions of the rows where just these are) of every such pattern."""
    nulls = np.stack([c.nulls() for c in columns], axis=1)
    patterns, which = np.unique(nulls, axis=0, return_inverse=True)
    which = which.reshape(-1)  # numpy 2.0 gives it another shape
    return [(pattern, np.flatnonzero(which == i)) for i, pattern in enumerate(patterns)]


EVALUATORS: dict[type, Callable[..., Vector]] = {
    e.Const: _const,
    e.Column: _column,
    e.Param: _param,
    Held: _held,
    e.Call: _call,
    e.Cast: _cast,
    e.And: _connective,
    e.Or: _connective,
    e.Not: _not,
    e.IsNull: _is_null,
    e.IsBool: _is_bool,
    e.Case: _case,
    e.Coalesce: _coalesce,
    e.InList: _in_list,
    InSet: _in_set,
    e.OuterValue: _outer_value,
    e.Applied: _subquery,
    e.ScalarSubquery: _subquery,
    e.Exists: _subquery,
    e.InSubquery: _subquery,
}


def python_value(expr: e.Expr, ctx: ExecutionContext) -> Any:
    """The canonical Python value of an expression that reads no columns; None for null."""
    return to_python(ev(expr, Batch([], 1), ctx))[0]
