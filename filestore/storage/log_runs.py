"""Many groups at once: the batches of a log file in, vectors of groups and records out, without Python for each group.

Idea: recovery reads hundreds of thousands of small groups. The batches' chain is followed batch by batch
(`log_reader.py`); what is inside of them is taken apart by a few kernel calls for a whole file. `LogReader.__iter__`
is the slow twin, group by group; `tests/storage/test_log_runs.py` holds the two equal, errors included.

Invariant: groups are in log order, and a run holds whole ones only; a group that goes on in the next file is kept in
`Assembler` until its end has come. It does not do: I/O, and the chain of batches. Thread rule: an assembler is one
thread's, a run any thread's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from filestore.errors import DataCorrupted, InternalError
from filestore.storage import log_kernels as k
from filestore.storage.layout import Bytes
from filestore.storage.log_batch import BatchInfo
from filestore.storage.log_record import Int64s, LogGroup, decode_group

PROBLEMS = {
    k.BAD_FRAGMENTS: "fragments do not fill the batch",
    k.GROUP_IN_GROUP: "a group begins inside another",
    k.NO_BEGINNING: "a group has no beginning",
}


@dataclass(slots=True)
class GroupRun:
    """Consecutive groups. Vectors of groups: transaction, commit_timestamp, lsn, end_lsn, start, size; group i's
    records are first_record[i] .. first_record[i + 1] of kind, storage_id, offset, length; start and offset count from
    the start of `data`.
    """

    data: Bytes
    start: Int64s
    size: Int64s
    lsn: Int64s
    end_lsn: Int64s
    transaction: Int64s
    commit_timestamp: Int64s
    first_record: Int64s
    kind: Int64s
    storage_id: Int64s
    offset: Int64s
    length: Int64s

    def __len__(self) -> int:
        return len(self.start)

    def group(self, i: int) -> LogGroup:
        """Group i by itself; its bytes are a view."""
        start, end = int(self.start[i]), int(self.start[i] + self.size[i])
        own = slice(int(self.first_record[i]), int(self.first_record[i + 1]))
        return LogGroup(
            int(self.lsn[i]),
            int(self.end_lsn[i]),
            int(self.transaction[i]),
            int(self.commit_timestamp[i]),
            self.data[start:end],
            self.kind[own],
            self.storage_id[own],
            self.offset[own] - start,
            self.length[own],
        )

    def groups(self) -> Iterator[LogGroup]:
        """Every group by itself."""
        return map(self.group, range(len(self)))

    def cut(self, low: int, high: int) -> GroupRun:
        """Groups low .. high; views."""
        own = slice(int(self.first_record[low]), int(self.first_record[high]))
        groups = slice(low, high)
        return GroupRun(
            self.data,
            self.start[groups],
            self.size[groups],
            self.lsn[groups],
            self.end_lsn[groups],
            self.transaction[groups],
            self.commit_timestamp[groups],
            self.first_record[low : high + 1] - self.first_record[low],
            self.kind[own],
            self.storage_id[own],
            self.offset[own],
            self.length[own],
        )

    def record_stamps(self) -> Int64s:
        """The commit timestamp of each record's group."""
        return np.repeat(self.commit_timestamp, np.diff(self.first_record))

    @staticmethod
    def of(groups: Sequence[LogGroup]) -> GroupRun:
        """One run of groups that were read one by one."""
        size = np.array([g.data.size for g in groups], np.int64)
        start = np.cumsum(size) - size
        counts = np.array([len(g) for g in groups], np.int64)
        first_record = np.concatenate(([0], np.cumsum(counts)))
        return GroupRun(
            groups[0].data if len(groups) == 1 else np.concatenate([g.data for g in groups]),
            start,
            size,
            np.array([g.lsn for g in groups], np.int64),
            np.array([g.end_lsn for g in groups], np.int64),
            np.array([g.transaction for g in groups], np.int64),
            np.array([g.commit_timestamp for g in groups], np.int64),
            first_record,
            np.concatenate([g.kind for g in groups]),
            np.concatenate([g.storage_id for g in groups]),
            np.concatenate([g.offset for g in groups]) + np.repeat(start, counts),
            np.concatenate([g.length for g in groups]),
        )


class Assembler:
    """Takes the valid batches of one log file after the other, gives their groups. Used by one thread."""

    def __init__(self, from_lsn: int) -> None:
        """Groups that begin before `from_lsn` are left out."""
        self._from_lsn = from_lsn
        self._state = np.zeros(k.STATE_WORDS, np.int64)
        self._carried: list[Bytes] = []  # of a group that began in an earlier file
        self.problem_lsn = 0

    def take(self, data: Bytes, first_lsn: int, epoch: int, batches: Sequence[BatchInfo]) -> tuple[GroupRun, Int64s]:
        """(the groups that end in these batches, where in each batch the last one does).

        `data` begins at `first_lsn`. Raises BadFragments where batches do not fit together, DataCorrupted for a group
        that is not valid.
        """
        lsns = np.array([batch.lsn for batch in batches], np.int64)
        payloads = np.array([batch.payload for batch in batches], np.int64)
        room = int(payloads.sum())
        out = np.empty(room, np.uint8)
        most = room // k.GROUP_BYTES + 2
        starts, sizes, begins, ends = (np.empty(most, np.int64) for _ in range(4))
        last_ends = np.zeros(len(batches), np.int64)
        state = self._state
        carried = sum(part.size for part in self._carried)
        state[k.START], state[k.USED], state[k.FOUND] = -carried, 0, 0
        answer = k.assemble(
            data, lsns - first_lsn, payloads, lsns, epoch, self._from_lsn, state, out, starts, sizes, begins, ends,
            last_ends,
        )  # fmt: skip
        found, used = int(state[k.FOUND]), int(state[k.USED])
        whole, later = out[:used], []
        if answer == k.WELL and state[k.INSIDE]:
            later = [out[max(int(state[k.START]), 0) : used].copy()]
            if state[k.START] < 0:
                self._carried += later
                return _empty(), last_ends
        if found and starts[0] < 0:
            whole = np.concatenate([*self._carried, whole])
            starts[:found] += carried
            starts[0] = 0
        self._carried = later
        # Before a problem is told, so that the first one in the log is.
        run = _decoded(whole, starts[:found], sizes[:found], begins[:found], ends[:found])
        problem_lsn = int(state[k.PROBLEM_LSN])
        if answer == k.NO_HEADER:
            raise DataCorrupted(f"log group at LSN {problem_lsn} is damaged: it is shorter than its header")
        if answer != k.WELL:
            raise BadFragmentsError(problem_lsn, PROBLEMS[answer])
        return run, last_ends


class BadFragmentsError(Exception):
    """Fragments of valid batches that do not make groups: the reader says in which file."""

    def __init__(self, lsn: int, problem: str) -> None:
        super().__init__(problem)
        self.lsn = lsn
        self.problem = problem


def _decoded(data: Bytes, start: Int64s, size: Int64s, lsn: Int64s, end_lsn: Int64s) -> GroupRun:
    """Groups with their records. Raises DataCorrupted as `decode_group` does."""
    transaction, stamp, counts = (np.empty(len(start), np.int64) for _ in range(3))
    records = int(k.read_headers(data, start, size, transaction, stamp, counts))
    kind, storage_id, offset, length = (np.empty(max(records, 0), np.int64) for _ in range(4))
    bad = records
    if records >= 0:
        bad = int(k.read_directories(data, start, size, counts, kind, storage_id, offset, length))
    if bad < 0:
        i = -1 - bad
        decode_group(data[int(start[i]) : int(start[i] + size[i])], int(lsn[i]), int(end_lsn[i]))
        raise InternalError(f"log group at LSN {lsn[i]} is refused by one of two decoders")
    first_record = np.concatenate(([0], np.cumsum(counts)))
    return GroupRun(
        data, start, size, lsn, end_lsn, transaction, stamp, first_record, kind, storage_id, offset, length
    )


def _empty() -> GroupRun:
    none = np.empty(0, np.int64)
    first_record = np.zeros(1, np.int64)
    return GroupRun(
        np.empty(0, np.uint8), none, none, none, none, none, none, first_record, none, none, none, none
    )
