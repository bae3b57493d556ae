"""What the Flight port does with a session: schemas, rows out, rows in, statements. `flight` is the protocol around it.

Rows leave as they are stored: batches are the engine's vectors under Arrow's names, cut to at most BATCH_ROWS rows
so that they fit the message limits of clients. Thread rule: on the thread of the call; what a DoPut sends is read on a
worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.commands.copy import Load, ordinals_of
from filestore.identifiers import quote_ident
from filestore.query.arrow import schema, vectors
from filestore.query.arrow_stream import record_batches, result_schema
from filestore.query.copy.parquet_format import RowChunk
from filestore.query.plan import OutputColumn
from filestore.query.statements import Name
from filestore.result import Result
from filestore.server.flight_calls import Caller
from filestore.server.flight_requests import Request, SqlRequest, TableRequest
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps
from filestore.txn.locks import LockMode

if TYPE_CHECKING:
    from filestore.database import Database
    from filestore.session import Prepared, Session

# Below the 16 MiB that clients accept by default for all but very wide rows.
BATCH_ROWS: Final = 65_536


def tables(database: Database) -> list[tuple[TableRequest, Any]]:
    """All tables, each with its Arrow schema."""
    with database.lock:
        found = list(database.engine.registry.tables())
    shapes = [schema([c.name for c in table.columns], [c.type for c in table.columns]) for table in found]
    return [(TableRequest(table.schema, table.name), shape) for table, shape in zip(found, shapes, strict=True)]


def schema_of(caller: Caller, request: Request) -> Any:
    """The Arrow schema of a request's rows; nothing is run. Raises as the statement would when bound."""
    with caller.session() as session:
        return result_schema(_columns(_prepared(session, request)))


def _prepared(session: Session, request: Request) -> Prepared:
    """The query that a request stands for."""
    with session.database.lock:
        if isinstance(request, SqlRequest):
            return session.prepare(request.text)
        try:
            return session.prepare(f"SELECT * FROM {_name(request)}")
        except errors.Error as error:
            error.position = None  # of a text that the client has not written
            raise


def _name(request: TableRequest) -> str:
    return ".".join(quote_ident(part) for part in (request.schema, request.table) if part)


def _columns(prepared: Prepared) -> tuple[OutputColumn, ...]:
    if prepared.parameters:
        raise errors.UndefinedParameter("there is no parameter $1", hint="Write the values into the text.")
    if prepared.columns is None:
        raise errors.FeatureNotSupported(
            "the statement returns no rows", hint='Send statements that return no rows as the action "execute".'
        )
    if not prepared.columns:
        raise errors.FeatureNotSupported(
            "a result without columns is not supported by Arrow", hint="Select at least one column."
        )
    return prepared.columns


def rows(caller: Caller, request: Request) -> tuple[Any, Iterator[Any]]:
    """(Arrow schema, record batches of at most BATCH_ROWS rows) of a request's rows.

    The session ends with the iterator, whether it was read or not. Raises 57014 when the client is gone.
    """
    stream = _stream(caller, request)
    return next(stream), stream


def _stream(caller: Caller, request: Request) -> Iterator[Any]:
    """The schema, then the batches."""
    with caller.session() as session:
        prepared = _prepared(session, request)
        shape = result_schema(_columns(prepared))
        result = caller.run(session, session.execute_prepared(prepared, ()))
        yield shape
        try:
            for batch in record_batches(result.batches, shape, rows_max=BATCH_ROWS, packed=True):
                caller.check()
                yield batch
            caller.run(session, session.finish())
        except errors.Error:
            session.fail()
            raise


def execute(caller: Caller, text: str) -> tuple[str, int]:
    """Runs one statement; its tag and the number of rows that it returned or changed, durable when this returns."""
    with caller.session() as session:
        with session.database.lock:
            prepared = session.prepare(text)
        if prepared.statement is None:
            return "", 0
        result: Result = caller.run(session, session.execute_prepared(prepared, ()))
        if result.copy_in is not None:
            session.abort_copy(result.copy_in)
            raise errors.FeatureNotSupported("COPY FROM STDIN is not supported here", hint="Use DoPut.")
        if result.copy_out is not None:
            raise errors.FeatureNotSupported("COPY TO STDOUT is not supported here", hint="Use DoGet.")
        count = sum(batch.length for batch in result.batches)
        caller.run(session, session.finish())
        tag = result.command_tag(count)
        last = tag.rpartition(" ")[2]
        return tag, int(last) if last.isdecimal() else count


def append(caller: Caller, request: TableRequest, reader: Any) -> int:
    """Appends a stream to a table in one transaction; columns go by name, missing ones take their defaults. The
    rows, durable.
    """
    with caller.session() as session:
        session.statement_text = f"DoPut {_name(request)}"
        count: int = caller.run(session, _append(session, request, reader))
        caller.run(session, session.finish())
        return count


def _append(session: Session, request: TableRequest, reader: Any) -> Steps[int]:
    session.begin().check_writable()
    name = Name(request.schema, request.table)
    found = session.catalog().required(name)
    yield from session.lock_table(found, LockMode.ROW_EXCLUSIVE)
    definition = session.catalog().required(name)
    load = Load(session, definition, ordinals_of(definition, reader.schema.names))
    return (yield from load.steps(lambda: _rows(load, reader)))


def _rows(load: Load, reader: Any) -> Iterator[Batch]:
    """Whole, checked rows of a stream. On a worker."""
    first = 0
    for chunk in reader:
        if chunk.data is None:
            continue
        for columns, length in vectors(chunk.data, load.types, load.session.settings):
            yield load.checked(RowChunk(columns, length, load.definition.name, first))
            first += length
