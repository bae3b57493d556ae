"""EXPLAIN: the plan of a statement, or with ANALYZE what running it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from filestore.query import statements as s
from filestore.query.plan import OutputColumn
from filestore.result import Result
from filestore.txn.drive import Steps
from filestore.types import TEXT

if TYPE_CHECKING:
    from filestore.session import Session


def run(session: Session, command: s.Explain) -> Steps[Result]:
    """Plans the statement and, with ANALYZE, runs it."""
    return session.explain(command.statement, dict(command.options))


def columns(options: tuple[tuple[str, Any], ...]) -> tuple[OutputColumn, ...]:
    """EXPLAIN's one column."""
    del options
    return (OutputColumn("QUERY PLAN", TEXT),)
