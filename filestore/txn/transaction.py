"""A transaction: who it is, what it has written, what undoes it.

The write set holds address arrays, not rows: commit stamps them, abort takes them back. The log's records are
collected as they arise and reach the log only with the commit, so an aborted transaction never existed on
disk.

Thread rule: used under the engine lock by one statement at a time.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from filestore import errors
from filestore.storage.directory import mark_of
from filestore.storage.log_record import Record
from filestore.storage.registry import Registry
from filestore.storage.table import Table
from filestore.storage.vector import Array
from filestore.storage.wait import Wait
from filestore.txn.snapshot import Snapshot

if TYPE_CHECKING:
    from filestore.txn.keys import StoredKey
    from filestore.txn.manager import TransactionManager


class Isolation(enum.StrEnum):
    """The levels that are built, by the names that settings have for them."""

    READ_COMMITTED = "read committed"
    REPEATABLE_READ = "repeatable read"


class State(enum.Enum):
    """What has become of a transaction; the last two are final."""

    ACTIVE = enum.auto()
    COMMITTED = enum.auto()
    ABORTED = enum.auto()



@dataclass(slots=True)
class Attached:
    """Sealed segments that a bulk load added: the numbers, and their file names for the log and the undo."""

    segments: list[int]
    files: list[str]
    rows: int


@dataclass(slots=True)
class TableWrites:
    """What a transaction did to one table.

    inserted: addresses of new versions. ended: addresses of versions marked as ended. heads: (records, what
    their heads were), oldest first. entries: (key, keys, records) of index entries that were not there
    before.
    """

    inserted: list[Array] = field(default_factory=list)
    ended: list[Array] = field(default_factory=list)
    heads: list[tuple[Array, Array]] = field(default_factory=list)
    entries: list[tuple[StoredKey, Any, Array]] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)


class Transaction:
    """One transaction. `synchronous`: whether commit's wait is for durability."""

    __slots__ = (
        "behind_savepoint",
        "created",
        "dropped",
        "finished",
        "id",
        "isolation",
        "locks",
        "manager",
        "mark",
        "minimum_timestamp",
        "pins",
        "read_only",
        "records",
        "registry",
        "snapshot",
        "state",
        "synchronous",
        "timestamp",
        "waiting_for",
        "waiting_since",
        "waiting_what",
        "writes",
    )

    def __init__(
        self, manager: TransactionManager, number: int, isolation: Isolation, read_only: bool, minimum_timestamp: int
    ) -> None:
        self.manager = manager
        self.id = number
        self.mark = mark_of(number)
        self.isolation = isolation
        self.read_only = read_only
        # of the session's last commit: it sees its own, durable or not
        self.minimum_timestamp = minimum_timestamp
        self.behind_savepoint = False  # what is written there could not be undone by itself
        self.synchronous = True
        self.state = State.ACTIVE
        self.timestamp = 0  # of the commit
        self.snapshot: Snapshot | None = None
        self.pins: list[ReferenceType[Snapshot]] = []  # of results that may not have been read to their end
        self.registry: Registry | None = None  # overlay, None until the first DDL
        self.writes: dict[Table, TableWrites] = {}
        self.records: list[Record] = []
        self.created: list[Table] = []
        self.dropped: list[Table] = []
        self.locks: set[Hashable] = set()
        self.finished: Wait | None = None  # made when somebody waits for this transaction
        self.waiting_for: frozenset[int] = frozenset()
        self.waiting_since = 0.0
        self.waiting_what = ""

    @property
    def has_writes(self) -> bool:
        """Whether commit has anything to tell the log."""
        return bool(self.records)

    def writes_of(self, table: Table) -> TableWrites:
        """The write set for a table. Raises what `check_writable` raises."""
        found = self.writes.get(table)
        if found is None or self.state is not State.ACTIVE:
            # A worker may still be loading when its transaction has been ended by a cancel.
            self.check_writable()
            found = self.writes[table] = TableWrites()
        return found

    def check_writable(self) -> None:
        """Raises 25006 in a read-only transaction, 0A000 behind a savepoint, 25P02 in one that is over, 58030 when the
        log has failed."""
        if self.read_only:
            raise errors.ReadOnlyTransaction("cannot write in a read-only transaction")
        if self.behind_savepoint:
            raise errors.FeatureNotSupported(
                "changes after SAVEPOINT are not supported",
                hint="RELEASE the savepoint first, or make the changes in a transaction of their own.",
            )
        if self.state is not State.ACTIVE:
            raise errors.InFailedTransaction("transaction is over, it writes no more")
        self.manager.check_log()

    def pin(self, snapshot: Snapshot) -> None:
        """A snapshot counts as in use for as long as it lives: a cursor may read by it behind later statements."""
        self.pins = [pin for pin in self.pins if pin() is not None]
        self.pins.append(ref(snapshot))

    def pinned(self) -> list[int]:
        """Timestamps of the pinned snapshots."""
        alive = [pin() for pin in self.pins]
        return [snapshot.timestamp for snapshot in alive if snapshot is not None]

    def until_finished(self) -> Wait:
        """A wait that ends with this transaction."""
        if self.finished is None:
            self.finished = Wait()
        return self.finished
