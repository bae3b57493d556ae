"""What a signal's handler raises while the driver is at work waits until the driver is done.

Python runs handlers between any two instructions of the main thread, and Ctrl-C's raises KeyboardInterrupt there. In
the middle of a commit that would leave half of a change behind, so while a `Hold` is on, handlers are called in time,
but what they raise is kept: the running statement is cancelled (57014), and the exception comes out of the driver's
method in the place of that error. A handler that raises nothing does not disturb anything. This is also how drivers
behave whose engine is compiled.

What this does not do: signals without a Python handler (SIG_DFL ends the process: the log has what was committed), and
exceptions that another thread sends (PyThreadState_SetAsyncExc).

Thread rule: only the main thread runs handlers; in other threads a Hold does nothing. One thread per Hold.
"""

from __future__ import annotations

# The functions of `signal` make an enum of every answer, which costs ten times as much as the call.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar, Final

# Those that programs answer by raising: Ctrl-C, a service manager's stop, a closed terminal, a time limit.
_NUMBERS: Final = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGALRM)


def nothing() -> None:
    """For work that cannot be cancelled."""


class Hold:
    """See the module. `raised` is what the first handler raised. As a context manager it raises that at the end."""

    _on: ClassVar[int] = 0  # holds of the main thread

    __slots__ = ("_active", "_cancel", "_handler", "_others", "raised")

    def __init__(self, cancel: Callable[[], None] = nothing) -> None:
        """cancel: asks the running statement to end."""
        self.raised: BaseException | None = None
        self._cancel = cancel
        self._active = False
        self._handler = self._caught
        self._others: list[tuple[int, Callable[[int, FrameType | None], Any]]] = []

    def begin(self) -> None:
        """From now on nothing is raised here. An exception that comes before is raised, and `end` is still due."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            handler = _signal.getsignal(number)
            if callable(handler):
                self._others.append((number, handler))
                _signal.signal(number, self._handler)
        self._active = True
        Hold._on += 1

    def end(self) -> None:
        """Handlers are as they were; what they raise from now on is raised. `raised` is for the caller to raise."""
        if self._active:
            Hold._on -= 1
        self._active = False  # one that is not put back, because another one raises here, passes everything on
        for number, handler in self._others:
            if _signal.getsignal(number) is self._handler:  # else a handler has set another one
                _signal.signal(number, handler)

    @classmethod
    def main_at_rest(cls) -> bool:
        """Whether this is the main thread, and nothing holds here: the driver is not at work further up."""
        return cls._on == 0 and threading.current_thread() is threading.main_thread()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        handler = next(handler for held, handler in self._others if held == number)
        if not self._active:
            handler(number, frame)
            return
        try:
            handler(number, frame)
        except BaseException as error:  # noqa: BLE001 - whoever holds raises it
            if self.raised is None:
                self.raised = error
                self._cancel()

    def __enter__(self) -> Hold:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self.raised is not None:
            raise self.raised
