"""What a table is: columns, keys, checks. Plain frozen values, shared by registry, log, binder and ports.

A definition never changes in place: DDL makes a new one and the registry swaps it at commit. `storage_id` names the
stored rows; TRUNCATE and rewriting DDL give a table a new one, so that the old rows stay readable until the
transaction commits. `to_json`/`from_json` are the one serial form, used by the log's DDL records and the manifest.

Thread rule: values, used anywhere. Not here: rows, and what a default's or a check's text means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from filestore.types import Kind, SqlType

FIRST_USER_OID = 16384


@dataclass(frozen=True)
class ColumnDef:
    """A column; `default` is SQL text, bound again at each use."""

    name: str
    type: SqlType
    not_null: bool = False
    default: str | None = None

    def to_json(self) -> dict[str, Any]:
        t = self.type
        return {
            "name": self.name,
            "type": [t.kind.name, t.length, t.precision, t.scale],
            "not_null": self.not_null,
            "default": self.default,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ColumnDef:
        kind, length, precision, scale = value["type"]
        sql_type = SqlType(Kind[kind], length=length, precision=precision, scale=scale)
        return ColumnDef(value["name"], sql_type, value["not_null"], value["default"])


@dataclass(frozen=True)
class KeyDef:
    """A PRIMARY KEY or UNIQUE constraint and the index behind it; `columns` are ordinals from 0."""

    oid: int
    name: str
    columns: tuple[int, ...]
    primary: bool

    def to_json(self) -> dict[str, Any]:
        return {"oid": self.oid, "name": self.name, "columns": list(self.columns), "primary": self.primary}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> KeyDef:
        return KeyDef(value["oid"], value["name"], tuple(value["columns"]), value["primary"])


@dataclass(frozen=True)
class CheckDef:
    """A CHECK constraint; `expression` is SQL text over the table's columns."""

    oid: int
    name: str
    expression: str

    def to_json(self) -> dict[str, Any]:
        return {"oid": self.oid, "name": self.name, "expression": self.expression}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> CheckDef:
        return CheckDef(value["oid"], value["name"], value["expression"])


@dataclass(frozen=True)
class TableDef:
    """A table. `oid` is its identity for life, `storage_id` that of its present rows."""

    oid: int
    schema: str
    name: str
    columns: tuple[ColumnDef, ...]
    keys: tuple[KeyDef, ...] = ()
    checks: tuple[CheckDef, ...] = ()
    storage_id: int = 0

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def primary_key(self) -> KeyDef | None:
        return next((k for k in self.keys if k.primary), None)

    def ordinal(self, name: str) -> int | None:
        """The ordinal of the column called `name`, None when there is none."""
        return next((i for i, c in enumerate(self.columns) if c.name == name), None)

    def changed(self, **fields: Any) -> TableDef:
        """A copy with some fields replaced."""
        return replace(self, **fields)

    def to_json(self) -> dict[str, Any]:
        return {
            "oid": self.oid,
            "schema": self.schema,
            "name": self.name,
            "storage_id": self.storage_id,
            "columns": [c.to_json() for c in self.columns],
            "keys": [k.to_json() for k in self.keys],
            "checks": [c.to_json() for c in self.checks],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> TableDef:
        return TableDef(
            value["oid"],
            value["schema"],
            value["name"],
            tuple(ColumnDef.from_json(c) for c in value["columns"]),
            tuple(KeyDef.from_json(k) for k in value["keys"]),
            tuple(CheckDef.from_json(c) for c in value["checks"]),
            value["storage_id"],
        )
