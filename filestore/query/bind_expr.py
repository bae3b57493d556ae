"""Binds expressions: names to columns, operators and functions to overloads, literals to constants.

One method per node type of sqlglot; a node that is not in the tables below is refused by name (0A000).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import exp

from filestore.query import expr as e
from filestore.query.bind_arrays import ArrayBinder
from filestore.query.bind_calls import CallBinder
from filestore.query.names import INTERVAL_LITERAL


class ExprBinder(ArrayBinder):
    """Binds the expressions of one clause of one query level; see `BaseBinder`."""

    SPECIAL: ClassVar[dict[str, Callable[[Any, Any], e.Expr]]] = {
        "coalesce": CallBinder.coalesce,
        "nullif": CallBinder.nullif,
        "greatest": lambda self, node: self.extreme(node, "greatest"),
        "least": lambda self, node: self.extreme(node, "least"),
        "row": CallBinder.row,
        "quote_literal": CallBinder.quoted_literal,
        "quote_nullable": CallBinder.quoted_literal,
        "pg_typeof": CallBinder.type_of,
        INTERVAL_LITERAL: CallBinder.interval,
    }
    METHODS: ClassVar[dict[type, Callable[[Any, Any], e.Expr]]] = {
        exp.Literal: CallBinder.literal,
        exp.Concat: CallBinder.joined_literals,
        exp.Null: CallBinder.null,
        exp.Boolean: CallBinder.boolean,
        exp.Parameter: CallBinder.parameter,
        exp.Placeholder: CallBinder.placeholder,
        exp.Column: CallBinder.column,
        exp.Paren: CallBinder.paren,
        exp.Tuple: CallBinder.row,
        exp.And: CallBinder.connected,
        exp.Or: CallBinder.connected,
        exp.Not: CallBinder.negation,
        exp.Is: CallBinder.is_test,
        exp.Neg: CallBinder.unary,
        exp.BitwiseNot: CallBinder.unary,
        exp.NullSafeEQ: CallBinder.distinct_from,
        exp.NullSafeNEQ: CallBinder.distinct_from,
        exp.Between: CallBinder.between,
        exp.In: CallBinder.membership,
        exp.Like: CallBinder.like,
        exp.ILike: CallBinder.like,
        exp.Escape: CallBinder.escaped,
        exp.SimilarTo: CallBinder.similar,
        exp.Exists: CallBinder.exists,
        exp.Subquery: CallBinder.scalar_subquery,
        exp.Select: CallBinder.scalar_subquery,
        exp.Case: CallBinder.case,
        exp.Cast: ArrayBinder.cast,
        exp.Array: ArrayBinder.array,
        exp.Bracket: ArrayBinder.subscript,
        exp.AtTimeZone: CallBinder.at_time_zone,
        exp.Anonymous: CallBinder.call,
        exp.Dot: CallBinder.qualified_call,
        exp.Filter: CallBinder.filtered,
        exp.Extract: CallBinder.extract,
        exp.Substring: CallBinder.substring,
        exp.Trim: CallBinder.trim,
        exp.Overlay: CallBinder.overlay,
        exp.StrPosition: CallBinder.find_position,
        exp.CurrentDate: CallBinder.moment,
        exp.CurrentTimestamp: CallBinder.moment,
        exp.Localtimestamp: CallBinder.moment,
        exp.Localtime: CallBinder.moment,
        exp.CurrentUser: CallBinder.session_name,
        exp.SessionUser: CallBinder.session_name,
        exp.CurrentSchema: CallBinder.session_name,
        exp.CurrentCatalog: CallBinder.session_name,
        exp.CurrentRole: CallBinder.session_name,
        exp.Collate: CallBinder.collated,
        exp.Operator: CallBinder.operator_call,
        exp.Time: CallBinder.type_with_argument,
        exp.Timestamp: CallBinder.type_with_argument,
        exp.Interval: CallBinder.type_with_argument,
    }
