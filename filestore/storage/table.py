"""A table's rows: versions at addresses, appended to the open segment, fetched by address, scanned segment by
segment.

An address is `segment << 20 | slot`; the record number of a row, its name for life, is the address of its
first version. `directory` (see `filestore.storage.directory`) tells compiled code where everything lies.
Addresses are handed out in ascending order and never twice, also across crashes for anything that a log or
checkpoint names.

Invariants: a version's values are written before its slot counts; slots never move while the table lives; the
address that the next append gets is above all that earlier appends got, which is what a snapshot's bounds
rest on.

Thread rule: everything here runs under the engine lock, except what a `ScanUnit` does and `gather`, which any
thread may call for addresses that it found visible. It does not know transactions, only their marks; nor
indexes, only that keys have some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from filestore import errors
from filestore.storage import directory as d
from filestore.storage import row_kernels, row_write_kernels, segment_kernels
from filestore.storage.schema import TableDef
from filestore.storage.segment import HEAP_BYTES, LONGEST_VALUE, Arenas, Directory, Layout, SealedColumns, Segment
from filestore.storage.vector import EMPTY_HEAP, Array, Batch, Vector

_NO_VALID: Final[Array] = np.empty(0, np.bool_)
_SCRATCH_BYTES: Final = 1 << 16


class SnapshotView(Protocol):
    """What reading asks of a snapshot (`filestore.txn.snapshot.Snapshot`)."""

    @property
    def timestamp(self) -> int: ...

    @property
    def bounds(self) -> Mapping[int, int]: ...

    def mask(self, begin: Array | None, begin_value: int, end: Array | None, low: int, high: int, bound: int) -> Array:
        """bool[high - low]: which slots are seen; bound is the first slot whose own versions are not."""

    def versions(self, directory: Array, records: Array, bound: int) -> Array:
        """int64[n]: address of the version of each row that is seen, -1 for none."""


# What became of a row: its version's address, its record number, the log's image, and whether the version that it
# replaces was claimed along with it.
RowWritten = tuple[int, int, bytes, bool]


@dataclass(frozen=True, slots=True)
class ScanUnit:
    """A segment up to a bound, as a scan found it. `whole`: every row is seen by the snapshot that made it."""

    table: Table
    segment: Segment
    rows: int
    whole: bool

    @property
    def base(self) -> int:
        """Address of slot 0."""
        return self.segment.number << d.SLOT_BITS

    def batch(self, ordinals: Sequence[int], low: int, high: int) -> Batch:
        """Columns of slots low..high, not copied; dictionary-encoded where a sealed segment is. Raises
        DataCorrupted.
        """
        return Batch([self.segment.vector(i, low, high) for i in ordinals], high - low)

    def visible(self, snapshot: SnapshotView, low: int, high: int) -> Array | None:
        """bool[high - low], None when all are seen."""
        if self.whole:
            return None
        bound = snapshot.bounds.get(self.table.storage_id, 0) - self.base
        segment = self.segment
        return snapshot.mask(segment.begin, segment.begin_value, segment.end, low, high, min(bound, self.rows))

    def addresses(self, low: int, high: int) -> Array:
        """int64[high - low]."""
        return np.arange(self.base + low, self.base + high, dtype=np.int64)

    def zone(self, ordinal: int) -> tuple[Any, Any, int] | None:
        """(least, greatest, nulls) of a sealed column's stored values; None when unknown. Both are None in a
        column of nulls.
        """
        sealed = self.segment.sealed
        return None if sealed is None else sealed.zone(ordinal)


class Table:
    """The rows of one storage id. `definition` changes with DDL that leaves the rows alone."""

    def __init__(
        self, definition: TableDef, source: Arenas, *, slots: int = d.SEGMENT_SLOTS, heap_bytes: int = HEAP_BYTES
    ) -> None:
        self.definition = definition
        self.storage_id: Final = definition.storage_id
        self.layout: Final = Layout([c.type for c in definition.columns])
        self.source: Final = source
        self.slots: Final = slots
        self.heap_bytes: Final = heap_bytes
        self.addresses = Directory(len(definition.columns))
        self.segments: list[Segment | None] = []
        self.open_segment: Segment | None = None
        self.live_rows = 0
        self.stored_keys: tuple[Any, ...] = ()  # `filestore.txn.keys.StoredKey`s, of a room above
        self._scratch = np.empty(_SCRATCH_BYTES, np.uint8)
        self._written = np.zeros(row_write_kernels.OUT_FIELDS, np.int64)
        self._fields = [d.column_field(i, 0) for i in range(len(self.layout.types))]

    # --- what it is

    @property
    def directory(self) -> Array:
        """int64[segments, fields], see `filestore.storage.directory`. Ask anew after any write: it is
        replaced as it grows.
        """
        return self.addresses.matrix

    @property
    def next_address(self) -> int:
        """The least address that the next append may get; everything appended so far is below it."""
        segment = self.open_segment
        if segment is None:
            return len(self.segments) << d.SLOT_BITS
        return (segment.number << d.SLOT_BITS) + segment.rows

    def segment_list(self) -> list[Segment]:
        """Segments that exist, in address order."""
        return [s for s in self.segments if s is not None]

    # --- writing

    def append(
        self,
        mark: int,
        columns: Sequence[Vector],
        n: int,
        records: Array | None = None,
        previous: Array | None = None,
        images: list[bytes] | None = None,
    ) -> Array:
        """Writes n rows as versions of the transaction `mark` and returns their addresses, int64[n].

        columns: in table order, of the table's types, any encoding. `previous`: addresses of the versions
        that they replace, whose record numbers go into `records` (int64[n], written here). `images` receives
        the log's row images. Raises 54000 for a value of more than 64 MiB.
        """
        plain = [v if v.dictionary is None else v.plain() for v in columns]
        done = 0
        parts: list[Array] = []
        while done < n:
            segment, slot, count = self._place(plain, done, n - done)
            segment_kernels.publish(
                self.directory, self.addresses.dirty, self.layout.matrix, segment.number, slot, count, mark
            )
            if previous is not None and records is not None:
                self._link(segment.number, slot, previous, done, count, records)
            if images is not None:
                images.append(self._image(segment.number, slot, count, previous is not None))
            first = (segment.number << d.SLOT_BITS) | slot
            parts.append(np.arange(first, first + count, dtype=np.int64))
            done += count
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def write_row(self, mark: int, cells: Array, blob: Array, old: int = -1) -> RowWritten | None:
        """Writes one row, given as cells (see `row_write_kernels`), as a version of the transaction `mark`; None, with
        nothing done, when `append` has to.

        old: address of the version that it replaces, which is claimed then if it is free, -1 for a new row.
        """
        segment = self.open_segment
        if segment is None or segment.rows >= self.slots:
            segment = self._new_segment()
        written, number = self._written, segment.number
        while True:
            answer = row_write_kernels.write_row(
                self.directory,
                self.addresses.dirty,
                self.layout.matrix,
                number,
                mark,
                old,
                cells,
                blob,
                self.heap_bytes,
                self._scratch,
                written,
            )
            if answer == row_write_kernels.DONE:
                break
            if answer == row_write_kernels.GENERAL:
                return None
            self._make_missing(answer, segment, old)
        address, record, used, claimed = written.tolist()
        if used < 0:
            image = self._image(number, address & d.SLOT_MASK, 1, old >= 0)
        else:
            image = self._scratch[:used].tobytes()
        return address, record, image, claimed != 0

    def _make_missing(self, what: int, segment: Segment, old: int) -> None:
        """Makes the vector that `write_row` said is missing."""
        if what == row_write_kernels.NEED_LINKS:
            segment.ensure(d.RECORD)
            segment.ensure(d.PREVIOUS)
        elif what == row_write_kernels.NEED_END:
            self.ensure_ends(np.array((old,), np.int64))
        elif what == row_write_kernels.NEED_HEAD:
            record = int(self.records_of(np.array((old,), np.int64))[0])
            first = self.segments[record >> d.SLOT_BITS]
            assert first is not None, "a row begins in a segment"
            first.ensure(d.HEAD)
        else:
            segment.ensure_valid(what - row_write_kernels.NEED_VALID, segment.rows)

    def _place(self, columns: Sequence[Vector], low: int, wanted: int) -> tuple[Segment, int, int]:
        """Writes as many of the rows from `low` as fit the open segment, or a new one; returns where, and how
        many.
        """
        segment = self.open_segment
        if segment is None or segment.rows >= self.slots:
            segment = self._new_segment()
        slot = segment.rows
        count = min(wanted, self.slots - slot)
        while not self._put(segment, columns, low, slot, count):
            count = self._fitting(segment, columns, low, count)
            if count == 0:
                if slot == 0:
                    raise errors.ProgramLimitExceeded(
                        "row is too big", detail="Its long values exceed a segment's heap."
                    )
                segment, slot = self._new_segment(), 0
                count = min(wanted, self.slots)
        return segment, slot, count

    def _put(self, segment: Segment, columns: Sequence[Vector], low: int, slot: int, count: int) -> bool:
        """Writes values into unused slots. False when a heap is too small for them, with nothing counted."""
        assert segment.columns is not None, "the open segment is open"
        high, until = slot + count, low + count
        row = self.directory[segment.number]
        grown: list[tuple[int, int]] = []
        for i, (column, vector) in enumerate(zip(segment.columns, columns, strict=True)):
            valid = vector.valid
            if valid is not None and (count > 1 or not valid[low]) and not valid[low:until].all():
                segment.ensure_valid(i, slot)[slot:high] = valid[low:until]
            elif column.valid is not None:
                column.valid[slot:high] = True
            if column.heap is None or (valid is None and (vector.heap is None or len(vector.heap) == 0)):
                column.data[slot:high] = vector.data[low:until]
                continue
            field = self._fields[i]
            used = segment_kernels.put_views(
                vector.data,
                EMPTY_HEAP if vector.heap is None else vector.heap,
                _NO_VALID if valid is None else valid,
                low,
                count,
                int(row[field + d.DATA]) + slot * 16,
                int(row[field + d.HEAP]),
                int(row[field + d.HEAP_USED]),
                self.heap_bytes,
                LONGEST_VALUE,
            )
            if used == -2:
                raise errors.ProgramLimitExceeded(
                    f'value of column "{self.definition.columns[i].name}" exceeds {LONGEST_VALUE >> 20} MiB'
                )
            if used == -1:
                return False
            grown.append((field, used))
        for field, used in grown:
            before = int(row[field + d.HEAP_USED])
            if used > before:
                arena = segment.columns[(field - d.HEADER) // d.COLUMN_FIELDS].heap_arena
                assert arena is not None, "view columns have a heap"
                arena.mark(before, used)
                row[field + d.HEAP_USED] = used
        return True

    def _fitting(self, segment: Segment, columns: Sequence[Vector], low: int, count: int) -> int:
        """How many rows from `low` have their long values fit the segment's heaps."""
        row = self.directory[segment.number]
        for i, vector in enumerate(columns):
            if self.layout.views[i] and vector.heap is not None:
                room = self.heap_bytes - int(row[self._fields[i] + d.HEAP_USED])
                valid = _NO_VALID if vector.valid is None else vector.valid
                count = int(segment_kernels.views_that_fit(vector.data, valid, low, count, room))
        return count

    def _link(self, segment: int, slot: int, previous: Array, low: int, count: int, records: Array) -> None:
        """Ties new versions to those they replace, making the vectors that it takes."""
        while True:
            missing = segment_kernels.link(
                self.directory, self.addresses.dirty, segment, slot, previous, low, count, records
            )
            if missing == 0:
                return
            found = self.segments[-1 - missing]
            assert found is not None, "a version lies in a segment"
            if found.number == segment:
                found.ensure(d.RECORD)
                found.ensure(d.PREVIOUS)
            found.ensure(d.HEAD)

    def _image(self, segment: int, slot: int, count: int, linked: bool) -> bytes:
        """The log's image of rows just written; see `filestore.storage.row_kernels`."""
        used = row_kernels.encode_rows(self.directory, self.layout.matrix, segment, slot, count, linked, self._scratch)
        if used < 0:
            scratch = np.empty(-used, np.uint8)
            used = row_kernels.encode_rows(self.directory, self.layout.matrix, segment, slot, count, linked, scratch)
            return scratch[:used].tobytes()
        return self._scratch[:used].tobytes()

    def _new_segment(self) -> Segment:
        segment = self.make_segment(len(self.segments))
        segment.open()
        self.segments.append(segment)
        self.open_segment = segment
        return segment

    def make_segment(self, number: int) -> Segment:
        """A Segment object of this table, neither open nor attached yet."""
        prefix = f"t{self.storage_id}"
        return Segment(self.source, prefix, number, self.slots, self.layout, self.addresses, self.heap_bytes)

    def reserve_segment(self) -> int:
        """A segment number for rows that are written aside; nothing is visible of it before `attach`."""
        self.segments.append(None)
        return len(self.segments) - 1

    def attach(self, number: int, sealed: SealedColumns, begin: int) -> Segment:
        """Adds sealed rows under a reserved number, with one `begin` for all; appends go on behind them."""
        while len(self.segments) <= number:
            self.segments.append(None)
        segment = self.make_segment(number)
        segment.attach(sealed, begin)
        self.segments[number] = segment
        if self.open_segment is not None and self.open_segment.number < number:
            self.open_segment = None
        return segment

    def detach(self, number: int) -> None:
        """Takes a segment out again; its number is not used again. Readers of it keep it."""
        segment = self.segments[number]
        self.segments = self.segments.copy()
        self.segments[number] = None
        if segment is None:
            return  # reserved only
        self.addresses.replace()
        self.addresses.matrix[number] = 0
        self.addresses.dirty[number] = 0
        segment.drop()

    def seal(self, number: int, sealed: SealedColumns, oldest: int) -> None:
        """Puts sealed columns in the place of an open segment's; readers of the old one keep what they have.

        Begins that no snapshot from `oldest` on can tell apart become one.
        """
        old = self.segments[number]
        assert old is not None and old.columns is not None, "an open segment is sealed"
        self.segments = self.segments.copy()
        self.addresses.replace()
        segment = self.make_segment(number)
        segment.take_over(old, sealed)
        self.segments[number] = segment
        if self.open_segment is old:
            self.open_segment = None
        row = self.directory[number]
        if row[d.DEAD] == 0 and int(row[d.LAST_BEGIN]) <= oldest:
            self.collapse(number)

    def collapse(self, number: int) -> None:
        """One begin, the first timestamp, instead of a vector; only for begins that every snapshot sees."""
        segment = self.segments[number]
        assert segment is not None and segment.sealed is not None, "a sealed segment"
        segment.drop_begin(d.FIRST_TIMESTAMP)

    def vacate(self, number: int) -> None:
        """Forgets the values of a segment that no snapshot sees a version of; rows still lead through it."""
        old = self.segments[number]
        assert old is not None and old is not self.open_segment, "a segment that is left behind"
        self.segments = self.segments.copy()
        self.addresses.replace()
        segment = self.make_segment(number)
        segment.take_over(old, None)
        self.segments[number] = segment
        if self.directory[number, d.DEAD] == 0:
            segment.drop_begin(d.FIRST_TIMESTAMP)

    # --- versions

    def ensure_ends(self, addresses: Array) -> None:
        """Makes the `end` vectors of the segments that these versions lie in."""
        rows = addresses >> d.SLOT_BITS
        bases = self.directory[rows, d.END]
        if not bases.all():
            for number in np.unique(rows[bases == 0]).tolist():
                segment = self.segments[number]
                assert segment is not None, "a version lies in a segment"
                segment.ensure(d.END)

    def stamps_of(self, addresses: Array) -> tuple[Array, Array]:
        """(begin, end) of versions: timestamps or marks."""
        begins, ends = np.empty(len(addresses), np.int64), np.empty(len(addresses), np.int64)
        segment_kernels.stamps_of(self.directory, addresses, begins, ends)
        return begins, ends

    def records_of(self, addresses: Array) -> Array:
        """Record numbers of versions."""
        out = np.empty(len(addresses), np.int64)
        segment_kernels.records_of(self.directory, addresses, out)
        return out

    def heads_of(self, records: Array) -> Array:
        """Addresses of the newest versions of rows, committed or not."""
        out = np.empty(len(records), np.int64)
        segment_kernels.heads_of(self.directory, records, out)
        return out

    def resolve(self, records: Array, snapshot: SnapshotView) -> Array:
        """int64[n]: the version of each row that the snapshot sees, -1 for none. From an index: compare the
        key again.
        """
        return snapshot.versions(self.directory, records, snapshot.bounds.get(self.storage_id, 0))

    # --- reading

    def units(self, snapshot: SnapshotView) -> list[ScanUnit]:
        """The segments with their bounds as they are now; what a scan of the snapshot reads."""
        present = [s for s in self.segments if s is not None and not s.vacant]
        if not present:
            return []
        table = self.directory[[s.number for s in present]]
        quiet = (table[:, d.PENDING] == 0) & (table[:, d.DEAD] == 0) & (table[:, d.ENDED] == 0)
        last = np.where(table[:, d.BEGIN] == 0, table[:, d.BEGIN_VALUE], table[:, d.LAST_BEGIN])
        whole = (quiet & (last <= snapshot.timestamp)).tolist()
        rows = table[:, d.ROWS].tolist()
        return [ScanUnit(self, s, rows[i], whole[i]) for i, s in enumerate(present) if rows[i]]

    def gather(self, addresses: Array, ordinals: Sequence[int]) -> list[Vector]:
        """Columns of the versions at int64[n] addresses. Long strings share a segment's heap if all lie in
        one, else are copied.
        """
        segments = self.segments  # held, so that what the directory names stays alive meanwhile
        matrix = self.directory
        only = -1
        if len(addresses):
            numbers = addresses >> d.SLOT_BITS
            only = int(numbers[0])
            if len(addresses) > 1 and not (numbers == only).all():
                only = -1
            for i in ordinals:
                if only >= 0:
                    if matrix[only, self._fields[i]] == 0:
                        _touch(matrix, segments, [only], i)
                elif not matrix[numbers, self._fields[i]].all():
                    _touch(matrix, segments, np.unique(numbers).tolist(), i)
        return [self._gather(matrix, segments, addresses, i, only) for i in ordinals]

    def _gather(
        self, matrix: Array, segments: Sequence[Segment | None], addresses: Array, ordinal: int, only: int
    ) -> Vector:
        """One column; `only` is the one segment of all addresses, -1 for several."""
        n = len(addresses)
        field = self._fields[ordinal]
        sql_type = self.layout.types[ordinal]
        width = self.layout.widths[ordinal]
        valid: Array | None = None
        if only < 0 or matrix[only, field + d.VALID]:
            valid = np.empty(n, np.bool_)
            if segment_kernels.gather_valid(matrix, field, addresses, valid) == 0:
                valid = None
        if not self.layout.views[ordinal]:
            raw = np.empty(n * width, np.uint8)
            segment_kernels.gather_fixed(matrix, field, width, addresses, raw)
            data = raw.view(sql_type.dtype)
            return Vector(sql_type, data.reshape(-1, 2) if width == 16 else data, valid, None, sql_type.scale or 0)
        views = np.empty((n, 2), np.uint64)
        total = int(segment_kernels.gather_views(matrix, field, addresses, views))
        if total == 0:
            return Vector(sql_type, views, valid, EMPTY_HEAP)
        if only >= 0:
            segment = segments[only]
            assert segment is not None, "a version lies in a segment"
            shared = segment.vector(ordinal, 0, 0)
            return Vector(sql_type, views, valid, (shared.dictionary or shared).heap)
        heap = np.empty(total, np.uint8)
        segment_kernels.gather_heap(matrix, field, addresses, views, heap)
        return Vector(sql_type, views, valid, heap)

    # --- leaving

    def drop(self) -> None:
        """Forgets all memory; sealed files are the checkpoint's to remove."""
        for segment in self.segment_list():
            segment.drop()


def _touch(matrix: Array, segments: Sequence[Segment | None], numbers: Sequence[int], ordinal: int) -> None:
    """Brings a sealed column's addresses into the directory that a gather works with. Raises DataCorrupted."""
    for number in numbers:
        segment = segments[number]
        assert segment is not None, "a version lies in a segment"
        if segment.vacant:
            raise errors.InternalError(f"segment {number} has no values, but a version in it was asked for")
        if segment.sealed is not None:
            segment.sealed.fill(ordinal, matrix[number])
