"""The compiled way through the port: a prepared point SELECT from the bytes that were read to the bytes to write.

A driver that runs a prepared statement sends Bind, (Describe,) Execute, Sync in one piece, always in the same bytes
but for the parameter. `PointAnswers.answer` recognises such a piece and has `Session.run_point` answer it in one
compiled call, without making messages, portals or vectors of it. Whatever is not exactly that, or not answered there,
is left to the dialogue, which says the same bytes, only slower.

Source: PostgreSQL 15, 55.2.3 and 55.7. Thread rule: the loop's thread.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore.server.pgwire import replies as r

if TYPE_CHECKING:
    from filestore.server.pgwire.portal import WireStatement
    from filestore.session import Session

_EXECUTE_SYNC: Final = b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"
_DESCRIBE: Final = b"D\0\0\0\x06P\0"
_TAIL: Final = _DESCRIBE + _EXECUTE_SYNC
_BIND: Final = ord("B")
_HEADER: Final = 5  # type and length

# The end of an answer: how many rows, and ReadyForQuery by transaction status.
_ENDS: Final = {
    (rows, status): r.CommandComplete(f"SELECT {rows}").encode() + r.ReadyForQuery(status).encode()
    for rows in (0, 1)
    for status in ("I", "T")
}


class PointAnswers:
    """Point SELECTs of one connection. `statements` are the dialogue's, by name."""

    def __init__(self, session: Session, lock: RLock, statements: dict[str, WireStatement]) -> None:
        self._session = session
        self._lock: Any = lock
        self._statements = statements
        self._heads: dict[bytes, tuple[WireStatement, bytes]] = {}

    def answer(self, data: bytes) -> bytes | None:
        """The whole answer to what was read, None when the dialogue has to give it."""
        if data[0] != _BIND or data[_HEADER] != 0 or not data.endswith(_EXECUTE_SYNC):
            return None
        end = 1 + int.from_bytes(data[1:_HEADER], "big")
        described = end + len(_TAIL) == len(data) and data.endswith(_TAIL)
        if not described and end + len(_EXECUTE_SYNC) != len(data):
            return None
        name_end = data.find(0, _HEADER + 1)
        name = data[_HEADER + 1 : name_end].decode(errors="replace")
        statement = self._statements.get(name)
        if statement is None or statement.prepared.point is None:
            return None
        if name and self._session.prepared.get(name) is not statement.prepared:
            return None  # DEALLOCATE has dropped it
        formats_at = name_end + 1
        # What decides about the head: the statement, the result formats (behind the only parameter), and whether it is
        # asked for.
        at = formats_at + 2 + 2 * (data[formats_at] << 8 | data[formats_at + 1])
        if data[at : at + 2] != b"\0\1":
            return None
        at += 6 + int.from_bytes(data[at + 2 : at + 6], "big")
        key = data[_HEADER + 1 : name_end] + data[at:end] + (b"D" if described else b"E")
        found = self._heads.get(key)
        if found is None or found[0] is not statement:
            found = self._head(statement, data[at:end], described)
            if found is None:
                return None
            self._heads[key] = found
        statement, head = found
        session = self._session
        with self._lock:
            prepared = statement.prepared
            point = prepared.point
            stop = session.run_point(prepared, np.frombuffer(data, np.uint8), formats_at, 0)
            if stop < 0 or point is None:
                return None
            status = session.status
        return b"".join((head, point.out[:stop].tobytes(), _ENDS[stop > 0, status]))

    def _head(self, statement: WireStatement, formats: bytes, described: bool) -> tuple[WireStatement, bytes] | None:
        """BindComplete and, if it is asked for, the row description in the formats asked for."""
        if statement.stale:
            return None
        codes = tuple(formats[i] << 8 | formats[i + 1] for i in range(2, len(formats) - 1, 2))
        if len(formats) < 2 or len(codes) != (formats[0] << 8 | formats[1]):
            return None
        encoder = statement.encoder(codes)
        if encoder is None:
            return None
        return statement, r.BIND_COMPLETE + (encoder.description if described else b"")
