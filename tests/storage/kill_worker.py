"""A process that works on a store until it is killed at a named point; it notes elsewhere what was acknowledged.

    FILESTORE_CRASH_AT=point python kill_worker.py DIRECTORY NOTES TRANSACTIONS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from store_model import Engine, options

from filestore.hal import open_filesystem


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
