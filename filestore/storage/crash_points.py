"""Named points of the commit, checkpoint and recovery paths at which a test may end the process or step in.

`FILESTORE_CRASH_AT=name` (or `name@n` for the n-th time) in the environment ends the process there and then, without
cleaning up, as SIGKILL would. `arm(name, action)` steps in within the process. Unarmed, a point costs a comparison.
`NAMES` is the list that the kill tests walk through: `STORE_NAMES` are reached by a store alone, `ENGINE_NAMES` only
with tables above it.

Thread rule: points are reached on any thread; who reaches the armed one runs its action. Not here: power cuts, which
`filestore.hal.crash` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from filestore.hal import process

VARIABLE: Final = "FILESTORE_CRASH_AT"
EXIT_CODE: Final = 137  # what a shell reports for SIGKILL

STORE_NAMES: Final = (
    "store:directories_made",
    "store:initialised",
    "log:batch_built",
    "log:written",
    "log:synced",
    "log:published",
    "log:header_written",
    "log:file_renamed",
    "log:file_named",
    "log:file_switched",
    "log:spare_written",
    "log:spare_zeroed",
    "log:spare_renamed",
    "log:spare_named",
    "log:recycled",
    "log:trimmed",
    "checkpoint:begun",
    "checkpoint:log_durable",
    "checkpoint:pages_written",
    "checkpoint:pages_synced",
    "checkpoint:map_written",
    "checkpoint:map_synced",
    "checkpoint:manifest_written",
    "checkpoint:manifest_proven",
    "checkpoint:manifest_renamed",
    "checkpoint:switched",
    "checkpoint:old_map_removed",
    "checkpoint:log_trimmed",
    "checkpoint:sealed_removed",
    "recovery:read",
    "recovery:file_made",
    "recovery:epoch_switched",
    "recovery:pages_cleaned",
    "recovery:cleaned",
    "sealed:written",
    "sealed:synced",
    "sealed:named",
)
ENGINE_NAMES: Final = (
    "checkpoint:segments_chosen",
    "checkpoint:segments_written",
    "checkpoint:segments_installed",
    "checkpoint:image_taken",
    "recovery:checkpoint_loaded",
    "recovery:run_replayed",
    "recovery:tables_settled",
)
NAMES: Final = STORE_NAMES + ENGINE_NAMES


class _Armed:
    """What is armed now. Class attributes: one per process."""

    name: str | None = None
    countdown = 0
    action: Callable[[], None] | None = None


def reach(name: str) -> None:
    """Declares that the caller is at point `name`."""
    if _Armed.name is not None and name == _Armed.name:
        _fire()


def arm(name: str, action: Callable[[], None] | None = None, nth: int = 1) -> None:
    """Runs `action` (default: end the process) when `name` is reached the `nth` time. ValueError for unknown names."""
    if name not in NAMES:
        raise ValueError(f"no crash point is called {name!r}")
    _Armed.name, _Armed.countdown, _Armed.action = name, nth, action


def disarm() -> None:
    """Forgets what was armed."""
    _Armed.name, _Armed.action = None, None


def _fire() -> None:
    _Armed.countdown -= 1
    if _Armed.countdown != 0:
        return
    action = _Armed.action
    disarm()
    if action is None:
        process.exit_now(EXIT_CODE)
    action()


def _arm_from_environment() -> None:
    wanted = process.environ_get(VARIABLE)
    if wanted:
        name, _, nth = wanted.partition("@")
        arm(name, nth=int(nth or "1"))


_arm_from_environment()
