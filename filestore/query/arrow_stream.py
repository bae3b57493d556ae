"""A result as a stream of record batches: one schema, told before the first row, that every batch keeps.

Thread rule: as the iterator of batches it is made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from filestore.query import kernels
from filestore.query.arrow import record_batch, schema
from filestore.query.plan import OutputColumn
from filestore.query.vectors import NO_VALID
from filestore.storage.vector import EMPTY_HEAP, Array, Batch, Vector

# A selective filter keeps a whole segment's strings behind a few views; sending them all costs more than copying a few.
# Up to this many bytes, or one in this many used, the heap goes as it is.
HEAP_BYTES_MIN = 1 << 16
HEAP_SHARE = 4
NO_VIEWS: Array = np.empty((0, 2), np.uint64)


def result_schema(columns: Sequence[OutputColumn]) -> Any:
    """The pyarrow.Schema of a result's columns."""
    return schema([column.name for column in columns], [column.type for column in columns])


def record_batches(batches: Iterable[Batch], shape: Any, *, rows_max: int = 0, packed: bool = False) -> Iterator[Any]:
    """The batches as Arrow, cut to `rows_max` rows when that is given.

    packed: copy strings out of heaps that are mostly not the batch's own, as a stream that leaves the process should.
    """
    for batch in batches:
        step = rows_max or max(batch.length, 1)
        for low in range(0, batch.length, step):
            part = batch if batch.length <= step else batch.slice(low, low + step)
            if packed:
                part = Batch([_packed(column) for column in part.columns], part.length)
            made = record_batch(part, shape.names)
            yield made if made.schema == shape else made.cast(shape)


def _packed(column: Vector) -> Vector:
    plain = column.plain()
    if plain.heap is None or len(plain.heap) < HEAP_BYTES_MIN:
        return plain
    views = np.ascontiguousarray(plain.data)
    valid = NO_VALID if plain.valid is None else plain.valid
    used = int(kernels.pack_views(views, plain.heap, valid, NO_VIEWS, EMPTY_HEAP, 0))
    if used * HEAP_SHARE >= len(plain.heap):
        return plain
    own, heap = np.empty_like(views), np.empty(max(used, 1), np.uint8)
    kernels.pack_views(views, plain.heap, valid, own, heap, 0)
    return Vector(plain.type, own, plain.valid, heap)
