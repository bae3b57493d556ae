"""The verifier: every kind of damage that it can name is made on purpose and found; what is sound is never blamed.

Oracle: `slow_kinds`, which looks at one version after the other in plain Python.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from filestore.hal import SimulatedDisk
from filestore.storage import check as rows_check
from filestore.storage import check_kernels as k
from filestore.storage import directory as d
from filestore.storage.layout import PAGE_SIZE
from filestore.storage.verify import Finding
from filestore.txn import check
from filestore.txn.engine import Engine
from tests.txn import engine_model as m

NEW = (2 << d.SLOT_BITS) | 8  # the version that replaced 0:3
NEXT = NEW + 1  # and the one that replaced 0:5


def prepared():
    """An engine with a table `t`: 40 rows, two of them updated, one deleted, two aborted; a transaction is open that
    has deleted row 9 and inserted one. And a table `loaded`, which is sealed.
    """
    engine = Engine.open(SimulatedDisk(), m.options(1))
    table = m.create(engine, m.table_def("t", unique=True))
    txn = engine.begin()
    m.run(m.insert(txn, table, [(i, b"value %d" % i) for i in range(40)]))
    engine.commit(txn).result()
    txn = engine.begin()
    m.run(m.update(engine, txn, table, {3: (3, b"three"), 5: (50, b"five")}))
    m.run(m.delete(engine, txn, table, {7}))
    engine.commit(txn).result()
    txn = engine.begin()
    m.run(m.insert(txn, table, [(90, b"aborted"), (91, None)]))
    engine.abort(txn)
    txn = engine.begin()
    m.run(m.delete(engine, txn, table, {9}))
    m.run(m.insert(txn, table, [(100, b"open")]))
    loaded = m.create(engine, m.table_def("loaded"))
    bulk = engine.begin()
    m.run(engine.bulk_load(bulk, loaded, [m.vectors((i, None) for i in range(20))]))
    engine.commit(bulk).result()
    return engine


@pytest.fixture
def engine():
    engine = prepared()
    assert engine.check() == []
    yield engine
    engine.store.close()


def put(table, field, address, value):
    """Writes into a hidden vector behind everybody's back."""
    segment = table.segments[address >> d.SLOT_BITS]
    segment.ensure(field)
    segment.hidden[field].vector(np.int64, segment.slots)[address & d.SLOT_MASK] = value


def ended_early(table):
    put(table, d.BEGIN, 1, 50)
    put(table, d.END, 1, 49)


def without_values(table):
    table.segments[1].vacant = True


def count(field, number):
    def damage(table):
        table.directory[number, field] += 1

    return damage


def last_begin(table):
    table.directory[0, d.LAST_BEGIN] = 1


def one_too_many(table):
    table.live_rows += 1


def wrote(field, address, value):
    return lambda table: put(table, field, address, value)


VERSIONS = {
    "a transaction that is gone has written": (
        wrote(d.BEGIN, 1, d.mark_of(999)),
        "version 0:1 was written by transaction 999, which is not open",
    ),
    "a transaction that is gone is ending": (
        wrote(d.END, 1, d.mark_of(999)),
        "version 0:1 is being ended by transaction 999, which is not open",
    ),
    "no begin": (wrote(d.BEGIN, 1, 0), "version 0:1 has a begin that none can have: 0"),
    "an infinite begin": (wrote(d.BEGIN, 1, d.INFINITY), f"version 0:1 has a begin that none can have: {d.INFINITY}"),
    "no end": (wrote(d.END, 1, 0), "version 0:1 has an end that none can have: 0"),
    "an aborted end": (wrote(d.END, 1, d.ABORTED), f"version 0:1 has an end that none can have: {d.ABORTED}"),
    "an end before the begin": (ended_early, "version 0:1 began at 50 and ended before, at 49"),
    "no values": (without_values, "version 1:0 has not ended, but its segment has no values any more"),
    "a row that is not there": (
        wrote(d.RECORD, NEW, (9 << d.SLOT_BITS) + 2),
        "version 2:8 is of row 9:1, which does not exist",
    ),
    "an older version that is not there": (
        wrote(d.PREVIOUS, NEW, (1 << 40) + 1),
        f"version 2:8 follows {1 << 20}:0, which does not exist",
    ),
    "an older version below all": (wrote(d.PREVIOUS, NEW, -(1 << 40)), "which does not exist"),
    "a head that is not there": (
        wrote(d.HEAD, 3, (2 << d.SLOT_BITS) | 15),
        "version 0:3 is of row 0:3, whose head 2:15 does not exist",
    ),
    "a first version of another row": (
        wrote(d.RECORD, 1, 5),
        "version 0:1 is of row 0:4, which its place in the chain denies",
    ),
    "a first version with an older one": (
        wrote(d.RECORD, NEW, NEW + 1),
        "version 2:8 is of row 2:8, which its place in the chain denies",
    ),
    "an older version of another row": (
        wrote(d.PREVIOUS, NEW, 5),
        "version 2:8 follows 0:4, which is another row's",
    ),
    "a head of another row": (
        wrote(d.HEAD, 3, NEXT),
        "version 0:3 is of row 0:3, whose head 2:9 is another row's",
    ),
    "a circle": (wrote(d.PREVIOUS, NEW, NEW + 1), "version 2:8 follows 2:8, which is not older"),
    "a gap": (wrote(d.END, 3, 1 << 40), "version 2:8 does not begin when 0:3 ends"),
    "a head that stayed behind": (wrote(d.HEAD, 3, 3), "version 2:8 is of row 0:3, whose head 0:3 is older"),
    "two newest versions": (
        wrote(d.END, 3, d.INFINITY),
        "version 0:3 is the newest of row 0:3, but 2:8 is the head",
    ),
    "dead": (count(d.DEAD, 2), "segment 2: DEAD is 3, not 2"),
    "pending": (count(d.PENDING, 2), "segment 2: PENDING is 2, not 1"),
    "ended": (count(d.ENDED, 0), "segment 0: ENDED is 5, not 4"),
    "the last begin": (last_begin, "segment 0: LAST_BEGIN is 1, but a version began at"),
    "the count of rows": (one_too_many, "39 rows live, 40 counted"),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_damage_to_versions_is_named(engine, name):
    damage, words = VERSIONS[name]
    damage(engine.table(m.defined(engine, "t")))
    problems = [f.problem for f in engine.check() if f.file == "public.t"]
    assert any(words in problem for problem in problems), problems


def test_every_kind_of_damage_to_versions_is_made_here():
    """A kind that nobody makes is one that may never be found."""
    made: Counter[int] = Counter()
    for damage, _ in VERSIONS.values():
        each = prepared()
        table = each.table(m.defined(each, "t"))
        damage(table)
        made += Counter(fast_kinds(table, open_marks(each)))
        each.store.close()
    assert set(made) == set(range(k.KINDS))


def keys_of(key, *ids):
    return key.encode([m.vectors([(i, None) for i in ids])[0]])


def lost_entry(table, key):
    key.index.insert(keys_of(key, 500), np.array([1 << 30], np.int64))


def wrong_entry(table, key):
    key.index.insert(keys_of(key, 500), np.array([NEW], np.int64))


def no_entry(table, key):
    assert key.index.remove(keys_of(key, 1), np.array([1], np.int64)).all()


def two_rows(table, key):
    table.segments[0].columns[0].data[2] = 1
    key.index.insert(keys_of(key, 1), np.array([2], np.int64))


def broken_page(table, key):
    key.arena.data[PAGE_SIZE] ^= 0xFF


INDEXES = {
    "lost": (lost_entry, "an entry names row 1024:0, which does not exist"),
    "wrong": (wrong_entry, "an entry names version 2:8, which does not begin a row"),
    "none": (no_entry, "row 0:1 with key b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x80' has 0 entries instead of one"),
    "two": (two_rows, "rows 0:1 and 0:2 are both live with key b'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x80'"),
    "page": (broken_page, "index page 1 is damaged"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_damage_to_an_index_is_named(engine, name):
    damage, words = INDEXES[name]
    table = engine.table(m.defined(engine, "t"))
    damage(table, table.stored_keys[0])
    found = engine.check()
    assert found[0].file == "public.t, index t_pkey"
    assert words in found[0].problem, found


def test_a_file_of_another_length_and_rows_that_are_gone_are_named(engine):
    loaded = m.defined(engine, "loaded")
    engine.table(loaded).segments[0].sealed.rows = 15
    engine.tables.pop(m.defined(engine, "t").storage_id)
    assert engine.check() == [
        Finding("public.t", "the registry names rows that do not exist"),
        Finding("public.loaded", "segment 0: ROWS is 16, its file has 15"),
    ]


def test_the_first_few_are_told_and_the_others_counted(engine):
    table = engine.table(m.defined(engine, "t"))
    key = table.stored_keys[0]
    for number in range(16):
        key.index.insert(keys_of(key, 1000 + number), np.array([(1 << 30) + number], np.int64))
        put(table, d.RECORD, (1 << d.SLOT_BITS) | number, 1)
    told = [f.problem for f in engine.check()]
    assert told[:3] == [
        "version 1:0 is of row 0:0, which its place in the chain denies",
        "version 1:1 is of row 0:0, which its place in the chain denies",
        "version 1:2 is of row 0:0, which its place in the chain denies; and 13 more of this kind",
    ]
    assert "an entry names row 1024:0, which does not exist" in told
    assert "an entry names row 1024:2, which does not exist; and 13 more of this kind" in told


def open_marks(engine):
    return [txn.mark for txn in engine.manager.active.values()]


def fast_kinds(table, marks):
    counts, first = np.zeros(k.KINDS, np.int64), np.zeros((k.KINDS, rows_check.SHOWN, 3), np.int64)
    limits = rows_check.slots_in_use(table)
    for segment in table.segment_list():
        found = np.zeros(k.FOUND_FIELDS, np.int64)
        k.check_versions(
            table.directory, limits, segment.number, segment.vacant, np.array(marks, np.int64), counts, first, found
        )
    return {kind: int(n) for kind, n in enumerate(counts) if n}


def slow_kinds(table, marks):
    """The same by dicts, version by version."""
    begins, ends, records, previous, heads, vacant, collapsed = {}, {}, {}, {}, {}, set(), set()
    for segment in table.segment_list():
        vectors = {f: a.vector(np.int64, segment.slots).tolist() for f, a in segment.hidden.items()}
        for slot in range(segment.rows):
            at = (segment.number << d.SLOT_BITS) | slot
            begins[at] = vectors[d.BEGIN][slot] if segment.begin is not None else segment.begin_value
            ends[at] = vectors[d.END][slot] if d.END in vectors else d.INFINITY
            link = vectors[d.RECORD][slot] if d.RECORD in vectors else 0
            records[at] = link - 1 if link else at
            previous[at] = vectors[d.PREVIOUS][slot] - 1 if d.PREVIOUS in vectors else -1
            heads[at] = (vectors[d.HEAD][slot] or at) if d.HEAD in vectors else at
            if segment.vacant:
                vacant.add(at)
            if segment.begin is None:
                collapsed.add(at)
    kinds: Counter[int] = Counter()
    for at, begin in begins.items():
        end, record, before = ends[at], records[at], previous[at]
        if begin == d.ABORTED:
            continue
        stamped = 0 < end < d.INFINITY
        kinds[k.BEGIN_MARK] += begin < 0 and begin not in marks
        kinds[k.NO_BEGIN] += begin == 0 or begin >= d.INFINITY
        kinds[k.END_MARK] += end < 0 and end not in marks
        kinds[k.NO_END] += end == 0 or end > d.INFINITY
        kinds[k.ENDED_EARLY] += stamped and (begin < 0 or end < begin)
        kinds[k.NO_VALUES] += at in vacant and (end < 0 or end == d.INFINITY)
        if record not in records:
            kinds[k.LOST_RECORD] += 1
            continue
        kinds[k.FOREIGN_RECORD] += (before == -1) != (record == at) or record > at
        if before != -1 and before not in records:
            kinds[k.LOST_PREVIOUS] += 1
        elif before >= at:
            kinds[k.NOT_OLDER] += 1
        elif before != -1 and records[before] != record:
            kinds[k.FOREIGN_PREVIOUS] += 1
        elif before != -1 and at not in collapsed:
            kinds[k.GAP] += ends[before] != begin
        head = heads[record]
        if head not in records:
            kinds[k.LOST_HEAD] += 1
        elif records[head] != record:
            kinds[k.FOREIGN_HEAD] += 1
        elif head < at:
            kinds[k.OLD_HEAD] += 1
        elif head != at:
            kinds[k.NOT_HEAD] += end == d.INFINITY
    return dict(+kinds)


def test_any_damage_is_seen_as_a_slow_twin_sees_it(seed):
    rng = random.Random(seed)
    db = m.Model(SimulatedDisk(), seed)
    for _ in range(40):
        db.open_transaction()
        db.transaction()
        if rng.random() < 0.3:
            db.end_open()
        if rng.random() < 0.2:
            db.engine.checkpoint()
    met: Counter[int] = Counter()
    marks = open_marks(db.engine)
    for table in db.engine.tables.values():
        assert fast_kinds(table, marks) == slow_kinds(table, marks) == {}
        places = [(s.number << d.SLOT_BITS) | i for s in table.segment_list() for i in range(s.rows)]
        values = [0, 1, -1, d.INFINITY, d.ABORTED, 1 << 50, -(1 << 62), *marks, d.mark_of(1 << 30)]
        for _ in range(min(60, len(places))):
            segment = table.segments[rng.choice(places) >> d.SLOT_BITS]
            field = rng.choice((d.BEGIN, d.END, d.HEAD, d.RECORD, d.PREVIOUS))
            if field == d.BEGIN and segment.begin is None:
                continue
            address = (segment.number << d.SLOT_BITS) | rng.randrange(segment.rows)
            put(table, field, address, rng.choice((*values, rng.choice(places), rng.choice(places) + 1)))
            found = fast_kinds(table, marks)
            assert found == slow_kinds(table, marks)
            met += Counter(found)
    assert len(met) > k.KINDS // 2, met
    db.engine.store.close()


def test_rows_behind_many_stale_entries_are_looked_at():
    """A segment of 65,536 rows of which each had another key twice before: over 65,536 entries lead to other rows."""
    options = m.options(1, slots=65536, index_bytes=1 << 26)
    engine = Engine.open(SimulatedDisk(), options)
    table = m.create(engine, m.table_def("t"))
    size = 65536 + 100
    txn = engine.begin()
    rows = m.run(m.insert(txn, table, [(i, None) for i in range(size)]))
    for step in (1, 2):
        claimed = m.run(check_claim(txn, table, rows))
        columns = m.vectors((i + step, None) for i in range(size))
        rows = m.run(m.update_rows(txn, table, claimed, columns, [0]))
    engine.commit(txn).result()
    assert engine.check() == []
    key = table.stored_keys[0]
    last = (2 << d.SLOT_BITS) | 65535  # of a whole segment, nearly all of it live
    row = int(table.records_of(np.array([last]))[0])
    segment = table.segments[2]
    assert segment is not None and segment.columns is not None
    ids = segment.columns[0].data
    own = int(ids[65535])
    # The last row takes the key of the one before it, and both have entries.
    ids[65535] = own - 1
    key.index.insert(keys_of(key, own - 1), np.array([row], np.int64))
    put(table, d.PREVIOUS, last, last + 1)
    told = rows_check.told
    problems = [f.problem for f in engine.check()]
    assert problems[0] == f"version {told(last)} follows {told(last)}, which is not older"
    assert problems[1].startswith(f"rows {told(row - 1)} and {told(row)} are both live with key"), problems
    assert len(problems) == 2
    engine.store.close()


def check_claim(txn, table, addresses):
    result = yield from m.claim_rows(txn, table, addresses)
    return addresses[result.claimed]


def test_what_changes_meanwhile_is_no_damage(seed, monkeypatch):
    """Between any two pieces of the check there are transactions, definitions and checkpoints."""
    monkeypatch.setattr(check, "SLICE_ROWS", 16)
    db = m.Model(SimulatedDisk(), seed)
    pieces = 0

    def interrupted(*args):
        nonlocal pieces
        for piece in whole(*args):
            pieces += 1
            if db.rng.random() < 0.5:
                db.open_transaction()
                db.transaction()
                if db.rng.random() < 0.3:
                    db.end_open()
                if db.rng.random() < 0.1:
                    db.engine.checkpoint()
            yield piece

    whole = check._pieces
    monkeypatch.setattr(check, "_pieces", interrupted)
    while pieces < 120:
        assert db.engine.check() == []
        db.transaction()
    db.verify()
    db.close()
