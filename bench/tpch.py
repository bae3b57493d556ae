"""TPC-H Q1 and Q6 at scale factor 1, hot, against DuckDB on a database file, two threads each, in turns.

Hot: each query has run often enough to be compiled and to have its columns in memory. The answers are compared before
the times are: exactly where SQL says so, to nine digits for the averages, which DuckDB computes in floating point.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.lineitem import QUERIES
from bench.place import lineitem_parquet, scratch
from bench.report import Bar, Section
from bench.stores import DuckDB, FileStore, Store, load_checked, opened

ROUNDS: Final = 7
WARM_S: Final = 3.0  # hot plans are compiled in the background after their first runs


def run() -> Section:
    section = Section("tpch", ("hot query", "FileStore ms (min)", "DuckDB ms (min)", "ratio of medians"))
    parquet = lineitem_parquet()
    with scratch() as root, opened(FileStore(root / "ours")) as ours, opened(DuckDB(root / "theirs")) as theirs:
        for store in (ours, theirs):
            load_checked(store, parquet, key=True)
        for name, sql in QUERIES.items():
            compare(name, ours.run(sql), theirs.run(sql))
            for store in (ours, theirs):
                warm_up(store, sql)
            times = alternate((ours, theirs), sql)
            compare(name, ours.run(sql), theirs.run(sql))
            medians = [statistics.median(kept) for kept in times]
            shown = [f"{statistics.median(kept):.1f} ({min(kept):.1f})" for kept in times]
            section.rows.append((name, *shown, f"{medians[0] / medians[1]:.2f}"))
            bar = Bar(f"TPC-H {name} SF 1 hot, time against DuckDB", medians[0] / medians[1], 2, " ×", at_most=True)
            section.bars.append(bar)
    section.notes.append(f"Medians of {ROUNDS} alternating runs, embedded, same answers.")
    return section


def warm_up(store: Store, sql: str) -> None:
    deadline = time.monotonic() + WARM_S
    while time.monotonic() < deadline:
        store.run(sql)


def alternate(stores: Sequence[Store], sql: str) -> list[list[float]]:
    """Milliseconds per store and run."""
    times: list[list[float]] = [[] for _ in stores]
    for _ in range(ROUNDS):
        for store, kept in zip(stores, times, strict=True):
            began = time.perf_counter()
            store.run(sql)
            kept.append((time.perf_counter() - began) * 1000)
    return times


def compare(name: str, ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> None:
    """AssertionError with both answers when they differ."""
    same = len(ours) == len(theirs) and all(
        len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
        for left, right in zip(ours, theirs, strict=True)
    )
    if not same:
        raise AssertionError(f"{name}: FileStore answers\n{ours}\nDuckDB answers\n{theirs}")


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float):
        return math.isclose(float(ours), theirs, rel_tol=1e-9)
    return bool(ours == theirs)
