"""The real directory tree: open, list, rename, sync, lock.

The mode of I/O is decided once per tree, by a real transfer into an unnamed file, not by hope: REQUIRED fails
loudly where the filesystem refuses O_DIRECT, OPTIONAL falls back to the page cache and logs that it did.

A failed directory sync is as final as a file's: the directory is poisoned, later syncs of it raise.
It does not do: symbolic links out of the tree, watching, quotas.
"""

from __future__ import annotations

import fcntl
import logging
import os
import weakref
from typing import Final

from filestore.errors import DirectoryInUse, StorageFailed
from filestore.hal import direct as direct_io
from filestore.hal.buffered import BufferedFile
from filestore.hal.checked import describe_error, storage_error
from filestore.hal.counters import COUNTERS
from filestore.hal.direct import DirectFile
from filestore.hal.file import DirectIO, File, checked_path

LOG: Final = logging.getLogger("filestore.hal")
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
NOTE_BYTES: Final = 32  # of the lock file: the holder's process id, then blanks


class FileLock:
    """An flock on an open file. It belongs to the open file, so it conflicts within a process too.

    A forked child has the open file as well; it closes it at once, or it would keep the lock from whoever comes after
    its parent.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._fd: int | None = fd
        self.path = path
        _LOCKS.add(self)

    def release(self) -> None:
        """Lets go; harmless when done twice. The file stays, an unlink would race with the next holder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


_LOCKS: Final[weakref.WeakSet[FileLock]] = weakref.WeakSet()


def _forked() -> None:
    for lock in list(_LOCKS):
        lock.release()


os.register_at_fork(after_in_child=_forked)


class RealFileSystem:
    """A tree on a mounted filesystem. Any thread may call. `direct`: files are opened with O_DIRECT."""

    def __init__(self, root: str, *, direct: bool, refusal: str | None) -> None:
        self.root = root
        self.direct = direct
        self.refusal = refusal
        self._poison: dict[str, str] = {}

    def describe(self) -> str:
        """The mode in use, for the log and the shell."""
        if self.direct:
            return f"{self.root}: direct I/O"
        return f"{self.root}: buffered I/O ({self.refusal})"

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        if create and read_only:
            raise ValueError(f"file {path} cannot be created read-only")
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        if self.direct:
            flags |= os.O_DIRECT
        try:
            fd = os.open(self._full(path), flags, FILE_MODE)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise storage_error(error, f"cannot open file {path}") from error
        COUNTERS.opens += 1
        if self.direct:
            COUNTERS.direct_opens += 1
            return DirectFile(path, fd, read_only=read_only)
        return BufferedFile(path, fd, read_only=read_only)

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._full(path))

    def list(self, path: str = "") -> list[str]:
        try:
            return sorted(os.listdir(self._full(path)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, f"cannot list directory {path or self.root}") from error

    def make_dir(self, path: str) -> None:
        try:
            os.mkdir(self._full(path), DIRECTORY_MODE)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise storage_error(error, f"cannot make directory {path}") from error

    def rename(self, old: str, new: str) -> None:
        try:
            os.rename(self._full(old), self._full(new))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, f"cannot rename {old} to {new}") from error

    def unlink(self, path: str) -> None:
        try:
            os.unlink(self._full(path))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, f"cannot unlink {path}") from error

    def sync_dir(self, path: str = "") -> None:
        if path in self._poison:
            raise StorageFailed(f"directory {path or self.root} failed earlier: {self._poison[path]}")
        try:
            sync_directory(self._full(path))
        except FileNotFoundError:
            raise
        except OSError as error:
            COUNTERS.io_errors += 1
            why = self._poison[path] = describe_error(error)
            raise StorageFailed(f"cannot sync directory {path or self.root}: {why}") from error

    def lock(self, path: str = "LOCK") -> FileLock:
        full = self._full(path)
        try:
            fd = os.open(full, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise storage_error(error, f"cannot open lock file {path}") from error
        try:
            # flock, not fcntl(F_SETLK): a process-owned lock falls when any handle of the file is closed.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _noted(fd)
            os.close(fd)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise DirectoryInUse(
                f"directory {self.root} is in use by {who}",
                hint="One process opens a directory; others connect to it over the network.",
            ) from error
        except OSError as error:
            os.close(fd)
            raise storage_error(error, f"cannot lock {path}") from error
        found = FileLock(fd, path)
        try:
            # Informative only: the lock is the flock, not these bytes, so nothing is synced, and a full disk opens.
            os.pwrite(fd, f"{os.getpid()}\n".ljust(NOTE_BYTES).encode("ascii"), 0)
        except OSError as error:
            LOG.warning("cannot note this process in %s: %s", path, describe_error(error))
        return found

    def free_bytes(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def _full(self, path: str) -> str:
        return os.path.join(self.root, checked_path(path)) if path else self.root


def real_path(path: str) -> str:
    """The absolute path without symbolic links: one directory has one."""
    return os.path.realpath(path)


def _noted(fd: int) -> str:
    """What the holder of a lock has noted in its file; nothing when it cannot be read."""
    try:
        return os.pread(fd, NOTE_BYTES, 0).decode("ascii", "replace").strip()
    except OSError as error:
        LOG.debug("cannot read the lock file: %s", describe_error(error))
        return ""


def sync_directory(full: str) -> None:
    """fsync of a directory by its full path."""
    fd = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_filesystem(root: str, *, direct: DirectIO = DirectIO.OPTIONAL) -> RealFileSystem:
    """The tree at `root`, which is made (and its name synced) when missing; its parent must exist.

    Raises StorageFailed when `direct` is REQUIRED and the filesystem refuses O_DIRECT, or the root cannot be
    used.
    """
    full = os.path.abspath(root)
    try:
        if not os.path.isdir(full):
            if os.path.lexists(full):
                raise StorageFailed(f"cannot use {full}: it is not a directory")
            os.mkdir(full, DIRECTORY_MODE)
            sync_directory(os.path.dirname(full))
    except OSError as error:
        raise storage_error(error, f"cannot use directory {full}") from error
    refusal = "disabled by its user" if direct is DirectIO.DISABLED else direct_io.direct_refusal(full)
    if refusal is not None and direct is DirectIO.REQUIRED:
        raise StorageFailed(
            f"direct I/O is required, but refused for directory {full}: {refusal}",
            hint="Use a filesystem with O_DIRECT (ext4, xfs), or set direct I/O to optional.",
        )
    filesystem = RealFileSystem(full, direct=refusal is None, refusal=refusal)
    LOG.info("%s", filesystem.describe())
    if refusal is not None and direct is DirectIO.OPTIONAL:
        LOG.warning("direct I/O is not available for %s: %s; using the page cache", full, refusal)
    return filesystem
