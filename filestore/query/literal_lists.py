"""Long lists of literals, IN (...) and ANY (ARRAY[...]), taken out of a text before it is parsed.

Drivers and object mappers write thousands of keys into one IN. Parsed like any other expression each literal costs a
hundred microseconds; here one pass of a regular expression finds the list, all of it but its first literal is blanked
out, and the binder puts the values in the place of that one. Blanks keep every offset, so positions in errors stay
those of the client's text.

So is IN (VALUES (1), (2) ...) of numbers, which means the same; of strings it does not, for VALUES makes text of them.

A list is taken only if it holds plain numbers and strings alone, and if the lexer agrees that it is one: it might stand
within a string or a comment. Thread rule: pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from filestore.query import expr as e
from filestore.query.coerce import number_literal
from filestore.query.lexer import Piece, split
from filestore.types import INT4, UNKNOWN

TEXT_MIN: Final = 1024  # a shorter text has no list that is worth the search
ITEMS_MIN: Final = 64  # an ordinary list; the planner looks at each of its items

_NUMBER: Final = r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?"
_STRING: Final = r"'(?:[^']|'')*+'"
_ITEM: Final = rf"(?:{_NUMBER}|{_STRING})"
_LIST: Final = re.compile(
    rf"(?:(?P<word>\bIN)\s*\(|(?P<quantifier>\b(?:ANY|ALL|SOME))\s*\(\s*ARRAY\s*\[)"
    rf"\s*(?P<items>(?P<first>{_ITEM})(?:\s*,\s*{_ITEM}){{{ITEMS_MIN - 1},}}+)\s*[)\]]",
    re.IGNORECASE,
)
_ROWS: Final = re.compile(
    rf"(?P<word>\bIN)\s*\(\s*(?P<items>VALUES\s*\(\s*(?P<first>{_NUMBER})\s*\)"
    rf"(?:\s*,\s*\(\s*{_NUMBER}\s*\)){{{ITEMS_MIN - 1},}}+)\s*\)",
    re.IGNORECASE,
)
_BARE: Final = str.maketrans("", "", "()")
_ITEMS: Final = re.compile(_ITEM)
_INTEGERS: Final = re.compile(r"[-+0-9,\s]*+")
_INT4_MAX: Final = (1 << 31) - 1
_SHORT: Final = 32  # characters of an item that int() may see, which refuses 4300 digits


def split_lists(text: str) -> tuple[str, list[Piece], Mapping[int, str]]:
    """The text with its long lists blanked out, its statements, and each list's source by the offset of the literal
    that stands for it. Errors as `lexer.split`.
    """
    if len(text) < TEXT_MIN:
        return text, split(text), {}
    parts: list[str] = []
    lists: dict[int, str] = {}
    words: set[int] = set()
    at = 0
    for m in sorted([*_LIST.finditer(text), *_ROWS.finditer(text)], key=re.Match.start):
        first, sign = m.group("first"), 1 if m.group("first")[0] in "+-" else 0
        low, high = m.span("items")
        shown = " " * sign + first[sign:]
        parts += [text[at:low], shown, " " * (high - low - len(shown))]
        at = high
        lists[low + sign] = m.group("items") if m.re is _LIST else m.group("items")[len("values") :].translate(_BARE)
        words.add(m.start("word") if m.group("word") else m.start("quantifier"))
    if lists:
        parts.append(text[at:])
        short = "".join(parts)
        pieces = split(short)
        if words <= {t.start for piece in pieces for t in piece.tokens if t.kind == "word"}:
            return short, pieces, lists
    return text, split(text), {}


def constants(source: str) -> list[e.Expr]:
    """The literals of a list's source, as the binder reads one: numbers of the first type that holds them, strings
    of type unknown.
    """
    if _INTEGERS.fullmatch(source):
        items = source.split(",")
        if max(map(len, items)) <= _SHORT:
            values = [int(item) for item in items]
            if -_INT4_MAX <= min(values) and max(values) <= _INT4_MAX:
                return [e.Const(INT4, value) for value in values]
    return [_constant(item) for item in _ITEMS.findall(source)]


def _constant(item: str) -> e.Const:
    if item[0] == "'":
        return e.Const(UNKNOWN, item[1:-1].replace("''", "'"))
    return number_literal(item.removeprefix("+"))
