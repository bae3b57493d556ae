"""Groups and batches as bytes: round trips, and decoders that are total on any bytes."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filestore.errors import DataCorrupted
from filestore.hal.memory import aligned_buffer
from filestore.storage import log_batch, manifest, page_map
from filestore.storage.layout import BLOCK, GROUP_HEADER
from filestore.storage.log_files import decode_header
from filestore.storage.log_record import Record, RecordKind, decode_group, encode_group

records = st.lists(
    st.tuples(st.sampled_from(list(RecordKind)), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300)), max_size=20
)


def joined(parts: list[Any]) -> np.ndarray:
    return np.frombuffer(b"".join(bytes(part) for part in parts), np.uint8)


@settings(deadline=None, max_examples=100)
@given(records, st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))
def test_a_group_comes_back(found: list[Any], timestamp: int, transaction: int) -> None:
    parts = encode_group(timestamp, transaction, [Record(*each) for each in found])
    group = decode_group(joined(parts), 4096, 5000)
    assert (group.commit_timestamp, group.transaction, group.lsn, group.end_lsn) == (timestamp, transaction, 4096, 5000)
    assert [(kind, storage, bytes(data)) for kind, storage, data in group.records] == [tuple(each) for each in found]
    assert not (group.offset % 8).any()


def test_payloads_may_be_arrays() -> None:
    data = np.arange(100, dtype=np.uint8)
    parts = encode_group(1, 2, [Record(RecordKind.ROWS, 3, data), Record(RecordKind.ENDS, 3, b"")])
    assert bytes(decode_group(joined(parts), 0, 0).payload(0)) == data.tobytes()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_change_of_a_group_is_seen(data: st.DataObject) -> None:
    whole = joined(encode_group(5, 6, [Record(1, 2, b"hello world"), Record(2, 3, b"x" * 40)])).copy()
    at = data.draw(st.integers(0, whole.size - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataCorrupted):
        decode_group(whole, 0, 0)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_decoders_are_total(noise: bytes, mend: bool) -> None:
    """Any bytes are a value or DataCorrupted, also when header checksums are right by design."""
    raw = bytearray(noise)
    if mend and len(raw) >= GROUP_HEADER.itemsize:
        raw[:8] = len(raw).to_bytes(8, "little")
        raw[40:44] = bytes(4)
        raw[40:44] = google_crc32c.value(bytes(raw)).to_bytes(4, "little")
    data = np.frombuffer(bytes(raw), np.uint8)
    for decode in (
        lambda: decode_group(data, 0, 0),
        lambda: decode_header(np.resize(data, BLOCK) if data.size else data, "wal/x"),
        lambda: manifest.decode(data),
        lambda: page_map.decode(data, "pages/map.1", bytes(16), data.size, 0),
    ):
        try:
            decode()
        except DataCorrupted:
            pass
    assert log_batch.decode(data, 4096, 1, 7) is None


def batch(payload: int = 500, lsn: int = 8192, seed: int = 11) -> np.ndarray:
    data = aligned_buffer(BLOCK)
    data[:] = 0
    log_batch.pack_fragment(data.data, log_batch.HEADER_BYTES, payload - 8, first=True, last=True)
    log_batch.seal(data, lsn, 3, payload, 1, 99, lsn, seed)
    return data


def test_a_batch_is_valid_at_its_place_only() -> None:
    data = batch()
    found = log_batch.decode(data, 8192, 3, 11)
    assert found is not None and (found.payload, found.groups, found.durable_lsn) == (500, 1, 8192)
    assert log_batch.previous_hash_of(data) == 99
    assert log_batch.decode(data, 4096, 3, 11) is None, "another LSN"
    assert log_batch.decode(data, 8192, 4, 11) is None, "another epoch"
    assert log_batch.decode(data, 8192, 3, 12) is None, "another salt"
    assert log_batch.candidates(np.concatenate((data, data * 0, data))) == [0, 2 * BLOCK]


def test_every_bit_of_a_batch_counts(seed: int) -> None:
    data = batch()
    for at in range(data.size):
        data[at] ^= 1 << (at + seed) % 8
        assert log_batch.decode(data, 8192, 3, 11) is None, at
        data[at] ^= 1 << (at + seed) % 8
    assert log_batch.decode(data, 8192, 3, 11) is not None


def test_fragments_that_do_not_fill_their_batch_are_refused() -> None:
    data = batch(payload=500)
    assert log_batch.fragments(data, 500) is None, "a fragment reaches beyond the payload"
    whole = log_batch.fragments(data, 504)
    assert whole is not None and len(whole) == 1
    data[log_batch.HEADER_BYTES + 4] = 7  # an unknown flag
    assert log_batch.fragments(data, 504) is None
