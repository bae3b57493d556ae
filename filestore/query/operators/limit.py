"""LIMIT and OFFSET: takes rows from the front and stops its input as soon as it has enough.

Thread rule: the reader's thread. Not here: LIMIT below ORDER BY, which the sort takes over (sort.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from filestore import errors
from filestore.storage.vector import Batch


def limited(batches: Iterable[Batch], limit: int | None, offset: int) -> Iterator[Batch]:
    """Yields at most `limit` rows (None: all) after the first `offset`."""
    skip, left = offset, limit
    if left == 0:
        return
    for batch in batches:
        if skip >= batch.length:
            skip -= batch.length
            continue
        batch = batch.slice(skip, batch.length) if skip else batch
        skip = 0
        if left is not None and batch.length >= left:
            yield batch.slice(0, left)
            return
        if left is not None:
            left -= batch.length
        yield batch


def checked_count(value: int | None, clause: str) -> int | None:
    """The value of a LIMIT or OFFSET; null means none. Errors with 2201W, 2201X when negative."""
    if value is not None and value < 0:
        error = errors.InvalidRowCountInLimit if clause == "LIMIT" else errors.InvalidRowCountInOffset
        raise error(f"{clause} must not be negative")
    return value
