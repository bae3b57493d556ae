"""Runs a plan: one match over its nodes, each handed to the operator in `operators/` that does the work.

`execute` is lazy: the first batches flow before the last are made, and closing the iterator stops the work.
Subqueries of a node are run when the node is first asked for rows; a common table expression when it is first read.

Statements that change rows are not run here (see dml.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from filestore import errors
from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import python_value
from filestore.query.operators import filter as filters
from filestore.query.operators import values
from filestore.query.operators.aggregate import aggregated
from filestore.query.operators.distinct import compared, distinct, union_all
from filestore.query.operators.fused_aggregate import aggregated_fused, fused_loop
from filestore.query.operators.index_scan import index_lookup, index_range
from filestore.query.operators.join import Built, build, probed
from filestore.query.operators.limit import checked_count, limited
from filestore.query.operators.scan import scan
from filestore.query.operators.sort import sorted_rows
from filestore.query.operators.stream import AHEAD_ROWS, Stream
from filestore.query.subquery import hold
from filestore.storage.vector import Batch


def execute(plan: p.Plan, ctx: ExecutionContext) -> Iterator[Batch]:
    """The plan's rows in batches, none of them empty. Errors as its functions raise, 57014 when cancelled.

    Thread rule: consumed by one thread; work is spread over ctx.pool.
    """
    ctx = ctx.with_keys({})  # numbers are a plan's own
    for batch in stream(plan, ctx).batches(ctx):
        ctx.cancel.check()
        yield batch


def stream(plan: p.Plan, ctx: ExecutionContext) -> Stream:
    """The plan's rows as a stream; breakers run when the stream's items are first asked for."""
    return _measured(plan, _stream(plan, ctx), ctx)


def _measured(plan: p.Plan, found: Stream, ctx: ExecutionContext) -> Stream:
    return found if ctx.measured is None else found.measured(id(plan), ctx.measured)


def _stream(plan: p.Plan, ctx: ExecutionContext) -> Stream:
    match plan:
        # FROM table WHERE predicate
        case p.Scan():
            return scan(plan, _held(plan.predicate, ctx), ctx)
        # WHERE key = value, key IN (values)
        case p.IndexLookup():
            return index_lookup(plan, _held(plan.predicate, ctx), ctx)
        # WHERE key BETWEEN low AND high
        case p.IndexRange():
            return index_range(plan, _held(plan.predicate, ctx), ctx)
        # WHERE, HAVING over anything but a table
        case p.Filter():
            return filters.filtered(stream(plan.input, ctx), hold(plan.predicate, ctx, execute), ctx)
        # SELECT expressions
        case p.Project():
            return filters.projected(stream(plan.input, ctx), _all_held(plan.exprs, ctx), ctx)
        # GROUP BY, aggregates
        case p.Aggregate():
            return _aggregate(plan, ctx)
        # JOIN
        case p.Join():
            return _joined(plan, ctx)
        # ORDER BY
        case p.Sort():
            return _sort(plan, ctx)
        # LIMIT, OFFSET
        case p.Limit():
            return _limit(plan, ctx)
        # DISTINCT, DISTINCT ON
        case p.Distinct():
            source = stream(plan.input, ctx)
            return _late(lambda: distinct(source, _all_held(plan.keys, ctx), ctx), source.rows)
        # UNION, INTERSECT, EXCEPT
        case p.SetOp():
            return _set_operation(plan, ctx)
        # WITH
        case p.With():
            return stream(plan.input, _with(plan, ctx))
        case _:
            return _source(plan, ctx)


def _source(plan: p.Plan, ctx: ExecutionContext) -> Stream:
    """Rows that come from no table."""
    match plan:
        # SELECT without FROM
        case p.OneRow():
            return Stream.of(values.ONE_ROW)
        case p.Values():
            rows = [[hold(x, ctx, execute) if not isinstance(x, e.Const) else x for x in row] for row in plan.rows]
            return Stream.of(values.values(rows, [c.type for c in plan.columns], ctx))
        case p.VirtualScan():
            return Stream.of(ctx.system_table(plan.schema, plan.name))
        case p.FunctionScan():
            made = values.function_scan(plan.function, _all_held(plan.args, ctx), plan.columns[0].type, ctx)
            return made if len(plan.columns) == 1 else values.numbered(made, ctx)
        case p.CteScan():
            return values.held_rows(plan.name, ctx)
        case _:
            raise errors.InternalError(f"{type(plan).__name__} is not a query")


def _late(run: Callable[[], Iterator[Batch]], rows: int | None) -> Stream:
    """A breaker's output: it runs when the first batch is asked for; its batches are morsels."""

    def batches() -> Iterator[Batch]:
        for batch in run():
            made = Stream.of(batch)
            for item in made.items:
                yield from made.work(item)

    return Stream.of_batches(batches(), rows)


def _held(expr: e.Expr | None, ctx: ExecutionContext) -> e.Expr | None:
    return None if expr is None else hold(expr, ctx, execute)


def _all_held(exprs: tuple[e.Expr, ...], ctx: ExecutionContext) -> tuple[e.Expr, ...]:
    return tuple(hold(x, ctx, execute) for x in exprs)


def _aggregate(plan: p.Aggregate, ctx: ExecutionContext) -> Stream:
    calls = tuple(c for c in _all_held(plan.calls, ctx) if isinstance(c, e.Aggregate))
    keys = _all_held(plan.keys, ctx)
    source = stream(plan.input, ctx)
    rows = 1 if not keys else source.rows
    loop = fused_loop(plan, source, ctx, execute)
    if loop is not None:
        return _late(lambda: aggregated_fused(source, loop, keys, calls, ctx), rows)
    return _late(lambda: aggregated(source, keys, calls, ctx), rows)


def _joined(plan: p.Join, ctx: ExecutionContext) -> Stream:
    """All joins of a spine: the right sides are hashed in the order of their ranks, each with the keys at hand of those
    before it; then the rows of the leftmost input pass through the joins.
    """
    joins = p.spine(plan)
    ctx = ctx.with_keys(ctx.keys)
    hashed: dict[int, Built] = {}
    for node in sorted(joins, key=lambda j: j.rank):
        hashed[id(node)] = built = build(node, stream(node.right, ctx), _all_held(node.right_keys, ctx), ctx)
        ctx.keys.update(built.handed_out(node))
    rows = stream(joins[-1].left, ctx)
    for node in reversed(joins):
        left_keys, residual = _all_held(node.left_keys, ctx), _held(node.residual, ctx)
        rows = probed(node, rows, hashed[id(node)], left_keys, residual, ctx)
        rows = rows if node is plan else _measured(node, rows, ctx)
    return rows


def _sort(plan: p.Sort, ctx: ExecutionContext) -> Stream:
    keys = [p.SortKey(hold(k.expr, ctx, execute), k.descending, k.nulls_first) for k in plan.keys]
    limit = None if plan.limit is None else checked_count(_count(plan.limit, ctx), "LIMIT")
    source = stream(plan.input, ctx)
    rows = source.rows if limit is None else min(limit, source.rows if source.rows is not None else limit)
    return _late(lambda: sorted_rows(source, keys, limit, ctx), rows)


def _limit(plan: p.Limit, ctx: ExecutionContext) -> Stream:
    limit = None if plan.limit is None else checked_count(_count(plan.limit, ctx), "LIMIT")
    offset = 0 if plan.offset is None else checked_count(_count(plan.offset, ctx), "OFFSET") or 0
    source = stream(plan.input, ctx)
    rows = source.rows if limit is None else limit
    wanted = AHEAD_ROWS if limit is None else min(limit + offset, AHEAD_ROWS)
    return _late(lambda: limited(source.batches(ctx, wanted), limit, offset), rows)


def _count(expr: e.Expr, ctx: ExecutionContext) -> int | None:
    value = python_value(hold(expr, ctx, execute), ctx)
    return None if value is None else int(value)


def _set_operation(plan: p.SetOp, ctx: ExecutionContext) -> Stream:
    left, right = stream(plan.left, ctx), stream(plan.right, ctx)
    if plan.kind is p.SetKind.UNION:
        both = union_all(left, right)
        return both if plan.all else _late(lambda: distinct(both, (), ctx), both.rows)
    types = [c.type for c in plan.columns]
    return _late(lambda: compared(plan.kind, plan.all, left, right, types, ctx), left.rows)


def _with(plan: p.With, ctx: ExecutionContext) -> ExecutionContext:
    for name, query in plan.ctes:
        scope = ctx
        ctx = ctx.with_ctes({name: values.LazyRows(lambda query=query, scope=scope: execute(query, scope))})  # type: ignore[misc]
    return ctx
