"""COPY: rows in and out in PostgreSQL's text, CSV and binary formats and in Parquet.

`reader` makes the `CopyReader` of a format (bytes in, chunks of vectors out), `writer` the `CopyWriter` (batches in,
bytes out); Parquet works on files alone (`parquet_format`). Nothing here knows transactions: a half-loaded table is
undone by its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from filestore.query.copy.binary_format import BinaryReader, BinaryWriter
from filestore.query.copy.csv_format import CsvReader, CsvWriter
from filestore.query.copy.options import CopyOptions
from filestore.query.copy.stream import CopyReader, CopyWriter
from filestore.query.copy.text_format import TextReader, TextWriter
from filestore.query.datetime_text import TextSettings
from filestore.types import SqlType


def reader(
    table: str,
    names: Sequence[str],
    types: Sequence[SqlType],
    options: CopyOptions,
    settings: TextSettings | None = None,
) -> CopyReader:
    """The reader of the options' format into the named columns; `table` is for error contexts."""
    kinds: dict[str, Callable[..., CopyReader]] = {"text": TextReader, "csv": CsvReader, "binary": BinaryReader}
    return kinds[options.format](table, names, types, options, settings)


def writer(
    names: Sequence[str], types: Sequence[SqlType], options: CopyOptions, settings: TextSettings | None = None
) -> CopyWriter:
    """The writer of the options' format of the named columns."""
    kinds: dict[str, Callable[..., CopyWriter]] = {"text": TextWriter, "csv": CsvWriter, "binary": BinaryWriter}
    return kinds[options.format](names, types, options, settings)
