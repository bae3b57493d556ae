"""Fusing Aggregate over Filter, Project and Scan into one generated loop over the columns of a morsel.

`fused(node, ...)` looks at a plan once and gives a `FusedAggregate`, or None when something in it is not of the
simple kinds: columns of integers, dates, timestamps, booleans, scaled decimals and dictionary-encoded strings;
comparisons, + - *, AND, OR, NOT, CASE, conditions on one dictionary column; keys that are columns; count,
sum, avg, min and max. `FusedAggregate.partial` then makes the same `Partial` of a morsel as the vectorised path
does, to the bit, or None when that morsel does not fit (plain strings, too many groups, sums that the columns'
bounds do not prove safe): then the morsel goes the vectorised way.

No overflow checks in the loop: before it, interval arithmetic over the morsel's column bounds (from the zone map,
else two fast passes) proves that no intermediate value and no sum can leave 64 bits. Constants are arguments, so a
plan's shape is compiled once for all its constants. What the vectorised operators mean, this must mean; the tests
run both over random data.

Thread rule: a loop's values are made by one thread and not changed; `partial` is called by all workers.

Not here: compiling and caching (compile.py), conditions of a scan alone (fuse_filter.py), joins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.accumulate import ExactSum
from filestore.query.compile import COMPILER
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read, evaluate, truth
from filestore.query.fuse_code import WORD_KINDS, Bounds, Fold, Ranges, Shape, Unfit, Writer, is_text, within
from filestore.query.kernels import frozen
from filestore.query.operators.aggregate import Partial
from filestore.query.vectors import INT64_MAX
from filestore.storage.vector import Array, Batch, Vector
from filestore.types import INTEGER_KINDS, Kind, SqlType

MAX_GROUPS = 4096
"""Places of directly addressed groups: their accumulators stay in the first-level caches."""
_FOLDS = ("count_star", "count", "sum", "avg", "min", "max")


# --- the plan --------------------------------------------------------------------------------------------------------


def flattened(
    node: p.Plan, conditions: list[e.Expr], exprs: Sequence[e.Expr]
) -> tuple[p.Scan, list[e.Expr], Sequence[e.Expr]] | None:
    """(scan, conditions, expressions) over the scan's columns, with Filters and Projects folded in."""
    while not isinstance(node, p.Scan):
        if isinstance(node, p.Filter):
            conditions = [*e.conjuncts(node.predicate), *conditions]
        elif isinstance(node, p.Project):
            inner = node.exprs

            def replace(x: e.Expr, inner: tuple[e.Expr, ...] = inner) -> e.Expr:
                return inner[x.index] if isinstance(x, e.Column) else x

            conditions = [e.transform(c, replace) for c in conditions]
            exprs = [e.transform(x, replace) for x in exprs]
        else:
            return None
        node = node.input
    return node, [*e.conjuncts(node.predicate), *conditions], exprs


@dataclass(slots=True)
class FusedAggregate:
    """A plan's loop: source text and what it is called with."""

    types: list[SqlType]
    keys: list[int]
    folds: list[Fold]
    calls: list[tuple[str, int, int]]  # name, its fold, the fold that counts its values
    shape: Shape
    proofs: list[Callable[[Ranges], Bounds]]
    conditions: list[tuple[str, frozenset[int]]]
    strict: frozenset[int]  # columns of CASE, OR, NOT: must have no nulls
    argument_types: dict[int, SqlType] = field(default_factory=dict)
    compiled: dict[Any, Callable[..., Any]] = field(default_factory=dict)

    def partial(
        self, batch: Batch, zone: Callable[[int], Bounds | None], visible: Array | None, ctx: ExecutionContext
    ) -> Partial | None:
        """The groups of a morsel, as Aggregation.partial; None when it has to go the vectorised way."""
        try:
            arrays, sizes, lows = self._arrays(batch, zone)
        except Unfit:
            return None
        total = math.prod(sizes)
        if total > MAX_GROUPS:
            return None
        nulls = {i for i in self.shape.columns if batch.columns[i].valid is not None}
        if nulls & (self.strict | set(self.keys)):
            return None
        tables = [self._table(batch.columns[i], c, ctx) for i, c in self.shape.tables]
        if any(t is None for t in tables):
            return None
        masks = [batch.columns[i].valid for i in sorted(nulls)]
        valid = [frozen(m) for m in masks if m is not None]
        sums = np.zeros((total, len(self.folds)), np.int64)
        for k, fold in enumerate(self.folds):
            if fold.kind in ("min", "max"):
                sums[:, k] = INT64_MAX if fold.kind == "min" else -(2**63)
        firsts = np.full(total, -1, np.int64)
        layout = np.array([*lows, *sizes], np.int64)
        constants = np.array(self.shape.constants or [0], np.int64)
        args = [
            batch.length, *arrays, *valid, *tables, *([frozen(visible)] if visible is not None else []),
            constants, layout, sums, firsts,
        ]  # fmt: skip
        kernel = self._kernel(nulls, visible is not None, args, ctx)
        if kernel is None:
            return None
        kernel(*args)
        return self._partial(batch, sums, firsts)

    def _kernel(
        self, nulls: set[int], masked: bool, args: Sequence[Any], ctx: ExecutionContext
    ) -> Callable[..., Any] | None:
        """The compiled loop for these arguments, once it is there."""
        variant = (frozenset(nulls), masked, tuple(a.dtype.char for a in args[1 : 1 + len(self.shape.columns)]))
        kernel = self.compiled.get(variant)
        if kernel is None:
            kernel = COMPILER.get(self.source(nulls, masked), args, ctx.compile)
            if kernel is not None:
                self.compiled[variant] = kernel
        return kernel

    def _arrays(self, batch: Batch, zone: Callable[[int], Bounds | None]) -> tuple[list[Array], list[int], list[int]]:
        """The columns' arrays, and the sizes and least values of the keys. Raises Unfit."""
        memory: dict[int, Bounds] = {}

        def ranges(index: int) -> Bounds:
            if index not in memory:
                found = zone(index)
                if found is None:
                    data = batch.columns[index].data
                    found = (int(data.min()), int(data.max())) if len(data) else (0, 0)
                memory[index] = found
            return memory[index]

        arrays = []
        for index in self.shape.columns:
            column = batch.columns[index]
            if column.dictionary is None and is_text(self.types[index]):
                raise Unfit("plain strings")
            arrays.append(frozen(column.data))
        sizes, lows = [], []
        for index in self.keys:
            words = batch.columns[index].dictionary
            low, high = (0, len(words) - 1) if words is not None else ranges(index)
            sizes.append(high - low + 1)
            lows.append(low)
        for proof in self.proofs:
            proof(ranges)
        for fold in self.folds:
            if fold.word is not None:
                low, high = fold.word.bounds(ranges)
                if fold.kind == "sum":
                    within((low * batch.length, high * batch.length), INT64_MAX)
        return arrays, sizes, lows

    def _table(self, column: Vector, condition: e.Expr, ctx: ExecutionContext) -> Array | None:
        """The condition's truth for every code of a dictionary."""
        words = column.dictionary
        if words is None or column.data.dtype.itemsize > 2:
            return None
        index = next(iter(columns_read(condition)))
        row = Batch([words] * (index + 1), len(words))
        # An entry for every code that the type can hold: codes at null rows may be anything.
        table = np.zeros(1 << (8 * column.data.dtype.itemsize), np.bool_)
        table[: len(words)] = truth(evaluate(condition, row, ctx))
        return frozen(table)

    def _partial(self, batch: Batch, sums: Array, firsts: Array) -> Partial:
        used = np.flatnonzero(firsts >= 0) if self.keys else np.zeros(1, np.int64)
        order = used[np.argsort(firsts[used], kind="stable")]
        keys = [batch.columns[i].take(firsts[order]) for i in self.keys]
        return Partial(keys, len(order), [self._state(call, sums[order]) for call in self.calls])

    def _state(self, call: tuple[str, int, int], sums: Array) -> Any:
        name, at, counter = call
        values, count = np.ascontiguousarray(sums[:, at]), np.ascontiguousarray(sums[:, counter])
        word = self.folds[at].word
        match name:
            case "count_star" | "count":
                return count
            case "sum" | "avg":
                assert word is not None
                return ExactSum(values >> 63, values.view(np.uint64), word.scale, count)
        sql_type = self.argument_types[at]
        some = count > 0
        data = np.where(some, values, 0).astype(sql_type.dtype if sql_type.kind is not Kind.NUMERIC else np.int64)
        return Vector(sql_type, data, None if some.all() else some, None, 0 if word is None else word.scale)

    # --- source text

    def source(self, nulls: set[int], masked: bool) -> str:
        """The kernel for morsels in which the columns `nulls` have nulls."""
        names = [f"c{k}" for k in range(len(self.shape.columns))]
        valid = {i: f"v{k}" for k, i in enumerate(sorted(nulls))}
        tables = [f"t{k}" for k in range(len(self.shape.tables))]
        params = [
            "n",
            *names,
            *valid.values(),
            *tables,
            *(["visible"] if masked else []),
            "constants",
            "layout",
            "sums",
            "firsts",
        ]
        lines = ["import numpy as np", "", "", f"def kernel({', '.join(params)}):"]
        lines += [f"    k{k} = constants[{k}]" for k in range(len(self.shape.constants))]
        for k in range(len(self.keys)):
            lines += [f"    low{k} = layout[{k}]", f"    size{k} = layout[{k + len(self.keys)}]"]
        passes = ["visible[i]"] if masked else []
        for code, read in self.conditions:
            passes += [f"{valid[i]}[i]" for i in sorted(read & nulls)]
            passes.append(code)
        lines += self._grouped(passes, valid) if self.keys else self._single(passes, valid)
        return "\n".join(lines) + "\n"

    def _twins(self, valid: dict[int, str]) -> dict[int, int]:
        """Counts that count the same rows as an earlier one, because their columns have no nulls here."""
        seen: dict[tuple[str, ...], int] = {}
        twins: dict[int, int] = {}
        for k, fold in enumerate(self.folds):
            if fold.kind == "count":
                first = seen.setdefault(tuple(self._guard(fold, valid)), k)
                if first != k:
                    twins[k] = first
        return twins

    def _loads(self) -> list[str]:
        return [f"        x{k} = np.int64(c{k}[i])" for k in range(len(self.shape.columns))]

    def _guard(self, fold: Fold, valid: dict[int, str]) -> list[str]:
        guards = [f"{valid[i]}[i]" for i in sorted(fold.columns) if i in valid]
        return guards + ([fold.condition] if fold.condition else [])

    def _grouped(self, passes: list[str], valid: dict[int, str]) -> list[str]:
        """Branches: rows that pass add to the accumulators of their group."""
        lines = ["    for i in range(n):", *self._loads()]
        if passes:
            lines += [f"        if not ({' & '.join(passes)}):", "            continue"]
        lines.append("        g = 0")
        for k, index in enumerate(self.keys):
            lines.append(f"        g = g * size{k} + ({self.shape.column(index)} - low{k})")
        lines += ["        if firsts[g] < 0:", "            firsts[g] = i"]
        twins = self._twins(valid)
        for k, fold in enumerate(self.folds):
            if k in twins:
                continue
            guards = self._guard(fold, valid)
            indent = "        "
            if guards:
                lines.append(f"{indent}if {' & '.join(guards)}:")
                indent += "    "
            lines += [indent + line for line in _step(fold, f"sums[g, {k}]")]
        lines.append("    for g in range(len(firsts)):")
        return lines + [f"        sums[g, {k}] = sums[g, {twin}]" for k, twin in twins.items()] + ["        pass"]

    def _single(self, passes: list[str], valid: dict[int, str]) -> list[str]:
        """No branches, so that the loop is vectorised: rows that do not pass add nothing."""
        count = len(self.folds)
        lines = [f"    s{k} = sums[0, {k}]" for k in range(count)]
        lines += ["    for i in range(n):", *self._loads()]
        lines.append(f"        m = {' & '.join(passes)}" if passes else "        m = True")
        twins = self._twins(valid)
        for k, fold in enumerate(self.folds):
            if k in twins:
                continue
            guards = " & ".join(["m", *self._guard(fold, valid)])
            match fold.kind:
                case "count":
                    lines.append(f"        s{k} += np.int64(1) if {guards} else np.int64(0)")
                case "sum":
                    lines.append(f"        s{k} += {_code(fold)} if {guards} else np.int64(0)")
                case _:
                    lines.append(f"        w = {_code(fold)} if {guards} else s{k}")
                    lines.append(f"        s{k} = w if w {'<' if fold.kind == 'min' else '>'} s{k} else s{k}")
        return lines + [f"    sums[0, {k}] = s{twins.get(k, k)}" for k in range(count)]


def _code(fold: Fold) -> str:
    assert fold.word is not None
    return fold.word.code


def _step(fold: Fold, place: str) -> list[str]:
    if fold.kind == "count":
        return [f"{place} += 1"]
    if fold.kind == "sum":
        return [f"{place} += {_code(fold)}"]
    sign = "<" if fold.kind == "min" else ">"
    return [f"w = {_code(fold)}", f"if w {sign} {place}:", f"    {place} = w"]


def fused(
    source: p.Plan,
    keys: Sequence[e.Expr],
    calls: Sequence[e.Aggregate],
    hold: Callable[[e.Expr], e.Expr],
) -> tuple[p.Scan, FusedAggregate] | None:
    """(scan, loop) for a plan that can be fused, else None. Expressions are held once."""
    exprs = [*keys, *(a for c in calls for a in c.args), *(c.filter for c in calls if c.filter is not None)]
    flat = flattened(source, [], exprs)
    if flat is None or flat[0].address or any(c.distinct or c.order or c.name not in _FOLDS for c in calls):
        return None
    scan = flat[0]
    conditions, held = [hold(c) for c in flat[1]], iter([hold(x) for x in flat[2]])
    try:
        made = _assembled(scan, conditions, [next(held) for _ in keys], calls, held)
    except Unfit:
        return None
    return scan, made


def _assembled(
    scan: p.Scan, conditions: list[e.Expr], keys: list[e.Expr], calls: Sequence[e.Aggregate], exprs: Any
) -> FusedAggregate:
    shape = Shape()
    types = [c.type for c in scan.columns]
    writer = Writer(types, shape)
    written = [writer.condition(c) for c in conditions]
    strict = frozenset(i for c in conditions if not null_rejecting(c) for i in columns_read(c))
    key_columns = []
    for key in keys:
        if not isinstance(key, e.Column) or (types[key.index].kind not in WORD_KINDS and not is_text(types[key.index])):
            raise Unfit("key")
        shape.column(key.index)
        key_columns.append(key.index)
    out = FusedAggregate(types, key_columns, [], [], shape, writer.proofs, written, strict)
    arguments = [next(exprs) if c.args else None for c in calls]
    filters = [next(exprs) if c.filter is not None else None for c in calls]
    for call, argument, condition in zip(calls, arguments, filters, strict=True):
        _add_call(out, writer, call, argument, condition)
    return out


def null_rejecting(condition: e.Expr) -> bool:
    """Whether the condition is not true as soon as one of its columns is null."""
    if isinstance(condition, e.Column):
        return True
    if not isinstance(condition, e.Call | e.InList):
        return False
    return not any(isinstance(part, e.Case) for part in _walk(condition))


def _walk(expr: e.Expr) -> list[e.Expr]:
    return [expr, *(x for part in e.children(expr) for x in _walk(part))]


def _add_call(
    out: FusedAggregate, writer: Writer, call: e.Aggregate, argument: e.Expr | None, condition: e.Expr | None
) -> None:
    code, columns = ("", frozenset[int]()) if condition is None else writer.condition(condition)
    if condition is not None and not null_rejecting(condition):
        out.strict |= columns
    word = None
    if argument is not None:
        if call.name == "count" and isinstance(argument, e.Column):
            if writer.types[argument.index].width == 16 and not is_text(writer.types[argument.index]):
                raise Unfit("wide column")
            writer.shape.column(argument.index)
            columns |= {argument.index}
        else:
            word = writer.word(argument)
            writer.proofs.append(word.bounds)
            columns |= word.columns
            if any(isinstance(x, e.Case) for x in _walk(argument)):
                out.strict |= word.columns
    counter = _fold_index(out, Fold("count", None, code, columns))
    at = counter
    if call.name in ("sum", "avg", "min", "max"):
        kind = "sum" if call.name == "avg" else call.name
        if word is None or (
            kind == "sum" and argument is not None and argument.type.kind not in INTEGER_KINDS | {Kind.NUMERIC}
        ):
            raise Unfit(call.name)
        at = _fold_index(out, Fold(kind, word, code, columns))
        assert argument is not None
        out.argument_types[at] = argument.type
    out.calls.append((call.name, at, counter))


def _fold_index(out: FusedAggregate, wanted: Fold) -> int:
    """The place of an equal accumulator, or of a new one."""
    text = (wanted.kind, wanted.word.code if wanted.word else "", wanted.condition, wanted.columns)
    for k, fold in enumerate(out.folds):
        if (fold.kind, fold.word.code if fold.word else "", fold.condition, fold.columns) == text:
            return k
    out.folds.append(wanted)
    return len(out.folds) - 1
