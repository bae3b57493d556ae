"""Random queries that are right in their types, so that what they meet is meaning and not the binder's refusals.

An expression is made for a kind (`int`, `num`, `text` ...) from the columns in scope, ever simpler as depth runs out.
Most operations cannot fail; `risky` queries may (division by zero, overflow), and read one table whole, so that every
engine meets the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.fuzz.tables import BIG_COLUMNS, COLUMNS

KINDS: Final = ("int", "big", "num", "float", "text", "char", "bool", "date", "ts", "tz", "iv", "uuid", "bytea")
COMMON: Final = ("int", "int", "num", "text", "text", "bool", "date", "float", "big", "ts")
# What min and max take, and what DISTINCT may count.
ORDERED: Final = ("int", "big", "num", "float", "text", "date", "ts", "tz", "iv")
CASTS: Final = {
    "int": "int", "big": "int8", "num": "numeric", "float": "float8", "text": "text", "char": "char(4)", "bool": "bool",
    "date": "date", "ts": "timestamp", "tz": "timestamptz", "iv": "interval", "uuid": "uuid", "bytea": "bytea",
}  # fmt: skip


@dataclass
class Scope:
    """The columns that an expression may read: (text, kind)."""

    columns: list[tuple[str, str]] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        return [text for text, k in self.columns if k == kind]


def table_scope(table: str, alias: str) -> Scope:
    """All columns of a table."""
    columns = BIG_COLUMNS if table == "big" else {name: kind for name, (_, kind) in COLUMNS.items()}
    return Scope([(f"{alias}.{name}", kind) for name, kind in columns.items()])


class Expressions:
    """Makes expressions. `risky` lets them fail."""

    def __init__(self, rng: random.Random, *, risky: bool = False) -> None:
        self.rng = rng
        self.risky = risky
        self.scope = Scope()
        self.subqueries = True

    def pick(self, *choices: Callable[[], str]) -> str:
        return self.rng.choice(choices)()

    def make(self, kind: str, depth: int) -> str:
        """An expression of a kind."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.25:
            return self.leaf(kind)
        shared = rng.random()
        if shared < 0.06:
            one, other = self.make(kind, depth - 1), self.make(kind, depth - 1)
            return f"CASE WHEN {self.make('bool', depth - 1)} THEN {one} ELSE {other} END"
        if shared < 0.10:
            return f"coalesce({self.make(kind, depth - 1)}, {self.make(kind, depth - 1)})"
        if shared < 0.13 and kind not in ("float", "iv"):
            return f"nullif({self.make(kind, depth - 1)}, {self.make(kind, depth - 1)})"
        if shared < 0.16 and kind in ORDERED:
            name = rng.choice(("greatest", "least"))
            return f"{name}({self.make(kind, depth - 1)}, {self.make(kind, depth - 1)})"
        made: Callable[[int], str] | None = getattr(self, f"_{kind}", None)
        return made(depth - 1) if made else self.leaf(kind)

    def leaf(self, kind: str) -> str:
        columns = self.scope.of(kind)
        if columns and self.rng.random() < 0.75:
            return self.rng.choice(columns)
        if self.rng.random() < 0.05:
            return f"NULL::{CASTS[kind]}"
        return self.literal(kind)

    def literal(self, kind: str) -> str:
        rng = self.rng
        match kind:
            case "int":
                return str(rng.choice((0, 1, 2, 3, 7, 10, 100, rng.randint(0, 50))))
            case "big":
                return f"{rng.choice((0, 1, 5000000000, 12))}::int8"
            case "num":
                return rng.choice(("0.0", "1.5", "2.00", "0.25", "100.125", "7.0"))
            case "float":
                return rng.choice(("0.5::float8", "2::float8", "'-1.25'::float8", "0::float8"))
            case "text":
                return rng.choice(("''", "'a'", "'abc'", "'b'", "'é'", "'x y'", "'w3'", "'Ab'"))
            case "char":
                return rng.choice(("'a'::char(4)", "'ab'::char(4)"))
            case "bool":
                return rng.choice(("true", "false"))
            case "date":
                return rng.choice(("date '2020-02-29'", "date '2000-01-01'", "date '1999-12-31'", "date '2021-03-04'"))
            case "ts":
                return rng.choice(("timestamp '2020-02-29 12:34:56'", "timestamp '2001-01-31 00:00:00'"))
            case "tz":
                return rng.choice(("timestamptz '2020-02-29 12:34:56+02'", "timestamptz '2005-05-05'"))
            case "iv":
                return rng.choice(("interval '1 day'", "interval '1 mon 2 days 03:04:05'", "interval '-90 minutes'"))
            case "uuid":
                return f"'00000000-0000-4000-8000-{rng.randint(0, 20):012d}'::uuid"
            case _:
                return rng.choice(("'\\x00'::bytea", "'\\x61'::bytea"))

    # --- by kind -----------------------------------------------------------------------------------------------------

    def _int(self, d: int) -> str:
        m = self.make
        choices = [
            lambda: f"({m('int', d)} {self.rng.choice('+-')} {m('int', d)})",
            lambda: f"({m('int', d)} % 10 * {self.leaf('int')})",
            lambda: f"{m('int', d)} / nullif({m('int', d)}, 0)",
            lambda: f"{m('int', d)} % nullif({self.leaf('int')}, 0)",
            lambda: f"-({m('int', d)})",
            lambda: f"abs({m('int', d)})",
            lambda: f"length({m('text', d)})",
            lambda: f"({m('date', d)} - {m('date', d)})",
            lambda: f"({m('bool', d)})::int",
            lambda: f"extract({self.rng.choice(('year', 'month', 'day', 'dow', 'doy'))} FROM {m('date', d)})::int",
            lambda: f"position({self.leaf('text')} IN {m('text', d)})",
            lambda: f"({m('int', d)} & {self.leaf('int')})",
            lambda: f"sign({m('num', d)})::int",
            lambda: f"ascii({m('text', d)})",
        ]
        if self.risky:
            choices += [
                lambda: f"{m('int', d)} / {m('int', d)}",
                lambda: f"{m('int', d)} * {m('int', d)} * {m('int', d)}",
                lambda: f"({m('num', d)})::int",
                lambda: f"({m('big', d)})::int",
                lambda: f"({m('text', d)})::int",
            ]
        return self.pick(*choices)

    def _big(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('big', d)} {self.rng.choice('+-')} {m('int', d)})",
            lambda: f"({m('int', d)})::int8",
            lambda: f"abs({m('big', d)})",
            lambda: f"{m('big', d)} / nullif({m('int', d)}, 0)",
            lambda: f"({m('big', d)} % 1000 * {self.leaf('int')})",
            lambda: f"{m('big', d)} % 97",
        )

    def _num(self, d: int) -> str:
        m = self.make
        choices = [
            lambda: f"({m('num', d)} {self.rng.choice('+-*')} {m('num', d)})",
            lambda: f"({m('num', d)} {self.rng.choice('+-*')} {m('int', d)})",
            lambda: f"{m('num', d)} / nullif({m('num', d)}, 0)",
            lambda: f"{m('num', d)} % nullif({self.leaf('num')}, 0)",
            lambda: f"{self.rng.choice(('round', 'trunc'))}({m('num', d)}, {self.rng.randint(0, 3)})",
            lambda: f"{self.rng.choice(('ceil', 'floor', 'abs', 'round', 'sign', '-'))}({m('num', d)})",
            lambda: f"({m('int', d)})::numeric",
            lambda: f"({m('big', d)})::numeric(30,3)",
            lambda: f"extract({self.rng.choice(('second', 'epoch', 'hour', 'week'))} FROM {m('ts', d)})",
        ]
        if self.risky:
            choices += [lambda: f"{m('num', d)} / {m('num', d)}", lambda: f"({m('num', d)})::numeric(4,1)"]
        return self.pick(*choices)

    def _float(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('float', d)} {self.rng.choice('+-*')} {m('float', d)})",
            lambda: f"{self.rng.choice(('abs', 'floor', 'ceil', 'round', 'trunc', '-'))}({m('float', d)})",
            lambda: f"({m('int', d)})::float8",
            lambda: f"({m('num', d)})::float8",
            lambda: f"{m('float', d)} / nullif({m('float', d)}, 0)",
            lambda: f"sqrt(abs({m('int', d)}))",
        )

    def _text(self, d: int) -> str:
        m, rng = self.make, self.rng
        return self.pick(
            lambda: f"({m('text', d)} || {m('text', d)})",
            lambda: f"({m('text', d)} || {m(rng.choice(('int', 'num', 'date', 'bool')), d)})",
            lambda: f"{rng.choice(('upper', 'lower', 'reverse', 'initcap', 'btrim', 'md5'))}({m('text', d)})",
            lambda: f"substr({m('text', d)}, {rng.randint(-1, 3)}, {rng.randint(0, 4)})",
            lambda: f"{rng.choice(('left', 'right'))}({m('text', d)}, {rng.randint(-2, 3)})",
            lambda: f"replace({m('text', d)}, {self.leaf('text')}, {self.leaf('text')})",
            lambda: f"{rng.choice(('lpad', 'rpad'))}({m('text', d)}, {rng.randint(0, 6)}, 'xy')",
            lambda: f"split_part({m('text', d)}, 'b', {rng.randint(1, 2)})",
            lambda: f"({m(rng.choice(KINDS), d)})::text",
            lambda: f"to_char({m('date', d)}, 'YYYY-MM-DD DY')",
            lambda: f"concat({m('text', d)}, {m('int', d)}, {m('bool', d)})",
            lambda: f"translate({m('text', d)}, 'ab', 'x')",
            lambda: f"({m('text', d)})::varchar(3)",
        )

    def _char(self, d: int) -> str:
        return f"({self.make('text', d)})::char(4)"

    def _bool(self, d: int) -> str:
        return f"({self._condition(d)})"

    def _condition(self, d: int) -> str:
        m, rng = self.make, self.rng
        kind = rng.choice(COMMON if rng.random() < 0.8 else KINDS)
        plain = "text" if kind == "char" else kind
        return self.pick(
            lambda: f"{m(plain, d)} {self._operator(plain)} {m(plain, d)}",
            lambda: f"{m('int', d)} {self._operator('int')} {m(rng.choice(('big', 'num', 'float')), d)}",
            lambda: f"({m('bool', d)} AND {m('bool', d)})",
            lambda: f"({m('bool', d)} OR {m('bool', d)})",
            lambda: f"NOT ({m('bool', d)})",
            lambda: f"({m(kind, d)}) IS {rng.choice(('', 'NOT '))}NULL",
            lambda: f"({m('bool', d)}) IS {rng.choice(('', 'NOT '))}{rng.choice(('TRUE', 'FALSE', 'UNKNOWN'))}",
            lambda: f"{m(plain, d)} IS {rng.choice(('', 'NOT '))}DISTINCT FROM {m(plain, d)}",
            lambda: (
                f"{m(plain, d)} {rng.choice(('', 'NOT '))}IN ({m(plain, d)}, {self.leaf(plain)}, {self.literal(plain)})"
            ),
            lambda: f"{m('int', d)} {rng.choice(('', 'NOT '))}BETWEEN {m('int', d)} AND {m('int', d)}",
            lambda: f"{m('text', d)} {rng.choice(('', 'NOT '))}{rng.choice(('LIKE', 'ILIKE'))} {self._pattern()}",
            lambda: self._regex(d),
            lambda: self._subquery_condition(d),
        )

    def _operator(self, kind: str) -> str:
        return self.rng.choice(("=", "<>", "<", "<=", ">", ">="))

    def _pattern(self) -> str:
        return self.rng.choice(("'a%'", "'%b'", "'_b%'", "'%'", "''", "'a\\%b'", "'%é%'", "'w_'"))

    def _regex(self, d: int) -> str:
        pattern = self.rng.choice(("^a", "b$", "[a-c]+", "^.b", "a|x", "[0-9]"))
        return f"{self.make('text', d)} {self.rng.choice(('~', '~*', '!~'))} '{pattern}'"

    def _subquery_condition(self, d: int) -> str:
        outer = self.scope.of("int")
        if not self.subqueries or not outer:
            return f"{self.make('int', d)} > 0"
        rng = self.rng
        key = rng.choice(outer)
        kind = rng.choice(("exists", "in", "scalar", "correlated"))
        inner = rng.choice(("i4", "i2", "id"))
        where = rng.choice(("", f" WHERE s.n > {self.literal('num')}", " WHERE s.b", " WHERE s.t LIKE 'a%'"))
        negated = rng.choice(("", "NOT "))
        match kind:
            case "exists":
                both = where + (" AND " if where else " WHERE ") + f"s.{inner} = {key}"
                return f"{negated}EXISTS (SELECT 1 FROM b s{both})"
            case "in":
                return f"{key} {negated}IN (SELECT s.{inner} FROM b s{where})"
            case "scalar":
                return f"{key} {self._operator('int')} (SELECT {rng.choice(('max', 'min'))}(s.{inner}) FROM b s{where})"
            case _:
                both = where + (" AND " if where else " WHERE ") + f"s.{inner} = {key}"
                item = rng.choice(("count(*)", "count(s.n)", "max(s.i4)"))
                return f"(SELECT {item} FROM b s{both}) {self._operator('int')} 1"

    def _date(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('date', d)} {self.rng.choice('+-')} {m('int', d)} % 1000)",
            lambda: f"({m('ts', d)})::date",
            lambda: f"date_trunc('{self.rng.choice(('month', 'year', 'week', 'quarter'))}', {m('ts', d)})::date",
            lambda: f"({m('tz', d)})::date",
        )

    def _ts(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('ts', d)} {self.rng.choice('+-')} {m('iv', d)})",
            lambda: f"date_trunc('{self.rng.choice(('hour', 'day', 'month', 'year', 'week'))}', {m('ts', d)})",
            lambda: f"({m('date', d)})::timestamp",
            lambda: f"({m('tz', d)} AT TIME ZONE 'America/New_York')",
            lambda: f"({m('date', d)} + {m('iv', d)})",
        )

    def _tz(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('tz', d)} {self.rng.choice('+-')} {m('iv', d)})",
            lambda: f"({m('ts', d)} AT TIME ZONE 'Europe/Berlin')",
            lambda: f"({m('ts', d)})::timestamptz",
        )

    def _iv(self, d: int) -> str:
        m = self.make
        return self.pick(
            lambda: f"({m('iv', d)} {self.rng.choice('+-')} {m('iv', d)})",
            lambda: f"({m('ts', d)} - {m('ts', d)})",
            lambda: f"({m('iv', d)} * {self.rng.choice((2, -1, 3))})",
            lambda: f"-({m('iv', d)})",
            lambda: f"age({m('ts', d)}, {m('ts', d)})",
        )
