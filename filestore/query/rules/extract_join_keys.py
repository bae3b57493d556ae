"""Equalities between the two sides of a join become hash keys."""

from __future__ import annotations

from filestore.query import expr as e


def shift(expr: e.Expr, by: int) -> e.Expr:
    """The expression with every column number moved by `by`."""
    if by == 0:
        return expr
    return e.transform(expr, lambda x: e.Column(x.type, x.index + by, x.name) if isinstance(x, e.Column) else x)


def split_condition(condition: e.Expr | None, width: int) -> tuple[tuple[e.Expr, ...], tuple[e.Expr, ...], e.Expr | None]:
    """Left keys, right keys and the rest of a condition over left columns (numbers below `width`) followed by right ones."""
    left_keys: list[e.Expr] = []
    right_keys: list[e.Expr] = []
    rest: list[e.Expr] = []
    for part in e.conjuncts(condition):
        sides = _sides(part, width)
        if sides is None:
            rest.append(part)
        else:
            left_keys.append(sides[0])
            right_keys.append(shift(sides[1], -width))
    return tuple(left_keys), tuple(right_keys), e.conjunction(rest)


def _sides(part: e.Expr, width: int) -> tuple[e.Expr, e.Expr] | None:
    if not isinstance(part, e.Call) or part.name != "eq":
        return None
    a, b = part.args
    left, right = e.columns_of(a), e.columns_of(b)
    if not left or not right:
        return None
    if max(left) < width <= min(right):
        return a, b
    if max(right) < width <= min(left):
        return b, a
    return None
