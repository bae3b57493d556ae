"""A connection without a network: bytes in, replies out, waits waited for on the spot. What the golden traces run
on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ssl import SSLContext
from typing import Any

from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.auth import Authenticator
from filestore.server.pgwire.connection import Connection
from filestore.storage.wait import Wait

WAIT_SECONDS = 10.0


class Loopback:
    """`Server` and `Pipe` of one connection at a time, on the calling thread."""

    def __init__(self, database: Any, password: str | None = None, address: str | None = "127.0.0.1") -> None:
        self.database = database
        self.authenticator = Authenticator(lambda user: password if user == "postgres" else None)
        self.tls: SSLContext | None = None
        self.workers = ThreadPoolExecutor(4)
        self.address = address
        self.port: int | None = 54321
        self.written = bytearray()
        self.closed = False
        self.reading = True
        self.cancelled: list[tuple[int, bytes]] = []
        self.faults: list[BaseException] = []
        self.blocked: Wait | None = None
        self._waits: list[Wait] = []
        self._soon: list[Callable[[], None]] = []
        self.connection = Connection(self, self)

    # Server

    def admit(self, connection: Connection) -> None: ...
    def serving(self, connection: Connection) -> None: ...
    def watch(self, connection: Connection) -> None: ...
    def unwatch(self, connection: Connection) -> None: ...

    def cancel(self, process_id: int, secret: bytes) -> None:
        self.cancelled.append((process_id, secret))

    def wake(self, connection: Connection, wait: Wait) -> None:
        self._waits.append(wait)

    def soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def failed(self, error: BaseException, message: m.Message | None) -> None:
        self.faults.append(error)

    # Pipe

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def full(self) -> Wait | None:
        return self.blocked

    # The client's side

    def send(self, *messages: m.Message | bytes) -> list[r.Reply | bytes]:
        """Sends messages in one piece and returns everything that is answered."""
        self.connection.receive(b"".join(x if isinstance(x, bytes) else x.encode() for x in messages))
        return self.settle()

    def settle(self) -> list[r.Reply | bytes]:
        """Lets waits end until the connection is at rest or waits for the client; returns what was written."""
        while self._waits or self._soon:
            if self._soon:
                self._soon.pop(0)()
                continue
            wait = self._waits.pop(0)
            stream = self.connection._dialogue.incoming if self.connection._dialogue is not None else None
            if stream is not None and wait is stream.arrived and not wait.done:
                self._waits.insert(0, wait)
                break
            assert wait.block(WAIT_SECONDS), "a wait does not end"
            self.connection.resume(wait)
        return self.take()

    def take(self) -> list[r.Reply | bytes]:
        out: list[r.Reply | bytes] = []
        raw = bytes(self.written)
        self.written.clear()
        at = 0
        while at < len(raw):
            kind = raw[at : at + 1]
            if kind in (b"S", b"N") and len(raw) == at + 1:
                out.append(kind)
                break
            end = at + 1 + int.from_bytes(raw[at + 1 : at + 5], "big")
            out.append(r.decode_reply(kind, raw[at + 5 : end]))
            at = end
        return out

    def start(self, **parameters: str) -> list[r.Reply | bytes]:
        return self.send(m.Startup(3, 0, {"user": "postgres", "database": "postgres", **parameters}))
