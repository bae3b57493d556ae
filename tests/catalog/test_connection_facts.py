"""What a session says of its own connection and server: pg_stat_activity, inet_*(), SHOW of the process's settings."""

from __future__ import annotations

from typing import Any

import psycopg


def test_a_connection_knows_its_addresses(server: Any) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        mine = connection.execute(
            "SELECT client_addr, client_port, inet_client_addr(), inet_client_port(), inet_server_port() "
            "FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert mine is not None
        assert mine[0] == mine[2] == "127.0.0.1"
        assert mine[1] == mine[3] > 1023
        assert mine[4] == server.port


def test_show_tells_the_servers_own_values(server: Any) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        told = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("port", "listen_addresses")}
        assert told == {"port": (str(server.port),), "listen_addresses": ("127.0.0.1",)}
        assert connection.execute("SHOW max_connections").fetchone() == ("1000",)
        assert connection.execute("SHOW data_directory").fetchone() == (str(server.directory),)
        rows = connection.execute("SELECT setting, source FROM pg_settings WHERE name = 'port'").fetchall()
        assert rows == [(str(server.port), "command line")]
