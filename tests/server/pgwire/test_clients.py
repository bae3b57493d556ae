"""Real clients against the port: psql 15, psycopg 3, asyncpg, pgbench, libpq in all its moods.

Goal: what drivers send is answered as they expect. The clients themselves are the oracle.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import subprocess
import threading
import uuid
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg import pq
from psycopg.types import TypeInfo

from tests.server.pgwire.conftest import Running


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as made:
        yield made


def psql(port: Running, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["psql", "-X", "-h", "127.0.0.1", "-p", str(port.port), "-U", "postgres", "-d", "postgres", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


# --- psql ------------------------------------------------------------------------------------------------------------


def test_psql_shows_rows_and_the_place_of_an_error(port: Running) -> None:
    done = psql(port, "-c", "select 1 as a, null as b, 'x y' as c")
    assert done.stdout == " a | b |  c  \n---+---+-----\n 1 |   | x y\n(1 row)\n\n"
    done = psql(port, "-c", "select nope")
    assert done.stderr == 'ERROR:  column "nope" does not exist\nLINE 1: select nope\n               ^\n'
    assert done.returncode == 1


def test_psql_script_with_copy(port: Running) -> None:
    script = (
        "create table psql_copy (a int, b text);\n"
        "copy psql_copy from stdin;\n1\tone\n2\t\\N\n\\.\n"
        "begin; insert into psql_copy values (3, 'three'); commit;\n"
        "\\copy psql_copy to stdout csv\n"
        "select count(*) from psql_copy \\gdesc\n"
        "drop table psql_copy;\n"
    )
    done = psql(port, "-q", "-v", "ON_ERROR_STOP=1", stdin=script)
    assert done.stderr == ""
    assert "1,one\n2,\n3,three\n" in done.stdout
    assert "count  | bigint" in done.stdout


# --- psycopg ---------------------------------------------------------------------------------------------------------

VALUES = [
    ("int2", 7),
    ("int4", -70_000),
    ("int8", 2**40),
    ("float8", 1.5),
    ("bool", True),
    ("text", "schön\n'quoted'"),
    ("bytea", b"\x00\x01\xff"),
    ("numeric", decimal.Decimal("-123456789.000012")),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(1, 2, 3, 4)),
    ("timestamp", dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
    ("timestamptz", dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC)),
    ("interval", dt.timedelta(days=3, seconds=4, microseconds=5)),
    ("uuid", uuid.UUID("5013ae8b-cc4e-4660-a6cc-1d5114474990")),
]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("name", "value"), VALUES, ids=[n for n, _ in VALUES])
def test_values_there_and_back(connection: psycopg.Connection, name: str, value: object, binary: bool) -> None:
    for placeholder in ("%s", "%b", "%t"):
        if placeholder == "%b" and name == "interval":
            continue  # psycopg dumps it in text only
        row = connection.execute(f"select {placeholder}::{name}, null::{name}", (value,), binary=binary).fetchone()
        assert row == (value, None)


def test_prepared_after_five_uses(connection: psycopg.Connection) -> None:
    for i in range(12):
        assert connection.execute("select %s + 1", (i,), prepare=i > 5).fetchone() == (i + 1,)
    connection.execute("deallocate all")
    connection.prepare_threshold = 1
    for i in range(3):
        assert connection.execute("select %s::int8 * 2", (i,)).fetchone() == (i * 2,)


def test_pipeline_with_an_error_in_the_middle(connection: psycopg.Connection) -> None:
    connection.execute("create table pipeline (a int primary key)")
    with pytest.raises(psycopg.errors.UniqueViolation), connection.pipeline() as pipeline:  # noqa: PT012
        connection.execute("insert into pipeline values (1)")
        pipeline.sync()
        connection.execute("insert into pipeline values (2)")
        connection.execute("insert into pipeline values (1)")
        connection.execute("insert into pipeline values (3)")
    assert connection.execute("select a from pipeline").fetchall() == [(1,)]
    with connection.pipeline():
        cursors = [connection.execute("insert into pipeline values (%s) returning a", (i,)) for i in range(10, 60)]
        assert [c.fetchone() for c in cursors] == [(i,) for i in range(10, 60)]
    connection.execute("drop table pipeline")


def test_executemany_returning(connection: psycopg.Connection) -> None:
    connection.execute("create table many (a int, b text)")
    cursor = connection.cursor()
    cursor.executemany("insert into many values (%s, %s) returning a", [(i, str(i)) for i in range(50)], returning=True)
    found = []
    while True:
        found += cursor.fetchall()
        if not cursor.nextset():
            break
    assert found == [(i,) for i in range(50)]
    connection.execute("drop table many")


@pytest.mark.parametrize("form", ["", "(format binary)", "(format csv)"])
def test_copy_out_and_in(connection: psycopg.Connection, form: str) -> None:
    connection.execute("create table copied (a int, b text, c float8)")
    rows = [(i, None if i % 7 == 0 else f'line\n{i}\t"q"', i / 4) for i in range(5000)]
    with connection.cursor().copy("copy copied from stdin") as copy:
        for row in rows:
            copy.write_row(row)
    assert connection.execute("select count(*), count(b), sum(c) from copied").fetchone() == (
        5000, 5000 - 715, sum(r[2] for r in rows),
    )  # fmt: skip
    with connection.cursor().copy(f"copy (select * from copied order by a) to stdout {form}") as copy:
        data = list(copy)
    assert len(data) == len(rows) + (form == "(format binary)")
    connection.execute("create table copied_again (a int, b text, c float8)")
    with connection.cursor().copy(f"copy copied_again from stdin {form}") as copy:
        for piece in data:
            copy.write(piece)
    assert connection.execute("select * from copied_again order by a").fetchall() == rows
    connection.execute("drop table copied")
    connection.execute("drop table copied_again")


def test_copy_rows_one_by_one_in_binary(connection: psycopg.Connection) -> None:
    with connection.cursor().copy("copy (select 1::int4, 'x'::text) to stdout (format binary)") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(1, "x")]
    with connection.cursor().copy("copy (select 1::int4 where false) to stdout (format binary)") as copy:
        copy.set_types(["int4"])
        assert list(copy.rows()) == []


def test_copy_that_fails_leaves_nothing_and_the_connection_whole(connection: psycopg.Connection) -> None:
    connection.execute("create table copy_fails (a int)")
    with (  # noqa: PT012 - the with statement is what raises
        pytest.raises(psycopg.errors.QueryCanceled),
        connection.cursor().copy("copy copy_fails from stdin") as copy,
    ):
        copy.write(b"1\n")
        raise psycopg.errors.QueryCanceled("no more")
    with (  # noqa: PT012
        pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught,
        connection.cursor().copy("copy copy_fails from stdin") as copy,
    ):
        for i in range(100_000):
            copy.write(b"x\n" if i == 50_000 else b"1\n")
    assert "line 50001" in (caught.value.diag.context or "")
    assert connection.execute("select count(*) from copy_fails").fetchone() == (0,)
    connection.execute("drop table copy_fails")


def test_fields_of_errors(connection: psycopg.Connection) -> None:
    connection.execute("create table fields (a int primary key, b int not null check (b > 0))")
    connection.execute("insert into fields values (1, 1)")
    for statement, sqlstate, fields in [
        ("insert into fields values (1, 1)", "23505", {"constraint_name": "fields_pkey", "table_name": "fields"}),
        ("insert into fields values (2, null)", "23502", {"column_name": "b", "schema_name": "public"}),
        ("insert into fields values (2, 0)", "23514", {"constraint_name": "fields_b_check"}),
        ("select * from absent", "42P01", {"statement_position": "15"}),
    ]:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement)
        assert caught.value.sqlstate == sqlstate
        assert caught.value.diag.severity == "ERROR"
        for name, value in fields.items():
            assert getattr(caught.value.diag, name) == value
    connection.execute("drop table fields")


def test_a_large_result_and_a_server_side_cursor(connection: psycopg.Connection) -> None:
    rows = connection.execute("select i, 'row ' || i from generate_series(1, 200000) i").fetchall()
    assert len(rows) == 200_000
    assert rows[-1] == (200_000, "row 200000")


def test_single_row_mode_of_libpq(connection: psycopg.Connection) -> None:
    cursor = connection.cursor()
    assert sum(row[0] for row in cursor.stream("select i from generate_series(1, 1000) i")) == 500_500


def test_notices_and_parameter_status(connection: psycopg.Connection) -> None:
    seen: list[str | None] = []
    connection.add_notice_handler(lambda diag: seen.append(diag.message_primary))
    connection.execute("drop table if exists never_there")
    assert seen == ['table "never_there" does not exist, skipping']
    assert connection.info.parameter_status("TimeZone") == "UTC"
    connection.execute("set timezone to 'Asia/Tokyo'")
    assert connection.info.parameter_status("TimeZone") == "Asia/Tokyo"
    assert connection.info.server_version == 150_018


def test_transaction_status(connection: psycopg.Connection) -> None:
    def status() -> pq.TransactionStatus:
        return connection.info.transaction_status

    assert status() is pq.TransactionStatus.IDLE
    connection.execute("begin")
    assert status() is pq.TransactionStatus.INTRANS
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1/0")
    assert status() is pq.TransactionStatus.INERROR
    connection.execute("rollback")
    assert status() is pq.TransactionStatus.IDLE


def test_startup_parameters(dsn: str) -> None:
    with psycopg.connect(dsn, options="-c search_path=a -c TimeZone=Asia/Tokyo", application_name="me") as made:
        assert made.execute("show search_path").fetchone() == ("a",)
        assert made.execute("show timezone").fetchone() == ("Asia/Tokyo",)
        assert made.execute("show application_name").fetchone() == ("me",)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("dbname=absent", 'database "absent" does not exist'),
        ("user=nobody", 'role "nobody" does not exist'),
        ("client_encoding=LATIN1", 'client_encoding "LATIN1" is not supported'),
        ("options='-c nonsense=1'", 'unrecognized configuration parameter "nonsense"'),
    ],
)
def test_refused_at_the_door(dsn: str, parameters: str, text: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=text):
        psycopg.connect(f"{dsn} {parameters}")


# --- asyncpg ---------------------------------------------------------------------------------------------------------


def test_asyncpg(port: Running) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=port.port, user="postgres", database="postgres")
        await connection.execute("create table apg (a int primary key, b text, c timestamptz)")
        moment = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
        await connection.executemany(
            "insert into apg values ($1, $2, $3)", [(i, None if i % 3 else str(i), moment) for i in range(100)]
        )
        assert await connection.fetchval("select count(*) from apg") == 100
        row = await connection.fetchrow("select * from apg where a = $1", 3)
        assert tuple(row) == (3, "3", moment)
        assert await connection.fetchrow("select * from apg where a = $1", 1000) is None
        async with connection.transaction():
            seen = [r["a"] async for r in connection.cursor("select a from apg order by a", prefetch=7)]
        assert seen == list(range(100))
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("insert into apg values (1)")
        prepared = await connection.prepare("select b from apg where a = $1")
        assert [await prepared.fetchval(i) for i in (0, 1, 3)] == ["0", None, "3"]
        copied = await connection.copy_records_to_table("apg", records=[(1000, "x", moment)])
        assert copied == "COPY 1"
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute(
                "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b", timeout=0.2
            )
        assert await connection.fetchval("select 1") == 1
        await connection.execute("drop table apg")
        await connection.close()

    asyncio.run(run())


# --- pgbench ---------------------------------------------------------------------------------------------------------


def pgbench(port: Running, *arguments: str) -> str:
    command = ["pgbench", "-h", "127.0.0.1", "-p", str(port.port), "-U", "postgres", *arguments, "postgres"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_pgbench_in_all_modes(port: Running, connection: psycopg.Connection) -> None:
    pgbench(port, "-i", "-q")
    for mode in ("simple", "extended", "prepared"):
        for script in ("select-only", "tpcb-like"):
            told = pgbench(port, "-n", "-M", mode, "-b", script, "-c", "4", "-t", "20")
            assert "number of transactions actually processed: 80/80" in told
            assert "number of failed transactions: 0" in told
    sums = connection.execute(
        "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),"
        " (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)"
    ).fetchone()
    assert sums is not None
    assert len(set(sums)) == 1
    assert connection.execute("select count(*) from pgbench_history").fetchone() == (240,)


def test_pgbench_pipeline(port: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("pgbench") / "pipeline.sql"
    script.write_text("\\startpipeline\nselect 1;\nselect 2;\n\\endpipeline\n")
    told = pgbench(port, "-n", "-M", "extended", "-f", str(script), "-t", "10")
    assert "number of transactions actually processed: 10/10" in told


# --- savepoints: drivers set them around what only reads --------------------------------------------------------------


def test_psycopg_looks_a_type_up_inside_a_transaction(dsn: str) -> None:
    """SQLAlchemy does so with every first connection."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
        assert TypeInfo.fetch(connection, "hstore") is None
        found = TypeInfo.fetch(connection, "text")
        assert found is not None
        assert (found.oid, found.array_oid) == (25, 1009)
        connection.execute("CREATE TABLE behind_type_info (a int)")


def test_an_inner_transaction_leads_back_from_its_error(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE outside (a int)")
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / 0")
        refused = pytest.raises(psycopg.errors.FeatureNotSupported, match="changes after SAVEPOINT")
        with refused, connection.transaction():
            connection.execute("INSERT INTO outside VALUES (%s)", (1,))
        connection.execute("INSERT INTO outside VALUES (2)")
        connection.commit()
        assert connection.execute("SELECT a FROM outside").fetchall() == [(2,)]


def test_psql_goes_on_behind_an_error(port: Running) -> None:
    script = "\\set ON_ERROR_ROLLBACK on\nbegin;\nselect 1/0;\nselect 'still here';\ncommit;\n"
    done = psql(port, "-qAt", stdin=script)
    assert done.stdout == "still here\n"
    assert done.stderr == "ERROR:  division by zero\n"


def test_a_deadlock_ends_the_whole_transaction(dsn: str) -> None:
    """Its locks are what the other waits for; behind a savepoint, too."""
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        one.execute("CREATE TABLE left_lock (a int)")
        one.execute("CREATE TABLE right_lock (a int)")
        one.commit()
        one.execute("LOCK TABLE left_lock")
        other.execute("LOCK TABLE right_lock")
        other.execute("SAVEPOINT s")
        waiting = threading.Thread(target=one.execute, args=("LOCK TABLE right_lock",))
        waiting.start()
        with psycopg.connect(dsn, autocommit=True) as watch:
            while watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                pass
        with pytest.raises(psycopg.errors.DeadlockDetected):
            other.execute("LOCK TABLE left_lock")
        waiting.join(30)
        assert not waiting.is_alive()
        with pytest.raises(psycopg.errors.InvalidSavepointSpecification):
            other.execute("ROLLBACK TO s")
        other.rollback()
        one.rollback()
