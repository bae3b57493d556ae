"""What was made of statement texts: parsing and binding cost hundreds of microseconds, looking them up costs one.

A plan is right as long as the registry has not changed since it was made, so its key holds the registry's version.
Sessions whose open transaction has changed the registry do not use the plans. A parsed statement depends on its text
alone. Least recently used entries go first.

Thread rule: any thread. It has a lock of its own, because statements are parsed without the engine lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

# A few thousand statements are a whole application's; a bound plan is a few kilobytes.
ENTRIES_MAX = 4096


class PlanCache(Generic[T]):
    """Maps a text, or (text, parameter types, search path, registry version), to what was made from it."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._entries_max = entries_max
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """The entry, None when there is none."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: Hashable, entry: T) -> None:
        """Keeps an entry, dropping the least recently used one when full."""
        with self._lock:
            self._entries[key] = entry
            if len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)
