"""Whatever a room logs while the server runs is one JSON object a line, and no statement's text is in it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from filestore import errors
from filestore.database import Database, DatabaseOptions
from filestore.hal import SimulatedDisk
from filestore.server.log import JsonLines, Log
from filestore.session import Session
from filestore.storage.store import Store, StoreOptions
from filestore.txn.engine import EngineOptions
from tests.crash.statements import run


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the rooms log, as the server would write it; pytest has handlers of its own at the root."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    Log()
    yield stream
    logging.getLogger().removeHandler(handler)


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_failing_checkpoint_is_an_event(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    options = DatabaseOptions(
        compile="never", engine=EngineOptions(checkpoint_log_bytes=1, store=StoreOptions(log_file_bytes=1 << 20))
    )
    database = Database.over(SimulatedDisk(), options)

    def fail(store: Store, image: object) -> None:
        raise errors.DiskFull("no space left")

    monkeypatch.setattr(Store, "checkpoint", fail)
    run(database.session(), "CREATE TABLE t (id bigint)")
    until = time.monotonic() + 60  # the checkpoint has its own thread
    while not (found := [e for e in events(lines) if "put off" in str(e["event"])]):
        assert time.monotonic() < until
        time.sleep(0.001)
    database.close()
    assert found[0]["level"] == "warning"
    assert found[0]["logger"] == "filestore.txn"
    assert "no space left" in str(found[0]["event"])


def test_a_bug_is_an_event_without_the_statement(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.over(SimulatedDisk(), DatabaseOptions(compile="never", engine=EngineOptions(threaded=False)))
    session = database.session()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Session, "run", fail)
    with pytest.raises(errors.InternalError):
        run(session, "SELECT 'a secret'")
    monkeypatch.undo()
    database.close()
    (event,) = [e for e in events(lines) if e["logger"] == "filestore.session"]
    assert event["level"] == "error"
    assert event["error"] == "RuntimeError: a bug"
    assert "in fail" in str(event["trace"])
    assert "secret" not in lines.getvalue()


def test_libraries_and_warnings_are_events_too() -> None:
    """In a process of its own: who finds a handler at the root, as under pytest, is left alone."""
    program = (
        "import logging, warnings\n"
        "from filestore.server.log import Log\n"
        "log = Log()\n"
        "log.info('ready', port=1)\n"
        "Log().info('once')\n"
        "logging.getLogger('filestore.hal').info('direct')\n"
        "logging.getLogger('asyncio').error('lost %d', 1)\n"
        "logging.getLogger('asyncio').info('not this')\n"
        "warnings.warn('a warning')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["logger"] for e in found] == [
        "filestore.server", "filestore.server", "filestore.hal", "asyncio", "py.warnings",
    ]  # fmt: skip
    assert [e["event"] for e in found[:4]] == ["ready", "once", "direct", "lost 1"]
    assert found[0]["port"] == 1
