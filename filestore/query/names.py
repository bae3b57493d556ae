"""Names: folding, quoting, type names, suggestions, and what PostgreSQL calls an output column."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from filestore import errors
from filestore.query.hints import hint_of
from filestore.types import (
    BY_NAME,
    FLOAT4,
    FLOAT8,
    MAX_NUMERIC_PRECISION,
    Kind,
    SqlType,
    bpchar,
    numeric,
    varchar,
)

MAX_NAME_BYTES: Final = 63

MARK: Final = "\x1f"
"""Put behind the name of a called function before sqlglot parses it, so that it makes no node of its own of
it."""

# Words that cannot name a column or table without quotes (PostgreSQL 15, appendix C: reserved, and function or type).
_RESERVED: Final = """
    ALL ANALYSE ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC AUTHORIZATION BINARY BOTH CASE CAST CHECK COLLATE
    COLLATION COLUMN CONCURRENTLY CONSTRAINT CREATE CROSS CURRENT_CATALOG CURRENT_DATE CURRENT_ROLE
    CURRENT_SCHEMA CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DEFAULT DEFERRABLE DESC DISTINCT DO ELSE END
    EXCEPT FALSE FETCH FOR FOREIGN FREEZE FROM FULL GRANT GROUP HAVING ILIKE IN INITIALLY INNER INTERSECT INTO
    IS ISNULL JOIN LATERAL LEADING LEFT LIKE LIMIT LOCALTIME LOCALTIMESTAMP NATURAL NOT NOTNULL NULL OFFSET ON
    ONLY OR ORDER OUTER OVERLAPS PLACING PRIMARY REFERENCES RETURNING RIGHT SELECT SESSION_USER SIMILAR SOME
    SYMMETRIC TABLE TABLESAMPLE THEN TO TRAILING TRUE UNION UNIQUE USER USING VARIADIC VERBOSE WHEN WHERE
    WINDOW WITH
"""
RESERVED: Final = frozenset(_RESERVED.split())

_ONLY_AFTER_AS: Final = """
    ARRAY AS CHAR CHARACTER CREATE DAY EXCEPT FETCH FILTER FOR FROM GRANT GROUP HAVING HOUR INTERSECT INTO ISNULL LIMIT
    MINUTE MONTH NOTNULL OFFSET ON ORDER OVER OVERLAPS PRECISION RETURNING SECOND TO UNION VARYING WHERE WINDOW WITH
    WITHIN WITHOUT YEAR
"""
ONLY_AFTER_AS: Final = frozenset(_ONLY_AFTER_AS.split())
"""Words that label a column only behind AS."""

INTERVAL_LITERAL: Final = "interval literal"
"""The function that an INTERVAL literal is parsed as: its text, its fields, its precision."""

UNKNOWN_TRUTH: Final = MARK + "unknown"
"""What UNKNOWN in `IS UNKNOWN` is parsed as."""

_ASCII_FOLD: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def fold(name: str) -> str:
    """An unquoted name as PostgreSQL stores it: ASCII lower case, at most 63 bytes."""
    return shorten(name.translate(_ASCII_FOLD))


def shorten(name: str) -> str:
    if len(name) <= MAX_NAME_BYTES // 4:
        return name
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def unquote(source: str) -> str:
    """The name that a source token stands for, quoted or not."""
    if source.startswith('"'):
        return shorten(source[1:-1].replace('""', '"'))
    return fold(source)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, None when none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


# --- types ----------------------------------------------------------------------------------------

UNBUILT_TYPES: Final = frozenset(
    {
        "json", "jsonb", "xml", "money", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit",
        "bit varying", "point", "line", "lseg", "box", "path", "polygon", "circle", "tsvector", "tsquery",
        "timetz", "time with time zone", "int4range", "int8range", "numrange", "tsrange", "tstzrange",
        "daterange", "serial", "bigserial", "smallserial", "serial4", "serial8", "serial2", "regoper",
        "regoperator", "regprocedure", "regcollation", "regconfig", "regdictionary", "xid", "xid8", "cid",
        "tid", "pg_lsn", "int2vector", "oidvector", "record", "cstring", "hstore", "aclitem", "jsonpath",
        "pg_node_tree",
    }
)  # fmt: skip
_FOREIGN_TYPES: Final = {
    "string": "Use text.", "clob": "Use text.", "nvarchar": "Use text.", "blob": "Use bytea.",
    "datetime": "Use timestamp.", "double": "Use double precision.", "tinyint": "Use smallint.",
}  # fmt: skip
"""What to write for types of other systems that PostgreSQL does not know either."""
_WORDS_WITH_PRECISION: Final = ("timestamp", "time", "interval")


def resolve_type(words: str, modifiers: tuple[int, ...], position: int | None, array: bool = False) -> SqlType:
    """The type of a lower-case name such as `character varying` with its modifiers.

    Errors: 42704 for an unknown name, 0A000 for a type that is not built, 22023 for modifiers out of bounds,
    42601 for too many.
    """
    name = words.removeprefix("pg_catalog.")
    if array:
        raise errors.FeatureNotSupported(
            f"array types are not supported: {name}[]", hint=hint_of("array types"), position=position
        )
    if name == "float" and modifiers:
        return _float(modifiers[0])
    if name in UNBUILT_TYPES:
        raise errors.FeatureNotSupported(f"type {name} is not supported", hint=_type_hint(name), position=position)
    kind = BY_NAME.get(name)
    if kind is None:
        raise errors.UndefinedObject(f'type "{name}" does not exist', hint=_FOREIGN_TYPES.get(name), position=position)
    if kind is Kind.NUMERIC and modifiers:
        if len(modifiers) > 2:
            raise errors.InvalidParameterValue("invalid NUMERIC type modifier", position=position)
        if not 1 <= modifiers[0] <= MAX_NUMERIC_PRECISION:
            raise errors.InvalidParameterValue(
                f"NUMERIC precision {modifiers[0]} must be between 1 and {MAX_NUMERIC_PRECISION}", position=position
            )
        try:
            return numeric(*modifiers)
        except errors.Error as error:
            error.position = position
            raise
    if kind is Kind.VARCHAR and modifiers:
        return varchar(modifiers[0])
    if kind is Kind.BPCHAR and name != "bpchar":
        return bpchar(modifiers[0] if modifiers else 1)
    if modifiers:
        return _with_precision(kind, name, modifiers, position)
    return SqlType(kind)


def _float(digits: int) -> SqlType:
    if digits < 1:
        raise errors.InvalidParameterValue("precision for type float must be at least 1 bit")
    if digits > 53:
        raise errors.InvalidParameterValue("precision for type float must be less than 54 bits")
    return FLOAT4 if digits <= 24 else FLOAT8


def _with_precision(kind: Kind, name: str, modifiers: tuple[int, ...], position: int | None) -> SqlType:
    if name.startswith(_WORDS_WITH_PRECISION):
        if modifiers == (6,):  # what every value has
            return SqlType(kind)
        raise errors.FeatureNotSupported(
            f"{name}({modifiers[0]}) is not supported",
            hint="Leave the precision out: values keep microseconds.",
            position=position,
        )
    if kind is Kind.BPCHAR:
        return bpchar(modifiers[0])
    raise errors.SqlSyntaxError(f'type modifier is not allowed for type "{name}"', position=position)


def _type_hint(name: str) -> str:
    if "serial" in name:
        return "Use an integer type and give the values."
    if name in ("json", "jsonb", "xml"):
        return "Use text."
    if name.startswith("timetz") or name == "time with time zone":
        return "Use time, or timestamp with time zone."
    if name == "money":
        return "Use numeric(15,2)."
    return "Use text, and a CHECK constraint over its form."
