"""Protobuf values to Python's and back, and rows as messages.

What comes in is as wide as `filestore.query.python_values` allows: any form of a column's type, text included. What
goes out is the one form of the type; a date or timestamp outside protobuf's years 1 to 9999, infinities included, goes
out as text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import xxhash

from filestore import errors
from filestore.query.literals import format_literal
from filestore.query.plan import OutputColumn
from filestore.query.render import canonical
from filestore.server.proto.filestore.v1 import rows_pb2 as pb
from filestore.storage.vector import Batch
from filestore.types import STRING_KINDS, Kind, SqlType

_EPOCH: Final = dt.datetime(1970, 1, 1)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
_UTC: Final = dt.UTC
_DAY_US: Final = 86_400_000_000
_FIRST_DAY: Final = dt.date.min.toordinal() - _EPOCH_ORDINAL
_LAST_DAY: Final = dt.date.max.toordinal() - _EPOCH_ORDINAL

# --- in -----------------------------------------------------------------------------------------------------------


def from_message(value: Any, column: str) -> Any:
    """The Python value of a Value. Raises 22023, naming the column, for one that is malformed."""
    kind = value.WhichOneof("kind")
    if kind is None:
        raise errors.InvalidParameterValue(
            f'the value of "{column}" is not set', hint="Write null_value for null.", column=column
        )
    try:
        return _FROM[kind](getattr(value, kind))
    except (ValueError, OverflowError, InvalidOperation) as error:
        raise errors.InvalidParameterValue(f'malformed {kind} for "{column}": {error}', column=column) from None


def _from_timestamp(value: Any) -> dt.datetime:
    if value.nanos % 1000:
        raise ValueError("microseconds are the finest fraction")
    return dt.datetime(1970, 1, 1, tzinfo=_UTC) + dt.timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def _from_datetime(value: Any) -> dt.datetime:
    if value.WhichOneof("time_offset"):
        raise ValueError("a timestamp without time zone has no offset")
    micros = _micros(value.nanos)
    return dt.datetime(value.year, value.month, value.day, value.hours, value.minutes, value.seconds, micros)


def _from_time(value: Any) -> dt.time | str:
    if value.hours == 24 and not (value.minutes or value.seconds or value.nanos):
        return "24:00:00"
    return dt.time(value.hours, value.minutes, value.seconds, _micros(value.nanos))


def _micros(nanos: int) -> int:
    if nanos % 1000:
        raise ValueError("microseconds are the finest fraction")
    return nanos // 1000


_FROM: Final[dict[str, Callable[[Any], Any]]] = {
    "null_value": lambda _: None,
    "bool_value": bool,
    "int64_value": int,
    "double_value": float,
    "numeric_value": Decimal,
    "text_value": str,
    "bytes_value": bytes,
    "timestamp_value": _from_timestamp,
    "datetime_value": _from_datetime,
    "date_value": lambda value: dt.date(value.year, value.month, value.day),
    "time_value": _from_time,
    "interval_value": lambda value: (value.months, value.days, value.microseconds),
    "uuid_value": str,
}

# --- out ----------------------------------------------------------------------------------------------------------


def put(sql_type: SqlType, value: Any, target: Any) -> None:
    """Writes a canonical value into a Value."""
    if value is None:
        target.null_value = pb.NULL_VALUE
        return
    writer = _PUT.get(sql_type.kind)
    if writer is None or not writer(value, target):
        target.text_value = format_literal(sql_type, value)


def _put(field: str) -> Callable[[Any, Any], bool]:
    def write(value: Any, target: Any) -> bool:
        setattr(target, field, value)
        return True

    return write


def _put_date(value: int, target: Any) -> bool:
    if not _FIRST_DAY <= value <= _LAST_DAY:
        return False
    day = dt.date.fromordinal(value + _EPOCH_ORDINAL)
    target.date_value.year, target.date_value.month, target.date_value.day = day.year, day.month, day.day
    return True


def _put_time(value: int, target: Any) -> bool:
    seconds, micros = divmod(value, 1_000_000)
    target.time_value.hours, rest = divmod(seconds, 3600)
    target.time_value.minutes, target.time_value.seconds = divmod(rest, 60)
    target.time_value.nanos = micros * 1000
    target.time_value.SetInParent()
    return True


def _put_timestamp(value: int, target: Any) -> bool:
    if not _FIRST_DAY <= value // _DAY_US <= _LAST_DAY:
        return False
    moment = _EPOCH + dt.timedelta(microseconds=value)
    out = target.datetime_value
    out.year, out.month, out.day = moment.year, moment.month, moment.day
    out.hours, out.minutes, out.seconds, out.nanos = (
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond * 1000,
    )
    return True


def _put_timestamptz(value: int, target: Any) -> bool:
    if not _FIRST_DAY <= value // _DAY_US <= _LAST_DAY:
        return False
    seconds, micros = divmod(value, 1_000_000)
    target.timestamp_value.seconds, target.timestamp_value.nanos = seconds, micros * 1000
    target.timestamp_value.SetInParent()
    return True


def _put_interval(value: tuple[int, int, int], target: Any) -> bool:
    out = target.interval_value
    out.months, out.days, out.microseconds = value
    out.SetInParent()
    return True


def _put_text_of(sql_type: SqlType, field: str) -> Callable[[Any, Any], bool]:
    def write(value: Any, target: Any) -> bool:
        setattr(target, field, format_literal(sql_type, value))
        return True

    return write


_PUT: Final[dict[Kind, Callable[[Any, Any], bool]]] = {
    Kind.BOOL: _put("bool_value"),
    **dict.fromkeys((Kind.INT2, Kind.INT4, Kind.INT8, Kind.OID), _put("int64_value")),
    **dict.fromkeys((Kind.FLOAT4, Kind.FLOAT8), _put("double_value")),
    **dict.fromkeys(STRING_KINDS - {Kind.BPCHAR}, _put("text_value")),
    Kind.NUMERIC: _put_text_of(SqlType(Kind.NUMERIC), "numeric_value"),
    Kind.BYTEA: _put("bytes_value"),
    Kind.UUID: _put_text_of(SqlType(Kind.UUID), "uuid_value"),
    Kind.DATE: _put_date,
    Kind.TIME: _put_time,
    Kind.TIMESTAMP: _put_timestamp,
    Kind.TIMESTAMPTZ: _put_timestamptz,
    Kind.INTERVAL: _put_interval,
}


def messages(
    columns: Sequence[OutputColumn], batches: Sequence[Batch], name: Callable[[Sequence[Any]], str]
) -> list[Any]:
    """The rows of some batches as Row messages; `name` makes a row's resource name from its canonical values."""
    rows = []
    for batch in batches:
        for values in zip(*(canonical(column) for column in batch.columns), strict=True):
            row = pb.Row(name=name(values), etag=etag(values))
            for column, value in zip(columns, values, strict=True):
                put(column.type, value, row.values[column.name])
            rows.append(row)
    return rows


def etag(values: Sequence[Any]) -> str:
    """A mark that changes with the row's values."""
    return xxhash.xxh3_64_hexdigest(repr(tuple(values)).encode())


def key_text(sql_type: SqlType, value: Any) -> str:
    """The text form of a key's value in a resource name; char(n) without its blanks."""
    return str(value) if sql_type.kind in STRING_KINDS else format_literal(sql_type, value)
