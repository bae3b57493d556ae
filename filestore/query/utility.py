"""Utility statements: our tokens through the lark grammar into the values of `statements.py`, and the
refusals by name.

What the grammar cannot describe in LALR(1) is folded first: nested queries become one QUERY token,
expressions (DEFAULT, CHECK, EXECUTE's arguments) one EXPR, type names one TYPE. Every statement of PostgreSQL
15 that is not built is known by its leading words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import lark
from lark.lexer import Lexer
from lark.lexer import Token as LarkToken

from filestore import errors
from filestore.query import lexer
from filestore.query import statements as st
from filestore.query.lexer import Piece, Token, syntax_error
from filestore.query.names import RESERVED, unquote
from filestore.query.refused import refusal
from filestore.query.types_text import parse_type
from filestore.query.utility_tree import BUILDERS

_STARTS: Final = {
    "BEGIN": "begin", "START": "start", "COMMIT": "commit", "END": "commit", "ROLLBACK": "rollback",
    "ABORT": "rollback", "SAVEPOINT": "savepoint", "RELEASE": "release", "SET": "set", "RESET": "reset",
    "SHOW": "show", "DISCARD": "discard", "PREPARE": "prepare", "EXECUTE": "execute",
    "DEALLOCATE": "deallocate", "DECLARE": "declare", "FETCH": "fetch", "MOVE": "fetch", "CLOSE": "close",
    "LISTEN": "listen", "UNLISTEN": "unlisten", "NOTIFY": "notify", "EXPLAIN": "explain", "VACUUM": "vacuum",
    "ANALYZE": "analyze", "ANALYSE": "analyze", "CHECKPOINT": "checkpoint", "LOCK": "lock", "COPY": "copy",
    "TRUNCATE": "truncate", "DROP": "drop", "CREATE": "create", "ALTER": "alter",
}  # fmt: skip
_PUNCTUATION: Final = {
    "(": "LPAR",
    ")": "RPAR",
    ",": "COMMA",
    ".": "DOT",
    "=": "EQUALS",
    "*": "STAR",
    "+": "PLUS",
    "-": "MINUS",
}
_QUERY_START: Final = frozenset({"SELECT", "VALUES", "WITH", "TABLE", "INSERT", "UPDATE", "DELETE"})
_COLUMN_RULES: Final = frozenset(
    {
        "CONSTRAINT",
        "NOT",
        "NULL",
        "DEFAULT",
        "CHECK",
        "PRIMARY",
        "UNIQUE",
        "REFERENCES",
        "GENERATED",
        "COLLATE",
        "DEFERRABLE",
        "INITIALLY",
    }
)
_TABLE_RULES: Final = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE", "LIKE"})


class _Folded(Lexer):
    """Hands lark the tokens that were made here; the grammar has no lexer of its own.

    A word is a keyword only where the grammar can go on with it, and otherwise a name unless PostgreSQL reserves it: a
    column may be called `type` or `first`. That is decided here because only the parser's state knows.
    """

    __future_interface__ = 2  # lark's: `lex` is given the parser's state

    def __init__(self, _conf: Any) -> None:
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Iterator[LarkToken]:
        states = parser_state.parse_conf.parse_table.states
        for token in lexer_state.text:
            possible = states[parser_state.position]
            if token.type not in possible and "IDENT" in possible and _may_be_name(token):
                token = LarkToken("IDENT", token.value, start_pos=token.start_pos, end_pos=token.end_pos)
            yield token


def _may_be_name(token: LarkToken) -> bool:
    """Whether a token is a word that PostgreSQL does not reserve; folded tokens (types, expressions) are no words."""
    word = token.type == token.value.upper() and token.value.replace("_", "a").isalnum()
    return word and token.type not in RESERVED


@cache
def _grammar() -> tuple[Any, dict[str, frozenset[str]]]:
    """The parser, and the terminals each start rule can reach."""
    from importlib.resources import files

    text = files("filestore.query").joinpath("grammar.lark").read_text(encoding="utf-8")
    starts = sorted(set(_STARTS.values()))
    parser = lark.Lark(text, parser="lalr", lexer=_Folded, start=starts, maybe_placeholders=False)
    uses: dict[str, set[str]] = {}
    for rule in parser.rules:
        uses.setdefault(str(rule.origin.name), set()).update(str(s.name) for s in rule.expansion)
    reach: dict[str, frozenset[str]] = {}
    for start in starts:
        seen: set[str] = set()
        pending = [start]
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending += uses.get(name, ())
        reach[start] = frozenset(n for n in seen if n.isupper())
    return parser, reach


def utility_statement(
    text: str, piece: Piece, lists: Mapping[int, str] | None = None, whole: str | None = None
) -> st.Statement:
    """The statement a piece holds; `lists` were taken out of the queries in it, `whole` is the text with them. Errors:
    0A000 for a statement that is not built, 42601 for one PostgreSQL does not know."""
    first = piece.tokens[0]
    refused = refusal(piece.tokens)
    if refused is not None:
        raise refused
    start = _STARTS.get(first.upper)
    if start is None:
        raise syntax_error(text, first)
    value = _Builder(text, lists, whole).build(_parse(text, piece, start))
    kind = "explain" if isinstance(value, st.Explain) else "utility"
    return st.Statement(kind, (whole or text)[piece.start : piece.end], piece.start, utility=value)


def _parse(text: str, piece: Piece, start: str) -> Any:
    parser, reach = _grammar()
    folded = _fold(text, piece, start)
    tokens = [_terminal(t, reach[start]) for t in folded]
    try:
        return parser.parse(iter(tokens), start=start)
    except lark.exceptions.UnexpectedToken as error:
        raise _unexpected(text, piece, error) from None


def _unexpected(text: str, piece: Piece, error: Any) -> errors.SqlSyntaxError:
    token = error.token
    if token.type == "$END":
        return syntax_error(text[: piece.end], None)
    at = token.start_pos
    source = next((t for t in piece.tokens if t.start == at), piece.tokens[-1])
    return syntax_error(text, source)


def _terminal(token: Token | LarkToken, keywords: frozenset[str]) -> LarkToken:
    if isinstance(token, LarkToken):
        return token
    kind = token.kind
    if kind == "word":
        upper = token.text.upper()
        name = upper if upper in keywords else "IDENT"
    elif kind in ("string", "estring", "dollar"):
        name = "STRING"
    elif kind == "quoted":
        name = "QUOTED"
    elif kind == "number":
        name = "NUMBER"
    else:
        name = _PUNCTUATION.get(token.text, token.text)
    return LarkToken(name, token.text, start_pos=token.start, end_pos=token.end)


# --- folding --------------------------------------------------------------------------------------

Folded = list["Token | LarkToken"]


def _folded(kind: str, text: str, tokens: Sequence[Token]) -> LarkToken:
    low, high = tokens[0].start, tokens[-1].end
    return LarkToken(kind, text[low:high], start_pos=low, end_pos=high)


def _closing(tokens: Sequence[Token], opening: int, text: str) -> int:
    """Index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0) if tokens[i].kind == "punct" else 0
        if depth == 0:
            return i
    raise syntax_error(text[: tokens[-1].end], None)


def _fold(text: str, piece: Piece, start: str) -> Folded:
    tokens = list(piece.tokens)
    fold: Callable[[str, list[Token]], Folded] | None = {
        "explain": _fold_explain, "prepare": _fold_prepare, "execute": _fold_execute,
        "declare": _fold_declare, "copy": _fold_copy, "create": _fold_create, "alter": _fold_checks,
    }.get(start)  # fmt: skip
    return list(tokens) if fold is None else fold(text, tokens)


def _fold_rest(text: str, tokens: list[Token], at: int) -> Folded:
    return [*tokens[:at], *([_folded("QUERY", text, tokens[at:])] if at < len(tokens) else [])]


def _fold_explain(text: str, tokens: list[Token]) -> Folded:
    at = 1
    if len(tokens) > 2 and tokens[1].text == "(" and tokens[2].upper not in _QUERY_START and tokens[2].text != "(":
        at = _closing(tokens, 1, text) + 1
    else:
        while at < len(tokens) and tokens[at].upper in ("ANALYZE", "ANALYSE", "VERBOSE"):
            at += 1
    return _fold_rest(text, tokens, at)


def _fold_prepare(text: str, tokens: list[Token]) -> Folded:
    at = 2
    head: Folded = list(tokens[:2])
    if len(tokens) > 2 and tokens[2].text == "(":
        close = _closing(tokens, 2, text)
        head += [tokens[2], *_listed(text, tokens[3:close], "TYPE"), tokens[close]]
        at = close + 1
    if at < len(tokens) and tokens[at].upper == "AS":
        return [*head, tokens[at], *_fold_rest(text, tokens[at + 1 :], 0)]
    return [*head, *tokens[at:]]


def _fold_execute(text: str, tokens: list[Token]) -> Folded:
    if len(tokens) > 3 and tokens[2].text == "(":
        close = _closing(tokens, 2, text)
        return [*tokens[:3], *_listed(text, tokens[3:close], "EXPR"), *tokens[close:]]
    return list(tokens)


def _listed(text: str, tokens: Sequence[Token], kind: str) -> Folded:
    """Items between commas, each folded into one token."""
    found: Folded = []
    item: list[Token] = []
    depth = 0
    for token in tokens:
        if token.text == "," and depth == 0:
            if item:
                found.append(_folded(kind, text, item))
            found.append(token)
            item = []
            continue
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        item.append(token)
    if item:
        found.append(_folded(kind, text, item))
    return found


def _fold_declare(text: str, tokens: list[Token]) -> Folded:
    at = next((i for i, t in enumerate(tokens) if t.upper == "FOR"), len(tokens))
    return _fold_rest(text, tokens, at + 1)


def _fold_copy(text: str, tokens: list[Token]) -> Folded:
    if len(tokens) > 2 and tokens[1].text == "(":
        close = _closing(tokens, 1, text)
        if close > 2:
            return [tokens[0], tokens[1], _folded("QUERY", text, tokens[2:close]), *tokens[close:]]
    return list(tokens)


def _fold_checks(text: str, tokens: list[Token]) -> Folded:
    found: Folded = []
    at = 0
    while at < len(tokens):
        found.append(tokens[at])
        if tokens[at].upper == "CHECK" and at + 1 < len(tokens) and tokens[at + 1].text == "(":
            close = _closing(tokens, at + 1, text)
            if close > at + 2:
                found.append(_folded("EXPR", text, tokens[at + 2 : close]))
            at = close + 1
        else:
            at += 1
    return found


def _fold_create(text: str, tokens: list[Token]) -> Folded:
    """CREATE TABLE: types, defaults and checks of the column list."""
    opening = next((i for i, t in enumerate(tokens) if t.text == "("), None)
    words = {t.upper for t in tokens[:5]}
    if opening is None or "TABLE" not in words:
        return list(tokens)
    close = _closing(tokens, opening, text)
    found: Folded = list(tokens[: opening + 1])
    for element in _elements(tokens[opening + 1 : close]):
        found += _fold_element(text, element)
    return [*found, *tokens[close:]]


def _elements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The parts of a column list, each with the comma behind it."""
    part: list[Token] = []
    depth = 0
    for token in tokens:
        part.append(token)
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            yield part
            part = []
    if part:
        yield part


def _fold_element(text: str, element: list[Token]) -> Folded:
    if element[0].upper in _TABLE_RULES:
        return _fold_checks(text, element)
    if element[0].kind == "word" and element[0].upper in RESERVED:
        raise syntax_error(text, element[0])
    found: Folded = [element[0]]
    at, end = 1, len(element)
    stop = _rule_at(element, at)
    if stop > at:
        found.append(_folded("TYPE", text, element[at:stop]))
    at = stop
    while at < end:
        word = element[at].upper
        found.append(element[at])
        at += 1
        if word == "DEFAULT":
            stop = _rule_at(element, at + 1)
            if stop > at and at < end:
                found.append(_folded("EXPR", text, element[at:stop]))
                at = stop
        elif word == "CHECK" and at < end and element[at].text == "(":
            close = _closing(element, at, text)
            if close > at + 1:
                found.append(_folded("EXPR", text, element[at + 1 : close]))
            at = close + 1
    return found


def _rule_at(element: Sequence[Token], at: int) -> int:
    """Index of the next column constraint, or of the comma that ends the element."""
    depth = 0
    for i in range(at, len(element)):
        token = element[i]
        if depth == 0 and (token.upper in _COLUMN_RULES or token.text == ","):
            return i
        depth += {"(": 1, ")": -1}.get(token.text, 0)
    return len(element)


# --- trees to values ------------------------------------------------------------------------------


class _Builder:
    """Turns a parse tree into a statement; see `utility_tree.BUILDERS` for the rules."""

    def __init__(self, text: str, lists: Mapping[int, str] | None = None, whole: str | None = None) -> None:
        self.text = text
        self._lists, self._whole = lists, whole

    def build(self, tree: Any) -> st.Utility:
        builder = BUILDERS[str(tree.data)]
        value: st.Utility = builder(self, tree)
        return value

    def nested(self, token: LarkToken) -> st.Statement:
        """The query a QUERY token holds. Errors with 42601 for anything that is not a query."""
        from filestore.query.parse import query

        low, high = token.start_pos or 0, token.end_pos or 0
        tokens = lexer.tokens(self.text[:high], low) if low == 0 else _shifted(self.text, low, high)
        first = tokens[0]
        if first.upper not in _QUERY_START and first.text != "(":
            refused = refusal(tokens)
            if refused is not None or first.upper in _STARTS:
                raise errors.FeatureNotSupported(
                    f"{first.upper} is not supported here", hint="A query is.", position=first.start + 1
                )
            raise syntax_error(self.text, first)
        return query(self.text, Piece(tuple(tokens), low, high), self._lists, self._whole)

    def type(self, token: LarkToken) -> Any:
        return parse_type(str(token), (token.start_pos or 0) + 1)


def _shifted(text: str, low: int, high: int) -> list[Token]:
    return [Token(t.kind, t.text, t.start + low, t.end + low) for t in lexer.tokens(text[low:high])]


def split_name(text: str) -> tuple[str | None, str]:
    """(schema, name) of a possibly qualified and quoted name in a string. Errors with 42602's wording for
    malformed ones."""
    tokens = lexer.tokens(text)
    parts = [unquote(t.text) for t in tokens if t.kind in ("word", "quoted")]
    if not parts or len(parts) > 2 or len(tokens) != 2 * len(parts) - 1:
        raise errors.SqlSyntaxError("invalid name syntax")
    return (parts[0] if len(parts) == 2 else None), parts[-1]
