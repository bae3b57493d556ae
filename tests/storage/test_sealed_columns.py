"""Encoding columns for sealed files and reading them back; oracle: the values that went in."""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore import errors
from filestore.hal import SimulatedDisk
from filestore.storage import directory as d
from filestore.storage.schema import ColumnDef, TableDef
from filestore.storage.sealed import SealedSegment, encode_column
from filestore.storage.segment import Layout
from filestore.storage.segment_file import SealedColumn, SealedContents
from filestore.storage.store import Store, StoreOptions, sealed_name
from filestore.storage.table import Table
from filestore.storage.vector import Vector, string_vector
from filestore.types import BOOL, FLOAT8, INT4, INT8, NUMERIC, TEXT, UUID, numeric
from tests.storage.memory_arenas import MemoryArenas

TYPES = (INT4, TEXT, BOOL, FLOAT8, numeric(12, 2), NUMERIC, UUID, TEXT)


@pytest.fixture
def store():
    store = Store.open(SimulatedDisk(), StoreOptions(threaded=False, log_file_bytes=1 << 16, batch_bytes=1 << 14))
    list(store.recover())
    store.finish_recovery()
    yield store
    store.close()


def column(rng, sql_type, n, words):
    nulls = rng.random() < 0.5
    valid = np.array([not nulls or rng.random() < 0.7 for _ in range(n)])
    if sql_type.is_view:
        values = [rng.choice(words) if v else None for v in valid]
        return string_vector(sql_type, values)
    if sql_type.width == 16:
        data = np.frombuffer(rng.randbytes(16 * n), np.uint64).reshape(-1, 2)
    elif sql_type.dtype.kind == "f":
        data = np.array([rng.random() for _ in range(n)])
    else:
        data = np.array([rng.randrange(2 if sql_type is BOOL else 1000) for _ in range(n)], sql_type.dtype)
    return Vector(sql_type, data, None if valid.all() else valid, None, sql_type.scale or 0)


def plain_values(vector):
    if vector.type.is_view:
        return vector.strings()
    rows = [tuple(v) if isinstance(v, list) else v for v in vector.data.tolist()]
    return [None if null else v for v, null in zip(rows, vector.nulls(), strict=True)]


@pytest.mark.parametrize("kind", ["few", "many", "long"])
def test_columns_come_back(store, seed, kind):
    rng = random.Random(seed)
    words = {
        "few": [b"", b"a", b"DELIVER IN PERSON", b"twelve bytes"],
        "many": [rng.randbytes(rng.randrange(30)) for _ in range(3000)],
        "long": [rng.randbytes(300) for _ in range(300)],
    }[kind]
    rows = 2000
    cuts = sorted(rng.sample(range(1, rows), 2))
    parts = [[column(rng, t, b - a, words) for t in TYPES] for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]
    expected = [[v for part in parts for v in plain_values(part[i])] for i in range(len(TYPES))]
    columns = [encode_column(t, [part[i] for part in parts], rows) for i, t in enumerate(TYPES)]
    name = sealed_name(7, 0)
    store.write_sealed(name, SealedContents(7, 0, rows, columns))
    layout = Layout(TYPES)
    sealed = SealedSegment(store.open_sealed(name), layout)
    for i in range(len(TYPES)):
        vector = sealed.vector(i, 0, rows)
        vector.verify()
        assert plain_values(vector.plain()) == expected[i]
        low, high = sorted((rng.randrange(rows), rng.randrange(rows)))
        assert plain_values(sealed.vector(i, low, high).plain()) == expected[i][low:high]
        check_zone(sealed.zone(i), expected[i], TYPES[i])
    assert (sealed.vector(1, 0, rows).dictionary is not None) == (kind != "many")
    table = Table(TableDef(7, "public", "t", tuple(ColumnDef("c", t) for t in TYPES), storage_id=7), MemoryArenas())
    table.reserve_segment()
    table.attach(0, sealed, 5)
    picked = np.array([rng.randrange(rows) for _ in range(50)], np.int64)
    for i, vector in enumerate(table.gather(picked, range(len(TYPES)))):
        assert plain_values(vector) == [expected[i][p] for p in picked.tolist()]


def check_zone(zone, values, sql_type):
    live = [v for v in values if v is not None]
    if zone is None:
        assert sql_type.is_view or sql_type.width == 16
        return
    low, high, nulls = zone
    assert nulls == len(values) - len(live)
    if not live:
        assert low is None
        return
    assert low <= min(live)
    assert high >= max(live)
    if not sql_type.is_view:
        assert (low, high) == (min(live), max(live))


def test_dead_slots_are_stored_as_nothing(store):
    secret = b"this value was never committed"
    vector = string_vector(TEXT, [b"a", secret, b"b"])
    dead = np.array([False, True, False])
    columns = [
        encode_column(TEXT, [vector], 3, dead),
        encode_column(INT4, [Vector(INT4, np.array([1, 99, 2], np.int32))], 3, dead),
    ]
    assert all(secret not in a.tobytes() for c in columns for a in (c.heap, c.words_heap, c.data) if a is not None)
    name = sealed_name(7, 0)
    store.write_sealed(name, SealedContents(7, 0, 3, columns))
    sealed = SealedSegment(store.open_sealed(name), Layout((TEXT, INT4)))
    assert sealed.vector(0, 0, 3).plain().strings() == [b"a", None, b"b"]
    assert sealed.vector(1, 0, 3).data.tolist() == [1, 0, 2]
    assert sealed.zone(1) == (1, 2, 1)


def three(dtype, shape=(3,)):
    return np.zeros(shape, dtype)


BITS = np.zeros(1, np.uint8)


@pytest.mark.parametrize(
    ("column", "types", "rows"),
    [
        (SealedColumn(three(np.int64)), (INT8, INT4), 3),
        (SealedColumn(three(np.int64)), (), 3),
        (SealedColumn(three(np.int64)), (INT4,), 3),
        (SealedColumn(three(np.int32)), (INT8,), 3),
        (SealedColumn(three(np.int64)), (FLOAT8,), 3),
        (SealedColumn(three(np.int64)), (UUID,), 3),
        (SealedColumn(three(np.uint64, (3, 2))), (INT8,), 3),
        (SealedColumn(three(np.int64)), (TEXT,), 3),
        (SealedColumn(three(np.uint8)), (TEXT,), 3),
        (SealedColumn(three(np.uint8), words=three(np.int64)), (TEXT,), 3),
        (SealedColumn(three(np.uint8), words=three(np.uint64, (3, 2))), (BOOL,), 3),
        (SealedColumn(three(np.uint64, (3, 2)), heap=three(np.int8)), (TEXT,), 3),
        (SealedColumn(three(np.int64)), (INT8,), 4),
        (SealedColumn(three(np.int64, (9,)), BITS), (INT8,), 9),
    ],
)
def test_columns_of_another_form_are_named(store, column, types, rows):
    """The file is sound in itself and stands in its place, but it is not what the table's definition says."""
    name = sealed_name(7, 0)
    store.write_sealed(name, SealedContents(7, 0, rows, [column]))
    with pytest.raises(errors.DataCorrupted, match=f"{name} is damaged.*table"):
        SealedSegment(store.open_sealed(name), Layout(types))


def test_a_shared_dictionary_is_kept(store):
    words = string_vector(TEXT, [b"x", b"y", b"a much longer word"])
    parts = [Vector(TEXT, np.array(codes, np.uint32), None, None, 0, words) for codes in ([0, 1], [2, 2, 0])]
    encoded = encode_column(TEXT, parts, 5)
    assert encoded.data.dtype == np.uint8
    assert encoded.data.tolist() == [0, 1, 2, 2, 0]
    assert encoded.words is not None and len(encoded.words) == 3


def test_the_directory_says_codes(store):
    encoded = encode_column(TEXT, [string_vector(TEXT, [b"a", b"b"] * 50)], 100)
    name = sealed_name(7, 0)
    store.write_sealed(name, SealedContents(7, 0, 100, [encoded]))
    sealed = SealedSegment(store.open_sealed(name), Layout((TEXT,)))
    row = np.zeros(d.fields(1), np.int64)
    sealed.fill(0, row)
    assert row[d.column_field(0, d.ENCODING)] == d.CODES
    assert row[d.column_field(0, d.WIDTH)] == 1
    assert row[d.column_field(0, d.DICTIONARY)] != 0
