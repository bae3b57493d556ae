"""Aggregate functions as accumulators: a state per group, made from rows, merged, finished.

`start` folds one batch, `merge` joins states whose groups are renumbered by `codes` (the states' groups end to
end), `finish` gives the result column. States of successive morsels are merged in their order, so results do not
depend on which thread did what, floats included.

Sums of integers and decimals are exact: int64 inside a morsel where the values' bounds allow it, 128 bits between
morsels, Decimal objects for what does not fit. avg, variance and their kin follow numeric.c and float.c to the digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from filestore import errors
from filestore.query import aggregate_kernels as kernels
from filestore.query import decimal128_kernels as rows_of
from filestore.query import expr as e
from filestore.query.kernels import frozen
from filestore.query.keys import group, order_of, sort_words
from filestore.query.scalar import decimals
from filestore.query.scalar.moments import make_interval, scale_interval
from filestore.query.vectors import (
    EXACT,
    INT64_MAX,
    MAX_SCALE64,
    NO_VALID,
    as_decimal64,
    concat,
    decimal128_rows,
    from_decimal128,
    from_decimals,
    from_python,
    interval_fields,
    replaced,
    safe_views,
    take_or_null,
    to_decimals,
    to_python,
    typed,
)
from filestore.storage.vector import Array, Vector
from filestore.types import FLOAT8, INT8, NUMERIC, Kind, SqlType


class Accumulator(Protocol):
    """One aggregate call. Stateless: used by all threads at once."""

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> Any: ...

    def merge(self, states: Sequence[Any], codes: Array, groups: int) -> Any: ...

    def finish(self, state: Any) -> Vector: ...


def _mask(vector: Vector) -> Array:
    return NO_VALID if vector.valid is None else frozen(vector.valid)


def counts(valid: Array, codes: Array, groups: int) -> Array:
    """Rows per group; `valid` of length 0 counts all."""
    if groups == 1:
        return np.array([len(codes) if len(valid) == 0 else np.count_nonzero(valid)], np.int64)
    out = np.zeros(groups, np.int64)
    kernels.count_rows(codes, valid, out)
    return out


class Count:
    """count(*) and count(x)."""

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> Array:
        return counts(_mask(args[0]) if args else NO_VALID, codes, groups)

    def merge(self, states: Sequence[Array], codes: Array, groups: int) -> Array:
        out = np.zeros(groups, np.int64)
        kernels.sum_int64(codes, frozen(np.concatenate(states)), NO_VALID, out)
        return out

    def finish(self, state: Array) -> Vector:
        return Vector(INT8, state)


# --- exact sums ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ExactSum:
    """Sums per group: 128-bit limbs scaled by 10**scale, or Decimal objects. `count` is the number of values in
    each; `scales` the digits after the point that each sum is shown with, None when these are `scale`.
    """

    high: Array
    low: Array
    scale: int
    count: Array
    objects: Array | None = None
    scales: Array | None = None

    def decimals(self) -> list[Decimal]:
        return to_decimals(self.vector(NUMERIC, None)).data.tolist()  # type: ignore[no-any-return]

    def checked(self) -> ExactSum:
        """Itself. Errors with 22003 where a sum is beyond numeric's range."""
        if self.objects is not None:
            decimals.check_range(self.objects.tolist())
        return self

    def rows(self) -> Array:
        """The limbs as 128-bit numerics of one scale."""
        return np.stack([self.high, self.low.view(np.int64), np.full(len(self.high), self.scale)], axis=1)

    def vector(self, sql_type: SqlType, valid: Array | None) -> Vector:
        """The sums as numerics."""
        if self.objects is not None:
            return Vector(sql_type, self.objects, valid)
        if self.scales is None and (self.high == self.low.view(np.int64) >> 63).all() and self.scale <= MAX_SCALE64:
            return Vector(sql_type, self.low.view(np.int64).copy(), valid, scale=self.scale)
        if self.scales is None:
            return from_decimal128(sql_type, self.rows(), valid)
        # The digits that are taken off are zeros.
        out = np.empty((len(self.high), 3), np.int64)
        rows_of.round_rows(frozen(self.rows()), frozen(self.scales), 1, rows_of.DOWN, NO_VALID, out)
        return from_decimal128(sql_type, out, valid)


def _limbs(total: Array) -> tuple[Array, Array]:
    return total >> 63, total.view(np.uint64)


def sum_exactly(values: Array, valid: Array, scale: int, codes: Array, groups: int) -> ExactSum:
    """128-bit sums of int64 values."""
    low, high = decimals.bounds(values)
    most = max(high, -low)
    count = counts(valid, codes, groups)
    if most * max(len(values), 1) <= INT64_MAX:
        total = np.zeros(groups, np.int64)
        if groups == 1:
            total[0] = values.sum() if len(valid) == 0 else values[valid].sum()
        else:
            kernels.sum_int64(codes, frozen(values), valid, total)
        return ExactSum(*_limbs(total), scale, count)
    if len(valid):
        values = np.where(valid, values, 0)
    out_high, out_low = np.zeros(groups, np.int64), np.zeros(groups, np.uint64)
    kernels.sum_limbs(codes, frozen(values >> 63), frozen(values.view(np.uint64)), out_high, out_low)
    return ExactSum(out_high, out_low, scale, count)


def sum_objects(values: Sequence[Decimal], valid: Array, codes: Array, groups: int) -> ExactSum:
    """Sums of Decimals, row by row."""
    out: list[Decimal] = [Decimal(0)] * groups
    flags = valid.tolist() if len(valid) else [True] * len(codes)
    for g, value, ok in zip(codes.tolist(), values, flags, strict=True):
        if ok:
            out[g] = EXACT.add(out[g], value)
    objects = np.empty(groups, dtype=object)
    objects[:] = out
    zero = np.zeros(groups, np.int64)
    return ExactSum(zero, zero.view(np.uint64), 0, counts(valid, codes, groups), objects)


def sum_rows(rows: Array, valid: Array, codes: Array, groups: int) -> ExactSum | None:
    """Sums of 128-bit numerics, each shown with the most digits of its values; None when one outgrows 128 bits."""
    scale = int(rows_of.largest_scale(rows, valid))
    high, low, scales = np.zeros(groups, np.int64), np.zeros(groups, np.uint64), np.zeros(groups, np.int64)
    if rows_of.sum_rows(codes, rows, valid, scale, high, low, scales) != rows_of.FITS:
        return None
    return ExactSum(high, low, scale, counts(valid, codes, groups), None, scales)


def start_sum(vector: Vector, codes: Array, groups: int) -> ExactSum:
    """Exact sums of an integer or numeric vector."""
    if vector.type.kind is not Kind.NUMERIC:
        return sum_exactly(vector.data.astype(np.int64, copy=False), _mask(vector), 0, codes, groups)
    narrow = as_decimal64(vector)
    if narrow is not None:
        return sum_exactly(np.ascontiguousarray(narrow.data), _mask(vector), narrow.scale, codes, groups)
    rows = decimal128_rows(vector)
    found = None if rows is None else sum_rows(rows, _mask(vector), codes, groups)
    return found or sum_objects(to_decimals(vector).data.tolist(), _mask(vector), codes, groups)


def merge_sums(states: Sequence[ExactSum], codes: Array, groups: int) -> ExactSum:
    """Sums of sums."""
    count = np.zeros(groups, np.int64)
    kernels.sum_int64(codes, frozen(np.concatenate([s.count for s in states])), NO_VALID, count)
    used = [s for s in states if s.count.any()]
    if all(s.objects is None and s.scales is None for s in used) and len({s.scale for s in used}) <= 1:
        scale = used[0].scale if used else 0
        high, low = np.zeros(groups, np.int64), np.zeros(groups, np.uint64)
        parts = frozen(np.concatenate([s.high for s in states])), frozen(np.concatenate([s.low for s in states]))
        kernels.sum_limbs(codes, *parts, high, low)
        return ExactSum(high, low, scale, count)
    flags = np.concatenate([s.count > 0 for s in states])
    if all(s.objects is None for s in used):
        rows = decimal128_rows(concat([s.vector(NUMERIC, s.count > 0) for s in states]))
        found = None if rows is None else sum_rows(rows, frozen(flags), codes, groups)
        if found is not None:
            found.count = count
            return found
    out = sum_objects([d for s in states for d in s.decimals()], flags, codes, groups)
    out.count = count
    return out


class Sum:
    """sum of integers and numerics; null for no values."""

    def __init__(self, result: SqlType) -> None:
        self.result = result

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> ExactSum:
        return start_sum(args[0], codes, groups)

    def merge(self, states: Sequence[ExactSum], codes: Array, groups: int) -> ExactSum:
        return merge_sums(states, codes, groups)

    def finish(self, state: ExactSum) -> Vector:
        some = state.count > 0
        out = state.checked().vector(self.result, None if some.all() else some)
        if self.result.kind is Kind.INT8 and out.data.dtype != np.int64:
            raise errors.NumericOutOfRange("bigint out of range")
        return out


class Average:
    """avg of integers and numerics: the exact sum, divided as numeric_div does."""

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> ExactSum:
        return start_sum(args[0], codes, groups)

    def merge(self, states: Sequence[ExactSum], codes: Array, groups: int) -> ExactSum:
        return merge_sums(states, codes, groups)

    def finish(self, state: ExactSum) -> Vector:
        some = state.count > 0
        valid = None if some.all() else some
        pair = [state.checked().vector(NUMERIC, valid), Vector(NUMERIC, state.count, valid)]
        return replaced(decimals.by_rows("div", pair, len(some), NUMERIC), valid)


class Spread:
    """Variance and standard deviation of integers and numerics, as numeric_stddev_internal."""

    def __init__(self, sample: bool, root: bool) -> None:
        self.sample = sample
        self.root = root

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> tuple[ExactSum, ExactSum]:
        vector = args[0]
        if vector.type.kind is not Kind.NUMERIC:
            vector = Vector(NUMERIC, vector.data.astype(np.int64), vector.valid)
        total = start_sum(vector, codes, groups)
        narrow = as_decimal64(vector)
        if narrow is not None:
            low, high = decimals.bounds(narrow.data)
            if max(high, -low) < 2**31:
                squares = narrow.data * narrow.data
                return total, sum_exactly(squares, _mask(vector), 2 * narrow.scale, codes, groups)
        return total, start_sum(decimals.by_rows("mul", [vector, vector], len(vector), NUMERIC), codes, groups)

    def merge(
        self, states: Sequence[tuple[ExactSum, ExactSum]], codes: Array, groups: int
    ) -> tuple[ExactSum, ExactSum]:
        totals, squares = [s[0] for s in states], [s[1] for s in states]
        return merge_sums(totals, codes, groups), merge_sums(squares, codes, groups)

    def finish(self, state: tuple[ExactSum, ExactSum]) -> Vector:
        total, squares = state
        rows = zip(total.decimals(), squares.decimals(), total.count.tolist(), strict=True)
        values = [self._value(t, s, n) for t, s, n in rows]
        valid = np.array([v is not None for v in values], np.bool_)
        return from_decimals(NUMERIC, values, None if valid.all() else valid)

    def _value(self, total: Decimal, squares: Decimal, n: int) -> Decimal | None:
        if n == 0 or (self.sample and n == 1):
            return None
        if not total.is_finite():
            return Decimal("NaN")
        spread = EXACT.subtract(EXACT.multiply(squares, Decimal(n)), EXACT.multiply(total, total))
        if spread <= 0:
            return Decimal(0)
        divisor = Decimal(n * (n - 1) if self.sample else n * n)
        scale = decimals.division_scale(spread, divisor)
        value = decimals.divide(spread, divisor)
        if self.root:
            value = decimals.rounded(decimals.WORKING.sqrt(value), scale)
        return value


# --- floats and intervals --------------------------------------------------------------------------------------------


class FloatSum:
    """sum of floats, in row order; float4 is summed in double precision and rounded once."""

    def __init__(self, result: SqlType) -> None:
        self.result = result

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> tuple[Array, Array]:
        out = np.zeros(groups, np.float64)
        kernels.sum_floats(codes, frozen(args[0].data.astype(np.float64, copy=False)), _mask(args[0]), out)
        return out, counts(_mask(args[0]), codes, groups)

    def merge(self, states: Sequence[tuple[Array, Array]], codes: Array, groups: int) -> tuple[Array, Array]:
        total, count = np.zeros(groups, np.float64), np.zeros(groups, np.int64)
        kernels.sum_floats(codes, frozen(np.concatenate([s[0] for s in states])), NO_VALID, total)
        kernels.sum_int64(codes, frozen(np.concatenate([s[1] for s in states])), NO_VALID, count)
        return total, count

    def finish(self, state: tuple[Array, Array]) -> Vector:
        total, count = state
        with np.errstate(over="ignore"):
            return Vector(self.result, total.astype(self.result.dtype), None if (count > 0).all() else count > 0)


class FloatSpread:
    """avg, variance and standard deviation of floats over (N, Sx, Sxx)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> tuple[Array, Array, Array]:
        count, total, squares = (np.zeros(groups, np.float64) for _ in range(3))
        values = frozen(args[0].data.astype(np.float64, copy=False))
        kernels.spread_floats(codes, values, _mask(args[0]), count, total, squares)
        return count, total, squares

    def merge(
        self, states: Sequence[tuple[Array, Array, Array]], codes: Array, groups: int
    ) -> tuple[Array, Array, Array]:
        count, total, squares = (np.zeros(groups, np.float64) for _ in range(3))
        counts_, totals, spreads = (frozen(np.concatenate([s[k] for s in states])) for k in range(3))
        kernels.merge_spreads(codes, counts_, totals, spreads, count, total, squares)
        return count, total, squares

    def finish(self, state: tuple[Array, Array, Array]) -> Vector:
        count, total, squares = state
        least = 2.0 if self.name.endswith("samp") else 1.0
        with np.errstate(all="ignore"):
            if self.name == "avg":
                out = total / count
            else:
                out = squares / (count - 1.0 if self.name.endswith("samp") else count)
                if self.name.startswith("stddev"):
                    out = np.sqrt(out)
        some = count >= least
        return Vector(FLOAT8, np.where(some, out, 0.0), None if some.all() else some)


class IntervalSum:
    """sum and avg of intervals, field by field."""

    def __init__(self, result: SqlType, average: bool) -> None:
        self.result = result
        self.average = average

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> list[Array]:
        out = []
        for field in interval_fields(args[0]):
            total = np.zeros(groups, np.int64)
            kernels.sum_int64(codes, frozen(field), _mask(args[0]), total)
            out.append(total)
        return [*out, counts(_mask(args[0]), codes, groups)]

    def merge(self, states: Sequence[list[Array]], codes: Array, groups: int) -> list[Array]:
        out = []
        for k in range(4):
            total = np.zeros(groups, np.int64)
            kernels.sum_int64(codes, frozen(np.concatenate([s[k] for s in states])), NO_VALID, total)
            out.append(total)
        return out

    def finish(self, state: list[Array]) -> Vector:
        months, days, micros, count = state
        out = make_interval(months, days, micros, self.result)
        if self.average:
            out = scale_interval(out, 1.0 / np.maximum(count, 1), self.result)
        return replaced(out, None if (count > 0).all() else count > 0)


# --- extremes, booleans, strings -------------------------------------------------------------------------------------


class Extreme:
    """min and max of any ordered type; bool_and and bool_or are the least and greatest boolean."""

    def __init__(self, greatest: bool, result: SqlType) -> None:
        self.greatest = greatest
        self.result = result

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> Vector:
        vector = args[0]
        best = np.full(groups, -1, np.int64)
        valid = _mask(vector)
        if vector.type.is_view and vector.type.kind is not Kind.NUMERIC and vector.dictionary is None:
            kernels.extreme_views(codes, *safe_views(vector), valid, self.greatest, best)
        else:
            words = [frozen(w) for w in sort_words(vector)]
            second = words[1] if len(words) > 1 else frozen(np.empty(0, np.int64))
            kernels.extreme_words(codes, words[0], second, valid, self.greatest, best)
        out = take_or_null(vector, best)
        return replaced(out, None) if out.valid is not None and out.valid.all() else out

    def merge(self, states: Sequence[Vector], codes: Array, groups: int) -> Vector:
        return self.start([concat(list(states))], codes, groups)

    def finish(self, state: Vector) -> Vector:
        return typed(state, self.result)


class Bits:
    """bit_and, bit_or and bit_xor of integers; null for no values."""

    def __init__(self, name: str, result: SqlType) -> None:
        self.fold = {"bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor}[name]
        self.start_value = -1 if name == "bit_and" else 0
        self.result = result

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> Vector:
        vector = args[0] if len(args[0]) == len(codes) else args[0].take(np.zeros(len(codes), np.intp))
        data = vector.data
        if vector.valid is not None:
            data, codes = data[vector.valid], codes[vector.valid]
        out = np.full(groups, self.start_value, self.result.dtype)
        self.fold.at(out, codes, data)
        return Vector(self.result, out, counts(NO_VALID, codes, groups) > 0)

    def merge(self, states: Sequence[Vector], codes: Array, groups: int) -> Vector:
        return self.start([concat(list(states))], codes, groups)

    def finish(self, state: Vector) -> Vector:
        return replaced(state, None) if state.valid is not None and state.valid.all() else state


class StringAgg:
    """string_agg(value, delimiter): in row order; each value's own delimiter stands before it, the first one's is
    left out.
    """

    def __init__(self, result: SqlType) -> None:
        self.result = result
        self.empty: Any = b"" if result.kind is Kind.BYTEA else ""

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> tuple[list[Any], list[Any]]:
        delimiters = to_python(args[1])
        values = to_python(args[0])
        if len(delimiters) == 1:
            delimiters = delimiters * len(values)
        pieces = [(g, v, d) for g, v, d in zip(codes.tolist(), values, delimiters, strict=True) if v is not None]
        return self._joined(pieces, groups)

    def merge(
        self, states: Sequence[tuple[list[Any], list[Any]]], codes: Array, groups: int
    ) -> tuple[list[Any], list[Any]]:
        texts = [t for s in states for t in s[0]]
        firsts = [f for s in states for f in s[1]]
        pieces = [(g, t, f) for g, t, f in zip(codes.tolist(), texts, firsts, strict=True) if t is not None]
        return self._joined(pieces, groups)

    def _joined(self, pieces: list[tuple[int, Any, Any]], groups: int) -> tuple[list[Any], list[Any]]:
        parts: list[list[Any]] = [[] for _ in range(groups)]
        firsts: list[Any] = [None] * groups
        for g, value, delimiter in pieces:
            if parts[g]:
                parts[g].append(delimiter if delimiter is not None else self.empty)
            else:
                firsts[g] = delimiter
            parts[g].append(value)
        return [self.empty.join(p) if p else None for p in parts], firsts

    def finish(self, state: tuple[list[Any], list[Any]]) -> Vector:
        return from_python(self.result, state[0])


@dataclass(slots=True)
class KeptRows:
    """The argument rows of every group, sort keys with them."""

    codes: Array
    args: list[Vector]
    groups: int


class RowsAggregate:
    """Any aggregate over rows that are kept until all are there: those with distinct arguments, or in an order of
    their own. Rows whose first argument is null do not count. The last of the arguments are the keys of `order`.
    """

    def __init__(self, inner: Accumulator, distinct: bool, order: Sequence[tuple[bool, bool]]) -> None:
        self.inner = inner
        self.distinct = distinct
        self.order = order

    def start(self, args: Sequence[Vector], codes: Array, groups: int) -> KeptRows:
        columns = [a if len(a) == len(codes) else a.take(np.zeros(len(codes), np.intp)) for a in args]
        if columns[0].valid is not None:
            rows = np.flatnonzero(columns[0].valid)
            columns, codes = [c.take(rows) for c in columns], codes[rows]
        if self.distinct:
            firsts = group([Vector(INT8, codes), *columns], len(codes)).firsts
            columns, codes = [c.take(firsts) for c in columns], codes[firsts]
        return KeptRows(codes, columns, groups)

    def merge(self, states: Sequence[KeptRows], codes: Array, groups: int) -> KeptRows:
        mapped, base = [], 0
        for state in states:
            mapped.append(codes[base : base + state.groups][state.codes])
            base += state.groups
        columns = [concat([s.args[k] for s in states]) for k in range(len(states[0].args))]
        return self.start(columns, np.concatenate(mapped), groups)

    def finish(self, state: KeptRows) -> Vector:
        count = len(state.args) - len(self.order)
        args, codes = state.args[:count], state.codes
        keys = [(v, *way) for v, way in zip(state.args[count:], self.order, strict=True)]
        if self.distinct and isinstance(self.inner, StringAgg):
            # PostgreSQL sorts to find what is distinct, and so joins the strings in that order
            keys += [(a, False, False) for a in args]
        if keys:
            order = order_of([(Vector(INT8, codes), False, False), *keys], len(codes))
            args, codes = [a.take(order) for a in args], codes[order]
        return self.inner.finish(self.inner.start(args, codes, state.groups))


def accumulator(call: e.Aggregate) -> Accumulator:
    """The accumulator of an aggregate call."""
    made = _plain_accumulator(call.name, call.args[0].type if call.args else None, call.type)
    distinct = call.distinct and call.name not in ("min", "max", "bool_and", "bool_or")
    return RowsAggregate(made, distinct, call.order) if distinct or call.order else made


def _plain_accumulator(name: str, argument: SqlType | None, result: SqlType) -> Accumulator:
    floats = argument is not None and argument.kind in (Kind.FLOAT4, Kind.FLOAT8)
    interval = argument is not None and argument.kind is Kind.INTERVAL
    match name:
        case "count_star" | "count":
            return Count()
        case "sum" | "avg" if interval:
            return IntervalSum(result, name == "avg")
        case "sum":
            return FloatSum(result) if floats else Sum(result)
        case "avg":
            return FloatSpread("avg") if floats else Average()
        case "min" | "max":
            return Extreme(name == "max", result)
        case "bool_and" | "bool_or":
            return Extreme(name == "bool_or", result)
        case "stddev_samp" | "stddev_pop" | "var_samp" | "var_pop":
            return FloatSpread(name) if floats else Spread(name.endswith("samp"), name.startswith("stddev"))
        case "bit_and" | "bit_or" | "bit_xor":
            return Bits(name, result)
        case "string_agg":
            return StringAgg(result)
    raise errors.InternalError(f"no accumulator for aggregate {name}")
