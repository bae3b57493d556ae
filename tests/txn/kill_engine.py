"""A process that works on a whole engine until it is killed at a named point; it notes elsewhere what was acknowledged.

    FILESTORE_CRASH_AT=point python -m tests.txn.kill_engine DIRECTORY NOTES SEED STEPS

`work` is also what the test runs on a disk in memory: the same seed makes the same transactions, so it knows the
state after each commit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from filestore.hal import FileSystem, open_filesystem
from tests.txn import engine_model as model


def work(fs: FileSystem, seed: int, steps: int, note: Callable[[str, int], None]) -> model.Model:
    """Random transactions with one left open over others, and checkpoints; leaves the engine as it is."""
    db = model.Model(fs, seed)
    db.before_commit = lambda: note("s", len(db.states) - 1)  # type: ignore[method-assign]
    db.after_commit = lambda: note("a", len(db.states) - 1)  # type: ignore[method-assign]
    for step in range(steps):
        if step % 4 == 1:
            db.open_transaction()
        db.transaction()
        if step % 5 == 4:
            db.engine.checkpoint()
        if step % 4 == 3:
            db.end_open()
    return db


def main(directory: str, notes: str, seed: int, steps: int) -> None:
    """With no steps, only opens the directory."""
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(letter: str, number: int) -> None:
        os.write(out, b"%s%d\n" % (letter.encode(), number))

    fs = open_filesystem(directory)
    if steps:
        work(fs, seed, steps, note)
    else:
        model.Engine.open(fs, model.options(seed + 1))
    os._exit(0)  # as killed at the end: nothing is closed


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
