"""Comparisons are done in the column's own type where the constant allows, so that zone maps and indexes can
serve them.

d::timestamp < timestamp '1998-09-02'  ->  d < date '1998-09-02' i::bigint = bigint '5'                 ->  i
= integer '5'
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from filestore.query import expr as e
from filestore.query.functions import COMMUTED
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, map_exprs
from filestore.types import BOOL, Kind

_SYMBOLS: Final = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_NAMES: Final = {symbol: name for name, symbol in _SYMBOLS.items()}
_RANGES: Final = {Kind.INT2: (-(1 << 15), (1 << 15) - 1), Kind.INT4: (-(1 << 31), (1 << 31) - 1)}
_DAY_US: Final = 86_400_000_000
_DAYS: Final = (-2_440_588, 106_751_990)  # from 4714 BC on; beyond, int64 microseconds end and infinity begins


def unwrap_casts(plan: Plan) -> Plan:
    """Rewrites every comparison of a widened column with a constant."""
    return bottom_up(plan, lambda node: map_exprs(node, lambda x: e.transform(x, _unwrap)))


def _unwrap(expr: e.Expr) -> e.Expr:
    if isinstance(expr, e.InList):
        return _unwrap_list(expr)
    if not isinstance(expr, e.Call) or expr.name not in _SYMBOLS or len(expr.args) != 2:
        return expr
    left, right = expr.args
    symbol = _SYMBOLS[expr.name]
    if isinstance(left, e.Const) and isinstance(right, e.Cast):
        left, right, symbol = right, left, COMMUTED[symbol]
    if (
        not (isinstance(left, e.Cast) and isinstance(left.arg, e.Column) and isinstance(right, e.Const))
        or right.value is None
    ):
        return expr
    column, value = left.arg, right.value
    source, target = column.type.kind, left.type.kind
    if source in _RANGES and target in (Kind.INT4, Kind.INT8):
        low, high = _RANGES[source]
        return _compare(symbol, column, int(value)) if low <= value <= high else expr
    if source is Kind.DATE and target is Kind.TIMESTAMP:
        return _dates(expr, symbol, column, int(value))
    return expr


def _compare(symbol: str, column: e.Column, value: Any) -> e.Expr:
    return e.Call(BOOL, _NAMES[symbol], (column, e.Const(column.type, value)))


def _dates(expr: e.Expr, symbol: str, column: e.Column, value: int) -> e.Expr:
    """A date against a moment: the day it lies in, with the sign that keeps the meaning when it is not
    midnight."""
    day, rest = divmod(value, _DAY_US)
    if not _DAYS[0] <= day <= _DAYS[1]:
        return expr
    if rest == 0:
        return _compare(symbol, column, day)
    if symbol in ("<", "<="):
        return _compare("<=", column, day)
    if symbol in (">", ">="):
        return _compare(">", column, day)
    return expr


def _unwrap_list(expr: e.InList) -> e.Expr:
    """IN over a widened integer column, when every item fits the column."""
    arg = expr.arg
    if not (isinstance(arg, e.Cast) and isinstance(arg.arg, e.Column) and arg.arg.type.kind in _RANGES):
        return expr
    if arg.type.kind not in (Kind.INT4, Kind.INT8):
        return expr
    low, high = _RANGES[arg.arg.type.kind]
    items: list[e.Expr] = []
    for item in expr.items:
        if not isinstance(item, e.Const) or (item.value is not None and not low <= item.value <= high):
            return expr
        items.append(e.Const(arg.arg.type, item.value))
    return replace(expr, arg=arg.arg, items=e.list_items(items))
