"""Exact decimals: PostgreSQL's numeric arithmetic on scaled int64 vectors, else on 128-bit ones, else, a whole vector
at a time, on decimal.Decimal objects; never floats. The functions of Decimals are the kernels' slow twins.

Sum, difference and product are exact and keep the display scales that PostgreSQL gives them. Quotients, roots,
logarithms and powers are rounded to PostgreSQL's result scale (numeric.c: select_div_scale, sqrt, ln, exp, power),
half away from zero.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from filestore import errors
from filestore.query import decimal128_kernels as rows_of
from filestore.query import numeric_kernels
from filestore.query.kernels import frozen
from filestore.query.literals import MAX_INTEGER_DIGITS
from filestore.query.scalar.compare import rescaled
from filestore.query.vectors import (
    EXACT,
    INT64_MAX,
    INT64_MIN,
    MAX_SCALE64,
    MAX_SCALE128,
    NO_VALID,
    all_valid,
    as_decimal64,
    decimal128_rows,
    from_decimal128,
    from_decimals,
    to_decimals,
)
from filestore.storage.vector import Array, Vector
from filestore.types import NUMERIC, SqlType

_NOUGHT = Vector(NUMERIC, np.zeros(1, np.int64))
MIN_SIGNIFICANT = 16
MAX_DISPLAY_SCALE = 1000
EXPONENT_BOUND = 6000  # of e, in numeric.c's exp_var; it bounds the powers that are made of logarithms too
WORKING = decimal.Context(
    prec=1200, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
)
Checked = Callable[[Any, Any, int, Any, Any], int]
_CHECKED: dict[str, Checked] = {
    "add": numeric_kernels.add_checked,
    "sub": numeric_kernels.subtract_checked,
    "mul": numeric_kernels.multiply_checked,
}
_PLAIN: dict[str, Callable[[Any, Any], Any]] = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def bounds(data: Array) -> tuple[int, int]:
    """(min, max) of an integer array as Python integers; (0, 0) when empty."""
    return (int(data.min()), int(data.max())) if len(data) else (0, 0)


def result_bounds(name: str, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    """The interval that `name` of two intervals lies in."""
    if name == "add":
        return left[0] + right[0], left[1] + right[1]
    if name == "sub":
        return left[0] - right[1], left[1] - right[0]
    products = [a * b for a in left for b in right]
    return min(products), max(products)


def exact_int64(name: str, left: Array, right: Array, valid: Array | None) -> Array | None:
    """int64 add, sub or mul; None when a valid row overflows. Either side may have length 1."""
    low, high = result_bounds(name, bounds(left), bounds(right))
    if INT64_MIN <= low and high <= INT64_MAX:
        out: Array = _PLAIN[name](left, right)
        return out
    n = max(len(left), len(right)) if len(left) and len(right) else 0
    left, right = frozen(np.broadcast_to(left, n)), frozen(right)
    out = np.empty(n, np.int64)
    mask = NO_VALID if valid is None else frozen(valid)
    row = _CHECKED[name](left, right, 0 if len(right) == 1 else 1, mask, out)
    return out if row < 0 else None


def arithmetic(name: str, args: list[Vector], length: int, result: SqlType) -> Vector:
    """add, sub, mul of numerics."""
    left, right = as_decimal64(args[0]), as_decimal64(args[1])
    if left is not None and right is not None:
        scale = left.scale + right.scale if name == "mul" else max(left.scale, right.scale)
        x, y = (left.data, right.data) if name == "mul" else (rescaled(left, scale), rescaled(right, scale))
        if x is not None and y is not None and scale <= MAX_SCALE64:
            data = exact_int64(name, x, y, all_valid(args, length))
            if data is not None:
                return Vector(result, data, None, scale=scale)
    return by_rows(name, args, length, result)


def by_rows(name: str, args: list[Vector], length: int, result: SqlType) -> Vector:
    """add, sub, mul, div, mod of numerics in 128 bits; of Decimals where those are not enough. Errors with 22012."""
    left, right = decimal128_rows(args[0]), decimal128_rows(args[1])
    if left is not None and right is not None:
        valid = all_valid(args, length)
        out = np.empty((length, 3), np.int64)
        steps = [0 if len(rows) == 1 else 1 for rows in (left, right)]
        found = _ROWS[name](left, steps[0], right, steps[1], NO_VALID if valid is None else frozen(valid), out)
        if found == rows_of.ZERO_DIVISOR:
            raise errors.DivisionByZero("division by zero")
        if found == rows_of.FITS:
            return from_decimal128(result, out, valid)
    operator = _OBJECTS[name]
    return by_objects(args, length, result, lambda a, b: positive_zero(operator(a, b)))


def positive_zero(value: Decimal) -> Decimal:
    """PostgreSQL has no negative zero."""
    return value if value else value.copy_abs()


def check_range(values: Iterable[Decimal | None]) -> None:
    """Errors with 22003 where a value has more digits before its point than a numeric may have."""
    if any(v is not None and v.adjusted() >= MAX_INTEGER_DIGITS for v in values):
        raise errors.NumericOutOfRange("value overflows numeric format")


def by_objects(args: list[Vector], length: int, result: SqlType, function: Callable[..., Decimal | None]) -> Vector:
    """A function of Decimals applied row by row to valid rows. Errors with 22003 beyond numeric's range."""
    valid = all_valid(args, length)
    columns = [to_decimals(a).data.tolist() for a in args]
    columns = [c * length if len(c) == 1 and length != 1 else c for c in columns]
    rows: list[Decimal | None]
    if valid is None:
        rows = [function(*row) for row in zip(*columns, strict=True)]
    else:
        flags = valid.tolist()
        rows = [function(*row) if ok else None for ok, *row in zip(flags, *columns, strict=True)]
    check_range(rows)
    if any(row is None for row in rows) and valid is None:
        valid = np.array([row is not None for row in rows], np.bool_)
    return from_decimals(result, rows, valid)


def negate(args: list[Vector], length: int, result: SqlType) -> Vector:
    """-x."""
    narrow = as_decimal64(args[0])
    if narrow is not None and (len(narrow) == 0 or narrow.data.min() > INT64_MIN):
        return Vector(result, -narrow.data, None, scale=narrow.scale)
    return by_rows("sub", [_NOUGHT, args[0]], length, result)


def absolute(args: list[Vector], length: int, result: SqlType) -> Vector:
    """abs(x)."""
    narrow = as_decimal64(args[0])
    if narrow is not None and (len(narrow) == 0 or narrow.data.min() > INT64_MIN):
        return Vector(result, np.abs(narrow.data), None, scale=narrow.scale)
    rows = decimal128_rows(args[0])
    if rows is None:
        return by_objects(args, length, result, lambda v: v.copy_abs())
    out = np.empty_like(rows)
    rows_of.add_rows(decimal128_rows(_NOUGHT), 0, rows, 1, True, NO_VALID, out)
    return from_decimal128(result, np.where(rows[:, :1] < 0, out, rows), args[0].valid)


def sign(args: list[Vector], length: int, result: SqlType) -> Vector:
    """sign(x)."""
    rows = decimal128_rows(args[0])
    if rows is None:
        return by_objects(args, length, result, lambda v: v if v.is_nan() else Decimal((v > 0) - (v < 0)))
    return Vector(result, np.where(rows[:, 0] < 0, -1, ((rows[:, 0] | rows[:, 1]) != 0).astype(np.int64)))


# --- quotients -------------------------------------------------------------------------------------------------------


def weight_and_digit(value: Decimal) -> tuple[int, int]:
    """numeric.c's weight (power of 10000 of the first base-10000 digit) and that digit; (0, 0) for zero."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    shifted = value.copy_abs().scaleb(-4 * weight, EXACT)
    return weight, int(shifted)


def display_scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def division_scale(left: Decimal, right: Decimal) -> int:
    """numeric.c's select_div_scale."""
    left_weight, left_digit = weight_and_digit(left)
    right_weight, right_digit = weight_and_digit(right)
    quotient_weight = left_weight - right_weight - (1 if left_digit <= right_digit else 0)
    scale = max(MIN_SIGNIFICANT - quotient_weight * 4, display_scale(left), display_scale(right), 0)
    return min(scale, MAX_DISPLAY_SCALE)


def to_scale(numerator: int, denominator: int, scale: int) -> Decimal:
    """numerator / denominator with `scale` digits after the point, rounded half away from zero."""
    negative = (numerator < 0) != (denominator < 0)
    scaled = abs(numerator) * 10**scale
    whole, rest = divmod(scaled, abs(denominator))
    if 2 * rest >= abs(denominator):
        whole += 1
    return Decimal(-whole if negative else whole).scaleb(-scale, EXACT)


def _unscaled(value: Decimal, scale: int) -> int:
    return int(value.scaleb(scale, EXACT))


def divide(left: Decimal, right: Decimal) -> Decimal:
    """left / right as numeric_div. Errors with 22012."""
    if left.is_nan() or right.is_nan():
        return Decimal("NaN")
    if left.is_infinite() or right.is_infinite():
        if left.is_infinite() and right.is_infinite():
            return Decimal("NaN")
        if right.is_infinite():
            return Decimal(0)
    if not right:
        raise errors.DivisionByZero("division by zero")
    if left.is_infinite():
        return left if right > 0 else left.copy_negate()
    places = max(display_scale(left), display_scale(right))
    return to_scale(_unscaled(left, places), _unscaled(right, places), division_scale(left, right))


def remainder(left: Decimal, right: Decimal) -> Decimal:
    """left % right, with the sign of left. Errors with 22012."""
    if left.is_nan() or right.is_nan() or left.is_infinite():
        if not (left.is_nan() or right.is_nan()) and not right:
            raise errors.DivisionByZero("division by zero")
        return Decimal("NaN")
    if right.is_infinite():
        return left
    if not right:
        raise errors.DivisionByZero("division by zero")
    places = max(display_scale(left), display_scale(right))
    a, b = _unscaled(left, places), abs(_unscaled(right, places))
    rest = abs(a) % b
    return Decimal(-rest if a < 0 else rest).scaleb(-places, EXACT)


def product(left: Decimal, right: Decimal) -> Decimal:
    """left * right, rounded where it has more digits behind the point than a numeric may have."""
    out = EXACT.multiply(left, right)
    if display_scale(out) > MAX_SCALE128 and out.adjusted() < MAX_INTEGER_DIGITS:
        return out.quantize(Decimal((0, (1,), -MAX_SCALE128)), context=EXACT)
    return out


_ROWS: dict[str, Callable[..., int]] = {
    "add": lambda a, i, b, j, valid, out: rows_of.add_rows(a, i, b, j, False, valid, out),
    "sub": lambda a, i, b, j, valid, out: rows_of.add_rows(a, i, b, j, True, valid, out),
    "mul": rows_of.multiply_rows,
    "div": rows_of.divide_rows,
    "mod": rows_of.remainder_rows,
}
_OBJECTS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "add": EXACT.add,
    "sub": EXACT.subtract,
    "mul": product,
    "div": divide,
    "mod": remainder,
}


def rounded(value: Decimal, places: int, mode: str = decimal.ROUND_HALF_UP) -> Decimal:
    """round() or trunc() to `places` digits, which may be negative."""
    if not value.is_finite():
        return value
    # digits before the point come back as zeros, with scale 0
    out = value.quantize(Decimal((0, (1,), -places)), rounding=mode, context=EXACT)
    if places < 0:
        out = out.quantize(Decimal(1), context=EXACT)
    return positive_zero(out)


_MODES = {
    decimal.ROUND_HALF_UP: rows_of.HALF_UP,
    decimal.ROUND_DOWN: rows_of.DOWN,
    decimal.ROUND_CEILING: rows_of.CEILING,
    decimal.ROUND_FLOOR: rows_of.FLOOR,
}


def rounded_vector(vector: Vector, places: Array, result: SqlType, mode: str = decimal.ROUND_HALF_UP) -> Vector:
    """round(), trunc(), ceil() or floor() of a vector without nulls to `places` digits, an integer for each row or one
    for all.
    """
    narrow = as_decimal64(vector)
    if narrow is not None and len(places) == 1 and mode == decimal.ROUND_HALF_UP:
        made = _rounded64(narrow, int(places[0]), result)
        if made is not None:
            return made
    rows = decimal128_rows(vector)
    length = max(len(vector), len(places))
    places = places.astype(np.int64, copy=False)
    if rows is not None and len(rows) == length:
        out = np.empty((length, 3), np.int64)
        step = 0 if len(places) == 1 else 1
        if rows_of.round_rows(rows, frozen(places), step, _MODES[mode], NO_VALID, out) == rows_of.FITS:
            return from_decimal128(result, out, None)
    bound = MAX_DISPLAY_SCALE
    digits = Vector(NUMERIC, np.clip(places, -bound, bound))
    return by_objects([vector, digits], length, result, lambda v, n: rounded(v, int(n), mode))


def digits(vector: Vector) -> int:
    """The most digits that a value of a vector without nulls has, those behind the point included."""
    if vector.is_decimal64:
        low, high = bounds(vector.data)
        largest = max(high, -low)
        return len(str(largest)) if largest else 0
    rows = decimal128_rows(vector)
    if rows is not None:
        return rows_of.largest_digits(rows)
    return max((v.adjusted() + 1 + display_scale(v) for v in to_decimals(vector).data.tolist() if v), default=0)


def _rounded64(vector: Vector, places: int, result: SqlType) -> Vector | None:
    """round(x, places) of a scaled int64 vector, None when that does not fit."""
    if not 0 <= places <= MAX_SCALE64:
        return None
    if places >= vector.scale:
        data = rescaled(vector, places)
        return None if data is None else Vector(result, data, None, scale=places)
    out = np.empty(len(vector), np.int64)
    numeric_kernels.divide_rounded(frozen(vector.data), 10 ** (vector.scale - places), out)
    return Vector(result, out, None, scale=places)


# --- roots, logarithms, powers ---------------------------------------------------------------------------------------


def _fixed(value: Decimal, scale: int) -> Decimal:
    return positive_zero(value.quantize(Decimal((0, (1,), -scale)), context=EXACT))


def square_root(value: Decimal) -> Decimal:
    """sqrt as numeric_sqrt. Errors with 2201F."""
    if value.is_nan():
        return value
    if value < 0:
        raise errors.InvalidPowerArgument("cannot take square root of a negative number")
    if value.is_infinite():
        return value
    weight = weight_and_digit(value)[0]
    half = (weight + 1) * 4 // 2 - 1
    scale = min(max(MIN_SIGNIFICANT - half, display_scale(value), 0), MAX_DISPLAY_SCALE)
    return _fixed(WORKING.sqrt(value), scale)


def _log10_estimate(value: Decimal) -> float:
    """log10 of a positive finite value, in a float."""
    exponent = value.adjusted()
    return float(value.scaleb(-exponent, EXACT).log10(decimal.Context(prec=20))) + exponent


def _ln_weight(value: Decimal) -> int:
    """numeric.c's estimate_ln_dweight: the decimal weight of ln(value)."""
    if value <= 0:
        return 0
    if Decimal("0.9") <= value <= Decimal("1.1"):
        distance = (value - 1).copy_abs()
        return distance.adjusted() if distance else 0
    # (int) in C truncates towards zero
    return int(math.log10(abs(float(decimal.Context(prec=20).ln(value)))))


def logarithm(value: Decimal) -> Decimal:
    """ln(value). Errors with 2201E."""
    if value.is_nan():
        return value
    if value == 0:
        raise errors.InvalidLogarithmArgument("cannot take logarithm of zero")
    if value < 0:
        raise errors.InvalidLogarithmArgument("cannot take logarithm of a negative number")
    if value.is_infinite():
        return value
    scale = min(max(MIN_SIGNIFICANT - _ln_weight(value), display_scale(value), 0), MAX_DISPLAY_SCALE)
    return _fixed(_precise(scale + 40).ln(value), scale)


def _precise(digits: int) -> decimal.Context:
    return decimal.Context(
        prec=max(digits, 30), rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
    )


def logarithm_to(base: Decimal, value: Decimal) -> Decimal:
    """log(base, value) as log_var: the result's scale follows from the weights of both logarithms."""
    lower, upper = logarithm(base), logarithm(value)
    if lower.is_nan() or upper.is_nan():
        return Decimal("NaN")
    if not lower:
        raise errors.DivisionByZero("division by zero")
    if base.is_infinite() or value.is_infinite():
        return (
            Decimal("NaN")
            if base.is_infinite() and value.is_infinite()
            else (Decimal(0) if base.is_infinite() else value)
        )
    weight = _ln_weight(value) - _ln_weight(base)
    scale = max(MIN_SIGNIFICANT - weight, display_scale(base), display_scale(value), 0)
    scale = min(scale, MAX_DISPLAY_SCALE)
    context = _precise(scale + 60)
    return _fixed(context.divide(context.ln(value), context.ln(base)), scale)


_LOG10_E = 0.434294481903252


def exponential(value: Decimal) -> Decimal:
    """exp(value). Errors with 22003."""
    if value.is_nan():
        return value
    if value.is_infinite():
        return value if value > 0 else Decimal(0)
    if abs(value) >= EXPONENT_BOUND:
        if value > 0:
            raise errors.NumericOutOfRange("value overflows numeric format")
        return Decimal(0).scaleb(-MAX_DISPLAY_SCALE)
    magnitude = float(value) * _LOG10_E
    scale = MIN_SIGNIFICANT - int(magnitude)
    scale = min(max(scale, display_scale(value), 0), MAX_DISPLAY_SCALE)
    return _fixed(_precise(scale + max(int(magnitude), 0) + 40).exp(value), scale)


def power(base: Decimal, exponent: Decimal) -> Decimal:
    """base ^ exponent as power_var. Errors with 2201F, 22012, 22003."""
    if base.is_nan() or exponent.is_nan():
        return Decimal(1) if base == 1 or exponent == 0 else Decimal("NaN")
    whole = exponent.is_finite() and exponent == exponent.to_integral_value()
    if base == 0 and exponent < 0:
        raise errors.InvalidPowerArgument("zero raised to a negative power is undefined")
    if base < 0 and not whole:
        raise errors.InvalidPowerArgument("a negative number raised to a non-integer power yields a complex result")
    if base.is_infinite() or exponent.is_infinite():
        return WORKING.power(base, exponent)
    if base == 0:
        return _fixed(Decimal(0 if exponent else 1), MIN_SIGNIFICANT)
    by_squaring = whole and abs(exponent) < 2**31
    digits = float(exponent) * _log10_estimate(base.copy_abs())
    if digits > MAX_INTEGER_DIGITS or (not by_squaring and digits >= EXPONENT_BOUND * _LOG10_E):
        raise errors.NumericOutOfRange("value overflows numeric format")
    if digits < -MAX_DISPLAY_SCALE - MIN_SIGNIFICANT:
        return Decimal(0).scaleb(-MAX_DISPLAY_SCALE)
    if by_squaring:
        scale = max(MIN_SIGNIFICANT, display_scale(base))
    else:
        scale = max(MIN_SIGNIFICANT - int(digits), display_scale(base), display_scale(exponent), 0)
    scale = min(scale, MAX_DISPLAY_SCALE)
    context = _precise(scale + max(int(digits), 0) + 40)
    value = context.power(base.copy_abs(), exponent)
    if base < 0 and int(exponent) % 2:
        value = value.copy_negate()
    return _fixed(value, scale)
