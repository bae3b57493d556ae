"""A process that opens damaged databases, so that its end by a signal or a hang is seen from outside.

    python -m tests.storage.rot_worker {bytes | records} DIRECTORY SEED CASES

bytes: bytes of files at rest change; every table then answers what it held, or the damage by name.
records: groups whose records make no sense are logged with right checksums; what was logged may be refused or replayed,
but no address, count or length in it may lead out of the store's memory.

Each case is told before it begins. Exit code 1 and a line that begins with WRONG: an answer that must not be.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from filestore import errors
from filestore.database import Database, DatabaseOptions
from filestore.hal import DirectIO, open_filesystem
from filestore.storage.log_record import Record, encode_group
from filestore.storage.store import StoreOptions
from filestore.storage.vector import Vector
from filestore.txn.drive import drive
from filestore.txn.engine import EngineOptions

TABLES = {
    "facts": "id bigint PRIMARY KEY, small smallint, price numeric(10,2), big numeric, day date, kind text, note text",
    "words": "word text PRIMARY KEY, other text UNIQUE, flag boolean, ratio double precision, id uuid",
    "hot": "id integer PRIMARY KEY, value text",
}
REFUSALS = (errors.DataCorrupted, errors.IncompatibleFormat)
Rows = dict[str, list[tuple[Any, ...]]]
Group = list[tuple[int, int, bytes]]


def run(database: Database, text: str) -> list[tuple[Any, ...]]:
    """The rows of one statement, committed."""
    session = database.session()

    def steps() -> Any:
        rows: list[Any] = []
        for statement in session.parse(text):
            result = yield from session.execute(statement)
            for batch in result.batches:
                rows += zip(*map(values, batch.columns), strict=True)
        yield from session.finish()
        return rows

    try:
        return list(drive(steps(), database.lock, session.poll))
    finally:
        session.close()


def values(vector: Vector) -> list[Any]:
    """Stored values, bytes where they are strings."""
    plain = vector.plain()
    if plain.type.is_view and plain.data.ndim == 2 and plain.heap is not None:
        return plain.strings()
    return [v if ok else None for v, ok in zip(plain.data.tolist(), (~plain.nulls()).tolist(), strict=True)]


def opened(path: Path) -> Database:
    store = StoreOptions(log_file_bytes=1 << 16, batch_bytes=1 << 14, threaded=False)
    engine = EngineOptions(threaded=False, slots=64, heap_bytes=1 << 16, index_bytes=1 << 20, workers=1, store=store)
    fs = open_filesystem(str(path), direct=DirectIO.DISABLED)
    return Database.over(fs, DatabaseOptions(compile="never", engine=engine))


def build(path: Path) -> tuple[Rows, list[Group]]:
    """Pages, sealed files, indexes, a log behind a checkpoint; returns what tables hold, and all that was logged."""
    database = opened(path)
    log, groups = database.engine.log, []
    first = log.end_lsn
    for table, columns in TABLES.items():
        run(database, f"CREATE TABLE {table} ({columns})")
    run(
        database,
        "INSERT INTO facts SELECT i, i % 7, i / 4.0, i * 1e20, DATE '2020-01-01' + i, 'kind ' || i % 3,"
        " CASE WHEN i % 5 > 0 THEN repeat('note ' || i, i % 9) END FROM generate_series(1, 150) i",
    )
    run(
        database,
        "INSERT INTO words SELECT 'a word that is long ' || i, 'w' || i, i % 2 = 0, i / 3.0,"
        " '00000000-0000-0000-0000-000000000000' FROM generate_series(1, 100) i",
    )
    run(database, "INSERT INTO hot SELECT i, 'first' FROM generate_series(1, 20) i")
    for step in range(8):
        run(database, f"UPDATE hot SET value = 'step {step} of some that do not fit a view' WHERE id % 4 <> {step % 4}")
        run(database, f"DELETE FROM facts WHERE id = {3 * step + 1}")
        if step in (2, 5):
            groups += [list(group.records) for group in log.read(first)]
            first = log.end_lsn
            database.engine.checkpoint()
    run(database, "INSERT INTO words VALUES ('behind', NULL, NULL, 'NaN', NULL)")
    groups += [list(group.records) for group in log.read(first)]
    found, _ = answers(database)
    database.engine.store.close()
    return found, [[(kind, storage, data.tobytes()) for kind, storage, data in group] for group in groups]


def answers(database: Database, by_key: bool = True) -> tuple[Rows, Counter[str]]:
    """What the tables that can be read hold, by scans and by keys; the errors of the others."""
    found: Rows = {}
    refused: Counter[str] = Counter()
    for table, columns in TABLES.items():
        key = columns.partition(" ")[0]
        try:
            rows = run(database, f"SELECT * FROM {table} ORDER BY {key}")
            for row in rows[:: max(1, len(rows) // 4)] if by_key else ():
                value = f"'{row[0].decode()}'" if isinstance(row[0], bytes) else row[0]
                again = run(database, f"SELECT * FROM {table} WHERE {key} = {value}")
                assert repr(again) == repr([row]), f"{table} by its key: {again} for {row}"
            found[table] = rows
        except REFUSALS as error:
            refused[type(error).__name__] += 1
    return found, refused


def rot(rng: random.Random, path: Path) -> str:
    """Changes bytes of one file, at one place; says what."""
    kind = rng.choice(("manifest", "pages/pages.dat", "pages/map.*", "wal/0*", "tables/*/*"))
    victim = rng.choice(sorted(path.glob(kind)))
    data = bytearray(victim.read_bytes())
    used = len(data) if rng.random() < 0.2 else len(bytes(data).rstrip(b"\0"))
    at = rng.randrange(max(used, 1))
    what = rng.choice(("bit", "byte", "run", "block", "cut"))
    if what == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "byte":
        data[at] = rng.choice((0, 1, 127, 128, 255))
    elif what == "run":
        length = min(rng.choice((4, 8, 64)), len(data) - at)
        data[at : at + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    elif what == "block":
        at -= at % 512
        data[at : at + 512] = rng.randbytes(len(data[at : at + 512]))
    else:
        del data[at:]
    victim.write_bytes(data)
    return f"{what} of {victim.relative_to(path)} at {at}"


def lie(rng: random.Random, path: Path, groups: list[Group]) -> str:
    """Logs one group with the records of another one, some of their bytes changed."""
    database = opened(path)
    records = []
    for kind, storage_id, payload in rng.choice(groups):
        data = bytearray(payload)
        for _ in range(rng.choice((1, 1, 2, 5)) if data else 0):
            at = rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data))
            if rng.random() < 0.4 and at + 8 <= len(data):
                at -= at % 8
                value = rng.choice((-1, 0, 1, 2**62, -(2**63), 2**31, 2**20, 63, 64, 65, rng.getrandbits(40)))
                data[at : at + 8] = value.to_bytes(8, "little", signed=True)
            else:
                data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            del data[rng.randrange(len(data) + 1) :]
        records.append(Record(kind if rng.random() < 0.9 else rng.randrange(7), storage_id, bytes(data)))
    log = database.engine.store.log
    log.append(encode_group(database.engine.manager.last_committed + 1, 10_000, records))
    log.flush()
    database.engine.store.close()
    return f"records {[(r.kind, r.storage_id, len(r.payload)) for r in records]}"


def believed(database: Database) -> str:
    """What became of a lie that was replayed: values may be any, and errors of statements; the process stays."""
    try:
        answers(database, by_key=False)
        database.engine.check()
    except (errors.Error, ValueError, ArithmeticError) as error:
        return f"replayed: {type(error).__name__}"
    finally:
        database.engine.store.close()
    return "replayed"


def main(mode: str, directory: str, seed: int, cases: int) -> int:
    root = Path(directory)
    sound, damaged = root / "sound", root / "damaged"
    expected, groups = build(sound)
    tally: Counter[str] = Counter()
    for case in range(seed, seed + cases):
        rng = random.Random(case)
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(sound, damaged)
        print(f"case {case}", flush=True)
        what = rot(rng, damaged) if mode == "bytes" else lie(rng, damaged, groups)
        print(f"  {what}", flush=True)
        try:
            database = opened(damaged)
        except REFUSALS as error:
            tally[f"not opened: {type(error).__name__}"] += 1
            continue
        if mode == "records":
            tally[believed(database)] += 1
            continue
        found, refused = answers(database)
        findings = database.engine.check()
        for table, rows in found.items():
            if repr(rows) != repr(expected[table]):
                print(f"WRONG case {case}, {what}: table {table} answers {rows}")
                return 1
        if refused and not findings:
            print(f"WRONG case {case}, {what}: the verifier is silent")
            return 1
        tally["some tables refused" if refused else "all tables answer"] += 1
        database.engine.store.close()
    print(dict(tally))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
