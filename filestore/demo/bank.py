"""A bank whose books show any lost or half-kept transaction, and clients that write down what they were promised.

Each transaction moves money between two to four accounts: one row in `transfer`, one in `entry` per account, and one
update of `account` per account. When COMMIT is acknowledged, and only then, the client notes the transfer in its
oracle: a SQLite file outside the data directory, durable before the next transaction begins (synchronous=FULL).
Now and then a client rolls back instead, and notes that too.

`audit` reads all three tables as they are after a crash and holds them against the oracles:
- every acknowledged transfer is there, with exactly its entries (none lost);
- every other transfer is one whose COMMIT was under way when the connection broke, at most one a client and kill;
- every transfer has all its entries, every entry its transfer, every account the sum of its entries (none half there);
- nothing that was rolled back is there; and primary keys find what scans find.

Source: the bank workload of Jepsen, with a ledger so that a partial transaction cannot hide in a sum.
It does not do: judge isolation between clients.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg

CLIENTS: Final = 4
ACCOUNTS: Final = 200  # few enough that clients wait for each other's row locks
OPENING_BALANCE: Final = 1_000
ROLLBACK_ONE_IN: Final = 16
CLIENT_IDS: Final = 1_000_000_000_000  # each client of each round numbers its transfers in a range of its own,
ROUND_IDS: Final = 1_000_000  # since a transfer left open by a kill may or may not be there
KEY_CHECKS: Final = 50
RETRYABLE: Final = ("40001", "40P01", "55P03")

Entries: TypeAlias = tuple[tuple[int, int], ...]  # (account, amount), by account

SCHEMA: Final = """
CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE transfer (id bigint PRIMARY KEY, client integer NOT NULL, lines integer NOT NULL, note text);
CREATE TABLE entry (
    transfer bigint NOT NULL, line integer NOT NULL, account integer NOT NULL, amount bigint NOT NULL,
    PRIMARY KEY (transfer, line));
"""


def create(dsn: str) -> None:
    """Makes the three tables and opens the accounts, in one transaction."""
    with psycopg.connect(dsn) as connection:
        for statement in SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO account VALUES (%s, %s)", [(number, OPENING_BALANCE) for number in range(ACCOUNTS)]
            )


class Oracle:
    """What one client was promised. Thread rule: opened and written by its client's thread alone."""

    def __init__(self, path: Path) -> None:
        self._book = sqlite3.connect(path, isolation_level=None)
        self._book.execute("PRAGMA journal_mode = WAL")
        self._book.execute("PRAGMA synchronous = FULL")
        self._book.execute("CREATE TABLE IF NOT EXISTS promise (id INTEGER PRIMARY KEY, fate TEXT, entries TEXT)")

    def note(self, transfer: int, fate: str, entries: Entries) -> None:
        """Durable on return. `fate` is 'kept' after an acknowledged COMMIT, 'undone' after a ROLLBACK."""
        self._book.execute("INSERT INTO promise VALUES (?, ?, ?)", (transfer, fate, json.dumps(entries)))

    def close(self) -> None:
        self._book.close()


def promises(path: Path) -> dict[int, tuple[str, Entries]]:
    """What an oracle holds: transfer -> (fate, entries)."""
    book = sqlite3.connect(path)
    try:
        rows = book.execute("SELECT id, fate, entries FROM promise").fetchall()
    finally:
        book.close()
    return {number: (fate, tuple((a, m) for a, m in json.loads(entries))) for number, fate, entries in rows}


class Client(threading.Thread):
    """One client in a loop of transactions until `stop` or until the server is gone.

    `unknown` is then the transfer whose COMMIT had been sent but not answered, `failure` any other error: it is
    for the caller to raise.
    """

    def __init__(self, number: int, dsn: str, oracle: Path, *, round_number: int, seed: int) -> None:
        super().__init__(name=f"bank-client-{number}", daemon=True)
        self.number = number
        self.first = number * CLIENT_IDS + round_number * ROUND_IDS
        self.dsn = dsn
        self.oracle_path = oracle
        self.stopping = threading.Event()
        self.kept = self.undone = self.retried = 0
        self.unknown: int | None = None
        self.failure: BaseException | None = None
        self._random = random.Random(f"{seed}/{round_number}/{number}")

    def run(self) -> None:
        try:
            oracle = Oracle(self.oracle_path)
            try:
                with psycopg.connect(self.dsn, autocommit=True) as connection:
                    self._work(connection, oracle)
            finally:
                oracle.close()
        except psycopg.OperationalError as error:
            # The server is gone, or it said that it is going: both are what a crash looks like from here.
            if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
                self.failure = error
        except Exception as error:  # noqa: BLE001 - handed to whoever joins the thread
            self.failure = error

    def _work(self, connection: psycopg.Connection[Any], oracle: Oracle) -> None:
        transfer = self.first
        while not self.stopping.is_set():
            entries = self._entries()
            undo = self._random.randrange(ROLLBACK_ONE_IN) == 0
            try:
                self._transact(connection, transfer, entries, undo=undo)
            except psycopg.OperationalError as error:
                if error.sqlstate not in RETRYABLE:
                    raise
                connection.rollback()
                self.unknown = None
                self.retried += 1
                continue
            oracle.note(transfer, "undone" if undo else "kept", entries)
            self.unknown = None
            self.undone += undo
            self.kept += not undo
            transfer += 1

    def _entries(self) -> Entries:
        """Amounts for two to four accounts, summing to zero, in the order of the accounts so that none deadlocks."""
        accounts = self._random.sample(range(ACCOUNTS), self._random.randint(2, 4))
        amounts = [self._random.randint(1, 9) for _ in accounts[1:]]
        return tuple(sorted(zip(accounts, [-sum(amounts), *amounts], strict=True)))

    def _transact(self, connection: psycopg.Connection[Any], transfer: int, entries: Entries, *, undo: bool) -> None:
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO transfer VALUES (%s, %s, %s, %s)", (transfer, self.number, len(entries), f"no. {transfer}")
        )
        for line, (account, amount) in enumerate(entries):
            connection.execute("INSERT INTO entry VALUES (%s, %s, %s, %s)", (transfer, line, account, amount))
            connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, account))
        if undo:
            connection.execute("ROLLBACK")
        else:
            self.unknown = transfer
            connection.execute("COMMIT")


@dataclass
class Load:
    """Four clients at work, each with its oracle in `directory`."""

    dsn: str
    directory: Path
    seed: int
    clients: list[Client] = field(default_factory=list)

    def start(self, round_number: int = 0) -> None:
        self.clients = [
            Client(
                number,
                self.dsn,
                self.directory / f"client-{number}.oracle",
                round_number=round_number,
                seed=self.seed,
            )
            for number in range(1, CLIENTS + 1)
        ]
        for client in self.clients:
            client.start()

    @property
    def kept(self) -> int:
        return sum(client.kept for client in self.clients)

    def wait_for(self, transactions: int, timeout_s: float) -> None:
        """Returns when that many transactions are acknowledged. Errors: a client's own failure, TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while self.kept < transactions:
            self._raise_failure()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.kept} of {transactions} transactions within {timeout_s:.0f} s")
            time.sleep(0.01)

    def join(self, timeout_s: float = 30.0) -> set[int]:
        """Waits for clients whose server is gone; returns the transfers left open. Errors: a client's own failure."""
        for client in self.clients:
            client.join(timeout_s)
            if client.is_alive():
                raise TimeoutError(f"{client.name} did not notice that its server is gone")
        self._raise_failure()
        return {client.unknown for client in self.clients if client.unknown is not None}

    def stop(self) -> set[int]:
        """Lets every client finish its transaction."""
        for client in self.clients:
            client.stopping.set()
        return self.join()

    def _raise_failure(self) -> None:
        for client in self.clients:
            if client.failure is not None:
                raise client.failure


@dataclass(frozen=True)
class Audit:
    """What the books say. `faults` is empty exactly when nothing acknowledged is lost and nothing is half there."""

    kept: int  # transfers acknowledged
    undone: int  # transfers rolled back
    present: int  # transfers found
    survived: int  # found though their acknowledgement never arrived: allowed, one a client and kill
    entries: int
    faults: tuple[str, ...]


class Books:
    """The three tables as one client reads them after a restart."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.transfers: dict[int, int] = dict(connection.execute("SELECT id, lines FROM transfer").fetchall())
        self.balances: dict[int, int] = dict(connection.execute("SELECT id, balance FROM account").fetchall())
        rows = connection.execute("SELECT transfer, line, account, amount FROM entry").fetchall()
        self.entry_count = len(rows)
        self.entries: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for transfer, line, account, amount in rows:
            self.entries[transfer].append((line, account, amount))

    def entries_of(self, transfer: int) -> Entries:
        return tuple((account, amount) for _, account, amount in sorted(self.entries.get(transfer, [])))


def audit(dsn: str, oracles: Sequence[Path], unknown: set[int]) -> Audit:
    """Holds the tables against the oracles; `unknown` are the transfers left open by kills so far."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return audit_on(connection, oracles, unknown)


def audit_on(connection: psycopg.Connection[Any], oracles: Sequence[Path], unknown: set[int]) -> Audit:
    """`audit` as one connection sees it, inside its transaction if it has one."""
    promised: dict[int, tuple[str, Entries]] = {}
    for path in oracles:
        promised.update(promises(path))
    kept = {transfer: entries for transfer, (fate, entries) in promised.items() if fate == "kept"}
    books = Books(connection)
    faults = (
        *_lost(books, kept),
        *_never_promised(books, promised, unknown),
        *_half_there(books),
        *_wrong_balances(books),
        *_keys_disagree(connection, books),
    )
    return Audit(
        kept=len(kept),
        undone=len(promised) - len(kept),
        present=len(books.transfers),
        survived=len(books.transfers.keys() & unknown - kept.keys()),
        entries=books.entry_count,
        faults=faults,
    )


def _lost(books: Books, kept: dict[int, Entries]) -> list[str]:
    lost = sorted(kept.keys() - books.transfers.keys())
    changed = [
        number for number in sorted(kept.keys() & books.transfers.keys()) if books.entries_of(number) != kept[number]
    ]
    return [f"transfer {number} was acknowledged and is lost" for number in lost] + [
        f"transfer {number} was acknowledged as {kept[number]}, has {books.entries_of(number)}" for number in changed
    ]


def _never_promised(books: Books, promised: dict[int, tuple[str, Entries]], unknown: set[int]) -> list[str]:
    faults = []
    for number in sorted(books.transfers):
        fate = promised[number][0] if number in promised else None
        if fate == "undone":
            faults.append(f"transfer {number} was rolled back and is there")
        elif fate is None and number not in unknown:
            faults.append(f"transfer {number} is there though nobody sent its COMMIT")
    return faults


def _half_there(books: Books) -> list[str]:
    faults = [
        f"transfer {number} has {len(books.entries.get(number, []))} of {lines} entries"
        for number, lines in sorted(books.transfers.items())
        if [line for line, _, _ in sorted(books.entries.get(number, []))] != list(range(lines))
    ]
    orphans = sorted(books.entries.keys() - books.transfers.keys())
    return faults + [f"entries of transfer {number} are there without it" for number in orphans]


def _wrong_balances(books: Books) -> list[str]:
    expected = dict.fromkeys(range(ACCOUNTS), OPENING_BALANCE)
    for lines in books.entries.values():
        for _, account, amount in lines:
            expected[account] += amount
    return [
        f"account {number} has {books.balances.get(number)}, its entries say {balance}"
        for number, balance in expected.items()
        if books.balances.get(number) != balance
    ] + [f"account {number} was never opened" for number in sorted(books.balances.keys() - expected.keys())]


def _keys_disagree(connection: psycopg.Connection[Any], books: Books) -> list[str]:
    """Looks some transfers up by primary key: the index must say what the scan said."""
    faults = []
    newest = sorted(books.transfers)[-KEY_CHECKS:]
    for number in newest:
        rows = connection.execute("SELECT lines FROM transfer WHERE id = %s", (number,)).fetchall()
        if rows != [(books.transfers[number],)]:
            faults.append(f"transfer {number} is scanned but its key finds {rows}")
    return faults
