"""Binds operators with two sides, ranges, lists, patterns and subqueries."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query.bind_base import BINARY, COMPARED, BaseBinder
from filestore.query.bind_context import array_texts, cast_columns, name_of, row_items
from filestore.query.bind_types import sql_type
from filestore.query.coerce import number_literal
from filestore.query.literal_lists import constants
from filestore.types import BOOL, TEXT, UNKNOWN, Kind, SqlType


class PredicateBinder(BaseBinder):
    """Comparisons and everything that is made of them."""

    def binary(self, node: Any, symbol: str) -> e.Expr:
        chain: list[tuple[Any, str]] = []
        while True:  # left-deep chains are walked, not recursed into
            chain.append((node, symbol))
            self._check_prefix(node, symbol)
            left = node.this
            next_symbol = BINARY.get(type(left))
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

    def _check_prefix(self, node: Any, symbol: str) -> None:
        """Refuses what sqlglot groups otherwise than PostgreSQL, where `~`, `^@` and `||` bind equally, weaker than
        arithmetic."""
        if symbol in ("~", "~*", "^@") and BINARY.get(type(node.expression)) in _SAME_LEVEL:
            raise self.refuse(f"{symbol} before another operator", node, "Put its right side into parentheses.")
        if symbol in _ARITHMETIC and _ends_in_prefix(node.this):
            raise self.refuse(f"~ before {symbol}", node, "Put the operand of ~ into parentheses.")

    def _check_chain(self, node: Any, symbol: str, left: Any, right: Any, chained: Callable[[Any], bool]) -> None:
        """42601 for `a < b < c`, `a LIKE b LIKE c`: these operators do not associate."""
        if chained(left):
            position = self.operator_position(node, symbol)
        elif chained(right):
            position = self.operator_position(right, COMPARED.get(type(right), symbol))
        else:
            return
        text = self.context.source.text[position - 1 :] if position is not None else symbol
        found = re.match(r"\w+|[<>=!~*]+", text)
        raise errors.SqlSyntaxError(f'syntax error at or near "{found[0] if found else symbol}"', position=position)

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
        self._check_chain(node, symbol, left, right, lambda side: type(side) in COMPARED)
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
            raise errors.SqlSyntaxError(
                "unequal number of entries in row expressions", position=self.operator_position(node, symbol)
            )
        pairs = [([self.bind(a), self.bind(b)], (a, b)) for a, b in zip(left, right, strict=True)]
        if symbol not in ("=", "<>"):
            return self._row_order(symbol, pairs, node)
        parts = [self.operate(symbol, args, node, operands=nodes) for args, nodes in pairs]
        if len(parts) == 1:
            return parts[0]
        return e.And(BOOL, tuple(parts)) if symbol == "=" else e.Or(BOOL, tuple(parts))

    def _row_order(self, symbol: str, pairs: list[tuple[list[e.Expr], tuple[Any, Any]]], node: Any) -> e.Expr:
        """`(a, b) < (c, d)` as `a < c OR (a = c AND b < d)`: the first pair that differs decides, a null before it
        leaves it open."""
        args, nodes = pairs[-1]
        found = self.operate(symbol, args, node, operands=nodes)
        for args, nodes in reversed(pairs[:-1]):
            before = self.operate(symbol[0], args, node, operands=nodes)
            equal = self.operate("=", args, node, operands=nodes)
            found = e.Or(BOOL, (before, e.And(BOOL, (equal, found))))
        return found

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
        if items is None and (positive or (not any_of and symbol == "<>")):
            found = self.contained(node, inner, any_of=any_of)
            if found is not None:
                return found
        if items is None:
            raise self.refuse(
                f"{'ANY' if any_of else 'ALL'} of an array that is not a constant",
                node,
                "Use IN with a list of values.",
            )
        if positive:
            return self.in_items(node, self.bind(node.this), items, _items_of(inner))
        if not any_of and symbol == "<>":
            return e.Not(BOOL, self.in_items(node, self.bind(node.this), items, _items_of(inner)))
        if not items:
            return e.Const(BOOL, not any_of)
        parts = tuple(self.operate(symbol, [self.bind(node.this), item], node) for item in items)
        return parts[0] if len(parts) == 1 else (e.Or if any_of else e.And)(BOOL, parts)

    def contained(self, node: Any, right: Any, *, any_of: bool) -> e.Expr | None:  # noqa: ARG002
        """`x = ANY (array)` for arrays that are not constants: see bind_arrays."""
        return None

    def array_items(self, node: Any) -> list[e.Expr] | None:
        """The items of ARRAY[...] or of a '{...}' literal; None for anything else."""
        element: SqlType | None = None
        while isinstance(node, exp.Paren | exp.Cast):
            if isinstance(node, exp.Cast):
                if getattr(node.to, "this", None) is not exp.DType.ARRAY or not node.to.expressions:
                    return None
                element = sql_type(node.to.expressions[0])
            node = node.this
        if isinstance(node, exp.Array) and not any(isinstance(x, exp.Query) for x in node.expressions):
            items = self.literals(node.expressions)
        elif isinstance(node, exp.Literal) and node.is_string and node.this.startswith("{"):
            items = [e.Const(UNKNOWN, text) for text in array_texts(node.this, self.position(node))]
        else:
            return None
        return [self.coercion.to(i, element, "explicit") for i in items] if element else items

    def unary(self, node: Any) -> e.Expr:
        symbol = "-" if isinstance(node, exp.Neg) else "~"
        number = _signed_number(node) if symbol == "-" else None
        if number is not None:
            try:
                return number_literal(number)
            except errors.Error as error:
                error.position = self.position_before(node, "-")
                raise
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
        self._check_chain(node, "between", node.this, None, _is_range)
        arg = self.bind(node.this)
        low, high = ((self.bind(node.args[side]), node.args[side]) for side in ("low", "high"))
        one = self._range(node, arg, low, high)
        if not node.args.get("symmetric"):
            return one
        return e.Or(BOOL, (one, self._range(node, arg, high, low)))

    def _range(self, node: Any, arg: e.Expr, low: tuple[e.Expr, Any], high: tuple[e.Expr, Any]) -> e.Expr:
        parts = [
            self.operate(symbol, [arg, bound], node, operands=(node.this, at))
            for symbol, (bound, at) in ((">=", low), ("<=", high))
        ]
        return e.And(BOOL, tuple(parts))

    def membership(self, node: Any) -> e.Expr:
        query = node.args.get("query")
        if query is None and len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Values):
            query = node.expressions[0]
        self._check_chain(node, "in", node.this, None, _is_range)
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
        return self.in_items(node, self.bind(node.this), self.literals(node.expressions), node.expressions)

    def in_items(self, node: Any, arg: e.Expr, items: list[e.Expr], nodes: Sequence[Any]) -> e.Expr:
        """One InList when a common type exists, as PostgreSQL makes one ScalarArrayOpExpr; else comparisons
        joined by OR. `nodes` are the items' own, or others where they came from elsewhere."""
        if not items:
            return e.Const(BOOL, False)
        if len(nodes) != len(items):
            nodes = [node] * len(items)
        if len(items) == 1:
            return self.operate("=", [arg, items[0]], node, operands=(node.this, nodes[0]))
        known = [x.type for x in (arg, *items) if x.type.kind is not Kind.UNKNOWN]
        if len({t.info.category for t in known}) > 1:
            parts = tuple(
                self.operate("=", [arg, item], node, operands=(node.this, at))
                for item, at in zip(items, nodes, strict=True)
            )
            return e.Or(BOOL, parts)
        item_type = self.coercion.common_type(
            [x.type for x in items] if any(x.type.kind is not Kind.UNKNOWN for x in items) else [arg.type],
            "IN",
            [self.position(node)],
        )
        spots = [self.position(n) for n in nodes]
        ready = [
            self.coercion.to(x, item_type, "explicit" if x.type.kind is Kind.UNKNOWN else "implicit", at)
            for x, at in zip(items, spots, strict=True)
        ]
        call = self.operate("=", [arg, ready[0]], node)
        if not isinstance(call, e.Call):
            return call
        side = call.args[0]
        target = call.args[1].type
        plain = SqlType(target.kind)
        final = [self.coercion.cast(x, plain, False) if x.type.kind is not plain.kind else x for x in ready]
        return e.InList(BOOL, side, e.list_items(final))

    def literals(self, nodes: list[Any]) -> list[e.Expr]:
        """The items of a list, also where one literal stands for them all."""
        lists = self.context.source.lists
        if lists and len(nodes) == 1 and (at := self.position(nodes[0])) is not None and at - 1 in lists:
            return constants(lists[at - 1])
        return self.all_of(nodes)

    # -- patterns ----------------------------------------------------------------------------------

    def like(self, node: Any, escape: e.Expr | None = None) -> e.Expr:
        symbol = "~~*" if isinstance(node, exp.ILike) else "~~"
        right = node.expression
        self._check_chain(node, symbol, node.this, None, _is_range)
        if isinstance(right, exp.Any | exp.All):
            items = self.array_items(right.this)
            if items is None:
                raise self.refuse("LIKE ANY of this operand", node, "Write the conditions out with OR.")
            parts = tuple(self.operate(symbol, [self.bind(node.this), item], node) for item in items)
            found: e.Expr = (e.Or if isinstance(right, exp.Any) else e.And)(BOOL, parts)
        else:
            args = [self.bind(node.this), self.bind(right)]
            if escape is not None:
                pattern = self.coercion.to(args[1], TEXT, position=self.position(right))
                args[1] = e.Call(TEXT, "like_escape", (pattern, self.coercion.to(escape, TEXT)))
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
        self._check_chain(node, "similar", node.this, None, _is_range)
        args = [self.coercion.to(self.bind(x), TEXT, position=self.position(x)) for x in (node.this, node.expression)]
        found = e.Call(BOOL, "similar_to", (*args, escape) if escape is not None else tuple(args))
        return e.Not(BOOL, found) if node.args.get("negate") else found

    # -- subqueries --------------------------------------------------------------------------------

    def in_subquery(self, node: Any, left: list[Any], query: Any, *, negated: bool) -> e.Expr:
        plan, _ = self.subquery(query, self.scope)
        if len(plan.columns) != len(left):
            few = "few" if len(plan.columns) < len(left) else "many"
            raise errors.SqlSyntaxError(
                f"subquery has too {few} columns", position=self.position_before(query, "IN")
            )
        args: list[e.Expr] = []
        casts: list[e.Expr] = []
        for i, (item, column) in enumerate(zip(left, plan.columns, strict=True)):
            pair = exp.EQ(this=item, expression=exp.Null())
            try:
                call = self.operate("=", [self.bind(item), e.Column(column.type, i, column.name)], pair)
            except errors.UndefinedFunction as error:
                if isinstance(node, exp.In):
                    error.position = self.position_before(query, "IN", "NOT")
                raise
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
            raise errors.SqlSyntaxError(
                "subquery must return only one column", position=self.position_before(node, "(")
            )
        return e.ScalarSubquery(plan.columns[0].type, plan)


_SAME_LEVEL: Final = frozenset({"||", "&", "|", "#", "<<", ">>", "~", "~*", "^@"})
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%", "^"})
_RANGES: Final = (exp.Between, exp.Like, exp.ILike, exp.SimilarTo, exp.Escape)


def _is_range(node: Any) -> bool:
    """Whether it ends in the right side of BETWEEN, LIKE or SIMILAR TO."""
    return isinstance(node.this if isinstance(node, exp.Not) else node, _RANGES)


def _items_of(array: Any) -> Sequence[Any]:
    """The nodes of the items of ARRAY[...]; none for an array of another form."""
    while isinstance(array, exp.Paren | exp.Cast):
        array = array.this
    return array.expressions if isinstance(array, exp.Array) else ()


def _ends_in_prefix(node: Any) -> bool:
    """Whether the last operand of an expression has an unparenthesised ~ before it."""
    while not isinstance(node, exp.BitwiseNot):
        if type(node) in BINARY:
            node = node.expression
        elif isinstance(node, exp.Neg):
            node = node.this
        else:
            return False
    return True


def _signed_number(node: Any) -> str | None:
    """The number that a literal and the minus signs before it make; None for anything else."""
    if isinstance(node, exp.Literal):
        return None if node.is_string else str(node.this)
    if not isinstance(node, exp.Neg | exp.Paren):
        return None
    inner = _signed_number(node.this)
    if inner is None or isinstance(node, exp.Paren):
        return inner
    return inner[1:] if inner.startswith("-") else "-" + inner
