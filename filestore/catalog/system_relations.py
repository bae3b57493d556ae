"""What a system table is: its columns, who makes its rows, and how rows become vectors.

A module of this package that makes rows of a relation registers a maker for it:

    @rows_of("pg_am", Changes.NEVER)
    def _methods(_source: Source) -> Iterator[Row]: ...

A row is a mapping of column names to canonical values (see `expr.Const`); a column that it leaves out has
its default: null where the column is nullable, else zero, false or the empty string. A relation with
several makers has the rows of all; one with none is empty, and so says the truth: there are no policies,
triggers, publications here.

PostgreSQL's types that FileStore does not have (arrays, int2vector, aclitem, xid, pg_node_tree, inet,
pg_lsn ...) are text here, in the same text form: indkey is '1 2', conkey '{1,2}'.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from filestore.catalog.system_columns import CATALOG_TABLES
from filestore.catalog.system_view_columns import CATALOG_VIEWS, INFORMATION_VIEWS
from filestore.query.plan import OutputColumn
from filestore.query.vectors import from_python
from filestore.storage.vector import Vector
from filestore.types import BY_NAME, NUMBER_KINDS, OID_KINDS, TEXT, Kind, SqlType

if TYPE_CHECKING:
    from filestore.catalog.names import SessionCatalog
    from filestore.database import Database
    from filestore.session import Session
    from filestore.storage.registry import Registry

CATALOG: Final = "pg_catalog"
INFORMATION: Final = "information_schema"
OWNER_OID: Final = 10
"""The role that owns everything: the one that PostgreSQL's initdb makes."""

Row = Mapping[str, Any]


class Changes(enum.IntEnum):
    """What makes the rows of a maker differ from one reading to the next: how long they may be kept."""

    NEVER = 0
    DEFINITIONS = 1
    DATA = 2
    ALWAYS = 3


@dataclass(frozen=True, slots=True)
class SystemColumn:
    """A column; `declared` is PostgreSQL's internal name of its type, `type` what it is here."""

    name: str
    declared: str
    type: SqlType
    not_null: bool

    @property
    def default(self) -> Any:
        """The value where a row says nothing."""
        if not self.not_null:
            return None
        if self.type.kind is Kind.BOOL:
            return False
        return 0 if self.type.kind in NUMBER_KINDS or self.type.kind in OID_KINDS else ""


@dataclass(frozen=True, slots=True)
class SystemRelation:
    """A table ("r") or view ("v") of pg_catalog or information_schema."""

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[SystemColumn, ...]

    @property
    def output(self) -> tuple[OutputColumn, ...]:
        """Its columns as a plan shows them."""
        return tuple(OutputColumn(c.name, c.type, self.oid, i) for i, c in enumerate(self.columns, 1))


class Source:
    """Where makers find what they tell of: the session that asks, and the definitions it sees."""

    def __init__(self, catalog: SessionCatalog) -> None:
        self.catalog = catalog
        self.registry: Registry = catalog.registry

    @property
    def session(self) -> Session:
        return self.catalog.session

    @property
    def database(self) -> Database:
        return self.catalog.session.database

    def schema_oid(self, name: str) -> int:
        """The oid of a schema that exists."""
        return self.registry.schema_oid(name) or 0


Maker = Callable[[Source], Iterable[Row]]
MAKERS: Final[dict[tuple[str, str], list[tuple[Changes, Maker]]]] = {}


def rows_of(name: str, changes: Changes, schema: str = CATALOG) -> Callable[[Maker], Maker]:
    """Registers a maker of rows of a relation."""

    def register(maker: Maker) -> Maker:
        if (schema, name) not in RELATIONS:
            raise KeyError(f"{schema}.{name} is not a system table")
        MAKERS.setdefault((schema, name), []).append((changes, maker))
        return maker

    return register


def vectors_of(relation: SystemRelation, rows: Iterable[Row]) -> list[Vector]:
    """The rows as one vector per column."""
    taken = list(rows)
    vectors = []
    for column in relation.columns:
        name, default = column.name, column.default
        vectors.append(from_python(column.type, [row.get(name, default) for row in taken]))
    return vectors


def array_text(items: Iterable[object]) -> str:
    """The text form of an array of plain items, e.g. {1,2}."""
    return "{" + ",".join(map(str, items)) + "}"


def vector_text(items: Iterable[object]) -> str:
    """The text form of an int2vector or oidvector, e.g. `1 2`."""
    return " ".join(map(str, items))


def _type_of(declared: str) -> SqlType:
    if declared == "char":
        return SqlType(Kind.CHAR)
    kind = BY_NAME.get(declared)
    return TEXT if kind is None else SqlType(kind)


def _column(entry: str) -> SystemColumn:
    name, declared = entry.split(":")
    plain = declared.removesuffix("!")
    return SystemColumn(name, plain, _type_of(plain), plain != declared)


def _relations(schema: str, kind: str, text: str) -> Iterator[SystemRelation]:
    """The entries of a dump: a line `name oid`, then indented lines of columns."""
    heads: list[tuple[str, list[str]]] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            heads[-1][1].extend(line.split())
        else:
            heads.append((line, []))
    for head, entries in heads:
        name, oid = head.split()
        yield SystemRelation(schema, name, int(oid), kind, tuple(map(_column, entries)))


RELATIONS: Final[dict[tuple[str, str], SystemRelation]] = {
    (r.schema, r.name): r
    for r in (
        *_relations(CATALOG, "r", CATALOG_TABLES),
        *_relations(CATALOG, "v", CATALOG_VIEWS),
        *_relations(INFORMATION, "v", INFORMATION_VIEWS),
    )
}
BY_OID: Final[dict[int, SystemRelation]] = {r.oid: r for r in RELATIONS.values()}
