"""Checks of a table's rows: stamps, counters, chains of versions. No transactions, no indexes; see
`filestore.txn.check`.
"""

from __future__ import annotations

import numpy as np

from filestore.storage import directory as d
from filestore.storage import segment_kernels
from filestore.storage.segment import Segment
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.verify import Finding


def check_rows(table: Table, open_marks: set[int]) -> list[Finding]:
    """What is wrong with the versions of a table; `open_marks`: those of active transactions."""
    place = table.definition.qualified_name
    problems: list[str] = []
    live = 0
    for segment in table.segment_list():
        found, alive = _check_segment(table, segment, open_marks)
        problems += found
        live += alive
    if live != table.live_rows:
        problems.append(f"{live} rows live, {table.live_rows} counted")
    return [Finding(place, problem) for problem in problems]


def _check_segment(table: Table, segment: Segment, marks: set[int]) -> tuple[list[str], int]:
    """(problems, rows that are live as far as anything is committed)."""
    rows = segment.rows
    row = segment.directory.matrix[segment.number]
    begins = np.full(rows, segment.begin_value) if segment.begin is None else segment.begin[:rows]
    ends = np.full(rows, d.INFINITY) if segment.end is None else segment.end[:rows]
    dead, pending, ended = begins == d.ABORTED, begins < 0, ends != d.INFINITY
    name = f"segment {segment.number}"
    problems = []
    if not set(np.unique(begins[pending]).tolist()) <= marks or not set(np.unique(ends[ends < 0]).tolist()) <= marks:
        problems.append(f"{name}: a mark of no open transaction")
    if ((begins == 0) | ((begins > d.INFINITY) & ~dead)).any():
        problems.append(f"{name}: a version that began never")
    stamped = ~dead & ~pending & (ends >= 0)
    if (ends[stamped] < begins[stamped]).any():
        problems.append(f"{name}: a version that ended before it began")
    for field, count in ((d.DEAD, dead.sum()), (d.PENDING, pending.sum()), (d.ENDED, ended.sum())):
        if int(row[field]) != int(count):
            problems.append(f"{name}: counter {field} is {int(row[field])}, not {int(count)}")
    problems += _check_chains(table, segment, begins, ends)
    live = int(np.count_nonzero(~dead & ~pending & ((ends == d.INFINITY) | (ends < 0))))
    return problems, live


def _check_chains(table: Table, segment: Segment, begins: Array, ends: Array) -> list[str]:
    """Every version that replaced another one: same row, begun when that ended; heads are newest."""
    matrix, problems = table.directory, []
    base = segment.number << d.SLOT_BITS
    if matrix[segment.number, d.PREVIOUS]:
        for slot in range(segment.rows):
            before = int(segment_kernels.previous_at(matrix, base | slot))
            if before < 0 or begins[slot] == d.ABORTED:
                continue
            record = int(segment_kernels.record_at(matrix, base | slot))
            if int(segment_kernels.record_at(matrix, before)) != record:
                problems.append(f"version {base | slot} follows {before}, which is another row's")
            # A collapsed begin says no more than "long ago".
            if segment.begin is not None and int(segment_kernels.end_at(matrix, before)) != int(begins[slot]):
                problems.append(f"version {base | slot} does not begin when {before} ends")
            head = int(segment_kernels.head_at(matrix, record))
            if ends[slot] == d.INFINITY and head != base | slot:
                problems.append(f"version {base | slot} is its row's newest, but {head} is the head")
    return problems
