"""Statements as values: what the parser hands to the session. Queries keep sqlglot's tree, utility statements
are frozen values here.

Nothing here is bound: names are as written (folded to lower case unless quoted), types are resolved,
expressions (DEFAULT, CHECK) are SQL text. A field called `position` is a 1-based character index into the
text that was parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.query.literal_rows import LiteralRows


@dataclass(frozen=True, slots=True)
class Utility:
    """Base of all statements that are not planned."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a query's tree comes from: offsets in the tree are those of `text`; `shifts` (offset in the text
    given to sqlglot, offset in the client's text) maps them back when a string had to be rewritten. `lists`: the long
    lists of literals that were taken out, by the offset of the literal in their place (see `literal_lists`)."""

    text: str
    start: int
    shifts: tuple[tuple[int, int], ...] = ()
    rewritten: str = ""
    lists: Mapping[int, str] = field(default_factory=dict)

    def position(self, offset: int) -> int:
        """1-based character in the client's text of an offset in sqlglot's text."""
        for low, original in reversed(self.shifts):
            if offset >= low:
                return original + offset - low + 1
        return self.start + offset + 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. kind: select | insert | update | delete | explain | utility.

    `tree` is sqlglot's (None for utility statements, whose value is `utility`); `text` is the statement's own
    text and `start` its offset in the text that was parsed. `shape` is the text without its literals and `literals`
    are they (see `lexer.normalise`), when it was taken apart; the tree may be the shape's then. `rows` are the rows of
    an INSERT whose tree is that of one row. Compares by identity of its tree, so it is no dictionary key.
    """

    kind: str
    text: str
    start: int
    tree: Any = None
    source: Source | None = None
    utility: Utility | None = None
    shape: str = ""
    literals: tuple[tuple[str, str], ...] = ()
    rows: LiteralRows | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """A possibly qualified name of a table."""

    schema: str | None
    name: str
    position: int = 0


# --- transactions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransactionModes:
    """isolation: 'read uncommitted' | 'read committed' | 'repeatable read' | 'serializable' | None; None
    means not said."""

    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None


@dataclass(frozen=True, slots=True)
class Begin(Utility):
    """BEGIN or START TRANSACTION; `tag` is the command tag to answer."""

    modes: TransactionModes
    tag: str = "BEGIN"


@dataclass(frozen=True, slots=True)
class Commit(Utility):
    chain: bool = False


@dataclass(frozen=True, slots=True)
class Rollback(Utility):
    chain: bool = False


@dataclass(frozen=True, slots=True)
class Savepoint(Utility):
    name: str


@dataclass(frozen=True, slots=True)
class Release(Utility):
    name: str


@dataclass(frozen=True, slots=True)
class RollbackTo(Utility):
    name: str


@dataclass(frozen=True, slots=True)
class SetTransaction(Utility):
    """SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION when `session`."""

    modes: TransactionModes
    session: bool = False


# --- settings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetVariable(Utility):
    """SET [SESSION | LOCAL] name TO values; values None is DEFAULT, each is a text."""

    name: str
    values: tuple[str, ...] | None
    local: bool = False


@dataclass(frozen=True, slots=True)
class ResetVariable(Utility):
    """RESET name; None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class ShowVariable(Utility):
    """SHOW name; None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Discard(Utility):
    """what: all | plans | sequences | temp."""

    what: str


# --- prepared statements, cursors, notifications --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare(Utility):
    name: str
    types: tuple[SqlType | None, ...]
    statement: Statement


@dataclass(frozen=True, slots=True)
class Execute(Utility):
    """EXECUTE name (arguments): each argument is SQL text of an expression, and its offset in the client's text."""

    name: str
    arguments: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Deallocate(Utility):
    """None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Declare(Utility):
    name: str
    statement: Statement
    binary: bool = False
    scroll: bool | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Fetch(Utility):
    """FETCH or MOVE. direction: next prior first last absolute relative forward backward; count None is ALL."""

    cursor: str
    direction: str = "next"
    count: int | None = 1
    move: bool = False


@dataclass(frozen=True, slots=True)
class CloseCursor(Utility):
    """None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Listen(Utility):
    channel: str


@dataclass(frozen=True, slots=True)
class Unlisten(Utility):
    """None is *."""

    channel: str | None


@dataclass(frozen=True, slots=True)
class Notify(Utility):
    channel: str
    payload: str = ""


# --- maintenance and data movement ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explain(Utility):
    """EXPLAIN of a query; options lower-case: analyze, verbose, costs, buffers, timing, summary, settings,
    wal (bool), format (str)."""

    options: tuple[tuple[str, Any], ...]
    statement: Statement


@dataclass(frozen=True, slots=True)
class Vacuum(Utility):
    tables: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Analyze(Utility):
    tables: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint(Utility):
    pass


@dataclass(frozen=True, slots=True)
class LockTable(Utility):
    """mode as PostgreSQL spells it, lower-case: 'access share' ... 'access exclusive'."""

    tables: tuple[Name, ...]
    mode: str = "access exclusive"
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class Copy(Utility):
    """COPY. Either `table` (with `columns`, empty for all) or `query`; `direction` is from | to.

    target: stdin | stdout | file | program, with `path` for the last two. options, lower-case: format (text
    csv binary parquet), delimiter, null, header (bool or 'match'), quote, escape, freeze, encoding,
    force_quote, force_not_null, force_null (tuples of names; ('*',) is all).
    """

    direction: str
    target: str
    table: Name | None = None
    columns: tuple[str, ...] = ()
    query: Statement | None = None
    path: str | None = None
    options: tuple[tuple[str, Any], ...] = ()


# --- definitions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column of CREATE TABLE; `default` is SQL text."""

    name: str
    type: SqlType
    not_null: bool = False
    default: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class KeySpec:
    """PRIMARY KEY or UNIQUE over named columns; name None: the default name."""

    columns: tuple[str, ...]
    primary: bool
    name: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """CHECK (expression): SQL text; `column` is the column it was written at, for the default name."""

    expression: str
    name: str | None = None
    column: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class CreateTable(Utility):
    """CREATE [UNLOGGED | TEMP] TABLE. Storage parameters are kept as given."""

    table: Name
    columns: tuple[ColumnSpec, ...]
    keys: tuple[KeySpec, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    if_not_exists: bool = False
    persistence: str = "permanent"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DropTable(Utility):
    tables: tuple[Name, ...]
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Truncate(Utility):
    tables: tuple[Name, ...]
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class AlterTableAddKey(Utility):
    """ALTER TABLE ... ADD PRIMARY KEY / UNIQUE."""

    table: Name
    key: KeySpec
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterTableAddCheck(Utility):
    table: Name
    check: CheckSpec
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateSchema(Utility):
    name: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropSchema(Utility):
    names: tuple[str, ...]
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Refused(Utility):
    """A statement of PostgreSQL 15 that is not built; the session raises 0A000 with these when it meets it."""

    message: str
    hint: str | None = None
    detail: tuple[str, ...] = field(default=())
