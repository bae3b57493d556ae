"""Warming up: every kernel compiled, or loaded from numba's cache, before the first statement needs it.

Two kinds of steps. `query.kernels.WARMERS` call kernels directly with their real signatures. Statements are run by a
session over a database on a simulated disk in memory, so that the kernels of storage, index, transactions and ports
are touched in the way that real statements touch them, without a list of them to keep up to date. Nothing of it
stays.

What this does not do: fused pipelines (`query/compile.py`), which are compiled for the plans that people really run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path

from filestore import types
from filestore.database import Database, DatabaseOptions
from filestore.hal import process
from filestore.hal.simulated import SimulatedDisk
from filestore.query import render
from filestore.query.kernels import WARMERS
from filestore.query.text_parse import from_binary, from_text
from filestore.query.vectors import empty_values
from filestore.session import Session
from filestore.txn.drive import drive
from filestore.types import Kind, SqlType

Progress = Callable[[int, int, str], None]
Step = tuple[str, Callable[[], None]]
LOG = logging.getLogger(__name__)

_ROWS = 25_000
"""Rows of the bulk load: just enough for sealed segments to be built."""

_SMALL = """
create table w (i int4 primary key, b int8, s int2, f float8, n numeric(12,2), m numeric, t text, v varchar(40), d date,
  ts timestamp, z timestamptz, l bool, u uuid, y bytea, p interval, unique (t, d));
insert into w values (1, 2, 3, 1.5, 1.25, 1.5, 'a', 'a long string of characters', '2024-01-01', '2024-01-01',
  '2024-01-01', true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', '1 day'), (2, null, null, null, null, null, 'b',
  null, null, null, null, null, null, null, null);
select * from w;
select * from w where i = 1;
select * from w where i in (1, 2) and b > 0;
select * from w where i between 1 and 2 order by i desc;
select * from w where t = 'a';
update w set b = b + 1, t = 'another long string of characters' where i = 2;
update w set n = n * 2 where b > 1;
select t, count(*), sum(b), avg(n), min(t), max(d), sum(f), stddev(f), sum(m) from w group by t order by t;
select count(distinct t), string_agg(v, ',') from w;
select a.i, x.t from w a left join w x on a.t = x.t and a.d = x.d where a.t like '%a%' or a.v ilike 'A%';
select upper(t), length(v), substring(v from 3 for 20), t || v, btrim(t), position('l' in v), i::text, n::int4 from w;
select i from w union select b from w except select s from w;
delete from w where i = 1;
begin; insert into w (i, t) values (9, 'z'); rollback;
"""

_RECOVERED = "select * from w"

_BULK = f"""
create table q (i int8 primary key, g text, t text, n numeric(15,2), d date);
insert into q select x, case when x % 3 = 0 then 'a' else 'b' end, 'row number ' || x, x, date '2024-01-01' + (x %
  100)::int4 from generate_series(1, {_ROWS}) as s(x);
select g, count(*), sum(n), max(t), min(d) from q where d > '2024-02-01' and t like 'row%' group by g order by g;
select * from q where i = 77;
select q.i, r.t from q join q r on q.i = r.i order by r.t desc limit 3;
select count(*) from (select distinct n, t from q) x;
delete from q where i < 10;
update q set n = n + 1 where i < 20;
"""

_SEALED = "select * from q where i < 100 and g = 'a'"


def is_warm() -> bool:
    """Whether a warm-up of this very code has come to its end before, so that the cache holds what statements need."""
    return _marker().exists()


def _marker() -> Path:
    """A file beside numba's cache of this package, named after the newest of its sources."""
    package = Path(__file__).parent
    newest = max(source.stat().st_mtime_ns for source in package.rglob("*.py"))
    return package / "__pycache__" / f"warm-{newest:x}-{version('numba')}"


def warm(progress: Progress | None = None) -> None:
    """Compiles or loads every kernel. `progress(done, of, what)` is called before each step and once at the end.

    The first time on a machine takes most of a minute, later ones about a second. Any thread.
    """
    _touch_all(progress)
    marker = _marker()
    try:
        marker.parent.mkdir(exist_ok=True)
        for old in marker.parent.glob("warm-*"):
            old.unlink(missing_ok=True)
        marker.touch()
    except OSError as error:
        # A read-only installation: numba caches elsewhere, and every start warms before it serves.
        LOG.info("no mark of the warm-up: %s", error)


def _touch_all(progress: Progress | None) -> None:
    """Everything; where it is to be compiled and there is a second core, another process compiles from the front of
    the list of kernels, and this one from its end, until they meet in numba's cache.
    """
    together = not is_warm() and process.cpu_count() > 1
    beside = process.beside(f"import {__name__} as w; w.touch_kernels()") if together else nullcontext()
    with beside, _Scratch() as scratch:
        steps = [*_statement_steps(scratch), *reversed(list(_kernel_steps()))]
        for done, (what, step) in enumerate(steps):
            if progress is not None:
                progress(done, len(steps), what)
            step()
    if progress is not None:
        progress(len(steps), len(steps), "ready")


def touch_kernels() -> None:
    """What the process beside does."""
    for _, step in _kernel_steps():
        step()


def _kernel_steps() -> Iterator[Step]:
    for warmer in WARMERS:
        yield warmer.__module__.rpartition(".")[2], warmer
    for kind in Kind:
        if kind is not Kind.VOID:
            yield f"text and binary form of {kind.value}", lambda kind=kind: _forms(SqlType(kind))  # type: ignore[misc]
    yield "text and binary form of scaled decimals", lambda: _forms(types.numeric(12, 2))


def _statement_steps(scratch: _Scratch) -> Iterator[Step]:
    for script in (_SMALL, _RECOVERED, _BULK, _SEALED):
        yield "opening", scratch.open
        for statement in script.split(";"):
            if text := " ".join(statement.split()):
                yield text[:40], partial(scratch.run, text)
        yield "closing", scratch.close


def _forms(sql_type: SqlType) -> None:
    """Renders and reads values of a type."""
    vector = empty_values(sql_type, 2)
    if sql_type.physical is types.Physical.VARNUM:
        vector = empty_values(types.numeric(12, 2), 2)
    text = render.text(vector, None)
    from_text(sql_type, text.offsets, text.data, None, None) if len(text.data) else None
    binary = render.binary(vector)
    from_binary(sql_type, binary.offsets, binary.data, None)


class _Scratch:
    """A database on a disk in memory, opened and closed again and again."""

    def __init__(self) -> None:
        self._disk = SimulatedDisk(record=False)
        self._session: Session | None = None

    def open(self) -> None:
        self._session = Database.over(self._disk, DatabaseOptions(compile="never")).session()

    def run(self, text: str) -> None:
        """Runs a statement, and renders what it returns in both forms."""
        session = self._session
        assert session is not None
        for statement in session.parse(text):
            result = drive(session.execute(statement), session.database.lock, session.poll)
            for batch in result.batches:
                for column in batch.columns:
                    render.text(column, None)
                    render.binary(column)
            drive(session.finish(), session.database.lock, session.poll)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            session.database.close()

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
