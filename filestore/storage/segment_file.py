"""Sealed segment files: the columns of a full segment, written once, then mapped read-only for ever.

    header block | buffer, padded to 4096 | buffer ... | footer: SEALED_COLUMN x n, SEALED_BUFFER x n, SEALED_CHUNK
    x n

Idea: a buffer is a numpy array exactly as kernels want it (codes, fixed-width values, string views, Arrow bitmap,
heap bytes), page-aligned, so that reading a column is a view of the map. The footer says where buffers are, what
the zones of the columns are, and the checksum of every CHUNK_BYTES of every buffer; header and footer have their
own.

Invariants: a file is written, fsynced and named durably before anyone opens it, and never changes. A buffer is read
by direct I/O and checked, chunk by chunk, before the first view of it is handed out (RELIABILITY R14, R19): a bad
sector is an error naming file and offset, not a SIGBUS, and the other columns stay readable (R36).

Thread rule: any thread; the first touch of a file is serialised. Views stay valid after the file is closed or
unlinked. It does not do: deciding how to encode a column, visibility, compression.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from filestore.errors import DataCorrupted, DiskFull, IncompatibleFormat, StorageFailed
from filestore.hal import File, FileSystem
from filestore.hal.memory import aligned_buffer
from filestore.storage import crash_points
from filestore.storage.layout import (
    BLOCK,
    FORMAT_VERSION,
    SEALED_BEGIN_SCALAR,
    SEALED_BUFFER,
    SEALED_CHUNK,
    SEALED_COLUMN,
    SEALED_HAS_ZONE,
    SEALED_HEADER,
    SEALED_MAGIC,
    SEALED_SEED,
    TABLES_DIR,
    Bytes,
    crc_of,
    is_zero,
    offset_of,
    round_up,
    struct_of,
)
from filestore.storage.manifest import SealedRef

Array = NDArray[Any]
LOG: Final = logging.getLogger("filestore.storage")
CHUNK_BYTES: Final = 1 << 20  # unit of checking: small enough to find damage, large enough to read at full rate
SEALED_SUFFIX: Final = ".seg"
STAGING_BYTES: Final = 4 << 20  # direct writes of 4 MiB reach the device's rate
_HEADER: Final = struct_of(SEALED_HEADER)
_SEED: Final = struct_of(SEALED_SEED)
_CRC_OFFSET: Final = offset_of(SEALED_HEADER, "header_crc")
_RESERVED: Final = bytes(80)
_SIMPLE_DTYPES: Final = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"})


def sealed_name(storage_id: int, segment: int) -> str:
    """Name of a segment's sealed file, which is its path."""
    return f"{TABLES_DIR}/{storage_id}/{segment:08}{SEALED_SUFFIX}"


def place_of(name: str) -> tuple[int, int] | None:
    """(storage id, segment) whose sealed file is called that; None for what is no such name."""
    directory, _, base = name.rpartition("/")
    parent, _, storage_id = directory.rpartition("/")
    stem = base.removesuffix(SEALED_SUFFIX)
    if parent == TABLES_DIR and storage_id.isdecimal() and stem.isdecimal() and base == stem + SEALED_SUFFIX:
        return int(storage_id), int(stem)
    return None


def is_sealed_name(name: str) -> bool:
    """Whether a sealed file may be called that; then it lies in a directory of its own below TABLES_DIR."""
    return place_of(name) is not None


class Role(enum.IntEnum):
    """What a buffer is to its column. Numbers are on disk."""

    DATA = 0
    BITMAP = 1  # Arrow validity, bit i of byte i // 8; absent = no nulls
    HEAP = 2  # bytes behind the views in DATA
    WORDS = 3  # dictionary: views of the distinct values, DATA holds codes
    WORDS_HEAP = 4  # bytes behind WORDS


class Hidden(enum.IntEnum):
    """Ordinals of the per-version fields.

    A place in the format, held by its tests: tables keep these fields in arenas and write none of them so far.
    """

    BEGIN = -1
    END = -2
    PREVIOUS = -3
    RECORD = -4


@dataclass(frozen=True)
class Zone:
    """Summary of a column. minimum, maximum: raw bytes of a value, at most 16, or None; distinct: 0 = unknown."""

    null_count: int = 0
    distinct: int = 0
    minimum: bytes | None = None
    maximum: bytes | None = None


@dataclass(frozen=True)
class SealedColumn:
    """A column to be written. data: [rows] or [rows, 2]; bitmap, heap: uint8; words: uint64[k, 2]; all contiguous."""

    data: Array
    bitmap: Bytes | None = None
    heap: Bytes | None = None
    words: Array | None = None
    words_heap: Bytes | None = None
    zone: Zone = field(default_factory=Zone)


@dataclass(frozen=True)
class SealedContents:
    """A segment to be written. begin: one for all rows (int), int64[rows], or None when kept elsewhere."""

    storage_id: int
    segment: int
    rows: int
    columns: Sequence[SealedColumn]
    begin: int | Array | None = None
    end: Array | None = None
    previous: Array | None = None
    record: Array | None = None

    def buffers(self) -> Iterator[tuple[int, Role, Array]]:
        """(column, role, array) in file order."""
        for ordinal, column in enumerate(self.columns):
            parts = (column.data, column.bitmap, column.heap, column.words, column.words_heap)
            for role, array in zip(Role, parts, strict=True):
                if array is not None:
                    yield ordinal, role, array
        vectors = (self.begin if isinstance(self.begin, np.ndarray) else None, self.end, self.previous, self.record)
        for hidden, vector in zip(Hidden, vectors, strict=True):
            if vector is not None:
                yield int(hidden), Role.DATA, vector


# Writing


def write_segment(fs: FileSystem, path: str, uuid: bytes, contents: SealedContents) -> SealedRef:
    """Writes a sealed file under `path`, whose directory exists; durable, name included, on return.

    DiskFull leaves nothing behind. Each byte is checksummed in the buffer that it is written from (R20).
    """
    directory = path.rpartition("/")[0]
    if fs.exists(path):
        fs.unlink(path)  # a crash left it, or a bulk load that was given up
    file = fs.open(path, create=True)
    try:
        reference = _Writer(file, uuid, contents).write()
        crash_points.reach("sealed:written")
        file.sync()
        crash_points.reach("sealed:synced")
    except DiskFull:
        fs.unlink(path)
        raise
    finally:
        file.close()
    fs.sync_dir(directory)
    crash_points.reach("sealed:named")
    return reference


class _Writer:
    """Streams buffers through one aligned staging buffer; footer and header follow."""

    def __init__(self, file: File, uuid: bytes, contents: SealedContents) -> None:
        self._file = file
        self._uuid = uuid
        self._contents = contents
        self._staging = aligned_buffer(STAGING_BYTES)
        self._chunks: list[int] = []

    def write(self) -> SealedRef:
        arrays = list(self._contents.buffers())
        table = np.zeros(len(arrays), SEALED_BUFFER)
        offset = BLOCK
        chunks = 0
        for i, (column, role, array) in enumerate(arrays):
            self._check(array)
            count = -(-round_up(array.nbytes) // CHUNK_BYTES)
            inner = 1 if array.ndim == 1 else array.shape[1]
            dtype = array.dtype.str.encode()
            table[i] = (column, role, dtype, inner, 0, len(array), offset, array.nbytes, chunks, count, 0)
            offset += round_up(array.nbytes)
            chunks += count
        footer_bytes = self._columns().nbytes + table.nbytes + chunks * SEALED_CHUNK.itemsize
        size = offset + round_up(footer_bytes)
        # All the space at once: a full disk is met before the first byte is written.
        self._file.allocate(size)
        for (_, _, array), row in zip(arrays, table, strict=True):
            self._stream(int(row["offset"]), array)
        checks = np.zeros(chunks, SEALED_CHUNK)
        checks["crc"] = self._chunks
        footer = self._columns().tobytes() + table.tobytes() + checks.tobytes()
        footer += bytes(round_up(len(footer)) - len(footer))
        self._file.write_at(offset, np.frombuffer(footer, np.uint8))
        header = self._header(len(table), chunks, offset, footer_bytes, size, google_crc32c.value(footer))
        self._file.write_at(0, header)
        return SealedRef(size, google_crc32c.value(header))

    def _check(self, array: Array) -> None:
        if array.dtype.str not in _SIMPLE_DTYPES or array.ndim not in (1, 2) or not array.flags.c_contiguous:
            raise ValueError(f"a sealed file cannot hold {array.dtype}{list(array.shape)}")

    def _columns(self) -> NDArray[np.void]:
        table = np.zeros(len(self._contents.columns), SEALED_COLUMN)
        for i, column in enumerate(self._contents.columns):
            zone = column.zone
            known = zone.minimum is not None and zone.maximum is not None
            table[i] = (
                np.void((zone.minimum or b"").ljust(16, b"\0")),
                np.void((zone.maximum or b"").ljust(16, b"\0")),
                zone.null_count,
                zone.distinct,
                SEALED_HAS_ZONE if known else 0,
                0,
                np.void(bytes(40)),
            )
        return table

    def _stream(self, offset: int, array: Array) -> None:
        raw = array.reshape(-1).view(np.uint8)
        for start in range(0, raw.size, STAGING_BYTES):
            piece = raw[start : start + STAGING_BYTES]
            padded = self._staging[: round_up(piece.size)]
            padded[: piece.size] = piece
            padded[piece.size :] = 0
            for low in range(0, padded.size, CHUNK_BYTES):
                chunk = padded[low : low + CHUNK_BYTES]
                self._chunks.append(chunk_crc(self._uuid, offset + start + low, chunk))
            self._file.write_at(offset + start, padded)

    def _header(self, buffers: int, chunks: int, footer: int, footer_bytes: int, size: int, crc: int) -> Bytes:
        contents = self._contents
        scalar = isinstance(contents.begin, int)
        block = aligned_buffer(BLOCK)
        block[:] = 0
        fields = (
            SEALED_MAGIC,
            FORMAT_VERSION,
            SEALED_BEGIN_SCALAR if scalar else 0,
            self._uuid,
            contents.storage_id,
            contents.segment,
            contents.rows,
            len(contents.columns),
            buffers,
            chunks,
            CHUNK_BYTES,
            contents.begin if scalar else 0,
            footer,
            footer_bytes,
            size,
            crc,
            _RESERVED,
        )
        _HEADER.pack_into(block.data, 0, *fields, 0)
        _HEADER.pack_into(block.data, 0, *fields, google_crc32c.value(block))
        return block


def chunk_crc(uuid: bytes, offset: int, chunk: Bytes) -> int:
    """Checksum of the bytes at `offset` of a sealed file, padding included: they are right nowhere else."""
    return crc_of((_SEED.pack(uuid, offset), chunk))


# Reading


class SealedFile:
    """An open sealed file. Opening reads and checks header and footer; a buffer is checked at its first touch."""

    def __init__(self, fs: FileSystem, path: str, uuid: bytes, expected: SealedRef | None = None) -> None:
        """`expected` is what the manifest says. A file under a sealed name must be the one of that name.

        Raises DataCorrupted naming file and offset, or IncompatibleFormat.
        """
        self._fs = fs
        self._uuid = uuid
        self._lock = threading.Lock()
        self._map: Bytes | None = None
        self.path = path
        file = self._open()
        try:
            self._read_header(file)
            if place_of(path) not in (None, (self.storage_id, self.segment)):
                raise self._damage(0, f"it is segment {self.segment} of table storage {self.storage_id}")
            if expected is not None and expected != self.reference:
                raise self._damage(0, "it is not the file that the manifest names")
            self._read_footer(file)
        finally:
            file.close()
        self._checked = np.zeros(len(self._table), np.bool_)
        self._index = {(int(row["column"]), int(row["role"])): i for i, row in enumerate(self._table)}

    def zone(self, column: int) -> Zone:
        """Summary of a column."""
        row = self._zones[column]
        known = bool(int(row["flags"]) & SEALED_HAS_ZONE)
        low, high = bytes(row["minimum"]), bytes(row["maximum"])
        return Zone(int(row["null_count"]), int(row["distinct"]), low if known else None, high if known else None)

    def has(self, column: int, role: Role = Role.DATA) -> bool:
        """Whether the file holds that buffer."""
        return (int(column), int(role)) in self._index

    def form(self, column: int, role: Role = Role.DATA) -> tuple[str, int, int] | None:
        """(dtype, elements of one value, values) of a buffer as the footer has it; None when the file has none."""
        place = self._index.get((int(column), int(role)))
        if place is None:
            return None
        row = self._table[place]
        return row["dtype"].decode("latin-1"), int(row["inner"]), int(row["count"])

    def damage(self, problem: str) -> DataCorrupted:
        """The error for what somebody who knows more found wrong with the file as a whole."""
        return self._damage(0, problem)

    def buffer(self, column: int, role: Role = Role.DATA) -> Array | None:
        """A read-only view of a buffer in the map, [count] or [count, inner]; None when the file has none.

        The first touch reads and checks all of it. Raises DataCorrupted naming file and offset, each time.
        """
        place = self._index.get((int(column), int(role)))
        if place is None:
            return None
        if not self._checked[place]:
            self._first_touch(place)
        row = self._table[place]
        assert self._map is not None
        start, length = int(row["offset"]), int(row["length"])
        view: Array = self._map[start : start + length].view(np.dtype(row["dtype"].decode()))
        return view if int(row["inner"]) == 1 else view.reshape(-1, int(row["inner"]))

    def hidden(self, which: Hidden) -> Array | None:
        """A per-version vector, int64[rows], or None."""
        return self.buffer(int(which))

    def verify(self) -> list[DataCorrupted]:
        """Reads everything; the damage found, one error a chunk."""
        file = self._open()
        try:
            return [error for place in range(len(self._table)) for error in self._damages(file, place)]
        finally:
            file.close()

    # Steps

    def _open(self) -> File:
        try:
            return self._fs.open(self.path, read_only=True)
        except FileNotFoundError as error:
            raise DataCorrupted(f"file {self.path} is missing") from error
        except StorageFailed as error:
            raise DataCorrupted(error.message) from error

    def _read(self, file: File, offset: int, length: int) -> Bytes:
        """What exists of some bytes. What the disk cannot read is damage to this file, no end of the store (R36)."""
        try:
            return file.read_at(offset, length)
        except StorageFailed as error:
            raise DataCorrupted(error.message) from error

    def _damage(self, offset: int, problem: str) -> DataCorrupted:
        return DataCorrupted(f"file {self.path} is damaged at offset {offset}: {problem}")

    def _read_header(self, file: File) -> None:
        block = self._read(file, 0, BLOCK)
        if block.size < BLOCK:
            raise self._damage(0, "it has no header block")
        fields = _HEADER.unpack(block[: _HEADER.size].tobytes())
        magic, version, flags, uuid, self.storage_id, self.segment, self.rows, self.columns = fields[:8]
        buffers, chunks, chunk_bytes, begin, footer, footer_bytes, size, footer_crc, reserved, crc = fields[8:]
        clean = block.copy()
        clean[_CRC_OFFSET : _CRC_OFFSET + 4] = 0
        if magic != SEALED_MAGIC or crc != google_crc32c.value(clean):
            raise self._damage(0, "the header's checksum does not match")
        if version > FORMAT_VERSION or flags & ~SEALED_BEGIN_SCALAR:
            raise IncompatibleFormat(f"file {self.path} has segment format {version} with flags {flags:#x}")
        if uuid != self._uuid or reserved != _RESERVED or not is_zero(block[_HEADER.size :]):
            raise self._damage(0, "it belongs to another store")
        wanted = (
            self.columns * SEALED_COLUMN.itemsize + buffers * SEALED_BUFFER.itemsize + chunks * SEALED_CHUNK.itemsize
        )
        if footer_bytes != wanted or footer + round_up(footer_bytes) != size or chunk_bytes != CHUNK_BYTES:
            raise self._damage(0, "the header's sizes do not add up")
        if file.size() < size:
            raise self._damage(file.size(), f"it should have {size} bytes")
        self.begin: int | None = begin if flags & SEALED_BEGIN_SCALAR else None
        self.reference = SealedRef(size, google_crc32c.value(block))
        self._counts = (buffers, chunks)
        self._footer = (footer, footer_bytes, footer_crc)

    def _read_footer(self, file: File) -> None:
        offset, length, crc = self._footer
        footer = self._read(file, offset, round_up(length))
        if footer.size != round_up(length) or google_crc32c.value(footer) != crc:
            raise self._damage(offset, "the footer's checksum does not match")
        buffers, chunks = self._counts
        columns_bytes = self.columns * SEALED_COLUMN.itemsize
        table_bytes = buffers * SEALED_BUFFER.itemsize
        self._zones = np.frombuffer(footer, SEALED_COLUMN, self.columns)
        self._table = np.frombuffer(footer, SEALED_BUFFER, buffers, columns_bytes)
        self._chunks = np.frombuffer(footer, SEALED_CHUNK, chunks, columns_bytes + table_bytes)
        for row in self._table:
            dtype = row["dtype"].decode("latin-1")
            place, bytes_, inner = int(row["offset"]), int(row["length"]), int(row["inner"])
            if dtype not in _SIMPLE_DTYPES or inner not in (1, 2) or place % BLOCK or place + bytes_ > offset:
                raise self._damage(offset, "a buffer lies outside of the file")
            if int(row["count"]) * inner * np.dtype(dtype).itemsize != bytes_:
                raise self._damage(offset, "a buffer's length does not fit its values")
            if int(row["first_chunk"]) + int(row["chunk_count"]) > chunks:
                raise self._damage(offset, "a buffer's checksums are missing")

    def _first_touch(self, place: int) -> None:
        with self._lock:
            if self._checked[place]:
                return
            file = self._open()
            try:
                for error in self._damages(file, place):
                    raise error
                if self._map is None:
                    self._map = file.map_read(0, self.reference.size)
            finally:
                file.close()
            self._checked[place] = True

    def _damages(self, file: File, place: int) -> Iterator[DataCorrupted]:
        """Damage of one buffer: direct reads of STAGING_BYTES, checked chunk by chunk."""
        row = self._table[place]
        start, length = int(row["offset"]), round_up(int(row["length"]))
        crcs = self._chunks["crc"][int(row["first_chunk"]) :]
        for piece in range(0, length, STAGING_BYTES):
            wanted = min(STAGING_BYTES, length - piece)
            whole: Bytes | None = None
            try:
                whole = self._read(file, start + piece, wanted)
            except DataCorrupted as error:
                LOG.debug("chunk by chunk, so that a bad sector costs its chunk: %s", error.message)
            for low in range(0, wanted, CHUNK_BYTES):
                offset, size = start + piece + low, min(CHUNK_BYTES, wanted - low)
                try:
                    chunk = self._read(file, offset, size) if whole is None else whole[low : low + size]
                except DataCorrupted as error:
                    yield error
                    continue
                if chunk.size < size or chunk_crc(self._uuid, offset, chunk) != int(crcs[(piece + low) // CHUNK_BYTES]):
                    yield self._damage(offset, f"the checksum of {size} bytes does not match")
