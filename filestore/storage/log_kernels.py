"""Kernels that read the log: fragments into whole groups, groups into vectors of records, crc32c.

They are the fast twins of `log_batch.fragments`, `LogReader`'s collecting of fragments, and `log_record.decode_group`,
which say what is right and raise the errors: a kernel only says where it stopped. Log bytes have passed their batch's
checksum when they come here, but nothing else is believed of them: every offset is compared before it is followed.

Thread rule: the caller's; only arguments are written. Not here: what a record means.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from filestore.storage.layout import (
    BATCH_HEADER,
    FRAGMENT_FIRST,
    FRAGMENT_HEADER,
    FRAGMENT_LAST,
    GROUP_HEADER,
    RECORD_ENTRY,
    ROW_END,
    offset_of,
)
from filestore.storage.memory_kernels import copy_bytes, load_i64, load_u32

BATCH_BYTES: Final = BATCH_HEADER.itemsize
FRAGMENT_BYTES: Final = FRAGMENT_HEADER.itemsize
GROUP_BYTES: Final = GROUP_HEADER.itemsize
ENTRY_BYTES: Final = RECORD_ENTRY.itemsize
END_BYTES: Final = ROW_END.itemsize
_TRANSACTION: Final = offset_of(GROUP_HEADER, "transaction")
_TIMESTAMP: Final = offset_of(GROUP_HEADER, "commit_timestamp")
_RECORDS: Final = offset_of(GROUP_HEADER, "records")
_CRC: Final = offset_of(GROUP_HEADER, "crc")
_OFFSET: Final = offset_of(RECORD_ENTRY, "offset")
_LENGTH: Final = offset_of(RECORD_ENTRY, "length")
_KIND: Final = offset_of(RECORD_ENTRY, "kind")
assert _CRC % 8 == 0 and offset_of(GROUP_HEADER, "length") == 0 and offset_of(RECORD_ENTRY, "storage_id") == 0

# What `assemble` keeps from call to call, int64 each.
INSIDE: Final = 0  # 1 between the first and the last fragment of a group
GROUP_LSN: Final = 1  # where that group begins
GROUP_EPOCH: Final = 2  # of the file that it begins in
BEGUN: Final = 3  # 1 once a first fragment was seen; before that, pieces of an older group are skipped
START: Final = 4  # where that group begins in `out`; negative when earlier calls hold its first bytes
USED: Final = 5  # bytes of `out` that are in use
FOUND: Final = 6  # whole groups
PROBLEM_LSN: Final = 7
STATE_WORDS: Final = 8

# What `assemble` answers.
WELL: Final = 0
BAD_FRAGMENTS: Final = 1
GROUP_IN_GROUP: Final = 2
NO_BEGINNING: Final = 3
NO_HEADER: Final = 4  # a group is shorter than its header


def _crc_tables() -> NDArray[np.uint32]:
    """uint32[8, 256]: tables of crc32c for eight bytes at a time (Kounavis and Berry, 2005)."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = (row >> np.uint32(1)) ^ (np.uint32(0x82F63B78) * (row & np.uint32(1)))
    rows = [row]
    for _ in range(7):
        rows.append((rows[-1] >> np.uint32(8)) ^ row[rows[-1] & np.uint32(255)])
    return np.array(rows, np.uint32)


_TABLES = _crc_tables()


@njit(nogil=True, cache=True)
def crc32c_words(address: Any, words: Any, skipped: Any) -> Any:
    """crc32c of 8-byte words at an address; the low four bytes of word `skipped` count as zero, -1 for none."""
    crc = np.uint32(0xFFFFFFFF)
    for i in range(words):
        low = np.uint32(0) if i == skipped else load_u32(address + 8 * i)
        high = load_u32(address + 8 * i + 4)
        low ^= crc
        crc = (
            _TABLES[7, low & 255]
            ^ _TABLES[6, (low >> 8) & 255]
            ^ _TABLES[5, (low >> 16) & 255]
            ^ _TABLES[4, low >> 24]
            ^ _TABLES[3, high & 255]
            ^ _TABLES[2, (high >> 8) & 255]
            ^ _TABLES[1, (high >> 16) & 255]
            ^ _TABLES[0, high >> 24]
        )
    return np.uint32(crc ^ np.uint32(0xFFFFFFFF))


@njit(nogil=True, cache=True)
def fragments_fit(base: Any, offset: Any, end: Any) -> Any:
    """Whether fragments fill a batch at address `base` from `offset` to `end`."""
    while offset < end:
        if offset + FRAGMENT_BYTES > end or load_u32(base + offset + 4) & ~(FRAGMENT_FIRST | FRAGMENT_LAST):
            return False
        offset += FRAGMENT_BYTES + ((np.int64(load_u32(base + offset)) + 7) & ~7)
    return offset == end


@njit(nogil=True, cache=True)
def assemble(
    data: Any,
    positions: Any,
    payloads: Any,
    lsns: Any,
    epoch: Any,
    from_lsn: Any,
    state: Any,
    out: Any,
    starts: Any,
    sizes: Any,
    begin_lsns: Any,
    end_lsns: Any,
    last_ends: Any,
) -> Any:
    """Copies the fragments of valid batches, group after group, to `out`; groups before `from_lsn` are left out.

    positions, payloads, lsns: int64[batches], where each batch begins in `data`, its payload's bytes, its LSN. Group i
    is starts[i] .. starts[i] + sizes[i] in `out`; last_ends[b]: where the last group that ends in batch b does, from
    the batch's start, 0 if none does. Returns one of the answers above, the place in state[PROBLEM_LSN].
    """
    inside, start, used, found = state[INSIDE], state[START], state[USED], state[FOUND]
    group_lsn, group_epoch, begun = state[GROUP_LSN], state[GROUP_EPOCH], state[BEGUN]
    answer = WELL
    for b in range(len(positions)):
        base = data.ctypes.data + positions[b]
        offset, end = BATCH_BYTES, BATCH_BYTES + payloads[b]
        last_ends[b] = 0
        if not fragments_fit(base, offset, end):
            answer, state[PROBLEM_LSN] = BAD_FRAGMENTS, lsns[b]
        while offset < end and answer == WELL:
            length: Any = np.int64(load_u32(base + offset))
            flags: Any = np.int64(load_u32(base + offset + 4))
            following = offset + FRAGMENT_BYTES + ((length + 7) & ~7)
            if flags & FRAGMENT_LAST:
                last_ends[b] = following
            if flags & FRAGMENT_FIRST:
                if inside:
                    if group_epoch == epoch:
                        answer, state[PROBLEM_LSN] = GROUP_IN_GROUP, lsns[b] + offset
                        break
                    used = max(start, 0)
                inside, begun, start, group_lsn, group_epoch = 1, 1, used, lsns[b] + offset, epoch
            elif not inside and begun:
                answer, state[PROBLEM_LSN] = NO_BEGINNING, lsns[b] + offset
                break
            if inside:
                copy_bytes(out.ctypes.data + used, base + offset + FRAGMENT_BYTES, length)
                used += length
                if flags & FRAGMENT_LAST:
                    inside = 0
                    if group_lsn < from_lsn:
                        used = max(start, 0)
                    elif used - start < GROUP_BYTES:
                        answer, state[PROBLEM_LSN] = NO_HEADER, group_lsn
                    else:
                        starts[found], sizes[found] = start, used - start
                        begin_lsns[found], end_lsns[found] = group_lsn, lsns[b] + following
                        found += 1
                        used = (used + 7) & ~7
            offset = following
        if answer != WELL:
            break
    state[INSIDE], state[START], state[USED], state[FOUND] = inside, start, used, found
    state[GROUP_LSN], state[GROUP_EPOCH], state[BEGUN] = group_lsn, group_epoch, begun
    return answer


@njit(nogil=True, cache=True)
def read_headers(data: Any, starts: Any, sizes: Any, transactions: Any, stamps: Any, counts: Any) -> Any:
    """Headers of groups, lengths and checksums compared; returns how many records they have, -1 - i for a bad one."""
    records: Any = 0
    for i in range(len(starts)):
        at, size = data.ctypes.data + starts[i], sizes[i]
        count: Any = np.int64(load_u32(at + _RECORDS))
        if load_i64(at) != size or size & 7 or GROUP_BYTES + ENTRY_BYTES * count > size:
            return -1 - i
        if crc32c_words(at, size >> 3, _CRC >> 3) != load_u32(at + _CRC):
            return -1 - i
        transactions[i], stamps[i], counts[i] = load_i64(at + _TRANSACTION), load_i64(at + _TIMESTAMP), count
        records += count
    return records


@njit(nogil=True, cache=True)
def read_directories(
    data: Any, starts: Any, sizes: Any, counts: Any, kinds: Any, storage_ids: Any, offsets: Any, lengths: Any
) -> Any:
    """Records of groups whose headers are good, offsets from the start of `data`; -1 - i for a bad group, else 0."""
    record = 0
    for i in range(len(starts)):
        at = data.ctypes.data + starts[i]
        behind = GROUP_BYTES + ENTRY_BYTES * counts[i]
        for j in range(counts[i]):
            entry = at + GROUP_BYTES + ENTRY_BYTES * j
            offset, length = load_i64(entry + _OFFSET), load_i64(entry + _LENGTH)
            if offset != behind or length < 0 or length > sizes[i]:
                return -1 - i
            behind += (length + 7) & ~7
            kinds[record], storage_ids[record] = np.int64(load_u32(entry + _KIND)), load_i64(entry)
            offsets[record], lengths[record] = starts[i] + offset, length
            record += 1
        if behind != sizes[i]:
            return -1 - i
    return 0


@njit(nogil=True, cache=True)
def read_ends(data: Any, offsets: Any, lengths: Any, stamps: Any, addresses: Any, each: Any) -> None:
    """Addresses in the payloads of ENDS records, and the stamp of each one's record."""
    found = 0
    for i in range(len(offsets)):
        at = data.ctypes.data + offsets[i]
        for j in range(lengths[i] // END_BYTES):
            addresses[found], each[found] = load_i64(at + END_BYTES * j), stamps[i]
            found += 1
