"""The compiled way for the driver: a prepared `SELECT ... WHERE integer_key = ?` answered by one kernel call,
without a plan being run.

The kernel (`query/point.py`) speaks the PostgreSQL protocol's bytes: it takes the tail of a Bind message and writes
a DataRow. Here the first is packed from a Python int and the second unpacked into a tuple, which costs less than a
batch of one row does.

Thread rule: `answer` takes the engine lock, since the kernel walks the index and its output is shared.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from filestore.types import INTEGER_KINDS, Kind

if TYPE_CHECKING:
    from filestore.session import Prepared, Session

Row = tuple[Any, ...]

# One parameter, in binary, of so many bytes; all results as text.
_REQUESTS: Final = {2: struct.Struct(">hhhihh"), 4: struct.Struct(">hhhiih"), 8: struct.Struct(">hhhiqh")}
_LENGTH: Final = struct.Struct(">i")
_ROW_HEAD: Final = 7  # 'D', length, number of columns


def _decoder(kind: Kind) -> Callable[[bytes], Any]:
    if kind in INTEGER_KINDS:
        return int
    if kind is Kind.BOOL:
        return lambda text: text == b"t"
    if kind is Kind.NUMERIC:
        return lambda text: Decimal(text.decode())
    return bytes.decode


class Point:
    """The compiled form of one prepared statement. `answer` returns its rows, None when the general way must be
    gone.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self._width = prepared.parameters[0].width
        self._request = _REQUESTS[self._width]
        self._decoders = [_decoder(column.type.kind) for column in prepared.columns or ()]

    def answer(self, session: Session, values: Sequence[Any]) -> list[Row] | None:
        """The rows, at most one."""
        value, point = values[0], self.prepared.point
        if value.__class__ is not int or point is None:
            return None
        width = self._width
        request = np.frombuffer(self._request.pack(1, 1, 1, width, value, 0), np.uint8)
        with session.database.lock:
            end = session.run_point(self.prepared, request, 0, 0)
            if end < 0:
                return None
            raw = point.out[:end].tobytes()
        return [self._unpacked(raw)] if raw else []

    def _unpacked(self, raw: bytes) -> Row:
        at = _ROW_HEAD
        row: list[Any] = []
        for decode in self._decoders:
            (length,) = _LENGTH.unpack_from(raw, at)
            at += 4
            if length < 0:
                row.append(None)
            else:
                row.append(decode(raw[at : at + length]))
                at += length
        return tuple(row)


def point_of(prepared: Prepared) -> Point | None:
    """The compiled form of a prepared statement, None when it has none."""
    if prepared.point is None or len(prepared.parameters) != 1 or prepared.parameters[0].kind not in INTEGER_KINDS:
        return None
    return Point(prepared)
