"""Waiting over the wire and how it ends: by a deadlock, a cancel, a time-out, or a client that goes away.

Deadlocks are random: 2 to 8 transactions that each hold a row and ask for others', in any order. Whether and where a
cycle closes is asked of a model that keeps who waits for whom.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import pq

from tests.txn.wire_sessions import Session, Stage

SEED = 77


@pytest.fixture
def stage(server: Any) -> Iterator[Stage]:
    with Stage(server.dsn, 4) as stage:
        for sql in (
            "DROP TABLE IF EXISTS waiting",
            "CREATE TABLE waiting (id int PRIMARY KEY, v int)",
            "INSERT INTO waiting SELECT i, 0 FROM generate_series(0, 9) i",
        ):
            stage.observer.run(sql)
        yield stage


def nothing_is_left(stage: Stage) -> None:
    """Nobody waits, and every row and the table can be had at once."""
    stage.observer.run("SET lock_timeout = '2s'")
    until = time.monotonic() + 10  # a client that has gone is noticed in a moment
    while (answer := stage.observer.run("UPDATE waiting SET v = v + 1")) == "!55P03":
        assert time.monotonic() < until
    assert answer.startswith("UPDATE")
    assert stage.observer.run("TRUNCATE waiting") == "TRUNCATE TABLE"
    rows = stage.observer.run("SELECT count(*) FROM pg_locks WHERE NOT granted")
    assert rows == [("0",)]


# --- deadlocks


class Model:
    """Rows, who holds them, and who waits for which: FIFO, as rows are handed on."""

    def __init__(self, sessions: int) -> None:
        self.holder = dict(enumerate(range(sessions)))
        self.waits: dict[int, int] = {}

    def closes(self, session: int, row: int) -> bool:
        """Whether the session's wait for the row closes a cycle: it is its victim then."""
        at = self.holder[row]
        while at != session:
            if at not in self.waits:
                return False
            at = self.holder[self.waits[at]]
        return True


def ring(dsn: str, rng: random.Random) -> tuple[int, int]:
    """One random graph of waits; returns (victims, cycles that the model has seen close)."""
    sessions = rng.randint(2, 8)
    victims = cycles = 0
    with Stage(dsn, sessions) as stage:
        for i in range(sessions):
            stage.step(i, "BEGIN")
            stage.step(i, f"UPDATE waiting SET v = v + 1 WHERE id = {i}")
        model = Model(sessions)
        for session in rng.sample(range(sessions), sessions):
            row = rng.choice([r for r in range(sessions) if r != session])
            if session in model.waits or row not in model.holder:
                continue
            # A row that several wait for would be handed on in an order that the model does not know.
            if row in model.waits.values():
                continue
            closes = model.closes(session, row)
            events, waiting = stage.step(session, f"UPDATE waiting SET v = v + 1 WHERE id = {row}")
            if not closes:
                assert session in waiting
                assert not events
                model.waits[session] = row
                continue
            cycles += 1
            assert [e.answer for e in events if e.session == session] == ["!40P01"]
            failed = [e for e in events if e.answer == "!40P01"]
            victims += len(failed)
            # The one who waited for the victim's row has it now.
            for other, wanted in list(model.waits.items()):
                if model.holder[wanted] == session:
                    del model.waits[other]
                    model.holder[wanted] = other
            model.holder = {r: s for r, s in model.holder.items() if s != session}
        for _ in range(sessions):
            for i, s in enumerate(stage.sessions):
                if not s.running and s.connection.transaction_status != pq.TransactionStatus.IDLE:
                    stage.step(i, "COMMIT")
        assert not any(s.running for s in stage.sessions), "somebody still waits"
    return victims, cycles


def deadlocks(stage: Stage, count: int, seed: int) -> None:
    rng = random.Random(seed)
    results = [ring(stage.dsn, rng) for _ in range(count)]
    victims, cycles = map(sum, zip(*results, strict=True))
    print(f"seed {seed}: {cycles} cycles, {victims} victims in {count} graphs")
    assert victims == cycles > count // 10


def test_one_victim_for_each_cycle(stage):
    deadlocks(stage, 50, SEED)
    nothing_is_left(stage)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_victim_for_each_cycle_for_longer(stage, seed):
    deadlocks(stage, 1000, seed)
    nothing_is_left(stage)


# --- the end of a wait

WAITS = (
    "UPDATE waiting SET v = v + 1 WHERE id = 1",
    "INSERT INTO waiting VALUES (100, 1)",
    "LOCK TABLE waiting IN ACCESS EXCLUSIVE MODE",
    "TRUNCATE waiting",
    "ALTER TABLE waiting ADD CHECK (v >= 0)",
    "DELETE FROM waiting",
)


def held_and_waited_for(stage: Stage, sql: str) -> None:
    """Session 0 holds a row, a key and the table; 1 and 2 wait for it."""
    for step in ("BEGIN", "UPDATE waiting SET v = 5 WHERE id = 1", "INSERT INTO waiting VALUES (100, 0)"):
        stage.step(0, step)
    stage.step(1, "BEGIN")
    assert stage.step(1, sql)[1] == {1}
    assert 2 in stage.step(2, "UPDATE waiting SET v = v + 10 WHERE id = 1")[1]


def until_answered(stage: Stage, session: int) -> Any:
    return stage.sessions[session].wait()


@pytest.mark.parametrize("sql", WAITS)
def test_cancel_while_waiting(stage, sql):
    held_and_waited_for(stage, sql)
    cancel = stage.sessions[1].connection.get_cancel()
    cancel.cancel()
    assert until_answered(stage, 1) == "!57014"
    assert stage.step(1, "SELECT 1")[0][0].answer == "!25P02"
    stage.step(1, "ROLLBACK")
    stage.step(0, "COMMIT")
    assert stage.observer.run("SELECT v FROM waiting WHERE id = 1") == [("15",)]
    nothing_is_left(stage)


@pytest.mark.parametrize(("setting", "state"), [("lock_timeout", "!55P03"), ("statement_timeout", "!57014")])
@pytest.mark.parametrize("sql", WAITS)
def test_time_out_while_waiting(stage, sql, setting, state):
    stage.step(1, f"SET {setting} = '80ms'")
    began = time.monotonic()
    for step in ("BEGIN", "UPDATE waiting SET v = 5 WHERE id = 1", "INSERT INTO waiting VALUES (100, 0)"):
        stage.step(0, step)
    stage.step(1, "BEGIN")
    stage.sessions[1].send(sql)
    assert until_answered(stage, 1) == state
    assert time.monotonic() - began >= 0.08
    stage.step(1, "ROLLBACK")
    stage.step(0, "COMMIT")
    nothing_is_left(stage)


def test_lock_timeout_counts_waits_only(stage):
    """A statement that works for longer than the time-out, and never waits, is not ended."""
    stage.step(1, "SET lock_timeout = '5ms'")
    stage.observer.run("INSERT INTO waiting SELECT i, 0 FROM generate_series(1000, 60000) i")
    began = time.monotonic()
    sql = "UPDATE waiting SET v = 1 WHERE (SELECT count(*) FROM generate_series(1, 3000000)) > id"
    stage.sessions[1].send(sql)
    assert str(until_answered(stage, 1)).startswith("UPDATE")
    assert time.monotonic() - began > 0.005


@pytest.mark.parametrize("sql", WAITS)
def test_a_waiting_client_goes_away(stage, sql):
    held_and_waited_for(stage, sql)
    stage.sessions[1].close()
    stage.sessions[1] = Session(stage.dsn)
    until = time.monotonic() + 10
    while stage.waiting() != {2} or stage.observer.run("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                                       " AND wait_event_type = 'Lock'") != [("1",)]:  # fmt: skip
        assert time.monotonic() < until
        time.sleep(0.01)
    stage.step(0, "COMMIT")
    assert stage.observer.run("SELECT v FROM waiting WHERE id = 1") == [("15",)]
    nothing_is_left(stage)


@pytest.mark.parametrize("sql", WAITS)
def test_the_holder_goes_away(stage, sql):
    held_and_waited_for(stage, sql)
    stage.sessions[0].close()
    stage.sessions[0] = Session(stage.dsn)
    assert not str(until_answered(stage, 1)).startswith("!")
    stage.settle()
    stage.step(1, "ROLLBACK")
    assert stage.observer.run("SELECT v FROM waiting WHERE id = 1") == [("10",)]
    nothing_is_left(stage)


def test_an_idle_transaction_is_ended_and_gives_its_locks_up(stage):
    stage.step(0, "SET idle_in_transaction_session_timeout = '150ms'")
    held_and_waited_for(stage, WAITS[0])
    assert until_answered(stage, 1) == "UPDATE 1"
    with contextlib.suppress(Exception):
        stage.sessions[0].close()
    stage.sessions[0] = Session(stage.dsn)
    stage.step(1, "COMMIT")
    assert stage.observer.run("SELECT v FROM waiting WHERE id = 1") == [("11",)]
    nothing_is_left(stage)
