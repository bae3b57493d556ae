"""Log groups: what one transaction tells the log, as one contiguous run of bytes. A pure codec, no I/O.

    group = GROUP_HEADER | RECORD_ENTRY x records | payloads, each padded to 8 bytes with zeros

Idea: the directory of records stands in front, so a reader gets kind, storage id, offset and length of all records as
vectors without walking them, and replay can be one kernel a group.

Validity rule: a group is valid iff its length is that of its bytes, the directory and every payload lie inside it,
payloads are 8-aligned and in order, and the crc32c of all bytes (with the crc field zero) is the header's. Decoding
is total: any bytes give a group or DataCorrupted, in time linear in their length.

A group is redo only and means "committed": nothing is logged before the commit, an abort logs nothing (R10).
It does not know what payloads mean, except for their kinds.

Thread rule: pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from filestore.errors import DataCorrupted
from filestore.storage.layout import GROUP_HEADER, RECORD_ENTRY, Bytes, offset_of, struct_of

Part = bytes | Bytes
Int64s = NDArray[np.int64]

_HEADER: Final = struct_of(GROUP_HEADER)
_ENTRY: Final = struct_of(RECORD_ENTRY)
_CRC_OFFSET: Final = offset_of(GROUP_HEADER, "crc")
_PADDING: Final = tuple(bytes(n) for n in range(8))
HEADER_BYTES: Final = GROUP_HEADER.itemsize
ENTRY_BYTES: Final = RECORD_ENTRY.itemsize
FEW_RECORDS: Final = 8


class RecordKind(enum.IntEnum):
    """What a payload is. Numbers are on disk: never reuse one; 5 and 6 had a meaning once."""

    ROWS = 1  # row images of new versions
    ENDS = 2  # addresses whose versions ended
    ATTACH = 3  # a sealed segment belongs to a table from now on
    DDL = 4  # operations on the registry, JSON


class Record(NamedTuple):
    """One record before it is logged. `payload`: bytes or contiguous uint8[], unchanged until `Log.append` returns."""

    kind: int
    storage_id: int
    payload: Part


def encode_group(commit_timestamp: int, transaction: int, records: Sequence[Record]) -> list[Part]:
    """The parts of one group, to be handed to `Log.append`; payloads are not copied."""
    offset = HEADER_BYTES + ENTRY_BYTES * len(records)
    entries = []
    tail: list[Part] = []
    for kind, storage_id, payload in records:
        length = len(payload)
        entries.append(_ENTRY.pack(storage_id, offset, length, kind, 0))
        tail.append(payload)
        offset += length
        if length & 7:
            tail.append(_PADDING[-length & 7])
            offset += -length & 7
    directory = b"".join(entries)
    head = _HEADER.pack(offset, transaction, commit_timestamp, len(records), 0, 0, 0, 0)
    crc = google_crc32c.extend(google_crc32c.value(head), directory)
    for part in tail:
        crc = google_crc32c.extend(crc, part)
    head = _HEADER.pack(offset, transaction, commit_timestamp, len(records), 0, 0, crc, 0)
    return [head + directory, *tail]


@dataclass(slots=True)
class LogGroup:
    """One committed transaction as read back. Vectors have one element a record, in commit order.

    `data` is the whole group, uint8; record i's payload is data[offset[i] : offset[i] + length[i]], 8-aligned in it.
    `lsn` is where the group begins in the log, `end_lsn` just behind it: durable iff durable_lsn >= end_lsn.
    """

    lsn: int
    end_lsn: int
    transaction: int
    commit_timestamp: int
    data: Bytes
    kind: Int64s
    storage_id: Int64s
    offset: Int64s
    length: Int64s

    def __len__(self) -> int:
        return len(self.kind)

    def payload(self, i: int) -> Bytes:
        """Payload of record i, a view."""
        return self.data[int(self.offset[i]) : int(self.offset[i] + self.length[i])]

    @property
    def records(self) -> Iterator[tuple[int, int, Bytes]]:
        """(kind, storage id, payload view) of each record."""
        for i in range(len(self.kind)):
            yield int(self.kind[i]), int(self.storage_id[i]), self.payload(i)


def decode_group(data: Bytes, lsn: int, end_lsn: int) -> LogGroup:
    """The group in `data`, all of it. Raises DataCorrupted naming the LSN when the validity rule is broken."""
    problem = "it is shorter than its header"
    if data.size >= HEADER_BYTES:
        length, transaction, timestamp, count, _, _, crc, _ = _HEADER.unpack(data[:HEADER_BYTES].tobytes())
        if length != data.size:
            problem = f"its header says {length} bytes of {data.size}"
        elif HEADER_BYTES + ENTRY_BYTES * count > data.size:
            problem = f"{count} records do not fit"
        elif crc != _crc_without_field(data):
            problem = "its checksum does not match"
        else:
            directory = _directory(data, count)
            if directory is not None:
                return LogGroup(lsn, end_lsn, transaction, timestamp, data, *directory)
            problem = "a record lies outside of it"
    raise DataCorrupted(f"log group at LSN {lsn} is damaged: {problem}")


def _crc_without_field(data: Bytes) -> int:
    crc = google_crc32c.value(data[:_CRC_OFFSET])
    return int(google_crc32c.extend(google_crc32c.extend(crc, bytes(4)), data[_CRC_OFFSET + 4 :]))


def _directory(data: Bytes, count: int) -> tuple[Int64s, Int64s, Int64s, Int64s] | None:
    """(kind, storage id, offset, length) of each record; None unless payloads follow one another up to the end."""
    first = HEADER_BYTES + ENTRY_BYTES * count
    if count <= FEW_RECORDS:
        # Most groups are this small, and numpy costs more per call than they do in all.
        rows = []
        for storage_id, offset, length, kind, _ in _ENTRY.iter_unpack(data[HEADER_BYTES:first].data):
            if offset != first or length > data.size:
                return None
            first += length + 7 & ~7
            rows.append((kind, storage_id, offset, length))
        table = np.ascontiguousarray(np.array(rows, np.int64).reshape(count, 4).T)
        return (table[0], table[1], table[2], table[3]) if first == data.size else None
    entries = np.frombuffer(data, RECORD_ENTRY, count, HEADER_BYTES)
    kinds, storage_ids = entries["kind"].astype(np.int64), entries["storage_id"].astype(np.int64)
    offsets, lengths = entries["offset"].astype(np.int64), entries["length"].astype(np.int64)
    if bool((lengths < 0).any()) or bool((lengths > data.size).any()):
        return None
    ends = offsets + (lengths + 7 & ~7)
    starts: NDArray[Any] = np.concatenate(([first], ends[:-1]))
    fits = bool((offsets == starts).all()) and int(ends[-1]) == data.size
    return (kinds, storage_ids, offsets, lengths) if fits else None
