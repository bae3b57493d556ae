"""Statements that write one row: the compact form and the general way do the same.

Every script is run twice, once with the compact forms taken away; answers, errors, rows, and what a second session
meets must be the same.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from filestore import errors, planning
from filestore.database import Database, DatabaseOptions
from filestore.hal.simulated import SimulatedDisk
from filestore.query.point_write import write_of
from filestore.query.vectors import to_python
from filestore.txn.drive import drive
from tests.conftest import close_sound

TABLES = """
create table a (i int4 primary key, b int8, s int2 not null, f float8, n numeric(12,2), m numeric, t text, v varchar(5),
  c char(4), d date, ts timestamp, z timestamptz, l bool, u uuid, y bytea, p interval, check (b >= 0));
create table w (k int8 primary key, t text unique, x int4 default 7);
create table h (i int4, at timestamp, note char(3));
insert into w values (1, 'one', 1), (2, 'two', null);
"""

INSERTS = [
    "insert into a (i, b, s) values (1, 5, 2)",
    """insert into a values (2, null, 3, 1.5, 12.345, -0.5, 'text that is longer than a view', 'five', 'ab  ',
    '2024-02-29', '2024-01-01 10:00', '2024-01-01 10:00+02', true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\\x00ff',
    '1 mon 2 days')""",
    "insert into a (i, b, s) values (1, 5, 2)",  # 23505
    "insert into a (i, b, s) values (3, 5, null)",  # 23502
    "insert into a (i, b, s) values (3, -5, 1)",  # 23514
    "insert into a (i, b, s) values (3, 5, 70000)",  # 22003
    "insert into a (i, s, v) values (3, 5, 'too long')",  # 22001
    "insert into w values (3, 'one', 3)",  # 23505 of the second key
    "insert into w values (3, null) returning *",
    "insert into w values (4, null, 3) returning k + 1, t",
    "insert into h values (-5, '2024-01-01', 'x')",
    "update a set b = b + 1 where i = 1",
    "update a set b = b - 100 where i = 1",  # 23514
    "update a set b = b * 9223372036854775807 + 9 where i = 1",  # 22003
    "update a set s = null where i = 1",  # 23502
    "update a set s = s + 32767 where i = 1",  # 22003
    "update a set b = s / 0 where i = 1",  # 22012
    "update a set b = 1 where i = null",
    "update a set b = 1 where i = 77",
    "update a set b = 1 where i = 99999999999",
    "update a set t = t || ' and longer', v = 'abc', c = 'z' where i = 2 returning i, t, v, c",
    "update a set t = null, f = f * 2, n = n + 1, m = m + 1, l = not l, d = d + 1, p = p where i = 2 returning *",
    "update a set b = 9 where i = 2 and b is null returning b",
    "update a set b = 10 where i = 2 and b = 8",
    "update a set b = 11 where i = 2 and b = 9 and s > 1",
    "update a set ts = '2025-01-01', z = '2025-01-01 00:00Z', y = 'abc', u = u where i = 2",
    "update a set i = 9 where i = 2",
    "update w set t = 'two' where k = 1",  # 23505, a key column: general
    "update w set x = x + 1 where k = 2 returning x",
    "delete from w where k = 2 and x = 1",
    "delete from w where k = 2 returning *",
    "delete from w where k = 2",
    "insert into w values (2, 'two', 22)",
    "begin",
    "update a set b = b + 1 where i = 1",
    "update a set b = b + 1 where i = 1 returning b",
    "delete from a where i = 1",
    "update a set b = b + 1 where i = 1",
    "rollback",
    "update a set b = b + 1 where i = 1 returning b",
]


class Two:
    """A database with the compact forms, or without them."""

    def __init__(self, compact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compact = compact
        self.patch = monkeypatch
        self.disk = SimulatedDisk(record=False)
        self.database = Database.over(self.disk, DatabaseOptions(compile="never"))
        self.session = self.database.session()
        for statement in self.session.parse(TABLES):
            self.run(statement)

    def run(self, statement, session=None):
        session = session or self.session
        if not self.compact:
            self.patch.setattr(planning, "write_of", lambda bound: None)
        try:
            result = drive(session.execute(statement), self.database.lock, session.poll)
            rows = [to_python(c) for b in result.batches for c in b.columns]
            answer = (result.command_tag(0), rows)
            drive(session.finish(), self.database.lock, session.poll)
        except errors.Error as error:
            return error.sqlstate, error.message, error.detail, error.fields() if hasattr(error, "fields") else None
        finally:
            self.patch.undo()
        return answer

    def one(self, text, session=None):
        return self.run(self.session.parse(text)[0], session)

    def rows(self):
        return [self.one(f"select * from {table} order by 1") for table in ("a", "w", "h")]

    def reopened(self):
        self.database.close()
        self.database = Database.over(self.disk, DatabaseOptions(compile="never"))
        self.session = self.database.session()
        return self.rows()


@pytest.fixture
def two(monkeypatch):
    pair = Two(True, monkeypatch), Two(False, monkeypatch)
    yield pair
    for one in pair:
        close_sound(one.database)


def test_answers_and_rows_are_the_same(two):
    fast, slow = two
    for text in INSERTS:
        assert fast.one(text) == slow.one(text), text
        assert fast.rows() == slow.rows(), text
    assert not fast.database.engine.check()
    assert fast.reopened() == slow.reopened()


def test_the_compact_form_is_what_runs(two):
    session = two[0].session
    compact = [
        "update a set b = b + 1 where i = 1",
        "delete from a where i = 1",
        "insert into h values (1, now(), 'x')",
        "update a set t = 'x' where i = 1 and b > 3",
    ]
    general = [
        "update a set i = 2 where i = 1",
        "update a set b = (select max(x) from w) where i = 1",
        "delete from a where b = 1",
        "insert into h select i from a",
        "insert into h values (1), (2)",
    ]
    for text in compact:
        assert write_of(session.plan(session.parse(text)[0])) is not None, text
    for text in general:
        assert write_of(session.plan(session.parse(text)[0])) is None, text


def test_random_writes_leave_the_same_rows(two, seed):
    rng = random.Random(seed)
    fast, slow = two
    for _ in range(150):
        i, n = rng.randrange(8), rng.randrange(-3, 40)
        text = rng.choice(
            (
                f"insert into a (i, b, s, t) values ({i}, {n}, {i}, '{'x' * n}')",
                f"update a set b = b + {n} where i = {i}",
                f"update a set t = '{'y' * n}', b = {n} where i = {i} and s < 6",
                f"update a set f = {n}.5, t = null, n = n + {n} where i = {i} returning *",
                f"delete from a where i = {i}",
                "begin",
                "commit",
                "rollback",
            )
        )
        assert fast.one(text) == slow.one(text), text
    for one in two:
        one.one("commit")
    assert fast.rows() == slow.rows()
    assert not fast.database.engine.check()
    assert fast.reopened() == slow.reopened()


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("first", ["update a set b = 50 where i = 1", "delete from a where i = 1"])
@pytest.mark.parametrize(
    "second",
    [
        "update a set b = b + 1 where i = 1 returning b",
        "update a set b = b + 1 where i = 1 and b < 20 returning b",
        "update a set b = b - 20 where i = 1",
        "delete from a where i = 1 returning b",
    ],
)
def test_a_row_that_somebody_holds_is_waited_for(two, level, end, first, second):
    outcomes = []
    for one in two:
        one.one("insert into a (i, b, s) values (1, 5, 2)")
        other = one.database.session()
        one.one(f"begin isolation level {level}", other)
        one.one("select * from a", other)
        one.one("begin")
        one.one(first)
        if not one.compact:
            one.patch.setattr(planning, "write_of", lambda bound: None)
        steps = other.execute(other.parse(second)[0])
        with one.database.lock:
            wait = next(steps)
        one.patch.undo()
        assert not wait.done
        one.one(end)
        assert wait.done
        try:
            result = drive(steps, one.database.lock, other.poll)
            columns = [to_python(c) for b in result.batches for c in b.columns]
            outcome: tuple[str, Any] = result.command_tag(0), columns
        except errors.Error as error:
            outcome = error.sqlstate, error.message
        one.one("commit", other)
        other.close()
        outcomes.append((outcome, one.rows()))
    assert outcomes[0] == outcomes[1]
