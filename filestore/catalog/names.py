"""What the binder and the executor ask of a session: tables by name, system tables, functions about the session.

Lookups follow the session's search path and see its transaction's own definitions. System tables are real relations
made from the registry when they are read (`system_tables.py`); nothing is matched by a statement's text.

Thread rule: engine lock held, except `system_table`, which takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from filestore import errors
from filestore.catalog import system_definitions, system_functions, system_tables
from filestore.query.names import nearest
from filestore.query.plan import OutputColumn
from filestore.query.statements import Name
from filestore.storage.registry import Registry
from filestore.storage.schema import TableDef
from filestore.storage.vector import Batch

if TYPE_CHECKING:
    from filestore.session import Session


class SessionCatalog:
    """The catalog of one session at this moment; made anew for each statement."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def registry(self) -> Registry:
        """Definitions as the session's transaction sees them."""
        transaction = self.session.transaction
        if transaction is not None and transaction.registry is not None:
            return transaction.registry
        return self.session.database.engine.registry

    def table(self, schema: str | None, name: str) -> TableDef | None:
        """The table of that name; without a schema the first along the search path."""
        if schema is not None:
            return self.registry.table(schema, name)
        return self.registry.resolve(name, self.session.settings.search_path)

    def virtual(self, schema: str, name: str) -> tuple[OutputColumn, ...] | None:
        """Columns of a system table, None when there is none of that name."""
        return system_tables.columns_of(schema, name)

    def relation_oid(self, schema: str | None, name: str) -> int | None:
        """OID of a table, index or system table, None when there is none."""
        return system_definitions.relation_oid(self, schema, name)

    def rows(self, table: TableDef) -> float:
        """About how many rows a table has; 0 when it is damaged, so that one table does not hide the others."""
        stored = self.session.database.engine.tables.get(table.storage_id)
        return 0.0 if stored is None else float(stored.live_rows)

    def table_names(self) -> list[str]:
        """Names that a hint may suggest."""
        return [t.name for t in self.registry.tables()]

    def required(self, name: Name) -> TableDef:
        """The table of that name. Raises 42P01 with a suggestion, 3F000 for an unknown schema."""
        found = self.table(name.schema, name.name)
        if found is not None:
            return found
        shown = name.name if name.schema is None else f"{name.schema}.{name.name}"
        guess = nearest(name.name, self.table_names())
        hint = None if guess is None else f'Perhaps you meant the table "{guess}".'
        raise errors.UndefinedTable(f'relation "{shown}" does not exist', hint=hint, position=name.position or None)

    def system_table(self, schema: str, name: str) -> Batch:
        """The rows of a system table."""
        with self.session.database.lock:
            return system_tables.rows_of(schema, name, self)

    def session_function(self, name: str, args: tuple[Any, ...]) -> Any:
        """The value of a function that asks the session or the registry."""
        with self.session.database.lock:
            return system_functions.call(name, args, self)
