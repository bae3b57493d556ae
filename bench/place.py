"""Where benchmark data lives: throw-away directories on a real disk, and generated data kept from run to run."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

KEPT: Final = Path(__file__).parent.parent / "build" / "bench"


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory below build/, on the disk of the checkout, removed afterwards."""
    KEPT.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="run-", dir=KEPT))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def lineitem_parquet() -> Path:
    """TPC-H's lineitem at scale factor 1 as one Parquet file (6,001,215 rows, 232 MB), generated once."""
    kept = KEPT / "lineitem.parquet"
    if not kept.exists():
        with scratch() as root:
            generator = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
            subprocess.run([generator, "parquet", "-q", "-s", "1", "-T", "lineitem", "-o", root], check=True)
            (root / "lineitem.parquet").rename(kept)
    return kept


def directory_bytes(root: Path) -> int:
    """What a directory takes on disk: blocks, not lengths, so that preallocated and sparse files count as they are."""
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())
