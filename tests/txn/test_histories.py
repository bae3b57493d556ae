"""Histories of concurrent clients have no anomaly that their level forbids; and the checker would find them."""

from __future__ import annotations

import random
import sys
import time
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest

from filestore import dbapi
from filestore.query import dml
from filestore.storage import segment_kernels
from filestore.storage.directory import INFINITY
from filestore.txn import kernels, manager, writes
from filestore.txn.snapshot import Snapshot
from filestore.txn.transaction import Isolation
from tests.txn import histories as h
from tests.txn.histories import APPEND, LOOK, READ, WRITE, Op, Txn
from tests.txn.workload import SETUP, EmbeddedClient, Run, WireClient

LEVELS = {"READ COMMITTED": h.READ_COMMITTED, "REPEATABLE READ": h.REPEATABLE_READ}
SEED = 411


# --- the checker, on histories by hand


def txn(*ops: tuple[Any, ...], committed: bool = True) -> Txn:
    return Txn([Op(*op) for op in ops], committed)


def timed(asked: float, answered: float, *ops: tuple[str, int, Any]) -> Txn:
    return Txn([Op(kind, key, value, asked, answered) for kind, key, value in ops], True, asked, answered)


SOUND = [
    [],
    [txn((APPEND, 1, 1)), txn((APPEND, 1, 2)), txn((READ, 1, (1, 2))), txn((READ, 1, (1,))), txn((READ, 1, ()))],
    # rolled back, and seen by itself alone
    [txn((APPEND, 1, 1), (READ, 1, (1,)), committed=False), txn((APPEND, 1, 2)), txn((READ, 1, (2,)))],
    # two appends of one transaction are seen together
    [txn((APPEND, 1, 1), (APPEND, 1, 2)), txn((READ, 1, (1, 2)))],
    # nobody knows whether it was committed
    [Txn([Op(APPEND, 1, 1)], None), txn((READ, 1, (1,)))],
    [txn((LOOK, 1, None), (WRITE, 1, 1)), txn((LOOK, 1, 1), (WRITE, 1, 2)), txn((LOOK, 1, 2)), txn((LOOK, 1, 1))],
    [timed(0, 1, (APPEND, 1, 1)), timed(2, 3, (READ, 1, (1,))), timed(0, 1, (READ, 1, ()))],
    # the same two lists, read in one order by all
    [txn((APPEND, 1, 1), (APPEND, 2, 2)), txn((READ, 1, (1,)), (READ, 2, (2,))), txn((READ, 2, ()), (READ, 1, ()))],
]

UNSOUND = [
    ("G0", [txn((APPEND, 1, 1), (APPEND, 2, 2)), txn((APPEND, 1, 3), (APPEND, 2, 4)),
            txn((READ, 1, (1, 3)), (READ, 2, (4, 2)))]),
    ("G0", [txn((APPEND, 1, 1), (APPEND, 3, 2)), txn((APPEND, 1, 3), (APPEND, 2, 4)), txn((APPEND, 2, 5),
            (APPEND, 3, 6)), txn((READ, 1, (1, 3))), txn((READ, 2, (4, 5))), txn((READ, 3, (6, 2)))]),
    ("G1a", [txn((APPEND, 1, 1), committed=False), txn((READ, 1, (1,)))]),
    ("G1a", [txn((APPEND, 1, 1), committed=False), txn((READ, 1, (1,)), committed=False)]),
    ("G1a", [txn((WRITE, 1, 1), committed=False), txn((LOOK, 1, 1))]),
    ("G1a", [txn((READ, 1, (7,)))]),
    ("G1b", [txn((APPEND, 1, 1), (APPEND, 1, 2)), txn((READ, 1, (1,)))]),
    ("G1b", [txn((WRITE, 1, 1), (WRITE, 1, 2)), txn((LOOK, 1, 1))]),
    ("G1c", [txn((APPEND, 1, 1), (READ, 2, (2,))), txn((APPEND, 2, 2), (READ, 1, (1,)))]),
    ("G1c", [txn((APPEND, 1, 1), (READ, 2, (4,))), txn((APPEND, 1, 3), (APPEND, 2, 4)), txn((READ, 1, (1, 3)))]),
    ("G1c", [txn((WRITE, 1, 1), (LOOK, 2, 2)), txn((WRITE, 2, 2), (LOOK, 1, 1))]),
    ("G-single", [txn((APPEND, 1, 1), (APPEND, 2, 2)), txn((READ, 1, ()), (READ, 2, (2,))), txn((READ, 1, (1,)))]),
    ("G-single", [txn((READ, 1, ()), (APPEND, 1, 1)), txn((READ, 1, ()), (APPEND, 1, 2)), txn((READ, 1, (1, 2)))]),
    ("G-single", [txn((READ, 1, ()), (READ, 3, (5,))), txn((APPEND, 1, 1), (APPEND, 2, 2)),
                  txn((READ, 2, (2,)), (APPEND, 3, 5)), txn((READ, 1, (1,)))]),
    ("lost update", [txn((LOOK, 1, None), (WRITE, 1, 1)), txn((LOOK, 1, None), (WRITE, 1, 2))]),
    ("lost update", [txn((WRITE, 1, 1)), txn((LOOK, 1, 1), (WRITE, 1, 2)), txn((LOOK, 1, 1), (WRITE, 1, 3))]),
    ("G2-item", [txn((READ, 1, ()), (APPEND, 2, 2)), txn((READ, 2, ()), (APPEND, 1, 1)),
                 txn((READ, 1, (1,)), (READ, 2, (2,)))]),
    ("G2-item", [txn((READ, 1, ()), (APPEND, 2, 2)), txn((READ, 2, ()), (APPEND, 3, 3)),
                 txn((READ, 3, ()), (APPEND, 1, 1)), txn((READ, 1, (1,)), (READ, 2, (2,)), (READ, 3, (3,)))]),
    ("order", [txn((APPEND, 1, 1)), txn((APPEND, 1, 2)), txn((READ, 1, (1, 2))), txn((READ, 1, (2, 1)))]),
    ("order", [txn((APPEND, 1, 1)), txn((APPEND, 1, 2)), txn((READ, 1, (2,))), txn((READ, 1, (1, 2)))]),
    ("duplicate", [txn((APPEND, 1, 1)), txn((READ, 1, (1, 1)))]),
    ("internal", [txn((APPEND, 1, 1), (READ, 1, ()))]),
    ("internal", [txn((WRITE, 1, 1), (LOOK, 1, None))]),
    ("internal", [txn((APPEND, 1, 1)), txn((READ, 1, ()), (READ, 1, (1,)))]),
    ("lost", [timed(0, 1, (APPEND, 1, 1)), timed(0, 1, (APPEND, 1, 2)), timed(5, 6, (READ, 1, (2,)))]),
    ("stale", [timed(0, 1, (APPEND, 1, 1)), timed(2, 3, (READ, 1, ())), timed(4, 5, (READ, 1, (1,)))]),
]  # fmt: skip


@pytest.mark.parametrize("history", SOUND)
def test_nothing_is_found_in_a_sound_history(history):
    assert not h.anomalies(history)


@pytest.mark.parametrize(("name", "history"), UNSOUND)
def test_each_anomaly_is_found(name, history):
    found = {a.name for a in h.anomalies(history)}
    assert name in found
    if name.startswith("G"):
        # It is not taken for a worse one: what a level permits must not be reported as what it forbids.
        worse = ("G0", "G1c", "G-single", "G2-item")
        assert not found & set(worse[: worse.index(name)] if name in worse else ())


def test_a_level_permits_what_it_does():
    skew = next(history for name, history in UNSOUND if name == "G2-item")
    single = next(history for name, history in UNSOUND if name == "G-single")
    assert not h.anomalies(skew, h.REPEATABLE_READ)
    assert not h.anomalies(single, h.READ_COMMITTED)
    assert h.anomalies(single, h.REPEATABLE_READ)


# --- the server


def history_of(dsn: str, level: str, transactions: int, seed: int, clients: int = 6) -> list[Txn]:
    connections = [WireClient(dsn, prepare=i % 2 == 0) for i in range(clients)]
    try:
        for sql in SETUP:
            connections[0].execute(sql)
        return Run(level, transactions, seed).history(connections)
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("level", LEVELS)
def test_the_server_keeps_its_levels(server, level):
    history = history_of(server.dsn, level, 2500, SEED)
    committed = sum(t.committed is True for t in history)
    print(f"seed {SEED}, {level}: {committed} of {len(history)} committed")
    assert len(history) - 1 == 2500
    assert committed > 1000
    assert committed < len(history), "nothing ever failed"
    assert not list(map(str, h.anomalies(history, LEVELS[level])))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("level", LEVELS)
def test_the_server_keeps_its_levels_for_longer(server, seed, level):
    rng = random.Random(seed)
    for part in range(20):
        history = history_of(server.dsn, level, 5000, seed + 100 * part, clients=rng.choice((2, 4, 8)))
        assert not list(map(str, h.anomalies(history, LEVELS[level])))


@pytest.mark.slow
def test_postgresql_has_the_anomalies_that_its_levels_permit(postgres, seed):
    """The workload and the checker find what is there: read skew at READ COMMITTED, write skew at REPEATABLE READ."""
    history = history_of(postgres.dsn, "READ COMMITTED", 5000, seed)
    assert not h.anomalies(history, h.READ_COMMITTED)
    assert {"G-single", "lost update"} <= {a.name for a in h.anomalies(history, h.REPEATABLE_READ)}
    history = history_of(postgres.dsn, "REPEATABLE READ", 5000, seed)
    assert not h.anomalies(history, h.REPEATABLE_READ)
    assert "G2-item" in {a.name for a in h.anomalies(history, h.SERIALIZABLE)}
    assert not h.anomalies(history_of(postgres.dsn, "SERIALIZABLE", 5000, seed), h.SERIALIZABLE)


# --- an engine with one check less


def without_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that changed since the snapshot is updated all the same."""
    monkeypatch.setattr(writes, "_refuse_changed", lambda *_: None)


def with_new_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement has a snapshot of its own, at any level."""
    whole = manager.TransactionManager.statement_snapshot

    def fresh(self, transaction):
        level, transaction.isolation = transaction.isolation, Isolation.READ_COMMITTED
        try:
            return whole(self, transaction)
        finally:
            transaction.isolation = level

    monkeypatch.setattr(manager.TransactionManager, "statement_snapshot", fresh)


def with_stale_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is taken some commits ago."""
    whole = manager.TransactionManager.statement_snapshot

    def old(self, transaction):
        found = whole(self, transaction)
        return found if transaction.writes else Snapshot(max(1, found.timestamp - 20))

    monkeypatch.setattr(manager.TransactionManager, "statement_snapshot", old)


def without_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rolled back stays."""
    def keep(table, changes):
        now = max((int(table.directory[:, 8].max()), 1))  # LAST_BEGIN: a timestamp that everybody sees
        for addresses in changes.inserted:
            segment_kernels.stamp_begin(table.directory, table.addresses.dirty, addresses, now)
        for addresses in changes.ended:
            segment_kernels.stamp_end(table.directory, table.addresses.dirty, addresses, now)

    monkeypatch.setattr(manager, "_undo", keep)


def without_row_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that another transaction has locked is taken from it."""
    whole = kernels.claim

    def steal(directory, addresses, low, mark, states, newest):
        begins, ends = np.empty(len(addresses), np.int64), np.empty(len(addresses), np.int64)
        segment_kernels.stamps_of(directory, addresses, begins, ends)
        kernels.put_ends(directory, addresses[(ends < 0) & (ends != mark)], INFINITY)
        return whole(directory, addresses, low, mark, states, newest)

    monkeypatch.setattr(kernels, "claim", steal)


def without_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that moved is updated from the version that was found first."""
    whole = dml.update_claimed

    def stale(node, claimed, extras, ctx):
        table = ctx.engine.table(node.table)
        previous = np.array([segment_kernels.previous_at(table.directory, a) for a in claimed.tolist()], np.int64)
        begins, _ = table.stamps_of(claimed)
        newer = begins > ctx.execution.snapshot.timestamp
        gather = table.gather

        def older(addresses, ordinals):
            there = addresses is claimed
            return gather(np.where(newer & (previous >= 0), previous, addresses) if there else addresses, ordinals)

        table.gather = older
        try:
            return (yield from whole(node, claimed, extras, ctx))
        finally:
            del table.gather

    monkeypatch.setattr(dml, "update_claimed", stale)


MUTATIONS = [
    (without_refusal, "REPEATABLE READ", {"G-single", "lost update"}),
    (with_new_snapshots, "REPEATABLE READ", {"internal", "G-single"}),
    (with_stale_snapshots, "READ COMMITTED", {"stale"}),
    (without_undo, "READ COMMITTED", {"G1a"}),
    (without_row_locks, "READ COMMITTED", {"lost", "order", "G0", "stale", "XX000"}),
    (without_second_look, "READ COMMITTED", {"lost", "order", "stale"}),
]


@contextmanager
def many_switches():
    """Threads of one process meet more often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def embedded_history(directory: Any, level: str, transactions: int, seed: int) -> list[Txn]:
    def connect() -> Any:
        return dbapi.connect(str(directory), autocommit=True, timeout=5)

    clients = [EmbeddedClient(connect) for _ in range(4)]
    try:
        for sql in SETUP:
            clients[0].execute(sql)
        with many_switches():
            return Run(level, transactions, seed).history(clients)
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("level", LEVELS)
def test_the_embedded_engine_keeps_its_levels(data_dir, level):
    assert not list(map(str, h.anomalies(embedded_history(data_dir, level, 600, SEED), LEVELS[level])))


@pytest.mark.parametrize(("mutate", "level", "expected"), MUTATIONS, ids=[m[0].__name__ for m in MUTATIONS])
def test_an_engine_with_one_check_less_is_caught(data_dir, monkeypatch, mutate, level, expected):
    until = time.monotonic() + 60
    with closing(dbapi.connect(str(data_dir))):  # kept open: the mutated engine need not close well
        mutate(monkeypatch)
        found: set[str] = set()
        runs = 0
        while not found & expected:
            assert time.monotonic() < until, f"{runs} runs found {found}"
            try:
                history = embedded_history(data_dir, level, 150, SEED + 10 * runs)
                found |= {a.name for a in h.anomalies(history, LEVELS[level])}
            except dbapi.InternalError:
                found.add("XX000")  # the engine saw for itself that something cannot be
            runs += 1
        print(f"seed {SEED}: {sorted(found)} in {runs} runs")
