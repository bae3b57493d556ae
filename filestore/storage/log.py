"""The log: committed groups in order, made durable in batches. One shard of the design's log interface.

Idea: `append` copies a group into the open batch and returns its end LSN; whoever needs it durable takes a `Wait`
from `when_durable`. One flush takes everything pending, writes it with one write and one fdatasync, and then
finishes all waits that it covered: commits group themselves under load.

Invariants:
- LSN = position in the log. Bytes at or above `durable_lsn` may be lost, bytes below never (RELIABILITY R6);
- one flush at a time, in LSN order; a block is written once (R3);
- a failed write or sync is final: `failed` is set, every pending and later wait gets StorageFailed (R31). Nothing is
  retried, since nobody knows what reached the disk (R33);
- running out of disk is refused before anything is accepted: `reserve`, or `append` itself, raises DiskFull; the
  space for everything accepted is there already, zero-written (R34). One spare file is kept: the next opening begins
  in it. Only `last_resort` goes on into it.

Thread rule: `append` and `reserve` under the engine lock; everything else from any thread. Without `threaded` no
thread is started and `when_durable` flushes inline: the order of writes is then the same in every run. A host (the
event loop of a port, a thread that would only wait) may take the flusher's place: handing over to a thread and back
costs more than a short flush does. `read`, `hold`, `release` and `subscribe` are what a backup or a feed of changes
will stand on: so far only tests call them. It does not do: deciding when to checkpoint (see `bytes_since`),
compression, encryption (a key id has its place).
"""

from __future__ import annotations

import enum
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from filestore.errors import DiskFull, StorageFailed
from filestore.hal import File
from filestore.hal.memory import aligned_buffer
from filestore.storage import crash_points
from filestore.storage.layout import BLOCK, Bytes, round_up
from filestore.storage.log_batch import FRAGMENT_BYTES, HEADER_BYTES, pack_fragment, seal
from filestore.storage.log_files import LogFiles
from filestore.storage.log_reader import LogReader
from filestore.storage.log_record import LogGroup, Part
from filestore.storage.wait import Wait, finished

LOG: Final = logging.getLogger("filestore.storage")
BATCH_BYTES: Final = 262144  # large enough that headers and syncs vanish, small enough to be copied in cache
BUFFERS_KEPT: Final = 4
SMALLEST_PIECE: Final = 64  # less room than this at the end of a batch is left empty
DETAIL: Final = "The store accepts no more writes; what was acknowledged is safe."
_READERS: Final = itertools.count()
IDLE_S: Final = 0.5  # after this long without work the last batch gets a successor
FORGET: Final = 0.98  # each of the flusher's flushes lets the host's look this much shorter, so that it tries again
RETRY_BYTES: Final = 1 << 20  # without a spare, and the disk full, it is tried again after so much log
HINT: Final = "Close the store and open it again: it recovers from its log."


class _Errand(enum.Enum):
    """What the flusher is sent for."""

    FLUSH = enum.auto()
    LOOK = enum.auto()  # somebody else has flushed: from now on look for the end of the work
    STOP = enum.auto()


@dataclass(slots=True)
class _Batch:
    """A batch being filled. `used` counts from the start of the batch, header included."""

    lsn: int
    buffer: Bytes
    view: memoryview
    capacity: int
    used: int = HEADER_BYTES
    groups: int = 0

    @property
    def length(self) -> int:
        return round_up(self.used)


class Log:
    """The open log of a store; made by `Store.finish_recovery`."""

    def __init__(
        self,
        files: LogFiles,
        file: File,
        *,
        epoch: int,
        end_lsn: int,
        previous_hash: int,
        batch_bytes: int = BATCH_BYTES,
        threaded: bool = True,
        full: DiskFull | None = None,
    ) -> None:
        """`file` is the one that `files.live` ends with, its batches durable up to `end_lsn`.

        `full`: there was no room for this epoch's file. Nothing is written, `check_room` raises it.
        """
        header = files.live[-1]
        self.full = full
        self.files = files
        self.epoch = epoch
        self.durable_lsn = end_lsn
        self.failed: StorageFailed | None = None
        self._file = file
        self._header = header
        self._seed = header.seed
        self._hash = previous_hash
        self._batch_bytes = batch_bytes
        self._threaded = threaded
        self._mutex = threading.Lock()  # the open batch, the queue of full ones, waits
        self._flushing = threading.Lock()  # one flush at a time
        self._buffers: list[Bytes] = []
        self._plan_end = header.end_lsn  # where the file of the open batch ends, be it named already or not
        self._full: list[_Batch] = []
        self._open = self._new_batch(end_lsn)
        self._waits: list[tuple[int, Wait]] = []
        self._subscribers: list[Callable[[int], None]] = []
        self._holds: dict[str, int] = {}
        self._accept_until = 0
        self._accept_last = 0  # the same with the last spare file
        self._spare_from = 0  # LSN from which on a missing spare is tried again
        self._closed = False
        self._vouched = True
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._kicked = False
        self._host: Callable[[], bool] | None = None
        self.hosted_s = 0.0  # what flushes cost the host, smoothed
        self._maker: threading.Thread | None = None
        self._flusher: threading.Thread | None = None
        self._count_room()
        if threaded:
            self._flusher = threading.Thread(target=self._run, name="filestore-log", daemon=True)
            self._flusher.start()

    # Writing

    @property
    def end_lsn(self) -> int:
        """LSN behind the last group appended: the next group's LSN is not smaller. A group boundary."""
        batch = self._open
        return batch.lsn + batch.used if batch.used > HEADER_BYTES else batch.lsn

    def append(self, parts: Sequence[Part]) -> int:
        """Takes over one whole group (bytes or contiguous uint8 arrays) and returns its end LSN. Copies; no I/O.

        Engine lock held. Raises StorageFailed after a failure, DiskFull when even the last spare file is used up.
        """
        total = 0
        for part in parts:
            total += len(part)
        if self._open.lsn + self._open.used + self._worst(total) > self._accept_until:
            self.reserve(total, last_resort=True)
        with self._mutex:
            self._check()
            batch = self._open
            used = batch.used
            if batch.lsn + used + self._worst(total) > self._accept_last:
                raise DiskFull("the last log file is needed for what was accepted before")
            if used + FRAGMENT_BYTES + total + 8 > batch.capacity:
                return self._append_cut(b"".join([bytes(part) for part in parts]))
            view = batch.view
            pack_fragment(view, used, total, first=True, last=True)
            used += FRAGMENT_BYTES
            for part in parts:
                size = len(part)
                view[used : used + size] = part if isinstance(part, bytes) else part.data
                used += size
            if used & 7:
                view[used : used + (-used & 7)] = bytes(-used & 7)
                used += -used & 7
            batch.used = used
            batch.groups += 1
            return batch.lsn + used

    def reserve(self, nbytes: int, *, last_resort: bool = False) -> None:
        """Makes sure that a group of `nbytes` can be appended and flushed without asking the filesystem for space.

        A commit calls it before it changes anything. Raises DiskFull; then nothing has happened. `last_resort` may
        use the spare file that is otherwise kept. What fits into the open file is accepted without a spare, too.
        """
        needed = self._worst(nbytes)
        while True:
            self._check()
            self.check_room()
            at = self._open.lsn + self._open.used
            until = self._count_room()
            enough = (self._accept_last if last_resort else until) - at >= needed
            if enough and (last_resort or self.files.spares or at < self._spare_from):
                return
            try:
                self.files.make_spare()
            except DiskFull:
                if not enough:
                    raise
                self._spare_from = at + RETRY_BYTES
            except StorageFailed as error:
                raise self.fail(error) from error

    def check_room(self) -> None:
        """Raises DiskFull when there was no room for this epoch's file, so that nothing can be written."""
        if self.full is not None:
            raise DiskFull(self.full.message, hint=self.full.hint)

    def when_durable(self, lsn: int) -> Wait:
        """A wait that ends when all bytes below `lsn` are durable, or with StorageFailed; ValueError beyond the end."""
        if lsn <= self.durable_lsn:
            return finished()
        wait = Wait()
        with self._mutex:
            if lsn > self.end_lsn:
                raise ValueError(f"LSN {lsn} is beyond the end of the log at {self.end_lsn}")
            failed = self.failed
            if failed is None and lsn > self.durable_lsn:
                self._waits.append((lsn, wait))
            else:
                wait.finish(failed)
        if wait.done:
            return wait
        if self._threaded:
            self.kick()
        else:
            try:
                self.flush()
            except StorageFailed:
                assert wait.done  # a failed flush ends every wait with its error
        return wait

    def kick(self) -> None:
        """Asks the host, or else the flusher, to write what is pending, without waiting."""
        if not self._kicked:
            self._kicked = True
            host = self._host
            if host is None or not host():
                self._errands.put(_Errand.FLUSH)

    def flush_soon(self) -> None:
        """Hands a flush that a host has promised to the flusher."""
        self._errands.put(_Errand.FLUSH)

    def hosted(self, host: Callable[[], bool] | None) -> None:
        """From now on `host` is asked to flush first, on any thread: True promises a call of `flush_hosted` soon."""
        self._host = host

    def flush_hosted(self) -> None:
        """The flush that a host promised. Does not raise: a failure ends the log and every wait, as the flusher's."""
        self._kicked = False
        if not self._flushing.acquire(blocking=False):
            self._errands.put(_Errand.FLUSH)  # one is under way on another thread
            return
        vouched, began = self._vouched, time.perf_counter()
        try:
            self._check()
            self._flush_batches(self._take())
        except StorageFailed as error:
            LOG.error("log stopped: %s", error.message)
        finally:
            self._flushing.release()
        self.hosted_s += (time.perf_counter() - began - self.hosted_s) / 8
        if vouched:
            self._errands.put(_Errand.LOOK)

    def subscribe(self, callback: Callable[[int], None]) -> None:
        """Calls `callback(durable_lsn)` once a flush, after its waits are finished, on the flushing thread."""
        self._subscribers.append(callback)

    def flush(self) -> int:
        """Makes everything appended so far durable, on this thread. Returns `durable_lsn`; raises StorageFailed."""
        with self._flushing:
            self._check()
            self._flush_batches(self._take())
        return self.durable_lsn

    # Reading and trimming

    def read(self, from_lsn: int) -> Iterator[LogGroup]:
        """Durable groups from the group boundary `from_lsn` on, in order, up to what is durable now."""
        name = f"read {next(_READERS)}"
        self.hold(name, from_lsn)
        try:
            yield from LogReader(self.files.fs, self.files.uuid, from_lsn, limit=self.durable_lsn)
        finally:
            self.release(name)

    def hold(self, name: str, lsn: int) -> None:
        """Keeps the log from `lsn` on until `release(name)`: for a backup, a feed, a reader."""
        with self._mutex:
            self._holds[name] = lsn

    def release(self, name: str) -> None:
        with self._mutex:
            self._holds.pop(name, None)

    def trim(self, upto_lsn: int) -> None:
        """Recycles files that hold nothing at or above `upto_lsn` or a hold."""
        with self._mutex:
            upto = min([upto_lsn, *self._holds.values()])
        self._check()
        try:
            self.files.trim(upto)
        except StorageFailed as error:
            self.fail(error)
            raise
        self._count_room()
        crash_points.reach("log:trimmed")

    def give_up_spare(self, upto_lsn: int, freed: int) -> bool:
        """Gives the last spare file's space back to the filesystem, for a checkpoint on a full disk.

        False when there is none, groups that were accepted are going to need it, or the checkpoint gives back less:
        `trim(upto_lsn)` no file of the log, and `freed`, the bytes of other files, are not enough for a new one.
        """
        with self._mutex:
            upto = min([upto_lsn, *self._holds.values()])
            if not self.files.recyclable(upto) and freed < self.files.file_bytes:
                return False
            pending = self.end_lsn > self.files.live[-1].end_lsn
            if self.failed is not None or pending or not self.files.drop_spare():
                return False
            self._count_room()
            return True

    def keep_spare(self) -> None:
        """Makes the spare file when there is none and the disk has room for it. Any thread. Raises StorageFailed."""
        self._spare_from = 0
        if self.files.spares:
            return
        try:
            self.files.make_spare()
        except DiskFull as error:
            LOG.warning("cannot keep a spare log file: %s", error.message)
        except StorageFailed as error:
            raise self.fail(error) from error
        self._count_room()

    def bytes_since(self, lsn: int) -> int:
        """How much log a recovery from `lsn` would read."""
        return self.end_lsn - lsn

    # Ending

    def fail(self, cause: BaseException) -> StorageFailed:
        """Ends the log for good; pending waits get the error. Returns it. The first failure stays."""
        with self._mutex:
            if self.failed is None:
                reason = cause if isinstance(cause, StorageFailed) else None
                message = reason.message if reason else f"the log cannot be written: {cause}"
                self.failed = StorageFailed(message, detail=DETAIL, hint=HINT)
            failed = self.failed
            waits, self._waits = self._waits, []
        for _, wait in waits:
            wait.finish(failed)
        return failed

    def close(self) -> None:
        """Flushes, writes a last batch that vouches for the one before, and stops the threads. Harmless twice."""
        if self._closed:
            return
        self._closed = True
        if self._flusher is not None:
            self._errands.put(_Errand.STOP)
            self._flusher.join()
        if self._maker is not None:
            self._maker.join()
        try:
            if self.failed is None:
                self.flush()
                self._vouch()
        finally:
            self._file.close()
            self.fail(StorageFailed("the log is closed"))

    # Steps

    def _check(self) -> None:
        if self.failed is not None:
            raise StorageFailed(self.failed.message, detail=DETAIL, hint=HINT)

    def _worst(self, nbytes: int) -> int:
        """Log space that a group of `nbytes` may take up at most, with headers and padding."""
        return nbytes + (nbytes // (self._batch_bytes - BLOCK) + 4) * BLOCK

    def _count_room(self) -> int:
        """LSN up to which groups are accepted without touching the last spare file."""
        files = self.files
        if self.full is not None:
            return 0
        # In this order: a file that is just being switched to is counted once or not at all, never twice.
        end, spares = files.live[-1].end_lsn, files.spares
        self._accept_last = end + spares * files.capacity
        self._accept_until = end + max(spares - 1, 0) * files.capacity
        return self._accept_until

    def _new_batch(self, lsn: int) -> _Batch:
        if lsn == self._plan_end:
            self._plan_end += self.files.capacity
        buffer = self._buffers.pop() if self._buffers else aligned_buffer(self._batch_bytes)
        return _Batch(lsn, buffer, buffer.data, min(self._batch_bytes, self._plan_end - lsn))

    def _append_cut(self, group: bytes) -> int:
        """Spreads a group over as many batches as it takes. Mutex held."""
        done = 0
        while True:
            batch = self._open
            room = batch.capacity - batch.used - FRAGMENT_BYTES & ~7
            rest = len(group) - done
            if room < min(SMALLEST_PIECE, rest + 7 & ~7):
                self._full.append(batch)
                self._open = self._new_batch(batch.lsn + batch.length)
                continue
            piece = group[done : done + min(room, rest)]
            last = done + len(piece) == len(group)
            pack_fragment(batch.view, batch.used, len(piece), first=done == 0, last=last)
            start = batch.used + FRAGMENT_BYTES
            padded = piece + bytes(-len(piece) & 7)
            batch.view[start : start + len(padded)] = padded
            batch.used = start + len(padded)
            done += len(piece)
            if last:
                batch.groups += 1
                return batch.lsn + batch.used

    def _take(self, *, empty: bool = False) -> list[_Batch]:
        with self._mutex:
            batches, self._full = self._full, []
            if self._open.used > HEADER_BYTES or (empty and not batches):
                batches.append(self._open)
                self._open = self._new_batch(self._open.lsn + self._open.length)
            return batches

    def _flush_batches(self, batches: list[_Batch]) -> None:
        """Writes, syncs, publishes. Flush lock held. Any failure is the log's last."""
        if not batches:
            return
        try:
            self._write(batches)
        except BaseException as error:
            failed = self.fail(error)
            if isinstance(error, DiskFull):
                raise failed from error
            raise
        crash_points.reach("log:synced")
        self._vouched = False
        last = batches[-1]
        self._publish(last.lsn + last.length)
        for batch in batches:
            if len(self._buffers) < BUFFERS_KEPT:
                self._buffers.append(batch.buffer)
        self._prepare_next()

    def _write(self, batches: list[_Batch]) -> None:
        known = self.durable_lsn
        writes: list[tuple[int, Bytes]] = []
        for batch in batches:
            if batch.lsn == self._header.end_lsn:
                self._write_and_sync(writes)
                writes = []
                self._switch(batch.lsn)
                known = batch.lsn
            data = batch.buffer[: batch.length]
            data[batch.used :] = 0
            self._hash = seal(
                data,
                batch.lsn,
                self.epoch,
                batch.used - HEADER_BYTES,
                batch.groups,
                self._hash,
                known,
                self._seed,
            )
            writes.append((self._header.offset(batch.lsn), data))
        crash_points.reach("log:batch_built")
        self._write_and_sync(writes)

    def _write_and_sync(self, writes: list[tuple[int, Bytes]]) -> None:
        if not writes:
            return
        if len(writes) == 1:
            self._file.write_at(*writes[0])
        else:
            self._file.write_many(writes)
        crash_points.reach("log:written")
        self._file.sync()

    def _switch(self, lsn: int) -> None:
        """Goes on in a new file. Everything before it is durable, and its header will prove that."""
        self._file.close()
        self._file = self.files.start(self.epoch, lsn, self._hash)
        self._header = self.files.live[-1]
        self._seed = self._header.seed
        crash_points.reach("log:file_switched")

    def _publish(self, lsn: int) -> None:
        with self._mutex:
            self.durable_lsn = lsn
            waits = self._waits
            if waits and waits[-1][0] <= lsn:
                ready, self._waits = waits, []
            else:
                ready = [found for found in waits if found[0] <= lsn]
                self._waits = [found for found in waits if found[0] > lsn]
        failures: list[BaseException] = []
        tell: list[Callable[[], None]] = [wait.finish for _, wait in ready]
        tell += [partial(call, lsn) for call in self._subscribers]
        for told in tell:
            try:
                told()
            except BaseException as error:  # noqa: BLE001 - of a callback: the others are told first
                failures.append(error)
        if failures:
            raise failures[0]
        crash_points.reach("log:published")

    def _vouch(self) -> None:
        """Writes an empty batch whose `durable_lsn` vouches for the batch before it, unless the file is full.

        Without it, damage at rest to the last acknowledged batch would look like a torn tail.
        """
        with self._flushing:
            if not self._vouched and self._open.lsn < self._header.end_lsn:
                batches = self._take(empty=True)
                self._flush_batches(batches)
                self._vouched = batches[-1].used == HEADER_BYTES
            else:
                self._vouched = True

    def _prepare_next(self) -> None:
        """Keeps a file ready beyond the reserve before the present one is full, off the flushing thread."""
        if not self._threaded or self.files.spares > 1 or self._maker is not None:
            return
        header = self._header
        if self.durable_lsn - header.first_lsn > (header.end_lsn - header.first_lsn) // 2:
            self._maker = threading.Thread(target=self._make_spare, name="filestore-log-files", daemon=True)
            self._maker.start()

    def _make_spare(self) -> None:
        try:
            self.files.make_spare()
            self._count_room()
        except DiskFull as error:
            # Not lost: the commit that needs the space meets the same condition in `reserve`, and reports it.
            LOG.warning("cannot prepare a log file: %s", error.message)
        except StorageFailed as error:
            LOG.error("log stopped: %s", self.fail(error).message)
        finally:
            self._maker = None

    def _run(self) -> None:
        """The flusher thread: one flush an errand; those that come meanwhile make the next one."""
        try:
            while True:
                try:
                    errand = self._errands.get(timeout=None if self._vouched else IDLE_S)
                except queue.Empty:
                    self._vouch()
                    continue
                if errand is _Errand.STOP:
                    return
                if errand is _Errand.LOOK:
                    continue
                self._kicked = False
                self.hosted_s *= FORGET
                self.flush()
        except StorageFailed as error:
            LOG.error("log stopped: %s", error.message)
        except BaseException as error:
            # A bug, in a callback or here: without this thread nobody would ever be answered.
            self.fail(error)
            raise
