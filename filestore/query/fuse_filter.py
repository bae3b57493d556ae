"""A scan's conditions as one generated loop over the columns of a morsel: the positions of the rows that meet them.

The conditions that the loop can do are those of `fuse.py`, under the same proofs; none of them can fail, so they may
come before the others, which are left to the vectorised way and see only the rows that passed. A morsel that does not
fit, and every morsel while the loop is being compiled, goes the vectorised way as a whole. The rows are the same.

Thread rule: as fuse.py. Not here: conditions on keys that joins hand out (operators/scan.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from filestore.query import expr as e
from filestore.query.context import ExecutionContext
from filestore.query.evaluate import columns_read
from filestore.query.fuse import FusedAggregate, null_rejecting
from filestore.query.fuse_code import Bounds, Shape, Unfit, Writer
from filestore.query.kernels import frozen
from filestore.storage.vector import Array, Batch
from filestore.types import SqlType


@dataclass(slots=True)
class FusedFilter(FusedAggregate):
    """The loop of a scan's conditions; `rest` are those that it leaves."""

    rest: list[e.Expr] = field(default_factory=list)

    def rows(
        self, batch: Batch, zone: Callable[[int], Bounds | None], visible: Array | None, ctx: ExecutionContext
    ) -> Array | None:
        """int64: positions of the rows of a morsel that are visible and meet the conditions, ascending; None when it
        has to go the vectorised way. Of the batch only `shape.columns` are looked at.
        """
        try:
            arrays, _, _ = self._arrays(batch, zone)
        except Unfit:
            return None
        nulls = {i for i in self.shape.columns if batch.columns[i].valid is not None}
        if nulls & self.strict:
            return None
        tables = [self._table(batch.columns[i], c, ctx) for i, c in self.shape.tables]
        if any(t is None for t in tables):
            return None
        masks = [batch.columns[i].valid for i in sorted(nulls)]
        valid = [frozen(m) for m in masks if m is not None]
        passed, out = np.empty(batch.length, np.uint8), np.empty(batch.length, np.int64)
        args = [
            batch.length, *arrays, *valid, *tables, *([frozen(visible)] if visible is not None else []),
            np.array(self.shape.constants or [0], np.int64), passed, out,
        ]  # fmt: skip
        kernel = self._kernel(nulls, visible is not None, args, ctx)
        return None if kernel is None else out[: kernel(*args)]

    def source(self, nulls: set[int], masked: bool) -> str:
        """Two loops: the first has no branch and no dependence between rows, so that it is vectorised."""
        valid = {i: f"v{k}" for k, i in enumerate(sorted(nulls))}
        params = ["n", *(f"c{k}" for k in range(len(self.shape.columns))), *valid.values()]
        params += [f"t{k}" for k in range(len(self.shape.tables))]
        params += [*(["visible"] if masked else []), "constants", "passed", "out"]
        lines = ["import numpy as np", "", "", f"def kernel({', '.join(params)}):"]
        lines += [f"    k{k} = constants[{k}]" for k in range(len(self.shape.constants))]
        lines += ["    for i in range(n):", *self._loads()]
        passes = ["visible[i]"] if masked else []
        for code, read in self.conditions:
            passes += [f"{valid[i]}[i]" for i in sorted(read & nulls)]
            passes.append(code)
        lines.append(f"        passed[i] = {' & '.join(passes)}")
        lines += ["    found = 0", "    for i in range(n):", "        out[found] = i", "        found += passed[i]"]
        return "\n".join([*lines, "    return found"]) + "\n"


def fused_filter(types: list[SqlType], conditions: Sequence[e.Expr]) -> FusedFilter | None:
    """The loop of the conditions, held, over columns of these types; None when it could do none of them."""
    made = FusedFilter(types, [], [], [], Shape(), [], [], frozenset())
    for condition in conditions:
        shape = made.shape
        before = Shape(list(shape.columns), list(shape.tables), list(shape.constants))
        writer = Writer(types, shape)
        try:
            written = writer.condition(condition)
        except Unfit:
            made.shape = before
            made.rest.append(condition)
            continue
        made.proofs += writer.proofs
        made.conditions.append(written)
        if not null_rejecting(condition):
            made.strict |= columns_read(condition)
    return made if made.conditions else None
