"""+ - * / % and unary minus of integers, floats and numerics, with PostgreSQL's errors: an overflow or a zero
divisor is never silent.

Integers are first checked by the intervals their vectors span (two fast passes); only where those could leave the
type is each row looked at. Dates and intervals have the same operators in `dates.py`, which is asked first by type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.query.scalar import decimals
from filestore.query.scalar.moments import moment_arithmetic
from filestore.query.scalar.registry import FLOATS, checked, strict
from filestore.query.vectors import all_valid
from filestore.storage.vector import Array, Vector
from filestore.types import INTEGER_KINDS, Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

INTEGER_BOUNDS = {Kind.INT2: 2**15, Kind.INT4: 2**31, Kind.INT8: 2**63}
_UFUNCS = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def out_of_range(kind: Kind) -> errors.NumericOutOfRange:
    return errors.NumericOutOfRange(f"{kind.value} out of range")


def _register(name: str) -> None:
    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
        return _arithmetic(name, args, length, result, ctx)


def _arithmetic(name: str, args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    left, right = args
    kind = result.kind
    if kind in INTEGER_KINDS and left.type.kind in INTEGER_KINDS:
        return Vector(result, _integers(name, left, right, length, result))
    if kind in FLOATS:
        return Vector(result, _floats(name, left, right, length))
    if kind is Kind.NUMERIC:
        return decimals.arithmetic(name, args, length, result)
    return moment_arithmetic(name, args, length, result, ctx)


for _name in _UFUNCS:
    _register(_name)


def _integers(name: str, left: Vector, right: Vector, length: int, result: SqlType) -> Array:
    kind = result.kind
    low, high = decimals.result_bounds(name, decimals.bounds(left.data), decimals.bounds(right.data))
    bound = INTEGER_BOUNDS[kind]
    if -bound <= low and high < bound:
        out: Array = _UFUNCS[name](left.data, right.data)
        return out
    valid = all_valid([left, right], length)
    wide = decimals.exact_int64(name, left.data.astype(np.int64), right.data.astype(np.int64), valid)
    if wide is None:
        raise out_of_range(kind)
    return narrowed(wide, valid, kind, result)


def narrowed(wide: Array, valid: Array | None, kind: Kind, result: SqlType) -> Array:
    """int64 values as the type stores them. Errors with 22003 when a valid one does not fit."""
    bound = INTEGER_BOUNDS[kind]
    if kind is not Kind.INT8:
        outside = (wide < -bound) | (wide >= bound)
        if (outside if valid is None else outside & valid).any():
            raise out_of_range(kind)
    return wide.astype(result.dtype, copy=False)


def _floats(name: str, left: Vector, right: Vector, length: int) -> Array:
    a, b = left.data, right.data
    with np.errstate(all="ignore"):
        out: Array = _UFUNCS[name](a, b)
    check_floats(out, np.isfinite(a) & np.isfinite(b), all_valid([left, right], length))
    if name == "mul":
        check_underflow(out, (a != 0) & (b != 0), all_valid([left, right], length))
    return out


def check_floats(out: Array, finite: Array, valid: Array | None) -> None:
    """Errors with 22003 where finite operands made an infinite result."""
    bad = np.isinf(out) & finite
    if bad.any() and (bad if valid is None else bad & valid).any():
        raise errors.NumericOutOfRange("value out of range: overflow")


def check_underflow(out: Array, nonzero: Array, valid: Array | None) -> None:
    """Errors with 22003 where nonzero operands made a zero."""
    bad = (out == 0) & nonzero
    if bad.any() and (bad if valid is None else bad & valid).any():
        raise errors.NumericOutOfRange("value out of range: underflow")


@checked("div")
def _div(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    left, right = args
    kind = result.kind
    if kind is Kind.NUMERIC:
        return decimals.by_rows("div", args, length, result)
    if kind not in FLOATS and kind not in INTEGER_KINDS:
        return moment_arithmetic("div", args, length, result, ctx)
    if (right.data == 0).any() and length:
        zero = right.data == 0
        if kind not in FLOATS or (zero & ~np.isnan(left.data)).any():
            raise errors.DivisionByZero("division by zero")
    if kind in FLOATS:
        with np.errstate(all="ignore"):
            out = left.data / right.data
        check_floats(out, np.isfinite(left.data) & (right.data != 0), None)
        check_underflow(out, (left.data != 0) & np.isfinite(left.data) & np.isfinite(right.data), None)
        return Vector(result, out)
    a, b = left.data, right.data
    if len(b) and b.min() < 0 and len(a) and ((a == -INTEGER_BOUNDS[kind]) & (b == -1)).any():
        raise out_of_range(kind)
    quotient = a // b
    rest = a - quotient * b
    # SQL truncates towards zero, numpy floors
    return Vector(result, quotient + ((rest != 0) & ((a < 0) != (b < 0))).astype(quotient.dtype))


@checked("mod")
def _mod(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    left, right = args
    if result.kind is Kind.NUMERIC:
        return decimals.by_rows("mod", args, length, result)
    if length and (right.data == 0).any():
        raise errors.DivisionByZero("division by zero")
    divisor = np.where(right.data == -1, right.data.dtype.type(1), right.data)  # x % -1 traps for the least x
    return Vector(result, np.fmod(left.data, divisor))


@strict("neg")
def _neg(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    vector = args[0]
    if result.kind is Kind.NUMERIC:
        return decimals.negate(args, length, result)
    if result.kind is Kind.INTERVAL:
        return moment_arithmetic("neg", args, length, result, ctx)
    if result.kind in INTEGER_KINDS:
        least = vector.data == -INTEGER_BOUNDS[result.kind]
        if (least if vector.valid is None else least & vector.valid).any():
            raise out_of_range(result.kind)
    return Vector(result, -vector.data)


def _register_bits(name: str) -> None:
    ufunc = {"bitand": np.bitwise_and, "bitor": np.bitwise_or, "bitxor": np.bitwise_xor}[name]

    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        return Vector(result, ufunc(args[0].data, args[1].data))


for _name in ("bitand", "bitor", "bitxor"):
    _register_bits(_name)


@strict("bitnot")
def _bitnot(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, ~args[0].data)


@strict("shl")
def _shl(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.left_shift(args[0].data, _shift(args[1], result)).astype(result.dtype))


@strict("shr")
def _shr(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.right_shift(args[0].data, _shift(args[1], result)).astype(result.dtype))


def _shift(amount: Vector, result: SqlType) -> Array:
    # as x86 does for the type's width (PostgreSQL leaves it to the machine); int2 is shifted as int4
    return (amount.data & (63 if result.kind is Kind.INT8 else 31)).astype(result.dtype)
