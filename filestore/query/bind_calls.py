"""Binds conditional forms, casts, calls of functions and aggregates, and the functions with a syntax of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query import functions as f
from filestore.query.bind_context import NO_FUNCTION_HINT, AggregateRef, end_of, name_of
from filestore.query.bind_predicates import PredicateBinder
from filestore.query.bind_types import sql_type
from filestore.query.coerce import AMBIGUOUS, can_coerce, select
from filestore.query.interval_text import FIELDS, parse_interval
from filestore.query.unbuilt import UNBUILT_FUNCTIONS
from filestore.types import (
    BOOL,
    DATE,
    INT8,
    INTERVAL,
    NAME,
    OID_KINDS,
    REG_KINDS,
    REGCLASS,
    REGTYPE,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    Kind,
    SqlType,
)

_WORDS: Final = {
    exp.Extract: "EXTRACT", exp.Overlay: "OVERLAY", exp.StrPosition: "POSITION", exp.Substring: "SUBSTRING",
    exp.Trim: "TRIM",
}  # fmt: skip
"""The words that functions with a syntax of their own begin with."""
FLOAT_KINDS: Final = frozenset({Kind.FLOAT4, Kind.FLOAT8})


class CallBinder(PredicateBinder):
    """Calls, and what looks like one."""

    SPECIAL: ClassVar[dict[str, Callable[[Any, Any], e.Expr]]] = {}

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
        self._some_arguments(node)
        args = self.coercion.unify(
            self.all_of(node.expressions), "COALESCE", [self.position(n) for n in node.expressions]
        )
        return e.Coalesce(args[0].type, tuple(args)) if len(args) > 1 else args[0]

    def nullif(self, node: Any) -> e.Expr:
        if len(node.expressions) != 2:
            raise errors.SqlSyntaxError('syntax error in "nullif"', position=self.position(node))
        left, right = self.all_of(node.expressions)
        equal = self.operate("=", [left, right], exp.EQ(this=node.expressions[0], expression=node.expressions[1]))
        value = equal.args[0] if isinstance(equal, e.Call) else self.coercion.settle(left)
        return e.Case(value.type, ((equal, e.Const(value.type, None)),), value)

    def _some_arguments(self, node: Any) -> None:
        if not node.expressions:
            raise errors.SqlSyntaxError('syntax error at or near ")"', position=self.position(node))

    def extreme(self, node: Any, name: str) -> e.Expr:
        self._some_arguments(node)
        args = self.coercion.unify(
            self.all_of(node.expressions), name.upper(), [self.position(n) for n in node.expressions]
        )
        return e.Call(args[0].type, name, tuple(args)) if len(args) > 1 else args[0]

    # -- casts and typed literals ------------------------------------------------------------------

    def cast(self, node: Any) -> e.Expr:
        if node.args.get("format") is not None or node.args.get("default") is not None:
            raise self.refuse("CAST ... FORMAT", node)
        try:
            target = sql_type(node.to)
        except errors.Error as error:
            error.position = self._cast_position(node)[1]
            raise
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
        try:
            return self.coercion.to(arg, target, "explicit", position)
        except errors.CannotCoerce as error:
            error.position = self._cast_position(node)[0]
            raise

    def _cast_position(self, node: Any) -> tuple[int | None, int | None]:
        """Where a cast stands (its `::`, or the word CAST) and where its type does."""
        after = end_of(node.this)
        if after is None:
            return self.position(node), self.position(node)
        source = self.context.source
        found = re.compile(r"[\s)]*(::|AS\b)\s*", re.IGNORECASE).match(source.rewritten, after)
        if found is None:  # int4 '5'
            return self.position(node), self.position(node)
        if found.group(1) == "::":
            return source.position(found.start(1)), source.position(found.end())
        return self.position_before(node, "CAST"), source.position(found.end())

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
        """INTERVAL '...' with its fields and precision; see parse_tokens. Errors with 22007, 22008, 22015, 42601."""
        literal, fields, digits = (str(x.this) for x in node.expressions)
        position = self.position(node.expressions[0])
        if fields and fields not in FIELDS:
            word = fields.rsplit(" ", 1)[-1]
            raise errors.SqlSyntaxError(f'syntax error at or near "{word}"', position=position)
        try:
            value = parse_interval(literal, fields or None, int(digits) if digits else None)
        except errors.Error as error:
            error.position = position
            raise
        return e.Const(INTERVAL, value)

    def at_time_zone(self, node: Any) -> e.Expr:
        zone = self.bind(node.args["zone"])
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
        return self.call_named(name, self.arguments(name, node), node)

    def quoted_literal(self, node: Any) -> e.Expr:
        """quote_literal(any type), quote_nullable(any type): of its text."""
        name = name_of(node.this)
        args = self.arguments(name, node)
        texts = [a if a.type.info.category in ("S", "X") else self.coercion.cast(a, TEXT, False) for a in args]
        return self.call_named(name, texts, node)

    def type_of(self, node: Any) -> e.Expr:
        """pg_typeof(): of a literal that nothing has given a type it is unknown."""
        args = self.arguments("pg_typeof", node)
        if len(args) == 1 and isinstance(args[0], e.Const) and args[0].type.kind is Kind.UNKNOWN:
            return e.Const(REGTYPE, UNKNOWN.oid)
        return self.call_named("pg_typeof", args, node)

    def arguments(self, name: str, node: Any) -> list[e.Expr]:
        """The bound arguments of a call that is no aggregate. Errors with 42883 for f(*), 42809 for f(DISTINCT x)."""
        if name in UNBUILT_FUNCTIONS:
            raise self.refuse(f"function {name}()", node)
        for item in node.expressions:
            if isinstance(item, exp.Star):
                raise self._no_function(f"{name}()", node)
            if isinstance(item, exp.Distinct | exp.Order):
                what = "DISTINCT" if isinstance(item, exp.Distinct) else "ORDER BY"
                raise errors.WrongObjectType(
                    f"{what} specified, but {name} is not an aggregate function", position=self.position(node)
                )
        return self.all_of(node.expressions)

    def call_named(self, name: str, args: list[e.Expr], node: Any, nodes: Sequence[Any] = ()) -> e.Expr:
        """The overload for the arguments' types; `nodes` are the arguments' where they are not those of a plain call.
        Errors: 42883, 42725, 0A000 for PostgreSQL's functions that are not built."""
        types = tuple(a.type for a in args)
        table = f.CALLS.get(name)
        found = select(table, types) if table is not None else None
        if isinstance(found, f.Overload):
            self.context.waits |= name == "pg_sleep"
            nodes = nodes or (node.expressions if isinstance(node, exp.Anonymous) else [node] * len(args))
            return self.coercion.call(found, args, [self.position(n) for n in nodes])
        if name in f.KEYWORD_FUNCTIONS and not args:
            return e.Call(f.KEYWORD_FUNCTIONS[name], name, ())
        if len(args) == 1 and (cast := self._functional_cast(name, args[0], node)) is not None:
            return cast
        if name in UNBUILT_FUNCTIONS:
            raise self.refuse(f"function {name}()", node)
        # the functions behind SQL's own syntax are pg_catalog's, whatever the search path
        schema = "" if isinstance(node, exp.Anonymous) else "pg_catalog."
        word = _WORDS.get(type(node))
        position = self.position(node) if word is None else self.position_before(node, word)
        shown = f"{schema}{name}({', '.join(t.without_modifiers().name for t in types)})"
        if found == AMBIGUOUS:
            raise errors.AmbiguousFunction(
                f"function {shown} is not unique",
                hint="Could not choose a best candidate function. You might need to add explicit type casts.",
                position=position,
            )
        raise errors.UndefinedFunction(
            f"function {shown} does not exist",
            hint=NO_FUNCTION_HINT,
            position=position,
        )

    def _functional_cast(self, name: str, arg: e.Expr, node: Any) -> e.Expr | None:
        """`text(x)`, `int4(x)`: a type's name used as a function."""
        from filestore.types import BY_NAME

        kind = BY_NAME.get(name)
        if kind is None or name in ("char", "character", "decimal", "time", "timestamp", "interval"):
            return None
        if not can_coerce(arg.type, SqlType(kind), "explicit"):
            return None
        spot = node.expressions[0] if isinstance(node, exp.Anonymous) and node.expressions else node
        return self.coercion.to(arg, SqlType(kind), "explicit", self.position(spot))

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
        distinct, order = False, []
        if arguments and isinstance(arguments[-1], exp.Order):
            order = list(arguments[-1].expressions)
            arguments[-1] = arguments[-1].this
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            distinct, arguments = True, list(arguments[0].expressions)
        self.in_aggregate = True
        try:
            star = len(arguments) == 1 and isinstance(arguments[0], exp.Star)
            if star and order:
                position = self.position_before(order[0], "ORDER")
                raise errors.SqlSyntaxError('syntax error at or near "ORDER"', position=position)
            args = [] if star else self.all_of(arguments)
            keys = [self.bind(item.this) for item in order]
            restriction = None
            if condition is not None:
                restriction = self.coercion.boolean(self.bind(condition), "FILTER", self.position(condition))
        finally:
            self.in_aggregate = False
        call = self._aggregate_call(name, args, star=star, distinct=distinct, restriction=restriction, node=node)
        if order:
            call = self._in_order(call, args, keys, order)
        calls = self.collected.calls
        if call not in calls:
            calls.append(call)
        return AggregateRef(call.type, calls.index(call))

    def _in_order(self, call: e.Aggregate, args: list[e.Expr], keys: list[e.Expr], order: list[Any]) -> e.Aggregate:
        """An aggregate with ORDER BY: `keys` bound, `order` their nodes, `args` as they were before they were cast.

        Errors with 42P10 for DISTINCT over one thing and ORDER BY another.
        """
        if call.distinct:
            for key, item in zip(keys, order, strict=True):
                if key.type.kind is Kind.UNKNOWN or key not in args:
                    raise errors.InvalidColumnReference(
                        "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                        position=self.position(item),
                    )
            keys = [call.args[args.index(key)] for key in keys]
        if call.name != "string_agg" and args[0].type.kind not in FLOAT_KINDS:
            return call  # comes to the same in any order
        ways = tuple((bool(item.args.get("desc")), bool(item.args.get("nulls_first"))) for item in order)
        return replace(call, args=(*call.args, *(self.coercion.settle(key) for key in keys)), order=ways)

    def _aggregate_call(
        self, name: str, args: list[e.Expr], *, star: bool, distinct: bool, restriction: e.Expr | None, node: Any
    ) -> e.Aggregate:
        if star:
            if name != "count":
                raise self._no_function(f"{name}()", node)
            return e.Aggregate(INT8, "count_star", (), False, restriction)
        if name == "count":
            if not args:
                raise errors.WrongObjectType(
                    "count(*) must be used to call a parameterless aggregate function", position=self.position(node)
                )
            if len(args) != 1:
                raise self._no_function(f"count({', '.join(a.type.name for a in args)})", node)
            return e.Aggregate(INT8, "count", (self.coercion.settle(args[0]),), distinct, restriction)
        if name == "string_agg":
            if len(args) != 2:
                raise self._no_function(f"string_agg({', '.join(a.type.name for a in args)})", node)
            try:
                ready = tuple(self.coercion.to(a, TEXT, position=self.position(node)) for a in args)
            except (errors.CannotCoerce, errors.DatatypeMismatch):
                shown = ", ".join(a.type.without_modifiers().name for a in args)
                raise self._no_function(f"string_agg({shown})", node) from None
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
            hint=NO_FUNCTION_HINT,
            position=self.position(node),
        )

    # -- functions with a syntax of their own ------------------------------------------------------

    def extract(self, node: Any) -> e.Expr:
        part = node.this
        text = str(part.this).lower() if isinstance(part, exp.Literal) else str(part.name).lower()
        args = [e.Const(UNKNOWN, text), self.bind(node.expression)]
        return self.call_named("extract", args, node, (part, node.expression))

    def substring(self, node: Any) -> e.Expr:
        start, length = node.args.get("start"), node.args.get("length")
        if start is None and length is not None:
            start = exp.Literal.number(1)
        nodes = [x for x in (node.this, start, length) if x is not None]
        args = self.all_of(nodes)
        if len(args) == 3 and all(a.type.info.category in ("S", "X") for a in args[1:]):
            raise self.refuse("substring with a pattern of SIMILAR TO", node, "Use a regular expression: FROM '...'.")
        return self.call_named("substring", args, node, nodes)

    def trim(self, node: Any) -> e.Expr:
        where = str(node.args.get("position") or "BOTH").upper()
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(where, "btrim")
        return self._with_syntax(name, node, (node.this, node.args.get("expression")))

    def overlay(self, node: Any) -> e.Expr:
        """overlay(text PLACING text FROM n [FOR n]), and the same with commas."""
        return self._with_syntax(
            "overlay", node, (node.this, node.expression, node.args.get("from_"), node.args.get("for_"))
        )

    def find_position(self, node: Any) -> e.Expr:
        return self._with_syntax("position", node, (node.this, node.args["substr"]))

    def _with_syntax(self, name: str, node: Any, parts: Sequence[Any]) -> e.Expr:
        nodes = [part for part in parts if part is not None]
        return self.call_named(name, self.all_of(nodes), node, nodes)

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

    def type_with_argument(self, node: Any) -> e.Expr:
        """time('10:00'): behind these words a parenthesis holds a precision, nothing else."""
        position = self.position(node.this) if isinstance(node.this, exp.Expr) else self.position(node)
        found = re.compile(r"'(?:[^']|'')*'|\w+|.", re.DOTALL).match(self.context.source.text, (position or 1) - 1)
        shown = found[0] if found is not None else type(node).__name__.lower()
        raise errors.SqlSyntaxError(f'syntax error at or near "{shown}"', position=position)

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
