"""The one table of operators, functions and aggregates: argument types, result types, and the name each is
executed under.

An `Overload` is what PostgreSQL calls a pg_operator or pg_proc row. `name` is the name the executor's
implementations know; `takes` are the types a call is looked up by, `runs` the types its arguments are cast to
(they differ for PostgreSQL's operators over two number types, which the executor does not know). Result types
are a type or a function of the argument types.

Results of arithmetic on numeric are numeric without modifiers, as in PostgreSQL: their scale travels with the
vectors.

Not here: the rules of choosing (`coerce.py`), the special forms CASE, COALESCE, NULLIF, IN, LIKE ... ESCAPE
(`bind_expr.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from filestore.query.catalog_functions import ARRAY_FUNCTIONS, SESSION_FUNCTIONS
from filestore.types import (
    BOOL,
    BPCHAR,
    BYTEA,
    CHAR,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    NAME,
    NUMERIC,
    OID,
    REGTYPE,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    VOID,
    Kind,
    SqlType,
)

Types = tuple[SqlType, ...]
Result = SqlType | Callable[[Types], SqlType]


@dataclass(frozen=True)
class Overload:
    """One signature. `variadic` repeats the last type of `takes`, none or more times; `swap` runs two
    arguments in the other order."""

    name: str
    takes: Types
    result: Result
    runs: Types = ()
    variadic: bool = False
    swap: bool = False

    def run_types(self, count: int) -> Types:
        """The types that `count` arguments are cast to."""
        types = self.runs or self.takes
        return types if len(types) == count else types + (types[-1],) * (count - len(types))

    def result_type(self, arguments: Types) -> SqlType:
        return self.result if isinstance(self.result, SqlType) else self.result(arguments)


ANY: Final = SqlType(Kind.VOID)  # stands for "any" in `takes`: matches every type and casts nothing


def _first(types: Types) -> SqlType:
    return types[0]


def _wider(left: SqlType, right: SqlType, order: Types) -> SqlType:
    return max(left, right, key=order.index)


INTEGERS: Final = (INT2, INT4, INT8)
FLOATS: Final = (FLOAT4, FLOAT8)
MOMENTS: Final = (DATE, TIMESTAMP, TIMESTAMPTZ)


def _crossed(name: str, order: Types, result: SqlType | None = None) -> Iterable[Overload]:
    """Overloads for all pairs of `order`, run in the wider type, which is also the result unless given."""
    for left in order:
        for right in order:
            wide = _wider(left, right, order)
            yield Overload(name, (left, right), result or wide, (wide, wide))


def _arithmetic(name: str) -> list[Overload]:
    cross = [*_crossed(name, INTEGERS), *_crossed(name, FLOATS)]
    return [*cross, Overload(name, (NUMERIC, NUMERIC), NUMERIC)]


def _comparison(name: str) -> tuple[Overload, ...]:
    same = (BOOL, NUMERIC, TEXT, BPCHAR, NAME, CHAR, BYTEA, TIME, INTERVAL, UUID, OID)
    found = [o for order in (INTEGERS, FLOATS, MOMENTS) for o in _crossed(name, order, BOOL)]
    found += [Overload(name, (t, t), BOOL) for t in same]
    found += [Overload(name, (NAME, TEXT), BOOL, (TEXT, TEXT)), Overload(name, (TEXT, NAME), BOOL, (TEXT, TEXT))]
    return tuple(found)


def _plus() -> list[Overload]:
    found = _arithmetic("add")
    for left, right, result in (
        (DATE, INT4, DATE), (DATE, INTERVAL, TIMESTAMP), (TIMESTAMP, INTERVAL, TIMESTAMP),
        (TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ), (TIME, INTERVAL, TIME), (DATE, TIME, TIMESTAMP),
    ):  # fmt: skip
        found += [
            Overload("add", (left, right), result),
            Overload("add", (right, left), result, (left, right), swap=True),
        ]
    return [*found, Overload("add", (INTERVAL, INTERVAL), INTERVAL)]


def _minus() -> list[Overload]:
    dated = (
        (DATE, INT4, DATE), (DATE, DATE, INT4), (DATE, INTERVAL, TIMESTAMP), (TIMESTAMP, INTERVAL, TIMESTAMP),
        (TIMESTAMPTZ, INTERVAL, TIMESTAMPTZ), (TIMESTAMP, TIMESTAMP, INTERVAL),
        (TIMESTAMPTZ, TIMESTAMPTZ, INTERVAL), (INTERVAL, INTERVAL, INTERVAL), (TIME, INTERVAL, TIME),
        (TIME, TIME, INTERVAL),
    )  # fmt: skip
    return [*_arithmetic("sub"), *(Overload("sub", (a, b), r) for a, b, r in dated)]


def _times() -> list[Overload]:
    return [
        *_arithmetic("mul"),
        Overload("mul", (INTERVAL, FLOAT8), INTERVAL),
        Overload("mul", (FLOAT8, INTERVAL), INTERVAL, (INTERVAL, FLOAT8), swap=True),
    ]


def _modulo(name: str) -> list[Overload]:
    return [*(Overload(name, (t, t), t) for t in INTEGERS), Overload(name, (NUMERIC, NUMERIC), NUMERIC)]


def _bits(name: str) -> tuple[Overload, ...]:
    return tuple(Overload(name, (t, t), t) for t in INTEGERS)


def _texts(name: str) -> tuple[Overload, ...]:
    return (Overload(name, (TEXT, TEXT), BOOL), Overload(name, (NAME, TEXT), BOOL, (TEXT, TEXT)))


OPERATORS: Final[dict[str, tuple[Overload, ...]]] = {
    "+": tuple(_plus()),
    "-": tuple(_minus()),
    "*": tuple(_times()),
    "/": (*_arithmetic("div"), Overload("div", (INTERVAL, FLOAT8), INTERVAL)),
    "%": tuple(_modulo("mod")),
    "^": (Overload("pow", (FLOAT8, FLOAT8), FLOAT8), Overload("pow", (NUMERIC, NUMERIC), NUMERIC)),
    "||": (Overload("concat", (TEXT, TEXT), TEXT), Overload("concat", (BYTEA, BYTEA), BYTEA)),
    "&": _bits("bitand"),
    "|": _bits("bitor"),
    "#": _bits("bitxor"),
    "<<": tuple(Overload("shl", (t, INT4), t) for t in INTEGERS),
    ">>": tuple(Overload("shr", (t, INT4), t) for t in INTEGERS),
    "=": _comparison("eq"),
    "<>": _comparison("ne"),
    "<": _comparison("lt"),
    "<=": _comparison("le"),
    ">": _comparison("gt"),
    ">=": _comparison("ge"),
    "~~": (*_texts("like"), Overload("like", (BPCHAR, TEXT), BOOL, (TEXT, TEXT))),
    "~~*": (*_texts("ilike"), Overload("ilike", (BPCHAR, TEXT), BOOL, (TEXT, TEXT))),
    "~": (*_texts("regex_match"), Overload("regex_match", (BPCHAR, TEXT), BOOL, (TEXT, TEXT))),
    "~*": (*_texts("regex_imatch"), Overload("regex_imatch", (BPCHAR, TEXT), BOOL, (TEXT, TEXT))),
    "^@": (Overload("starts_with", (TEXT, TEXT), BOOL),),
}
PREFIX_OPERATORS: Final[dict[str, tuple[Overload, ...]]] = {
    "-": tuple(Overload("neg", (t,), _first) for t in (*INTEGERS, *FLOATS, NUMERIC, INTERVAL)),
    "+": tuple(Overload("plus", (t,), _first) for t in (*INTEGERS, *FLOATS, NUMERIC)),
    "~": tuple(Overload("bitnot", (t,), t) for t in INTEGERS),
}
NOT_DISTINCT: Final = _comparison("not_distinct")
DISTINCT: Final = _comparison("distinct")
COMMUTED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _functions() -> dict[str, tuple[Overload, ...]]:
    table: dict[str, list[Overload]] = {}

    def add(names: str, result: Result, *signatures: Types, runs_as: str = "", variadic: bool = False) -> None:
        for name in names.split():
            for takes in signatures:
                run = Overload(runs_as or names.split(maxsplit=1)[0], takes, result, variadic=variadic)
                table.setdefault(name, []).append(run)

    _strings(add)
    _numbers(add)
    _times_and_dates(add)
    _session(add)
    return {name: tuple(overloads) for name, overloads in table.items()}


def _strings(add: Callable[..., None]) -> None:
    t, i = TEXT, INT4
    add("lower", t, (t,))
    add("upper", t, (t,))
    for name in ("initcap", "reverse", "quote_ident", "quote_literal"):
        add(name, t, (t,))
    add("length char_length character_length", i, (t,), (BPCHAR,))
    add("length", i, (BYTEA,))
    add("octet_length", i, (t,), (BYTEA,), (BPCHAR,))
    add("substring substr", t, (t, i), (t, i, i))
    add("substring substr", BYTEA, (BYTEA, i), (BYTEA, i, i))
    add("substring", t, (t, t), runs_as="regex_substring")
    add("regexp_replace", t, (t, t, t), (t, t, t, t), (t, t, t, i), (t, t, t, i, i), (t, t, t, i, i, t))
    add("regexp_like", BOOL, (t, t), (t, t, t))
    add("regexp_count", i, (t, t), (t, t, i), (t, t, i, t))
    add("regexp_substr", t, (t, t), (t, t, i), (t, t, i, i), (t, t, i, i, t), (t, t, i, i, t, i))
    add("position strpos", i, (t, t))
    add("replace", t, (t, t, t))
    add("translate", t, (t, t, t))
    add("btrim", t, (t,), (t, t))
    add("ltrim", t, (t,), (t, t))
    add("rtrim", t, (t,), (t, t))
    add("lpad", t, (t, i), (t, i, t))
    add("rpad", t, (t, i), (t, i, t))
    add("left", t, (t, i))
    add("right", t, (t, i))
    add("repeat", t, (t, i))
    add("split_part", t, (t, t, i))
    add("starts_with", BOOL, (t, t))
    add("like_escape", t, (t, t))
    add("md5", t, (t,), (BYTEA,))
    add("ascii", i, (t,))
    add("chr", t, (i,))
    add("to_hex", t, (i,), (INT8,))
    add("concat", t, (t,), runs_as="concat_fn", variadic=True)
    add("concat_ws", t, (t, t), variadic=True)
    add("format", t, (t,), variadic=True)
    add("encode", t, (BYTEA, t))
    add("quote_nullable", t, (t,))
    add("bit_length", i, (t,), (BYTEA,), (BPCHAR,))
    add("overlay", t, (t, t, i), (t, t, i, i))
    add("overlay", BYTEA, (BYTEA, BYTEA, i), (BYTEA, BYTEA, i, i))
    for name in ("sha224", "sha256", "sha384", "sha512"):
        add(name, BYTEA, (BYTEA,))
    add("decode", BYTEA, (t, t))


def _numbers(add: Callable[..., None]) -> None:
    n, f = NUMERIC, FLOAT8
    add("abs", _first, *((t,) for t in (*INTEGERS, FLOAT4, f, n)))
    for name in ("sign", "ceil ceiling", "floor", "exp", "ln", "sqrt"):
        add(name, f, (f,))
        add(name, n, (n,))
    for name in ("round", "trunc"):
        add(name, f, (f,))
        add(name, n, (n,), (n, INT4))
    add("cbrt", f, (f,))
    add("log log10", f, (f,))
    add("log log10", n, (n,))
    add("log", n, (n, n))
    add("pow power", f, (f, f))
    add("pow power", n, (n, n))
    add("pi", f, ())
    add("random", f, ())
    for t in (*INTEGERS, n):
        add("mod", t, (t, t))
    for name in (
        "sin", "cos", "tan", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        "degrees", "radians",
    ):  # fmt: skip
        add(name, f, (f,))
    add("atan2", f, (f, f))
    add("div", n, (n, n), runs_as="quotient")
    for t in (INT4, INT8, n):
        add("gcd", t, (t, t))
        add("lcm", t, (t, t))
    add("factorial", n, (INT8,))
    add("scale", INT4, (n,))
    add("min_scale", INT4, (n,))
    add("trim_scale", n, (n,))
    for name in ("num_nulls", "num_nonnulls"):
        add(name, INT4, (ANY,), variadic=True)


def _times_and_dates(add: Callable[..., None]) -> None:
    fields = tuple((TEXT, t) for t in (DATE, TIMESTAMP, TIMESTAMPTZ, TIME, INTERVAL))
    add("extract", NUMERIC, *fields)
    add("date_part", FLOAT8, *fields)
    for t in (TIMESTAMP, TIMESTAMPTZ, INTERVAL):
        add("date_trunc", t, (TEXT, t))
    add("date_trunc", TIMESTAMPTZ, (TEXT, TIMESTAMPTZ, TEXT))
    add("now transaction_timestamp", TIMESTAMPTZ, ())
    add("statement_timestamp", TIMESTAMPTZ, ())
    add("clock_timestamp", TIMESTAMPTZ, ())
    add("pg_sleep", VOID, (FLOAT8,))
    add("make_date", DATE, (INT4, INT4, INT4))
    add("make_timestamp", TIMESTAMP, (INT4, INT4, INT4, INT4, INT4, FLOAT8))
    add("make_time", TIME, (INT4, INT4, FLOAT8))
    for t in (TIMESTAMP, TIMESTAMPTZ):
        add("date_bin", t, (INTERVAL, t, t))
    add("isfinite", BOOL, (DATE,), (TIMESTAMP,), (TIMESTAMPTZ,), (INTERVAL,))
    add("to_char", TEXT, *((t, TEXT) for t in (TIMESTAMP, TIMESTAMPTZ, INTERVAL, INT4, INT8, NUMERIC, FLOAT8)))
    add("to_date", DATE, (TEXT, TEXT))
    add("to_timestamp", TIMESTAMPTZ, (FLOAT8,), (TEXT, TEXT))
    for t in (TIMESTAMP, TIMESTAMPTZ):
        add("age", INTERVAL, (t, t), (t,))
    add("justify_interval", INTERVAL, (INTERVAL,))
    add("justify_days", INTERVAL, (INTERVAL,))
    add("justify_hours", INTERVAL, (INTERVAL,))
    add("gen_random_uuid", UUID, ())
    add("timezone", TIMESTAMPTZ, (TEXT, TIMESTAMP), (INTERVAL, TIMESTAMP))
    add("timezone", TIMESTAMP, (TEXT, TIMESTAMPTZ), (INTERVAL, TIMESTAMPTZ))


def _session(add: Callable[..., None]) -> None:
    for names, result, signatures in (*SESSION_FUNCTIONS, *ARRAY_FUNCTIONS):
        for name in names.split():
            add(name, result, *signatures)
    add("pg_size_pretty", TEXT, (INT8,), (NUMERIC,))
    add("pg_typeof", REGTYPE, (ANY,))


CALLS: Final[dict[str, tuple[Overload, ...]]] = _functions()

# SQL's functions without parentheses, and the session functions of type name that are also callable.
KEYWORD_FUNCTIONS: Final[dict[str, SqlType]] = {
    "current_date": DATE,
    "current_user": NAME,
    "session_user": NAME,
    "current_schema": NAME,
    "current_database": NAME,
}

CHANGING: Final = frozenset(
    {"random", "clock_timestamp", "gen_random_uuid", "set_config", "current_setting", "pg_notify", "pg_sleep"}
)
"""Functions called anew for every row: their values change, or they do something, within a statement."""

VOLATILE: Final = frozenset(
    {
        *CHANGING, "txid_current", "now", "statement_timestamp", "current_date", "version", "pg_backend_pid",
        *KEYWORD_FUNCTIONS, "pg_typeof",
        *(name for names, _, _ in SESSION_FUNCTIONS for name in names.split()),
    }
)  # fmt: skip
"""Functions whose value does not follow from their arguments alone: never folded."""

TIMEZONE_DEPENDENT: Final = frozenset(
    {"to_char", "to_timestamp", "date_trunc", "extract", "date_part", "age", "timezone"}
)
"""Functions that may read the session's settings: left to run time as well."""


# --- aggregates -----------------------------------------------------------------------------------


def _sum_aggregate(t: SqlType) -> SqlType | None:
    return {
        Kind.INT2: INT8, Kind.INT4: INT8, Kind.INT8: NUMERIC, Kind.NUMERIC: NUMERIC, Kind.FLOAT4: FLOAT4,
        Kind.FLOAT8: FLOAT8, Kind.INTERVAL: INTERVAL,
    }.get(t.kind)  # fmt: skip


def _avg_aggregate(t: SqlType) -> SqlType | None:
    if t.kind in (Kind.INT2, Kind.INT4, Kind.INT8, Kind.NUMERIC):
        return NUMERIC
    return {Kind.FLOAT4: FLOAT8, Kind.FLOAT8: FLOAT8, Kind.INTERVAL: INTERVAL}.get(t.kind)


def _spread_aggregate(t: SqlType) -> SqlType | None:
    if t.kind in (Kind.INT2, Kind.INT4, Kind.INT8, Kind.NUMERIC):
        return NUMERIC
    return FLOAT8 if t.kind in (Kind.FLOAT4, Kind.FLOAT8) else None


_ORDERED_KINDS = frozenset(
    {
        Kind.INT2, Kind.INT4, Kind.INT8, Kind.FLOAT4, Kind.FLOAT8, Kind.NUMERIC, Kind.TEXT, Kind.BPCHAR,
        Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL, Kind.OID,
    }
)  # fmt: skip


def _extreme_aggregate(t: SqlType) -> SqlType | None:
    if t.kind in (Kind.VARCHAR, Kind.NAME):
        return TEXT
    if t.kind in _ORDERED_KINDS:
        return t  # char(n) keeps its width, or its blanks would be lost
    return None


def _bool_aggregate(t: SqlType) -> SqlType | None:
    return BOOL if t.kind is Kind.BOOL else None


def _bit_aggregate(t: SqlType) -> SqlType | None:
    return t if t in INTEGERS else None


AGGREGATES: Final[dict[str, tuple[str, Callable[[SqlType], SqlType | None]]]] = {
    "sum": ("sum", _sum_aggregate),
    "avg": ("avg", _avg_aggregate),
    "min": ("min", _extreme_aggregate),
    "max": ("max", _extreme_aggregate),
    "bit_and": ("bit_and", _bit_aggregate),
    "bit_or": ("bit_or", _bit_aggregate),
    "bit_xor": ("bit_xor", _bit_aggregate),
    "bool_and": ("bool_and", _bool_aggregate),
    "every": ("bool_and", _bool_aggregate),
    "bool_or": ("bool_or", _bool_aggregate),
    "stddev": ("stddev_samp", _spread_aggregate),
    "stddev_samp": ("stddev_samp", _spread_aggregate),
    "stddev_pop": ("stddev_pop", _spread_aggregate),
    "variance": ("var_samp", _spread_aggregate),
    "var_samp": ("var_samp", _spread_aggregate),
    "var_pop": ("var_pop", _spread_aggregate),
}
"""SQL name -> (executor's name, result type for an argument type or None). count and string_agg are bound by
hand."""

AGGREGATE_NAMES: Final = frozenset(AGGREGATES) | {"count", "string_agg"}


def _collect() -> dict[str, tuple[Overload, ...]]:
    table: dict[str, list[Overload]] = {}
    for overloads in (*CALLS.values(), *OPERATORS.values(), *PREFIX_OPERATORS.values(), NOT_DISTINCT, DISTINCT):
        for overload in overloads:
            known = table.setdefault(overload.name, [])
            if overload not in known:
                known.append(overload)
    for name, result in KEYWORD_FUNCTIONS.items():
        table.setdefault(name, [Overload(name, (), result)])
    for name in ("greatest", "least"):
        table[name] = [Overload(name, (ANY,), _first, variadic=True)]
    table["similar_to"] = [Overload("similar_to", (TEXT, TEXT), BOOL), Overload("similar_to", (TEXT, TEXT, TEXT), BOOL)]
    table.pop("plus")
    return {name: tuple(overloads) for name, overloads in table.items()}


FUNCTIONS: Final[dict[str, tuple[Overload, ...]]] = _collect()
"""Every function that a bound plan may call, by the executor's name; a test holds it against the
implementations."""
