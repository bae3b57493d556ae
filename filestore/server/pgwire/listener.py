"""Where connections meet the event loop: sockets, the clock, waking what waited. The only module of the room that
knows asyncio.

The loop's thread is the engine's thread: a message is served on it directly, without a coroutine. Statements that wait
are woken together: whoever finishes a wait, on any thread, leaves the connection in a queue, and one callback takes
all that are in it, so a group commit of a hundred sessions costs one wake-up. The loop flushes the log itself while
that is short (see `Log.hosted`): in the first turn in which nobody has said anything, or after GATHER_S.

The clock runs only while somebody is watched: authentication, waiting statements, idle transactions. It ticks every
TICK_SECONDS, which bounds how late a cancel or a timeout is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.hal import process
from filestore.server.log import Log
from filestore.server.pgwire import messages as m
from filestore.server.pgwire.auth import Authenticator
from filestore.server.pgwire.connection import Connection, Phase
from filestore.storage.wait import Wait

if TYPE_CHECKING:
    from filestore.database import Database

TICK_SECONDS: Final = 0.02
CONNECTIONS_MAX: Final = 1000
BACKLOG: Final = 1024
# Flushes that take longer are the log's thread's: everybody waits for the loop's.
SHORT_FLUSH_S: Final = 0.0005
# How long a flush waits for others to commit, too, while somebody has something to do: several flushes' time.
GATHER_S: Final = 0.001
# Output that a client has not taken may grow to this before rows are made no further.
WRITE_BUFFER_BYTES: Final = 1 << 20


class SocketPipe(asyncio.Protocol):
    """One socket. `Connection` does the talking."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: Any = None
        self._connection: Connection | None = None
        self._full: Wait | None = None
        self.address: str | None = None
        self.port: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address, self.port = peer[:2] if isinstance(peer, tuple) else (None, None)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._connection = Connection(self._listener, self)
        self._listener.connections.add(self._connection)

    def data_received(self, data: bytes) -> None:
        self._listener.served += 1
        self._connection.receive(data)  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        connection = self._connection
        if self._full is not None:
            self._full.finish()
        if connection is not None:
            self._listener.gone(connection)
            connection.lost()

    def pause_writing(self) -> None:
        self._full = Wait()

    def resume_writing(self) -> None:
        full, self._full = self._full, None
        if full is not None:
            full.finish()

    def full(self) -> Wait | None:
        return self._full

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


@dataclass(frozen=True, slots=True)
class Limits:
    """connections: sessions at a time, as PostgreSQL's max_connections."""

    connections: int = CONNECTIONS_MAX


class Listener:
    """The port: accepts connections and is their `Server`. Thread rule: the loop's thread, but for `_finished`."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        log: Log,
        *,
        tls: SSLContext | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.database = database
        self.authenticator = authenticator
        self.tls = tls
        # A thread for every connection, made when needed: what a statement does there may wait for its neighbours.
        self.workers = ThreadPoolExecutor(limits.connections, thread_name_prefix="pgwire")
        self.connections: set[Connection] = set()
        self.storage_failed: asyncio.Future[BaseException] | None = None
        self._log = log
        self._limits = limits
        self._by_process: dict[int, Connection] = {}
        self._admitted: set[Connection] = set()
        self._watched: set[Connection] = set()
        self._finished: deque[tuple[Connection, Wait]] = deque()
        self.served = 0  # how often clients have sent something
        self._served_before = 0
        self._flush_by = 0.0
        self._waking = False
        self._thread = 0
        self._ticking = False
        self._closing = False
        self.dead = False
        self._loop: Any = None
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Starts to accept; returns the port, chosen by the system when 0 was given. Raises OSError when it is
        taken.
        """
        self._loop = asyncio.get_running_loop()
        self.storage_failed = self._loop.create_future()
        self._server = await self._loop.create_server(lambda: SocketPipe(self), host, port, backlog=BACKLOG)
        self._thread = threading.get_ident()
        self.database.engine.log.hosted(self._will_flush)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self, grace_seconds: float) -> None:
        """Stops accepting, ends idle sessions at once and running ones when they are done or the grace is over."""
        self._closing = True
        self.database.engine.log.hosted(None)
        if self._server is not None:
            self._server.close()
        shutdown = "terminating connection due to administrator command"
        until = process.monotonic_us() + int(grace_seconds * 1e6)
        while self.connections and not self.dead:
            over = process.monotonic_us() >= until
            for connection in list(self.connections):
                if over or not connection.busy:
                    connection.terminate(errors.AdminShutdown(shutdown, severity="FATAL"))
            if process.monotonic_us() >= until + 2_000_000:
                break  # sockets that do not close; the process ends with them
            await asyncio.sleep(TICK_SECONDS)

    def die(self, error: BaseException) -> None:
        """The store has failed: tells every session so, and nothing more is ever answered."""
        self._closing = self.dead = True
        if self._server is not None:
            self._server.close()
        told = errors.StorageFailed(
            f"terminating connection because the store failed: {error}",
            hint="What was being committed may or may not have been kept.",
            severity="FATAL",
        )
        for connection in list(self.connections):
            try:
                connection.terminate(told)
            except Exception as again:  # noqa: BLE001 - the others are to be told, whatever this one's rollback says
                self._log.exception("internal_error", again, during="die")

    # --- for connections ---------------------------------------------------------------------------------------------

    def admit(self, connection: Connection) -> None:
        if self._closing:
            raise errors.CannotConnectNow("the database system is shutting down")
        if len(self._admitted) >= self._limits.connections:
            raise errors.TooManyConnections("sorry, too many clients already")
        self._admitted.add(connection)

    def serving(self, connection: Connection) -> None:
        if connection.session is not None:
            self._by_process[connection.session.process_id] = connection

    def gone(self, connection: Connection) -> None:
        """The socket is closed."""
        self.connections.discard(connection)
        self._admitted.discard(connection)
        self._watched.discard(connection)
        if connection.session is not None:
            self._by_process.pop(connection.session.process_id, None)

    def cancel(self, process_id: int, secret: bytes) -> None:
        connection = self._by_process.get(process_id)
        if connection is not None and connection.matches(secret):
            connection.cancel("user request")

    def failed(self, error: BaseException, message: m.Message | None) -> None:
        if isinstance(error, errors.StorageFailed):
            if not self.dead:
                self.dead = True
                self._log.error("store_failed", reason=str(error))
                self._loop.call_soon(self.die, error)
            if self.storage_failed is not None and not self.storage_failed.done():
                self.storage_failed.set_result(error)
            return
        self._log.exception("internal_error", error, during=type(message).__name__)

    # --- waiting and the clock ---------------------------------------------------------------------------------------

    def wake(self, connection: Connection, wait: Wait) -> None:
        self.watch(connection)
        wait.on_done(lambda done: self._on_done(connection, done))

    def _on_done(self, connection: Connection, wait: Wait) -> None:
        """Any thread."""
        self._finished.append((connection, wait))
        if not self._waking:
            self._waking = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._resume_all)

    def _resume_all(self) -> None:
        self._waking = False  # before taking: whoever comes now calls again
        finished = self._finished
        while finished:
            connection, wait = finished.popleft()
            if connection.phase is Phase.SERVING and not connection.timed:
                self._watched.discard(connection)
            if not self.dead:
                connection.resume(wait)

    def _will_flush(self) -> bool:
        """Any thread: whether the loop will flush the log, once it has served those who have sent something."""
        if threading.get_ident() != self._thread or self._closing:
            return False
        if self.database.engine.log.hosted_s > SHORT_FLUSH_S:
            return False
        self._flush_by = time.perf_counter() + GATHER_S
        self._served_before = self.served
        self._loop.call_soon(self._flush_log)
        return True

    def _flush_log(self) -> None:
        if self.served != self._served_before and time.perf_counter() < self._flush_by:
            # Somebody else has something to do: what is committed meanwhile shares the flush.
            self._served_before = self.served
            self._loop.call_soon(self._flush_log)
            return
        self._waking = True  # nobody needs to call: what the flush ends is taken up at once
        try:
            self.database.engine.log.flush_hosted()
        finally:
            self._resume_all()

    def soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def watch(self, connection: Connection) -> None:
        self._watched.add(connection)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)

    def unwatch(self, connection: Connection) -> None:
        self._watched.discard(connection)

    def _tick(self) -> None:
        now_us = process.monotonic_us()
        for connection in list(self._watched):
            connection.tick(now_us)
        self._ticking = bool(self._watched)
        if self._ticking:
            self._loop.call_later(TICK_SECONDS, self._tick)
