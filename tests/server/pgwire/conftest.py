"""A database in this process for the tests without a network, and its port on a thread for those with real clients."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from filestore.database import Database
from filestore.server.log import Log
from filestore.server.pgwire.auth import Authenticator
from filestore.server.pgwire.listener import Limits, Listener
from tests.conftest import close_sound
from tests.server.pgwire.loopback import Loopback


@dataclass
class Running:
    """A port of a database in this process. `stop` closes it as SIGTERM would."""

    database: Database
    listener: Listener
    loop: asyncio.AbstractEventLoop
    port: int
    thread: threading.Thread
    stopping: asyncio.Event

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join(20)


def run_port(database: Database, **options: object) -> Running:
    """Starts a port of the database on a thread of its own. options: `verifier`, `tls`, `connections`."""
    verifier = options.pop("verifier", None)
    limits = Limits(connections=options.pop("connections", 100))  # type: ignore[arg-type]
    listener = Listener(
        database,
        Authenticator(lambda user: verifier if user == "postgres" else None),  # type: ignore[arg-type,return-value]
        Log(),
        limits=limits,
        **options,  # type: ignore[arg-type]
    )
    ready = threading.Event()
    found: dict[str, object] = {}

    async def run() -> None:
        found["port"] = await listener.listen("127.0.0.1", 0)
        found["loop"] = asyncio.get_running_loop()
        stopping = found["stopping"] = asyncio.Event()
        ready.set()
        await stopping.wait()
        await listener.close(1.0)

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=main, name="port")
    thread.start()
    assert ready.wait(10)
    return Running(database, listener, found["loop"], found["port"], thread, found["stopping"])  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """One database for all tests of the room; each makes its own tables."""
    root = Path(tempfile.mkdtemp(prefix="filestore-pgwire-", dir="/var/tmp"))
    opened = Database.open(str(root / "data"))
    yield opened
    close_sound(opened)
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def port(database: Database) -> Iterator[Running]:
    running = run_port(database)
    yield running
    running.stop()


@pytest.fixture
def dsn(port: Running) -> str:
    return port.dsn


@pytest.fixture
def loopback(database: Database) -> Iterator[Loopback]:
    """A started connection without a network."""
    made = Loopback(database)
    made.start()
    yield made
    made.connection.lost()
    made.workers.shutdown()
