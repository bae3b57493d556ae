"""Fixtures shared by all rooms: directories on a real disk, a server and an oracle a session, seeds, limits."""

from __future__ import annotations

import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.seeds import FRESH, seed_of
from tests.storage.crash_harness import TALLY

if TYPE_CHECKING:
    from filestore.database import Database

OPEN_FILES = 4096


settings.register_profile("quick", derandomize=not FRESH, deadline=None)
settings.load_profile("quick")


def pytest_configure() -> None:
    # Tables are files and tests leave many open at once; shells commonly allow 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A crash test that dumps core would fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what it has counted to the process that prints."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["crash_states"] = TALLY


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for name, count in getattr(node, "workeroutput", {}).get("crash_states", {}).items():
        TALLY[name] = TALLY.get(name, 0) + count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many crash states were recovered from, also when everything passed."""
    if TALLY:
        parts = ", ".join(f"{count} ({name})" for name, count in sorted(TALLY.items()))
        terminalreporter.write_line(f"{sum(TALLY.values())} crash states: {parts}")


def on_memory(path: Path) -> bool:
    """Whether `path` is on tmpfs, where O_DIRECT and fsync would be tested against nothing."""
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, filesystem, *_ = line.split()
        if str(path).startswith(mount.rstrip("/") + "/") and len(mount) > len(best):
            best, kind = mount, filesystem
    return kind in ("tmpfs", "ramfs")


def scratch_root() -> Path:
    """Where temporary data directories go: the temporary directory, or /var/tmp where that is only memory."""
    root = Path(tempfile.gettempdir())
    return Path("/var/tmp") if on_memory(root) else root


def close_sound(database: Database) -> None:
    """Closes a database that a test has used, after the verifier has found nothing: files, rows and indexes agree."""
    if not database.closed:
        assert database.engine.check() == []
    database.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A path on a real disk that does not exist yet, removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="filestore-test-", dir=scratch_root()))
    yield root / "data"
    shutil.rmtree(root)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A random test's seed; fresh for those marked slow."""
    return seed_of(request.node.nodeid, fresh=FRESH or request.node.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def server() -> Iterator[object]:
    """A real `filestore serve` on free ports, started once: a `filestore.demo.server.Server`.

    Tests share its database: each makes its own tables by its own names and drops them. At the end the directory has
    to be sound, as `filestore check` sees it.
    """
    from filestore.cli import main
    from filestore.demo.server import Server

    root = Path(tempfile.mkdtemp(prefix="filestore-server-", dir=scratch_root()))
    running = Server(root / "data", root / "server.log")
    try:
        running.start()
        yield running
        running.stop()
        assert main(["check", str(root / "data")]) == 0
    finally:
        running.kill()
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """A PostgreSQL 15 of our own to ask for the right answer, started once: a `bench.postgres.Postgres`."""
    from bench.postgres import PROGRAMS, Postgres

    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL 15's programs are not installed")

    with Postgres() as running:
        running.start()
        yield running
