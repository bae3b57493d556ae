"""A PEP 249 connection: one session of a directory that this process has open.

A transaction begins with the first statement and lasts until `commit` or `rollback`, as in psycopg; with
`autocommit` every statement is a transaction of its own. An error fails the transaction: what follows is refused
with 25P02 until `rollback`. Leaving a `with` block commits, or rolls back after an exception, and closes.

A SELECT that reads much is run as its rows are fetched; whatever has not been fetched when the connection does
something else is gathered first, so that no statement ever sees its transaction's later changes.

A signal whose handler raises, such as Ctrl-C's, cancels the running statement and fails the transaction; its exception
comes when the driver is done (`signals`). In a forked child a connection is its parent's, and refuses everything.

Thread rule: threads may share a connection; statements wait for each other. `interrupt` never waits. What is dropped
without being closed is closed by another thread.
"""

from __future__ import annotations

import datetime as dt
import threading
import warnings
import zoneinfo
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

from filestore import errors, timezones
from filestore.dbapi import directories, exceptions
from filestore.dbapi.placeholders import Parameters, Template
from filestore.dbapi.points import Point, Row, point_of
from filestore.dbapi.signals import Hold
from filestore.query import statements as s
from filestore.query.literal_rows import literal_rows
from filestore.query.parse import parse
from filestore.query.plan import OutputColumn
from filestore.query.python_values import type_of, vector
from filestore.query.statements import Statement
from filestore.result import Result
from filestore.session import Prepared, Session
from filestore.timezones import DAY_SECONDS, TimeZone
from filestore.txn.drive import Steps, drive
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.dbapi.cursor import Cursor

T = TypeVar("T")

# A program has a few hundred statement texts; a program that puts values into its texts must not fill the memory.
PREPARED_MAX: Final = 256

# What lock_timeout can hold, in seconds; whoever waits longer waits for ever.
TIMEOUT_MAX: Final = 2_147_483

FORKED: Final = "Connect again in the child, once the parent has closed its connections, or serve the directory."

_BEGIN, _COMMIT, _ROLLBACK = parse("BEGIN; COMMIT; ROLLBACK")


class Connection:
    """See the module; made by `connect`."""

    Warning = exceptions.Warning
    Error = exceptions.Error
    InterfaceError = exceptions.InterfaceError
    DatabaseError = exceptions.DatabaseError
    DataError = exceptions.DataError
    OperationalError = exceptions.OperationalError
    IntegrityError = exceptions.IntegrityError
    InternalError = exceptions.InternalError
    ProgrammingError = exceptions.ProgrammingError
    NotSupportedError = exceptions.NotSupportedError

    def __init__(self, lease: directories.Lease, session: Session, *, autocommit: bool = False) -> None:
        self._lease = lease
        self._session = session
        self._guard = threading.RLock()
        self._hold: Hold | None = None  # of the thread that has the guard, while it is at work
        self._autocommit = autocommit
        self._closed = False
        self._prepared: OrderedDict[tuple[str, tuple[SqlType | None, ...]], tuple[Prepared, Point | None]] = (
            OrderedDict()
        )
        self._streaming: Cursor | None = None
        self.columns: tuple[OutputColumn, ...] | None = None
        self._zone: tuple[TimeZone, dt.tzinfo] = (timezones.UTC, dt.UTC)

    # --- PEP 249 --------------------------------------------------------------------------------------------------

    def cursor(self) -> Cursor:
        """A new cursor."""
        from filestore.dbapi.cursor import Cursor

        self.check_open()
        return Cursor(self)

    def commit(self) -> None:
        """Makes the transaction durable and ends it. A failed transaction is rolled back, and 25P02 says so."""
        with self.work():
            self.settle()
            failed = self._session.status == "E"
            if self._session.status != "I":
                self.run(self._session.execute(_COMMIT))
            self.finish()
            if failed:
                raise errors.InFailedTransaction(
                    "the transaction had failed and was rolled back", hint="Nothing of it was kept: run it again."
                )

    def rollback(self) -> None:
        """Undoes the transaction and ends it."""
        with self.work():
            self.settle()
            if self._session.status != "I":
                self.run(self._session.execute(_ROLLBACK))

    def close(self) -> None:
        """Rolls back what is open and lets go of the directory; afterwards everything raises InterfaceError. May
        be called again.
        """
        if self._lease.foreign:
            self._closed = True
            return
        with self._guard, Hold():
            if self._closed:
                return
            self._closed = True
            streaming, self._streaming = self._streaming, None
            try:
                _end(self._session, self._lease, streaming)
            except errors.Error as error:
                raise exceptions.translated(error) from error

    # --- beyond PEP 249 -------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def usable(self) -> bool:
        """Whether it is open, and this process's."""
        return not self._closed and not self._lease.foreign

    @property
    def autocommit(self) -> bool:
        """Whether every statement is a transaction of its own; may be set while no transaction is open."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        with self.work():
            self.settle()
            if self.in_transaction:
                raise errors.ActiveTransaction("autocommit cannot be changed inside a transaction")
            self._autocommit = value

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, failed ones included."""
        return self._session.status != "I"

    @property
    def notices(self) -> list[str]:
        """Warnings and notices of the statements so far, oldest first; reading them takes them."""
        found, self._session.notices[:] = list(self._session.notices), []
        return [f"{notice.severity}:  {notice.message}" for notice in found]

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """Runs a statement on a new cursor and returns it."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Parameters]) -> Cursor:
        """Runs a statement once for each set of parameters on a new cursor and returns it."""
        return self.cursor().executemany(sql, rows)

    def executescript(self, sql: str) -> Cursor:
        """Runs every statement of a text, without parameters; the cursor shows the last one's rows."""
        return self.cursor().executescript(sql)

    def interrupt(self) -> None:
        """Ends the running statement with 57014, from any thread; a connection at rest is not disturbed."""
        self._session.cancel.set("user request")

    def __enter__(self) -> Connection:
        self.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        try:
            if kind is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._lease.foreign:
            return
        self._closed = True
        # The collector may run anywhere, within the engine and under its locks too: nothing is closed here.
        directories.let_go(partial(_end, self._session, self._lease, self._streaming))
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)

    # --- for the cursors ------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raises InterfaceError when the connection is closed, or another process's."""
        if self._closed:
            raise exceptions.InterfaceError("the connection is closed", sqlstate="08003")
        if self._lease.foreign:
            raise exceptions.InterfaceError(
                "the connection belongs to the process that this one was forked from", sqlstate="08003", hint=FORKED
            )

    @contextmanager
    def work(self, of: Template | None = None) -> Iterator[None]:
        """Waits for the connection's other threads; turns the store's errors into PEP 249's and fails the
        transaction on them. What a signal's handler raises meanwhile is raised at the end.
        """
        self.check_open()
        with self._guard:
            self.check_open()
            if self._hold is not None:  # within another `work`
                yield
                return
            hold = self._hold = Hold(self.interrupt)
            try:
                hold.begin()
                yield
            except exceptions.InterfaceError:
                raise  # before anything was done
            except errors.Error as error:
                self._session.fail()
                raised = exceptions.translated(error)
                if of is not None:
                    raised.position = of.position(raised.position)
                raise raised from error
            except BaseException:
                self._session.fail()
                raise
            finally:
                self._hold = None
                if hold.raised is not None:
                    self._session.fail()
                hold.end()
                if hold.raised is not None:
                    raise hold.raised from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps the connection's other threads out; without `work`, for code of the caller."""
        self.check_open()
        with self._guard:
            try:
                yield
            except BaseException:
                if self.usable:
                    self._session.fail()
                raise

    def run(self, steps: Steps[T]) -> T:
        """Drives a statement's steps; whatever ends them early, they are closed."""
        database = self._session.database
        if self._hold is not None and self._hold.raised is not None:
            self._session.cancel.set()  # the signal came before the statement had its own way to be cancelled
        flushes = self._lease.flushes
        flushes.begin()
        try:
            return drive(steps, database.lock, self._poll)
        except BaseException:
            with database.lock:
                steps.close()
            raise
        finally:
            flushes.end()

    def _poll(self) -> None:
        self._lease.flushes.keep()
        self._session.poll()

    def execute_one(self, of: Template, parameters: Parameters) -> Result | list[Row]:
        """Runs one statement inside `work`: its result, which the caller consumes, or its rows when a kernel answered.

        The caller calls `finish` at the end. `columns` then tells the columns of either.
        """
        values = of.values(parameters)
        if not values and literal_rows(of.text) is not None:
            self.columns = None
            return self.execute_statement(self._session.parse(of.text)[0])
        prepared, point = self._prepare(of.text, tuple([type_of(value) for value in values]))
        self.columns = prepared.columns
        if prepared.statement is None:
            return Result("")
        self.begin(prepared.statement)
        if point is not None:
            rows = point.answer(self._session, values)
            if rows is not None:
                return rows
        settings = self._session.settings
        vectors = [vector(t, (v,), settings) for t, v in zip(prepared.parameters, values, strict=True)]
        result = self.run(self._session.execute_prepared(prepared, vectors))
        return self._without_copy(result)

    def execute_statement(self, statement: Statement) -> Result:
        """Runs one statement of a script inside `work`."""
        self.begin(statement)
        return self._without_copy(self.run(self._session.execute(statement)))

    def _without_copy(self, result: Result) -> Result:
        if result.copy_in is not None:
            self._session.abort_copy(result.copy_in)
        if result.copy_in is not None or result.copy_out is not None:
            raise errors.FeatureNotSupported(
                "COPY FROM STDIN and TO STDOUT need a server",
                hint="Name a file: COPY t FROM '/path/file' (FORMAT csv).",
            )
        return result

    def prepare(self, text: str, types: tuple[SqlType | None, ...]) -> Prepared:
        """The prepared form of a statement, from the connection's own cache when it is there."""
        return self._prepare(text, types)[0]

    def _prepare(self, text: str, types: tuple[SqlType | None, ...]) -> tuple[Prepared, Point | None]:
        key = (text, types)
        found = self._prepared.get(key)
        session = self._session
        if found is not None:
            old = found[0]
            if old.planned is None or old.version == session.registry_version >= 0:
                self._prepared.move_to_end(key)
                return found
        with session.database.lock:
            if found is None or found[0].statement is None:
                prepared = session.prepare(text, types)
            else:
                # Definitions have changed: bound again, from the tree that is there.
                prepared = session.prepare_statement(found[0].statement, types)
        if len(prepared.parameters) > len(types):
            raise exceptions.InterfaceError(
                f"the statement has {len(prepared.parameters)} parameters, {len(types)} values were given"
            )
        found = self._prepared[key] = prepared, point_of(prepared)
        if len(self._prepared) > PREPARED_MAX:
            self._prepared.popitem(last=False)
        return found

    def begin(self, statement: Statement) -> None:
        """Opens a transaction for a statement, unless there is one, or autocommit is on, or the statement opens or
        refuses one.
        """
        alone = isinstance(statement.utility, s.Begin | s.Commit | s.Rollback | s.Vacuum)
        if not self._autocommit and not alone and self._session.status == "I":
            self.run(self._session.execute(_BEGIN))

    def finish(self) -> None:
        """Ends the implicit transaction of autocommit, once the rows are there."""
        self.run(self._session.finish())

    def stream(self, cursor: Cursor) -> None:
        """From now on `cursor` has rows that are not made yet."""
        self._streaming = cursor

    def forget_stream(self, cursor: Cursor) -> bool:
        """`cursor` needs nothing more; whether it was the one that has rows to be made."""
        if self._streaming is not cursor:
            return False
        self._streaming = None
        return True

    def settle(self) -> None:
        """Gathers the rows that have not been fetched, before the connection does something else."""
        cursor = self._streaming
        if cursor is not None:
            cursor.gather()
            self._streaming = None

    @property
    def session(self) -> Session:
        """The session behind the connection."""
        return self._session

    def zone(self) -> dt.tzinfo:
        """The session's time zone as Python has it. Raises 22008 for one that Python cannot hold."""
        zone = self._session.settings.timezone
        if zone is not self._zone[0]:
            self._zone = (zone, tzinfo_of(zone))
        return self._zone[1]


def tzinfo_of(zone: TimeZone) -> dt.tzinfo:
    """A zone of the engine as Python's. Raises 22008 when it is a day or more from Greenwich."""
    offset = zone.fixed_offset
    if offset is None:
        return zoneinfo.ZoneInfo(zone.name)
    if abs(offset) >= DAY_SECONDS:
        raise errors.DatetimeOverflow(
            f'time zone "{zone.name}" is outside the range of Python\'s datetime', hint="Cast the value to text."
        )
    return dt.timezone(dt.timedelta(seconds=offset)) if offset else dt.UTC


def _end(session: Session, lease: directories.Lease, streaming: Cursor | None) -> None:
    """What closing does: rows that are being made are given up, then the transaction, then the directory."""
    if lease.foreign:
        return
    try:
        if streaming is not None:
            streaming.give_up()
        session.close()
    finally:
        lease.release()


def connect(
    path: str | PurePath,
    *,
    autocommit: bool = False,
    read_only: bool = False,
    timeout: float | None = None,
    application_name: str = "",
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Opens the directory `path`, made when it is missing, and connects to it.

    timeout: seconds that a statement waits for another transaction's lock before it fails with 55P03; None waits.
    read_only: writes are refused with 25006. settings: any of SHOW ALL, e.g. {"TimeZone": "Europe/Zurich",
    "statement_timeout": "5s"}. Connections of one process to one directory share it. Raises OperationalError
    (55006), naming the holder, when another process has it; 58030 when it cannot be made or used, 53100 on a full disk.
    """
    place = _checked(path)
    chosen = dict(settings or {})
    if timeout is not None:
        if not isinstance(timeout, int | float) or not timeout >= 0:
            raise exceptions.InterfaceError(f"timeout is a number of seconds, not {timeout!r}")
        chosen["lock_timeout"] = str(max(1, round(min(timeout, TIMEOUT_MAX) * 1000)))
    if read_only:
        chosen["default_transaction_read_only"] = "on"
    with Hold():
        try:
            lease = directories.acquire(place)
            try:
                session = lease.database.session(application_name=application_name, settings=chosen)
            except BaseException:
                lease.release()
                raise
        except errors.Error as error:
            raise exceptions.translated(error) from error
        except OSError as error:
            raise exceptions.OperationalError(f"cannot open {place}: {error}", sqlstate="58030") from error
        return Connection(lease, session, autocommit=autocommit)


def _checked(path: object) -> str:
    """The path of a directory, as text. Raises InterfaceError for what is none."""
    found = str(path) if isinstance(path, PurePath) else path
    if not isinstance(found, str) or not found or "\0" in found:
        raise exceptions.InterfaceError(f"the path of a directory is a str or a pathlib.Path, not {path!r}")
    if found.startswith(":memory:"):
        raise exceptions.NotSupportedError(
            "databases in memory are not supported", sqlstate="0A000", hint="Give the path of a directory."
        )
    return found
