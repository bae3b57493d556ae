"""The data of a COPY on its way through a connection: to the statement that loads it, and from the one that reads.

`CopyStream` lies between the messages of the client and the statement that waits for them; `next_piece` cuts what a
statement writes into CopyData messages of a row each. What the data means is COPY's business (`query/copy`).

Source: PostgreSQL 15, 55.2.6. Thread rule: the loop's thread; `next_piece` runs on workers.
"""

from __future__ import annotations

from collections import deque

from filestore import errors
from filestore.result import CopyOut
from filestore.server.pgwire import messages as m
from filestore.server.pgwire.copy_kernels import BINARY_HEADER_BYTES, copy_data_rows
from filestore.storage.wait import Wait
from filestore.txn.drive import Steps


class CopyStream:
    """CopyData on its way to the statement that waits for it. `arrived` is finished when there is something to take."""

    def __init__(self) -> None:
        self.items: deque[m.Message] = deque()
        self.nbytes = 0
        self.ended = False
        self.arrived = Wait()

    def put(self, message: m.Message) -> None:
        self.items.append(message)
        if isinstance(message, m.CopyData):
            self.nbytes += len(message.data)
        else:
            self.ended = True  # what comes now is no longer the copy's
        self.arrived.finish()

    def take(self) -> Steps[m.Message]:
        """The next message of the stream."""
        while not self.items:
            self.arrived = Wait()
            yield self.arrived
        message = self.items.popleft()
        if isinstance(message, m.CopyData):
            self.nbytes -= len(message.data)
        return message


def ended_by(message: m.Message) -> errors.Error:
    """Why a COPY ends that got something else than data."""
    if isinstance(message, m.CopyFail):
        return errors.QueryCanceled(f"COPY from stdin failed: {message.reason}")
    if isinstance(message, m.Broken):
        return message.error
    return errors.ProtocolViolation(f"unexpected message type 0x{message.KIND[0]:02X} during COPY from stdin")


def next_piece(copy: CopyOut) -> tuple[bytes, int] | None:
    """The next piece of COPY output as CopyData messages, and its rows; None after the last."""
    piece, rows = next(copy.chunks, (b"", 0))
    while copy.binary and len(piece) == BINARY_HEADER_BYTES:
        following, more = next(copy.chunks, (b"", 0))
        if not following:
            break
        piece, rows = piece + following, rows + more
    return (copy_data_rows(piece, copy.binary, copy.quote, copy.escape), rows) if piece else None
