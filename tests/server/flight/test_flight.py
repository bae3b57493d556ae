"""The Arrow Flight port through pyarrow's client: queries out, tables in, errors, cancelling, credentials."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import flight

from filestore.database import Database
from filestore.server.flight import start_flight
from filestore.server.pgwire.auth import verifier_of
from filestore.txn.drive import drive
from tests.conftest import close_sound


class Port:
    """A database, its Flight port and a client."""

    def __init__(self, directory: Path, verifier: Callable[[str], str | None] | None = None) -> None:
        self.database = Database.open(str(directory))
        self.handle = start_flight(self.database, "127.0.0.1", 0, verifier=verifier)
        self.client = flight.connect(f"grpc://127.0.0.1:{self.handle.port}")

    def sql(self, text: str, options: Any = None) -> dict[str, Any]:
        (result,) = list(self.client.do_action(flight.Action("execute", text.encode()), options))
        return json.loads(result.body.to_pybytes())

    def query(self, text: str) -> pa.Table:
        information = self.client.get_flight_info(flight.FlightDescriptor.for_command(text))
        (endpoint,) = information.endpoints
        table = self.client.do_get(endpoint.ticket).read_all()
        assert table.schema == information.schema
        return table

    def put(self, table: pa.Table, *path: str, chunk: int | None = None) -> int:
        writer, answers = self.client.do_put(flight.FlightDescriptor.for_path(*path), table.schema)
        writer.write_table(table, chunk)
        writer.done_writing()
        answer = answers.read()
        writer.close()
        return int(json.loads(answer.to_pybytes())["rows"])

    def close(self) -> None:
        self.client.close()
        self.handle.stop(2)
        close_sound(self.database)


@pytest.fixture
def port(data_dir: Path) -> Iterator[Port]:
    made = Port(data_dir)
    yield made
    made.close()


def test_a_table_in_and_out(port: Port, seed: int) -> None:
    chance = random.Random(seed)
    rows = 70_000
    table = pa.table(
        {
            "id": pa.array(range(rows), pa.int32()),
            "name": pa.array([None if i % 7 == 0 else f"name number {i}" for i in range(rows)]),
            "kind": pa.array([f"kind {i % 5}" for i in range(rows)]).dictionary_encode(),
            "price": pa.array([Decimal(chance.randrange(10**8)).scaleb(-2) for _ in range(rows)], pa.decimal128(12, 2)),
            "day": pa.array([dt.date(2000, 1, 1) + dt.timedelta(i % 9999) for i in range(rows)]),
            "flag": pa.array([i % 3 == 0 for i in range(rows)]),
            "at": pa.array([i * 1_000_003 for i in range(rows)], pa.timestamp("us", "UTC")),
        }
    )
    port.sql(
        "CREATE TABLE item (id integer PRIMARY KEY, name text, kind text, price numeric(12,2), day date, flag boolean,"
        " at timestamptz)"
    )
    assert port.put(table, "item", chunk=9999) == rows
    back = port.query("SELECT * FROM item ORDER BY id")
    for name in table.column_names:
        assert back[name].to_pylist() == table[name].to_pylist(), name
    whole = port.client.do_get(flight.Ticket(b'{"table": ["public", "item"]}')).read_all()
    assert whole.num_rows == rows
    few = port.query("SELECT name FROM item WHERE id = 1")
    assert few["name"].to_pylist() == ["name number 1"]
    assert few.nbytes < 10_000


def test_columns_go_by_name_and_all_or_nothing(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, v integer DEFAULT 7, w bigint)")
    assert port.put(pa.table({"w": [1, 2], "id": [10, 20]}), "public", "item") == 2
    assert port.query("SELECT * FROM item ORDER BY id").to_pylist() == [
        {"id": 10, "v": 7, "w": 1},
        {"id": 20, "v": 7, "w": 2},
    ]
    with pytest.raises(flight.FlightServerError, match="23505"):
        port.put(pa.table({"id": [30, 10]}), "item")
    with pytest.raises(flight.FlightServerError, match="42703"):
        port.put(pa.table({"id": [30], "nonsense": [1]}), "item")
    with pytest.raises(flight.FlightServerError, match=r"22003|42804"):
        port.put(pa.table({"id": [2**40]}), "item")
    with pytest.raises(flight.FlightServerError, match="23502") as caught:
        port.put(pa.table({"id": pa.array([30, None], pa.int32())}), "item")
    assert json.loads(caught.value.extra_info)["context"] == "COPY item, row 2"
    with pytest.raises(flight.FlightServerError, match="42P01"):
        port.put(pa.table({"id": [30]}), "itme")
    assert port.query("SELECT count(*) AS n FROM item")["n"].to_pylist() == [2]


def test_what_there_is(port: Port) -> None:
    port.sql("CREATE TABLE one (a integer, b text)")
    port.sql("CREATE TABLE two (c date)")
    listed = {tuple(info.descriptor.path): info.schema for info in port.client.list_flights()}
    assert set(listed) == {(b"public", b"one"), (b"public", b"two")}
    assert listed[(b"public", b"two")] == pa.schema([("c", pa.date32())])
    path = flight.FlightDescriptor.for_path("two")
    assert port.client.get_schema(path).schema == listed[(b"public", b"two")]
    assert port.client.do_get(port.client.get_flight_info(path).endpoints[0].ticket).read_all().num_rows == 0
    assert {action.type for action in port.client.list_actions()} == {"execute", "healthcheck"}
    assert next(iter(port.client.do_action("healthcheck"))).body.to_pybytes() == b"ok"


def test_statements(port: Port) -> None:
    assert port.sql("CREATE TABLE item (a integer)") == {"tag": "CREATE TABLE", "rows": 0}
    assert port.sql("INSERT INTO item VALUES (1), (2), (3)") == {"tag": "INSERT 0 3", "rows": 3}
    assert port.sql("DELETE FROM item WHERE a > 1") == {"tag": "DELETE 2", "rows": 2}
    assert port.query("SELECT a * 2 AS b, 'x' AS c FROM item").to_pylist() == [{"b": 2, "c": "x"}]


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT $1::integer", "42P02"),
        ("CREATE TABLE t (a integer)", "0A000"),
        ("SELECT 1; SELECT 2", "42601"),
        ("", "0A000"),
        ("SELECT '\0'", "22021"),
    ],
)
def test_errors_of_statements(port: Port, text: str, sqlstate: str) -> None:
    for call in (
        lambda: port.client.get_flight_info(flight.FlightDescriptor.for_command(text)),
        lambda: port.client.do_get(flight.Ticket(text.encode())),
    ):
        with pytest.raises(flight.FlightError) as caught:
            call()
        assert str(caught.value).startswith(f"{sqlstate}: ")
        assert "Traceback" not in str(caught.value)
        assert json.loads(caught.value.extra_info)["sqlstate"] == sqlstate


def test_a_result_without_columns_is_refused_by_name(port: Port) -> None:
    for call in (
        lambda: port.client.get_flight_info(flight.FlightDescriptor.for_command("SELECT FROM generate_series(1, 2)")),
        lambda: port.client.do_get(flight.Ticket(b"SELECT FROM generate_series(1, 2)")),
    ):
        with pytest.raises(flight.FlightError, match="0A000: a result without columns"):
            call()


@pytest.mark.parametrize(
    ("ticket", "sqlstate"),
    [
        (b"{", "22023"),
        (b"{" + b"\xff", "22023"),
        (b'{"rows": 1}', "22023"),
        (b'{"table": 5}', "22023"),
        (b'{"table": null}', "22023"),
        (b'{"table": {"item": 1}}', "22023"),
        (b'{"table": []}', "22023"),
        (b'{"table": ["a", "b", "c"]}', "22023"),
        (b'{"table": ["public", 1]}', "22023"),
        (b'{"table":' + b"[" * 100_000, "22023"),
        (b'{"table": "item\\u0000"}', "22021"),
        (b'{"table": "item\\ud800"}', "22021"),
        (b'{"table": "nowhere"}', "42P01"),
        (b"\x00\x01\xff", "22021"),
    ],
)
def test_tickets_that_are_none(port: Port, ticket: bytes, sqlstate: str) -> None:
    with pytest.raises(flight.FlightError) as caught:
        port.client.do_get(flight.Ticket(ticket))
    fields = json.loads(caught.value.extra_info)
    assert fields["sqlstate"] == sqlstate
    assert "position" not in fields
    assert "Traceback" not in str(caught.value)


def test_what_is_not_built_is_refused_by_name(port: Port) -> None:
    port.sql("CREATE TABLE item (a integer)")
    for text in ("COPY item FROM STDIN", "COPY item TO STDOUT"):
        with pytest.raises(flight.FlightError, match="0A000: COPY"):
            port.sql(text)
    with pytest.raises(flight.FlightError, match="0A000: action nonsense"):
        list(port.client.do_action("nonsense"))
    writer, reader = port.client.do_exchange(flight.FlightDescriptor.for_path("item"))
    with pytest.raises(flight.FlightError, match="0A000: DoExchange") as caught:
        reader.read_chunk()
    assert "Traceback" not in str(caught.value)
    with pytest.raises(flight.FlightError):
        writer.close()
    assert not port.database.sessions


def test_an_error_in_the_middle_of_the_rows(port: Port) -> None:
    reader = port.client.do_get(flight.Ticket(b"SELECT 1 / (i - 150000) FROM generate_series(1, 200000) AS s(i)"))
    with pytest.raises(flight.FlightError, match="22012: division by zero") as caught:
        reader.read_all()
    assert "Traceback" not in str(caught.value)


def test_flight_sql_is_refused_by_name(port: Port) -> None:
    command = b"\n/type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery\x12\x0a\n\x08SELECT 1"
    with pytest.raises(flight.FlightError, match="0A000: Flight SQL"):
        port.client.get_flight_info(flight.FlightDescriptor.for_command(command))


def test_a_client_that_leaves_ends_the_query(port: Port) -> None:
    port.sql("CREATE TABLE item (a integer)")
    port.sql("INSERT INTO item SELECT i FROM generate_series(1, 300000) AS s(i)")
    reader = port.client.do_get(flight.Ticket(b"SELECT a, repeat('x', 200) FROM item"))
    reader.read_chunk()
    reader.cancel()
    all_gone(port)


def all_gone(port: Port, but: int = 0) -> None:
    """Waits for the calls to end, far less long than the queries of these tests would take."""
    deadline = time.monotonic() + 60
    while len(port.database.sessions) > but and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(port.database.sessions) == but


@pytest.mark.parametrize("call", ["get", "execute", "lock", "put"])
def test_a_deadline_ends_what_computes_or_waits(port: Port, call: str) -> None:
    port.sql("CREATE TABLE item (a integer)")
    port.sql("INSERT INTO item SELECT i FROM generate_series(1, 300000) AS s(i)")
    endless = "SELECT count(*) FROM item x, item y WHERE x.a + y.a = 0"
    options = flight.FlightCallOptions(timeout=0.3)
    held = port.database.session()
    if call in ("lock", "put"):
        for part in held.parse("BEGIN; LOCK TABLE item"):
            drive(held.execute(part), port.database.lock, held.poll)

    def put() -> None:
        path = flight.FlightDescriptor.for_path("item")
        writer, answers = port.client.do_put(path, pa.schema([("a", pa.int32())]), options)
        writer.done_writing()
        answers.read()
        writer.close()

    calls = {
        "get": lambda: port.client.do_get(flight.Ticket(endless.encode()), options).read_all(),
        "execute": lambda: port.sql(endless, options),
        "lock": lambda: port.sql("DELETE FROM item", options),
        "put": put,
    }
    with pytest.raises(flight.FlightTimedOutError):
        calls[call]()
    all_gone(port, but=1)
    held.close()
    assert port.sql("DELETE FROM item WHERE a = 1")["rows"] == 1


def test_many_clients_at_once(port: Port) -> None:
    port.sql("CREATE TABLE item (a integer)")

    def work(number: int) -> None:
        with flight.connect(f"grpc://127.0.0.1:{port.handle.port}") as client:
            for i in range(10):
                table = pa.table({"a": pa.array([number * 100 + i], pa.int32())})
                writer, _ = client.do_put(flight.FlightDescriptor.for_path("item"), table.schema)
                writer.write_table(table)
                writer.close()
                client.do_get(flight.Ticket(b"SELECT count(*) FROM item")).read_all()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert port.query("SELECT count(DISTINCT a) AS n FROM item")["n"].to_pylist() == [40]


def test_credentials(data_dir: Path) -> None:
    verifier = str(verifier_of("s3cret"))
    port = Port(data_dir, lambda user: verifier if user == "postgres" else None)

    def options(password: str) -> Any:
        token = base64.b64encode(f"postgres:{password}".encode()).rstrip(b"=")
        return flight.FlightCallOptions(headers=[(b"authorization", b"Basic " + token)])

    try:
        with pytest.raises(flight.FlightUnauthenticatedError, match="28000"):
            port.sql("SELECT 1")
        with pytest.raises(flight.FlightUnauthenticatedError, match="28P01"):
            port.sql("SELECT 1", options("wrong"))
        assert port.sql("SELECT 1", options("s3cret"))["tag"] == "SELECT 1"
    finally:
        port.close()
