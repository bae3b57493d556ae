"""The golden traces, on a real database and without a network. REWRITE=1 writes what is answered; the diff is the
review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.server.pgwire import trace
from tests.server.pgwire.loopback import Loopback

TRACES = sorted((Path(__file__).parent / "traces").glob("*.txt"))


@pytest.mark.parametrize("path", TRACES, ids=[p.stem for p in TRACES])
def test_trace(path: Path, loopback: Loopback) -> None:
    expected, actual = trace.run(path, loopback)
    assert not loopback.faults
    if os.environ.get("REWRITE"):
        path.write_text(actual)
    assert actual == expected or os.environ.get("REWRITE")
