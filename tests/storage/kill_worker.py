"""A process that works on a store until it is killed at a named point; it notes elsewhere what was acknowledged.

    FILESTORE_CRASH_AT=point python -m tests.storage.kill_worker DIRECTORY NOTES TRANSACTIONS
"""

from __future__ import annotations

import os
import sys

from filestore.hal import open_filesystem
from tests.storage.store_model import Engine, options


def main(directory: str, notes: str, transactions: int) -> None:
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    engine = Engine.open(open_filesystem(directory), options(os.getpid(), threaded=True, log_file_bytes=65536))
    for _ in range(transactions):
        os.write(out, b"s%d\n" % (engine.count + 1))
        engine.store.log.when_durable(engine.append()).result(30)
        os.write(out, b"a%d\n" % engine.count)
        if engine.count % 13 == 0:
            engine.checkpoint()
    engine.close()
    os.write(out, b"end\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
