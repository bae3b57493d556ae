"""A thread that commits flushes the log itself, where it would only wait for another to do so.

Handing a flush to the log's own thread and back takes longer than a fast disk does. So a thread that drives a statement
promises the log a flush (`Log.hosted`) and keeps the promise when it begins to wait, with no lock held; commits of
other threads meanwhile ride along, or go to the log's thread. What does not wait, as a commit with synchronous_commit
off, leaves its promise to the log's thread, and so does whatever is broken off.

Thread rule: any thread; a promise is its thread's own. It does not do: anything about signals; in the main thread a
`Hold` keeps their exceptions out of a flush.
"""

from __future__ import annotations

import threading

from filestore.storage.log import Log


class OwnFlushes:
    """The promises about one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._here = _Promise()
        log.hosted(self._promise)

    def begin(self) -> None:
        """From now on this thread flushes what it is the first to ask for."""
        self._here.possible = True

    def keep(self) -> None:
        """Does what this thread has promised. No lock held."""
        if self._here.due:
            self._here.due = False
            self._log.flush_hosted()

    def end(self) -> None:
        """What is still promised is the log's thread's."""
        here = self._here
        here.possible = False
        if here.due:
            here.due = False
            self._log.flush_soon()

    def _promise(self) -> bool:
        here = self._here
        here.due = here.due or here.possible
        return here.possible


class _Promise(threading.local):
    """One thread's: whether it may promise, and has."""

    possible = False
    due = False
