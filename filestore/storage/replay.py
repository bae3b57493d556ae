"""Replay: the log's groups back into tables, many small ones at a time.

Groups are collected and replayed in runs: all row images of one table in a run are one call of a kernel,
whichever transactions they come from. That is right because within a run the records of one table commute,
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
from filestore.storage import row_kernels
from filestore.storage.log_record import LogGroup, RecordKind
from filestore.storage.table import Table
from filestore.storage.vector import Array

RUN_GROUPS: Final = 8192
RUN_BYTES: Final = 32 << 20


class Replayer:
    """Takes groups in commit order (`feed`), and does what is left at the `finish`."""

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
        self._run: list[LogGroup] = []
        self._bytes = 0

    def feed(self, group: LogGroup) -> None:
        """One group. Raises DataCorrupted when it does not hold what it says."""
        self.groups += 1
        self.last_timestamp = max(self.last_timestamp, group.commit_timestamp)
        self.last_transaction = max(self.last_transaction, group.transaction)
        self._run.append(group)
        self._bytes += group.data.size
        if len(self._run) >= RUN_GROUPS or self._bytes >= RUN_BYTES:
            self.finish()

    def finish(self) -> None:
        """Replays what has been collected."""
        run, self._run, self._bytes = self._run, [], 0
        if not run:
            return
        kinds = np.concatenate([g.kind for g in run])
        counts = np.array([len(g.kind) for g in run])
        if np.isin(kinds, (RecordKind.DDL, RecordKind.ATTACH)).any():
            start = 0
            for i, group in enumerate(run):
                if np.isin(group.kind, (RecordKind.DDL, RecordKind.ATTACH)).any():
                    self._rows(run[start:i])
                    self._special(group)
                    start = i + 1
            self._rows(run[start:])
        elif counts.sum():
            self._rows(run)

    def _special(self, group: LogGroup) -> None:
        """A group with definitions or attached segments: definitions come first in it."""
        for kind, storage_id, payload in group.records:
            if kind == RecordKind.DDL:
                self.on_ddl(json.loads(payload.tobytes()))
            elif kind == RecordKind.ATTACH and storage_id in self.tables:
                self.on_attach(self.tables[storage_id], json.loads(payload.tobytes()), group.commit_timestamp)
        self._rows([group])

    def _rows(self, run: list[LogGroup]) -> None:
        """Row images and ends of groups, table by table."""
        if not run:
            return
        sizes = np.array([g.data.size for g in run], np.int64)
        bases = np.cumsum(sizes) - sizes
        counts = [len(g.kind) for g in run]
        data = run[0].data if len(run) == 1 else np.concatenate([g.data for g in run])
        kinds = np.concatenate([g.kind for g in run])
        storage_ids = np.concatenate([g.storage_id for g in run])
        offsets = np.concatenate([g.offset for g in run]) + np.repeat(bases, counts)
        lengths = np.concatenate([g.length for g in run])
        stamps = np.repeat(np.array([g.commit_timestamp for g in run], np.int64), counts)
        for storage_id in np.unique(storage_ids).tolist():
            table = self.tables.get(storage_id)
            if table is None:
                continue
            here = storage_ids == storage_id
            images = np.flatnonzero(here & (kinds == RecordKind.ROWS))
            if len(images):
                self._images(table, data, offsets[images], lengths[images], stamps[images])
            ends = np.flatnonzero(here & (kinds == RecordKind.ENDS))
            if len(ends):
                _ends(table, data, offsets[ends], lengths[ends], stamps[ends])

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
    parts = [data[o : o + n].view(np.int64) for o, n in zip(offsets.tolist(), lengths.tolist(), strict=True)]
    addresses = np.concatenate(parts)
    for number in np.unique(addresses >> d.SLOT_BITS).tolist():
        open_segment(table, number)
    table.ensure_ends(addresses)
    each = np.repeat(stamps, [len(p) for p in parts])
    row_kernels.replay_ends(table.directory, table.addresses.dirty, addresses, each)
