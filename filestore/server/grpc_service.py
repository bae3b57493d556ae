"""The gRPC port: filestore.v1.Rows, health (grpc.health.v1) and reflection, on grpc.aio in the server's event loop.

It does not do: streaming reads, bulk writes (Arrow Flight does), several calls in one transaction (the PostgreSQL
port does). Thread rule: started and stopped on the loop it serves from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from filestore import errors
from filestore.server.basic_auth import BasicAuth
from filestore.server.grpc_rows import RowsService
from filestore.server.proto.filestore.v1 import rows_pb2, rows_pb2_grpc

if TYPE_CHECKING:
    from filestore.database import Database

SERVICE: Final = rows_pb2.DESCRIPTOR.services_by_name["Rows"].full_name
# A page of 1000 wide rows; a row beyond it is for SQL.
MESSAGE_BYTES_MAX: Final = 64 << 20
GRACE_S: Final = 5.0

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a share
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class _Readable(grpc.aio.ServerInterceptor):
    """Bytes that are no message reach the service as None, to be refused there: gRPC itself would answer UNKNOWN,
    without a SQLSTATE, and log a traceback.
    """

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(f"/{SERVICE}/"):
            return handler
        parse = handler.request_deserializer

        def read(data: bytes) -> Any:
            try:
                return parse(data)
            except DecodeError:
                return None

        return handler._replace(request_deserializer=read)


@dataclass(slots=True)
class GrpcHandle:
    """A running port. `port` is the one that was bound."""

    port: int
    _server: Any
    _health: Any
    _service: RowsService

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Reports NOT_SERVING, lets calls under way end for `grace_s` seconds, then cancels them. A second call
        does nothing.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._service.sessions.close()


async def start_grpc(
    database: Database,
    host: str,
    port: int,
    *,
    verifier: Callable[[str], str | None] | None = None,
    certificate: tuple[bytes, bytes] | None = None,
) -> GrpcHandle:
    """Starts the port on the running loop; 0 binds a free one.

    verifier: a user's SCRAM verifier text, None for none (nobody has a password when it is omitted). certificate:
    (chain, key) as PEM, for TLS. Raises 55006 when the address is taken.
    """
    server = grpc.aio.server(options=_OPTIONS, interceptors=(_Readable(),))
    service = RowsService(database, BasicAuth(verifier or _nobody, encrypted=certificate is not None))
    rows_pb2_grpc.add_RowsServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    health = health_service.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if certificate is None:
            bound = server.add_insecure_port(address)
        else:
            chain, key = certificate
            bound = server.add_secure_port(address, grpc.ssl_server_credentials(((key, chain),)))
    except RuntimeError:
        bound = 0
    if not bound:
        raise errors.ObjectInUse(f"could not listen on {address} for gRPC", hint="Is another server running there?")
    await server.start()
    for name in ("", SERVICE):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    return GrpcHandle(bound, server, health, service)


def _nobody(user: str) -> str | None:  # noqa: ARG001
    return None
