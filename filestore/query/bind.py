"""The binder's door: a parsed statement and a catalog in, a `Bound` plan out.

sqlglot ends here: below are column numbers and types. What is not built is refused by name (0A000), by
whitelist of node types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.bind_context import Context
from filestore.query.bind_dml import bind_delete, bind_insert, bind_update
from filestore.query.bind_expr import ExprBinder
from filestore.query.bind_query import bind_query
from filestore.query.coerce import Coercion, can_coerce
from filestore.query.parse import expression
from filestore.query.plan import Bound, OutputColumn
from filestore.query.rules.decorrelate import decorrelate
from filestore.query.scope import Catalog, Scope
from filestore.query.statements import Explain, Source, Statement
from filestore.types import TEXT, Kind, SqlType


def bind(statement: Statement, catalog: Catalog, parameter_types: Sequence[SqlType | None] = ()) -> Bound:
    """Names resolved, types chosen, parameters inferred. `parameter_types[i]` is the declared type of $i+1,
    None if undeclared.

    The plan is as written; `optimize.optimize` rewrites it. Errors: 42xxx and 22P02 with positions, 0A000 for
    what is not built.
    """
    if isinstance(statement.utility, Explain):
        inner = bind(statement.utility.statement, catalog, parameter_types)
        columns = (OutputColumn("QUERY PLAN", TEXT),)
        return Bound("explain", p.Explain(columns, inner, statement.utility.options), inner.parameters, inner.tables)
    if statement.tree is None:
        raise errors.InternalError(f"a {statement.kind} statement has no plan")
    source = statement.source or Source(statement.text, 0)
    context = Context(catalog, Coercion(parameter_types), source)
    try:
        plan = _plan(context, statement.tree)
        if context.correlated:
            plan = decorrelate(plan)
    except RecursionError:
        raise errors.StatementTooComplex(
            "stack depth limit exceeded", hint="The statement nests expressions too deeply; split it up."
        ) from None
    coercion = context.coercion
    coercion.highest = max(coercion.highest, len(parameter_types))
    for number, given in enumerate(
        parameter_types, 1
    ):  # declared as unknown and used nowhere: text, as libpq's drivers expect
        if given is None and number not in coercion.parameters:
            coercion.parameters[number] = TEXT
    return Bound(statement.kind, plan, coercion.types(), tuple(context.tables), waits=context.waits)


def bind_argument(text: str, start: int, number: int, target: SqlType, catalog: Catalog) -> e.Expr:
    """The value of EXECUTE's argument `number`, as the parameter's type; `start` is its offset in the client's text.

    Errors: 42804 when its type does not fit; 42703, for it reads no columns; 0A000 for a subquery.
    """
    tree, source = expression(text, start)
    context = Context(catalog, Coercion(()), source)

    def no_subquery(_node: object, _outer: Scope) -> tuple[p.Plan, Scope]:
        raise errors.FeatureNotSupported("cannot use subquery in EXECUTE parameter", position=start + 1)

    binder = ExprBinder(context, Scope(None), "EXECUTE parameters", no_subquery)
    expr, coercion = binder.bind(tree), context.coercion
    if coercion.highest:
        raise errors.UndefinedParameter(f"there is no parameter ${coercion.highest}", position=start + 1)
    if expr.type.kind is not Kind.UNKNOWN and not can_coerce(expr.type, target, "assignment"):
        raise errors.DatatypeMismatch(
            f"parameter ${number} of type {expr.type.name} cannot be coerced to the expected type {target.name}",
            hint="You will need to rewrite or cast the expression.",
            position=start + 1,
        )
    return coercion.to(expr, target, "assignment", binder.position(tree))


def _plan(context: Context, tree: Any) -> p.Plan:
    from sqlglot import exp

    match tree:
        case exp.Insert():
            return bind_insert(context, tree)
        case exp.Update():
            return bind_update(context, tree)
        case exp.Delete():
            return bind_delete(context, tree)
        case _:
            plan, _ = bind_query(context, tree, None)
            return plan
