"""Binds what little there is of arrays, in their text form: ARRAY(query), array[i], `x = ANY (array)`.

No value is an array. The columns of system tables that are arrays in PostgreSQL are text here (`{1,2}`),
and the queries that tools ask about them need no more than this. An item has type unknown: it becomes what
it is compared with.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_calls import CallBinder
from filestore.query.plan import OutputColumn, Plan
from filestore.types import BOOL, INT4, TEXT, UNKNOWN, Kind


class ArrayBinder(CallBinder):
    """Adds to the calls what is written with ARRAY, brackets and ANY."""

    def array(self, node: Any) -> e.Expr:
        """ARRAY(query) as text; ARRAY[...] is refused where it is a value."""
        query = _query_of(node)
        if query is None:
            raise self.refuse("array constructors", node)
        plan, _ = self.subquery(query, self.scope)
        if len(plan.columns) != 1:
            raise self.refuse("ARRAY of several columns", node)
        return e.ScalarSubquery(TEXT, _gathered(plan))

    def subscript(self, node: Any) -> e.Expr:
        """array[i] of an array in text form."""
        array = self.bind(node.this)
        if (
            array.type.kind is not Kind.TEXT
            or isinstance(array, e.Const | e.Param)
            or len(node.expressions) != 1
        ):
            raise self.refuse("array subscripts", node)
        index = node.expressions[0]
        number = self.coercion.to(self.bind(index), INT4, position=self.position(index))
        if isinstance(number, e.Const):  # the parser counts literals from 0
            number = e.Const(INT4, int(number.value) + 1)
        return e.Call(UNKNOWN, "array_item", (array, number))

    def contained(self, node: Any, right: Any, *, any_of: bool) -> e.Expr | None:
        """`x = ANY (array)`, `x <> ALL (array)` for an array in text form; None for anything else."""
        if _query_of(right) is None and not isinstance(
            right, exp.Column | exp.Anonymous | exp.Dot | exp.Cast
        ):
            return None
        array = self.bind(right)
        if array.type.kind is not Kind.TEXT or isinstance(array, e.Const | e.Param):
            return None
        item = self.coercion.to(self.bind(node.this), TEXT, "assignment", self.position(node.this))
        found = e.Call(BOOL, "array_contains", (array, item))
        return found if any_of else e.Not(BOOL, found)

    def cast(self, node: Any) -> e.Expr:
        """As for any type; a cast of an array in text form to an array type leaves it as it is."""
        if getattr(node.to, "this", None) is exp.DType.ARRAY and isinstance(node.this, exp.Column):
            array = self.bind(node.this)
            if array.type.kind is Kind.TEXT:
                return array
        return super().cast(node)


def _query_of(node: Any) -> Any:
    """The query of ARRAY(query), None for anything else."""
    if (
        isinstance(node, exp.Array)
        and len(node.expressions) == 1
        and isinstance(node.expressions[0], exp.Query)
    ):
        return node.expressions[0]
    return None


def _gathered(plan: Plan) -> Plan:
    """One row: the only column of `plan`, in its order, as an array in text form."""
    column = plan.columns[0]
    item: e.Expr = e.Column(column.type, 0, column.name)
    if column.type.kind is not Kind.TEXT:
        item = e.Cast(TEXT, item, True)
    quoted = e.Call(TEXT, "array_quote", (item,))
    columns = (OutputColumn("array", TEXT),)
    call = e.Aggregate(TEXT, "string_agg", (quoted, e.Const(TEXT, ",")))
    joined = e.Coalesce(TEXT, (e.Column(TEXT, 0, "array"), e.Const(TEXT, "")))
    text = e.Call(TEXT, "concat", (e.Call(TEXT, "concat", (e.Const(TEXT, "{"), joined)), e.Const(TEXT, "}")))
    return p.Project(columns, p.Aggregate(columns, plan, (), (call,)), (text,))
