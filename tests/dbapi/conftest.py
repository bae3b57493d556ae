"""Embedded connections to a directory of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import filestore


@pytest.fixture
def connection(data_dir: Path) -> Iterator[filestore.Connection]:
    made = filestore.connect(str(data_dir))
    yield made
    if not made.closed:
        assert made.session.database.engine.check() == []
    made.close()
