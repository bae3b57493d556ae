"""Files on a real disk through O_DIRECT, and the transfer loops that buffered files share.

Why O_DIRECT: a buffered write's error surfaces later, once, at an fsync that may belong to somebody else, and
the page cache then shows bytes that the disk does not hold. A direct write fails where it is made, and a
direct read sees the disk.

The kernel wants offset, length and memory address aligned; statx(STATX_DIOALIGN) names the units, and where
it does not, one real transfer of 4096 bytes is tried. Files are aligned to `ALIGNMENT` everywhere, so only
the address of foreign arrays has to be mended here, by a copy.

It does not do io_uring: a small thread pool reaches the same rate on the cores that were measured.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from filestore.errors import DiskFull, StorageFailed
from filestore.hal.checked import CheckedFile, ShortTransfer
from filestore.hal.counters import COUNTERS
from filestore.hal.file import ALIGNMENT, Bytes
from filestore.hal.libc import dio_alignment, fallocate, map_file
from filestore.hal.memory import address, aligned_buffer

# read(2), NOTES: Linux transfers at most 0x7ffff000 bytes per call, whatever is asked; it is a multiple of
# 4096.
TRANSFER_MAX: Final = 0x7FFFF000
PARTS_MAX: Final = 1024  # IOV_MAX
AGAIN_MAX: Final = 8  # EAGAIN on a regular file is a surprise; EINTR is retried by Python itself (PEP 475)
POOL_THREADS: Final = 4  # reach half of the IOPS measured with 16, and leave the cores to others
POOL_MIN_RUNS: Final = 8  # below this, handing over costs more than it saves
# Starts no thread before its first task.
_POOL: Final = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="filestore-io")


def direct_refusal(directory: str) -> str | None:
    """Why files in `directory` cannot be used with O_DIRECT, or None when they can; leaves nothing behind."""
    try:
        # Unnamed, because open(O_CREAT | O_DIRECT) may leave an empty file behind where it answers EINVAL.
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return f"open(O_DIRECT): {error.strerror}"
    try:
        told = dio_alignment(fd)
        if told is not None:
            if told[1] == 0:
                return "the filesystem says that it has no direct I/O"
            if ALIGNMENT % told[0] or ALIGNMENT % told[1]:
                return f"direct I/O wants alignment {told[0]}/{told[1]}, which {ALIGNMENT} does not satisfy"
        probe = aligned_buffer(ALIGNMENT)
        probe[:] = 0
        if os.pwritev(fd, [probe.data], 0) != ALIGNMENT or os.preadv(fd, [probe.data], 0) != ALIGNMENT:
            return "a direct transfer of one page was cut short"
    except OSError as error:
        return f"direct transfer: {error.strerror}"
    finally:
        os.close(fd)
    return None


def aligned_parts(parts: Sequence[Bytes]) -> list[Bytes]:
    """The same bytes at aligned addresses; copies only what is not aligned."""
    mended = []
    for part in parts:
        if address(part) % ALIGNMENT:
            copy = aligned_buffer(part.size)
            copy[:] = part
            COUNTERS.bounce_copies += 1
            part = copy
        mended.append(part)
    return mended


class PosixFile(CheckedFile):
    """A file behind a descriptor, which stays open until `close` or the end of the object."""

    direct = False

    def __init__(self, path: str, fd: int, *, read_only: bool) -> None:
        super().__init__(path, read_only=read_only)
        self._fd = fd
        # A handle that is dropped unclosed must not leak its descriptor; closing runs this once, either way.
        self._release = weakref.finalize(self, os.close, fd)
        # Not before what closes stores at exit: the end of the process closes what is left.
        self._release.atexit = False

    def _raw_size(self) -> int:
        return os.fstat(self._fd).st_size

    def _raw_read(self, offset: int, length: int) -> Bytes:
        # Never ask for more than exists: a huge length then costs nothing, and the end of the file needs no
        # extra call.
        length = min(length, max(0, -(-os.fstat(self._fd).st_size // ALIGNMENT) * ALIGNMENT - offset))
        buffer = aligned_buffer(length)
        done = 0
        again = 0
        while done < length:
            try:
                count = os.preadv(self._fd, [buffer[done : done + TRANSFER_MAX].data], offset + done)
            except BlockingIOError:
                again += 1
                if again > AGAIN_MAX:
                    raise
                continue
            done += count
            # A direct read ends at the file's end within a block; going on from there would be misaligned.
            if count == 0 or (self.direct and count % ALIGNMENT):
                break
        return buffer[:done]

    def _raw_write(self, offset: int, parts: Sequence[Bytes]) -> None:
        start = offset
        for first in range(0, len(parts), PARTS_MAX):
            group = parts[first : first + PARTS_MAX]
            if sum(part.size for part in group) > TRANSFER_MAX:
                for part in group:
                    for cut in range(0, part.size, TRANSFER_MAX):
                        piece = part[cut : cut + TRANSFER_MAX]
                        offset = self._transfer(offset, [piece], offset > start)
            else:
                offset = self._transfer(offset, group, offset > start)

    def _transfer(self, offset: int, parts: Sequence[Bytes], begun: bool) -> int:
        """One pwritev, at most `TRANSFER_MAX` bytes; returns the offset after it.

        A short write into the page cache may be continued (RELIABILITY R35); a short direct write means that
        the device failed or filled up part of the way, and is a failure. `begun` says that earlier bytes of
        the same request are written, so that running out of space now is no longer a clean refusal.
        """
        total = sum(part.size for part in parts)
        rest = list(aligned_parts(parts)) if self.direct else list(parts)
        done = 0
        again = 0
        while True:
            try:
                count = os.pwritev(self._fd, [part.data for part in rest], offset + done)
            except BlockingIOError:
                again += 1
                if again > AGAIN_MAX:
                    raise
                continue
            except OSError as error:
                if begun or done:
                    raise ShortTransfer(error.errno or errno.EIO, done, error.strerror or "") from error
                raise
            done += count
            if done == total:
                return offset + total
            if self.direct or count == 0:
                raise ShortTransfer(errno.EIO, done, f"short write: {done} of {total} bytes")
            while rest and count >= rest[0].size:
                count -= rest.pop(0).size
            if count:
                rest[0] = rest[0][count:]

    def _raw_allocate(self, size: int) -> None:
        if size == 0:
            return
        try:
            fallocate(self._fd, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # No fallocate here (some network filesystems): a sparse file keeps the contract, without the
            # reservation.
            if os.fstat(self._fd).st_size < size:
                os.ftruncate(self._fd, size)

    def _raw_sync(self) -> None:
        os.fdatasync(self._fd)

    def _raw_map(self, offset: int, length: int) -> Bytes:
        return map_file(self._fd, offset, length)

    def _raw_close(self) -> None:
        self._release()


class DirectFile(PosixFile):
    """A file opened with O_DIRECT: nothing of it is in the page cache unless somebody maps it."""

    direct = True

    def _write_runs(self, runs: list[tuple[int, list[Bytes]]]) -> None:
        if len(runs) < POOL_MIN_RUNS:
            super()._write_runs(runs)
            return
        pending = [self._handed_over(runs[first::POOL_THREADS]) for first in range(POOL_THREADS)]
        # Wait for all before raising: the caller may reuse its buffers as soon as this returns.
        for failure in [task.exception() for task in pending]:
            if failure is not None:
                raise failure

    def _handed_over(self, runs: list[tuple[int, list[Bytes]]]) -> Future[None]:
        """The writing of some runs on the pool; here and now while the interpreter ends, when pools take no more."""
        try:
            return _POOL.submit(self._write_share, runs)
        except RuntimeError:
            done: Future[None] = Future()
            try:
                self._write_share(runs)
                done.set_result(None)
            except (DiskFull, StorageFailed) as error:
                done.set_exception(error)
            return done

    def _write_share(self, runs: list[tuple[int, list[Bytes]]]) -> None:
        for offset, parts in runs:
            self._write_run(offset, parts, alone=False)
