"""SQL logic tests through three doors: embedded, libpq's simple protocol, and its extended one with binary results.

The answers are PostgreSQL 15's (`python -m tests.slt.runner --oracle`). SQLite's public files come from beside the
checkout and are skipped where they are not.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from filestore.database import Database
from tests.conftest import close_sound
from tests.slt.runner import Record, differences, name_of, parse, run_file, run_source, with_schema
from tests.slt.transports import Answer, Embedded, Extended, Transport, Wire

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.slt"))
SAMPLE = HERE.parent.parent.parent / "shared" / "slt" / "sqlite-sample.tar.xz"
QUICK = (
    "index/delete/10/slt_good_2.test",
    "index/orderby/10/slt_good_17.test",
    "random/aggregates/slt_good_6.test",
    "random/expr/slt_good_19.test",
    "random/groupby/slt_good_0.test",
    "select1.test",
)
NOT_BUILT = ("CREATE INDEX", "CREATE UNIQUE INDEX", "DROP INDEX", "REINDEX", "CREATE VIEW", "DROP VIEW")


@pytest.fixture(params=["embedded", "simple", "extended"])
def door(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """One of the three ways in; the two over the port share a server."""
    if request.param == "embedded":
        database = Database.open(str(request.getfixturevalue("data_dir")))
        inside = Embedded(database)
        yield inside
        inside.close()
        close_sound(database)
        return
    server = request.getfixturevalue("server")
    wire = Wire(server.dsn) if request.param == "simple" else Extended(server.dsn)
    yield wire
    wire.close()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file(path: Path, door: Transport) -> None:
    faults = run_file(path, door)
    assert not faults, "\n".join(faults)


def test_differences_are_of_records_that_exist() -> None:
    records = {(name_of(path), record.sql.strip()) for path in FILES for record in parse(path.read_text())}
    assert set(differences()) <= records


def _sample() -> list[str]:
    if not SAMPLE.exists():
        return []
    with tarfile.open(SAMPLE) as archive:
        return sorted(archive.getnames())


def _not_built(record: Record, answer: Answer) -> bool:
    """Statements of the sample that are refused, and queries over the views that they would have made."""
    words = " ".join(record.sql.upper().split())
    if words.startswith(NOT_BUILT):
        assert answer.error is not None and answer.error.sqlstate in ("0A000", "42704", "42P01"), record.sql
        return True
    return answer.error is not None and answer.error.sqlstate == "42P01" and "VIEW_" in words


def _run_sample(name: str, door: Transport) -> None:
    with tarfile.open(SAMPLE) as archive:
        member = archive.extractfile(name)
        assert member is not None
        source = member.read().decode().replace("\r\n", "\n")
    schema = "slt_" + "".join(c if c.isalnum() else "_" for c in name)
    with_schema(door, schema)
    try:
        faults = run_source(source, name, door, _not_built)
    finally:
        door.run(f"DROP SCHEMA {schema} CASCADE")
    assert not faults, "\n".join(faults[:10])


@pytest.mark.skipif(not SAMPLE.exists(), reason="SQLite's files are not beside the checkout")
@pytest.mark.parametrize("name", QUICK)
def test_sqlite_file(name: str, data_dir: Path) -> None:
    database = Database.open(str(data_dir))
    inside = Embedded(database)
    _run_sample(name, inside)
    inside.close()
    close_sound(database)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", _sample())
def test_sqlite_file_everywhere(name: str, door: Any) -> None:
    _run_sample(name, door)
