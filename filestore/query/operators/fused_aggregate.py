"""Aggregate over a scan through a generated loop, morsel by morsel; what the loop cannot do goes the vectorised way.

Both ways make the same partials, so a query may begin vectorised and go on fused as soon as its loop is compiled.

Thread rule: as aggregate.py; a compiled loop is called by all workers at once and releases the GIL.

Not here: what fits into a loop (fuse.py), and when it is compiled (compile.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.context import ExecutionContext
from filestore.query.fuse import FusedAggregate, fused
from filestore.query.fuse_code import Bounds
from filestore.query.operators.aggregate import Aggregation, Partial
from filestore.query.operators.scan import Morsel
from filestore.query.operators.stream import Stream
from filestore.query.subquery import Run, hold
from filestore.storage.vector import Batch

MIN_ROWS = 100_000
"""Smaller scans are not worth compiling for, unless compiling is asked for always."""


def fused_loop(
    plan: p.Aggregate, source: Stream, ctx: ExecutionContext, run: Run
) -> tuple[p.Scan, FusedAggregate] | None:
    """The scan and the loop of a plan that can be fused and is worth it."""
    if ctx.compile == "never" or (ctx.compile != "always" and (source.rows or 0) < MIN_ROWS):
        return None
    if any(_has_subquery(x) for x in (*plan.keys, *plan.calls)) or _plan_has_subquery(plan.input):
        return None
    made = fused(plan.input, plan.keys, plan.calls, lambda x: hold(x, ctx, run))
    # The loop reads every row; with joins' keys at hand the vectorised way reads few.
    return None if made is None or any(use.number in ctx.keys for use in made[0].keys) else made


def _has_subquery(expr: e.Expr) -> bool:
    return isinstance(expr, e.ScalarSubquery | e.InSubquery | e.Exists) or any(
        _has_subquery(part) for part in e.children(expr)
    )


def _plan_has_subquery(node: p.Plan) -> bool:
    match node:
        case p.Filter():
            return _has_subquery(node.predicate) or _plan_has_subquery(node.input)
        case p.Project():
            return any(_has_subquery(x) for x in node.exprs) or _plan_has_subquery(node.input)
        case p.Scan():
            return node.predicate is not None and _has_subquery(node.predicate)
        case _:
            return True


def aggregated_fused(
    source: Stream,
    loop: tuple[p.Scan, FusedAggregate],
    keys: Sequence[e.Expr],
    calls: Sequence[e.Aggregate],
    ctx: ExecutionContext,
) -> Iterator[Batch]:
    """Yields the one batch of groups, as `aggregated` does."""
    scan, made = loop
    aggregation = Aggregation(keys, calls, ctx)

    def run(morsel: Morsel) -> Partial | None:
        ctx.cancel.check()
        unit, low, high = morsel

        def zone(index: int) -> Bounds | None:
            found = unit.zone(scan.ordinals[index])
            return None if found is None or found[0] is None else (int(found[0]), int(found[1]))

        batch = unit.batch(scan.ordinals, low, high)
        partial = made.partial(batch, zone, unit.visible(ctx.snapshot, low, high), ctx)
        if partial is not None:
            return partial
        return aggregation.partial(b for b in source.work((morsel,)) if b.length)

    morsels = [morsel for item in source.items for morsel in item]
    yield aggregation.finish(aggregation.merged(ctx.pool.map(run, morsels, source.rows)))
