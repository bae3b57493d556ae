"""What the Flight port does with a session: schemas, rows out, rows in, statements. `flight` is the protocol around it.

Rows leave as they are stored: batches are the engine's vectors under Arrow's names, cut to at most BATCH_ROWS rows
so that they fit the message limits of clients. Thread rule: each call makes a session of its own and uses it on its
own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.commands.copy import Load
from filestore.identifiers import quote_ident
from filestore.query.arrow import vectors
from filestore.query.arrow_stream import record_batches, result_schema
from filestore.query.copy.parquet_format import ParquetChunk
from filestore.query.plan import OutputColumn
from filestore.query.statements import Name
from filestore.result import Result
from filestore.server.flight_requests import Request, SqlRequest, TableRequest
from filestore.storage.vector import Batch
from filestore.txn.drive import Steps, drive
from filestore.txn.locks import LockMode

if TYPE_CHECKING:
    from filestore.database import Database
    from filestore.session import Prepared, Session

# Below the 16 MiB that clients accept by default for all but very wide rows.
BATCH_ROWS: Final = 65_536

Cancelled = Callable[[], bool]


@contextmanager
def session_of(database: Database, user: str) -> Iterator[Session]:
    """A session for one call; what it leaves open is rolled back."""
    if database.closed:
        raise errors.AdminShutdown("the database is closed")
    session = database.session(user, "flight")
    try:
        yield session
    finally:
        session.close()


def tables(database: Database) -> list[TableRequest]:
    """All tables."""
    with database.lock:
        return [TableRequest(t.schema, t.name) for t in database.engine.registry.tables()]


def statement(request: Request) -> str:
    """The query that a request stands for."""
    if isinstance(request, SqlRequest):
        return request.text
    return "SELECT * FROM " + ".".join(quote_ident(part) for part in (request.schema, request.table) if part)


def schema_of(database: Database, user: str, request: Request) -> Any:
    """The Arrow schema of a request's rows; nothing is run. Raises as the statement would when bound."""
    with session_of(database, user) as session, database.lock:
        return result_schema(_columns(session.prepare(statement(request))))


def _columns(prepared: Prepared) -> tuple[OutputColumn, ...]:
    if prepared.parameters:
        raise errors.UndefinedParameter("there is no parameter $1", hint="Write the values into the text.")
    if prepared.columns is None:
        raise errors.FeatureNotSupported(
            "the statement returns no rows", hint='Send statements that return no rows as the action "execute".'
        )
    return prepared.columns


class Rows:
    """The rows of a request while they are streamed: `schema`, then `batches` once. The session ends with the
    iterator.
    """

    def __init__(self, database: Database, user: str, request: Request, cancelled: Cancelled) -> None:
        self._database = database
        self._cancelled = cancelled
        self._session = database.session(user, "flight")
        try:
            with database.lock:
                prepared = self._session.prepare(statement(request))
                columns = _columns(prepared)
            self._result = self._run(self._session.execute_prepared(prepared, ()))
        except BaseException:
            self._session.close()
            raise
        self.schema = result_schema(columns)

    def batches(self) -> Iterator[Any]:
        """Record batches of at most BATCH_ROWS rows. Raises 57014 when the client is gone."""
        session = self._session
        try:
            for batch in record_batches(self._result.batches, self.schema, rows_max=BATCH_ROWS, packed=True):
                self._check()
                yield batch
            self._run(session.finish())
        except errors.Error:
            session.fail()
            raise
        finally:
            session.close()

    def _check(self) -> None:
        if self._cancelled():
            raise errors.QueryCanceled("canceling statement due to user request")

    def _run(self, steps: Steps[Any]) -> Any:
        return run(self._session, steps, self._cancelled)


def run(session: Session, steps: Steps[Any], cancelled: Cancelled) -> Any:
    """Drives a statement on this thread; a client that is gone ends it with 57014."""

    def poll() -> None:
        if cancelled():
            session.cancel.set("user request")
        session.poll()

    lock = session.database.lock
    try:
        return drive(steps, lock, poll)
    except BaseException:
        with lock:
            steps.close()
        raise


def execute(database: Database, user: str, text: str, cancelled: Cancelled) -> tuple[str, int]:
    """Runs one statement; its tag and the number of rows that it returned or changed, durable when this returns."""
    with session_of(database, user) as session:
        with database.lock:
            prepared = session.prepare(text)
        if prepared.statement is None:
            return "", 0
        result: Result = run(session, session.execute_prepared(prepared, ()), cancelled)
        if result.copy_in is not None:
            session.abort_copy(result.copy_in)
            raise errors.FeatureNotSupported("COPY FROM STDIN is not supported here", hint="Use DoPut.")
        count = sum(batch.length for batch in result.batches)
        run(session, session.finish(), cancelled)
        tag = result.command_tag(count)
        last = tag.rpartition(" ")[2]
        return tag, int(last) if last.isdecimal() else count


def append(database: Database, user: str, request: TableRequest, reader: Any, cancelled: Cancelled) -> int:
    """Appends a stream to a table in one transaction; columns go by name, missing ones take their defaults. The
    rows, durable.
    """
    with session_of(database, user) as session:
        count: int = run(session, _append(session, request, reader), cancelled)
        run(session, session.finish(), cancelled)
        return count


def _append(session: Session, request: TableRequest, reader: Any) -> Steps[int]:
    session.begin().check_writable()
    name = Name(request.schema, request.table)
    found = session.catalog().required(name)
    yield from session.lock_table(found, LockMode.ROW_EXCLUSIVE)
    definition = session.catalog().required(name)
    ordinals = []
    for column in reader.schema.names:
        ordinal = definition.ordinal(column)
        if ordinal is None:
            raise errors.UndefinedColumn(f'column "{column}" of relation "{definition.name}" does not exist')
        if ordinal in ordinals:
            raise errors.DuplicateColumn(f'column "{column}" specified more than once')
        ordinals.append(ordinal)
    load = Load(session, definition, tuple(ordinals))
    return (yield from load.steps(lambda: _rows(load, reader)))


def _rows(load: Load, reader: Any) -> Iterator[Batch]:
    """Whole, checked rows of a stream. On a worker."""
    first = 0
    for chunk in reader:
        if chunk.data is None:
            continue
        for columns, length in vectors(chunk.data, load.types, load.session.settings):
            yield load.checked(ParquetChunk(columns, length, load.definition.name, first))
            first += length
