"""LIKE, ILIKE, SIMILAR TO and regular expressions.

A LIKE pattern without `_` runs in a kernel as literal pieces between its percent signs; others, and all regular
expressions, run through `re`, once for each distinct string. PostgreSQL's regular expressions are translated where
their syntax differs from Python's; what cannot be translated raises 2201B.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from filestore import errors
from filestore.query import string_kernels
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
    """A LIKE pattern as a Python one. Errors with 22025."""
    out, i = [], 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            i += 1
            if i == len(pattern):
                raise errors.InvalidEscape(ESCAPE_AT_END)
            out.append(re.escape(pattern[i]))
        else:
            out.append({"%": ".*", "_": "."}.get(char) or re.escape(char))
        i += 1
    return re.compile("".join(out), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


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


@strict("ilike")
def _ilike(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: like_regex(p, True).fullmatch(s) is not None)


_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "digit": "0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s",
    "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f", "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e", "graph": r"\x21-\x7e",
}  # fmt: skip
_ESCAPES = {r"\y": r"\b", r"\m": r"\b(?=\w)", r"\M": r"\b(?<=\w)", r"\A": r"\A", r"\Z": r"\Z", r"\Y": r"\B"}


@lru_cache(maxsize=512)
def advanced_regex(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """A PostgreSQL regular expression as a Python one. Errors with 2201B."""
    flags = re.IGNORECASE if ignore_case else 0
    text = pattern
    if text.startswith("***="):
        return re.compile(re.escape(text[4:]), flags)
    text = re.sub(r"\[:(\w+):\]", lambda m: _CLASSES.get(m[1], m[0]), text)
    text = re.sub(r"\\[ymMAZY]", lambda m: _ESCAPES[m[0]], text)
    # In PostgreSQL $ matches only at the very end.
    text = re.sub(r"(?<!\\)\$$", r"\\Z", text)
    try:
        return re.compile(text, flags | re.DOTALL)
    except re.error as error:
        raise errors.InvalidRegularExpression(f"invalid regular expression: {error.msg}") from error


@strict("regex_match")
def _regex(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: advanced_regex(p, False).search(s) is not None)


@strict("regex_imatch")
def _iregex(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, p: advanced_regex(p, True).search(s) is not None)


@lru_cache(maxsize=512)
def similar_regex(pattern: str, escape: str = "\\") -> re.Pattern[str]:
    """A SIMILAR TO pattern as a Python one. Errors with 22025, 2201B."""
    if len(escape) > 1:
        raise errors.InvalidEscape("invalid escape string", hint="Escape string must be empty or one character.")
    out, i, bracket = [], 0, False
    while i < len(pattern):
        char = pattern[i]
        if escape and char == escape:
            i += 1
            out.append(re.escape(pattern[i]) if i < len(pattern) else "")
        elif bracket:
            bracket = char != "]"
            out.append("\\\\" if char == "\\" else char)
        elif char == "[":
            bracket = True
            out.append(char)
        else:
            out.append(
                {"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$", "\\": r"\\", "(": "(?:"}.get(char, char)
            )
        i += 1
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise errors.InvalidRegularExpression(f"invalid regular expression: {error.msg}") from error


@strict("similar_to")
def _similar(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, lambda s, *p: similar_regex(*p).fullmatch(s) is not None)
