"""Open directories of this process: connections to one directory share one `Database`, the last one to close closes it.

A directory belongs to one process at a time, so a second `connect` in the same process must find the first one's
database. A forked child does not inherit it: it has the memory, but neither the threads nor the right to write.

Thread rule: any thread. Opening holds the registry's lock, so two threads that open the same directory open it once.
"""

from __future__ import annotations

import atexit
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filestore.database import Database, DatabaseOptions
from filestore.hal import process


@dataclass(slots=True)
class _Open:
    database: Database
    users: int = 0


_GUARD: Final = threading.RLock()
_OPEN: Final[dict[tuple[int, str], _Open]] = {}


class Lease:
    """One user's hold on an open directory; `release` lets go of it, once."""

    def __init__(self, key: tuple[int, str], database: Database) -> None:
        self._key = key
        self._held = True
        self.database = database

    def release(self) -> None:
        """Lets go; the last one out closes the database. A second call does nothing."""
        with _GUARD:
            entry = _OPEN.get(self._key)
            if not self._held or entry is None or self._key[0] != process.pid():
                return
            self._held = False
            entry.users -= 1
            if entry.users:
                return
            del _OPEN[self._key]
            entry.database.close()


def acquire(path: str, options: DatabaseOptions | None = None) -> Lease:
    """Opens a directory or joins the one that is open; `options` count for the first one only.

    Raises DirectoryInUse, naming the holder, when another process has it; DataCorrupted; IncompatibleFormat.
    """
    key = (process.pid(), str(Path(path).resolve()))
    with _GUARD:
        entry = _OPEN.get(key)
        if entry is None:
            entry = _OPEN[key] = _Open(Database.open(path, options))
        entry.users += 1
        return Lease(key, entry.database)


@atexit.register
def _close_all() -> None:
    """Closes what the program left open, so that its next start has nothing to recover."""
    with _GUARD:
        mine = [key for key in _OPEN if key[0] == process.pid()]
        for key in mine:
            _OPEN.pop(key).database.close()
