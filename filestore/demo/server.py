"""A FileStore server as a child process: started, asked, stopped and killed as an operator would.

The demo, the crash tests and the benchmarks all start their servers here, so that "ready" and "killed" mean the same
everywhere: ready is a query answered over the wire, killed is SIGKILL without notice.

It does not do: restarting by itself, more than one server a directory (the store's lock sees to that).
"""

from __future__ import annotations

import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

import psycopg

START_TIMEOUT_S: Final = 300.0  # a first start compiles kernels; a second one takes a second or two
STOP_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.01
LOG_TAIL_LINES: Final = 30


class ServerFailed(Exception):
    """The server ended or did not answer; the text ends with the last lines of its log."""


class Killable(Protocol):
    """What a crash test needs of a server; PostgreSQL can stand in for FileStore, which tests the test."""

    @property
    def dsn(self) -> str: ...
    def start(self) -> float: ...
    def kill(self) -> None: ...


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_answered(dsn: str, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Returns when `SELECT 1` is answered. TimeoutError when it is not in time, ServerFailed if the process ends."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
                connection.execute("SELECT 1")
                return
        except psycopg.OperationalError as error:
            if process.poll() is not None:
                raise ServerFailed(f"the server ended with code {process.returncode}") from error
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {timeout_s:.0f} s: {error}") from error
        time.sleep(POLL_S)


class Server:
    """`filestore serve` on free ports of the loopback interface. A context manager: leaving it stops the server."""

    def __init__(self, directory: Path, log: Path, *, options: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.log = log
        self.options = options
        self.port, self.flight_port, self.grpc_port = free_port(), free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    @property
    def flight_uri(self) -> str:
        return f"grpc://127.0.0.1:{self.flight_port}"

    def command(self) -> list[str]:
        """The command line, with the console script of the environment that runs this module."""
        script = Path(sysconfig.get_path("scripts")) / "filestore"
        start = [str(script)] if script.exists() else [sys.executable, "-m", "filestore.cli"]
        ports = {"--port": self.port, "--flight-port": self.flight_port, "--grpc-port": self.grpc_port}
        options = [word for option, port in ports.items() for word in (option, str(port))]
        return [*start, "serve", str(self.directory), *options, *self.options]

    def start(self, timeout_s: float = START_TIMEOUT_S) -> float:
        """Starts the process and returns the seconds from exec to the first query answered. Errors: ServerFailed."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_until_answered(self.dsn, self.process, timeout_s)
        except (ServerFailed, TimeoutError) as error:
            self.kill()
            raise ServerFailed(f"{error}\n{self.log_tail()}") from error
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed. Returns when the process is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit code. A server that will not stop is killed, and ServerFailed says so."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise ServerFailed(
                f"the server did not stop within {STOP_TIMEOUT_S:.0f} s of SIGTERM\n{self.log_tail()}"
            ) from error
        self.process = None
        return code

    def log_tail(self) -> str:
        """The last lines that the server wrote, for a person who has to find out why."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()
