"""Runs of CopyData messages joined into one piece of the stream, without Python for each row.

Oracle: `Codec` fed the same bytes one message at a time (tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def strip_headers(source: Any, at: int, out: Any) -> Any:
    """Copies the bodies of complete CopyData messages from source[at:] to `out`, both uint8[].

    Returns (end, used): where the first other, broken or incomplete message begins, and the bytes written. `out` holds at
    least len(source) - at bytes. A length below 4 or beyond the source stops the run; the caller judges it.
    """
    used = 0
    size = len(source)
    while at + 5 <= size and source[at] == 100:
        length = (
            (np.int64(source[at + 1]) << 24)
            | (np.int64(source[at + 2]) << 16)
            | (np.int64(source[at + 3]) << 8)
            | np.int64(source[at + 4])
        )
        end = at + 1 + length
        if length < 4 or end > size:
            break
        for i in range(at + 5, end):
            out[used] = source[i]
            used += 1
        at = end
    return at, used


def join_copy_data(data: bytes, at: int) -> tuple[bytes, int]:
    """The joined bodies of the CopyData messages that begin at `at`, and where the run ends."""
    source = np.frombuffer(data, np.uint8)
    out = np.empty(len(data) - at, np.uint8)
    end, used = strip_headers(source, at, out)
    return out[:used].tobytes(), int(end)
