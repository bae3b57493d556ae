"""Opening the log after it was read: in the file of a new epoch, or, without room for one, for reading only.

Invariant: nothing is appended to a file of an older epoch. Thread rule: the opening thread's. It does not do: making
and naming files (`LogFiles`), writing batches (`Log`).
"""

from __future__ import annotations

from filestore.errors import DiskFull
from filestore.hal.memory import aligned_buffer
from filestore.storage.layout import Bytes, round_up
from filestore.storage.log import BATCH_BYTES, Log
from filestore.storage.log_batch import HEADER_BYTES, seal
from filestore.storage.log_files import LogFileHeader, LogFiles
from filestore.storage.log_reader import LogReader


def open_full(files: LogFiles, reader: LogReader, error: DiskFull) -> Log:
    """A log that has what was read and takes nothing more: on a disk without room for the file of a new epoch.

    Nothing is written, also not the unproven tail: whoever opens the directory next finds what this one found.
    """
    full = DiskFull(
        f"the directory is open for reading only: {error.message}",
        hint="Free space on its filesystem, then close the store and open it again.",
    )
    file = files.fs.open(files.live[-1].path, read_only=True)
    end, hash_ = reader.end_lsn, reader.previous_hash
    return Log(files, file, epoch=reader.epoch, end_lsn=end, previous_hash=hash_, threaded=False, full=full)


def open_log(
    files: LogFiles, reader: LogReader, *, epoch: int, batch_bytes: int = BATCH_BYTES, threaded: bool = True
) -> Log:
    """Begins epoch `epoch` where durability is proven, and opens the log for appends.

    The tail behind that place is written again, batch for batch at the same LSNs, into the new file, before the
    file has its name; so nothing is built on a write of which nobody knows whether it will stay (RELIABILITY R8,
    R33).
    """
    end, hash_ = reader.proven_lsn, reader.proven_hash

    def fill(header: LogFileHeader) -> list[tuple[int, Bytes]]:
        nonlocal end, hash_
        writes = []
        for old in reader.tail:
            data = aligned_buffer(round_up(old.used))
            data[: old.used] = old.data[: old.used]
            data[old.used :] = 0
            payload = old.used - HEADER_BYTES
            hash_ = seal(data, old.lsn, epoch, payload, old.groups, hash_, header.first_lsn, header.seed)
            writes.append((header.offset(old.lsn), data))
            end = old.lsn + data.size
        return writes

    file = files.start(epoch, reader.proven_lsn, reader.proven_hash, fill)
    return Log(
        files, file, epoch=epoch, end_lsn=end, previous_hash=hash_, batch_bytes=batch_bytes, threaded=threaded
    )
