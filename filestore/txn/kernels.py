"""The visibility rule over vectors and version chains, and the claim of rows: compiled twins of `snapshot`
and `writes`.

`sees` is the rule as compiled code; other rooms' point kernels inline it. Directory and fields:
`filestore.storage.directory`.
"""

from __future__ import annotations

from typing import Any

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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def ends_of(directory: Any, addresses: Any, begins: Any, ends: Any) -> None:
    """`begin` and `end` of versions."""
    for i in range(len(addresses)):
        begins[i] = begin_at(directory, addresses[i])
        ends[i] = end_at(directory, addresses[i])
