"""A value from its text and to its text, for every type: PostgreSQL 15's rules, wording and SQLSTATEs.

One value at a time, plain Python: literals and parameters go this way, and the kernels of `text_parse` and `render`
are tested against it and fall back on it. Canonical values are those of `query.expr.Const`: bool, int (also dates and
timestamps, see `datetime_text`), float, Decimal keeping its display scale, str, bytes (bytea, uuid), (months, days,
microseconds).

Differences from PostgreSQL: NaN does not fit numeric(p <= 18, s), which is a scaled integer (0A000); names of tables
are not looked up here (regclass takes OIDs only); timestamps end in 294247.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from filestore import errors, types
from filestore.query import calendar_text
from filestore.query import datetime_text as dt
from filestore.query.datetime_text import DEFAULTS, TextSettings
from filestore.query.interval_text import format_interval, parse_interval
from filestore.types import Kind, Physical, SqlType

BLANKS = " \t\n\r\f\v"
MAX_NAME_BYTES = 63
MAX_INTEGER_DIGITS = 131_072  # of a numeric, before the point
MAX_SCALE = 16_383

# Wide enough for every numeric; arithmetic here never rounds by the context.
_EXACT = decimal.Context(
    prec=200_000, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
)


def parse_literal(sql_type: SqlType, text: str, settings: TextSettings | None = None, *, explicit: bool = False) -> Any:
    """The canonical value of `text` as `sql_type`, modifiers applied as an assignment does.

    `explicit` cuts strings that are too long, as CAST does, where an assignment raises 22001. Errors with 22P02, 22003,
    22007, 22008, 22009, 22015, 22021, 22001.
    """
    if "\0" in text:
        raise errors.CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00')
    kind = sql_type.kind
    if kind in types.STRING_KINDS:
        return fit_string(sql_type, text, explicit=explicit)
    if kind is Kind.NUMERIC:
        return fit_numeric(sql_type, parse_numeric(text))
    with_settings = _PARSE_SETTINGS.get(kind)
    if with_settings is not None:
        return with_settings(text, settings or DEFAULTS)
    return _PARSE[kind](text)


def format_literal(sql_type: SqlType, value: Any, settings: TextSettings | None = None) -> str:
    """PostgreSQL's text output of a canonical value; None is the caller's business."""
    with_settings = _FORMAT_SETTINGS.get(sql_type.kind)
    if with_settings is not None:
        return with_settings(value, settings or DEFAULTS)
    if sql_type.kind is Kind.NUMERIC:
        return format_numeric(value, sql_type.scale)
    if sql_type.kind is Kind.BPCHAR and sql_type.length is not None:
        return str(value).ljust(sql_type.length)
    return _FORMAT.get(sql_type.kind, str)(value)


# Integers and booleans

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_BOUNDS = {Kind.INT2: 2**15, Kind.INT4: 2**31, Kind.INT8: 2**63}


def _integer(kind: Kind) -> Callable[[str], int]:
    bound = _BOUNDS[kind]

    def parse(text: str) -> int:
        trimmed = text.strip(BLANKS)
        if _INTEGER.match(trimmed) is None:
            raise errors.InvalidTextRepresentation(f'invalid input syntax for type {kind.value}: "{text}"')
        # Longer than this is out of range whatever the digits; int() would refuse 4300 of them.
        digits = trimmed.lstrip("+-").lstrip("0")
        value = bound if len(digits) > 20 else int(digits or "0")
        value = -value if trimmed[0] == "-" else value
        if not -bound <= value < bound or len(digits) > 20:
            raise errors.NumericOutOfRange(f'value "{text}" is out of range for type {kind.value}')
        return value

    return parse


def parse_oid(text: str) -> int:
    """An unsigned 32-bit number; a negative one wraps, as in PostgreSQL."""
    trimmed = text.strip(BLANKS)
    if _INTEGER.match(trimmed) is None:
        raise errors.InvalidTextRepresentation(f'invalid input syntax for type oid: "{text}"')
    value = int(trimmed) if len(trimmed) < 30 else 2**64
    if not -(2**31) <= value < 2**32:
        raise errors.NumericOutOfRange(f'value "{text}" is out of range for type oid')
    return value & 0xFFFFFFFF


def _regclass(text: str) -> int:
    if text == "-":
        return 0
    if not text.isdigit():
        raise errors.UndefinedTable(f'relation "{text}" does not exist')
    return parse_oid(text)


def _regtype(text: str) -> int:
    if text == "-":
        return 0
    if text.isdigit():
        return parse_oid(text)
    name = text.strip(BLANKS).lower().removeprefix("pg_catalog.")
    kind = types.BY_NAME.get(name)
    if kind is None:
        raise errors.UndefinedObject(f'type "{text}" does not exist')
    return types.KINDS[kind].oid


def _registered(what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text == "-":
            return 0
        if not text.isdigit():
            raise errors.UndefinedObject(f'{what} "{text}" does not exist')
        return parse_oid(text)

    return parse


def _format_registered(kind: Kind) -> Callable[[int, TextSettings], str]:
    return lambda value, settings: settings.registered_name(kind, value)


_BOOL_WORDS = {w[:n]: w in ("true", "yes") for w in ("true", "false", "yes", "no") for n in range(1, len(w) + 1)}
_BOOL_WORDS |= {"on": True, "of": False, "off": False, "1": True, "0": False}


def parse_bool(text: str) -> bool:
    value = _BOOL_WORDS.get(text.strip(BLANKS).lower())
    if value is None:
        raise errors.InvalidTextRepresentation(f'invalid input syntax for type boolean: "{text}"')
    return value


# Floats

_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_HEX_FLOAT = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?\Z")
_FLOAT_WORDS = {
    sign + word: factor * value
    for word, value in (("inf", math.inf), ("infinity", math.inf), ("nan", math.nan))
    for sign, factor in (("", 1.0), ("+", 1.0), ("-", -1.0))
}


def parse_float8(text: str) -> float:
    """The nearest double; overflow and underflow to zero are 22003."""
    trimmed = text.strip(BLANKS)
    word = _FLOAT_WORDS.get(trimmed.lower())
    if word is not None:
        return word
    value = _strtod(trimmed, text, "double precision")
    if math.isinf(value) or (value == 0 and _has_nonzero_digit(trimmed)):
        raise errors.NumericOutOfRange(f'"{trimmed}" is out of range for type double precision')
    return value


def parse_float4(text: str) -> float:
    """The nearest single, as a Python float; rounded once, from the decimal text."""
    trimmed = text.strip(BLANKS)
    word = _FLOAT_WORDS.get(trimmed.lower())
    if word is not None:
        return word
    value = _strtod(trimmed, text, "real")
    single = _to_single(trimmed, value)
    if math.isinf(single) or (single == 0 and _has_nonzero_digit(trimmed)):
        raise errors.NumericOutOfRange(f'"{trimmed}" is out of range for type real')
    return single


def _strtod(trimmed: str, text: str, type_name: str) -> float:
    if _FLOAT.match(trimmed):
        return float(trimmed)
    if _HEX_FLOAT.match(trimmed):
        try:
            return float.fromhex(trimmed)
        except OverflowError:
            return math.inf
    raise errors.InvalidTextRepresentation(f'invalid input syntax for type {type_name}: "{text}"')


def _to_single(trimmed: str, value: float) -> float:
    """Rounds to float32 without rounding twice: a double exactly between two singles is decided by the text."""
    if math.isinf(value) or value == 0:
        return value
    with np.errstate(over="ignore"):
        single = np.float32(value)
        below, above = np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf))
    if "x" in trimmed.lower() or not np.isfinite(single):
        return float(single)
    for other in (below, above):
        if not np.isfinite(other):
            continue
        if float(single) + (float(other) - float(single)) / 2 == value:
            exact = Fraction(trimmed)
            low, high = sorted((float(single), float(other)))
            if exact != Fraction(value):
                return low if exact < Fraction(value) else high
    return float(single)


def _has_nonzero_digit(text: str) -> bool:
    lowered = text.lower()
    mantissa = lowered.partition("x")[2].partition("p")[0] if "x" in lowered else lowered.partition("e")[0]
    return re.search(r"[1-9a-f]", mantissa) is not None


def format_float8(value: float, settings: TextSettings = DEFAULTS) -> str:
    """The shortest text that reads back the same; %.{15 + extra_float_digits}g when that setting is not positive."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if settings.extra_float_digits <= 0:
        return f"{value:.{max(1, 15 + settings.extra_float_digits)}g}"
    return _shortest(strictly_shortest(value), 15)


def format_float4(value: float, settings: TextSettings = DEFAULTS) -> str:
    if not math.isfinite(value):
        return format_float8(value, settings)
    if settings.extra_float_digits <= 0:
        return f"{value:.{max(1, 6 + settings.extra_float_digits)}g}"
    return _shortest(strictly_shortest(value, single=True), 6)


def strictly_shortest(value: float, single: bool = False) -> str:
    """The least digits nearer to the finite value than to any other float; of these the nearest to it.

    Python's and Arrow's digits may lie just between two floats and count on readers that round to even, PostgreSQL's
    never do. source: PostgreSQL 15, src/common/d2s.c (STRICTLY_SHORTEST is 0).
    """
    text = np.format_float_scientific(np.float32(value), unique=True, trim="-") if single else repr(value)
    size = abs(value)
    if not (2.0**24 < size < 1e19 if single else 2.0**53 < size < 1e40):
        return text  # between floats of other sizes there are no decimals as short as these
    number = np.float32(size) if single else np.float64(size)
    twice = [int(number) + int(np.nextafter(number, number.dtype.type(end))) for end in (0, np.inf)]
    digits = len(Decimal(text).normalize().as_tuple().digits)
    while not twice[0] < 2 * abs(int(Decimal(text))) < twice[1]:
        text = f"{value:.{digits}e}"
        digits += 1
    return text


def _shortest(text: str, digits_before_exponent: int) -> str:
    """Python's shortest digits in PostgreSQL's layout: an exponent below 1e-4 and from 1e15 (1e6 for real)."""
    sign, digits, exponent = Decimal(text).as_tuple()
    mantissa = "".join(map(str, digits)).rstrip("0")
    minus = "-" if sign else ""
    if not mantissa:
        return minus + "0"
    point = len(digits) + int(exponent)  # digits before the point
    scientific = point - 1
    if not -4 <= scientific < digits_before_exponent:
        tail = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
        return f"{minus}{mantissa[0]}{tail}e{'-' if scientific < 0 else '+'}{abs(scientific):02d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{mantissa}"
    if len(mantissa) <= point:
        return minus + mantissa + "0" * (point - len(mantissa))
    return f"{minus}{mantissa[:point]}.{mantissa[point:]}"


# Numeric

_NUMERIC = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?\Z")


def parse_numeric(text: str) -> Decimal:
    """An exact Decimal whose exponent is the display scale; NaN and infinities included."""
    trimmed = text.strip(BLANKS)
    found = _NUMERIC.match(trimmed)
    if found is None or not (found[2] or found[3]):
        word = trimmed.lower()
        if word == "nan":
            return Decimal("NaN")
        if word in ("inf", "infinity", "+inf", "+infinity"):
            return Decimal("Infinity")
        if word in ("-inf", "-infinity"):
            return Decimal("-Infinity")
        raise errors.InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"')
    exponent = int(found[4]) if found[4] and len(found[4]) < 12 else (0 if not found[4] else 2**31)
    if abs(exponent) >= 2**30:
        raise errors.NumericOutOfRange("value overflows numeric format")
    integer, fraction = found[2] or "", found[3] or ""
    digits = (integer + fraction).lstrip("0")
    if digits and len(digits) - len(fraction) + exponent > MAX_INTEGER_DIGITS:
        raise errors.NumericOutOfRange("value overflows numeric format")
    scale = max(0, len(fraction) - exponent)
    if scale > MAX_SCALE:
        raise errors.NumericOutOfRange("value overflows numeric format")
    value = _EXACT.create_decimal(f"{found[1]}{integer or '0'}.{fraction}e{exponent}")
    return _plain(value, scale)


def _plain(value: Decimal, scale: int) -> Decimal:
    """The value with exactly `scale` digits after the point, rounded half away from zero; no negative zero."""
    fixed = value.quantize(Decimal((0, (1,), -scale)), context=_EXACT)
    return fixed.copy_abs() if fixed.is_zero() else fixed


def fit_numeric(sql_type: SqlType, value: Decimal) -> Decimal:
    """`value` under the type's precision and scale. Errors with 22003; 0A000 for NaN in a scaled int64."""
    precision, scale = sql_type.precision, sql_type.scale or 0
    if precision is None:
        return value
    if value.is_infinite():
        detail = f"A field with precision {precision}, scale {scale} cannot hold an infinite value."
        raise errors.NumericOutOfRange("numeric field overflow", detail=detail)
    if value.is_nan():
        if sql_type.physical is Physical.DEC64:
            raise errors.FeatureNotSupported(
                f"NaN is not supported in {sql_type}", hint="Use numeric without a precision, or one above 18."
            )
        return value
    fitted = _plain(value, scale)
    if not fitted.is_zero() and fitted.adjusted() >= precision - scale:
        raise numeric_field_overflow(precision, scale)
    return fitted


def numeric_field_overflow(precision: int, scale: int) -> errors.NumericOutOfRange:
    """PostgreSQL's 22003 for a value that does not fit numeric(precision, scale)."""
    bound = f"10^{precision - scale}" if precision > scale else "1"
    detail = f"A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
    return errors.NumericOutOfRange("numeric field overflow", detail=detail)


def format_numeric(value: Decimal, scale: int | None = None) -> str:
    """Plain digits with the value's own display scale, or `scale` when the type has one."""
    if value.is_nan():
        return "NaN"
    if value.is_infinite():
        return "Infinity" if value > 0 else "-Infinity"
    exponent = value.as_tuple().exponent
    own = max(0, -exponent) if isinstance(exponent, int) else 0
    return format(_plain(value, own if scale is None else scale), "f")


# Strings and bytes


def fit_string(sql_type: SqlType, text: str, *, explicit: bool = False) -> str:
    """`text` under the type's length: blanks beyond it go, anything else is 22001 unless `explicit`.

    char(n) loses its trailing blanks.
    """
    kind, length = sql_type.kind, sql_type.length
    if kind is Kind.NAME:
        return text.encode()[:MAX_NAME_BYTES].decode(errors="ignore") if len(text) * 4 > MAX_NAME_BYTES else text
    if kind is Kind.CHAR:
        return text.encode()[:1].decode(errors="ignore")
    if length is not None and len(text) > length:
        if not explicit and text[length:].strip(" "):
            raise too_long(sql_type)
        text = text[:length]
    return text.rstrip(" ") if kind is Kind.BPCHAR else text


def too_long(sql_type: SqlType) -> errors.StringTooLong:
    return errors.StringTooLong(f"value too long for type {sql_type}")


def parse_bytea(text: str) -> bytes:
    """Hex ('\\x6162', blanks between pairs allowed) or escape form."""
    if text.startswith("\\x"):
        return _hex_bytes(text[2:])
    raw = text.encode()
    if b"\\" not in raw:
        return raw
    out = bytearray()
    at = 0
    while at < len(raw):
        if raw[at] != 0x5C:
            out.append(raw[at])
            at += 1
        elif raw[at + 1 : at + 2] == b"\\":
            out.append(0x5C)
            at += 2
        elif re.match(rb"[0-3][0-7][0-7]", raw[at + 1 : at + 4]):
            out.append(int(raw[at + 1 : at + 4], 8))
            at += 4
        else:
            raise errors.InvalidTextRepresentation("invalid input syntax for type bytea")
    return bytes(out)


def _hex_bytes(text: str) -> bytes:
    out = bytearray()
    at = 0
    while at < len(text):
        if text[at] in " \n\t\r":
            at += 1
            continue
        pair = text[at : at + 2]
        for c in pair:
            if c not in "0123456789abcdefABCDEF":
                raise errors.InvalidParameterValue(f'invalid hexadecimal digit: "{c}"')
        if len(pair) < 2:
            raise errors.InvalidParameterValue("invalid hexadecimal data: odd number of digits")
        out.append(int(pair, 16))
        at += 2
    return bytes(out)


def format_bytea(value: bytes, settings: TextSettings = DEFAULTS) -> str:
    if settings.bytea_output == "hex":
        return "\\x" + value.hex()
    return "".join(
        "\\\\" if b == 0x5C else chr(b) if 0x20 <= b <= 0x7E else f"\\{b:03o}" for b in value
    )


_UUID = re.compile(r"(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}\Z", re.IGNORECASE)


def parse_uuid(text: str) -> bytes:
    """16 bytes; braces are allowed, hyphens after any group of four digits."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if _UUID.match(inner) is None:
        raise errors.InvalidTextRepresentation(f'invalid input syntax for type uuid: "{text}"')
    return bytes.fromhex(inner.replace("-", ""))


def format_uuid(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_PARSE: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOL: parse_bool,
    Kind.INT2: _integer(Kind.INT2),
    Kind.INT4: _integer(Kind.INT4),
    Kind.INT8: _integer(Kind.INT8),
    Kind.FLOAT4: parse_float4,
    Kind.FLOAT8: parse_float8,
    Kind.BYTEA: parse_bytea,
    Kind.INTERVAL: parse_interval,
    Kind.UUID: parse_uuid,
    Kind.OID: parse_oid,
    Kind.REGCLASS: _regclass,
    Kind.REGTYPE: _regtype,
    Kind.REGPROC: _registered("function"),
    Kind.REGNAMESPACE: _registered("schema"),
    Kind.REGROLE: _registered("role"),
    Kind.VOID: str,
}
_PARSE_SETTINGS: dict[Kind, Callable[[str, TextSettings], Any]] = {
    Kind.DATE: dt.parse_date,
    Kind.TIME: dt.parse_time,
    Kind.TIMESTAMP: dt.parse_timestamp,
    Kind.TIMESTAMPTZ: dt.parse_timestamptz,
}
_FORMAT: dict[Kind, Callable[[Any], str]] = {
    Kind.BOOL: lambda value: "t" if value else "f",
    Kind.DATE: calendar_text.format_date,
    Kind.TIME: calendar_text.format_time,
    Kind.TIMESTAMP: calendar_text.format_timestamp,
    Kind.INTERVAL: format_interval,
    Kind.UUID: format_uuid,
}
_FORMAT_SETTINGS: dict[Kind, Callable[[Any, TextSettings], str]] = {
    Kind.FLOAT4: format_float4,
    Kind.FLOAT8: format_float8,
    Kind.BYTEA: format_bytea,
    Kind.TIMESTAMPTZ: dt.format_timestamptz,
    **{kind: _format_registered(kind) for kind in types.REG_KINDS},
}
