"""A page that fails its checksum costs its table and nothing else; an index costs nothing (RELIABILITY F8, R22, R36).

Goal: whichever page of a store rots, every other table answers everything, the damaged one answers nothing but
XX001 with file and offset, nothing is ever answered from its bytes, and nothing that was acknowledged goes: with the
page restored, all of it is there. Method: one flipped bit in each live page in turn, under a model in memory.
"""

from __future__ import annotations

import errno
import logging
import random
import re
from typing import Any

import numpy as np
import pytest

from filestore import errors
from filestore.database import Database, DatabaseOptions
from filestore.hal import SimulatedDisk
from filestore.hal.file import Bytes
from filestore.storage import manifest as manifests
from filestore.storage.layout import NO_SLOT, PAGE_SIZE, PAGES_FILE
from filestore.storage.page_store import PageStore
from filestore.txn.engine import EngineOptions
from tests.crash.statements import run

TABLES = ("quiet", "busy", "loaded")
Rows = list[tuple[Any, ...]]


def options() -> DatabaseOptions:
    return DatabaseOptions(compile="never", engine=EngineOptions(threaded=False, slots=64, heap_bytes=1 << 16))


def contents(database: Database, table: str) -> Rows:
    """A table's rows by scan; the index must lead to each of them."""
    session = database.session()
    rows = run(session, f"SELECT id, size FROM {table} ORDER BY id")
    for number, size in rows[:: max(1, len(rows) // 10)]:
        assert run(session, f"SELECT size FROM {table} WHERE id = {number}") == [(size,)]
    session.close()
    return rows


@pytest.fixture(scope="module")
def sound() -> tuple[SimulatedDisk, dict[str, Rows]]:
    """A store that was killed: pages of three tables and their indexes, sealed files, and a log behind them."""
    disk = SimulatedDisk()
    database = Database.over(disk, options())
    session = database.session()
    for table in TABLES:
        run(session, f"CREATE TABLE {table} (id bigint PRIMARY KEY, size bigint, name text UNIQUE)")
        run(session, f"INSERT INTO {table} SELECT i, 10 * i, 'name ' || i FROM generate_series(1, 150) i")
    for step in range(3):
        run(session, f"UPDATE busy SET size = size + 1, name = name || '!' WHERE id % 3 = {step}")
        run(session, "DELETE FROM quiet WHERE id = 3")
        if step < 2:
            database.engine.checkpoint()
    for table in TABLES:
        run(session, f"INSERT INTO {table} VALUES (1000, 1, 'behind the checkpoint')")
    expected = {table: contents(database, table) for table in TABLES}
    database.engine.store.close()
    return disk, expected


def pages(disk: SimulatedDisk) -> list[tuple[str, int]]:
    """(arena, offset in the file) of every live page."""
    manifest, _ = manifests.read(disk)
    store = PageStore(disk, manifest.uuid, manifest.page_map)
    return [
        (name, int(slot) * PAGE_SIZE)
        for name in store.names()
        for slot in store._arenas[name]["slot"]
        if slot != NO_SLOT
    ]


def owner(database: Database, arena: str) -> str:
    number = int(re.match(r"[ti](\d+)", arena).group(1))
    return next(t.name for t in database.engine.registry.tables() if t.storage_id == number)


def test_any_damaged_page_costs_its_table_or_nothing(
    sound: tuple[SimulatedDisk, dict[str, Rows]], caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    disk, expected = sound
    caplog.set_level(logging.CRITICAL, "filestore")
    rng = random.Random(seed)
    refused, rebuilt = set(), set()
    for arena, offset in pages(disk):
        image = disk.clone()
        place, bit = offset + rng.randrange(PAGE_SIZE), rng.randrange(8)
        image.flip_bit(PAGES_FILE, place, bit)
        database = Database.over(image, options())
        lost = owner(database, arena) if arena.startswith("t") else None
        for table in TABLES:
            if table == lost:
                for text in (f"SELECT id FROM {table}", f"SELECT id FROM {table} WHERE id = 7", f"DELETE FROM {table}"):
                    with pytest.raises(errors.DataCorrupted, match=f"{PAGES_FILE} is damaged at offset {offset}:"):
                        run(database.session(), text)
                refused.add(table)
            else:
                assert contents(database, table) == expected[table]
                run(database.session(), f"INSERT INTO {table} VALUES (2000, 2, 'after the damage')")
        found = {finding.problem for finding in database.engine.check()}
        assert any(str(offset) in problem for problem in found)
        if lost is None:
            rebuilt.add(arena)
            database.close()
            database = Database.over(image, options())
            assert database.engine.check() == [], "the checkpoint wrote the rebuilt index"
        else:
            with pytest.raises(errors.DataCorrupted, match="no checkpoint is taken"):
                database.engine.checkpoint()
            database.close()
            image.flip_bit(PAGES_FILE, place, bit)
            database = Database.over(image, options())
            assert database.engine.check() == []
            assert contents(database, lost) == expected[lost], "restored, the table has what the log says"
        for table in TABLES:
            more = [] if table == lost else [(2000, 2)]
            assert contents(database, table) == expected[table] + more
        database.close()
    assert refused == set(TABLES)
    assert len(rebuilt) == 2 * len(TABLES)


@pytest.mark.parametrize("end", ["DROP TABLE busy", "TRUNCATE busy"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_damaged_table_can_be_given_up(
    sound: tuple[SimulatedDisk, dict[str, Rows]], end: str, checkpointed: bool
) -> None:
    disk, expected = sound[0].clone(), sound[1]
    database = Database.over(disk.clone(), options())
    offset = next(o for a, o in pages(disk) if a.startswith("t") and owner(database, a) == "busy")
    disk.flip_bit(PAGES_FILE, offset)
    database = Database.over(disk, options())
    session = database.session()
    sizes = run(session, "SELECT pg_total_relation_size(oid) FROM pg_class WHERE relname IN ('busy', 'quiet')")
    assert len(sizes) == 2
    assert (0,) in sizes, "the catalogue shows it, and the others"
    run(session, f"BEGIN; {end}; ROLLBACK")
    with pytest.raises(errors.DataCorrupted, match="busy"):
        run(session, "SELECT * FROM busy")
    run(session, end)
    if checkpointed:
        database.engine.checkpoint()
        database.close()
    else:
        database.engine.store.close()
    database = Database.over(disk, options())
    if end.startswith("DROP"):
        with pytest.raises(errors.UndefinedTable):
            run(database.session(), "SELECT * FROM busy")
    else:
        assert contents(database, "busy") == []
    assert contents(database, "quiet") == expected["quiet"]
    database.engine.checkpoint()
    assert database.engine.check() == []
    database.close()


class BadSector(SimulatedDisk):
    """Answers EIO to reads of the page file that touch one place."""

    bad = -1

    def raw_read(self, path: str, number: int, offset: int, length: int) -> Bytes:
        if path == PAGES_FILE and offset <= self.bad < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return super().raw_read(path, number, offset, length)


def test_a_sector_that_cannot_be_read_costs_what_a_damaged_page_does(
    sound: tuple[SimulatedDisk, dict[str, Rows]],
) -> None:
    disk, expected = BadSector(), sound[1]
    disk._medium = sound[0].clone()._medium
    for kind in ("t", "i"):
        database = Database.over(SimulatedDisk.clone(disk), options())
        arena, offset = next((a, o) for a, o in pages(disk) if a.startswith(kind) and owner(database, a) == "quiet")
        database.close()
        disk.bad = offset + 5000
        database = Database.over(disk, options())
        for table in TABLES:
            if arena.startswith("t") and table == "quiet":
                with pytest.raises(errors.DataCorrupted, match=f"{PAGES_FILE} is damaged at offset {offset}:.*cannot"):
                    contents(database, table)
            else:
                assert contents(database, table) == expected[table]
        database.engine.store.close()
        disk.bad = -1
        database = Database.over(disk, options())
        assert {table: contents(database, table) for table in TABLES} == expected
        database.engine.store.close()


@pytest.mark.parametrize("pages_left", [0, 3])
def test_a_page_file_that_was_cut_costs_the_tables_behind_the_cut(
    sound: tuple[SimulatedDisk, dict[str, Rows]], pages_left: int
) -> None:
    disk, expected = sound[0].clone(), sound[1]
    disk.truncate(PAGES_FILE, pages_left * PAGE_SIZE)
    database = Database.over(disk, options())
    for definition in list(database.engine.registry.tables()):
        if definition.storage_id in database.engine.damaged:
            with pytest.raises(errors.DataCorrupted, match=PAGES_FILE):
                contents(database, definition.name)
            run(database.session(), f"DROP TABLE {definition.name}")
        else:
            assert contents(database, definition.name) == expected[definition.name]
    database.engine.checkpoint()
    assert database.engine.check() == []
    database.close()


def test_a_damaged_file_of_a_segment_costs_its_table(sound: tuple[SimulatedDisk, dict[str, Rows]]) -> None:
    disk, expected = sound[0].clone(), sound[1]
    manifest, _ = manifests.read(disk)
    name = sorted(manifest.sealed)[0]
    disk.flip_bit(name, 9)
    database = Database.over(disk, options())
    lost = next(t.name for t in database.engine.registry.tables() if f"/{t.storage_id}/" in name)
    with pytest.raises(errors.DataCorrupted, match=re.escape(name)):
        run(database.session(), f"SELECT * FROM {lost}")
    for table in set(TABLES) - {lost}:
        assert contents(database, table) == expected[table]
    database.close()


@pytest.mark.parametrize("what", ["the file", "its head", "its footer"])
def test_a_file_of_a_segment_that_the_disk_cannot_read_costs_its_table(
    sound: tuple[SimulatedDisk, dict[str, Rows]], what: str
) -> None:
    disk, expected = sound[0].clone(), sound[1]
    name = sorted(manifests.read(disk)[0].sealed)[0]
    fault = disk.fail("open" if what == "the file" else "read", name, nth=2 if what == "its footer" else 1)
    database = Database.over(disk, options())
    assert fault.injected == 1
    assert database.engine.failed is None, "reading is no reason to end the store"
    lost = next(t.name for t in database.engine.registry.tables() if f"/{t.storage_id}/" in name)
    for _ in range(2):
        with pytest.raises(errors.DataCorrupted, match=re.escape(name)) as refused:
            run(database.session(), f"SELECT * FROM {lost}")
    assert "EIO" in refused.value.message
    for table in set(TABLES) - {lost}:
        assert contents(database, table) == expected[table]
        run(database.session(), f"INSERT INTO {table} VALUES (2000, 2, 'beside the damage')")
    database.close()
    disk.heal()
    database = Database.over(disk, options())
    assert contents(database, lost) == expected[lost], "the disk can read it again: all of it is there"
    assert database.engine.check() == []
    database.close()


def test_a_column_that_the_disk_cannot_read_costs_itself(sound: tuple[SimulatedDisk, dict[str, Rows]]) -> None:
    disk, expected = sound[0].clone(), sound[1]
    database = Database.over(disk, options())
    name = sorted(manifests.read(disk)[0].sealed)[0]
    lost = next(t.name for t in database.engine.registry.tables() if f"/{t.storage_id}/" in name)
    for nth in (1, 2):  # the column at once, then chunk by chunk
        disk.fail("read", name, nth=nth)
    with pytest.raises(errors.DataCorrupted, match=f"{re.escape(name)}.*EIO"):
        run(database.session(), f"SELECT sum(size) FROM {lost}")
    assert database.engine.failed is None
    assert run(database.session(), f"SELECT count(name) FROM {lost}") == [(len(expected[lost]),)]
    assert contents(database, lost) == expected[lost], "the next touch reads it again"
    run(database.session(), f"INSERT INTO {lost} VALUES (3000, 3, 'behind the damage')")
    database.close()


def test_values_of_rebuilt_indexes_are_found_by_every_key(sound: tuple[SimulatedDisk, dict[str, Rows]]) -> None:
    """All indexes rot at once; uniqueness holds on, and old values do not come back."""
    disk = sound[0].clone()
    for arena, offset in pages(disk):
        if arena.startswith("i"):
            disk.corrupt(PAGES_FILE, offset, np.random.default_rng(1).bytes(PAGE_SIZE))
    database = Database.over(disk, options())
    session = database.session()
    for table in TABLES:
        assert contents(database, table) == sound[1][table]
        with pytest.raises(errors.UniqueViolation):
            run(session, f"INSERT INTO {table} VALUES (5000, 1, 'behind the checkpoint')")
        run(session, f"INSERT INTO {table} VALUES (5000, 1, 'name 150{'' if table == 'busy' else ' x'}')")
    database.close()
