"""Damage never ends the process: no signal, no hang, no wrong answer (RELIABILITY F8).

Kernels read without bounds, so what they would do with a length that was not compared is a signal, which only a process
outside sees. For longer: `python -m tests.storage.rot_worker bytes DIRECTORY SEED 5000`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = 40
SECONDS = 300  # of a machine with much else to do: 40 cases take a few


@pytest.mark.parametrize("mode", ["bytes", "records"])
def test_damage_never_ends_the_process(mode: str, tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", "tests.storage.rot_worker", mode, str(tmp_path), str(seed), str(CASES)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    last = "\n".join(ended.stdout.splitlines()[-3:])
    assert ended.returncode == 0, f"seed={seed} ended with {ended.returncode} at\n{last}\n{ended.stderr[-2000:]}"
    assert "all tables answer" in last or "replayed" in last, last
    assert "not opened" in last or "refused" in last, last
