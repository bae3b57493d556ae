"""Expressions over one row as Python functions: integers, moments and truth values, one value at a time.

`evaluate` works on vectors and costs microseconds a node, whatever the length; for a statement that writes one row
that is most of its time. `compiled` makes a function of an expression where that is exactly the same value; for
everything else it returns None, and a function raises Unfit where the value would be an error. Then the general way
is gone, which has the right value or the right error.

Values are as they are stored: integers (dates in days, moments in microseconds, booleans 0 or 1), None for null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from filestore.query import expr as e
from filestore.query.scalar.arithmetic import INTEGER_BOUNDS
from filestore.settings import Settings
from filestore.storage.vector import Vector
from filestore.timezones import SECOND_US
from filestore.types import INTEGER_KINDS, OID_KINDS, TIMESTAMP, Kind

Word = int | None
Row = Sequence[Word]
Parameters = Sequence[Vector]
Value = Callable[[Row, Parameters, Settings], Word]

WORD_KINDS: Final = INTEGER_KINDS | OID_KINDS | {Kind.BOOL, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}
_INFINITE: Final = 1 << 62  # beyond any moment that a clock shows


class Unfit(Exception):
    """The value is an error, or not to be had this way."""


def compiled(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    """The expression as a function of (row, parameters, settings); `places`: where in the row each column stands."""
    if expr.type.kind not in WORD_KINDS:
        return None
    maker = _MAKERS.get(type(expr))
    return None if maker is None else maker(expr, places)


def _const(expr: e.Expr, _places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.Const)
    value = expr.value if expr.value is None else int(expr.value)
    return lambda _row, _parameters, _settings: value


def _column(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.Column)
    place = places.get(expr.index)
    if place is None:
        return None
    return lambda row, _parameters, _settings: row[place]


def _param(expr: e.Expr, _places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.Param)
    at = expr.number - 1

    def value(_row: Row, parameters: Parameters, _settings: Settings) -> Word:
        vector = parameters[at]
        if vector.valid is not None and not vector.valid[0]:
            return None
        return vector.data.item(0)  # type: ignore[no-any-return]

    return value


def _cast(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.Cast)
    inner = compiled(expr.arg, places)
    before, after = expr.arg.type.kind, expr.type.kind
    if inner is None or expr.arg.type == expr.type:
        return inner
    if before in INTEGER_KINDS and after in INTEGER_KINDS:
        return _bounded(inner, INTEGER_BOUNDS[after])
    if before is Kind.TIMESTAMPTZ and expr.type == TIMESTAMP:
        return _local(inner)
    return None


def _bounded(inner: Value, bound: int) -> Value:
    def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
        word = inner(row, parameters, settings)
        if word is not None and not -bound <= word < bound:
            raise Unfit
        return word

    return value


def _local(inner: Value) -> Value:
    def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
        word = inner(row, parameters, settings)
        if word is None:
            return None
        if not -_INFINITE < word < _INFINITE:
            raise Unfit
        return word + settings.timezone.offset_at(word) * SECOND_US

    return value


def _call(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.Call)
    if expr.name == "now" and not expr.args:
        return lambda _row, _parameters, settings: settings.transaction_us
    parts = [compiled(a, places) for a in expr.args]
    kinds = {a.type.kind for a in expr.args}
    if len(parts) == 1 and parts[0] is not None and expr.name == "neg" and kinds <= INTEGER_KINDS:
        return _bounded(_negated(parts[0]), INTEGER_BOUNDS[expr.type.kind])
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    arithmetic = _ARITHMETIC.get(expr.name)
    if arithmetic is not None and kinds <= INTEGER_KINDS and expr.type.kind in INTEGER_KINDS:
        return _bounded(arithmetic(parts[0], parts[1]), INTEGER_BOUNDS[expr.type.kind])
    comparison = _COMPARISONS.get(expr.name)
    if comparison is not None and (len(kinds) == 1 or kinds <= INTEGER_KINDS):
        return comparison(parts[0], parts[1])
    return None


def _negated(inner: Value) -> Value:
    def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
        word = inner(row, parameters, settings)
        return None if word is None else -word

    return value


Strict = Callable[[Value, Value], Value]


def _strict(function: Callable[[int, int], int]) -> Strict:
    """A function of two words that is null where one of them is."""

    def make(left: Value, right: Value) -> Value:
        def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
            a = left(row, parameters, settings)
            b = right(row, parameters, settings)
            return None if a is None or b is None else function(a, b)

        return value

    return make


_ARITHMETIC: Final[dict[str, Strict]] = {
    "add": _strict(int.__add__),
    "sub": _strict(int.__sub__),
    "mul": _strict(int.__mul__),
}
_COMPARISONS: Final[dict[str, Strict]] = {
    "eq": _strict(int.__eq__),
    "ne": _strict(int.__ne__),
    "lt": _strict(int.__lt__),
    "le": _strict(int.__le__),
    "gt": _strict(int.__gt__),
    "ge": _strict(int.__ge__),
}


def _and(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    return _junction(expr, places, False)


def _or(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    return _junction(expr, places, True)


def _junction(expr: e.Expr, places: Mapping[int, int], deciding: bool) -> Value | None:
    """AND (decided by false) or OR (by true) in three-valued logic."""
    parts = [compiled(a, places) for a in e.children(expr)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None

    def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
        found = [part(row, parameters, settings) for part in known]
        if any(word is not None and bool(word) is deciding for word in found):
            return int(deciding)
        return None if None in found else int(not deciding)

    return value


def _not(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    inner = compiled(e.children(expr)[0], places)
    if inner is None:
        return None

    def value(row: Row, parameters: Parameters, settings: Settings) -> Word:
        word = inner(row, parameters, settings)
        return None if word is None else int(not word)

    return value


def _is_null(expr: e.Expr, places: Mapping[int, int]) -> Value | None:
    assert isinstance(expr, e.IsNull)
    inner, negated = compiled(expr.arg, places), expr.negated
    if inner is None:
        return None
    return lambda row, parameters, settings: int((inner(row, parameters, settings) is None) is not negated)


_MAKERS: Final[dict[type, Callable[[e.Expr, Mapping[int, int]], Value | None]]] = {
    e.Const: _const,
    e.Column: _column,
    e.Param: _param,
    e.Cast: _cast,
    e.Call: _call,
    e.And: _and,
    e.Or: _or,
    e.Not: _not,
    e.IsNull: _is_null,
}
