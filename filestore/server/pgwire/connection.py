"""One client's connection: from its first byte to its last, without sockets.

    START -> (TLS) -> AUTHENTICATING -> SERVING -> CLOSED

`receive` takes what the network brought, messages go through one method each, bytes to send go to the `Pipe`. A
message whose work has to wait leaves a task (a generator); messages that come meanwhile are queued, and reading stops
when they are many. Whatever is read in one piece is answered in one piece.

Pre-authentication is narrow (RELIABILITY S5): 10,000 bytes, a time limit, a connection cap; a byte that came in clear
behind an SSLRequest ends the connection. A client that vanishes has its task broken off and its transaction rolled
back.

Thread rule: the loop's thread.
"""

from __future__ import annotations

import enum
import hmac
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ssl import SSLContext
from typing import TYPE_CHECKING, Final, Protocol

from filestore import errors
from filestore.hal import process
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.auth import Authenticator, ScramExchange
from filestore.server.pgwire.codec import Codec
from filestore.server.pgwire.dialogue import Dialogue, presentable
from filestore.server.pgwire.startup import Request, understand
from filestore.server.pgwire.tls import CLIENT_HELLO, TlsBroken, TlsLayer
from filestore.storage.wait import Wait
from filestore.txn.drive import Job, Steps

if TYPE_CHECKING:
    from filestore.database import Database
    from filestore.session import Session

# A client may send this much ahead of what is being served; then reading stops.
QUEUED_BYTES_MAX: Final = 1 << 20
AUTHENTICATION_SECONDS: Final = 60
# Messages of one connection that are served before the loop looks at the others.
BURST: Final = 200
SHORT: Final = b"BPQ"  # what begins with Bind, Parse or Query may have a short way
SECRET_BYTES: Final = 4
# Stands for a group of messages that was read with its Sync: after an error in it, too, the client is told "ready".
WHOLE: Final = m.Query("")


class Phase(enum.Enum):
    START = "start"
    AUTHENTICATING = "authenticating"
    SERVING = "serving"
    CLOSED = "closed"


class Pipe(Protocol):
    """The network under one connection."""

    address: str | None
    port: int | None

    def write(self, data: bytes) -> None: ...
    def close(self) -> None:
        """Closes after what was written has gone out."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def full(self) -> Wait | None:
        """What to wait for before writing more; None when there is room."""


class Server(Protocol):
    """What all connections of a port share."""

    database: Database
    authenticator: Authenticator
    tls: SSLContext | None
    workers: ThreadPoolExecutor

    def admit(self, connection: Connection) -> None:
        """Raises 53300 when there are too many connections, 57P03 when the server is going down."""

    def serving(self, connection: Connection) -> None:
        """The connection has a session; from here on it can be cancelled by its process id."""

    def cancel(self, process_id: int, secret: bytes) -> None: ...
    def wake(self, connection: Connection, wait: Wait) -> None:
        """Calls `connection.resume(wait)` on the loop's thread once the wait is done, and `tick` now and then until
        then.
        """

    def soon(self, callback: Callable[[], None]) -> None:
        """Calls it on the loop's thread, behind what is waiting there."""

    def watch(self, connection: Connection) -> None:
        """Calls `tick` now and then until `unwatch`."""

    def unwatch(self, connection: Connection) -> None: ...
    def failed(self, error: BaseException, message: m.Message | None) -> None:
        """Takes note of an error that is the server's fault; a failed store ends the process."""


class Connection:
    """See the module."""

    def __init__(self, server: Server, pipe: Pipe) -> None:
        self.phase = Phase.START
        self.secret = process.random_bytes(SECRET_BYTES)
        self.session: Session | None = None
        self._server = server
        self._pipe = pipe
        self._codec = Codec()
        self._tls: TlsLayer | None = None
        self._first_byte = True
        self._request: Request | None = None
        self._exchange: ScramExchange | None = None
        self._dialogue: Dialogue | None = None
        self._out: list[bytes] = []
        self._queue: deque[m.Message] = deque()
        self._queued = 0
        self._reading = True
        self._task: Steps[None] | None = None
        self._message: m.Message | None = None
        self._waiting: Wait | None = None
        self._gone = False
        self._ending: errors.Error | None = None
        self._deadline_us = process.monotonic_us() + AUTHENTICATION_SECONDS * 1_000_000
        server.watch(self)

    # --- the network -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Takes bytes from the network and does all they ask for."""
        if self.closed():
            return
        if self._first_byte:
            self._first_byte = False
            if data[0] == CLIENT_HELLO and self._server.tls is not None:
                self._tls = TlsLayer(self._server.tls, direct=True)
        if self._tls is not None:
            try:
                data, answer = self._tls.receive(data)
            except TlsBroken:
                self._close()
                return
            if answer:
                self._pipe.write(answer)
            if not data:
                return
        if self.busy:
            self._enqueue(self._codec.feed(data), len(data))
            return
        if data[0] in SHORT and self._dialogue is not None and not self._codec.buffered:
            self._message = WHOLE
            try:
                answered = self._dialogue.answered(data)
            except Exception as error:  # noqa: BLE001 - the client is told
                self._failed(error)
                return
            if answered:
                if answered is not True:
                    self._task = answered
                    self._advance(None)
                return
        messages = self._codec.feed(data)
        for i, message in enumerate(messages):
            self._serve(message)
            if self._task is not None or i >= BURST:
                self._enqueue(messages[i + 1 :], len(data))
                break
            if self.closed():
                return
        if self._queue and self._task is None:
            self._server.soon(self.go_on)

    def closed(self) -> bool:
        return self.phase is Phase.CLOSED

    def lost(self) -> None:
        """The network is gone: breaks off what runs, rolls back. Work on a worker is waited for first."""
        if self._gone:
            return
        self._gone = True
        self.phase = Phase.CLOSED
        self._server.unwatch(self)
        self._queue.clear()
        if self._task is not None and isinstance(self._waiting, Job):
            self.cancel("client disconnect")
            return  # `resume` ends it
        self._end()

    def _end(self) -> None:
        task, self._task, self._waiting = self._task, None, None
        if task is not None:
            task.close()
        if self._dialogue is not None:
            dialogue, self._dialogue = self._dialogue, None
            dialogue.close()

    def _close(self) -> None:
        """Ends the connection from this side, after what was said has gone out."""
        if self.phase is Phase.CLOSED:
            return
        self._flush()
        self.phase = Phase.CLOSED
        self._server.unwatch(self)
        self._queue.clear()
        if self._tls is not None:
            self._pipe.write(self._tls.close())
        self._pipe.close()
        if self._task is None:
            self._end()

    def _flush(self) -> Wait | None:
        out = self._out if self._dialogue is None else self._dialogue.out
        if out and not self._gone:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._pipe.write(data if self._tls is None else self._tls.send(data))
        return self._pipe.full()

    # --- messages ----------------------------------------------------------------------------------------------------

    def _enqueue(self, messages: list[m.Message], nbytes: int) -> None:
        dialogue = self._dialogue
        for message in messages:
            if dialogue is not None and dialogue.takes_data and not self._queue:
                self._serve(message)
            else:
                self._queue.append(message)
        stream = None if dialogue is None else dialogue.incoming
        self._queued = self._queued + nbytes if stream is None else stream.nbytes
        if self._queued > QUEUED_BYTES_MAX and self._reading:
            self._reading = False
            self._pipe.pause_reading()

    def _serve(self, message: m.Message) -> None:
        """One message: its transition. A task that is waiting goes on only by `resume`."""
        if self.phase is not Phase.SERVING:
            self._greet(message)
            return
        dialogue = self._dialogue
        assert dialogue is not None
        if type(message) is m.Terminate:
            self._close()
            return
        if self._task is None:
            self._message = message
        try:
            task = dialogue.handle(message)
        except Exception as error:  # noqa: BLE001 - the client is told
            self._failed(error)
            return
        if task is not None:
            self._task = task
            self._advance(None)

    def _advance(self, fault: BaseException | None) -> None:
        """Runs the task until it ends or has to wait."""
        task = self._task
        assert task is not None
        self._waiting = None
        while True:
            try:
                wait = next(task) if fault is None else task.throw(fault)
            except StopIteration:
                self._task = None
                return
            except Exception as error:  # noqa: BLE001 - the client is told
                self._task = None
                self._failed(error)
                return
            fault = None
            if not wait.done:
                break
        self._waiting = wait
        self._server.wake(self, wait)

    def resume(self, wait: Wait) -> None:
        """What the task waited for is done; goes on with it and with what queued up meanwhile."""
        if wait is not self._waiting or self._task is None:
            return  # it was broken off before
        if self._gone:
            self._end()
            return
        if self._ending is not None:
            self._terminate(self._ending)
            return
        self._advance(None)
        self._pump()

    def go_on(self) -> None:
        """Takes up what is queued, after the loop has looked at the others."""
        if self._task is None:
            self._pump()

    def _pump(self) -> None:
        served = 0
        while self._queue and self._task is None and self.phase is not Phase.CLOSED:
            if served >= BURST:
                self._server.soon(self.go_on)
                return
            self._serve(self._queue.popleft())
            served += 1
        stream = None if self._dialogue is None else self._dialogue.incoming
        if not self._queue:
            self._queued = 0 if stream is None else stream.nbytes
        if not self._reading and self._queued <= QUEUED_BYTES_MAX and self.phase is not Phase.CLOSED:
            self._reading = True
            self._pipe.resume_reading()

    def _failed(self, error: Exception) -> None:
        """Tells the client; a fatal error ends the connection."""
        shown = presentable(error)
        if shown.sqlstate in ("XX000", "58030"):
            self._server.failed(error, self._message)
        dialogue = self._dialogue
        if dialogue is None or self.phase is Phase.CLOSED:
            return
        if isinstance(shown, errors.StorageFailed):
            shown.severity = "FATAL"
        if shown.severity == "FATAL":
            self._say_fatal(shown)
            return
        try:
            dialogue.failed(shown, self._message)
            # Not left for Sync: a client that made a mistake may wait for its answer, or go.
            self._flush()
        except errors.StorageFailed as failed:
            self._failed(failed)

    def _say_fatal(self, error: errors.Error) -> None:
        out = self._out if self._dialogue is None else self._dialogue.out
        out.append(r.error_response(error, "FATAL").encode())
        self._close()

    # --- start-up ----------------------------------------------------------------------------------------------------

    def _greet(self, message: m.Message) -> None:
        """A message before the session: start-up and authentication. All errors are fatal here."""
        try:
            if isinstance(message, m.Broken):
                raise message.error
            if self.phase is Phase.START:
                self._first(message)
            elif self.phase is Phase.AUTHENTICATING and isinstance(message, m.Password):
                self._authenticate(message)
            elif self.phase is Phase.AUTHENTICATING and isinstance(message, m.Terminate):
                self._close()
            else:
                raise errors.ProtocolViolation(f"expected SASL response, got message type {message.KIND[0]}")
        except errors.Error as error:
            self._say_fatal(error)
        except Exception as error:  # noqa: BLE001 - the client is told
            self._server.failed(error, message)
            self._say_fatal(presentable(error))

    def _first(self, message: m.Message) -> None:
        if isinstance(message, m.SslRequest):
            self._ssl()
        elif isinstance(message, m.GssEncRequest):
            self._plain_answer(b"N")
        elif isinstance(message, m.CancelRequest):
            self._server.cancel(message.process_id, message.secret)
            self._close()
        else:
            assert isinstance(message, m.Startup)
            self._startup(message)

    def _ssl(self) -> None:
        tls = self._server.tls
        if tls is None or self._tls is not None:
            self._plain_answer(b"N")
        elif self._plain_answer(b"S"):
            self._tls = TlsLayer(tls, direct=False)

    def _plain_answer(self, answer: bytes) -> bool:
        """Answers an encryption request, if nothing came behind it: that could have been put there by anyone on the
        way.
        """
        if self._codec.buffered:
            self._close()
            return False
        self._pipe.write(answer if self._tls is None else self._tls.send(answer))
        return True

    def _startup(self, message: m.Startup) -> None:
        request = self._request = understand(message)
        self._server.admit(self)
        if request.negotiate is not None:
            self._out.append(request.negotiate.encode())
        self.phase = Phase.AUTHENTICATING
        self._exchange = self._server.authenticator.begin(request.user, self._pipe.address)
        if self._exchange is None:
            self._open(request)
        else:
            self._out.append(r.sasl_mechanisms(("SCRAM-SHA-256",)).encode())
            self._flush()

    def _authenticate(self, message: m.Password) -> None:
        exchange, request = self._exchange, self._request
        assert exchange is not None and request is not None
        if not exchange.started:
            first = m.SaslInitialResponse.decode(message.body)
            answer = exchange.first(first.mechanism, first.data)
            self._out.append(r.Authentication(r.AUTH_SASL_CONTINUE, answer).encode())
            self._flush()
            return
        answer = exchange.final(message.body)
        self._out.append(r.Authentication(r.AUTH_SASL_FINAL, answer).encode())
        self._open(request)

    def _open(self, request: Request) -> None:
        """The client is who it says: makes the session."""
        database = self._server.database
        if request.database != database.name:
            raise errors.InvalidCatalogName(f'database "{request.database}" does not exist')
        settings = dict(request.settings)
        application_name = settings.pop("application_name", "")
        self.session = session = database.session(request.user, application_name, settings)
        session.client = (self._pipe.address, self._pipe.port)
        dialogue = self._dialogue = Dialogue(session, database.lock, self._server.workers, self._flush_serving)
        dialogue.out += [*self._out, r.Authentication(r.AUTH_OK).encode()]
        self._out.clear()
        self._exchange = None
        self.phase = Phase.SERVING
        self._server.unwatch(self)
        self._deadline_us = 0
        self._server.serving(self)
        dialogue.start(self.secret)

    def _flush_serving(self) -> Wait | None:
        session = self.session
        assert session is not None
        limit_ms = session.settings.idle_in_transaction_session_timeout_ms
        if limit_ms or self._deadline_us:
            self._restart_clock(limit_ms if session.status != "I" else 0)
        return self._flush()

    # --- time, cancel, the end ---------------------------------------------------------------------------------------

    def _restart_clock(self, limit_ms: int) -> None:
        """From now on an open transaction may do nothing for `limit_ms`; 0 is for ever. The clock stands still while a
        task runs.
        """
        if limit_ms:
            self._deadline_us = process.monotonic_us() + limit_ms * 1000
            self._server.watch(self)
        else:
            self._deadline_us = 0
            self._server.unwatch(self)

    @property
    def timed(self) -> bool:
        """Whether the clock matters to it even when no task waits."""
        return self._deadline_us != 0

    @property
    def busy(self) -> bool:
        """Whether a statement is under way."""
        return self._task is not None or bool(self._queue)

    def matches(self, secret: bytes) -> bool:
        return hmac.compare_digest(self.secret, secret)

    def cancel(self, reason: str) -> None:
        """Asks what runs to stop; a session that does nothing is not touched. The answer, if any, is the
        statement's.
        """
        if self._task is not None and self.session is not None:
            self.session.cancel.set(reason)
            self._poll()

    def tick(self, now_us: int) -> None:
        """Looks at the clock: cancel and time-outs of what waits, authentication, idle transactions."""
        if self._task is not None:
            self._poll()
        elif self._deadline_us and now_us >= self._deadline_us:
            if self.phase is not Phase.SERVING:
                self._close()
                return
            self._say_fatal(
                errors.IdleInTransactionTimeout("terminating connection due to idle-in-transaction timeout")
            )

    def _poll(self) -> None:
        """Breaks off a waiting task that is to stop. What runs on a worker looks for itself."""
        dialogue = self._dialogue
        if self._waiting is None or isinstance(self._waiting, Job) or dialogue is None or not dialogue.polled:
            return
        try:
            dialogue.session.poll()
        except errors.Error as error:
            self._advance(error)
            self._pump()

    def terminate(self, error: errors.Error) -> None:
        """The server ends this connection: now when nothing runs on a worker, else as soon as that is over."""
        if self.phase is Phase.CLOSED:
            return
        if self._task is not None and isinstance(self._waiting, Job):
            self._ending = error
            self.cancel("administrator command")
            return
        self._terminate(error)

    def _terminate(self, error: errors.Error) -> None:
        task, self._task, self._waiting = self._task, None, None
        if task is not None:
            task.close()
        self._say_fatal(error)
