"""Bytes of a connection to messages: framing, nothing else. Sans-IO: `feed` takes what arrived and returns what is
complete.

The first messages have no type byte; `Codec` reads one of them at a time, because what follows an SSLRequest is TLS
and what follows a start-up is typed. Lengths are checked before anything is buffered for them: 10,000 bytes for a
start-up packet and for every message that has no business being large, LARGE for the rest, as PostgreSQL has it
(RELIABILITY S5).

Neighbouring CopyData messages come out as one, joined by a kernel: pgbench sends one for each row.

Whatever cannot be read becomes a `Broken` message in its place, so that messages before it are still served; after a
fatal one nothing more comes out. Limits are PostgreSQL's (pqcomm.h: MAX_STARTUP_PACKET_LENGTH, PQ_SMALL_MESSAGE_LIMIT,
PQ_LARGE_MESSAGE_LIMIT).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from filestore import errors
from filestore.server.pgwire import messages as m
from filestore.server.pgwire.copy_kernels import join_copy_data

STARTUP_BYTES_MAX = 10_000
SMALL_BYTES_MAX = 10_000
LARGE_BYTES_MAX = 0x3FFFFFFF

# Runs of CopyData shorter than this are cheaper to join one by one than by a call into compiled code.
JOIN_FROM_BYTES = 512

_HEADER = struct.Struct("!cI")
_LENGTH = struct.Struct("!I")
_LARGE = frozenset((b"Q", b"P", b"B", b"d", b"F", b"p"))
_LIMITS = {cls.KIND: LARGE_BYTES_MAX if cls.KIND in _LARGE else SMALL_BYTES_MAX for cls in m.TYPED} | {b"p": 65_536}
_DECODERS: dict[bytes, Callable[[bytes], m.Message]] = {cls.KIND: cls.decode for cls in m.TYPED}
_CONSTANT: dict[bytes, m.Message] = {b"S": m.Sync(), b"H": m.Flush(), b"c": m.CopyDone(), b"X": m.Terminate()}


class Codec:
    """The reading side of one connection. Thread rule: one thread at a time."""

    __slots__ = ("_buffer", "_dead", "_needed", "started")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""  # the beginning of a message that has not arrived in full
        self._needed = 0  # how long `_buffer` has to be before it is worth looking at
        self._dead = False
        self.started = False

    @property
    def buffered(self) -> int:
        """Bytes that arrived and have not come out as a message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[m.Message]:
        """Takes bytes and returns the messages that are complete with them."""
        if self._buffer:
            data = self._joined(data)
            if not data:
                return []
        if not self.started:
            return self._first(data)
        return self._typed(data)

    def _joined(self, data: bytes) -> bytes:
        # A bytearray takes a large message in pieces without copying what is there each time.
        buffer = self._buffer if isinstance(self._buffer, bytearray) else bytearray(self._buffer)
        buffer += data
        if len(buffer) < self._needed:
            self._buffer = buffer
            return b""
        self._buffer = b""
        return bytes(buffer)

    def _keep(self, data: bytes, at: int, needed: int) -> None:
        self._buffer = data[at:]
        self._needed = needed

    def _fatal(self, text: str, kind: bytes = b"") -> m.Message:
        self._dead = True
        self._buffer = b""
        return m.Broken(errors.ProtocolViolation(text), True, kind)

    def _first(self, data: bytes) -> list[m.Message]:
        if self._dead or not data:
            return []
        if len(data) < 4:
            self._keep(data, 0, 4)
            return []
        length = _LENGTH.unpack_from(data, 0)[0]
        if not 8 <= length <= STARTUP_BYTES_MAX:
            return [self._fatal("invalid length of startup packet")]
        if len(data) < length:
            self._keep(data, 0, length)
            return []
        try:
            message: m.Message = m.decode_first(data[4:length])
        except errors.Error as error:
            self._dead = True
            return [m.Broken(error, True)]
        self._keep(data, length, 0)
        if isinstance(message, m.Startup):
            self.started = True
            return [message, *self.feed(b"")]
        return [message]

    def _typed(self, data: bytes) -> list[m.Message]:
        found: list[m.Message] = []
        at, size = 0, len(data)
        unpack = _HEADER.unpack_from
        while at + 5 <= size:
            if self._dead:
                return found
            kind, length = unpack(data, at)
            end = at + 1 + length
            if length < 4 or length > _LIMITS.get(kind, 0):
                known = kind in _LIMITS
                found.append(
                    self._fatal("invalid message length" if known else f"invalid frontend message type {kind[0]}", kind)
                )
                return found
            if end > size:
                self._keep(data, at, end - at)
                return found
            if length == 4 and kind in _CONSTANT:
                found.append(_CONSTANT[kind])
            elif kind == b"d":
                end = self._copy_data(data, at, end, found)
            else:
                try:
                    found.append(_DECODERS[kind](data[at + 5 : end]))
                except errors.Error as error:
                    found.append(m.Broken(error, False, kind))
            at = end
        if at < size:
            self._keep(data, at, 5)
        return found

    @staticmethod
    def _copy_data(data: bytes, at: int, end: int, found: list[m.Message]) -> int:
        """Adds the run of CopyData that begins at `at` as one message; returns where the run ends."""
        if data[end : end + 1] == b"d" and len(data) - at >= JOIN_FROM_BYTES:
            joined, end = join_copy_data(data, at)
            found.append(m.CopyData(joined))
        else:
            found.append(m.CopyData(data[at + 5 : end]))
        return end
