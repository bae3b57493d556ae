"""Reading and writing the protocol's primitive values: int16, int32, zero-terminated strings, counted bytes.

A `Reader` walks one message body and is total: whatever the bytes, a read returns a value or raises
`ProtocolViolation` (text that is not UTF-8 raises 22021), never more, and allocates nothing from a length it has not
checked. Errors are worded as PostgreSQL's pqformat.c words them. It does not do: framing (see `codec`), meaning (see
`messages`, `replies`).
"""

from __future__ import annotations

import struct

from filestore import errors

INT16 = struct.Struct("!h")
INT32 = struct.Struct("!i")


def too_short() -> errors.ProtocolViolation:
    return errors.ProtocolViolation("insufficient data left in message")


def utf8(raw: bytes) -> str:
    """The text of bytes from a client; 22021 names the first bad byte as PostgreSQL does."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        shown = " ".join(f"0x{byte:02x}" for byte in raw[error.start : max(error.end, error.start + 1)])
        raise errors.CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {shown}') from None


class Reader:
    """A cursor over one message body."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self.body = body
        self.at = at

    def int8(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        at = self.at
        if at + 2 > len(self.body):
            raise too_short()
        self.at = at + 2
        return INT16.unpack_from(self.body, at)[0]  # type: ignore[no-any-return]

    def int32(self) -> int:
        at = self.at
        if at + 4 > len(self.body):
            raise too_short()
        self.at = at + 4
        return INT32.unpack_from(self.body, at)[0]  # type: ignore[no-any-return]

    def uint32(self) -> int:
        return self.int32() & 0xFFFFFFFF

    def count(self, unit: int) -> int:
        """An int16 count of things of at least `unit` bytes each, checked against what is left."""
        number = self.int16() & 0xFFFF
        if number * unit > len(self.body) - self.at:
            raise too_short()
        return number

    def string(self) -> str:
        """A zero-terminated string."""
        end = self.body.find(0, self.at)
        if end < 0:
            raise errors.ProtocolViolation("invalid string in message")
        raw = self.body[self.at : end]
        self.at = end + 1
        return utf8(raw)

    def take(self, nbytes: int) -> bytes:
        end = self.at + nbytes
        if nbytes < 0 or end > len(self.body):
            raise too_short()
        raw = self.body[self.at : end]
        self.at = end
        return raw

    def counted(self) -> bytes | None:
        """An int32 length, then that many bytes; -1 is NULL."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def rest(self) -> bytes:
        raw = self.body[self.at :]
        self.at = len(self.body)
        return raw

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.body):
            raise errors.ProtocolViolation("invalid message format")


def cstring(text: str) -> bytes:
    """A zero-terminated string; a zero inside would end it early, so it is dropped."""
    raw = text.encode()
    return raw + b"\0" if b"\0" not in raw else raw.replace(b"\0", b"") + b"\0"


def counted(value: bytes | None) -> bytes:
    """A value of a DataRow or a Bind: int32 length and bytes, -1 for NULL."""
    return b"\xff\xff\xff\xff" if value is None else INT32.pack(len(value)) + value


def framed(kind: bytes, body: bytes) -> bytes:
    """A message: type byte, int32 length that counts itself, body."""
    return kind + INT32.pack(len(body) + 4) + body
