"""a < b <=> encode(a) < encode(b), under one total order written down here a second time, in Python, kind by kind."""

from __future__ import annotations

import itertools
import math
import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from filestore import errors, types
from filestore.index import key_kernels
from filestore.index.base import key_count
from filestore.index.key import KeyCodec, KeyKind, encode_decimal, key_kind
from filestore.storage.vector import views_of

DTYPES: dict[KeyKind, Any] = {
    KeyKind.BOOL: np.uint8,
    KeyKind.INT2: np.int16,
    KeyKind.INT4: np.int32,
    KeyKind.INT8: np.int64,
    KeyKind.FLOAT4: np.float32,
    KeyKind.FLOAT8: np.float64,
    KeyKind.DATE: np.int32,
    KeyKind.TIME: np.int64,
    KeyKind.TIMESTAMP: np.int64,
    KeyKind.DEC64: np.int64,
}
VIEWS = {KeyKind.TEXT, KeyKind.BPCHAR, KeyKind.BYTEA, KeyKind.VARNUM}
SPECIALS: dict[KeyKind, list[Any]] = {
    KeyKind.BOOL: [0, 1],
    KeyKind.FLOAT4: [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3.4e38, 1.5],
    KeyKind.FLOAT8: [0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 5e-324, -5e-324, 1.7e308],
    KeyKind.TEXT: [
        b"",
        b"a",
        b"ab",
        b"a\x00",
        b"a\x00b",
        b"\xff\xff",
        "žluťoučký kůň úpěl".encode(),
        b"x" * 40,
        b"x" * 12,
    ],
    KeyKind.BYTEA: [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\x01",
        b"\x00\xff",
        b"\x01",
        b"\xff",
        b"\xff\x00" * 9,
        b"\x00" * 13,
    ],
    KeyKind.BPCHAR: [b"", b" ", b"a", b"a  ", b"a b", b"a b" + b" " * 20, b" a"],
    KeyKind.VARNUM: [
        b"0",
        b"0.00",
        b"-0.1",
        b"1.5",
        b"1.50",
        b"100",
        b"99.999",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1000000000000000000000",
    ],
    KeyKind.INTERVAL: [
        (0, 30, 0),
        (1, 0, 0),
        (0, 0, 30 * 86_400_000_000),
        (0, -1, 1),
        (0, 0, -1),
        (2**31 - 1,) * 2 + (2**63 - 1,),
        (-(2**31),) * 2 + (-(2**63),),
    ],
    KeyKind.UUID: [b"\x00" * 16, b"\xff" * 16, b"\x00" * 15 + b"\x01"],
}


def random_value(kind: KeyKind, rng: random.Random):
    """A value with a fair chance of being equal, or nearly, to another one."""
    if kind in SPECIALS and rng.random() < 0.5:
        return rng.choice(SPECIALS[kind])
    if kind is KeyKind.BOOL:
        return rng.randrange(2)
    if kind in (KeyKind.FLOAT4, KeyKind.FLOAT8):
        return float(
            DTYPES[kind](rng.choice([rng.uniform(-2, 2), rng.uniform(-1e30, 1e30), float(rng.randrange(-3, 3))]))
        )
    if kind is KeyKind.VARNUM:
        return f"{rng.choice(['', '-'])}{rng.randrange(10 ** rng.randrange(1, 25))}.{rng.randrange(1000):03}".encode()
    if kind in VIEWS:
        return bytes(rng.choice(b"\x00\x01ab \xff") for _ in range(rng.choice([0, 1, 2, 3, 5, 13, 20])))
    if kind is KeyKind.INTERVAL:
        return rng.randrange(-3, 4), rng.randrange(-70, 70), rng.randrange(-(10**13), 10**13)
    if kind is KeyKind.UUID:
        return bytes(rng.choice(b"\x00\x7f\x80\xff") for _ in range(16))
    info = np.iinfo(DTYPES[kind])
    return rng.choice(
        [int(info.min), int(info.max), 0, -1, 1, rng.randint(int(info.min), int(info.max)), rng.randrange(-5, 5)]
    )


def rank(kind: KeyKind, value):
    """The stated order, as something Python can compare."""
    if value is None:
        return (1,)
    if kind in (KeyKind.FLOAT4, KeyKind.FLOAT8):
        number = math.nan if math.isnan(value) else float(DTYPES[kind](value))
        return (0, 1, 0.0) if math.isnan(number) else (0, 0, number)
    if kind is KeyKind.VARNUM:
        exact = Decimal(value.decode())
        return (0, 1, 0) if exact.is_nan() else (0, 0, exact)
    if kind is KeyKind.BPCHAR:
        return (0, value.rstrip(b" "))
    if kind is KeyKind.INTERVAL:
        return (0, (value[0] * 30 + value[1]) * 86_400_000_000 + value[2])
    return (0, value)


def column(kind: KeyKind, values: list[Any]):
    """Values as the store holds them."""
    valid = None if None not in values else np.array([v is not None for v in values])
    if kind in VIEWS:
        views, heap, _ = views_of(values)
        return (views, heap), valid
    if kind is KeyKind.INTERVAL:
        rows = np.zeros(len(values), [("m", "<i4"), ("d", "<i4"), ("us", "<i8")])
        rows[:] = [v or (7, 7, 7) for v in values]
        return rows.view("<u8").reshape(-1, 2), valid
    if kind is KeyKind.UUID:
        return np.frombuffer(b"".join(v or b"\x55" * 16 for v in values), np.uint8).reshape(-1, 16), valid
    return np.array([1 if v is None else v for v in values], DTYPES[kind]), valid


def plain_keys(keys) -> list[Any]:
    """Keys as Python values that compare as the index compares."""
    if isinstance(keys, tuple):
        offsets, data = keys
        return [bytes(data[a:b]) for a, b in itertools.pairwise(offsets.tolist())]
    return [tuple(k) if isinstance(k, list) else k for k in keys.tolist()]


def assert_same_order(keys: list[Any], ranks: list[Any]) -> None:
    for i, j in itertools.combinations(range(len(keys)), 2):
        assert (keys[i] < keys[j]) == (ranks[i] < ranks[j])
        assert (keys[i] == keys[j]) == (ranks[i] == ranks[j])


@pytest.mark.parametrize("nullable", [False, True])
@pytest.mark.parametrize("kind", list(KeyKind))
def test_order_of_one_column(kind, nullable, rng):
    codec = KeyCodec([kind], [nullable])
    values = [random_value(kind, rng) for _ in range(120)] + SPECIALS.get(kind, [])
    if nullable:
        values += [None, None]
    assert_same_order(plain_keys(codec.encode([column(kind, values)])), [rank(kind, v) for v in values])


def test_order_of_composites(rng):
    for _ in range(40):
        kinds = [rng.choice(list(KeyKind)) for _ in range(rng.randrange(1, 5))]
        nullable = [rng.random() < 0.5 for _ in kinds]
        pools = [[random_value(k, rng) for _ in range(3)] + [None] * n for k, n in zip(kinds, nullable, strict=True)]
        rows = [[rng.choice(pool) for pool in pools] for _ in range(40)]
        codec = KeyCodec(kinds, nullable)
        keys = codec.encode([column(k, [row[i] for row in rows]) for i, k in enumerate(kinds)])
        assert key_count(keys) == len(rows)
        assert_same_order(plain_keys(keys), [[rank(k, v) for k, v in zip(kinds, row, strict=True)] for row in rows])


def test_spans_hold_exactly_the_keys_they_should(rng):
    for _ in range(60):
        kinds = [rng.choice(list(KeyKind)) for _ in range(rng.randrange(1, 4))]
        nullable = [rng.random() < 0.5 for _ in kinds]
        pools = [[random_value(k, rng) for _ in range(3)] + [None] * n for k, n in zip(kinds, nullable, strict=True)]
        rows = [[rng.choice(pool) for pool in pools] for _ in range(30)]
        codec = KeyCodec(kinds, nullable)
        keys = plain_keys(codec.encode([column(k, [row[i] for row in rows]) for i, k in enumerate(kinds)]))
        depth = rng.randrange(len(kinds))
        wanted = rng.choice(rows)
        equal = [column(kinds[i], [wanted[i]]) for i in range(depth)]
        bounds = [(rng.choice(pools[depth]), rng.random() < 0.5) if rng.random() < 0.7 else None for _ in range(2)]
        low, high = bounds
        span = codec.span(equal, *[b and (column(kinds[depth], [b[0]]), b[1]) for b in bounds])

        def matches(row, depth=depth, wanted=wanted, kinds=kinds, low=low, high=high):
            if any(rank(kinds[i], row[i]) != rank(kinds[i], wanted[i]) for i in range(depth)):
                return False
            if low is None and high is None:
                return True
            value = row[depth]
            if value is None or any(b is not None and b[0] is None for b in (low, high)):
                return False
            own = rank(kinds[depth], value)
            least, most = (b and rank(kinds[depth], b[0]) for b in (low, high))
            above = least is None or own > least or (low[1] and own == least)
            return above and (most is None or own < most or (high[1] and own == most))

        for row, key in zip(rows, keys, strict=True):
            inside = (
                span is not None and (span.low is None or span.low <= key) and (span.high is None or key < span.high)
            )
            assert inside == matches(row), (kinds, nullable, row, wanted, bounds, span)


def test_forms():
    k = KeyKind
    for kinds, nullable, form in [
        ([k.INT4], [False], "u64"),
        ([k.INT8], [False], "u64"),
        ([k.INT8], [True], "u128"),
        ([k.INT4, k.INT4], [False, False], "u64"),
        ([k.INT4, k.INT2], [True, True], "u64"),
        ([k.INT8, k.INT4], [False, False], "u128"),
        ([k.UUID], [False], "u128"),
        ([k.UUID], [True], "bytes"),
        ([k.INTERVAL], [False], "u128"),
        ([k.INT8, k.INT8, k.BOOL], [False] * 3, "bytes"),
        ([k.TEXT], [False], "bytes"),
    ]:
        assert KeyCodec(kinds, nullable).form == form


def test_prefix_of_everything_has_no_end():
    codec = KeyCodec([KeyKind.INT8], [False])
    span = codec.prefix([(np.array([2**63 - 1]), None)])
    assert span.high is None and span.low == 2**64 - 1
    assert codec.span([], ((np.array([2**63 - 1]), None), False), None) is None


def test_every_sql_type_has_a_kind_or_is_refused():
    for kind in types.Kind:
        sql_type = types.SqlType(kind)
        if kind is types.Kind.VOID or (kind is types.Kind.REGCLASS and key_kind(sql_type) is None):
            with pytest.raises(errors.FeatureNotSupported):
                key_kind(sql_type)
        else:
            assert isinstance(key_kind(sql_type), KeyKind)
    assert key_kind(types.numeric(15, 2)) is KeyKind.DEC64


@pytest.mark.parametrize("text", [b"", b"-", b"1e5", b"abc", b"1.2.3", b"+1"])
def test_text_that_is_no_number(text):
    with pytest.raises(errors.InvalidTextRepresentation):
        encode_decimal(text)


def test_null_in_a_not_null_column_is_a_bug():
    with pytest.raises(errors.InternalError):
        KeyCodec([KeyKind.INT4], [False]).encode([(np.zeros(2, np.int32), np.array([True, False]))])


def test_scalar_encoders_are_the_codec(rng):
    """What a compiled statement builds inside its kernel is what the codec builds from columns."""
    for kind, bits in [(KeyKind.INT2, 16), (KeyKind.INT4, 32), (KeyKind.INT8, 64)]:
        values = [random_value(kind, rng) for _ in range(50)]
        expected = KeyCodec([kind], [False]).encode([column(kind, values)]).tolist()
        assert [int(key_kernels.sortable_int(value, bits)) for value in values] == expected
    values = [random_value(KeyKind.FLOAT8, rng) for _ in range(50)]
    expected = KeyCodec([KeyKind.FLOAT8], [False]).encode([column(KeyKind.FLOAT8, values)]).tolist()
    assert [int(key_kernels.sortable_float8_bits(b)) for b in np.array(values).view(np.uint64)] == expected
    values = [random_value(KeyKind.FLOAT4, rng) for _ in range(50)]
    expected = KeyCodec([KeyKind.FLOAT4], [False]).encode([column(KeyKind.FLOAT4, values)]).tolist()
    words = np.array(values, np.float32).view(np.uint32).astype(np.uint64)
    assert [int(key_kernels.sortable_float4_bits(b)) for b in words] == expected


def test_golden_keys():
    """Keys are on disk: these bytes are format version 1."""

    def one(kinds, nullable, values):
        columns = [column(k, [v]) for k, v in zip(kinds, values, strict=True)]
        return plain_keys(KeyCodec(kinds, nullable).encode(columns))[0]

    k = KeyKind
    assert one([k.INT4], [False], [-1]) == 0x7FFFFFFF
    assert one([k.INT2, k.BOOL], [True, False], [None, 1]) == 0x1_0000_01
    assert one([k.INT8, k.DATE], [False, False], [1, -2]) == (0x80000000, 0x00000001_7FFFFFFE)
    assert one([k.FLOAT8], [False], [-0.0]) == 1 << 63
    assert one([k.TEXT, k.INT2], [True, True], [b"a\x00b", None]) == b"\x01a\x00\xffb\x00\x00\x02"
    assert one([k.VARNUM], [False], [b"-12.50"]) == b"\x02" + bytes(255 - b for b in b"\x80\x00\x00\x02\x0d\x33\x00")
