"""Open directories of this process: connections to one directory share one `Database`, the last one to close closes it.

A directory belongs to one process at a time, so a second `connect` in the same process must find the first one's
database. A forked child does not inherit it: it has the memory, but neither the threads nor the right to write. It
begins with nothing open, and leases of its parent are `foreign`.

What is dropped without being closed is closed by a thread that is there for it (`let_go`): a destructor runs wherever
the collector happens to, under whatever locks, so it must not take any.

Thread rule: any thread. Opening holds the registry's lock, so two threads that open the same directory open it once.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from filestore import errors
from filestore.database import Database, DatabaseOptions
from filestore.dbapi.flushes import OwnFlushes
from filestore.dbapi.signals import Hold
from filestore.hal import process
from filestore.hal.filesystem import real_path

LOG: Final = logging.getLogger("filestore.dbapi")

# How long a destructor waits for what it has handed over: a close takes milliseconds; should the closer ever need what
# the waiting thread holds, nothing is lost but this.
_PATIENCE_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Open:
    database: Database
    flushes: OwnFlushes
    users: int = 0


@dataclass(slots=True)
class _Dropped:
    close: Callable[[], None]
    closed: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _Process:
    """What one process has open. `dropped` is a SimpleQueue since its `put` may be called by destructors."""

    guard: threading.RLock = field(default_factory=threading.RLock)
    open: dict[str, _Open] = field(default_factory=dict)
    dropped: SimpleQueue[_Dropped] = field(default_factory=SimpleQueue)
    closer: threading.Thread | None = None


# This process's is the last; those of its ancestors are kept, so that nothing of theirs is taken apart in a child.
_PROCESSES: Final = [_Process()]


class Lease:
    """One user's hold on an open directory; `release` lets go of it, once."""

    def __init__(self, owner: _Process, path: str, entry: _Open) -> None:
        self._owner = owner
        self._path = path
        self._held = True
        self.database = entry.database
        self.flushes = entry.flushes

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child, and the directory its parent's."""
        return self._owner is not _PROCESSES[-1]

    def release(self) -> None:
        """Lets go; the last one out closes the database. A second call does nothing."""
        if self.foreign:
            return
        with self._owner.guard:
            entry = self._owner.open.get(self._path)
            if not self._held or entry is None or entry.database is not self.database:
                return
            self._held = False
            entry.users -= 1
            if entry.users:
                return
            del self._owner.open[self._path]
            entry.database.close()


def acquire(path: str, options: DatabaseOptions | None = None) -> Lease:
    """Opens a directory or joins the one that is open; `options` count for the first one only.

    Raises DirectoryInUse, naming the holder, when another process has it; DataCorrupted; IncompatibleFormat;
    StorageFailed when it cannot be made or used.
    """
    key, here = real_path(path), _PROCESSES[-1]
    with here.guard:
        entry = here.open.get(key)
        if entry is None:
            database = Database.open(path, options)
            entry = here.open[key] = _Open(database, OwnFlushes(database.engine.log))
        entry.users += 1
        if here.closer is None:
            here.closer = threading.Thread(target=_close_dropped, args=(here.dropped,), name="closer", daemon=True)
            here.closer.start()
        return Lease(here, key, entry)


def let_go(closing: Callable[[], None]) -> None:
    """Has `closing` called soon, on another thread. For destructors: takes no lock.

    Waits a moment for it in the main thread, unless that is at work in the driver: a script that drops a connection
    and removes the directory finds it closed.
    """
    dropped = _Dropped(closing)
    _PROCESSES[-1].dropped.put(dropped)
    if Hold.main_at_rest():
        dropped.closed.wait(_PATIENCE_SECONDS)


def _close_dropped(queue: SimpleQueue[_Dropped]) -> None:
    while True:
        _close_one(queue.get())


def _close_one(dropped: _Dropped) -> None:
    try:
        dropped.close()
    except errors.Error as error:
        LOG.warning("a connection that was dropped could not be closed: %s", error.message)
    finally:
        dropped.closed.set()


def _forked() -> None:
    """In a child: its parent's threads are gone, locks may be taken for ever, and the directories are not its own."""
    _PROCESSES.append(_Process())


process.after_fork(_forked)


@atexit.register
def _close_all() -> None:
    """Closes what the program left open, so that its next start has nothing to recover."""
    here = _PROCESSES[-1]
    with here.guard, Hold():
        while here.open:
            here.open.popitem()[1].database.close()
