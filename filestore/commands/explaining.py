"""EXPLAIN: the plan of a statement, or with ANALYZE what running it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from filestore.planning import Planned
from filestore.query import plan as p
from filestore.query import statements as s
from filestore.query.executor import execute
from filestore.query.explain import explain_lines
from filestore.query.plan import OutputColumn
from filestore.query.rows import text_result
from filestore.result import Result
from filestore.storage.vector import Vector
from filestore.txn.drive import Job, Steps
from filestore.types import TEXT

if TYPE_CHECKING:
    from filestore.session import Session


def run(session: Session, command: s.Explain, parameters: Sequence[Vector] = ()) -> Steps[Result]:
    """The plan of the statement as text or JSON; with ANALYZE it runs, and the plan says what that took."""
    options = dict(command.options)
    started = time.perf_counter()
    bound = session.plan(command.statement, [v.type for v in parameters])
    planning_ms = (time.perf_counter() - started) * 1000
    yield from session.lock_tables(bound)
    measured: dict[int, tuple[int, float]] | None = {} if options.get("analyze") else None
    execution_ms = None
    if measured is not None:
        started = time.perf_counter()
        yield from _run_measured(session, bound, parameters, measured)
        execution_ms = (time.perf_counter() - started) * 1000
    lines = explain_lines(bound, options, measured, planning_ms, execution_ms)
    columns, batch = text_result(("QUERY PLAN",), [(line,) for line in lines])
    return Result("EXPLAIN", columns, iter((batch,)))


def _run_measured(
    session: Session, bound: p.Bound, parameters: Sequence[Vector], measured: dict[int, tuple[int, float]]
) -> Steps[None]:
    """Runs a statement for EXPLAIN ANALYZE, dropping its rows."""
    if bound.kind != "select":
        yield from session.run(Planned(bound, None, None), parameters)
        return
    context = replace(session.context(parameters), measured=measured)
    job = Job(session.database.workers, lambda: sum(batch.length for batch in execute(bound.plan, context)))
    yield job
    job.value()


def columns() -> tuple[OutputColumn, ...]:
    """EXPLAIN's one column."""
    return (OutputColumn("QUERY PLAN", TEXT),)
