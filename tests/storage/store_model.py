"""A tiny engine over a `Store` with a model: numbered transactions that write to an arena and attach sealed files.

Transaction t (1, 2, ...) sets element t % ELEMENTS of one arena to t, and its group carries a payload that t
determines. So the state after n transactions is a function of n, and a recovered store is right iff it equals that
of one n.
"""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from filestore.hal import FileSystem
from filestore.storage.log_record import Record, encode_group
from filestore.storage.segment_file import Role, SealedColumn, SealedContents
from filestore.storage.store import CheckpointImage, PageImage, Store, StoreOptions, sealed_name

ELEMENTS = 6000  # three pages
ARENA_BYTES = ELEMENTS * 8
SEALED_EVERY = 16
SEALED_LIVE = 3
KIND = 6  # what tests/data holds; the store carries groups and leaves their meaning to who replays them


def options(seed: int = 1, **changes: Any) -> StoreOptions:
    """Small files, no threads, reproducible salts."""
    salts = random.Random(seed).randbytes
    values: dict[str, Any] = {"log_file_bytes": 32768, "batch_bytes": 8192, "threaded": False, "random": salts}
    return StoreOptions(**{**values, **changes})


def payload(t: int) -> bytes:
    """What transaction t logs: mostly small, some over a batch, few over a file."""
    size = (37 * t) % 500 if t % 23 else 20_000 if t % 46 else 45_000
    return random.Random(t).randbytes(size)


def sealed_data(k: int) -> np.ndarray:
    return np.arange(k * 1000, k * 1000 + 700, dtype=np.int64)


def elements(n: int) -> np.ndarray:
    """The arena after n transactions."""
    found = np.zeros(ELEMENTS, np.int64)
    for t in range(max(1, n - ELEMENTS + 1), n + 1):
        found[place(t)] = t
    return found


def place(t: int) -> int:
    return (t * 977) % ELEMENTS


@dataclass
class Engine:
    """The open store and how many transactions it holds."""

    store: Store
    count: int

    @classmethod
    def open(cls, fs: FileSystem, opts: StoreOptions | None = None, *, finish: bool = True) -> Engine:
        """Opens, replays and checks every group against the model: what is found is a prefix of the history."""
        store = Store.open(fs, opts or options())
        try:
            count = store.metadata.get("count", 0)
            engine = cls(store, count)
            vector = engine.vector()
            assert np.array_equal(vector, elements(count)), f"pages differ from the model after {count}"
            for group in (group for run in store.recover_runs() for group in run.groups()):
                engine.count += 1
                t = engine.count
                assert group.transaction == t, f"transaction {group.transaction} after {t - 1}"
                assert group.payload(0).tobytes() == payload(t), f"payload of {t}"
                engine.apply(t)
            engine.check_sealed()
            if finish:
                store.finish_recovery()
        except BaseException:
            store.close()
            raise
        return engine

    def vector(self) -> np.ndarray:
        return self.store.arena("elements", ARENA_BYTES).vector("<i8", ELEMENTS)

    def apply(self, t: int) -> None:
        self.vector()[place(t)] = t
        self.store.arena("elements", ARENA_BYTES).mark(place(t) * 8, place(t) * 8 + 8)

    def append(self, *, last_resort: bool = False) -> int:
        """Commits one transaction in memory; returns its end LSN."""
        t = self.count + 1
        parts = encode_group(t * 10, t, [Record(KIND, 7, payload(t))])
        self.store.log.reserve(sum(map(len, parts)), last_resort=last_resort)
        lsn = self.store.log.append(parts)
        self.count = t
        self.apply(t)
        return lsn

    def sealed_names(self) -> set[str]:
        """The sealed files that live after `count` transactions."""
        last = self.count // SEALED_EVERY
        return {sealed_name(3, k) for k in range(max(1, last - SEALED_LIVE + 1), last + 1)}

    def checkpoint(self, engine_lock: AbstractContextManager[Any] | None = None) -> None:
        """Takes the image under the lock, writes it without."""
        with engine_lock or nullcontext():
            arena = self.store.arena("elements", ARENA_BYTES)
            pages = PageImage("elements", arena.used_pages, *arena.take_dirty())
            sealed = self.sealed_names()
            image = CheckpointImage({"count": self.count}, self.store.log.end_lsn, [pages], {"elements"}, sealed)
        for name in sealed - set(self.store.manifest.sealed):
            k = int(name[-12:-4])
            self.store.write_sealed(name, SealedContents(3, k, 700, [SealedColumn(sealed_data(k))], begin=k))
        self.store.checkpoint(image)

    def check_sealed(self) -> None:
        """Every sealed file that the manifest names holds what it should."""
        for name in self.store.manifest.sealed:
            k = int(name[-12:-4])
            file = self.store.open_sealed(name)
            assert file.begin == k
            data = file.buffer(0, Role.DATA)
            assert data is not None and np.array_equal(data, sealed_data(k)), name

    def close(self) -> None:
        self.store.close()
