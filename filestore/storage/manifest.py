"""The manifest: the one file that says which bytes are the store. Switching it is the commit point of a checkpoint.

Idea: a checkpoint writes everything to new places, then replaces this file as a whole: write `manifest.new`, fsync,
read it back from the disk and check it (only now is it proven), rename it over the old one, fsync the directory.

The file holds the same manifest twice, `copy_bytes` apart, each header + JSON + zeros: one damaged spot is survived,
and mended by the next switch. Reading takes the first copy that passes every checksum.

Validity rule of a copy: magic, header crc, known version, length inside the copy, body crc over JSON and zeros.
An unknown incompatible feature bit refuses the directory; an unknown read-only bit opens it for reading only.
It does not know what `metadata` means. See docs/decisions/0001-manifest-instead-of-superblock.md.

Thread rule: one switch at a time, which is `filestore.storage.store.Store`'s business; a manifest is a value.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final

import google_crc32c
import numpy as np

from filestore.errors import DataCorrupted, DiskFull, IncompatibleFormat, StorageFailed
from filestore.hal import File, FileSystem
from filestore.storage import crash_points
from filestore.storage.layout import (
    BLOCK,
    FIRST_LSN,
    FORMAT_VERSION,
    INCOMPATIBLE_BITS,
    MANIFEST_FILE,
    MANIFEST_HEADER,
    MANIFEST_MAGIC,
    MANIFEST_TEMP,
    READ_ONLY_BITS,
    Bytes,
    is_zero,
    round_up,
    struct_of,
)

COPY_UNIT: Final = 65536  # the copies start in different 64 KiB: one bad spot of a device does not reach both
_HEADER: Final = struct_of(MANIFEST_HEADER)
_HEADER_BYTES: Final = MANIFEST_HEADER.itemsize
_RESERVED_KEY: Final = bytes(52)


@dataclass(frozen=True)
class PageMapRef:
    """Which page map file is the live one; `crc` is its body_crc."""

    name: str
    length: int
    crc: int


@dataclass(frozen=True)
class SealedRef:
    """A live sealed file: its size, and the checksum over its header and footer, which cover the rest."""

    size: int
    crc: int


@dataclass(frozen=True)
class Manifest:
    """The content, a value. `epoch` is that of the newest log file that may hold acknowledged groups, 0 = none yet."""

    uuid: bytes
    sequence: int = 1
    redo_lsn: int = FIRST_LSN
    epoch: int = 0
    page_map: PageMapRef | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    sealed: dict[str, SealedRef] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    incompatible: int = 0
    read_only: int = 0
    crc: int = 0  # header crc of this manifest as read or written; the next one names it

    @property
    def opens_read_only(self) -> bool:
        """Whether a feature bit that this version does not know forbids writing."""
        return bool(self.read_only & ~READ_ONLY_BITS)

    def next(self, **changes: Any) -> Manifest:
        """The successor with some fields changed."""
        return replace(self, sequence=self.sequence + 1, **changes)


def encode(manifest: Manifest, previous_crc: int) -> tuple[Bytes, int]:
    """(the whole file, header crc)."""
    reference = manifest.page_map
    body = json.dumps(
        {
            "redo_lsn": manifest.redo_lsn,
            "epoch": manifest.epoch,
            "page_map": None if reference is None else [reference.name, reference.length, reference.crc],
            "sealed": {name: [found.size, found.crc] for name, found in sorted(manifest.sealed.items())},
            "metadata": manifest.metadata,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
    copy_bytes = round_up(_HEADER_BYTES + len(body), COPY_UNIT)
    padded = body + bytes(copy_bytes - _HEADER_BYTES - len(body))
    fields = (
        MANIFEST_MAGIC,
        manifest.format_version,
        manifest.incompatible,
        manifest.read_only,
        0,
        manifest.uuid,
        manifest.sequence,
        len(body),
        copy_bytes,
        google_crc32c.value(padded),
        previous_crc,
        _RESERVED_KEY,
    )
    crc = google_crc32c.value(_HEADER.pack(*fields, 0)[:-4])
    return np.frombuffer((_HEADER.pack(*fields, crc) + padded) * 2, np.uint8), crc


def decode(copy: Bytes) -> Manifest:
    """The manifest in one copy. Raises DataCorrupted or IncompatibleFormat; total on any bytes."""
    if copy.size < _HEADER_BYTES:
        raise DataCorrupted(f"{copy.size} bytes are too few for a header")
    header = copy[:_HEADER_BYTES].tobytes()
    (magic, version, incompatible, read_only, reserved, uuid, sequence, length, copy_bytes, body_crc, _, key, crc) = (
        _HEADER.unpack(header)
    )
    if magic != MANIFEST_MAGIC:
        raise DataCorrupted("this is not a manifest of FileStore")
    if crc != google_crc32c.value(header[:-4]):
        raise DataCorrupted("the header's checksum does not match")
    if version > FORMAT_VERSION or incompatible & ~INCOMPATIBLE_BITS:
        raise IncompatibleFormat(
            f"the directory has format version {version} and features {incompatible:#x}; "
            f"this program knows version {FORMAT_VERSION} and features {INCOMPATIBLE_BITS:#x}",
            hint="Open it with the version of FileStore that wrote it, or a newer one.",
        )
    if copy_bytes > copy.size or _HEADER_BYTES + length > copy_bytes or reserved or key != _RESERVED_KEY:
        raise DataCorrupted("the header's lengths do not fit the file")
    body = copy[_HEADER_BYTES:copy_bytes]
    if body_crc != google_crc32c.value(body) or not is_zero(body[length:]):
        raise DataCorrupted("the checksum does not match")
    try:
        return _from_json(json.loads(body[:length].tobytes()), uuid, sequence, version, incompatible, read_only, crc)
    except (ValueError, KeyError, TypeError) as error:
        raise DataCorrupted(f"the content makes no sense: {error}") from error


def _from_json(
    value: Any, uuid: bytes, sequence: int, version: int, incompatible: int, read_only: int, crc: int
) -> Manifest:
    reference = value["page_map"]
    return Manifest(
        uuid=uuid,
        sequence=sequence,
        redo_lsn=int(value["redo_lsn"]),
        epoch=int(value["epoch"]),
        page_map=None if reference is None else PageMapRef(str(reference[0]), int(reference[1]), int(reference[2])),
        metadata=dict(value["metadata"]),
        sealed={str(name): SealedRef(int(size), int(check)) for name, (size, check) in value["sealed"].items()},
        format_version=version,
        incompatible=incompatible,
        read_only=read_only,
        crc=crc,
    )


def copies(data: Bytes) -> list[tuple[int, Bytes]]:
    """(offset, bytes) of the two copies in a manifest file's bytes: the second starts halfway."""
    half = data.size // 2
    return [(0, data), (half, data[half:])]


def read(fs: FileSystem, path: str = MANIFEST_FILE) -> tuple[Manifest, list[tuple[int, str]]]:
    """(the manifest, damage as (offset, problem) of a copy that was not needed).

    Raises FileNotFoundError, IncompatibleFormat, or DataCorrupted when no copy is valid.
    """
    file = fs.open(path, read_only=True)
    try:
        data, damage = _read_copies(file)
    finally:
        file.close()
    told = dict(damage)
    for offset, copy in copies(data):
        if offset in told:
            continue
        try:
            return decode(copy), damage or _second_damage(data, offset)
        except DataCorrupted as error:
            damage.append((offset, error.message))
    what = "; ".join(f"at offset {offset}: {problem}" for offset, problem in damage)
    raise DataCorrupted(f"file {path} is damaged, both copies: {what}")


def _read_copies(file: File) -> tuple[Bytes, list[tuple[int, str]]]:
    """(the file's bytes, damage). A copy that the disk cannot read is zeros: the other one may be good."""
    size = file.size()
    try:
        return file.read_at(0, size), []
    except StorageFailed:
        half = size // 2
        data, damage = np.zeros(size, np.uint8), []
    for offset in (0, half):
        try:
            part = file.read_at(offset, half)
            data[offset : offset + part.size] = part
        except StorageFailed as error:
            damage.append((offset, error.message))
    return data, damage


def _second_damage(data: Bytes, offset: int) -> list[tuple[int, str]]:
    """What is wrong with the second copy when the first one, at 0, was good."""
    if offset:
        return []
    half = data.size // 2
    return [] if np.array_equal(data[:half], data[half:]) else [(half, "the second copy differs from the first")]


def write_temp(fs: FileSystem, manifest: Manifest, previous_crc: int) -> Manifest:
    """Writes `manifest.new`, makes it durable and reads it back. Returns the manifest with its crc."""
    data, crc = encode(manifest, previous_crc)
    assert data.size % BLOCK == 0
    if fs.exists(MANIFEST_TEMP):
        fs.unlink(MANIFEST_TEMP)
    file = fs.open(MANIFEST_TEMP, create=True)
    try:
        try:
            file.write_at(0, data)
        except DiskFull:
            fs.unlink(MANIFEST_TEMP)
            raise
        file.sync()
        crash_points.reach("checkpoint:manifest_written")
        proven = np.array_equal(file.read_at(0, data.size), data)
    finally:
        file.close()
    if not proven:
        raise StorageFailed(f"file {MANIFEST_TEMP} reads back differently from what was written")
    crash_points.reach("checkpoint:manifest_proven")
    return replace(manifest, crc=crc)


def switch(fs: FileSystem, manifest: Manifest, previous_crc: int) -> Manifest:
    """Makes `manifest` the live one. When it returns, the switch is durable; when it raises, either one is live.

    DiskFull leaves the old one live for sure; anything after the rename is StorageFailed.
    """
    written = write_temp(fs, manifest, previous_crc)
    fs.rename(MANIFEST_TEMP, MANIFEST_FILE)
    crash_points.reach("checkpoint:manifest_renamed")
    fs.sync_dir("")
    return written
