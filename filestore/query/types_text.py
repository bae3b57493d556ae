"""Type names in SQL text, as written in CREATE TABLE and PREPARE: `character varying(10)`, `timestamp(6) with
time zone`."""

from __future__ import annotations

from filestore import errors
from filestore.query import lexer
from filestore.query.names import resolve_type, unquote
from filestore.types import CHAR, SqlType


def parse_type(text: str, position: int | None = None) -> SqlType:
    """The type of SQL text. `position` is that of its first character. Errors as `names.resolve_type`, 42601
    for no type at all."""
    tokens = lexer.tokens(text)
    words: list[str] = []
    modifiers: list[int] = []
    array = False
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "quoted" and (not words or words[-1].endswith(".")):
            if unquote(token.text) == "char":
                return CHAR
            words.append(unquote(token.text))
        elif token.kind == "word":
            if token.upper == "ARRAY":
                array = True
            elif words and words[-1].endswith("."):
                words[-1] += token.text.lower()
            else:
                words.append(token.text.lower())
        elif token.text == "." and words:
            words[-1] += "."
        elif token.text == "(" and words:
            at = _modifiers(tokens, at, modifiers, position)
        elif token.text == "[" and words:
            array = True
            while at < len(tokens) and tokens[at].text != "]":
                at += 1
        else:
            raise errors.SqlSyntaxError(f'syntax error at or near "{token.text}"', position=_at(position, token.start))
        at += 1
    return resolve_type(" ".join(words), tuple(modifiers), position, array)


def _at(position: int | None, offset: int) -> int | None:
    return None if position is None else position + offset


def _modifiers(tokens: list[lexer.Token], at: int, into: list[int], position: int | None) -> int:
    at += 1
    while at < len(tokens) and tokens[at].text != ")":
        token = tokens[at]
        if token.kind == "number" and token.text.isdecimal():
            into.append(-int(token.text) if tokens[at - 1].text == "-" else int(token.text))
        elif token.text == "-" and tokens[0].upper in ("NUMERIC", "DECIMAL", "DEC") and tokens[at - 1].text == ",":
            pass  # the sign of a scale
        elif token.text != ",":
            raise errors.SqlSyntaxError(f'syntax error at or near "{token.text}"', position=_at(position, token.start))
        at += 1
    if at == len(tokens):
        raise errors.SqlSyntaxError("syntax error at end of input", position=position)
    return at
