"""Where random tests get their seeds: in the quick tests the same ones every time: what breaks them is then a change.

The slow tests draw new ones, and so do all where FRESH_SEEDS is set; a seed that fails there becomes a case of its own.
"""

from __future__ import annotations

import os
import random
import zlib

FRESH = bool(os.environ.get("FRESH_SEEDS"))


def seed_of(name: str, *, fresh: bool = FRESH) -> int:
    """The seed of a test or a module, printed: pytest shows what was printed when a test fails."""
    value = random.SystemRandom().randrange(1 << 32) if fresh else zlib.crc32(name.encode())
    print(f"seed of {name}: {value}")
    return value
