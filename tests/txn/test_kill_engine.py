"""A real process with tables, on a real disk, killed at each named point of the engine's checkpoint and recovery.

Goal (RELIABILITY F5): tables and indexes hold exactly the acknowledged commits, plus possibly the one under way.
Oracle: `engine_model`, run again in memory by the same seed, and the notes that the process kept.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from filestore.hal import SimulatedDisk, open_filesystem
from filestore.storage import crash_points
from filestore.txn.engine import Engine
from tests.txn import engine_model as model
from tests.txn import kill_engine

ROOT = Path(__file__).parents[2]
STEPS = 23  # three steps behind the last checkpoint, so that a recovery has something to replay


def process(data: Path, notes: Path, seed: int, steps: int, crash_at: str) -> int:
    """Runs the worker; returns its exit code."""
    environment = {"PYTHONPATH": str(ROOT)}
    if crash_at:
        environment[crash_points.VARIABLE] = crash_at
    done = subprocess.run(
        [sys.executable, "-m", "tests.txn.kill_engine", str(data), str(notes), str(seed), str(steps)],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, crash_points.EXIT_CODE), done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("point", crash_points.ENGINE_NAMES)
def test_killed_at(point: str, data_dir: Path, seed: int) -> None:
    notes = data_dir.parent / "notes"
    if point.startswith("recovery"):
        assert process(data_dir, notes, seed, STEPS, "") == 0
        code = process(data_dir, notes, seed, 0, point)
    else:
        code = process(data_dir, notes, seed, STEPS, f"{point}@3")
    assert code == crash_points.EXIT_CODE, f"the point {point} was never reached"
    lines = notes.read_text().split()
    acknowledged = max((int(line[1:]) for line in lines if line.startswith("a")), default=0)
    submitted = max((int(line[1:]) for line in lines if line.startswith("s")), default=0)
    states = kill_engine.work(SimulatedDisk(record=False), seed, STEPS, lambda letter, number: None).states
    for again in (7, 8):
        engine = Engine.open(open_filesystem(str(data_dir)), model.options(again))
        acknowledged = submitted = model.verify(engine, states, acknowledged, submitted)
        engine.store.close()


def test_there_are_forty_named_points() -> None:
    assert len(crash_points.NAMES) == len(set(crash_points.NAMES)) >= 40
