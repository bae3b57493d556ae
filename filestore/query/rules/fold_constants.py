"""Calls of literals become literals, and conditions that are always true or false disappear.

    d <= date '1998-12-01' - interval '90' day  ->  d <= timestamp '1998-09-02 00:00'

Only functions whose value follows from their arguments are folded, by the executor's own code. What raises is
left as it is: its error belongs to the rows that reach it.
"""

from __future__ import annotations

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query.plan import Plan
from filestore.query.rules.traversal import bottom_up, map_exprs
from filestore.types import BOOL, Kind

_LEFT_ALONE = f.VOLATILE | f.TIMEZONE_DEPENDENT
# Kinds whose text or meaning depends on the session's settings: casts from and to them wait for run time.
_SETTING_KINDS = frozenset(
    {Kind.TIMESTAMPTZ, Kind.DATE, Kind.TIMESTAMP, Kind.TIME, Kind.INTERVAL, Kind.FLOAT4, Kind.FLOAT8, Kind.BYTEA}
)


def fold_constants(plan: Plan) -> Plan:
    """Folds every expression of the plan."""
    return bottom_up(plan, lambda node: map_exprs(node, folded))


def folded(expr: e.Expr) -> e.Expr:
    """The expression with its constant parts computed."""
    return e.transform(expr, _fold)


def _fold(expr: e.Expr) -> e.Expr:
    match expr:
        case e.And() | e.Or():
            return _connected(expr)
        case e.Not(arg=e.Const(value=value)):
            return e.Const(BOOL, None if value is None else not value)
        case e.Call(args=args) if expr.name not in _LEFT_ALONE and args and all(isinstance(a, e.Const) for a in args):
            if any(a.type.kind is Kind.TIMESTAMPTZ for a in args) or expr.type.kind is Kind.TIMESTAMPTZ:
                return expr
            return _computed(expr)
        case e.Cast(arg=e.Const()) if _is_plain_cast(expr):
            return _computed(expr)
        case e.IsNull(arg=e.Const(value=value)):
            return e.Const(BOOL, (value is None) != expr.negated)
        case e.IsBool(arg=e.Const(value=value)):
            return e.Const(BOOL, (value is expr.value) != expr.negated)
        case e.Coalesce(args=(e.Const(value=value), *_)) if value is not None:
            return expr.args[0]
        case _:
            return expr


def _is_plain_cast(expr: e.Cast) -> bool:
    source, target = expr.arg.type.kind, expr.type.kind
    if (
        Kind.TIMESTAMPTZ in (source, target)
        or target in (Kind.REGCLASS, Kind.REGTYPE)
        or source in (Kind.REGCLASS, Kind.REGTYPE)
    ):
        return False
    texts = {Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR, Kind.UNKNOWN}
    return not ((source in texts and target in _SETTING_KINDS) or (target in texts and source in _SETTING_KINDS))


def _connected(expr: e.And | e.Or) -> e.Expr:
    absorbing = isinstance(expr, e.Or)
    kept: list[e.Expr] = []
    for arg in expr.args:
        if isinstance(arg, e.Const) and arg.value is not None:
            if bool(arg.value) is absorbing:
                return e.Const(BOOL, absorbing)
            continue
        if type(arg) is type(expr):
            kept += arg.args
        else:
            kept.append(arg)
    if not kept:
        return e.Const(BOOL, not absorbing)
    return kept[0] if len(kept) == 1 else type(expr)(BOOL, tuple(kept))


def _computed(expr: e.Expr) -> e.Expr:
    from filestore.query.context import ExecutionContext
    from filestore.query.evaluate import python_value

    try:
        return e.Const(expr.type, python_value(expr, ExecutionContext()))
    except errors.Error:  # raised again where a row reaches it
        return expr
