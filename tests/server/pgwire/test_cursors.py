"""Cursors as drivers use them: declared with parameters, described as portals, read piece by piece, broken off.

Goal: psycopg's named cursors and libpq's row-limited portals behave as PostgreSQL 15's, and a slow FETCH is nobody
else's trouble. Answers are PostgreSQL 15's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg.types.json import Jsonb

from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from tests.server.pgwire.conftest import Running
from tests.server.pgwire.loopback import Loopback

# Reads 10**10 rows to find none: it ends only by being broken off.
ENDLESS = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a.a + b.b = 0"


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn) as made:
        yield made


@pytest.mark.parametrize("binary", [False, True])
def test_named_cursor_with_parameters(connection: psycopg.Connection, binary: bool) -> None:
    with connection.cursor("some", binary=binary) as cursor:
        cursor.execute("SELECT g, g::text || %s FROM generate_series(1, 1000) g WHERE g > %s", ("x", 10))
        assert cursor.fetchmany(2) == [(11, "11x"), (12, "12x")]
        cursor.scroll(10)
        assert cursor.fetchone() == (23, "23x")
        assert sum(1 for _ in cursor) == 977


def test_scrolling(connection: psycopg.Connection) -> None:
    with connection.cursor("some", scrollable=True) as cursor:
        cursor.execute("SELECT * FROM generate_series(1, 1000) g")
        cursor.scroll(500)
        assert cursor.fetchone() == (501,)
        cursor.scroll(-10)
        assert cursor.fetchone() == (492,)
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    ("move", "works"),
    [
        ("FETCH NEXT", True),
        ("FETCH FORWARD 3", True),
        ("FETCH ABSOLUTE 7", True),
        ("FETCH RELATIVE 2", True),
        ("FETCH FORWARD ALL", True),
        ("FETCH BACKWARD -2", True),
        ("FETCH PRIOR", False),
        ("FETCH BACKWARD ALL", False),
        ("FETCH FORWARD -1", False),
        ("FETCH FIRST", False),
        ("FETCH LAST", False),
        ("FETCH ABSOLUTE 5", False),
        ("FETCH RELATIVE 0", False),
    ],
)
def test_no_scroll_goes_forward_only(connection: psycopg.Connection, move: str, works: bool) -> None:
    connection.execute("DECLARE one_way NO SCROLL CURSOR FOR SELECT * FROM generate_series(1, 10) g")
    connection.execute("FETCH FIRST FROM one_way")
    connection.execute("MOVE 4 IN one_way")
    if works:
        row = 7 if move.endswith(("ABSOLUTE 7", "RELATIVE 2")) else 6
        assert connection.execute(f"{move} FROM one_way").fetchone() == (row,)
    else:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="can only scan forward"):
            connection.execute(f"{move} FROM one_way")


def test_binary_cursor_in_a_simple_query(connection: psycopg.Connection) -> None:
    done = connection.pgconn.exec_(b"BEGIN; DECLARE c BINARY CURSOR FOR SELECT 258; FETCH c")
    assert (done.fformat(0), done.get_value(0, 0)) == (1, b"\0\0\1\2")


def test_explain_takes_parameters(connection: psycopg.Connection) -> None:
    rows = connection.execute("EXPLAIN ANALYZE SELECT * FROM generate_series(1, 9) g WHERE g > %s", (3,)).fetchall()
    assert any("rows=6" in line for (line,) in rows), rows


def test_types_that_are_not_built_are_refused_by_name(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"smallint\[\]"):
        connection.execute("SELECT 1 WHERE 1 = ANY(%s)", ([1, 2],))
    connection.rollback()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="jsonb"):
        connection.execute("SELECT %s", (Jsonb(1),))


def test_a_slow_fetch_stops_nobody_else_and_can_be_cancelled(connection: psycopg.Connection, dsn: str) -> None:
    connection.execute(f"DECLARE slow CURSOR FOR {ENDLESS}")
    threading.Timer(0.3, connection.cancel_safe).start()
    failed: list[psycopg.Error] = []

    def fetch() -> None:
        try:
            connection.execute("FETCH slow")
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    time.sleep(0.1)
    with psycopg.connect(dsn) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)
        assert thread.is_alive()
    thread.join(20)
    assert [error.sqlstate for error in failed] == ["57014"]


def test_statement_timeout_counts_for_each_fetch(connection: psycopg.Connection) -> None:
    connection.execute("SET statement_timeout = '250ms'")
    connection.execute("DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 100000) g")
    connection.execute(f"DECLARE slow CURSOR FOR {ENDLESS}")
    time.sleep(0.4)
    assert connection.execute("FETCH 2 FROM c").fetchall() == [(1,), (2,)]
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        connection.execute("FETCH slow")
    assert time.monotonic() - began < 5


def test_a_cancel_that_comes_too_late_does_not_disturb_a_cursor(connection: psycopg.Connection) -> None:
    connection.execute("DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 100000) g")
    connection.execute("FETCH c")
    connection.cancel_safe()
    time.sleep(0.1)
    assert connection.execute("FETCH c").fetchone() == (2,)


def test_row_limited_portals_have_the_timeout_for_each_execute(port: Running) -> None:
    async def main() -> list[int]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port.port, user="postgres", server_settings={"statement_timeout": "300ms"}
        )
        try:
            async with connection.transaction():
                cursor = await connection.cursor("SELECT * FROM generate_series(1, 100000) g WHERE g > $1", 5)
                first = [row[0] for row in await cursor.fetch(2)]
                await asyncio.sleep(0.4)
                return first + [row[0] for row in await cursor.fetch(2)]
        finally:
            await connection.close()

    assert asyncio.run(main()) == [6, 7, 8, 9]


def test_portals_are_moved_and_fetched_by_sql(port: Running) -> None:
    """PostgreSQL 15's answers; asyncpg's forward() is a MOVE."""

    async def main() -> list[object]:
        connection = await asyncpg.connect(host="127.0.0.1", port=port.port, user="postgres")
        try:
            async with connection.transaction():
                cursor = await connection.cursor("SELECT g, g::text FROM generate_series(1, 200000) g WHERE g > $1", 5)
                told: list[object] = [await cursor.forward(3), (await cursor.fetchrow())[0]]
                name = cursor._portal_name
                told.append(await connection.fetch(f'FETCH 2 FROM "{name}"'))
                told += [(await cursor.fetch(1))[0][0], await connection.execute(f'MOVE FORWARD ALL IN "{name}"')]
                told += [await cursor.forward(1), await cursor.fetchrow()]
                try:
                    await connection.execute(f'MOVE BACKWARD 1 IN "{name}"')
                except asyncpg.ObjectNotInPrerequisiteStateError as error:
                    told.append(error.sqlstate)
            return told
        finally:
            await connection.close()

    expected = [3, 9, [(10, "10"), (11, "11")], 12, "MOVE 199988", 0, None, "55000"]
    assert asyncio.run(main()) == expected


def test_asyncpg_pool_hands_connections_on(port: Running) -> None:
    async def main() -> int:
        async with asyncpg.create_pool(
            host="127.0.0.1", port=port.port, user="postgres", min_size=1, max_size=2
        ) as pool:
            return sum(await asyncio.gather(*[pool.fetchval("SELECT $1::int", i) for i in range(20)]))

    assert asyncio.run(main()) == 190


def test_names_of_tables_as_parameters(connection: psycopg.Connection) -> None:
    connection.execute('CREATE SCHEMA "odd one"')
    connection.execute('CREATE TABLE "odd one"."Table" (a int)')
    sql = "SELECT %s::regclass, %s::regclass::oid, %s::regtype"
    row = connection.execute(sql, ('"odd one" . "Table"', "pg_class", "int4")).fetchone()
    assert row == ('"odd one"."Table"', 1259, "integer")
    with pytest.raises(psycopg.errors.UndefinedTable, match='relation "odd one" does not exist'):
        connection.execute("SELECT %s::regclass", ('"odd one"',))


# More than a scan makes at once, too few for threads that make them ahead.
MANY = 90_000


def many_rows(connection: psycopg.Connection, name: str) -> None:
    connection.execute(f"CREATE TABLE {name} (a int PRIMARY KEY, b int)")
    connection.execute(f"INSERT INTO {name} SELECT g, 0 FROM generate_series(1, {MANY}) g")
    connection.commit()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    "change", ["UPDATE {} SET b = b + 1", "DELETE FROM {} WHERE a > 5", "UPDATE {} SET b = 1 WHERE a = 80001"]
)
def test_a_portal_goes_on_showing_what_it_saw(
    connection: psycopg.Connection, port: Running, own: bool, change: str
) -> None:
    """PostgreSQL 15's answers: what its transaction changes later is nothing to a portal or cursor that is open."""
    name = f"seen_{own}_{change[:6]}_{len(change)}"
    many_rows(connection, name)

    async def main() -> tuple[int, int]:
        reader = await asyncpg.connect(host="127.0.0.1", port=port.port, user="postgres")
        try:
            async with reader.transaction():
                if own:
                    await reader.execute(f"UPDATE {name} SET b = 7 WHERE a % 10 = 1")
                cursor = await reader.cursor(f"SELECT a, b FROM {name} WHERE a > 0")
                rows = await cursor.fetch(3)
                await reader.execute(change.format(name))
                rows += await cursor.fetch(MANY)
                return len(rows), sum(row[1] for row in rows)
        finally:
            await reader.close()

    assert asyncio.run(main()) == (MANY, 7 * own * MANY // 10)


@pytest.mark.parametrize("own", [False, True])
def test_a_cursor_goes_on_showing_what_it_saw(connection: psycopg.Connection, own: bool) -> None:
    name = f"kept_{own}"
    many_rows(connection, name)
    if own:
        connection.execute(f"UPDATE {name} SET b = 7 WHERE a % 10 = 1")
    with connection.cursor("some", scrollable=True) as cursor:
        cursor.execute(f"SELECT a, b FROM {name}")
        rows = cursor.fetchmany(3)
        connection.execute(f"DELETE FROM {name} WHERE a > 5")
        rows += cursor.fetchall()
        assert (len(rows), sum(row[1] for row in rows)) == (MANY, 7 * own * MANY // 10)
        cursor.scroll(0, mode="absolute")
        assert len(cursor.fetchall()) == MANY
    assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (5,)


def test_an_error_in_rows_that_nobody_asks_for_is_nobodys(connection: psycopg.Connection) -> None:
    """What a cursor has still to show is made before a write, its errors wait until the row is asked for."""
    many_rows(connection, "divided")
    connection.execute("UPDATE divided SET b = 7 WHERE a = 1")
    connection.execute("DECLARE c CURSOR FOR SELECT 1 / (80000 - a) FROM divided")
    assert connection.execute("FETCH 2 FROM c").fetchall() == [(0,), (0,)]
    assert connection.execute("UPDATE divided SET b = 8 WHERE a = 2").rowcount == 1
    assert connection.execute("FETCH 2 FROM c").fetchall() == [(0,), (0,)]
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("FETCH ALL FROM c")


def test_making_what_a_cursor_has_still_to_show_can_be_cancelled(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE endless (a int)")
    connection.execute("INSERT INTO endless VALUES (1)")
    connection.execute(f"DECLARE slow CURSOR FOR {ENDLESS}")
    threading.Timer(0.3, connection.cancel_safe).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("UPDATE endless SET a = 2")


def test_a_portal_of_a_pipeline_goes_on_showing_what_it_saw(connection: psycopg.Connection, loopback: Loopback) -> None:
    """The same in an implicit transaction, which lasts until Sync."""
    many_rows(connection, "piped")

    def run(text: str, portal: str = "", limit: int = 0) -> list[m.Message]:
        return [m.Parse("", text, ()), m.Bind(portal, "", (), (), ()), m.Execute(portal, limit)]

    loopback.send(*run("UPDATE piped SET b = 7 WHERE a % 10 = 1"), *run("SELECT a, b FROM piped", "p", 3), m.Flush())
    loopback.send(*run("UPDATE piped SET b = 8"), m.Flush())
    rest = loopback.send(m.Execute("p", 0), m.Sync())
    rows = [reply.values for reply in rest if isinstance(reply, r.DataRow)]
    assert len(rows) == MANY - 3
    assert {b for _, b in rows} == {b"0", b"7"}


def test_a_portal_shows_what_was_there_when_it_was_bound(connection: psycopg.Connection, loopback: Loopback) -> None:
    """PostgreSQL takes a portal's snapshot at Bind, whenever its first row is asked for."""
    connection.execute("CREATE TABLE bound (a int PRIMARY KEY, b int)")
    connection.execute("INSERT INTO bound SELECT g, 0 FROM generate_series(1, 3) g")
    connection.commit()
    for text, rows in (("SELECT b FROM bound", 3), ("SELECT b FROM bound WHERE a = 2", 1)):
        loopback.send(m.Parse("", text, ()), m.Bind("p", "", (), (), ()), m.Flush())
        connection.execute("UPDATE bound SET b = b + 1")
        connection.commit()
        replies = loopback.send(m.Execute("p", 0), m.Execute("p", 0), m.Sync())
        assert [reply.values for reply in replies if isinstance(reply, r.DataRow)] == [(b"0",)] * rows
        connection.execute("UPDATE bound SET b = 0")
        connection.commit()


def test_what_cannot_be_run_fails_when_its_portal_is_bound(loopback: Loopback) -> None:
    loopback.send(m.Query("CREATE TABLE unbound (a int)"))
    loopback.send(m.Parse("s", "SELECT a FROM unbound", ()), m.Sync())
    loopback.send(m.Query("DROP TABLE unbound"))
    replies = loopback.send(m.Bind("p", "s", (), (), ()), m.Execute("p", 0), m.Sync())
    assert [type(reply).__name__ for reply in replies] == ["ErrorResponse", "ReadyForQuery"]


def test_a_held_cursor_outlives_its_transaction(connection: psycopg.Connection) -> None:
    """Its rows are its own by then, whatever becomes of the table."""
    connection.execute("CREATE TABLE outlived (a int PRIMARY KEY, b text)")
    connection.execute(f"INSERT INTO outlived SELECT g, 'text number ' || g FROM generate_series(1, {MANY}) g")
    connection.commit()
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT a, b FROM outlived WHERE a > %s ORDER BY a", (10,))
        assert cursor.fetchone() == (11, "text number 11")
        connection.commit()
        connection.execute("DROP TABLE outlived")
        connection.commit()
        rows = cursor.fetchall()
    assert len(rows) == MANY - 11
    assert all(b == f"text number {a}" for a, b in rows)


def test_making_a_held_cursors_rows_can_be_cancelled(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE not_committed (a int)")
    connection.execute(f"DECLARE slow CURSOR WITH HOLD FOR {ENDLESS}")
    threading.Timer(0.3, connection.cancel_safe).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.commit()
    assert connection.execute("SELECT to_regclass('not_committed')").fetchone() == (None,)


def test_a_commit_that_fails_at_sync_is_answered(loopback: Loopback) -> None:
    text = "DECLARE wrong CURSOR WITH HOLD FOR SELECT 1 / (g - 3) FROM generate_series(1, 5) g"
    replies = loopback.send(m.Parse("", text, ()), m.Bind("", "", (), (), ()), m.Execute("", 0), m.Sync())
    assert [type(reply).__name__ for reply in replies[-2:]] == ["ErrorResponse", "ReadyForQuery"]
    assert loopback.send(m.Query("SELECT 1"))
