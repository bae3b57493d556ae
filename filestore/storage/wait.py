"""The one kind of waiting in the engine: a `Wait` is finished once, and tells whoever asked.

A statement that must wait (for another transaction, for the log) yields a `Wait`; the driver of the statement blocks on
it, or registers a callback and goes on with something else. Thread rule: any thread may finish, ask or block.
It does not do: cancellation, values, groups; a finished wait never becomes unfinished.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

Callback = Callable[["Wait"], None]

# One lock for all waits: it is held for a few instructions, and a lock of its own for each costs more than it saves.
_GUARD: Final = threading.Lock()


class Wait:
    """Unfinished until `finish`; `error` says how it ended, None for well."""

    __slots__ = ("_callbacks", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._callbacks: list[Callback] = []

    def finish(self, error: BaseException | None = None) -> None:
        """Ends the wait and runs its callbacks on this thread; a second call is harmless and changes nothing."""
        with _GUARD:
            if self.done:
                return
            self.error = error
            self.done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def on_done(self, callback: Callback) -> None:
        """Runs `callback(self)` once: now when done, else on the thread that finishes."""
        with _GUARD:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback(self)

    def block(self, timeout_s: float | None = None) -> bool:
        """Blocks the calling thread; whether the wait is done. Does not raise `error`: see `result`."""
        if self.done:
            return True
        wake = threading.Lock()
        wake.acquire()
        self.on_done(lambda _: wake.release())
        return wake.acquire(timeout=-1 if timeout_s is None else timeout_s) or self.done

    def result(self, timeout_s: float | None = None) -> bool:
        """As `block`, but raises the error that the wait ended with."""
        finished = self.block(timeout_s)
        if self.error is not None:
            raise self.error
        return finished


def finished(error: BaseException | None = None) -> Wait:
    """A wait that is over already."""
    wait = Wait()
    wait.done = True
    wait.error = error
    return wait
