"""Recognising point SELECTs: statements that one compiled call can answer, from Bind's bytes to the DataRow.

`point_of(bound)` returns the shape of `SELECT columns FROM table WHERE integer_key = $1`, None for any other plan. A
`PointSelect` belongs to a prepared statement; `run` answers from a snapshot timestamp, or says that the general path
must.

Thread rule: `run` with the engine lock held (it walks the index).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from filestore.query import plan as p
from filestore.query import point_kernels as k
from filestore.query.expr import Cast, Column, Expr, Param
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.vector import Array
from filestore.types import INTEGER_KINDS, Kind, Physical, SqlType

_OUT_BYTES = 64 << 10
_TEXT_KINDS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME})


@dataclass(slots=True)
class PointSelect:
    """The compiled form of one prepared point SELECT; `out` is reused by every call, `stored` is (Table, StoredKey)
    once it ran.
    """

    table: TableDef
    key: KeyDef
    shape: Array
    out: Array = field(default_factory=lambda: np.empty(_OUT_BYTES, np.uint8))
    stored: Any = None

    def run(
        self, directory: Array, pages: Array, timestamp: int, mark: int, bound: int, request: Any, bind_at: int, at: int
    ) -> int:
        """Writes the row's DataRow into `out` from `at`; returns the position behind it (`at` when there is no such
        row), or a negative number when the general path must answer.

        directory, pages: the table's and the index's memory. timestamp, mark, bound: the snapshot. request: uint8[]
        holding the Bind message, bind_at: where its parameter format codes begin.
        """
        return k.point_select(  # type: ignore[no-any-return]
            directory, pages, timestamp, mark, bound, self.shape, request, bind_at, self.out, at
        )


def point_of(bound: p.Bound) -> PointSelect | None:
    """The point SELECT that a bound statement is, None when it is none."""
    plan = bound.plan
    projection: tuple[Expr, ...] | None = None
    if isinstance(plan, p.Project):
        projection = plan.exprs
        plan = plan.input
    if bound.kind != "select" or len(bound.parameters) != 1 or not isinstance(plan, p.IndexLookup):
        return None
    if plan.predicate is not None or plan.address or len(plan.keys) != 1 or len(plan.key.columns) != 1:
        return None
    key_column = plan.table.columns[plan.key.columns[0]]
    if key_column.type.kind not in INTEGER_KINDS or not _is_key_nonnull(plan.table, plan.key):
        return None
    sought = plan.keys[0][0]
    parameter = _parameter(sought)
    if parameter is None or bound.parameters[0].kind not in INTEGER_KINDS:
        return None
    outputs = _outputs(plan, projection)
    if outputs is None:
        return None
    head = [plan.key.columns[0], key_column.type.width * 8, bound.parameters[0].width * 8, len(outputs)]
    shape = np.array(head + [x for output in outputs for x in output], np.int64)
    return PointSelect(plan.table, plan.key, shape)


def _is_key_nonnull(table: TableDef, key: KeyDef) -> bool:
    return key.primary or table.columns[key.columns[0]].not_null


def _parameter(sought: Expr) -> Param | None:
    if isinstance(sought, Cast) and sought.type.kind in INTEGER_KINDS:
        sought = sought.arg
    return sought if isinstance(sought, Param) and sought.type.kind in INTEGER_KINDS else None


def _outputs(plan: p.IndexLookup, projection: tuple[Expr, ...] | None) -> list[tuple[int, int, int]] | None:
    """(table column, form, extra) of each output column, None when one needs more than a copy."""
    ordinals = list(plan.ordinals)
    if projection is not None:
        if not all(isinstance(e, Column) for e in projection):
            return None
        ordinals = [plan.ordinals[e.index] for e in projection if isinstance(e, Column)]
    outputs = []
    for ordinal in ordinals:
        form = _form(plan.table.columns[ordinal].type)
        if form is None:
            return None
        outputs.append((ordinal, *form))
    return outputs


def _form(sql_type: SqlType) -> tuple[int, int] | None:
    if sql_type.kind in INTEGER_KINDS:
        return k.INTEGER, 0
    if sql_type.kind is Kind.BOOL:
        return k.BOOLEAN, 0
    if sql_type.kind in _TEXT_KINDS:
        padded = sql_type.length if sql_type.kind is Kind.BPCHAR else None
        return k.STRING, padded or 0
    if sql_type.physical is Physical.DEC64:
        return k.DECIMAL, sql_type.scale or 0
    return None
