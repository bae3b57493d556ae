"""An engine with small segments, statements by value, and a dict beside it that says what must be there.

`Model` is one directory's tables as dicts and the state after each commit; the row of table `meta` counts
commits, so a recovered engine says itself which of those states it must equal.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np

from filestore.hal import FileSystem
from filestore.storage.schema import ColumnDef, KeyDef, TableDef
from filestore.storage.store import StoreOptions
from filestore.storage.table import Table
from filestore.storage.vector import Vector, string_vector
from filestore.storage.wait import Wait
from filestore.txn import ddl
from filestore.txn.engine import Engine, EngineOptions
from filestore.txn.transaction import Transaction
from filestore.txn.writes import claim_rows, delete_rows, insert_rows, update_rows
from filestore.types import INT8, TEXT

Row = tuple[int, bytes | None]
Rows = dict[int, bytes | None]

SECRET = b"never committed, never on disk "


def options(seed: int = 0, **changes: Any) -> EngineOptions:
    """Small segments, so that boundaries are met; everything inline, so that a run is the same each time."""
    rng = random.Random(seed)
    store = StoreOptions(log_file_bytes=1 << 16, batch_bytes=1 << 14, threaded=False, random=rng.randbytes)
    fields: dict[str, Any] = {
        "slots": 16,
        "heap_bytes": 1 << 16,
        "index_bytes": 1 << 20,
        "workers": 1,
        "threaded": False,
        "store": store,
    }
    return EngineOptions(**{**fields, **changes})


def run(steps: Generator[Wait, None, Any]) -> Any:
    """Drives a statement that has no reason to wait for another transaction."""
    while True:
        try:
            wait = next(steps)
        except StopIteration as stop:
            return stop.value
        assert wait.block(10), "nothing to wait for"


def defined(engine: Engine, name: str) -> TableDef:
    """The definition of a table that has to be there."""
    found = engine.registry.table("public", name)
    assert found is not None, name
    return found


def table_def(name: str, unique: bool = False) -> TableDef:
    """id bigint primary key, value text; `unique`: value is a key too."""
    keys = [KeyDef(0, f"{name}_pkey", (0,), True)]
    if unique:
        keys.append(KeyDef(0, f"{name}_value_key", (1,), False))
    columns = (ColumnDef("id", INT8, not_null=True), ColumnDef("value", TEXT))
    return TableDef(0, "public", name, columns, tuple(keys))


def vectors(rows: Iterable[Row]) -> list[Vector]:
    rows = list(rows)
    return [Vector(INT8, np.array([r[0] for r in rows], np.int64)), string_vector(TEXT, [r[1] for r in rows])]


def create(engine: Engine, definition: TableDef) -> Table:
    """Makes a table in a transaction of its own."""
    txn = engine.begin()
    made = run(ddl.create_table(engine, txn, definition))
    assert engine.commit(txn).result()
    return engine.table(made)


def found(engine: Engine, txn: Transaction, table: Table) -> list[tuple[int, int, bytes | None]]:
    """(address, id, value) of every row that a new statement of the transaction sees."""
    snapshot = engine.statement_snapshot(txn)
    rows: list[tuple[int, int, bytes | None]] = []
    for unit in table.units(snapshot):
        batch = unit.batch([0, 1], 0, unit.rows)
        batch.verify()
        visible = unit.visible(snapshot, 0, unit.rows)
        keep = np.arange(unit.rows) if visible is None else np.flatnonzero(visible)
        ids = batch.columns[0].data[keep].tolist()
        values = batch.columns[1].take(keep).strings()
        rows += list(zip(unit.addresses(0, unit.rows)[keep].tolist(), ids, values, strict=True))
    return rows


def contents(engine: Engine, txn: Transaction, table: Table) -> Rows:
    """What a new statement of the transaction sees, by id."""
    rows = found(engine, txn, table)
    assert len({r[1] for r in rows}) == len(rows), "an id is seen once"
    return {number: value for _, number, value in rows}


def committed(engine: Engine, table: Table) -> Rows:
    """What a new transaction sees."""
    txn = engine.begin()
    try:
        return contents(engine, txn, table)
    finally:
        engine.abort(txn)


def insert(txn: Transaction, table: Table, rows: Iterable[Row]) -> Generator[Wait, None, Any]:
    rows = list(rows)
    return insert_rows(txn, table, vectors(rows), len(rows))


def update(engine: Engine, txn: Transaction, table: Table, changes: dict[int, Row]) -> Generator[Wait, None, int]:
    """Rows by id become others; READ COMMITTED follows rows that moved. Returns how many were changed."""
    addresses = [(a, changes[i]) for a, i, _ in found(engine, txn, table) if i in changes]
    done = 0
    while addresses:
        result = yield from claim_rows(txn, table, np.array([a for a, _ in addresses], np.int64))
        mine = [i for i in range(len(addresses)) if result.claimed[i]]
        if mine:
            old = np.array([addresses[i][0] for i in mine], np.int64)
            yield from update_rows(txn, table, old, vectors(addresses[i][1] for i in mine), [0, 1])
            done += len(mine)
        addresses = [(int(result.newest[i]), addresses[i][1]) for i in range(len(addresses)) if result.moved[i]]
    return done


def delete(engine: Engine, txn: Transaction, table: Table, ids: set[int]) -> Generator[Wait, None, int]:
    addresses = np.array([a for a, i, _ in found(engine, txn, table) if i in ids], np.int64)
    done = 0
    while len(addresses):
        result = yield from claim_rows(txn, table, addresses)
        delete_rows(txn, table, addresses[result.claimed])
        done += int(result.claimed.sum())
        addresses = result.newest[result.moved]
    return done


class Model:
    """An engine, its tables by name as dicts, and the state after each commit."""

    def __init__(self, fs: FileSystem, seed: int, padding: int = 0) -> None:
        """padding: bytes added to unique values, so that few of them fill a page of their index."""
        self.rng = random.Random(seed)
        self.padding = padding
        self.engine = Engine.open(fs, options(seed))
        self.tables: dict[str, Rows] = {}
        self.states: list[dict[str, Rows]] = [{}]
        self.next_id = 0
        self.open: list[tuple[Transaction, bool, Rows]] = []
        if not any(t.name == "meta" for t in self.engine.registry.tables()):
            table = create(self.engine, table_def("meta"))
            txn = self.engine.begin()
            run(insert(txn, table, [(0, b"0")]))
            self.engine.commit(txn).result()
            create(self.engine, table_def("held", unique=True))
            self.states[0] = {"held": {}}
            self.tables["held"] = {}

    def text(self) -> bytes | None:
        """A value: null, short, or long enough for the heap."""
        kind = self.rng.random()
        if kind < 0.1:
            return None
        size = self.rng.choice((0, 1, 11, 12, 13, 40, 200))
        return bytes(self.rng.choices(b"abcdefgh", k=size))

    def rows(self, count: int) -> list[Row]:
        made = [(self.next_id + i, self.text()) for i in range(count)]
        self.next_id += count
        return made

    def stored(self, name: str, txn: Transaction) -> Table:
        definition = (txn.registry or self.engine.registry).table("public", name)
        assert definition is not None
        return self.engine.table(definition)

    def transaction(self) -> bool:
        """One random transaction; whether it committed."""
        engine, rng = self.engine, self.rng
        txn = engine.begin()
        tables = {name: dict(rows) for name, rows in self.tables.items()}
        for _ in range(rng.choice((1, 1, 2, 4))):
            self.statement(txn, tables)
        if rng.random() < 0.15:
            engine.abort(txn)
            return False
        self.commit(txn, tables)
        return True

    def commit(self, txn: Transaction, tables: dict[str, Rows]) -> None:
        run(update(self.engine, txn, self.stored("meta", txn), {0: (0, b"%d" % len(self.states))}))
        self.tables = tables
        self.states.append({name: dict(rows) for name, rows in tables.items()})
        self.before_commit()
        self.engine.commit(txn).result()
        self.after_commit()

    def before_commit(self) -> None:
        """For the crash test: state len(states) - 1 is about to be submitted."""

    def after_commit(self) -> None:
        """For the crash test: that state has been acknowledged."""

    def statement(self, txn: Transaction, tables: dict[str, Rows]) -> None:
        engine, rng = self.engine, self.rng
        kind = rng.random()
        free = sorted(set(tables) - {"held"})
        if not free or (kind < 0.06 and len(tables) < 4):
            name = f"t{rng.randrange(4)}"
            if name not in tables:
                run(ddl.create_table(engine, txn, table_def(name)))
                tables[name] = {}
            return
        name = rng.choice(free)
        rows = tables[name]
        table = self.stored(name, txn)
        ids = rng.sample(sorted(rows), min(len(rows), rng.choice((1, 1, 3)))) if rows else []
        if kind < 0.09:
            run(ddl.drop_table(engine, txn, table.definition.oid))
            del tables[name]
        elif kind < 0.12:
            run(ddl.truncate(engine, txn, table.definition.oid))
            rows.clear()
        elif kind < 0.20:
            new = self.rows(rng.choice((16, 37, 50)))
            assert run(engine.bulk_load(txn, table, [vectors(new[:20]), vectors(new[20:])])) == len(new)
            rows.update(new)
        elif kind < 0.50 or not ids:
            new = self.rows(rng.choice((1, 2, 5, 20)))
            run(insert(txn, table, new))
            rows.update(new)
        elif kind < 0.80:
            changes = {i: (i, self.text()) for i in ids}
            if rng.random() < 0.3:
                changes = dict(zip(ids, self.rows(len(ids)), strict=True))
            assert run(update(engine, txn, table, changes)) == len(ids)
            for i in ids:
                del rows[i]
            rows.update(changes.values())
        else:
            assert run(delete(engine, txn, table, set(ids))) == len(ids)
            for i in ids:
                del rows[i]
        assert contents(engine, txn, self.stored(name, txn)) == rows if name in tables else True

    def open_transaction(self) -> None:
        """Leaves a transaction open that changed table `held` in every way: checkpoints must not show it."""
        if self.open:
            return
        engine, rng = self.engine, self.rng
        commits = rng.random() < 0.6
        txn = engine.begin()
        table = self.stored("held", txn)
        rows = dict(self.tables["held"])
        for _ in range(rng.choice((1, 2, 4))):
            prefix = b"" if commits else SECRET
            tail = b"." * self.padding
            new = [(number, prefix + b"unique %d" % number + tail) for number, _ in self.rows(rng.choice((1, 3, 20)))]
            kind = rng.random()
            ids = rng.sample(sorted(rows), min(len(rows), 3))
            if kind < 0.2 and ids:
                assert run(delete(engine, txn, table, set(ids))) == len(ids)
            elif kind < 0.6 and ids:
                new = new[: len(ids)]
                ids = ids[: len(new)]
                assert run(update(engine, txn, table, dict(zip(ids, new, strict=True)))) == len(ids)
                rows.update(new)
            else:
                ids = []
                run(insert(txn, table, new) if kind < 0.9 else engine.bulk_load(txn, table, [vectors(new)]))
                rows.update(new)
            for i in ids:
                del rows[i]
            assert contents(engine, txn, table) == rows
        self.open.append((txn, commits, rows))

    def end_open(self) -> None:
        for txn, commits, rows in self.open:
            if commits:
                self.commit(txn, {**self.tables, "held": rows})
            else:
                self.engine.abort(txn)
        self.open.clear()

    def verify(self) -> None:
        verify(self.engine, self.states, len(self.states) - 1, len(self.states) - 1)

    def close(self) -> None:
        self.end_open()
        self.engine.close()


def verify(engine: Engine, states: list[dict[str, Rows]], least: int, most: int) -> int:
    """The engine holds one of the states least..most, whole, found by scans and by every key; returns which."""
    by_name = {t.name: t for t in engine.registry.tables()}
    number = 0
    if "meta" in by_name:
        counted = committed(engine, engine.table(by_name.pop("meta"))).get(0)
        number = 0 if counted is None else int(counted)
    assert least <= number <= most, f"holds commit {number}, not {least}..{most}"
    expected = states[number]
    assert set(by_name) == set(expected), f"tables {sorted(by_name)}, not {sorted(expected)}"
    for name, rows in expected.items():
        table = engine.table(by_name[name])
        verify_table(engine, table, rows)
    problems = engine.check()
    assert not problems, problems
    return number


def verify_table(engine: Engine, table: Table, rows: Rows) -> None:
    """The table holds the rows, found by scan and by key."""
    assert committed(engine, table) == rows, f"table {table.definition.name}"
    _verify_keys(engine, table, rows)
    assert table.live_rows == len(rows), f"{table.live_rows} rows counted, not {len(rows)}"


def _verify_keys(engine: Engine, table: Table, rows: Rows) -> None:
    """Every row is found by its key, and has its value."""
    if not rows:
        return
    txn = engine.begin()
    snapshot = engine.statement_snapshot(txn)
    ids = np.array(sorted(rows), np.int64)
    offsets, records = table.stored_keys[0].find([Vector(INT8, ids)])
    addresses = table.resolve(records, snapshot)
    positions = np.repeat(np.arange(len(ids)), np.diff(offsets))[addresses >= 0]
    number, value = table.gather(addresses[addresses >= 0], [0, 1])
    hits = number.data == ids[positions]
    assert ids[positions][hits].tolist() == ids.tolist(), "each key leads to its row, once"
    assert value.take(np.flatnonzero(hits)).strings() == [rows[i] for i in ids.tolist()]
    engine.abort(txn)
