"""Trigonometric and hyperbolic functions of float8, value by value by the C library's, as PostgreSQL computes them:
numpy's vectorised ones differ in the last digit.

Source: PostgreSQL 15, 9.3; src/backend/utils/adt/float.c.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.query.scalar.arithmetic import check_floats, check_underflow
from filestore.query.scalar.registry import checked
from filestore.query.vectors import broadcast
from filestore.storage.vector import Vector
from filestore.types import SqlType

if TYPE_CHECKING:
    from collections.abc import Callable

    from filestore.query.context import ExecutionContext

RADIANS_PER_DEGREE = 0.0174532925199432957692


def _function(name: str, function: Callable[..., float]) -> None:
    """A function of one or two floats that raises ValueError outside of its domain. Errors with 22003 there."""

    @checked(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        columns = [broadcast(a, length).data.tolist() for a in args]
        try:
            return Vector(result, np.array([function(*row) for row in zip(*columns, strict=True)], np.float64))
        except ValueError:
            raise errors.NumericOutOfRange("input is out of range") from None


def _cotangent(value: float) -> float:
    tangent = math.tan(value)
    return 1.0 / tangent if tangent else math.copysign(math.inf, tangent)


def _unbounded(function: Callable[[float], float], odd: bool) -> Callable[[float], float]:
    """`function`, infinite where it outgrows a float."""

    def run(value: float) -> float:
        try:
            return function(value)
        except OverflowError:
            return math.copysign(math.inf, value) if odd else math.inf

    return run


def _area_tangent(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) == 1 else math.atanh(value)


_function("sin", math.sin)
_function("cos", math.cos)
_function("tan", math.tan)
_function("cot", _cotangent)
_function("asin", math.asin)
_function("acos", math.acos)
_function("atan", math.atan)
_function("atan2", math.atan2)
_function("sinh", _unbounded(math.sinh, True))
_function("cosh", _unbounded(math.cosh, False))
_function("tanh", math.tanh)
_function("asinh", math.asinh)
_function("acosh", math.acosh)
_function("atanh", _area_tangent)


@checked("degrees")
def _degrees(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    data = args[0].data
    with np.errstate(all="ignore"):
        out = data / RADIANS_PER_DEGREE
    check_floats(out, np.isfinite(data), None)
    return Vector(result, out)


@checked("radians")
def _radians(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    data = args[0].data
    with np.errstate(all="ignore"):
        out = data * RADIANS_PER_DEGREE
    check_underflow(out, np.isfinite(data) & (data != 0), None)
    return Vector(result, out)
