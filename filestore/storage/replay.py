"""Replay: the log's groups back into tables, many small ones at a time.

Groups are replayed in runs: all row images of one table in a run are one call of a kernel, whichever
transactions they come from. The log is read in such runs (`feed_run`); groups that come one by one (`feed`)
are collected to some. That is right because within a run the records of one table commute,
apart from the order of row images among themselves, which is kept: an image writes a slot that no other one
writes, an end stamps a version that nothing else ends. Operations on definitions and attached segments end a
run.

Replaying any suffix of the log again gives the same state (RELIABILITY R9): slots, ends and heads are set to
what they are, and the heap bytes that a repetition spends are those of one more checkpoint interval at most.

Storage ids that no table has belong to tables that were dropped later on: their records are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from filestore.errors import DataCorrupted
from filestore.storage import directory as d
from filestore.storage import log_kernels, row_kernels
from filestore.storage.log_record import LogGroup, RecordKind
from filestore.storage.log_runs import GroupRun
from filestore.storage.table import Table
from filestore.storage.vector import Array

RUN_GROUPS: Final = 8192
RUN_BYTES: Final = 32 << 20


class Replayer:
    """Takes groups in commit order (`feed_run`, `feed`), and does what is left at the `finish`."""

    def __init__(
        self,
        tables: Mapping[int, Table],
        on_rows: Callable[[Table, Array], None],
        on_ddl: Callable[[list[dict[str, Any]]], None],
        on_attach: Callable[[Table, dict[str, Any], int], None],
    ) -> None:
        """on_rows: index entries of replayed versions; on_ddl: operations of one group; on_attach: (table,
        payload, timestamp).
        """
        self.tables = tables
        self.on_rows = on_rows
        self.on_ddl = on_ddl
        self.on_attach = on_attach
        self.last_timestamp = 0
        self.last_transaction = 0
        self.groups = 0
        self._collected: list[LogGroup] = []
        self._bytes = 0

    def feed(self, group: LogGroup) -> None:
        """One group. Raises DataCorrupted when it does not hold what it says."""
        self._collected.append(group)
        self._bytes += group.data.size
        if len(self._collected) >= RUN_GROUPS or self._bytes >= RUN_BYTES:
            self.finish()

    def finish(self) -> None:
        """Replays what has been collected."""
        collected, self._collected, self._bytes = self._collected, [], 0
        if collected:
            self._replay(GroupRun.of(collected))

    def feed_run(self, run: GroupRun) -> None:
        """Many groups. Raises DataCorrupted when one does not hold what it says."""
        self.finish()
        if len(run):
            self._replay(run)

    def _replay(self, run: GroupRun) -> None:
        self.groups += len(run)
        self.last_timestamp = max(self.last_timestamp, int(run.commit_timestamp.max()))
        self.last_transaction = max(self.last_transaction, int(run.transaction.max()))
        special = np.flatnonzero((run.kind == RecordKind.DDL) | (run.kind == RecordKind.ATTACH))
        start = 0
        for i in np.unique(np.searchsorted(run.first_record, special, side="right") - 1).tolist():
            self._rows(run.cut(start, i))
            self._special(run.cut(i, i + 1))
            start = i + 1
        self._rows(run.cut(start, len(run)))

    def _special(self, run: GroupRun) -> None:
        """A group with definitions or attached segments: definitions come first in it."""
        group = run.group(0)
        for kind, storage_id, payload in group.records:
            if kind == RecordKind.DDL:
                self.on_ddl(json.loads(payload.tobytes()))
            elif kind == RecordKind.ATTACH and storage_id in self.tables:
                self.on_attach(self.tables[storage_id], json.loads(payload.tobytes()), group.commit_timestamp)
        self._rows(run)

    def _rows(self, run: GroupRun) -> None:
        """Row images and ends of groups, table by table."""
        if len(run.kind) == 0:
            return
        stamps = run.record_stamps()
        for storage_id in np.unique(run.storage_id).tolist():
            table = self.tables.get(storage_id)
            if table is None:
                continue
            here = run.storage_id == storage_id
            images = np.flatnonzero(here & (run.kind == RecordKind.ROWS))
            if len(images):
                self._images(table, run.data, run.offset[images], run.length[images], stamps[images])
            ends = np.flatnonzero(here & (run.kind == RecordKind.ENDS))
            if len(ends):
                _ends(table, run.data, run.offset[ends], run.length[ends], stamps[ends])

    def _images(self, table: Table, data: Array, offsets: Array, lengths: Array, stamps: Array) -> None:
        layout = table.layout.matrix
        segments = np.empty(len(offsets), np.int64)
        nulls = np.zeros(len(layout) + 1, np.uint8)
        rows = int(row_kernels.scan_images(data, offsets, lengths, layout, segments, nulls))
        if rows < 0:
            raise DataCorrupted(f"row image {-1 - rows} of table {table.definition.qualified_name} is damaged")
        for number in np.unique(segments).tolist():
            open_segment(table, number)
            for ordinal in np.flatnonzero(nulls[:-1]).tolist():
                segment = table.segments[number]
                assert segment is not None, "just opened"
                segment.ensure_valid(ordinal, segment.rows)
        if nulls[-1]:
            _ensure_links(table, data, offsets, rows, segments)
        addresses = np.empty(rows, np.int64)
        matrix, dirty = table.directory, table.addresses.dirty
        written = int(
            row_kernels.replay_images(
                matrix, dirty, layout, data, offsets, stamps, table.heap_bytes, table.slots, addresses
            )
        )
        if written < 0:
            raise DataCorrupted(f"row image {-1 - written} of table {table.definition.qualified_name} does not fit")
        self.on_rows(table, addresses)


def open_segment(table: Table, number: int) -> None:
    """Sees to it that a segment exists for rows; the last one is the open one."""
    while len(table.segments) <= number:
        table.segments.append(None)
    if table.segments[number] is None:
        segment = table.make_segment(number)
        segment.open()
        table.segments[number] = segment
        if number == len(table.segments) - 1:
            table.open_segment = segment


def _ensure_links(table: Table, data: Array, offsets: Array, rows: int, segments: Array) -> None:
    """The hidden vectors that linked images need."""
    records, previous = np.empty(rows, np.int64), np.empty(rows, np.int64)
    found = int(row_kernels.linked_segments(data, offsets, records, previous))
    for numbers, fields in (
        (segments, (d.RECORD, d.PREVIOUS)),
        (records[:found], (d.HEAD,)),
        (previous[:found], (d.END,)),
    ):
        for number in np.unique(numbers).tolist():
            open_segment(table, number)
            segment = table.segments[number]
            assert segment is not None, "just opened"
            for field in fields:
                segment.ensure(field)


def _ends(table: Table, data: Array, offsets: Array, lengths: Array, stamps: Array) -> None:
    count = int((lengths >> 3).sum())
    addresses, each = np.empty(count, np.int64), np.empty(count, np.int64)
    log_kernels.read_ends(data, offsets, lengths, stamps, addresses, each)
    for number in np.unique(addresses >> d.SLOT_BITS).tolist():
        open_segment(table, number)
    table.ensure_ends(addresses)
    row_kernels.replay_ends(table.directory, table.addresses.dirty, addresses, each)
