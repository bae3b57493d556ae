"""Calls of the Flight port: each has a session of its own, which ends with the call or with its client.

Nobody tells a handler that its client has left: it has to ask. A statement that streams asks between batches and one
that waits asks while it waits; `Watch` asks for those that compute (a join, a sort), so that no statement outlives its
client.

It does not read requests or results: `flight_requests`, `flight_rows`. Thread rule: `Caller` on its call's thread;
`Watch` from any thread, and from the first call on with one of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.txn.drive import Steps, drive

if TYPE_CHECKING:
    from filestore.database import Database
    from filestore.session import Session

# How long a statement may compute for a client that is gone.
WATCH_SECONDS: Final = 0.1

Cancelled = Callable[[], bool]


class Watch:
    """Ends the statements of clients that have left."""

    def __init__(self) -> None:
        # Re-entrant: while this thread looks, a garbage collection on it may close a stream and so end a call.
        self._guard = threading.RLock()
        self._calls: dict[int, tuple[Session, Cancelled]] = {}
        self._wanted = threading.Event()
        self._running = self._stopped = False

    def add(self, session: Session, cancelled: Cancelled) -> None:
        """Looks after a call from now on; `cancelled` may be asked until `remove` returns."""
        with self._guard:
            self._calls[session.process_id] = session, cancelled
            self._wanted.set()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="flight-watch", daemon=True).start()

    def remove(self, session: Session) -> None:
        """The call is over."""
        with self._guard:
            self._calls.pop(session.process_id, None)

    def stop(self) -> None:
        """Ends the thread; calls under way are not looked after any more."""
        self._stopped = True
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._stopped:
                return
            self._look()
            time.sleep(WATCH_SECONDS)

    def _look(self) -> None:
        with self._guard:
            for number in list(self._calls):
                found = self._calls.get(number)
                if found is not None and found[1]():
                    found[0].cancel.set("user request")
            if not self._calls and not self._stopped:
                self._wanted.clear()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, for the length of one call. `cancelled`: whether the client is gone."""

    database: Database
    user: str
    cancelled: Cancelled
    watch: Watch

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for the call; what it leaves open is rolled back. Raises 57P01 when the database is closed."""
        if self.database.closed:
            raise errors.AdminShutdown("the database is closed")
        session = self.database.session(self.user, "flight")
        self.watch.add(session, self.cancelled)
        try:
            yield session
        finally:
            self.watch.remove(session)
            session.close()

    def check(self) -> None:
        """Raises 57014 when the client is gone."""
        if self.cancelled():
            raise errors.QueryCanceled("canceling statement due to user request")

    def run(self, session: Session, steps: Steps[Any]) -> Any:
        """Drives a statement on this thread; a client that is gone ends it with 57014."""

        def poll() -> None:
            if self.cancelled():
                session.cancel.set("user request")
            session.poll()

        lock = session.database.lock
        try:
            return drive(steps, lock, poll)
        except BaseException:
            with lock:
                steps.close()
            raise
