"""The files behind the log: headers, preparing, switching, recycling. `log.py` writes batches into them.

    wal/{first LSN:020}.log   header block, then the bytes of LSN first_lsn, first_lsn + 1, ...
    wal/spare.{n}             zero-written or recycled, durable, waiting to become a log file
    wal/prepare.{n}           being zero-written; removed at startup

Invariants:
- a file has its final name only after its header is durable, so an invalid header under a final name is damage;
- a file is overwritten only while it is called spare or prepare, and that name is durable;
- each use of a file draws a new salt, which seeds the hash of its batches: old batches never validate (RELIABILITY
  R5);
- a successor's header names the LSN and the hash where the file before it ended. Whatever lies behind that LSN in the
  older file is not the log, whether it validates or not: no torn tail comes back to life (R8).

Thread rule: any thread; one lock orders spares. It does not know what a batch is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import google_crc32c
import numpy as np
import xxhash

from filestore.errors import DataCorrupted, DiskFull, IncompatibleFormat
from filestore.hal import File, FileSystem
from filestore.hal.memory import aligned_buffer
from filestore.storage import crash_points
from filestore.storage.layout import (
    BLOCK,
    FORMAT_VERSION,
    LOG_DIR,
    LOG_FILE_HEADER,
    LOG_FILE_MAGIC,
    Bytes,
    is_zero,
    offset_of,
    struct_of,
)

_HEADER: Final = struct_of(LOG_FILE_HEADER)
_CRC_OFFSET: Final = offset_of(LOG_FILE_HEADER, "header_crc")
_RESERVED: Final = bytes(36)
ZERO_CHUNK: Final = 1 << 20
SPARES_MAX: Final = 4  # recycled files kept; more would only hold disk space
SUFFIX: Final = ".log"
SPARE: Final = "spare."
PREPARE: Final = "prepare."

Random = Callable[[int], bytes]
Writes = list[tuple[int, Bytes]]


@dataclass(frozen=True)
class LogFileHeader:
    """A log file's header as a value."""

    uuid: bytes
    epoch: int
    salt: int
    first_lsn: int
    file_bytes: int
    file_number: int
    previous_hash: int

    @property
    def path(self) -> str:
        return f"{LOG_DIR}/{self.first_lsn:020}{SUFFIX}"

    @property
    def end_lsn(self) -> int:
        """LSN behind the last byte that fits."""
        return self.first_lsn + self.file_bytes - BLOCK

    def offset(self, lsn: int) -> int:
        """Place of an LSN in the file."""
        return BLOCK + lsn - self.first_lsn

    @property
    def seed(self) -> int:
        """What the hashes of this file's batches are seeded by, together with their LSN."""
        return xxhash.xxh3_64_intdigest(
            self.uuid + self.epoch.to_bytes(8, "little") + self.salt.to_bytes(8, "little"), seed=0
        )

    def encode(self) -> Bytes:
        """The header block: 4096 bytes, aligned."""
        block = aligned_buffer(BLOCK)
        block[:] = 0
        fields = (
            LOG_FILE_MAGIC,
            FORMAT_VERSION,
            BLOCK,
            self.uuid,
            self.epoch,
            self.salt,
            self.first_lsn,
            self.file_bytes,
            self.file_number,
            self.previous_hash,
            0,
            _RESERVED,
        )
        _HEADER.pack_into(block.data, 0, *fields, 0)
        crc = google_crc32c.value(block)
        _HEADER.pack_into(block.data, 0, *fields, crc)
        return block


def decode_header(block: Bytes, path: str) -> LogFileHeader:
    """The header in a file's first block. Raises DataCorrupted or IncompatibleFormat; total on any bytes."""
    if block.size < BLOCK:
        raise DataCorrupted(f"file {path} is damaged at offset 0: it has no header block")
    fields = _HEADER.unpack(block[: _HEADER.size].tobytes())
    magic, version, unit, uuid, epoch, salt, first_lsn, file_bytes, number, previous, key_id, reserved, crc = fields
    clean = block[:BLOCK].copy()
    clean[_CRC_OFFSET : _CRC_OFFSET + 4] = 0
    if magic != LOG_FILE_MAGIC or crc != google_crc32c.value(clean):
        raise DataCorrupted(f"file {path} is damaged at offset 0: the header's checksum does not match")
    if version > FORMAT_VERSION or key_id:
        raise IncompatibleFormat(f"file {path} has log format {version}; this program knows {FORMAT_VERSION}")
    if unit != BLOCK or reserved != _RESERVED or not is_zero(block[_HEADER.size : BLOCK]):
        raise DataCorrupted(f"file {path} is damaged at offset 0: reserved bytes are not zero")
    if file_bytes % BLOCK or file_bytes < 2 * BLOCK or first_lsn % BLOCK:
        raise DataCorrupted(f"file {path} is damaged at offset 0: sizes are not multiples of {BLOCK}")
    return LogFileHeader(uuid, epoch, salt, first_lsn, file_bytes, number, previous)


def list_log_files(fs: FileSystem) -> list[tuple[int, str]]:
    """(first LSN, path) of every file with a final name, in LSN order."""
    found = []
    for name in fs.list(LOG_DIR) if fs.exists(LOG_DIR) else []:
        stem = name.removesuffix(SUFFIX)
        if stem != name and stem.isdigit() and len(stem) == 20:
            found.append((int(stem), f"{LOG_DIR}/{name}"))
    return sorted(found)


def read_header(fs: FileSystem, path: str, uuid: bytes) -> LogFileHeader:
    """A log file's header, checked against its name, its size and the store's uuid."""
    file = fs.open(path, read_only=True)
    try:
        header = decode_header(file.read_at(0, BLOCK), path)
        size = file.size()
    finally:
        file.close()
    if header.uuid != uuid:
        raise DataCorrupted(f"file {path} is damaged at offset 0: it belongs to another store")
    if header.path != path:
        raise DataCorrupted(f"file {path} is damaged at offset 0: its header says LSN {header.first_lsn}")
    if size < header.file_bytes:
        raise DataCorrupted(f"file {path} is damaged at offset {size}: it should have {header.file_bytes} bytes")
    return header


class LogFiles:
    """Makes, names and recycles log files of one size."""

    def __init__(self, fs: FileSystem, uuid: bytes, file_bytes: int, random: Random) -> None:
        if file_bytes % BLOCK or file_bytes < 2 * BLOCK:
            raise ValueError(f"log file size {file_bytes} is not a multiple of {BLOCK} with room for a batch")
        self.fs = fs
        self.uuid = uuid
        self.file_bytes = file_bytes
        self.capacity = file_bytes - BLOCK
        self._random = random
        self._guard = threading.RLock()
        self._spares: list[str] = []
        self._starting = 0  # 1 while a spare is on its way to become the file written to: it still counts as room
        self._next_number = 1
        self.live: list[LogFileHeader] = []  # files with a final name, in LSN order; the last one is written to

    @property
    def spares(self) -> int:
        """How many files are ready to be switched to."""
        return len(self._spares) + self._starting

    def adopt_spares(self) -> None:
        """Startup: takes over whole spares, removes everything half-made and every spare of another size."""
        removed = False
        with self._guard:
            for name in self.fs.list(LOG_DIR):
                path = f"{LOG_DIR}/{name}"
                if name.startswith((SPARE, PREPARE)):
                    number = name.partition(".")[2]
                    if number.isdigit():
                        self._next_number = max(self._next_number, int(number) + 1)
                    if name.startswith(SPARE) and number.isdigit() and self._size(path) == self.file_bytes:
                        self._spares.append(path)
                    else:
                        self.fs.unlink(path)
                        removed = True
        if removed:
            self.fs.sync_dir(LOG_DIR)

    def make_spare(self) -> None:
        """Prepares one more file: zero-written, durable, named. DiskFull leaves nothing behind."""
        with self._guard:
            number = self._next_number
            self._next_number += 1
        path, final = f"{LOG_DIR}/{PREPARE}{number}", f"{LOG_DIR}/{SPARE}{number}"
        file = self.fs.open(path, create=True)
        try:
            try:
                self._write_zeros(file)
                crash_points.reach("log:spare_written")
                file.sync()
            finally:
                file.close()
            crash_points.reach("log:spare_zeroed")
            self.fs.rename(path, final)
        except DiskFull:
            self.fs.unlink(path)
            raise
        crash_points.reach("log:spare_renamed")
        self.fs.sync_dir(LOG_DIR)
        crash_points.reach("log:spare_named")
        with self._guard:
            self._spares.append(final)

    def drop_spare(self) -> bool:
        """Removes one spare file, so that its space can be used for something else; False when there is none."""
        with self._guard:
            if not self._spares:
                return False
            path = self._spares.pop()
        self.fs.unlink(path)
        self.fs.sync_dir(LOG_DIR)
        return True

    def start(
        self, epoch: int, first_lsn: int, previous_hash: int, fill: Callable[[LogFileHeader], Writes] | None = None
    ) -> File:
        """Turns a spare (made now if there is none) into the log file that begins at `first_lsn`; durable on return.

        `fill` gives the writes of batches that the file holds from the start. A file of that name is replaced: at
        recovery, when none of its batches is proven to be durable.
        """
        if not self._spares:
            self.make_spare()
        with self._guard:
            path = self._spares.pop(0)
            self._starting = 1
        number = self.live[-1].file_number + 1 if self.live else 1
        salt = int.from_bytes(self._random(8), "little")
        header = LogFileHeader(self.uuid, epoch, salt, first_lsn, self.file_bytes, number, previous_hash)
        writes = fill(header) if fill is not None else []
        end = max((offset + data.size for offset, data in writes), default=0)
        if end > header.file_bytes:
            # The store was opened with a smaller file size than the one that the tail was written in.
            header = replace(header, file_bytes=end)
        file = self.fs.open(path)
        try:
            if end > self.file_bytes:
                file.allocate(end)
            file.write_many([(0, header.encode()), *writes])
            file.sync()
        finally:
            file.close()
        crash_points.reach("log:header_written")
        self.fs.rename(path, header.path)
        crash_points.reach("log:file_renamed")
        self.fs.sync_dir(LOG_DIR)
        crash_points.reach("log:file_named")
        with self._guard:
            self.live = [*(old for old in self.live if old.first_lsn != first_lsn), header]
            self._starting = 0
        return self.fs.open(header.path)

    def recyclable(self, upto_lsn: int) -> bool:
        """Whether `trim` is going to give back a file's space or more."""
        return sum(header.file_bytes for header in self._ended(upto_lsn)) >= self.file_bytes

    def trim(self, upto_lsn: int) -> int:
        """Recycles files that end at or before `upto_lsn`, never the one written to. Returns how many."""
        with self._guard:
            old = self._ended(upto_lsn)
            self.live = self.live[len(old) :]
        recycled: list[str] = []
        for header in old:
            with self._guard:
                number = self._next_number
                self._next_number += 1
                keep = len(self._spares) + len(recycled) < SPARES_MAX and header.file_bytes == self.file_bytes
            if keep:
                recycled.append(f"{LOG_DIR}/{SPARE}{number}")
                self.fs.rename(header.path, recycled[-1])
            else:
                self.fs.unlink(header.path)
        if old:
            # Only now may a recycled file be overwritten: under its old name it would read as damage.
            self.fs.sync_dir(LOG_DIR)
            crash_points.reach("log:recycled")
            with self._guard:
                self._spares += recycled
        return len(old)

    def _ended(self, upto_lsn: int) -> list[LogFileHeader]:
        live = self.live
        return [live[i] for i in range(len(live) - 1) if live[i + 1].first_lsn <= upto_lsn]

    def _write_zeros(self, file: File) -> None:
        """Real zeros, not only reserved space: a commit then changes no metadata of the filesystem (R1)."""
        file.allocate(self.file_bytes)
        zeros = np.zeros(min(ZERO_CHUNK, self.file_bytes) + BLOCK, np.uint8)
        zeros = zeros[-zeros.ctypes.data % BLOCK :]
        for offset in range(0, self.file_bytes, ZERO_CHUNK):
            file.write_at(offset, zeros[: min(ZERO_CHUNK, self.file_bytes - offset)])

    def _size(self, path: str) -> int:
        file = self.fs.open(path, read_only=True)
        try:
            return file.size()
        finally:
            file.close()
