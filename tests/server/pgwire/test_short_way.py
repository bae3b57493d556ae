"""The short way through the port answers the same bytes as the dialogue, and leaves the same rows."""

from __future__ import annotations

import psycopg
import pytest

from filestore.server.pgwire.point import PointAnswers

SCRIPT = [
    "begin",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n / 0 where k = 1",
    "select n from short_way where k = 1",
    "rollback",
    "begin",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n + 99999 where k = 77",
    "insert into short_way values (3, 4, 'x')",
    "insert into short_way values (4, -4, 'it''s')",
    "insert into short_way values (4, -4, 'x')",
    "commit",
    "begin",
    "insert into short_way values (5, 5, null)",
    "insert into short_way values (6, 6, null)",
    "delete from short_way where k = 5",
    "select n, s from short_way where k = 6",
    "select n, s from short_way where k = 7",
    "select n, s from short_way where k = 99999999999",
    "end",
    "select n, s from short_way where k = 6",
    "select n, s from short_way where k = 3",
    "update short_way set n = 2147483647 where k = 3",
    "update short_way set n = n + 1 where k = 3",
    "select * from short_way where k = $1",
]


def told(connection, text, prepare):
    try:
        cursor = connection.execute(text, prepare=prepare)
        rows = cursor.fetchall() if cursor.description else None
        return cursor.statusmessage, rows, connection.info.transaction_status
    except psycopg.Error as error:
        return error.sqlstate, str(error), connection.info.transaction_status


@pytest.mark.parametrize("prepare", [False, True])
def test_short_and_long_way_say_the_same(dsn, monkeypatch, prepare):
    said = []
    for short in (True, False):
        if not short:
            monkeypatch.setattr(PointAnswers, "answer", lambda self, data: None)
            monkeypatch.setattr(PointAnswers, "simple", lambda self, text: None)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("drop table if exists short_way")
            connection.execute("create table short_way (k int4 primary key, n int4, s text)")
            connection.execute("insert into short_way values (1, 1, 'one'), (2, 2, 'two')")
            answers = [[told(connection, text, prepare) for text in SCRIPT] for _ in range(3)]
            answers.append(connection.execute("select * from short_way order by k").fetchall())
        said.append(answers)
    assert said[0] == said[1]
