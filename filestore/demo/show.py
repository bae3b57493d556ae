"""The demo from top to bottom: flights in, six questions, a kill -9 under load, everything still there, flights out.

Every step verifies what it shows; the exit code is 0 only when all of them held. The data directory is temporary and
removed at the end, unless it was asked for.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from filestore import __version__
from filestore.demo import bank, export, flights
from filestore.demo.questions import QUESTIONS
from filestore.demo.server import Server
from filestore.warm import warm

LOAD_S: Final = 6.0
LOAD_TRANSACTIONS: Final = 100  # the kill is to meet clients at work, however slow the machine
WIDTH_MIN: Final = 110  # two answers beside each other, also when the output goes to a file
SEED: Final = 2013


class Demo:
    """One run. `faults` collects whatever did not hold."""

    def __init__(self, console: Console, root: Path, server: Server) -> None:
        self.console = console
        self.root = root
        self.server = server
        self.faults: list[str] = []

    def run(self) -> None:
        self.compile_kernels()
        self.start()
        self.load()
        self.ask()
        self.crash()
        self.export()

    def say(self, step: str, text: str) -> None:
        self.console.print(f"[bold cyan]{step:>10}[/]  {text}", highlight=False)

    def check(self, held: bool, fault: str) -> None:
        if not held:
            self.faults.append(fault)
            self.say("FAULT", f"[bold red]{fault}[/]")

    @contextmanager
    def bar(self, words: str, total: float) -> Iterator[Any]:
        """A progress bar that is gone when its work is done; yields a function that takes (done, total, words)."""
        columns = (TextColumn("{task.description:<32}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(words, total=total)

            def update(done: float, of: float, description: str = words) -> None:
                progress.update(task, completed=done, total=of, description=description)

            yield update

    def compile_kernels(self) -> None:
        began = time.monotonic()
        with self.bar("compiling kernels", 1) as update:

            def progress(done: int, of: int, name: str) -> None:
                update(done, of, f"compiling {name}"[:32])

            warm(progress)
        self.say("kernels", f"compiled, or found in the cache, in {time.monotonic() - began:.1f} s")

    def start(self) -> None:
        ready_s = self.server.start()
        self.say(
            "server", f"ready in {ready_s:.1f} s; look in: [bold]psql -h 127.0.0.1 -p {self.server.port} -U postgres[/]"
        )

    def load(self) -> None:
        began = time.monotonic()
        loaded = 0
        with psycopg.connect(self.server.dsn) as connection:
            for source in flights.SOURCES:
                with self.bar(f"COPY {source.table}", 1) as update:
                    rows = flights.load(connection, source, update)
                self.check(rows == source.rows, f"COPY counted {rows} {source.table}, its file has {source.rows}")
                loaded += rows
            connection.commit()
            for source in flights.SOURCES:
                rows = self.one(connection, f"SELECT count(*) FROM {source.table}")
                self.check(rows == source.rows, f"{source.table} has {rows} rows, its file has {source.rows}")
        elapsed = time.monotonic() - began
        self.say("COPY", f"{loaded:,} rows into {len(flights.SOURCES)} tables in {elapsed:.1f} s, one transaction")

    def ask(self) -> None:
        grid = Table.grid(padding=(1, 3))
        answers = []
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            for question in QUESTIONS:
                began = time.monotonic()
                with self.bar(question.words, 1) as update:
                    cursor = connection.execute(question.sql)
                    rows = cursor.fetchall()
                    update(1, 1)
                self.check(bool(rows), f"no answer to: {question.words}")
                names = [column.name for column in cursor.description or ()]
                answers.append(answer_table(question.words, names, rows, time.monotonic() - began))
        for left, right in zip(answers[::2], answers[1::2], strict=True):
            grid.add_row(left, right)
        self.console.print(grid)
        self.console.print()

    def crash(self) -> None:
        oracles = self.root / "oracles"
        oracles.mkdir()
        bank.create(self.server.dsn)
        load = bank.Load(self.server.dsn, oracles, SEED)
        load.start()
        load.wait_for(LOAD_TRANSACTIONS, timeout_s=60)
        with self.bar(f"{bank.CLIENTS} clients transfer money", LOAD_S) as update:
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < LOAD_S:
                update(elapsed, LOAD_S)
                time.sleep(0.1)
        self.server.kill()
        unknown = load.join()
        self.say(
            "kill -9",
            f"after {load.kept:,} acknowledged transactions of {bank.CLIENTS} clients, {len(unknown)} in flight",
        )
        ready_s = self.server.start()
        found = bank.audit(self.server.dsn, sorted(oracles.glob("*.oracle")), unknown)
        for fault in found.faults:
            self.check(False, fault)
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            total = self.one(connection, "SELECT sum(balance) FROM account")
            counted = self.one(connection, "SELECT count(*) FROM flights")
        self.check(total == bank.ACCOUNTS * bank.OPENING_BALANCE, f"the accounts sum to {total}")
        self.check(counted == flights.SOURCES[-1].rows, f"{counted} flights after the restart")
        verdict = f"[bold red]{len(found.faults)} faults[/]"
        if not found.faults:
            verdict = (
                f"every acknowledged transaction is there ({found.survived} of those in flight), none is half there"
            )
        self.say("restart", f"in {ready_s:.1f} s: {verdict}")

    def export(self) -> None:
        began = time.monotonic()
        target = self.root / "flights.parquet"
        with self.bar("flights over Flight to Parquet", 1) as update:
            rows = export.export(self.server.flight_uri, target)
            update(1, 1)
        elapsed = time.monotonic() - began
        differences = export.differences(target)
        for difference in differences:
            self.check(False, f"Parquet: {difference}")
        verdict = "equal to the source, value by value" if not differences else "DIFFERENT from the source"
        size = target.stat().st_size / 1e6
        self.say("Flight", f"{rows:,} flights to Parquet ({size:.1f} MB) in {elapsed:.1f} s, {verdict}")

    def one(self, connection: psycopg.Connection[Any], query: str) -> Any:
        """The only value of a query's only row."""
        row = connection.execute(query).fetchone()
        return row[0] if row else None


def answer_table(words: str, names: Sequence[str], rows: Sequence[Sequence[Any]], elapsed_s: float) -> Table:
    """One answer as a table for a person: numbers to the right, the time it took below."""
    table = Table(
        title=words,
        min_width=52,
        title_justify="left",
        title_style="bold",
        caption=f"{elapsed_s * 1000:,.0f} ms",
        box=None,
        caption_justify="left",
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for position, name in enumerate(names):
        text = all(isinstance(row[position], str) for row in rows)
        table.add_column(name, justify="left" if text else "right", no_wrap=True, max_width=26, overflow="ellipsis")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) and value > 999 else str(value) for value in row))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; 0 when everything it showed was verified. Errors of the server come with the end of its log."""
    parser = argparse.ArgumentParser(prog="filestore demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the data directory behind and say where it is")
    options = parser.parse_args(argv)
    console = Console()
    if console.width < WIDTH_MIN:
        console = Console(width=WIDTH_MIN)
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="filestore-demo-"))
    console.rule(f"[bold]FileStore {__version__}[/]: one store for transactions and analytics", align="left")
    try:
        with Server(root / "data", root / "server.log") as server:
            demo = Demo(console, root, server)
            demo.run()
    finally:
        if not options.keep:
            shutil.rmtree(root)
    verdict = "[bold green]all verified[/]" if not demo.faults else f"[bold red]{len(demo.faults)} faults[/]"
    kept = f"; kept in {root}" if options.keep else ""
    console.rule(f"{verdict} in {time.monotonic() - began:.0f} s{kept}", align="left")
    return 0 if not demo.faults else 1
