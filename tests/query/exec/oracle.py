"""A PostgreSQL 15 server of its own, asked for the right answer; absent programs skip the tests that need it."""

from __future__ import annotations

import contextlib
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


def _as_postgres() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    import getpass

    if getpass.getuser() != "root":
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def server(directory: Path) -> Iterator[psycopg.Connection]:
    """Starts a server on a socket in `directory`, and stops it."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    rights = _as_postgres()
    if rights:
        for path in (directory, *[p for p in directory.parents if p != Path("/") and p != Path("/tmp")]):
            path.chmod(0o755)
        shutil.chown(directory, "postgres")
    data = directory / "data"
    quiet: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory, **rights}
    subprocess.run(
        [PROGRAMS / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N"], check=True, **quiet
    )  # type: ignore[call-overload]
    options = f"-c listen_addresses= -k {directory} -c fsync=off -c timezone=UTC -c max_connections=5"
    process = subprocess.Popen([PROGRAMS / "postgres", "-D", str(data), *options.split()], **quiet)  # type: ignore[call-overload]
    try:
        for _ in range(200):
            with contextlib.suppress(psycopg.OperationalError):
                connection = psycopg.connect(host=str(directory), user="postgres", dbname="postgres", autocommit=True)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield connection
        connection.close()
    finally:
        process.terminate()
        process.wait(10)


def texts(connection: psycopg.Connection, sql: str) -> list[tuple[str | None, ...]]:
    """Rows in text form, or the error as `ERROR sqlstate: message`."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            result = cursor.pgresult
            assert result is not None
            return [
                tuple(None if (v := result.get_value(i, j)) is None else v.decode() for j in range(result.nfields))
                for i in range(result.ntuples)
            ]
    except psycopg.Error as error:
        return [(f"ERROR {error.sqlstate}: {error.diag.message_primary}",)]
