"""Of a join that is not an inner one, the smaller side is hashed.

    Semi Join(customer, orders)  ->  Right Semi Join(orders, customer)
    Left Join(customer, orders)  ->  Right Join(orders, customer)

The joins say the same; hashing the smaller side takes less memory, and its keys can then restrict the larger one where
it is read. Inner joins have had their order chosen (`order_joins`). Small inputs stay as they were written: there is
nothing to gain, and rows come out in the order of the left side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from filestore.query import expr as e
from filestore.query import plan as p
from filestore.query.plan import JoinKind, Plan
from filestore.query.rules.order_joins import estimate
from filestore.query.rules.traversal import bottom_up, renumber
from filestore.storage.schema import TableDef

Rows = Callable[[TableDef], float]

_SMALL: Final = 20_000.0
_TURNED: Final = {
    JoinKind.SEMI: JoinKind.RIGHT_SEMI,
    JoinKind.ANTI: JoinKind.RIGHT_ANTI,
    JoinKind.LEFT: JoinKind.RIGHT,
    JoinKind.RIGHT: JoinKind.LEFT,
}


def choose_build_side(plan: Plan, rows: Rows) -> Plan:
    """The plan with the sides of lopsided semi, anti and outer joins exchanged."""
    return bottom_up(plan, lambda node: _turned(node, rows) if isinstance(node, p.Join) else node)


def _turned(join: p.Join, rows: Rows) -> Plan:
    kind = _TURNED.get(join.kind)
    if kind is None or not join.left_keys:
        return join
    right = estimate(join.right, rows)
    if right < _SMALL or right < 2 * estimate(join.left, rows):
        return join
    left_width, right_width = len(join.left.columns), len(join.right.columns)
    places = {i: i + right_width for i in range(left_width)}
    places |= {left_width + i: i for i in range(right_width)}
    residual = None if join.residual is None else renumber(join.residual, places)
    one_sided = kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI)
    columns = join.columns if one_sided else join.columns[left_width:] + join.columns[:left_width]
    made = p.Join(columns, kind, join.right, join.left, join.right_keys, join.left_keys, residual)
    if one_sided:
        return made
    exprs = tuple(e.Column(c.type, places[i], c.name) for i, c in enumerate(join.columns))
    return p.Project(join.columns, made, exprs)
