"""Failures armed on a simulated disk: which call of which kind fails, how, and whether it ever did."""

from __future__ import annotations

import dataclasses
import errno
import os

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclasses.dataclass(slots=True)
class Fault:
    """One armed failure; `injected` counts how often it fired: a test whose fault never fired proves nothing.

    The `nth` matching call after arming fails with `error`, all later ones too when `sticky`. `short`: a
    failing write leaves its first `short` bytes.
    """

    op: str
    path_prefix: str = ""
    nth: int = 1
    error: int = errno.EIO
    sticky: bool = False
    short: int | None = None
    seen: int = 0
    injected: int = 0

    def fires(self, op: str, path: str) -> bool:
        """Counts a call, and says whether it is to fail."""
        if op != self.op or not path.startswith(self.path_prefix):
            return False
        self.seen += 1
        if self.seen == self.nth or (self.sticky and self.seen > self.nth):
            self.injected += 1
            return True
        return False

    def as_error(self) -> OSError:
        """The failure as the kernel would report it."""
        return OSError(self.error, os.strerror(self.error))

    def survivor(self, data: bytes) -> bytes:
        """What of a failing write's data may be on the disk: running out of space writes nothing."""
        if self.short is not None:
            return data[: self.short]
        return b"" if self.error in FULL else data
