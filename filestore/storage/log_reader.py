"""Reading the log back: which batches are valid, which groups are whole, and where the log ends.

Idea: batches are read file by file along their chain of hashes. The first invalid one ends the log, if nothing
proves that the log went on: that is the torn tail of a crash, a normal case. It is damage, and refused by name,
when anything shows that the position was durable once (RELIABILITY R7):
- a later log file exists (its header is written only after everything before it is durable);
- a valid batch beyond it says so in `durable_lsn` (one flush may leave several batches in flight, in any order, so a
  valid later batch alone proves nothing);
- the manifest's redo LSN, or the caller's limit, lies beyond it.

What was read is not yet durable: a killed process leaves writes in flight, and after a failed sync nobody knows
(R32). So `proven_lsn` says up to where durability is proven by something newer, and `tail` holds the batches behind
it, which the next epoch writes again to a new place (R33) instead of believing them. All of this is known when the
iterator is exhausted. It writes nothing, so a crash while reading changes nothing.

Groups come one by one (`__iter__`), or as many at a time as a file holds (`runs`), which is what recovery does.

Thread rule: a reader is one thread's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from filestore.errors import DataCorrupted
from filestore.hal import FileSystem
from filestore.storage.layout import BLOCK, Bytes
from filestore.storage.log_batch import (
    HEADER_BYTES,
    BatchInfo,
    Fragment,
    candidates,
    decode,
    end_of,
    fragments,
    previous_hash_of,
)
from filestore.storage.log_files import LogFileHeader, list_log_files, read_header
from filestore.storage.log_record import LogGroup, decode_group
from filestore.storage.log_runs import Assembler, BadFragmentsError, GroupRun


@dataclass(frozen=True, slots=True)
class TailBatch:
    """A valid batch whose durability is not proven. `used`: header and fragments, cut behind the last whole group."""

    lsn: int
    data: Bytes
    used: int
    groups: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A batch of the last file: where its last group ends (0 = none does), and the hash of the batch before it."""

    batch: BatchInfo
    data: Bytes
    last_end: int
    previous_hash: int


class LogReader:
    """One pass over the log from `from_lsn`, a group boundary. Used by one thread.

    `epoch_floor`: the newest log file must have at least this epoch; 0 = there may be no log at all.
    `limit`: the log is known to be durable up to here (0 = nothing is known), and is not read beyond it when given.
    """

    def __init__(
        self, fs: FileSystem, uuid: bytes, from_lsn: int, *, epoch_floor: int = 0, limit: int | None = None
    ) -> None:
        self._fs = fs
        self._uuid = uuid
        self._from_lsn = from_lsn
        self._limit = limit
        self._floor = epoch_floor
        self.headers: list[LogFileHeader] = []
        self.end_lsn = from_lsn
        self.previous_hash = 0
        self.epoch = 0
        self.batches = 0
        self.proven_lsn = from_lsn
        self.proven_hash = 0
        self.tail: list[TailBatch] = []
        self._seen: list[_Seen] = []
        self._partial: list[Bytes] | None = None
        self._partial_lsn = 0
        self._partial_epoch = 0
        self._begun = False  # a group's first fragment was seen; before that, pieces of an older group are skipped

    def __iter__(self) -> Iterator[LogGroup]:
        """Whole groups that begin at or behind `from_lsn`. Raises DataCorrupted naming file and offset."""
        for header, newest in self._files():
            for window, batch in self._read_file(header):
                pieces = fragments(window, batch.payload)
                if pieces is None:
                    raise self._damage(header, batch.lsn, "fragments do not fill the batch")
                yield from self._groups(header, window, batch, pieces)
                if newest:
                    last_end = max((end_of(piece) for piece in pieces if piece.last), default=0)
                    self._seen.append(_Seen(batch, window[: batch.length], last_end, previous_hash_of(window)))
        self._divide()

    def runs(self) -> Iterator[GroupRun]:
        """The same groups, those that end in one file at a time. The fast twin of `__iter__`."""
        assembler = Assembler(self._from_lsn)
        for header, newest in self._files():
            found = list(self._read_file(header))
            if not found:
                continue
            # Every window reaches to the end of the file, so the first one holds them all.
            data, batches = found[0][0], [batch for _, batch in found]
            try:
                run, last_ends = assembler.take(data, batches[0].lsn, header.epoch, batches)
            except BadFragmentsError as error:
                raise self._damage(header, error.lsn, error.problem) from error
            if newest:
                for (window, batch), last_end in zip(found, last_ends.tolist(), strict=True):
                    self._seen.append(_Seen(batch, window[: batch.length], last_end, previous_hash_of(window)))
            if len(run):
                yield run
        self._divide()

    def _files(self) -> Iterator[tuple[LogFileHeader, bool]]:
        """(header, whether it is the newest) of each file to read, each one proven to continue the one before."""
        self._find_files()
        for i, header in enumerate(self.headers):
            if i == 0:
                self.previous_hash = header.previous_hash
                self.end_lsn = header.first_lsn
            else:
                self._check_successor(header, self.headers[i - 1])
            yield header, i + 1 == len(self.headers)
            if self._limit is not None and self.end_lsn >= self._limit:
                return

    def _find_files(self) -> None:
        found = list_log_files(self._fs)
        usable = [i for i, (first_lsn, _) in enumerate(found) if first_lsn <= self._from_lsn]
        if not usable:
            if self._floor == 0 and not found:
                return
            raise DataCorrupted(f"the log file that holds LSN {self._from_lsn} is missing from directory wal")
        self.headers = [read_header(self._fs, path, self._uuid) for _, path in found[usable[-1] :]]
        self.epoch = max(header.epoch for header in self.headers)
        if self.epoch < self._floor:
            raise DataCorrupted(
                f"the log of epoch {self._floor} is missing: the newest file of directory wal has epoch {self.epoch}"
            )

    def _check_successor(self, header: LogFileHeader, older: LogFileHeader) -> None:
        if header.first_lsn != self.end_lsn or header.epoch < older.epoch:
            raise DataCorrupted(f"file {header.path} does not continue the log, which ends at LSN {self.end_lsn}")
        if header.previous_hash != self.previous_hash:
            raise DataCorrupted(f"file {header.path} is damaged at offset 0: it does not continue file {older.path}")

    def _read_file(self, header: LogFileHeader) -> Iterator[tuple[Bytes, BatchInfo]]:
        """Valid batches along their chain, each with the file's bytes from its start on."""
        place = self.headers.index(header)
        following = self.headers[place + 1] if place + 1 < len(self.headers) else None
        stop = header.end_lsn if following is None else following.first_lsn
        if stop > header.end_lsn:
            raise DataCorrupted(f"the log between files {header.path} and {following and following.path} is missing")
        if self._limit is not None:
            stop = min(stop, max(self._limit, header.first_lsn))
        file = self._fs.open(header.path, read_only=True)
        try:
            data = file.read_at(BLOCK, stop - header.first_lsn)
        finally:
            file.close()
        seed = header.seed
        while self.end_lsn < stop:
            position = self.end_lsn - header.first_lsn
            window = data[position:]
            batch = decode(window, self.end_lsn, header.epoch, seed)
            if batch is None or previous_hash_of(window) != self.previous_hash:
                self._check_tail(header, window, seed, known=0 if following is None else following.first_lsn)
                return
            yield window, batch
            self.batches += 1
            self.previous_hash = batch.hash
            self.end_lsn = batch.end_lsn

    def _check_tail(self, header: LogFileHeader, window: Bytes, seed: int, known: int) -> None:
        """Raises DataCorrupted when the invalid batch at `end_lsn` must once have been durable."""
        durable = max(known, self._from_lsn, self._limit or 0)
        for offset in candidates(window):
            later = decode(window[offset:], self.end_lsn + offset, header.epoch, seed)
            if later is not None:
                durable = max(durable, later.durable_lsn)
        if durable > self.end_lsn:
            raise self._damage(
                header, self.end_lsn, f"the batch at LSN {self.end_lsn} is not valid, but LSN {durable} was durable"
            )

    def _divide(self) -> None:
        """Sets apart what is proven to be durable from the tail that has to be written again."""
        if not self.headers:
            return
        first = self.headers[-1]
        proven = max([self._from_lsn, first.first_lsn, *(seen.batch.durable_lsn for seen in self._seen)])
        unproven = [seen for seen in self._seen if seen.batch.lsn >= proven]
        whole = max((i + 1 for i, seen in enumerate(unproven) if seen.last_end), default=0)
        self.proven_lsn = unproven[0].batch.lsn if unproven else self.end_lsn
        self.proven_hash = unproven[0].previous_hash if unproven else self.previous_hash
        for i, seen in enumerate(unproven[:whole]):
            used = seen.last_end if i + 1 == whole else HEADER_BYTES + seen.batch.payload
            self.tail.append(TailBatch(seen.batch.lsn, seen.data, used, seen.batch.groups))

    def _groups(
        self, header: LogFileHeader, window: Bytes, batch: BatchInfo, pieces: list[Fragment]
    ) -> Iterator[LogGroup]:
        for piece in pieces:
            if piece.first:
                # A group whose last fragments were lost in the crash that ended an older epoch is no group.
                if self._partial is not None and self._partial_epoch == header.epoch:
                    raise self._damage(header, batch.lsn + piece.offset, "a group begins inside another")
                self._partial, self._partial_lsn, self._begun = [], batch.lsn + piece.offset, True
                self._partial_epoch = header.epoch
            elif self._partial is None:
                if self._begun:
                    raise self._damage(header, batch.lsn + piece.offset, "a group has no beginning")
                continue
            self._partial.append(window[piece.data_offset : piece.data_offset + piece.length])
            if piece.last:
                parts, self._partial = self._partial, None
                if self._partial_lsn >= self._from_lsn:
                    data = parts[0] if len(parts) == 1 else np.concatenate(parts)
                    yield decode_group(data, self._partial_lsn, batch.lsn + end_of(piece))

    def _damage(self, header: LogFileHeader, lsn: int, problem: str) -> DataCorrupted:
        return DataCorrupted(
            f"file {header.path} is damaged at offset {header.offset(lsn)}: {problem}",
            hint="Restore a backup: acknowledged commits may lie behind this place, so nothing is cut off.",
        )
