"""Comparison: =, <>, <, <=, >, >=, IS [NOT] DISTINCT FROM, GREATEST, LEAST, for every type.

Order and equality are those of keys.py (NaN greatest and equal to itself, bytewise strings, intervals by their
length in days of 24 hours and months of 30 days).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore.query import string_kernels
from filestore.query.decimal128_kernels import compare_rows
from filestore.query.keys import value_words
from filestore.query.scalar.registry import FLOATS, implement, result_size, strict
from filestore.query.vectors import (
    INT64_MAX,
    as_decimal64,
    bools,
    broadcast,
    concat,
    decimal128_rows,
    replaced,
    safe_views,
    to_decimals,
)
from filestore.storage.vector import Array, Vector
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_SWAPPED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def compare(name: str, left: Vector, right: Vector) -> Array:
    """bool[n] of `left name right`, n the longer length; null rows are arbitrary."""
    if left.type.kind is Kind.NUMERIC or right.type.kind is Kind.NUMERIC:
        return _compare_numeric(name, left, right)
    if left.type.is_view:
        return _compare_views(name, left, right)
    if left.type.width == 16:
        return _compare_words(name, value_words(left), value_words(right))
    if left.type.kind in FLOATS:
        return _compare_floats(name, left.data, right.data)
    out: Array = _OPERATORS[name](left.data, right.data if len(right) != 1 else right.data[0])
    return out


def _compare_floats(name: str, left: Array, right: Array) -> Array:
    out: Array = _OPERATORS[name](left, right)
    left_nan, right_nan = np.isnan(left), np.isnan(right)
    if not (left_nan.any() or right_nan.any()):
        return out
    # NaN is one value above all others: compare who is NaN first.
    return np.where(left_nan | right_nan, _OPERATORS[name](left_nan, right_nan), out)


def _compare_words(name: str, left: list[Array], right: list[Array]) -> Array:
    equal = left[0] == right[0]
    if name in ("eq", "ne"):
        same: Array = equal & (left[1] == right[1])
        return same if name == "eq" else ~same
    strictly = _OPERATORS[name[0] + "t"](left[0], right[0])
    out: Array = strictly | (equal & _OPERATORS[name](left[1], right[1]))
    return out


def _compare_views(name: str, left: Vector, right: Vector) -> Array:
    if len(left) == 1 and len(right) != 1:
        return _compare_views(_SWAPPED[name], right, left)
    left, right = left.plain(), right.plain()
    step = 0 if len(right) == 1 else 1
    (a, a_heap), (b, b_heap) = safe_views(left), safe_views(right)
    if name in ("eq", "ne"):
        out = np.empty(len(left), np.uint8)
        string_kernels.equal_views(a, a_heap, b, b_heap, step, out)
        return out.view(np.bool_) if name == "eq" else ~out.view(np.bool_)
    sign = np.empty(len(left), np.int8)
    string_kernels.order_views(a, a_heap, b, b_heap, step, sign)
    ordered: Array = _OPERATORS[name](sign, np.int8(0))
    return ordered


def _compare_numeric(name: str, left: Vector, right: Vector) -> Array:
    a, b = as_decimal64(left), as_decimal64(right)
    if a is not None and b is not None:
        scale = max(a.scale, b.scale)
        x, y = rescaled(a, scale), rescaled(b, scale)
        if x is not None and y is not None:
            out: Array = _OPERATORS[name](x, y if len(y) != 1 else y[0])
            return out
    operator = _OPERATORS[name]
    p, q = decimal128_rows(left), decimal128_rows(right)
    if p is not None and q is not None:
        sign = np.empty(max(len(p), len(q)) if len(p) and len(q) else 0, np.int8)
        compare_rows(p, 0 if len(p) == 1 else 1, q, 0 if len(q) == 1 else 1, sign)
        ordered: Array = operator(sign, np.int8(0))
        return ordered
    x, y = np.broadcast_arrays(to_decimals(left).data, to_decimals(right).data)
    return np.array(
        [bool(operator(_decimal_key(p), _decimal_key(q))) for p, q in zip(x.tolist(), y.tolist(), strict=True)],
        np.bool_,
    )


class _Greatest:
    """NaN's place in the order of decimals: equal to itself, above all else."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.nan = value.is_nan()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Greatest):
            return False
        return self.nan == other.nan and (self.nan or bool(self.value == other.value))

    def __hash__(self) -> int:
        return hash("NaN" if self.nan else self.value)

    def __lt__(self, other: _Greatest) -> bool:
        return not self.nan and (other.nan or bool(self.value < other.value))

    def __le__(self, other: _Greatest) -> bool:
        return other.nan or (not self.nan and bool(self.value <= other.value))

    def __gt__(self, other: _Greatest) -> bool:
        return other < self

    def __ge__(self, other: _Greatest) -> bool:
        return other <= self


def _decimal_key(value: Any) -> _Greatest:
    return _Greatest(value)


def rescaled(vector: Vector, scale: int) -> Array | None:
    """A scaled int64 vector's data at a larger scale, None when that does not fit."""
    if scale == vector.scale:
        return vector.data
    factor = 10 ** (scale - vector.scale)
    data = vector.data if vector.valid is None else np.where(vector.valid, vector.data, 0)
    if factor > INT64_MAX or (len(data) and max(int(data.max()), -int(data.min())) > INT64_MAX // factor):
        return None
    return data * np.int64(factor)


def _register(name: str) -> None:
    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        return bools(compare(name, args[0], args[1]))


for _name in _OPERATORS:
    _register(_name)


def _distinct(args: list[Vector], length: int) -> Array:
    length = result_size(args, length)
    left, right = args
    differ = compare("ne", left, right)
    left_null = np.broadcast_to(left.nulls(), length)
    right_null = np.broadcast_to(right.nulls(), length)
    distinct: Array = (left_null != right_null) | (differ & ~left_null & ~right_null)
    return distinct


@implement("distinct")
def _is_distinct(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return bools(_distinct(args, length))


@implement("not_distinct")
def _is_not_distinct(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return bools(~_distinct(args, length))


def _extreme(name: str, args: list[Vector], length: int, result: SqlType) -> Vector:
    """The first of the greatest/least arguments; nulls do not count."""
    length = result_size(args, length)
    best = broadcast(args[0], length)
    for other in args[1:]:
        other = broadcast(other, length)
        better = compare(name, other, best)
        if best.valid is not None:
            better = better | ~best.valid
        if other.valid is not None:
            better = better & other.valid
        best = merge(better, other, best, result)
    return best


@implement("greatest")
def _greatest(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return _extreme("gt", args, length, result)


@implement("least")
def _least(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return _extreme("lt", args, length, result)


def merge(choose: Array, yes: Vector, no: Vector, result: SqlType) -> Vector:
    """Rows of `yes` where `choose`, else of `no`."""
    n = len(choose)
    fixed = not result.is_view and yes.dictionary is None and no.dictionary is None
    scales = yes.scale == no.scale and yes.is_decimal64 and no.is_decimal64
    if (fixed and result.width != 16 and result.kind is not Kind.NUMERIC) or scales:
        data = np.where(choose, yes.data, no.data)
        valid = None
        if yes.valid is not None or no.valid is not None:
            valid = np.where(choose, ~yes.nulls(), ~no.nulls())
        return Vector(result, data, valid, scale=yes.scale)
    both = concat([yes, no], result)
    rows = np.arange(n) + np.where(choose, 0, n)
    taken = both.take(rows)
    return replaced(taken, None) if taken.valid is not None and taken.valid.all() else taken
