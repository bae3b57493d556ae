"""Bound expressions as values: names are column numbers, every node has a type, every coercion is an explicit `Cast`.

The binder makes them, the rules rewrite them, the executor evaluates them; none of the three changes one in place.
Operators and functions are `Call`s named by the table in `functions.py`; argument types already match the chosen
overload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filestore.types import BOOL, INT8, SqlType

if TYPE_CHECKING:
    from filestore.query.plan import Plan


@dataclass(frozen=True, slots=True)
class Expr:
    """Base of all bound expressions; `type` is the SQL type of the value."""

    type: SqlType


@dataclass(frozen=True, slots=True)
class Const(Expr):
    """A literal in canonical form.

    None | bool | int (integers, DATE days, TIME/TIMESTAMP microseconds since 1970, oids) | float | decimal.Decimal |
    str | bytes (BYTEA; UUID as 16 bytes) | tuple (months, days, microseconds) for INTERVAL.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Column(Expr):
    """Column `index` of the input row; `name` only for display."""

    index: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Param(Expr):
    """Parameter $number (from 1)."""

    number: int


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A strict or lazy function of `functions.FUNCTIONS` (operators included: add, eq, like, ...)."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """Conversion of `arg` to `type`; `explicit` casts truncate strings where assignment casts raise 22001."""

    arg: Expr
    explicit: bool = True


@dataclass(frozen=True, slots=True)
class And(Expr):
    """Three-valued conjunction of two or more conditions."""

    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or(Expr):
    """Three-valued disjunction of two or more conditions."""

    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Not(Expr):
    arg: Expr


@dataclass(frozen=True, slots=True)
class IsNull(Expr):
    """arg IS [NOT] NULL; never null itself."""

    arg: Expr
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsBool(Expr):
    """arg IS [NOT] TRUE / FALSE; never null itself."""

    arg: Expr
    value: bool
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Case(Expr):
    """Searched CASE; branches are evaluated only for the rows that reach them (so a guarded division does not fail)."""

    whens: tuple[tuple[Expr, Expr], ...]
    default: Expr


@dataclass(frozen=True, slots=True)
class Coalesce(Expr):
    """First non-null argument, evaluated lazily."""

    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class InList(Expr):
    """arg IN (items); items are of arg's type. Three-valued: null when no match and an item is null."""

    arg: Expr
    items: tuple[Expr, ...]


class Constants(tuple[Const, ...]):  # noqa: SLOT001 - a tuple cannot have any
    """The items of a long InList: constants of one type, none null. Nothing looks at them one by one: they are no
    `children`, and `kept` is whatever the evaluator makes of all of them once (any thread, losing it costs time only).
    """

    kept: Any = None


LONG_LIST = 64


def list_items(items: Sequence[Expr]) -> tuple[Expr, ...]:
    """Items for an InList."""
    if len(items) >= LONG_LIST:
        found = [x for x in items if isinstance(x, Const) and x.value is not None]
        if len(found) == len(items) and len({x.type for x in found}) == 1:
            return Constants(found)
    return tuple(items)


@dataclass(frozen=True, slots=True)
class ScalarSubquery(Expr):
    """The single value of an uncorrelated subquery of one column; more than one row raises 21000; none is null."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class InSubquery(Expr):
    """(args) [NOT] IN (subquery); three-valued."""

    args: tuple[Expr, ...]
    plan: Plan
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Exists(Expr):
    """EXISTS (uncorrelated subquery)."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class OuterValue(Expr):
    """A value of the row that an `Applied` subquery is being run for; `number` is known within it."""

    number: int


@dataclass(frozen=True, slots=True)
class Applied(Expr):
    """A subquery that reads the row around it, run once for each distinct combination of `args`.

    subquery: ScalarSubquery, InSubquery or Exists, in whose plan and arguments `OuterValue(n)` stands for the n-th of
    `numbers`'s argument. What a join can do is a join (rules/decorrelate.py); this is for the rest, over few rows.
    """

    args: tuple[Expr, ...]
    numbers: tuple[int, ...]
    subquery: ScalarSubquery | InSubquery | Exists


@dataclass(frozen=True, slots=True)
class Aggregate(Expr):
    """An aggregate call inside an `Aggregate` plan node.

    name: count_star | count | sum | avg | min | max | bool_and | bool_or | bit_and | bit_or | bit_xor | stddev_samp |
    stddev_pop | var_samp | var_pop | string_agg; result types as PostgreSQL's (sum(int4) is bigint, sum(int8) numeric,
    avg of integers numeric ...). `order`: (descending, nulls first) of each key of its ORDER BY; the keys are the last
    of `args`.
    """

    name: str
    args: tuple[Expr, ...]
    distinct: bool = False
    filter: Expr | None = None
    order: tuple[tuple[bool, bool], ...] = ()


TRUE = Const(BOOL, True)
FALSE = Const(BOOL, False)
ADDRESS_TYPE = INT8


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct subexpressions, in evaluation order; plans of subqueries are not entered."""
    match expr:
        case Call(args=args) | And(args=args) | Or(args=args) | Coalesce(args=args):
            return args
        case Cast(arg=arg) | Not(arg=arg) | IsNull(arg=arg) | IsBool(arg=arg):
            return (arg,)
        case Case(whens=whens, default=default):
            return (*(e for pair in whens for e in pair), default)
        case InList(arg=arg, items=items):
            return (arg,) if isinstance(items, Constants) else (arg, *items)
        case InSubquery(args=args) | Applied(args=args):
            return args
        case Aggregate(args=args, filter=condition):
            return args if condition is None else (*args, condition)
        case _:
            return ()


def rebuild(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    """The same node over other subexpressions (in the order of `children`)."""
    match expr:
        case Call():
            return Call(expr.type, expr.name, parts)
        case And():
            return And(expr.type, parts)
        case Or():
            return Or(expr.type, parts)
        case Coalesce():
            return Coalesce(expr.type, parts)
        case Cast():
            return Cast(expr.type, parts[0], expr.explicit)
        case Not():
            return Not(expr.type, parts[0])
        case IsNull():
            return IsNull(expr.type, parts[0], expr.negated)
        case IsBool():
            return IsBool(expr.type, parts[0], expr.value, expr.negated)
        case Case():
            pairs = tuple((parts[2 * i], parts[2 * i + 1]) for i in range(len(expr.whens)))
            return Case(expr.type, pairs, parts[-1])
        case InList():
            return InList(expr.type, parts[0], parts[1:] or expr.items)
        case InSubquery():
            return InSubquery(expr.type, parts, expr.plan, expr.negated)
        case Applied():
            return Applied(expr.type, parts, expr.numbers, expr.subquery)
        case Aggregate():
            n = len(expr.args)
            condition = parts[n] if len(parts) > n else None
            return Aggregate(expr.type, expr.name, parts[:n], expr.distinct, condition, expr.order)
        case _:
            return expr


def transform(expr: Expr, rewrite: Callable[[Expr], Expr]) -> Expr:
    """Rewrites bottom-up: subexpressions first, then the node itself."""
    parts = children(expr)
    if parts:
        changed = tuple(transform(p, rewrite) for p in parts)
        if any(a is not b for a, b in zip(parts, changed, strict=True)):
            expr = rebuild(expr, changed)
    return rewrite(expr)


def columns_of(expr: Expr) -> set[int]:
    """The input columns that an expression reads."""
    if isinstance(expr, Column):
        return {expr.index}
    return {i for part in children(expr) for i in columns_of(part)}


def conjuncts(expr: Expr | None) -> list[Expr]:
    """The conditions that are joined by AND at the top."""
    if expr is None:
        return []
    if isinstance(expr, And):
        return [c for arg in expr.args for c in conjuncts(arg)]
    return [expr]


def conjunction(parts: list[Expr]) -> Expr | None:
    """AND of the conditions; None for none."""
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(BOOL, tuple(parts))
