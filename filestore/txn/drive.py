"""Driving statements: a statement is a generator that yields what it must wait for; a driver waits and resumes it.

The generator's code runs with the engine lock held, the waiting happens without it, so a statement is written once
and serves an embedded caller's thread and a port's (`drive`), the event loop (`drive_async`), and the dialogue of a
connection, itself a generator (`Drive`). Before a driver waits, and every few milliseconds while it does, it asks
`poll`; whatever `poll` raises (cancel, a timeout) is thrown into the generator, which cleans up as after any other
error.

Thread rule: a statement is driven by one thread at a time, whichever, which does not hold the engine lock while it
waits. Not here: what statements do, and whose turn it is.

The idea of one protocol written as a generator with thin drivers is psycopg 3's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from filestore.storage.wait import Wait

T = TypeVar("T")

# How long a wait goes on before cancel and timeouts are looked at: bounds the delay of a cancel, costs nothing when
# waits are short.
POLL_SECONDS = 0.02

Steps = Generator[Wait, None, T]


class Job(Wait, Generic[T]):
    """Work handed to a worker thread; the generator that yields it is resumed when it is done and calls `value()`.

    The work runs without the engine lock. Thread rule: made on the driving thread, run on a worker.
    """

    def __init__(self, workers: ThreadPoolExecutor | None, work: Callable[[], T]) -> None:
        """workers None: a thread of its own, for work that waits for others and would block a pool."""
        super().__init__()
        self._work = work
        self._value: T | None = None
        self._raised: BaseException | None = None
        if workers is None:
            threading.Thread(target=self._run, name="job", daemon=True).start()
        else:
            workers.submit(self._run)

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - `value` raises it
            self._raised = error
        self.finish()

    def value(self) -> T:
        """What the work returned; raises what it raised."""
        if self._raised is not None:
            raise self._raised
        return self._value  # type: ignore[return-value]


class Drive(Generic[T]):
    """Steps on their way, from wait to wait. `fault`: what the next step is to meet instead of its wait's end."""

    __slots__ = ("_lock", "_steps", "_value", "fault")

    def __init__(self, steps: Steps[T], lock: Any) -> None:
        self._steps = steps
        self._lock = lock
        self._value: T | None = None
        self.fault: BaseException | None = None

    def advance(self) -> Wait | None:
        """Runs the steps, with the lock held, to a wait that is not over; None at their end. Raises what they raise."""
        fault, self.fault = self.fault, None
        while True:
            with self._lock:
                try:
                    wait = next(self._steps) if fault is None else self._steps.throw(fault)
                except StopIteration as stop:
                    self._value = stop.value
                    return None
            fault = None
            if not wait.done:
                return wait

    @property
    def value(self) -> T:
        """What the steps returned, once they are at their end."""
        return self._value  # type: ignore[return-value]

    def close(self) -> None:
        """Ends the steps before their end."""
        with self._lock:
            self._steps.close()


def drive(steps: Steps[T], lock: Any, poll: Callable[[], None]) -> T:
    """Runs a statement to its end on the calling thread and returns its result; raises what it raises."""
    run = Drive(steps, lock)
    while (wait := run.advance()) is not None:
        while not wait.done:
            try:
                poll()
            except BaseException as error:  # noqa: BLE001 - thrown into the statement
                run.fault = error
                break
            wait.block(POLL_SECONDS)
    return run.value


async def drive_async(steps: Steps[T], lock: Any, poll: Callable[[], None]) -> T:
    """As `drive`, on the event loop: the loop goes on while the statement waits."""
    loop = asyncio.get_running_loop()
    run = Drive(steps, lock)
    while (wait := run.advance()) is not None:
        woken = asyncio.Event()
        wait.on_done(lambda _, event=woken: _wake(loop, event))  # type: ignore[misc]
        while not wait.done:
            try:
                await asyncio.wait_for(woken.wait(), POLL_SECONDS)
            except TimeoutError:
                try:
                    poll()
                except BaseException as error:  # noqa: BLE001 - thrown into the statement
                    run.fault = error
                    break
    return run.value


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)
