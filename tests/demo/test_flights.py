"""The demo's data and questions: loaded by COPY over the wire, answered as PostgreSQL answers, exported unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench.postgres import Postgres
from filestore.demo import export, flights
from filestore.demo.questions import QUESTIONS, Question
from filestore.demo.server import Server


def load_all(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        for source in flights.SOURCES:
            assert flights.load(connection, source, lambda sent, size: None) == source.rows


def answers(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return {question.words: connection.execute(question.sql).fetchall() for question in QUESTIONS}


@pytest.fixture(scope="module")
def loaded(server: Server) -> Iterator[Server]:
    load_all(server.dsn)
    yield server
    with psycopg.connect(server.dsn) as connection:
        connection.execute("DROP TABLE " + ", ".join(source.table for source in flights.SOURCES))


@pytest.fixture(scope="module")
def expected(postgres: Postgres) -> dict[str, list[tuple[Any, ...]]]:
    load_all(postgres.dsn)
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return answers(postgres.dsn)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.words)
def test_answers_are_those_of_postgresql(
    loaded: Server, expected: dict[str, list[tuple[Any, ...]]], question: Question
) -> None:
    with psycopg.connect(loaded.dsn, autocommit=True) as connection:
        rows = connection.execute(question.sql).fetchall()
    assert rows == expected[question.words]


def test_flights_leave_as_they_came(loaded: Server, tmp_path: Path) -> None:
    target = tmp_path / "flights.parquet"
    assert export.export(loaded.flight_uri, target) == flights.SOURCES[-1].rows
    assert export.differences(target) == []


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    """Goal: the comparison can fail. Method: the source itself passes, one changed value does not."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    stream, _ = flights.open_csv("flights")
    options = pa.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    with stream:
        table = pa.csv.read_csv(stream, convert_options=options)
    pyarrow.parquet.write_table(table, tmp_path / "same.parquet")
    assert export.differences(tmp_path / "same.parquet") == []
    position = table.column_names.index("distance")
    distance = table["distance"].to_pylist()
    distance[1234] += 1
    changed = table.set_column(position, "distance", pa.array(distance))
    pyarrow.parquet.write_table(changed, tmp_path / "changed.parquet")
    assert export.differences(tmp_path / "changed.parquet") == ["column distance differs"]
    pyarrow.parquet.write_table(table.slice(1), tmp_path / "short.parquet")
    assert export.differences(tmp_path / "short.parquet") == ["336775 rows exported, 336776 loaded"]


def test_answers_are_exact(expected: dict[str, list[tuple[Any, ...]]]) -> None:
    """PostgreSQL's own answer to the first question, so that a broken oracle is noticed as well."""
    first = expected[QUESTIONS[0].words][0]
    assert first == ("United Air Lines Inc.", 58_665, Decimal("3.6"), Decimal("6.8"))
