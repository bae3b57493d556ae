"""The golden traces, on a real database and without a network. REWRITE=1 writes what is answered; the diff is the
review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from filestore.database import Database
from filestore.hal import process
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.auth import verifier_of
from filestore.server.pgwire.connection import AUTHENTICATION_SECONDS
from filestore.storage.wait import Wait
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


def test_a_long_pipeline_is_served_in_order_and_in_pieces(loopback: Loopback) -> None:
    sent: list[m.Message] = []
    for i in range(500):
        sent += m.Parse("", f"select {i}"), m.Bind("", "", (), (), ()), m.Execute("", 0)
    replies = loopback.send(*sent, m.Sync())
    assert [x.values for x in replies if isinstance(x, r.DataRow)] == [(str(i).encode(),) for i in range(500)]
    assert replies[-1] == r.ReadyForQuery("I")


def test_a_client_that_does_not_authenticate_is_dropped(database: Database) -> None:
    loopback = Loopback(database, password=str(verifier_of("secret")))
    loopback.send(m.Startup(3, 0, {"user": "postgres", "database": "postgres"}))
    loopback.connection.tick(process.monotonic_us() + 1_000_000)
    assert not loopback.closed
    loopback.connection.tick(process.monotonic_us() + (AUTHENTICATION_SECONDS + 1) * 1_000_000)
    assert loopback.closed


def test_a_client_that_sends_too_far_ahead_is_not_read(loopback: Loopback) -> None:
    blocked = loopback.blocked = Wait()
    loopback.connection.receive(m.Query("select repeat('x', 1000) from generate_series(1, 1000)").encode())
    for _ in range(40):
        loopback.connection.receive(m.Query("select " + "1" * 30_000).encode())
    assert not loopback.reading
    loopback.blocked = None
    blocked.finish()
    loopback.settle()
    assert loopback.reading
