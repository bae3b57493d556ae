"""Tables in memory: rows in, rows out by address and by scan, row images there and back; oracle: Python lists."""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore import errors
from filestore.storage import directory as d
from filestore.storage import layout, row_kernels, segment, table_checkpoint
from filestore.storage.check import Problems, check_count, check_segment
from filestore.storage.replay import open_segment
from filestore.storage.schema import ColumnDef, TableDef
from filestore.storage.table import Table
from filestore.storage.vector import Vector, string_vector
from filestore.txn.snapshot import Snapshot
from filestore.types import BOOL, DATE, FLOAT8, INT2, INT4, INT8, INTERVAL, NUMERIC, TEXT, UUID, numeric
from tests.storage.memory_arenas import MemoryArenas

TYPES = (INT8, TEXT, INT4, INT2, BOOL, FLOAT8, numeric(12, 2), NUMERIC, UUID, DATE, INTERVAL, TEXT)
MARK = d.mark_of(3)


def new_table(types=TYPES, slots=16, heap_bytes=1 << 16, storage_id=1):
    columns = tuple(ColumnDef(f"c{i}", t) for i, t in enumerate(types))
    definition = TableDef(1, "public", "t", columns, storage_id=storage_id)
    return Table(definition, MemoryArenas(), slots=slots, heap_bytes=heap_bytes)


def random_value(rng, sql_type):
    if rng.random() < 0.2:
        return None
    if sql_type.is_view:
        return rng.randbytes(rng.choice((0, 1, 4, 11, 12, 13, 100)))
    if sql_type.width == 16:
        return (rng.getrandbits(64), rng.getrandbits(64))
    if sql_type.dtype.kind == "f":
        return rng.random()
    if sql_type is BOOL:
        return rng.randrange(2)
    return rng.randrange(-(2**15), 2**15)


def random_rows(rng, n, types=TYPES):
    return [tuple(random_value(rng, t) for t in types) for _ in range(n)]


def vectors(rows, types=TYPES):
    out = []
    for i, t in enumerate(types):
        values = [r[i] for r in rows]
        if t.is_view:
            out.append(string_vector(t, values))
            continue
        valid = np.array([v is not None for v in values])
        blank = (0, 0) if t.width == 16 else 0
        data = np.array([blank if v is None else v for v in values], t.dtype)
        if t.width == 16:
            data = data.reshape(-1, 2)
        out.append(Vector(t, data, None if valid.all() else valid, None, t.scale or 0))
    return out


def values(vector):
    if vector.type.is_view:
        return vector.strings()
    rows = [tuple(v) if isinstance(v, list) else v for v in vector.plain().data.tolist()]
    nulls = vector.nulls()
    return [None if null else v for v, null in zip(rows, nulls, strict=True)]


def rows_of(vectors_, n):
    columns = [values(v) for v in vectors_]
    return [tuple(c[i] for c in columns) for i in range(n)]


def test_append_gather_and_scan_equal_lists(seed):
    rng = random.Random(seed)
    table = new_table()
    expected, addresses = [], []
    for _ in range(30):
        rows = random_rows(rng, rng.choice((1, 1, 2, 5, 40)))
        addresses += table.append(MARK, vectors(rows), len(rows)).tolist()
        expected += rows
    assert addresses == sorted(set(addresses))
    assert table.next_address > addresses[-1]
    order = [rng.randrange(len(expected)) for _ in range(100)]
    for picked in (order, order[:1], [0], []):
        got = table.gather(np.array([addresses[i] for i in picked], np.int64), range(len(TYPES)))
        for vector in got:
            vector.verify()
        assert rows_of(got, len(picked)) == [expected[i] for i in picked]
    snapshot = Snapshot(10, MARK, {1: table.next_address})
    scanned = []
    for unit in table.units(snapshot):
        assert unit.visible(snapshot, 0, unit.rows).all()
        low = rng.randrange(unit.rows)
        for a, b in ((0, low), (low, unit.rows)):
            batch = unit.batch(range(len(TYPES)), a, b)
            batch.verify()
            scanned += rows_of(batch.columns, b - a)
    assert scanned == expected


def test_dictionary_vectors_are_decoded():
    table = new_table((TEXT,))
    words = string_vector(TEXT, [b"a", b"quite a long string"])
    vector = Vector(TEXT, np.array([1, 0, 1], np.uint8), None, None, 0, words)
    addresses = table.append(MARK, [vector], 3)
    assert table.gather(addresses, [0])[0].strings() == [b"quite a long string", b"a", b"quite a long string"]


def test_a_full_heap_opens_the_next_segment_early():
    table = new_table((TEXT,), slots=64, heap_bytes=1 << 14)
    rows = [(bytes([65 + i]) * 5000,) for i in range(20)]
    addresses = table.append(MARK, vectors(rows, (TEXT,)), len(rows))
    assert len(table.segments) == 7  # three values of 5000 bytes in 16 KiB
    assert table.gather(addresses, [0])[0].strings() == [r[0] for r in rows]
    one = table.append(MARK, vectors([(b"x" * 9000,)], (TEXT,)), 1)
    assert table.gather(one, [0])[0].strings() == [b"x" * 9000]


def test_too_long_values_are_refused(monkeypatch):
    monkeypatch.setattr("filestore.storage.table.LONGEST_VALUE", 1000)
    assert segment.LONGEST_VALUE == 64 << 20
    table = new_table((TEXT,))
    with pytest.raises(errors.ProgramLimitExceeded):
        table.append(MARK, vectors([(b"x" * 1001,)], (TEXT,)), 1)
    assert table.next_address == 0
    small = new_table((TEXT,), heap_bytes=1 << 14)
    with pytest.raises(errors.ProgramLimitExceeded):
        small.append(MARK, vectors([(b"x" * 20000,)], (TEXT,)), 1)


def test_images_replay_into_an_empty_table(seed):
    rng = random.Random(seed)
    source, target = new_table(), new_table()
    images: list[bytes] = []
    expected = []
    for _ in range(20):
        rows = random_rows(rng, rng.choice((1, 3, 30)))
        source.append(MARK, vectors(rows), len(rows), images=images)
        expected += rows
    for _ in range(2):  # replaying again changes nothing
        addresses = replay(target, images, stamp=5)
    assert rows_of(target.gather(addresses, range(len(TYPES))), len(expected)) == expected
    table_checkpoint.settle(target)
    assert target.live_rows == len(expected)
    problems = Problems("target")
    for s in target.segment_list():
        check_segment(target, s.number, (), problems)
    check_count(target, problems)
    assert problems.findings() == []


def replay(table, images, stamp):
    """What `Replayer` does with images, in small."""
    padded = [image + bytes(-len(image) % 8) for image in images]
    data = np.frombuffer(b"".join(padded), np.uint8)
    lengths = np.array([len(i) for i in images], np.int64)
    offsets = np.cumsum([0] + [len(p) for p in padded])[:-1]
    layout = table.layout.matrix
    segments = np.empty(len(images), np.int64)
    nulls = np.zeros(len(layout) + 1, np.uint8)
    n = row_kernels.scan_images(data, offsets, lengths, layout, segments, nulls)
    for number in np.unique(segments).tolist():
        open_segment(table, number)
        for c in np.flatnonzero(nulls[:-1]).tolist():
            table.segments[number].ensure_valid(c, table.segments[number].rows)
    out = np.empty(n, np.int64)
    stamps = np.full(len(images), stamp, np.int64)
    dirty = table.addresses.dirty
    assert n == row_kernels.replay_images(
        table.directory, dirty, layout, data, offsets, stamps, table.heap_bytes, table.slots, out
    )
    return out


def test_cut_images_are_noticed(seed):
    rng = random.Random(seed)
    table = new_table()
    images: list[bytes] = []
    table.append(MARK, vectors(random_rows(rng, 7)), 7, images=images)
    data = np.frombuffer(images[0], np.uint8)
    layout = table.layout.matrix
    segments, nulls = np.empty(1, np.int64), np.zeros(len(layout) + 1, np.uint8)
    zero = np.zeros(1, np.int64)

    def scan(length):
        return row_kernels.scan_images(data, zero, np.array([length], np.int64), layout, segments, nulls)

    assert scan(len(data)) == 7
    for length in range(len(data)):
        assert scan(length) == -1


def test_an_image_is_what_the_layout_says():
    """Byte by byte, read by the documented structures alone."""
    types = (INT8, TEXT)
    table = new_table(types)
    table.append(MARK, vectors([(0, b""), (0, b"")], types), 2)
    old, records = np.array([1, 0], np.int64), np.empty(2, np.int64)
    images: list[bytes] = []
    table.append(MARK, vectors([(-2, b"a string of 22 bytes.."), (7, None)], types), 2, records, old, images)
    linked = images[0]
    head = np.frombuffer(linked, layout.ROW_IMAGE, 1)[0]
    assert head.tolist() == (2, 2, layout.ROW_IMAGE_LINKED)
    at = layout.ROW_IMAGE.itemsize
    assert np.frombuffer(linked, layout.ROW_RECORD, 2, at)["record"].tolist() == [2, 1]
    at += 2 * layout.ROW_RECORD.itemsize
    assert np.frombuffer(linked, layout.ROW_PREVIOUS, 2, at)["previous"].tolist() == [2, 1]
    at += 2 * layout.ROW_PREVIOUS.itemsize
    first = b"\0" + (-2).to_bytes(8, "little", signed=True) + (22).to_bytes(4, "little") + b"a st"
    assert linked[at : at + len(first)] == first
    at += 1 + 8 + 16
    assert linked[at : at + 22] == b"a string of 22 bytes.."
    assert linked[at + 22 :] == b"\2" + (7).to_bytes(8, "little") + bytes(16)


def test_links_lead_from_record_to_newest_version_and_back():
    table = new_table((INT8,))
    first = table.append(MARK, vectors([(1,), (2,)], (INT8,)), 2)
    records = np.empty(2, np.int64)
    second = table.append(MARK, vectors([(10,), (20,)], (INT8,)), 2, records, first)
    assert records.tolist() == first.tolist()
    third = table.append(MARK, vectors([(100,)], (INT8,)), 1, np.empty(1, np.int64), second[:1])
    assert table.records_of(np.concatenate([first, second, third])).tolist() == [0, 1, 0, 1, 0]
    assert table.heads_of(first).tolist() == [third[0], second[1]]


def test_untouched_vectors_do_not_exist():
    table = new_table((INT8, TEXT))
    table.append(MARK, vectors([(1, b"x")], (INT8, TEXT)), 1)
    row = table.directory[0]
    assert row[d.BEGIN] and not (row[d.END] or row[d.HEAD] or row[d.RECORD] or row[d.PREVIOUS])
    assert row[d.column_field(0, d.DATA)] and not row[d.column_field(0, d.VALID)]
