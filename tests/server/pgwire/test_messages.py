"""Messages: round trips, total decoders, PostgreSQL's refusals.

Goal: every message survives encode and decode, and no bytes whatever make a decoder raise anything but an `Error`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore import errors
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
int16s = st.integers(-(2**15), 2**15 - 1)
int32s = st.integers(-(2**31), 2**31 - 1)
oids = st.integers(0, 2**32 - 1)
formats = st.lists(st.integers(0, 1), max_size=5).map(tuple)
values = st.lists(st.none() | st.binary(max_size=40), max_size=5).map(tuple)
reply_fields = st.builds(r.Field, names, oids, int16s, oids, int16s, int32s, st.integers(0, 1))

FRONTEND = st.one_of(
    st.builds(m.Query, names),
    st.builds(m.Parse, names, names, st.lists(oids, max_size=4).map(tuple)),
    st.builds(m.Bind, names, names, formats, values, formats),
    st.builds(m.Describe, st.sampled_from("SP"), names),
    st.builds(m.Close, st.sampled_from("SP"), names),
    st.builds(m.Execute, names, int32s),
    st.builds(m.CopyData, st.binary(max_size=50)),
    st.builds(m.CopyFail, names),
    st.builds(m.SaslInitialResponse, names, st.none() | st.binary(max_size=50)),
    st.builds(m.FunctionCall, st.binary(max_size=20)),
    st.sampled_from([m.Sync(), m.Flush(), m.Terminate(), m.CopyDone()]),
)
BACKEND = st.one_of(
    st.builds(r.Authentication, int32s, st.binary(max_size=20)),
    st.builds(r.ParameterStatus, names, names),
    st.builds(r.BackendKeyData, int32s, st.binary(max_size=20)),
    st.builds(r.NegotiateProtocolVersion, int32s, st.lists(names.filter(bool), max_size=3).map(tuple)),
    st.builds(r.ReadyForQuery, st.sampled_from("ITE")),
    st.builds(r.RowDescription, st.lists(reply_fields, max_size=3).map(tuple)),
    st.builds(r.ParameterDescription, st.lists(oids, max_size=4).map(tuple)),
    st.builds(r.DataRow, values),
    st.builds(r.CommandComplete, names),
    st.builds(r.ErrorResponse, st.dictionaries(st.sampled_from("SVCMDHPW"), names)),
    st.builds(r.CopyInResponse, st.integers(0, 1), formats),
    st.builds(r.CopyOutResponse, st.integers(0, 1), formats),
    st.sampled_from([r.Done(kind) for kind in r.NAMES_OF_DONE]),
)


@settings(deadline=None)
@given(FRONTEND)
def test_a_frontend_message_survives_the_wire(message: m.Message) -> None:
    raw = message.encode()
    assert raw[:1] == message.KIND
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1
    assert type(message).decode(raw[5:]) == message


@settings(deadline=None)
@given(BACKEND)
def test_a_reply_survives_the_wire(reply: r.Reply) -> None:
    raw = reply.encode()
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1
    assert r.decode_reply(raw[:1], raw[5:]) == reply


@settings(deadline=None)
@given(st.builds(m.Startup, st.just(3), st.integers(0, 2), st.dictionaries(names.filter(bool), names, max_size=4)))
def test_a_startup_survives_the_wire(message: m.Startup) -> None:
    raw = message.encode()
    assert int.from_bytes(raw[:4], "big") == len(raw)
    assert m.decode_first(raw[4:]) == message


@settings(deadline=None)
@given(st.builds(m.CancelRequest, int32s, st.binary(min_size=4, max_size=256)))
def test_a_cancel_request_survives_the_wire(message: m.CancelRequest) -> None:
    assert m.decode_first(message.encode()[4:]) == message


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(m.TYPED + r.TYPED), st.binary(max_size=80))
def test_decoders_are_total(cls: Any, body: bytes) -> None:
    try:
        cls.decode(body)
    except errors.Error:
        pass


@settings(max_examples=400, deadline=None)
@given(FRONTEND, st.data())
def test_decoders_are_total_near_real_messages(message: m.Message, data: st.DataObject) -> None:
    """Real bodies with a few bytes changed, dropped or added: closer to the decoder's edges than noise is."""
    body = bytearray(message.encode()[5:])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        type(message).decode(bytes(body))
    except errors.Error:
        pass


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_the_first_message_decoder_is_total(body: bytes) -> None:
    try:
        m.decode_first(body)
    except errors.Error:
        pass


@pytest.mark.parametrize(
    ("cls", "body", "text"),
    [
        (m.Query, b"select 1", "invalid string in message"),
        (m.Query, b"", "invalid string in message"),
        (m.Query, b"a\0b\0", "invalid message format"),
        (m.Parse, b"\0select 1", "invalid string in message"),
        (m.Parse, b"\0\0\0\1\0\0\0", "insufficient data left in message"),
        (m.Bind, b"\0\0\0\0\0\1\0\0\0\5abc", "insufficient data left in message"),
        (m.Bind, b"\0\0\0\0\xff\xff", "insufficient data left in message"),
        (m.Bind, b"\0\0\0\0\0\0\0\0x", "invalid message format"),
        (m.Describe, b"X\0", "invalid DESCRIBE message subtype 88"),
        (m.Close, b"X\0", "invalid CLOSE message subtype 88"),
        (m.Execute, b"\0\0\0", "insufficient data left in message"),
        (m.Sync, b"x", "invalid message format"),
    ],
)
def test_broken_bodies_are_named_as_postgresql_does(cls: Any, body: bytes, text: str) -> None:
    with pytest.raises(errors.ProtocolViolation) as caught:
        cls.decode(body)
    assert caught.value.message == text


def test_text_that_is_not_utf8() -> None:
    with pytest.raises(errors.CharacterNotInRepertoire) as caught:
        m.Query.decode(b"select '\xff'\0")
    assert caught.value.message == 'invalid byte sequence for encoding "UTF8": 0xff'


def test_an_unknown_format_code() -> None:
    with pytest.raises(errors.InvalidParameterValue) as caught:
        m.Bind.decode(m.Bind("", "", (2,), (b"1",), ()).encode()[5:])
    assert caught.value.message == "unsupported format code: 2"


def test_every_error_class_makes_a_complete_response() -> None:
    for cls in errors.all_classes():
        error = cls("text", detail="d", hint="h", position=3, schema="s", table="t", column="c", constraint="n")
        fields = r.error_response(error).fields
        assert fields["S"] == fields["V"] == "ERROR"
        assert fields["C"] == cls.sqlstate
        assert fields["M"] == "text"
        assert (fields["P"], fields["D"], fields["H"]) == ("3", "d", "h")
        assert (fields["s"], fields["t"], fields["c"], fields["n"]) == ("s", "t", "c", "n")
        assert {"F", "L", "R"} <= fields.keys()
