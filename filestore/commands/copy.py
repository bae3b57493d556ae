"""COPY, both ways: text, csv, binary and parquet, from and to files and clients.

FROM is one pipeline over worker threads: bytes (or a Parquet file) become vectors, rows are completed with defaults
and checked, and a loader adds them to the table, a few as an INSERT would, many as sealed segments. Whatever fails
aborts the transaction: nothing stays half loaded.

Thread rule: commands run with the engine lock held, parsing without it; a `CopyIn` is fed without it, by one thread
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.commands.copy_streams import ClientBytes, Produced
from filestore.query import dml
from filestore.query import plan as p
from filestore.query import statements as s
from filestore.query.bind_ddl import bind_checks, bind_default
from filestore.query.copy import reader, writer
from filestore.query.copy.files import open_output, read_chunks
from filestore.query.copy.options import CopyOptions, copy_options
from filestore.query.copy.parquet_format import RowChunk, read_parquet, write_parquet
from filestore.query.copy.stream import CopyChunk
from filestore.query.evaluate import evaluate
from filestore.query.executor import execute
from filestore.query.rows import stored_form
from filestore.result import CopyIn, CopyOut, Result
from filestore.storage.schema import TableDef
from filestore.storage.vector import Batch, Vector
from filestore.storage.wait import Wait
from filestore.txn.drive import Job, Steps, drive
from filestore.txn.locks import LockMode
from filestore.txn.writes import KeyConflict
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.session import Session

ROWS_PER_CHUNK = 8192


def run(session: Session, command: s.Copy) -> Steps[Result]:
    """Runs COPY. From or to a client the result carries a `CopyIn` or `CopyOut`, and the port does the rest."""
    if command.target == "program":
        raise errors.FeatureNotSupported(
            "COPY ... PROGRAM is not supported",
            hint="Pipe the program's output through the client, e.g. psql's \\copy.",
        )
    return _copy_from(session, command) if command.direction == "from" else _copy_to(session, command)


def _check_target(options: CopyOptions, command: s.Copy) -> None:
    if options.format == "parquet" and command.target != "file":
        raise errors.FeatureNotSupported(
            "COPY in parquet format from or to a client is not supported", hint="Name a file, or use Arrow Flight."
        )


def ordinals_of(definition: TableDef, names: Sequence[str]) -> tuple[int, ...]:
    """Ordinals of the named columns, all for none. Raises 42703, 42701."""
    if not names:
        return tuple(range(len(definition.columns)))
    found: list[int] = []
    for name in names:
        ordinal = definition.ordinal(name)
        if ordinal is None:
            raise errors.UndefinedColumn(f'column "{name}" of relation "{definition.name}" does not exist')
        if ordinal in found:
            raise errors.DuplicateColumn(f'column "{name}" specified more than once')
        found.append(ordinal)
    return tuple(found)


# --- from


def _copy_from(session: Session, command: s.Copy) -> Steps[Result]:
    assert command.table is not None, "the grammar demands a table for COPY FROM"
    session.begin().check_writable()
    found = session.catalog().required(command.table)
    yield from session.lock_table(found, LockMode.ROW_EXCLUSIVE)
    definition = session.catalog().required(command.table)
    load = Load(session, definition, ordinals_of(definition, command.columns))
    options = copy_options(command.options, reading=True, names=load.names, table=definition.name)
    _check_target(options, command)
    if command.target == "file":
        assert command.path is not None
        path = command.path
        if options.format == "parquet":
            rows = yield from load.steps(lambda: load.parquet(path))
        else:
            rows = yield from load.steps(lambda: load.parsed(read_chunks(path), options))
        return Result(f"COPY {rows}")
    source = ClientBytes()
    steps = load.steps(lambda: load.parsed(source, options), source)
    job = Job(None, lambda: drive(steps, session.database.lock, session.poll))
    copy = CopyIn(
        len(load.ordinals),
        options.format == "binary",
        feed=source.put,
        finish=lambda: _finish(source, job),
        abort=lambda: _give_up(source, job),
    )
    return Result("COPY", copy_in=copy)


def _finish(source: ClientBytes, job: Job[int]) -> Steps[Result]:
    source.end()
    yield job
    return Result(f"COPY {job.value()}")


def _give_up(source: ClientBytes, job: Job[int]) -> None:
    """Ends a load whose data will not come; returns when its worker has let go of the transaction."""
    source.end(errors.QueryCanceled("COPY from stdin failed"))
    job.block()


class Load:
    """Loading rows of some columns into a table, in the session's transaction."""

    def __init__(self, session: Session, definition: TableDef, ordinals: tuple[int, ...]) -> None:
        self.session = session
        self.definition = definition
        self.ordinals = ordinals
        catalog = session.catalog()
        self.transaction = session.begin()
        self.context = session.context()
        self.checks = bind_checks(definition, catalog)
        self.defaults = {
            i: bind_default(c, catalog) for i, c in enumerate(definition.columns) if i not in set(ordinals)
        }

    @property
    def names(self) -> list[str]:
        """Names of the columns that are loaded."""
        return [self.definition.columns[i].name for i in self.ordinals]

    @property
    def types(self) -> list[SqlType]:
        """Their types."""
        return [self.definition.columns[i].type for i in self.ordinals]

    def steps(self, rows: Callable[[], Iterable[Batch]], source: ClientBytes | None = None) -> Steps[int]:
        """Loads what `rows` makes (on a worker) and returns how many there were."""
        produced: Produced[Batch] = Produced(rows)
        loaded = _Loaded(self.definition)
        table = self.session.engine.table(self.definition)
        try:
            return (yield from self.session.engine.bulk_load(self.transaction, table, loaded.watched(produced)))
        except KeyConflict as conflict:
            columns, row = loaded.find(conflict.row)
            raise dml.unique_violation(self.definition, conflict.key, columns, row) from None
        finally:
            produced.close()
            if source is not None:
                source.abandon()

    def parsed(self, chunks: Iterable[bytes], options: CopyOptions) -> Iterator[Batch]:
        """Whole rows of a text, csv or binary stream."""
        parser = reader(self.definition.name, self.names, self.types, options, self.session.settings)
        for data in chunks:
            for chunk in parser.feed(data):
                yield self.checked(chunk)
        for chunk in parser.finish():
            yield self.checked(chunk)

    def checked(self, chunk: CopyChunk | RowChunk) -> Batch:
        """A chunk's rows, whole and checked; an error's context names the row. On a worker."""
        try:
            return self._complete(chunk.columns, chunk.length)
        except dml.RowError as error:
            error.error.context = chunk.context(error.row)
            raise error.error from None

    def parquet(self, path: str) -> Iterator[Batch]:
        """Whole rows of a Parquet file."""
        wanted = [self.definition.columns[i] for i in self.ordinals]
        for chunk in read_parquet(path, wanted, table=self.definition.name, settings=self.session.settings):
            yield self.checked(chunk)

    def _complete(self, columns: Sequence[Vector], length: int) -> Batch:
        """Rows in table order, with defaults, checked. Raises RowError."""
        self.session.cancel.check()
        given = dict(zip(self.ordinals, columns, strict=True))
        empty = Batch([], length)
        whole = [
            given[i] if i in given else stored_form(evaluate(self.defaults[i], empty, self.context), c.type, length)
            for i, c in enumerate(self.definition.columns)
        ]
        rows = Batch(whole, length)
        dml.check_each(self.definition, self.checks, rows, self.context)
        return rows


class _Loaded:
    """The keys' columns of the batches handed to the loader, to name the row of a conflict."""

    def __init__(self, definition: TableDef) -> None:
        self._ordinals = sorted({i for key in definition.keys for i in key.columns})
        self._width = len(definition.columns)
        self._parts: list[list[Vector | None]] = []
        self._starts = [0]

    def watched(self, batches: Iterable[Batch | Wait]) -> Iterator[Sequence[Vector] | Wait]:
        for batch in batches:
            if isinstance(batch, Batch):
                kept: list[Vector | None] = [None] * self._width
                for i in self._ordinals:
                    kept[i] = batch.columns[i]
                self._parts.append(kept)
                self._starts.append(self._starts[-1] + batch.length)
                yield batch.columns
            else:
                yield batch

    def find(self, row: int) -> tuple[list[Vector | None], int]:
        """The columns and position of a row of the load."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part], row - self._starts[part]


# --- to


def _copy_to(session: Session, command: s.Copy) -> Steps[Result]:
    if command.query is not None:
        result = yield from session.execute(command.query)
        if result.columns is None:
            raise errors.FeatureNotSupported("COPY query must have a RETURNING clause")
        name, columns, batches = "query", result.columns, result.batches
    else:
        assert command.table is not None, "the grammar demands a table or a query"
        found = session.catalog().required(command.table)
        yield from session.lock_table(found, LockMode.ACCESS_SHARE)
        definition = session.catalog().required(command.table)
        ordinals = ordinals_of(definition, command.columns)
        shown = [(definition.columns[i], i + 1) for i in ordinals]
        columns = tuple(p.OutputColumn(c.name, c.type, definition.oid, number) for c, number in shown)
        name, batches = definition.name, execute(p.Scan(columns, definition, ordinals), session.context())
    options = copy_options(command.options, reading=False, names=[c.name for c in columns], table=name)
    _check_target(options, command)
    if options.format == "parquet":
        path = command.path or ""
        job = Job(session.database.workers, lambda: write_parquet(path, columns, batches))
        yield job
        return Result(f"COPY {job.value()}")
    out = _Output(session, columns, options, batches)
    if command.target == "file":
        path = command.path or ""
        job = Job(session.database.workers, lambda: _write(path, out))
        yield job
        return Result(f"COPY {job.value()}")
    # Characters between which a line end is no row's end.
    quote, escape = (options.quote[0], options.escape[0]) if options.format == "csv" else (-1, -1)
    sent = CopyOut(len(columns), options.format == "binary", out.chunks(), quote, escape)
    return Result("COPY", copy_out=sent, counts_rows=True)


def _write(path: str, out: _Output) -> int:
    with open_output(path) as stream:
        for data, _ in out.chunks():
            stream.write(data)
    return out.rows


class _Output:
    """COPY TO's bytes, made batch by batch."""

    def __init__(
        self, session: Session, columns: tuple[p.OutputColumn, ...], options: CopyOptions, batches: Iterator[Batch]
    ) -> None:
        self._writer = writer([c.name for c in columns], [c.type for c in columns], options, session.settings)
        self._batches = batches
        self.rows = 0

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """(bytes, rows in them)."""
        header = self._writer.header()
        if header:
            yield header, 0
        for batch in self._batches:
            for low in range(0, batch.length, ROWS_PER_CHUNK):
                part = batch.slice(low, low + ROWS_PER_CHUNK)
                self.rows += part.length
                yield self._writer.rows(part).tobytes(), part.length
        trailer = self._writer.trailer()
        if trailer:
            yield trailer, 0
