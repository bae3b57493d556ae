"""Reading lark's trees: children by name, names, strings, options in parentheses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from lark import Token, Tree

from filestore import errors
from filestore.query import lexer
from filestore.query import statements as st
from filestore.query.names import unquote


class Builder(Protocol):
    """What the functions here need: the text, nested queries, types."""

    text: str

    def nested(self, token: Any) -> st.Statement: ...

    def type(self, token: Any) -> Any: ...


def subtrees(tree: Any, *names: str) -> Iterator[Any]:
    """Direct children that are trees of these names."""
    return (c for c in tree.children if isinstance(c, Tree) and str(c.data) in names)


def child(tree: Any, *names: str) -> Any:
    """The first direct child that is a tree of one of these names, None when there is none."""
    return next(subtrees(tree, *names), None)


def tokens_of(tree: Any, *kinds: str) -> list[Any]:
    return [c for c in tree.children if isinstance(c, Token) and (not kinds or c.type in kinds)]


def has(tree: Any, kind: str) -> bool:
    return any(isinstance(c, Token) and c.type == kind for c in tree.children)


def words_of(tree: Any) -> list[str]:
    return [str(t.type) for t in tokens_of(tree)]


def name_of(tree: Any) -> str:
    return unquote(str(tree.children[0]))


def names_of(tree: Any) -> tuple[str, ...]:
    return tuple(name_of(c) for c in subtrees(tree, "name"))


def table_of(tree: Any) -> st.Name:
    parts = [name_of(c) for c in subtrees(tree, "name")]
    first = next(iter(subtrees(tree, "name"))).children[0]
    return st.Name(parts[0] if len(parts) == 2 else None, parts[-1], (first.start_pos or 0) + 1)


def string_of(token: Any) -> str:
    return lexer.string_value(str(token), (token.start_pos or 0) + 1)


def signed(tree: Any) -> int:
    return int("".join(str(t) for t in tokens_of(tree)))


def option_of(tree: Any) -> tuple[str, Any]:
    """(name, value) of an option in parentheses; True without a value, names in parentheses as a tuple."""
    name = unquote(str(child(tree, "option_name").children[0])).lower()
    value = child(tree, "option_value")
    if value is None:
        return name, True
    if has(value, "LPAR"):
        return name, names_of(value)
    number = child(value, "signed")
    if number is not None:
        return name, signed(number)
    token = value.children[0]
    if token.type == "STRING":
        return name, string_of(token)
    if token.type == "STAR":
        return name, ("*",)
    return name, unquote(str(token))


def truth(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "on", "1"):
        return True
    if text in ("false", "off", "0"):
        return False
    raise errors.SqlSyntaxError(f"{name} requires a Boolean value")


def tables_of(tree: Any) -> tuple[st.Name, ...]:
    return tuple(table_of(t) for t in subtrees(tree, "table"))
