"""The short way through the port answers the same bytes as the dialogue, and leaves the same rows."""

from __future__ import annotations

import psycopg
import pytest

from filestore import errors
from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r
from filestore.server.pgwire.dialogue import Dialogue
from filestore.server.pgwire.point import PointAnswers

SCRIPT = [
    "begin",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n / 0 where k = 1",
    "select n from short_way where k = 1",
    "rollback",
    "begin",
    "update short_way set n = n + 5 where k = 1",
    "update short_way set n = n + 99999 where k = 77",
    "insert into short_way values (3, 4, 'x')",
    "insert into short_way values (4, -4, 'it''s')",
    "insert into short_way values (4, -4, 'x')",
    "commit",
    "begin",
    "insert into short_way values (5, 5, null)",
    "insert into short_way values (6, 6, null)",
    "delete from short_way where k = 5",
    "select n, s from short_way where k = 6",
    "select n, s from short_way where k = 7",
    "select n, s from short_way where k = 99999999999",
    "end",
    "select n, s from short_way where k = 6",
    "select n, s from short_way where k = 3",
    "update short_way set n = 2147483647 where k = 3",
    "update short_way set n = n + 1 where k = 3",
    "select * from short_way where k = $1",
    # each in a transaction of its own
    "update short_way set n = n + 7 where k = 1",
    "insert into short_way values (8, 8, null)",
    "insert into short_way values (8, 8, null)",
    "delete from short_way where k = 8",
    "commit",
    "BEGIN",
    "begin",
    "END",
    "begin",
    "set local application_name = 'local'",
    "update short_way set n = n + 7 where k = 1",
    "commit",
    "begin",
    "select 1 / 0",
    "commit",
    "begin read only",
    "update short_way set n = n + 7 where k = 1",
    "end",
    "begin isolation level repeatable read",
    "update short_way set n = n + 7 where k = 1",
    "end",
    "set default_transaction_read_only = on",
    "update short_way set n = n + 7 where k = 1",
    "set default_transaction_read_only = off",
]


def told(connection, text, prepare):
    try:
        cursor = connection.execute(text, prepare=prepare)
        rows = cursor.fetchall() if cursor.description else None
        return cursor.statusmessage, rows, connection.info.transaction_status
    except psycopg.Error as error:
        return error.sqlstate, str(error), connection.info.transaction_status


@pytest.mark.parametrize("prepare", [False, True])
def test_short_and_long_way_say_the_same(dsn, monkeypatch, prepare):
    said = []
    for short in (True, False):
        if not short:
            monkeypatch.setattr(PointAnswers, "answer", lambda self, data: None)
            monkeypatch.setattr(PointAnswers, "_simple", lambda self, text: None)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("drop table if exists short_way")
            connection.execute("create table short_way (k int4 primary key, n int4, s text)")
            connection.execute("insert into short_way values (1, 1, 'one'), (2, 2, 'two')")
            answers = [[told(connection, text, prepare) for text in SCRIPT] for _ in range(3)]
            answers.append(connection.execute("select * from short_way order by k").fetchall())
        said.append(answers)
    assert said[0] == said[1]


def execution(name: str, *values: str, parse: str | None = None) -> bytes:
    """What a driver sends to run a prepared statement, or with `parse` an unnamed one, in one piece."""
    bind = m.Bind("", name, (), tuple(value.encode() for value in values), ())
    run = (bind, m.Describe("P", ""), m.Execute("", 0), m.Sync())
    return b"".join(message.encode() for message in ((m.Parse("", parse, ()), *run) if parse is not None else run))


PREPARED = {
    "begin": "begin",
    "commit": "end",
    "add": "update short_bytes set n = n + $1 where k = $2",
    "new": "insert into short_bytes values ($1, $2)",
    "drop": "delete from short_bytes where k = $1",
}
RUN = [
    ("add", "1", "1"),
    ("begin",),
    ("add", "2", "1"),
    ("new", "7", "7"),
    ("commit",),
    ("new", "8", "8"),
    ("new", "8", "8"),
    ("drop", "8"),
    ("commit",),
    ("begin",),
    ("new", "1", "1"),
    ("add", "1", "1"),
    ("commit",),
]


def test_the_replies_are_the_dialogues(loopback, monkeypatch):
    said = []
    for short in (True, False):
        if not short:
            monkeypatch.setattr(PointAnswers, "answer", lambda self, data: None)
        loopback.send(m.Query("drop table if exists short_bytes"))
        loopback.send(m.Query("create table short_bytes (k int4 primary key, n int4)"))
        loopback.send(m.Query("insert into short_bytes values (1, 1)"))
        for name, text in PREPARED.items():
            loopback.send(m.Close("S", f"{name}{short}"), m.Parse(f"{name}{short}", text, ()), m.Sync())
        replies = [loopback.send(execution(f"{run[0]}{short}", *run[1:])) for run in RUN]
        for _ in range(2):
            replies += [loopback.send(execution("", *run[1:], parse=PREPARED[run[0]])) for run in RUN]
        said.append(replies)
    assert said[0] == said[1]


def test_the_short_way_is_taken(loopback, monkeypatch):
    loopback.send(m.Query("drop table if exists short_taken"))
    loopback.send(m.Query("create table short_taken (k int4 primary key, n int4)"))
    loopback.send(m.Query("insert into short_taken values (1, 1)"))
    texts = ["begin", "update short_taken set n = n + 1 where k = 1", "commit"]
    texts += ["select n from short_taken where k = $1"]
    texts += ["insert into short_taken values ($1, 1)", "delete from short_taken where k = $1"]
    runs = [(text, ("1",) if "= $1" in text else ("7",) if "$1" in text else ()) for text in texts]
    for text, values in runs:
        loopback.send(execution("", *values, parse=text))
    loopback.send(m.Query("insert into short_taken values (1, 1)"))  # the last one was a delete
    runs = [(text, ("8",) if values == ("7",) else values) for text, values in runs]  # of 7 there is an entry already
    monkeypatch.setattr(Dialogue, "handle", lambda self, message: pytest.fail(f"{message} went the long way"))
    for text, values in runs:
        answer = loopback.send(execution("", *values, parse=text))
        assert not any(isinstance(reply, r.ErrorResponse) for reply in answer)


def test_a_text_that_means_something_else_by_now_is_parsed_again(loopback):
    select = "select * from short_parsed where k = $1"
    loopback.send(m.Query("drop table if exists short_parsed"))
    loopback.send(m.Query("create table short_parsed (k int4 primary key, n int4)"))
    loopback.send(m.Query("insert into short_parsed values (1, 1)"))
    for _ in range(3):
        rows = loopback.send(execution("", "1", parse=select))
        assert [reply.values for reply in rows if isinstance(reply, r.DataRow)] == [(b"1", b"1")]
    loopback.send(m.Query("drop table short_parsed"))
    assert any(isinstance(reply, r.ErrorResponse) for reply in loopback.send(execution("", "1", parse=select)))
    loopback.send(m.Query("create table short_parsed (k int8 primary key, s text)"))
    loopback.send(m.Query("insert into short_parsed values (1, 'one')"))
    rows = loopback.send(execution("", "1", parse=select))
    assert [reply.values for reply in rows if isinstance(reply, r.DataRow)] == [(b"1", b"one")]


@pytest.mark.parametrize("name", ["commit", "add"])
def test_a_commit_that_fails_is_told_and_the_client_may_go_on(loopback, monkeypatch, name):
    loopback.send(m.Query("drop table if exists short_full"))
    loopback.send(m.Query("create table short_full (k int4 primary key, n int4)"))
    loopback.send(m.Query("insert into short_full values (1, 1)"))
    texts = {"add": "update short_full set n = n + $1 where k = $2", "commit": "commit"}
    for known, text in texts.items():
        loopback.send(m.Close("S", known), m.Parse(known, text, ()), m.Sync())
    if name == "commit":
        loopback.send(m.Query("begin"))
        loopback.send(execution("add", "1", "1"))

    def full(*_: object) -> None:
        raise errors.DiskFull("no space is left")

    with monkeypatch.context() as patched:
        patched.setattr(type(loopback.database.engine), "commit", full)
        answer = loopback.send(execution(name, *(("1", "1") if name == "add" else ())))
    assert [getattr(reply, "KIND", b"?") for reply in answer[-2:]] == [b"E", b"Z"] and len(answer) == 4
    assert answer[2].fields["C"] == "53100" and answer[3].status == "I"
    rows = loopback.send(m.Query("select n from short_full"))
    assert [reply.values for reply in rows if isinstance(reply, r.DataRow)] == [(b"1",)]
