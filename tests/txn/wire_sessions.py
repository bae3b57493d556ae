"""Several sessions over the wire, stepped one statement at a time from one thread: who answers, who waits.

A script is a list of steps (session, SQL). `Stage.play` sends each step to its session and returns what happened:
answers (rows as text, or the command tag, or the SQLSTATE), and which sessions wait for a lock afterwards. Whether a
session waits is asked of the server itself, not of the clock, so a transcript is the same on a busy machine. The same
script played on PostgreSQL gives the right transcript.

PostgreSQL looks for deadlocks after a time; it is set to 10 ms, and a waiting session is given that long before the
next step, so that it too finds a cycle from the wait that closes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq

PATIENCE_S = 60.0
DEADLOCK_S = 0.010

# Waiting backends, by pid; the lock tables are exact where pg_stat_activity lags behind.
_WAITING_POSTGRES = b"SELECT DISTINCT pid FROM pg_locks WHERE NOT granted"
_WAITING_FILESTORE = b"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@dataclass(frozen=True)
class Event:
    """A session's answer to one of its statements: rows, command tag or SQLSTATE."""

    session: int
    sql: str
    answer: Any

    def __str__(self) -> str:
        return f"{self.session + 1}: {self.sql} -> {self.answer}"


@dataclass
class Transcript:
    """What a script did: for each step the answers that came, and who waits after it."""

    steps: list[tuple[list[Event], frozenset[int]]] = field(default_factory=list)

    def text(self) -> str:
        """One line an answer, and one for who waits; sessions count from 1."""
        lines = []
        for events, waiting in self.steps:
            lines += [str(e) for e in events]
            if waiting:
                lines.append(f"   waiting: {', '.join(str(i + 1) for i in sorted(waiting))}")
        return "\n".join(lines)

    def answers(self) -> list[Any]:
        """All answers, in order."""
        return [e.answer for events, _ in self.steps for e in events]


class Session:
    """One connection that is never waited for."""

    def __init__(self, dsn: str) -> None:
        self.connection = pq.PGconn.connect(dsn.encode())
        if self.connection.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError(self.connection.error_message.decode(errors="replace"))
        self.connection.nonblocking = 1
        self.running = ""
        self._answer: Any = None

    @property
    def pid(self) -> int:
        return int(self.connection.backend_pid)

    def send(self, sql: str) -> None:
        self.running = sql
        self._answer = None
        self.connection.send_query(sql.encode())
        while self.connection.flush():
            pass

    def poll(self) -> Any:
        """The answer, None while there is none."""
        self.connection.consume_input()
        while not self.connection.is_busy():
            result = self.connection.get_result()
            if result is None:
                self.running = ""
                return self._answer
            found = _answer(result)
            # Of several statements in one Query the error, or the last.
            if not (isinstance(self._answer, str) and self._answer.startswith("!")):
                self._answer = found
        return None

    def run(self, sql: str) -> Any:
        """Sends and waits."""
        self.send(sql)
        return self.wait()

    def wait(self) -> Any:
        until = time.monotonic() + PATIENCE_S
        while (answer := self.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"no answer to {self.running}")
            time.sleep(0.0003)
        return answer

    def close(self) -> None:
        self.connection.finish()


def _answer(result: Any) -> Any:
    if result.status == pq.ExecStatus.TUPLES_OK:
        return [
            tuple(None if (v := result.get_value(i, j)) is None else v.decode() for j in range(result.nfields))
            for i in range(result.ntuples)
        ]
    if result.status == pq.ExecStatus.FATAL_ERROR:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        return f"!{state.decode() if state else 'lost'}"
    return (result.command_status or b"").decode()


class Stage:
    """A server with an observer and some sessions. A context manager."""

    def __init__(self, dsn: str, sessions: int, *, postgres: bool = False) -> None:
        self.dsn = dsn
        self.postgres = postgres
        self.observer = Session(dsn)
        self.sessions = [self._session() for _ in range(sessions)]

    def _session(self) -> Session:
        session = Session(self.dsn)
        if self.postgres:
            session.run(f"SET deadlock_timeout = '{int(DEADLOCK_S * 1000)}ms'")
        return session

    def waiting(self) -> set[int]:
        """Sessions that the server says are waiting for a lock."""
        rows = self.observer.run((_WAITING_POSTGRES if self.postgres else _WAITING_FILESTORE).decode())
        pids = {int(pid) for (pid,) in rows}
        return {i for i, s in enumerate(self.sessions) if s.running and s.pid in pids}

    def settle(self) -> tuple[list[Event], frozenset[int]]:
        """Lets everybody go on until each has answered or waits; the answers by session, and who waits."""
        events: list[Event] = []
        until = time.monotonic() + PATIENCE_S
        rested = 0
        while True:
            for i, session in enumerate(self.sessions):
                if session.running:
                    sql = session.running
                    answer = session.poll()
                    if answer is not None:
                        events.append(Event(i, sql, answer))
                        rested = 0
            running = {i for i, s in enumerate(self.sessions) if s.running}
            if not running or running == self.waiting():
                # Nobody moves. A deadlock that PostgreSQL is about to find is waited for; FileStore's loop gets the
                # turns that it takes to wake somebody.
                if running and rested < (1 if self.postgres else 3):
                    time.sleep(2 * DEADLOCK_S if self.postgres else 0)
                    rested += 1
                    continue
                if not any(s.running and self._ready(s) for s in self.sessions):
                    return sorted(events, key=lambda e: e.session), frozenset(running)
            if time.monotonic() > until:
                raise TimeoutError(f"neither answered nor waiting: {[s.running for s in self.sessions]}")
            time.sleep(0.0005)

    @staticmethod
    def _ready(session: Session) -> bool:
        session.connection.consume_input()
        return not session.connection.is_busy()

    def step(self, session: int, sql: str) -> tuple[list[Event], frozenset[int]]:
        self.sessions[session].send(sql)
        return self.settle()

    def play(self, script: Iterable[tuple[int, str]], setup: Sequence[str] = ()) -> Transcript:
        """Runs a script from a fresh `setup`. A step of a session that still waits is left out, as its client would
        leave it; session -1 sleeps. At the end everybody commits, or rolls back what failed."""
        for sql in setup:
            answer = self.observer.run(sql)
            assert not (isinstance(answer, str) and answer.startswith("!")), f"{sql}: {answer}"
        transcript = Transcript()
        for session, sql in script:
            if session < 0:
                time.sleep(float(sql))
                transcript.steps.append(self.settle())
            elif not self.sessions[session].running:
                transcript.steps.append(self.step(session, sql))
        while any(s.running or s.connection.transaction_status != pq.TransactionStatus.IDLE for s in self.sessions):
            idle = [i for i, s in enumerate(self.sessions) if not s.running
                    and s.connection.transaction_status != pq.TransactionStatus.IDLE]  # fmt: skip
            assert idle, f"everybody waits: {[s.running for s in self.sessions]}"
            transcript.steps.append(self.step(idle[0], "COMMIT"))
        return transcript

    def close(self) -> None:
        for session in [self.observer, *self.sessions]:
            session.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
