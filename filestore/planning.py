"""What is kept of a statement's shape: its plan, and the compact forms that the plan may have.

A `Planned` is made once for a text (its literals taken out), its parameters' types and a registry version, and serves
every session and protocol from the plan cache. Thread rule: its compact forms keep scratch memory, so they are used
with the engine lock held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.query import plan as p
from filestore.query.literal_rows import LiteralRows
from filestore.query.literals import parse_literal
from filestore.query.parse import parse
from filestore.query.point import PointSelect, point_of
from filestore.query.point_write import PointInsert, PointWrite, write_of
from filestore.query.statements import Statement
from filestore.query.vectors import constant
from filestore.query.widen import can_widen, widened
from filestore.settings import Settings
from filestore.storage.vector import Vector
from filestore.types import INT4, INT8, INTEGER_KINDS, NUMERIC, SqlType

if TYPE_CHECKING:
    from filestore.session import Session

LITERAL_TYPES: dict[str, SqlType | None] = {"int4": INT4, "int8": INT8, "numeric": NUMERIC, "string": None}
# Fewer decimal digits than these always fit int2, and int4: their values need no look at the range.
_INT2_DIGITS, _INT4_DIGITS = 5, 10


@dataclass(frozen=True, slots=True)
class Planned:
    """A bound statement with its compact forms: `point` for a SELECT, `write` for a statement that writes one row."""

    bound: p.Bound
    point: PointSelect | None
    write: PointWrite | PointInsert | None


@dataclass(slots=True)
class Prepared:
    """A prepared statement: bound once, and bound again when the registry has changed since.

    statement is None for an empty query; columns is None when no rows come back. planned is None for a statement that
    is not planned; version is the registry's that it was planned for.
    """

    text: str
    statement: Statement | None
    given: tuple[SqlType | None, ...] = ()
    parameters: tuple[SqlType, ...] = ()
    columns: tuple[p.OutputColumn, ...] | None = None
    version: int = -1
    planned: Planned | None = None

    @property
    def point(self) -> PointSelect | None:
        """Its compiled form, if it has one."""
        return None if self.planned is None else self.planned.point


def prepared_of(text: str, found: Planned, version: int) -> Prepared:
    """A statement that is planned already, as a prepared one; it has no statement to be planned anew from."""
    bound = found.bound
    return Prepared(text, None, (), bound.parameters, bound.plan.columns or None, version, found)


def planned(bound: p.Bound) -> Planned:
    """A bound statement with what can be made of it."""
    return Planned(bound, point_of(bound), write_of(bound))


def literal_vectors(literals: Sequence[tuple[str, str]], types: Sequence[SqlType], settings: Settings) -> list[Vector]:
    """The literals that were taken out of a statement, as the parameters that they became.

    Errors as `parse_literal`.
    """
    return [_literal(t, text, settings) for (_, text), t in zip(literals, types, strict=True)]


def _literal(sql_type: SqlType, text: str, settings: Settings) -> Vector:
    if sql_type.kind in INTEGER_KINDS and len(text) < (_INT2_DIGITS if sql_type.width < 4 else _INT4_DIGITS):
        if text.isdecimal() and text.isascii():
            return Vector(sql_type, np.array((int(text),), sql_type.dtype))
    return constant(sql_type, parse_literal(sql_type, text, settings))


def bind_literals(
    session: Session, statement: Statement, parameters: Sequence[Vector]
) -> tuple[Planned, Sequence[Vector]]:
    """Binds a statement of a simple Query by way of the plan cache, keyed by its text without its literals."""
    if parameters:
        return planned(session.plan(statement, [v.type for v in parameters])), parameters
    if statement.rows is not None:
        return _bind_rows(session, statement, statement.rows) or (planned(session.plan(parse(statement.text)[0])), ())
    version, shape, literals = session.registry_version, statement.shape, statement.literals
    types = tuple(LITERAL_TYPES[kind] for kind, _ in literals)
    key = (shape or statement.text, types, session.settings.search_path, version)
    found = None if version < 0 else session.database.plans.get(key)
    if found is None or len(found.bound.parameters) != len(literals):  # that is a prepared statement's
        bound = _bind_shape(session, shape, types) if literals else session.plan(statement)
        if bound is None:
            # What cannot be bound without its literals (ORDER BY 1) is bound with them; so are errors, for their
            # positions.
            return planned(session.plan(parse(statement.text)[0])), ()
        found = planned(bound)
        if version >= 0:
            session.database.plans.put(key, found)
    try:
        return found, literal_vectors(literals, found.bound.parameters, session.settings)
    except errors.Error:
        session.plan(parse(statement.text)[0])  # words the error, with its position
        raise


def _bind_rows(session: Session, statement: Statement, rows: LiteralRows) -> tuple[Planned, Sequence[Vector]] | None:
    """An INSERT of many rows of literals as that of one row of parameters; None for what has to be parsed whole."""
    key = (rows.template, (), session.settings.search_path, version := session.registry_version)
    found = None if version < 0 else session.database.plans.get(key)
    if found is None:
        try:
            found = planned(session.plan(replace(statement, text=rows.template, rows=None)))
        except errors.Error:
            return None
        if version >= 0:
            session.database.plans.put(key, found)
    if not can_widen(found.bound):
        return None
    vectors = rows.vectors(found.bound.parameters, session.settings)
    return None if vectors is None else (Planned(widened(found.bound, rows.count), None, None), vectors)


def _bind_shape(session: Session, shape: str, types: Sequence[SqlType | None]) -> p.Bound | None:
    """Binds a statement without its literals, None when that cannot be."""
    known = session.database.parsed.get(shape)
    try:
        template = parse(shape)[0] if known is None else known
        bound = session.plan(template, types)
    except errors.Error:
        return None
    if known is None:
        session.database.parsed.put(shape, template)
    return bound
