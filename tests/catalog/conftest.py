"""A store with two tables, and the same tables in PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from filestore.database import Database
from filestore.query.render import text
from filestore.settings import Settings
from filestore.storage.vector import Batch
from filestore.txn.drive import drive
from tests.conftest import close_sound, scratch_root

TABLES = """
create schema app;
create table app.author (
    id int primary key, name varchar(50) not null, born date, made timestamptz, code char(3),
    check (length(name) > 1)
);
create table app.book (
    id bigint primary key, author_id int not null, title text not null default 'untitled',
    price numeric(10,2), rate float8,
    constraint once unique (author_id, title), constraint cheap check (price < 100)
);
insert into app.author (id, name) values (1, 'ann'), (2, 'bob');
"""

Rows = list[list[str | None]]
Ask = Callable[[str], Rows]


def statements(text: str) -> list[str]:
    """The statements of a text, each on lines of its own and ended by a semicolon."""
    return [part.strip() for part in text.split(";\n") if part.strip()]


class Local:
    """A session in this process."""

    def __init__(self, database: Database) -> None:
        self.session = database.session()

    def __call__(self, sql: str) -> Rows:
        """Rows of the last statement as text; an error is raised."""
        session = self.session
        lock, poll = session.database.lock, session.poll
        rows: Rows = []
        for statement in session.parse(sql):
            result = drive(session.execute(statement), lock, poll)
            try:
                rows = [row for batch in result.batches for row in text_rows(batch, session.settings)]
            except BaseException:
                session.fail()
                raise
            drive(session.finish(), lock, poll)
        return rows


def text_rows(batch: Batch, settings: Settings) -> Rows:
    """The rows of a batch in PostgreSQL's text form."""
    columns: Rows = []
    for column in batch.columns:
        encoded = text(column, settings)
        raw, ends = encoded.data.tobytes(), encoded.offsets.tolist()
        nulls = column.nulls().tolist()
        columns.append(
            [None if nulls[i] else raw[ends[i] : ends[i + 1]].decode() for i in range(batch.length)]
        )
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.fixture(scope="module")
def ask() -> Iterator[Local]:
    """A session of a store with `TABLES`."""
    root = Path(tempfile.mkdtemp(prefix="filestore-catalog-", dir=scratch_root()))
    database = Database.open(str(root / "data"))
    local = Local(database)
    local(TABLES)
    yield local
    local.session.close()
    close_sound(database)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def oracle(postgres: object) -> Iterator[Ask]:
    """The same of PostgreSQL, with the same tables."""
    dsn = postgres.dsn  # type: ignore[attr-defined]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop schema if exists app cascade")
        connection.execute(TABLES)

        def run(sql: str) -> Rows:
            cursor = psycopg.RawCursor(connection)
            cursor.execute(sql)
            result = cursor.pgresult
            assert result is not None
            rows = range(result.ntuples)
            values = [[result.get_value(r, c) for c in range(result.nfields)] for r in rows]
            return [[None if v is None else v.decode() for v in row] for row in values]

        yield run
        connection.execute("drop schema app cascade")
