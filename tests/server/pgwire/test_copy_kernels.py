"""COPY framing kernels against plain Python."""

from __future__ import annotations

import csv
import io
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from filestore.server.pgwire.copy_kernels import BINARY_HEADER_BYTES, BINARY_SIGNATURE, copy_data_rows
from filestore.server.pgwire.messages import CopyData

HEADER = BINARY_SIGNATURE + b"\0" * 8
TRAILER = b"\xff\xff"


def bodies(raw: bytes) -> list[bytes]:
    """The bodies of a run of CopyData messages."""
    out = []
    while raw:
        assert raw[:1] == b"d"
        end = 1 + int.from_bytes(raw[1:5], "big")
        out.append(CopyData.decode(raw[5:end]).data)
        raw = raw[end:]
    return out


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b""))))
def test_a_line_of_text_is_a_message(lines: list[bytes]) -> None:
    rows = [line + b"\n" for line in lines]
    assert bodies(copy_data_rows(b"".join(rows), binary=False)) == rows


@settings(deadline=None)
@given(st.lists(st.lists(st.text(st.sampled_from('ab"\n,\\'), max_size=6), min_size=1, max_size=3), max_size=6))
def test_a_record_of_csv_is_a_message(records: list[list[str]]) -> None:
    rows = []
    for record in records:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(record)
        rows.append(out.getvalue().encode())
    assert bodies(copy_data_rows(b"".join(rows), binary=False, quote=34, escape=34)) == rows


def test_csv_with_an_escape_of_its_own() -> None:
    rows = [b'"a\\"\n",1\n', b'"b\\\\",2\n']
    assert bodies(copy_data_rows(b"".join(rows), binary=False, quote=34, escape=92)) == rows


@settings(deadline=None)
@given(st.lists(st.lists(st.none() | st.binary(max_size=9), max_size=4), max_size=6))
def test_a_binary_tuple_is_a_message(tuples: list[list[bytes | None]]) -> None:
    def field(value: bytes | None) -> bytes:
        return b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value)) + value

    rows = [struct.pack("!h", len(t)) + b"".join(map(field, t)) for t in tuples]
    assert bodies(copy_data_rows(b"".join(rows), binary=True)) == rows
    framed = bodies(copy_data_rows(HEADER + b"".join(rows) + TRAILER, binary=True))
    assert len(HEADER) == BINARY_HEADER_BYTES
    assert framed == [HEADER + ([*rows, TRAILER])[0], *[*rows, TRAILER][1:]]
