"""Batches: the unit in which the log is written, and what makes one valid. A pure codec, no I/O.

    batch = BATCH_HEADER | fragments | zeros up to a multiple of 4096
    fragment = FRAGMENT_HEADER | bytes of one group, padded to 8

A group that does not fit is cut into fragments over several batches, flagged FIRST and LAST; it counts only when
all of them are there. A batch is written once and its blocks never again (RELIABILITY R3).

Validity rule: a batch is valid at LSN x of a log file iff header crc, magic, lsn = x, the file's epoch,
previous_hash = hash of the batch before, length and payload inside the file, and xxh3_64 over every byte (hash and
header_crc as zero), seeded by the file's seed and x, all agree. Padding and reserved bytes are zero by the hash.

Thread rule: pure. Not here: files, and where a log ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import google_crc32c
import numpy as np
import xxhash

from filestore.storage.layout import (
    BATCH_HEADER,
    BATCH_MAGIC,
    BLOCK,
    FRAGMENT_FIRST,
    FRAGMENT_HEADER,
    FRAGMENT_LAST,
    Bytes,
    offset_of,
    struct_of,
)

_HEADER: Final = struct_of(BATCH_HEADER)
_FRAGMENT: Final = struct_of(FRAGMENT_HEADER)
HEADER_BYTES: Final = BATCH_HEADER.itemsize
FRAGMENT_BYTES: Final = FRAGMENT_HEADER.itemsize
_HASH_OFFSET: Final = offset_of(BATCH_HEADER, "hash")
_CRC_OFFSET: Final = offset_of(BATCH_HEADER, "header_crc")
_RESERVED: Final = bytes(24)
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A valid batch's header."""

    lsn: int
    length: int
    payload: int
    groups: int
    hash: int
    durable_lsn: int

    @property
    def end_lsn(self) -> int:
        return self.lsn + self.length


def seal(
    data: Bytes, lsn: int, epoch: int, payload: int, groups: int, previous_hash: int, durable_lsn: int, seed: int
) -> int:
    """Writes the header into `data` (the whole batch, zeros behind its payload). Returns the batch's hash."""
    fields = (BATCH_MAGIC, lsn, epoch, data.size, payload, groups, 0, previous_hash, durable_lsn, _RESERVED)
    _HEADER.pack_into(data.data, 0, *fields, 0, 0, 0)
    found = xxhash.xxh3_64_intdigest(data.data, seed=(seed + lsn) & _MASK)
    header = _HEADER.pack(*fields, found, 0, 0)
    crc = google_crc32c.value(header[:_CRC_OFFSET])
    _HEADER.pack_into(data.data, 0, *fields, found, 0, crc)
    return found


def decode(window: Bytes, lsn: int, epoch: int, seed: int) -> BatchInfo | None:
    """The batch at the start of `window`, which reaches to the end of its file; None when it is not valid.

    The chain (previous_hash) is for the caller to compare: see `previous_hash_of`.
    """
    if window.size < HEADER_BYTES:
        return None
    header = window[:HEADER_BYTES].tobytes()
    magic, its_lsn, its_epoch, length, payload, groups, flags, _, durable, reserved, found, zero, crc = (
        _HEADER.unpack(header)
    )
    if magic != BATCH_MAGIC or crc != google_crc32c.value(header[:_CRC_OFFSET]):
        return None
    if its_lsn != lsn or its_epoch != epoch or flags or zero or reserved != _RESERVED:
        return None
    if length % BLOCK or not BLOCK <= length <= window.size or payload > length - HEADER_BYTES:
        return None
    whole = window[:length].copy()
    whole[_HASH_OFFSET : _HASH_OFFSET + 8] = 0
    whole[_CRC_OFFSET : _CRC_OFFSET + 4] = 0
    if xxhash.xxh3_64_intdigest(whole.data, seed=(seed + lsn) & _MASK) != found:
        return None
    return BatchInfo(lsn, length, payload, groups, found, durable)


def previous_hash_of(window: Bytes) -> int:
    """The previous_hash field of a batch that `decode` accepted."""
    return int(_HEADER.unpack(window[:HEADER_BYTES].tobytes())[7])


def candidates(window: Bytes) -> list[int]:
    """Offsets of blocks in `window` that begin with the batch magic; `decode` says which are batches."""
    blocks = window[: window.size // BLOCK * BLOCK].reshape(-1, BLOCK)
    magics = np.ascontiguousarray(blocks[:, :8]).view("<u8").ravel()
    return [int(i) * BLOCK for i in np.flatnonzero(magics == np.uint64(BATCH_MAGIC))]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a group inside a batch; offsets count from the start of the batch."""

    offset: int  # of the fragment's header
    data_offset: int
    length: int
    first: bool
    last: bool


def end_of(piece: Fragment) -> int:
    """Offset behind a fragment and its padding, from the start of its batch."""
    return piece.data_offset + (piece.length + 7 & ~7)


def fragments(window: Bytes, payload: int) -> list[Fragment] | None:
    """The fragments of a valid batch; None when they do not fill its payload (a bug of the writer, not of the disk)."""
    found = []
    offset, end = HEADER_BYTES, HEADER_BYTES + payload
    head = window[:end].data
    while offset < end:
        if offset + FRAGMENT_BYTES > end:
            return None
        length, flags = _FRAGMENT.unpack_from(head, offset)
        data_offset = offset + FRAGMENT_BYTES
        following = data_offset + (length + 7 & ~7)
        if following > end or flags & ~(FRAGMENT_FIRST | FRAGMENT_LAST):
            return None
        found.append(
            Fragment(offset, data_offset, length, bool(flags & FRAGMENT_FIRST), bool(flags & FRAGMENT_LAST))
        )
        offset = following
    return found


def pack_fragment(target: memoryview, offset: int, length: int, *, first: bool, last: bool) -> None:
    """Writes a fragment's header."""
    _FRAGMENT.pack_into(target, offset, length, first * FRAGMENT_FIRST | last * FRAGMENT_LAST)
