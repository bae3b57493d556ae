"""The rules that every `File` keeps, in one place: `CheckedFile` over a few raw calls.

Idea: an implementation supplies `_raw_*` calls that behave like system calls (they raise OSError); this class
checks arguments, counts, names file and offset in errors, and keeps the poison rule. Direct, buffered and
simulated files all inherit it, so that a crash test on the simulated disk exercises the very code that guards
the real one.

The poison rule (RELIABILITY R31, R34): a write that failed before its first byte for want of space is a clean
DiskFull; any other failed write, and any failed sync, poisons the file. Nothing is ever retried.
"""

from __future__ import annotations

import abc
import errno
import threading
import time
from collections.abc import Sequence
from typing import Final, NoReturn

import numpy as np

from filestore.errors import DataCorrupted, DiskFull, StorageFailed
from filestore.hal.counters import COUNTERS
from filestore.hal.file import ALIGNMENT, Bytes

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # EFBIG is what RLIMIT_FSIZE answers


class ShortTransfer(OSError):
    """A raw write stopped after `done` bytes: what lies beyond is unknown."""

    def __init__(self, number: int, done: int, message: str) -> None:
        super().__init__(number, message)
        self.done = done


def describe_error(error: OSError) -> str:
    """'EIO: Input/output error' for humans."""
    code = errno.errorcode.get(error.errno or 0, "errno " + str(error.errno))
    return f"{code}: {error.strerror or error}"


def storage_error(error: OSError, what: str) -> DiskFull | StorageFailed:
    """The typed error for a failed system call outside a file's write path."""
    COUNTERS.io_errors += 1
    if error.errno in FULL:
        return DiskFull(f"disk full: {what}: {describe_error(error)}")
    return StorageFailed(f"{what}: {describe_error(error)}")


class CheckedFile(abc.ABC):
    """Base of every file. Any thread may call; the lock covers state changes, never the transfer itself."""

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._poison: str | None = None
        self._closed = False
        self._sealed = False  # mapped through this handle: no more writes
        self._written = 0  # writes and allocates begun
        self._synced = 0  # how many of them a returned sync covers
        self._state = threading.Lock()
        self._syncing = threading.Lock()

    # What an implementation supplies. Offsets, lengths and sizes are aligned and checked already.

    @abc.abstractmethod
    def _raw_size(self) -> int: ...

    @abc.abstractmethod
    def _raw_read(self, offset: int, length: int) -> Bytes: ...

    @abc.abstractmethod
    def _raw_write(self, offset: int, parts: Sequence[Bytes]) -> None: ...

    @abc.abstractmethod
    def _raw_allocate(self, size: int) -> None: ...

    @abc.abstractmethod
    def _raw_sync(self) -> None: ...

    @abc.abstractmethod
    def _raw_map(self, offset: int, length: int) -> Bytes: ...

    @abc.abstractmethod
    def _raw_close(self) -> None: ...

    # The public face: see `filestore.hal.file.File` for the contract of each.

    @property
    def poisoned(self) -> str | None:
        """Why the file accepts no more writes, or None."""
        return self._poison

    def size(self) -> int:
        self._check_open()
        try:
            return self._raw_size()
        except OSError as error:
            raise storage_error(error, f"cannot stat file {self.path}") from error

    def read_at(self, offset: int, length: int) -> Bytes:
        self._check_open()
        if offset < 0 or length < 0:
            raise ValueError(f"negative offset or length: {offset}, {length}")
        first = offset - offset % ALIGNMENT
        try:
            window = self._raw_read(first, -(-(offset + length) // ALIGNMENT) * ALIGNMENT - first)
        except OSError as error:
            COUNTERS.io_errors += 1
            raise StorageFailed(
                f"cannot read {length} bytes of file {self.path} at offset {offset}: {describe_error(error)}"
            ) from error
        found = window[offset - first : offset - first + length]
        COUNTERS.reads += 1
        COUNTERS.read_bytes += found.size
        return found

    def write_at(self, offset: int, data: Bytes) -> None:
        self._check_writable()
        self._check_data(offset, data)
        self._write_run(offset, [data])

    def write_many(self, writes: Sequence[tuple[int, Bytes]]) -> None:
        self._check_writable()
        for offset, data in writes:
            self._check_data(offset, data)
        self._write_runs(self._runs(writes))

    def allocate(self, size: int) -> None:
        self._check_writable()
        if size < 0 or size % ALIGNMENT:
            raise ValueError(f"size {size} is not a multiple of {ALIGNMENT}")
        with self._state:
            self._written += 1
        try:
            self._raw_allocate(size)
        except OSError as error:
            raise storage_error(error, f"cannot allocate {size} bytes for file {self.path}") from error

    def sync(self) -> None:
        self._check_open()
        # One at a time: the kernel reports a write-back error to one of two concurrent callers only, and the
        # other could acknowledge before the first has poisoned the file.
        with self._syncing:
            self._check_poison()
            with self._state:
                covered = self._written
            started = time.perf_counter_ns()
            try:
                self._raw_sync()
            except OSError as error:
                self._fail(f"cannot sync file {self.path}: {describe_error(error)}", error)
            # A poison that came while this sync ran may be a write that this sync was thought to cover.
            self._check_poison()
            COUNTERS.synced((time.perf_counter_ns() - started) // 1000)
            self._synced = covered

    def map_read(self, offset: int, length: int) -> Bytes:
        self._check_open()
        if offset < 0 or length < 0:
            raise ValueError(f"negative offset or length: {offset}, {length}")
        with self._state:
            if self._written > self._synced:
                self._check_poison()
                raise ValueError(f"file {self.path} has unsynced writes: sync it before mapping it")
        size = self.size()
        if offset + length > size:
            # Touching a map beyond the end of the file is SIGBUS, which no handler can turn into an answer.
            raise DataCorrupted(f"file {self.path} ends at {size}, but {length} bytes are expected at offset {offset}")
        if length == 0:
            empty = np.empty(0, dtype=np.uint8)
            empty.flags.writeable = False
            return empty
        first = offset - offset % ALIGNMENT
        try:
            window = self._raw_map(first, offset + length - first)
        except OSError as error:
            raise storage_error(error, f"cannot map file {self.path} at offset {offset}") from error
        self._sealed = True
        COUNTERS.maps += 1
        COUNTERS.mapped_bytes += window.size
        return window[offset - first :]

    def close(self) -> None:
        with self._state:
            if self._closed:
                return
            self._closed = True
        try:
            self._raw_close()
        except OSError as error:
            raise storage_error(error, f"cannot close file {self.path}") from error

    # Shared steps.

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"file {self.path} is closed")

    def _check_poison(self) -> None:
        if self._poison is not None:
            raise StorageFailed(
                f"file {self.path} accepts no more writes after an earlier failure: {self._poison}",
                hint="Close the store and open it again; it recovers from its log.",
            )

    def _check_writable(self) -> None:
        self._check_open()
        self._check_poison()
        if self.read_only:
            raise ValueError(f"file {self.path} is open read-only")
        if self._sealed:
            raise ValueError(f"file {self.path} is mapped: a sealed file is never written again")

    def _check_data(self, offset: int, data: Bytes) -> None:
        if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
            raise ValueError(f"data for file {self.path} must be a contiguous one-dimensional uint8 array")
        if offset < 0 or offset % ALIGNMENT or data.size % ALIGNMENT:
            raise ValueError(f"offset {offset} and length {data.size} for {self.path} are not multiples of {ALIGNMENT}")

    def _runs(self, writes: Sequence[tuple[int, Bytes]]) -> list[tuple[int, list[Bytes]]]:
        """Sorts writes by offset and joins adjacent ones; ValueError when two overlap."""
        runs: list[tuple[int, list[Bytes]]] = []
        end = -1
        for offset, data in sorted(writes, key=lambda write: write[0]):
            if data.size == 0:
                continue
            if offset < end:
                raise ValueError(f"overlapping writes in one batch for file {self.path} at offset {offset}")
            if offset == end:
                runs[-1][1].append(data)
            else:
                runs.append((offset, [data]))
            end = offset + data.size
        return runs

    def _write_runs(self, runs: list[tuple[int, list[Bytes]]]) -> None:
        for index, (offset, parts) in enumerate(runs):
            self._write_run(offset, parts, alone=index == 0)

    def _write_run(self, offset: int, parts: Sequence[Bytes], *, alone: bool = True) -> None:
        """One adjacent run. `alone`: nothing of its batch is written yet, and a full disk a clean refusal."""
        nbytes = sum(part.size for part in parts)
        if nbytes == 0:
            return
        with self._state:
            self._written += 1
        try:
            self._raw_write(offset, parts)
        except OSError as error:
            where = f"cannot write {nbytes} bytes to {self.path} at offset {offset}: {describe_error(error)}"
            if alone and error.errno in FULL and not isinstance(error, ShortTransfer):
                COUNTERS.io_errors += 1
                raise DiskFull(f"disk full: {where}") from error
            self._fail(where, error)
        COUNTERS.writes += 1
        COUNTERS.write_bytes += nbytes

    def _fail(self, why: str, cause: OSError) -> NoReturn:
        COUNTERS.io_errors += 1
        with self._state:
            if self._poison is None:
                self._poison = why
        raise StorageFailed(why) from cause
