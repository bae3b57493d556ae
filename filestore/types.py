"""The one table of SQL types: name, OIDs, stored form, Arrow type. Every room and every port reads it; nobody keeps
another.

A `SqlType` is a kind plus its modifiers (numeric's precision and scale, varchar's and char's length). Its stored form
is a fixed-width numpy vector (`storage_dtype`); variable-length kinds store 16-byte Arrow string views, as uint64[n,
2], plus a heap of bytes. Text and binary forms of values are the business of `query/render*.py` and
`query/text_parse.py`.

Physical forms (see `Physical`):

| physical | numpy             | meaning                                                              |
|----------|-------------------|----------------------------------------------------------------------|
| FIXED    | the kind's dtype  | bool is one byte per row                                             |
| DEC64    | int64             | numeric(p <= 18, s): the value times 10**s                           |
| VIEW     | uint64[n, 2]      | string view: length, prefix, then inline bytes or heap offset        |
| VARNUM   | uint64[n, 2]      | any other numeric: its canonical decimal text as a string view       |
| WIDE     | uint64[n, 2]      | uuid (16 bytes, big-endian order), interval (months|days<<32, microseconds) |

Dates count days from 1970-01-01, times and timestamps microseconds (timestamps from 1970-01-01 00:00, timestamptz in
UTC), as in Arrow; the wire's epoch (2000-01-01) is the ports' concern. -infinity and infinity are the least and
greatest value of the stored integer.

Source: PostgreSQL 15 pg_type; Apache Arrow columnar format 1.4 (variable-size binary view layout).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from filestore import errors


class Kind(enum.Enum):
    BOOL = "boolean"
    INT2 = "smallint"
    INT4 = "integer"
    INT8 = "bigint"
    FLOAT4 = "real"
    FLOAT8 = "double precision"
    NUMERIC = "numeric"
    TEXT = "text"
    VARCHAR = "character varying"
    BPCHAR = "character"
    CHAR = '"char"'
    NAME = "name"
    BYTEA = "bytea"
    DATE = "date"
    TIME = "time without time zone"
    TIMESTAMP = "timestamp without time zone"
    TIMESTAMPTZ = "timestamp with time zone"
    INTERVAL = "interval"
    UUID = "uuid"
    OID = "oid"
    REGCLASS = "regclass"
    REGTYPE = "regtype"
    REGPROC = "regproc"
    REGNAMESPACE = "regnamespace"
    REGROLE = "regrole"
    UNKNOWN = "unknown"
    VOID = "void"


class Physical(enum.Enum):
    FIXED = "fixed"
    DEC64 = "dec64"
    VIEW = "view"
    VARNUM = "varnum"
    WIDE = "wide"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """A row of the type table. `category` is PostgreSQL's typcategory, `size` its typlen."""

    oid: int
    array_oid: int
    dtype: str
    width: int
    physical: Physical
    category: str
    preferred: bool
    size: int
    names: tuple[str, ...]


_F, _V, _W = Physical.FIXED, Physical.VIEW, Physical.WIDE

KINDS: dict[Kind, KindInfo] = {
    Kind.BOOL: KindInfo(16, 1000, "u1", 1, _F, "B", True, 1, ("boolean", "bool")),
    Kind.INT2: KindInfo(21, 1005, "<i2", 2, _F, "N", False, 2, ("smallint", "int2")),
    Kind.INT4: KindInfo(23, 1007, "<i4", 4, _F, "N", False, 4, ("integer", "int4", "int")),
    Kind.INT8: KindInfo(20, 1016, "<i8", 8, _F, "N", False, 8, ("bigint", "int8")),
    Kind.FLOAT4: KindInfo(700, 1021, "<f4", 4, _F, "N", False, 4, ("real", "float4")),
    Kind.FLOAT8: KindInfo(701, 1022, "<f8", 8, _F, "N", True, 8, ("double precision", "float8", "float")),
    Kind.NUMERIC: KindInfo(1700, 1231, "<i8", 8, Physical.VARNUM, "N", False, -1, ("numeric", "decimal", "dec")),
    Kind.TEXT: KindInfo(25, 1009, "<u8", 16, _V, "S", True, -1, ("text",)),
    Kind.VARCHAR: KindInfo(1043, 1015, "<u8", 16, _V, "S", False, -1, ("character varying", "varchar")),
    Kind.BPCHAR: KindInfo(1042, 1014, "<u8", 16, _V, "S", False, -1, ("character", "char", "bpchar")),
    Kind.CHAR: KindInfo(18, 1002, "<u8", 16, _V, "Z", False, 1, ('"char"',)),
    Kind.NAME: KindInfo(19, 1003, "<u8", 16, _V, "S", False, 64, ("name",)),
    Kind.BYTEA: KindInfo(17, 1001, "<u8", 16, _V, "U", False, -1, ("bytea",)),
    Kind.DATE: KindInfo(1082, 1182, "<i4", 4, _F, "D", False, 4, ("date",)),
    Kind.TIME: KindInfo(1083, 1183, "<i8", 8, _F, "D", False, 8, ("time without time zone", "time")),
    Kind.TIMESTAMP: KindInfo(1114, 1115, "<i8", 8, _F, "D", False, 8, ("timestamp without time zone", "timestamp")),
    Kind.TIMESTAMPTZ: KindInfo(1184, 1185, "<i8", 8, _F, "D", True, 8, ("timestamp with time zone", "timestamptz")),
    Kind.INTERVAL: KindInfo(1186, 1187, "<u8", 16, _W, "T", True, 16, ("interval",)),
    Kind.UUID: KindInfo(2950, 2951, "<u8", 16, _W, "U", False, 16, ("uuid",)),
    Kind.OID: KindInfo(26, 1028, "<i8", 8, _F, "N", True, 4, ("oid",)),
    Kind.REGCLASS: KindInfo(2205, 2210, "<i8", 8, _F, "N", False, 4, ("regclass",)),
    Kind.REGTYPE: KindInfo(2206, 2211, "<i8", 8, _F, "N", False, 4, ("regtype",)),
    Kind.REGPROC: KindInfo(24, 1008, "<i8", 8, _F, "N", False, 4, ("regproc",)),
    Kind.REGNAMESPACE: KindInfo(4089, 4090, "<i8", 8, _F, "N", False, 4, ("regnamespace",)),
    Kind.REGROLE: KindInfo(4096, 4097, "<i8", 8, _F, "N", False, 4, ("regrole",)),
    Kind.UNKNOWN: KindInfo(705, 0, "<u8", 16, _V, "X", False, -2, ("unknown",)),
    Kind.VOID: KindInfo(2278, 0, "<u8", 16, _V, "P", False, 4, ("void",)),
}

MAX_DEC64_PRECISION = 18
MAX_NUMERIC_PRECISION = 1000
MAX_VARCHAR_LENGTH = 10_485_760

STRING_KINDS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.CHAR, Kind.NAME, Kind.UNKNOWN})
INTEGER_KINDS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
REG_KINDS = frozenset({Kind.REGCLASS, Kind.REGTYPE, Kind.REGPROC, Kind.REGNAMESPACE, Kind.REGROLE})
"""OIDs that are written as names."""
OID_KINDS = frozenset({Kind.OID}) | REG_KINDS
NUMBER_KINDS = INTEGER_KINDS | {Kind.FLOAT4, Kind.FLOAT8, Kind.NUMERIC}
DATETIME_KINDS = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL})


@dataclass(frozen=True)
class SqlType:
    """A kind with its modifiers. `length` is characters for varchar/char; None means unconstrained."""

    kind: Kind
    length: int | None = None
    precision: int | None = None
    scale: int | None = None

    @cached_property
    def info(self) -> KindInfo:
        return KINDS[self.kind]

    @property
    def oid(self) -> int:
        return self.info.oid

    @cached_property
    def physical(self) -> Physical:
        """The stored form; numeric(p <= 18, s) is a scaled int64."""
        if self.kind is Kind.NUMERIC and self.precision is not None and self.precision <= MAX_DEC64_PRECISION:
            return Physical.DEC64
        return self.info.physical

    @property
    def is_view(self) -> bool:
        """Whether values are string views with a heap behind them."""
        return self.physical in (Physical.VIEW, Physical.VARNUM)

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """dtype of one element of the stored vector; 16-byte forms are uint64[n, 2]."""
        if self.physical is Physical.DEC64:
            return np.dtype(np.int64)
        return np.dtype("<u8" if self.width == 16 else self.info.dtype)

    @cached_property
    def width(self) -> int:
        """Bytes of one value in a segment's vector: 1, 2, 4, 8 or 16."""
        if self.physical is Physical.DEC64:
            return 8
        return 16 if self.physical is Physical.VARNUM else self.info.width

    @property
    def typmod(self) -> int:
        """PostgreSQL's atttypmod, -1 for none."""
        if self.length is not None:
            return self.length + 4
        if self.precision is not None:
            return ((self.precision << 16) | ((self.scale or 0) & 0x7FF)) + 4
        return -1

    @cached_property
    def name(self) -> str:
        """The type as format_type() prints it, e.g. `numeric(15,2)`."""
        if self.length is not None:
            return f"{self.kind.value}({self.length})"
        if self.precision is not None:
            return f"numeric({self.precision},{self.scale or 0})"
        return "bpchar" if self.kind is Kind.BPCHAR else str(self.kind.value)

    def __str__(self) -> str:
        return self.name

    def arrow(self) -> pa.DataType:
        """The Arrow type this column is exported as."""
        if self.kind is Kind.NUMERIC:
            if self.precision is not None and self.precision <= 38:
                return pa.decimal128(self.precision, self.scale or 0)
            return pa.string()
        return _ARROW[self.kind]

    def without_modifiers(self) -> SqlType:
        return SqlType(self.kind)


_ARROW: dict[Kind, pa.DataType] = {
    Kind.BOOL: pa.bool_(),
    Kind.INT2: pa.int16(),
    Kind.INT4: pa.int32(),
    Kind.INT8: pa.int64(),
    Kind.FLOAT4: pa.float32(),
    Kind.FLOAT8: pa.float64(),
    Kind.TEXT: pa.string_view(),
    Kind.VARCHAR: pa.string_view(),
    Kind.BPCHAR: pa.string_view(),
    Kind.CHAR: pa.string_view(),
    Kind.NAME: pa.string_view(),
    Kind.BYTEA: pa.binary_view(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    Kind.INTERVAL: pa.month_day_nano_interval(),
    Kind.UUID: pa.uuid(),
    Kind.OID: pa.int64(),
    Kind.REGCLASS: pa.int64(),
    Kind.REGTYPE: pa.int64(),
    Kind.REGPROC: pa.int64(),
    Kind.REGNAMESPACE: pa.int64(),
    Kind.REGROLE: pa.int64(),
    Kind.UNKNOWN: pa.string_view(),
    Kind.VOID: pa.string_view(),
}

BOOL = SqlType(Kind.BOOL)
INT2 = SqlType(Kind.INT2)
INT4 = SqlType(Kind.INT4)
INT8 = SqlType(Kind.INT8)
FLOAT4 = SqlType(Kind.FLOAT4)
FLOAT8 = SqlType(Kind.FLOAT8)
NUMERIC = SqlType(Kind.NUMERIC)
TEXT = SqlType(Kind.TEXT)
VARCHAR = SqlType(Kind.VARCHAR)
BPCHAR = SqlType(Kind.BPCHAR)
CHAR = SqlType(Kind.CHAR)
NAME = SqlType(Kind.NAME)
BYTEA = SqlType(Kind.BYTEA)
DATE = SqlType(Kind.DATE)
TIME = SqlType(Kind.TIME)
TIMESTAMP = SqlType(Kind.TIMESTAMP)
TIMESTAMPTZ = SqlType(Kind.TIMESTAMPTZ)
INTERVAL = SqlType(Kind.INTERVAL)
UUID = SqlType(Kind.UUID)
OID = SqlType(Kind.OID)
REGCLASS = SqlType(Kind.REGCLASS)
REGTYPE = SqlType(Kind.REGTYPE)
REGPROC = SqlType(Kind.REGPROC)
REGNAMESPACE = SqlType(Kind.REGNAMESPACE)
REGROLE = SqlType(Kind.REGROLE)
UNKNOWN = SqlType(Kind.UNKNOWN)
VOID = SqlType(Kind.VOID)

BY_OID: dict[int, SqlType] = {info.oid: SqlType(kind) for kind, info in KINDS.items()}
BY_NAME: dict[str, Kind] = {name: kind for kind, info in KINDS.items() for name in info.names}


def registered_number(kind: Kind, oid: int) -> str:
    """How an oid of a reg* type is shown where no session can be asked for its name: types by name, all else by
    number.
    """
    if oid == 0:
        return "-"
    found = BY_OID.get(oid) if kind is Kind.REGTYPE else None
    return str(oid) if found is None else found.name


def number_registered(kind: Kind, text: str) -> int:
    """The oid of a reg* type's text where no session can be asked for names. Raises 42704 for a name."""
    if not text.isdecimal():
        raise errors.UndefinedObject(f'{kind.value} "{text}" does not exist')
    return int(text)


def numeric(precision: int, scale: int = 0) -> SqlType:
    """numeric(precision, scale). Errors with 22023 outside PostgreSQL's bounds, 0A000 where the scale is none of the
    digits."""
    if not 1 <= precision <= MAX_NUMERIC_PRECISION:
        raise errors.InvalidParameterValue(
            f"NUMERIC precision {precision} must be between 1 and {MAX_NUMERIC_PRECISION}"
        )
    if not -MAX_NUMERIC_PRECISION <= scale <= MAX_NUMERIC_PRECISION:
        limit = MAX_NUMERIC_PRECISION
        raise errors.InvalidParameterValue(f"NUMERIC scale {scale} must be between -{limit} and {limit}")
    if not 0 <= scale <= precision:
        raise errors.FeatureNotSupported(
            f"numeric({precision},{scale}) is not supported", hint="Give a scale between 0 and the precision."
        )
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


def varchar(length: int) -> SqlType:
    """varchar(length), in characters. Errors with 22023 when length is out of bounds."""
    return SqlType(Kind.VARCHAR, length=_checked_length(length, "varchar"))


def bpchar(length: int) -> SqlType:
    """char(length), blank-padded when shown, stored without trailing blanks. Errors with 22023 when out of bounds."""
    return SqlType(Kind.BPCHAR, length=_checked_length(length, "char"))


def _checked_length(length: int, name: str) -> int:
    if not 1 <= length:
        raise errors.InvalidParameterValue(f"length for type {name} must be at least 1")
    if length > MAX_VARCHAR_LENGTH:
        raise errors.InvalidParameterValue(f"length for type {name} cannot exceed {MAX_VARCHAR_LENGTH}")
    return length


def from_typmod(oid: int, typmod: int = -1) -> SqlType:
    """The type of a PostgreSQL OID and atttypmod; errors with 42704 for an OID that is not built."""
    base = BY_OID.get(oid)
    if base is None:
        raise errors.UndefinedObject(f"type with OID {oid} does not exist")
    if typmod < 4:
        return base
    if base.kind is Kind.NUMERIC:
        return numeric((typmod - 4) >> 16, ((typmod - 4) & 0x7FF ^ 1024) - 1024)
    if base.kind in (Kind.VARCHAR, Kind.BPCHAR):
        return SqlType(base.kind, length=typmod - 4)
    return base
