"""A PostgreSQL 15 server, asked for the right answer."""

from __future__ import annotations

import psycopg


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
