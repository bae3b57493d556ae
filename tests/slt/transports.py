"""The doors through which SQL logic tests run: a session in this process, libpq's simple protocol, its extended one.

`Extended` also asks each query for binary results and compares their values with the text ones, by psycopg's
loaders, so that a wrong binary form is found without a second set of answers. `Wire` also speaks to PostgreSQL: it
is the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from filestore import errors
from filestore.database import Database
from filestore.query.render import text
from filestore.result import CopyOut
from filestore.storage.vector import Batch
from filestore.txn.drive import drive

Row = list[str | None]
REPEATABLE = ("SELECT", "VALUES", "WITH", "TABLE", "(SELECT")


@dataclass
class Failure:
    """An error as every door tells it."""

    sqlstate: str
    message: str


@dataclass
class Answer:
    """Rows as text, None for NULL; or the error. `data` is what COPY TO sent, `types` the columns' oids where known."""

    rows: list[Row] = field(default_factory=list)
    error: Failure | None = None
    columns: int = 0
    data: bytes = b""
    tag: str = ""
    types: list[int] = field(default_factory=list)


class Transport(Protocol):
    """A way to a store: runs a text and answers with the last statement's rows. `feed` is COPY FROM STDIN's data."""

    def run(self, sql: str, feed: bytes | None = None) -> Answer: ...

    def close(self) -> None: ...


class Embedded:
    """Through a session in this process."""

    def __init__(self, database: Database) -> None:
        self.session = database.session()

    def run(self, sql: str, feed: bytes | None = None) -> Answer:
        session = self.session
        lock, poll = session.database.lock, session.poll
        answer = Answer()
        try:
            for statement in session.parse(sql):
                result = drive(session.execute(statement), lock, poll)
                try:
                    if result.copy_in is not None:
                        result.copy_in.feed(feed or b"")
                        result = drive(session.finish_copy(result.copy_in), lock, poll)
                    answer = Answer(columns=len(result.columns or ()), types=[c.type.oid for c in result.columns or ()])
                    answer.rows = [row for batch in result.batches for row in text_rows(batch, session.settings)]
                    answer.data = _copied(result.copy_out)
                    answer.tag = result.command_tag(len(answer.rows))
                except errors.Error:
                    session.fail()
                    raise
            drive(session.finish(), lock, poll)
        except errors.Error as error:
            return Answer(error=Failure(error.sqlstate, error.message))
        except Exception as error:  # noqa: BLE001 - a bug is an answer as well, and always a wrong one
            session.fail()
            return Answer(error=Failure("XX000", f"{type(error).__name__}: {error}"))
        return answer

    def close(self) -> None:
        self.session.close()


def _copied(copy: CopyOut | None) -> bytes:
    return b"" if copy is None else b"".join(chunk for chunk, _ in copy.chunks)


def text_rows(batch: Batch, settings: Any) -> list[Row]:
    """The rows of a batch in PostgreSQL's text form."""
    shown = []
    for column in batch.columns:
        encoded = text(column, settings)
        data, offsets = encoded.data.tobytes(), encoded.offsets.tolist()
        valid = [True] * batch.length if column.valid is None else column.valid.tolist()
        shown.append([data[offsets[i] : offsets[i + 1]].decode() if valid[i] else None for i in range(batch.length)])
    return [list(row) for row in zip(*shown, strict=True)] if shown else [[] for _ in range(batch.length)]


class Wire:
    """Through a PostgreSQL port, by libpq's simple protocol."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.pgconn = self.connection.pgconn

    def run(self, sql: str, feed: bytes | None = None) -> Answer:
        self.pgconn.send_query(sql.encode())
        return self._answers(feed)

    def _answers(self, feed: bytes | None) -> Answer:
        """The last result, or the first error."""
        answer = Answer()
        while (result := self.pgconn.get_result()) is not None:
            if answer.error is None:
                data, answer = answer.data, self._answer(result, feed)
                answer.data = answer.data or data  # COPY OUT is followed by its tag
        return answer

    def _answer(self, result: Any, feed: bytes | None) -> Answer:
        match result.status:
            case pq.ExecStatus.FATAL_ERROR | pq.ExecStatus.BAD_RESPONSE:
                state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"08006"
                message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
                return Answer(error=Failure(state.decode(), message.decode()))
            case pq.ExecStatus.COPY_IN:
                self.pgconn.put_copy_data(feed or b"")
                self.pgconn.put_copy_end()
                return Answer()
            case pq.ExecStatus.COPY_OUT:
                chunks = []
                while (chunk := self.pgconn.get_copy_data(0))[0] > 0:
                    chunks.append(bytes(chunk[1]))
                return Answer(data=b"".join(chunks))
        width = result.nfields
        rows = [[_decoded(result.get_value(i, j)) for j in range(width)] for i in range(result.ntuples)]
        tag = (result.command_status or b"").decode()
        return Answer(rows, columns=width, tag=tag, types=[result.ftype(j) for j in range(width)])

    def close(self) -> None:
        self.connection.close()


def _repeatable(sql: str) -> bool:
    return sql.lstrip().upper().startswith(REPEATABLE) and "set_config" not in sql and "RETURNING" not in sql.upper()


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


class Extended(Wire):
    """By Parse, Bind, Execute of the unnamed statement; queries once more in binary. Several statements in one text,
    which that protocol does not have, go the simple way."""

    def run(self, sql: str, feed: bytes | None = None) -> Answer:
        prepared = self.pgconn.prepare(b"", sql.encode())
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            state = prepared.error_field(pq.DiagnosticField.SQLSTATE)
            message = prepared.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            if state == b"42601" and b"multiple commands" in message and self.connection.info.transaction_status != 3:
                return super().run(sql, feed)
            return self._answer(prepared, feed)
        self.pgconn.send_query_prepared(b"", None, result_format=0)
        answer = self._answers(feed)
        if answer.error is None and answer.columns and _repeatable(sql):
            answer.error = self._binary_fault(answer)
        return answer

    def _binary_fault(self, answer: Answer) -> Failure | None:
        """What differs between the answer and the same in binary; None when nothing does."""
        result = self.pgconn.exec_prepared(b"", None, result_format=1)
        if result.status != pq.ExecStatus.TUPLES_OK:
            return self._answer(result, None).error
        known = Transformer(self.connection)
        binary = []
        for i in range(result.ntuples):
            row = [result.get_value(i, j) for j in range(result.nfields)]
            binary.append([_loaded(known, t, pq.Format.BINARY, v) for t, v in zip(answer.types, row, strict=True)])
        texts = [
            [
                _loaded(known, t, pq.Format.TEXT, None if v is None else v.encode())
                for t, v in zip(answer.types, row, strict=True)
            ]
            for row in answer.rows
        ]
        if binary != texts and sorted(binary) != sorted(texts) and not _unreadable(binary, texts):
            return Failure("binary", f"binary results {sorted(binary)} are not the text ones {sorted(texts)}")
        return None


UNREADABLE = "value that Python has none for"
FLOAT4 = 700
REGISTERED = (24, 2205, 2206)  # names in text, numbers in binary


def _loaded(known: Any, oid: int, kind: pq.Format, value: bytes | None) -> str:
    """The Python value that a form stands for, as text that compares: NaN equals itself, -0 is not 0."""
    if value is None:
        return "NULL"
    if oid in REGISTERED:
        return UNREADABLE
    try:
        loaded = known.get_loader(oid, kind).load(value)
        return repr(float(np.float32(loaded)) if oid == FLOAT4 else loaded)
    except (psycopg.Error, ValueError, OverflowError):
        return UNREADABLE


def _unreadable(binary: list[list[str]], texts: list[list[str]]) -> bool:
    """Whether the rows agree where Python can read both: infinite dates and foreign DateStyles it cannot."""
    pairs = [pair for left, right in zip(binary, texts, strict=False) for pair in zip(left, right, strict=True)]
    return len(binary) == len(texts) and all(a == b or UNREADABLE in (a, b) for a, b in pairs)


def oracle_dsn(dsn: str) -> str:
    """A database of a running PostgreSQL with Unicode's letters in the order of bytes, as FileStore has them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'oracle'").fetchone():
            connection.execute("CREATE DATABASE oracle TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'")
    return dsn.replace("dbname=postgres", "dbname=oracle")
