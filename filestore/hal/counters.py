"""Process-wide counts of what the hal did: reads, writes, bytes, syncs, arenas.

Plain attributes, added to without a lock: a lost increment under a thread switch is accepted, a lock on the
read path is not. Numbers only grow, except the gauges of reserved memory. It does not keep time series;
whoever wants rates subtracts two snapshots.
"""

from __future__ import annotations

from typing import Final

# Bucket i counts syncs of [2**(i-1), 2**i) microseconds; the last one begins beyond a minute.
SYNC_BUCKETS: Final = 28


class Counters:
    """Counts of one process. Units: operations and bytes; times in microseconds."""

    __slots__ = (
        "arena_bytes",
        "arenas",
        "bounce_copies",
        "direct_opens",
        "io_errors",
        "mapped_bytes",
        "maps",
        "opens",
        "read_bytes",
        "reads",
        "sync_us_histogram",
        "sync_us_total",
        "syncs",
        "trimmed_bytes",
        "write_bytes",
        "writes",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to zero; for tests."""
        self.reads = 0
        self.read_bytes = 0
        self.writes = 0
        self.write_bytes = 0
        self.bounce_copies = 0
        self.syncs = 0
        self.sync_us_total = 0
        self.sync_us_histogram = [0] * SYNC_BUCKETS
        self.opens = 0
        self.direct_opens = 0
        self.io_errors = 0
        self.maps = 0
        self.mapped_bytes = 0
        self.arenas = 0
        self.arena_bytes = 0
        self.trimmed_bytes = 0

    def synced(self, elapsed_us: int) -> None:
        """Records one sync of `elapsed_us` microseconds."""
        self.syncs += 1
        self.sync_us_total += elapsed_us
        self.sync_us_histogram[min(max(elapsed_us, 0).bit_length(), SYNC_BUCKETS - 1)] += 1

    def snapshot(self) -> dict[str, int | list[int]]:
        """All counts by name, copied; `sync_us_histogram` is the list of its bucket counts."""
        found: dict[str, int | list[int]] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            found[name] = list(value) if isinstance(value, list) else value
        return found


COUNTERS: Final = Counters()


def snapshot() -> dict[str, int | list[int]]:
    """`Counters.snapshot` of this process."""
    return COUNTERS.snapshot()
