"""Python values to vectors and back: what users of the embedded driver and of gRPC pass and fetch.

| Python                          | SQL                            | fetched as                                      |
|---------------------------------|--------------------------------|-------------------------------------------------|
| None                            | null                           | None                                            |
| bool                            | boolean                        | bool                                            |
| int                             | integer, bigint, numeric by size | int                                           |
| float                           | double precision               | float                                           |
| decimal.Decimal                 | numeric                        | Decimal, keeping its digits                     |
| str                             | whatever the place asks for    | str (char(n) padded, as PostgreSQL has it)      |
| bytes, bytearray, memoryview    | bytea                          | bytes                                           |
| datetime.date, time             | date, time                     | date, time                                      |
| datetime.datetime               | timestamp; aware: timestamptz  | naive; timestamptz: aware, in the session's zone |
| datetime.timedelta              | interval                       | timedelta, a month as 30 days, a year as 365    |
| uuid.UUID                       | uuid                           | UUID                                            |

Values that Python cannot hold (infinity as a date, the year 20000, 24:00) raise 22008 when fetched: cast them to text.
numpy scalars count as the Python values they stand for.

Thread rule: pure functions; any thread.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import numpy as np

from filestore import errors, types
from filestore.query import literals, render
from filestore.query.vectors import EXACT, from_python, to_decimals
from filestore.storage.vector import INLINE_BYTES, Array, Vector
from filestore.types import Kind, SqlType

EPOCH_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()
EPOCH: Final = dt.datetime(1970, 1, 1)
EPOCH_UTC: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND: Final = dt.timedelta(microseconds=1)
DAY_US: Final = 86_400_000_000
_INT4: Final = 2**31
_INT8: Final = 2**63
_DAYS: Final = (dt.date.min.toordinal() - EPOCH_ORDINAL, dt.date.max.toordinal() - EPOCH_ORDINAL)
_TIMESTAMPS: Final = (_DAYS[0] * DAY_US, (_DAYS[1] + 1) * DAY_US - 1)

# Strings that are taken as they are.
_WHOLE_STRINGS: Final = frozenset({Kind.TEXT, Kind.VARCHAR})

# --- the SQL type of a Python value -------------------------------------------------------------------------------


def _type_of_int(value: int) -> SqlType:
    return types.INT4 if -_INT4 <= value < _INT4 else types.INT8 if -_INT8 <= value < _INT8 else types.NUMERIC


def _type_of_datetime(value: dt.datetime) -> SqlType:
    return types.TIMESTAMP if value.tzinfo is None else types.TIMESTAMPTZ


_TYPES: Final[dict[type, SqlType | Callable[[Any], SqlType | None] | None]] = {
    type(None): None,
    str: None,
    int: _type_of_int,
    bool: types.BOOL,
    float: types.FLOAT8,
    Decimal: types.NUMERIC,
    bytes: types.BYTEA,
    bytearray: types.BYTEA,
    memoryview: types.BYTEA,
    dt.datetime: _type_of_datetime,
    dt.date: types.DATE,
    dt.time: types.TIME,
    dt.timedelta: types.INTERVAL,
    uuid.UUID: types.UUID,
}


def type_of(value: Any) -> SqlType | None:
    """The SQL type that a value is sent as, None to let its place decide. Raises 42846 for a class that has none."""
    cls = value.__class__
    if cls is int:
        return _type_of_int(value)
    for base in cls.__mro__:
        if base in _TYPES:
            found = _TYPES[base]
            return found(value) if callable(found) else found
    if isinstance(value, np.generic):
        return type_of(value.item())
    raise errors.CannotCoerce(
        f"cannot send a value of class {cls.__name__} as a parameter",
        hint="Convert it to one of the classes of PEP 249.",
    )


def common_type(first: SqlType | None, second: SqlType | None) -> SqlType | None:
    """The type for a column of parameters that holds both; integers widen, otherwise the place decides."""
    if first == second:
        return first
    order = (types.INT4, types.INT8, types.NUMERIC)
    if first in order and second in order:
        return max(first, second, key=order.index)
    return None


# --- Python to vectors --------------------------------------------------------------------------------------------


def vector(sql_type: SqlType, values: Sequence[Any], settings: Any = None) -> Vector:
    """A vector of Python values as a parameter's type. Raises 42804 for a value of another kind, 22xxx for one
    that does not fit.
    """
    kind = sql_type.kind
    if kind in types.INTEGER_KINDS:
        bound = 1 << (8 * sql_type.width - 1)
        if all(v.__class__ is int and -bound <= v < bound for v in values):
            return Vector(sql_type, np.array(values, sql_type.dtype))
    if kind in _WHOLE_STRINGS and sql_type.length is None and all(v.__class__ is str and "\0" not in v for v in values):
        return from_python(sql_type, values)
    return from_python(sql_type, [None if v is None else canonical(sql_type, v, settings) for v in values])


def canonical(sql_type: SqlType, value: Any, settings: Any = None) -> Any:
    """A Python value in the form of `query.expr.Const`. A str is read as the type's text form."""
    if isinstance(value, np.generic):
        value = value.item()
    kind = sql_type.kind
    if kind in types.STRING_KINDS:
        if not isinstance(value, str):
            raise _mismatch(sql_type, value)
        if "\0" in value:
            raise errors.CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00')
        return literals.fit_string(sql_type, value)
    if isinstance(value, str):
        return literals.parse_literal(sql_type, value, settings)
    convert = _CANONICAL.get(kind)
    found = None if convert is None else convert(value)
    if found is None:
        raise _mismatch(sql_type, value)
    if kind in types.INTEGER_KINDS and not -(1 << (8 * sql_type.width - 1)) <= found < 1 << (8 * sql_type.width - 1):
        raise errors.NumericOutOfRange(f"{sql_type.name} out of range")
    if kind is Kind.FLOAT4:
        return _single(found)
    return literals.fit_numeric(sql_type, found) if kind is Kind.NUMERIC else found


def _single(value: float) -> float:
    """The nearest single. Raises 22003 where that is infinity or zero and the value is not."""
    with np.errstate(over="ignore", under="ignore"):
        single = float(np.float32(value))
    if math.isinf(single) and not math.isinf(value):
        raise errors.NumericOutOfRange("value out of range: overflow")
    if single == 0 and value != 0:
        raise errors.NumericOutOfRange("value out of range: underflow")
    return single


def _mismatch(sql_type: SqlType, value: Any) -> errors.DatatypeMismatch:
    return errors.DatatypeMismatch(
        f"the parameter is of type {sql_type.name} but the value is a {type(value).__name__}",
        hint="Pass a value of that type, or cast the parameter.",
    )


def _to_int(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _to_float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | Decimal) else None


def _to_decimal(value: Any) -> Decimal | None:
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int | Decimal) else None


def _to_days(value: Any) -> int | None:
    return value.toordinal() - EPOCH_ORDINAL if isinstance(value, dt.date) else None


def _to_time_us(value: Any) -> int | None:
    if not isinstance(value, dt.time) or value.tzinfo is not None:
        return None
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def _to_timestamp(value: Any) -> int | None:
    if isinstance(value, dt.datetime):
        return None if value.tzinfo is not None else (value - EPOCH) // MICROSECOND
    return _to_days(value) * DAY_US if isinstance(value, dt.date) else None  # type: ignore[operator]


def _to_timestamptz(value: Any) -> int | None:
    aware = isinstance(value, dt.datetime) and value.tzinfo is not None
    return (value - EPOCH_UTC) // MICROSECOND if aware else None


def _to_interval(value: Any) -> tuple[int, int, int] | None:
    if isinstance(value, tuple) and len(value) == 3:
        return value
    if not isinstance(value, dt.timedelta):
        return None
    total = value // MICROSECOND
    days = abs(total) // DAY_US * (1 if total >= 0 else -1)
    return 0, days, total - days * DAY_US


def _to_uuid(value: Any) -> bytes | None:
    if isinstance(value, uuid.UUID):
        return value.bytes
    return value if isinstance(value, bytes) and len(value) == 16 else None


_CANONICAL: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.BOOL: lambda value: value if isinstance(value, bool) else None,
    Kind.INT2: _to_int,
    Kind.INT4: _to_int,
    Kind.INT8: _to_int,
    Kind.OID: _to_int,
    Kind.REGCLASS: _to_int,
    Kind.REGTYPE: _to_int,
    Kind.REGPROC: _to_int,
    Kind.REGNAMESPACE: _to_int,
    Kind.REGROLE: _to_int,
    Kind.FLOAT4: _to_float,
    Kind.FLOAT8: _to_float,
    Kind.NUMERIC: _to_decimal,
    Kind.DATE: _to_days,
    Kind.TIME: _to_time_us,
    Kind.TIMESTAMP: _to_timestamp,
    Kind.TIMESTAMPTZ: _to_timestamptz,
    Kind.INTERVAL: _to_interval,
    Kind.UUID: _to_uuid,
    Kind.BYTEA: lambda value: bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None,
}

# --- vectors to Python --------------------------------------------------------------------------------------------


def python_values(column: Vector, zone: dt.tzinfo = dt.UTC) -> list[Any]:
    """The values of a vector as Python objects; timestamptz in `zone`. Raises 22008 for what Python's classes
    cannot hold.
    """
    if column.dictionary is not None:
        words = python_values(column.dictionary, zone)
        values = [words[code] for code in column.data.tolist()] if words else [None] * len(column)
    else:
        values = _PYTHON.get(column.type.kind, _plain)(column)
        if column.type.kind is Kind.TIMESTAMPTZ:
            values = [None if v is None else _moment(v, zone) for v in values]
    if column.valid is None or column.valid.all():
        return values
    return [v if live else None for v, live in zip(values, column.valid.tolist(), strict=True)]


def _moment(value: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    try:
        return value.replace(tzinfo=dt.UTC).astimezone(zone)
    except OverflowError:
        raise errors.DatetimeOverflow(
            "a timestamp with time zone is outside the range of Python's datetime", hint="Cast it to text."
        ) from None


def _plain(column: Vector) -> list[Any]:
    return column.data.tolist()  # type: ignore[no-any-return]


def _bools(column: Vector) -> list[Any]:
    return column.data.astype(np.bool_).tolist()  # type: ignore[no-any-return]


def _numerics(column: Vector) -> list[Any]:
    if column.data.dtype == object or column.is_decimal128:
        return list(to_decimals(column).data)
    if column.data.ndim == 2:
        return [None if text is None else Decimal(text.decode()) for text in column.strings()]
    scale = -column.scale
    return [Decimal(v).scaleb(scale, EXACT) for v in column.data.tolist()]


def _strings(column: Vector) -> list[Any]:
    if len(column) == 1 and column.type.kind is not Kind.BPCHAR:
        return [_one_string(column)]
    encoded = render.text(column)
    offsets = encoded.offsets.tolist()
    raw = encoded.data[: offsets[-1]].tobytes()
    if raw.isascii():
        text = raw.decode("ascii")
        return [text[low:high] for low, high in pairwise(offsets)]
    return [raw[low:high].decode() for low, high in pairwise(offsets)]


def _one_string(column: Vector) -> str | None:
    """The string of a one-row vector; the way through `render` costs more than the string."""
    if column.valid is not None and not column.valid[0]:
        return None
    raw = column.data[0].tobytes()
    length = int.from_bytes(raw[:4], "little")
    if length <= INLINE_BYTES:
        return str(raw[4 : 4 + length], "utf-8")
    start = int.from_bytes(raw[12:], "little")
    assert column.heap is not None
    return str(column.heap[start : start + length].tobytes(), "utf-8")


def _bounded(column: Vector, bounds: tuple[int, int]) -> Array:
    """The data with zero at nulls; raises 22008 for a value out of bounds."""
    data = column.data if column.valid is None else np.where(column.valid, column.data, 0)
    if len(data) and (int(data.min()) < bounds[0] or int(data.max()) > bounds[1]):
        raise errors.DatetimeOverflow(
            f"a value of type {column.type.name} is outside the range of Python's datetime", hint="Cast it to text."
        )
    return data


def _dates(column: Vector) -> list[Any]:
    return _bounded(column, _DAYS).astype("M8[D]").tolist()  # type: ignore[no-any-return]


def _times(column: Vector) -> list[Any]:
    days = _bounded(column, (0, DAY_US - 1)).astype("M8[us]").tolist()
    return [moment.time() for moment in days]


def _timestamps(column: Vector) -> list[Any]:
    return _bounded(column, _TIMESTAMPS).astype("M8[us]").tolist()  # type: ignore[no-any-return]


def _intervals(column: Vector) -> list[Any]:
    return [_timedelta(*fields) for fields in render.canonical(Vector(column.type, column.data))]


def _timedelta(months: int, days: int, microseconds: int) -> dt.timedelta:
    years, months = divmod(abs(months), 12) if months >= 0 else (-(abs(months) // 12), -(abs(months) % 12))
    try:
        return dt.timedelta(days=days + 30 * months + 365 * years, microseconds=microseconds)
    except OverflowError:
        raise errors.IntervalOverflow(
            "an interval is outside the range of timedelta", hint="Cast it to text."
        ) from None


def _uuids(column: Vector) -> list[Any]:
    raw = np.ascontiguousarray(column.data).tobytes()
    return [uuid.UUID(bytes=raw[at : at + 16]) for at in range(0, len(raw), 16)]


_PYTHON: Final[dict[Kind, Callable[[Vector], list[Any]]]] = {
    Kind.BOOL: _bools,
    Kind.NUMERIC: _numerics,
    **dict.fromkeys((*types.STRING_KINDS, Kind.VOID), _strings),
    Kind.BYTEA: lambda column: column.strings(),
    Kind.DATE: _dates,
    Kind.TIME: _times,
    Kind.TIMESTAMP: _timestamps,
    Kind.TIMESTAMPTZ: _timestamps,
    Kind.INTERVAL: _intervals,
    Kind.UUID: _uuids,
}
