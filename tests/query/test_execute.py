"""EXECUTE's arguments: errors in them point into the client's text. Positions are those of PostgreSQL 15."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from filestore import errors
from filestore.database import Database
from filestore.txn.drive import drive
from tests.conftest import close_sound


def run(database: Database, text: str) -> None:
    session = database.session()
    try:
        for statement in session.parse(text):
            list(drive(session.execute(statement), database.lock, session.poll).batches)
            drive(session.finish(), database.lock, session.poll)
    finally:
        session.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database.open(str(tmp_path_factory.mktemp("execute")))
    yield made
    close_sound(made)


@pytest.mark.parametrize(
    ("statement", "sqlstate", "position"),
    [
        ("execute p ('a', 'x', 3)", "22P02", 12),
        ("execute p (nosuch, 'x', 3)", "42703", 12),
        ("execute p ((select 1), 'x', 3)", "0A000", 12),
        ("execute p (count(*), 'x', 3)", "42803", 12),
        ("execute p (1 +, 'x', 3)", "42601", 15),
        ("execute p (1, 'x', 1 + nosuch(4))", "42883", 24),
        ("execute p (now(), 'x', 1)", "42804", 12),
        ("  select 1; execute p (1, 'x', nosuch)", "42703", 32),
        ("execute p (1, '\u00e9' || nosuch, 1)", "42703", 22),
    ],
)
def test_positions(database: Database, statement: str, sqlstate: str, position: int) -> None:
    prepare = "PREPARE p (int4, text, int2) AS SELECT $1, $2, $3;\n"
    with pytest.raises(errors.Error) as raised:
        run(database, prepare + statement)
    assert (raised.value.sqlstate, raised.value.position) == (sqlstate, len(prepare) + position)
