"""The Arrow Flight port: queries out and tables in as record batches, without rows in between.

| call                                      | what it does                                                    |
|-------------------------------------------|-----------------------------------------------------------------|
| GetFlightInfo, GetSchema (command: SQL)   | the schema of a query, which is not run; a ticket for DoGet     |
| the same (path: [schema,] table)          | the same for a whole table                                      |
| DoGet (ticket: SQL)                       | runs the query and streams its rows                             |
| DoPut (path: [schema,] table)             | appends a stream to a table, all or nothing; columns go by name |
| ListFlights                               | the tables                                                      |
| DoAction `execute` (body: SQL)            | runs one statement, answers {"tag": ..., "rows": n} as JSON     |
| DoAction `healthcheck`                    | answers "ok"                                                    |

Every call is a session and a transaction of its own. An error's message begins with its SQLSTATE (`42P01: ...`),
its fields are the JSON in `extra_info`. Flight SQL is not built: its commands are protobuf, so they can be told
from SQL text by `flight_requests`.

Thread rule: handlers run on gRPC's threads; statements are driven there, with the engine lock held while they run.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import flight

from filestore import errors
from filestore.server import flight_rows
from filestore.server.basic_auth import BasicAuth, host_of
from filestore.server.faults import internal_fault
from filestore.server.flight_calls import Caller, Watch
from filestore.server.flight_errors import flight_error
from filestore.server.flight_requests import TableRequest, described, sql_text, ticketed

if TYPE_CHECKING:
    from filestore.database import Database

LOG = logging.getLogger("filestore.flight")

STOP_S: Final = 5.0
_AUTH: Final = "authorization"


class _Headers(flight.ServerMiddleware):
    """Keeps a call's authorization header for its handler."""

    def __init__(self, authorization: str | None) -> None:
        self.authorization = authorization


class _HeadersFactory(flight.ServerMiddlewareFactory):
    def start_call(self, info: Any, headers: Any) -> _Headers:  # noqa: ARG002
        values = headers.get(_AUTH) or [None]
        return _Headers(values[0])


class FlightService(flight.FlightServerBase):
    """See the module."""

    def __init__(self, database: Database, auth: BasicAuth, location: str, **options: Any) -> None:
        self._database = database
        self._auth = auth
        self._watch = Watch()
        super().__init__(location, middleware={_AUTH: _HeadersFactory()}, **options)

    # --- what there is --------------------------------------------------------------------------------------------

    def get_flight_info(self, context: Any, descriptor: Any) -> Any:
        with self._call(context) as caller:
            request = described(descriptor)
            return _information(descriptor, request.ticket(), flight_rows.schema_of(caller, request))

    def get_schema(self, context: Any, descriptor: Any) -> Any:
        with self._call(context) as caller:
            return flight.SchemaResult(flight_rows.schema_of(caller, described(descriptor)))

    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:
        with self._call(context):
            wanted = criteria.decode("utf-8", "replace") if criteria else ""
            found = []
            for request, schema in flight_rows.tables(self._database):
                if wanted in request.table:
                    descriptor = flight.FlightDescriptor.for_path(request.schema or "", request.table)
                    found.append(_information(descriptor, request.ticket(), schema))
        return iter(found)

    # --- rows -----------------------------------------------------------------------------------------------------

    def do_get(self, context: Any, ticket: Any) -> Any:
        with self._call(context) as caller:
            schema, batches = flight_rows.rows(caller, ticketed(ticket))
            # Not a RecordBatchReader: an error in one of those reaches the client with its traceback.
            return flight.GeneratorStream(schema, _clean(batches))

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        with self._call(context) as caller:
            request = described(descriptor)
            if not isinstance(request, TableRequest):
                raise errors.InvalidParameterValue(
                    "DoPut takes the path of a table", hint='FlightDescriptor.for_path("schema", "table")'
                )
            count = flight_rows.append(caller, request, reader)
            writer.write(json.dumps({"rows": count}).encode())

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:  # noqa: ARG002
        with self._call(context):
            raise errors.FeatureNotSupported("DoExchange is not supported", hint="Use DoGet and DoPut.")

    # --- actions --------------------------------------------------------------------------------------------------

    def list_actions(self, context: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [
            ("execute", "Runs one SQL statement (the body) and answers its tag as JSON."),
            ("healthcheck", "Answers ok."),
        ]

    def do_action(self, context: Any, action: Any) -> list[bytes]:
        with self._call(context) as caller:
            if action.type == "healthcheck":
                return [b"ok"]
            if action.type != "execute":
                raise errors.FeatureNotSupported(f"action {action.type} is not supported", hint="execute, healthcheck")
            tag, count = flight_rows.execute(caller, sql_text(action.body.to_pybytes()))
            return [json.dumps({"tag": tag, "rows": count}).encode()]

    # --- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, context: Any) -> Iterator[Caller]:
        """Admits the caller; lets nothing but Flight's own errors out, since any other shows the client a traceback."""
        with _errors():
            middleware = context.get_middleware(_AUTH)
            user = self._auth.admit(host_of(context.peer()), middleware.authorization if middleware else None)
            yield Caller(self._database, user, context.is_cancelled, self._watch)

    def shutdown(self) -> None:
        super().shutdown()
        self._watch.stop()


def _information(descriptor: Any, ticket: Any, schema: Any) -> Any:
    # No location: the same server. Ranges of segments will be endpoints of their own.
    return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])], -1, -1)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except errors.Error as error:
        raise flight_error(error) from None
    except flight.FlightError:
        raise
    except pa.ArrowInvalid as error:
        raise flight_error(errors.InvalidParameterValue(str(error))) from None
    except Exception:
        LOG.exception("a call failed")
        raise flight_error(internal_fault()) from None


def _clean(batches: Iterator[Any]) -> Iterator[Any]:
    with _errors():
        yield from batches


class FlightHandle:
    """A running port. `port` is the one that was bound."""

    def __init__(self, service: FlightService) -> None:
        self.port: int = service.port
        self._service = service
        self._stopped = False

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Takes no more calls and waits for those under way, `timeout_s` seconds at most. Blocks; a second call
        does nothing.
        """
        if self._stopped:
            return
        self._stopped = True
        # From a thread of its own: shutdown waits for the last call, however long its client takes.
        waiting = threading.Thread(target=self._service.shutdown, name="flight-stop", daemon=True)
        waiting.start()
        waiting.join(timeout_s)


def start_flight(
    database: Database,
    host: str,
    port: int,
    *,
    verifier: Callable[[str], str | None] | None = None,
    certificate: tuple[bytes, bytes] | None = None,
) -> FlightHandle:
    """Starts the port; 0 binds a free one. Arguments as those of `start_grpc`. Raises 55006 when the address is
    taken.
    """
    auth = BasicAuth(verifier or (lambda user: None), encrypted=certificate is not None)  # noqa: ARG005
    shown = f"[{host}]" if ":" in host else host
    make = flight.Location.for_grpc_tcp if certificate is None else flight.Location.for_grpc_tls
    options = {} if certificate is None else {"tls_certificates": [flight.CertKeyPair(*certificate)]}
    try:
        service = FlightService(database, auth, make(shown, port), **options)
    except (pa.ArrowException, OSError) as error:
        raise errors.ObjectInUse(f"could not listen on {shown}:{port} for Arrow Flight: {error}") from None
    return FlightHandle(service)
