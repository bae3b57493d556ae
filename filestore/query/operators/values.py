"""Sources without a table: VALUES, one row, generate_series, system tables, common table expressions.

Thread rule: a common table expression is run by the first thread that reads it, the others wait; the rest has no state.

Not here: where system tables come from (`ExecutionContext.system_table`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from filestore import errors
from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import ev, evaluate
from filestore.query.operators.stream import MORSEL_ROWS, Stream
from filestore.query.scalar.arrays import items_of
from filestore.query.scalar.moments import INFINITY, MINUS_INFINITY, shift_timestamp, zone_of
from filestore.query.vectors import concat, from_python, interval_fields, to_python, typed
from filestore.storage.vector import Batch, Vector
from filestore.types import INT8, Kind, SqlType

ONE_ROW = Batch([], 1)


def values(rows: Sequence[Sequence[e.Expr]], types: Sequence[SqlType], ctx: ExecutionContext) -> Batch:
    """The batch of a VALUES list."""
    columns = []
    for i, sql_type in enumerate(types):
        cells = [row[i] for row in rows]
        if all(isinstance(c, e.Const) and c.type == sql_type for c in cells):
            columns.append(from_python(sql_type, [c.value for c in cells if isinstance(c, e.Const)]))
            continue
        parts = [evaluate(c, ONE_ROW, ctx) for c in cells]
        columns.append(concat([typed(p, sql_type) if p.type != sql_type else p for p in parts], sql_type))
    return Batch(columns, len(rows))


def function_scan(name: str, args: Sequence[e.Expr], result: SqlType, ctx: ExecutionContext) -> Stream:
    """The rows of a set-returning function. Errors with 0A000 for one that is not built."""
    over_array = _OVER_ARRAYS.get(name)
    if over_array is not None:
        items = over_array(*(to_python(ev(a, ONE_ROW, ctx))[0] for a in args))
        return Stream.of(Batch([from_python(result, items)], len(items)))
    if name != "generate_series":
        raise errors.FeatureNotSupported(
            f"set-returning function {name} is not supported", hint="Use generate_series or VALUES."
        )
    vectors = [ev(a, ONE_ROW, ctx) for a in args]
    if any(v.valid is not None and not v.valid[0] for v in vectors):
        return Stream([], lambda _: (), 0)
    if result.kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        return Stream.of_batches(_moments(vectors, result, ctx), 0)
    if result.kind is Kind.NUMERIC:
        return _numeric_series(vectors, result)
    first, last, *rest = (int(v.data[0]) for v in vectors)
    step = rest[0] if rest else 1
    if step == 0:
        raise errors.InvalidParameterValue("step size cannot equal zero")
    count = max(0, (last - first) // step + 1)
    return _counted(count, lambda low, n: Vector(result, _series(first, step, low, n).astype(result.dtype)))


def _subscripts(array: str | None, dimension: int | None) -> list[int]:
    if array is None or dimension != 1:
        return []
    low = 1 if array.startswith("{") else 0
    return list(range(low, low + len(items_of(array))))


_OVER_ARRAYS: dict[str, Callable[..., list[Any]]] = {
    "unnest": lambda array: [] if array is None else items_of(array),
    "generate_subscripts": _subscripts,
    "pg_partition_ancestors": lambda _relation: [],  # no table is a partition
}


def numbered(rows: Stream, ctx: ExecutionContext) -> Stream:
    """WITH ORDINALITY: the rows followed by their numbers, from 1."""

    def batches() -> Iterator[Batch]:
        before = 0
        for batch in rows.batches(ctx):
            numbers = np.arange(before + 1, before + batch.length + 1, dtype=np.int64)
            yield Batch([*batch.columns, Vector(INT8, numbers)], batch.length)
            before += batch.length

    return Stream.of_batches(batches(), rows.rows)


def _series(first: int, step: int, low: int, n: int) -> Any:
    return np.int64(first + low * step) + np.arange(n, dtype=np.int64) * np.int64(step)


def _counted(count: int, make: Callable[[int, int], Vector]) -> Stream:
    def run(low: int) -> tuple[Batch]:
        n = min(MORSEL_ROWS, count - low)
        return (Batch([make(low, n)], n),)

    return Stream(range(0, count, MORSEL_ROWS), run, count)


def _numeric_series(vectors: Sequence[Vector], result: SqlType) -> Stream:
    first, last, *rest = (to_python(v)[0] for v in vectors)
    step = rest[0] if rest else type(first)(1)
    if step == 0:
        raise errors.InvalidParameterValue("step size cannot equal zero")
    count = max(0, int((last - first) // step) + 1) if (last - first) * step >= 0 else 0

    def make(low: int, n: int) -> Vector:
        return from_python(result, [first + step * (low + k) for k in range(n)])

    return _counted(count, make)


def _moments(vectors: Sequence[Vector], result: SqlType, ctx: ExecutionContext) -> Iterator[Batch]:
    first, last = int(vectors[0].data[0]), int(vectors[1].data[0])
    interval = vectors[2]
    months, days, micros = (int(f[0]) for f in interval_fields(interval))
    length = (months * 30 + days) * 86_400_000_000 + micros
    if length == 0:
        raise errors.InvalidParameterValue("step size cannot equal zero")
    if first in (INFINITY, MINUS_INFINITY) or last in (INFINITY, MINUS_INFINITY):
        raise errors.InvalidParameterValue("start and stop values cannot be infinite")
    zone = zone_of(ctx) if result.kind is Kind.TIMESTAMPTZ else None
    current = np.array([first], np.int64)
    made: list[int] = []
    while (current[0] <= last) if length > 0 else (current[0] >= last):
        made.append(int(current[0]))
        if len(made) == MORSEL_ROWS:
            ctx.cancel.check()
            yield Batch([Vector(result, np.array(made, np.int64))], len(made))
            made = []
        current = shift_timestamp(current, interval, 1, zone, None)
    yield Batch([Vector(result, np.array(made, np.int64))], len(made))


class LazyRows:
    """A common table expression: runs when first read, once, whoever reads it."""

    def __init__(self, run: Callable[[], Iterator[Batch]]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._batches: list[Batch] | None = None

    def batches(self) -> list[Batch]:
        with self._lock:
            if self._batches is None:
                self._batches = list(self._run())
            return self._batches


def held_rows(name: str, ctx: ExecutionContext) -> Stream:
    """The rows of the common table expression `name`."""
    rows = ctx.ctes.get(name)
    if rows is None:
        raise errors.InternalError(f"common table expression {name} is not in scope")
    batches = rows.batches()
    return Stream.of_batches(batches, sum(b.length for b in batches))
