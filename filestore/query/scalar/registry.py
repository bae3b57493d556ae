"""The table of implementations: what a bound `Call` runs, by the name that functions.py gives it.

An implementation takes vectors of the batch's length or, for constants, of length 1, and returns the same: a
result of length 1 only when all arguments have it. `strict` adds the rule that a null argument makes a null
result. A function that may fail must not look at null rows: `checked` hands it the others only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from filestore.query.vectors import ZERO, all_valid, empty_values, null_vector, replaced
from filestore.storage.vector import Array, Vector
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

Implementation = Callable[[list[Vector], int, SqlType, "ExecutionContext"], Vector]

IMPLEMENTATIONS: dict[str, Implementation] = {}


def implement(*names: str) -> Callable[[Implementation], Implementation]:
    """Registers an implementation that sees to nulls itself."""

    def register(function: Implementation) -> Implementation:
        for name in names:
            IMPLEMENTATIONS[name] = function
        return function

    return register


def strict(*names: str) -> Callable[[Implementation], Implementation]:
    """Registers a function that may look at null rows but whose result there does not count."""

    def register(function: Implementation) -> Implementation:
        def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
            size = result_size(args, length)
            out = function(args, size, result, ctx)
            valid = all_valid([*args, out], len(out))
            return out if valid is out.valid else replaced(out, valid)

        return implement(*names)(run)

    return register


def checked(*names: str) -> Callable[[Implementation], Implementation]:
    """Registers a function that is shown only rows where no argument is null."""

    def register(function: Implementation) -> Implementation:
        def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
            size = result_size(args, length)
            valid = all_valid(args, size)
            if valid is None or valid.all():
                return function([a if a.valid is None else replaced(a, None) for a in args], size, result, ctx)
            rows = np.flatnonzero(valid)
            if len(rows) == 0:
                return null_vector(result, size)
            some = [replaced(a if len(a) != size else a.take(rows), None) for a in args]
            return scattered(function(some, len(rows), result, ctx), rows, size)

        return implement(*names)(run)

    return register


def result_size(args: Sequence[Vector], length: int) -> int:
    """`length`, or 1 when all arguments are constants."""
    return length if not args or any(len(a) != 1 for a in args) else min(length, 1)


def scattered(vector: Vector, rows: Array, length: int) -> Vector:
    """A vector of `length` rows holding `vector` at `rows` and nulls elsewhere."""
    valid = np.zeros(length, np.bool_)
    valid[rows] = True if vector.valid is None else vector.valid
    if len(vector) == 1 and len(rows) != 1:
        vector = vector.take(np.zeros(len(rows), np.intp))
    if vector.data.dtype == object:
        data: Array = np.full(length, ZERO, dtype=object)
    else:
        data = np.zeros((length, *vector.data.shape[1:]), vector.data.dtype)
    data[rows] = vector.data
    return Vector(vector.type, data, valid, vector.heap, vector.scale, vector.dictionary)


def constant_bytes(vector: Vector) -> bytes | None:
    """The bytes of a constant string; None when the vector is not one."""
    return vector.strings()[0] if len(vector) == 1 else None


def zero(sql_type: SqlType) -> Vector:
    """One zero value."""
    return empty_values(sql_type, 1)


FLOATS = frozenset({Kind.FLOAT4, Kind.FLOAT8})
