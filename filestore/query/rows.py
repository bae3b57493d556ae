"""Batches put together and rows put into words: the small change between executor, storage and error messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from filestore.query.render import text
from filestore.query.text_parse import from_text
from filestore.storage.vector import EMPTY_HEAP, INLINE_BYTES, Array, Batch, Vector
from filestore.types import TEXT, Kind, Physical, SqlType


def concat(batches: Sequence[Batch], types: Sequence[SqlType]) -> Batch:
    """One batch of all rows, in order. Dictionary encoding is dropped where batches differ in it."""
    batches = [b for b in batches if b.length]
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return Batch([empty_vector(t) for t in types], 0)
    columns = [concat_vectors([b.columns[i] for b in batches]) for i in range(len(batches[0].columns))]
    return Batch(columns, sum(b.length for b in batches))


def empty_vector(sql_type: SqlType) -> Vector:
    """A vector of no rows."""
    shape = (0, 2) if sql_type.width == 16 else (0,)
    return Vector(sql_type, np.empty(shape, sql_type.dtype), None, EMPTY_HEAP if sql_type.is_view else None, sql_type.scale or 0)


def concat_vectors(vectors: Sequence[Vector]) -> Vector:
    """The vectors end to end; heaps are joined and offsets moved, decimals of different scales become decimal objects."""
    first = vectors[0]
    shared = first.dictionary
    if shared is None or any(v.dictionary is not shared for v in vectors):
        vectors = [v.plain() for v in vectors]
        shared = None
    valid = None
    if any(v.valid is not None for v in vectors):
        valid = np.concatenate([np.ones(len(v), np.bool_) if v.valid is None else v.valid for v in vectors])
    if first.type.kind is Kind.NUMERIC:
        vectors = _same_numeric_form(vectors)
    elif any(v.heap is not None for v in vectors) and shared is None:
        return _concat_views(first.type, vectors, valid)
    data = np.concatenate([v.data for v in vectors])
    heap = vectors[0].heap
    if heap is not None and any(v.heap is not heap for v in vectors) and shared is None:
        return _concat_views(first.type, vectors, valid)
    return Vector(first.type, data, valid, heap, vectors[0].scale, shared)


def _same_numeric_form(vectors: Sequence[Vector]) -> list[Vector]:
    from filestore.query.evaluate import to_decimals

    same_scale = all(v.is_decimal64 and v.scale == vectors[0].scale for v in vectors)
    same_views = all(v.data.ndim == 2 for v in vectors)
    if same_scale or same_views:
        return list(vectors)
    return [to_decimals(v) for v in vectors]


def _concat_views(sql_type: SqlType, vectors: Sequence[Vector], valid: Array | None) -> Vector:
    views = np.concatenate([v.data for v in vectors])
    heaps = [EMPTY_HEAP if v.heap is None else v.heap for v in vectors]
    long = (views[:, 0] & np.uint64(0xFFFFFFFF)) > INLINE_BYTES
    row = base = 0
    for vector, heap in zip(vectors, heaps, strict=True):
        if base:
            part = slice(row, row + len(vector))
            views[part, 1] += np.where(long[part], np.uint64(base) << np.uint64(32), np.uint64(0))
        row += len(vector)
        base += len(heap)
    return Vector(sql_type, views, valid, np.concatenate(heaps))


def stored_form(vector: Vector, sql_type: SqlType) -> Vector:
    """The vector as a column of `sql_type` stores it: no dictionary, numerics as scaled int64 or canonical text.

    The value already has the column's type (the binder put the cast there); only the physical form changes.
    """
    vector = vector.plain()
    if sql_type.kind is Kind.NUMERIC and sql_type.physical is Physical.VARNUM and vector.data.ndim == 1:
        encoded = text(vector, None)
        words = from_text(TEXT, encoded.offsets, encoded.data, vector.valid, None)
        return Vector(sql_type, words.data, vector.valid, words.heap)
    return Vector(sql_type, vector.data, vector.valid, vector.heap, vector.scale)


def describe_row(rows: Batch, row: int) -> str:
    """`(1, null, abc)`: the row as PostgreSQL shows it in the detail of 23502 and 23514."""
    return "(" + ", ".join(describe_value(c, row) for c in rows.columns) + ")"


def describe_key(columns: Sequence[Vector], row: int) -> str:
    """`1, abc`: a key's values as in the detail of 23505."""
    return ", ".join(describe_value(c, row) for c in columns)


def describe_value(column: Vector, row: int) -> str:
    """One value in text form; `null` for null."""
    one = column.slice(row, row + 1)
    if one.valid is not None and not one.valid[0]:
        return "null"
    return text(one, None).data.tobytes().decode()
