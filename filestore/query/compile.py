"""Generated kernels: compiled by numba in the background or on demand, cached on disk under a hash of their source.

A fused pipeline (`fuse.py`) is Python source with one function `kernel`. `Compiler.get` gives its compiled form
when there is one; in "background" mode a missing one is queued for the compiling thread and the caller goes its
vectorised way meanwhile, in "always" mode the caller waits. The source is written to a file named by its hash
below the cache directory and never changes after that, which is what numba's on-disk cache needs to recognise it
after a restart.

A kernel that fails to compile is remembered as such and reported once to the log; its pipeline stays vectorised. numba
never gives compiled code back, so a process makes `KERNELS_MAX` kernels at most; further pipelines stay vectorised.

Thread rule: `get` from any thread; it holds its lock for a look at two tables, never while something compiles. One
thread compiles at a time (numba has one lock for it anyway, so a kernel of the package that is loaded for the first
time in this process waits, too).
"""

from __future__ import annotations

import hashlib
import logging
import pathlib
import queue
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numba
from numba import njit

from filestore.hal import process

Kernel = Callable[..., Any]
Key = tuple[str, Any]

_typeof: Callable[[Any], Any] = numba.typeof
log = logging.getLogger(__name__)

FORMAT = 1
"""Part of every hash: raised when generated code changes its calling convention."""

KERNELS_MAX = 256
"""Kernels of one process. One takes 1 to 2 MB (measured), and an application has some tens of shapes of reports."""


def cache_directory() -> pathlib.Path | None:
    """Where generated sources live: FILESTORE_CACHE_DIR, else numba's cache directory, else the user's cache; None when
    the environment names no home. A directory that everybody may write to is never chosen: what lies there is run.
    """
    chosen = process.environ_get("FILESTORE_CACHE_DIR") or process.environ_get("NUMBA_CACHE_DIR")
    if chosen:
        return pathlib.Path(chosen) / "filestore-plans"
    if base := process.environ_get("XDG_CACHE_HOME"):
        return pathlib.Path(base) / "filestore" / "plans"
    home = process.environ_get("HOME")
    return pathlib.Path(home) / ".cache" / "filestore" / "plans" if home else None


class Compiler:
    """Compiled kernels by source and argument types; one per process is enough (`COMPILER`)."""

    def __init__(self, directory: pathlib.Path | None = None, kernels_max: int = KERNELS_MAX) -> None:
        """directory None: that of `cache_directory`."""
        self._directory = directory
        self._kernels_max = kernels_max
        self._changed = threading.Condition()  # guards the tables; notified when something has been compiled
        self._ready: dict[Key, Kernel | None] = {}
        self._wanted: set[Key] = set()
        self._full = False
        self._compiling = threading.Lock()
        self._jobs: queue.SimpleQueue[Key] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def get(self, source: str, args: Sequence[Any], mode: str) -> Kernel | None:
        """The kernel for arguments like `args`; None while it is not compiled, or will not be."""
        key = (source, tuple(_typeof(a) for a in args))
        with self._changed:
            if key in self._ready:
                return self._ready[key]
            if key not in self._wanted:
                if not self._has_room():
                    return None
                self._wanted.add(key)
                if mode != "always":
                    self._queue(key)
        return self._compile(key) if mode == "always" else None

    def _has_room(self) -> bool:
        if len(self._ready) + len(self._wanted) < self._kernels_max:
            return True
        if not self._full:
            self._full = True
            log.warning("%d pipelines are compiled: further ones stay vectorised", self._kernels_max)
        return False

    def _queue(self, key: Key) -> None:
        self._jobs.put(key)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="compile", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while True:
            self._compile(self._jobs.get())

    def _compile(self, key: Key) -> Kernel | None:
        with self._compiling:
            with self._changed:
                if key in self._ready:
                    return self._ready[key]
            try:
                made = self._made(*key)
            except (numba.core.errors.NumbaError, OSError) as error:
                log.warning("a fused pipeline stays vectorised: %s", error)
                made = None
            except Exception:
                log.exception("a fused pipeline stays vectorised, because of a bug")
                made = None
            with self._changed:
                self._ready[key] = made
                self._wanted.discard(key)
                self._changed.notify_all()
            return made

    def _made(self, source: str, signature: Any) -> Kernel:
        digest = hashlib.sha256(f"{FORMAT}\n{source}".encode()).hexdigest()[:32]
        path = self._stored(digest, source)
        module = types.ModuleType(f"plan_{digest}")
        module.__file__ = str(path or module.__name__)
        exec(compile(source, module.__file__, "exec"), module.__dict__)
        kernel = njit(nogil=True, cache=path is not None)(module.kernel)
        # What numba's cache keeps of a function names its module, which is looked up while the function is loaded.
        sys.modules[module.__name__] = module
        try:
            kernel.compile(signature)
        finally:
            del sys.modules[module.__name__]
        return kernel

    def _stored(self, digest: str, source: str) -> pathlib.Path | None:
        """The file of a source, None where nothing may be kept; written aside and renamed, so that another process
        never sees half of it.
        """
        directory = self._directory or cache_directory()
        if directory is None:
            return None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != process.user_id() or found.st_mode & 0o022:
            log.warning("compiled pipelines are not kept: others may write to %s", directory)
            return None
        path = directory / f"plan_{digest}.py"
        if not path.exists():
            aside = directory / f".{digest}.{process.pid()}"
            aside.write_text(source)
            aside.rename(path)
        return path

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Waits until everything asked for so far is compiled; for tests and benchmarks."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._wanted, timeout_s)


COMPILER = Compiler()
