"""Files on the server that COPY reads and writes, with PostgreSQL's errors; the only place of COPY that opens anything.

A name that ends like a compressed file (.gz, .zst, .bz2, .lz4) is read and written compressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.fs as fs

from filestore import errors

CHUNK_BYTES = 1 << 20
_CLIENT_SIDE = "You may want a client-side facility such as psql's \\copy."


def open_input(path: str) -> Any:
    """A stream of the file's bytes. Errors with 58P01, 42501, 42809."""
    _refuse_directory(path, f'"{path}" is a directory')
    try:
        return fs.LocalFileSystem().open_input_stream(path)
    except OSError as problem:
        raise file_error(path, "reading", problem) from None


def read_chunks(path: str) -> Iterator[bytes]:
    """The file's bytes, a mebibyte at a time."""
    with open_input(path) as stream:
        while True:
            try:
                chunk = stream.read(CHUNK_BYTES)
            except OSError as problem:
                raise errors.DataError(f'could not read file "{path}": {problem}') from None
            if not chunk:
                return
            yield chunk


def open_output(path: str) -> Any:
    """A stream that replaces the file. Errors with 42602 for a relative path, 58P01, 42501, 42809."""
    if not path.startswith("/"):
        raise errors.InvalidParameterName("relative path not allowed for COPY to file")
    _refuse_directory(path, f'could not open file "{path}" for writing: Is a directory')
    try:
        return fs.LocalFileSystem().open_output_stream(path)
    except OSError as problem:
        raise file_error(path, "writing", problem) from None


def _refuse_directory(path: str, message: str) -> None:
    if fs.LocalFileSystem().get_file_info(path).type == fs.FileType.Directory:
        raise errors.WrongObjectType(message)


def file_error(path: str, purpose: str, problem: OSError) -> errors.Error:
    """PostgreSQL's words for a file that cannot be opened."""
    if isinstance(problem, PermissionError):
        return errors.InsufficientPrivilege(f'could not open file "{path}" for {purpose}: Permission denied')
    verb, direction = ("read", "FROM") if purpose == "reading" else ("write", "TO")
    hint = f"COPY {direction} instructs the server process to {verb} a file. {_CLIENT_SIDE}"
    if isinstance(problem, FileNotFoundError):
        return errors.UndefinedFile(f'could not open file "{path}" for {purpose}: No such file or directory', hint=hint)
    return errors.UndefinedFile(f'could not open file "{path}" for {purpose}: {problem}', hint=hint)
