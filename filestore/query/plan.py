"""Plans as values: what a statement will do, in frozen nodes that the rules rewrite, EXPLAIN prints and the executor
runs.

Every row-producing node states its output as `columns` (names and types). Expressions in a node index the output of its
input; a join's see the left columns, then the right ones. Nothing here executes anything.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from filestore.query.expr import Aggregate as AggregateCall
from filestore.query.expr import Expr
from filestore.storage.schema import CheckDef, KeyDef, TableDef
from filestore.types import SqlType


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A result column; table_oid and attnum (from 1) name the stored column it shows, 0 for an expression."""

    name: str
    type: SqlType
    table_oid: int = 0
    attnum: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    columns: tuple[OutputColumn, ...]


@dataclass(frozen=True, slots=True)
class OneRow(Plan):
    """A single row without columns: the input of SELECT without FROM."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A scan's output column whose values, in all rows that can matter, are among the keys that a join has hashed.

    `number` is the one under which the join hands its keys out (`Join.hands_out`); `source` names them, for display.
    """

    column: int
    number: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Scan(Plan):
    """Visible rows of a stored table.

    `ordinals` are the table's columns read, in output order; with `address` an int64 column of version addresses
    follows them. `predicate` is over the output columns and is applied inside the scan. `keys` may be applied, or
    not: rows without these keys come to nothing further up.
    """

    table: TableDef
    ordinals: tuple[int, ...]
    predicate: Expr | None = None
    address: bool = False
    keys: tuple[KeyUse, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexLookup(Plan):
    """Rows of a table found by equality on every column of a key: `keys` are constant or parameter expressions of the
    key columns' types, one tuple per looked-up key (IN lists give several). `predicate` holds the rest. Output as in
    Scan."""

    table: TableDef
    key: KeyDef
    keys: tuple[tuple[Expr, ...], ...]
    ordinals: tuple[int, ...]
    predicate: Expr | None = None
    address: bool = False


@dataclass(frozen=True, slots=True)
class IndexRange(Plan):
    """Rows of a table in key order between bounds on a prefix of a key's columns: equal on `prefix`, then low/high on
    the next column. Bounds are constant or parameter expressions; None is unbounded. Output as in Scan."""

    table: TableDef
    key: KeyDef
    prefix: tuple[Expr, ...]
    low: Expr | None
    low_inclusive: bool
    high: Expr | None
    high_inclusive: bool
    ordinals: tuple[int, ...]
    predicate: Expr | None = None
    address: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class VirtualScan(Plan):
    """Rows of a system table (pg_catalog, information_schema), made from the registry when it runs."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class FunctionScan(Plan):
    """A set-returning function in FROM, e.g. generate_series; `args` read nothing."""

    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Values(Plan):
    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True, slots=True)
class CteScan(Plan):
    """Rows of the materialised common table expression `name` (unique within the statement)."""

    name: str


@dataclass(frozen=True, slots=True)
class With(Plan):
    """Runs `ctes` in order, once each and only when read, then `input`."""

    ctes: tuple[tuple[str, Plan], ...]
    input: Plan


@dataclass(frozen=True, slots=True)
class Filter(Plan):
    input: Plan
    predicate: Expr


@dataclass(frozen=True, slots=True)
class Project(Plan):
    input: Plan
    exprs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Aggregate(Plan):
    """Groups by `keys` (none: one row always) and computes `calls`; output is keys, then calls."""

    input: Plan
    keys: tuple[Expr, ...]
    calls: tuple[AggregateCall, ...]


class JoinKind(enum.Enum):
    INNER = "inner"
    LEFT = "left"
    RIGHT = "right"
    FULL = "full"
    CROSS = "cross"
    SEMI = "semi"
    ANTI = "anti"
    RIGHT_SEMI = "right semi"
    RIGHT_ANTI = "right anti"


@dataclass(frozen=True, slots=True)
class Join(Plan):
    """Hash join on equal `left_keys`/`right_keys` (each over its own side), with `residual` over left columns then
    right.

    Without keys: nested loops over blocks. SEMI and ANTI output the left columns only, RIGHT_SEMI and RIGHT_ANTI the
    right ones: the side that is hashed. `rank` orders the hashing of the right sides of joins that are each other's
    left input (`spine`), least first; of a side's keys, `hands_out` gives (position, number) of those that scans
    which run later may use (`KeyUse`).
    """

    kind: JoinKind
    left: Plan
    right: Plan
    left_keys: tuple[Expr, ...]
    right_keys: tuple[Expr, ...]
    residual: Expr | None = None
    rank: int = 0
    hands_out: tuple[tuple[int, int], ...] = ()


_SPINE = frozenset({JoinKind.INNER, JoinKind.CROSS, JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI})


def spine(plan: Join) -> list[Join]:
    """Joins that are each other's left input and keep the left columns where they are, top first: one stream of rows
    passes through all of them.
    """
    found = [plan]
    while (
        found[-1].kind in _SPINE and isinstance(below := found[-1].left, Join) and below.kind in _SPINE
    ):
        found.append(below)
    return found


@dataclass(frozen=True, slots=True)
class SortKey:
    expr: Expr
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True)
class Sort(Plan):
    """Orders the input; `limit` (rows to keep, offset included) makes it a top-k."""

    input: Plan
    keys: tuple[SortKey, ...]
    limit: Expr | None = None


@dataclass(frozen=True, slots=True)
class Limit(Plan):
    """LIMIT/OFFSET; both are int8 expressions that read no columns."""

    input: Plan
    limit: Expr | None
    offset: Expr | None


@dataclass(frozen=True, slots=True)
class Distinct(Plan):
    """Distinct rows; with `keys` DISTINCT ON: the first row of each key in input order."""

    input: Plan
    keys: tuple[Expr, ...] = ()


class SetKind(enum.Enum):
    UNION = "union"
    INTERSECT = "intersect"
    EXCEPT = "except"


@dataclass(frozen=True, slots=True)
class SetOp(Plan):
    """Set operation over inputs of equal types; `all` keeps duplicates."""

    kind: SetKind
    all: bool
    left: Plan
    right: Plan


# Statements that change rows. `columns` describe RETURNING's output, empty without one.


@dataclass(frozen=True, slots=True)
class Insert(Plan):
    """`source` yields whole rows in the table's column order and types (defaults and casts already in it).

    `checks` are (constraint, condition over the row); `returning` is over the new row, None without RETURNING.
    """

    table: TableDef
    source: Plan
    checks: tuple[tuple[CheckDef, Expr], ...] = ()
    returning: tuple[Expr, ...] | None = None


@dataclass(frozen=True, slots=True)
class Update(Plan):
    """`source` yields (address, extra columns ...): candidate versions and the columns of UPDATE ... FROM.

    `predicate`, `assignments` (ordinal, value) are over the table's whole row followed by the extra columns, so that
    a row that changed while its writer was waited for can be looked at again (READ COMMITTED). The last extra columns
    are `values`, over the table's row and the extra columns before them: assigned values with correlated subqueries,
    which the source computes with the rows. `checks` are over the new row, `returning` over the new row followed by
    the extra columns.
    """

    table: TableDef
    source: Plan
    predicate: Expr | None
    assignments: tuple[tuple[int, Expr], ...]
    checks: tuple[tuple[CheckDef, Expr], ...] = ()
    returning: tuple[Expr, ...] | None = None
    values: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete(Plan):
    """As Update, without assignments; `returning` is over the old row followed by the extra columns."""

    table: TableDef
    source: Plan
    predicate: Expr | None
    returning: tuple[Expr, ...] | None = None


@dataclass(frozen=True, slots=True)
class Explain(Plan):
    """EXPLAIN of a bound statement; `options` such as ("analyze", True), ("format", "json")."""

    statement: Bound
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound statement, ready to run with parameters: what the plan cache keeps.

    kind: "select" | "insert" | "update" | "delete" | "explain". `tables` are the definitions it depends on; it is
    stale as soon as the registry holds another definition under one of their oids. `little`: whatever the tables
    hold, running it touches few rows (it only looks up keys). `waits`: it may call pg_sleep, so it runs on a worker,
    whatever it reads.
    """

    kind: str
    plan: Plan
    parameters: tuple[SqlType, ...] = ()
    tables: tuple[TableDef, ...] = ()
    little: bool = False
    waits: bool = False
