"""The gRPC port through real channels: rows of every type, pages, upserts, etags, errors, deadlines, credentials."""

from __future__ import annotations

import asyncio
import base64
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from filestore.database import Database
from filestore.server.grpc_service import SERVICE, GrpcHandle, start_grpc
from filestore.server.pgwire.auth import verifier_of
from filestore.server.proto.filestore.v1 import rows_pb2 as pb
from filestore.server.proto.filestore.v1 import rows_pb2_grpc
from filestore.txn.drive import drive
from tests.conftest import close_sound

PARENT = "databases/postgres/schemas/public/tables"


class Port:
    """A database and its gRPC port, on a loop in a thread of its own, as the server has it."""

    def __init__(self, directory: Path, verifier: Callable[[str], str | None] | None = None) -> None:
        self.database = Database.open(str(directory))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.handle: GrpcHandle = self.run(start_grpc(self.database, "127.0.0.1", 0, verifier=verifier))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.handle.port}")
        self.rows = rows_pb2_grpc.RowsStub(self.channel)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def sql(self, text: str) -> None:
        session = self.database.session()
        for statement in session.parse(text):
            result = drive(session.execute(statement), self.database.lock, session.poll)
            for _ in result.batches:
                pass
            drive(session.finish(), self.database.lock, session.poll)
        session.close()

    def close(self) -> None:
        self.channel.close()
        self.run(self.handle.stop(1))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        close_sound(self.database)


@pytest.fixture
def port(data_dir: Path) -> Iterator[Port]:
    made = Port(data_dir)
    yield made
    made.close()


def text(value: str) -> Any:
    return pb.Value(text_value=value)


def number(value: int) -> Any:
    return pb.Value(int64_value=value)


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, Any, str]:
    """(status code, ErrorInfo, sqlstate of the trailing metadata) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    error: Any = caught.value
    information = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(information)
    assert information.domain == "filestore"
    sqlstate = dict(error.trailing_metadata())["sqlstate"]
    assert information.metadata["sqlstate"] == sqlstate
    return error.code(), information, sqlstate


def test_the_life_of_a_row(port: Port) -> None:
    port.sql("CREATE TABLE city (name text PRIMARY KEY, people integer CHECK (people >= 0), note text DEFAULT 'none')")
    parent = f"{PARENT}/city"
    row = pb.Row(values={"name": text("Zürich/See, 1"), "people": number(400_000)})
    made = port.rows.Create(pb.CreateRequest(parent=parent, row=row))
    assert made.name == f"{parent}/rows/Z%C3%BCrich%2FSee%2C%201"
    assert made.values["note"].text_value == "none"
    assert port.rows.Get(pb.GetRequest(name=made.name)) == made

    change = pb.Row(name=made.name, values={"people": number(420_000), "note": text("ignored")})
    changed = port.rows.Update(pb.UpdateRequest(row=change, update_mask={"paths": ["people"]}))
    assert (changed.values["people"].int64_value, changed.values["note"].text_value) == (420_000, "none")
    assert changed.etag != made.etag
    change.values["note"].null_value = pb.NULL_VALUE
    assert port.rows.Update(pb.UpdateRequest(row=change)).values["note"].WhichOneof("kind") == "null_value"
    replaced = port.rows.Update(
        pb.UpdateRequest(row=pb.Row(name=made.name, values={"note": text("all")}), update_mask={"paths": ["*"]})
    )
    assert replaced.values["people"].WhichOneof("kind") == "null_value"
    port.rows.Delete(pb.DeleteRequest(name=made.name))
    code, information, sqlstate = refused(port.rows.Get, pb.GetRequest(name=made.name))
    assert (code, sqlstate, information.reason) == (grpc.StatusCode.NOT_FOUND, "02000", "NO_SUCH_ROW")
    assert refused(port.rows.Delete, pb.DeleteRequest(name=made.name))[0] is grpc.StatusCode.NOT_FOUND
    port.rows.Delete(pb.DeleteRequest(name=made.name, allow_missing=True))


def test_every_type_comes_back_as_it_went(port: Port) -> None:
    port.sql(
        "CREATE TABLE every (k uuid PRIMARY KEY, b boolean, i bigint, f double precision, n numeric(12,2), m numeric,"
        " t text, y bytea, d date, h time, s timestamp, z timestamptz, v interval, c char(4))"
    )
    values = {
        "k": pb.Value(uuid_value="6f1c9f70-2b2d-4a5e-9a46-3a4f8e0f1a11"),
        "b": pb.Value(bool_value=False),
        "i": pb.Value(int64_value=-(2**63)),
        "f": pb.Value(double_value=1e300),
        "n": pb.Value(numeric_value="-12345678.90"),
        "m": pb.Value(numeric_value="123456789012345678901234567890.5"),
        "t": text("日本\n'"),
        "y": pb.Value(bytes_value=b"\x00\xff"),
        "d": pb.Value(date_value={"year": 2024, "month": 2, "day": 29}),
        "h": pb.Value(time_value={"hours": 23, "minutes": 59, "seconds": 58, "nanos": 123_456_000}),
        "s": pb.Value(datetime_value={"year": 1, "month": 1, "day": 1}),
        "z": pb.Value(timestamp_value={"seconds": -1, "nanos": 999_999_000}),
        "v": pb.Value(interval_value={"months": -1, "days": 2, "microseconds": 3}),
        "c": text("ab  "),
    }
    made = port.rows.Create(pb.CreateRequest(parent=f"{PARENT}/every", row=pb.Row(values=values)))
    assert made.name.endswith("/rows/6f1c9f70-2b2d-4a5e-9a46-3a4f8e0f1a11")
    assert dict(made.values) == values
    far = pb.Row(name=made.name, values={"d": text("infinity"), "z": text("-infinity"), "s": text("20000-01-01")})
    changed = port.rows.Update(pb.UpdateRequest(row=far))
    assert changed.values["d"].text_value == "infinity"
    assert changed.values["z"].text_value == "-infinity"
    assert changed.values["s"].text_value == "20000-01-01 00:00:00"


def test_pages(port: Port, seed: int) -> None:
    port.sql("CREATE TABLE item (a integer, b text, v integer, PRIMARY KEY (a, b))")
    chance = random.Random(seed)
    keys = sorted({(chance.randrange(20), chance.choice("abcxyzé,/ ")) for _ in range(150)})
    marks = ", ".join(f"({a}, '{b}', {a})" for a, b in keys)
    port.sql(f"INSERT INTO item VALUES {marks}")
    parent = f"{PARENT}/item"
    found: list[tuple[int, str]] = []
    token = ""
    while True:
        page = port.rows.List(pb.ListRequest(parent=parent, page_size=7, page_token=token))
        assert len(page.rows) <= 7
        found += [(row.values["a"].int64_value, row.values["b"].text_value) for row in page.rows]
        token = page.next_page_token
        if not token:
            break
    assert found == keys
    assert len(port.rows.List(pb.ListRequest(parent=parent)).rows) == min(100, len(keys))
    made_up = pb.ListRequest(parent=parent, page_token="bm9uc2Vuc2U=")
    for wrong in (pb.ListRequest(parent=parent, page_size=-1), made_up):
        assert refused(port.rows.List, wrong)[0] is grpc.StatusCode.INVALID_ARGUMENT
    port.sql("CREATE TABLE other (a integer, b text, PRIMARY KEY (a, b))")
    token = port.rows.List(pb.ListRequest(parent=parent, page_size=1)).next_page_token
    other = pb.ListRequest(parent=f"{PARENT}/other", page_token=token)
    assert refused(port.rows.List, other)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_upserts_and_etags(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, v integer, w integer DEFAULT 9)")
    name = f"{PARENT}/item/rows/5"
    put = pb.UpdateRequest(row=pb.Row(name=name, values={"v": number(1)}))
    assert refused(port.rows.Update, put)[0] is grpc.StatusCode.NOT_FOUND
    put.allow_missing = True
    first = port.rows.Update(put)
    assert (first.values["id"].int64_value, first.values["w"].int64_value) == (5, 9)
    second = port.rows.Update(pb.UpdateRequest(row=pb.Row(name=name, etag=first.etag, values={"v": number(2)})))
    stale = pb.UpdateRequest(row=pb.Row(name=name, etag=first.etag, values={"v": number(3)}))
    assert refused(port.rows.Update, stale)[::2] == (grpc.StatusCode.ABORTED, "40001")
    delete = pb.DeleteRequest(name=name, etag=first.etag)
    assert refused(port.rows.Delete, delete)[0] is grpc.StatusCode.ABORTED
    assert port.rows.Get(pb.GetRequest(name=name)).values["v"].int64_value == 2
    port.rows.Delete(pb.DeleteRequest(name=name, etag=second.etag))
    again = pb.DeleteRequest(name=name, etag=second.etag)
    assert refused(port.rows.Delete, again)[0] is grpc.StatusCode.NOT_FOUND
    again.allow_missing = True
    port.rows.Delete(again)
    moved = pb.Row(name=name, values={"id": number(6), "v": number(1)})
    assert refused(port.rows.Update, pb.UpdateRequest(row=moved))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_concurrent_upserts_lose_nothing(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, v integer)")

    def work(v: int) -> None:
        for i in range(10):
            row = pb.Row(name=f"{PARENT}/item/rows/{i}", values={"v": number(v)})
            port.rows.Update(pb.UpdateRequest(row=row, allow_missing=True))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert len(port.rows.List(pb.ListRequest(parent=f"{PARENT}/item")).rows) == 10


def test_errors(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, v integer CHECK (v > 0), w text NOT NULL DEFAULT '')")
    port.sql("CREATE TABLE keyless (a integer)")
    create = port.rows.Create

    def request(table: str = "item", **values: Any) -> Any:
        return pb.CreateRequest(parent=f"{PARENT}/{table}", row=pb.Row(values=values))

    create(request(id=number(1)))
    code, information, sqlstate = refused(create, request(id=number(1)))
    assert (code, sqlstate, information.reason) == (grpc.StatusCode.ALREADY_EXISTS, "23505", "UNIQUE_VIOLATION")
    assert (information.metadata["table"], information.metadata["constraint"]) == ("item", "item_pkey")
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(create, request(id=number(2), v=number(0)))[::2] == (invalid, "23514")
    assert refused(create, request(id=number(2), w=pb.Value(null_value=pb.NULL_VALUE)))[::2] == (invalid, "23502")
    assert refused(create, request(id=number(2**40)))[::2] == (invalid, "22003")
    assert refused(create, request(id=text("five")))[::2] == (invalid, "22P02")
    assert refused(create, request(id=number(2), w=number(5)))[::2] == (invalid, "42804")
    assert refused(create, request(id=number(2), nonsense=number(5)))[::2] == (invalid, "42703")
    assert refused(create, request(id=pb.Value()))[::2] == (invalid, "22023")
    assert refused(create, request("itme", id=number(2)))[::2] == (grpc.StatusCode.NOT_FOUND, "42P01")
    keyless = refused(port.rows.List, pb.ListRequest(parent=f"{PARENT}/keyless"))
    assert keyless[::2] == (grpc.StatusCode.FAILED_PRECONDITION, "55000")
    filtered = refused(port.rows.List, pb.ListRequest(parent=f"{PARENT}/item", filter="v > 1"))
    assert filtered[::2] == (grpc.StatusCode.UNIMPLEMENTED, "0A000")
    for name in ("nonsense", f"{PARENT}/item/rows/1,2", f"{PARENT}//rows/1"):
        assert refused(port.rows.Get, pb.GetRequest(name=name))[0] is invalid, name
    other = "databases/other/schemas/public/tables/item/rows/1"
    assert refused(port.rows.Get, pb.GetRequest(name=other))[::2] == (grpc.StatusCode.NOT_FOUND, "3D000")
    # None of them left a transaction behind.
    assert create(request(id=number(2))).values["id"].int64_value == 2


def test_values_that_do_not_fit_their_column(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, r real, b boolean)")
    parent = f"{PARENT}/item"

    def create(**values: Any) -> Any:
        return port.rows.Create(pb.CreateRequest(parent=parent, row=pb.Row(values=values)))

    for value in (1e300, -1e300, 1e-300):
        wrong = pb.Value(double_value=value)
        assert refused(create, id=number(1), r=wrong)[::2] == (grpc.StatusCode.INVALID_ARGUMENT, "22003"), value
    true = pb.Value(bool_value=True)
    for column in ("id", "r"):
        assert refused(create, **{column: true})[::2] == (grpc.StatusCode.INVALID_ARGUMENT, "42804"), column
    made = create(id=number(1), r=pb.Value(double_value=float("inf")), b=true)
    assert (made.values["r"].double_value, made.values["b"].bool_value) == (float("inf"), True)


def test_names_and_bytes_that_are_none(port: Port) -> None:
    port.sql("CREATE TABLE item (name text PRIMARY KEY)")
    for name in (f"{PARENT}/item/rows/%FF", f"{PARENT}/item%FF/rows/x", f"{PARENT}/item/rows/a%00b"):
        code, _, sqlstate = refused(port.rows.Get, pb.GetRequest(name=name))
        assert (code, sqlstate) == (grpc.StatusCode.INVALID_ARGUMENT, "22021"), name
    garbage = port.channel.unary_unary(f"/{SERVICE}/Get")
    assert refused(garbage, b"\xff\xff\xff")[::2] == (grpc.StatusCode.INVALID_ARGUMENT, "08P01")


def test_a_page_of_wide_rows_fits_a_client(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, t text)")
    port.sql("INSERT INTO item SELECT i, repeat('x', 1500000) FROM generate_series(1, 5) AS s(i)")
    found, token, pages = [], "", 0
    while True:
        page = port.rows.List(pb.ListRequest(parent=f"{PARENT}/item", page_token=token))
        found += [row.values["id"].int64_value for row in page.rows]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert (found, pages) == ([1, 2, 3, 4, 5], 3)


def test_names_are_quoted_and_values_bound(port: Port) -> None:
    port.sql('CREATE TABLE "odd ""name" ("a""; DROP" text PRIMARY KEY, "select" integer)')
    parent = f"{PARENT}/odd%20%22name"
    evil = "'; DROP TABLE x; --"
    made = port.rows.Create(
        pb.CreateRequest(parent=parent, row=pb.Row(values={'a"; DROP': text(evil), "select": number(1)}))
    )
    assert port.rows.Get(pb.GetRequest(name=made.name)).values['a"; DROP'].text_value == evil


def test_a_deadline_ends_the_wait(port: Port) -> None:
    port.sql("CREATE TABLE item (id integer PRIMARY KEY, v integer); INSERT INTO item VALUES (1, 1)")
    session = port.database.session()
    for part in session.parse("BEGIN; UPDATE item SET v = 2"):
        drive(session.execute(part), port.database.lock, session.poll)
    update = pb.UpdateRequest(row=pb.Row(name=f"{PARENT}/item/rows/1", values={"v": number(3)}))
    with pytest.raises(grpc.RpcError) as caught:
        port.rows.Update(update, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Reading goes on beside the lock, and the abandoned call holds nothing once the lock is free.
    assert port.rows.Get(pb.GetRequest(name=f"{PARENT}/item/rows/1")).values["v"].int64_value == 1
    session.close()
    assert port.rows.Update(update, timeout=10).values["v"].int64_value == 3


def test_health_and_reflection(port: Port) -> None:
    health = health_pb2_grpc.HealthStub(port.channel)
    for service in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(port.channel)
    request = reflection_pb2.ServerReflectionRequest
    answers = reflection.ServerReflectionInfo(
        iter([request(list_services=""), request(file_containing_symbol="filestore.v1.Rows")])
    )
    listed = next(answers).list_services_response.service
    assert SERVICE in {service.name for service in listed}
    assert next(answers).file_descriptor_response.file_descriptor_proto


def test_credentials(data_dir: Path) -> None:
    verifier = str(verifier_of("s3cret"))
    port = Port(data_dir, lambda user: verifier if user == "postgres" else None)
    try:
        port.sql("CREATE TABLE item (id integer PRIMARY KEY)")
        request = pb.ListRequest(parent=f"{PARENT}/item")

        def metadata(user: str, password: str) -> Any:
            return (("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode().rstrip("=")),)

        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        assert refused(port.rows.List, request)[::2] == (unauthenticated, "28000")
        for user, password in (("postgres", "wrong"), ("nobody", "s3cret"), ("postgres", "")):
            code, _, sqlstate = refused(port.rows.List, request, metadata=metadata(user, password))
            assert (code, sqlstate) == (unauthenticated, "28P01")
        wrong = (("authorization", "Bearer x"),)
        assert refused(port.rows.List, request, metadata=wrong)[::2] == (unauthenticated, "28000")
        for _ in range(2):
            assert len(port.rows.List(request, metadata=metadata("postgres", "s3cret")).rows) == 0
    finally:
        port.close()
