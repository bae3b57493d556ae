"""Flights out over Arrow Flight into a Parquet file, and that file against the CSV that went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.flight
import pyarrow.parquet

from filestore.demo.flights import open_csv

QUERY: Final = "SELECT * FROM flights"
KEY: Final = [("time_hour", "ascending"), ("carrier", "ascending"), ("flight", "ascending")]


def export(flight_uri: str, target: Path) -> int:
    """Streams the query's batches into a Parquet file as they come; returns the number of rows."""
    rows = 0
    with pa.flight.connect(flight_uri) as client:
        information = client.get_flight_info(pa.flight.FlightDescriptor.for_command(QUERY.encode()))
        writer: Any = None
        for endpoint in information.endpoints:
            reader = client.do_get(endpoint.ticket)
            if writer is None:
                writer = pa.parquet.ParquetWriter(target, parquet_schema(reader.schema))
            for chunk in reader:
                batch = chunk.data
                rows += batch.num_rows
                writer.write_table(pa.Table.from_batches([batch]).cast(writer.schema))
        writer.close()
    return rows


def parquet_schema(schema: Any) -> Any:
    """String views as plain strings, which every Parquet reader knows."""
    fields = [
        pa.field(field.name, pa.string(), field.nullable) if field.type == pa.string_view() else field
        for field in schema
    ]
    return pa.schema(fields)


def differences(exported: Path) -> list[str]:
    """What of the exported file differs from the CSV that was loaded, by column; empty when nothing does."""
    table = pa.parquet.read_table(exported).combine_chunks().sort_by(KEY)
    stream, _ = open_csv("flights")
    with stream:
        source = pa.csv.read_csv(
            stream,
            convert_options=pa.csv.ConvertOptions(
                column_types={name: comparable(table.schema.field(name).type) for name in table.column_names},
                null_values=["NA"],
                strings_can_be_null=True,
            ),
        ).sort_by(KEY)
    if table.num_rows != source.num_rows:
        return [f"{table.num_rows} rows exported, {source.num_rows} loaded"]
    if table.column_names != source.column_names:
        return [f"columns {table.column_names} exported, {source.column_names} loaded"]
    return [
        f"column {name} differs"
        for name in source.column_names
        if not source[name].combine_chunks().equals(table[name].cast(source[name].type).combine_chunks())
    ]


def comparable(kind: Any) -> Any:
    """The type to read the CSV's column as: timestamps there carry no fractions but do carry a zone."""
    return pa.timestamp("us", "UTC") if pa.types.is_timestamp(kind) else kind
