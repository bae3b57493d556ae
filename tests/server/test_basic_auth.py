"""Who is let in on the gRPC and Flight ports, and TLS on both."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pyarrow import flight

from filestore import errors
from filestore.database import Database
from filestore.server.basic_auth import BasicAuth, host_of
from filestore.server.flight import start_flight
from filestore.server.grpc_service import start_grpc
from filestore.server.pgwire.auth import verifier_of


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def nobody(user: str) -> str | None:
    return None


def with_password(password: str) -> Callable[[str], str | None]:
    verifier = str(verifier_of(password))
    return lambda user: verifier if user == "postgres" else None


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[fe80::1]:80", "fe80::1"),
        ("unix:/tmp/x", None),
        ("", None),
    ],
)
def test_peers(peer: str, host: str | None) -> None:
    assert host_of(peer) == host


def test_who_is_let_in() -> None:
    open_door = BasicAuth(nobody, encrypted=True)
    assert open_door.admit("127.0.0.1", None) == "postgres"
    for address in ("192.0.2.1", None):
        with pytest.raises(errors.InvalidAuthorization):
            open_door.admit(address, None)
        with pytest.raises(errors.InvalidPassword):
            open_door.admit(address, basic("postgres", ""))
    locked = BasicAuth(with_password("pässword"), encrypted=True)
    with pytest.raises(errors.InvalidAuthorization):
        locked.admit("127.0.0.1", None)
    for _ in range(2):
        assert locked.admit("192.0.2.1", basic("postgres", "pässword")) == "postgres"
        with pytest.raises(errors.InvalidPassword):
            locked.admit("192.0.2.1", basic("postgres", "password"))
        with pytest.raises(errors.InvalidPassword):
            locked.admit("127.0.0.1", basic("nobody", "pässword"))
    for malformed in ("Basic !", "Basic", "Bearer x", basic("x", "y")[:9], "Basic " + base64.b64encode(b"x").decode()):
        with pytest.raises(errors.InvalidAuthorization):
            locked.admit("127.0.0.1", malformed)


def test_no_password_in_the_clear() -> None:
    plain = BasicAuth(with_password("x"), encrypted=False)
    assert plain.admit("127.0.0.1", basic("postgres", "x")) == "postgres"
    with pytest.raises(errors.InvalidAuthorization, match="need TLS"):
        plain.admit("192.0.2.1", basic("postgres", "x"))


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def test_tls_on_both_ports(data_dir: Path) -> None:
    pem = certificate()
    database = Database.open(str(data_dir))
    try:
        handle = start_flight(database, "127.0.0.1", 0, certificate=pem)
        with flight.connect(f"grpc+tls://127.0.0.1:{handle.port}", tls_root_certs=pem[0]) as client:
            assert client.do_get(flight.Ticket(b"SELECT 1 AS a")).read_all().to_pylist() == [{"a": 1}]
        handle.stop(1)
        asyncio.run(check_grpc(database, pem))
    finally:
        database.close()


async def check_grpc(database: Database, pem: tuple[bytes, bytes]) -> None:
    handle = await start_grpc(database, "127.0.0.1", 0, certificate=pem)
    credentials = grpc.ssl_channel_credentials(pem[0])
    async with grpc.aio.secure_channel(f"127.0.0.1:{handle.port}", credentials) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(errors.ObjectInUse):
        await start_grpc(database, "127.0.0.1", handle.port)
    await handle.stop(1)
