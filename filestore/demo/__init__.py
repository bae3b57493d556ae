"""`make demo`: what FileStore is, shown on real data and verified in front of the reader.

`show` is the order of things; `flights`, `questions` and `export` are the data; `bank` and `server` are shared with the
crash tests and the benchmarks. A client of the store, not a part of it: it imports nothing below the command line but
the kernel warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns its exit code. Imports psycopg and rich only now: the extra `demo` brings them."""
    from filestore.demo import show

    return show.main(argv)
