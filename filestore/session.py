"""One session: its transaction, settings and statements. Every port and the embedded driver go through it, and only
through it.

A statement is a generator (`txn/drive.py`) that yields what it must wait for; the port drives it. The rules of
PostgreSQL that live here: every statement runs in a transaction; outside BEGIN it is an implicit one, which `finish`
commits (at Sync, or at the end of a simple Query); an error ends an implicit transaction and fails an explicit one,
which then answers 25P02 to everything but its end. What a statement does is elsewhere: `query/dml.py` and
`commands/`.

Thread rule: one thread at a time; generators run with the engine lock held; `cancel.set` may be called from any thread.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from filestore import commands, errors
from filestore.catalog.names import SessionCatalog
from filestore.commands.cursors import Cursor, Portal, hold
from filestore.commands.savepoints import Savepoint
from filestore.commands.transactions import checked_isolation
from filestore.planning import LITERAL_TYPES, Planned, Prepared, bind_literals, planned, prepared_of
from filestore.query import dml
from filestore.query import plan as p
from filestore.query.bind import bind
from filestore.query.context import Cancel, ExecutionContext
from filestore.query.executor import execute
from filestore.query.explain import rows_read
from filestore.query.lexer import check_bytes, normalise
from filestore.query.literal_rows import literal_rows
from filestore.query.optimize import optimize
from filestore.query.parse import parse
from filestore.query.point_write import At, PointInsert
from filestore.query.statements import Statement
from filestore.query.widen import widened
from filestore.result import CopyIn, Notice, Result, Unread, pulled
from filestore.settings import Settings
from filestore.storage.schema import TableDef
from filestore.storage.vector import Array, Batch, Vector
from filestore.txn.drive import Job, Steps
from filestore.txn.locks import LockMode
from filestore.txn.transaction import Transaction
from filestore.types import Kind, SqlType

if TYPE_CHECKING:
    from filestore.database import Database

__all__ = ["Prepared", "Session"]

LOG = logging.getLogger("filestore.session")
T = TypeVar("T")

# A source that reads at most this many rows runs on the thread that asks; a larger one goes to a worker.
INLINE_ROWS = 20_000

# Longer texts (a script, a large INSERT) are seldom sent twice.
CACHED_TEXT_MAX = 4096

# Shapes of simple queries that a session keeps at hand.
SHAPES_KEPT = 256

_TAGS = {"insert": "INSERT 0", "update": "UPDATE", "delete": "DELETE"}

# What client_min_messages keeps from the client; all else is sent.
_UNHEARD = {"warning": ("NOTICE",), "error": ("NOTICE", "WARNING")}


class Session:
    """See the module. `database` owns the engine; `process_id` is its number in cancel requests and views."""

    def __init__(
        self,
        database: Database,
        user: str = "postgres",
        application_name: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.database = database
        self.engine = database.engine
        self.user = user
        startup = {"application_name": application_name, **(settings or {})}
        self.settings = Settings(startup, user=user, facts=database.facts)
        self.settings.names = self.registered_name
        self.settings.oids = lambda kind, text: self.catalog().session_function(f"{kind.value}in", (text,))
        self.process_id = database.register(self)
        self.cancel = Cancel()
        self.notices: list[Notice] = []
        self.prepared: dict[str, Prepared] = {}
        self.cursors: dict[str, Cursor] = {}
        self.savepoints: list[Savepoint] = []
        self.portals: Mapping[str, Portal] = {}
        self._unread: WeakSet[Unread] = WeakSet()  # by snapshots that know their transaction's own writes
        self._shapes: dict[object, Prepared] = {}
        self.transaction: Transaction | None = None
        self.explicit = False
        self.failed_block = False
        self.last_commit = 0
        self.started_us = time.time_ns() // 1000
        self.statement_text = ""
        self.client: tuple[str | None, int | None] = (None, None)
        """Address and port of the client; None within this process."""

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """ReadyForQuery's byte: I idle, T in a transaction block, E in a failed one."""
        if self.failed_block:
            return "E"
        return "T" if self.explicit else "I"

    def poll(self) -> None:
        """Raises 57014 or 55P03 when the running statement is to stop; drivers ask while they wait."""
        self.cancel.check()
        limit_ms, transaction = self.settings.lock_timeout_ms, self.transaction
        if limit_ms and transaction is not None and transaction.waiting_since:
            # of this one wait, as in PostgreSQL: what the statement does besides waiting does not count
            if (time.monotonic() - transaction.waiting_since) * 1000 >= limit_ms:
                raise errors.LockNotAvailable("canceling statement due to lock timeout")

    def close(self) -> None:
        """The client is gone: rolls back what is open."""
        with self.database.lock:
            self._abort()
            self.database.forget(self)

    def notice(self, severity: str, sqlstate: str, message: str) -> None:
        """Keeps a notice (NOTICE or WARNING) for the port to send, unless client_min_messages is above it."""
        if severity not in _UNHEARD.get(self.settings.client_min_messages, ()):
            self.notices.append(Notice(severity, sqlstate, message))

    def catalog(self) -> SessionCatalog:
        """Names as this session sees them: its transaction's definitions, its search path."""
        return SessionCatalog(self)

    # --- statements --------------------------------------------------------------------------------------------------

    def registered_name(self, kind: Kind, oid: int) -> str:
        """How an oid of a reg* type is shown: the name it stands for."""
        return str(self.catalog().session_function(f"{kind.value}out", (oid,)))

    def parse(self, text: str) -> list[Statement]:
        """The statements of a text; none for an empty query. Raises 42601 and 22021 with positions.

        One that was seen before, or one like it but for its literals, is not parsed again.
        """
        check_bytes(text)
        rows = literal_rows(text)
        if rows is not None:
            found = self.parse(rows.template)
            return [replace(found[0], text=text, shape=rows.template, rows=rows)]
        if len(text) > CACHED_TEXT_MAX:
            return parse(text)
        parsed = self.database.parsed
        shape, literals = normalise(text)
        known = parsed.get(shape)
        if known is not None:
            return [replace(known, text=text, shape=shape, literals=literals) if literals else known]
        found = parse(text)
        if len(found) != 1:
            return found
        if literals:
            return [replace(found[0], text=text, shape=shape, literals=literals)]
        parsed.put(text, found[0])
        return found

    def execute(self, statement: Statement, parameters: Sequence[Vector] = ()) -> Steps[Result]:
        """Runs one statement of a simple Query."""
        return self._guarded(statement, self._execute(statement, parameters))

    def prepare(self, text: str, types: Sequence[SqlType | None] = ()) -> Prepared:
        """Parses and binds at most one statement without running it. Engine lock held."""
        found = parse(text)
        if len(found) > 1:
            raise errors.SqlSyntaxError("cannot insert multiple commands into a prepared statement")
        if not found:
            return Prepared(text, None)
        return self.prepare_statement(found[0], types)

    def prepare_statement(self, statement: Statement, types: Sequence[SqlType | None] = ()) -> Prepared:
        """Binds a parsed statement."""
        self._admit(statement)
        prepared = Prepared(statement.text, statement, tuple(types))
        self._bind_prepared(prepared)
        return prepared

    def execute_prepared(self, prepared: Prepared, parameters: Sequence[Vector], rows: int = 1) -> Steps[Result]:
        """Runs a prepared statement with one vector of length 1 per parameter.

        An INSERT that `widen.can_widen` accepts also takes vectors of length `rows`, and inserts as many rows.
        """
        assert prepared.statement is not None, "an empty statement is answered by the port"
        return self._guarded(prepared.statement, self._execute_prepared(prepared, parameters, rows))

    def named(self, name: str) -> Prepared:
        """The statement prepared under a name; 26000 when there is none."""
        found = self.prepared.get(name)
        if found is None:
            raise errors.InvalidStatementName(f'prepared statement "{name}" does not exist')
        return found

    def resume(self, cancel: Cancel) -> None:
        """The statement that runs now makes more of an earlier one's rows: those ask `cancel` whether to stop."""
        cancel.renew(self.settings.statement_timeout_ms)
        self.cancel = cancel

    def finish(self) -> Steps[None]:
        """Ends an implicit transaction: commits and returns once that is durable. Inside BEGIN it does nothing."""
        if self.transaction is not None and not self.explicit:
            yield from self._commit()

    def fail(self) -> None:
        """The statement has failed outside its generator: its rows could not be made or sent."""
        with self.database.lock:
            self._fail()

    def finish_copy(self, copy: CopyIn) -> Steps[Result]:
        """The client has sent all of COPY's data: loads what is left and answers."""
        return self._until_failure(copy.finish())

    def abort_copy(self, copy: CopyIn) -> None:
        """The client gave up."""
        copy.abort()
        with self.database.lock:
            self._fail()

    def _guarded(self, statement: Statement, steps: Steps[Result]) -> Steps[Result]:
        timeout = self.settings.statement_timeout_ms
        if timeout or self.cancel.used:
            self.cancel = Cancel(timeout)
        self.statement_text = statement.text
        self.settings.statement_us = time.time_ns() // 1000
        return self._until_failure(self._admitted(statement, steps))

    def _until_failure(self, steps: Steps[T]) -> Steps[T]:
        """Runs steps; an error ends or fails the transaction."""
        try:
            return (yield from steps)
        except RecursionError:
            self._fail()
            raise errors.StatementTooComplex("statement is nested too deeply") from None
        except (errors.DeadlockDetected, errors.StorageFailed):
            self._fail(whole=True)
            raise
        except (errors.Error, GeneratorExit, KeyboardInterrupt):
            self._fail()
            raise
        except Exception as error:
            self._fail(whole=True)
            LOG.exception("a statement of session %d failed with a bug", self.process_id)
            text = f"{type(error).__name__}: {error}"
            raise errors.InternalError(text, hint="This is a bug; please report it.") from error

    def _admitted(self, statement: Statement, steps: Steps[Result]) -> Steps[Result]:
        self._admit(statement)
        return (yield from steps)

    def _admit(self, statement: Statement) -> None:
        if self.failed_block and not commands.ends_transaction(statement):
            raise errors.InFailedTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    def _execute(self, statement: Statement, parameters: Sequence[Vector]) -> Steps[Result]:
        if statement.utility is not None:
            return (yield from commands.run(self, statement, parameters))
        while True:
            found, values = bind_literals(self, statement, parameters)
            if (yield from self.lock_tables(found.bound)):
                return (yield from self.run(found, values))

    def _execute_prepared(self, prepared: Prepared, parameters: Sequence[Vector], rows: int) -> Steps[Result]:
        statement = prepared.statement
        assert statement is not None
        if statement.utility is not None:
            return (yield from commands.run(self, statement, parameters))
        while True:
            if prepared.version != self.registry_version or prepared.version < 0:
                columns = prepared.columns
                prepared.given = prepared.parameters  # which have been sent as what they were when it was prepared
                self._bind_prepared(prepared)
                if _result_type(prepared.columns) != _result_type(columns):
                    prepared.columns, prepared.version = columns, -1  # it fails until it is prepared anew
                    raise errors.FeatureNotSupported("cached plan must not change result type")
            found = prepared.planned
            assert found is not None
            if (yield from self.lock_tables(found.bound)):
                if rows != 1:
                    found = Planned(widened(found.bound, rows), None, None)
                return (yield from self.run(found, parameters))

    # --- binding -----------------------------------------------------------------------------------------------------

    @property
    def registry_version(self) -> int:
        """Changes whenever a definition that this session sees may have changed; -1 while it changed some itself."""
        if self.transaction is not None and self.transaction.registry is not None:
            return -1
        return self.engine.registry.version

    def plan(self, statement: Statement, types: Sequence[SqlType | None] = ()) -> p.Bound:
        """Binds and optimises a statement. Raises 42xxx with positions, 0A000 for what is not built."""
        catalog = self.catalog()
        try:
            bound = optimize(bind(statement, catalog, types), catalog)
        except RecursionError:
            raise errors.StatementTooComplex("stack depth limit exceeded", hint="Split the statement up.") from None
        return replace(bound, little=rows_read(bound.plan, lambda _: math.inf) <= INLINE_ROWS)

    def _bind_prepared(self, prepared: Prepared) -> None:
        statement = prepared.statement
        assert statement is not None
        if statement.utility is not None:
            prepared.columns = commands.describe(self, statement)
            inner = commands.inner(statement)
            if inner is not None:
                prepared.parameters = self.plan(inner, prepared.given).parameters
            return
        version = self.registry_version
        key = (prepared.text, prepared.given, self.settings.search_path, version)
        found = None if version < 0 else self.database.plans.get(key)
        if found is None:
            found = planned(self.plan(statement, prepared.given))
            if version >= 0:
                self.database.plans.put(key, found)
        prepared.planned, prepared.version = found, version
        prepared.parameters = found.bound.parameters
        prepared.columns = found.bound.plan.columns or (() if found.bound.kind == "select" else None)

    def planned_before(self, shape: str, literals: Sequence[tuple[str, str]]) -> Prepared | None:
        """A statement of a simple Query whose shape was planned before; None when it has to be planned."""
        types = tuple(LITERAL_TYPES[kind] for kind, _ in literals)
        version = self.registry_version
        key = (shape, types, self.settings.search_path, version)
        found = self._shapes.get(key)
        if found is None and version >= 0:
            plan = self.database.plans.get(key)
            if plan is not None and len(plan.bound.parameters) == len(literals):
                if len(self._shapes) >= SHAPES_KEPT:
                    self._shapes.clear()
                found = self._shapes[key] = prepared_of(shape, plan, version)
        return found

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, found: Planned, parameters: Sequence[Vector] = ()) -> Steps[Result]:
        """Runs a bound statement, whose tables are locked, in the session's transaction."""
        transaction, bound = self.begin(), found.bound
        if bound.kind not in ("select", "insert"):
            yield from self._make_unread()
        if found.write is not None and not transaction.read_only and not self.savepoints:
            written = yield from self._run_write(found, parameters, transaction)
            if written is not None:
                return _answer(bound, written)
        context = self.context(parameters)
        if bound.kind == "select":
            transaction.pin(context.snapshot)  # a cursor or portal may go on reading behind later statements
            batches, inline = pulled(execute(bound.plan, context)), self.reads_little(bound)
            if context.snapshot.mark:
                batches = Unread(batches, context.cancel, inline)
                self._unread.add(batches)
            return Result("SELECT", bound.plan.columns, batches, inline, counts_rows=True)
        if transaction.read_only:
            raise errors.ReadOnlyTransaction(f"cannot execute {bound.kind.upper()} in a read-only transaction")
        transaction.check_writable()
        write = dml.WriteContext(self.engine, transaction, context, lambda plan: self.run_source(plan, bound, context))
        return _answer(bound, (yield from dml.run(bound.plan, write)))

    def _make_unread(self) -> Steps[None]:
        """Makes what open cursors and portals have still to show and would lose by what this statement ends."""
        for rows in [u for u in self._unread if not u.complete]:
            self.resume(rows.cancel)
            yield from self._aside(rows.inline, rows.make)

    def _run_write(
        self, found: Planned, parameters: Sequence[Vector], transaction: Transaction
    ) -> Steps[dml.Written | None]:
        """A statement that writes one row by its compact form; None when the general way must be gone."""
        write, at = found.write, self._at(parameters, transaction)
        assert write is not None
        outcome = write.attempt(at)
        if isinstance(outcome, dml.Written):
            return outcome
        if outcome < 0 or isinstance(write, PointInsert):
            return None
        return (yield from write.wait_and_write(outcome, at))

    def _at(self, parameters: Sequence[Vector], transaction: Transaction) -> At:
        snapshot = self.engine.statement_snapshot(transaction)
        return At(self.engine, transaction, snapshot, parameters, self.settings, lambda: self.context(parameters))

    def attempt(self, prepared: Prepared, parameters: Sequence[Vector]) -> Result | None:
        """Runs a prepared statement that writes one row, at once, in a transaction that the caller ends; None, with no
        row written, when it has to wait or cannot be run this way. Engine lock held.
        """
        found, engine = prepared.planned, self.engine
        if found is None or found.write is None or self.failed_block or prepared.version != engine.registry.version:
            return None
        transaction = self.transaction
        if transaction is None:
            self.settings.statement_us = time.time_ns() // 1000
            transaction = self.begin()
        if transaction.read_only or transaction.registry is not None or self._unread or self.savepoints:
            return None
        self.statement_text = prepared.text
        locked = engine.locks.try_acquire(transaction, found.write.table.oid, LockMode.ROW_EXCLUSIVE)
        if not locked or not engine.defined:
            return None
        self.settings.statement_us = time.time_ns() // 1000
        outcome = found.write.attempt(self._at(parameters, transaction))
        return _answer(found.bound, outcome) if isinstance(outcome, dml.Written) else None

    def run_point(self, prepared: Prepared, request: Array, bind_at: int, at: int) -> int:
        """Answers a prepared point SELECT by its compiled form; see `PointSelect.run`. Engine lock held.

        Negative when there is none, when its definitions have changed, or when the transaction asks for the general
        path.
        """
        point, engine = prepared.point, self.engine
        if point is None or self.failed_block or prepared.version != engine.registry.version:
            return -1
        mark = bound = 0
        transaction = self.transaction
        if transaction is None:
            if not engine.locks.is_open(point.table.oid) or not engine.defined:
                return -1
            timestamp = max(engine.manager.durable_timestamp, self.last_commit)
        else:
            if transaction.registry is not None or not engine.locks.try_acquire(
                transaction, point.table.oid, LockMode.ACCESS_SHARE
            ):
                return -1
            if transaction.writes and engine.failed is not None:
                return -1  # the general path tells
            snapshot = engine.statement_snapshot(transaction)
            timestamp, mark = snapshot.timestamp, snapshot.mark
            bound = snapshot.bounds.get(point.table.storage_id, 0)
        if point.stored is None:
            point.stored = engine.table(point.table), engine.index(point.table, point.key)
        table, key = point.stored
        if table.storage_id not in engine.tables:
            return -1
        return point.run(table.directory, key.index.pages.data, timestamp, mark, bound, request, bind_at, at)

    def run_source(self, source: p.Plan, bound: p.Bound, context: ExecutionContext) -> Steps[list[Batch]]:
        """All batches of a statement's source; one that reads much runs on a worker, without the engine lock."""
        return self._aside(self.reads_little(bound), lambda: list(execute(source, context)))

    def aside(self, rows: int, work: Callable[[], T]) -> Steps[T]:
        """Work that reads so many rows: a worker's, without the engine lock, unless they are few."""
        return self._aside(rows <= INLINE_ROWS, work)

    def _aside(self, little: bool, work: Callable[[], T]) -> Steps[T]:
        if little:
            return work()
        job = Job(self.database.workers, work)
        yield job
        return job.value()

    def reads_little(self, bound: p.Bound) -> bool:
        """Whether running the statement is short enough for the event loop."""
        if bound.waits:
            return False
        return bound.little or rows_read(bound.plan, lambda t: self.engine.table(t).live_rows) <= INLINE_ROWS

    def context(self, parameters: Sequence[Vector] = ()) -> ExecutionContext:
        """The execution context of one statement; takes its snapshot."""
        catalog = self.catalog()
        return ExecutionContext(
            snapshot=self.engine.statement_snapshot(self.begin()),
            table=self.engine.table,
            index=self.engine.index,
            system_table=catalog.system_table,
            session_function=catalog.session_function,
            parameters=tuple(parameters),
            settings=self.settings,
            cancel=self.cancel,
            pool=self.database.pool,
            statement_us=self.settings.statement_us,
            transaction_us=self.settings.transaction_us,
            compile=self.database.options.compile,
            lock=self.engine.lock,
        )

    # --- locks -------------------------------------------------------------------------------------------------------

    def lock_table(self, definition: TableDef, mode: LockMode) -> Steps[None]:
        """Locks a table until the transaction ends, waiting for it."""
        yield from self.engine.lock_table(self.begin(), definition.oid, mode)

    def lock_tables(self, bound: p.Bound) -> Steps[bool]:
        """Locks what a statement reads and writes. False when a definition changed during a wait: bind again."""
        if not bound.tables:
            return True
        transaction, locks = self.begin(), self.engine.locks
        written = bound.plan.table.oid if isinstance(bound.plan, p.Insert | p.Update | p.Delete) else 0
        waited = False
        for table in bound.tables:
            mode = LockMode.ROW_EXCLUSIVE if table.oid == written else LockMode.ACCESS_SHARE
            if not locks.try_acquire(transaction, table.oid, mode):
                waited = True
                self.engine.statement_snapshot(transaction)  # REPEATABLE READ's is taken when its statement begins
                yield from self.lock_table(table, mode)
        if not self.engine.defined:
            yield from self.engine.settled()  # the definitions are those of a commit that no snapshot shows yet
        registry = self.catalog().registry
        return not waited or all(registry.by_oid(t.oid) == t for t in bound.tables)

    # --- transactions ------------------------------------------------------------------------------------------------

    def begin(self) -> Transaction:
        """The open transaction; starts an implicit one when there is none."""
        if self.transaction is None:
            settings = self.settings
            settings.begin()
            settings.transaction_us = settings.statement_us
            self.transaction = self.engine.begin(
                checked_isolation(settings.transaction_isolation),
                read_only=settings.transaction_read_only,
                minimum_timestamp=self.last_commit,
            )
            self.transaction.synchronous = settings.synchronous_commit
        return self.transaction

    def begin_block(self) -> None:
        """BEGIN, outside a block and a transaction."""
        self.settings.statement_us = time.time_ns() // 1000
        self.explicit = True
        self.begin()

    def commit_block(self) -> Steps[str]:
        """COMMIT: ends the block; returns the tag, ROLLBACK when the block had failed."""
        failed, self.failed_block, self.explicit = self.failed_block, False, False
        if failed:
            self._abort()
            return "ROLLBACK"
        if self.transaction is not None:
            yield from self._commit()
        return "COMMIT"

    def rollback_block(self) -> None:
        """ROLLBACK: ends the block and undoes it."""
        self.failed_block = self.explicit = False
        self._abort()

    def close_cursors(self) -> None:
        """Closes the cursors that end with their transaction."""
        self.cursors = {name: cursor for name, cursor in self.cursors.items() if cursor.held}

    def _commit(self) -> Steps[None]:
        if self.cursors:
            yield from self._until_failure(hold(self))
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        self.savepoints.clear()
        self.close_cursors()
        try:
            durable = self.engine.commit(transaction)
        except BaseException:
            self.engine.abort(transaction)
            self.settings.rollback()
            raise
        self.settings.commit()
        while not durable.done:
            try:
                yield durable
            except (errors.QueryCanceled, errors.LockNotAvailable):
                continue  # the commit is in the log: a cancel comes too late, and only the log can say how it ends
        if durable.error is not None:
            raise durable.error
        self.last_commit = max(self.last_commit, transaction.timestamp)

    def _abort(self) -> None:
        transaction, self.transaction = self.transaction, None
        self.savepoints.clear()
        self.close_cursors()
        if transaction is not None:
            self.engine.abort(transaction)
            self.settings.rollback()

    def _fail(self, whole: bool = False) -> None:  # behind a savepoint the transaction waits for ROLLBACK TO
        if whole or not self.savepoints:
            self._abort()
        if self.explicit:
            self.failed_block = True


def _result_type(columns: Sequence[p.OutputColumn] | None) -> list[tuple[str, SqlType]]:
    """What must not change under a prepared statement: names and types, whatever table they come from."""
    return [(c.name, c.type) for c in columns or ()]


def _answer(bound: p.Bound, written: dml.Written) -> Result:
    return Result(f"{_TAGS[bound.kind]} {written.count}", bound.plan.columns or None, iter(written.returned))
