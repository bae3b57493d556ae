"""Mathematical functions of integers, floats and numerics, with PostgreSQL's rounding and errors."""

from __future__ import annotations

import decimal
import math
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors
from filestore.query.scalar import decimals
from filestore.query.scalar.arithmetic import INTEGER_BOUNDS, check_floats, check_underflow, out_of_range
from filestore.query.scalar.registry import FLOATS, checked, implement, result_size, strict
from filestore.query.vectors import EXACT, broadcast, from_python, per_value, to_decimals
from filestore.storage.vector import Vector
from filestore.types import INTEGER_KINDS, Kind, SqlType

if TYPE_CHECKING:
    from collections.abc import Callable

    from filestore.query.context import ExecutionContext


@strict("abs")
def _abs(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    vector = args[0]
    if result.kind is Kind.NUMERIC:
        return decimals.absolute(args, length, result)
    if result.kind in INTEGER_KINDS:
        least = vector.data == -INTEGER_BOUNDS[result.kind]
        if (least if vector.valid is None else least & vector.valid).any():
            raise out_of_range(result.kind)
    return Vector(result, np.abs(vector.data))


@strict("sign")
def _sign(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    if result.kind is Kind.NUMERIC:
        return decimals.sign(args, length, result)
    data = np.sign(args[0].data)
    return Vector(result, np.where(np.isnan(data), 0.0, data))  # as PostgreSQL has it


def _rounding(name: str, mode: str, ufunc: Callable[[Any], Any]) -> None:
    """A rounding to whole numbers, or for numerics to a number of digits."""

    @checked(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        if result.kind in FLOATS:
            return Vector(result, ufunc(args[0].data))
        places = args[1].data if len(args) > 1 else np.zeros(1, np.int64)
        return decimals.rounded_vector(broadcast(args[0], length), places, result, mode)


_rounding("round", decimal.ROUND_HALF_UP, np.rint)
_rounding("trunc", decimal.ROUND_DOWN, np.trunc)
_rounding("ceil", decimal.ROUND_CEILING, np.ceil)
_rounding("floor", decimal.ROUND_FLOOR, np.floor)


def _float_or_numeric(name: str, floats: Callable[[Any], Any], exact: Callable[[Decimal], Decimal]) -> None:
    @checked(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        if result.kind is Kind.NUMERIC:
            return decimals.by_objects(args, length, result, exact)
        with np.errstate(all="ignore"):
            out = floats(args[0].data)
        check_floats(out, np.isfinite(args[0].data), None)
        if name == "exp":
            check_underflow(out, np.isfinite(args[0].data), None)
        return Vector(result, out)


def _square_root(data: Any) -> Any:
    if (data < 0).any():
        raise errors.InvalidPowerArgument("cannot take square root of a negative number")
    return np.sqrt(data)


def _positive(data: Any) -> Any:
    if (data == 0).any():
        raise errors.InvalidLogarithmArgument("cannot take logarithm of zero")
    if (data < 0).any():
        raise errors.InvalidLogarithmArgument("cannot take logarithm of a negative number")
    return data


_float_or_numeric("sqrt", _square_root, decimals.square_root)
_float_or_numeric("ln", lambda d: np.log(_positive(d)), decimals.logarithm)
_float_or_numeric("exp", np.exp, decimals.exponential)


@checked("log")
def _log(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    if result.kind is not Kind.NUMERIC:
        return Vector(result, np.log10(_positive(args[0].data)))
    if len(args) == 1:
        return decimals.by_objects(args, length, result, lambda v: decimals.logarithm_to(Decimal(10), v))
    return decimals.by_objects(args, length, result, decimals.logarithm_to)


@checked("cbrt")
def _cbrt(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.array([math.cbrt(v) for v in args[0].data.tolist()]))


@checked("pow")
def _power(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    if result.kind is Kind.NUMERIC:
        return decimals.by_objects(args, length, result, decimals.power)
    base, exponent = args[0].data, args[1].data
    if ((base == 0) & (exponent < 0)).any():
        raise errors.InvalidPowerArgument("zero raised to a negative power is undefined")
    if ((base < 0) & np.isfinite(exponent) & (exponent != np.floor(exponent)) & np.isfinite(base)).any():
        raise errors.InvalidPowerArgument("a negative number raised to a non-integer power yields a complex result")
    with np.errstate(all="ignore"):
        out = np.power(base, exponent)
    finite = np.isfinite(base) & np.isfinite(exponent)
    check_floats(out, finite, None)
    check_underflow(out, finite & (base != 0), None)
    return Vector(result, out)


@implement("pi")
def _pi(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.full(1, math.pi))


@implement("random")
def _random(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.random.default_rng(random.SystemRandom().getrandbits(64)).random(length))


# --- numerics by their digits ----------------------------------------------------------------------------------------


def _quotient(left: Decimal, right: Decimal) -> Decimal:
    if left.is_nan() or right.is_nan():
        return Decimal("NaN")
    if not right:
        raise errors.DivisionByZero("division by zero")
    if not left.is_finite():
        return left * (1 if right > 0 else -1) if right.is_finite() else Decimal("NaN")
    return decimals.positive_zero(EXACT.divide_int(left, right)) if right.is_finite() else Decimal(0)


@checked("quotient")
def _div(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return decimals.by_objects(args, length, result, _quotient)


def _common(name: str, integers: Callable[[int, int], int]) -> None:
    """gcd or lcm. Numerics are looked at as integers at the larger of their scales."""

    def exact(left: Decimal, right: Decimal) -> Decimal:
        if not (left.is_finite() and right.is_finite()):
            return Decimal("NaN")
        scale = max(decimals.display_scale(left), decimals.display_scale(right))
        pair = (int(EXACT.scaleb(v, scale)) for v in (left, right))
        return EXACT.scaleb(Decimal(integers(*pair)), -scale)

    @checked(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        if result.kind is Kind.NUMERIC:
            return decimals.by_objects(args, length, result, exact)
        pairs = zip(*(broadcast(a, length).data.tolist() for a in args), strict=True)
        values = [integers(a, b) for a, b in pairs]
        if values and max(values) >= INTEGER_BOUNDS[result.kind]:
            raise out_of_range(result.kind)
        return Vector(result, np.array(values, result.dtype))


_common("gcd", math.gcd)
_common("lcm", math.lcm)

FACTORIAL_MAX = 32177  # that of the next number has too many digits for a numeric


def _factorial_of(number: int) -> Decimal:
    if number < 0:
        raise errors.NumericOutOfRange("factorial of a negative number is undefined")
    if number > FACTORIAL_MAX:
        raise errors.NumericOutOfRange("value overflows numeric format")
    return Decimal(math.factorial(number))


@checked("factorial")
def _factorial(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, _factorial_of)


def _least_scale(value: Decimal) -> int:
    """Digits behind the point up to the last that is not zero."""
    return max(-int(value.normalize(EXACT).as_tuple().exponent), 0)


def _scale(name: str, digits: Callable[[Decimal], int]) -> None:
    @checked(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        values = to_decimals(args[0]).data.tolist()
        return from_python(result, [digits(v) if v.is_finite() else None for v in values])


_scale("scale", decimals.display_scale)
_scale("min_scale", _least_scale)


def _trimmed(value: Decimal) -> Decimal:
    return EXACT.quantize(value, Decimal((0, (1,), -_least_scale(value)))) if value.is_finite() else value


@checked("trim_scale")
def _trim_scale(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return decimals.by_objects(args, length, result, _trimmed)


def _counting(name: str, nulls: bool) -> None:
    """How many of the arguments are null, or are not."""

    @implement(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        size = result_size(args, length)
        out = np.zeros(size, np.int32)
        for vector in args:
            valid = np.ones(1, np.bool_) if vector.valid is None else vector.valid
            out += valid != nulls
        return Vector(result, out)


_counting("num_nulls", True)
_counting("num_nonnulls", False)
