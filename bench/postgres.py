"""PostgreSQL 15 as a peer: a cluster of its own in a scratch directory, durable as installed (fsync on).

PostgreSQL refuses to run as root, so root becomes the user `postgres`, whom Debian's package makes.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from filestore.demo.server import free_port, wait_until_answered

PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
# What an installation on this machine would set; everything about durability stays as it comes.
SETTINGS: Final = {"shared_buffers": "1GB", "max_wal_size": "4GB", "listen_addresses": "127.0.0.1"}


class Postgres:
    """One cluster. A context manager: leaving it stops the server and removes its directory."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if getpass.getuser() == "root":
            shutil.chown(self.root, "postgres", "postgres")
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._run("initdb", "-D", f"{self.root}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.root)}
        self._options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([PROGRAMS / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", **self._as)

    def start(self) -> float:
        """Seconds from exec to the first query answered."""
        began = time.monotonic()
        self.process = subprocess.Popen(
            [PROGRAMS / "postgres", "-D", f"{self.root}/data", *self._options],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        wait_until_answered(self.dsn, self.process, 60)
        return time.monotonic() - began

    def kill(self) -> None:
        """Immediate shutdown: no checkpoint, all processes gone at once. (SIGKILL of the parent leaves children.)"""
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT
            self.process.wait(60)
            self.process = None

    def stop(self) -> int:
        self.kill()
        return 0

    def __enter__(self) -> Postgres:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
