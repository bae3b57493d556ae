"""Point reads and durable single-row commits in one process, beside SQLite with WAL and synchronous = FULL.

Both are asked through their DB-API drivers with one prepared text per statement, one thread, 100,000 rows.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import filestore
from bench.place import scratch
from bench.report import Section

ROWS: Final = 100_000
READS: Final = 5_000
COMMITS: Final = 1_000
TABLE: Final = "CREATE TABLE item (id integer PRIMARY KEY, name text NOT NULL, amount integer NOT NULL)"


def run() -> Section:
    section = Section("embedded", ("embedded, one thread", "FileStore µs (p99)", "SQLite µs (p99)"))
    with scratch() as root:
        ours = filestore.connect(str(root / "ours"))
        theirs = sqlite(root / "theirs.db")
        mark = {"format": "%s", "pyformat": "%s", "qmark": "?", "numeric": "$1"}[filestore.paramstyle]
        try:
            for connection, placeholder in ((ours, mark), (theirs, "?")):
                fill(connection, placeholder)
            reads = [read_times(ours, mark), read_times(theirs, "?")]
            commits = [commit_times(ours, mark), commit_times(theirs, "?")]
        finally:
            ours.close()
            theirs.close()
    section.rows.append(("SELECT by primary key", *map(shown, reads)))
    section.rows.append(("INSERT of one row, committed", *map(shown, commits)))
    section.notes.append(f"Medians of {READS:,} reads and {COMMITS:,} commits; every commit is durable in both.")
    return section


def sqlite(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def fill(connection: Any, mark: str) -> None:
    cursor = connection.cursor()
    cursor.execute(TABLE)
    rows = [(number, f"item {number}", number % 1000) for number in range(ROWS)]
    cursor.executemany(f"INSERT INTO item VALUES ({mark}, {mark}, {mark})", rows)
    connection.commit()


def read_times(connection: Any, mark: str) -> list[float]:
    cursor = connection.cursor()
    text = f"SELECT name, amount FROM item WHERE id = {mark}"

    def read(_number: int) -> None:
        key = random.randrange(ROWS)
        cursor.execute(text, (key,))
        if cursor.fetchone()[0] != f"item {key}":
            raise AssertionError(f"wrong row for key {key}")

    times = timed(read, READS)
    connection.commit()
    return times


def commit_times(connection: Any, mark: str) -> list[float]:
    cursor = connection.cursor()
    text = f"INSERT INTO item VALUES ({mark}, {mark}, {mark})"

    def insert(number: int) -> None:
        key = ROWS + number if number >= 0 else number
        cursor.execute(text, (key, "new", number))
        connection.commit()

    return timed(insert, COMMITS)


def timed(action: Callable[[int], None], count: int) -> list[float]:
    """Microseconds per call, after a hundredth of the calls (numbered from -1 down) to warm up."""
    for number in range(1, count // 100 + 1):
        action(-number)
    times = []
    for number in range(count):
        began = time.perf_counter_ns()
        action(number)
        times.append((time.perf_counter_ns() - began) / 1000)
    return times


def shown(times: list[float]) -> str:
    return f"{statistics.median(times):,.0f} ({statistics.quantiles(times, n=100)[98]:,.0f})"
