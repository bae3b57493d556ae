"""The service filestore.v1.Rows: rows of a table by primary key, each call a transaction of its own over `Session`.

The methods translate: names and messages to the statements of `grpc_sql` with bound parameters, and rows back. What
a statement does is the engine's. Every error ends the call as `grpc_errors` has it; a bug ends it with INTERNAL and
a line in the log, never a traceback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2

from filestore import errors
from filestore.query.plan import OutputColumn
from filestore.query.python_values import canonical
from filestore.server import grpc_values
from filestore.server.basic_auth import BasicAuth, host_of
from filestore.server.faults import internal_fault
from filestore.server.grpc_errors import NoSuchRow, refuse
from filestore.server.grpc_names import PageTokens, TableName, row_name, table_name
from filestore.server.grpc_sessions import Call, Sessions
from filestore.server.grpc_sql import TableSql
from filestore.server.proto.filestore.v1 import rows_pb2 as pb
from filestore.server.proto.filestore.v1 import rows_pb2_grpc
from filestore.storage.schema import TableDef
from filestore.storage.vector import Batch
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.database import Database

LOG = logging.getLogger("filestore.grpc")

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1000
# Clients take messages of 4 MiB unless they are told otherwise; the rest is for what is around the rows.
PAGE_BYTES_MAX: Final = 4_000_000
# How often an upsert that lost a race against another INSERT begins again.
UPSERT_ATTEMPTS: Final = 3

Method = Callable[[Call, Any], Awaitable[Any]]


@dataclass(frozen=True)
class Target:
    """The table of a request, as it is defined now."""

    name: TableName
    sql: TableSql

    @property
    def definition(self) -> TableDef:
        return self.sql.definition

    def key_of(self, texts: Sequence[str]) -> list[Any]:
        """A key's text forms, as parameters. Raises 22023 for the wrong number of them."""
        key = self.sql.key
        if len(texts) != len(key):
            names = ", ".join(self.definition.columns[i].name for i in key)
            raise errors.InvalidParameterValue(
                f"a row of this table is named by {len(key)} values ({names}), not {len(texts)}"
            )
        return list(texts)

    def texts_of(self, values: Sequence[Any]) -> list[str]:
        """The text forms of a row's key."""
        return [grpc_values.key_text(self.definition.columns[i].type, values[i]) for i in self.sql.key]

    def rows(self, columns: Sequence[OutputColumn], batches: Sequence[Batch]) -> list[Any]:
        """Row messages of whole rows."""
        return grpc_values.messages(columns, batches, lambda values: self.name.row(self.texts_of(values)))

    def given(self, values: Mapping[str, Any]) -> dict[int, Any]:
        """Column values of a Row message by ordinal. Raises 42703, 22023, 42804."""
        found: dict[int, Any] = {}
        for name, message in values.items():
            ordinal = self.ordinal(name)
            value = grpc_values.from_message(message, name)
            column = self.definition.columns[ordinal]
            found[ordinal] = value
            if value is not None:
                try:
                    if isinstance(value, bool) and column.type.kind is not Kind.BOOL:
                        raise errors.DatatypeMismatch(f"a bool for a column of type {column.type.name}")
                    canonical(column.type, value)
                except errors.Error as error:
                    error.column = error.column or name
                    raise
        return found

    def ordinal(self, name: str) -> int:
        """The ordinal of a column. Raises 42703."""
        found = self.definition.ordinal(name)
        if found is None:
            raise errors.UndefinedColumn(
                f'column "{name}" of relation "{self.definition.name}" does not exist',
                table=self.definition.name,
                column=name,
            )
        return found

    def missing(self, texts: Sequence[str]) -> NoSuchRow:
        """The error for a row that is not there."""
        return NoSuchRow(
            f"there is no row {self.name.row(texts)}", schema=self.definition.schema, table=self.definition.name
        )


def target_of(call: Call, name: TableName) -> Target:
    """Resolves a table's name. Raises 3D000, 42P01."""
    if name.database != call.database.name:
        raise errors.InvalidCatalogName(f'database "{name.database}" does not exist')
    return Target(name, TableSql(call.table(name.schema, name.table)))


class RowsService(rows_pb2_grpc.RowsServicer):
    """See the module. Thread rule: the event loop's thread."""

    def __init__(self, database: Database, auth: BasicAuth) -> None:
        self.sessions = Sessions(database)
        self._auth = auth
        self._tokens = PageTokens()

    async def Get(self, request: Any, context: Any) -> Any:
        return await self._answer(context, self._get, request)

    async def List(self, request: Any, context: Any) -> Any:
        return await self._answer(context, self._list, request)

    async def Create(self, request: Any, context: Any) -> Any:
        return await self._answer(context, self._create, request)

    async def Update(self, request: Any, context: Any) -> Any:
        for attempt in range(UPSERT_ATTEMPTS):
            try:
                return await self._answer(context, self._update, request, retrying=attempt + 1 < UPSERT_ATTEMPTS)
            except _LostRace:
                # The row is committed but perhaps not durable yet: until then it is in the way and not to be seen.
                async with self.sessions.call() as call:
                    await call.catch_up()
        return None

    async def Delete(self, request: Any, context: Any) -> Any:
        return await self._answer(context, self._delete, request)

    async def _answer(self, context: Any, method: Method, request: Any, *, retrying: bool = False) -> Any:
        """Runs a method in a transaction of its own; errors end the call with their status."""
        metadata = dict(context.invocation_metadata() or ())
        try:
            self._auth.admit(host_of(context.peer()), metadata.get("authorization"))
            if request is None:
                raise errors.ProtocolViolation("the request is not a message of this method")
            async with self.sessions.call() as call:
                return await method(call, request)
        except _LostRace as race:
            if retrying:
                raise
            await refuse(context, race.error)
        except errors.Error as error:
            await refuse(context, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            LOG.exception("a call of %s failed", method.__name__.strip("_"))
            await refuse(context, internal_fault())
        return None

    # --- methods --------------------------------------------------------------------------------------------------

    async def _get(self, call: Call, request: Any) -> Any:
        name, texts = row_name(request.name)
        return await _read(call, target_of(call, name), texts)

    async def _list(self, call: Call, request: Any) -> Any:
        if request.filter:
            raise errors.FeatureNotSupported("filters (AIP-160) are not supported", hint="Use SQL for a condition.")
        if request.page_size < 0:
            raise errors.InvalidParameterValue("page_size must not be negative")
        target = target_of(call, table_name(request.parent))
        size = min(request.page_size or PAGE_SIZE, PAGE_SIZE_MAX)
        scope = (str(target.name), str(target.definition.oid))
        if request.page_token:
            after = target.key_of(self._tokens.read(scope, request.page_token))
            columns, batches, _ = await call.execute(target.sql.next_page(), [size + 1, *after])
        else:
            columns, batches, _ = await call.execute(target.sql.first_page(), [size + 1])
        rows = target.rows(columns, batches)
        answer = pb.ListResponse(rows=rows[: _fitting(rows[:size])])
        if len(rows) > len(answer.rows):
            _, last = row_name(answer.rows[-1].name)
            answer.next_page_token = self._tokens.make(scope, last)
        return answer

    async def _create(self, call: Call, request: Any) -> Any:
        target = target_of(call, table_name(request.parent))
        return await _insert(call, target, target.given(request.row.values))

    async def _update(self, call: Call, request: Any) -> Any:
        name, texts = row_name(request.row.name)
        target = target_of(call, name)
        key = target.key_of(texts)
        given = target.given(request.row.values)
        for ordinal, value in zip(target.sql.key, key, strict=True):
            column = target.definition.columns[ordinal]
            if ordinal in given and not _same(column.type, given[ordinal], value):
                raise errors.InvalidParameterValue(
                    f'column "{column.name}" is part of the row\'s name and cannot be changed', column=column.name
                )
        changes = _changes(target, given, request.update_mask.paths)
        if request.row.etag:
            await _check_etag(call, target, texts, request.row.etag)
        if changes:
            text = target.sql.update(list(changes))
            columns, batches, _ = await call.execute(text, [*changes.values(), *key])
            rows = target.rows(columns, batches)
        else:
            rows = await _found(call, target, key)
        if rows:
            return rows[0]
        if not request.allow_missing:
            raise target.missing(texts)
        try:
            return await _insert(call, target, {**changes, **dict(zip(target.sql.key, key, strict=True))})
        except errors.UniqueViolation as error:
            if not request.row.etag:
                raise _LostRace(error) from error
            raise

    async def _delete(self, call: Call, request: Any) -> Any:
        name, texts = row_name(request.name)
        target = target_of(call, name)
        key = target.key_of(texts)
        if request.etag:
            try:
                await _check_etag(call, target, texts, request.etag)
            except NoSuchRow:
                if request.allow_missing:
                    return empty_pb2.Empty()
                raise
        _, _, tag = await call.execute(target.sql.delete(), key)
        if tag == "DELETE 0" and not request.allow_missing:
            raise target.missing(texts)
        return empty_pb2.Empty()


def _fitting(rows: Sequence[Any]) -> int:
    """How many of the first rows make a page of at most PAGE_BYTES_MAX, the first in any case."""
    total = 0
    for count, row in enumerate(rows):
        total += row.ByteSize()
        if count and total > PAGE_BYTES_MAX:
            return count
    return len(rows)


class _LostRace(Exception):
    """Another transaction created the row between an upsert's UPDATE and its INSERT: the call begins again."""

    def __init__(self, error: errors.Error) -> None:
        super().__init__(str(error))
        self.error = error


async def _found(call: Call, target: Target, key: Sequence[Any]) -> list[Any]:
    columns, batches, _ = await call.execute(target.sql.get(), key)
    return target.rows(columns, batches)


async def _read(call: Call, target: Target, texts: Sequence[str]) -> Any:
    rows = await _found(call, target, target.key_of(texts))
    if not rows:
        raise target.missing(texts)
    return rows[0]


async def _insert(call: Call, target: Target, values: Mapping[int, Any]) -> Any:
    columns, batches, _ = await call.execute(target.sql.insert(list(values)), list(values.values()))
    return target.rows(columns, batches)[0]


async def _check_etag(call: Call, target: Target, texts: Sequence[str], expected: str) -> None:
    """Begins a transaction in which the row cannot change unseen. Raises 40001 when it has changed already."""
    await call.begin()
    row = await _read(call, target, texts)
    if row.etag != expected:
        raise errors.SerializationFailure("the row has changed since its etag was read", hint="Get it again.")


def _same(sql_type: SqlType, value: Any, key: str) -> bool:
    return value is not None and bool(canonical(sql_type, value) == canonical(sql_type, key))


def _changes(target: Target, given: Mapping[int, Any], mask: Sequence[str]) -> dict[int, Any]:
    """Values by ordinal that an Update sets: the mask's, all given ones without a mask, all there are for "*"."""
    key = set(target.sql.key)
    if "*" in mask:
        if len(mask) > 1:
            raise errors.InvalidParameterValue('update_mask has "*" beside other paths')
        return {i: given.get(i) for i in range(len(target.definition.columns)) if i not in key}
    if not mask:
        return {i: value for i, value in given.items() if i not in key}
    ordinals = [target.ordinal(path.removeprefix("values.")) for path in mask]
    return {i: given.get(i) for i in ordinals if i not in key}
