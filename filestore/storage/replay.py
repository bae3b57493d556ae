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

Invariant: nothing that a record says is followed before it was compared: its kind is known, its places can be
places of its table, its lengths fit. A checksum says that a record is what was written, not that it makes sense.

Thread rule: one thread, under the engine lock, before the store is open for appends. It does not do: the log's own
validity (`log_reader.py`), indexes and definitions, which are the callbacks'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from filestore.errors import DataCorrupted, IncompatibleFormat
from filestore.storage import directory as d
from filestore.storage import log_kernels, row_kernels
from filestore.storage.layout import ROW_END
from filestore.storage.log_record import LogGroup, RecordKind
from filestore.storage.log_runs import GroupRun
from filestore.storage.registry import OPERATIONS
from filestore.storage.schema import TableDef
from filestore.storage.segment import Segment
from filestore.storage.segment_file import is_sealed_name
from filestore.storage.table import Table
from filestore.storage.vector import Array

RUN_GROUPS: Final = 8192
RUN_BYTES: Final = 32 << 20
LEAP_MOST: Final = 1 << 16  # numbers that segments may skip between two checkpoints: 4 billion rows of given-up loads
_KINDS: Final = np.array(list(RecordKind), np.int64)
_NEWER: Final = "Open it with the version of FileStore that wrote it, or a newer one."


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
        """One group. Raises DataCorrupted for what cannot be, IncompatibleFormat for what is unknown."""
        self._collected.append(group)
        self._bytes += group.data.size
        if len(self._collected) >= RUN_GROUPS or self._bytes >= RUN_BYTES:
            self.finish()

    def finish(self) -> None:
        """Replays what has been collected. Raises as `feed` does."""
        collected, self._collected, self._bytes = self._collected, [], 0
        if collected:
            self._replay(GroupRun.of(collected))

    def feed_run(self, run: GroupRun) -> None:
        """Many groups. Raises as `feed` does."""
        self.finish()
        if len(run):
            self._replay(run)

    def _replay(self, run: GroupRun) -> None:
        _check_kinds(run)
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
                self.on_ddl(_operations(payload, group.lsn))
            elif kind == RecordKind.ATTACH and storage_id in self.tables:
                table = self.tables[storage_id]
                self.on_attach(table, _attachment(table, payload, group.lsn), group.commit_timestamp)
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
        _check_places(table, segments << d.SLOT_BITS, "a row image")
        for number in np.unique(segments).tolist():
            segment = open_segment(table, number)
            if segment.columns is None:
                name = table.definition.qualified_name
                raise DataCorrupted(f"the log writes rows to segment {number} of table {name}, which is sealed")
            for ordinal in np.flatnonzero(nulls[:-1]).tolist():
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


def _check_kinds(run: GroupRun) -> None:
    """Raises IncompatibleFormat for a kind that this version does not know: left out, part of a commit were lost."""
    unknown = np.flatnonzero(~np.isin(run.kind, _KINDS))
    if len(unknown):
        first = int(unknown[0])
        group = int(np.searchsorted(run.first_record, first, side="right")) - 1
        raise IncompatibleFormat(
            f"log group at LSN {int(run.lsn[group])} has a record of kind {int(run.kind[first])}, which is not known",
            hint=_NEWER,
        )


def _operations(payload: Array, lsn: int) -> list[dict[str, Any]]:
    """The operations of a DDL record, each of a known form."""
    found = _json(payload, lsn)
    for operation in found if isinstance(found, list) else [None]:
        if not isinstance(operation, dict) or not isinstance(operation.get("op"), str):
            raise DataCorrupted(f"log group at LSN {lsn} has a definition that makes no sense")
        kind = operation["op"]
        if kind not in OPERATIONS:
            raise IncompatibleFormat(
                f"log group at LSN {lsn} has a definition of kind {kind!r}, which is not known", hint=_NEWER
            )
        if not all(isinstance(operation.get(name), form) for name, form in OPERATIONS[kind].items()):
            raise DataCorrupted(f"log group at LSN {lsn} has a definition that makes no sense")
        if kind == "table":
            try:
                TableDef.from_json(operation["table"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataCorrupted(f"log group at LSN {lsn} has a table that makes no sense: {error!r}") from error
    return list(found)


def _attachment(table: Table, payload: Array, lsn: int) -> dict[str, Any]:
    """The segments and files of an ATTACH record, as many of the one as of the other."""
    found = _json(payload, lsn)
    numbers, files = (found.get(name) if isinstance(found, dict) else None for name in ("segments", "files"))
    if not isinstance(numbers, list) or not isinstance(files, list) or len(numbers) != len(files):
        raise DataCorrupted(f"log group at LSN {lsn} attaches segments that make no sense")
    most = len(table.segments) + LEAP_MOST
    for number, name in zip(numbers, files, strict=True):
        if type(number) is not int or not 0 <= number < most or not isinstance(name, str) or not is_sealed_name(name):
            raise DataCorrupted(f"log group at LSN {lsn} attaches a segment that cannot be")
    return {"segments": numbers, "files": files}


def _json(payload: Array, lsn: int) -> Any:
    try:
        return json.loads(payload.tobytes())
    except (ValueError, RecursionError) as error:
        raise DataCorrupted(f"log group at LSN {lsn} has a record that is no JSON: {error}") from error


def _check_places(table: Table, addresses: Array, what: str) -> None:
    """Raises DataCorrupted unless each address may be one of the table: kernels follow them without looking."""
    numbers = addresses >> d.SLOT_BITS
    bad = (numbers < 0) | (numbers >= len(table.segments) + LEAP_MOST) | ((addresses & d.SLOT_MASK) >= table.slots)
    if bad.any():
        place = int(addresses[int(np.argmax(bad))])
        name = table.definition.qualified_name
        raise DataCorrupted(f"the log has {what} at {place:#x}, which is no address of table {name}")


def open_segment(table: Table, number: int) -> Segment:
    """The segment of that number, made for rows if there is none; the last one is the open one."""
    while len(table.segments) <= number:
        table.segments.append(None)
    segment = table.segments[number]
    if segment is None:
        segment = table.make_segment(number)
        segment.open()
        table.segments[number] = segment
        if number == len(table.segments) - 1:
            table.open_segment = segment
    return segment


def _ensure_links(table: Table, data: Array, offsets: Array, rows: int, segments: Array) -> None:
    """The hidden vectors that linked images need."""
    records, previous = np.empty(rows, np.int64), np.empty(rows, np.int64)
    found = int(row_kernels.linked_places(data, offsets, records, previous))
    records, previous = records[:found], previous[:found]
    _check_places(table, records, "a row")
    _check_places(table, previous, "an older version")
    for numbers, fields in (
        (segments, (d.RECORD, d.PREVIOUS)),
        (records >> d.SLOT_BITS, (d.HEAD,)),
        (previous >> d.SLOT_BITS, (d.END,)),
    ):
        for number in np.unique(numbers).tolist():
            segment = open_segment(table, number)
            for field in fields:
                segment.ensure(field)


def _ends(table: Table, data: Array, offsets: Array, lengths: Array, stamps: Array) -> None:
    if (lengths % ROW_END.itemsize).any():
        raise DataCorrupted(f"the log has a broken list of ended versions of table {table.definition.qualified_name}")
    count = int(lengths.sum()) // ROW_END.itemsize
    addresses, each = np.empty(count, np.int64), np.empty(count, np.int64)
    log_kernels.read_ends(data, offsets, lengths, stamps, addresses, each)
    _check_places(table, addresses, "the end of a version")
    for number in np.unique(addresses >> d.SLOT_BITS).tolist():
        open_segment(table, number)
    table.ensure_ends(addresses)
    row_kernels.replay_ends(table.directory, table.addresses.dirty, addresses, each)
