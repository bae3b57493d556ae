"""A PEP 249 cursor: runs statements and hands out their rows as tuples, or as Arrow, pandas and polars.

Rows stay in the engine's batches until they are asked for: `fetch*` decodes a batch at a time, `arrow()` and its kin
export the batches as they are. Both continue where the other stopped.

Thread rule: a cursor belongs to one thread; cursors of one connection wait for each other.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from filestore import errors
from filestore.dbapi import exceptions, many
from filestore.dbapi.placeholders import Parameters, Template, template
from filestore.dbapi.points import Row
from filestore.query.plan import OutputColumn
from filestore.query.python_values import python_values, vector
from filestore.result import Result
from filestore.storage.vector import Batch
from filestore.types import Kind

if TYPE_CHECKING:
    from filestore.dbapi.connection import Connection

T = TypeVar("T")

# Rows of parameters that executemany takes at once: the cost of a call vanishes, the values stay in the cache.
MANY_ROWS: Final = 8192


class Cursor:
    """See the module. `arraysize` is how many rows `fetchmany` takes by default; `connection` is the cursor's
    connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.lastrowid: None = None
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self.rowcount = -1
        self.statusmessage: str | None = None
        self._columns: tuple[OutputColumn, ...] | None = None
        self._description: list[tuple[Any, ...]] | None = None
        self._ready: deque[Batch] = deque()
        self._source: Iterator[Batch] | None = None
        self._error: BaseException | None = None
        self._result: Result | None = None
        self._rows: Iterator[Row] = iter(())
        self._decoded: list[Row] = []
        self._batch: Batch | None = None
        self._taken = 0
        self._seen = 0

    # --- running --------------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """Runs one statement. `parameters`: a sequence for ? and $1, a mapping for :name. Returns the cursor."""
        self._check_open()
        of = _template(sql)
        with self._work(of):
            self.connection.settle()
            self._reset()
            outcome = self.connection.execute_one(of, parameters)
            if isinstance(outcome, Result):
                self._show(outcome)
            else:
                self._show_rows(outcome)
        return self

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> Cursor:
        """Runs one statement for each set of parameters, in one transaction; an INSERT of VALUES takes thousands at
        a time.

        `rowcount` is the sum; rows that the statements return are dropped.
        """
        self._check_open()
        of = _template(sql)
        with self.connection.alone():
            with self._work():
                self.connection.settle()
                self._reset()
            total = 0
            waiting = iter(rows)
            while chunk := list(itertools.islice(waiting, MANY_ROWS)):  # runs the caller's code
                with self._work(of):
                    self.connection.settle()
                    total += many.execute(self.connection, of, [of.values(row) for row in chunk])
            with self._work():
                self.connection.finish()
            self.rowcount = total
        return self

    def executescript(self, sql: str) -> Cursor:
        """Runs every statement of a text, without parameters; shows the last one's rows."""
        self._check_open()
        with self._work():
            self.connection.settle()
            self._reset()
            for statement in self.connection.session.parse(sql):
                self._reset()
                self.connection.settle()
                self._show(self.connection.execute_statement(statement))
        return self

    def _show(self, result: Result) -> None:
        self._result = result
        self._columns = result.columns
        self._source = result.batches
        if result.columns is None or result.inline or not result.counts_rows:
            self._pull_all()
            self._complete()
        else:
            self.connection.stream(self)

    def _show_rows(self, rows: list[Row]) -> None:
        """Shows what a kernel answered: decoded already."""
        self._columns = self.connection.columns
        self._decoded, self._rows = rows, iter(rows)
        self.rowcount = len(rows)
        self.statusmessage = f"SELECT {len(rows)}"

    def _complete(self) -> None:
        """All rows are there: the counts are known, and in autocommit the transaction ends."""
        assert self._result is not None
        told = _count(self._result.tag)
        self.rowcount = told if self._columns is None or told >= 0 else self._seen
        self.statusmessage = self._result.command_tag(self._seen) or None
        self.connection.finish()

    def gather(self) -> None:
        """Makes the rows that are still to be made; an error waits for the next fetch. Called inside
        `Connection.work`.
        """
        try:
            self._pull_all()
        except errors.Error as error:
            self._error = error
            self.connection.session.fail()

    def give_up(self) -> None:
        """The connection closes: rows that are not made yet never are."""
        source, self._source = self._source, None
        if isinstance(source, Generator):
            source.close()

    def _pull_all(self) -> None:
        while self._source is not None:
            batch = self._pull()
            if batch is not None:
                self._ready.append(batch)

    def _pull(self) -> Batch | None:
        """The next batch from the engine, None at the end."""
        assert self._source is not None
        try:
            batch = next(self._source, None)
        except BaseException:
            self._source = None
            self.connection.forget_stream(self)
            raise
        if batch is None:
            self._source = None
            if self.connection.forget_stream(self):
                self._complete()
            return None
        self._seen += batch.length
        return batch

    # --- rows -----------------------------------------------------------------------------------------------------

    def fetchone(self) -> Row | None:
        """The next row, None when there is none. InterfaceError without a result."""
        self._check_rows()
        row = next(self._rows, None)
        while row is None and self._next_rows():
            row = next(self._rows, None)
        if row is not None:
            self._taken += 1
        return row

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next `size` rows (`arraysize` by default); fewer at the end."""
        self._check_rows()
        wanted = self.arraysize if size is None else size
        found: list[Row] = []
        while len(found) < wanted:
            before = len(found)
            found.extend(itertools.islice(self._rows, wanted - before))
            self._taken += len(found) - before
            if len(found) < wanted and not self._next_rows():
                break
        return found

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        self._check_rows()
        found = list(self._rows)
        while self._next_rows():
            found.extend(self._rows)
        return found

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def _next_rows(self) -> bool:
        """Decodes the next batch into `_rows`; whether there was one."""
        batch = self._next_batch()
        if batch is None:
            self._rows, self._batch, self._decoded = iter(()), None, []
            return False
        with self._work():
            zoned = any(column.type.kind is Kind.TIMESTAMPTZ for column in batch.columns)
            zone = self.connection.zone() if zoned else dt.UTC
            columns = [python_values(column, zone) for column in batch.columns]
        self._rows = zip(*columns, strict=True) if columns else iter([()] * batch.length)
        self._batch, self._taken = batch, 0
        return True

    def _next_batch(self) -> Batch | None:
        while True:
            if self._ready:
                batch: Batch | None = self._ready.popleft()
            elif self._error is not None:
                error, self._error = self._error, None
                with self._work():
                    raise error
            elif self._source is None:
                return None
            else:
                with self._work():
                    batch = self._pull() if self._source is not None else None
            if batch is not None and batch.length:
                return batch

    def batches(self) -> Iterator[Batch]:
        """The rows that are left as the engine's batches; the one that is being fetched is cut."""
        if self._batch is not None and self._taken < self._batch.length:
            batch, self._batch, self._rows = self._batch.slice(self._taken, self._batch.length), None, iter(())
            yield batch
        elif self._taken < len(self._decoded):
            left, self._rows, self._decoded = self._decoded[self._taken :], iter(()), []
            types = [column.type for column in self._columns or ()]
            columns = [vector(t, values) for t, values in zip(types, zip(*left, strict=True), strict=True)]
            yield Batch(columns, len(left))
        self._batch = None
        while (following := self._next_batch()) is not None:
            yield following

    # --- rows as columns ------------------------------------------------------------------------------------------

    def arrow(self) -> Any:
        """The rows that are left as a pyarrow.Table; columns are shared with the store where they can be."""
        return self.fetch_record_batch().read_all()

    def fetch_record_batch(self) -> Any:
        """The rows that are left as a pyarrow.RecordBatchReader, made as they are read."""
        import pyarrow as pa

        from filestore.query.arrow_stream import record_batches, result_schema

        self._check_rows()
        assert self._columns is not None
        shape = result_schema(self._columns)
        return pa.RecordBatchReader.from_batches(shape, self._translated(record_batches(self.batches(), shape)))

    def _translated(self, made: Iterator[T]) -> Iterator[T]:
        while True:
            with self._work():
                one = next(made, None)
            if one is None:
                return
            yield one

    def df(self) -> Any:
        """The rows that are left as a pandas.DataFrame. NotSupportedError without pandas."""
        _imported("pandas")
        return self.arrow().to_pandas()

    def pl(self) -> Any:
        """The rows that are left as a polars.DataFrame. NotSupportedError without polars."""
        return _imported("polars").from_arrow(self.arrow())

    # --- the rest of PEP 249 --------------------------------------------------------------------------------------

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """(name, type code, None, bytes, precision, scale, None) of each column; None when the statement returns
        no rows.
        """
        if self._description is None and self._columns is not None:
            self._description = [_described(column) for column in self._columns]
        return self._description

    def callproc(self, name: str, parameters: Sequence[Any] = ()) -> Sequence[Any]:  # noqa: ARG002
        """Raises NotSupportedError: there are no procedures."""
        raise exceptions.NotSupportedError(
            f"procedures are not supported: {name}", sqlstate="0A000", hint="Call functions by SELECT."
        )

    def nextset(self) -> None:
        """None: a statement has one set of rows."""
        self._check_rows()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Does nothing, as PEP 249 allows: types come from the values."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing, as PEP 249 allows: values come whole."""

    def close(self) -> None:
        """Drops the rows; afterwards everything raises InterfaceError. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._source is not None and self.connection.usable:
            with self._work():
                self.connection.forget_stream(self)
                self._source = None
                self.connection.finish()
        self._reset()

    def __enter__(self) -> Cursor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _work(self, of: Template | None = None) -> AbstractContextManager[None]:
        return self.connection.work(of)

    def _check_open(self) -> None:
        if self._closed:
            raise exceptions.InterfaceError("the cursor is closed")
        self.connection.check_open()

    def _check_rows(self) -> None:
        self._check_open()
        if self._columns is None:
            raise exceptions.InterfaceError("there is no result to fetch: the last statement returned no rows")


def _template(sql: str) -> Template:
    if not isinstance(sql, str):
        raise exceptions.InterfaceError(f"a statement is a str, not a {type(sql).__name__}")
    try:
        return template(sql)
    except errors.Error as error:
        raise exceptions.translated(error) from error


def _count(tag: str) -> int:
    """The number of rows that a command tag tells, -1 for none."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdecimal() else -1


def _described(column: OutputColumn) -> tuple[Any, ...]:
    sql_type = column.type
    size = sql_type.length if sql_type.length is not None else sql_type.info.size
    return (column.name, sql_type.oid, None, size if size > 0 else None, sql_type.precision, sql_type.scale, None)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise exceptions.NotSupportedError(f"{name} is not installed", hint=f"pip install {name}") from error
