"""The statements behind the gRPC port: one table's rows by primary key. Names are quoted, values are always
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filestore import errors
from filestore.identifiers import quote_ident
from filestore.storage.schema import TableDef


@dataclass(frozen=True)
class TableSql:
    """Statements over one table. Parameters are numbered in the order that each method names."""

    definition: TableDef

    @property
    def key(self) -> tuple[int, ...]:
        """Ordinals of the primary key. Raises 55000 when the table has none."""
        key = self.definition.primary_key
        if key is None:
            raise errors.ObjectNotInPrerequisiteState(
                f'table "{self.definition.name}" has no primary key',
                hint="Rows are named by their primary key; use SQL for this table.",
                schema=self.definition.schema,
                table=self.definition.name,
            )
        return key.columns

    def name_of(self, ordinal: int) -> str:
        return quote_ident(self.definition.columns[ordinal].name)

    @property
    def relation(self) -> str:
        return f"{quote_ident(self.definition.schema)}.{quote_ident(self.definition.name)}"

    @property
    def columns(self) -> str:
        return ", ".join(self.name_of(i) for i in range(len(self.definition.columns)))

    def _key_matches(self, first: int) -> str:
        return " AND ".join(f"{self.name_of(i)} = ${n}" for n, i in enumerate(self.key, first))

    def get(self) -> str:
        """Parameters: the key."""
        return f"SELECT {self.columns} FROM {self.relation} WHERE {self._key_matches(1)}"

    def first_page(self) -> str:
        """Parameters: the number of rows."""
        return f"SELECT {self.columns} FROM {self.relation} ORDER BY {self._order} LIMIT $1"

    def next_page(self) -> str:
        """Parameters: the number of rows, the key that the page begins after."""
        alternatives = []
        for depth, ordinal in enumerate(self.key):
            equal = [f"{self.name_of(i)} = ${n}" for n, i in enumerate(self.key[:depth], 2)]
            alternatives.append("(" + " AND ".join([*equal, f"{self.name_of(ordinal)} > ${depth + 2}"]) + ")")
        where = " OR ".join(alternatives)
        return f"SELECT {self.columns} FROM {self.relation} WHERE {where} ORDER BY {self._order} LIMIT $1"

    @property
    def _order(self) -> str:
        return ", ".join(self.name_of(i) for i in self.key)

    def insert(self, ordinals: Sequence[int]) -> str:
        """Parameters: the values of the columns."""
        if not ordinals:
            return f"INSERT INTO {self.relation} DEFAULT VALUES RETURNING {self.columns}"
        names = ", ".join(self.name_of(i) for i in ordinals)
        marks = ", ".join(f"${n}" for n in range(1, len(ordinals) + 1))
        return f"INSERT INTO {self.relation} ({names}) VALUES ({marks}) RETURNING {self.columns}"

    def update(self, ordinals: Sequence[int]) -> str:
        """Parameters: the values of the columns, then the key."""
        changes = ", ".join(f"{self.name_of(i)} = ${n}" for n, i in enumerate(ordinals, 1))
        where = self._key_matches(len(ordinals) + 1)
        return f"UPDATE {self.relation} SET {changes} WHERE {where} RETURNING {self.columns}"

    def delete(self) -> str:
        """Parameters: the key."""
        return f"DELETE FROM {self.relation} WHERE {self._key_matches(1)}"
