"""The core of binding expressions: dispatch by node type, leaves, logic, and the choice of an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query.bind_context import Collected, Context, end_of, name_of, offset_of, row_items
from filestore.query.coerce import AMBIGUOUS, number_literal, select_operator
from filestore.query.hints import not_supported
from filestore.query.names import UNKNOWN_TRUTH
from filestore.query.plan import Plan
from filestore.query.scope import Scope
from filestore.types import BOOL, NAME, UNKNOWN

COMPARED: Final[dict[type, str]] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
BINARY: Final[dict[type, str]] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.Pow: "^", exp.DPipe: "||",
    exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseXor: "#", exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>", exp.RegexpLike: "~", exp.RegexpILike: "~*", exp.StartsWith: "^@",
}  # fmt: skip
_SPELLINGS: Final = {
    "<>": ("<>", "!="),
    "~": ("~", "!~"),
    "~*": ("~*", "!~*"),
    "~~": ("LIKE", "~~"),
    "~~*": ("ILIKE", "~~*"),
    "similar": ("SIMILAR", "NOT"),
    "in": ("IN", "NOT"),
    "between": ("BETWEEN", "NOT"),
}
_REFUSED_NODES: Final[dict[str, str]] = {
    "Window": "window functions", "WithinGroup": "WITHIN GROUP", "JSONExtract": "json operators",
    "JSONExtractScalar": "json operators", "Bracket": "array subscripts", "Collate": "COLLATE",
    "Array": "array constructors", "HexString": "bit strings", "BitString": "bit strings",
    "Dot": "field selection", "ArrayContainsAll": "array operators",
    "ArrayOverlaps": "array operators", "Lambda": "named arguments", "Kwarg": "named arguments",
    "Rollup": "ROLLUP", "Cube": "CUBE", "GroupingSets": "GROUPING SETS", "CurrentTime": "CURRENT_TIME",
    "Operator": "OPERATOR()", "Variadic": "VARIADIC", "Order": "ORDER BY in an aggregate",
    "Distinct": "DISTINCT in this place", "Star": "* in this place", "Slice": "array slices",
    "JSONBContains": "json operators", "AtTimeZone": "AT TIME ZONE",
}  # fmt: skip


_SESSION_NAMES: Final = {
    "user": "current_user", "current_role": "current_user", "current_catalog": "current_database",
}  # fmt: skip


class BaseBinder:
    """Binds the expressions of one clause of one query level.

    `clause` is its name in messages; `collected` gathers aggregates, None where they are not allowed;
    `subquery` binds a nested query.
    """

    METHODS: ClassVar[dict[type, Callable[[Any, Any], e.Expr]]] = {}

    def __init__(
        self,
        context: Context,
        scope: Scope,
        clause: str,
        subquery: Callable[[Any, Scope], tuple[Plan, Scope]],
        collected: Collected | None = None,
    ) -> None:
        self.context = context
        self.coercion = context.coercion
        self.scope = scope
        self.clause = clause
        self.subquery = subquery
        self.collected = collected
        self.in_aggregate = False

    # -- positions and refusals --------------------------------------------------------------------

    def position(self, node: Any) -> int | None:
        offset = offset_of(node, self.context.offsets)
        return None if offset is None else self.context.source.position(offset)

    def operator_position(self, node: Any, symbol: str) -> int | None:
        """Where an operator stands: after its left operand; only looked for when there is an error to report."""
        after = end_of(node.this)
        if after is None:
            return self.position(node)
        text = self.context.source.rewritten
        spots = [text.upper().find(s, after) for s in _SPELLINGS.get(symbol, (symbol,))]
        found = min((s for s in spots if s >= 0), default=None)
        return self.position(node) if found is None else self.context.source.position(found)

    def position_before(self, node: Any, text: str, first: str = "") -> int | None:
        """Where a word or sign stands that was read before a node, such as the parenthesis of a subquery; or the word
        `first`, where it stands right before that."""
        offset = offset_of(node)
        if offset is None:
            return None
        source = self.context.source.rewritten.upper()
        found = source.rfind(text, 0, offset)
        before = source[: max(found, 0)].rstrip()
        if first and before.endswith(first):
            found = len(before) - len(first)
        return self.position(node) if found < 0 else self.context.source.position(found)

    def refuse(self, what: str, node: Any, hint: str | None = None) -> errors.FeatureNotSupported:
        return not_supported(what, self.position(node), hint)

    def binary(self, node: Any, symbol: str) -> e.Expr:
        """A binary operator; see `PredicateBinder`."""
        raise self.refuse(symbol, node)

    def comparison(self, node: Any, symbol: str) -> e.Expr:
        """A comparison; see `PredicateBinder`."""
        raise self.refuse(symbol, node)

    # -- entry points ------------------------------------------------------------------------------

    def bind(self, node: Any) -> e.Expr:
        """The bound expression; its type may still be unknown. Errors: 42xxx with the position, 0A000 for
        what is not built."""
        method = self.METHODS.get(type(node))
        if method is None:
            symbol = BINARY.get(type(node))
            if symbol is not None:
                return self.binary(node, symbol)
            symbol = COMPARED.get(type(node))
            if symbol is not None:
                return self.comparison(node, symbol)
            name = type(node).__name__
            raise self.refuse(_REFUSED_NODES.get(name, name), node)
        return method(self, node)

    def bind_settled(self, node: Any) -> e.Expr:
        return self.coercion.settle(self.bind(node))

    def condition(self, node: Any) -> e.Expr:
        return self.coercion.boolean(self.bind(node), self.clause, self.position(node))

    def all_of(self, nodes: Sequence[Any]) -> list[e.Expr]:
        return [self.bind(n) for n in nodes]

    # -- leaves ------------------------------------------------------------------------------------

    def literal(self, node: Any) -> e.Expr:
        lists = self.context.source.lists
        if lists and (at := self.position(node)) is not None and at - 1 in lists:
            raise self.refuse("a list of literals", node)
        if node.is_string:
            return e.Const(UNKNOWN, node.this)
        return number_literal(str(node.this), self.position(node))

    def joined_literals(self, node: Any) -> e.Expr:
        """'a' <newline> 'b': one literal. (Calls of concat() never come here: their names are marked.)"""
        if not all(isinstance(x, exp.Literal) and x.is_string for x in node.expressions):
            raise self.refuse("CONCAT", node)
        return e.Const(UNKNOWN, "".join(str(x.this) for x in node.expressions))

    def null(self, _node: Any) -> e.Expr:
        return e.Const(UNKNOWN, None)

    def boolean(self, node: Any) -> e.Expr:
        return e.Const(BOOL, bool(node.this))

    def parameter(self, node: Any) -> e.Expr:
        number = node.this
        if not isinstance(number, exp.Literal) or number.is_string or not str(number.this).isdecimal():
            raise errors.SqlSyntaxError('syntax error at or near "@"', position=self.position(node))
        value = int(number.this)
        if not 1 <= value <= 65535:
            raise errors.UndefinedParameter(f"there is no parameter ${value}", position=self.position(node))
        return self.coercion.parameter(value)

    def placeholder(self, node: Any) -> e.Expr:
        raise errors.SqlSyntaxError(
            "syntax error at a placeholder", hint="Parameters are written $1, $2 ...", position=self.position(node)
        )

    def column(self, node: Any) -> e.Expr:
        position = self.position(node)
        if isinstance(node.this, exp.Star):
            raise errors.SqlSyntaxError('syntax error at or near "*"', position=position)
        name = name_of(node.this)
        table, schema = node.args.get("table"), node.args.get("db")
        if table is None:
            if name in _SESSION_NAMES and not node.this.args.get("quoted"):
                return e.Call(NAME, _SESSION_NAMES[name], ())
            found = self.scope.column(name, position)
        else:
            found = self.scope.qualified(name_of(schema) if schema else None, name_of(table), name, position)
        if self.collected is not None and not self.in_aggregate and isinstance(found.expr, e.Column):
            owner = self.scope.owner(found)
            shown = f"{owner.alias}.{name}" if owner else name
            self.collected.first_read.setdefault(found.expr.index, (position, shown))
        return found.expr

    def paren(self, node: Any) -> e.Expr:
        return self.bind(node.this)

    def row(self, node: Any) -> e.Expr:
        raise self.refuse("a row value in this place", node)

    # -- logic -------------------------------------------------------------------------------------

    def connected(self, node: Any) -> e.Expr:
        kind, make = (exp.And, e.And) if isinstance(node, exp.And) else (exp.Or, e.Or)
        word = "AND" if kind is exp.And else "OR"
        flat: list[Any] = []
        stack = [node]
        while stack:  # chains of a thousand conditions are common in generated SQL
            current = stack.pop()
            if isinstance(current, kind):
                stack += [current.expression, current.this]
            else:
                flat.append(current)
        parts = [self.coercion.boolean(self.bind(n), word, self.position(n)) for n in flat]
        return make(BOOL, tuple(parts))

    def negation(self, node: Any) -> e.Expr:
        inner = self.coercion.boolean(self.bind(node.this), "NOT", self.position(node))
        if isinstance(inner, e.InSubquery):
            return e.InSubquery(BOOL, inner.args, inner.plan, not inner.negated)
        if isinstance(inner, e.IsNull):
            return e.IsNull(BOOL, inner.arg, not inner.negated)
        if isinstance(inner, e.IsBool):
            return e.IsBool(BOOL, inner.arg, inner.value, not inner.negated)
        return e.Not(BOOL, inner)

    def is_test(self, node: Any) -> e.Expr:
        negated = bool(node.args.get("negate"))
        right = node.expression
        if isinstance(right, exp.Null):
            items = row_items(node.this)
            if items is not None:  # IS NULL: all of them are; IS NOT NULL: none of them is
                return e.And(BOOL, tuple(e.IsNull(BOOL, self.bind_settled(item), negated) for item in items))
            return e.IsNull(BOOL, self.bind_settled(node.this), negated)
        if isinstance(right, exp.Boolean):
            word = "TRUE" if right.this else "FALSE"
            inner = self.coercion.boolean(self.bind(node.this), f"IS {word}", self.position(node))
            return e.IsBool(BOOL, inner, bool(right.this), negated)
        if isinstance(right, exp.Literal) and right.this == UNKNOWN_TRUTH:
            inner = self.coercion.boolean(self.bind(node.this), "IS UNKNOWN", self.position(node))
            return e.IsNull(BOOL, inner, negated)
        raise self.refuse("IS with this operand", node)

    # -- operators ---------------------------------------------------------------------------------

    def operate(
        self,
        symbol: str,
        args: list[e.Expr],
        node: Any,
        table: tuple[f.Overload, ...] | None = None,
        operands: Sequence[Any] = (),
    ) -> e.Expr:
        """A call of the operator's overload; `operands` are its arguments' nodes where those are not the sides of
        `node`. Errors with 42883 or 42725 in PostgreSQL's words."""
        types = tuple(a.type for a in args)
        if table is None:
            table = f.OPERATORS[symbol]
        found = select_operator(table, types)
        if isinstance(found, f.Overload):
            spots = [self.position(x) for x in operands or self._operands(node, len(args))]
            return self.coercion.call(found, args, spots)
        shown = (
            f"{types[0].without_modifiers().name} {symbol} {types[1].without_modifiers().name}"
            if len(types) == 2
            else f"{symbol} {types[0].name}"
        )
        if len(types) == 2:
            position = self.operator_position(node, symbol)
        else:
            position = self.position_before(node, symbol)
        if found == AMBIGUOUS:
            raise errors.AmbiguousFunction(
                f"operator is not unique: {shown}",
                hint="Could not choose a best candidate operator. You might need to add explicit type casts.",
                position=position,
            )
        raise errors.UndefinedFunction(
            f"operator does not exist: {shown}",
            hint="No operator matches the given name and argument types. You might need to add explicit type casts."
            if len(types) == 2
            else "No operator matches the given name and argument type. You might need to add an explicit type cast.",
            position=position,
        )

    @staticmethod
    def _operands(node: Any, count: int) -> list[Any]:
        if count == 2 and isinstance(node, exp.Binary):
            return [node.this, node.expression]
        return [node] * count
