"""Statements on a database of this process, driven on the calling thread: what the crash tests speak."""

from __future__ import annotations

from typing import Any

from filestore.session import Session
from filestore.txn.drive import drive


def run(session: Session, text: str) -> list[Any]:
    """The rows of a simple query as Python values, committed unless a block is open."""

    def steps() -> Any:
        rows: list[Any] = []
        for statement in session.parse(text):
            result = yield from session.execute(statement)
            for batch in result.batches:
                rows += zip(*(column.data.tolist() for column in batch.columns), strict=True)
        yield from session.finish()
        return rows

    return drive(steps(), session.database.lock, session.poll)
