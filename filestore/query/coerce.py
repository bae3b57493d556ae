"""PostgreSQL's rules of types: which casts exist, how an overload is chosen, what type a UNION or CASE has,
what a literal becomes.

A string literal and an undeclared parameter have type `unknown` until something gives them a type; `Coercion`
is that something, and keeps what the parameters have been given. Every conversion becomes an explicit `Cast`,
except literals, which are parsed here.

Source: PostgreSQL 15 parse_coerce.c, parse_func.c (func_select_candidate), parse_oper.c, parse_param.c;
documentation chapter 10.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence
from typing import Any, Final

from filestore import errors
from filestore.query import expr as e
from filestore.query.functions import ANY, Overload
from filestore.types import (
    BOOL,
    INT4,
    INT8,
    NUMERIC,
    OID_KINDS,
    REG_KINDS,
    STRING_KINDS,
    TEXT,
    UNKNOWN,
    Kind,
    SqlType,
)

K = Kind
_STRINGS: Final = (K.TEXT, K.VARCHAR, K.BPCHAR)

IMPLICIT: Final[dict[Kind, frozenset[Kind]]] = {
    K.INT2: frozenset({K.INT4, K.INT8, K.FLOAT4, K.FLOAT8, K.NUMERIC, *OID_KINDS}),
    K.INT4: frozenset({K.INT8, K.FLOAT4, K.FLOAT8, K.NUMERIC, *OID_KINDS}),
    K.INT8: frozenset({K.FLOAT4, K.FLOAT8, K.NUMERIC, *OID_KINDS}),
    K.FLOAT4: frozenset({K.FLOAT8}),
    K.NUMERIC: frozenset({K.FLOAT4, K.FLOAT8}),
    K.TEXT: frozenset({K.VARCHAR, K.BPCHAR, K.NAME, K.REGCLASS}),
    K.VARCHAR: frozenset({K.TEXT, K.BPCHAR, K.NAME, K.REGCLASS}),
    K.BPCHAR: frozenset({K.TEXT, K.VARCHAR, K.NAME}),
    K.NAME: frozenset({K.TEXT}),
    K.CHAR: frozenset({K.TEXT}),
    K.DATE: frozenset({K.TIMESTAMP, K.TIMESTAMPTZ}),
    K.TIME: frozenset({K.INTERVAL}),
    K.TIMESTAMP: frozenset({K.TIMESTAMPTZ}),
    K.OID: REG_KINDS,
    **{kind: frozenset({K.OID}) for kind in REG_KINDS},
}
"""Casts that happen by themselves (pg_cast.castcontext = 'i')."""

_NUMBERS = frozenset({K.INT2, K.INT4, K.INT8, K.FLOAT4, K.FLOAT8, K.NUMERIC})
ASSIGNMENT: Final[dict[Kind, frozenset[Kind]]] = {
    **dict.fromkeys(_NUMBERS, _NUMBERS),
    K.TEXT: frozenset({K.CHAR}),
    K.VARCHAR: frozenset({K.CHAR}),
    K.BPCHAR: frozenset({K.CHAR}),
    K.NAME: frozenset({K.VARCHAR, K.BPCHAR}),
    K.CHAR: frozenset({K.VARCHAR, K.BPCHAR}),
    K.TIMESTAMP: frozenset({K.DATE, K.TIME}),
    K.TIMESTAMPTZ: frozenset({K.DATE, K.TIME, K.TIMESTAMP}),
    K.INTERVAL: frozenset({K.TIME}),
    **{kind: frozenset({K.INT4, K.INT8}) for kind in OID_KINDS},
}
"""Further casts when a value is stored in a column (castcontext = 'a'); every type also goes to the string
types."""

EXPLICIT: Final[dict[Kind, frozenset[Kind]]] = {
    K.INT4: frozenset({K.BOOL, K.CHAR}),
    K.BOOL: frozenset({K.INT4}),
    K.CHAR: frozenset({K.INT4}),
}
"""Further casts only by CAST or `::`; from the string types every type can be read."""

SHOWN: Final = frozenset({"concat_fn", "concat_ws", "format"})
"""Functions over values of any type, in their text form: booleans are t and f, char(n) has its blanks."""

PADDED: Final = frozenset({"like", "ilike", "regex_match", "regex_imatch", "octet_length"})
"""Functions that see the blanks of char(n), which all others do not."""

AMBIGUOUS: Final = "ambiguous"


def can_coerce(source: SqlType, target: SqlType, context: str = "implicit") -> bool:
    """Whether a value of `source` may become `target`; context is implicit | assignment | explicit."""
    a, b = source.kind, target.kind
    if a is b or a is K.UNKNOWN or target is ANY or b in IMPLICIT.get(a, ()):
        return True
    if context == "implicit":
        return False
    if b in ASSIGNMENT.get(a, ()) or (b in _STRINGS and a is not K.VOID):
        return True
    return context == "explicit" and (b in EXPLICIT.get(a, ()) or a in _STRINGS)


def select(candidates: Sequence[Overload], types: Sequence[SqlType]) -> Overload | str | None:
    """The overload PostgreSQL would choose; AMBIGUOUS when it cannot, None when nothing fits."""
    count = len(types)
    fitting: list[tuple[Overload, tuple[SqlType, ...]]] = []
    for candidate in candidates:
        slots = candidate.takes
        if len(slots) != count:
            if not candidate.variadic or count < len(slots):
                continue
            slots = slots + (slots[-1],) * (count - len(slots))
        if all(s.kind is t.kind for s, t in zip(slots, types, strict=True)):
            return candidate
        anything = candidate.variadic or ANY in slots
        if all(can_coerce(t, s, "assignment" if anything else "implicit") for s, t in zip(slots, types, strict=True)):
            fitting.append((candidate, slots))
    if len(fitting) <= 1:
        return fitting[0][0] if fitting else None
    return _select_best(fitting, types)


def _select_best(fitting: list[tuple[Overload, tuple[SqlType, ...]]], types: Sequence[SqlType]) -> Overload | str:
    known = [i for i, t in enumerate(types) if t.kind is not K.UNKNOWN]

    def exact(slots: tuple[SqlType, ...]) -> int:
        return sum(slots[i].kind is types[i].kind for i in known)

    def preferred(slots: tuple[SqlType, ...]) -> int:
        return sum(
            slots[i].kind is types[i].kind
            or (slots[i].info.preferred and slots[i].info.category == types[i].info.category)
            for i in known
        )

    for score in (exact, preferred):
        best = max(score(slots) for _, slots in fitting)
        fitting = [f for f in fitting if score(f[1]) == best]
        if len(fitting) == 1:
            return fitting[0][0]
    fitting = _by_category(fitting, types)
    if len(fitting) == 1:
        return fitting[0][0]
    if known and len(known) < len(types) and len({types[i].kind for i in known}) == 1:
        kind = types[known[0]].kind
        same = [f for f in fitting if all(slot.kind is kind or can_coerce(SqlType(kind), slot) for slot in f[1])]
        if len(same) == 1:
            return same[0][0]
    return AMBIGUOUS


def _by_category(
    fitting: list[tuple[Overload, tuple[SqlType, ...]]], types: Sequence[SqlType]
) -> list[tuple[Overload, tuple[SqlType, ...]]]:
    """The candidates that take each unknown argument in the likeliest category (strings first), in its
    preferred type if any."""
    for i, t in enumerate(types):
        if t.kind is not K.UNKNOWN:
            continue
        categories = {slots[i].info.category for _, slots in fitting}
        category = "S" if "S" in categories else (categories.pop() if len(categories) == 1 else None)
        if category is None:
            continue
        kept = [f for f in fitting if f[1][i].info.category == category]
        liked = [f for f in kept if f[1][i].info.preferred]
        fitting = liked or kept or fitting
    return fitting


def select_operator(candidates: Sequence[Overload], types: tuple[SqlType, ...]) -> Overload | str | None:
    """As `select`, after trying an unknown side as the other side's type (PostgreSQL's shortcut for
    operators)."""
    if len(types) == 2 and (types[0].kind is K.UNKNOWN) != (types[1].kind is K.UNKNOWN):
        kind = (types[1] if types[0].kind is K.UNKNOWN else types[0]).kind
        for candidate in candidates:
            if candidate.takes[0].kind is kind and candidate.takes[1].kind is kind:
                return candidate
        if kind is K.VARCHAR:  # varchar has no operators of its own; it is text underneath
            for candidate in candidates:
                if candidate.takes[0].kind is K.TEXT and candidate.takes[1].kind is K.TEXT:
                    return candidate
    return select(candidates, types)


def is_null(expr: e.Expr) -> bool:
    return isinstance(expr, e.Const) and expr.value is None


class Coercion:
    """What the parameters of one statement have been given, and every conversion of its expressions."""

    def __init__(self, declared: Sequence[SqlType | None]) -> None:
        self.parameters: dict[int, SqlType] = {}
        for number, given in enumerate(declared, 1):
            if given is not None and given.kind is not K.UNKNOWN:
                self.parameters[number] = given
        self.highest = 0

    # -- parameters --------------------------------------------------------------------------------

    def parameter(self, number: int) -> e.Param:
        self.highest = max(self.highest, number)
        return e.Param(self.parameters.get(number, UNKNOWN), number)

    def types(self) -> tuple[SqlType, ...]:
        """The types of $1 .. $n; errors with 42P18 when one was never given a type."""
        for number in range(1, self.highest + 1):
            if number not in self.parameters:
                raise errors.IndeterminateDatatype(f"could not determine data type of parameter ${number}")
        return tuple(self.parameters[n] for n in range(1, self.highest + 1))

    def _give(self, param: e.Param, target: SqlType, position: int | None) -> e.Expr:
        wanted = SqlType(target.kind)
        known = self.parameters.setdefault(param.number, wanted)
        if known.kind is not wanted.kind:
            raise errors.AmbiguousParameter(
                f"inconsistent types deduced for parameter ${param.number}",
                detail=f"{known.name} versus {wanted.name}",
                position=position,
            )
        return e.Param(wanted, param.number)

    # -- conversion --------------------------------------------------------------------------------

    def to(self, expr: e.Expr, target: SqlType, context: str = "implicit", position: int | None = None) -> e.Expr:
        """`expr` as `target`. Errors: 42846 when no such cast exists in this context, 22P02 and its kin for
        literals."""
        if target is ANY or expr.type == target:
            return expr
        if expr.type.kind is K.UNKNOWN:
            return self._from_unknown(expr, target, context == "explicit", position)
        if not can_coerce(expr.type, target, context):
            raise errors.CannotCoerce(f"cannot cast type {expr.type.name} to {target.name}", position=position)
        return self.cast(expr, target, context == "explicit")

    def _from_unknown(self, expr: e.Expr, target: SqlType, explicit: bool, position: int | None) -> e.Expr:
        if isinstance(expr, e.Param):
            given = self._give(expr, target, position)
            return given if given.type == target else e.Cast(target, given, explicit)
        if isinstance(expr, e.Const):
            if expr.value is None:
                return e.Const(target, None)
            if target.kind in REG_KINDS and not str(expr.value).isdecimal():  # a name: looked up when it runs
                return e.Cast(target, e.Const(TEXT, str(expr.value)), explicit)
            return literal(target, str(expr.value), explicit, position)
        return e.Cast(target, expr, explicit)

    def cast(self, expr: e.Expr, target: SqlType, explicit: bool) -> e.Expr:
        """A cast known to exist; number literals are converted at once where that cannot fail or lose
        anything."""
        if expr.type == target:
            return expr
        if isinstance(expr, e.Const):
            if expr.value is None:
                return e.Const(target, None)
            if isinstance(expr.value, int) and expr.type.kind in (K.INT2, K.INT4, K.INT8):
                if target.kind in (K.INT4, K.INT8) and target.info.width >= expr.type.info.width:
                    return e.Const(target, expr.value)
                if target == NUMERIC:
                    return e.Const(target, decimal.Decimal(expr.value))
                if target.kind is K.FLOAT8 and abs(expr.value) <= 1 << 53:
                    return e.Const(target, float(expr.value))
            if isinstance(expr.value, decimal.Decimal) and target.kind is K.FLOAT8 and abs(expr.value.adjusted()) < 300:
                return e.Const(target, float(expr.value))
        return e.Cast(target, expr, explicit)

    def settle(self, expr: e.Expr) -> e.Expr:
        """An expression whose type nobody asked for: unknown becomes text."""
        return self.to(expr, TEXT) if expr.type.kind is K.UNKNOWN else expr

    def boolean(self, expr: e.Expr, clause: str, position: int | None) -> e.Expr:
        """A condition; errors with 42804 when it is not boolean."""
        if expr.type.kind in (K.BOOL, K.UNKNOWN):
            return self.to(expr, BOOL, position=position)
        raise errors.DatatypeMismatch(
            f"argument of {clause} must be type boolean, not type {expr.type.name}", position=position
        )

    def assign(self, expr: e.Expr, target: SqlType, column: str, position: int | None) -> e.Expr:
        """A value for a column; errors with 42804 when its type does not fit."""
        if expr.type.kind is not K.UNKNOWN and not can_coerce(expr.type, target, "assignment"):
            raise errors.DatatypeMismatch(
                f'column "{column}" is of type {target.name} but expression is of type {expr.type.name}',
                hint="You will need to rewrite or cast the expression.",
                position=position,
                column=column,
            )
        return self.to(expr, target, "assignment", position)

    # -- types of several expressions --------------------------------------------------------------

    def common_type(
        self, types: Sequence[SqlType], clause: str, positions: Sequence[int | None] = ()
    ) -> SqlType:
        """The type of UNION, CASE, VALUES, COALESCE ... (select_common_type). Errors with 42804, at the first
        expression whose category differs."""
        if len(set(types)) == 1 and types[0].kind is not K.UNKNOWN:
            return types[0]
        chosen: SqlType | None = None
        for i, t in enumerate(types):
            if t.kind is K.UNKNOWN:
                continue
            if chosen is None:
                chosen = t
            elif t.kind is not chosen.kind:
                if t.info.category != chosen.info.category:
                    raise errors.DatatypeMismatch(
                        f"{clause} types {SqlType(chosen.kind).name} and {SqlType(t.kind).name} cannot be matched",
                        position=positions[min(i, len(positions) - 1)] if positions else None,
                    )
                if not chosen.info.preferred and can_coerce(chosen, t) and not can_coerce(t, chosen):
                    chosen = t
        if chosen is None:
            return TEXT
        # A literal has no modifiers, so the result has none; only char(n) must keep its width for its blanks.
        same = (chosen, UNKNOWN) if chosen.kind is K.BPCHAR else (chosen,)
        return chosen if all(t in same for t in types) else SqlType(chosen.kind)

    def unify(self, parts: Sequence[e.Expr], clause: str, positions: Sequence[int | None] = ()) -> list[e.Expr]:
        """The expressions, all of their common type."""
        target = self.common_type([x.type for x in parts], clause, positions)
        spots = list(positions) or [None] * len(parts)
        found = []
        for x, q in zip(parts, spots, strict=True):
            if not can_coerce(x.type, target):
                raise errors.CannotCoerce(f"{clause} could not convert type {x.type.name} to {target.name}", position=q)
            found.append(self.to(x, target, position=q))
        return found

    def call(self, overload: Overload, args: Sequence[e.Expr], positions: Sequence[int | None] = ()) -> e.Call:
        """A call of the chosen overload, its arguments cast."""
        taken = overload.takes + (overload.takes[-1:] if overload.takes else ()) * (len(args) - len(overload.takes))
        spots = list(positions) or [None] * len(args)
        anything = overload.variadic or ANY in overload.takes
        context = "assignment" if anything else "implicit"
        ready = [
            self.to(a, t, context, q) if a.type.kind is K.UNKNOWN else a
            for a, t, q in zip(args, taken, spots, strict=True)
        ]
        if overload.swap:
            ready.reverse()
        if overload.name in SHOWN:  # takes "any" and shows it as a client would see it
            ready = [self.settle(a) for a in ready]
            return e.Call(overload.result_type(tuple(a.type for a in ready)), overload.name, tuple(ready))
        runs = overload.run_types(len(args))
        ready = [self._argument(a, t) for a, t in zip(ready, runs, strict=True)]
        result = overload.result_type(tuple(a.type for a in ready))
        if overload.name in PADDED and args[0].type.kind is K.BPCHAR and args[0].type.length is not None:
            width = e.Const(INT4, args[0].type.length)
            ready[0] = e.Call(TEXT, "rpad", (e.Cast(TEXT, args[0], False), width, e.Const(TEXT, " ")))
        return e.Call(result, overload.name, tuple(ready))

    def _argument(self, expr: e.Expr, target: SqlType) -> e.Expr:
        """An argument in the kind that the implementation takes; modifiers of the same kind may stay."""
        if target is ANY or expr.type.kind is target.kind:
            return self.settle(expr) if target is ANY else expr
        return self.cast(expr, target, False)


_MOMENT: Final = re.compile(
    r"(?!\s*(\d{4,}-\d|\d{6,}|-?infinity|epoch|[a-z]{3,9} ))|.*\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE
)
_NEVER: Final = re.compile(r"(?!)")
_READS_SETTINGS: Final = {
    K.DATE: _MOMENT,
    K.TIMESTAMP: _MOMENT,
    K.TIME: re.compile(r".*\bnow\b", re.IGNORECASE),
    K.TIMESTAMPTZ: re.compile(
        r"(?!\s*\d{4,}-\d+-\d+[ T]\d+:\d+(:\d+(\.\d+)?)? ?(z|utc|[+-]\d\d(:?\d\d)?)$)", re.IGNORECASE
    ),
}
"""Texts whose value depends on the session's time zone, DateStyle or clock: they are read when the statement runs,
since plans outlive settings."""


def literal(target: SqlType, text: str, explicit: bool, position: int | None) -> e.Expr:
    """The constant a quoted literal stands for; modifiers are applied by a cast (22001 or truncation happen
    there)."""
    from filestore.query.literals import fit_string, parse_literal

    base = SqlType(target.kind)
    if _READS_SETTINGS.get(target.kind, _NEVER).match(text):
        try:
            _parsed(parse_literal, base, text, position)
        except errors.DatetimeOverflow:  # perhaps not in the session's DateStyle
            pass
        return e.Cast(target, e.Const(TEXT, text), explicit)
    if target.kind in (K.BPCHAR, K.CHAR, K.NAME):
        text = fit_string(base, text, explicit=True)
    if target.kind is K.INTERVAL or target.kind in STRING_KINDS or base == target:
        value: Any = text if target.kind in STRING_KINDS else _parsed(parse_literal, base, text, position)
        constant = e.Const(base, value)
        return constant if base == target else e.Cast(target, constant, explicit)
    value = _parsed(parse_literal, base, text, position)
    return e.Cast(target, e.Const(base, value), explicit)


def _parsed(parse: Any, target: SqlType, text: str, position: int | None) -> Any:
    try:
        return parse(target, text)
    except errors.Error as error:
        if error.position is None:
            error.position = position
        raise


def number_literal(text: str, position: int | None = None) -> e.Const:
    """The constant of a number in SQL text: integer, bigint or numeric, whichever holds it first. Errors with 22003
    beyond numeric's range."""
    digits = text.removeprefix("-")
    if digits.isdecimal() and len(digits) > 19:
        digits = digits.lstrip("0") or "0"
    if digits.isdecimal() and len(digits) <= 19:  # int() refuses 4300
        value = -int(digits) if text.startswith("-") else int(digits)
        if -(1 << 31) <= value < 1 << 31:
            return e.Const(INT4, value)
        if -(1 << 63) <= value < 1 << 63:
            return e.Const(INT8, value)
    from filestore.query.literals import parse_numeric

    try:
        return e.Const(NUMERIC, _parsed(lambda _, shown: parse_numeric(shown), NUMERIC, text, position))
    except errors.InvalidTextRepresentation:
        raise errors.SqlSyntaxError(f'syntax error at or near "{text}"', position=position) from None
