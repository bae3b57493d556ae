"""LIKE, ILIKE, SIMILAR TO and regular expressions.

A LIKE pattern without `_` runs in a kernel as literal pieces between its percent signs; others run through `re`, once
for each distinct string. `regex_syntax.py` translates regular expressions, `regex_search.py` runs them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.query import string_kernels
from filestore.query.scalar.regex_search import search
from filestore.query.scalar.regex_syntax import advanced_regex
from filestore.query.scalar.registry import constant_bytes, strict
from filestore.query.vectors import bools, per_value, safe_views
from filestore.storage.vector import Vector
from filestore.types import BOOL, SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

ESCAPE_AT_END = "LIKE pattern must not end with escape character"


def like_pieces(pattern: bytes) -> tuple[list[bytes], bool, bool] | None:
    """(literal pieces, open at the start, open at the end) of a LIKE pattern; None when it has `_` and needs `re`.

    Errors with 22025 for a backslash at the end.
    """
    pieces = [bytearray()]
    i = 0
    while i < len(pattern):
        byte = pattern[i]
        if byte == ord("\\"):
            i += 1
            if i == len(pattern):
                raise errors.InvalidEscape(ESCAPE_AT_END)
            pieces[-1].append(pattern[i])
        elif byte == ord("%"):
            pieces.append(bytearray())
        elif byte == ord("_"):
            return None
        else:
            pieces[-1].append(byte)
        i += 1
    open_start, open_end = len(pieces) > 1 and not pieces[0], len(pieces) > 1 and not pieces[-1]
    literals = [bytes(p) for p in pieces if p]
    if not literals and len(pieces) > 1:
        return [b""], True, True
    return literals or [b""], open_start, open_end


@lru_cache(maxsize=512)
def like_regex(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """A LIKE pattern as a Python one. Errors with 22025.

    What stands between two percent signs is looked for once, from the left, and kept where it was found (an atomic
    group): another place would leave less room for the rest. So nothing is tried again and again.
    """
    parts: list[list[str]] = [[]]
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            i += 1
            if i == len(pattern):
                raise errors.InvalidEscape(ESCAPE_AT_END)
            parts[-1].append(re.escape(pattern[i]))
        elif char == "%":
            parts.append([])
        else:
            parts[-1].append("." if char == "_" else re.escape(char))
        i += 1
    first, *others = ["".join(part) for part in parts]
    middle = "".join(f"(?>.*?{part})" for part in others[:-1] if part)
    last = f".*{others[-1]}" if others else ""
    return re.compile(first + middle + last, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


@strict("like")
def _like(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    pattern = constant_bytes(args[1])
    pieces = None if pattern is None or len(args) > 2 else like_pieces(pattern)
    if pieces is not None:
        literals, open_start, open_end = pieces
        data = np.frombuffer(b"".join(literals) or b"\0", np.uint8).copy()
        bounds = np.cumsum([0, *(len(piece) for piece in literals)]).astype(np.int64)
        out = np.empty(len(args[0]), np.uint8)
        string_kernels.like_segments(*safe_views(args[0]), data, bounds, open_start, open_end, out)
        return bools(out)
    return per_value(args, length, BOOL, lambda s, p: like_regex(p, False).fullmatch(s) is not None)


def like_escape(pattern: str, escape: str) -> str:
    """A LIKE pattern whose escape character is `escape`, or none, as one with backslashes. Errors with 22025."""
    if len(escape) > 1:
        raise errors.InvalidEscape("invalid escape string", hint="Escape string must be empty or one character.")
    if escape == "\\":
        return pattern
    out: list[str] = []
    escaped = False
    for char in pattern:
        if escape and char == escape and not escaped:
            out.append("\\")
            escaped = True
        else:
            out.append("\\\\" if char == "\\" and not escaped else char)
            escaped = False
    return "".join(out)


@strict("like_escape")
def _like_escape(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, result, like_escape)


@strict("ilike")
def _ilike(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: like_regex(p, True).fullmatch(s) is not None)


@strict("regex_match")
def _regex(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: search(advanced_regex(p, False))(s) is not None)


@strict("regex_imatch")
def _iregex(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: search(advanced_regex(p, True))(s) is not None)


@lru_cache(maxsize=512)
def similar_regex(pattern: str, escape: str = "\\") -> re.Pattern[str]:
    """A SIMILAR TO pattern, by way of the regular expression that PostgreSQL makes of it. Errors with 22025, 2201B."""
    if len(escape) > 1:
        raise errors.InvalidEscape("invalid escape string", hint="Escape string must be empty or one character.")
    out: list[str] = []
    escaped = bracket = False
    for char in pattern:
        if escaped:
            out.append("\\" + char)
            escaped = False
        elif escape and char == escape:
            escaped = True
        elif bracket:
            out.append("\\\\" if char == "\\" else char)
            bracket = char != "]"
        else:
            out.append(_SIMILAR.get(char, char))
            bracket = char == "["
    return advanced_regex("^(?:" + "".join(out) + ")$", False)


_SIMILAR = {"%": ".*", "_": ".", "(": "(?:", "\\": "\\\\", ".": "\\.", "^": "\\^", "$": "\\$"}


@strict("similar_to")
def _similar(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, *p: search(similar_regex(*p))(s) is not None)
