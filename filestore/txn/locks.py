"""Locks on tables and names: eight modes, one matrix, first come first served.

Row locks are not here: a row's write lock is the mark in its version's `end`. Here are the locks that say
"this table is being read" or "nobody else may change its definition", and locks on names, which make two
CREATE TABLE of one name wait for one another.

A lock lasts until its transaction ends. Whoever cannot have a lock waits in the queue behind it; a
transaction that holds a lock already and wants more stands before the first who waits for it, or it would
wait for those who wait for it. Who waits for whom is asked of holders and queues at the moment of asking,
never remembered: a lock that is granted past the queue is a new reason to wait for those in it.

Before a wait begins, `deadlock.cycle` looks whether it would close a cycle. If somebody in the cycle waits
only because another stands before him in a queue, they change places, as in PostgreSQL; else 40P01 is raised.
Waiting is a `Wait` yielded to the driver, which throws 55P03 or 57014 into the generator when a timeout or a
cancel ends it; the queue is left clean.

Source: PostgreSQL 15, 13.3.1 table-level locks; its lmgr/README, "deadlock detection".

Thread rule: engine lock held, as for all generators. Not here: locks on rows, which are marks in their versions
(`filestore.txn.writes`).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Generator, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from filestore import errors
from filestore.storage.wait import Wait
from filestore.txn.deadlock import cycle

if TYPE_CHECKING:
    from filestore.txn.transaction import Transaction


class LockMode(enum.IntEnum):
    """PostgreSQL's table lock modes, weakest first."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8


_M = LockMode
CONFLICTS: Final[dict[LockMode, frozenset[LockMode]]] = {
    _M.ACCESS_SHARE: frozenset({_M.ACCESS_EXCLUSIVE}),
    _M.ROW_SHARE: frozenset({_M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}),
    _M.ROW_EXCLUSIVE: frozenset({_M.SHARE, _M.SHARE_ROW_EXCLUSIVE, _M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}),
    _M.SHARE_UPDATE_EXCLUSIVE: frozenset(
        {_M.SHARE_UPDATE_EXCLUSIVE, _M.SHARE, _M.SHARE_ROW_EXCLUSIVE, _M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}
    ),
    _M.SHARE: frozenset(
        {_M.ROW_EXCLUSIVE, _M.SHARE_UPDATE_EXCLUSIVE, _M.SHARE_ROW_EXCLUSIVE, _M.EXCLUSIVE, _M.ACCESS_EXCLUSIVE}
    ),
    _M.SHARE_ROW_EXCLUSIVE: frozenset(set(_M) - {_M.ACCESS_SHARE, _M.ROW_SHARE}),
    _M.EXCLUSIVE: frozenset(set(_M) - {_M.ACCESS_SHARE}),
    _M.ACCESS_EXCLUSIVE: frozenset(_M),
}


@dataclass(slots=True, eq=False)
class _Request:
    lock: _Lock
    transaction: Transaction
    mode: LockMode
    wait: Wait = field(default_factory=Wait)


@dataclass(slots=True, eq=False)
class _Lock:
    """Who holds it, in which modes, and who waits, in order."""

    key: Hashable
    holders: dict[int, set[LockMode]] = field(default_factory=dict)
    queue: list[_Request] = field(default_factory=list)


class LockTable:
    """All locks of an engine. Keys: a table's oid, or ("name", schema, name). Engine lock held for every
    call.
    """

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Lock] = {}
        self._waiting: dict[int, Transaction] = {}
        self._requests: dict[int, _Request] = {}  # what the waiting wait for, if that is a lock of this table

    def is_open(self, key: Hashable) -> bool:
        """Whether a table can be read without a lock at this moment: nobody has it, or wants it, for himself."""
        lock = self._locks.get(key)
        if lock is None:
            return True
        return not lock.queue and not any(LockMode.ACCESS_EXCLUSIVE in modes for modes in lock.holders.values())

    def try_acquire(self, txn: Transaction, key: Hashable, mode: LockMode) -> bool:
        """Takes the lock if that needs no waiting."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = _Lock(key)
        mine = lock.holders.get(txn.id)
        if mine is not None and mode in mine:
            return True
        if _in_the_way(lock, txn, mode, _place(lock, txn)):
            return False
        lock.holders.setdefault(txn.id, set()).add(mode)
        txn.locks.add(key)
        return True

    def acquire(self, txn: Transaction, key: Hashable, mode: LockMode) -> Generator[Wait, None, None]:
        """Takes the lock, waiting for it. Raises 40P01 when that would close a cycle."""
        if self.try_acquire(txn, key, mode):
            return
        lock = self._locks[key]
        request = _Request(lock, txn, mode)
        lock.queue.insert(_place(lock, txn), request)
        self._requests[txn.id] = request
        try:
            while not request.wait.done:
                what = f"{mode.name.replace('_', ' ').title()}Lock"
                yield from self.wait(txn, request.wait, _blockers(request), what)
        finally:
            del self._requests[txn.id]
            if request in lock.queue:
                lock.queue.remove(request)
                self._grant(lock)

    def wait(self, txn: Transaction, wait: Wait, blockers: set[int], what: str) -> Generator[Wait, None, None]:
        """Yields `wait` as a wait of `txn` for the transactions `blockers`, visible in `edges` meanwhile."""
        txn.waiting_for = frozenset(blockers)
        txn.waiting_what = what
        txn.waiting_since = time.monotonic()
        self._waiting[txn.id] = txn
        try:
            found = cycle(self.edges(), txn.id)
            if found and not self._reordered(found, txn):
                lines = [
                    f"Transaction {a} waits for transaction {b}."
                    for a, b in zip(found, [*found[1:], found[0]], strict=True)
                ]
                raise errors.DeadlockDetected(
                    "deadlock detected", detail="\n".join(lines), hint="Run the transaction again."
                )
            yield wait
        finally:
            txn.waiting_for = frozenset()
            txn.waiting_since = 0.0
            self._waiting.pop(txn.id, None)

    def edges(self) -> dict[int, frozenset[int]]:
        """Who waits for whom, by transaction id."""
        found = {}
        for number, txn in self._waiting.items():
            request = self._requests.get(number)
            found[number] = txn.waiting_for if request is None else frozenset(_blockers(request))
        return found

    def held(self) -> list[tuple[Hashable, int, LockMode, bool]]:
        """(key, transaction, mode, granted) of every lock and request; for pg_locks."""
        rows: list[tuple[Hashable, int, LockMode, bool]] = []
        for key, lock in self._locks.items():
            rows += [(key, number, mode, True) for number, modes in lock.holders.items() for mode in sorted(modes)]
            rows += [(key, r.transaction.id, r.mode, False) for r in lock.queue]
        return rows

    def release_all(self, txn: Transaction) -> None:
        """Gives back everything a transaction holds, and to whom it is due."""
        for key in txn.locks:
            lock = self._locks.get(key)
            if lock is not None:
                lock.holders.pop(txn.id, None)
                self._grant(lock)
        txn.locks.clear()

    def _grant(self, lock: _Lock) -> None:
        """Gives the lock to those in the queue who can have it now, in order."""
        for request in list(lock.queue):
            txn = request.transaction
            if not _blockers(request):
                lock.queue.remove(request)
                lock.holders.setdefault(txn.id, set()).add(request.mode)
                txn.locks.add(lock.key)
                request.wait.finish()
        if not lock.holders and not lock.queue:
            self._locks.pop(lock.key, None)

    def _reordered(self, found: list[int], txn: Transaction) -> bool:
        """Whether two who stand in one queue could change places such that no cycle is left; if so, they have."""
        for one, other in zip(found, [*found[1:], found[0]], strict=True):
            request, before = self._requests.get(one), self._requests.get(other)
            if request is None or before is None or before.lock is not request.lock:
                continue
            lock = request.lock
            if other in _in_the_way(lock, request.transaction, request.mode, 0):
                continue  # he holds it already
            queue = list(lock.queue)
            lock.queue.remove(request)
            lock.queue.insert(lock.queue.index(before), request)
            edges = self.edges()
            if not any(cycle(edges, number) for number in (txn.id, one, other)):
                self._grant(lock)
                return True
            lock.queue[:] = queue
        return False


def _place(lock: _Lock, txn: Transaction) -> int:
    """Where in the queue a request of the transaction belongs: before the first who waits for what it holds."""
    mine = lock.holders.get(txn.id)
    if mine is not None:
        for place, other in enumerate(lock.queue):
            if mine & CONFLICTS[other.mode]:
                return place
    return len(lock.queue)


def _in_the_way(lock: _Lock, txn: Transaction, mode: LockMode, place: int) -> set[int]:
    """Whom a request at a place of the queue waits for: conflicting holders, and conflicting requests before it."""
    conflicts = CONFLICTS[mode]
    found = {number for number, modes in lock.holders.items() if number != txn.id and modes & conflicts}
    found.update(o.transaction.id for o in lock.queue[:place] if o.mode in conflicts and o.transaction is not txn)
    return found


def _blockers(request: _Request) -> set[int]:
    """Whom a request waits for; nobody when it has been granted."""
    lock = request.lock
    if request not in lock.queue:
        return set()
    return _in_the_way(lock, request.transaction, request.mode, lock.queue.index(request))
