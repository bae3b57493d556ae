"""The command line as a person uses it: real processes, exit codes, what goes where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pyarrow import flight

from filestore import cli


def run(*arguments: object, text: str | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `filestore ...`; the exit code is asserted."""
    command = [sys.executable, "-m", "filestore", *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_help_and_version() -> None:
    assert "serve" in run("--help").stdout
    assert run("version").stdout.startswith("filestore 0.")
    assert "--flight-port" in run("serve", "--help").stdout
    run("nonsense", code=2)


def test_files_in_and_out(data_dir: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int32()),
            "name": ["Ada", None, 'Em"my, '],
            "paid": pa.array(["1.50", "2.25", "-3.00"]).cast(pa.decimal128(8, 2)),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "more.csv")
    done = run("import", data_dir, tmp_path / "in.parquet", tmp_path / "in.parquet", "--table", "account")
    assert "6 rows into account" in done.stdout
    assert 'CREATE TABLE account (id integer, name text, paid numeric(8,2))' in done.stderr
    run("import", data_dir, tmp_path / "more.csv", "--table", "account")
    run("export", data_dir, "account", tmp_path / "out.parquet")
    out = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert (out.num_rows, out["paid"].type) == (9, pa.decimal128(8, 2))
    run("export", data_dir, "SELECT name, count(*) AS n FROM account GROUP BY name ORDER BY name", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["name,n", "Ada,3"]
    run("check", data_dir)

    (tmp_path / "broken.csv").write_text("id,name,paid\n1,x,2\nfour,x,2\n")
    done = run("import", data_dir, tmp_path / "more.csv", tmp_path / "broken.csv", "--table", "account", code=1)
    assert "22P02" in done.stderr
    assert "Traceback" not in done.stderr
    assert "9" in run("shell", data_dir, "-c", "SELECT count(*) FROM account").stdout
    assert "no such file" in run("import", data_dir, tmp_path / "missing.csv", "--table", "account", code=1).stderr
    assert "neither Parquet nor CSV" in run("export", data_dir, "account", tmp_path / "out.xls", code=1).stderr


def test_names_of_tables_are_read_as_sql_reads_them(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object, code: int = 0) -> str:
        """What a command says on both streams; in this process, which has loaded everything."""
        assert cli.main([str(a) for a in arguments]) == code
        return "".join(capsys.readouterr())

    folder = tmp_path / r"a 'b' \c"
    folder.mkdir()
    pyarrow.csv.write_csv(pa.table({"Id": [1, 2], "order": [3, 4]}), folder / "in.csv")
    for name, shown in (("Foo", "foo"), ('"Foo"', '"Foo"'), ('PUBLIC."a.b c"', 'public."a.b c"'), ("order", '"order"')):
        for _ in range(2):
            assert f"2 rows into {shown}\n" in told("import", data_dir, folder / "in.csv", "--table", name)
        assert told("export", data_dir, name, folder / "out.csv").startswith("4 rows")
        assert "│ order  │ bigint │" in told("shell", data_dir, "-c", f"\\d {name}")
    assert (folder / "out.csv").read_text() == "Id,order\n1,3\n2,4\n1,3\n2,4\n"
    for wrong in ("a b", "a.b.c", "a.", "", '"open', "a;b"):
        assert "not the name of a table" in told("import", data_dir, folder / "in.csv", "--table", wrong, code=1)
    assert told("export", data_dir, "TABLE foo", folder / "out.csv").startswith("4 rows")


def test_the_shell(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "more.sql").write_text("INSERT INTO city VALUES ('Basel', 177827);\n")
    script = f"""CREATE TABLE city (name text PRIMARY KEY,
        people integer CHECK (people >= 0)); INSERT INTO city VALUES ('Bern; "west"', 134794), ('Ch\u0007ur', NULL);
    \\i {tmp_path / "more.sql"}
    SELECT * FROM city ORDER BY name;
    \\d city
    \\dt
    """
    done = run("shell", data_dir, text=script)
    assert "CREATE TABLE\nINSERT 0 2\nINSERT 0 1\n" in done.stdout
    assert '│ Bern; "west" │ 134794 │' in done.stdout
    assert "Ch\\x07ur" in done.stdout
    assert "(3 rows)" in done.stdout
    assert '"city_pkey" PRIMARY KEY (name)' in done.stdout
    done = run("shell", data_dir, "-c", "SELECT 1;\nSELECT nonsense FROM city", code=1)
    assert "LINE 1: SELECT nonsense FROM city\n               ^\n" in done.stderr
    assert done.stderr.startswith("ERROR:  42703: ")
    assert " 1 │" in done.stdout


def test_a_directory_in_use(data_dir: Path) -> None:
    import filestore

    with filestore.connect(data_dir):
        done = run("shell", data_dir, "-c", "SELECT 1", code=1)
        assert "55006" in done.stderr
        assert str(os.getpid()) in done.stderr
        assert "Traceback" not in run("check", data_dir, code=1).stderr
    assert "no such directory" in run("check", data_dir / "nowhere", code=1).stderr


def test_what_only_reads_makes_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    out = str(tmp_path / "out.csv")
    before = sorted(tmp_path.rglob("*"))
    for place, said in (("typo", "no such directory"), ("file", "no such directory"), ("other", "no tables here")):
        for command in (["export", str(tmp_path / place), "t", out], ["check", str(tmp_path / place)]):
            assert cli.main(command) == 1
            assert said in capsys.readouterr().err
    for wrong in (["missing.csv"], ["other/letter.txt", "missing.csv"], ["file"]):
        files = [str(tmp_path / name) for name in wrong]
        assert cli.main(["import", str(tmp_path / "typo"), *files, "--table", "t"]) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "wrong",
    [
        ["nonsense"],
        ["check"],
        ["export", "data", "t"],
        ["import", "data", "--table", "t"],
        ["import", "data", "in.csv"],
        ["serve", "data", "--port", "many"],
        ["shell", "data", "--nonsense"],
        ["warm", "more"],
    ],
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(wrong) == 2
    told = capsys.readouterr()
    assert "Usage" in told.err
    assert not told.out


def test_a_reader_that_goes_away(data_dir: Path) -> None:
    for rows in (2, 200_000):
        query = f"SELECT i, 'some text' FROM generate_series(1, {rows}) s(i)"
        command = [sys.executable, "-m", "filestore", "shell", str(data_dir), "-c", query]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(120) == 1
        assert process.stderr.read() == ""
        process.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_an_import_that_is_stopped_leaves_nothing(data_dir: Path, tmp_path: Path, number: int, code: int) -> None:
    run("shell", data_dir, "-c", "CREATE TABLE t (a bigint, b text)")
    table = pa.table({"a": range(300_000), "b": [f"row number {i}" for i in range(300_000)]})
    pyarrow.csv.write_csv(table, tmp_path / "in.csv")
    files = [str(tmp_path / "in.csv")] * 40
    command = [sys.executable, "-m", "filestore", "import", str(data_dir), *files, "--table", "t"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(data_dir.rglob("*.seg")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=100)
    assert process.returncode == code, told
    assert "Traceback" not in told
    assert "│ 0 │" in run("shell", data_dir, "-c", "SELECT count(*) AS n FROM t").stdout
    run("check", data_dir)


def test_check_names_the_damage(data_dir: Path) -> None:
    run("shell", data_dir, "-c", "CREATE TABLE t (a integer); INSERT INTO t SELECT * FROM generate_series(1, 100000)")
    (sealed,) = list(data_dir.rglob("*.seg"))[:1]
    with sealed.open("r+b") as file:
        file.seek(20_000)
        byte = file.read(1)
        file.seek(20_000)
        file.write(bytes([byte[0] ^ 1]))
    done = run("check", data_dir, code=1)
    assert sealed.name in done.stdout


def test_serve(data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "filestore", "serve", str(data_dir)]
    ports = ["--port", "0", "--flight-port", "0", "--grpc-port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, *ports], stdout=log, stderr=log)
    try:
        ready = wait_for_ready(tmp_path / "log", process)
        with psycopg.connect(f"host=127.0.0.1 port={ready['port']} user=postgres", autocommit=True) as connection:
            connection.execute("CREATE TABLE t (a integer PRIMARY KEY)")
            connection.execute("INSERT INTO t VALUES (1), (2)")
        client = flight.connect(f"grpc://127.0.0.1:{ready['flight_port']}")
        assert client.do_get(flight.Ticket(b"SELECT sum(a) AS s FROM t")).read_all().to_pylist() == [{"s": 3}]
        client.close()
        with grpc.insecure_channel(f"127.0.0.1:{ready['grpc_port']}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    run("check", data_dir)


def wait_for_ready(log: Path, process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The fields of the log's line `ready`."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "ready":
                found: dict[str, int] = json.loads(line)
                return found
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail(f"not ready:\n{log.read_text()}")
