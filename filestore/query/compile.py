"""Generated kernels: compiled by numba in the background or on demand, cached on disk under a hash of their source.

A fused pipeline (`fuse.py`) is Python source with one function `kernel`. `Compiler.get` gives its compiled form
when there is one; in "background" mode a missing one is queued for the compiling thread and the caller goes its
vectorised way meanwhile, in "always" mode the caller waits. The source is written to a file named by its hash
below the cache directory and never changes after that, which is what numba's on-disk cache needs to recognise it
after a restart.

A kernel that fails to compile is remembered as such and reported once to the log; its pipeline stays vectorised.

Thread rule: `get` from any thread. One thread compiles (numba has one lock for it anyway).
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

_typeof: Callable[[Any], Any] = numba.typeof
log = logging.getLogger(__name__)

FORMAT = 1
"""Part of every hash: raised when generated code changes its calling convention."""


def cache_directory() -> pathlib.Path:
    """Where generated sources live: FILESTORE_CACHE_DIR, else numba's cache directory, else the user's cache."""
    chosen = process.environ_get("FILESTORE_CACHE_DIR") or process.environ_get("NUMBA_CACHE_DIR")
    if chosen:
        return pathlib.Path(chosen) / "filestore-plans"
    base = process.environ_get("XDG_CACHE_HOME") or str(pathlib.Path(process.environ_get("HOME", "/tmp")) / ".cache")
    return pathlib.Path(base) / "filestore" / "plans"


class Compiler:
    """Compiled kernels by source and argument types; one per process is enough (`COMPILER`)."""

    def __init__(self, directory: pathlib.Path | None = None) -> None:
        self._directory = directory
        self._functions: dict[str, Any] = {}
        self._ready: dict[tuple[str, Any], Callable[..., Any] | None] = {}
        self._wanted: set[tuple[str, Any]] = set()
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def get(self, source: str, args: Sequence[Any], mode: str) -> Callable[..., Any] | None:
        """The kernel for arguments like `args`; None while it is not compiled, or cannot be."""
        signature = tuple(_typeof(a) for a in args)
        key = (source, signature)
        if key in self._ready:
            return self._ready[key]
        if mode == "always":
            return self._compile(source, signature)
        with self._lock:
            if key not in self._wanted:
                self._wanted.add(key)
                self._jobs.put(key)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="compile", daemon=True)
                    self._thread.start()
        return None

    def _serve(self) -> None:
        while True:
            source, signature = self._jobs.get()
            self._compile(source, signature)

    def _compile(self, source: str, signature: Any) -> Callable[..., Any] | None:
        with self._lock:
            key = (source, signature)
            if key in self._ready:
                return self._ready[key]
            try:
                function = self._function(source)
                function.compile(signature)
            except (numba.core.errors.NumbaError, OSError) as error:
                log.warning("a fused pipeline stays vectorised: %s", error)
                self._ready[key] = None
                return None
            self._ready[key] = function
            return function  # type: ignore[no-any-return]

    def _function(self, source: str) -> Any:
        digest = hashlib.sha256(f"{FORMAT}\n{source}".encode()).hexdigest()[:32]
        if digest not in self._functions:
            path = self._stored(digest, source)
            module = types.ModuleType(f"plan_{digest}")
            module.__file__ = str(path)
            # numba's cache names a function's module and imports it when it loads the function in another process.
            sys.modules[module.__name__] = module
            exec(compile(source, str(path), "exec"), module.__dict__)
            self._functions[digest] = njit(nogil=True, cache=True)(module.kernel)
        return self._functions[digest]

    def _stored(self, digest: str, source: str) -> pathlib.Path:
        """The file of a source; written aside and renamed, so that another process never sees half of it."""
        directory = self._directory or cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"plan_{digest}.py"
        if not path.exists():
            aside = directory / f".{digest}.{process.pid()}"
            aside.write_text(source)
            aside.rename(path)
        return path

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Waits until everything asked for so far is compiled; for tests and benchmarks."""
        deadline = process.monotonic_us() + int(timeout_s * 1e6)
        pause = threading.Event()
        while process.monotonic_us() < deadline:
            if all(key in self._ready for key in list(self._wanted)):
                return True
            pause.wait(0.01)
        return False


COMPILER = Compiler()
