"""FileStore and DuckDB as one embedded thing each: open, run, fetch; with the same two threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb

import filestore
from bench import lineitem
from bench.place import directory_bytes

THREADS: Final = 2


class FileStore:
    """Embedded FileStore. A load is durable and checkpointed when it returns, like DuckDB's."""

    name = "FileStore"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.connection: Any = filestore.connect(str(directory))

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            rows = cursor.fetchall() if cursor.description else []
        return [tuple(row) for row in rows]

    def load(self, parquet: Path, *, key: bool) -> float:
        self.run(lineitem.create_table(key=key))
        self.connection.commit()
        began = time.monotonic()
        self.run(lineitem.copy_from(parquet))
        self.connection.commit()
        return time.monotonic() - began

    def size(self) -> int:
        return directory_bytes(self.directory)

    def close(self) -> None:
        self.connection.close()


class DuckDB:
    """A DuckDB database file in a directory of its own."""

    name = "DuckDB"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.connection = duckdb.connect(str(directory / "file.db"), config={"threads": THREADS})

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(sql).fetchall()]

    def load(self, parquet: Path, *, key: bool) -> float:
        self.run(lineitem.create_table(key=key))
        began = time.monotonic()
        self.run(lineitem.copy_from(parquet))
        self.run("CHECKPOINT")
        return time.monotonic() - began

    def size(self) -> int:
        return directory_bytes(self.directory)

    def close(self) -> None:
        self.connection.close()


Store: TypeAlias = FileStore | DuckDB


@contextmanager
def opened(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


def load_checked(store: Store, parquet: Path, *, key: bool) -> float:
    """Seconds that the load took; AssertionError when not every row is there."""
    elapsed_s = store.load(parquet, key=key)
    ((rows,),) = store.run("SELECT count(*) FROM lineitem")
    if rows != lineitem.ROWS:
        raise AssertionError(f"{store.name} counts {rows} rows of {lineitem.ROWS}")
    return elapsed_s
