"""One table of every type, written through each door and read through all others: the values are the same.

The doors: the PostgreSQL port with text and with binary values, Arrow Flight, gRPC, and a directory opened in this
process. What each door hands out in a form of its own is brought to one Python value first (`same`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from pyarrow import flight

import filestore
from filestore.database import Database
from filestore.server.flight import start_flight
from filestore.server.grpc_service import start_grpc
from filestore.server.proto.filestore.v1 import rows_pb2 as pb
from filestore.server.proto.filestore.v1 import rows_pb2_grpc
from tests.conftest import close_sound
from tests.server.pgwire.conftest import Running, run_port

Row = tuple[Any, ...]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

# (name, SQL type, Arrow type that is sent, field of gRPC's Value that is sent)
COLUMNS = [
    ("id", "integer PRIMARY KEY", pa.int32(), "int64_value"),
    ("flag", "boolean", pa.bool_(), "bool_value"),
    ("small", "smallint", pa.int16(), "int64_value"),
    ("big", "bigint", pa.int64(), "int64_value"),
    ("single", "real", pa.float32(), "double_value"),
    ("double", "double precision", pa.float64(), "double_value"),
    ("price", "numeric(12,3)", pa.decimal128(12, 3), "numeric_value"),
    ("exact", "numeric", pa.string(), "numeric_value"),
    ("note", "text", pa.string(), "text_value"),
    ("word", "varchar(20)", pa.string(), "text_value"),
    ("code", "char(5)", pa.string(), "text_value"),
    ("raw", "bytea", pa.binary(), "bytes_value"),
    ("day", "date", pa.date32(), "date_value"),
    ("clock", "time", pa.time64("us"), "time_value"),
    ("local", "timestamp", pa.timestamp("us"), "datetime_value"),
    ("moment", "timestamptz", pa.timestamp("us", "UTC"), "timestamp_value"),
    ("span", "interval", pa.month_day_nano_interval(), "interval_value"),
    ("mark", "uuid", pa.string(), "uuid_value"),
]
NAMES = [name for name, *_ in COLUMNS]
ROWS: list[Row] = [
    (
        1, True, 7, 2**40, 1.1, 0.1, Decimal("12.500"), Decimal("0.00010"), "Zürich,\n\"'\\ \t", "", "ab",
        b"\x00\xff'", dt.date(2024, 2, 29), dt.time(23, 59, 59, 999_999), dt.datetime(2024, 2, 29, 12, 0, 0, 1),
        dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC), dt.timedelta(days=3, seconds=4, microseconds=5),
        uuid.UUID(int=2**127 + 1),
    ),
    (2, *[None] * (len(COLUMNS) - 1)),
    (
        -(2**31), False, -(2**15), -(2**63), -3.4028235e38, 5e-324, Decimal("-999999999.999"),
        Decimal("-123456789012345678901234567890.5"), "x" * 3000, "é" * 20, "", b"", dt.date(1, 1, 1), dt.time(0),
        dt.datetime(1, 1, 1), dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.timedelta(days=-3, microseconds=-5),
        uuid.UUID(int=0),
    ),
    (
        2**31 - 1, True, 2**15 - 1, 2**63 - 1, float("inf"), float("-inf"), Decimal("0.001"), Decimal("NaN"), "NULL",
        "\\N", "12345", b"\\x41", dt.date(9999, 12, 31), dt.time(12, 30),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999),
        dt.datetime(9999, 12, 30, tzinfo=dt.UTC), dt.timedelta(0), uuid.UUID(int=2**128 - 1),
    ),
]  # fmt: skip


def same(name: str, value: Any) -> Any:
    """A value as any door gives it, in one form, with what tells equal values apart (a numeric's digits)."""
    if value is None:
        return None
    if name == "single":
        return float(np.float32(value))
    if name in ("price", "exact"):
        return str(Decimal(value))
    if name == "code":
        return value.rstrip(" ")
    if name == "moment":
        return value.astimezone(dt.UTC)
    if name == "span" and not isinstance(value, dt.timedelta):
        assert value[0] == 0
        return dt.timedelta(days=value[1], microseconds=value[2] // 1000)
    if name == "mark":
        return uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(str(value))
    return value


class Postgres:
    """The PostgreSQL port, with values as text or as binary."""

    def __init__(self, dsn: str, *, binary: bool) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.binary = binary

    def create(self, table: str) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind, *_ in COLUMNS)
        self.connection.execute(f"CREATE TABLE {table} ({columns})")

    def write(self, table: str) -> None:
        mark = "%b" if self.binary else "%t"
        with self.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join([mark] * len(COLUMNS))})", ROWS)

    def read(self, table: str) -> list[Row]:
        with self.connection.cursor(binary=self.binary) as cursor:
            return cursor.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()

    def close(self) -> None:
        self.connection.close()


class Flight:
    """Arrow Flight: DoPut and DoGet."""

    def __init__(self, port: int) -> None:
        self.client = flight.connect(f"grpc://127.0.0.1:{port}")

    def write(self, table: str) -> None:
        sent: dict[str, Callable[[Any], Any]] = {
            "exact": str,
            "mark": str,
            "span": lambda v: (0, v.days, micros(v) * 1000),
        }
        arrays = []
        for i, (name, _, arrow, _) in enumerate(COLUMNS):
            form = sent.get(name, lambda value: value)
            arrays.append(pa.array([None if row[i] is None else form(row[i]) for row in ROWS], arrow))
        made = pa.table(arrays, names=NAMES)
        writer, answers = self.client.do_put(flight.FlightDescriptor.for_path(table), made.schema)
        with writer:
            writer.write_table(made)
            writer.done_writing()
            assert json.loads(answers.read().to_pybytes()) == {"rows": len(ROWS)}

    def read(self, table: str) -> list[Row]:
        made = self.client.do_get(flight.Ticket(f"SELECT * FROM {table} ORDER BY id".encode())).read_all()
        return [tuple(row.values()) for row in made.to_pylist()]

    def close(self) -> None:
        self.client.close()


class Grpc:
    """gRPC: Create and List."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.rows = rows_pb2_grpc.RowsStub(self.channel)

    def write(self, table: str) -> None:
        for row in ROWS:
            values = {name: message(field, v) for (name, _, _, field), v in zip(COLUMNS, row, strict=True)}
            self.rows.Create(pb.CreateRequest(parent=parent(table), row=pb.Row(values=values)))

    def read(self, table: str) -> list[Row]:
        found = self.rows.List(pb.ListRequest(parent=parent(table))).rows
        return [tuple(python(row.values[name], field) for name, _, _, field in COLUMNS) for row in found]

    def close(self) -> None:
        self.channel.close()


def micros(value: dt.timedelta) -> int:
    """What an interval has besides its days."""
    return (value - dt.timedelta(value.days)) // dt.timedelta(microseconds=1)


def parent(table: str) -> str:
    return f"databases/postgres/schemas/public/tables/{table}"


def message(field: str, value: Any) -> Any:
    """A Value in the field of its column's type."""
    made = pb.Value()
    target = getattr(made, field)
    if value is None:
        made.null_value = pb.NULL_VALUE
    elif field == "date_value":
        target.year, target.month, target.day = value.year, value.month, value.day
    elif field in ("time_value", "datetime_value"):
        if field == "datetime_value":
            target.year, target.month, target.day = value.year, value.month, value.day
        target.hours, target.minutes, target.seconds = value.hour, value.minute, value.second
        target.nanos = value.microsecond * 1000
        target.SetInParent()
    elif field == "timestamp_value":
        target.seconds = (value - EPOCH) // dt.timedelta(seconds=1)
    elif field == "interval_value":
        target.days, target.microseconds = value.days, micros(value)
        target.SetInParent()
    else:
        setattr(made, field, str(value) if field in ("numeric_value", "uuid_value") else value)
    return made


def python(value: Any, field: str) -> Any:
    """What a Value of a column says, which has to be in the field of the column's type."""
    kind = value.WhichOneof("kind")
    if kind == "null_value":
        return None
    assert kind == field
    found = getattr(value, field)
    if field == "date_value":
        return dt.date(found.year, found.month, found.day)
    if field in ("time_value", "datetime_value"):
        clock = (found.hours, found.minutes, found.seconds, found.nanos // 1000)
        return dt.time(*clock) if field == "time_value" else dt.datetime(found.year, found.month, found.day, *clock)
    if field == "timestamp_value":
        return EPOCH + dt.timedelta(seconds=found.seconds)
    if field == "interval_value":
        return found.months, found.days, found.microseconds * 1000
    return found


def call(running: Running, work: Any) -> Any:
    """Runs a coroutine on the port's loop."""
    return asyncio.run_coroutine_threadsafe(work, running.loop).result(60)


def embedded_rows(cursor: Any, table: str) -> list[Row]:
    cursor.execute(f"SELECT * FROM {table} ORDER BY id")
    return cursor.fetchall()


@pytest.fixture
def written(data_dir: Path) -> Path:
    """A directory with a table that an embedded program has written."""
    with filestore.connect(str(data_dir)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE by_embedded ({', '.join(f'{name} {kind}' for name, kind, *_ in COLUMNS)})")
        cursor.executemany(f"INSERT INTO by_embedded VALUES ({', '.join('?' * len(COLUMNS))})", ROWS)
        connection.commit()
    return data_dir


def test_what_one_door_writes_all_others_read(written: Path) -> None:
    expected = [tuple(same(n, v) for n, v in zip(NAMES, row, strict=True)) for row in sorted(ROWS, key=lambda r: r[0])]
    database = Database.open(str(written))
    running = run_port(database)
    flight_port = start_flight(database, "127.0.0.1", 0)
    grpc_port = call(running, start_grpc(database, "127.0.0.1", 0))
    text = Postgres(running.dsn, binary=False)
    doors: dict[str, Any] = {
        "text": text,
        "binary": Postgres(running.dsn, binary=True),
        "flight": Flight(flight_port.port),
        "grpc": Grpc(grpc_port.port),
    }
    tables = ["by_embedded"]
    try:
        for name, door in doors.items():
            text.create(f"by_{name}")
            door.write(f"by_{name}")
            tables.append(f"by_{name}")
        for table in tables:
            for name, door in doors.items():
                found = [tuple(same(n, v) for n, v in zip(NAMES, row, strict=True)) for row in door.read(table)]
                assert found == expected, f"{table} read through {name}"
    finally:
        for door in doors.values():
            door.close()
        call(running, grpc_port.stop(1))
        flight_port.stop(2)
        running.stop()
        close_sound(database)
    with filestore.connect(str(written)) as connection:
        for table in tables:
            rows = embedded_rows(connection.cursor(), table)
            found = [tuple(same(n, v) for n, v in zip(NAMES, row, strict=True)) for row in rows]
            assert found == expected, f"{table} read embedded"
