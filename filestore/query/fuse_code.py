"""Bound expressions as the text of generated code: int64 words with their bounds, and conditions.

A `Word` is an integer, date, timestamp, boolean or scaled decimal; its `bounds` follow from the columns' by
interval arithmetic and raise `Unfit` when a value could leave its type, so that the code needs no checks.
`fuse.py` puts the pieces into a loop.

Thread rule: a `Writer` belongs to the thread that makes it; what it has written is not changed.

Not here: floats, strings but for their dictionary's codes, functions, and anything that may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from filestore.query import expr as e
from filestore.query.evaluate import Held, columns_read
from filestore.query.scalar.decimals import result_bounds
from filestore.query.vectors import INT64_MAX
from filestore.types import INTEGER_KINDS, Kind, Physical, SqlType

CASE_VALUES_MAX = 8
"""A longer CASE is left to the vectorised path, which evaluates a branch only for its rows."""

WORD_KINDS = INTEGER_KINDS | {Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.BOOL}
_RESULT_BOUNDS = {Kind.INT2: 2**15, Kind.INT4: 2**31}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}

Bounds = tuple[int, int]
Ranges = Callable[[int], Bounds]


class Unfit(Exception):
    """The plan or morsel is none of the simple kinds."""


@dataclass(frozen=True, slots=True)
class Word:
    """Generated code of an int64 value; `columns` are those whose null makes it null, `bounds` its interval given
    the columns'.
    """

    code: str
    columns: frozenset[int]
    scale: int
    bounds: Callable[[Ranges], Bounds]


@dataclass(slots=True)
class Fold:
    """One accumulator of the loop: code adds `word` where `condition` and the columns are not null. Kinds: count,
    sum, min, max.
    """

    kind: str
    word: Word | None
    condition: str
    columns: frozenset[int]


@dataclass(slots=True)
class Shape:
    """What the generated function reads: scan columns used as words, lookup tables, constants."""

    columns: list[int] = field(default_factory=list)
    tables: list[tuple[int, e.Expr]] = field(default_factory=list)
    constants: list[int] = field(default_factory=list)

    def column(self, index: int) -> str:
        if index not in self.columns:
            self.columns.append(index)
        return f"x{self.columns.index(index)}"

    def constant(self, value: int) -> str:
        if value not in self.constants:
            self.constants.append(value)
        return f"k{self.constants.index(value)}"

    def table(self, column: int, condition: e.Expr) -> str:
        self.tables.append((column, condition))
        return f"t{len(self.tables) - 1}"


# --- expressions -----------------------------------------------------------------------------------------------------


class Writer:
    """Writes expressions over the scan's columns as code. Raises Unfit.

    `proofs` are the bounds of the words whose value must fit int64, which a morsel's ranges have to show.
    """

    def __init__(self, types: Sequence[SqlType], shape: Shape) -> None:
        self.types = types
        self.shape = shape
        self.proofs: list[Callable[[Ranges], Bounds]] = []

    def word(self, expr: e.Expr) -> Word:
        """An int64 value: integer, date, timestamp, boolean, or decimal with a scale."""
        match expr:
            case e.Column(index=i):
                return self._column(i)
            case Held():
                return self._constant(expr)
            case e.Call(name="add" | "sub" | "mul" as name, args=(left, right)):
                return self._arithmetic(expr, name, self.word(left), self.word(right))
            case e.Cast(arg=arg) if _widens(arg.type, expr.type):
                return self.word(arg)
            case e.Case():
                return self._case(expr)
        raise Unfit(type(expr).__name__)

    def _column(self, index: int) -> Word:
        sql_type = self.types[index]
        if sql_type.kind not in WORD_KINDS and sql_type.physical is not Physical.DEC64:
            raise Unfit(str(sql_type))
        name = self.shape.column(index)
        return Word(name, frozenset((index,)), sql_type.scale or 0, lambda ranges: ranges(index))

    def _constant(self, held: Held) -> Word:
        vector = held.vector
        simple = vector.type.kind in WORD_KINDS or vector.is_decimal64
        if not simple or (vector.valid is not None and not vector.valid[0]):
            raise Unfit("constant")
        value = int(vector.data[0])
        return Word(self.shape.constant(value), frozenset(), vector.scale, lambda _: (value, value))

    def _arithmetic(self, expr: e.Expr, name: str, left: Word, right: Word) -> Word:
        if expr.type.kind not in INTEGER_KINDS and expr.type.kind is not Kind.NUMERIC:
            raise Unfit(str(expr.type))
        scale = left.scale + right.scale
        if name != "mul":
            scale = max(left.scale, right.scale)
            left, right = self.rescaled(left, scale), self.rescaled(right, scale)
        if scale > 18:
            raise Unfit("scale")
        limit = _RESULT_BOUNDS.get(expr.type.kind, INT64_MAX)

        def bounds(ranges: Ranges) -> Bounds:
            return within(result_bounds(name, left.bounds(ranges), right.bounds(ranges)), limit)

        return Word(f"({left.code} {_ARITHMETIC[name]} {right.code})", left.columns | right.columns, scale, bounds)

    def rescaled(self, word: Word, scale: int) -> Word:
        """The word with more digits after the point."""
        if word.scale == scale:
            return word
        factor = 10 ** (scale - word.scale)

        def bounds(ranges: Ranges) -> Bounds:
            low, high = word.bounds(ranges)
            return within((low * factor, high * factor), INT64_MAX)

        return Word(f"({word.code} * {factor})", word.columns, scale, bounds)

    def _case(self, expr: e.Case) -> Word:
        values = [self.word(v) for _, v in expr.whens] + [self.word(expr.default)]
        if len({v.scale for v in values}) > 1 or len(values) > CASE_VALUES_MAX:
            raise Unfit("case")
        code = values[-1].code
        columns: frozenset[int] = frozenset()
        for (condition, _), value in reversed(list(zip(expr.whens, values[:-1], strict=True))):
            text, read = self.condition(condition)
            columns |= read
            code = f"({value.code} if {text} else {code})"
        for value in values:
            columns |= value.columns

        def bounds(ranges: Ranges) -> Bounds:
            found = [v.bounds(ranges) for v in values]
            return min(b[0] for b in found), max(b[1] for b in found)

        # `strict` columns: a null anywhere sends the morsel to the vectorised path, see `FusedAggregate.partial`.
        return Word(code, columns, values[0].scale, bounds)

    def condition(self, expr: e.Expr) -> tuple[str, frozenset[int]]:
        """(code of a boolean, the columns it reads). Right only where none of the columns is null."""
        match expr:
            case e.Call(name=name, args=(left, right)) if name in _COMPARE and not is_text(left.type):
                return self._comparison(name, left, right)
            case e.And() | e.Or():
                parts = [self.condition(a) for a in expr.args]
                joint = " & " if isinstance(expr, e.And) else " | "
                columns = frozenset(i for _, read in parts for i in read)
                return "(" + joint.join(code for code, _ in parts) + ")", columns
            case e.Not(arg=arg):
                code, columns = self.condition(arg)
                return f"(not {code})", columns
            case e.Column(index=i) if self.types[i].kind is Kind.BOOL:
                return f"({self.shape.column(i)} != 0)", frozenset((i,))
            case e.InList(arg=arg, items=items) if not (is_text(arg.type) or isinstance(items, e.Constants)):
                tests = [self._comparison("eq", arg, item) for item in items]
                return "(" + " | ".join(c for c, _ in tests) + ")", tests[0][1]
        return self._looked_up(expr)

    def _comparison(self, name: str, left: e.Expr, right: e.Expr) -> tuple[str, frozenset[int]]:
        a, b = self.word(left), self.word(right)
        scale = max(a.scale, b.scale)
        a, b = self.rescaled(a, scale), self.rescaled(b, scale)
        self.proofs.append(a.bounds)
        self.proofs.append(b.bounds)
        return f"({a.code} {_COMPARE[name]} {b.code})", a.columns | b.columns

    def _looked_up(self, expr: e.Expr) -> tuple[str, frozenset[int]]:
        """Any condition on one string column: evaluated over the unit's dictionary, looked up by code."""
        columns = columns_read(expr)
        if len(columns) != 1 or not is_text(self.types[next(iter(columns))]) or not _row_by_row(expr):
            raise Unfit("condition")
        index = next(iter(columns))
        return f"{self.shape.table(index, expr)}[{self.shape.column(index)}]", frozenset(columns)


def is_text(sql_type: SqlType) -> bool:
    return sql_type.physical is Physical.VIEW


def _row_by_row(expr: e.Expr) -> bool:
    """Whether a string condition is a pure function of its column: calls, connectives, constants."""
    if isinstance(expr, e.Column | Held):
        return True
    if isinstance(expr, e.Call | e.And | e.Or | e.Not | e.InList | e.Cast):
        return all(_row_by_row(part) for part in e.children(expr))
    return False


def _widens(source: SqlType, target: SqlType) -> bool:
    """Casts that keep the int64 word."""
    if target.kind in INTEGER_KINDS:
        return source.kind in INTEGER_KINDS and source.width <= target.width
    if target.kind is Kind.NUMERIC and target.precision is None:
        return source.kind in INTEGER_KINDS or source.physical is Physical.DEC64
    if target.kind is Kind.NUMERIC and source.physical is Physical.DEC64:
        kept = (target.precision or 0) - (target.scale or 0) >= (source.precision or 0) - (source.scale or 0)
        return source.scale == target.scale and kept
    return False


def within(bounds: Bounds, limit: int) -> Bounds:
    low, high = bounds
    if low < -limit or high > limit:
        raise Unfit("bounds")
    return bounds
