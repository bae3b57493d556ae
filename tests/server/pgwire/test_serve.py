"""`filestore serve` as a process: ready, stopped, refused, ended by a store that failed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

START_SECONDS = 240.0  # a first start compiles


class Server:
    """A server process; its log as events."""

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self.log = directory.parent / f"{directory.name}.log"
        command = [sys.executable, "-m", "filestore", "serve", str(directory), "--port", "0", "--flight-port", "-1",
                   "--grpc-port", "-1", *options]  # fmt: skip
        self.offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin", **environment}
            )
        SERVERS.append(self)
        self.ready = self.wait_for("ready")

    def events(self) -> list[dict[str, Any]]:
        text = self.log.read_bytes()[self.offset :].decode()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def wait_for(self, event: str) -> dict[str, Any]:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            found = [e for e in self.events() if e["event"] == event]
            if found:
                return found[-1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise TimeoutError(self.log.read_text())

    def connect(self, **parameters: Any) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.ready["port"], user="postgres", dbname="postgres", autocommit=True, **parameters
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


SERVERS: list[Server] = []


@pytest.fixture
def directory(data_dir: Path) -> Iterator[Path]:
    """A directory whose servers do not outlive the test."""
    yield data_dir
    while SERVERS:
        process = SERVERS.pop().process
        process.kill()
        process.wait()


def test_ready_stop_and_start_again(directory: Path) -> None:
    server = Server(directory)
    assert server.ready["pid"] == server.process.pid
    with server.connect() as connection:
        connection.execute("create table kept (a int primary key)")
        connection.execute("insert into kept select i from generate_series(1, 1000) i")
        began = time.monotonic()
        running = threading.Thread(target=lambda: connection.execute("select 1").fetchone())
        running.start()
        running.join()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("select 1")
    assert [e["event"] for e in server.events()][-2:] == ["stopping", "closed"]
    again = Server(directory)
    with again.connect() as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (1000,)
    assert again.stop(signal.SIGINT) == 0


def refused(*arguments: str, **environment: str) -> str:
    """What the command says when it does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "filestore", "serve", *arguments],
        capture_output=True, text=True, timeout=START_SECONDS, check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return "\n".join(line for line in done.stderr.splitlines() if not line.startswith("{"))


def test_refusals_say_what_to_do(directory: Path, tmp_path: Path) -> None:
    server = Server(directory)
    text = refused(str(directory), "--port", "0")
    assert text.startswith(f"filestore: directory {directory} is in use by process {server.process.pid}\nhint: ")
    text = refused(str(tmp_path / "other"), "--port", str(server.ready["port"]))
    assert "Address already in use\nhint: Is another server running there?" in text
    server.stop()
    assert "without a password" in refused(str(directory), "--host", "0.0.0.0")
    assert "TLS needs both" in refused(str(directory), "--tls-cert", "x.pem")
    assert "could not load TLS certificate" in refused(str(directory), "--tls-cert", "x.pem", "--tls-key", "y.pem")
    assert "cannot read the password file" in refused(str(directory), "--password-file", str(tmp_path / "absent"))


def test_a_password_of_the_environment(directory: Path) -> None:
    server = Server(directory, FILESTORE_PASSWORD="sesame")
    with server.connect(password="sesame") as connection:
        assert connection.execute("select current_user").fetchone() == ("postgres",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.connect(password="wrong")
    assert server.stop() == 0
    assert "sesame" not in server.log.read_text()


def test_tls_is_told_and_the_log_stays_json(directory: Path) -> None:
    """gRPC's and Flight's libraries would write of each handshake that fails in words of their own."""
    certificate, key = directory.parent / "cert.pem", directory.parent / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Server(
        directory, "--tls-cert", str(certificate), "--tls-key", str(key), "--flight-port", "0", "--grpc-port", "0"
    )
    with server.connect(sslmode="require") as connection:
        assert connection.execute("SHOW ssl").fetchone() == ("on",)
    for port in ("flight_port", "grpc_port"):
        with socket.create_connection(("127.0.0.1", server.ready[port]), 10) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while client.recv(4096):
                pass  # the library hangs up once it has looked
    assert server.stop() == 0
    assert [line for line in server.log.read_text().splitlines() if not line.startswith("{")] == []


def test_a_running_statement_gets_a_grace_and_then_ends(directory: Path) -> None:
    server = Server(directory, "--grace", "0.3")
    with server.connect() as connection:
        failed: list[psycopg.Error] = []

        def run() -> None:
            try:
                connection.execute("select count(*) from generate_series(1, 200000) a, generate_series(1, 200000) b")
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        assert server.stop() == 0
        thread.join(10)
        assert [e.sqlstate for e in failed] == ["57P01"]


def test_a_socket_that_says_nothing_does_not_keep_the_server(directory: Path) -> None:
    server = Server(directory)
    with socket.create_connection(("127.0.0.1", server.ready["port"])):
        time.sleep(0.1)
        assert server.stop() == 0
