"""What a server can be told, and what holds when it is not: the command line shows these defaults, `serve` obeys them.

It imports nothing of the server, so that `filestore --help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where and how to listen. A port of 0 lets the system choose, a negative one leaves that port out.

    certificate and key are PEM files, given both or neither. password_file holds the password of `postgres`; without it
    FILESTORE_PASSWORD does. connections: sessions at a time on the PostgreSQL port. grace_seconds: how long running
    statements may go on when the server is told to end.
    """

    host: str = "127.0.0.1"
    port: int = 5433
    flight_port: int = 8815
    grpc_port: int = 50051
    certificate: str | None = None
    key: str | None = None
    password_file: str | None = None
    connections: int = 1000
    grace_seconds: float = 5.0
