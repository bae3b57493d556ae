"""The bytes on disk: a store that format version 1 wrote still opens, and docs/durability.md tells the layout as it is.

`python tests/storage/test_store_format.py` writes the golden store of the present version; a released one is never
rewritten.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

from filestore.hal import SimulatedDisk, open_filesystem
from filestore.storage import crash_points, layout
from filestore.storage.manifest import read
from tests.storage.store_model import Engine, options

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
GOLDEN_TRANSACTIONS = 41


def write_golden(path: Path) -> None:
    """A small closed store with every structure in it: pages, sealed files, groups behind the last checkpoint."""
    disk = SimulatedDisk()
    engine = Engine.open(disk, options(1))
    for t in range(1, GOLDEN_TRANSACTIONS + 1):
        engine.append()
        if t % 18 == 0:
            engine.checkpoint()
    engine.close()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in disk.files().items():
            if not name.startswith("wal/spare"):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=9))


@pytest.mark.parametrize("version", range(1, layout.FORMAT_VERSION + 1))
def test_a_store_of_each_format_version_opens(version: int, data_dir: Path) -> None:
    data_dir.mkdir()
    archive = lzma.decompress((DATA / f"store_v{version}.tar.xz").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(data_dir, filter="data")
    fs = open_filesystem(str(data_dir))
    assert read(fs)[0].format_version == version
    engine = Engine.open(fs, options(2))
    assert engine.count == GOLDEN_TRANSACTIONS and len(engine.store.manifest.sealed) == 2
    engine.store.log.when_durable(engine.append()).result()
    engine.checkpoint()
    assert engine.store.verify() == []
    engine.close()


def test_the_same_work_writes_the_same_bytes(tmp_path: Path) -> None:
    """Also against the committed file: a changed byte is a changed format."""
    write_golden(tmp_path / "again")
    golden = (DATA / f"store_v{layout.FORMAT_VERSION}.tar.xz").read_bytes()
    assert lzma.decompress((tmp_path / "again").read_bytes()) == lzma.decompress(golden)


def test_the_documented_layout_is_the_layout() -> None:
    text = (ROOT / "docs" / "durability.md").read_text()
    assert layout.describe() in text
    for name in crash_points.NAMES:
        assert f"`{name}`" in text
    assert f"format version {layout.FORMAT_VERSION}" in text


def test_structures_have_no_gaps() -> None:
    for name, dtype in layout.ALL.items():
        expected = 0
        assert dtype.names is not None
        for field in dtype.names:
            assert layout.offset_of(dtype, field) == expected, f"{name}.{field}"
            expected += dtype[field].itemsize
        assert expected == dtype.itemsize == layout.struct_of(dtype).size
        assert dtype == np.dtype(dtype.descr), "no field depends on the machine's byte order"


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    write_golden(DATA / f"store_v{layout.FORMAT_VERSION}.tar.xz")
