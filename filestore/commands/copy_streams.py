"""The two hand-overs of COPY FROM: bytes from the client to the parser, batches from the parser to the loader.

Both are bounded, so that network, parsing and loading run side by side and none fills memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from filestore.storage.wait import Wait

T = TypeVar("T")

# Bytes of a client's data that wait for the parser, and parsed batches that wait for the loader: enough to keep all
# sides busy.
CLIENT_BYTES = 32 << 20
PARSED_BATCHES = 8


class ClientBytes:
    """A client's COPY data: `put` from the port's thread, iterated by the parser's."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, data: bytes) -> None:
        """Hands data over; blocks while the parser is far behind, drops the data when it has given up."""
        with self._changed:
            while self._bytes > CLIENT_BYTES and not self._abandoned:
                self._changed.wait()
            if not self._abandoned:
                self._chunks.append(bytes(data))
                self._bytes += len(data)
                self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more data; with an error the parser raises it."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def abandon(self) -> None:
        """The parser reads no more: nobody is to wait for it."""
        with self._changed:
            self._abandoned = True
            self._chunks.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._chunks and not self._ended:
                    self._changed.wait()
                if self._error is not None:
                    raise self._error
                if not self._chunks:
                    return
                joined = b"".join(self._chunks)
                self._chunks.clear()
                self._bytes = 0
                self._changed.notify_all()
            yield joined


class Produced(Generic[T]):
    """Items made by a worker thread, taken under the engine lock without blocking: a Wait stands where the next is
    not ready.
    """

    def __init__(self, make: Callable[[], Iterable[T]]) -> None:
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ready = Wait()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        # A thread of its own: it waits for the client and for the loader, and would block others of a pool.
        threading.Thread(target=self._run, args=(make,), name="copy", daemon=True).start()

    def _run(self, make: Callable[[], Iterable[T]]) -> None:
        try:
            for item in make():
                with self._changed:
                    while len(self._items) >= PARSED_BATCHES and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._items.append(item)
                    ready = self._ready
                ready.finish()
        except BaseException as error:  # noqa: BLE001 - whoever takes the items raises it
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                ready = self._ready
            ready.finish()

    def close(self) -> None:
        """Nobody takes any more; the worker stops at its next item."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T | Wait]:
        while True:
            item: T | Wait
            with self._changed:
                if self._items:
                    item = self._items.popleft()
                    self._changed.notify_all()
                elif self._ended:
                    break
                else:
                    if self._ready.done:
                        self._ready = Wait()
                    item = self._ready
            yield item
        if self._error is not None:
            raise self._error
