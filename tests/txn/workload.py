"""Clients that append to lists and overwrite registers, and the history that they had; for `histories`.

Keys are hot: few at a time, and each given up for a new one after some tens of appends, so that lists stay short and
keys are inserted by whoever comes first. Each statement is written in several ways, so that all ways through the engine
are met: by key and by scan, prepared and not, with values computed from subqueries.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from tests.txn.histories import APPEND, LOOK, READ, WRITE, Op, Txn

LISTS: Final = 4
REGISTERS: Final = 3
APPENDS_PER_KEY: Final = 30

SETUP: Final = (
    "DROP TABLE IF EXISTS history_list, history_register",
    "CREATE TABLE history_list (k int PRIMARY KEY, v text NOT NULL)",
    "CREATE TABLE history_register (k int PRIMARY KEY, v int)",
    *(f"INSERT INTO history_register VALUES ({k}, NULL)" for k in range(REGISTERS)),
)
_READS: Final = ("SELECT v FROM history_list WHERE k = ?", "SELECT v FROM history_list WHERE k + 0 = ?")
_APPENDS: Final = (
    "UPDATE history_list SET v = v || ?::text WHERE k = ?",
    "UPDATE history_list SET v = v || ?::text WHERE k + 0 = ?",
    "UPDATE history_list SET v = v || (SELECT ?::text FROM history_list o WHERE o.k = history_list.k) WHERE k = ?",
    "UPDATE history_list l SET v = l.v || ?::text FROM history_register r WHERE r.k = 0 AND l.k = ? + r.k",
)


class Failed(Exception):
    """A statement failed; the transaction is to be rolled back."""


class Client(Protocol):
    """One connection, in autocommit mode. Raises Failed for what PostgreSQL may refuse, anything else as it is."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[int, list[Any]]:
        """(rows counted, rows)."""


class Run:
    """One run: `transactions` by some clients at one level."""

    def __init__(self, level: str, transactions: int, seed: int) -> None:
        self.level = level
        self.seed = seed
        self._left = itertools.count(-transactions)
        self._values = itertools.count(1)
        self._newest = 0

    def history(self, clients: Sequence[Client]) -> list[Txn]:
        """Runs all clients at once, and a last transaction that reads every list."""
        with ThreadPoolExecutor(len(clients)) as threads:
            running = [threads.submit(self._client, c, random.Random(self.seed + i)) for i, c in enumerate(clients)]
            history = [txn for future in running for txn in future.result()]
        last = Txn(asked=time.monotonic())
        for k, v in clients[0].execute("SELECT k, v FROM history_list ORDER BY k")[1]:
            last.ops.append(Op(READ, k, listed(v), last.asked, last.asked))
        last.answered = time.monotonic()
        return [*history, last]

    def _client(self, client: Client, rng: random.Random) -> list[Txn]:
        found = []
        while next(self._left) < 0:
            txn = Txn(asked=time.monotonic())
            found.append(txn)
            try:
                if rng.random() < 0.1:
                    self._step(client, rng, txn, alone=True)
                else:
                    client.execute(f"BEGIN ISOLATION LEVEL {self.level}")
                    for _ in range(rng.randint(1, 5)):
                        self._step(client, rng, txn)
                    txn.committed = rng.random() > 0.08
                    client.execute("COMMIT" if txn.committed else "ROLLBACK")
            except Failed:
                txn.committed = False
                client.execute("ROLLBACK")
            txn.answered = time.monotonic()
        return found

    def _step(self, client: Client, rng: random.Random, txn: Txn, alone: bool = False) -> None:
        """One operation, or two if it is not `alone`, outside of any block."""
        choice = rng.random()
        asked = time.monotonic()

        def note(kind: str, key: int, value: Any) -> None:
            txn.ops.append(Op(kind, key, value, asked, time.monotonic()))

        key = self._newest + rng.randrange(LISTS)
        if choice < 0.4:
            value = next(self._values)
            self._newest = value // (LISTS * APPENDS_PER_KEY) * LISTS
            self._append(client, rng, key, value)
            note(APPEND, key, value)
        elif choice < 0.65:
            rows = client.execute(rng.choice(_READS), (key,))[1]
            note(READ, key, listed(rows[0][0] if rows else ""))
        elif choice < 0.75:
            other = self._newest + (key + 1) % LISTS
            keys = sorted({key, other})
            marks = ", ".join("?" * len(keys))
            rows = client.execute(f"SELECT k, v FROM history_list WHERE k IN ({marks})", keys)[1]
            values = dict(rows)
            for each in keys:
                note(READ, each, listed(values.get(each, "")))
        else:
            key = rng.randrange(REGISTERS)
            if not alone or choice >= 0.92:
                rows = client.execute("SELECT v FROM history_register WHERE k = ?", (key,))[1]
                note(LOOK, key, rows[0][0] if rows else None)
            if choice < 0.92:
                value = next(self._values)
                client.execute("UPDATE history_register SET v = ? WHERE k = ?", (value, key))
                note(WRITE, key, value)

    @staticmethod
    def _append(client: Client, rng: random.Random, key: int, value: int) -> None:
        count, _ = client.execute(rng.choice(_APPENDS), (f" {value}", key))
        if count == 0:
            client.execute("INSERT INTO history_list VALUES (?, ?)", (key, f" {value}"))


def listed(text: str) -> tuple[int, ...]:
    """The values of a list as it is stored."""
    return tuple(map(int, text.split()))


# Serialization failures, deadlocks, duplicate keys; and what follows from them up to ROLLBACK.
REFUSALS: Final = frozenset({"40001", "40P01", "23505", "25P02"})


class WireClient:
    """Over the wire, by psycopg; every other client prepares its statements."""

    def __init__(self, dsn: str, prepare: bool) -> None:
        import psycopg

        self._error = psycopg.Error
        self._prepare = prepare
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0 if prepare else None)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[int, list[Any]]:
        try:
            cursor = self.connection.execute(sql.replace("?", "%s"), parameters or None)
        except self._error as error:
            if error.sqlstate in REFUSALS:
                raise Failed(error.sqlstate) from error
            raise
        return cursor.rowcount, cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.connection.close()


class EmbeddedClient:
    """In this process, by the embedded driver: an engine that a test may have changed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        from filestore import dbapi

        self._error = dbapi.Error
        self.connection = connect()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[int, list[Any]]:
        try:
            cursor = self.connection.execute(sql, parameters)
        except self._error as error:
            if error.sqlstate in REFUSALS:
                raise Failed(error.sqlstate) from error
            raise
        return cursor.rowcount, cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.connection.close()
