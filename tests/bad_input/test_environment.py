"""What goes wrong around a store: a directory in use, damaged files, a full disk, clients that break the rules or
vanish.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

import filestore
from filestore.demo.server import Server

ROWS = 40_000


def filled(directory: Path) -> None:
    """A store with one table in sealed segments and one in the log's keeping, closed."""
    with filestore.connect(str(directory)) as connection:
        connection.execute("CREATE TABLE big (id integer PRIMARY KEY, name text)")
        connection.execute(f"INSERT INTO big SELECT i, 'name ' || i FROM generate_series(1, {ROWS}) i")
        connection.execute("CREATE TABLE small (id integer PRIMARY KEY)")
        connection.execute("INSERT INTO small VALUES (1), (2)")
        connection.commit()
    connection.close()


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 0x40
    path.write_bytes(raw)


# --- a directory in use


def test_a_directory_in_use_names_its_holder(server: Server) -> None:
    with pytest.raises(filestore.OperationalError) as caught:
        filestore.connect(str(server.directory))
    assert caught.value.sqlstate == "55006"
    assert str(server.directory) in str(caught.value)
    assert "process" in str(caught.value).lower() or "pid" in str(caught.value).lower()
    second = subprocess.run(
        [sys.executable, "-m", "filestore", "serve", str(server.directory), "--port", "0", "--flight-port", "-1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert str(server.directory) in second.stderr and "Traceback" not in second.stderr, second.stderr


# --- damage


def test_damage_in_a_table_is_named_and_the_rest_stays_readable(data_dir: Path) -> None:
    filled(data_dir)
    segment = max(data_dir.glob("tables/*/*.seg"), key=lambda p: p.stat().st_size)
    flip(segment, segment.stat().st_size // 2)
    with filestore.connect(str(data_dir)) as connection:
        with pytest.raises(filestore.Error) as caught:
            connection.execute("SELECT sum(id), max(name) FROM big").fetchall()
        assert caught.value.sqlstate == "XX001"
        assert segment.name in str(caught.value)
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM small").fetchone() == (2,)
        connection.rollback()
    connection.close()
    command = [sys.executable, "-m", "filestore", "check", str(data_dir)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 1 and segment.name in found.stdout + found.stderr


def test_a_manifest_with_one_bad_copy_opens_and_with_two_is_refused_by_name(data_dir: Path) -> None:
    filled(data_dir)
    flip(data_dir / "manifest", 60)
    with filestore.connect(str(data_dir)) as connection:
        assert connection.execute("SELECT count(*) FROM big").fetchone() == (ROWS,)
    connection.close()
    for copy in (0, 65536):
        flip(data_dir / "manifest", copy + 60)
    with pytest.raises(filestore.Error) as caught:
        filestore.connect(str(data_dir))
    assert caught.value.sqlstate in ("XX001", "58P01")
    assert "manifest" in str(caught.value)


# --- a full disk

_FULL = """
import resource, sys
import filestore
connection = filestore.connect(sys.argv[1])
connection.execute("CREATE TABLE t (id integer PRIMARY KEY, filler text)")
connection.execute("INSERT INTO t VALUES (1, 'first')")
connection.commit()
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    connection.execute("INSERT INTO t SELECT i, repeat(i::text, 200) FROM generate_series(2, 30000) i")
    connection.commit()
except filestore.Error as error:
    print(error.sqlstate)
    connection.rollback()
else:
    print("no error")
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.rollback()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
connection.execute("INSERT INTO t VALUES (2, 'second')")
connection.commit()
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.commit()
connection.close()
"""


def test_a_full_disk_is_a_clean_error_and_the_store_goes_on(data_dir: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _FULL, str(data_dir)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout.split() == ["53100", "1", "2"], run.stdout + run.stderr
    with filestore.connect(str(data_dir)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    connection.close()


_NO_ROOM = """
import resource, signal, sys
import filestore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
connection = filestore.connect(sys.argv[1], autocommit=True)
for statement in ("INSERT INTO t VALUES (2)", "DELETE FROM t", "CREATE TABLE u (i integer)", "CHECKPOINT"):
    try:
        connection.execute(statement)
    except filestore.Error as error:
        print(error.sqlstate)
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.close()
"""


def test_a_directory_without_room_for_its_log_opens_for_reading(data_dir: Path) -> None:
    with filestore.connect(str(data_dir), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    for spare in (data_dir / "wal").glob("spare.*"):
        spare.unlink()
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", _NO_ROOM, str(data_dir)], capture_output=True, text=True, timeout=120, check=False
        )
        assert run.stdout.split() == ["53100"] * 4 + ["1"], run.stdout + run.stderr
    with filestore.connect(str(data_dir), autocommit=True) as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    connection.close()


# --- clients


def raw_session(server: Server) -> socket.socket:
    """A socket behind a start-up, ready for queries."""
    info = psycopg.conninfo.conninfo_to_dict(server.dsn)
    client = socket.create_connection((str(info["host"]), int(str(info["port"]))), timeout=10)
    body = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    answer = b""
    while not answer.endswith(b"Z\0\0\0\x05I"):
        answer += client.recv(65536)
    return client


@pytest.mark.parametrize(
    "garbage",
    [b"\x01\x02\x03\x04\x05\x06", b"Q\x7f\xff\xff\xffSELECT", b"Q\0\0\0\x02", b"B\0\0\0\x06xx", b"\0\0\0\0\0"],
    ids=["unknown", "too-long", "short-length", "cut-bind", "zeros"],
)
def test_a_protocol_violation_is_answered_and_hurts_nobody_else(server: Server, garbage: bytes) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as other:
        client = raw_session(server)
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        client.close()
        assert b"C08P01" in answer, answer
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_a_client_that_vanishes_leaves_no_lock_and_no_row(server: Server) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as other:
        other.execute("DROP TABLE IF EXISTS vanish")
        other.execute("CREATE TABLE vanish (id integer PRIMARY KEY, v integer)")
        other.execute("INSERT INTO vanish VALUES (1, 0)")
        gone = raw_session(server)
        query = b"BEGIN; UPDATE vanish SET v = 1; INSERT INTO vanish VALUES (2, 2)\0"
        gone.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        answer = b""
        while not answer.endswith(b"Z\0\0\0\x05T"):
            answer += gone.recv(65536)
        # Closed with a reset, without a goodbye.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        other.execute("SET lock_timeout = '10s'")
        started = time.monotonic()
        other.execute("UPDATE vanish SET v = v + 10")
        assert time.monotonic() - started < 5
        assert other.execute("SELECT id, v FROM vanish").fetchall() == [(1, 10)]
        other.execute("DROP TABLE vanish")
