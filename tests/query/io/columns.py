"""Random columns of every type, for the kernels to be compared on."""

from __future__ import annotations

from typing import Any

import numpy as np

from filestore import types
from filestore.storage.vector import Array, Vector, string_vector
from filestore.types import Kind, SqlType

TYPES = [
    types.BOOL,
    types.INT2,
    types.INT4,
    types.INT8,
    types.FLOAT4,
    types.FLOAT8,
    types.numeric(18, 0),
    types.numeric(15, 2),
    types.numeric(18, 18),
    types.numeric(10, 4),
    types.TEXT,
    types.bpchar(25),
    types.varchar(25),
    types.BYTEA,
    types.DATE,
    types.TIME,
    types.TIMESTAMP,
    types.TIMESTAMPTZ,
    types.INTERVAL,
    types.UUID,
    types.OID,
]

FIRST_DAY, LAST_DAY = -2_440_588, 2_145_042_905
WORDS = [
    "",
    "a",
    "naïve",
    "twelve bytes",
    "thirteen byte",
    "日本語 text",
    "tab\tnew\nline",
    'quote"',
    "back\\slash",
    "x" * 25,
]


def floats(rng: np.random.Generator, n: int, dtype: type) -> Array:
    """Half of them any bits, half such as people write."""
    bits = rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)
    if dtype is np.float32:
        bits = rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    plain = rng.integers(-(10**6), 10**6, n) / 10.0 ** rng.integers(-10, 12, n)
    with np.errstate(all="ignore"):
        return np.where(rng.random(n) < 0.5, bits, plain.astype(dtype)).astype(dtype)


def column(rng: np.random.Generator, sql_type: SqlType, n: int, nulls: bool = True) -> Vector:
    """n values of the type, a tenth of them null."""
    vector = _column(rng, sql_type, n)
    if nulls:
        vector.valid = rng.random(n) < 0.9
    return vector


def _column(rng: np.random.Generator, sql_type: SqlType, n: int) -> Vector:
    kind = sql_type.kind
    if kind in (Kind.FLOAT4, Kind.FLOAT8):
        return Vector(sql_type, floats(rng, n, np.float32 if kind is Kind.FLOAT4 else np.float64))
    if kind is Kind.NUMERIC:
        limit = 10 ** (sql_type.precision or 18)
        return Vector(sql_type, rng.integers(-limit + 1, limit, n) >> rng.integers(0, 50, n), scale=sql_type.scale or 0)
    if kind is Kind.DATE:
        wide, near = rng.integers(FIRST_DAY, LAST_DAY, n), rng.integers(-30_000, 30_000, n)
        days = np.where(rng.random(n) < 0.2, wide, near).astype(np.int32)
        days[: min(2, n)] = [2**31 - 1, -(2**31)][:n]
        return Vector(sql_type, days)
    if kind is Kind.TIME:
        return Vector(sql_type, rng.integers(0, 86_400_000_001, n))
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        wide = rng.integers(FIRST_DAY * 86_400_000_000 + 10**11, 2**63 - 10**11, n)
        near = rng.integers(-(2 * 10**15), 4 * 10**15, n)
        near -= np.where(rng.random(n) < 0.5, near % 1_000_000, 0)
        stamps = np.where(rng.random(n) < 0.2, wide, near)
        stamps[: min(2, n)] = [2**63 - 1, -(2**63)][:n]
        return Vector(sql_type, stamps)
    if kind is Kind.INTERVAL:
        words = np.zeros((n, 2), np.int64)
        halves = words.view(np.int32).reshape(-1, 4)
        halves[:, 0], halves[:, 1] = rng.integers(-50, 50, n), rng.integers(-2, 3, n)
        words[:, 1] = rng.integers(-(10**12), 10**12, n) * rng.integers(0, 2, n)
        return Vector(sql_type, words.view(np.uint64))
    if kind is Kind.UUID:
        return Vector(sql_type, rng.integers(0, 2**64, (n, 2), dtype=np.uint64))
    if kind is Kind.BOOL:
        return Vector(sql_type, rng.integers(0, 2, n).astype(np.uint8))
    if kind is Kind.BYTEA:
        return string_vector(sql_type, [rng.bytes(int(rng.integers(0, 30))) for _ in range(n)])
    if sql_type.is_view:
        chosen = [str(WORDS[i]) for i in rng.integers(0, len(WORDS), n)]
        return string_vector(sql_type, [w.rstrip(" ").encode() for w in chosen])
    if kind is Kind.OID:
        return Vector(sql_type, rng.integers(0, 2**32, n))
    dtype: Any = sql_type.dtype
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, n, dtype=sql_type.dtype, endpoint=True)
    values >>= rng.integers(0, info.bits - 1, n).astype(sql_type.dtype)
    values[: min(2, n)] = [info.min, info.max][:n]
    return Vector(sql_type, values)
