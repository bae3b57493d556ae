"""The threads that scan: one per core, fed with morsels by a shared counter, results in order.

`map` is the only way work enters. The calling thread works too, so that a query always advances even when all
helpers are busy with others, and nested or concurrent maps cannot deadlock. A bounded number of results is in
flight: a slow reader stops the workers. Small inputs run on the calling thread alone, because handing over costs
more than it saves.

A work item may take the engine lock (an index is read under it). A caller that holds the lock itself would wait for
helpers that wait for it; its map runs inline.

Items that are there already (a list, a range) are taken by whoever is free. Making the items of an iterator may be
the bulk of the work, and a map of its own (an aggregation below a sort): then the caller makes them, a few ahead, and
no helper ever waits for one, so that they are free for the map within.

Not here: priorities, and a way to take a morsel away from a thread that has begun it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from filestore.hal import numa, process
from filestore.hal.topology import read_topology

T = TypeVar("T")
R = TypeVar("R")

INLINE_ROWS = 100_000
"""Below this many rows the work stays on the caller's thread."""
WINDOW_PER_THREAD = 4
"""Results that may be finished or in work ahead of the reader, per thread."""

_AHEAD = 4
"""Items that a caller makes before it works on one: some for each helper of a small machine."""


class WorkerPool:
    """Threads for the lifetime of the engine. Thread rule: all methods from any thread; `map` from several at once."""

    def __init__(self, threads: int | None = None, lock: threading.RLock | None = None) -> None:
        """threads None: one for each core. lock: the engine lock, which work items may take."""
        self._engine_lock = lock
        self.threads = max(1, process.cpu_count() if threads is None else threads)
        self._jobs: queue.SimpleQueue[_Job[Any, Any] | None] = queue.SimpleQueue()
        self._helpers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def inline(cls) -> WorkerPool:
        """A pool without helpers: everything runs on the caller's thread."""
        return cls(1)

    def map(self, work: Callable[[T], R], items: Iterable[T], rows: int | None = None) -> Iterator[R]:
        """Results of `work` over `items`, in the items' order. `rows` estimates the whole input's size.

        The first exception ends the iteration; closing the iterator early stops the workers at their next item. Who
        asks for the first result without the engine lock must not ask for later ones with it.
        """
        if self.threads == 1 or self._closed or (rows is not None and rows < INLINE_ROWS) or self.holds_lock():
            return (work(item) for item in items)
        self._start()
        return self._parallel(work, items)

    def holds_lock(self) -> bool:
        """Whether the calling thread holds the engine lock; threading.Condition asks an RLock the same question."""
        return self._engine_lock is not None and self._engine_lock._is_owned()  # type: ignore[attr-defined]

    def _parallel(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        job = _Job(work, items, self.threads * WINDOW_PER_THREAD)
        try:
            while True:
                job.supply()
                # Helpers leave a job whose window is full, so that a slow reader keeps no thread from other queries.
                for _ in range(job.helpers_wanted(self.threads - 1)):
                    self._jobs.put(job)
                found = job.next_result()
                if found is None:
                    return
                yield found[0]
        finally:
            job.close()

    def _start(self) -> None:
        if self._helpers:
            return
        with self._lock:
            if self._helpers or self._closed:
                return
            nodes = read_topology().nodes
            started = []
            for i in range(self.threads - 1):
                cpus = nodes[i % len(nodes)].cpus if len(nodes) > 1 else ()
                thread = threading.Thread(target=self._serve, args=(cpus,), name=f"scan-{i}", daemon=True)
                thread.start()
                started.append(thread)
            self._helpers = started

    def _serve(self, cpus: tuple[int, ...]) -> None:
        if cpus:
            # A container may forbid pinning; an unpinned thread is only slower.
            with contextlib.suppress(ValueError):
                numa.pin_thread(cpus)
        while (job := self._jobs.get()) is not None:
            job.help()

    def close(self) -> None:
        """Ends the helpers after the items in work; later maps run inline."""
        with self._lock:
            self._closed = True
            helpers, self._helpers = self._helpers, []
        for _ in helpers:
            self._jobs.put(None)
        for helper in helpers:
            helper.join()


class _Job(Generic[T, R]):
    """One map: its items behind a lock, and the results that wait for their turn."""

    def __init__(self, work: Callable[[T], R], items: Iterable[T], window: int) -> None:
        self._work = work
        self._items = iter(items)
        self._made = isinstance(items, list | range | tuple)
        self._waiting: deque[T] = deque()  # made by the caller, wanted by nobody yet
        self._window = window
        self._ready = threading.Condition()
        self._results: dict[int, R] = {}
        self._taken = 0  # items handed to workers
        self._read = 0  # results handed to the reader
        self._finished = False  # the items have run out, or the job ended
        self._error: BaseException | None = None
        self._helpers = 0  # helpers in work or on their way

    def helpers_wanted(self, most: int) -> int:
        """How many more helpers should come; they count as here from now on."""
        with self._ready:
            if self._finished or self._taken - self._read > self._window // 2:
                return 0
            if not self._made and not self._waiting:
                return 0
            wanted = most - self._helpers
            self._helpers = most
            return wanted

    def supply(self) -> None:
        """Called by the caller: makes a few items ahead when only it may make them."""
        while not self._made:
            with self._ready:
                if self._finished or len(self._waiting) >= _AHEAD or self._taken - self._read >= self._window:
                    return
            try:
                item = next(self._items)
            except StopIteration:
                self._made = True
                return
            except BaseException as error:  # noqa: BLE001 - raised to the caller in its turn
                with self._ready:
                    self._fail(error)
                return
            with self._ready:
                self._waiting.append(item)

    def help(self) -> None:
        """Works until there is nothing to do."""
        while self.step():
            pass
        with self._ready:
            self._helpers -= 1

    def step(self) -> bool:
        """Works on one item. False when there is none left or the window is full."""
        with self._ready:
            if self._finished or self._taken - self._read >= self._window:
                return False
            if self._waiting:
                item = self._waiting.popleft()
            elif not self._made:
                return False
            else:
                try:
                    item = next(self._items)
                except StopIteration:
                    self._finished = True
                    self._ready.notify_all()
                    return False
                except BaseException as error:  # noqa: BLE001 - handed to the reader
                    self._fail(error)
                    return False
            index = self._taken
            self._taken += 1
        try:
            result = self._work(item)
        except BaseException as error:  # noqa: BLE001 - handed to the reader
            with self._ready:
                self._fail(error)
            return False
        with self._ready:
            self._results[index] = result
            self._ready.notify_all()
        return True

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._finished = True
        self._ready.notify_all()

    def next_result(self) -> tuple[R] | None:
        """The next result in order, None after the last. Works on items itself while it has to wait."""
        while True:
            with self._ready:
                if self._error is not None:
                    raise self._error
                if self._read in self._results:
                    result = self._results.pop(self._read)
                    self._read += 1
                    self._ready.notify_all()
                    return (result,)
                if self._finished and self._read >= self._taken:
                    return None
            self.supply()
            if not self.step():
                with self._ready:
                    while not (
                        self._error is not None
                        or self._read in self._results
                        or (self._finished and self._read >= self._taken)
                        or (not self._made and self._taken - self._read < self._window and not self._waiting)
                    ):
                        self._ready.wait()

    def close(self) -> None:
        with self._ready:
            self._finished = True
            dropped, self._results = self._results, {}
            self._waiting.clear()
            self._ready.notify_all()
        dropped.clear()  # without the lock: a result may hold an item that is begun, which ends here
