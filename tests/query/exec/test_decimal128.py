"""Numerics of 128 bits: every kernel gives what the functions of Decimals give, digit by digit, for random values and
for extremes; statements over them give what PostgreSQL 15 gives.
"""

from __future__ import annotations

import decimal
import random
from decimal import Decimal
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from filestore import errors
from filestore.query import decimal128_kernels as kernels
from filestore.query import limb_kernels as limbs
from filestore.query import render
from filestore.query.accumulate import Average, Sum, sum_objects
from filestore.query.kernels import frozen
from filestore.query.keys import KeyTable, group, order_of
from filestore.query.literals import format_numeric
from filestore.query.scalar import decimals
from filestore.query.scalar.compare import _decimal_key, compare
from filestore.query.text_parse import from_text
from filestore.query.vectors import (
    EXACT,
    NO_VALID,
    concat,
    decimal128_rows,
    from_decimals,
    to_decimals,
)
from filestore.storage.vector import DECIMAL128, Vector
from filestore.types import INT4, NUMERIC, TEXT, numeric
from tests.query.exec import oracle
from tests.query.exec.standin import Memory

LIMIT = 2**126


def _edges() -> list[int]:
    powers = [10**k + d for k in range(38) for d in (-1, 0, 1)] + [2**k + d for k in (63, 64, 125) for d in (-1, 0, 1)]
    return [p for p in {*powers, LIMIT - 1} if p < LIMIT]


def _decimal(sign: int, whole: int, scale: int) -> Decimal:
    return decimals.positive_zero(Decimal(sign * whole).scaleb(-scale, EXACT))


WHOLES = st.one_of(
    st.integers(0, 126).flatmap(lambda bits: st.integers(0, (1 << bits) - 1)), st.sampled_from(sorted(_edges()))
)
NUMBERS = st.builds(_decimal, st.sampled_from([-1, 1]), WHOLES, st.integers(0, 40))
PRICES = st.builds(_decimal, st.sampled_from([-1, 1]), st.integers(0, 10**15), st.integers(0, 6))
PAIRS = st.lists(st.tuples(NUMBERS | PRICES, NUMBERS | PRICES), min_size=1, max_size=8)
QUICK = settings(deadline=None, max_examples=100)


def vector(values: list[Decimal]) -> Vector:
    """The values in 128 bits, whatever else they would fit."""
    out = np.zeros(len(values), DECIMAL128)
    for i, value in enumerate(values):
        scale = decimals.display_scale(value)
        whole = int(value.scaleb(scale, EXACT))
        out[i] = (whole >> 64, whole & (2**64 - 1), scale)
    return Vector(NUMERIC, out)


def texts(values: list[Decimal]) -> list[str]:
    return [format_numeric(v) for v in values]


def shown(made: Vector) -> list[str]:
    return texts(to_decimals(made).data.tolist())


def split(value: int) -> tuple[np.uint64, np.uint64]:
    return np.uint64(value >> 64), np.uint64(value & (2**64 - 1))


def joined(high: int, low: int) -> int:
    return (int(high) << 64) | int(low)


# --- two words -------------------------------------------------------------------------------------------------------

# What numba says of its types fits neither njit's result nor a dispatcher's attributes.
compiled, dispatchers = cast(Any, njit), cast(Any, limbs)
times_power = compiled(dispatchers.times_power.py_func)
digit_count = compiled(dispatchers.digit_count.py_func)


def test_digits_are_counted_at_every_power() -> None:
    for value in [*_edges(), 0]:
        assert digit_count(*split(value)) == (len(str(value)) if value else 0), value


@QUICK
@given(WHOLES, WHOLES.filter(bool), st.integers(0, 45))
def test_division_of_two_words(value: int, divisor: int, power: int) -> None:
    q_high, q_low, r_high, r_low = limbs.divide(*split(value), *split(divisor))
    assert (joined(q_high, q_low), joined(r_high, r_low)) == divmod(value, divisor)
    exact = (2 * value * 10**power + divisor) // (2 * divisor)
    fits, high, low = limbs.divide_to(*split(value), *split(divisor), power)
    if fits:
        assert joined(high, low) == exact
    else:
        assert exact >= LIMIT or divisor >= 2**124 or (value // divisor) * 10**power >= LIMIT


@QUICK
@given(WHOLES, st.integers(0, 60))
def test_times_a_power(value: int, power: int) -> None:
    fits, high, low = times_power(*split(value), power)
    assert fits == (value * 10**power < 2**128)
    assert not fits or joined(high, low) == value * 10**power


# --- rows ------------------------------------------------------------------------------------------------------------

TWINS = {
    "add": EXACT.add,
    "sub": EXACT.subtract,
    "mul": EXACT.multiply,
    "div": decimals.divide,
    "mod": decimals.remainder,
}


@QUICK
@given(st.sampled_from(sorted(TWINS)), PAIRS)
@example("div", [(Decimal("0.01"), Decimal(10**37)), (Decimal(LIMIT - 1), Decimal("0.3"))])
@example("mul", [(Decimal(2**63), Decimal(2**63 - 1)), (Decimal(-(2**63)), Decimal("0.0"))])
@example("mod", [(Decimal("0.000"), Decimal(2**125))])
def test_arithmetic_is_that_of_decimals(name: str, pairs: list[tuple[Decimal, Decimal]]) -> None:
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    if name in ("div", "mod") and not all(right):
        with pytest.raises(errors.DivisionByZero):
            decimals.by_rows(name, [vector(left), vector(right)], len(pairs), NUMERIC)
        return
    want = [decimals.positive_zero(TWINS[name](a, b)) for a, b in pairs]
    assert shown(decimals.by_rows(name, [vector(left), vector(right)], len(pairs), NUMERIC)) == texts(want)
    # a constant on either side, and rows that do not count
    want = [decimals.positive_zero(TWINS[name](left[0], b)) for b in right]
    assert shown(decimals.by_rows(name, [vector(left[:1]), vector(right)], len(pairs), NUMERIC)) == texts(want)
    valid = np.arange(len(pairs)) % 2 == 0
    some = decimals.by_rows(name, [Vector(NUMERIC, vector(left).data, valid), vector(right)], len(pairs), NUMERIC)
    want = [decimals.positive_zero(TWINS[name](a, b)) for a, b in pairs[::2]]
    assert shown(some.take(np.flatnonzero(valid))) == texts(want)


@QUICK
@given(st.sampled_from(sorted(TWINS)), st.lists(st.tuples(PRICES, PRICES.filter(bool)), min_size=1, max_size=8))
def test_ordinary_numbers_need_no_decimals(name: str, pairs: list[tuple[Decimal, Decimal]]) -> None:
    sides = [vector([p[k] for p in pairs]) for k in (0, 1)]
    assert decimals.by_rows(name, sides, len(pairs), NUMERIC).data.dtype != object


MODES = (decimal.ROUND_HALF_UP, decimal.ROUND_DOWN, decimal.ROUND_CEILING, decimal.ROUND_FLOOR)


@QUICK
@given(st.sampled_from(MODES), st.lists(st.tuples(NUMBERS | PRICES, st.integers(-45, 45)), min_size=1, max_size=8))
@example(decimal.ROUND_HALF_UP, [(Decimal("0.5"), 0), (Decimal("-0.5"), 0), (Decimal("2.5"), 0), (Decimal(5), -1)])
def test_rounding_is_that_of_decimals(mode: str, rows: list[tuple[Decimal, int]]) -> None:
    numbers, places = [r[0] for r in rows], np.array([r[1] for r in rows])
    want = [decimals.rounded(v, int(n), mode) for v, n in zip(numbers, places, strict=True)]
    assert shown(decimals.rounded_vector(vector(numbers), places, NUMERIC, mode)) == texts(want)
    want = [decimals.rounded(v, int(places[0]), mode) for v in numbers]
    best = from_decimals(NUMERIC, numbers, None)
    assert shown(decimals.rounded_vector(best, places[:1], NUMERIC, mode)) == texts(want)


@QUICK
@given(PAIRS)
@example([(Decimal(LIMIT - 1), Decimal("0." + 39 * "0" + "1")), (Decimal("1.0"), Decimal("1.00"))])
def test_order_and_equality(pairs: list[tuple[Decimal, Decimal]]) -> None:
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    for name, sign in (("lt", "__lt__"), ("eq", "__eq__"), ("ge", "__ge__")):
        want = [getattr(_decimal_key(a), sign)(_decimal_key(b)) for a, b in pairs]
        assert compare(name, vector(left), vector(right)).tolist() == want
    both = left + right
    ordered = [both[i] for i in order_of([(vector(both), False, False)], len(both))]
    assert ordered == sorted(both)
    groups = group([vector(both)], len(both))
    assert groups.count == len(set(both))
    built = KeyTable([vector(left)], len(left))
    found = built.lookup([vector(both)], len(both)) >= 0
    assert found.tolist() == [v in left for v in both]


@QUICK
@given(st.lists(NUMBERS | PRICES, min_size=1, max_size=8))
def test_forms_are_those_of_decimals(numbers: list[Decimal]) -> None:
    wide = vector(numbers)
    wide.verify()
    text = render.text(wide)
    assert [text[i].decode() for i in range(len(text))] == texts(numbers)
    binary = render.binary(wide)
    assert [binary[i] for i in range(len(binary))] == [render.numeric_bytes(v) for v in numbers]
    assert render.canonical(wide) == numbers
    views = from_text(TEXT, text.offsets, text.data, None, None)
    rows = decimal128_rows(Vector(NUMERIC, views.data, None, views.heap))
    assert rows is not None
    assert rows.tolist() == wide.data.view(np.int64).reshape(-1, 3).tolist()
    assert shown(decimals.absolute([wide], len(numbers), NUMERIC)) == texts([v.copy_abs() for v in numbers])
    opposite = [decimals.positive_zero(v.copy_negate()) for v in numbers]
    assert shown(decimals.negate([wide], len(numbers), NUMERIC)) == texts(opposite)
    assert shown(decimals.sign([wide], len(numbers), NUMERIC)) == [str((v > 0) - (v < 0)) for v in numbers]


@QUICK
@given(
    st.lists(st.tuples(NUMBERS | PRICES, st.integers(0, 2), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 12),
)
def test_sums_and_averages(rows: list[tuple[Decimal, int, bool]], cut: int) -> None:
    numbers, codes = [r[0] for r in rows], np.array([r[1] for r in rows])
    valid = np.array([r[2] for r in rows])
    want = sum_objects(numbers, valid, codes, 3)
    totals, numbers_of = want.decimals(), want.count.tolist()
    means = [decimals.divide(t, Decimal(n or 1)) for t, n in zip(totals, numbers_of, strict=True)]
    for call, expected in ((Sum(NUMERIC), totals), (Average(), means)):
        parts = [
            call.start([Vector(NUMERIC, vector(numbers[a:b]).data, valid[a:b])], codes[a:b], 3)
            for a, b in ((0, cut), (cut, len(rows)))
        ]
        made = call.finish(call.merge(parts, np.array([0, 1, 2, 0, 1, 2]), 3))
        some = np.flatnonzero(want.count > 0)
        assert shown(made.take(some)) == texts([expected[i] for i in some.tolist()])


def test_joined_scales_are_told_in_each_row() -> None:
    values = [Decimal("1.50"), Decimal("2"), Decimal("0.00001")]
    parts = [from_decimals(NUMERIC, [v], None) for v in values]
    made = concat(parts)
    assert made.is_decimal128
    assert shown(made) == texts(values)


def test_what_outgrows_128_bits_is_reported() -> None:
    rows = frozen(vector([Decimal(1), Decimal(LIMIT - 1)]).data.view(np.int64).reshape(-1, 3))
    out = np.empty((2, 3), np.int64)
    assert kernels.add_rows(rows, 1, rows, 1, False, NO_VALID, out) == 1
    assert kernels.multiply_rows(rows, 1, rows, 1, NO_VALID, out) == 1
    zero = frozen(np.zeros((1, 3), np.int64))
    assert kernels.divide_rows(rows, 1, zero, 0, NO_VALID, out) == kernels.ZERO_DIVISOR


# --- statements ------------------------------------------------------------------------------------------------------

STATEMENTS = (
    "select a / b from t order by i",
    "select b / a * a from t where a <> 0 order by i",
    "select case when i % 3 = 0 then a * (1 - b) when i % 3 = 1 then 0 else b end from t order by i",
    "select sum(case when i % 2 = 0 then a * (1 - b) else 0 end), avg(a / b), sum(round(a / b, 2)), sum(u) from t",
    "select g, sum(a / b), avg(a), avg(u), sum(u / 3), count(distinct u) from t group by g order by g",
    "select g, min(a / b), max(u) from t group by g order by g",
    "select round(a / b, 2), trunc(a / b, 3), ceil(a / b), floor(a / b), round(a / b, i % 5 - 2) from t order by i",
    "select (a / b)::numeric(30, 5), (a / b)::numeric(38, 20), (a / b)::float8 from t order by i",
    "select (a / b)::int8, (a / b)::text from t order by i",
    "select i from t order by a / b, i",
    "select a / b > u, u = a, u % b, abs(a / -b), sign(u - a), -(a / b) from t order by i",
    "select count(*) from t x join t y on x.a / x.b = y.a / y.b",
    "select variance(a), stddev_pop(u), variance(a / b) from t",
    "select sum(a / b) * 100.00 / sum(a), sum(a * b * u), max(a) / min(b) from t",
    "select u + 1.5, u * u, u / 7, coalesce(u, 0) from t order by i",
    "select count(*) from (select distinct u from t) s",
)


def test_statements_give_what_postgresql_gives(postgres: psycopg.Connection, seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for i in range(300):
        a = Decimal(rng.randint(-(10**9), 10**9)).scaleb(-2)
        b = Decimal(rng.randint(1, rng.choice([10, 10**6, 10**12]))).scaleb(-2)
        u = None if rng.random() < 0.1 else Decimal(rng.randint(-(10**8), 10**8)).scaleb(-rng.randint(0, 12))
        rows.append((i, i % 7, a, b, u))
    memory = Memory()
    money = numeric(15, 2)
    types = {"i": INT4, "g": INT4, "a": money, "b": money, "u": NUMERIC}
    memory.add("t", types, rows, slots=64)
    columns = ", ".join(f"{n} {t.name}" for n, t in types.items())
    postgres.execute(f"create temp table t ({columns})")
    with postgres.cursor() as cursor:
        cursor.executemany("insert into t values (%s, %s, %s, %s, %s)", rows)
    for statement in STATEMENTS:
        assert memory.query(statement) == oracle.texts(postgres, statement), statement
    postgres.execute("drop table t")
