"""Sockets: what a client may do wrong, suddenly or slowly, and what the port does about it.

Goal: whatever one connection does, it gets its answer or its end, and the others do not notice.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from filestore.database import Database
from filestore.hal import SimulatedDisk, process
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.auth import verifier_of
from filestore.server.pgwire.tls import server_context
from tests.server.pgwire.conftest import Running, run_port

STARTUP = m.Startup(3, 0, {"user": "postgres", "database": "postgres"}).encode()


class Client:
    """A socket that knows framing and nothing else."""

    def __init__(self, port: Running, startup: bytes | None = STARTUP) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port.port), timeout=10)
        if startup is not None:
            self.send(startup)
            self.until("Z")

    def send(self, *raw: bytes) -> None:
        self.socket.sendall(b"".join(raw))

    def exactly(self, nbytes: int) -> bytes:
        parts = []
        while nbytes:
            part = self.socket.recv(nbytes)
            if not part:
                raise EOFError
            parts.append(part)
            nbytes -= len(part)
        return b"".join(parts)

    def reply(self) -> r.Reply:
        kind, length = struct.unpack("!cI", self.exactly(5))
        return r.decode_reply(kind, self.exactly(length - 4))

    def until(self, kinds: str) -> list[r.Reply]:
        """Replies up to the first of one of the kinds."""
        out: list[r.Reply] = []
        while not out or (out[-1].KIND or out[-1].encode()[:1]).decode() not in kinds:
            out.append(self.reply())
        return out

    def at_end(self) -> bool:
        """Whether the server has closed."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def query(self, text: str) -> list[r.Reply]:
        self.send(m.Query(text).encode())
        return self.until("Z")

    def error(self) -> dict[str, str]:
        found = self.until("E")[-1]
        assert isinstance(found, r.ErrorResponse)
        return found.fields

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sqlstate(replies: list[r.Reply]) -> str | None:
    return next((x.fields["C"] for x in replies if type(x) is r.ErrorResponse), None)


# --- before the session ----------------------------------------------------------------------------------------------


def test_ssl_and_gss_requests_are_declined(port: Running) -> None:
    with Client(port, None) as client:
        client.send(m.SslRequest().encode())
        assert client.exactly(1) == b"N"
        client.send(m.GssEncRequest().encode())
        assert client.exactly(1) == b"N"
        client.send(STARTUP)
        assert client.until("Z")[-1] == r.ReadyForQuery("I")


@pytest.mark.parametrize("request_", [m.SslRequest(), m.GssEncRequest()])
def test_a_byte_behind_an_encryption_request_ends_the_connection(port: Running, request_: m.Message) -> None:
    with Client(port, None) as client:
        client.send(request_.encode(), STARTUP)
        assert client.at_end()


def test_protocol_3_2_is_negotiated(port: Running) -> None:
    startup = m.Startup(3, 2, {"user": "postgres", "database": "postgres", "_pq_.x": "1"})
    with Client(port, None) as client:
        client.send(startup.encode())
        assert client.until("Z")[0] == r.NegotiateProtocolVersion(0, ("_pq_.x",))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (struct.pack("!I", 100_000), "08P01"),
        (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
        (m.Startup(2, 0, {}).encode(), "0A000"),
        (m.Startup(3, 0, {"database": "postgres"}).encode(), "28000"),
        (m.Startup(3, 0, {"user": "postgres", "replication": "true"}).encode(), "0A000"),
        (struct.pack("!II", 12, 3 << 16) + b"user", "08P01"),
    ],
)
def test_what_is_no_startup_is_refused(port: Running, raw: bytes, code: str) -> None:
    with Client(port, None) as client:
        client.send(raw)
        fields = client.error()
        assert (fields["S"], fields["C"]) == ("FATAL", code)
        assert client.at_end()


def test_thirteen_parameters_are_told(port: Running) -> None:
    with Client(port, None) as client:
        client.send(STARTUP)
        told = {x.name: x.value for x in client.until("Z") if isinstance(x, r.ParameterStatus)}
    assert len(told) == 13
    assert told["client_encoding"] == told["server_encoding"] == "UTF8"
    assert told["server_version"].startswith("15.")
    assert told["integer_datetimes"] == told["standard_conforming_strings"] == "on"


# --- violations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"!\0\0\0\4", b"Q\0\0\0\0", b"S\0\1\0\0", b"p\0\0\0\5x"])
def test_bytes_that_are_no_message_are_fatal(port: Running, raw: bytes) -> None:
    with Client(port) as client:
        client.send(m.Query("select 1").encode(), raw)
        assert r.DataRow((b"1",)) in client.until("Z")
        fields = client.error()
        assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
        assert client.at_end()


def test_a_broken_body_is_an_error_and_no_more(port: Running) -> None:
    with Client(port) as client:
        client.send(b"P\0\0\0\5x", m.Sync().encode())
        replies = client.until("Z")
        assert sqlstate(replies) == "08P01"
        assert len(replies) == 2
        assert sqlstate(client.query("select 1")) is None


def test_text_that_is_not_utf8(port: Running) -> None:
    with Client(port) as client:
        client.send(b"Q\0\0\0\x0fselect '\xff'\0")
        assert sqlstate(client.until("Z")) == "22021"


def test_a_pipeline_is_answered_in_order(port: Running) -> None:
    with Client(port) as client:
        client.send(*(m.Query(f"select {i}").encode() for i in range(300)))
        for i in range(300):
            assert r.DataRow((str(i).encode(),)) in client.until("Z")


def test_begin_with_a_statement_pipelined_behind_it(port: Running) -> None:
    with Client(port) as client:
        client.send(
            m.Query("begin").encode(), m.Parse("", "select 1").encode(), m.Bind("", "", (), (), ()).encode(),
            m.Execute("", 0).encode(), m.Sync().encode(),
        )  # fmt: skip
        assert client.until("Z")[-1] == r.ReadyForQuery("T")
        assert client.until("Z")[-1] == r.ReadyForQuery("T")


def test_flush_brings_what_there_is(port: Running) -> None:
    with Client(port) as client:
        client.send(m.Parse("", "select $1::int").encode(), m.Describe("S", "").encode(), m.Flush().encode())
        assert client.until("T")[1] == r.ParameterDescription((23,))
        client.send(m.Bind("", "", (), (b"7",), ()).encode(), m.Execute("", 0).encode(), m.Flush().encode())
        assert r.DataRow((b"7",)) in client.until("C")
        client.send(m.Sync().encode())
        assert client.until("Z") == [r.ReadyForQuery("I")]


def test_mutated_sessions_harm_nobody(port: Running, seed: int) -> None:
    """P2 in small: recorded sessions with bytes changed; a neighbour keeps being served."""
    chance = random.Random(seed)
    recorded = b"".join(
        x.encode()
        for x in (
            m.Query("select 1"), m.Parse("a", "select $1::int4, $2::text", (23, 25)), m.Describe("S", "a"),
            m.Bind("", "a", (1, 0), (b"\0\0\0\1", b"x"), (1,)), m.Describe("P", ""), m.Execute("", 1), m.Sync(),
            m.Query("copy (select 1) to stdout"), m.Close("S", "a"), m.Sync(), m.Terminate(),
        )
    )  # fmt: skip
    with Client(port) as neighbour:
        for _ in range(30):
            mutated = bytearray(recorded)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(mutated))
                mutated[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
            with Client(port) as client:
                client.socket.settimeout(0.1)
                client.send(bytes(mutated))
                try:
                    while client.socket.recv(65_536):
                        pass
                except (TimeoutError, ConnectionResetError):
                    pass
            assert r.DataRow((b"2",)) in neighbour.query("select 2")


# --- cancel, time, the end -------------------------------------------------------------------------------------------

SLOW = "select count(*) from generate_series(1, 200000) a, generate_series(1, 200000) b"


def test_cancel_within_a_second(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled, match="due to user request"):
            connection.execute(SLOW)
        assert time.monotonic() - began < 1.2
        timer.join()
        assert connection.execute("select 1").fetchone() == (1,)


def test_cancel_of_a_lock_wait(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as two:
        one.execute("create table cancel_lock (a int primary key)")
        one.execute("insert into cancel_lock values (1)")
        one.execute("begin")
        one.execute("delete from cancel_lock")
        timer = threading.Timer(0.2, two.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            two.execute("update cancel_lock set a = 2")
        timer.join()
        two.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            two.execute("update cancel_lock set a = 2")
        two.execute("set lock_timeout = 0")
        two.execute("set statement_timeout = '100ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            two.execute("update cancel_lock set a = 2")
        one.execute("rollback")
        two.execute("update cancel_lock set a = 2")
        two.execute("drop table cancel_lock")


def test_a_bare_cancel_request(port: Running) -> None:
    with Client(port, None) as client, Client(port, None) as other:
        client.send(STARTUP)
        [key] = [x for x in client.until("Z") if isinstance(x, r.BackendKeyData)]
        client.send(m.Query(SLOW).encode())
        time.sleep(0.1)
        other.send(m.CancelRequest(key.process_id, key.secret).encode())
        assert other.at_end()
        assert sqlstate(client.until("Z")) == "57014"


def test_cancel_with_a_wrong_secret_or_of_an_idle_session_does_nothing(port: Running) -> None:
    with Client(port, None) as client:
        client.send(STARTUP)
        [key] = [x for x in client.until("Z") if isinstance(x, r.BackendKeyData)]
        for secret in (bytes(4), key.secret):
            with Client(port, None) as other:
                other.send(m.CancelRequest(key.process_id, secret).encode())
                assert other.at_end()
        assert sqlstate(client.query("select 1")) is None


def test_statement_timeout(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="due to statement timeout"):
            connection.execute(SLOW)
        assert connection.execute("select 1").fetchone() == (1,)


def test_idle_in_transaction(port: Running) -> None:
    with Client(port) as client:
        client.query("set idle_in_transaction_session_timeout = '100ms'")
        client.query("begin")
        client.query("select 1")
        fields = client.error()
        assert (fields["S"], fields["C"]) == ("FATAL", "25P03")
        assert client.at_end()


def test_a_client_that_vanishes_gives_up_its_locks(port: Running, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("create table vanish (a int primary key)")
        other.execute("insert into vanish values (1)")
        client = Client(port)
        client.query("begin")
        client.query("update vanish set a = 2")
        client.close()
        other.execute("set lock_timeout = '5s'")
        other.execute("update vanish set a = 3 where a = 1")
        assert other.execute("select a from vanish").fetchall() == [(3,)]

        holder, waiter = Client(port), Client(port)
        holder.query("begin")
        holder.query("update vanish set a = 4")
        waiter.send(m.Query("update vanish set a = 5").encode())
        time.sleep(0.1)
        waiter.close()
        time.sleep(0.1)
        holder.query("rollback")
        other.execute("update vanish set a = 6")
        assert other.execute("select a from vanish").fetchall() == [(6,)]
        holder.close()
        other.execute("drop table vanish")


def test_a_client_that_vanishes_while_its_query_runs(port: Running) -> None:
    client = Client(port)
    client.send(m.Query(SLOW).encode())
    time.sleep(0.2)
    client.close()
    until = time.monotonic() + 5
    while any(c.busy for c in port.listener.connections) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(c.busy for c in port.listener.connections)


def test_a_result_is_not_buffered_whole_for_a_client_that_does_not_read(port: Running) -> None:
    with Client(port) as client:
        before = process.resident_bytes()
        client.send(m.Query("select i, repeat('x', 1000) from generate_series(1, 400000) i").encode())
        time.sleep(1.0)
        assert process.resident_bytes() - before < 150 << 20
        rows = nbytes = 0
        while True:
            kind, length = struct.unpack("!cI", client.exactly(5))
            client.exactly(length - 4)
            rows += kind == b"D"
            nbytes += length
            if kind == b"Z":
                break
        assert rows == 400_000
        assert nbytes > 400_000_000


def test_others_are_served_while_one_query_runs(port: Running, dsn: str) -> None:
    with Client(port) as client, psycopg.connect(dsn, autocommit=True) as other:
        client.send(m.Query(SLOW).encode())
        time.sleep(0.1)
        slowest = 0.0
        for _ in range(50):
            began = time.monotonic()
            assert other.execute("select 1").fetchone() == (1,)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.0


# --- ports of their own ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(database: Database) -> Iterator[Running]:
    running = run_port(database, connections=2)
    yield running
    running.stop()


def test_the_connection_cap(small: Running) -> None:
    with Client(small), Client(small):
        with Client(small, None) as third:
            third.send(STARTUP)
            fields = third.error()
            assert (fields["S"], fields["C"]) == ("FATAL", "53300")
            assert third.at_end()
    until = time.monotonic() + 5
    while len(small.listener.connections) and time.monotonic() < until:
        time.sleep(0.02)
    with Client(small) as again:
        assert sqlstate(again.query("select 1")) is None


def test_shutdown_ends_idle_sessions_and_rolls_back(small: Running, database: Database) -> None:
    with Client(small) as idle, Client(small) as waiting:
        idle.query("begin")
        idle.query("create table never_committed (a int)")
        stopping = threading.Thread(target=small.stop)
        stopping.start()
        for client in (idle, waiting):
            fields = client.error()
            assert (fields["S"], fields["C"]) == ("FATAL", "57P01")
            assert client.at_end()
        stopping.join(10)
        assert not small.thread.is_alive()


@pytest.fixture(scope="module")
def secured(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A port with a password and a certificate."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "server.crt", directory / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = server_context(str(certificate), str(key))
    running = run_port(database, verifier=str(verifier_of("sesame")), tls=tls)
    yield running, certificate
    running.stop()


def test_a_password(secured: tuple[Running, Path]) -> None:
    port, _ = secured
    with psycopg.connect(f"{port.dsn} password=sesame sslmode=disable") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for dsn in (f"{port.dsn} password=wrong", f"{port.dsn} password=sesame user=nobody"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed for user"):
            psycopg.connect(dsn)


def test_nothing_is_served_before_the_password(secured: tuple[Running, Path]) -> None:
    port, _ = secured
    with Client(port, None) as client:
        client.send(STARTUP)
        assert client.reply() == r.Authentication(10, b"SCRAM-SHA-256\0\0")
        client.send(m.Query("select 1").encode())
        assert client.error()["C"] == "08P01"
        assert client.at_end()


def test_tls(secured: tuple[Running, Path]) -> None:
    port, certificate = secured
    dsn = f"{port.dsn} password=sesame sslrootcert={certificate}"
    with psycopg.connect(f"{dsn} sslmode=verify-full", autocommit=True) as connection:
        assert connection.execute("select repeat('x', 1000000)").fetchone() == ("x" * 1_000_000,)
        with connection.cursor().copy("copy (select i from generate_series(1, 1000) i) to stdout") as copy:
            assert len(list(copy)) == 1000
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(SLOW)
        timer.join()
    if psycopg.pq.version() >= 170_000:
        with psycopg.connect(f"{dsn} sslmode=verify-full sslnegotiation=direct") as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_direct_tls_needs_its_protocol_by_name(secured: tuple[Running, Path]) -> None:
    port, certificate = secured
    for protocols, served in ((["postgresql"], True), ([], False), (["http/1.1"], False)):
        context = ssl.create_default_context(cafile=str(certificate))
        if protocols:
            context.set_alpn_protocols(protocols)
        with Client(port, None) as client:
            try:
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
                client.send(STARTUP)
                first = client.reply()
            except (ssl.SSLError, EOFError, ConnectionResetError):
                assert not served
            else:
                assert served
                assert isinstance(first, r.Authentication)


def test_old_tls_is_refused(secured: tuple[Running, Path]) -> None:
    port, _ = secured
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"{port.dsn} password=sesame sslmode=require ssl_max_protocol_version=TLSv1.1")


def test_plain_bytes_behind_an_ssl_request_are_not_believed(secured: tuple[Running, Path]) -> None:
    port, _ = secured
    with Client(port, None) as client:
        client.send(m.SslRequest().encode(), STARTUP)
        assert client.at_end()


# --- a store that fails ----------------------------------------------------------------------------------------------


def test_a_failed_store_answers_58030_and_nothing_more() -> None:
    """R31: nothing is acknowledged after a failed sync, and every session is told."""
    disk = SimulatedDisk()
    failing = Database.over(disk)
    running = run_port(failing)
    with Client(running) as writer, Client(running) as reader, Client(running) as idle:
        writer.query("create table doomed (a int primary key)")
        fault = disk.fail("sync", sticky=True)
        writer.send(m.Query("insert into doomed values (1)").encode())
        for client in (writer, idle):
            fields = client.error()
            assert (fields["S"], fields["C"]) == ("FATAL", "58030")
            assert client.at_end()
        reader.send(m.Query("select 1").encode())
        assert reader.error()["C"] == "58030"
        assert reader.at_end()
    assert fault.injected > 0
    assert running.listener.dead
    assert running.listener.storage_failed is not None
    assert running.listener.storage_failed.done()
    running.stop()
