"""What the rest of the engine needs to know of its process, so that only the hal imports os.

Time here is CLOCK_MONOTONIC: correctness never depends on the wall clock (RELIABILITY R38).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn


def pid() -> int:
    return os.getpid()


def user_id() -> int:
    """The user that files made now belong to."""
    return os.geteuid()


def cpu_count() -> int:
    """Cores that this process may run on, which containers make fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def monotonic_us() -> int:
    """Microseconds of a clock that never steps back; its zero means nothing."""
    return time.monotonic_ns() // 1000


def random_bytes(nbytes: int) -> bytes:
    """Bytes fit for keys and salts."""
    return os.urandom(nbytes)


def exit_now(code: int) -> NoReturn:
    """Ends the process without cleaning up: after a failed sync nothing may acknowledge or write."""
    os._exit(code)


def after_fork(call: Callable[[], None]) -> None:
    """Has `call` called in every forked child, before anything else runs there."""
    os.register_at_fork(after_in_child=call)


@contextlib.contextmanager
def beside(code: str) -> Iterator[None]:
    """Runs `code` in an interpreter beside this one, silently; leaving waits for its end, an exception kills it.

    For what may as well not happen: where no other interpreter starts, or the code fails there, nobody is told.
    """
    nothing = subprocess.DEVNULL
    try:
        other = subprocess.Popen([sys.executable, "-c", code], stdin=nothing, stdout=nothing, stderr=nothing)
    except OSError:
        yield
        return
    try:
        yield
    except BaseException:
        other.kill()
        raise
    finally:
        other.wait()


def discard_output() -> None:
    """Standard output goes nowhere from now on: its reader has gone, and the interpreter flushes it once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def environ_get(name: str, default: str = "") -> str:
    """An environment variable, or `default`."""
    return os.environ.get(name, default)


def environ_default(name: str, value: str) -> None:
    """Sets an environment variable that is not set, for the libraries of this process that read it."""
    os.environ.setdefault(name, value)


def pin_current_thread(cpus: Iterable[int]) -> None:
    """Lets the calling thread run on `cpus` only. ValueError when none of them is this process's to use."""
    wanted = set(cpus)
    try:
        os.sched_setaffinity(0, wanted)  # 0 is the calling thread, sched_setaffinity(2)
    except OSError as error:
        raise ValueError(f"cannot pin this thread to cpus {sorted(wanted)}: {error.strerror}") from error


def resident_bytes() -> int:
    """Physical memory of this process now."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
