"""All 22 queries of TPC-H over a hundredth of its data: the answers are DuckDB's. What is refused must be listed."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from filestore.database import Database
from tests.fuzz.compare import rows_differ
from tests.fuzz.queries import Query
from tests.slt.transports import Embedded

HERE = Path(__file__).parent.parent / "query" / "plans" / "tpch"
QUERIES = sorted(HERE.glob("q*.sql"))
REFUSED: dict[str, str] = {}
"""Query -> the message with which it is refused."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables as Parquet files."""
    folder = tmp_path_factory.mktemp("tpch")
    program = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    subprocess.run([program, "parquet", "-s", "0.01", f"--output-dir={folder}"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def store(data: Path) -> Iterator[Embedded]:
    database = Database.open(str(data / "store"))
    session = Embedded(database)
    schema = re.sub(
        r"\s+references \w+|,\s*foreign key \([^)]*\) references \w+", "", (HERE / "schema.sql").read_text()
    )
    assert session.run(schema).error is None
    for table in re.findall(r"create table (\w+)", schema):
        answer = session.run(f"COPY {table} FROM '{data / table}.parquet' (FORMAT parquet)")
        assert answer.error is None, answer.error
    yield session
    session.close()
    database.close()


@pytest.fixture(scope="module")
def peer(data: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for path in data.glob("*.parquet"):
        connection.execute(f"CREATE VIEW {path.stem} AS FROM read_parquet('{path}')")
    return connection


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.stem)
def test_query(path: Path, store: Embedded, peer: duckdb.DuckDBPyConnection) -> None:
    answer = store.run(path.read_text())
    if path.stem in REFUSED:
        assert answer.error is not None and REFUSED[path.stem] in answer.error.message
        return
    assert answer.error is None, answer.error
    theirs = [[_shown(v) for v in row] for row in peer.execute(path.read_text()).fetchall()]
    ours = [[_shown(v) for v in row] for row in answer.rows]
    assert answer.rows or path.stem in ("q02", "q20"), "an empty answer tests nothing"
    # DISTINCT: trailing zeros of numerics do not count, which DuckDB shows otherwise.
    different = rows_differ(Query("DISTINCT", ordered=True), ours, theirs)
    assert not different, different


def _shown(value: object) -> str | None:
    """A value as text with the digits that both engines have: averages are numeric here and float there."""
    if value is None:
        return None
    text = str(value).rstrip(" ")
    return f"{float(text):.6f}" if re.fullmatch(r"-?\d+\.\d+", text) else text
