"""What the server says: one plain value per message of the backend, with `encode` of the whole and `decode` of a body.

Messages that never change are kept as bytes beside their values (`PARSE_COMPLETE`); rows are made by kernels
(`query/render.data_rows`), `DataRow` is their plain twin for tests and traces.

Source: PostgreSQL 15, 55.7 "Message Formats" and 55.8 "Error and Notice Message Fields",
https://www.postgresql.org/docs/15/protocol-message-formats.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from filestore import errors
from filestore.server.pgwire.messages import CopyData, CopyDone
from filestore.server.pgwire.wire import INT32, Reader, counted, cstring, framed

AUTH_OK, AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL = 0, 10, 11, 12

_FIELD_TAIL = struct.Struct("!IhIhih")


@dataclass(slots=True)
class Authentication:
    """'R': 0 is ok; 10 names SASL mechanisms, 11 and 12 carry SASL data."""

    KIND: ClassVar[bytes] = b"R"
    code: int
    data: bytes = b""

    def encode(self) -> bytes:
        return framed(b"R", INT32.pack(self.code) + self.data)

    @classmethod
    def decode(cls, body: bytes) -> Authentication:
        reader = Reader(body)
        return cls(reader.int32(), reader.rest())


def sasl_mechanisms(names: tuple[str, ...]) -> Authentication:
    return Authentication(AUTH_SASL, b"".join(map(cstring, names)) + b"\0")


@dataclass(slots=True)
class ParameterStatus:
    """The value of a setting that clients watch: at start, and again when it changes."""

    KIND: ClassVar[bytes] = b"S"
    name: str
    value: str

    def encode(self) -> bytes:
        return framed(b"S", cstring(self.name) + cstring(self.value))

    @classmethod
    def decode(cls, body: bytes) -> ParameterStatus:
        reader = Reader(body)
        message = cls(reader.string(), reader.string())
        reader.end()
        return message


@dataclass(slots=True)
class BackendKeyData:
    """What a CancelRequest for this connection has to carry."""

    KIND: ClassVar[bytes] = b"K"
    process_id: int
    secret: bytes

    def encode(self) -> bytes:
        return framed(b"K", INT32.pack(self.process_id) + self.secret)

    @classmethod
    def decode(cls, body: bytes) -> BackendKeyData:
        reader = Reader(body)
        return cls(reader.int32(), reader.rest())


@dataclass(slots=True)
class NegotiateProtocolVersion:
    """'v': the newest minor version served and the `_pq_.` options not understood; the start goes on."""

    KIND: ClassVar[bytes] = b"v"
    minor: int
    options: tuple[str, ...]

    def encode(self) -> bytes:
        names = b"".join(map(cstring, self.options))
        return framed(b"v", INT32.pack(self.minor) + INT32.pack(len(self.options)) + names)

    @classmethod
    def decode(cls, body: bytes) -> NegotiateProtocolVersion:
        reader = Reader(body)
        minor, count = reader.int32(), reader.int32()
        if not 0 <= count <= len(body):
            raise errors.ProtocolViolation("invalid message format")
        message = cls(minor, tuple(reader.string() for _ in range(count)))
        reader.end()
        return message


@dataclass(slots=True)
class ReadyForQuery:
    """The session waits for the next group; status I, T or E says whether it is in a transaction block."""

    KIND: ClassVar[bytes] = b"Z"
    status: str

    def encode(self) -> bytes:
        return framed(b"Z", self.status.encode())

    @classmethod
    def decode(cls, body: bytes) -> ReadyForQuery:
        reader = Reader(body)
        message = cls(chr(reader.int8()))
        reader.end()
        return message


@dataclass(slots=True)
class Field:
    """A column of a RowDescription; `size` is typlen, `modifier` atttypmod."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    size: int
    modifier: int
    format: int = 0


@dataclass(slots=True)
class RowDescription:
    KIND: ClassVar[bytes] = b"T"
    fields: tuple[Field, ...]

    def encode(self) -> bytes:
        parts = [struct.pack("!H", len(self.fields))]
        for f in self.fields:
            tail = _FIELD_TAIL.pack(f.table_oid, f.attnum, f.type_oid, f.size, f.modifier, f.format)
            parts += (cstring(f.name), tail)
        return framed(b"T", b"".join(parts))

    @classmethod
    def decode(cls, body: bytes) -> RowDescription:
        reader = Reader(body)
        fields = []
        for _ in range(reader.count(19)):
            name, table_oid = reader.string(), reader.uint32()
            attnum, type_oid, size = reader.int16(), reader.uint32(), reader.int16()
            fields.append(Field(name, table_oid, attnum, type_oid, size, reader.int32(), reader.int16()))
        reader.end()
        return cls(tuple(fields))


@dataclass(slots=True)
class ParameterDescription:
    KIND: ClassVar[bytes] = b"t"
    oids: tuple[int, ...]

    def encode(self) -> bytes:
        return framed(b"t", struct.pack(f"!H{len(self.oids)}I", len(self.oids), *self.oids))

    @classmethod
    def decode(cls, body: bytes) -> ParameterDescription:
        reader = Reader(body)
        message = cls(tuple(reader.uint32() for _ in range(reader.count(4))))
        reader.end()
        return message


@dataclass(slots=True)
class DataRow:
    KIND: ClassVar[bytes] = b"D"
    values: tuple[bytes | None, ...]

    def encode(self) -> bytes:
        return framed(b"D", struct.pack("!H", len(self.values)) + b"".join(map(counted, self.values)))

    @classmethod
    def decode(cls, body: bytes) -> DataRow:
        reader = Reader(body)
        message = cls(tuple(reader.counted() for _ in range(reader.count(4))))
        reader.end()
        return message


@dataclass(slots=True)
class CommandComplete:
    KIND: ClassVar[bytes] = b"C"
    tag: str

    def encode(self) -> bytes:
        return framed(b"C", cstring(self.tag))

    @classmethod
    def decode(cls, body: bytes) -> CommandComplete:
        reader = Reader(body)
        message = cls(reader.string())
        reader.end()
        return message


@dataclass(slots=True)
class ErrorResponse:
    """Fields by their letters (55.8); S, V, C and M are always there."""

    KIND: ClassVar[bytes] = b"E"
    fields: dict[str, str]

    def encode(self) -> bytes:
        return framed(self.KIND, b"".join(k.encode() + cstring(v) for k, v in self.fields.items()) + b"\0")

    @classmethod
    def decode(cls, body: bytes) -> ErrorResponse:
        reader = Reader(body)
        fields: dict[str, str] = {}
        while code := reader.int8():
            fields[chr(code)] = reader.string()
        reader.end()
        return cls(fields)


@dataclass(slots=True)
class NoticeResponse(ErrorResponse):
    KIND: ClassVar[bytes] = b"N"


@dataclass(slots=True)
class CopyInResponse:
    """The client may send CopyData: the overall format and each column's."""

    KIND: ClassVar[bytes] = b"G"
    format: int
    column_formats: tuple[int, ...]

    def encode(self) -> bytes:
        count = len(self.column_formats)
        return framed(self.KIND, struct.pack(f"!BH{count}H", self.format, count, *self.column_formats))

    @classmethod
    def decode(cls, body: bytes) -> CopyInResponse:
        reader = Reader(body)
        message = cls(reader.int8(), tuple(reader.int16() for _ in range(reader.count(2))))
        reader.end()
        return message


@dataclass(slots=True)
class CopyOutResponse(CopyInResponse):
    """CopyData follows."""

    KIND: ClassVar[bytes] = b"H"


@dataclass(slots=True)
class Done:
    """A message without a body: what it says is its type byte."""

    KIND: ClassVar[bytes] = b""
    kind: bytes

    def encode(self) -> bytes:
        return self.kind + b"\0\0\0\4"


NAMES_OF_DONE = {
    b"1": "ParseComplete",
    b"2": "BindComplete",
    b"3": "CloseComplete",
    b"n": "NoData",
    b"I": "EmptyQueryResponse",
    b"s": "PortalSuspended",
}

PARSE_COMPLETE = Done(b"1").encode()
BIND_COMPLETE = Done(b"2").encode()
CLOSE_COMPLETE = Done(b"3").encode()
NO_DATA = Done(b"n").encode()
EMPTY_QUERY = Done(b"I").encode()
PORTAL_SUSPENDED = Done(b"s").encode()
COPY_DONE = CopyDone().encode()
READY = {status: ReadyForQuery(status).encode() for status in "ITE"}

Reply: TypeAlias = (
    Authentication | ParameterStatus | BackendKeyData | NegotiateProtocolVersion | ReadyForQuery | RowDescription
    | ParameterDescription | DataRow | CommandComplete | ErrorResponse | NoticeResponse | CopyInResponse
    | CopyOutResponse | CopyData | CopyDone | Done
)  # fmt: skip

TYPED = (
    Authentication, ParameterStatus, BackendKeyData, NegotiateProtocolVersion, ReadyForQuery, RowDescription,
    ParameterDescription, DataRow, CommandComplete, ErrorResponse, NoticeResponse, CopyInResponse, CopyOutResponse,
    CopyData, CopyDone,
)  # fmt: skip

_BY_KIND = {cls.KIND: cls for cls in TYPED}


def decode_reply(kind: bytes, body: bytes) -> Reply:
    """The value of one framed reply. Errors: ProtocolViolation for an unknown type or a bad body."""
    if kind in NAMES_OF_DONE:
        if body:
            raise errors.ProtocolViolation("invalid message format")
        return Done(kind)
    cls = _BY_KIND.get(kind)
    if cls is None:
        raise errors.ProtocolViolation(f"invalid backend message type {kind[0]}")
    return cls.decode(body)


# --- errors ----------------------------------------------------------------------------------------------------------

_FIELDS = (
    ("D", "detail"), ("H", "hint"), ("P", "position"), ("W", "context"), ("s", "schema"), ("t", "table"),
    ("c", "column"), ("d", "datatype"), ("n", "constraint"),
)  # fmt: skip


def error_response(error: errors.Error, severity: str = "ERROR") -> ErrorResponse:
    """The fields of an error as PostgreSQL sends them.

    F, L and R, which PostgreSQL fills with its source's file, line and routine, name the class that stands for the
    error.
    """
    if error.severity != "ERROR":
        severity = error.severity
    fields = {"S": severity, "V": severity, "C": error.sqlstate, "M": error.message}
    for letter, name in _FIELDS:
        value = getattr(error, name)
        if value is not None:
            fields[letter] = str(value)
    fields |= {"F": "errors.py", "L": "1", "R": type(error).__name__}
    return ErrorResponse(fields)


def notice_response(severity: str, sqlstate: str, message: str) -> NoticeResponse:
    return NoticeResponse({"S": severity, "V": severity, "C": sqlstate, "M": message})
