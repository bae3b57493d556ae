"""Clauses in places that sqlglot accepts and PostgreSQL's grammar does not, found in one walk over the tokens.

- JOIN without ON or USING, which sqlglot reads as a cross join;
- UNION and its like behind ORDER BY or LIMIT, which belong behind the last of the united queries;
- `LIMIT 1, 2`, and `IN ()`.

It does not parse: a text that it lets pass may still be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from filestore import errors
from filestore.query.lexer import Piece, Token, syntax_error

_SET_OPERATIONS: Final = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_ENDS_OF_FROM: Final = frozenset(
    {"WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "RETURNING", *_SET_OPERATIONS}
)
_TAILS: Final = frozenset({"LIMIT", "OFFSET", "FETCH"})


@dataclass(slots=True)
class _Level:
    """What one pair of parentheses holds: joins that still need their condition, and how far a query has come."""

    joins: int = 0
    limit: Token | None = None
    sorted: bool = False


def check_clauses(text: str, piece: Piece) -> None:
    """Errors with 42601 at the token that PostgreSQL would stop at."""
    levels = [_Level()]
    tokens = piece.tokens
    for i, token in enumerate(tokens):
        level = levels[-1]
        if token.text == "(":
            levels.append(_Level())
        elif token.text == ")":
            if i > 1 and tokens[i - 1].text == "(" and tokens[i - 2].upper == "IN":
                raise syntax_error(text, token)
            if level.joins:
                raise syntax_error(text, token)
            if len(levels) > 1:
                levels.pop()
        elif token.text == ",":
            if level.limit is not None:
                raise errors.SqlSyntaxError(
                    "LIMIT #,# syntax is not supported",
                    hint="Use separate LIMIT and OFFSET clauses.",
                    position=level.limit.start + 1,
                )
            if level.joins:
                raise syntax_error(text, token)
        elif token.kind == "word":
            _word(text, tokens, i, level)
    if levels[-1].joins:
        raise syntax_error(text[: piece.end], None)


def _word(text: str, tokens: Sequence[Token], i: int, level: _Level) -> None:
    token = tokens[i]
    word = token.upper
    if i and tokens[i - 1].text == ".":
        return  # a column called like a clause
    if word == "JOIN":
        level.joins += not _needs_no_condition(tokens, i)
    elif word in ("ON", "USING"):
        level.joins -= bool(level.joins)
    elif word in _ENDS_OF_FROM:
        if level.joins:
            raise syntax_error(text, token)
        if word in _SET_OPERATIONS and level.sorted:
            raise syntax_error(text, token)
        level.limit = token if word == "LIMIT" else None
        level.sorted = level.sorted or word in _TAILS or word == "ORDER"


def _needs_no_condition(tokens: Sequence[Token], i: int) -> bool:
    """CROSS JOIN, NATURAL [LEFT OUTER ...] JOIN."""
    before = [t.upper for t in tokens[max(0, i - 3) : i]]
    return before[-1:] == ["CROSS"] or "NATURAL" in before
