"""The short way through the port: statements about one row from the bytes that were read to the bytes to write.

A driver that runs a statement sends (Parse,) Bind, (Describe,) Execute, Sync in one piece, always in the same bytes
but for the parameters. `PointAnswers.answer` recognises such a piece of a known statement, and has `Session.run_point`
answer a SELECT in one compiled call, and `Session.attempt` run what writes one row, without making messages and
portals of it; so with BEGIN and COMMIT, and with a Query whose shape is known. Whatever is not exactly that, has to
wait for others, or fails is left to the dialogue, which says the same bytes, only slower; nothing has happened then.

Source: PostgreSQL 15, 55.2.3 and 55.7. Thread rule: the loop's thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore import errors
from filestore.planning import literal_vectors
from filestore.query import statements as s
from filestore.query.lexer import normalise
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.encode import RowEncoder
from filestore.txn.drive import Steps
from filestore.types import INTEGER_KINDS

if TYPE_CHECKING:
    from filestore.server.pgwire.portal import WireStatement
    from filestore.session import Prepared, Session
    from filestore.storage.vector import Vector

_EXECUTE_SYNC: Final = b"E\0\0\0\x09\0\0\0\0\0" + b"S\0\0\0\x04"
_DESCRIBE: Final = b"D\0\0\0\x06P\0"
_TAIL: Final = _DESCRIBE + _EXECUTE_SYNC
_DESCRIBED_HEAD: Final = r.BIND_COMPLETE + r.NO_DATA
_BIND: Final = ord("B")
_PARSE: Final = ord("P")
_QUERY: Final = ord("Q")
_HEADER: Final = 5  # type and length

# The end of an answer: how many rows, and ReadyForQuery by transaction status.
_ENDS: Final = {
    (rows, status): r.CommandComplete(f"SELECT {rows}").encode() + r.ReadyForQuery(status).encode()
    for rows in (0, 1)
    for status in ("I", "T")
}
_READY: Final = {status: r.ReadyForQuery(status).encode() for status in ("I", "T", "E")}
_BEGAN: Final = r.CommandComplete("BEGIN").encode() + _READY["T"]
_COMMITTED: Final = r.CommandComplete("COMMIT").encode() + _READY["I"]
_PLAIN_BEGIN: Final = s.Begin(s.TransactionModes())
_PLAIN_COMMIT: Final = s.Commit()
# The texts of these that clients send as simple queries, in any case and with or without the semicolon.
_BLOCK_TEXTS: Final = {"BEGIN": _PLAIN_BEGIN, "COMMIT": _PLAIN_COMMIT, "END": _PLAIN_COMMIT}
_BLOCK_TEXT_MAX: Final = 7
# A Bind message from its parameter formats on: one integer of so many bytes in binary, results as text.
_ONE_INTEGER: Final = {2: struct.Struct(">hhhihh"), 4: struct.Struct(">hhhiih"), 8: struct.Struct(">hhhiqh")}
_TEXT_MAX: Final = 1024
_SHAPES_KEPT: Final = 256
_PARSES_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Ending:
    """An answer whose end is true once a commit is durable: `begun` may go out now, `ended` when `steps` are over."""

    begun: bytes
    steps: Steps[object]
    ended: bytes


class PointAnswers:
    """Statements about one row, of one connection. `statements` are the dialogue's, by name; `parsed_before` knows the
    unnamed ones that it has parsed.
    """

    def __init__(
        self,
        session: Session,
        lock: RLock,
        statements: dict[str, WireStatement],
        parsed_before: Callable[[m.Parse], WireStatement | None],
    ) -> None:
        self._session = session
        self._lock: Any = lock
        self._statements = statements
        self._parsed_before = parsed_before
        self._parses: dict[bytes, m.Parse] = {}
        self._heads: dict[bytes, tuple[WireStatement, bytes]] = {}
        self._ends: dict[tuple[str, str], bytes] = {}
        self._descriptions: dict[int, tuple[Prepared, bytes]] = {}

    def answer(self, data: bytes) -> bytes | Ending | None:
        """The whole answer to what was read, None when the dialogue has to give it."""
        kind = data[0]
        return self._bound(data) if kind == _BIND else self._queried(data) if kind == _QUERY else self._parsed(data)

    def _parsed(self, data: bytes) -> bytes | Ending | None:
        """The answer to a piece that parses an unnamed statement again first."""
        end = 1 + int.from_bytes(data[1:_HEADER], "big")
        if data[_HEADER] != 0 or end >= len(data) or not data.endswith(_EXECUTE_SYNC):
            return None
        head = data[:end]
        message = self._parses.get(head)
        if message is None:
            if len(self._parses) >= _PARSES_KEPT:
                self._parses.clear()
            try:
                message = self._parses[head] = m.Parse.decode(data[_HEADER:end])
            except errors.Error:
                return None
        statement = self._parsed_before(message)
        if statement is None:
            return None
        self._statements[""] = statement
        answer = self._bound(data[end:])
        if isinstance(answer, Ending):
            return Ending(r.PARSE_COMPLETE + answer.begun, answer.steps, answer.ended)
        return None if answer is None else r.PARSE_COMPLETE + answer

    def _bound(self, data: bytes) -> bytes | Ending | None:
        """The answer to a piece that runs a prepared statement."""
        if data[0] != _BIND or data[_HEADER] != 0 or not data.endswith(_EXECUTE_SYNC):
            return None
        end = 1 + int.from_bytes(data[1:_HEADER], "big")
        described = end + len(_TAIL) == len(data) and data.endswith(_TAIL)
        if not described and end + len(_EXECUTE_SYNC) != len(data):
            return None
        name_end = data.find(0, _HEADER + 1)
        name = data[_HEADER + 1 : name_end].decode(errors="replace")
        statement = self._statements.get(name)
        if statement is None or (name and self._session.prepared.get(name) is not statement.prepared):
            return None  # DEALLOCATE has dropped it
        formats_at = name_end + 1
        if statement.prepared.point is None:
            return self._written(statement, data, formats_at, described)
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

    # --- what writes -------------------------------------------------------------------------------------------------

    def _written(self, statement: WireStatement, data: bytes, at: int, described: bool) -> bytes | Ending | None:
        """The answer to a statement that writes one row, or to a plain BEGIN or COMMIT."""
        session, prepared = self._session, statement.prepared
        if statement.columns is not None or statement.stale:
            return None
        head = _DESCRIBED_HEAD if described else r.BIND_COMPLETE
        if prepared.statement is not None and prepared.statement.utility is not None:
            return self._block(prepared.statement.utility, head)
        if session.status == "E":
            return None
        bound = _values(data, at)
        if bound is None:
            return None
        codes, values = bound
        try:
            vectors = statement.parameters.vectors(values, codes, session.settings, ("", statement.name))
        except errors.Error:
            return None  # the dialogue meets it again, and tells
        return self._attempted(prepared, vectors, head)

    def _block(self, command: object, head: bytes) -> bytes | Ending | None:
        """The answer to BEGIN outside a block, or to COMMIT in one that has not failed."""
        session = self._session
        if command == _PLAIN_BEGIN:
            if session.status != "I" or session.transaction is not None:
                return None
            with self._lock:
                try:
                    session.begin_block()
                except errors.Error:
                    return None
            return head + _BEGAN
        if command == _PLAIN_COMMIT and session.status == "T":
            return Ending(head, session.commit_block(), _COMMITTED)
        return None

    def _attempted(self, prepared: Prepared, parameters: Sequence[Vector], head: bytes) -> bytes | Ending | None:
        session = self._session
        with self._lock:
            try:
                result = session.attempt(prepared, parameters)
            except errors.Error:
                return None
        if result is None:
            return None
        status = session.status
        end = self._ends.get((result.tag, status))
        if end is None:
            end = self._ends[result.tag, status] = r.CommandComplete(result.tag).encode() + _READY[status]
        return head + end if status == "T" else Ending(head, session.finish(), end)

    # --- simple queries ----------------------------------------------------------------------------------------------

    def _queried(self, data: bytes) -> bytes | Ending | None:
        """The answer to a piece that is one Query."""
        last = len(data) - 1
        if last > _TEXT_MAX or last != int.from_bytes(data[1:_HEADER], "big") or data.find(0, _HEADER) != last:
            return None
        try:
            answer = self._simple(data[_HEADER:last].decode())
        except UnicodeDecodeError:
            return None
        if answer is not None:
            self._statements.pop("", None)
        return answer

    def _simple(self, text: str) -> bytes | Ending | None:
        session = self._session
        if len(text) <= _BLOCK_TEXT_MAX:
            command = _BLOCK_TEXTS.get(text.rstrip(";").upper())
            return None if command is None else self._block(command, b"")
        shape, literals = normalise(text)
        with self._lock:
            prepared = session.planned_before(shape, literals)
        if prepared is None:
            return None
        planned, status = prepared.planned, session.status
        if planned is None or status == "E":
            return None
        if planned.point is not None:
            return self._simple_point(prepared, literals, status)
        if planned.write is None or prepared.columns is not None:
            return None
        try:
            vectors = literal_vectors(literals, prepared.parameters, session.settings)
        except errors.Error:
            return None
        return self._attempted(prepared, vectors, b"")

    def _simple_point(self, prepared: Prepared, literals: Sequence[tuple[str, str]], status: str) -> bytes | None:
        point, parameter = prepared.point, prepared.parameters[0]
        text = literals[0][1]
        if (
            point is None
            or len(literals) != 1
            or parameter.kind not in INTEGER_KINDS
            or not _fits(text, parameter.width)
        ):
            return None
        request = _ONE_INTEGER[parameter.width].pack(1, 1, 1, parameter.width, int(text), 0)
        with self._lock:
            stop = self._session.run_point(prepared, np.frombuffer(request, np.uint8), 0, 0)
            if stop < 0:
                return None
            row = point.out[:stop].tobytes()
        found = self._descriptions.get(id(prepared))
        if found is None:
            if len(self._descriptions) >= _SHAPES_KEPT:
                self._descriptions.clear()
            found = prepared, RowEncoder(prepared.columns or ()).description
            self._descriptions[id(prepared)] = found
        return b"".join((found[1], row, _ENDS[stop > 0, status]))


def _fits(text: str, width: int) -> bool:
    """Whether an integer literal surely is one of `width` bytes."""
    return text.isdecimal() and text.isascii() and len(text) < (5 if width == 2 else 10 if width == 4 else 19)


def _values(data: bytes, at: int) -> tuple[tuple[int, ...], list[bytes | None]] | None:
    """(parameter formats, values) of a Bind from its parameter formats on; None for one that is cut short."""
    count = data[at] << 8 | data[at + 1]
    at += 2
    codes = tuple(data[i] << 8 | data[i + 1] for i in range(at, at + 2 * count, 2))
    at += 2 * count
    values: list[bytes | None] = []
    for _ in range(data[at] << 8 | data[at + 1]):
        length = int.from_bytes(data[at + 2 : at + 6], "big", signed=True)
        if length < 0:
            values.append(None)
            length = 0
        else:
            values.append(data[at + 6 : at + 6 + length])
        at += 4 + length
        if at + 2 > len(data):
            return None
    return codes, values
