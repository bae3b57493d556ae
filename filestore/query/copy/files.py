"""Server-side files of COPY, through Arrow's file system: only hal calls the operating system itself.

Errors as PostgreSQL: 58P01 for a file that is not there, 42809 for a directory, 58030 for what else the system refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.fs as fs

from filestore import errors

# Large enough to keep the disk and the parser busy, small enough that several fit a cache's worth of memory.
CHUNK_BYTES = 1 << 20

_LOCAL = fs.LocalFileSystem()


def check_readable(path: str) -> None:
    """Raises 58P01 or 42809 when there is no file to read; relative names are refused, as they would depend on the server."""
    info = _LOCAL.get_file_info(path)
    if info.type is fs.FileType.NotFound:
        raise errors.UndefinedFile(
            f'could not open file "{path}" for reading: No such file or directory',
            hint="COPY FROM instructs the server process to read a file. "
            "You may want a client-side facility such as psql's \\copy.",
        )
    if info.type is fs.FileType.Directory:
        raise errors.WrongObjectType(f'"{path}" is a directory')


def read_file(path: str) -> Iterator[bytes]:
    """The file's bytes in chunks."""
    check_readable(path)
    try:
        with _LOCAL.open_input_stream(path, compression=None) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (OSError, pa.ArrowException) as error:
        raise errors.StorageFailed(f'could not read file "{path}": {error}') from None


def write_file(path: str, chunks: Iterable[bytes]) -> None:
    """Writes chunks to a file, replacing it. What the chunks raise leaves a partial file behind, as in PostgreSQL."""
    try:
        stream = _LOCAL.open_output_stream(path, compression=None)
    except (OSError, pa.ArrowException) as error:
        raise errors.UndefinedFile(f'could not open file "{path}" for writing: {error}') from None
    with stream:
        for chunk in chunks:
            try:
                stream.write(chunk)
            except (OSError, pa.ArrowException) as error:
                raise errors.StorageFailed(f'could not write file "{path}": {error}') from None
