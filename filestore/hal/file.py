"""The thin waist: what the engine may ask of a disk.

Idea: `File` and `FileSystem` are the only way to bytes that survive. Three implementations (direct, buffered,
simulated) keep the same promises, so the whole engine runs on the simulated disk in crash tests.

Invariants:
- every write has an aligned offset and length (`ALIGNMENT`), on every implementation, so that code that works
  on one works on all of them;
- a write is in flight until a later `sync` of the same file has returned; a name (create, rename, unlink) is
  in flight until a later `sync_dir` of its directory has returned;
- a failed sync is final: the file is poisoned and says so at every later write and sync, because the kernel
  reports a write-back error once and answers the next fsync with success while the disk holds the old bytes;
- one access path per file at one time: written and synced first, mapped read-only afterwards, never both.

Paths are relative strings with '/' between components ('wal/000.log'); '' is the root. It does not do:
truncation, append, locks on ranges, writable maps.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

ALIGNMENT: Final = 4096  # the page, and a multiple of the block sizes in use; 512 would do on most disks
SECTOR: Final = 512  # the unit at which writes tear; that one is written whole is not believed either

Bytes: TypeAlias = npt.NDArray[np.uint8]


class DirectIO(enum.Enum):
    """How much O_DIRECT matters to whoever opens the directory.

    Buffered writes hide write-back errors from the process that caused them, so a production store wants
    REQUIRED; some filesystems refuse O_DIRECT, so a laptop wants OPTIONAL; tests of the buffered path want
    DISABLED.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"
    DISABLED = "disabled"


@runtime_checkable
class File(Protocol):
    """One open file. Any thread may call; overlapping concurrent writes have no defined order."""

    def size(self) -> int:
        """Bytes from the start to the end of the file."""
        ...

    def read_at(self, offset: int, length: int) -> Bytes:
        """What exists of `length` bytes from `offset`: a fresh writable array, shorter at the end of the
        file.

        The array starts on an `ALIGNMENT` boundary when `offset` is aligned. Whether fewer bytes are an error
        is for the caller to say. Raises StorageFailed naming file and offset.
        """
        ...

    def write_at(self, offset: int, data: Bytes) -> None:
        """Writes contiguous uint8 `data` at `offset`; both offset and length are multiples of `ALIGNMENT`.

        The array's own address need not be aligned: it is then copied through an aligned buffer. The caller
        must not change `data` before the call returns. Raises ValueError (misaligned), DiskFull (nothing was
        written), StorageFailed (anything else; the file is poisoned, since what reached the disk is unknown).
        """
        ...

    def write_many(self, writes: Sequence[tuple[int, Bytes]]) -> None:
        """Submits several writes as a batch: adjacent ones as one vectored write. They must not overlap."""
        ...

    def allocate(self, size: int) -> None:
        """Reserves space so that the file is at least `size` (aligned) bytes; new bytes read as zero."""
        ...

    def sync(self) -> None:
        """Returns when all earlier writes and allocates of this file are durable. Failure is final."""
        ...

    def map_read(self, offset: int, length: int) -> Bytes:
        """A read-only view of a private PROT_READ map of bytes that must all exist (else DataCorrupted).

        Only for sealed files: with unsynced writes it raises ValueError, and after it this handle writes no
        more. Lifetime: the view owns the map. It stays valid after `close` and `unlink`, and the map goes
        away with the last view. A bad sector under a map is SIGBUS, so verify first by `read_at`.
        """
        ...

    def close(self) -> None:
        """Releases the handle without syncing. Closing twice is harmless; live map views stay valid."""
        ...


@runtime_checkable
class Lock(Protocol):
    """An exclusive hold on a directory, gone with the process at the latest."""

    def release(self) -> None: ...


@runtime_checkable
class FileSystem(Protocol):
    """A directory tree rooted at one directory."""

    root: str

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Opens a file. `create` makes a new one (FileExistsError if it is there); else FileNotFoundError."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, path: str = "") -> list[str]:
        """Sorted base names of the files and directories in directory `path`."""
        ...

    def make_dir(self, path: str) -> None:
        """Makes one directory; its parent exists. FileExistsError if it is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Renames a file atomically, replacing `new`; durable after `sync_dir` of the directory of `new`."""
        ...

    def unlink(self, path: str) -> None:
        """Removes a file's name; handles and views that are open keep its bytes."""
        ...

    def sync_dir(self, path: str = "") -> None:
        """Returns when every earlier create, rename and unlink in directory `path` is durable."""
        ...

    def lock(self, path: str = "LOCK") -> Lock:
        """Takes the directory for this process alone, or raises DirectoryInUse naming the holder if known."""
        ...

    def free_bytes(self) -> int:
        """Bytes that an unprivileged writer may still use."""
        ...


def checked_path(path: str) -> str:
    """The path itself if it is relative and stays below the root, else ValueError."""
    if path == "":
        return path
    for part in path.split("/"):
        if part in ("", ".", "..") or "\0" in part:
            raise ValueError(f"not a path below the root: {path!r}")
    return path


def parent_of(path: str) -> str:
    """The directory part of a path: 'wal' for 'wal/000.log', '' for 'LOCK'."""
    return path.rpartition("/")[0]


def round_up(nbytes: int, unit: int = ALIGNMENT) -> int:
    """The least multiple of `unit` that is not below `nbytes`."""
    return -(-nbytes // unit) * unit
