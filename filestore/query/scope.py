"""Names in scope: which relations a FROM clause offers, what a column name means there, and how PostgreSQL
words its absence.

A `Scope` is one query level; `outer` is the level around a subquery. Column expressions index the row that
FROM produces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from filestore import errors
from filestore.query import expr as e
from filestore.query.hints import not_supported
from filestore.query.names import nearest
from filestore.query.plan import OutputColumn, Plan
from filestore.storage.schema import TableDef
from filestore.types import OID


class Catalog(Protocol):
    """What the binder asks of the registry. Lookups without a schema follow the session's search path."""

    def table(self, schema: str | None, name: str) -> TableDef | None: ...

    def virtual(self, schema: str, name: str) -> tuple[OutputColumn, ...] | None:
        """Columns of a system table of pg_catalog or information_schema, None when there is none of this
        name."""

    def relation_oid(self, schema: str | None, name: str) -> int | None:
        """OID of a table or system table, for 'name'::regclass."""

    def rows(self, table: TableDef) -> float:
        """About how many rows a table has."""

    def table_names(self) -> list[str]:
        """Names that a hint may suggest."""


@dataclass(frozen=True, slots=True)
class Outer(e.Expr):
    """A column of the query `level` levels further out (1 is the next); never left in a finished plan."""

    level: int
    column: e.Expr
    name: str = ""


@dataclass(slots=True, eq=False)
class ScopeColumn:
    """A column that a name can mean; compared by identity, as two may look the same."""

    name: str
    expr: e.Expr
    output: OutputColumn


@dataclass(slots=True)
class Relation:
    """One entry of FROM. `table` is its definition when it is a stored table, `oid` that of a stored or
    system table; `schema` is set only when it has no alias."""

    alias: str
    columns: list[ScopeColumn]
    table: TableDef | None = None
    schema: str | None = None
    oid: int = 0


@dataclass(slots=True)
class Scope:
    """The relations of one query level. `visible` are the columns that `*` and unqualified names see."""

    outer: Scope | None = None
    relations: list[Relation] = field(default_factory=list)
    visible: list[ScopeColumn] = field(default_factory=list)
    correlated: list[Outer] = field(default_factory=list)

    def add(self, relation: Relation) -> None:
        """Errors with 42712 when the alias is taken."""
        if any(r.alias == relation.alias and r.schema == relation.schema for r in self.relations):
            raise errors.DuplicateAlias(f'table name "{relation.alias}" specified more than once')
        self.relations.append(relation)
        self.visible.extend(relation.columns)

    def relation(self, schema: str | None, alias: str) -> Relation | None:
        for relation in self.relations:
            if relation.alias == alias and (schema is None or relation.schema == schema):
                return relation
        return None

    def column(self, name: str, position: int | None) -> ScopeColumn:
        """The column an unqualified name means. Errors: 42702, 42703."""
        found = self._find(name, position)
        if found is not None:
            return found
        level, outer = 1, self.outer
        while outer is not None:
            there = outer._find(name, position)
            if there is not None:
                return self._outer(level, there)
            level, outer = level + 1, outer.outer
        raise self._undefined(name, position)

    def qualified(self, schema: str | None, alias: str, name: str, position: int | None) -> ScopeColumn:
        """The column `alias.name`. Errors: 42P01 for the alias, 42703 for the name."""
        level, scope = 0, self
        while True:
            relation = scope.relation(schema, alias)
            if relation is not None:
                break
            if scope.outer is None:
                raise self.missing(alias, position)
            level, scope = level + 1, scope.outer
        matches = [c for c in relation.columns if c.name == name]
        if len(matches) > 1:
            raise errors.AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if matches:
            return self._outer(level, matches[0]) if level else matches[0]
        system = _system_column(relation, name, position)
        if system is not None:
            return system
        near = nearest(name, [c.name for c in relation.columns])
        hint = f'Perhaps you meant to reference the column "{alias}.{near}".' if near else None
        raise errors.UndefinedColumn(f"column {alias}.{name} does not exist", hint=hint, position=position)

    def owner(self, column: ScopeColumn) -> Relation | None:
        return next((r for r in self.relations if any(c is column for c in r.columns)), None)

    def _outer(self, level: int, column: ScopeColumn) -> ScopeColumn:
        reference = Outer(column.expr.type, level, column.expr, column.name)
        self.correlated.append(reference)
        return ScopeColumn(column.name, reference, column.output)

    def _find(self, name: str, position: int | None) -> ScopeColumn | None:
        matches = [c for c in self.visible if c.name == name]
        if len(matches) > 1:
            raise errors.AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if matches:
            return matches[0]
        for relation in self.relations:
            system = _system_column(relation, name, position)
            if system is not None:
                return system
        return None

    def _undefined(self, name: str, position: int | None) -> errors.Error:
        if any(r.alias == name for r in self.relations):
            return errors.FeatureNotSupported(
                f'whole-row reference to "{name}" is not supported', hint=f"Write {name}.*", position=position
            )
        known = {f"{r.alias}.{c.name}": c.name for r in self.relations for c in r.columns}
        near = nearest(name, known.values())
        hint = None
        if near is not None:
            full = next(k for k, v in known.items() if v == near)
            hint = f'Perhaps you meant to reference the column "{full}".'
        return errors.UndefinedColumn(f'column "{name}" does not exist', hint=hint, position=position)

    def missing(self, alias: str, position: int | None) -> errors.UndefinedTable:
        """The error for a name that is no relation's here."""
        real = next((r for r in self.relations if r.table is not None and r.table.name == alias), None)
        if real is not None:
            return errors.UndefinedTable(
                f'invalid reference to FROM-clause entry for table "{alias}"',
                hint=f'Perhaps you meant to reference the table alias "{real.alias}".',
                position=position,
            )
        return errors.UndefinedTable(f'missing FROM-clause entry for table "{alias}"', position=position)


def _system_column(relation: Relation, name: str, position: int | None) -> ScopeColumn | None:
    if not relation.oid or name not in ("tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"):
        return None
    if name != "tableoid":
        raise not_supported(f"system column {name}", position)
    return ScopeColumn(name, e.Const(OID, relation.oid), OutputColumn(name, OID, relation.oid, -6))


def relation_of(plan: Plan, alias: str, offset: int, names: list[str] | None = None) -> Relation:
    """A FROM entry over a plan whose columns start at `offset` of the FROM row."""
    columns = []
    for i, column in enumerate(plan.columns):
        name = names[i] if names and i < len(names) else column.name
        output = OutputColumn(name, column.type, column.table_oid, column.attnum)
        columns.append(ScopeColumn(name, e.Column(column.type, offset + i, name), output))
    return Relation(alias, columns)
