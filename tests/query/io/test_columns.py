"""Kernels against their slow twins, on random columns: text and binary out, text and binary in, Arrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore import errors, types
from filestore.query import arrow, render, text_parse
from filestore.query.literals import format_literal, parse_literal
from filestore.settings import Settings
from filestore.storage.vector import Vector, string_vector
from filestore.types import Kind, SqlType
from tests.query.io.columns import TYPES, column

ROWS = 400
SETTINGS = Settings({"TimeZone": "America/New_York"})
each_type = pytest.mark.parametrize("sql_type", TYPES, ids=str)


def shown(vector: Vector) -> str:
    return repr(render.canonical(vector))


@each_type
def test_text(sql_type: SqlType, rng: np.random.Generator) -> None:
    vector = column(rng, sql_type, ROWS)
    encoded = render.text(vector, SETTINGS)
    for row, value in enumerate(render.canonical(vector)):
        expected = b"" if value is None else format_literal(sql_type, value, SETTINGS).encode()
        assert encoded[row] == expected, value
    back = text_parse.from_text(sql_type, encoded.offsets, encoded.data, vector.valid, SETTINGS)
    back.verify()
    if sql_type.kind not in (Kind.FLOAT4, Kind.FLOAT8):
        assert shown(back) == shown(vector)
    else:
        np.testing.assert_array_equal(back.data[vector.valid], vector.data[vector.valid])


@each_type
def test_binary(sql_type: SqlType, rng: np.random.Generator) -> None:
    vector = column(rng, sql_type, ROWS)
    encoded = render.binary(vector)
    if sql_type.kind is Kind.NUMERIC:
        for row, value in enumerate(render.canonical(vector)):
            assert encoded[row] == (b"" if value is None else render.numeric_bytes(value, sql_type.scale))
    back = text_parse.from_binary(sql_type, encoded.offsets, encoded.data, vector.valid)
    back.verify()
    assert shown(back) == shown(vector)


@each_type
def test_arrow(sql_type: SqlType, rng: np.random.Generator) -> None:
    vector = column(rng, sql_type, ROWS)
    exported = arrow.array(vector)
    exported.validate(full=True)
    assert exported.type == sql_type.arrow()
    for low, high in ((0, ROWS), (13, 99), (7, 7)):
        back = arrow.vector(exported.slice(low, high - low), sql_type, SETTINGS)
        back.verify()
        assert shown(back) == shown(vector.slice(low, high))


def test_general_numerics() -> None:
    texts = [
        b"0",
        b"-1.50",
        b"NaN",
        b"-Infinity",
        b"123456789012345678901234567890.0001",
        b"0.000000000000000000001",
        None,
    ]
    encoded = render.encode_all(texts)
    valid = np.array([t is not None for t in texts])
    vector = text_parse.from_text(types.NUMERIC, encoded.offsets, encoded.data, valid)
    assert vector.strings() == texts
    binary = render.binary(vector)
    assert text_parse.from_binary(types.NUMERIC, binary.offsets, binary.data, valid).strings() == texts


def test_dictionaries() -> None:
    words = string_vector(types.TEXT, [b"a", b"a longer word than twelve"])
    vector = Vector(types.TEXT, np.array([1, 0, 1], np.uint8), np.array([True, False, True]), None, 0, words)
    encoded = render.text(vector)
    assert [encoded[i] for i in range(3)] == [b"a longer word than twelve", b"", b"a longer word than twelve"]
    kept = arrow.array(vector, keep_dictionary=True)
    assert kept.to_pylist() == ["a longer word than twelve", None, "a longer word than twelve"]
    back = arrow.vector(kept.cast(pa.dictionary(pa.int32(), pa.string())), types.TEXT)
    assert back.dictionary is not None
    assert back.strings() == vector.strings()


ODD = st.text(alphabet="0123456789.-+eE:/ TZabnfityNxé", max_size=24)
PIECES = st.sampled_from(
    [
        "2026-02-29",
        "2024-02-29",
        "10:20:30.123456",
        "24:00:00",
        "1.0",
        "+05:30",
        "Z",
        "-7",
        "1e5",
        "  ",
        "\\x6162",
        "t",
        "NaN",
    ]
)


@pytest.mark.parametrize("sql_type", [t for t in TYPES if not t.is_view] + [types.NUMERIC, types.BYTEA], ids=str)
@given(texts=st.lists(ODD | PIECES | st.tuples(PIECES, PIECES).map("".join), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_odd_texts(sql_type: SqlType, texts: list[str]) -> None:
    """Whatever the text, the kernels and the slow twin agree on the value or on the error and its row."""
    encoded = render.encode_all([t.encode() for t in texts])
    wanted: list[object] = []
    problem: tuple[str, str, int] | None = None
    for row, text in enumerate(texts):
        try:
            wanted.append(parse_literal(sql_type, text, SETTINGS))
        except errors.Error as error:
            problem = (error.sqlstate, error.message, row)
            break
    if problem is None:
        vector = text_parse.from_text(sql_type, encoded.offsets, encoded.data, None, SETTINGS)
        assert shown(vector) == repr(wanted)
        return
    with pytest.raises(errors.Error) as caught:
        text_parse.from_text(sql_type, encoded.offsets, encoded.data, None, SETTINGS)
    assert (caught.value.sqlstate, caught.value.message, caught.value.row) == problem


@pytest.mark.parametrize(
    ("raw", "shown_bytes"),
    [
        (b"a\xff", "0xff"),
        (b"\xc3", "0xc3"),
        (b"\xed\xa0\x80", "0xed 0xa0 0x80"),
        (b"a\0b", "0x00"),
        (b"\xc0\x80", "0xc0 0x80"),
    ],
)
def test_not_utf8(raw: bytes, shown_bytes: str) -> None:
    encoded = render.encode_all([b"fine", "größe".encode(), raw])
    with pytest.raises(errors.CharacterNotInRepertoire) as caught:
        text_parse.from_text(types.TEXT, encoded.offsets, encoded.data, None)
    assert caught.value.row == 2
    assert caught.value.message == f'invalid byte sequence for encoding "UTF8": {shown_bytes}'


def test_wrong_binary() -> None:
    encoded = render.encode_all([b"\0\0\0\1", b"\0\0\1"])
    with pytest.raises(errors.InvalidBinaryRepresentation) as caught:
        text_parse.from_binary(types.INT4, encoded.offsets, encoded.data, None)
    assert caught.value.row == 1
    for raw in (b"", b"\0\1\0\0\0\0\0\0", b"\0\1\0\0\x12\x34\0\0\0\1", b"\0\1\0\0\0\0\0\0\x27\x10"):
        one = render.encode_all([raw])
        for sql_type in (types.NUMERIC, types.numeric(10, 2)):
            with pytest.raises(errors.InvalidBinaryRepresentation):
                text_parse.from_binary(sql_type, one.offsets, one.data, None)


def test_data_rows() -> None:
    columns = [
        Vector(types.INT4, np.array([7, 8], np.int32), np.array([True, False])),
        string_vector(types.TEXT, [b"x", b""]),
    ]
    encoded = [render.text(c) for c in columns]
    rows = render.data_rows(encoded, [c.valid for c in columns], 2)
    first = b"D\0\0\0\x10\0\2\0\0\0\x017\0\0\0\1x"
    second = b"D\0\0\0\x0e\0\2\xff\xff\xff\xff\0\0\0\0"
    assert rows.tobytes() == first + second


@pytest.mark.parametrize(
    ("source", "sql_type", "sqlstate", "row"),
    [
        (pa.array([1, 40_000]), types.INT2, "22003", 1),
        (pa.array([2**63], pa.uint64()), types.INT8, "22003", 0),
        (pa.array([1, 1000]), types.numeric(5, 2), "22003", 1),
        (pa.array(["a", "bcde"]), types.varchar(3), "22001", 1),
        (pa.array(["1", "x"]), types.INT4, "22P02", 1),
        (pa.array([1]), types.TEXT, "42804", None),
        (pa.array([[1]]), types.TEXT, "42804", None),
        (pa.array([2**45], pa.timestamp("s")), types.TIMESTAMP, "22008", 0),
    ],
)
def test_arrow_refusals(source: pa.Array, sql_type: SqlType, sqlstate: str, row: int | None) -> None:
    with pytest.raises(errors.Error) as caught:
        arrow.vector(source, sql_type)
    assert (caught.value.sqlstate, caught.value.row) == (sqlstate, row)


def test_arrow_conversions() -> None:
    def read(source: pa.Array, sql_type: SqlType) -> list[object]:
        return [
            None if v is None else format_literal(sql_type, v) for v in render.canonical(arrow.vector(source, sql_type))
        ]

    assert read(pa.array([1.5, 2.5, None]), types.INT4) == ["2", "2", None]
    assert read(pa.array([1, None], pa.int8()), types.INT8) == ["1", None]
    assert read(pa.array([1.005, 2.345]), types.numeric(5, 2)) == ["1.01", "2.35"]
    assert read(pa.array([1_500], pa.timestamp("ms")), types.TIMESTAMP) == ["1970-01-01 00:00:01.5"]
    assert read(pa.array([-1], pa.timestamp("ns")), types.TIMESTAMP) == ["1969-12-31 23:59:59.999999"]
    assert read(pa.nulls(2), types.TEXT) == [None, None]
    sliced = pa.array(["x", "a long string beyond twelve", None, "naïve"], pa.string_view()).slice(1)
    assert read(sliced, types.TEXT) == ["a long string beyond twelve", None, "naïve"]
