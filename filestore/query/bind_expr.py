"""Binds expressions: names to columns, operators and functions to overloads, literals to constants.

One method per node type of sqlglot; a node without a method is refused by name (0A000). `Context` is shared
by a whole statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query.bind_types import sql_type
from filestore.query.coerce import AMBIGUOUS, Coercion, number_literal, select, select_operator
from filestore.query.names import MARK, fold, shorten
from filestore.query.plan import Plan
from filestore.query.scope import Catalog, Outer, Scope
from filestore.query.statements import Source
from filestore.storage.schema import TableDef
from filestore.types import (
    BOOL,
    DATE,
    INT4,
    INT8,
    INTERVAL,
    NAME,
    OID_KINDS,
    REG_KINDS,
    REGCLASS,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    Kind,
    SqlType,
)

if TYPE_CHECKING:
    from filestore.query.plan import OutputColumn


@dataclass(frozen=True, slots=True)
class AggregateRef(e.Expr):
    """Stands for the aggregate call `number` of its query level until the Aggregate node is built."""

    number: int


@dataclass(slots=True)
class Context:
    """One statement being bound: catalog, parameters, tables met, common table expressions in scope."""

    catalog: Catalog
    coercion: Coercion
    source: Source
    tables: list[TableDef] = field(default_factory=list)
    ctes: list[dict[str, tuple[str, tuple[OutputColumn, ...], list[str]]]] = field(default_factory=list)
    cte_count: int = 0
    correlated: bool = False


@dataclass(slots=True)
class Collected:
    """Aggregate calls of one query level, and where columns were first read outside of them."""

    calls: list[e.Aggregate] = field(default_factory=list)
    first_read: dict[int, tuple[int | None, str]] = field(default_factory=dict)


def name_of(identifier: Any) -> str:
    """The folded name of an Identifier (or of a marked string)."""
    if isinstance(identifier, str):
        return fold(identifier.replace(MARK, ""))
    text = str(identifier.this).replace(MARK, "")
    return shorten(text) if identifier.args.get("quoted") else fold(text)


def offset_of(node: Any) -> int | None:
    """Offset of the leftmost token below a node, as far as sqlglot kept it."""
    best: int | None = None
    stack = [node]
    while stack:
        current = stack.pop()
        meta = current._meta
        if meta and "start" in meta and (best is None or meta["start"] < best):
            best = meta["start"]
        for value in current.args.values():
            if isinstance(value, exp.Expr):
                stack.append(value)
            elif isinstance(value, list):
                stack.extend(v for v in value if isinstance(v, exp.Expr))
    return best


def end_of(node: Any) -> int | None:
    """Offset behind the rightmost token below a node, as far as sqlglot kept it."""
    ends = [n._meta["end"] + 1 for n in node.walk() if n._meta and "end" in n._meta]
    return max(ends) if ends else None


_COMPARED: Final[dict[type, str]] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_BINARY: Final[dict[type, str]] = {
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
}
_REFUSED_NODES: Final[dict[str, str]] = {
    "Window": "window functions", "WithinGroup": "WITHIN GROUP", "JSONExtract": "json operators",
    "JSONExtractScalar": "json operators", "Bracket": "array subscripts", "Collate": "COLLATE",
    "Array": "array constructors", "HexString": "bit strings", "BitString": "bit strings",
    "Dot": "field selection", "Overlay": "overlay()", "ArrayContainsAll": "array operators",
    "ArrayOverlaps": "array operators", "Lambda": "named arguments", "Kwarg": "named arguments",
    "Rollup": "ROLLUP", "Cube": "CUBE", "GroupingSets": "GROUPING SETS", "CurrentTime": "CURRENT_TIME",
    "Operator": "OPERATOR()", "Variadic": "VARIADIC", "Order": "ORDER BY in an aggregate",
    "Distinct": "DISTINCT in this place", "Star": "* in this place", "Slice": "array slices",
    "JSONBContains": "json operators", "AtTimeZone": "AT TIME ZONE",
}  # fmt: skip


class ExprBinder:
    """Binds the expressions of one clause of one query level.

    `clause` is its name in messages; `collected` gathers aggregates, None where they are not allowed;
    `subquery` binds a nested query.
    """

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
        offset = offset_of(node)
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

    def refuse(self, what: str, node: Any, hint: str | None = None) -> errors.FeatureNotSupported:
        verb = "are" if what.endswith("s") and not what.isupper() else "is"
        return errors.FeatureNotSupported(f"{what} {verb} not supported", hint=hint, position=self.position(node))

    # -- entry points ------------------------------------------------------------------------------

    def bind(self, node: Any) -> e.Expr:
        """The bound expression; its type may still be unknown. Errors: 42xxx with the position, 0A000 for
        what is not built."""
        method = self.METHODS.get(type(node))
        if method is None:
            symbol = _BINARY.get(type(node))
            if symbol is not None:
                return self.binary(node, symbol)
            symbol = _COMPARED.get(type(node))
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
        if node.is_string:
            return e.Const(UNKNOWN, node.this)
        return number_literal(str(node.this))

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
            if name in ("user", "current_catalog") and not node.this.args.get("quoted"):
                return e.Call(NAME, "current_user" if name == "user" else "current_database", ())
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
            if isinstance(node.this, exp.Tuple):
                raise self.refuse("IS NULL of a row", node)
            return e.IsNull(BOOL, self.bind_settled(node.this), negated)
        if isinstance(right, exp.Boolean):
            word = "TRUE" if right.this else "FALSE"
            inner = self.coercion.boolean(self.bind(node.this), f"IS {word}", self.position(node))
            return e.IsBool(BOOL, inner, bool(right.this), negated)
        raise self.refuse("IS with this operand", node)

    # -- operators ---------------------------------------------------------------------------------

    def operate(
        self, symbol: str, args: list[e.Expr], node: Any, table: tuple[f.Overload, ...] | None = None
    ) -> e.Expr:
        """A call of the operator's overload. Errors with 42883 or 42725 in PostgreSQL's words."""
        types = tuple(a.type for a in args)
        if table is None:
            table = f.OPERATORS[symbol]
        found = select_operator(table, types)
        if isinstance(found, f.Overload):
            return self.coercion.call(found, args, [self.position(x) for x in self._operands(node, len(args))])
        shown = (
            f"{types[0].without_modifiers().name} {symbol} {types[1].without_modifiers().name}"
            if len(types) == 2
            else f"{symbol} {types[0].name}"
        )
        position = self.operator_position(node, symbol) if len(types) == 2 else self.position(node)
        if found == AMBIGUOUS:
            raise errors.AmbiguousFunction(
                f"operator is not unique: {shown}",
                hint="Could not choose a best candidate operator. You might need to add explicit type casts.",
                position=position,
            )
        raise errors.UndefinedFunction(
            f"operator does not exist: {shown}",
            hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
            position=position,
        )

    @staticmethod
    def _operands(node: Any, count: int) -> list[Any]:
        if count == 2 and isinstance(node, exp.Binary):
            return [node.this, node.expression]
        return [node] * count

    def binary(self, node: Any, symbol: str) -> e.Expr:
        chain: list[tuple[Any, str]] = []
        while True:  # left-deep chains are walked, not recursed into
            chain.append((node, symbol))
            left = node.this
            next_symbol = _BINARY.get(type(left))
            if next_symbol is None:
                break
            node, symbol = left, next_symbol
        result = self.bind(chain[-1][0].this)
        for current, operator in reversed(chain):
            args = [result, self.bind(current.expression)]
            if operator == "||":
                args = self._concatenated(args)
            result = self.operate(operator, args, current)
        return result

    def _concatenated(self, args: list[e.Expr]) -> list[e.Expr]:
        """text || any: the other side becomes text (PostgreSQL's anynonarray overloads)."""
        strings = [a.type.info.category in ("S", "X") for a in args]
        if any(strings) and not all(strings):
            other = args[strings.index(False)]
            if other.type.kind is not Kind.BYTEA:
                return [a if s else self.coercion.cast(a, TEXT, False) for a, s in zip(args, strings, strict=True)]
        return args

    def comparison(self, node: Any, symbol: str) -> e.Expr:
        left, right = node.this, node.expression
        if isinstance(right, exp.Any):
            return self.quantified(node, symbol, right.this, any_of=True)
        if isinstance(right, exp.All):
            return self.quantified(node, symbol, right.this, any_of=False)
        if isinstance(right, exp.Anonymous) and name_of(right.this) in ("all", "some", "any"):
            return self.quantified(node, symbol, right.expressions[0], any_of=name_of(right.this) != "all")
        left_row, right_row = row_items(left), row_items(right)
        if left_row is not None and right_row is not None:
            return self.row_comparison(node, symbol, left_row, right_row)
        return self.operate(symbol, [self.bind(left), self.bind(right)], node)

    def row_comparison(self, node: Any, symbol: str, left: list[Any], right: list[Any]) -> e.Expr:
        if len(left) != len(right):
            raise errors.SqlSyntaxError("unequal number of entries in row expressions", position=self.position(node))
        if symbol not in ("=", "<>"):
            raise self.refuse(f"row comparison with {symbol}", node)
        pairs = zip(left, right, strict=True)
        parts = [self.operate(symbol, [self.bind(a), self.bind(b)], exp.EQ(this=a, expression=b)) for a, b in pairs]
        if len(parts) == 1:
            return parts[0]
        return e.And(BOOL, tuple(parts)) if symbol == "=" else e.Or(BOOL, tuple(parts))

    def quantified(self, node: Any, symbol: str, right: Any, *, any_of: bool) -> e.Expr:
        """`a = ANY (...)`: a subquery becomes InSubquery, a constant array an IN list."""
        inner = right
        while isinstance(inner, exp.Paren):
            inner = inner.this
        positive = any_of and symbol == "="
        if isinstance(inner, exp.Subquery | exp.Query):
            if positive or (not any_of and symbol == "<>"):
                return self.in_subquery(node, [node.this], inner, negated=not positive)
            raise self.refuse(f"{symbol} {'ANY' if any_of else 'ALL'} (subquery)", node)
        items = self.array_items(inner)
        if items is None:
            raise self.refuse(
                f"{'ANY' if any_of else 'ALL'} of an array that is not a constant",
                node,
                "Use IN with a list of values.",
            )
        if positive:
            return self.in_items(node, self.bind(node.this), items)
        if not any_of and symbol == "<>":
            return e.Not(BOOL, self.in_items(node, self.bind(node.this), items))
        if not items:
            return e.Const(BOOL, not any_of)
        parts = tuple(self.operate(symbol, [self.bind(node.this), item], node) for item in items)
        return parts[0] if len(parts) == 1 else (e.Or if any_of else e.And)(BOOL, parts)

    def array_items(self, node: Any) -> list[e.Expr] | None:
        """The items of ARRAY[...] or of a '{...}' literal; None for anything else."""
        element: SqlType | None = None
        while isinstance(node, exp.Paren | exp.Cast):
            if isinstance(node, exp.Cast):
                if getattr(node.to, "this", None) is not exp.DType.ARRAY:
                    return None
                element = sql_type(node.to.expressions[0], self.context.source)
            node = node.this
        if isinstance(node, exp.Array):
            items = self.all_of(node.expressions)
        elif isinstance(node, exp.Literal) and node.is_string and node.this.startswith("{"):
            items = [e.Const(UNKNOWN, text) for text in array_texts(node.this, self.position(node))]
        else:
            return None
        return [self.coercion.to(i, element, "explicit") for i in items] if element else items

    def unary(self, node: Any) -> e.Expr:
        symbol = "-" if isinstance(node, exp.Neg) else "~"
        if symbol == "-" and isinstance(node.this, exp.Literal) and not node.this.is_string:
            constant = number_literal(str(node.this.this))
            value = -constant.value
            if isinstance(value, int) and value == -(1 << 31):  # its magnitude is a bigint, as in PostgreSQL
                return e.Const(INT8, value)
            return e.Const(constant.type, value)
        return self.operate(symbol, [self.bind(node.this)], node, f.PREFIX_OPERATORS[symbol])

    def distinct_from(self, node: Any) -> e.Expr:
        same = isinstance(node, exp.NullSafeEQ)
        table = f.NOT_DISTINCT if same else f.DISTINCT
        left, right = self.bind(node.this), self.bind(node.expression)
        for a, b in ((left, right), (right, left)):
            if isinstance(a, e.Const) and a.value is None and a.type.kind is Kind.UNKNOWN:
                return e.IsNull(BOOL, self.coercion.settle(b), not same)
        return self.operate("=", [left, right], node, table)

    # -- ranges and lists --------------------------------------------------------------------------

    def between(self, node: Any) -> e.Expr:
        arg = self.bind(node.this)
        low, high = self.bind(node.args["low"]), self.bind(node.args["high"])
        one = self._range(node, arg, low, high)
        if not node.args.get("symmetric"):
            return one
        return e.Or(BOOL, (one, self._range(node, arg, high, low)))

    def _range(self, node: Any, arg: e.Expr, low: e.Expr, high: e.Expr) -> e.Expr:
        return e.And(BOOL, (self.operate(">=", [arg, low], node), self.operate("<=", [arg, high], node)))

    def membership(self, node: Any) -> e.Expr:
        query = node.args.get("query")
        left = row_items(node.this)
        if query is not None:
            return self.in_subquery(node, left or [node.this], query, negated=False)
        if node.args.get("unnest") is not None or node.args.get("field") is not None:
            raise self.refuse("IN with this operand", node)
        if left is not None:
            rows = [row_items(item) for item in node.expressions]
            parts = [self.row_comparison(node, "=", left, r) for r in rows if r is not None]
            if len(parts) != len(rows):
                raise errors.SqlSyntaxError(
                    "unequal number of entries in row expressions", position=self.position(node)
                )
            return parts[0] if len(parts) == 1 else e.Or(BOOL, tuple(parts))
        return self.in_items(node, self.bind(node.this), self.all_of(node.expressions))

    def in_items(self, node: Any, arg: e.Expr, items: list[e.Expr]) -> e.Expr:
        """One InList when a common type exists, as PostgreSQL makes one ScalarArrayOpExpr; else comparisons
        joined by OR."""
        if not items:
            return e.Const(BOOL, False)
        if len(items) == 1:
            return self.operate("=", [arg, items[0]], node)
        known = [x.type for x in (arg, *items) if x.type.kind is not Kind.UNKNOWN]
        if len({t.info.category for t in known}) > 1:
            parts = tuple(self.operate("=", [arg, item], node) for item in items)
            return e.Or(BOOL, parts)
        item_type = self.coercion.common_type(
            [x.type for x in items] if any(x.type.kind is not Kind.UNKNOWN for x in items) else [arg.type],
            "IN",
            self.position(node),
        )
        ready = [
            self.coercion.to(
                x, item_type, "explicit" if x.type.kind is Kind.UNKNOWN else "implicit", self.position(node)
            )
            for x in items
        ]
        call = self.operate("=", [arg, ready[0]], node)
        if not isinstance(call, e.Call):
            return call
        side = call.args[0]
        target = call.args[1].type
        plain = SqlType(target.kind)
        final = [self.coercion.cast(x, plain, False) if x.type.kind is not plain.kind else x for x in ready]
        return e.InList(BOOL, side, tuple(final))

    # -- patterns ----------------------------------------------------------------------------------

    def like(self, node: Any, escape: e.Expr | None = None) -> e.Expr:
        symbol = "~~*" if isinstance(node, exp.ILike) else "~~"
        right = node.expression
        if isinstance(right, exp.Any | exp.All):
            items = self.array_items(right.this)
            if items is None:
                raise self.refuse("LIKE ANY of this operand", node, "Write the conditions out with OR.")
            parts = tuple(self.operate(symbol, [self.bind(node.this), item], node) for item in items)
            found: e.Expr = (e.Or if isinstance(right, exp.Any) else e.And)(BOOL, parts)
        else:
            args = [self.bind(node.this), self.bind(right)]
            if escape is not None:
                args[1] = like_pattern(self.coercion.settle(args[1]), escape, self.position(node))
            found = self.operate(symbol, args, node)
        return e.Not(BOOL, found) if node.args.get("negate") else found

    def escaped(self, node: Any) -> e.Expr:
        inner = node.this
        escape = self.coercion.settle(self.bind(node.expression))
        if isinstance(inner, exp.Not):
            return e.Not(BOOL, self.escaped(exp.Escape(this=inner.this, expression=node.expression)))
        if isinstance(inner, exp.Like | exp.ILike):
            return self.like(inner, escape)
        if isinstance(inner, exp.SimilarTo):
            return self.similar(inner, escape)
        raise self.refuse("ESCAPE", node)

    def similar(self, node: Any, escape: e.Expr | None = None) -> e.Expr:
        args = [self.coercion.to(self.bind(x), TEXT, position=self.position(x)) for x in (node.this, node.expression)]
        found = e.Call(BOOL, "similar_to", (*args, escape) if escape is not None else tuple(args))
        return e.Not(BOOL, found) if node.args.get("negate") else found

    # -- subqueries --------------------------------------------------------------------------------

    def in_subquery(self, node: Any, left: list[Any], query: Any, *, negated: bool) -> e.Expr:
        plan, _ = self.subquery(query, self.scope)
        if len(plan.columns) != len(left):
            few = "few" if len(plan.columns) < len(left) else "many"
            raise errors.SqlSyntaxError(f"subquery has too {few} columns", position=self.position(node))
        args: list[e.Expr] = []
        casts: list[e.Expr] = []
        for i, (item, column) in enumerate(zip(left, plan.columns, strict=True)):
            call = self.operate(
                "=", [self.bind(item), e.Column(column.type, i, column.name)], exp.EQ(this=item, expression=exp.Null())
            )
            if not isinstance(call, e.Call):
                raise self.refuse("IN of this type", node)
            args.append(call.args[0])
            casts.append(call.args[1])
        return e.InSubquery(BOOL, tuple(args), cast_columns(plan, casts), negated)

    def exists(self, node: Any) -> e.Expr:
        plan, _ = self.subquery(node.this, self.scope)
        return e.Exists(BOOL, plan)

    def scalar_subquery(self, node: Any) -> e.Expr:
        plan, _ = self.subquery(node, self.scope)
        if len(plan.columns) != 1:
            raise errors.SqlSyntaxError("subquery must return only one column", position=self.position(node))
        return e.ScalarSubquery(plan.columns[0].type, plan)

    # -- conditional forms -------------------------------------------------------------------------

    def case(self, node: Any) -> e.Expr:
        subject = node.args.get("this")
        branches = node.args["ifs"]
        operand = self.bind(subject) if subject is not None else None
        conditions: list[e.Expr] = []
        for branch in branches:
            if operand is None:
                bound = self.coercion.boolean(self.bind(branch.this), "CASE/WHEN", self.position(branch.this))
            else:
                bound = self.operate(
                    "=",
                    [self.coercion.settle(operand), self.bind(branch.this)],
                    exp.EQ(this=subject, expression=branch.this),
                )
            conditions.append(bound)
        otherwise = node.args.get("default")
        results = [self.bind(b.args["true"]) for b in branches]
        default = self.bind(otherwise) if otherwise is not None else e.Const(UNKNOWN, None)
        # PostgreSQL looks at ELSE first when it chooses the type.
        nodes = [otherwise if otherwise is not None else node, *(b.args["true"] for b in branches)]
        unified = self.coercion.unify([default, *results], "CASE", [self.position(n) for n in nodes])
        return e.Case(unified[0].type, tuple(zip(conditions, unified[1:], strict=True)), unified[0])

    def coalesce(self, node: Any) -> e.Expr:
        args = self.coercion.unify(
            self.all_of(node.expressions), "COALESCE", [self.position(n) for n in node.expressions]
        )
        return e.Coalesce(args[0].type, tuple(args)) if len(args) > 1 else args[0]

    def nullif(self, node: Any) -> e.Expr:
        if len(node.expressions) != 2:
            raise errors.SqlSyntaxError('syntax error in "nullif"', position=self.position(node))
        left, right = self.all_of(node.expressions)
        equal = self.operate("=", [left, right], exp.EQ(this=node.expressions[0], expression=node.expressions[1]))
        value = self.coercion.settle(left)
        if isinstance(equal, e.Call) and left.type.kind is Kind.UNKNOWN:
            value = equal.args[0]
        return e.Case(value.type, ((equal, e.Const(value.type, None)),), value)

    def extreme(self, node: Any, name: str) -> e.Expr:
        args = self.coercion.unify(
            self.all_of(node.expressions), name.upper(), [self.position(n) for n in node.expressions]
        )
        return e.Call(args[0].type, name, tuple(args)) if len(args) > 1 else args[0]

    # -- casts and typed literals ------------------------------------------------------------------

    def cast(self, node: Any) -> e.Expr:
        if node.args.get("format") is not None or node.args.get("default") is not None:
            raise self.refuse("CAST ... FORMAT", node)
        target = sql_type(node.to, self.context.source, self.position(node))
        arg = self.bind(node.this)
        position = self.position(node.this)
        if target.kind in REG_KINDS and isinstance(arg, e.Const) and isinstance(arg.value, str):
            return self._registered(arg.value, target, position)
        if (
            target.kind in OID_KINDS
            and arg.type.kind is Kind.UNKNOWN
            and isinstance(arg, e.Const)
            and arg.value is not None
        ):
            text = str(arg.value)
            if text.isdecimal():
                return e.Const(target, int(text))
        return self.coercion.to(arg, target, "explicit", position)

    def _registered(self, text: str, target: SqlType, position: int | None) -> e.Expr:
        """'name'::regclass and 'name'::regtype: looked up when bound."""
        if text.isdecimal():
            return e.Const(target, int(text))
        from filestore.query.names import resolve_type
        from filestore.query.utility import split_name

        if target.kind is Kind.REGTYPE:
            return e.Const(target, resolve_type(text.strip().lower(), (), position).oid)
        if target.kind is not Kind.REGCLASS:
            return e.Cast(target, e.Const(TEXT, text), True)
        schema, name = split_name(text)
        oid = self.context.catalog.relation_oid(schema, name)
        if oid is None:
            raise errors.UndefinedTable(f'relation "{text}" does not exist', position=position)
        return e.Const(REGCLASS, oid)

    def interval(self, node: Any) -> e.Expr:
        value, unit = node.args.get("this"), node.args.get("unit")
        if not isinstance(value, exp.Literal) or not value.is_string:
            raise self.refuse("INTERVAL with this operand", node)
        text = str(value.this)
        if isinstance(unit, exp.IntervalSpan):
            raise self.refuse("INTERVAL with a range of fields", node)
        if unit is not None:
            word = str(unit.this).lower()
            text = f"{text} {word}" if text.strip().lstrip("+-").replace(".", "", 1).isdigit() else text
        return self.coercion.to(e.Const(UNKNOWN, text), INTERVAL, "explicit", self.position(node))

    def at_time_zone(self, node: Any) -> e.Expr:
        zone = self.coercion.to(self.bind(node.args["zone"]), TEXT, position=self.position(node))
        arg = self.bind(node.this)
        if arg.type.kind is Kind.UNKNOWN:
            arg = self.coercion.to(arg, TIMESTAMPTZ, position=self.position(node.this))
        if arg.type.kind is Kind.DATE:
            arg = self.coercion.cast(arg, TIMESTAMPTZ, False)
        return self.call_named("timezone", [zone, arg], node)

    # -- calls -------------------------------------------------------------------------------------

    def call(self, node: Any) -> e.Expr:
        """A function written name(arguments)."""
        name = name_of(node.this)
        special = self.SPECIAL.get(name)
        if special is not None:
            return special(self, node)
        if name in f.AGGREGATE_NAMES:
            return self.aggregate(node, name)
        return self.call_named(name, self.all_of(node.expressions), node)

    def call_named(self, name: str, args: list[e.Expr], node: Any) -> e.Expr:
        """The overload for the arguments' types. Errors: 42883, 42725, 0A000 for PostgreSQL's functions that
        are not built."""
        types = tuple(a.type for a in args)
        table = f.CALLS.get(name)
        found = select(table, types) if table is not None else None
        if isinstance(found, f.Overload):
            nodes = node.expressions if isinstance(node, exp.Anonymous) else [node] * len(args)
            return self.coercion.call(found, args, [self.position(n) for n in nodes])
        if name in f.KEYWORD_FUNCTIONS and not args:
            return e.Call(f.KEYWORD_FUNCTIONS[name], name, ())
        if len(args) == 1 and (cast := self._functional_cast(name, args[0], node)) is not None:
            return cast
        if name in f.UNSUPPORTED_FUNCTIONS:
            raise self.refuse(f"function {name}()", node)
        shown = f"{name}({', '.join(t.without_modifiers().name for t in types)})"
        if found == AMBIGUOUS:
            raise errors.AmbiguousFunction(
                f"function {shown} is not unique",
                hint="Could not choose a best candidate function. You might need to add explicit type casts.",
                position=self.position(node),
            )
        raise errors.UndefinedFunction(
            f"function {shown} does not exist",
            hint="No function matches the given name and argument types. You might need to add explicit type casts.",
            position=self.position(node),
        )

    def _functional_cast(self, name: str, arg: e.Expr, node: Any) -> e.Expr | None:
        """`text(x)`, `int4(x)`: a type's name used as a function."""
        from filestore.types import BY_NAME

        kind = BY_NAME.get(name)
        if kind is None or name in ("char", "character", "decimal", "time", "timestamp", "interval"):
            return None
        return self.coercion.to(arg, SqlType(kind), "explicit", self.position(node))

    def qualified_call(self, node: Any) -> e.Expr:
        """schema.function(...): only pg_catalog has functions."""
        schema, call = node.this, node.expression
        if not isinstance(schema, exp.Identifier | exp.Column | exp.Var) or not isinstance(call, exp.Anonymous):
            return self.row(node) if isinstance(call, exp.Star) else self._field(node)
        name = name_of(schema if not isinstance(schema, exp.Column) else schema.this)
        if name in ("pg_catalog", "information_schema"):
            return self.call(call)
        raise errors.InvalidSchemaName(f'schema "{name}" does not exist', position=self.position(node))

    def _field(self, node: Any) -> e.Expr:
        raise self.refuse("field selection", node)

    def filtered(self, node: Any) -> e.Expr:
        call = node.this
        name = name_of(call.this) if isinstance(call, exp.Anonymous) else ""
        if name not in f.AGGREGATE_NAMES:
            raise errors.WrongObjectType(
                f"FILTER specified, but {name or 'expression'} is not an aggregate function",
                position=self.position(node),
            )
        return self.aggregate(call, name, node.expression.this)

    def aggregate(self, node: Any, name: str, condition: Any = None) -> e.Expr:
        position = self.position(node)
        if self.collected is None:
            raise errors.GroupingError(f"aggregate functions are not allowed in {self.clause}", position=position)
        if self.in_aggregate:
            raise errors.GroupingError("aggregate function calls cannot be nested", position=position)
        arguments = list(node.expressions)
        distinct = False
        if len(arguments) == 1 and isinstance(arguments[0], exp.Order):
            raise self.refuse("ORDER BY in an aggregate", node)
        if len(arguments) >= 1 and isinstance(arguments[-1], exp.Order):
            raise self.refuse("ORDER BY in an aggregate", node)
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            distinct, arguments = True, list(arguments[0].expressions)
        self.in_aggregate = True
        try:
            star = len(arguments) == 1 and isinstance(arguments[0], exp.Star)
            args = [] if star else self.all_of(arguments)
            restriction = None
            if condition is not None:
                restriction = self.coercion.boolean(self.bind(condition), "FILTER", self.position(condition))
        finally:
            self.in_aggregate = False
        call = self._aggregate_call(name, args, star=star, distinct=distinct, restriction=restriction, node=node)
        calls = self.collected.calls
        if call not in calls:
            calls.append(call)
        return AggregateRef(call.type, calls.index(call))

    def _aggregate_call(
        self, name: str, args: list[e.Expr], *, star: bool, distinct: bool, restriction: e.Expr | None, node: Any
    ) -> e.Aggregate:
        if star:
            if name != "count":
                raise self._no_function(f"{name}()", node)
            return e.Aggregate(INT8, "count_star", (), False, restriction)
        if name == "count":
            if len(args) != 1:
                raise self._no_function(f"count({', '.join(a.type.name for a in args)})", node)
            return e.Aggregate(INT8, "count", (self.coercion.settle(args[0]),), distinct, restriction)
        if name == "string_agg":
            if len(args) != 2:
                raise self._no_function(f"string_agg({', '.join(a.type.name for a in args)})", node)
            ready = tuple(self.coercion.to(a, TEXT, position=self.position(node)) for a in args)
            return e.Aggregate(TEXT, "string_agg", ready, distinct, restriction)
        run, rule = f.AGGREGATES[name]
        arg = args[0] if len(args) == 1 else None
        if arg is not None and arg.type.kind is Kind.UNKNOWN:
            arg = self.coercion.to(arg, BOOL if run.startswith("bool") else TEXT)
        result = rule(arg.type) if arg is not None else None
        if arg is None or result is None:
            raise self._no_function(f"{name}({', '.join(a.type.without_modifiers().name for a in args)})", node)
        if arg.type.kind in (Kind.VARCHAR, Kind.NAME):
            arg = self.coercion.cast(arg, TEXT, False)
        return e.Aggregate(result, run, (arg,), distinct, restriction)

    def _no_function(self, shown: str, node: Any) -> errors.UndefinedFunction:
        return errors.UndefinedFunction(
            f"function {shown} does not exist",
            hint="No function matches the given name and argument types. You might need to add explicit type casts.",
            position=self.position(node),
        )

    # -- functions with a syntax of their own ------------------------------------------------------

    def extract(self, node: Any) -> e.Expr:
        part = node.this
        text = str(part.this).lower() if isinstance(part, exp.Literal) else str(part.name).lower()
        return self.call_named("extract", [e.Const(TEXT, text), self._moment(node.expression)], node)

    def _moment(self, node: Any) -> e.Expr:
        return self.bind(node)

    def substring(self, node: Any) -> e.Expr:
        args = [self.bind(node.this)]
        start, length = node.args.get("start"), node.args.get("length")
        if start is None and length is not None:
            args += [e.Const(INT4, 1), self.bind(length)]
        else:
            args += [self.bind(x) for x in (start, length) if x is not None]
        return self.call_named("substring", args, node)

    def trim(self, node: Any) -> e.Expr:
        where = str(node.args.get("position") or "BOTH").upper()
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(where, "btrim")
        args = [self.bind(node.this)]
        if node.args.get("expression") is not None:
            args.append(self.bind(node.expression))
        return self.call_named(name, args, node)

    def find_position(self, node: Any) -> e.Expr:
        return self.call_named("position", [self.bind(node.this), self.bind(node.args["substr"])], node)

    def moment(self, node: Any) -> e.Expr:
        """CURRENT_DATE, CURRENT_TIMESTAMP, LOCALTIMESTAMP, LOCALTIME."""
        if node.args.get("this") is not None and str(node.args["this"].name) != "6":
            raise self.refuse("a precision of the current time", node)
        now = e.Call(TIMESTAMPTZ, "now", ())
        match node:
            case exp.CurrentDate():
                return e.Call(DATE, "current_date", ())
            case exp.CurrentTimestamp():
                return now
            case exp.Localtimestamp():
                return e.Cast(TIMESTAMP, now, False)
            case _:
                return e.Cast(TIME, now, False)

    def session_name(self, node: Any) -> e.Expr:
        names: dict[type, str] = {
            exp.CurrentUser: "current_user", exp.SessionUser: "session_user",
            exp.CurrentSchema: "current_schema", exp.CurrentCatalog: "current_database",
            exp.CurrentRole: "current_user",
        }  # fmt: skip
        return e.Call(NAME, names[type(node)], ())

    def collated(self, node: Any) -> e.Expr:
        """COLLATE: the only order that is built is that of the bytes, under the names it has in PostgreSQL."""
        collation = node.expression
        name = name_of(collation.this if isinstance(collation, exp.Column) else collation)
        if name not in ("C", "POSIX", "default", "ucs_basic", "c"):
            raise self.refuse(f'COLLATE "{name}"', node)
        return self.bind(node.this)

    def operator_call(self, node: Any) -> e.Expr:
        """OPERATOR(pg_catalog.~)"""
        symbol = str(node.args["operator"]).strip().removeprefix("pg_catalog.")
        negated = symbol in ("!~", "!~*", "!~~", "!~~*")
        symbol = symbol[1:] if negated else "<>" if symbol == "!=" else symbol
        if symbol not in f.OPERATORS:
            raise self.refuse(f"operator {symbol}", node)
        found = self.operate(symbol, [self.bind(node.this), self.bind(node.expression)], node)
        return e.Not(BOOL, found) if negated else found

    SPECIAL: ClassVar[dict[str, Callable[[ExprBinder, Any], e.Expr]]] = {
        "coalesce": coalesce,
        "nullif": nullif,
        "greatest": lambda self, node: self.extreme(node, "greatest"),
        "least": lambda self, node: self.extreme(node, "least"),
        "row": row,
    }
    METHODS: ClassVar[dict[type, Callable[[ExprBinder, Any], e.Expr]]] = {
        exp.Literal: literal, exp.Concat: joined_literals, exp.Null: null, exp.Boolean: boolean,
        exp.Parameter: parameter, exp.Placeholder: placeholder, exp.Column: column, exp.Paren: paren,
        exp.Tuple: row, exp.And: connected, exp.Or: connected, exp.Not: negation, exp.Is: is_test,
        exp.Neg: unary, exp.BitwiseNot: unary, exp.NullSafeEQ: distinct_from, exp.NullSafeNEQ: distinct_from,
        exp.Between: between, exp.In: membership, exp.Like: like, exp.ILike: like, exp.Escape: escaped,
        exp.SimilarTo: similar, exp.Exists: exists, exp.Subquery: scalar_subquery,
        exp.Select: scalar_subquery, exp.Case: case, exp.Cast: cast, exp.Interval: interval,
        exp.AtTimeZone: at_time_zone, exp.Anonymous: call, exp.Dot: qualified_call, exp.Filter: filtered,
        exp.Extract: extract, exp.Substring: substring, exp.Trim: trim, exp.StrPosition: find_position,
        exp.CurrentDate: moment, exp.CurrentTimestamp: moment, exp.Localtimestamp: moment,
        exp.Localtime: moment, exp.CurrentUser: session_name, exp.SessionUser: session_name,
        exp.CurrentSchema: session_name, exp.CurrentCatalog: session_name, exp.CurrentRole: session_name,
        exp.Collate: collated, exp.Operator: operator_call,
    }  # fmt: skip


def row_items(node: Any) -> list[Any] | None:
    """The items of a row value (a, b) or ROW(a, b); None for anything else."""
    if isinstance(node, exp.Tuple):
        return list(node.expressions)
    if isinstance(node, exp.Anonymous) and name_of(node.this) == "row":
        return list(node.expressions)
    return None


def array_texts(text: str, position: int | None) -> list[str | None]:
    """The items of a one-dimensional array literal such as {1,NULL,"a b"}; 22P02 when it is malformed."""
    items: list[str | None] = []
    body = text.strip()
    if not body.endswith("}") or "{" in body[1:]:
        raise errors.InvalidTextRepresentation(f'malformed array literal: "{text}"', position=position)
    current, quoted, at, was_quoted = "", False, 1, False
    end = len(body) - 1
    while at < end:
        c = body[at]
        if c == "\\" and at + 1 < end:
            current += body[at + 1]
            at += 1
        elif c == '"':
            quoted, was_quoted = not quoted, True
        elif c == "," and not quoted:
            items.append(_array_item(current, was_quoted))
            current, was_quoted = "", False
        else:
            current += c
        at += 1
    if items or current or was_quoted:
        items.append(_array_item(current, was_quoted))
    return items


def _array_item(text: str, quoted: bool) -> str | None:
    if quoted:
        return text
    text = text.strip()
    return None if text.upper() == "NULL" else text


def like_pattern(pattern: e.Expr, escape: e.Expr, position: int | None) -> e.Expr:
    """LIKE ... ESCAPE: the pattern rewritten to backslash escapes; only for constants."""
    if not isinstance(pattern, e.Const) or not isinstance(escape, e.Const):
        raise errors.FeatureNotSupported(
            "ESCAPE with a pattern that is not a literal is not supported",
            hint="Write the pattern as a literal.",
            position=position,
        )
    if pattern.value is None or escape.value is None:
        return e.Const(TEXT, None)
    mark = str(escape.value)
    if len(mark) > 1:
        raise errors.InvalidEscape(
            "invalid escape string", hint="Escape string must be empty or one character.", position=position
        )
    text = str(pattern.value)
    if mark == "\\":
        return pattern
    out, at = "", 0
    while at < len(text):
        c = text[at]
        if mark and c == mark and at + 1 < len(text):
            out += "\\" + text[at + 1]
            at += 1
        elif c == "\\":
            out += "\\\\"
        else:
            out += c
        at += 1
    return e.Const(TEXT, out)


def cast_columns(plan: Plan, exprs: Sequence[e.Expr]) -> Plan:
    """`plan` with each column cast as the comparison wants it; itself when nothing is cast."""
    from filestore.query.plan import OutputColumn, Project

    if all(isinstance(x, e.Column) for x in exprs):
        return plan
    columns = tuple(
        OutputColumn(c.name, x.type, c.table_oid, c.attnum) for c, x in zip(plan.columns, exprs, strict=True)
    )
    return Project(columns, plan, tuple(exprs))


__all__ = ["AggregateRef", "Collected", "Context", "ExprBinder", "Outer", "name_of", "offset_of"]
