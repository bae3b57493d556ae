"""pgbench against FileStore and PostgreSQL 15, both on this machine, in turns.

One run of one tool drives both; runs alternate (A B A B A B) so that a slow minute of the machine hits both, and the
median of each is shown. PostgreSQL runs as installed, fsync on; FileStore acknowledges after durability too.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.place import scratch
from bench.postgres import PROGRAMS, Postgres
from bench.report import Bar, Section
from filestore.demo.server import Server

SCALE: Final = 10
CLIENTS: Final = 8
ROUNDS: Final = 3


@dataclass(frozen=True)
class Case:
    name: str
    arguments: tuple[str, ...]
    seconds: int
    bar: float | None = None


CASES: Final = (
    Case("select-only, prepared", ("-S", "-M", "prepared"), 10, bar=0.5),
    Case("select-only, extended", ("-S", "-M", "extended"), 5),
    Case("select-only, simple", ("-S", "-M", "simple"), 5),
    Case("TPC-B, prepared", ("-M", "prepared"), 10),
    Case("TPC-B, simple", ("-M", "simple"), 5),
)


@dataclass(frozen=True)
class Run:
    tps: float
    latency_ms: float
    failed: int


def pgbench(port: int, *arguments: str) -> str:
    """pgbench's report. RuntimeError with what it complained about when it failed."""
    command: list[str | Path] = [PROGRAMS / "pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    done = subprocess.run([*command, *arguments, "postgres"], check=False, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"pgbench {' '.join(arguments)} on port {port}:\n{done.stderr[-2000:]}")
    return done.stdout


def measured(report: str) -> Run:
    """The figures of a report. ValueError when it has none."""
    tps = re.search(r"^tps = ([\d.]+)", report, re.MULTILINE)
    latency = re.search(r"^latency average = ([\d.]+) ms", report, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", report, re.MULTILINE)
    if tps is None or latency is None:
        raise ValueError(f"no figures in:\n{report}")
    return Run(float(tps[1]), float(latency[1]), int(failed[1]) if failed else 0)


def run() -> Section:
    section = Section("pgbench", ("pgbench -c 8 -j 2", "FileStore tps", "PostgreSQL tps", "ratio", "latency ms"))
    with scratch() as root, Postgres() as postgres, Server(root / "data", Path(root / "server.log")) as filestore:
        postgres.start()
        filestore.start()
        for port in (filestore.port, postgres.port):
            pgbench(port, "-i", "-q", "-s", str(SCALE))
        for case in CASES:
            ours, theirs = alternate(filestore.port, postgres.port, case)
            ratio = ours.tps / theirs.tps
            section.rows.append(
                (
                    case.name,
                    f"{ours.tps:,.0f}",
                    f"{theirs.tps:,.0f}",
                    f"{ratio:.2f}",
                    f"{ours.latency_ms:.2f} / {theirs.latency_ms:.2f}",
                )
            )
            if case.bar is not None:
                section.bars.append(Bar(f"pgbench {case.name}, against PostgreSQL 15", ratio, case.bar, " ×"))
            if ours.failed or theirs.failed:
                section.notes.append(f"{case.name}: {ours.failed} / {theirs.failed} failed transactions")
    section.notes.append(f"Scale {SCALE}, medians of {ROUNDS} alternating runs; fsync on in both.")
    return section


def alternate(ours: int, theirs: int, case: Case) -> tuple[Run, Run]:
    """Medians by throughput of both servers."""
    common = ("-n", "-c", str(CLIENTS), "-j", "2", "-T", str(case.seconds), *case.arguments)
    runs: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(ROUNDS):
        for port, kept in zip((ours, theirs), runs, strict=True):
            kept.append(measured(pgbench(port, *common)))
    first, second = (sorted(kept, key=lambda one: one.tps)[ROUNDS // 2] for kept in runs)
    return first, second
