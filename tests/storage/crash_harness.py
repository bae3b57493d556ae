"""Crash-state enumeration for whatever runs on a store: run once, recover from every state that a power cut may leave.

    trace = Trace(disk); ... trace.submitted(key) before the append, trace.acknowledged(key) after the answer ...
    report = enumerate_crashes(run, check, seed=seed, states=1500)

`run(disk)` does the work and returns its `Trace`. `check(image, trace)` recovers `image`, compares with its model
between `trace.required(image.crash_op)` and `trace.allowed(image.crash_op)`, and raises AssertionError. A failure
names seed and state; `replay(run, check, description)` builds that one state again.

One state is checked at every sync, where what was promised and what is on the disk differ most; the others are samples,
drawn from all operations until there are enough. `QUOTAS` is how many states each enumeration of the quick tests checks
at least, together over 3,000 (RELIABILITY F1); each asserts its own, and that no sync was left out, by
`report.meets(name)`. A session of tests ends with the sum of what it has checked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from filestore.hal import SimulatedDisk

QUOTAS: Final = {
    "store, few checkpoints": 1000,
    "store, many checkpoints": 1000,
    "store, threads": 700,
    "engine, statements": 500,
    "engine, index splits": 250,
}
SYNCS: Final = ("sync", "sync_dir")
STATES_AT_SYNC: Final = 4  # one of the first is drawn: nothing in flight survives, all of it, only data, only names
TALLY: Final[dict[str, int]] = {}  # states checked in this session, by the quotas' names


class Trace:
    """What was submitted and acknowledged when, in operations of the disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._submitted: list[tuple[int, int]] = []
        self._acknowledged: list[tuple[int, int]] = []

    def submitted(self, key: int) -> None:
        self._submitted.append((self._disk.op_count, key))

    def acknowledged(self, key: int) -> None:
        self._acknowledged.append((self._disk.op_count, key))

    def required(self, crash_op: int) -> set[int]:
        """Keys acknowledged before the power went."""
        return {key for op, key in self._acknowledged if op <= crash_op}

    def allowed(self, crash_op: int) -> set[int]:
        """Keys submitted before the power went."""
        return {key for op, key in self._submitted if op <= crash_op}


@dataclass
class Report:
    """How much was tried; `kinds` counts states by kind, `syncs` the operations that make something durable."""

    operations: int = 0
    syncs: int = 0
    syncs_tried: int = 0
    states: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)

    def meets(self, name: str) -> None:
        """Notes the states of a quick test, and asserts that no sync was left out and that they meet the quota."""
        TALLY[name] = TALLY.get(name, 0) + self.states
        print(f"{name}: {self.states} crash states in {self.seconds:.1f} s, {self.kinds}")
        assert self.syncs_tried == self.syncs > 0, f"{name}: {self.syncs_tried} of {self.syncs} syncs"
        assert self.states >= QUOTAS[name], f"{name}: {self.states} states, quota {QUOTAS[name]}"


Run = Callable[[SimulatedDisk], Trace]
Check = Callable[[SimulatedDisk, Trace], None]


def enumerate_crashes(
    run: Run,
    check: Check,
    *,
    seed: int,
    states: int,
    per_op: int = 12,
    disk: SimulatedDisk | None = None,
    seconds: float = 600.0,
) -> Report:
    """Checks crash states of one run: one at every sync, then `per_op` at each operation, in an order drawn from
    `seed`, until there are `states`.

    `disk`: where the run begins, a new disk by default. Stops when `seconds` are over.
    """
    disk = disk or SimulatedDisk()
    first = disk.op_count
    trace = run(disk)
    started = time.monotonic()
    syncs = [op.index for op in disk.ops if op.index >= first and op.kind in SYNCS]
    report = Report(operations=disk.op_count - first, syncs=len(syncs))

    def tried(image: SimulatedDisk) -> None:
        try:
            check(image, trace)
        except BaseException as error:
            raise AssertionError(f"seed={seed} state={image.description!r}: {error!r}") from error
        report.states += 1
        kind = image.description.partition("kind=")[2].partition(" ")[0]
        report.kinds[kind] = report.kinds.get(kind, 0) + 1

    rng = random.Random(seed)
    for point in syncs:
        if report.states >= states or time.monotonic() - started > seconds:
            break
        some = islice(disk.crash_states(seed, start=point, stop=point), 1 + rng.randrange(STATES_AT_SYNC))
        tried(list(some)[-1])
        report.syncs_tried += 1
    points = list(range(first, disk.op_count + 1))
    rng.shuffle(points)
    for point in points:
        if report.states >= states or time.monotonic() - started > seconds:
            break
        for image in disk.crash_states(seed, start=point, stop=point, per_op=per_op):
            tried(image)
    report.seconds = time.monotonic() - started
    return report


def replay(run: Run, check: Check, description: str, disk: SimulatedDisk | None = None) -> None:
    """Checks the one state that a failure named; the run must draw the same numbers as then."""
    disk = disk or SimulatedDisk()
    trace = run(disk)
    check(disk.crash_image(description), trace)
