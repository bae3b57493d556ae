"""Rows and parameters value by value against the whole-vector kernels: the same bytes, the same vectors, the same
refusals.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore import errors, types
from filestore.query.plan import OutputColumn
from filestore.query.render import binary, canonical, text
from filestore.query.text_parse import from_text
from filestore.server.pgwire import encode
from filestore.server.pgwire.encode import RowEncoder, all_formats
from filestore.server.pgwire.parameters import ParameterDecoder, given_types
from filestore.server.pgwire.replies import DataRow
from filestore.settings import Settings
from filestore.storage.vector import Batch, Vector, string_vector
from filestore.types import Kind, SqlType

SETTINGS = Settings()
KINDS = [
    types.BOOL, types.INT2, types.INT4, types.INT8, types.OID, types.FLOAT4, types.FLOAT8, types.TEXT, types.VARCHAR,
    types.BYTEA, types.NUMERIC, types.numeric(9, 3), types.numeric(12), types.bpchar(6), types.DATE, types.TIMESTAMP,
    types.TIMESTAMPTZ, types.UUID, types.INTERVAL, types.TIME, types.NAME,
]  # fmt: skip
SAMPLES: dict[Kind, list[str]] = {
    Kind.BOOL: ["t", "f"],
    Kind.INT2: ["0", "-32768", "32767", "42"],
    Kind.INT4: ["0", "-2147483648", "2147483647", "123456789"],
    Kind.INT8: ["0", "-9223372036854775808", "9223372036854775807"],
    Kind.OID: ["0", "4294967295", "16384"],
    Kind.FLOAT4: ["0", "-1.5", "NaN", "1e10", "0.1"],
    Kind.FLOAT8: ["0", "-1.5", "Infinity", "1e300", "0.1"],
    Kind.NUMERIC: ["0", "-0.125", "123.5", "99999"],
    Kind.BYTEA: ["\\x", "\\x00ff", "\\x" + "ab" * 30],
    Kind.DATE: ["2000-01-01", "1969-12-31", "infinity"],
    Kind.TIME: ["00:00:00", "23:59:59.999999"],
    Kind.TIMESTAMP: ["2000-01-01 00:00:00", "1969-12-31 23:59:59.5"],
    Kind.TIMESTAMPTZ: ["2000-01-01 00:00:00+02"],
    Kind.INTERVAL: ["1 mon 2 days 03:04:05", "-1 days"],
    Kind.UUID: ["5013ae8b-cc4e-4660-a6cc-1d5114474990"],
}
STRINGS = ["", "x", "exactly 12 b", "longer than twelve bytes", "größer"]


def samples(sql_type: SqlType) -> list[str]:
    if sql_type.kind is Kind.BPCHAR:
        return ["", "ab", "größer"]
    if sql_type.kind is Kind.NUMERIC and sql_type.precision == 12:
        return ["0", "-7", "999999999999"]
    return SAMPLES.get(sql_type.kind, STRINGS)


def vector(sql_type: SqlType, values: list[str | None]) -> Vector:
    raw = [b"" if v is None else v.encode() for v in values]
    offsets = np.concatenate([[0], np.cumsum([len(v) for v in raw])]).astype(np.int64)
    valid = np.array([v is not None for v in values])
    data = np.frombuffer(b"".join(raw), np.uint8)
    return from_text(sql_type, offsets, data, None if valid.all() else valid, SETTINGS)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("sql_type", KINDS, ids=str)
def test_few_rows_and_many_give_the_same_bytes(sql_type: SqlType, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[str | None] = [*samples(sql_type), None]
    column = vector(sql_type, values)
    encoder = RowEncoder([OutputColumn("c", sql_type), OutputColumn("d", sql_type)], (code,))
    batch = Batch([column, column], len(values))
    monkeypatch.setattr(encode, "FEW_ROWS", len(values))
    few = encoder.rows(batch, SETTINGS)
    monkeypatch.setattr(encode, "FEW_ROWS", 0)
    assert few == encoder.rows(batch, SETTINGS)
    printed = binary(column) if code else text(column, SETTINGS)
    rows = [(printed[i] if values[i] is not None else None,) * 2 for i in range(len(values))]
    assert few == b"".join(DataRow(row).encode() for row in rows)


def test_dictionaries_decimals_and_wide_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    words = string_vector(types.TEXT, [b"a", b"a longer word than twelve"])
    coded = Vector(types.TEXT, np.array([1, 0, 1], np.uint8), np.array([True, True, False]), None, 0, words)
    padded = Vector(
        types.bpchar(4), np.array([0, 0, 0], np.uint8), None, None, 0, string_vector(types.bpchar(4), [b"ab"])
    )
    scaled = Vector(types.NUMERIC, np.array([-5, 1234, 0]), None, None, 2)
    wide = Vector(types.NUMERIC, np.array([Decimal("1E+30"), Decimal("-0.10"), Decimal("NaN")], object))
    batch = Batch([coded, padded, scaled, wide], 3)
    columns = [OutputColumn("c", v.type) for v in batch.columns]
    few = RowEncoder(columns).rows(batch, SETTINGS)
    only = RowEncoder(columns[:3]).rows(Batch(batch.columns[:3], 3), SETTINGS)
    monkeypatch.setattr(encode, "FEW_ROWS", 0)
    assert few == RowEncoder(columns).rows(batch, SETTINGS)
    assert only == RowEncoder(columns[:3]).rows(Batch(batch.columns[:3], 3), SETTINGS)


def test_a_batch_without_columns() -> None:
    assert RowEncoder([]).rows(Batch([], 2), SETTINGS) == DataRow(()).encode() * 2


def test_format_codes() -> None:
    assert all_formats((), 3, "x") == (0, 0, 0)
    assert all_formats((1,), 3, "x") == (1, 1, 1)
    assert all_formats((1, 0), 2, "x") == (1, 0)
    with pytest.raises(errors.ProtocolViolation):
        all_formats((1, 0), 3, "x")


def decoded(sql_type: SqlType, value: bytes, code: int) -> Vector:
    return ParameterDecoder([sql_type]).vectors([value], (code,), SETTINGS, ("", ""))[0]


@pytest.mark.parametrize("sql_type", KINDS, ids=str)
def test_parameters_in_text_and_binary_mean_the_same(sql_type: SqlType) -> None:
    for value in samples(sql_type):
        column = vector(sql_type, [value])
        for code in (0, 1):
            raw = (binary(column) if code else text(column, SETTINGS))[0]
            found = decoded(sql_type, raw, code)
            found.verify()
            assert str(canonical(found)) == str(canonical(column))


@settings(deadline=None)
@given(
    st.sampled_from([types.INT2, types.INT4, types.INT8, types.TEXT]),
    st.text(st.characters(codec="utf-8", categories=["Nd", "L", "P", "Zs"]), max_size=12).map(str.encode)
    | st.integers(-(2**64), 2**64).map(lambda i: str(i).encode())
    | st.binary(max_size=9),
    st.integers(0, 1),
)
def test_odd_parameters_are_refused_or_read_as_the_kernels_do(sql_type: SqlType, value: bytes, code: int) -> None:
    from filestore.query.text_parse import from_binary

    offsets = np.array([0, len(value)], np.int64)
    data = np.frombuffer(value, np.uint8)
    try:
        expected = from_binary(sql_type, offsets, data, None) if code else from_text(sql_type, offsets, data, None)
    except errors.Error as error:
        with pytest.raises(type(error)):
            decoded(sql_type, value, code)
    else:
        assert canonical(decoded(sql_type, value, code)) == canonical(expected)


def test_null_parameters() -> None:
    for sql_type in KINDS:
        [found] = ParameterDecoder([sql_type]).vectors([None], (), SETTINGS, ("", ""))
        found.verify()
        assert canonical(found) == [None]


def test_types_named_by_a_parse() -> None:
    assert given_types((0, 23, 705)) == (None, types.INT4, None)
    with pytest.raises(errors.UndefinedObject):
        given_types((99_999,))


def test_the_context_of_a_refused_parameter() -> None:
    decoder = ParameterDecoder([types.INT4, types.DATE])
    with pytest.raises(errors.Error) as caught:
        decoder.vectors([b"1", b"x"], (), SETTINGS, ("p", "s"))
    assert caught.value.context == "portal \"p\" parameter $2 = '...'"
    assert (
        decoder.vectors([b"1", b"2024-01-02"], (), SETTINGS, ("", ""))[1].data[0]
        == (dt.date(2024, 1, 2) - dt.date(1970, 1, 1)).days
    )
