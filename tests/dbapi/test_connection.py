"""Transactions, threads, streams and processes of the embedded driver."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import filestore
from filestore.storage.vector import Batch, Vector
from filestore.types import INT4


def test_a_transaction_begins_with_the_first_statement(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
    assert connection.in_transaction
    connection.commit()
    assert not connection.in_transaction
    connection.execute("INSERT INTO t VALUES (1)")
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_an_error_fails_the_transaction(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
    connection.commit()
    connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(filestore.IntegrityError) as caught:
        connection.execute("INSERT INTO t VALUES (1)")
    error = caught.value
    assert (error.sqlstate, error.table, error.constraint) == ("23505", "t", "t_pkey")
    assert error.detail == "Key (a)=(1) already exists."
    with pytest.raises(filestore.InternalError) as caught_next:
        connection.execute("SELECT 1")
    assert caught_next.value.sqlstate == "25P02"
    with pytest.raises(filestore.InternalError):
        connection.commit()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def insert_and_raise(data_dir: Path) -> None:
    with filestore.connect(data_dir) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        raise ZeroDivisionError


def test_the_block_commits_or_rolls_back_and_closes(data_dir: Path) -> None:
    with filestore.connect(str(data_dir)) as connection:
        connection.execute("CREATE TABLE t (a integer)")
    assert connection.closed
    with pytest.raises(ZeroDivisionError):
        insert_and_raise(data_dir)
    with filestore.connect(data_dir) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_autocommit(connection: filestore.Connection, data_dir: Path) -> None:
    connection.autocommit = True
    connection.execute("CREATE TABLE t (a integer)")
    assert not connection.in_transaction
    connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(10)])
    other = filestore.connect(str(data_dir))
    assert other.execute("SELECT sum(a) FROM t").fetchone() == (45,)
    other.close()
    connection.execute("BEGIN")
    with pytest.raises(filestore.InternalError):
        connection.autocommit = False
    connection.rollback()


def test_executemany(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY, b text DEFAULT 'none', c numeric(8,2) CHECK (c < 100))")
    rows = [(i, None if i % 3 else f"text {i}", Decimal(i % 90) / 4) for i in range(20_000)]
    cursor = connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    assert cursor.rowcount == len(rows)
    assert connection.execute("SELECT * FROM t ORDER BY a").fetchall() == rows
    connection.executemany("INSERT INTO t (a) VALUES (:a)", [{"a": 20_000 + i} for i in range(5)])
    assert connection.execute("SELECT count(*) FROM t WHERE b = 'none'").fetchone() == (5,)
    assert connection.executemany("UPDATE t SET b = ? WHERE a = ?", [("x", 1), ("y", 2), ("z", -1)]).rowcount == 2
    assert connection.executemany("DELETE FROM t WHERE a = ?", []).rowcount == 0
    connection.commit()
    with pytest.raises(filestore.IntegrityError) as caught:
        connection.executemany("INSERT INTO t VALUES (?, '', ?)", [(30_000, 1), (30_001, 100)])
    assert caught.value.sqlstate == "23514"
    connection.rollback()
    mixed = [(40_000, 1), (40_001, Decimal("1.5")), (40_002, 2.25), (40_003, "3.75")]
    connection.executemany("INSERT INTO t (a, c) VALUES (?, ?)", mixed)
    found = connection.execute("SELECT c FROM t WHERE a >= 40000 ORDER BY a").fetchall()
    assert [row[0] for row in found] == [Decimal(1), Decimal("1.5"), Decimal("2.25"), Decimal("3.75")]


def fill(connection: filestore.Connection, rows: int) -> None:
    connection.execute("CREATE TABLE big (id integer PRIMARY KEY, name text, day date)")
    connection.execute(
        "INSERT INTO big SELECT i, 'name number ' || i, DATE '2000-01-01' + i % 1000"
        " FROM generate_series(1, ?) AS s(i)",
        (rows,),
    )
    connection.commit()


def test_rows_come_as_they_are_fetched(connection: filestore.Connection) -> None:
    fill(connection, 150_000)
    cursor = connection.execute("SELECT id, name FROM big")
    first = cursor.fetchmany(3)
    assert len(first) == 3
    # What has not been fetched is gathered before the transaction changes anything.
    connection.execute("DELETE FROM big")
    rest = cursor.fetchall()
    assert sorted(row[0] for row in first + rest) == list(range(1, 150_001))
    assert cursor.rowcount == 150_000
    assert cursor.fetchone() is None


def test_expressions_nested_too_deeply_to_run(connection: filestore.Connection) -> None:
    connection.autocommit = True
    sql = f"SELECT {'+'.join(['g'] * 200)} FROM generate_series(1, 2) g"
    rows = connection.execute(sql).fetchall()  # its plan is kept

    def deeper(frames: int) -> list[tuple[object, ...]]:
        return deeper(frames - 1) if frames else connection.execute(sql).fetchall()

    with pytest.raises(filestore.OperationalError, match="nested too deeply") as caught:
        deeper(sys.getrecursionlimit() - 400)
    assert caught.value.sqlstate == "54001"
    assert connection.execute(sql).fetchall() == rows == [(200,), (400,)]


def test_a_bug_behind_the_first_rows_is_an_internal_error(
    connection: filestore.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Iterator[Batch]:
        yield Batch([Vector(INT4, np.array([1], np.int32))], 1)
        raise KeyError("a bug")

    monkeypatch.setattr("filestore.session.execute", failing)
    cursor = connection.execute("SELECT g FROM generate_series(1, 1000000) g")
    assert cursor.fetchone() == (1,)
    with pytest.raises(filestore.InternalError, match="KeyError: 'a bug'") as caught:
        cursor.fetchone()
    assert caught.value.sqlstate == "XX000"
    monkeypatch.undo()
    with pytest.raises(filestore.InternalError, match="current transaction is aborted"):
        connection.execute("SELECT 1")


def test_arrow_pandas_polars(connection: filestore.Connection) -> None:
    fill(connection, 100_000)
    query = "SELECT id, name, day FROM big ORDER BY id"
    cursor = connection.execute(query)
    head = cursor.fetchone()
    assert head == (1, "name number 1", dt.date(2000, 1, 2))
    table = cursor.arrow()
    assert table.num_rows == 99_999
    assert table.column("id").to_pylist()[:2] == [2, 3]
    assert table.column("name")[99_998].as_py() == "name number 100000"
    reader = connection.execute(query).fetch_record_batch()
    assert sum(batch.num_rows for batch in reader) == 100_000
    frame = connection.execute(query + " LIMIT 5").df()
    assert list(frame["id"]) == [1, 2, 3, 4, 5]
    polars = connection.execute(query + " LIMIT 5").pl()
    assert polars["name"].to_list()[4] == "name number 5"
    empty = connection.execute(query + " LIMIT 0").arrow()
    assert (empty.num_rows, empty.column_names) == (0, ["id", "name", "day"])


def test_a_library_that_is_not_there(connection: filestore.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *rest: object) -> object:
        if name == "polars":
            raise ModuleNotFoundError(name="polars")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    cursor = connection.execute("SELECT 1")
    with pytest.raises(filestore.NotSupportedError, match="polars is not installed"):
        cursor.pl()


def test_description(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer, b numeric(8,2), c varchar(9), d bytea, e timestamptz)")
    assert connection.execute("INSERT INTO t VALUES (1, 2, '3', '4', now())").description is None
    found = connection.execute("SELECT * FROM t").description
    assert found is not None
    assert [column[0] for column in found] == ["a", "b", "c", "d", "e"]
    kinds = [filestore.NUMBER, filestore.NUMBER, filestore.STRING, filestore.BINARY, filestore.DATETIME]
    assert [column[1] for column in found] == kinds
    assert found[0][1] != filestore.STRING
    assert found[1][4:6] == (8, 2)
    assert found[2][3] == 9


def test_returning_and_tags(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
    cursor = connection.execute("INSERT INTO t VALUES (1), (2) RETURNING a * 10 AS x")
    assert (cursor.fetchall(), cursor.rowcount, cursor.statusmessage) == ([(10,), (20,)], 2, "INSERT 0 2")
    cursor = connection.execute("SELECT a FROM t")
    assert (cursor.rowcount, cursor.statusmessage) == (2, "SELECT 2")
    assert connection.execute("UPDATE t SET a = a + 10").rowcount == 2
    cursor = connection.executescript("DELETE FROM t; SELECT count(*) FROM t;")
    assert cursor.fetchone() == (0,)


def test_two_threads_wait_for_each_other(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer)")

    def work(number: int) -> None:
        for i in range(50):
            connection.execute("INSERT INTO t VALUES (?)", (number * 1000 + i,))
            connection.execute("SELECT count(*) FROM t").fetchall()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (200,)


def test_connections_share_the_directory_and_wait_for_locks(data_dir: Path) -> None:
    one = filestore.connect(str(data_dir))
    two = filestore.connect(str(data_dir), timeout=0.2)
    one.execute("CREATE TABLE t (a integer PRIMARY KEY, b integer)")
    one.execute("INSERT INTO t VALUES (1, 0)")
    one.commit()
    one.execute("UPDATE t SET b = b + 1 WHERE a = 1")
    assert two.execute("SELECT b FROM t").fetchone() == (0,)
    began = time.monotonic()
    with pytest.raises(filestore.OperationalError) as caught:
        two.execute("UPDATE t SET b = b + 1 WHERE a = 1")
    assert caught.value.sqlstate == "55P03"
    assert 0.1 < time.monotonic() - began < 5
    two.rollback()
    timer = threading.Timer(0.1, one.commit)
    timer.start()
    patient = filestore.connect(str(data_dir))
    patient.execute("UPDATE t SET b = b + 1 WHERE a = 1")
    patient.commit()
    timer.join()
    assert two.execute("SELECT b FROM t").fetchone() == (2,)
    for connection in (one, two, patient):
        connection.close()


def test_interrupt(connection: filestore.Connection) -> None:
    timer = threading.Timer(0.3, connection.interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(filestore.OperationalError) as caught:
        connection.execute(
            "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a.a + b.b < 0"
        ).fetchone()
    timer.join()
    assert caught.value.sqlstate == "57014"
    assert time.monotonic() - began < 5
    connection.rollback()
    connection.interrupt()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_statement_timeout(data_dir: Path) -> None:
    with filestore.connect(data_dir, settings={"statement_timeout": "100ms"}) as connection:
        with pytest.raises(filestore.OperationalError) as caught:
            connection.execute(
                "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a.a + b.b < 0"
            ).fetchone()
        assert caught.value.sqlstate == "57014"
        connection.rollback()


def test_read_only(data_dir: Path) -> None:
    with filestore.connect(data_dir) as connection:
        connection.execute("CREATE TABLE t (a integer)")
    with filestore.connect(data_dir, read_only=True) as connection:
        with pytest.raises(filestore.InternalError) as caught:
            connection.execute("INSERT INTO t VALUES (1)")
        assert caught.value.sqlstate == "25006"
        connection.rollback()


def test_another_process_is_named(connection: filestore.Connection, data_dir: Path) -> None:
    connection.execute("SELECT 1")
    script = (
        "import filestore, sys\n"
        "try: filestore.connect(sys.argv[1])\n"
        "except filestore.OperationalError as error: print(error.sqlstate, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(data_dir)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("55006 "), done.stderr
    assert str(os.getpid()) in done.stdout


def test_a_program_that_forgets_to_close_ends(data_dir: Path) -> None:
    script = (
        "import filestore, sys\n"
        "c = filestore.connect(sys.argv[1])\n"
        "c.execute('CREATE TABLE t (a integer)'); c.execute('INSERT INTO t VALUES (7)'); c.commit()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(data_dir)], check=True, timeout=60)
    with filestore.connect(data_dir) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(7,)]


def test_wrong_use(connection: filestore.Connection) -> None:
    cursor = connection.cursor()
    with pytest.raises(filestore.InterfaceError):
        cursor.fetchone()
    with pytest.raises(filestore.InterfaceError):
        cursor.execute(b"SELECT 1")  # type: ignore[arg-type]
    cursor.execute("SELECT 1")
    cursor.close()
    with pytest.raises(filestore.InterfaceError):
        cursor.fetchone()
    with pytest.raises(filestore.NotSupportedError):
        filestore.connect(":memory:")
    with pytest.raises(filestore.ProgrammingError) as caught:
        connection.execute("SELECT ?, nonsense FROM generate_series(1, 2)", (1,))
    assert caught.value.position == 11
    connection.rollback()
    connection.execute("CREATE TABLE t (a integer)")
    with pytest.raises(filestore.NotSupportedError, match="need a server"):
        connection.execute("COPY t FROM STDIN")
    connection.rollback()


def test_importing_costs_nothing() -> None:
    script = "import filestore, sys; print(any(m in sys.modules for m in ('numpy', 'numba', 'pyarrow', 'sqlglot')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("level", "sent"), [("notice", 2), ("debug1", 2), ("warning", 1), ("error", 0)])
def test_client_min_messages_says_which_notices_come(connection: filestore.Connection, level: str, sent: int) -> None:
    connection.execute(f"SET client_min_messages = {level}")
    connection.execute("DROP TABLE IF EXISTS absent")
    connection.execute("BEGIN")
    assert [notice.partition(":")[0] for notice in connection.notices] == ["NOTICE", "WARNING"][2 - sent :]
