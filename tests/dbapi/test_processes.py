"""The embedded driver among signals, forks, collectors and paths that are no directories: real processes.

Goal: whatever interrupts a program, the store stays sound and what was acknowledged is there. Method: scripts in
processes of their own, which are signalled or fork, and the store is looked at afterwards; where a process is not
needed, the moment that matters is made by hand.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import filestore

SIGNALS = 200
SLOW = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a.a + b.b < 0"


def script(text: str, *arguments: object, code: int = 0) -> str:
    """Standard output of a Python script; its exit code is asserted."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# --- signals

_COMMITS = """
import os, signal, sys
import filestore

got = 0
def handler(number, frame):
    global got
    got += 1
    if got <= int(sys.argv[2]):
        raise KeyboardInterrupt

connection = filestore.connect(sys.argv[1])
connection.execute("CREATE TABLE t (a integer PRIMARY KEY, b text)")
connection.commit()
at = 0

def commits():
    global at
    while got < int(sys.argv[2]):
        at += 1
        connection.execute("INSERT INTO t VALUES (?, ?)", (at, "a text of more than a few characters"))
        connection.execute("UPDATE t SET b = 'changed' WHERE a = ?", (at - at % 7,))
        connection.execute("SELECT b, count(*) FROM t GROUP BY b").fetchall()
        connection.commit()
        os.write(1, b"%d\\n" % at)

def interrupted():
    while got < int(sys.argv[2]):
        try:
            connection.rollback()
            commits()
        except KeyboardInterrupt:
            pass

signal.signal(signal.SIGINT, handler)
print("begin", flush=True)
while got < int(sys.argv[2]):  # where one comes between two lines of `interrupted`
    try:
        interrupted()
    except KeyboardInterrupt:
        pass
signal.signal(signal.SIGINT, signal.SIG_IGN)
connection.rollback()
assert connection.session.database.engine.check() == []
connection.close()
print("end", flush=True)
"""


def test_interrupts_at_any_moment_lose_nothing(data_dir: Path, seed: int) -> None:
    moments = random.Random(seed)
    command = [sys.executable, "-c", _COMMITS, str(data_dir), str(SIGNALS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    reader.start()
    try:
        while not said or said[-1] != "end\n":
            assert reader.is_alive() or "end\n" in said, (process.stderr or sys.stdin).read()
            time.sleep(moments.uniform(0, 0.01))
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
        reader.join()
    with filestore.connect(data_dir) as connection:
        kept = {row[0] for row in connection.execute("SELECT a FROM t").fetchall()}
        assert {int(line) for line in said[:-1]} <= kept
        assert connection.session.database.engine.check() == []


def test_an_interrupt_ends_the_statement_and_the_connection_goes_on(connection: filestore.Connection) -> None:
    connection.execute("CREATE TABLE t (a integer)")
    connection.commit()
    connection.execute("INSERT INTO t VALUES (1)")
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        connection.execute(SLOW).fetchone()
    timer.join()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(filestore.InternalError) as caught:
        connection.execute("SELECT 1")
    assert caught.value.sqlstate == "25P02"
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_an_interrupt_of_a_wait_for_another_transaction(connection: filestore.Connection, data_dir: Path) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    connection.execute("DELETE FROM t")
    with filestore.connect(data_dir) as other:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            other.execute("INSERT INTO t VALUES (1)")
        timer.join()
        other.rollback()
        connection.rollback()
        assert other.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_handler_that_raises_nothing_disturbs_nothing(connection: filestore.Connection) -> None:
    seen: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        count = connection.execute("SELECT count(*) FROM generate_series(1, 3000000) s(i) WHERE i % 3 = 0").fetchone()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count == (1_000_000,)
    assert seen, "handlers are called while the driver is at work"


# --- the collector


def collected(dropped: list[filestore.Connection]) -> None:
    dropped.clear()
    gc.collect()


def test_what_is_dropped_within_the_engine_is_closed_by_another_thread(
    connection: filestore.Connection, data_dir: Path
) -> None:
    connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
    connection.commit()
    database = connection.session.database
    dropped: list[filestore.Connection] = [filestore.connect(data_dir)]
    dropped[0].execute("INSERT INTO t VALUES (1)")
    dropped[0].execute("SELECT * FROM generate_series(1, 1000000)")  # rows that are still to be made
    with connection.work(), database.lock:
        # A collection in the midst of a change to the engine: were it to close anything, it would be within this lock.
        open_before = set(database.engine.manager.active)
        with pytest.warns(ResourceWarning):
            collected(dropped)
        assert set(database.engine.manager.active) == open_before
    # whoever waits for the dropped one's row gets it
    assert connection.execute("INSERT INTO t VALUES (1)").rowcount == 1
    connection.commit()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_dropped_connection_gives_the_directory_back(data_dir: Path) -> None:
    connection: filestore.Connection | None = filestore.connect(data_dir)
    assert connection is not None
    connection.execute("CREATE TABLE t (a integer)")
    del connection
    gc.collect()
    assert script("import filestore, sys; filestore.connect(sys.argv[1]).close(); print('in')", data_dir) == "in\n"


# --- forks

_FORK = """
import os, sys
import filestore

path = sys.argv[1]
connection = filestore.connect(path)
connection.execute("CREATE TABLE t (a integer)")
connection.execute("INSERT INTO t SELECT * FROM generate_series(1, 200000)")
connection.commit()
connection.execute("INSERT INTO t VALUES (0)")
cursor = connection.execute("SELECT a FROM t")

def told(what):
    try:
        print(what())
    except filestore.Error as error:
        print(type(error).__name__, error.sqlstate)

def other():
    with filestore.connect(path + "2") as mine:
        mine.execute("CREATE TABLE q (a integer)")
        mine.execute("INSERT INTO q SELECT * FROM generate_series(1, 200000)")
        return mine.execute("SELECT sum(a) FROM q").fetchone()[0]

ready, child_waits = os.pipe(), os.pipe()
child = os.fork()
if not child:
    told(lambda: connection.execute("SELECT 1").fetchone())
    told(connection.commit)
    told(connection.rollback)
    told(cursor.fetchone)
    told(cursor.close)
    told(connection.close)
    told(lambda: filestore.connect(path))
    told(other)
    sys.stdout.flush()
    os.write(ready[1], b".")
    os.read(child_waits[0], 1)  # alive while the parent closes and opens again
    told(lambda: filestore.connect(path))
    sys.exit(0)  # with the parent's connection in its memory
os.read(ready[0], 1)
connection.commit()
connection.close()
with filestore.connect(path) as again:
    print(again.execute("SELECT count(*) FROM t").fetchone()[0], again.session.database.engine.check(), flush=True)
    os.write(child_waits[1], b".")
    print(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_has_nothing_of_its_parent_s(data_dir: Path) -> None:
    refused = "InterfaceError 08003\n"
    said = script(_FORK, data_dir)
    expected = refused * 4 + "None\nNone\n" + "OperationalError 55006\n20000100000\n" + "200001 []\n"
    assert said == expected + "OperationalError 55006\n0\n"
    with filestore.connect(data_dir) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (200_001,)


# --- paths and arguments


def test_paths_that_are_no_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, said in (
        (tmp_path / "file", "not a directory"),
        (tmp_path / "file" / "below", "Not a directory"),
        (tmp_path / "no" / "parent", "No such file or directory"),
        (tmp_path / "loop", "not a directory"),
        (tmp_path / ("n" * 300), "too long"),
        ("/proc/1/nowhere", "cannot use"),
    ):
        with pytest.raises(filestore.OperationalError, match=said) as caught:
            filestore.connect(path)
        assert caught.value.sqlstate == "58030"
    for wrong in ("", b"bytes", None, 5, "a\0b"):
        with pytest.raises(filestore.InterfaceError, match="path of a directory"):
            filestore.connect(wrong)  # type: ignore[arg-type]
    for seconds in (-1, float("nan"), "1"):
        with pytest.raises(filestore.InterfaceError, match="number of seconds"):
            filestore.connect(tmp_path / "data", timeout=seconds)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"], "nothing was made"
    with filestore.connect(tmp_path / "data", timeout=1e300) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


_FULL = """
import resource, signal, sys
import filestore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
try:
    filestore.connect(sys.argv[1])
except filestore.OperationalError as error:
    print(error.sqlstate)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with filestore.connect(sys.argv[1]) as connection:
    print(connection.execute("SELECT 1").fetchone()[0])
"""


def test_a_disk_that_is_full_before_there_is_a_store(data_dir: Path) -> None:
    assert script(_FULL, data_dir).split() == ["53100", "1"]


# --- rows that are made by the caller


def broken_rows(good: int) -> Iterator[tuple[int]]:
    for number in range(good):
        yield (number,)
    raise ZeroDivisionError


def test_rows_that_break_off_keep_nothing(data_dir: Path) -> None:
    with filestore.connect(data_dir, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
        with pytest.raises(ZeroDivisionError):
            connection.executemany("INSERT INTO t VALUES (?)", broken_rows(20_000))
        with pytest.raises(filestore.InterfaceError):
            connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(9000)] + [(1, 2)])
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert connection.executemany("INSERT INTO t VALUES (?)", ((i,) for i in range(9000))).rowcount == 9000
        more = connection.execute("SELECT a + 9000 FROM t")
        assert connection.executemany("INSERT INTO t VALUES (?)", more).rowcount == 9000
        assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (18_000, sum(range(18_000)))
