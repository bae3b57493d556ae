"""The public PEP 249 suite (dbapi-compliance), unmodified; each override says why the suite cannot be met as it is."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import dbapi20
import pytest

import filestore
from tests.conftest import scratch_root


# Some of the suite's tests leave their connection to the collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
class TestDBAPI20(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]  # the suite has no types
    driver = filestore

    def setUp(self) -> None:
        self.root = tempfile.mkdtemp(prefix="filestore-dbapi20-", dir=scratch_root())
        self.connect_args = (str(Path(self.root) / "data"),)

    def tearDown(self) -> None:
        shutil.rmtree(self.root)

    def test_callproc(self) -> None:
        """There are no procedures: PEP 249 lets the driver refuse."""
        connection = self._connect()
        with pytest.raises(filestore.NotSupportedError):
            connection.cursor().callproc("lower", ("FOO",))
        connection.close()

    def test_non_idempotent_close(self) -> None:
        """Closing twice is harmless here, as in psycopg and sqlite3; the suite predates that convention."""
        connection = self._connect()
        connection.close()
        connection.close()

    def test_nextset(self) -> None:
        """A statement has one result: the suite's own test needs a procedure that returns two."""
        connection = self._connect()
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        assert cursor.nextset() is None
        connection.close()

    def test_setoutputsize(self) -> None:
        """The suite leaves this one to drivers. Values always come whole."""
        connection = self._connect()
        cursor = connection.cursor()
        cursor.setoutputsize(10)
        cursor.execute("SELECT repeat('x', 1000)")
        assert cursor.fetchone() == ("x" * 1000,)
        connection.close()
