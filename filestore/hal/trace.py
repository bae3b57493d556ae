"""The operations of a simulated disk since some moment, and the disk at any point between: replay.

Invariant: replaying `ops` over the medium as it was when the trace began gives the medium as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from filestore.hal.medium import Medium, Op


class Trace:
    """Operations from `first` on. With `keep=False` none are kept, and only the present can be replayed."""

    def __init__(self, *, keep: bool, first: int = 0) -> None:
        self.keep = keep
        self.first = first
        self.ops: list[Op] = []
        self._base: Medium | None = None  # None: nothing happened yet, the present is the base

    @property
    def end(self) -> int:
        """The index that the next operation gets."""
        return self.first + len(self.ops)

    def record(self, medium: Medium, op: Op) -> None:
        """Notes `op`, which `medium` has not carried out yet."""
        if not self.keep:
            self.first = op.index + 1
            return
        if self._base is None:
            self._base = medium.copy()
        self.ops.append(op)

    def points(self, medium: Medium, start: int, stop: int) -> Iterator[tuple[int, Medium]]:
        """(i, disk before operation i) for i in start..stop, each to be used before the next is asked for."""
        if not self.first <= start <= self.end:
            raise ValueError(f"operation {start} is not in the trace [{self.first}, {self.end}]")
        replayed = (self._base or medium).copy()
        for index in range(self.first, min(stop, self.end) + 1):
            if index > self.first:
                replayed.apply(self.ops[index - self.first - 1])
            if index >= start:
                yield index, replayed
