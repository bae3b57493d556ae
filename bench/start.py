"""How long a start takes: from exec to the first answer out of the table, on a second start and after SIGKILL.

`ready` is a table of a million rows, stopped cleanly. `reopen` is at least 1 GB of tables whose server is killed while
four clients write, so that the log has a tail to replay.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet

from bench import lineitem
from bench.place import directory_bytes, lineitem_parquet, scratch
from bench.report import Bar, Section
from filestore.demo import bank
from filestore.demo.server import Server

ROWS: Final = 1_000_000
STARTS: Final = 3
REOPEN_BYTES: Final = 1_000_000_000
LOAD_S: Final = 5.0


def ready() -> Section:
    section = Section("ready", ("server on a table of 1,000,000 rows", "seconds to the first answer"))
    with scratch() as root:
        table = million_rows(root / "items.parquet")
        with Server(root / "data", root / "server.log") as server:
            section.rows.append(("first start, empty directory", f"{server.start():.2f}"))
            with psycopg.connect(server.dsn) as connection:
                connection.execute(
                    "CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2), made timestamp)"
                )
                connection.execute(f"COPY item FROM '{table}' (FORMAT parquet)")
            server.stop()
            times = []
            for _ in range(STARTS):
                times.append(start_and_ask(server, f"SELECT name FROM item WHERE id = {random.randrange(ROWS)}"))
                server.stop()
    median = statistics.median(times)
    section.rows.append((f"later starts, median of {STARTS}", f"{median:.2f}"))
    section.bars.append(Bar("ready on a million rows, second start", median, 2, " s", at_most=True))
    return section


def reopen() -> Section:
    section = Section("reopen", ("after SIGKILL under four writing clients", "value"))
    with scratch() as root, Server(root / "data", root / "server.log") as server:
        server.start()
        fill(server, root)
        oracles = root / "oracles"
        oracles.mkdir()
        bank.create(server.dsn)
        load = bank.Load(server.dsn, oracles, seed=1)
        load.start()
        load.wait_for(1, timeout_s=60)
        time.sleep(LOAD_S)
        server.kill()
        unknown = load.join()
        size = directory_bytes(root / "data")
        elapsed = start_and_ask(server, "SELECT l_comment FROM lineitem_0 WHERE l_orderkey = 1 AND l_linenumber = 1")
        faults = bank.audit(server.dsn, sorted(oracles.glob("*.oracle")), unknown).faults
        if faults:
            raise AssertionError("\n".join(faults[:20]))
    section.rows += [
        ("tables and log on disk", f"{size / 1e9:.2f} GB"),
        ("transactions acknowledged before the kill", f"{load.kept:,}"),
        ("exec to the first answer out of a table", f"{elapsed:.2f} s"),
    ]
    section.bars.append(Bar("reopening after SIGKILL with 1 GB of tables", elapsed, 5, " s", at_most=True))
    return section


def fill(server: Server, root: Path) -> None:
    """Copies of lineitem until the directory holds a gigabyte."""
    parquet = lineitem_parquet()
    number = 0
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        while directory_bytes(root / "data") < REOPEN_BYTES:
            name = f"lineitem_{number}"
            connection.execute(lineitem.create_table(key=True).replace("table lineitem", f"table {name}"))
            connection.execute(lineitem.copy_from(parquet).replace("COPY lineitem", f"COPY {name}"))
            number += 1


def start_and_ask(server: Server, query: str) -> float:
    """Seconds from exec to this query's answer."""
    began = time.monotonic()
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        rows: list[Any] = connection.execute(query).fetchall()
    elapsed = time.monotonic() - began
    if len(rows) != 1:
        raise AssertionError(f"{query}: {len(rows)} rows")
    return elapsed


def million_rows(target: Path) -> Path:
    ids = np.arange(ROWS)
    columns = {
        "id": ids,
        "name": [f"item number {number}" for number in range(ROWS)],
        "price": pa.array(ids % 100_000).cast(pa.decimal128(21, 2)).cast(pa.decimal128(12, 2)),
        "made": pa.array(ids * 1_000_000, pa.timestamp("us")),
    }
    pyarrow.parquet.write_table(pa.table(columns), target)
    return target
