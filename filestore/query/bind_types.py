"""sqlglot's type nodes as our types."""

from __future__ import annotations

from typing import Any, Final

from sqlglot import exp

from filestore import errors
from filestore.query.names import MARK, resolve_type
from filestore.types import CHAR, SqlType

_T = exp.DType
_NAMES: Final = {
    _T.BOOLEAN: "boolean", _T.SMALLINT: "smallint", _T.INT: "integer", _T.BIGINT: "bigint", _T.FLOAT: "real",
    _T.DOUBLE: "double precision", _T.DECIMAL: "numeric", _T.TEXT: "text", _T.VARCHAR: "character varying",
    _T.CHAR: "character", _T.NCHAR: "character", _T.NVARCHAR: "character varying", _T.BPCHAR: "bpchar",
    _T.NAME: "name", _T.VARBINARY: "bytea", _T.DATE: "date", _T.TIME: "time", _T.TIMESTAMP: "timestamp",
    _T.TIMESTAMPTZ: "timestamptz", _T.TIMETZ: "timetz", _T.INTERVAL: "interval", _T.UUID: "uuid",
    _T.JSON: "json", _T.JSONB: "jsonb", _T.XML: "xml", _T.MONEY: "money", _T.INET: "inet", _T.BIT: "bit",
    _T.SERIAL: "serial", _T.BIGSERIAL: "bigserial", _T.SMALLSERIAL: "smallserial", _T.HSTORE: "hstore",
    _T.TINYINT: "tinyint", _T.INT128: "int128",
}  # fmt: skip


def sql_type(node: Any, position: int | None = None) -> SqlType:
    """The type a DataType node names. Errors as `names.resolve_type`."""
    if isinstance(node, exp.ObjectIdentifier):
        return resolve_type(str(node.this).lower(), (), position)
    kind = node.this
    if isinstance(kind, exp.Interval):
        raise errors.FeatureNotSupported(
            "fields of type interval are not supported", hint="Write interval alone.", position=position
        )
    if kind is _T.ARRAY:
        inner = node.expressions[0] if node.expressions else None
        shown = inner.sql("postgres").lower() if inner is not None else "array"
        return resolve_type(shown, (), position, array=True)
    if kind is _T.USERDEFINED:
        return _by_name(node, position)
    if kind is _T.DOUBLE and node.expressions:
        return resolve_type("float", _modifiers(node, position), position)
    name = _NAMES.get(kind)
    if name is None:
        raise errors.UndefinedObject(f'type "{str(kind.value).lower()}" does not exist', position=position)
    if kind is _T.INTERVAL:
        return resolve_type("interval", _modifiers(node, position), position)
    return resolve_type(name, _modifiers(node, position), position)


def _by_name(node: Any, position: int | None) -> SqlType:
    kind = node.args.get("kind")
    if isinstance(kind, exp.Identifier) and kind.args.get("quoted"):
        if kind.this == "char":
            return CHAR
        return resolve_type(str(kind.this), _modifiers(node, position), position)
    if isinstance(kind, exp.Dot):
        shown = ".".join(str(p.name).lower() for p in kind.flatten())
        if shown == "pg_catalog.char" and kind.expression.args.get("quoted"):
            return CHAR
    else:
        shown = str(getattr(kind, "this", kind)).replace(MARK, "").lower()
    return resolve_type(shown, _modifiers(node, position), position)


def _modifiers(node: Any, position: int | None) -> tuple[int, ...]:
    found: list[int] = []
    for item in node.expressions:
        value = item.this if isinstance(item, exp.DataTypeParam) else item
        if isinstance(value, exp.Neg) or not isinstance(value, exp.Literal) or not str(value.this).isdecimal():
            raise errors.InvalidParameterValue("invalid type modifier", position=position)
        found.append(int(value.this))
    return tuple(found)
