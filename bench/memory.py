"""Resident memory of a server after Q1 and Q6 over lineitem SF 1, against what the table takes on disk.

What the kernel counts as resident includes pages of mapped table files that it may drop at will; they are shown
apart, since both are true.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.lineitem import QUERIES
from bench.place import lineitem_parquet, scratch
from bench.report import Bar, Section
from bench.stores import FileStore, load_checked, opened
from filestore.demo.server import Server


def resident(pid: int) -> tuple[float, float]:
    """(all, of that mapped from files) in MB."""
    memory: Any = psutil.Process(pid).memory_info()
    return memory.rss / 1e6, memory.shared / 1e6


def run() -> Section:
    section = Section("memory", ("server on lineitem SF 1", "resident MB", "of that mapped files MB"))
    with scratch() as root:
        with opened(FileStore(root / "data")) as store:
            load_checked(store, lineitem_parquet(), key=True)
        disk = store.size() / 1e6
        with Server(root / "data", Path(root / "server.log")) as server:
            server.start()
            section.rows.append(("started", *shown(server)))
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                for name, sql in QUERIES.items():
                    connection.execute(sql).fetchall()
                    section.rows.append((f"after {name}", *shown(server)))
            total = resident(pid_of(server))[0]
    section.bars.append(Bar("resident memory against the table on disk", total / disk, 2, " ×", at_most=True))
    section.notes.append(f"The directory takes {disk:,.0f} MB on disk.")
    return section


def pid_of(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def shown(server: Server) -> tuple[str, str]:
    everything, mapped = resident(pid_of(server))
    return f"{everything:,.0f}", f"{mapped:,.0f}"
