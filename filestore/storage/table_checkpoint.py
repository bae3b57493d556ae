"""A table's part of a checkpoint: private copies of changed pages without anything uncommitted, and the
metadata beside them.

What must not reach the disk (RELIABILITY R12) is taken out of the copies: slots of open transactions become
zero, their heap bytes too; ends they marked become INFINITY, heads they moved point back. The pages concerned
stay dirty, since memory differs from what is written. Masks are given as `Hidden`: plain arrays, so that
nothing here knows transactions.

`describe` and `load` are the two ends of the metadata: what memory looked like, told to the next process. Thread
rule: engine lock held for all of it. Not here: when a checkpoint is taken, indexes, and writing any page
(`filestore.storage.page_store`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from filestore.storage import directory as d
from filestore.storage import image_kernels, segment_kernels
from filestore.storage.arena import Arena
from filestore.storage.page_store import PageImage
from filestore.storage.segment import SealedColumns, Segment
from filestore.storage.table import Table
from filestore.storage.vector import Array


@dataclass(slots=True)
class Hidden:
    """What an image must not show of one table: slots, ends, (records, heads before), attached segment
    numbers.
    """

    inserted: list[Array] = field(default_factory=list)
    ended: list[Array] = field(default_factory=list)
    heads: list[tuple[Array, Array]] = field(default_factory=list)
    attached: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Patches:
    """Changes to one arena's copies."""

    zero: list[tuple[Array, Array]] = field(default_factory=list)
    words: list[tuple[Array, Array]] = field(default_factory=list)


def copy_arena(arena: Arena, patches: _Patches | None = None, pages: int | None = None) -> PageImage | None:
    """The dirty pages of an arena, copied and patched, which are clean afterwards; None when there are none."""
    numbers, copies = arena.take_dirty(pages)
    if len(numbers) == 0:
        return None
    if patches is not None:
        position = np.full(len(arena.dirty), -1, np.int64)
        position[numbers] = np.arange(len(numbers))
        for starts, lengths in patches.zero:
            image_kernels.zero_ranges(copies, position, arena.dirty, starts, lengths)
        for offsets, values in reversed(patches.words):
            image_kernels.put_words(copies, position, arena.dirty, offsets, values)
    return PageImage(arena.name, arena.used_pages, numbers, copies)


def copy_table(table: Table, hidden: Hidden | None) -> list[PageImage]:
    """Page images of all committed segments."""
    patches: dict[str, _Patches] = {}
    skipped: set[int] = set()
    if hidden is not None:
        skipped = hidden.attached
        _mask(table, hidden, patches)
    images = []
    for segment in table.segment_list():
        if segment.number not in skipped:
            for arena in segment.arenas():
                image = copy_arena(arena, patches.get(arena.name))
                if image is not None:
                    images.append(image)
    return images


def _mask(table: Table, hidden: Hidden, patches: dict[str, _Patches]) -> None:
    for addresses in hidden.inserted:
        for segment, slots in _by_segment(table, addresses):
            _mask_slots(segment, slots, patches)
    for addresses in hidden.ended:
        for segment, slots in _by_segment(table, addresses):
            arena = segment.hidden[d.END]
            words = patches.setdefault(arena.name, _Patches()).words
            words.append((slots * 8, np.full(len(slots), d.INFINITY, np.int64)))
    for records, before in hidden.heads:
        for segment, slots in _by_segment(table, records):
            arena = segment.hidden[d.HEAD]
            here = before[(records >> d.SLOT_BITS) == segment.number]
            patches.setdefault(arena.name, _Patches()).words.append((slots * 8, here))


def _by_segment(table: Table, addresses: Array) -> list[tuple[Segment, Array]]:
    """(segment, slots) in the order given."""
    numbers = addresses >> d.SLOT_BITS
    found = []
    for number in np.unique(numbers).tolist():
        segment = table.segments[number]
        assert segment is not None, "a version lies in a segment"
        found.append((segment, addresses[numbers == number] & d.SLOT_MASK))
    return found


def _mask_slots(segment: Segment, slots: Array, patches: dict[str, _Patches]) -> None:
    """Everything of some slots of an open segment becomes zero."""

    def zero(arena: Arena | None, width: int) -> None:
        if arena is not None:
            patches.setdefault(arena.name, _Patches()).zero.append((slots * width, np.full(len(slots), width)))

    for name in (d.BEGIN, d.RECORD, d.PREVIOUS):
        zero(segment.hidden.get(name), 8)
    row = segment.directory.matrix[segment.number]
    for i, column in enumerate(segment.columns or ()):
        zero(column.arena, segment.layout.widths[i])
        zero(column.valid_arena, 1)
        if column.heap_arena is not None:
            starts, lengths = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
            image_kernels.heap_ranges(row, d.column_field(i, 0), slots, starts, lengths)
            patches.setdefault(column.heap_arena.name, _Patches()).zero.append((starts, lengths))


# --- metadata


def describe(table: Table, skipped: set[int]) -> dict[str, Any]:
    """The JSON that `load` needs beside the pages. `skipped`: attached segments that are not committed."""
    segments = []
    for segment in table.segment_list():
        if segment.number in skipped:
            continue
        row = segment.directory.matrix[segment.number]
        entry: dict[str, Any] = {"number": segment.number, "rows": segment.rows}
        if segment.vacant:
            entry["vacant"] = True
        elif segment.sealed is not None:
            entry["file"] = segment.sealed.name
            entry["begin"] = segment.begin_value if segment.begin is None else None
        else:
            views = [i for i, view in enumerate(table.layout.views) if view]
            entry["heaps"] = [int(row[d.column_field(i, d.HEAP_USED)]) for i in views]
        segments.append(entry)
    return {
        "slots": table.slots,
        "segments": segments,
        "count": len(table.segments),
        "open": -1 if table.open_segment is None else table.open_segment.number,
    }


def load(table: Table, value: dict[str, Any], open_file: Callable[[str], SealedColumns], names: frozenset[str]) -> None:
    """Brings the segments of a checkpoint back; `names`: arenas that it left. Raises DataCorrupted."""
    table.segments = [None] * int(value["count"])
    views = [i for i, view in enumerate(table.layout.views) if view]
    for entry in value["segments"]:
        segment = table.make_segment(entry["number"])
        if "vacant" in entry:
            segment.reopen_vacant(entry["rows"], names)
        elif "file" in entry:
            segment.attach(open_file(entry["file"]), entry["begin"], names)
        else:
            segment.open(names)
            row = segment.directory.matrix[segment.number]
            row[d.ROWS] = entry["rows"]
            for ordinal, used in zip(views, entry["heaps"], strict=True):
                row[d.column_field(ordinal, d.HEAP_USED)] = used
        table.segments[segment.number] = segment
    table.open_segment = table.segments[value["open"]] if value["open"] >= 0 else None


def settle(table: Table) -> None:
    """After replay: what no committed transaction filled is dead, counters are counted anew."""
    live = 0
    for segment in table.segment_list():
        row = segment.directory.matrix[segment.number]
        if segment.begin is not None:
            segment_kernels.settle(segment.directory.matrix, segment.number, segment.rows)
        else:
            row[d.PENDING] = row[d.DEAD] = 0
            row[d.ENDED] = segment_kernels.count_ended(int(row[d.END]), segment.rows)
        live += segment.rows - int(row[d.DEAD]) - int(row[d.ENDED])
    table.live_rows = live
