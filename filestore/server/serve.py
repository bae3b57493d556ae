"""`filestore serve`: a directory opened and all its ports, from the first line of the log to the last.

    open the directory (lock, recovery) -> warm the kernels -> listen -> `ready` -> SIGTERM or SIGINT
    -> accept nothing more, end idle sessions, let running statements finish for a grace -> checkpoint -> close

The PostgreSQL port runs on the loop's thread, which is the engine's; gRPC and Flight bring threads of their own. A
store that fails (RELIABILITY R31) ends the process at once: every session is told 58030, nothing is acknowledged or
written any more, and the next start recovers from the log.

What is said before `ready` to a person goes to standard error in words; everything else is a line of the log.

Thread rule: `serve` has the main thread, since signals go there; it returns when all is closed.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import socket
import sys
import threading
import time
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final

import uvloop

from filestore import errors
from filestore.database import Database
from filestore.hal import process
from filestore.server.flight import FlightHandle, start_flight
from filestore.server.log import Log
from filestore.server.options import ServeOptions
from filestore.server.pgwire.auth import Authenticator, verifier_of
from filestore.server.pgwire.listener import Limits, Listener
from filestore.server.pgwire.tls import server_context
from filestore.warm import is_warm, warm

if TYPE_CHECKING:
    from filestore.server.grpc_service import GrpcHandle

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_STORE_FAILED: Final = 74  # EX_IOERR of sysexits(3): a supervisor may restart, the log decides what was committed

PASSWORD_VARIABLE: Final = "FILESTORE_PASSWORD"
# How often a log that no person watches hears of a slow start.
PROGRESS_SECONDS: Final = 5.0
# After the store has failed, sessions get this long to read that it has.
LAST_WORDS_SECONDS: Final = 0.2
WATCH_SECONDS: Final = 0.5
# A collection looks at every object that lives; sessions and plans live long and statements make few cycles. Parsed
# statements that fell out of the cache are cycles and old, which only a full collection finds.
GC_THRESHOLDS: Final = (50_000, 5, 5)
# How long the log's thread may wait for the loop's to let it run, once a batch is durable: that is latency of commits.
SWITCH_SECONDS: Final = 0.0005


class Refused(Exception):
    """The server cannot start; the text is for a person, `hint` says what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def serve(directory: str, options: ServeOptions) -> int:
    """Serves a directory until SIGTERM or SIGINT; returns the process's exit code."""
    try:
        return _serve(directory, options)
    except Refused as refused:
        _tell(str(refused), refused.hint)
    except errors.Error as error:
        _tell(error.message, error.hint, error.detail)
    except OSError as error:
        _tell(f"{directory}: {error.strerror or error}")
    return EXIT_FAILED


def _tell(message: str, hint: str | None = None, detail: str | None = None) -> None:
    lines = [f"filestore: {message}"]
    lines += [f"detail: {detail}"] if detail else []
    lines += [f"hint: {hint}"] if hint else []
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _serve(directory: str, options: ServeOptions) -> int:
    began = time.monotonic()
    log = Log()
    # gRPC's and Flight's library write lines of their own to standard error, a handshake that failed among them.
    process.environ_default("GRPC_VERBOSITY", "NONE")
    verifier = _verifier(options)
    tls = _tls(options)
    _probe(options)
    database = Database.open(directory)
    opened = time.monotonic()
    log.info("opened", directory=directory, seconds=round(opened - began, 3))
    failed = False
    try:
        cold = not is_warm()
        if cold:
            _warm(log)
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(*GC_THRESHOLDS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            failed = runner.run(_run(database, options, verifier, tls, log, began, cold))
    finally:
        if not failed:
            database.close()
    if failed:
        # Nothing may be written any more, so nothing is closed either.
        log.error("exit", code=EXIT_STORE_FAILED)
        process.exit_now(EXIT_STORE_FAILED)
    log.info("closed")
    return EXIT_OK


def _warm(log: Log) -> None:
    """Compiles the kernels or loads them from the cache; a first start takes its time and says so.

    A later start serves at once and loads them beside its work.
    """
    began = told = time.monotonic()
    terminal = sys.stderr.isatty()

    def progress(done: int, of: int, name: str) -> None:
        nonlocal told
        now = time.monotonic()
        if terminal:
            sys.stderr.write(f"\r\033[K{done}/{of} {name}" if done < of else "\r\033[K")
            sys.stderr.flush()
        elif now - told >= PROGRESS_SECONDS:
            told = now
            log.info("warming", done=done, of=of)

    warm(progress)
    log.info("warm", seconds=round(time.monotonic() - began, 3))


async def _run(
    database: Database,
    options: ServeOptions,
    verifier: str | None,
    tls: SSLContext | None,
    log: Log,
    began: float,
    warmed: bool,
) -> bool:
    """Listens until a signal; returns whether the store failed."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, number.name)

    def verifier_for(user: str) -> str | None:
        return verifier if user == "postgres" else None

    limits = Limits(connections=options.connections)
    listener = Listener(database, Authenticator(verifier_for), log, tls=tls, limits=limits)
    flight: FlightHandle | None = None
    grpc: GrpcHandle | None = None
    try:
        ports = {"port": await _listen(listener, options)}
        database.facts.update(
            port=ports["port"],
            listen_addresses=options.host,
            max_connections=options.connections,
            ssl=tls is not None,
        )
        certificate = _pem(options)
        if options.flight_port >= 0:
            flight = start_flight(
                database, options.host, options.flight_port, verifier=verifier_for, certificate=certificate
            )
            ports["flight_port"] = flight.port
        if options.grpc_port >= 0:
            from filestore.server.grpc_service import start_grpc  # reads GRPC_VERBOSITY, which `_serve` sets

            grpc = await start_grpc(
                database, options.host, options.grpc_port, verifier=verifier_for, certificate=certificate
            )
            ports["grpc_port"] = grpc.port
        seconds = round(time.monotonic() - began, 3)
        log.info("ready", host=options.host, **ports, seconds=seconds, pid=process.pid())
        if not warmed:
            threading.Thread(target=_warm, args=(log,), name="warm", daemon=True).start()
        watching = asyncio.create_task(_watch_store(database, listener))
        assert listener.storage_failed is not None
        ends: list[asyncio.Future[Any]] = [stop, listener.storage_failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        if stop.done():
            log.info("stopping", signal=stop.result(), sessions=len(listener.connections))
        else:
            await asyncio.sleep(LAST_WORDS_SECONDS)
    finally:
        if not listener.dead:
            stopping = [listener.close(options.grace_seconds)]
            if grpc is not None:
                stopping.append(grpc.stop(options.grace_seconds))
            if flight is not None:
                stopping.append(asyncio.to_thread(flight.stop, options.grace_seconds))
            await asyncio.gather(*stopping)
    return listener.dead


async def _watch_store(database: Database, listener: Listener) -> None:
    """Sees a store that failed while only other ports, or nobody, wrote."""
    while database.engine.log.failed is None:
        await asyncio.sleep(WATCH_SECONDS)
    listener.failed(database.engine.log.failed, None)


def _probe(options: ServeOptions) -> None:
    """Sees that the port is free before a long start, not after it. Raises Refused."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise _taken(options, error) from None


async def _listen(listener: Listener, options: ServeOptions) -> int:
    try:
        return await listener.listen(options.host, options.port)
    except OSError as error:
        raise _taken(options, error) from None


def _taken(options: ServeOptions, error: OSError) -> Refused:
    return Refused(
        f"cannot listen on {options.host}:{options.port}: {error.strerror or error}",
        "Is another server running there? Choose another port with --port.",
    )


def _pem(options: ServeOptions) -> tuple[bytes, bytes] | None:
    """Certificate chain and key for the ports that bring their own TLS."""
    if options.certificate is None or options.key is None:
        return None
    with open(options.certificate, "rb") as chain, open(options.key, "rb") as key:
        return chain.read(), key.read()


def _stop(stop: asyncio.Future[str], signal_name: str) -> None:
    if not stop.done():
        stop.set_result(signal_name)


def _verifier(options: ServeOptions) -> str | None:
    """The SCRAM verifier of `postgres`, None when no password was set. Raises Refused for an open door to the
    network.
    """
    password = process.environ_get(PASSWORD_VARIABLE)
    if options.password_file is not None:
        try:
            with open(options.password_file, encoding="utf-8") as file:
                password = file.read().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f'cannot read the password file "{options.password_file}": {error}') from None
        if not password:
            raise Refused(f'the password file "{options.password_file}" is empty')
    if not password and not _only_local(options.host):
        raise Refused(
            f"will not listen on {options.host} without a password: everybody on the network would be let in",
            f"Set one with --password-file or {PASSWORD_VARIABLE}, or listen on 127.0.0.1.",
        )
    return str(verifier_of(password)) if password else None


def _only_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(options: ServeOptions) -> SSLContext | None:
    if options.certificate is None and options.key is None:
        return None
    if options.certificate is None or options.key is None:
        raise Refused("TLS needs both a certificate and its key", "Give --tls-cert and --tls-key.")
    return server_context(options.certificate, options.key)
