"""Sealed columns: the buffers of a segment file as vectors, and the encoding that put them there.

A string column with few distinct values is stored as codes of one or two bytes with a dictionary; every other
column is as it was in memory, with an Arrow bitmap instead of validity bytes. Values of slots without a
version (aborted) are stored as nulls or zeros, so that nothing uncommitted reaches a file.

Zones hold the least and greatest value as 16 raw bytes: of numbers their little-endian bytes; of strings the
first 15 bytes, and in the last byte how many of them count. A longer string's maximum is not known by its
prefix: then there is no zone.

Thread rule: any thread; buffers are shared, and checked once whoever asks first. Not here: when a segment is sealed
(`filestore.txn.checkpoint`), and the bytes of the file (`filestore.storage.segment_file`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from filestore.hal.memory import address
from filestore.storage import directory as d
from filestore.storage import encode_kernels
from filestore.storage.segment import Layout
from filestore.storage.segment_file import Role, SealedColumn, SealedFile, Zone
from filestore.storage.vector import EMPTY_HEAP, INLINE_BYTES, Array, Vector
from filestore.types import Physical, SqlType

DICTIONARY_MOST: Final = 65535  # codes of two bytes
SAMPLE_ROWS: Final = 4096  # enough to see that a column is nearly unique
_ZONE_PREFIX: Final = 15


class SealedSegment:
    """The columns of one segment file; implements `segment.SealedColumns`. Thread rule: any thread."""

    def __init__(self, file: SealedFile, layout: Layout) -> None:
        """Raises DataCorrupted naming the file when its columns do not have the forms of `layout`."""
        _check_forms(file, layout)
        self.file = file
        self.layout = layout
        self.rows: int = file.rows
        self._words: dict[int, Vector] = {}
        self._zones: dict[int, tuple[Any, Any, int] | None] = {}

    @property
    def name(self) -> str:
        """The file's path, which is its name."""
        return self.file.path

    def vector(self, ordinal: int, low: int, high: int) -> Vector:
        """Rows low..high; string columns may come with a dictionary. Raises DataCorrupted naming file and
        offset.
        """
        sql_type = self.layout.types[ordinal]
        data = self._buffer(ordinal, Role.DATA)[low:high]
        valid = self._valid(ordinal, low, high)
        if not self.layout.views[ordinal]:
            if sql_type.width == 16 or data.dtype == sql_type.dtype:
                return Vector(sql_type, data, valid, None, sql_type.scale or 0)
            return Vector(sql_type, data.view(sql_type.dtype), valid, None, sql_type.scale or 0)
        words = self._dictionary(ordinal)
        if words is not None:
            return Vector(sql_type, data, valid, None, 0, words)
        return Vector(sql_type, data, valid, self._heap(ordinal, Role.HEAP))

    def fill(self, ordinal: int, row: Array) -> None:
        """Writes the column's addresses into a row of the directory, DATA last: it says that the others are
        there.
        """
        field_of = d.column_field(ordinal, 0)
        data = self._buffer(ordinal, Role.DATA)
        bitmap = self.file.buffer(ordinal, Role.BITMAP)
        row[field_of + d.VALID] = 0 if bitmap is None else address(bitmap)
        row[field_of + d.VALID_BITS] = bitmap is not None
        row[field_of + d.WIDTH] = data.dtype.itemsize * (1 if data.ndim == 1 else data.shape[1])
        row[field_of + d.ENCODING] = d.PLAIN
        if self.layout.views[ordinal]:
            words = self._dictionary(ordinal)
            if words is None:
                row[field_of + d.HEAP] = address(self._heap(ordinal, Role.HEAP))
            else:
                row[field_of + d.ENCODING] = d.CODES
                row[field_of + d.DICTIONARY] = address(words.data)
                row[field_of + d.HEAP] = address(EMPTY_HEAP if words.heap is None else words.heap)
        row[field_of + d.DATA] = address(data)

    def zone(self, ordinal: int) -> tuple[Any, Any, int] | None:
        """(least, greatest, nulls): stored integers or floats, or bytes; (None, None, rows) in a column of
        nulls.
        """
        if ordinal not in self._zones:
            self._zones[ordinal] = _read_zone(self.layout.types[ordinal], self.file.zone(ordinal), self.rows)
        return self._zones[ordinal]

    def _buffer(self, ordinal: int, role: Role) -> Array:
        found = self.file.buffer(ordinal, role)
        assert found is not None, "every column has data"
        return found

    def _heap(self, ordinal: int, role: Role) -> Array:
        found = self.file.buffer(ordinal, role)
        return EMPTY_HEAP if found is None else found

    def _valid(self, ordinal: int, low: int, high: int) -> Array | None:
        bitmap = self.file.buffer(ordinal, Role.BITMAP)
        if bitmap is None:
            return None
        first = low >> 3
        bits = np.unpackbits(bitmap[first : (high + 7) >> 3], bitorder="little")
        return bits[low - (first << 3) : high - (first << 3)].view(np.bool_)

    def _dictionary(self, ordinal: int) -> Vector | None:
        found = self._words.get(ordinal)
        if found is None:
            words = self.file.buffer(ordinal, Role.WORDS)
            if words is None:
                return None
            heap = self._heap(ordinal, Role.WORDS_HEAP)
            found = self._words[ordinal] = Vector(self.layout.types[ordinal], words, None, heap)
        return found


def _check_forms(file: SealedFile, layout: Layout) -> None:
    """Compiled code reads what the table's definition says is there: it has to be."""
    if file.columns != len(layout.types):
        raise file.damage(f"it has {file.columns} columns, its table has {len(layout.types)}")
    for ordinal, sql_type in enumerate(layout.types):
        forms = {role: file.form(ordinal, role) for role in Role}
        rows, heap = file.rows, layout.views[ordinal]
        wide, words = ("<u8", 2, rows), forms[Role.WORDS]
        if heap and words is not None:
            data = {("|u1", 1, rows), ("<u2", 1, rows)}
        elif sql_type.width == 16:
            data = {wide}
        else:
            data = {("|u1" if sql_type.dtype == np.bool_ else sql_type.dtype.str, 1, rows)}
        sound = (
            forms[Role.DATA] in data
            and forms[Role.BITMAP] in (None, ("|u1", 1, (rows + 7) // 8))
            and (words is None or (heap and words[:2] == wide[:2]))
            and all(f is None or (heap and f[:2] == ("|u1", 1)) for f in (forms[Role.HEAP], forms[Role.WORDS_HEAP]))
        )
        if not sound:
            raise file.damage(f"column {ordinal} does not have the form of {sql_type.name}, its type in the table")


# --- encoding


def encode_column(sql_type: SqlType, parts: Sequence[Vector], rows: int, dead: Array | None = None) -> SealedColumn:
    """One column ready to be written. dead: bool[rows], slots that hold no version. Any thread; mostly
    without the GIL.
    """
    valid = _joined_valid(parts, rows)
    if dead is not None:
        valid = ~dead if valid is None else valid & ~dead
    bitmap = None if valid is None else np.packbits(valid, bitorder="little")
    nulls = 0 if valid is None else rows - int(np.count_nonzero(valid))
    if sql_type.is_view:
        return _encode_strings(sql_type, parts, rows, valid, bitmap, nulls)
    data = _joined([p.data for p in parts])
    if valid is not None:
        data = np.where(valid if data.ndim == 1 else valid[:, None], data, data.dtype.type(0))
    data = np.ascontiguousarray(data)
    if data.dtype == np.bool_:
        data = data.view(np.uint8)
    low, high = (None, None) if sql_type.physical is Physical.WIDE else _fixed_zone(data, valid)
    return SealedColumn(data, bitmap, zone=Zone(nulls, 0, low, high))


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _joined_valid(parts: Sequence[Vector], rows: int) -> Array | None:
    """bool[rows], None when all are valid."""
    if all(p.valid is None for p in parts):
        return None
    valid = np.empty(rows, np.bool_)
    at = 0
    for part in parts:
        valid[at : at + len(part)] = True if part.valid is None else part.valid
        at += len(part)
    return None if valid.all() else valid


def _fixed_zone(data: Array, valid: Array | None) -> tuple[bytes | None, bytes | None]:
    live = data if valid is None else data[valid]
    if len(live) == 0:
        return None, None
    low, high = live.min(), live.max()
    if live.dtype.kind == "f" and np.isnan(high):
        return None, None  # NaN sorts above all, and min and max do not say where the numbers end
    return low.tobytes(), high.tobytes()


def _encode_strings(
    sql_type: SqlType, parts: Sequence[Vector], rows: int, valid: Array | None, bitmap: Array | None, nulls: int
) -> SealedColumn:
    """Codes and dictionary if that saves space, else views and heap."""
    shared = parts[0].dictionary
    if shared is not None and all(p.dictionary is shared for p in parts) and len(shared) <= DICTIONARY_MOST:
        codes = _joined([p.data for p in parts])
        if valid is not None:
            codes = np.where(valid, codes, codes.dtype.type(0))
        words, heap = _compact(shared, np.arange(len(shared)))
        return _coded(codes, words, heap, bitmap, nulls)
    plain = [p.plain() for p in parts]
    views, heap = _joined_views(plain, rows, valid)
    found = _distinct(views, heap, valid)
    if found is not None:
        codes, firsts = found
        words, words_heap = _compact(Vector(sql_type, views, None, heap), firsts)
        if codes.nbytes // 2 + words.nbytes + words_heap.nbytes < views.nbytes + heap.nbytes:
            return _coded(codes, words, words_heap, bitmap, nulls)
    low, high = encode_kernels.view_extremes(views, heap, np.empty(0, np.bool_) if valid is None else valid)
    zone = Zone(nulls, 0, *_string_zone(views, heap, int(low), int(high)))
    return SealedColumn(views, bitmap, heap if len(heap) else None, zone=zone)


def _coded(codes: Array, words: Array, heap: Array, bitmap: Array | None, nulls: int) -> SealedColumn:
    """A dictionary-encoded column; the code's width is the least that holds it."""
    if len(words) == 0:
        words = np.zeros((1, 2), np.uint64)  # a column of nulls: code 0 must mean something
    narrow = codes.astype(np.uint8 if len(words) <= 256 else np.uint16)
    low, high = encode_kernels.view_extremes(words, heap, np.empty(0, np.bool_))
    zone = Zone(nulls, len(words), *_string_zone(words, heap, int(low), int(high)))
    return SealedColumn(narrow, bitmap, None, words, heap if len(heap) else None, zone)


def _joined_views(parts: Sequence[Vector], rows: int, valid: Array | None) -> tuple[Array, Array]:
    """Views of all parts with their long bytes in one dense heap; zero at nulls."""
    sizes = [
        int(encode_kernels.long_bytes(p.data, np.empty(0, np.bool_) if p.valid is None else p.valid)) for p in parts
    ]
    views = np.empty((rows, 2), np.uint64)
    heap = np.empty(sum(sizes), np.uint8)
    at = used = 0
    for part in parts:
        source = EMPTY_HEAP if part.heap is None else part.heap
        no_nulls = np.empty(0, np.bool_) if valid is None else valid[at : at + len(part)]
        used = int(encode_kernels.copy_views(part.data, source, no_nulls, views[at : at + len(part)], heap, used))
        at += len(part)
    return views, heap[:used]


def _distinct(views: Array, heap: Array, valid: Array | None) -> tuple[Array, Array] | None:
    """(codes uint16[n], row of the first occurrence of each distinct value), None when there are too many to
    be worth it.
    """
    rows = len(views)
    no_nulls = np.empty(0, np.bool_) if valid is None else valid
    codes = np.empty(rows, np.uint16)
    most = min(DICTIONARY_MOST, max(1, rows // 2))
    firsts = np.empty(most, np.int64)
    table = np.empty(1 << max(4, (2 * most - 1).bit_length()), np.int32)
    sample = min(rows, SAMPLE_ROWS)
    if sample < rows:
        limit = sample // 2
        if encode_kernels.find_distinct(views[:sample], heap, no_nulls[:sample], codes, firsts[:limit], table) < 0:
            return None
    count = int(encode_kernels.find_distinct(views, heap, no_nulls, codes, firsts, table))
    return None if count < 0 else (codes, firsts[:count])


def _compact(source: Vector, rows: Array) -> tuple[Array, Array]:
    """The views of some rows with a heap of their own."""
    picked = np.ascontiguousarray(source.data[rows])
    heap = np.empty(int(encode_kernels.long_bytes(picked, np.empty(0, np.bool_))), np.uint8)
    views = np.empty_like(picked)
    old = EMPTY_HEAP if source.heap is None else source.heap
    encode_kernels.copy_views(picked, old, np.empty(0, np.bool_), views, heap, 0)
    return views, heap


def _string_zone(views: Array, heap: Array, low: int, high: int) -> tuple[bytes | None, bytes | None]:
    """Zone bytes of the least and greatest string, at rows low and high (-1: there is none)."""
    if low < 0:
        return None, None
    least, greatest = (_string_at(views, heap, i) for i in (low, high))
    if len(greatest) > _ZONE_PREFIX:
        return None, None
    return tuple(
        v[:_ZONE_PREFIX].ljust(_ZONE_PREFIX, b"\0") + bytes([min(len(v), _ZONE_PREFIX)]) for v in (least, greatest)
    )  # type: ignore[return-value]


def _string_at(views: Array, heap: Array, row: int) -> bytes:
    size = int(views[row, 0]) & 0xFFFFFFFF
    if size <= INLINE_BYTES:
        return bytes(views[row].tobytes()[4 : 4 + size])
    offset = int(views[row, 1]) >> 32
    return bytes(heap[offset : offset + size])


def _read_zone(sql_type: SqlType, zone: Zone, rows: int) -> tuple[Any, Any, int] | None:
    if zone.null_count == rows:
        return None, None, rows
    if zone.minimum is None or zone.maximum is None or sql_type.physical in (Physical.WIDE, Physical.VARNUM):
        return None
    if sql_type.is_view:
        low, high = (v[: v[15]] for v in (zone.minimum, zone.maximum))
        return low, high, zone.null_count
    width = sql_type.dtype.itemsize
    low_value, high_value = (np.frombuffer(v[:width], sql_type.dtype)[0].item() for v in (zone.minimum, zone.maximum))
    return low_value, high_value, zone.null_count
