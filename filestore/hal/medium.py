"""What a disk holds and what it may forget: the state machine below the simulated disk.

Idea: each file has two contents, `live` (what reads return) and `durable` (what a power cut leaves), and a
list of operations in flight between the two. Names work alike: a live and a durable map from path to file,
and the name operations that no directory sync covers yet. Everything else, crash states included, is
replaying `Op`s over this.

Assumptions about the medium, to be weaker than any real disk and filesystem:
- a write in flight survives wholly, not at all, cut at any 512-byte edge (either side), or with one sector of
  garbage; writes in flight survive independently of their order, sizes and allocations too;
- what a returned sync covers survives every crash (a disk that lies is out of scope);
- names survive independently of contents, each name operation by itself, a rename as one step;
- a sync of a file does not make its name durable, ext4's kindness is not relied on;
- after a failed sync the data in flight is in limbo: reads return it, it may or may not be on the disk, and
  the next sync succeeds and forgets it (measured on Linux: the second fsync returns success, the disk holds
  the old bytes).

Pages are immutable bytes objects, so that copying a disk copies references only. It does no I/O, checks no
arguments and raises no errors: that is `simulated.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from filestore.hal.file import ALIGNMENT, parent_of

ZERO_PAGE: Final = bytes(ALIGNMENT)
DATA_KINDS: Final = frozenset({"write", "allocate"})
NAME_KINDS: Final = frozenset({"create", "make_dir", "rename", "unlink"})


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One traced operation. `inode` is the file it concerns; `ok` is False when the disk failed it."""

    index: int
    kind: str  # write, allocate, sync, create, make_dir, rename, unlink, sync_dir
    path: str
    inode: int = 0
    offset: int = 0  # write: bytes from the start; allocate: the size asked for
    data: bytes = b""
    new_path: str = ""  # rename only
    ok: bool = True

    def __str__(self) -> str:
        text = f"{self.index} {self.kind} {self.path or '/'}"
        if self.kind == "write":
            text += f" [{self.offset}, {self.offset + len(self.data)})"
        elif self.kind == "allocate":
            text += f" {self.offset}"
        elif self.kind == "rename":
            text += f" -> {self.new_path}"
        return text if self.ok else text + " FAILED"


class Content:
    """A file's bytes as pages, absent ones being zero, and its size."""

    __slots__ = ("pages", "size")

    def __init__(self, pages: dict[int, bytes] | None = None, size: int = 0) -> None:
        self.pages = {} if pages is None else pages
        self.size = size

    def copy(self) -> Content:
        return Content(self.pages.copy(), self.size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Any offset and length: torn writes end at sectors, not at pages."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            page, start = divmod(offset + done, ALIGNMENT)
            count = min(ALIGNMENT - start, len(view) - done)
            piece = bytes(view[done : done + count])
            if count < ALIGNMENT:
                old = self.pages.get(page, ZERO_PAGE)
                piece = old[:start] + piece + old[start + count :]
            self.pages[page] = piece
            done += count
        self.size = max(self.size, offset + done)

    def grow(self, size: int) -> None:
        self.size = max(self.size, size)

    def read(self, offset: int, length: int) -> bytes:
        """What exists of the range."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first = offset // ALIGNMENT
        pages = [self.pages.get(page, ZERO_PAGE) for page in range(first, -(-end // ALIGNMENT))]
        start = offset - first * ALIGNMENT
        return b"".join(pages)[start : start + end - offset]


class Inode:
    """One file: its live and durable content, and the ids of the operations between them."""

    __slots__ = ("durable", "limbo", "live", "pending")

    def __init__(self, live: Content, durable: Content) -> None:
        self.live = live
        self.durable = durable
        self.pending: list[Op] = []  # returned, and the next good sync makes them durable
        self.limbo: list[Op] = []  # failed: maybe on the disk, and the next good sync forgets them

    def copy(self) -> Inode:
        twin = Inode(self.live.copy(), self.durable.copy())
        twin.pending = self.pending.copy()
        twin.limbo = self.limbo.copy()
        return twin


class Medium:
    """All files and names of one disk."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {}
        self.names: dict[str, int] = {}
        self.durable_names: dict[str, int] = {}
        self.dirs: set[str] = {""}
        self.durable_dirs: set[str] = {""}
        self.pending_names: list[Op] = []
        self.next_inode = 1

    def copy(self) -> Medium:
        """An independent twin, in flight and all; pages are shared since they never change."""
        twin = Medium()
        twin.inodes = {number: inode.copy() for number, inode in self.inodes.items()}
        twin.names = self.names.copy()
        twin.durable_names = self.durable_names.copy()
        twin.dirs = self.dirs.copy()
        twin.durable_dirs = self.durable_dirs.copy()
        twin.pending_names = self.pending_names.copy()
        twin.next_inode = self.next_inode
        return twin

    def apply(self, op: Op) -> None:
        """Carries out one operation; a failed one leaves what a failure leaves."""
        if op.kind in DATA_KINDS:
            inode = self.inodes[op.inode]
            if op.ok:
                inode.pending.append(op)
                apply_data(inode.live, op)
            elif op.data:  # maybe on the disk, though it is not read back
                inode.limbo.append(op)
        elif op.kind == "sync":
            self._sync(self.inodes[op.inode], op.ok)
        elif op.kind == "sync_dir":
            self._sync_dir(op.path, op.ok)
        elif op.ok:
            if op.kind == "create":
                self.inodes[op.inode] = Inode(Content(), Content())
                self.next_inode = max(self.next_inode, op.inode + 1)
            apply_name(self.names, self.dirs, op)
            self.pending_names.append(op)

    def in_flight(self) -> list[Op]:
        """The operations that a crash now may or may not undo, oldest first; only those that could matter."""
        reachable = set(self.durable_names.values()) | {op.inode for op in self.pending_names}
        ops = list(self.pending_names)
        for number in reachable:
            inode = self.inodes.get(number)
            if inode is not None:
                ops += inode.pending
                ops += inode.limbo
        return sorted(ops, key=lambda op: op.index)

    def after_crash(self, pieces: Mapping[int, list[tuple[int, bytes]]], names: Iterable[int]) -> Medium:
        """The disk that a power cut leaves, all of it durable.

        `pieces` maps the index of each surviving data operation to what of it survived, as (offset, bytes);
        an allocation that survives has an empty list. `names` are the surviving name operations' indexes.
        """
        kept = set(names)
        left = Medium()
        left.durable_names = self.durable_names.copy()
        left.durable_dirs = self.durable_dirs.copy()
        for op in self.pending_names:
            if op.index in kept:
                apply_name(left.durable_names, left.durable_dirs, op)
        # A directory whose own name was lost takes what is in it along.
        left.durable_dirs = {path for path in left.durable_dirs if _reachable(path, left.durable_dirs)}
        left.durable_names = {
            path: inode for path, inode in left.durable_names.items() if parent_of(path) in left.durable_dirs
        }
        for number in set(left.durable_names.values()):
            inode = self.inodes[number]
            content = inode.durable.copy()
            for op in sorted(inode.pending + inode.limbo, key=lambda op: op.index):
                if op.index in pieces:
                    if op.kind == "allocate":
                        content.grow(op.offset)
                    for offset, data in pieces[op.index]:
                        content.write(offset, data)
            # A write cut inside a page leaves a size inside that page; the engine must cope, as on a real
            # disk.
            left.inodes[number] = Inode(content, content.copy())
        left.names = left.durable_names.copy()
        left.dirs = left.durable_dirs.copy()
        left.next_inode = self.next_inode
        return left

    def _sync(self, inode: Inode, ok: bool) -> None:
        if ok:
            for op in inode.pending:
                apply_data(inode.durable, op)
            inode.limbo.clear()
        else:
            inode.limbo += inode.pending
        inode.pending.clear()

    def _sync_dir(self, path: str, ok: bool) -> None:
        if not ok:
            return
        waiting: list[Op] = []
        for op in self.pending_names:
            if parent_of(op.new_path or op.path) == path:
                apply_name(self.durable_names, self.durable_dirs, op)
            else:
                waiting.append(op)
        self.pending_names = waiting


def apply_data(content: Content, op: Op) -> None:
    """The whole of a write or allocate."""
    if op.kind == "allocate":
        content.grow(op.offset)
    else:
        content.write(op.offset, op.data)


def apply_name(names: dict[str, int], dirs: set[str], op: Op) -> None:
    """One name operation, total: it also makes sense where an earlier one was lost."""
    if op.kind == "make_dir":
        dirs.add(op.path)
    elif op.kind == "create":
        names[op.path] = op.inode
    else:
        if names.get(op.path) == op.inode:
            del names[op.path]
        if op.kind == "rename":
            names[op.new_path] = op.inode


def _reachable(path: str, dirs: set[str]) -> bool:
    while path:
        if path not in dirs:
            return False
        path = parent_of(path)
    return True
