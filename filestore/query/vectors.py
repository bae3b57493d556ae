"""Making, joining and converting vectors: what every operator needs and no kernel does by itself.

Inside the executor a vector of length 1 may stand for a constant column (`broadcast` makes it as long as the
batch). Numerics come in four forms, in order of preference: scaled int64 (`is_decimal64`), 128 bits with a scale in
each row (`is_decimal128`), decimal.Decimal objects, and stored text views; `as_decimal64`, `decimal128_rows` and
`to_decimals` convert. A value's display scale is part of the value, so int64 forms of different scales are joined as
128-bit ones.

Dictionaries inside the executor may hold a string twice (after upper(), say); whoever needs distinct codes
factorises them.

Thread rule: pure functions, on any thread; a vector is not changed once it is made, and results may share its memory.

Not here: text forms (render.py, text_parse.py), and casts between types (scalar/casts.py).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from filestore import errors
from filestore.query import decimal128_kernels, decimal128_text_kernels, kernels, string_kernels
from filestore.query.kernels import frozen
from filestore.storage.vector import DECIMAL128, EMPTY_HEAP, Array, Batch, Vector, views_of
from filestore.types import Kind, SqlType

EXACT = decimal.Context(
    prec=200_000, rounding=decimal.ROUND_HALF_UP, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
)
MAX_SCALE64 = 18
"""Digits after the point that a scaled int64 may have; more need 128 bits."""
MAX_DECIMAL128 = 2**126
MAX_ADJUSTED128 = 37  # Decimal.adjusted() of that
MAX_SCALE128 = 16_383
"""numeric.c's NUMERIC_DSCALE_MAX."""
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
NO_VALID: Array = frozen(np.empty(0, np.bool_))
_MAX_HEAP = 2**32 - 1
_LOW_64 = 2**64 - 1
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
    """Numerics as scaled int64 when all have one display scale and fit, else in 128 bits, else as objects."""
    if any(v is not None and v.adjusted() > MAX_ADJUSTED128 for v in values):
        return _decimal_objects(sql_type, values, valid)  # int() of many digits is slow
    exponents = {v.as_tuple().exponent for v in values if v is not None}
    if sql_type.precision is not None:
        exponents = {-(sql_type.scale or 0)} if all(isinstance(e, int) for e in exponents) else exponents
    if len(exponents) <= 1 and all(isinstance(e, int) for e in exponents):
        exponent = next(iter(exponents), 0)
        scale = max(0, -int(exponent))
        scaled = [0 if v is None else int(v.scaleb(scale, EXACT)) for v in values]
        if scale <= MAX_SCALE64 and all(INT64_MIN <= s <= INT64_MAX for s in scaled):
            return Vector(sql_type, np.array(scaled, np.int64).reshape(len(scaled)), valid, scale=scale)
    wide = _decimal128_of(values)
    if wide is not None:
        return Vector(sql_type, wide, valid)
    return _decimal_objects(sql_type, values, valid)


def _decimal_objects(sql_type: SqlType, values: Sequence[Decimal | None], valid: Array | None) -> Vector:
    data = np.empty(len(values), dtype=object)
    data[:] = [ZERO if v is None else v for v in values]
    return Vector(sql_type, data, valid)


def _decimal128_of(values: Sequence[Decimal | None]) -> Array | None:
    rows = []
    for value in values:
        exponent = 0 if value is None else value.as_tuple().exponent
        if not isinstance(exponent, int):
            return None
        scale = max(0, -exponent)
        whole = 0 if value is None else int(value.scaleb(scale, EXACT))
        if scale > MAX_SCALE128 or abs(whole) >= MAX_DECIMAL128:
            return None
        rows.append((whole >> 64, whole & _LOW_64, scale))
    return np.array(rows, DECIMAL128)


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


def as_decimal64(vector: Vector) -> Vector | None:
    """The vector as scaled int64 with one scale, None when its values do not allow that."""
    if vector.is_decimal64:
        return vector
    if vector.data.dtype == object:
        return None
    plain = vector.plain()
    n = len(plain)
    out = np.zeros(n, np.int64)
    valid = mask_of(plain)
    if vector.is_decimal128:
        scale = decimal128_kernels.narrow(_rows(vector), valid, out)
        scale = -1 if scale > MAX_SCALE64 else scale
    else:
        scale = string_kernels.parse_decimal64(frozen(plain.data), heap_of(plain), valid, out)
    return None if scale < 0 else Vector(vector.type, out, vector.valid, scale=scale)


def heap_of(vector: Vector) -> Array:
    """The heap as kernels take it."""
    return frozen(EMPTY_HEAP if vector.heap is None else vector.heap)


def mask_of(vector: Vector) -> Array:
    """The validity as kernels take it: length 0 when all rows are valid."""
    return NO_VALID if vector.valid is None else frozen(vector.valid)


def _rows(vector: Vector) -> Array:
    return frozen(np.ascontiguousarray(vector.data).view(np.int64).reshape(-1, 3))


def decimal128_rows(vector: Vector) -> Array | None:
    """A numeric as the rows that decimal128_kernels take, int64[n, 3]; None when a value does not fit. Null rows hold
    anything.
    """
    if vector.is_decimal128:
        return _rows(vector)
    if vector.data.dtype == object:
        return None
    out = np.empty((len(vector), 3), np.int64)
    if vector.is_decimal64:
        decimal128_kernels.widen(frozen(vector.data), vector.scale, out)
        return frozen(out)
    plain = vector.plain()
    found = decimal128_text_kernels.parse_views(frozen(plain.data), heap_of(plain), mask_of(plain), out)
    return frozen(out) if found == decimal128_kernels.FITS else None


def from_decimal128(sql_type: SqlType, rows: Array, valid: Array | None) -> Vector:
    """The numerics of such rows, as scaled int64 when all have one scale and fit."""
    data = np.ascontiguousarray(rows).view(DECIMAL128).reshape(-1)
    wide = Vector(sql_type, data, valid)
    narrow = as_decimal64(wide)
    return wide if narrow is None else narrow


def at_scale(vector: Vector, scale: int | None = None) -> tuple[Array, Array, Array] | None:
    """(high int64, low uint64, fits bool) of a numeric times 10**scale, exactly; by default of the greatest scale of
    its rows, and then None unless all rows fit.
    """
    rows = decimal128_rows(vector)
    if rows is None:
        return None
    valid, n = mask_of(vector), len(rows)
    high, low, fits = np.empty(n, np.int64), np.empty(n, np.uint64), np.empty(n, np.bool_)
    wanted = decimal128_kernels.largest_scale(rows, valid) if scale is None else scale
    strangers = decimal128_kernels.at_scale(rows, wanted, valid, high, low, fits)
    return None if scale is None and strangers else (high, low, fits)


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
    elif vector.is_decimal128:
        words = vector.data if vector.valid is None else np.where(vector.valid, vector.data, np.zeros(1, DECIMAL128))
        out[:] = [Decimal((h << 64) | w).scaleb(-s, EXACT) for h, w, s in words.tolist()]
    else:
        out[:] = [ZERO if s is None else Decimal(s.decode()) for s in vector.strings()]
    return Vector(vector.type, out, vector.valid)


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
    parts = [decimal128_rows(v) for v in vectors]
    rows = [p for p in parts if p is not None]
    if len(rows) == len(parts):
        return Vector(sql_type, np.concatenate(rows).view(DECIMAL128).reshape(-1), valid)
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
        base = kernels.pack_views(frozen(vector.data), heap_of(vector), mask_of(vector), part, heap, base)
        row += len(vector)
    return Vector(sql_type, out, valid, heap)


def _packed_size(vector: Vector) -> int:
    data = frozen(vector.data)
    return int(kernels.pack_views(data, heap_of(vector), mask_of(vector), _NO_VIEWS, EMPTY_HEAP, 0))


def owned(batch: Batch) -> Batch:
    """The batch in memory of its own, which may be kept for longer than the transaction that read it."""
    return Batch([_owned(column.plain()) for column in batch.columns], batch.length)


def _owned(vector: Vector) -> Vector:
    valid = None if vector.valid is None else vector.valid.copy()
    if vector.data.ndim == 1 or not vector.type.is_view:
        return Vector(vector.type, vector.data.copy(), valid, None, vector.scale)
    data, heap = np.zeros((len(vector), 2), np.uint64), np.empty(max(_packed_size(vector), 1), np.uint8)
    kernels.pack_views(frozen(vector.data), heap_of(vector), mask_of(vector), data, heap, 0)
    return Vector(vector.type, data, valid, heap)


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
    return frozen(data), heap_of(vector)


_ZERO_WORD = np.uint64(0)
