"""Parquet files in and out of tables: columns by name, a row group at a time, read and converted on worker threads.

String columns whose chunks are dictionary-encoded through and through come out as dictionary vectors; decimals of up to
18 digits are taken from the low word of Arrow's decimal128. Row groups are read ahead by `workers` threads, each with
its own reader, and given out in order. The file's columns must be the wanted ones, in any order: a column too many
would be lost silently.

Errors name the file, the column and, for a value, the row (from 1). Thread rule: one thread iterates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from filestore import errors
from filestore.query import arrow
from filestore.query.copy.files import file_error, open_output
from filestore.query.datetime_text import TextSettings
from filestore.query.plan import OutputColumn
from filestore.storage.schema import ColumnDef
from filestore.storage.vector import Batch, Vector
from filestore.types import Kind

PIECE_ROWS = 1 << 17
DICTIONARY_BYTES = 3  # a string chunk with fewer bytes a row than this is a dictionary and codes


@dataclass(slots=True)
class RowChunk:
    """Rows of a file's row group or of an Arrow stream; `first_row` is the number, from 0, of the first."""

    columns: list[Vector]
    length: int
    table: str
    first_row: int

    def context(self, row: int) -> str:
        """Where a row came from, for errors that the caller finds."""
        return f"COPY {self.table}, row {self.first_row + row + 1}"


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to read row groups; `order` are the file's names of the wanted columns."""

    path: str
    table: str
    metadata: Any
    order: tuple[str, ...]
    dictionaries: tuple[str, ...]
    columns: tuple[ColumnDef, ...]
    settings: TextSettings | None


def read_parquet(
    path: str,
    columns: Sequence[ColumnDef],
    *,
    table: str,
    settings: TextSettings | None = None,
    workers: int = 2,
) -> Iterator[RowChunk]:
    """The file's rows as stored-form vectors of `columns`, in their order and types.

    Errors with 58P01, 22P04 for a malformed file or other columns, 42804, 23502 and those of the values.
    """
    file = _open(path)
    order = _matched(path, file.schema_arrow, columns)
    job = _Job(path, table, file.metadata, order, _dictionary_columns(file), tuple(columns), settings)
    starts = [0]
    for i in range(file.metadata.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(i).num_rows)
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="parquet") as pool:
        ahead: deque[Future[list[RowChunk]]] = deque()
        try:
            for group in range(file.metadata.num_row_groups):
                ahead.append(pool.submit(_read_group, job, group, starts[group]))
                if len(ahead) > workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _open(path: str) -> Any:
    if fs.LocalFileSystem().get_file_info(path).type == fs.FileType.Directory:
        raise errors.WrongObjectType(f'"{path}" is a directory')
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as problem:
        raise errors.BadCopyFileFormat(f'"{path}" is not a Parquet file', detail=str(problem)) from None
    except OSError as problem:
        if isinstance(problem, FileNotFoundError | PermissionError):
            raise file_error(path, "reading", problem) from None
        raise errors.BadCopyFileFormat(f'"{path}" is not a Parquet file', detail=str(problem)) from None


def _matched(path: str, schema: pa.Schema, columns: Sequence[ColumnDef]) -> tuple[str, ...]:
    """The file's name of each wanted column; names are compared as they are, then without case."""
    exact = set(schema.names)
    folded = {name.lower(): name for name in schema.names}
    order = tuple(c.name if c.name in exact else folded.get(c.name.lower(), "") for c in columns)
    for column, name in zip(columns, order, strict=True):
        if not name:
            raise errors.BadCopyFileFormat(f'file "{path}" has no column "{column.name}"')
    for name in schema.names:
        if name not in order:
            raise errors.BadCopyFileFormat(
                f'file "{path}" has column "{name}", which the table or column list has not',
                hint="Name the columns of the file in COPY's column list.",
            )
    return order


def _dictionary_columns(file: Any) -> tuple[str, ...]:
    """String columns that are worth reading as dictionaries: all their chunks are small."""
    metadata = file.metadata
    names = []
    for i, field in enumerate(file.schema_arrow):
        if not arrow.is_text(field.type) or metadata.num_columns != len(file.schema_arrow):
            continue
        chunks = [metadata.row_group(g).column(i) for g in range(metadata.num_row_groups)]
        rows = sum(c.num_values for c in chunks)
        small = sum(c.total_uncompressed_size for c in chunks) < DICTIONARY_BYTES * rows
        if rows and small and all(c.has_dictionary_page for c in chunks):
            names.append(field.name)
    return tuple(names)


def _read_group(job: _Job, group: int, first_row: int) -> list[RowChunk]:
    """One row group, on a worker thread."""
    try:
        file = pq.ParquetFile(job.path, metadata=job.metadata, read_dictionary=list(job.dictionaries))
        data = file.read_row_group(group, columns=list(dict.fromkeys(job.order)), use_threads=False)
    except (pa.ArrowException, OSError) as problem:
        raise errors.BadCopyFileFormat(
            f'could not read row group {group + 1} of file "{job.path}"', detail=str(problem)
        ) from None
    out = []
    for low in range(0, data.num_rows, PIECE_ROWS):
        piece = data.slice(low, PIECE_ROWS)
        pairs = zip(job.order, job.columns, strict=True)
        vectors = [_column(job, piece[name], column, first_row + low) for name, column in pairs]
        out.append(RowChunk(vectors, piece.num_rows, job.table, first_row + low))
    return out


def _column(job: _Job, data: pa.ChunkedArray, column: ColumnDef, first_row: int) -> Vector:
    try:
        vector = arrow.vector(data, column.type, job.settings)
        if column.not_null and vector.valid is not None:
            row = int(np.argmin(vector.valid))
            error = errors.NotNullViolation(
                f'null value in column "{column.name}" of relation "{job.table}" violates not-null constraint',
                table=job.table,
                column=column.name,
            )
            error.row = row
            raise error
        return vector
    except errors.Error as error:
        place = f"COPY {job.table}" + (f", row {first_row + error.row + 1}" if error.row is not None else "")
        error.context = f'{place}, column {column.name} of file "{job.path}"'
        raise
    except pa.ArrowException as problem:
        raise errors.DatatypeMismatch(
            f'column "{column.name}" of file "{job.path}" cannot become {column.type}', detail=str(problem)
        ) from None


def write_parquet(
    path: str, columns: Sequence[ColumnDef | OutputColumn], batches: Iterable[Batch], *, compression: str = "snappy"
) -> int:
    """Writes the batches to a Parquet file; returns the rows. Errors with 58P01, 42501, 42602, 42701, 0A000."""
    names = [c.name for c in columns]
    if len(set(names)) != len(names):
        raise errors.DuplicateColumn("a Parquet file needs distinct column names", hint="Name the columns with AS.")
    for column in columns:
        if column.type.kind is Kind.INTERVAL:
            raise errors.FeatureNotSupported(
                f'column "{column.name}" is an interval, which Parquet cannot hold', hint="Cast it to text."
            )
    schema = arrow.schema(names, [c.type for c in columns])
    rows = 0
    with open_output(path) as sink, _writer(sink, schema, compression) as writer:
        pending: list[pa.RecordBatch] = []
        held = 0
        for batch in batches:
            if batch.length:
                pending.append(arrow.record_batch(batch, names))
                held += batch.length
                rows += batch.length
            if held >= PIECE_ROWS:
                writer.write_table(pa.Table.from_batches(pending, schema))
                pending, held = [], 0
        if pending:
            writer.write_table(pa.Table.from_batches(pending, schema))
    return rows


def _writer(sink: Any, schema: pa.Schema, compression: str) -> Any:
    try:
        return pq.ParquetWriter(sink, schema, compression=compression, use_dictionary=True)
    except (pa.ArrowException, OSError, ValueError) as problem:
        message = f'cannot write Parquet with compression "{compression}"'
        raise errors.InvalidParameterValue(message, detail=str(problem)) from None
