"""A real process on a real disk, killed at each named point of the log, the checkpoint and the recovery.

Goal (RELIABILITY F5): what the process was told is acknowledged is there afterwards, and nothing that it never
wrote. Oracle: the notes that it kept outside of the directory.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from filestore.hal import open_filesystem
from filestore.storage import crash_points
from tests.storage.store_model import Engine, options

ROOT = Path(__file__).parents[2]


def work(data: Path, notes: Path, transactions: int, crash_at: str) -> int:
    """Runs the worker; returns its exit code."""
    environment = {crash_points.VARIABLE: crash_at, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.kill_worker", str(data), str(notes), str(transactions)],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, crash_points.EXIT_CODE), done.stderr.decode()
    return done.returncode


def promises(notes: Path) -> tuple[int, int]:
    """(last acknowledged, last submitted) transaction."""
    lines = notes.read_text().split() if notes.exists() else []
    numbers = {letter: [int(line[1:]) for line in lines if line.startswith(letter)] for letter in "as"}
    return max(numbers["a"], default=0), max(numbers["s"], default=0)


@pytest.mark.parametrize("point", crash_points.STORE_NAMES)
def test_killed_at(point: str, data_dir: Path) -> None:
    data_dir.parent.mkdir(exist_ok=True)
    notes = data_dir.parent / "notes"
    nth = 1 if point.startswith(("recovery", "store")) else 2
    code = work(data_dir, notes, 60, f"{point}@{nth}")
    assert code == crash_points.EXIT_CODE, f"the point {point} was never reached"
    acknowledged, submitted = promises(notes)
    engine = Engine.open(open_filesystem(str(data_dir)), options(3, threaded=True, log_file_bytes=65536))
    assert acknowledged <= engine.count <= submitted
    engine.store.log.when_durable(engine.append()).result(30)
    engine.checkpoint()
    assert engine.store.verify() == []
    engine.close()
