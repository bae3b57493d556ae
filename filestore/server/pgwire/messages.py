"""What a client says: one plain value per message of the frontend, with `decode` of its body and `encode` of the whole.

Pure: bytes to value, value to bytes, nothing else. `decode` is total (see `wire.Reader`); round trips and golden
traces are in the tests. Values are immutable by convention (slots without `frozen`: they are made for every
statement).

`Bind` and `Parse` are decoded without `Reader`: they lie on the path of every statement.

Source: PostgreSQL 15, 55.7 "Message Formats", https://www.postgresql.org/docs/15/protocol-message-formats.html; section
numbers of each message are those of that page, the flow is in 55.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from filestore import errors
from filestore.server.pgwire.wire import INT32, Reader, counted, cstring, framed, too_short, utf8

BINARY_FORMAT = 1
PROTOCOL_MAJOR = 3
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


# --- before the session ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Startup:
    """StartupMessage: the protocol's version and the session's parameters (user, database, any setting)."""

    KIND: ClassVar[bytes] = b""
    major: int
    minor: int
    parameters: dict[str, str]

    def encode(self) -> bytes:
        pairs = b"".join(cstring(k) + cstring(v) for k, v in self.parameters.items())
        return _untyped(self.major << 16 | self.minor, pairs + b"\0")


@dataclass(slots=True)
class SslRequest:
    KIND: ClassVar[bytes] = b""

    def encode(self) -> bytes:
        return _untyped(SSL_REQUEST, b"")


@dataclass(slots=True)
class GssEncRequest:
    KIND: ClassVar[bytes] = b""

    def encode(self) -> bytes:
        return _untyped(GSSENC_REQUEST, b"")


@dataclass(slots=True)
class CancelRequest:
    """Asks to cancel what another connection runs; the secret is 4 bytes in protocol 3.0, up to 256 in 3.2."""

    KIND: ClassVar[bytes] = b""
    process_id: int
    secret: bytes

    def encode(self) -> bytes:
        return _untyped(CANCEL_REQUEST, INT32.pack(self.process_id) + self.secret)


def _untyped(code: int, rest: bytes) -> bytes:
    return INT32.pack(8 + len(rest)) + INT32.pack(code) + rest


def decode_first(body: bytes) -> Startup | SslRequest | GssEncRequest | CancelRequest:
    """The body (without its length) of a message that has no type byte: the first ones of a connection."""
    reader = Reader(body)
    code = reader.int32()
    if code == SSL_REQUEST:
        reader.end()
        return SslRequest()
    if code == GSSENC_REQUEST:
        reader.end()
        return GssEncRequest()
    if code == CANCEL_REQUEST:
        process_id, secret = reader.int32(), reader.rest()
        if not 4 <= len(secret) <= 256:
            raise errors.ProtocolViolation("invalid length of query cancel packet")
        return CancelRequest(process_id, secret)
    return Startup(code >> 16 & 0xFFFF, code & 0xFFFF, _parameters(reader))


def _parameters(reader: Reader) -> dict[str, str]:
    """Name and value pairs up to an empty name, which must be the packet's last byte."""
    found: dict[str, str] = {}
    while True:
        name = reader.string()
        if not name:
            break
        found[name] = reader.string()
    if reader.at != len(reader.body):
        raise errors.ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    return found


@dataclass(slots=True)
class Password:
    """Type 'p': PasswordMessage, SASLInitialResponse or SASLResponse; which one the state of the exchange tells."""

    KIND: ClassVar[bytes] = b"p"
    body: bytes

    def encode(self) -> bytes:
        return framed(b"p", self.body)

    @classmethod
    def decode(cls, body: bytes) -> Password:
        return cls(body)


@dataclass(slots=True)
class SaslInitialResponse:
    """The chosen mechanism and the client's first message, None when it sends none."""

    KIND: ClassVar[bytes] = b"p"
    mechanism: str
    data: bytes | None

    def encode(self) -> bytes:
        return framed(b"p", cstring(self.mechanism) + counted(self.data))

    @classmethod
    def decode(cls, body: bytes) -> SaslInitialResponse:
        reader = Reader(body)
        message = cls(reader.string(), reader.counted())
        reader.end()
        return message


# --- queries ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Query:
    """A string of statements, answered in full: the simple protocol."""

    KIND: ClassVar[bytes] = b"Q"
    text: str

    def encode(self) -> bytes:
        return framed(b"Q", cstring(self.text))

    @classmethod
    def decode(cls, body: bytes) -> Query:
        if not body or body.find(0) != len(body) - 1:
            raise errors.ProtocolViolation("invalid string in message" if 0 not in body else "invalid message format")
        return cls(utf8(body[:-1]))


@dataclass(slots=True)
class Parse:
    """Prepares `text` under `name` ('' is the unnamed one); an OID of 0 leaves the parameter's type to be inferred."""

    KIND: ClassVar[bytes] = b"P"
    name: str
    text: str
    parameter_oids: tuple[int, ...] = ()

    def encode(self) -> bytes:
        oids = struct.pack(f"!H{len(self.parameter_oids)}I", len(self.parameter_oids), *self.parameter_oids)
        return framed(b"P", cstring(self.name) + cstring(self.text) + oids)

    @classmethod
    def decode(cls, body: bytes) -> Parse:
        middle = body.find(0)
        end = body.find(0, middle + 1)
        if middle < 0 or end < 0:
            raise errors.ProtocolViolation("invalid string in message")
        if len(body) < end + 3:
            raise too_short()
        count = body[end + 1] << 8 | body[end + 2]
        _exactly(body, end + 3 + 4 * count)
        oids = struct.unpack_from(f"!{count}I", body, end + 3) if count else ()
        return cls(utf8(body[:middle]), utf8(body[middle + 1 : end]), oids)


@dataclass(slots=True)
class Bind:
    """Makes a portal of a prepared statement. Format lists have no code (all text), one (for all) or one each; None is
    NULL.

    `body` and `formats_at` (where the parameters' format codes begin in it) are kept for the compiled point path,
    which reads the parameters itself; they say nothing that the other fields do not.
    """

    KIND: ClassVar[bytes] = b"B"
    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...] = ()
    body: bytes = field(default=b"", compare=False, repr=False)
    formats_at: int = field(default=0, compare=False, repr=False)

    def encode(self) -> bytes:
        parts = [
            cstring(self.portal),
            cstring(self.statement),
            _shorts(self.parameter_formats),
            struct.pack("!H", len(self.values)),
            *map(counted, self.values),
            _shorts(self.result_formats),
        ]
        return framed(b"B", b"".join(parts))

    @classmethod
    def decode(cls, body: bytes) -> Bind:
        middle = body.find(0)
        at = body.find(0, middle + 1) + 1
        if middle < 0 or at == 0:
            raise errors.ProtocolViolation("invalid string in message")
        portal, statement = utf8(body[:middle]), utf8(body[middle + 1 : at - 1])
        formats_at = at
        formats, at = _formats(body, at)
        if len(body) < at + 2:
            raise too_short()
        count = body[at] << 8 | body[at + 1]
        at += 2
        values: list[bytes | None] = []
        size, unpack = len(body), INT32.unpack_from
        if count * 4 > size - at:
            raise too_short()
        for _ in range(count):
            if at + 4 > size:
                raise too_short()
            length = unpack(body, at)[0]
            at += 4
            if length == -1:
                values.append(None)
                continue
            if length < 0 or length > size - at:
                raise too_short()
            values.append(body[at : at + length])
            at += length
        result_formats, at = _formats(body, at)
        _exactly(body, at)
        return cls(portal, statement, formats, tuple(values), result_formats, body, formats_at)


def _shorts(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"!H{len(values)}H", len(values), *values)


def _formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """A list of format codes at `at`; returns it and where it ends."""
    if len(body) < at + 2:
        raise too_short()
    count = body[at] << 8 | body[at + 1]
    at += 2
    if not count:
        return (), at
    end = at + 2 * count
    if end > len(body):
        raise too_short()
    codes = (body[at + 1],) if count == 1 and not body[at] else struct.unpack_from(f"!{count}H", body, at)
    for code in codes:
        if code > BINARY_FORMAT:
            raise errors.InvalidParameterValue(f"unsupported format code: {code}")
    return codes, end


def _exactly(body: bytes, end: int) -> None:
    if len(body) != end:
        raise too_short() if len(body) < end else errors.ProtocolViolation("invalid message format")


@dataclass(slots=True)
class Describe:
    """Asks what a statement ('S') or portal ('P') takes and gives; never executes it."""

    KIND: ClassVar[bytes] = b"D"
    what: str
    name: str

    def encode(self) -> bytes:
        return framed(b"D", self.what.encode() + cstring(self.name))

    @classmethod
    def decode(cls, body: bytes) -> Describe:
        return cls(*_what_and_name(body, "DESCRIBE"))


@dataclass(slots=True)
class Close:
    """Drops a statement ('S') or portal ('P'); an unknown one is no error."""

    KIND: ClassVar[bytes] = b"C"
    what: str
    name: str

    def encode(self) -> bytes:
        return framed(b"C", self.what.encode() + cstring(self.name))

    @classmethod
    def decode(cls, body: bytes) -> Close:
        return cls(*_what_and_name(body, "CLOSE"))


def _what_and_name(body: bytes, message: str) -> tuple[str, str]:
    if body == b"P\0":  # the unnamed portal: almost all there is
        return "P", ""
    reader = Reader(body)
    what, name = chr(reader.int8()), reader.string()
    reader.end()
    if what not in ("S", "P"):
        raise errors.ProtocolViolation(f"invalid {message} message subtype {ord(what)}")
    return what, name


@dataclass(slots=True)
class Execute:
    """Runs a portal; `max_rows` <= 0 is no limit."""

    KIND: ClassVar[bytes] = b"E"
    portal: str
    max_rows: int

    def encode(self) -> bytes:
        return framed(b"E", cstring(self.portal) + INT32.pack(self.max_rows))

    @classmethod
    def decode(cls, body: bytes) -> Execute:
        if body == b"\0\0\0\0\0":
            return cls("", 0)
        reader = Reader(body)
        message = cls(reader.string(), reader.int32())
        reader.end()
        return message


@dataclass(slots=True)
class Sync:
    """Ends a pipelined group: commits an implicit transaction, answers ReadyForQuery."""

    KIND: ClassVar[bytes] = b"S"

    def encode(self) -> bytes:
        return b"S\0\0\0\4"

    @classmethod
    def decode(cls, body: bytes) -> Sync:
        _exactly(body, 0)
        return cls()


@dataclass(slots=True)
class Flush:
    """Asks for what has been answered so far."""

    KIND: ClassVar[bytes] = b"H"

    def encode(self) -> bytes:
        return b"H\0\0\0\4"

    @classmethod
    def decode(cls, body: bytes) -> Flush:
        _exactly(body, 0)
        return cls()


@dataclass(slots=True)
class Terminate:
    KIND: ClassVar[bytes] = b"X"

    def encode(self) -> bytes:
        return b"X\0\0\0\4"

    @classmethod
    def decode(cls, body: bytes) -> Terminate:
        _exactly(body, 0)
        return cls()


@dataclass(slots=True)
class FunctionCall:
    """The deprecated fast path; refused, so its body stays as it came."""

    KIND: ClassVar[bytes] = b"F"
    body: bytes

    def encode(self) -> bytes:
        return framed(b"F", self.body)

    @classmethod
    def decode(cls, body: bytes) -> FunctionCall:
        return cls(body)


# --- COPY FROM STDIN ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class CopyData:
    """A piece of a copy stream, cut anywhere; the codec joins neighbours into one."""

    KIND: ClassVar[bytes] = b"d"
    data: bytes

    def encode(self) -> bytes:
        return framed(b"d", self.data)

    @classmethod
    def decode(cls, body: bytes) -> CopyData:
        return cls(body)


@dataclass(slots=True)
class CopyDone:
    KIND: ClassVar[bytes] = b"c"

    def encode(self) -> bytes:
        return b"c\0\0\0\4"

    @classmethod
    def decode(cls, body: bytes) -> CopyDone:
        _exactly(body, 0)
        return cls()


@dataclass(slots=True)
class CopyFail:
    """The client gives the copy up, and says why."""

    KIND: ClassVar[bytes] = b"f"
    reason: str

    def encode(self) -> bytes:
        return framed(b"f", cstring(self.reason))

    @classmethod
    def decode(cls, body: bytes) -> CopyFail:
        reader = Reader(body)
        message = cls(reader.string())
        reader.end()
        return message


@dataclass(slots=True)
class Broken:
    """Bytes that are no message. `fatal`: the stream cannot be followed any further; else only this body is wrong.

    `kind` is the type byte of the message that the body was to be.
    """

    KIND: ClassVar[bytes] = b""
    error: errors.Error
    fatal: bool
    kind: bytes = b""


Message: TypeAlias = (
    Startup | SslRequest | GssEncRequest | CancelRequest | Password | Query | Parse | Bind | Describe | Close | Execute
    | Sync | Flush | Terminate | FunctionCall | CopyData | CopyDone | CopyFail | Broken
)  # fmt: skip

TYPED = (
    Password, Query, Parse, Bind, Describe, Close, Execute, Sync, Flush, Terminate, FunctionCall, CopyData, CopyDone,
    CopyFail,
)  # fmt: skip
