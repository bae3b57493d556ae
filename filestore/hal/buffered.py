"""Files through the page cache, where the filesystem refuses O_DIRECT or the caller does.

Everything but the name is `PosixFile`: the loops, the checks and the poison rule are the direct file's. What
is weaker here: a write-back error surfaces only at `sync`, and a read may come from the cache instead of the
disk.
"""

from __future__ import annotations

from filestore.hal.direct import PosixFile


class BufferedFile(PosixFile):
    """A file without O_DIRECT."""

    direct = False
