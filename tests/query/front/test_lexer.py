"""The lexer: tokens, statements, string values, and literals taken out without changing what a statement
means."""

from __future__ import annotations

import decimal
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore import errors
from filestore.query import expr as e
from filestore.query.coerce import number_literal
from filestore.query.explain import plan_lines
from filestore.query.lexer import _normalised, normalise, split, string_value, tokens
from filestore.query.rules.fold_constants import fold_constants
from filestore.query.rules.traversal import bottom_up, map_exprs
from filestore.types import INT4, INT8, NUMERIC
from tests.query.front.fixture_catalog import FixtureCatalog

KIND_TYPES = {"int4": INT4, "int8": INT8, "numeric": NUMERIC, "string": None}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        (" ; ;select 1 ; begin;; ", ["select 1", "begin"]),
        ("select ';'; select 2", ["select ';'", "select 2"]),
        ('select ";" from t; x', ['select ";" from t', "x"]),
        ("select $$;$$; x", ["select $$;$$", "x"]),
        ("select $a$;$$;$a$; x", ["select $a$;$$;$a$", "x"]),
        ("select E'\\';'; x", ["select E'\\';'", "x"]),
        ("select 1 -- ;\n; x", ["select 1", "x"]),
        ("select /* ; /* ; */ ; */ 1; x", ["select /* ; /* ; */ ; */ 1", "x"]),
        ("-- nothing", []),
        ("", []),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert [text[p.start : p.end] for p in split(text)] == parts


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("select 'a", 'unterminated quoted string at or near "\'a"', 8),
        ('select "a', 'unterminated quoted identifier at or near ""a"', 8),
        ("select 1 /* x", 'unterminated /* comment at or near "/* x"', 10),
        ("select $$x", 'unterminated dollar-quoted string at or near "$$x"', 8),
    ],
)
def test_unterminated(text: str, message: str, position: int) -> None:
    with pytest.raises(errors.SqlSyntaxError) as caught:
        tokens(text)
    assert caught.value.message == message
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("'it''s'", "it's"),
        ("E'a\\nb\\t\\\\\\''", "a\nb\t\\'"),
        ("E'\\x41\\102\\u00e9'", "ABé"),
        ("$$it's$$", "it's"),
        ("$q$a$$b$q$", "a$$b"),
        ("N'x'", "x"),
        ("'a\\b'", "a\\b"),
    ],
)
def test_string_value(source: str, value: str) -> None:
    assert string_value(source) == value


@pytest.mark.parametrize(
    ("text", "key", "taken"),
    [
        ("SELECT a FROM t WHERE a = 5", "SELECT a FROM t WHERE a = $1", [("int4", "5")]),
        ("select a from t where a=-5", "select a from t where a=-$1", [("int4", "5")]),
        ("select a from t where a = 5000000000", "select a from t where a = $1", [("int8", "5000000000")]),
        ("select a from t where c > 1.50", "select a from t where c > $1", [("numeric", "1.50")]),
        ("select a from t where b = 'it''s'", "select a from t where b = $1", [("string", "it's")]),
        ("update t set a = a + 1 where a = 2", "update t set a = a + $1 where a = $2", [("int4", "1"), ("int4", "2")]),
        ("insert into t values (1, 'a, 5')", "insert into t values ($1, $2)", [("int4", "1"), ("string", "a, 5")]),
        ("select a from t where a in (1, 2,3)", "select a from t where a in ($1, $2,$3)", [("int4", c) for c in "123"]),
        (
            "select a from t where a between 1 and 9",
            "select a from t where a between $1 and $2",
            [("int4", "1"), ("int4", "9")],
        ),
    ],
)  # fmt: skip
def test_normalised(text: str, key: str, taken: list[tuple[str, str]]) -> None:
    assert normalise(text) == (key, tuple(taken))


@pytest.mark.parametrize(
    "text",
    [
        "select a, 1 from t order by a, 2",
        "select 'x = 5' from t",
        'select "a = 5" from t',
        "select a from t where d = date '2020-01-01'",
        "select a from t where y > interval '1 day'",
        "select a from t where a = 5::int",
        "select a from t where a = $1 and e = 5",
        "select a + 1 from t group by a + 1",
        "select a from t where b like 'x%' limit 5",
        "select round(c, 2) from t",
        "select a -- = 5\nfrom t where a = 5",
        "select t1 from t5",
        "begin",
        "insert into t select a, 5 from t order by 1, 2",
        "select a from t where a = 1e5",
        "select a from t where a = 5.",
        "select a from t order by a between 1 and 2, 3 limit 1 offset 2 + x",
    ],
)
def test_left_alone(text: str) -> None:
    key, taken = normalise(text)
    for _, literal in taken:  # what is taken stands behind an operator or BETWEEN
        assert literal in text
    if "between" not in text:
        assert (key, taken) == (text, ())


@pytest.mark.parametrize(
    "template",
    [
        "select a from t1 where a = # and b in (#, #) and c between # and #",
        "select a from t# where a = # or b = '#'",
        "insert into t values (#, -#, +#), (#.#, #, 'x#')",
        "update t set a = a + # where a = # and b = #.# and c = 1#",
        "delete from t where a = #x or a = # limit #",
        "select a, # from t where a = # and e = -#",
    ],
)
def test_what_was_read_before_is_read_the_same(template: str, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [1, 2, 5, 9, 10, 19]
    for _ in range(200):
        runs = [str(rng.randrange(10 ** rng.choice(sizes))) for _ in range(template.count("#"))]
        runs = [rng.choice(["7", "2147483647", "2147483648", "9223372036854775808", "007", run]) for run in runs]
        text = "".join(a + b for a, b in itertools.zip_longest(template.split("#"), runs, fillvalue=""))
        assert normalise(text) == _normalised(text), text


def substituted(sql: str) -> list[str]:
    """The plan of the normalised statement with its literals put back as constants."""
    catalog = FixtureCatalog()
    key, taken = normalise(sql)
    bound = catalog.bind(key, [KIND_TYPES[kind] for kind, _ in taken])

    def put_back(x: e.Expr) -> e.Expr:
        if isinstance(x, e.Param):
            kind, text = taken[x.number - 1]
            if kind != "string":
                return number_literal(text)
            from filestore.query.coerce import literal

            return literal(x.type, text, False, None)
        if isinstance(x, e.Call) and x.name == "neg" and isinstance(x.args[0], e.Const):
            return e.Const(x.type, -x.args[0].value)
        return x

    plan = bottom_up(bound.plan, lambda node: map_exprs(node, lambda x: e.transform(x, put_back)))
    return plan_lines(fold_constants(plan))


@pytest.mark.parametrize(
    "sql",
    [
        "select a, b from t where a = 5 and c > 1.5 and b = 'x' and e = 5000000000",
        "update t set b = 'y', e = e + 1 where a in (1, 2, 3)",
        "delete from t where a between 3 and 7 and d = '2020-01-01'",
        "insert into t (a, b, c, d) values (1, 'x', 2.50, '2020-01-01'), (2, 'y', 3, null)",
        "select a from t where e = 7 or a <> -1 order by a, 1 limit 3",
    ],
)
def test_normalising_keeps_the_plan(sql: str) -> None:
    assert normalise(sql)[1]
    assert substituted(sql) == plan_lines(fold_constants(FixtureCatalog().bind(sql).plan))


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="select 15.'\"$;-/*=(),\\aEn\n", max_size=40))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        pieces = split(text)
    except errors.Error:
        return
    for piece in pieces:
        assert text[piece.start : piece.end].strip()
    key, taken = normalise(text)
    assert (key == text) == (not taken)


def test_numbers() -> None:
    assert number_literal("2147483647").type == INT4
    assert number_literal("2147483648").type == INT8
    assert number_literal("9223372036854775808").type == NUMERIC
    assert number_literal("1e3").value == decimal.Decimal(1000)
    assert number_literal("0" * 5000 + "12") == e.Const(INT4, 12)
    assert number_literal("-" + "0" * 30 + "9223372036854775808") == e.Const(INT8, -(2**63))
    assert number_literal("9" * 5000).type == NUMERIC
    for text, digits in (("1e2000", 2001), ("-1e131071", 131_072), ("0e200000", 1)):
        assert number_literal(text).value.as_tuple().exponent == 0
        assert len(number_literal(text).value.as_tuple().digits) == digits


@pytest.mark.parametrize("text", ["1e131072", "-1e200000", "12345678901234567890e131060", "1e-20000", "1e99999999999"])
def test_numbers_beyond_numeric(text: str) -> None:
    with pytest.raises(errors.NumericOutOfRange, match="value overflows numeric format"):
        number_literal(text)
