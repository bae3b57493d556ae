"""Making, joining and converting vectors: what every operator needs and no kernel does by itself.

Inside the executor a vector of length 1 may stand for a constant column (`broadcast` makes it as long as the
batch). Numerics come in three forms, in order of preference: scaled int64 (`is_decimal64`), decimal.Decimal
objects, and stored text views; `as_decimal64` and `to_decimals` convert. A value's display scale is part of the
value, so int64 forms of different scales are joined as objects.

Dictionaries inside the executor may hold a string twice (after upper(), say); whoever needs distinct codes
factorises them.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from filestore import errors
from filestore.query import kernels, string_kernels
from filestore.query.kernels import frozen
from filestore.storage.vector import EMPTY_HEAP, Array, Batch, Vector, views_of
from filestore.types import Kind, SqlType

EXACT = decimal.Context(
    prec=200_000, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
)
MAX_SCALE64 = 18
"""Digits after the point that a scaled int64 may have; more are Decimals."""
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
NO_VALID: Array = frozen(np.empty(0, np.bool_))
_MAX_HEAP = 2**32 - 1
_NO_VIEWS: Array = np.empty((0, 2), np.uint64)  # where only a size is asked for: the data itself may be read-only
ZERO = Decimal(0)


# --- making ----------------------------------------------------------------------------------------------------------


def constant(sql_type: SqlType, value: Any) -> Vector:
    """A vector of length 1 holding a canonical value (see expr.Const)."""
    return from_python(sql_type, [value])


def from_python(sql_type: SqlType, values: Sequence[Any]) -> Vector:
    """A vector of canonical values (see expr.Const), None for null."""
    n = len(values)
    valid: Array | None = np.fromiter((v is not None for v in values), np.bool_, n)
    if valid is not None and valid.all():
        valid = None
    kind = sql_type.kind
    if kind is Kind.NUMERIC:
        return from_decimals(sql_type, values, valid)
    if kind is Kind.INTERVAL:
        return Vector(sql_type, interval_words([v or (0, 0, 0) for v in values]), valid)
    if kind is Kind.UUID:
        raw = b"".join(v or bytes(16) for v in values)
        return Vector(sql_type, np.frombuffer(raw, np.uint64).reshape(n, 2).copy(), valid)
    if sql_type.is_view:
        encoded = [v.encode() if isinstance(v, str) else v for v in values]
        views, heap, valid = views_of(encoded)
        return Vector(sql_type, views, valid, heap)
    data = np.array([0 if v is None else v for v in values], dtype=sql_type.dtype)
    return Vector(sql_type, data, valid)


def from_decimals(sql_type: SqlType, values: Sequence[Decimal | None], valid: Array | None) -> Vector:
    """Numerics as scaled int64 when all have one display scale and fit, else as objects."""
    exponents = {v.as_tuple().exponent for v in values if v is not None}
    if sql_type.precision is not None:
        exponents = {-(sql_type.scale or 0)} if all(isinstance(e, int) for e in exponents) else exponents
    if len(exponents) <= 1 and all(isinstance(e, int) for e in exponents):
        exponent = next(iter(exponents), 0)
        scale = max(0, -int(exponent))
        scaled = [0 if v is None else int(v.scaleb(scale, EXACT)) for v in values]
        if scale <= MAX_SCALE64 and all(INT64_MIN <= s <= INT64_MAX for s in scaled):
            return Vector(sql_type, np.array(scaled, np.int64).reshape(len(scaled)), valid, scale=scale)
    data = np.empty(len(values), dtype=object)
    data[:] = [ZERO if v is None else v for v in values]
    return Vector(sql_type, data, valid)


def interval_words(values: Sequence[tuple[int, int, int]]) -> Array:
    """uint64[n, 2] of (months, days, microseconds)."""
    words = np.empty((len(values), 2), np.uint64)
    parts = words.view(np.int32).reshape(-1, 4)
    signed = words.view(np.int64)
    if values:
        fields = np.array(values, dtype=np.int64).reshape(-1, 3)
        parts[:, 0] = fields[:, 0]
        parts[:, 1] = fields[:, 1]
        signed[:, 1] = fields[:, 2]
    return words


def interval_fields(vector: Vector) -> tuple[Array, Array, Array]:
    """(months, days, microseconds) as int64 arrays."""
    words = np.ascontiguousarray(vector.data)
    parts = words.view(np.int32).reshape(-1, 4)
    return parts[:, 0].astype(np.int64), parts[:, 1].astype(np.int64), words.view(np.int64)[:, 1].copy()


def null_vector(sql_type: SqlType, length: int) -> Vector:
    """All nulls."""
    return replaced(empty_values(sql_type, length), np.zeros(length, np.bool_))


def empty_values(sql_type: SqlType, length: int) -> Vector:
    """`length` zero values, all valid."""
    if sql_type.kind is Kind.NUMERIC:
        return Vector(sql_type, np.zeros(length, np.int64), scale=sql_type.scale or 0)
    shape = (length, 2) if sql_type.width == 16 else (length,)
    return Vector(sql_type, np.zeros(shape, sql_type.dtype), None, EMPTY_HEAP if sql_type.is_view else None)


def bools(mask: Array, valid: Array | None = None) -> Vector:
    """A boolean vector over a bool or uint8 array."""
    return Vector(_BOOL, mask.view(np.uint8) if mask.dtype == np.bool_ else mask, valid)


_BOOL = SqlType(Kind.BOOL)


def replaced(vector: Vector, valid: Array | None) -> Vector:
    """The same data under another validity."""
    return Vector(vector.type, vector.data, valid, vector.heap, vector.scale, vector.dictionary)


def typed(vector: Vector, sql_type: SqlType) -> Vector:
    """The same data under another type of the same physical form."""
    words = vector.dictionary
    if words is not None and words.type != sql_type:
        words = typed(words, sql_type)
    return Vector(sql_type, vector.data, vector.valid, vector.heap, vector.scale, words)


def broadcast(vector: Vector, length: int) -> Vector:
    """A constant (length 1) made as long as the batch; others are returned as they are."""
    if len(vector) == length:
        return vector
    if vector.type.is_view and vector.data.ndim == 2 and vector.dictionary is None:
        words = Vector(vector.type, vector.data, None, vector.heap, vector.scale)
        valid = None if vector.valid is None or vector.valid[0] else np.zeros(length, np.bool_)
        return Vector(vector.type, np.zeros(length, np.uint8), valid, None, vector.scale, words)
    return vector.take(np.zeros(length, np.intp))


def all_valid(vectors: Sequence[Vector], length: int) -> Array | None:
    """Rows (of `length`) where every vector is valid; None when all are. Constants are broadcast."""
    valid: Array | None = None
    for vector in vectors:
        if vector.valid is None:
            continue
        one = vector.valid if len(vector.valid) == length else np.full(length, vector.valid[0])
        valid = one if valid is None else valid & one
    return valid


# --- numerics --------------------------------------------------------------------------------------------------------


def scale_of(vector: Vector) -> int:
    """Digits after the point of a scaled int64 vector."""
    return vector.scale


def as_decimal64(vector: Vector) -> Vector | None:
    """The vector as scaled int64 with one scale, None when its values do not allow that."""
    if vector.is_decimal64:
        return vector
    if vector.data.dtype == object:
        return None
    plain = vector.plain()
    n = len(plain)
    out = np.zeros(n, np.int64)
    valid = NO_VALID if plain.valid is None else frozen(plain.valid)
    heap = frozen(EMPTY_HEAP if plain.heap is None else plain.heap)
    scale = string_kernels.parse_decimal64(frozen(plain.data), heap, valid, out)
    return None if scale < 0 else Vector(vector.type, out, vector.valid, scale=scale)


def to_decimals(vector: Vector) -> Vector:
    """The vector with decimal.Decimal objects; null rows hold zero."""
    if vector.data.dtype == object:
        return vector
    out = np.empty(len(vector), dtype=object)
    if vector.is_decimal64:
        scale = vector.scale
        if scale == 0:
            out[:] = [Decimal(v) for v in vector.data.tolist()]
        else:
            out[:] = [Decimal(v).scaleb(-scale, EXACT) for v in vector.data.tolist()]
    else:
        out[:] = [ZERO if s is None else Decimal(s.decode()) for s in vector.strings()]
    return Vector(vector.type, out, vector.valid)


def compacted(vector: Vector) -> Vector:
    """A vector of Decimal objects as scaled int64 where the values allow it; others are returned as they are."""
    if vector.data.dtype != object:
        return vector
    values = vector.data.tolist()
    if vector.valid is not None:
        values = [v if ok else None for v, ok in zip(values, vector.valid.tolist(), strict=True)]
    return from_decimals(SqlType(Kind.NUMERIC), values, vector.valid)


# --- reading ---------------------------------------------------------------------------------------------------------


def to_python(vector: Vector) -> list[Any]:
    """Canonical values (see expr.Const), None for null."""
    kind = vector.type.kind
    values: list[Any]
    if kind is Kind.NUMERIC:
        values = to_decimals(vector).data.tolist()
    elif kind is Kind.INTERVAL:
        values = list(zip(*(f.tolist() for f in interval_fields(vector)), strict=True))
    elif kind is Kind.UUID:
        raw = np.ascontiguousarray(vector.data).tobytes()
        values = [raw[16 * i : 16 * i + 16] for i in range(len(vector))]
    elif vector.type.is_view:
        strings = vector.strings()
        values = list(strings) if kind is Kind.BYTEA else [None if s is None else s.decode() for s in strings]
    elif kind is Kind.BOOL:
        values = vector.data.astype(np.bool_).tolist()
    else:
        values = vector.data.tolist()
    if vector.valid is not None:
        values = [v if ok else None for v, ok in zip(values, vector.valid.tolist(), strict=True)]
    return values


def per_value(args: Sequence[Vector], length: int, result: SqlType, function: Callable[..., Any]) -> Vector:
    """A strict function of Python values, called once for each distinct combination of its arguments.

    For functions that are rarely hot; anything per row in a hot query has a kernel.
    """
    columns = [to_python(a) for a in args]
    size = length if any(len(c) != 1 for c in columns) else min(length, 1)
    columns = [c if len(c) == size else c * size for c in columns]
    memory: dict[tuple[Any, ...], Any] = {}
    out: list[Any] = []
    for row in zip(*columns, strict=True):
        if any(v is None for v in row):
            out.append(None)
            continue
        if row not in memory:
            memory[row] = function(*row)
        out.append(memory[row])
    return from_python(result, out)


# --- joining ---------------------------------------------------------------------------------------------------------


def concat(vectors: Sequence[Vector], sql_type: SqlType | None = None) -> Vector:
    """The vectors end to end, as vectors of one type. Heaps are packed: only bytes in use are copied."""
    first = vectors[0]
    sql_type = sql_type or first.type
    if len(vectors) == 1:
        return first
    valid = None
    if any(v.valid is not None for v in vectors):
        valid = np.concatenate([np.ones(len(v), np.bool_) if v.valid is None else v.valid for v in vectors])
    if sql_type.kind is Kind.NUMERIC:
        return _concat_numeric(sql_type, vectors, valid)
    if not sql_type.is_view:
        return Vector(sql_type, np.concatenate([v.data for v in vectors]), valid)
    if all(v.dictionary is not None for v in vectors):
        return _concat_dictionaries(sql_type, vectors, valid)
    return _concat_views(sql_type, [v.plain() for v in vectors], valid)


def _concat_numeric(sql_type: SqlType, vectors: Sequence[Vector], valid: Array | None) -> Vector:
    first = vectors[0]
    if all(v.is_decimal64 for v in vectors):
        scales = {v.scale for v in vectors if v.valid is None or v.valid.any()}
        if len(scales) <= 1:
            scale = next(iter(scales), first.scale)
            return Vector(sql_type, np.concatenate([v.data for v in vectors]), valid, scale=scale)
    elif all(v.data.ndim == 2 and v.dictionary is None for v in vectors):
        return _concat_views(sql_type, vectors, valid)
    return Vector(sql_type, np.concatenate([to_decimals(v).data for v in vectors]), valid)


def _concat_dictionaries(sql_type: SqlType, vectors: Sequence[Vector], valid: Array | None) -> Vector:
    words = [v.dictionary for v in vectors if v.dictionary is not None]
    if all(w is words[0] for w in words):
        return Vector(sql_type, np.concatenate([v.data for v in vectors]), valid, dictionary=words[0])
    distinct: dict[int, int] = {}
    unique: list[Vector] = []
    for word in words:
        if id(word) not in distinct:
            distinct[id(word)] = sum(len(u) for u in unique)
            unique.append(word)
    if sum(len(u) for u in unique) > sum(len(v) for v in vectors):
        return _concat_views(sql_type, [v.plain() for v in vectors], valid)
    joined = _concat_views(sql_type, unique, None)
    bases = [distinct[id(w)] for w in words]
    dtype = np.uint8 if len(joined) <= 256 else np.uint16 if len(joined) <= 65536 else np.uint32
    codes = np.concatenate(
        [v.data.astype(dtype) + np.array(base, dtype) for v, base in zip(vectors, bases, strict=True)]
    )
    if valid is not None:
        codes[~valid] = 0  # a part of nulls alone has an empty dictionary: its base may lie behind the last word
    return Vector(sql_type, codes, valid, dictionary=joined)


def _concat_views(sql_type: SqlType, vectors: Sequence[Vector], valid: Array | None) -> Vector:
    heaps = {id(v.heap) for v in vectors if v.heap is not None and len(v.heap)}
    if len(heaps) <= 1:
        heap = next((v.heap for v in vectors if v.heap is not None and len(v.heap)), EMPTY_HEAP)
        return Vector(sql_type, np.concatenate([v.data for v in vectors]), valid, heap)
    total = sum(_packed_size(v) for v in vectors)
    if total > _MAX_HEAP:
        raise errors.ProgramLimitExceeded("more than 4 GB of text in one column of an intermediate result")
    out = np.zeros((sum(len(v) for v in vectors), 2), np.uint64)
    heap = np.empty(max(total, 1), np.uint8)
    row = base = 0
    for vector in vectors:
        part = out[row : row + len(vector)]
        mask = NO_VALID if vector.valid is None else frozen(vector.valid)
        base = kernels.pack_views(frozen(vector.data), _heap(vector), mask, part, heap, base)
        row += len(vector)
    return Vector(sql_type, out, valid, heap)


def _heap(vector: Vector) -> Array:
    return frozen(EMPTY_HEAP if vector.heap is None else vector.heap)


def _packed_size(vector: Vector) -> int:
    mask = NO_VALID if vector.valid is None else frozen(vector.valid)
    data = frozen(vector.data)
    return int(kernels.pack_views(data, _heap(vector), mask, _NO_VIEWS, EMPTY_HEAP, 0))


def concat_batches(batches: Sequence[Batch], types: Sequence[SqlType]) -> Batch:
    """One batch of all rows, in order; `types` for the case of none."""
    full = [b for b in batches if b.length]
    if not full:
        return Batch([empty_values(t, 0) for t in types], 0)
    if len(full) == 1:
        return full[0]
    columns = [concat([b.columns[i] for b in full]) for i in range(len(full[0].columns))]
    return Batch(columns, sum(b.length for b in full))


def take_or_null(vector: Vector, rows: Array) -> Vector:
    """The rows at the given positions; null where a position is -1."""
    missing = rows < 0
    if not missing.any():
        return vector.take(rows)
    if len(vector) == 0:
        return null_vector(vector.type, len(rows))
    taken = vector.take(np.where(missing, 0, rows))
    valid = ~missing if taken.valid is None else taken.valid & ~missing
    return replaced(taken, valid)


def safe_views(vector: Vector) -> tuple[Array, Array]:
    """(views, heap) of a plain string vector with the views at null rows empty, so that a kernel may look at every
    row.
    """
    data = vector.data
    if vector.valid is not None:
        data = np.where(vector.valid[:, None], data, _ZERO_WORD)
    return frozen(data), frozen(EMPTY_HEAP if vector.heap is None else vector.heap)


_ZERO_WORD = np.uint64(0)
