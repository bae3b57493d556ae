"""Deadlocks: a pure function from who waits for whom to the cycle that a new wait would close.

It is asked before each wait begins, so a cycle never forms: the transaction that would close it is the
victim, at once and not after a timeout as in PostgreSQL (whose check is dear; here a transaction waits for
few others and the walk is short).

Thread rule: pure. Not here: who is the victim of what else there might be, and the waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def cycle(edges: Mapping[int, Iterable[int]], start: int) -> list[int]:
    """Transactions of a cycle through `start`, in the order in which each waits for the next; empty if there
    is none.
    """
    path: list[int] = [start]
    pending: list[list[int]] = [list(edges.get(start, ()))]
    seen = {start}
    while pending:
        if not pending[-1]:
            pending.pop()
            path.pop()
            continue
        current = pending[-1].pop()
        if current == start:
            return path
        if current not in seen:
            seen.add(current)
            path.append(current)
            pending.append(list(edges.get(current, ())))
    return []
