"""Functions that ask the session, the registry or the clock; their values come from
`ExecutionContext.session_function`.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors, types
from filestore.hal import process
from filestore.query.catalog_functions import NULL_ARGUMENTS, SESSION_FUNCTIONS
from filestore.query.scalar.moments import DAY_US, local_of, zone_of
from filestore.query.scalar.registry import implement, result_size
from filestore.query.vectors import broadcast, from_python, per_value, to_python
from filestore.storage.vector import Vector
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

NAMES = [
    *(name for names, _, _ in SESSION_FUNCTIONS for name in names.split()),
    *("current_user", "session_user"),
]


def _register(name: str) -> None:
    @implement(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
        if not args:
            return from_python(result, [ctx.session_function(name, ())])
        if name not in NULL_ARGUMENTS:
            return per_value(args, length, result, lambda *row: ctx.session_function(name, row))
        size = result_size(args, length)
        columns = [to_python(a) for a in args]
        rows = zip(*(c * size if len(c) != size else c for c in columns), strict=True)
        return from_python(result, [ctx.session_function(name, row) for row in rows])


for _name in NAMES:
    _register(_name)


@implement("pg_sleep")
def _sleep(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    if ctx.pool.holds_lock():  # as in a CHECK, which is looked at while everybody waits
        raise errors.FeatureNotSupported("pg_sleep() in this place is not supported", hint="Call it in a SELECT.")
    rows: list[str | None] = []
    for seconds in to_python(broadcast(args[0], length)):  # for every row anew, alike or not
        if seconds is not None:
            ctx.cancel.sleep(seconds)
        rows.append(None if seconds is None else "")
    return from_python(result, rows)


@implement("now")
def _now(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.full(1, ctx.transaction_us, np.int64))


@implement("statement_timestamp")
def _statement(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.full(1, ctx.statement_us, np.int64))


@implement("clock_timestamp")
def _clock(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.full(length, time.time_ns() // 1000, np.int64))


@implement("current_date")
def _today(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    local = local_of(np.full(1, ctx.transaction_us, np.int64), zone_of(ctx))
    return Vector(result, (local // DAY_US).astype(np.int32))


@implement("gen_random_uuid")
def _uuid(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    raw = np.frombuffer(process.random_bytes(16 * length), np.uint8).reshape(-1, 16).copy()
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40  # version 4, variant 1: RFC 9562
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    return Vector(result, raw.view(np.uint64))


@implement("pg_typeof")
def _typeof(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, np.full(1, args[0].type.oid, types.OID.dtype))


_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def _pretty(size: int | Decimal) -> str:
    """numeric.c's pg_size_pretty: a unit is kept below 10240 of it, then halves round away from zero."""
    value: Any = size
    for i, unit in enumerate(_UNITS):
        limit = 10 * 1024 if i == 0 else 20 * 1024 - 1
        if abs(value) < limit or i == len(_UNITS) - 1:
            if i:
                value = int((value + (1 if value > 0 else -1)) / 2) if isinstance(value, Decimal) else _half(value)
            return f"{value} {unit}"
        shift = 512 if i == 0 else 1024
        value = int(value / shift) if isinstance(value, Decimal) else (abs(value) // shift) * (1 if value > 0 else -1)
    return str(value)


def _half(value: int) -> int:
    return (abs(value) + 1) // 2 * (1 if value > 0 else -1)


@implement("pg_size_pretty")
def _size_pretty(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, _pretty)
