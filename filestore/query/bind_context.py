"""What the binders of one statement share: context, aggregates met, names and positions read off sqlglot's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from filestore import errors
from filestore.query import expr as e
from filestore.query.coerce import Coercion
from filestore.query.names import MARK, fold, shorten
from filestore.query.plan import Plan
from filestore.query.scope import Catalog
from filestore.query.statements import Source
from filestore.storage.schema import TableDef

if TYPE_CHECKING:
    from filestore.query.plan import OutputColumn


NO_FUNCTION_HINT = "No function matches the given name and argument types. You might need to add explicit type casts."


@dataclass(frozen=True, slots=True)
class AggregateRef(e.Expr):
    """Stands for the aggregate call `number` of its query level until the Aggregate node is built."""

    number: int


@dataclass(slots=True)
class Context:
    """One statement being bound: catalog, parameters, tables met, common table expressions in scope."""

    catalog: Catalog
    coercion: Coercion
    source: Source
    tables: list[TableDef] = field(default_factory=list)
    ctes: list[dict[str, tuple[str, tuple[OutputColumn, ...], list[str]]]] = field(default_factory=list)
    cte_count: int = 0
    correlated: bool = False
    waits: bool = False
    offsets: dict[int, tuple[Any, int | None]] = field(default_factory=dict)  # of nodes, by id; see `offset_of`


@dataclass(slots=True)
class Collected:
    """Aggregate calls of one query level, and where columns were first read outside of them."""

    calls: list[e.Aggregate] = field(default_factory=list)
    first_read: dict[int, tuple[int | None, str]] = field(default_factory=dict)


def name_of(identifier: Any) -> str:
    """The folded name of an Identifier (or of a marked string)."""
    if isinstance(identifier, str):
        return fold(identifier.replace(MARK, ""))
    if not isinstance(identifier, exp.Expr):
        raise errors.SqlSyntaxError("syntax error: a name is missing")
    text = str(identifier.this).replace(MARK, "")
    return shorten(text) if identifier.args.get("quoted") else fold(text)


def offset_of(node: Any, known: dict[int, tuple[Any, int | None]] | None = None) -> int | None:
    """Offset of the leftmost token below a node, as far as sqlglot kept it. `known`: what was found before, for chains
    of operators, which are asked link by link.
    """
    best: int | None = None
    stack = [node]
    while stack:
        current = stack.pop()
        before = None if known is None else known.get(id(current))
        if before is not None:
            if before[1] is not None and (best is None or before[1] < best):
                best = before[1]
            continue
        meta = current._meta
        if meta and "start" in meta and (best is None or meta["start"] < best):
            best = meta["start"]
        if isinstance(current, exp.Parameter) and current.this._meta:  # the sign before the number
            start = current.this._meta["start"] - 1
            best = start if best is None or start < best else best
            continue
        for value in current.args.values():
            if isinstance(value, exp.Expr):
                stack.append(value)
            elif isinstance(value, list):
                stack.extend(v for v in value if isinstance(v, exp.Expr))
    if known is not None:
        known[id(node)] = node, best
    return best


def end_of(node: Any) -> int | None:
    """Offset behind the rightmost token below a node, as far as sqlglot kept it."""
    ends = [n._meta["end"] + 1 for n in node.walk() if n._meta and "end" in n._meta]
    return max(ends) if ends else None


def row_items(node: Any) -> list[Any] | None:
    """The items of a row value (a, b) or ROW(a, b); None for anything else."""
    if isinstance(node, exp.Tuple):
        return list(node.expressions)
    if isinstance(node, exp.Anonymous) and name_of(node.this) == "row":
        return list(node.expressions)
    return None


def array_texts(text: str, position: int | None) -> list[str | None]:
    """The items of a one-dimensional array literal such as {1,NULL,"a b"}; 22P02 when it is malformed."""
    items: list[str | None] = []
    body = text.strip()
    if not body.endswith("}") or "{" in body[1:]:
        raise errors.InvalidTextRepresentation(f'malformed array literal: "{text}"', position=position)
    current, quoted, at, was_quoted = "", False, 1, False
    end = len(body) - 1
    while at < end:
        c = body[at]
        if c == "\\" and at + 1 < end:
            current += body[at + 1]
            at += 1
        elif c == '"':
            quoted, was_quoted = not quoted, True
        elif c == "," and not quoted:
            items.append(_array_item(current, was_quoted))
            current, was_quoted = "", False
        else:
            current += c
        at += 1
    if items or current or was_quoted:
        items.append(_array_item(current, was_quoted))
    return items


def _array_item(text: str, quoted: bool) -> str | None:
    if quoted:
        return text
    text = text.strip()
    return None if text.upper() == "NULL" else text


def cast_columns(plan: Plan, exprs: Sequence[e.Expr]) -> Plan:
    """`plan` with each column cast as the comparison wants it; itself when nothing is cast."""
    from filestore.query.plan import OutputColumn, Project

    if all(isinstance(x, e.Column) for x in exprs):
        return plan
    columns = tuple(
        OutputColumn(c.name, x.type, c.table_oid, c.attnum) for c, x in zip(plan.columns, exprs, strict=True)
    )
    return Project(columns, plan, tuple(exprs))
