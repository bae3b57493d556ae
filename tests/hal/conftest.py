"""Every kind of file system that the conformance suite runs over."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from filestore.hal import DirectIO, FileSystem, SimulatedDisk, open_filesystem

MEMORY_MOUNT = pathlib.Path("/dev/shm")


@pytest.fixture(params=["direct", "buffered", "simulated"])
def filesystem(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[FileSystem]:
    if request.param == "simulated":
        yield SimulatedDisk()
    elif request.param == "direct":
        found = open_filesystem(str(tmp_path / "root"), direct=DirectIO.OPTIONAL)
        if not found.direct:
            pytest.skip(f"no direct I/O here: {found.refusal}")
        yield found
    else:
        # tmpfs where there is one: the filesystem that used to refuse O_DIRECT.
        base = tempfile.mkdtemp(dir=MEMORY_MOUNT if MEMORY_MOUNT.is_dir() else None)
        yield open_filesystem(base, direct=DirectIO.DISABLED)
        shutil.rmtree(base)
