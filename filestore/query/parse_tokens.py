"""sqlglot's tokens, changed before it parses them so that its tree says what PostgreSQL would read.

- The names of called functions are marked, so that a plain call is built and name and arguments are left alone.
- INTERVAL literals become calls of `names.INTERVAL_LITERAL`: sqlglot would take a following alias for a unit.
- UNKNOWN behind IS becomes a literal of its own: sqlglot would read NULL.
- `oid[]` becomes pg_catalog.oid[]: sqlglot knows no arrays of such types by their plain names.
- `date '2020-01-01'::text` gets parentheses: sqlglot reads it as date ('2020-01-01'::text).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from sqlglot.tokenizer_core import TokenType

from filestore.query.names import INTERVAL_LITERAL, MARK, UNKNOWN_TRUTH

# Calls whose arguments have a syntax of their own, and words before a parenthesis that are no calls.
_OWN_SYNTAX: Final = frozenset(
    {
        "cast", "extract", "substring", "trim", "position", "overlay", "over", "conflict", "filter",
        "within", "group", "rollup", "cube", "grouping", "sets", "materialized", "zone", "symmetric",
        "asymmetric", "to", "collate", "by", "row", "key", "recursive", "only", "lateral", "bernoulli",
        "system", "returning", "array", "exists", "any", "some", "all", "using", "in", "as", "and", "or",
        "not", "on", "values", "select", "from", "where", "having", "limit", "offset", "union", "intersect",
        "except", "when", "then", "else", "case", "between", "like", "ilike", "is", "distinct", "interval",
        "time", "timestamp", "operator", "into", "set", "default", "escape", "similar", "with",
        "join", "table", "fetch", "first", "next", "for", "of", "treat", "normalize",
    }
)  # fmt: skip
_CALLABLE_KEYWORDS: Final = frozenset(
    {
        "left", "right", "replace", "format", "current_schema", "current_catalog", "char", "chr", "mod",
        "div", "length", "row_number", "first_value", "last_value", "truncate", "xmlelement", "uuid",
        "unnest", "map", "list", "range", "struct", "merge", "date",
    }
)  # fmt: skip
_TYPE_WORDS: Final = frozenset(
    {"numeric", "decimal", "dec", "varchar", "character", "char", "float", "bit", "varying", "bpchar", "nchar"}
)


def prepared(tokens: list[Any]) -> list[Any]:
    """The tokens of a statement, ready for sqlglot's parser."""
    tokens = _interval_literals(tokens)
    _mark_calls(tokens)
    _mark_unknown(tokens)
    return _typed_literals_first(_qualified_items(tokens))


def _mark_calls(tokens: list[Any]) -> None:
    """Marks the names of called functions; a name before a column list is marked as well, and `names` takes
    the mark off."""
    previous: Any = None
    for token in tokens:
        if token.token_type is TokenType.L_PAREN and previous is not None:
            lower = previous.text.lower()
            if previous.token_type is TokenType.IDENTIFIER:
                previous.text += MARK
            elif previous.token_type is TokenType.VAR:
                if not lower.endswith(MARK) and lower not in _OWN_SYNTAX and lower not in _TYPE_WORDS:
                    previous.text += MARK
            elif (
                lower in _CALLABLE_KEYWORDS and previous.token_type is not TokenType.STRING and lower not in _TYPE_WORDS
            ):
                previous.token_type = TokenType.VAR
                previous.text += MARK
        previous = token


def _mark_unknown(tokens: list[Any]) -> None:
    """IS [NOT] UNKNOWN as IS UNKNOWN_TRUTH: sqlglot would make IS NULL of it, whose operand need not be a boolean."""
    for i in range(2, len(tokens)):
        token = tokens[i]
        if token.text.lower() == "unknown" and token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
            at = i - 2 if tokens[i - 1].text.lower() == "not" else i - 1
            if tokens[at].token_type is TokenType.IS:
                token.token_type, token.text = TokenType.STRING, UNKNOWN_TRUTH


def _qualified_items(tokens: list[Any]) -> list[Any]:
    """`oid[]` as pg_catalog.oid[]: sqlglot takes brackets behind such a type only where its name is qualified."""
    at = [
        i
        for i, (token, after) in enumerate(pairwise(tokens))
        if token.token_type is TokenType.OBJECT_IDENTIFIER
        and after.token_type is TokenType.L_BRACKET
        and (i == 0 or tokens[i - 1].token_type is not TokenType.DOT)
    ]
    for i in reversed(at):
        beside = tokens[i]
        tokens[i:i] = [
            _punctuation(TokenType.VAR, "pg_catalog", beside), _punctuation(TokenType.DOT, ".", beside)
        ]  # fmt: skip
    return tokens


_LITERAL_TYPES: Final = frozenset(
    {
        "date", "time", "timestamp", "timestamptz", "interval", "int", "int2", "int4", "int8", "integer", "smallint",
        "bigint", "real", "float", "float4", "float8", "numeric", "decimal", "dec", "bool", "boolean", "text",
        "varchar", "uuid", "bytea",
    }
)  # fmt: skip


def _typed_literals_first(tokens: list[Any]) -> list[Any]:
    """Parentheses around `date '2020-01-01'` where `::` follows: sqlglot reads it as date ('2020-01-01'::...)."""
    wrapped: dict[int, int] = {}
    for i in range(1, len(tokens) - 1):
        if tokens[i].token_type is TokenType.STRING and tokens[i + 1].token_type is TokenType.DCOLON:
            start = i - 1
            if tokens[start].text.lower() == "zone" and start >= 3:
                start -= 3  # timestamp with time zone
            if tokens[start].text.lower() in _LITERAL_TYPES and tokens[start].token_type is not TokenType.STRING:
                wrapped[start] = i
    if not wrapped:
        return tokens
    ends = set(wrapped.values())
    out: list[Any] = []
    for i, token in enumerate(tokens):
        if i in wrapped:
            out.append(_punctuation(TokenType.L_PAREN, "(", token))
        out.append(token)
        if i in ends:
            out.append(_punctuation(TokenType.R_PAREN, ")", token))
    return out


def _punctuation(kind: Any, text: str, beside: Any) -> Any:
    """A token that stands where another does."""
    return type(beside)(kind, text, beside.line, beside.col, beside.start, beside.end)


# --- intervals ------------------------------------------------------------------------------------

_FIELDS: Final = frozenset({"year", "month", "day", "hour", "minute", "second"})


def _interval_literals(tokens: list[Any]) -> list[Any]:
    """INTERVAL [(p)] '...' [fields] as the call INTERVAL_LITERAL('...', 'fields', 'p')."""
    out: list[Any] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        i += 1
        out.append(token)
        if token.token_type is not TokenType.INTERVAL:
            continue
        precision, text_at = _precision(tokens, i)
        if text_at >= len(tokens) or tokens[text_at].token_type is not TokenType.STRING:
            continue
        literal, at = tokens[text_at], text_at + 1
        fields, at = _interval_fields(tokens, at)
        if fields.endswith("second") and not precision:
            precision, at = _precision(tokens, at)
        token.token_type, token.text = TokenType.VAR, INTERVAL_LITERAL + MARK
        out.append(_punctuation(TokenType.L_PAREN, "(", token))
        out.append(literal)
        for extra in (fields, precision):
            out.append(_punctuation(TokenType.COMMA, ",", literal))
            out.append(_punctuation(TokenType.STRING, extra, literal))
        out.append(_punctuation(TokenType.R_PAREN, ")", literal))
        i = at
    return out


def _precision(tokens: list[Any], at: int) -> tuple[str, int]:
    """(digits, index behind them) of `(3)`; ('', at) where there is none."""
    kinds = [t.token_type for t in tokens[at : at + 3]]
    if kinds == [TokenType.L_PAREN, TokenType.NUMBER, TokenType.R_PAREN] and tokens[at + 1].text.isdecimal():
        return str(tokens[at + 1].text), at + 3
    return "", at


def _interval_fields(tokens: list[Any], at: int) -> tuple[str, int]:
    """(fields, index behind them): `day`, `day to second`, or nothing."""

    def field(index: int) -> str:
        word = tokens[index].text.lower() if index < len(tokens) else ""
        return word if word in _FIELDS and tokens[index].token_type is not TokenType.IDENTIFIER else ""

    first = field(at)
    if not first:
        return "", at
    if at + 2 < len(tokens) and tokens[at + 1].text.lower() == "to" and field(at + 2):
        return f"{first} to {field(at + 2)}", at + 3
    return first, at + 1
