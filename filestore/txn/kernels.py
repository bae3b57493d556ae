"""The visibility rule over vectors and version chains, and the claim of rows: compiled twins of `snapshot`
and `writes`.

`sees` is the rule as compiled code; other rooms' point kernels inline it. Directory and fields:
`filestore.storage.directory`.

Thread rule: those that write (`claim`, `put_ends`) under the engine lock; those that read on any thread that keeps
the segments alive. Not here: who may call what when, and any check of addresses: those that lie read other memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.storage.directory import END, ENDED, INFINITY, SLOT_BITS, SLOT_MASK
from filestore.storage.memory_kernels import load_i64, store_i64
from filestore.storage.segment_kernels import begin_at, end_at, head_at, previous_at, record_at

CLAIMED = 0
GONE = 1
MOVED = 2


@njit(nogil=True, cache=True, inline="always")
def sees(begin: int, end: int, address: int, timestamp: int, mark: int, bound: int) -> Any:
    """The rule of `Snapshot.sees`."""
    if begin < 0:
        if begin != mark or address >= bound:
            return False
    elif begin > timestamp:
        return False
    return end > timestamp if end >= 0 else end != mark


@njit(nogil=True, cache=True)
def visible(begin: Any, begin_value: int, end: Any, low: int, timestamp: int, mark: int, bound: int, out: Any) -> None:
    """The rule for slots low..low + len(out); an empty `begin` stands for begin_value everywhere, an empty
    `end` for INFINITY.

    One loop for each combination, so that each vectorises.
    """
    count = len(out)
    if len(begin) == 0:
        if len(end) == 0:
            for i in range(count):
                out[i] = sees(begin_value, INFINITY, low + i, timestamp, mark, bound)
        else:
            for i in range(count):
                out[i] = sees(begin_value, end[low + i], low + i, timestamp, mark, bound)
    elif len(end) == 0:
        for i in range(count):
            out[i] = sees(begin[low + i], INFINITY, low + i, timestamp, mark, bound)
    else:
        for i in range(count):
            out[i] = sees(begin[low + i], end[low + i], low + i, timestamp, mark, bound)


@njit(nogil=True, cache=True)
def visible_version(directory: Any, record: int, timestamp: int, mark: int, bound: int) -> Any:
    """The version of a row that is seen, newest first, -1 for none."""
    address = head_at(directory, record)
    while address >= 0:
        if sees(begin_at(directory, address), end_at(directory, address), address, timestamp, mark, bound):
            return address
        address = previous_at(directory, address)
    return -1


@njit(nogil=True, cache=True)
def visible_versions(directory: Any, records: Any, timestamp: int, mark: int, bound: int, out: Any) -> None:
    """`visible_version` of many rows."""
    for i in range(len(records)):
        out[i] = visible_version(directory, records[i], timestamp, mark, bound)


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def claim(directory: Any, addresses: Any, low: int, mark: int, states: Any, newest: Any) -> Any:
    """Marks the ends of versions low.. as the transaction's, and says of each: CLAIMED, GONE, or MOVED to a
    newest address.

    Stops at the first version that another transaction has marked and returns its position; len(addresses) at
    the end. The END vectors of all segments exist. A version that this transaction ended before is GONE.
    """
    for i in range(low, len(addresses)):
        segment = addresses[i] >> SLOT_BITS
        at = directory[segment, END] + (addresses[i] & SLOT_MASK) * 8
        end = load_i64(at)
        if end == INFINITY:
            store_i64(at, mark)
            directory[segment, ENDED] += 1
            states[i] = CLAIMED
        elif end == mark:
            states[i] = GONE
        elif end < 0:
            return i
        else:
            head = head_at(directory, record_at(directory, addresses[i]))
            begin = begin_at(directory, head)
            while begin < 0 and begin != mark:
                # Written by a transaction that is still open: the version before it is the newest that
                # counts.
                head = previous_at(directory, head)
                begin = begin_at(directory, head)
            last = end_at(directory, head)
            newest[i] = head
            # A newest version with a foreign mark may yet stay: the caller claims it, and waits there.
            gone = head == addresses[i] or begin == mark or last == mark or 0 <= last < INFINITY
            states[i] = GONE if gone else MOVED
    return len(addresses)


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def look_again(directory: Any, addresses: Any, mark: int, newest: Any) -> Any:
    """The newest version of each row, by any version of it: -1 when it is deleted, or changed by this transaction.

    Stops at the first row that another transaction is changing and returns its position; len(addresses) at the end.
    Marks nothing.
    """
    for i in range(len(addresses)):
        head = head_at(directory, record_at(directory, addresses[i]))
        begin = begin_at(directory, head)
        while begin < 0 and begin != mark:
            head = previous_at(directory, head)
            begin = begin_at(directory, head)
        end = end_at(directory, head)
        if end < 0 and end != mark:
            newest[i] = head
            return i
        newest[i] = head if end == INFINITY and begin != mark else -1
    return len(addresses)


@njit(cache=True)  # keeps the interpreter's lock: giving it up costs more than it runs
def put_ends(directory: Any, addresses: Any, value: int) -> None:
    """Writes the ends of versions, and nothing else: no counter, no dirty byte."""
    for i in range(len(addresses)):
        at = directory[addresses[i] >> SLOT_BITS, END] + (addresses[i] & SLOT_MASK) * 8
        store_i64(at, value)


@njit(nogil=True, cache=True)
def same_bytes(offsets_a: Any, data_a: Any, a: int, offsets_b: Any, data_b: Any, b: int) -> Any:
    """Whether two byte keys are equal."""
    size = offsets_a[a + 1] - offsets_a[a]
    if size != offsets_b[b + 1] - offsets_b[b]:
        return False
    i = 0
    while i < size and data_a[offsets_a[a] + i] == data_b[offsets_b[b] + i]:
        i += 1
    return i == size


@njit(nogil=True, cache=True)
def equal_bytes(offsets_a: Any, data_a: Any, offsets_b: Any, data_b: Any, out: Any) -> None:
    """out[i]: whether the byte keys at position i are equal."""
    for i in range(len(out)):
        out[i] = same_bytes(offsets_a, data_a, i, offsets_b, data_b, i)


@njit(nogil=True, cache=True)
def first_repeated_bytes(offsets: Any, data: Any, table: Any) -> Any:
    """The least position whose byte key stands at an earlier one too, -1 for none.

    table: int64[power of two], all -1, at least twice as long as there are keys.
    """
    bits = np.uint64(len(table) - 1)
    for i in range(len(offsets) - 1):
        h = np.uint64(14695981039346656037)  # FNV-1a
        for at in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(data[at])) * np.uint64(1099511628211)
        place = (h ^ (h >> np.uint64(31))) & bits
        while table[place] >= 0:
            if same_bytes(offsets, data, table[place], offsets, data, i):
                return i
            place = (place + np.uint64(1)) & bits
        table[place] = i
    return -1
