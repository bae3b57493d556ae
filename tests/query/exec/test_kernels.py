"""Every kernel against a plain oracle on random data: words, strings short and long, empty inputs."""

from __future__ import annotations

import random
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from filestore import types
from filestore.query import aggregate_kernels, kernels, numeric_kernels, string_kernels
from filestore.query.kernels import WARMERS, frozen
from filestore.query.keys import KeyTable, group, order_of, string_ranks
from filestore.query.scalar.patterns import like_pieces
from filestore.query.vectors import NO_VALID, concat, from_python, safe_views, to_python
from filestore.storage.vector import EMPTY_HEAP, Array, Vector, string_vector


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


def words(rng: random.Random, n: int) -> list[bytes]:
    pool = [
        "",
        "a",
        "ab",
        "abc\x01",
        "é",
        "twelve bytes",
        "thirteen byte",
        "thirteen bytf",
        "a rather long string",
        "日本語日本語",
    ]
    pool += ["".join(rng.choice("ab") for _ in range(rng.randint(0, 20))) for _ in range(20)]
    return [rng.choice(pool).encode() for _ in range(n)]


def test_warmers_run() -> None:
    for warmer in WARMERS:
        warmer()


@pytest.mark.parametrize("count", [0, 1, 500])
def test_groups(rng: random.Random, count: int) -> None:
    strings = [None if rng.random() < 0.1 else w for w in words(rng, count)]
    numbers = [None if rng.random() < 0.1 else rng.choice([1, 2, 2**62, -(2**62)]) for _ in range(count)]
    floats = [rng.choice([0.0, -0.0, float("nan"), 1.5]) for _ in range(count)]
    columns = [string_vector(types.TEXT, strings), from_python(types.INT8, numbers), from_python(types.FLOAT8, floats)]
    found = group(columns, count)
    keys = [(s, n, "nan" if f != f else f) for s, n, f in zip(strings, numbers, floats, strict=True)]
    codes: dict[Any, int] = {}
    assert found.codes.tolist() == [codes.setdefault(k, len(codes)) for k in keys]
    assert found.count == len(codes)
    assert found.firsts.tolist() == [keys.index(k) for k in codes]


@pytest.mark.parametrize("spread", [10, 2**60])
def test_key_table(rng: random.Random, spread: int) -> None:
    def column(n: int) -> list[int | None]:
        return [None if rng.random() < 0.1 else rng.randint(-spread, spread) // (spread // 5) for _ in range(n)]

    build: list[list[Any]] = [column(200), [w.decode() for w in words(rng, 200)]]
    probe: list[list[Any]] = [column(300), [w.decode() for w in words(rng, 300)]]
    kinds = (types.INT8, types.TEXT)
    table = KeyTable([from_python(t, c) for t, c in zip(kinds, build, strict=True)], 200)
    codes = table.lookup([from_python(t, c) for t, c in zip(kinds, probe, strict=True)], 300)
    known: dict[object, int] = {}
    for row, key in enumerate(zip(*build, strict=True)):
        code = int(table.codes[row])
        assert (code < 0) == (key[0] is None)
        if code >= 0:
            assert known.setdefault(key, code) == code
    assert len(set(known.values())) == len(known)
    assert codes.tolist() == [known.get(key, -1) for key in zip(*probe, strict=True)]


def test_rows_by_code_and_pairs(rng: random.Random) -> None:
    codes = np.array([rng.randint(-1, 9) for _ in range(100)], np.int64)
    offsets = np.zeros(12, np.int64)
    most = kernels.count_codes(codes, offsets)
    offsets = np.cumsum(offsets)
    rows = np.empty(int(offsets[-1]), np.int64)
    kernels.list_rows(codes, offsets, rows)
    lists = [np.flatnonzero(codes == c).tolist() for c in range(10)]
    assert most == max(map(len, lists))
    assert [rows[offsets[c] : offsets[c + 1]].tolist() for c in range(10)] == lists
    probe = np.array([rng.randint(-1, 9) for _ in range(50)], np.int64)
    want = [(i, r) for i, c in enumerate(probe.tolist()) if c >= 0 for r in lists[c]]
    for budget in (1, 3, 30, len(want), 10_000):  # a code has about 10 rows: some steps end inside a row
        got: list[tuple[int, int]] = []
        row, skip = 0, 0
        while row < 50:
            end, end_skip, pairs = kernels.count_matches(probe, offsets, row, skip, budget)
            assert pairs == min(budget, len(want) - len(got))
            left, right = np.empty(pairs, np.int64), np.empty(pairs, np.int64)
            kernels.fill_matches(probe, offsets, rows, row, skip, left, right)
            got += list(zip(left.tolist(), right.tolist(), strict=True))
            row, skip = end, end_skip
        assert got == want and skip == 0


def test_string_order_and_ranks(rng: random.Random) -> None:
    left, right = words(rng, 300), words(rng, 300)
    a, b = string_vector(types.BYTEA, left), string_vector(types.BYTEA, right)
    sign, equal = np.empty(300, np.int8), np.empty(300, np.uint8)
    string_kernels.order_views(*safe_views(a), *safe_views(b), 1, sign)
    string_kernels.equal_views(*safe_views(a), *safe_views(b), 1, equal)
    assert sign.tolist() == [(x > y) - (x < y) for x, y in zip(left, right, strict=True)]
    assert equal.tolist() == [int(x == y) for x, y in zip(left, right, strict=True)]
    # a zero byte inside, and strings that end where others have one
    odd = [*left, b"abcdefgh", b"abcdefgh\0", b"abcdefgh\0\0", b"abcdefg\0", b"abcdefg"]
    ranks = string_ranks(string_vector(types.BYTEA, odd))
    assert [odd[i] for i in np.argsort(ranks, kind="stable")] == sorted(odd)
    assert len(set(ranks.tolist())) == len(set(odd))
    order = order_of([(string_vector(types.BYTEA, odd), True, False)], len(odd))
    assert [odd[i] for i in order] == sorted(odd, reverse=True)


def test_long_strings_that_begin_alike_are_ranked(rng: random.Random) -> None:
    begin = b"same " * 100
    odd = [begin + word for word in (*words(rng, 100), b"", b"\0", b"x" * 600, b"x" * 601)] + words(rng, 50)
    odd += odd[:20]
    ranks = string_ranks(string_vector(types.BYTEA, odd))
    assert [odd[i] for i in np.argsort(ranks, kind="stable")] == sorted(odd)
    places: dict[bytes, set[int]] = {}
    for text, rank in zip(odd, ranks.tolist(), strict=True):
        places.setdefault(text, set()).add(rank)
    assert all(len(found) == 1 for found in places.values()) and len(set(ranks.tolist())) == len(places)


def test_like_matches_regular_expressions(rng: random.Random) -> None:
    strings = words(rng, 200)
    vector = string_vector(types.TEXT, strings)
    for _ in range(60):
        pattern = "".join(rng.choice(["a", "b", "ab", "%", "%", "é", "\\%"]) for _ in range(rng.randint(0, 5)))
        pieces = like_pieces(pattern.encode())
        assert pieces is not None
        literals, open_start, open_end = pieces
        data = np.frombuffer(b"".join(literals) or b"\0", np.uint8).copy()
        bounds = np.cumsum([0, *map(len, literals)]).astype(np.int64)
        out = np.empty(len(strings), np.uint8)
        string_kernels.like_segments(*safe_views(vector), data, bounds, open_start, open_end, out)
        plain = "".join(".*" if p == "%" else re.escape(p[-1]) for p in re.findall(r"\\.|.", pattern))
        want = [int(re.fullmatch(plain, s.decode(), re.DOTALL) is not None) for s in strings]
        assert out.tolist() == want, pattern


def test_characters(rng: random.Random) -> None:
    strings = words(rng, 200)
    vector = string_vector(types.TEXT, strings)
    counts = np.empty(200, np.int32)
    string_kernels.character_counts(*safe_views(vector), counts)
    assert counts.tolist() == [len(s.decode()) for s in strings]
    where = np.empty(200, np.int32)
    string_kernels.positions(*safe_views(vector), np.frombuffer(b"b", np.uint8).copy(), where)
    assert where.tolist() == [s.decode().find("b") + 1 for s in strings]
    for share in (True, False):
        start = np.array([rng.randint(-3, 10) for _ in range(200)], np.int64)
        count = np.array([rng.choice([-1, 0, 3, 15]) for _ in range(200)], np.int64)
        out = np.empty((200, 2), np.uint64)
        room = EMPTY_HEAP if share else np.empty(sum(map(len, strings)) + 1, np.uint8)
        views, heap = safe_views(vector)
        string_kernels.substring_views(views, heap, start, count, 1, out, room)
        got = Vector(types.TEXT, out, None, heap if share else room).strings()
        want = [
            s.decode()[max(a, 1) - 1 : None if c < 0 else max(a + c - 1, 0)].encode()
            for s, a, c in zip(strings, start.tolist(), count.tolist(), strict=True)
        ]
        assert got == want


def test_packing_and_joining(rng: random.Random) -> None:
    parts = [words(rng, n) for n in (50, 0, 30)]
    joined = concat([string_vector(types.TEXT, p) for p in parts])
    assert joined.strings() == [w for p in parts for w in p]
    offsets = np.empty(81, np.int64)
    views, heap = safe_views(joined)
    string_kernels.join_views(views, heap, NO_VALID, offsets, np.empty(0, np.uint8))
    data = np.empty(int(offsets[-1]) + 1, np.uint8)
    string_kernels.join_views(views, heap, NO_VALID, offsets, data)
    assert data[: offsets[-1]].tobytes() == b"".join(w for p in parts for w in p)
    out = np.empty((80, 2), np.uint64)
    string_kernels.split_views(frozen(offsets), frozen(data), out)
    assert Vector(types.TEXT, out, None, data).strings() == joined.strings()
    # each string twice in a row
    twice, places = np.empty(2 * int(offsets[-1]) + 1, np.uint8), 2 * offsets[:-1]
    for _ in range(2):
        string_kernels.append_views(views, heap, places, twice)
    assert twice[:-1].tobytes() == b"".join(2 * w for p in parts for w in p)


def test_case_and_trim() -> None:
    values = [b"HELLO", b"Hello World, Quite Long", b"", b"  x  ", b" \t y"]
    vector = string_vector(types.TEXT, values)
    views, heap = safe_views(vector)
    out, room = np.empty_like(views), np.empty(100, np.uint8)
    assert string_kernels.map_bytes(views, heap, 65, 90, 32, out, room) == -1
    assert Vector(types.TEXT, out, None, room).strings() == [v.lower() for v in values]
    assert string_kernels.map_bytes(*safe_views(string_vector(types.TEXT, ["é".encode()])), 65, 90, 32, out, room) == 0
    cut = np.zeros(256, np.bool_)
    cut[32] = True
    out = np.empty_like(views)
    string_kernels.trim_views(views, heap, cut, True, True, out)
    assert Vector(types.TEXT, out, None, heap).strings() == [v.strip(b" ") for v in values]


def test_decimals_in_text() -> None:
    def parsed(texts: list[bytes]) -> tuple[int, list[int]]:
        out = np.zeros(len(texts), np.int64)
        return string_kernels.parse_decimal64(
            *safe_views(string_vector(types.NUMERIC, texts)), NO_VALID, out
        ), out.tolist()

    assert parsed([b"1.50", b"-0.01", b"123456789.99"]) == (2, [150, -1, 12345678999])
    assert parsed([b"1.5", b"1.50"])[0] == -1
    assert parsed([b"NaN"])[0] == -1
    assert parsed([b"1234567890123456789"])[0] == -1


def test_checked_arithmetic(rng: random.Random) -> None:
    edge = [0, 1, -1, 2**63 - 1, -(2**63), 2**62, -(2**62), 3037000499, 3037000500]
    left = [rng.choice([*edge, rng.randint(-(2**63), 2**63 - 1), rng.randint(-9, 9)]) for _ in range(500)]
    right = [rng.choice([*edge, rng.randint(-(2**63), 2**63 - 1), rng.randint(-9, 9)]) for _ in range(500)]
    for kernel, exact in (
        (numeric_kernels.add_checked, lambda x, y: x + y),
        (numeric_kernels.subtract_checked, lambda x, y: x - y),
        (numeric_kernels.multiply_checked, lambda x, y: x * y),
    ):
        for x, y in zip(left, right, strict=True):
            out = np.empty(1, np.int64)
            row = kernel(frozen(np.array([x])), frozen(np.array([y])), 1, NO_VALID, out)
            value = exact(x, y)
            assert row == (-1 if -(2**63) <= value < 2**63 else 0), (x, y)
            if row < 0:
                assert int(out[0]) == value


def test_rounded_division(rng: random.Random) -> None:
    values = [rng.randint(-(10**18), 10**18) for _ in range(300)] + [5, -5, 15, -15, 4, -4]
    for divisor in (10, 100, 1, 10**18):
        out = np.empty(len(values), np.int64)
        numeric_kernels.divide_rounded(frozen(np.array(values)), divisor, out)
        want = [int((Decimal(v) / divisor).to_integral_value("ROUND_HALF_UP")) for v in values]
        assert out.tolist() == want


def test_folds(rng: random.Random) -> None:
    n, groups = 400, 7
    codes = np.array([rng.randrange(groups) for _ in range(n)], np.int64)
    values = np.array([rng.randint(-(2**62), 2**62) for _ in range(n)], np.int64)
    valid: Array = np.array([rng.random() < 0.8 for _ in range(n)])
    high, low = np.zeros(groups, np.int64), np.zeros(groups, np.uint64)
    masked = np.where(valid, values, 0)
    aggregate_kernels.sum_limbs(codes, frozen(masked >> 63), frozen(masked.view(np.uint64)), high, low)
    counted, best = np.zeros(groups, np.int64), np.full(groups, -1, np.int64)
    aggregate_kernels.count_rows(codes, frozen(valid), counted)
    aggregate_kernels.extreme_words(codes, frozen(values), frozen(np.empty(0, np.int64)), frozen(valid), True, best)
    for g in range(groups):
        rows = [i for i in range(n) if codes[i] == g and valid[i]]
        assert (int(high[g]) << 64) | int(low[g]) == sum(int(values[i]) for i in rows)
        assert counted[g] == len(rows)
        assert int(values[best[g]]) == max(int(values[i]) for i in rows)


def test_vectors_there_and_back(rng: random.Random) -> None:
    for sql_type, values in (
        (types.NUMERIC, [Decimal("1.50"), None, Decimal("2.5"), Decimal("NaN")]),
        (types.numeric(10, 2), [Decimal("1.50"), None]),
        (types.INTERVAL, [(1, -2, 3), None, (-1, 0, -5)]),
        (types.UUID, [bytes(range(16)), None]),
        (types.BYTEA, [b"\0x", None, b"longer than twelve bytes"]),
        (types.BOOL, [True, None, False]),
    ):
        vector = from_python(sql_type, values)
        assert to_python(vector) == values or str(to_python(vector)) == str(values)
        assert str(to_python(concat([vector, vector]))) == str([*values, *values])


def test_dictionaries_joined() -> None:
    """Also when the last part holds nulls alone, and so an empty dictionary."""
    nulls = Vector(types.TEXT, np.zeros(2, np.uint8), np.zeros(2, np.bool_), dictionary=string_vector(types.TEXT, []))
    some = Vector(types.TEXT, np.array([1, 0, 1], np.uint8), None, dictionary=string_vector(types.TEXT, [b"a", b"b"]))
    for parts in ([some, nulls], [nulls, some], [nulls, nulls], [some, some, nulls]):
        joined = concat(parts)
        joined.verify()
        assert joined.strings() == [s for part in parts for s in part.strings()]
        assert group([joined], len(joined)).count == len(set(joined.strings()))
