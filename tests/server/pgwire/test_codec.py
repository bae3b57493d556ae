"""Framing: whatever way the bytes arrive, the same messages come out; broken ones come out broken and stop what they
must.

Goal: `feed` cut anywhere equals `feed` of the whole. Oracle: the encoded messages themselves.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore.server.pgwire import messages as m
from filestore.server.pgwire.codec import LARGE_BYTES_MAX, STARTUP_BYTES_MAX, Codec
from tests.server.pgwire.test_messages import FRONTEND

STARTUP = m.Startup(3, 0, {"user": "postgres"})


def started() -> Codec:
    codec = Codec()
    codec.started = True
    return codec


def fed(codec: Codec, pieces: list[bytes]) -> list[m.Message]:
    return [message for piece in pieces for message in codec.feed(piece)]


def joined(messages: list[m.Message]) -> list[m.Message]:
    """Neighbouring CopyData as one, as the codec may cut a run of them anywhere."""
    out: list[m.Message] = []
    for message in messages:
        if isinstance(message, m.CopyData) and out and isinstance(out[-1], m.CopyData):
            out[-1] = m.CopyData(out[-1].data + message.data)
        else:
            out.append(message)
    return out


@settings(deadline=None)
@given(st.lists(FRONTEND, max_size=8), st.data())
def test_any_cut_gives_the_same_messages(messages: list[m.Message], data: st.DataObject) -> None:
    typed = [m.Password(x.encode()[5:]) if isinstance(x, m.SaslInitialResponse) else x for x in messages]
    raw = STARTUP.encode() + b"".join(x.encode() for x in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert joined(fed(Codec(), pieces)) == joined([STARTUP, *typed])


def test_byte_by_byte() -> None:
    raw = STARTUP.encode() + m.Query("select 1").encode() + m.Sync().encode()
    assert fed(Codec(), [bytes([b]) for b in raw]) == [STARTUP, m.Query("select 1"), m.Sync()]


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise(raw: bytes, is_started: bool) -> None:
    codec = Codec()
    codec.started = is_started
    codec.feed(raw)
    codec.feed(raw)


def test_nothing_behind_an_ssl_request_is_read() -> None:
    codec = Codec()
    assert codec.feed(m.SslRequest().encode() + STARTUP.encode()) == [m.SslRequest()]
    assert codec.buffered == len(STARTUP.encode())
    assert codec.feed(b"") == [STARTUP]


def test_what_follows_a_startup_is_read() -> None:
    assert Codec().feed(STARTUP.encode() + m.Sync().encode()) == [STARTUP, m.Sync()]


@pytest.mark.parametrize("length", [0, 7, STARTUP_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_a_startup_packet_has_bounds(length: int) -> None:
    [broken] = Codec().feed(length.to_bytes(4, "big"))
    assert isinstance(broken, m.Broken)
    assert broken.fatal
    assert broken.error.message == "invalid length of startup packet"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Q\0\0\0\3", "invalid message length"),
        (b"Q" + (LARGE_BYTES_MAX + 1).to_bytes(4, "big"), "invalid message length"),
        (b"S\0\0\xff\xff", "invalid message length"),
        (b"!\0\0\0\4", "invalid frontend message type 33"),
    ],
)
def test_framing_that_cannot_be_followed_is_fatal_and_final(raw: bytes, text: str) -> None:
    codec = started()
    before, broken = codec.feed(m.Sync().encode() + raw + m.Sync().encode())
    assert before == m.Sync()
    assert isinstance(broken, m.Broken)
    assert broken.fatal
    assert (broken.error.sqlstate, broken.error.message) == ("08P01", text)
    assert codec.feed(m.Sync().encode()) == []


def test_a_broken_body_is_not_fatal() -> None:
    codec = started()
    broken, sync = codec.feed(b"P\0\0\0\5x" + m.Sync().encode())
    assert isinstance(broken, m.Broken)
    assert not broken.fatal
    assert broken.kind == b"P"
    assert sync == m.Sync()


@pytest.mark.parametrize("rows", [1, 2, 40, 1000])
def test_copy_data_is_joined(rows: int) -> None:
    data = [m.CopyData(f"{i}\tline {i}\n".encode()) for i in range(rows)]
    raw = b"".join(x.encode() for x in data) + m.CopyDone().encode()
    messages = started().feed(raw)
    assert joined(messages) == [m.CopyData(b"".join(x.data for x in data)), m.CopyDone()]
    if len(raw) > 1000:
        assert len(messages) == 2


def test_a_large_message_in_small_pieces_is_not_copied_each_time() -> None:
    raw = m.Query("x" * 4_000_000).encode()
    assert fed(started(), [raw[i : i + 65_536] for i in range(0, len(raw), 65_536)]) == [m.Query("x" * 4_000_000)]
