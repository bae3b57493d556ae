"""What is kept of a statement's shape: its plan, and the compact forms that the plan may have.

A `Planned` is made once for a text (its literals taken out), its parameters' types and a registry version, and serves
every session and protocol from the plan cache. Thread rule: its compact forms keep scratch memory, so they are used
with the engine lock held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filestore.query import plan as p
from filestore.query.literals import parse_literal
from filestore.query.point import PointSelect, point_of
from filestore.query.point_write import PointInsert, PointWrite, write_of
from filestore.query.statements import Statement
from filestore.query.vectors import constant
from filestore.settings import Settings
from filestore.storage.vector import Vector
from filestore.types import INT4, INT8, INTEGER_KINDS, NUMERIC, SqlType

LITERAL_TYPES: dict[str, SqlType | None] = {"int4": INT4, "int8": INT8, "numeric": NUMERIC, "string": None}
# Decimal texts of up to this many digits are integers of every type that they were given.
_SHORT = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """A bound statement with its compact forms: `point` for a SELECT, `write` for a statement that writes one row."""

    bound: p.Bound
    point: PointSelect | None
    write: PointWrite | PointInsert | None


@dataclass(slots=True)
class Prepared:
    """A prepared statement: bound once, and bound again when the registry has changed since.

    statement is None for an empty query; columns is None when no rows come back. point is its compiled form, if it
    has one.
    """

    text: str
    statement: Statement | None
    given: tuple[SqlType | None, ...] = ()
    parameters: tuple[SqlType, ...] = ()
    columns: tuple[p.OutputColumn, ...] | None = None
    bound: p.Bound | None = None
    version: int = -1
    planned: Planned | None = None
    point: PointSelect | None = None


def prepared_of(text: str, found: Planned, version: int) -> Prepared:
    """A statement that is planned already, as a prepared one; it has no statement to be planned anew from."""
    bound = found.bound
    columns = bound.plan.columns or None
    return Prepared(text, None, (), bound.parameters, columns, bound, version, found, found.point)


def planned(bound: p.Bound) -> Planned:
    """A bound statement with what can be made of it."""
    return Planned(bound, point_of(bound), write_of(bound))


def literal_vectors(literals: Sequence[tuple[str, str]], types: Sequence[SqlType], settings: Settings) -> list[Vector]:
    """The literals that were taken out of a statement, as the parameters that they became.

    Errors as `parse_literal`.
    """
    return [_literal(t, text, settings) for (_, text), t in zip(literals, types, strict=True)]


def _literal(sql_type: SqlType, text: str, settings: Settings) -> Vector:
    if sql_type.kind in INTEGER_KINDS and (len(text) < _SHORT or (len(text) < 10 and sql_type.width >= 4)):
        if text.isdecimal() and text.isascii():
            return Vector(sql_type, np.array((int(text),), sql_type.dtype))
    return constant(sql_type, parse_literal(sql_type, text, settings))
