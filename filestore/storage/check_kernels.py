"""The verifier's loop over the versions of a segment: stamps, links and counters. See `filestore.storage.check`.

It trusts nothing that it reads out of a vector: an address is followed only where `limits` has a slot in use, so damage
ends in a finding and not in foreign memory. Kinds of damage are counted, and the first few of each are kept with the
numbers that tell them.

Thread rule: engine lock held. Not here: what the numbers mean in words, and values.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from filestore.storage.directory import ABORTED, BEGIN, BEGIN_VALUE, END, INFINITY, SLOT_BITS, SLOT_MASK
from filestore.storage.segment_kernels import begin_at, end_at, head_at, previous_at, record_at

# Kinds of damage to a version, and the two numbers that are kept beside its address.
BEGIN_MARK = 0  # mark, 0
END_MARK = 1  # mark, 0
NO_BEGIN = 2  # begin, 0
NO_END = 3  # end, 0
ENDED_EARLY = 4  # begin, end
NO_VALUES = 5  # 0, 0
LOST_RECORD = 6  # record, 0
LOST_PREVIOUS = 7  # previous, 0
LOST_HEAD = 8  # record, head
FOREIGN_RECORD = 9  # record, 0
FOREIGN_PREVIOUS = 10  # previous, 0
FOREIGN_HEAD = 11  # record, head
NOT_OLDER = 12  # previous, 0
GAP = 13  # previous, 0
OLD_HEAD = 14  # record, head
NOT_HEAD = 15  # record, head
KINDS = 16

# What `check_versions` counts on its way.
DEAD_FOUND = 0
PENDING_FOUND = 1
ENDED_FOUND = 2
LAST_BEGIN_FOUND = 3
FOUND_FIELDS = 4


@njit(nogil=True, cache=True)
def exists(limits: Any, address: Any) -> bool:
    """Whether there is a slot in use at an address; limits: int64[segments], slots in use."""
    number = address >> SLOT_BITS
    return bool(0 <= number < len(limits) and (address & SLOT_MASK) < limits[number])


@njit(nogil=True, cache=True)
def note(counts: Any, first: Any, kind: Any, address: Any, a: Any, b: Any) -> None:
    """Counts one finding, and keeps it if it is among the first of its kind."""
    if counts[kind] < first.shape[1]:
        first[kind, counts[kind], 0] = address
        first[kind, counts[kind], 1] = a
        first[kind, counts[kind], 2] = b
    counts[kind] += 1


@njit(nogil=True, cache=True)
def is_open(marks: Any, mark: Any) -> bool:
    """Whether a mark is one of int64[k] open transactions'."""
    for i in range(len(marks)):  # noqa: SIM110 - numba has no any() over a generator
        if marks[i] == mark:
            return True
    return False


@njit(nogil=True, cache=True)
def check_stamps(begin: Any, end: Any, address: Any, vacant: bool, marks: Any, counts: Any, first: Any) -> None:
    """One version that was not aborted: its begin and its end."""
    if begin < 0:
        if not is_open(marks, begin):
            note(counts, first, BEGIN_MARK, address, begin, 0)
    elif begin == 0 or begin >= INFINITY:
        note(counts, first, NO_BEGIN, address, begin, 0)
    if end < 0:
        if not is_open(marks, end):
            note(counts, first, END_MARK, address, end, 0)
    elif end == 0 or end > INFINITY:
        note(counts, first, NO_END, address, end, 0)
    elif end < INFINITY and (begin < 0 or end < begin):
        note(counts, first, ENDED_EARLY, address, begin, end)
    if vacant and (end == INFINITY or end < 0):
        note(counts, first, NO_VALUES, address, 0, 0)


@njit(nogil=True, cache=True)
def check_links(directory: Any, limits: Any, address: Any, begin: Any, end: Any, counts: Any, first: Any) -> None:
    """One version that was not aborted: its row, the version before it, and the head of its row."""
    record = record_at(directory, address)
    previous = previous_at(directory, address)
    if not exists(limits, record):
        note(counts, first, LOST_RECORD, address, record, 0)
        return
    if (previous == -1) != (record == address) or record > address:
        note(counts, first, FOREIGN_RECORD, address, record, 0)
    if previous != -1:
        if not exists(limits, previous):
            note(counts, first, LOST_PREVIOUS, address, previous, 0)
        elif previous >= address:
            note(counts, first, NOT_OLDER, address, previous, 0)
        elif record_at(directory, previous) != record:
            note(counts, first, FOREIGN_PREVIOUS, address, previous, 0)
        elif directory[address >> SLOT_BITS, BEGIN] != 0 and end_at(directory, previous) != begin:
            # A begin that stands for a whole segment's says no more than "long ago".
            note(counts, first, GAP, address, previous, 0)
    head = head_at(directory, record)
    if not exists(limits, head):
        note(counts, first, LOST_HEAD, address, record, head)
    elif record_at(directory, head) != record:
        note(counts, first, FOREIGN_HEAD, address, record, head)
    elif head < address:
        note(counts, first, OLD_HEAD, address, record, head)
    elif head != address and end == INFINITY:
        note(counts, first, NOT_HEAD, address, record, head)


@njit(nogil=True, cache=True)
def check_versions(
    directory: Any, limits: Any, number: int, vacant: bool, marks: Any, counts: Any, first: Any, found: Any
) -> None:
    """Every version of one segment. counts: int64[KINDS], first: int64[KINDS, n, 3], both added to; found:
    int64[FOUND_FIELDS], zeros.
    """
    for slot in range(limits[number]):
        address = (number << SLOT_BITS) | slot
        begin = begin_at(directory, address)
        end = end_at(directory, address)
        found[ENDED_FOUND] += end != INFINITY
        if begin == ABORTED:
            found[DEAD_FOUND] += 1
            continue
        if begin < 0:
            found[PENDING_FOUND] += 1
        elif begin < INFINITY:
            found[LAST_BEGIN_FOUND] = max(found[LAST_BEGIN_FOUND], begin)
        check_stamps(begin, end, address, vacant, marks, counts, first)
        check_links(directory, limits, address, begin, end, counts, first)


@njit(nogil=True, cache=True)
def count_live(directory: Any, limits: Any) -> Any:
    """Versions that a commit has begun and none has ended."""
    live = 0
    for number in range(len(limits)):
        if directory[number, BEGIN] == 0 and directory[number, END] == 0:
            live += limits[number] if 0 <= directory[number, BEGIN_VALUE] < INFINITY else 0
            continue
        for slot in range(limits[number]):
            address = (number << SLOT_BITS) | slot
            end = end_at(directory, address)
            if 0 <= begin_at(directory, address) < INFINITY and (end == INFINITY or end < 0):
                live += 1
    return live
