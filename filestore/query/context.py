"""What an execution needs to know: snapshot, tables, parameters, settings, the pool, and how it is stopped.

An `ExecutionContext` is made once per statement and never changes; `with_ctes` makes the copy that a WITH runs
under. Nothing here does any work. `Cancel` is the one thing that other threads touch: whoever sets it stops the
statement at its next morsel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from filestore import errors
from filestore.hal import process
from filestore.query.key_set import KeySet
from filestore.query.pool import WorkerPool
from filestore.storage.schema import KeyDef, TableDef
from filestore.storage.vector import Batch, Vector

_LONGEST_S = 1e9  # what it sleeps for who asks for infinity
_LOOK_S = 0.02  # how often it looks meanwhile, as whoever drives a statement does


class Cancel:
    """A request to stop, seen by `check`. Set from any thread, and by handlers of signals: no lock; stays set."""

    __slots__ = ("_deadline_us", "_reason", "_requested")

    def __init__(self, timeout_ms: int = 0) -> None:
        """With `timeout_ms` > 0 the statement is also stopped that long from now."""
        self._requested = False
        self._reason = "user request"
        self._deadline_us = 0
        self.extend(timeout_ms)

    def set(self, reason: str = "user request") -> None:
        """Stops the statement; `reason` ends PostgreSQL's sentence "canceling statement due to ..."."""
        self._reason = reason
        self._requested = True

    def renew(self, timeout_ms: int) -> None:
        """Forgets a request that came too late; with `timeout_ms` > 0 there is that much time from now."""
        self._requested = False
        self.extend(timeout_ms)

    def extend(self, timeout_ms: int) -> None:
        """With `timeout_ms` > 0 there is that much time from now, else any."""
        self._deadline_us = process.monotonic_us() + timeout_ms * 1000 if timeout_ms > 0 else 0

    def sleep(self, seconds: float) -> None:
        """Waits for so long, or raises 57014 as `check`."""
        until = process.monotonic_us() + min(seconds, _LONGEST_S) * 1_000_000
        while (left := until - process.monotonic_us()) > 0:
            time.sleep(min(left / 1_000_000, _LOOK_S))
            self.check()

    @property
    def used(self) -> bool:
        """Whether it can still stop a statement that it was not made for: it was set, or has a deadline."""
        return self._deadline_us != 0 or self._requested

    def check(self) -> None:
        """Raises 57014 once the statement is to stop."""
        if self._requested:
            raise errors.QueryCanceled(f"canceling statement due to {self._reason}")
        if self._deadline_us and process.monotonic_us() >= self._deadline_us:
            raise errors.QueryCanceled("canceling statement due to statement timeout")


class Rows(Protocol):
    """Rows made once and read by many: a common table expression."""

    def batches(self) -> list[Batch]: ...


def _no_system_table(schema: str, name: str) -> Batch:
    raise errors.UndefinedTable(f'relation "{schema}.{name}" does not exist')


def _no_table(definition: TableDef) -> Any:
    raise errors.UndefinedTable(f'relation "{definition.name}" does not exist')


def _no_index(definition: TableDef, key: KeyDef) -> Any:
    raise errors.InternalError(f'index "{key.name}" of "{definition.name}" is not open')


def _no_session_function(name: str, _args: tuple[Any, ...]) -> Any:
    raise errors.FeatureNotSupported(f"function {name}() needs a session", hint="Call it over a connection.")


@dataclass(frozen=True)
class ExecutionContext:
    """One statement's execution. Thread rule: read from any thread.

    snapshot: what `Table.units` takes. table, index, system_table: how stored and virtual rows are found.
    session_function: values of functions that ask the session or the registry (version, current_user, format_type
    ...), by name and canonical arguments. compile: when hot pipelines are fused: "always" (and waited for),
    "background", "never". statement_us and transaction_us are microseconds since 1970, UTC.
    lock: the engine lock, held while an index is read. measured: for EXPLAIN ANALYZE, (rows, milliseconds) of
    every plan node by its id(). keys: those that joins have hashed, by number (`plan.KeyUse`).
    """

    snapshot: Any = None
    table: Callable[[TableDef], Any] = _no_table
    index: Callable[[TableDef, KeyDef], Any] = _no_index
    system_table: Callable[[str, str], Batch] = _no_system_table
    session_function: Callable[[str, tuple[Any, ...]], Any] = _no_session_function
    parameters: tuple[Vector, ...] = ()
    settings: Any = None
    cancel: Cancel = field(default_factory=Cancel)
    pool: WorkerPool = field(default_factory=WorkerPool.inline)
    statement_us: int = 0
    transaction_us: int = 0
    compile: str = "background"
    ctes: Mapping[str, Rows] = field(default_factory=dict)
    lock: Any = field(default_factory=nullcontext)
    measured: dict[int, tuple[int, float]] | None = None
    keys: dict[int, KeySet] = field(default_factory=dict)
    outer: Mapping[int, Vector] = field(default_factory=dict)

    def with_outer(self, values: Mapping[int, Vector]) -> ExecutionContext:
        """The same execution inside an `Applied` subquery: `values` of the row it is run for."""
        return replace(self, outer={**self.outer, **values})

    def with_keys(self, keys: Mapping[int, KeySet]) -> ExecutionContext:
        """The same execution with joins' keys handed out so far; a plan's joins add their own."""
        return replace(self, keys=dict(keys))

    def with_ctes(self, ctes: Mapping[str, Rows]) -> ExecutionContext:
        """The same execution with more common table expressions in scope."""
        return replace(self, ctes={**self.ctes, **ctes})
