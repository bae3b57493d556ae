"""A directory opened as a database: the only module that knows all rooms and wires them together.

`Database.open` takes the directory's lock, recovers, and starts the workers; `session` gives out sessions, which are
the only way in. One process holds a directory at a time; several sessions and ports share one `Database`.

Thread rule: `lock` guards all state changes (an RLock: the engine lock); everything here may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from filestore.hal import DirectIO, open_filesystem
from filestore.hal.file import FileSystem
from filestore.planning import Planned
from filestore.query.plan_cache import PlanCache
from filestore.query.pool import WorkerPool
from filestore.query.statements import Statement
from filestore.session import Session
from filestore.txn.engine import Engine, EngineOptions

# Jobs mostly wait for the disk or run nogil kernels; more threads than cores keep short ones from queueing behind
# long ones.
_JOB_THREADS = 8


@dataclass(frozen=True)
class DatabaseOptions:
    """How a directory is opened. direct: whether O_DIRECT is demanded. compile: when hot scans are fused
    ("background", "always", "never"). engine: see `EngineOptions`."""

    direct: DirectIO = DirectIO.OPTIONAL
    compile: str = "background"
    engine: EngineOptions = field(default_factory=EngineOptions)


class Database:
    """An open directory. `name` is what clients connect to."""

    name = "postgres"

    def __init__(self, engine: Engine, options: DatabaseOptions) -> None:
        self.engine = engine
        self.options = options
        self.lock = engine.lock
        self.plans: PlanCache[Planned] = PlanCache()
        self.parsed: PlanCache[Statement] = PlanCache()
        self.pool = WorkerPool(lock=engine.lock)
        self.workers = ThreadPoolExecutor(_JOB_THREADS, thread_name_prefix="job")
        self.sessions: dict[int, Session] = {}
        self.started_us = time.time_ns() // 1000
        self.facts: dict[str, int | str] = {}
        """Settings that are the process's own, such as its port: whoever opened the database puts them here."""
        self._next_process_id = 1
        self._guard = threading.Lock()
        self.closed = False

    @classmethod
    def open(cls, path: str, options: DatabaseOptions | None = None) -> Database:
        """Opens a directory, making it when it is missing, and recovers what a crash left.

        Raises DirectoryInUse, DataCorrupted (naming the file), IncompatibleFormat.
        """
        options = options or DatabaseOptions()
        database = cls.over(open_filesystem(path, direct=options.direct), options)
        database.facts["data_directory"] = path
        return database

    @classmethod
    def over(cls, filesystem: FileSystem, options: DatabaseOptions | None = None) -> Database:
        """Opens a file system that is already there, e.g. a simulated disk."""
        options = options or DatabaseOptions()
        return cls(Engine.open(filesystem, options.engine), options)

    def session(
        self, user: str = "postgres", application_name: str = "", settings: Mapping[str, str] | None = None
    ) -> Session:
        """A new session."""
        return Session(self, user, application_name, settings)

    def register(self, session: Session) -> int:
        """Gives a session its process id, the number that cancel requests name."""
        with self._guard:
            number = self._next_process_id
            self._next_process_id += 1
            self.sessions[number] = session
            return number

    def forget(self, session: Session) -> None:
        """The session is closed."""
        with self._guard:
            self.sessions.pop(session.process_id, None)

    def close(self) -> None:
        """Rolls back what is open, takes a checkpoint, releases the directory. A second call does nothing."""
        with self._guard:
            if self.closed:
                return
            self.closed = True
            sessions = list(self.sessions.values())
        for session in sessions:
            session.cancel.set("administrator command")
            session.close()
        self.workers.shutdown(wait=True)
        self.pool.close()
        self.engine.close()
