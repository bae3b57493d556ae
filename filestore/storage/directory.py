"""The directory of a table: where every vector of every segment lies, as one int64 matrix that compiled code
can follow.

Row s of the matrix is segment s; `HEADER` fields come first, then `COLUMN_FIELDS` fields for each column. A
second matrix of the same shape, `dirty`, holds the address of the dirty bytes of the arena behind each
address (0: not checkpointed page by page).

| field       | meaning; 0 means                                                                                       |
|-------------|--------------------------------------------------------------------------------------------------------|
| BEGIN       | int64 begin per slot; 0: every slot has BEGIN_VALUE                                                    |
| BEGIN_VALUE | begin of all slots when BEGIN is 0                                                                     |
| END         | int64 end per slot; 0: INFINITY everywhere                                                             |
| HEAD        | int64 per slot that begins a row: address of the row's newest version; 0 in the slot: the slot itself  |
| RECORD      | int64 per slot: record number + 1; 0 in the slot: the slot's own address (it begins a row)             |
| PREVIOUS    | int64 per slot: address of the row's older version + 1; 0 in the slot: none                            |
| ROWS        | slots in use                                                                                           |
| PENDING     | versions written by open transactions                                                                  |
| LAST_BEGIN  | largest commit timestamp in begin                                                                      |
| DEAD        | slots that hold no version: aborted, or lost with the transaction that a crash ended                   |
| ENDED       | versions that carry an end: a timestamp or a mark                                                      |
| DATA        | the values, WIDTH bytes each; 0: sealed and not checked yet, `Segment.touch` brings it                 |
| VALID       | 1 = not null; 0: no nulls                                                                              |
| VALID_BITS  | 0: VALID has a byte per slot, 1: an Arrow bitmap                                                       |
| HEAP        | bytes behind string views                                                                              |
| HEAP_USED   | bytes used of the heap of an open segment                                                              |
| DICTIONARY  | string views that DATA's codes index; HEAP is then the heap of those                                   |
| ENCODING    | PLAIN, or CODES: DATA holds unsigned codes of WIDTH bytes                                              |
| WIDTH       | bytes of one element of DATA                                                                           |

An address is `segment << SLOT_BITS | slot`. `begin` and `end` hold a commit timestamp (>= 1), or a
transaction's mark: MARK_BASE + its id, which is negative. `end` is INFINITY while nothing ended the version;
`begin` is ABORTED, greater than any timestamp, for what never was.

Thread rule: constants; whose the matrices are is `filestore.storage.segment.Directory`'s business.
"""

from __future__ import annotations

from typing import Final

SLOT_BITS: Final = 20
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
# 64 Ki int64 are 512 KiB: a vector fits the second-level cache of the machines aimed at
SEGMENT_SLOTS: Final = 65536

INFINITY: Final = 1 << 62
ABORTED: Final = INFINITY + 1
MARK_BASE: Final = -(1 << 63)
FIRST_TIMESTAMP: Final = 1  # of the first commit ever; as a begin it says "long ago"

BEGIN: Final = 0
BEGIN_VALUE: Final = 1
END: Final = 2
HEAD: Final = 3
RECORD: Final = 4
PREVIOUS: Final = 5
ROWS: Final = 6
PENDING: Final = 7
LAST_BEGIN: Final = 8
DEAD: Final = 9
ENDED: Final = 10
HEADER: Final = 12  # one spare, so that a column's eight fields start on a multiple of four words

DATA: Final = 0
VALID: Final = 1
VALID_BITS: Final = 2
HEAP: Final = 3
HEAP_USED: Final = 4
DICTIONARY: Final = 5
ENCODING: Final = 6
WIDTH: Final = 7
COLUMN_FIELDS: Final = 8

PLAIN: Final = 0
CODES: Final = 1

assert 1 << SLOT_BITS >= SEGMENT_SLOTS


def column_field(ordinal: int, field: int) -> int:
    """Index of a column's field in a row of the directory."""
    return HEADER + ordinal * COLUMN_FIELDS + field


def fields(columns: int) -> int:
    """Fields in a row of the directory of a table with so many columns."""
    return HEADER + columns * COLUMN_FIELDS


def mark_of(transaction_id: int) -> int:
    """The mark of a transaction, negative."""
    return MARK_BASE + transaction_id


def transaction_of(mark: int) -> int:
    """The transaction behind a mark."""
    return mark - MARK_BASE
