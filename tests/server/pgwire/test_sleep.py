"""pg_sleep: others are answered meanwhile, and it ends with a cancel or a time-out."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

LONG = 600


def test_others_are_answered_while_one_sleeps(server: Any) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as sleeper, psycopg.connect(server.dsn, autocommit=True) as other:
        pid = sleeper.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None
        ended: list[BaseException] = []

        def sleep() -> None:
            try:
                sleeper.execute(f"SELECT pg_sleep({LONG})")
            except psycopg.Error as error:
                ended.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        asleep = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep({LONG})'"
        while other.execute(asleep).fetchone() != (1,):
            time.sleep(0.01)
        assert other.execute("SELECT pg_cancel_backend(%s)", pid).fetchone() == (True,)
        thread.join(60)
        assert [type(e) for e in ended] == [psycopg.errors.QueryCanceled]


@pytest.mark.parametrize("prepare", [False, True])
def test_a_timeout_ends_it(server: Any, prepare: bool) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 50")
        sleep = f"pg_sleep({LONG})"
        for statement in (f"SELECT {sleep}", f"VALUES ({sleep})", f"SELECT 1 WHERE {sleep} IS NULL"):
            with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
                connection.execute(statement, prepare=prepare)
        connection.execute("SET statement_timeout = 0")
        began = time.monotonic()
        rows = connection.execute("SELECT i, pg_sleep(0.02) FROM generate_series(1, 5) i", prepare=prepare).fetchall()
        assert rows == [(i, "") for i in range(1, 6)]
        assert time.monotonic() - began >= 0.1
        rows = connection.execute("SELECT pg_sleep(NULL), pg_sleep(-1), pg_sleep('nan'), pg_sleep(0)").fetchall()
        assert rows == [(None, "", "", "")]


def test_not_where_everybody_would_wait(server: Any) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE sleeping (a int CHECK (pg_sleep(a) IS NOT NULL))")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("INSERT INTO sleeping VALUES (600)")
