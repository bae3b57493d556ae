"""What PostgreSQL calls an output column without an alias (FigureColname)."""

from __future__ import annotations

from typing import Any, Final

from sqlglot import exp

from filestore.query.bind_context import name_of
from filestore.query.bind_types import sql_type
from filestore.query.names import INTERVAL_LITERAL
from filestore.types import Kind

UNNAMED: Final = "?column?"

# A cast is named after the type's internal name.
_INTERNAL: Final = {
    Kind.BOOL: "bool", Kind.INT2: "int2", Kind.INT4: "int4", Kind.INT8: "int8", Kind.FLOAT4: "float4",
    Kind.FLOAT8: "float8", Kind.NUMERIC: "numeric", Kind.TEXT: "text", Kind.VARCHAR: "varchar",
    Kind.BPCHAR: "bpchar", Kind.CHAR: "char", Kind.NAME: "name", Kind.BYTEA: "bytea", Kind.DATE: "date",
    Kind.TIME: "time", Kind.TIMESTAMP: "timestamp", Kind.TIMESTAMPTZ: "timestamptz",
    Kind.INTERVAL: "interval", Kind.UUID: "uuid", Kind.OID: "oid", Kind.REGCLASS: "regclass",
    Kind.REGTYPE: "regtype", Kind.REGPROC: "regproc", Kind.REGNAMESPACE: "regnamespace",
    Kind.REGROLE: "regrole",
}  # fmt: skip
_FIXED: Final[dict[type, str]] = {
    exp.Extract: "extract", exp.Substring: "substring", exp.StrPosition: "position",
    exp.CurrentDate: "current_date", exp.CurrentTimestamp: "current_timestamp",
    exp.Localtimestamp: "localtimestamp", exp.Localtime: "localtime", exp.CurrentUser: "current_user",
    exp.SessionUser: "session_user", exp.CurrentSchema: "current_schema",
    exp.CurrentCatalog: "current_catalog", exp.CurrentRole: "current_role", exp.Exists: "exists",
    exp.Array: "array", exp.Overlay: "overlay", exp.AtTimeZone: "timezone",
}  # fmt: skip


def output_name(node: Any) -> str:
    """The name of a select list item, as PostgreSQL chooses it."""
    return _figure(node)[0] or UNNAMED


def _figure(node: Any) -> tuple[str | None, int]:
    """(name, strength): 2 a good name, 1 a weak one (a cast's type), 0 none."""
    if isinstance(node, exp.Paren):
        return _figure(node.this)
    if isinstance(node, exp.Column):
        return name_of(node.this), 2
    if isinstance(node, exp.Dot):
        return (
            name_of(node.expression) if isinstance(node.expression, exp.Identifier) else _figure(node.expression)[0]
        ), 2
    if isinstance(node, exp.Anonymous):
        called = name_of(node.this)
        return ("interval", 1) if called == INTERVAL_LITERAL else (called, 2)
    if isinstance(node, exp.Filter | exp.Collate | exp.Bracket):
        return _figure(node.this)
    if isinstance(node, exp.Window | exp.WithinGroup):
        return _figure(node.this)
    if isinstance(node, exp.Trim):
        where = str(node.args.get("position") or "").upper()
        return {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(where, "btrim"), 2
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        name, strength = _figure(default) if default is not None else (None, 0)
        return (name, strength) if strength > 1 else ("case", 1)
    if isinstance(node, exp.Cast):
        name, strength = _figure(node.this)
        if strength > 1:
            return name, strength
        kind = sql_type(node.to).kind
        return _INTERNAL.get(kind, kind.value), 1
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select):
        first = node.this.expressions[0] if node.this.expressions else None
        if isinstance(first, exp.Alias):
            return name_of(first.args["alias"]), 2
        return _figure(first)[0] if first is not None else None, 2
    fixed = _FIXED.get(type(node))
    return fixed, 2 if fixed else 0
