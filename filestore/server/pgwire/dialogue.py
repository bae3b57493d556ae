"""What a client and its session say to each other once the session is there: simple and extended queries, COPY.

A state machine over messages: `State` is explicit, there is one method per message, and `HANDLERS` says which may come
when. Bytes to send are appended to `out`; nothing here knows sockets. A message whose work may have to wait is
answered by a generator (`txn/drive.py`) that yields what it waits for, so the connection can serve others meanwhile;
the session's steps run with the engine lock held, the making of rows without it.

Rules kept (PostgreSQL 15, 55.2): Describe never executes; after an error in the extended protocol everything up to
Sync is skipped; ReadyForQuery comes after Query, FunctionCall and Sync only; an implicit transaction spans a Query
string or all messages up to Sync, and is durable before its last CommandComplete or ReadyForQuery is sent; portals
live as long as their transaction.

Thread rule: the loop's thread; `RowSource.pull`, `CopyIn.feed` and the pieces of `CopyOut` may run on workers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore import errors
from filestore.query import statements as s
from filestore.query.point import PointSelect
from filestore.result import CopyIn, CopyOut, Notice, Result
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.copy import CopyStream, ended_by, next_piece
from filestore.server.pgwire.encode import RowEncoder
from filestore.server.pgwire.parameters import given_types
from filestore.server.pgwire.point import Ending, PointAnswers
from filestore.server.pgwire.portal import Portal, RowSource, WireStatement
from filestore.storage.wait import Wait
from filestore.txn.drive import Drive, Job, Steps

if TYPE_CHECKING:
    from filestore.session import Session

# Output is handed to the transport when it has grown to this.
FLUSH_BYTES: Final = 256 << 10
# Rows are made in pieces of about this size: large enough that a hop to a worker does not count, small enough to stay
# in a cache.
PIECE_BYTES: Final = 256 << 10
NO_LIMIT: Final = 1 << 62
# Unnamed statements that are kept because drivers parse the same text over and over.
UNNAMED_KEPT: Final = 64

SELECT_ONE: Final = r.CommandComplete("SELECT 1").encode()
SELECT_NONE: Final = r.CommandComplete("SELECT 0").encode()
# What is left of a result whose rows have all been sent: executing its portal again finds no more.
ANSWERED: Final = Result("SELECT", counts_rows=True)

Flush = Callable[[], Wait | None]


class State(enum.Enum):
    READY = "ready"  # any message may come
    SKIPPING = "skipping"  # after an error in the extended protocol: nothing is done up to Sync
    COPYING = "copying"  # COPY FROM STDIN: data is taken by the statement that asked for it


class Dialogue:
    """See the module. `flush` sends `out` and returns what to wait for while the client does not read, None when it
    does.

    `polled` says whether the running steps may be broken off while they wait (cancel, timeouts).
    """

    def __init__(self, session: Session, lock: RLock, workers: ThreadPoolExecutor, flush: Flush) -> None:
        self.session = session
        self._become(State.READY)
        self.out: list[bytes] = []
        self.incoming: CopyStream | None = None
        self.polled = True
        self._lock: Any = lock
        self._workers = workers
        self._flush = flush
        self._statements: dict[str, WireStatement] = {}
        self._unnamed: dict[tuple[object, ...], WireStatement] = {}
        self._portals: dict[str, Portal] = {}
        session.portals = self._portals
        self._points = PointAnswers(session, lock, self._statements, self._parsed_before)
        self._in_block = False

    def answered(self, data: bytes) -> bool | Steps[None]:
        """Whether what was read is a statement that the short way has answered into `out`; steps when the end of the
        answer has to wait for a commit.
        """
        if self.state is not State.READY:
            return False
        answer = self._points.answer(data)
        if answer is None:
            return False
        if self._portals:
            self._drop_portal("")  # as its Bind would have done
        return self._say(answer) or True

    def _say(self, answer: bytes | Ending) -> Steps[None] | None:
        """Sends an answer of the short way; steps when its end has to wait."""
        if isinstance(answer, Ending):
            self.out.append(answer.begun)
            return self._end(answer)
        self._in_block = self.session.status != "I"
        self.out.append(answer)
        self._flush()
        return None

    def _end(self, answer: Ending) -> Steps[None]:
        # Not to be broken off: see `_finish`.
        yield from self._engine(answer.steps, polled=False)
        self._tell_changes()
        self._drop_portals()
        self._in_block = False
        self.out.append(answer.ended)
        self._flush()

    def _become(self, state: State) -> None:
        self.state = state
        self._handlers = HANDLERS[state]

    def handle(self, message: m.Message) -> Steps[None] | None:
        """Does what the message asks; a generator when it may have to wait. Raises what the client is to be told by
        `failed`.
        """
        self.polled = True
        handler = self._handlers.get(type(message))
        if handler is None:
            kind = message.KIND or b"?"
            raise errors.ProtocolViolation(f"invalid frontend message type {kind[0]}", severity="FATAL")
        return handler(self, message)

    @property
    def takes_data(self) -> bool:
        """Whether messages go to the COPY that waits for them, and not to the queue behind it."""
        return self.incoming is not None and not self.incoming.ended

    def failed(self, error: BaseException, message: m.Message | None) -> None:
        """Tells the client of an error while `message` was served, and goes on as the protocol has it."""
        shown = presentable(error)
        self.session.fail()
        self._drop_portals()
        self._tell_changes()
        self.out.append(r.error_response(shown).encode())
        self.incoming = None
        kind = message.kind if isinstance(message, m.Broken) else b"" if message is None else message.KIND
        if kind in (b"Q", b"F", b"S"):  # Sync fails where its commit does
            self._ready()
        else:
            self._become(State.SKIPPING)

    def start(self, secret: bytes) -> None:
        """Tells the reported settings, the key for cancel requests, and that the session is ready."""
        for name, value in self.session.settings.parameter_status():
            self.out.append(r.ParameterStatus(name, value).encode())
        self.out.append(r.BackendKeyData(self.session.process_id, secret).encode())
        self._ready()

    def close(self) -> None:
        """The client is gone: rolls back, lets go of everything."""
        self._drop_portals()
        self.session.close()

    # --- messages ----------------------------------------------------------------------------------------------------

    def query(self, message: m.Query) -> Steps[None]:
        """Runs every statement of the string; one implicit transaction unless they say otherwise."""
        self._drop_portal("")
        self._statements.pop("", None)
        statements = self.session.parse(message.text)
        if not statements:
            self.out.append(r.EMPTY_QUERY)
        last = len(statements) - 1
        for i, statement in enumerate(statements):
            result = yield from self._engine(self.session.execute(statement))
            rows = 0
            if result.copy_in is not None:
                result = yield from self._copy_in(result.copy_in)
            elif result.copy_out is not None:
                rows = yield from self._copy_out(result.copy_out)
            elif result.columns is not None:
                encoder = RowEncoder(result.columns, (1,) if result.binary else ())
                self.out.append(encoder.description)
                source = RowSource(result.batches, encoder, self.session.settings)
                rows = yield from self._send_rows(source, result.inline, NO_LIMIT)
            if i == last:
                yield from self._finish()
            self._complete(result, rows)
        self._ready()

    def parse(self, message: m.Parse) -> None:
        """Prepares a statement; its text is one statement or none."""
        name, session = message.name, self.session
        if not name:
            statement = self._parsed_before(message)
            if statement is not None:
                self._statements[""] = statement
                self.out.append(r.PARSE_COMPLETE)
                return
            self._statements.pop("", None)
        elif name in session.prepared:
            raise errors.DuplicatePreparedStatement(f'prepared statement "{name}" already exists')
        with self._lock:
            prepared = session.prepare(message.text, given_types(message.parameter_oids))
        statement = self._statements[name] = WireStatement(name, prepared)
        if name:
            session.prepared[name] = prepared
        else:
            if len(self._unnamed) >= UNNAMED_KEPT:
                self._unnamed.clear()
            self._unnamed[message.text, message.parameter_oids, session.settings.search_path] = statement
        self.out.append(r.PARSE_COMPLETE)

    def _parsed_before(self, message: m.Parse) -> WireStatement | None:
        """The unnamed statement of the same text, if it still means the same."""
        session = self.session
        found = self._unnamed.get((message.text, message.parameter_oids, session.settings.search_path))
        if found is None or found.stale or session.status == "E":
            return None
        prepared = found.prepared
        if prepared.statement is not None and isinstance(prepared.statement.utility, s.Begin | s.Commit | s.Rollback):
            return found  # always means the same
        return found if prepared.planned is not None and prepared.version == session.registry_version >= 0 else None

    def _statement(self, name: str) -> WireStatement:
        found = self._statements.get(name)
        if not name:
            if found is None:
                raise errors.InvalidStatementName("unnamed prepared statement does not exist")
        else:
            prepared = self.session.prepared.get(name)
            if prepared is None:
                raise errors.InvalidStatementName(f'prepared statement "{name}" does not exist')
            if found is None or found.prepared is not prepared:
                found = None  # made by PREPARE, or dropped by DEALLOCATE and made again
        if found is None or found.stale:
            prepared = self.session.prepared[name] if found is None else found.prepared
            found = self._statements[name] = WireStatement(name, prepared)
        return found

    def bind(self, message: m.Bind) -> Steps[None] | None:
        """Makes a portal of a prepared statement and its parameters.

        One with a name is opened here: what it shows is what is there now, whenever its rows are asked for.
        """
        statement = self._statement(message.statement)
        name = message.portal
        if name:
            if name in self._portals:
                raise errors.DuplicateCursor(f'cursor "{name}" already exists')
        elif name in self._portals:
            self._drop_portal(name)
        parameters = statement.parameters.vectors(
            message.values, message.parameter_formats, self.session.settings, (name, message.statement)
        )
        portal = Portal(name, statement, message, parameters, statement.encoder(message.result_formats))
        planned = statement.prepared.planned
        if name and planned is not None and planned.bound.kind == "select":
            return self._bind_open(portal)
        self._portals[name] = portal
        self.out.append(r.BIND_COMPLETE)
        return None

    def _bind_open(self, portal: Portal) -> Steps[None]:
        yield from self._open(portal)
        self._portals[portal.name] = portal
        self.out.append(r.BIND_COMPLETE)

    def _open(self, portal: Portal) -> Steps[Result]:
        """Runs a portal's statement; a query's rows are made when they are asked for."""
        portal.ran = True
        steps = self.session.execute_prepared(portal.statement.prepared, portal.parameters)
        result: Result = yield from self._engine(steps)
        if result.columns is not None:
            encoder = portal.encoder or RowEncoder(result.columns)
            portal.result, portal.cancel = result, self.session.cancel
            portal.rows = RowSource(result.batches, encoder, self.session.settings)
        return result

    def describe(self, message: m.Describe) -> None:
        """Tells what a statement or portal takes and gives, without running it."""
        if message.what == "S":
            self.out.append(self._statement(message.name).description())
        else:
            encoder = self._portal_encoder(message.name)
            self.out.append(r.NO_DATA if encoder is None else encoder.description)

    def _portal_encoder(self, name: str) -> RowEncoder | None:
        """The row encoder of a portal, or of the cursor of that name, which is a portal as well."""
        cursor = self.session.cursors.get(name)
        if cursor is not None and name not in self._portals:
            return RowEncoder(cursor.columns, (int(cursor.binary),))
        return self._portal(name).encoder

    def _portal(self, name: str) -> Portal:
        found = self._portals.get(name)
        if found is None:
            raise errors.InvalidCursorName(f'portal "{name}" does not exist')
        return found

    def execute(self, message: m.Execute) -> Steps[None] | None:
        """Runs a portal, or goes on where a row limit stopped it."""
        portal = self._portal(message.portal)
        prepared = portal.statement.prepared
        if prepared.statement is None:
            self.out.append(r.EMPTY_QUERY)
            return None
        limit = message.max_rows
        if prepared.point is not None and limit <= 0 and not portal.ran and self._point(portal, prepared.point):
            return None
        return self._run(portal, limit if limit > 0 else NO_LIMIT)

    def _point(self, portal: Portal, point: PointSelect) -> bool:
        """Answers a point SELECT by its compiled form; whether that could."""
        session, prepared, bind = self.session, portal.statement.prepared, portal.bind
        request = np.frombuffer(bind.body, np.uint8)
        with self._lock:
            end = session.run_point(prepared, request, bind.formats_at, 0)
            if end < 0:
                return False
            # Copied under the lock: another connection may use the same prepared form next.
            self.out.append(point.out[:end].tobytes() if end else b"")
        self.out.append(SELECT_ONE if end else SELECT_NONE)
        portal.ran, portal.result = True, ANSWERED
        return True

    def _run(self, portal: Portal, limit: int) -> Steps[None]:
        rows = 0
        if portal.result is None:
            if portal.ran:
                raise errors.ObjectNotInPrerequisiteState(f'portal "{portal.name}" cannot be run anymore')
            result = yield from self._open(portal)
            if result.copy_in is not None:
                result = yield from self._copy_in(result.copy_in)
            elif result.copy_out is not None:
                rows = yield from self._copy_out(result.copy_out)
        else:
            result = portal.result
            if portal.cancel is not None:
                self.session.resume(portal.cancel)
        if portal.rows is not None:
            rows = yield from self._send_rows(portal.rows, result.inline, limit)
            if not portal.rows.exhausted:
                self.out.append(r.PORTAL_SUSPENDED)
                return
        self._complete(result, rows)

    def close_named(self, message: m.Close) -> None:
        """Drops a statement or portal; that it is not there is no error."""
        if message.what == "S":
            self._statements.pop(message.name, None)
            if message.name:
                self.session.prepared.pop(message.name, None)
        else:
            self._drop_portal(message.name)
            self.session.cursors.pop(message.name, None)
        self.out.append(r.CLOSE_COMPLETE)

    def sync(self, _message: m.Message) -> Steps[None] | None:
        """Ends the group: commits an implicit transaction, then says ready."""
        self._become(State.READY)
        if self.session.transaction is None:
            self._ready()
            return None
        return self._end_group()

    def _end_group(self) -> Steps[None]:
        yield from self._finish()
        self._ready()

    def flush(self, _message: m.Message) -> None:
        """Sends what there is; a client that does not read is waited for by the next one who sends."""
        self._flush()

    def function_call(self, _message: m.FunctionCall) -> None:
        raise errors.FeatureNotSupported(
            "function calls by the fast-path protocol are not supported", hint="Call the function in a SELECT."
        )

    def ignore(self, _message: m.Message) -> None:
        """CopyData that comes after its COPY has failed, anything while skipping."""

    def broken(self, message: m.Broken) -> None:
        if message.fatal:
            message.error.severity = "FATAL"
        raise message.error

    def copy_message(self, message: m.Message) -> None:
        """Data for the COPY that waits; Sync and Flush say nothing inside it, anything else ends it."""
        assert self.incoming is not None
        self.incoming.put(message)

    # --- COPY --------------------------------------------------------------------------------------------------------

    def _copy_in(self, copy: CopyIn) -> Steps[Result]:
        code = int(copy.binary)
        self.out.append(r.CopyInResponse(code, (code,) * copy.column_count).encode())
        stream = self.incoming = CopyStream()
        self._become(State.COPYING)
        self._flush()
        try:
            while True:
                message = yield from stream.take()
                if isinstance(message, m.CopyDone):
                    break
                if not isinstance(message, m.CopyData):
                    raise ended_by(message)
                job = Job(self._workers, partial(copy.feed, message.data))  # it may wait for whoever loads
                yield job
                job.value()
            self._become(State.READY)
            self.incoming = None
            result: Result = yield from self._engine(self.session.finish_copy(copy))
            return result
        except BaseException:
            self._become(State.READY)
            self.incoming = None
            self.session.abort_copy(copy)
            raise

    def _copy_out(self, copy: CopyOut) -> Steps[int]:
        """Sends the rows of COPY TO STDOUT, each as a CopyData message; returns their number."""
        rows = 0
        code = int(copy.binary)
        self.out.append(r.CopyOutResponse(code, (code,) * copy.column_count).encode())
        while True:
            job = Job(self._workers, partial(next_piece, copy))
            yield job
            piece = job.value()
            if piece is None:
                break
            self.out.append(piece[0])
            rows += piece[1]
            wait = self._flush()
            if wait is not None:
                yield wait
        self.out.append(r.COPY_DONE)
        return rows

    # --- answers -----------------------------------------------------------------------------------------------------

    def _engine(self, steps: Steps[Any], polled: bool = True) -> Steps[Any]:
        """Runs the session's steps, each with the engine lock held, and yields their waits without it."""
        run = Drive(steps, self._lock)
        while (wait := run.advance()) is not None:
            self.polled = polled
            try:
                yield wait
            except GeneratorExit:
                run.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the steps
                run.fault = error
        return run.value

    def _finish(self) -> Steps[None]:
        # Not to be broken off: what is in the log may be durable, and only the log can say.
        yield from self._engine(self.session.finish(), polled=False)

    def _send_rows(self, source: RowSource, inline: bool, limit: int) -> Steps[int]:
        """Sends rows until the source or the limit ends; returns how many."""
        total = 0
        while total < limit and not source.exhausted:
            if inline:
                pieces, rows = source.pull(limit - total, PIECE_BYTES)
            else:
                job = Job(self._workers, partial(source.pull, limit - total, PIECE_BYTES))
                yield job
                pieces, rows = job.value()
            self.out += pieces
            total += rows
            if rows and sum(map(len, pieces)) >= FLUSH_BYTES:
                wait = self._flush()
                if wait is not None:
                    yield wait
        return total

    def _complete(self, result: Result, rows: int) -> None:
        """CommandComplete, after the notices and changed settings that the statement caused."""
        session = self.session
        if result.notices or session.notices:
            self._notices((*session.notices, *result.notices))
            session.notices.clear()
        self._tell_changes()
        tag = result.command_tag(rows).encode()
        self.out.append(b"C" + (len(tag) + 5).to_bytes(4, "big") + tag + b"\0")
        in_block = session.status != "I"
        if self._in_block and not in_block:
            self._drop_portals()
        self._in_block = in_block

    def _notices(self, notices: Iterable[Notice]) -> None:
        self.out += [r.notice_response(n.severity, n.sqlstate, n.message).encode() for n in notices]

    def _tell_changes(self) -> None:
        """ParameterStatus for every reported setting that has changed."""
        for name, value in self.session.settings.report_changes():
            self.out.append(r.ParameterStatus(name, value).encode())

    def _ready(self) -> None:
        status = self.session.status
        if status == "I" and self._portals:
            self._drop_portals()
        self._in_block = status != "I"
        self._become(State.READY)
        self.out.append(r.READY[status])
        self._flush()

    def _drop_portal(self, name: str) -> None:
        portal = self._portals.pop(name, None)
        if portal is not None:
            portal.close()

    def _drop_portals(self) -> None:
        for portal in self._portals.values():
            portal.close()
        self._portals.clear()


def presentable(error: BaseException) -> errors.Error:
    """What the client is told of any exception: itself, or the condition that stands for it."""
    if isinstance(error, errors.Error):
        return error
    if isinstance(error, MemoryError):
        return errors.OutOfMemory("out of memory")
    if isinstance(error, RecursionError):
        return errors.StatementTooComplex("statement is nested too deeply")
    return errors.InternalError(
        f"{type(error).__name__}: {error}", hint="This is a bug in FileStore; the server's log has more."
    )


_EXTENDED: dict[type, Callable[..., Steps[None] | None]] = {
    m.Parse: Dialogue.parse,
    m.Bind: Dialogue.bind,
    m.Describe: Dialogue.describe,
    m.Execute: Dialogue.execute,
    m.Close: Dialogue.close_named,
    m.Flush: Dialogue.flush,
    m.Sync: Dialogue.sync,
}
_COPY_MESSAGES: tuple[type, ...] = (m.CopyData, m.CopyDone, m.CopyFail)

HANDLERS: dict[State, dict[type, Callable[..., Steps[None] | None]]] = {
    State.READY: {
        **_EXTENDED,
        m.Query: Dialogue.query,
        m.FunctionCall: Dialogue.function_call,
        m.Broken: Dialogue.broken,
        **dict.fromkeys(_COPY_MESSAGES, Dialogue.ignore),
    },
    State.SKIPPING: {
        **dict.fromkeys((*_EXTENDED, *_COPY_MESSAGES, m.Query, m.FunctionCall), Dialogue.ignore),
        m.Sync: Dialogue.sync,
        m.Broken: Dialogue.ignore,
    },
    State.COPYING: {
        **dict.fromkeys(
            (*_EXTENDED, *_COPY_MESSAGES, m.Query, m.FunctionCall, m.Broken, m.Password), Dialogue.copy_message
        ),
        m.Sync: Dialogue.ignore,
        m.Flush: Dialogue.ignore,
    },
}
