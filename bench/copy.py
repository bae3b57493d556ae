"""COPY of lineitem at scale factor 1 from one Parquet file into a database on disk, against DuckDB's load of the same.

Like with like: both tables with the primary key, then both without. A load counts when it is durable: FileStore's
COMMIT has returned, DuckDB's CHECKPOINT too.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet

from bench.place import lineitem_parquet, scratch
from bench.report import Bar, Section
from bench.stores import DuckDB, FileStore, load_checked, opened


def run() -> Section:
    parquet = lineitem_parquet()
    section = Section("copy", ("lineitem SF 1 from Parquet", "FileStore s", "DuckDB s", "ratio", "on disk MB"))
    with scratch() as root:
        warm_up(root, parquet)
        for name, key in (("with primary key", True), ("without a key", False)):
            seconds, megabytes = [], []
            for kind in (FileStore, DuckDB):
                with opened(kind(root / f"{kind.name}-{key}")) as store:
                    seconds.append(load_checked(store, parquet, key=key))
                megabytes.append(store.size() / 1e6)
            ratio = seconds[1] / seconds[0]
            section.rows.append(
                (
                    name,
                    f"{seconds[0]:.2f}",
                    f"{seconds[1]:.2f}",
                    f"{ratio:.2f}",
                    f"{megabytes[0]:,.0f} / {megabytes[1]:,.0f}",
                )
            )
            section.bars.append(Bar(f"COPY from Parquet {name}, speed against DuckDB", ratio, 0.5, " ×"))
    section.notes.append("Both embedded, two threads, one load each, after one row group has warmed both up.")
    return section


def warm_up(root: Path, parquet: Path) -> None:
    """Compiles kernels and reads the file into the page cache: neither is what is measured."""
    parquet.read_bytes()
    small = root / "small.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.ParquetFile(parquet).read_row_group(0), small)
    for kind in (FileStore, DuckDB):
        with opened(kind(root / f"{kind.name}-warm")) as store:
            store.load(small, key=True)
