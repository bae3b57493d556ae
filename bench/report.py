"""What a part of the benchmark hands back, and how it is printed and written into docs/performance.md.

A section of the page lies between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; only what is between them is
written, so that the prose around stays a person's.
"""

from __future__ import annotations

import datetime as dt
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Bar:
    """A promise with a number: `measured` is to be at least (or at most) `bound`, in the same unit."""

    promise: str
    measured: float
    bound: float
    unit: str = ""
    at_most: bool = False

    @property
    def held(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def row(self) -> tuple[str, str, str, str]:
        relation = "at most" if self.at_most else "at least"
        verdict = "held" if self.held else "**not held**"
        return (
            self.promise,
            f"{self.measured:.2f}{self.unit}",
            f"{relation} {self.bound:g}{self.unit}",
            verdict,
        )


@dataclass
class Section:
    """One part's table. `rows` are text, ready to print; `notes` say what a reader must know to believe them."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        for columns, rows in (
            (self.columns, self.rows),
            (("bar", "measured", "promised", ""), [bar.row() for bar in self.bars]),
        ):
            if rows:
                table = Table(title=f"bench {self.name}", title_justify="left", box=None)
                for position, column in enumerate(columns):
                    table.add_column(column, justify="left" if position == 0 else "right")
                for row in rows:
                    table.add_row(*(cell.replace("**", "") for cell in row))
                console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)

    def markdown(self) -> str:
        parts = [markdown_table(self.columns, self.rows)]
        if self.bars:
            parts.append(markdown_table(("bar", "measured", "promised", ""), [bar.row() for bar in self.bars]))
        parts += self.notes
        parts.append(f"*{machine()}; `python -m bench {self.name}`*")
        return "\n\n".join(parts)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(["---"] + ["---:"] * (len(columns) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(section: Section) -> None:
    """Puts the section between its markers. ValueError when the page has none for it."""
    page = PAGE.read_text()
    pattern = re.compile(rf"(<!-- bench:{section.name} -->\n).*?(<!-- /bench:{section.name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE.name} has no markers for {section.name}")
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]}{section.markdown()}\n{found[2]}", page))


def machine() -> str:
    """Date, commit, processor, memory, kernel and versions: what a figure is worth nothing without."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "pyarrow", "duckdb"))
    kernel = platform.release().split("-")[0]
    return (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, commit {commit()}, {psutil.cpu_count()} × "
        f"{model[1].strip() if model else platform.machine()}, {memory:.0f} GiB, Linux {kernel}, "
        f"Python {platform.python_version()}, {packages}, SQLite {sqlite_version()}, {postgres_version()}"
    )


def commit() -> str:
    """The commit measured, with a + when the tree differs from it."""
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip()


def sqlite_version() -> str:
    import sqlite3

    return sqlite3.sqlite_version


def postgres_version() -> str:
    from bench.postgres import PROGRAMS

    text = subprocess.run([PROGRAMS / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+\.\d+", text)
    return f"PostgreSQL {found[0] if found else text.strip()}"
