"""An in-memory disk for crash and fault tests of the whole engine: a `FileSystem` that can lose power at any
operation.

    disk = SimulatedDisk()
    run_the_engine(disk)
    for image in disk.crash_states(seed=7, per_op=50):      # new disks, after a power cut before each
    operation
        check_recovery(image, acknowledged_before(image.crash_op))      # on failure, print image.description
    image = disk.crash_image("op=17 kind=torn whole=3 torn=9@512 shorn= names=4")   # the same state again

Besides: `fail` makes the n-th call of a kind fail, `crash_at` raises `SimulatedCrash` (crash inside
recovery), `corrupt` rots bytes at rest. Everything is deterministic by seed. What may survive is said in
`medium.py` and `crash.py`; the rules of `File` (alignment, poison, sealing) are those of `CheckedFile`, the
same code as on a real disk.

Thread rule: any thread; one lock serialises the disk, and gives the trace its order.
It does not do: latency, and torn bytes of allocations.
"""

from __future__ import annotations

import builtins
import errno as errno_codes
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from filestore.errors import DirectoryInUse, StorageFailed
from filestore.hal.checked import CheckedFile, ShortTransfer, describe_error, storage_error
from filestore.hal.crash import Survivors, all_survive, enumerate_states, survive
from filestore.hal.faults import Fault
from filestore.hal.file import Bytes, File, checked_path, parent_of
from filestore.hal.medium import Content, Inode, Medium, Op
from filestore.hal.memory import aligned_buffer
from filestore.hal.trace import Trace

TRACED: Final = frozenset({"write", "allocate", "sync", "create", "make_dir", "rename", "unlink", "sync_dir"})
UNTRACED: Final = frozenset({"open", "read", "map", "list"})
PER_OP: Final = 64


class SimulatedCrash(BaseException):
    """The power is off. A BaseException, because no error handler of the engine may survive a power cut."""


class SimulatedLock:
    """The disk's exclusive lock; a crash image starts without it, as a dead process's lock is gone."""

    def __init__(self, disk: SimulatedDisk, path: str) -> None:
        self._disk = disk
        self.path = path

    def release(self) -> None:
        self._disk.locks.pop(self.path, None)


class SimulatedFile(CheckedFile):
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, path: str, inode: int, *, read_only: bool) -> None:
        super().__init__(path, read_only=read_only)
        self._disk = disk
        self._inode = inode

    def _raw_size(self) -> int:
        return self._disk.inode_of(self._inode).live.size

    def _raw_read(self, offset: int, length: int) -> Bytes:
        return self._disk.raw_read(self.path, self._inode, offset, length)

    def _raw_write(self, offset: int, parts: Sequence[Bytes]) -> None:
        self._disk.raw_write(self.path, self._inode, offset, b"".join([part.tobytes() for part in parts]))

    def _raw_allocate(self, size: int) -> None:
        self._disk.raw_allocate(self.path, self._inode, size)

    def _raw_sync(self) -> None:
        self._disk.traced("sync", self.path, inode=self._inode)

    def _raw_map(self, offset: int, length: int) -> Bytes:
        found = self._disk.raw_map(self.path, self._inode, offset, length)
        found.flags.writeable = False
        return found

    def _raw_close(self) -> None:
        return


class SimulatedDisk:
    """A whole disk in memory; see the module's docstring.

    `ops` is the trace. `capacity` in bytes bounds the sizes of all files (ENOSPC beyond). With `record=False`
    no trace is kept, for long runs; crash states then exist for the present moment only.
    """

    def __init__(self, *, capacity: int | None = None, record: bool = True) -> None:
        self.root = "simulated"
        self.capacity = capacity
        self.op_count = 0
        self.description = "a new disk"  # of a crash image: parses back, see `crash_image`
        self.crash_op = -1  # of a crash image: the power went before this operation of the traced disk
        self.crashed = False
        self.faults: list[Fault] = []
        self.locks: dict[str, SimulatedLock] = {}
        self._medium = Medium()
        self._trace = Trace(keep=record)
        self._crash_at: int | None = None
        self._poison: dict[str, str] = {}
        self._guard = threading.RLock()

    @property
    def ops(self) -> builtins.list[Op]:
        """The trace since the disk was made, or since `forget_trace`."""
        return self._trace.ops

    # FileSystem

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        if create and read_only:
            raise ValueError(f"file {path} cannot be created read-only")
        checked_path(path)
        with self._guard:
            if not create:
                self._untraced("open", path, f"cannot open file {path}")
                if path not in self._medium.names:
                    raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), path)
            else:
                self._check_new(path)
                self._named("create", path, f"cannot open file {path}", inode=self._medium.next_inode)
            return SimulatedFile(self, path, self._medium.names[path], read_only=read_only)

    def exists(self, path: str) -> bool:
        checked_path(path)
        with self._guard:
            self._check_power()
            return path in self._medium.names or path in self._medium.dirs

    def list(self, path: str = "") -> list[str]:
        checked_path(path)
        with self._guard:
            self._untraced("list", path, f"cannot list directory {path}")
            if path not in self._medium.dirs:
                raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), path)
            everything = [*self._medium.names, *(found for found in self._medium.dirs if found)]
            return sorted(found.rpartition("/")[2] for found in everything if parent_of(found) == path)

    def make_dir(self, path: str) -> None:
        with self._guard:
            self._check_new(checked_path(path))
            self._named("make_dir", path, f"cannot make directory {path}")

    def rename(self, old: str, new: str) -> None:
        checked_path(new)
        with self._guard:
            inode = self._existing(checked_path(old))
            if parent_of(new) not in self._medium.dirs:
                raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), new)
            if old != new:
                self._named("rename", old, f"cannot rename {old} to {new}", inode=inode, new_path=new)

    def unlink(self, path: str) -> None:
        with self._guard:
            self._named("unlink", path, f"cannot unlink {path}", inode=self._existing(checked_path(path)))

    def sync_dir(self, path: str = "") -> None:
        with self._guard:
            if checked_path(path) in self._poison:
                raise StorageFailed(f"directory {path or '/'} failed earlier: {self._poison[path]}")
            if path not in self._medium.dirs:
                raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), path)
            try:
                self.traced("sync_dir", path)
            except OSError as error:
                why = self._poison[path] = describe_error(error)
                raise StorageFailed(f"cannot sync directory {path or '/'}: {why}") from error

    def lock(self, path: str = "LOCK") -> SimulatedLock:
        with self._guard:
            self._check_power()
            if path in self.locks:
                raise DirectoryInUse("the simulated disk is in use by this process")
            lock = self.locks[path] = SimulatedLock(self, path)
            return lock

    def free_bytes(self) -> int:
        with self._guard:
            used = sum(self._medium.inodes[number].live.size for number in set(self._medium.names.values()))
            return (1 << 40 if self.capacity is None else self.capacity) - used

    # What tests do to it

    def fail(
        self,
        op: str,
        path_prefix: str = "",
        *,
        nth: int = 1,
        error: int = errno_codes.EIO,
        sticky: bool = False,
        short: int | None = None,
    ) -> Fault:
        """Makes the `nth` matching call from now on fail with `error` (all later ones too when `sticky`).

        `op` is a traced kind or one of open, read, map, list. A failed sync leaves its data in limbo; a
        failed write may have reached the disk, whole or torn, but is not read back, except that with `short`
        its first `short` bytes are. Running out of space writes nothing. Returns the `Fault`, whose
        `injected` counts.
        """
        if op not in TRACED | UNTRACED:
            raise ValueError(f"no such operation: {op}")
        if nth < 1:
            raise ValueError("nth counts from 1")
        fault = Fault(op, path_prefix, nth, error, sticky, short)
        with self._guard:
            self.faults.append(fault)
        return fault

    @property
    def injected(self) -> int:
        """How many failures all faults have caused."""
        return sum(fault.injected for fault in self.faults)

    def heal(self) -> None:
        """Disarms every fault."""
        with self._guard:
            self.faults.clear()

    def crash_at(self, op_index: int) -> None:
        """Turns the power off before traced operation `op_index`: SimulatedCrash there and ever after."""
        self._crash_at = op_index

    def crash_states(
        self, seed: int = 0, *, start: int | None = None, stop: int | None = None, per_op: int | None = PER_OP
    ) -> Iterator[SimulatedDisk]:
        """New disks: what power cuts before operation `start`, ..., `stop` may leave, by default after the
        last too.

        At most `per_op` states a point, None for all. The same seed and trace give the same states in the
        same order.
        """
        with self._guard:
            first = self._trace.first if start is None else start
            points = self._trace.points(self._medium, first, self._trace.end if stop is None else stop)
        for op, medium in points:
            for survivors in enumerate_states(medium, op, seed, per_op):
                yield self._image(medium, survivors)

    def crash_image(self, description: str = "none") -> SimulatedDisk:
        """The disk after a power cut: 'none' or 'all' in flight survives now, or an image's `description`."""
        with self._guard:
            if description == "none":
                return self._image(self._medium, Survivors(self.op_count, "none"))
            if description == "all":
                return self._image(self._medium, all_survive(self._medium, self.op_count))
            survivors = Survivors.parse(description)
            _, medium = next(self._trace.points(self._medium, survivors.op, survivors.op))
            return self._image(medium, survivors)

    def forget_trace(self) -> None:
        """Begins a new trace here. What is in flight stays in flight; indexes go on."""
        with self._guard:
            self._trace = Trace(keep=self._trace.keep, first=self.op_count)

    def clone(self) -> SimulatedDisk:
        """An independent disk with the same live and durable state, without faults, lock or trace."""
        with self._guard:
            twin = SimulatedDisk(capacity=self.capacity, record=self._trace.keep)
            twin._medium = self._medium.copy()
            twin.op_count = self.op_count
            twin.forget_trace()
            twin.description, twin.crash_op = self.description, self.crash_op
            return twin

    def files(self) -> dict[str, bytes]:
        """Every file's bytes as reads return them."""
        with self._guard:
            contents = {path: self._medium.inodes[number].live for path, number in self._medium.names.items()}
            return {path: content.read(0, content.size) for path, content in sorted(contents.items())}

    def durable_files(self) -> dict[str, bytes]:
        """Every file's bytes if the power went now and nothing in flight survived."""
        return self.crash_image("none").files()

    def in_flight(self) -> builtins.list[Op]:
        """The operations that a crash now may undo."""
        with self._guard:
            return self._medium.in_flight()

    def corrupt(self, path: str, offset: int, data: bytes) -> None:
        """Replaces bytes at rest, behind the engine's back: rot, zeroed or misplaced pages. Not traced."""
        with self._guard:
            inode = self._medium.inodes[self._existing(path)]
            for content in (inode.live, inode.durable):
                if offset + len(data) > content.size:
                    raise ValueError(f"file {path} ends at {content.size}")
                content.write(offset, data)

    def flip_bit(self, path: str, offset: int, bit: int = 0) -> None:
        """Flips one bit at rest."""
        with self._guard:
            old = self._medium.inodes[self._existing(path)].live.read(offset, 1)
        self.corrupt(path, offset, bytes([old[0] ^ 1 << bit]))

    def truncate(self, path: str, size: int) -> None:
        """Cuts a file at rest, as a foreign tool might. Not traced."""
        with self._guard:
            inode = self._medium.inodes[self._existing(path)]
            for content in (inode.live, inode.durable):
                kept = content.read(0, min(size, content.size))
                content.pages, content.size = {}, 0
                content.write(0, kept)

    # Raw calls of files: they raise OSError like system calls

    def inode_of(self, number: int) -> Inode:
        self._check_power()
        return self._medium.inodes[number]

    def raw_read(self, path: str, number: int, offset: int, length: int) -> Bytes:
        with self._guard:
            self._raise_fault("read", path)
            found = self._medium.inodes[number].live.read(offset, length)
        buffer = aligned_buffer(len(found))
        buffer[:] = np.frombuffer(found, dtype=np.uint8)
        return buffer

    def raw_map(self, path: str, number: int, offset: int, length: int) -> Bytes:
        with self._guard:
            self._raise_fault("map", path)
            return self.raw_read(path, number, offset, length)

    def raw_write(self, path: str, number: int, offset: int, data: bytes) -> None:
        with self._guard:
            self._check_space(self._medium.inodes[number].live, offset + len(data))
            self.traced("write", path, inode=number, offset=offset, data=data)

    def raw_allocate(self, path: str, number: int, size: int) -> None:
        with self._guard:
            self._check_space(self._medium.inodes[number].live, size)
            self.traced("allocate", path, inode=number, offset=size)

    def traced(
        self, kind: str, path: str, *, inode: int = 0, offset: int = 0, data: bytes = b"", new_path: str = ""
    ) -> None:
        """Carries out one operation, or fails it by an armed fault with OSError, or ends the power."""
        with self._guard:
            self._check_power()
            if self._crash_at is not None and self.op_count >= self._crash_at:
                self.crashed = True
                raise SimulatedCrash(f"power cut before operation {self.op_count}: {kind} {path or '/'}")
            fault = self._fault(kind, path)
            if fault is None:
                self._carry_out(Op(self.op_count, kind, path, inode, offset, data, new_path))
                return
            cut = kind == "write" and fault.short is not None
            left = fault.survivor(data) if kind == "write" else data
            self._carry_out(Op(self.op_count, kind, path, inode, offset, left, new_path, ok=cut))
            error = fault.as_error()
            raise ShortTransfer(fault.error, len(left), error.strerror or "") if cut else error

    # Shared steps

    def _carry_out(self, op: Op) -> None:
        self._trace.record(self._medium, op)
        self._medium.apply(op)
        self.op_count += 1

    def _image(self, medium: Medium, survivors: Survivors) -> SimulatedDisk:
        image = SimulatedDisk(capacity=self.capacity, record=self._trace.keep)
        image._medium = survive(medium, survivors)
        image.description = str(survivors)
        image.crash_op = survivors.op
        return image

    def _check_power(self) -> None:
        if self.crashed:
            raise SimulatedCrash("the power is off")

    def _check_space(self, content: Content, size: int) -> None:
        if self.capacity is not None and size - content.size > self.free_bytes():
            raise OSError(errno_codes.ENOSPC, os.strerror(errno_codes.ENOSPC))

    def _check_new(self, path: str) -> None:
        self._check_power()
        if path in self._medium.names or path in self._medium.dirs:
            raise FileExistsError(errno_codes.EEXIST, os.strerror(errno_codes.EEXIST), path)
        if parent_of(path) not in self._medium.dirs:
            raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), path)

    def _existing(self, path: str) -> int:
        self._check_power()
        if path not in self._medium.names:
            raise FileNotFoundError(errno_codes.ENOENT, os.strerror(errno_codes.ENOENT), path)
        return self._medium.names[path]

    def _named(self, kind: str, path: str, what: str, *, inode: int = 0, new_path: str = "") -> None:
        try:
            self.traced(kind, path, inode=inode, new_path=new_path)
        except OSError as error:
            raise storage_error(error, what) from error

    def _untraced(self, kind: str, path: str, what: str) -> None:
        try:
            self._raise_fault(kind, path)
        except OSError as error:
            raise storage_error(error, what) from error

    def _fault(self, kind: str, path: str) -> Fault | None:
        fired = [fault for fault in self.faults if fault.fires(kind, path)]
        return fired[0] if fired else None

    def _raise_fault(self, kind: str, path: str) -> None:
        self._check_power()
        fault = self._fault(kind, path)
        if fault is not None:
            raise fault.as_error()
