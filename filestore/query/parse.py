"""SQL text to statements: sqlglot for queries and INSERT, UPDATE, DELETE; a grammar of our own for everything
else.

sqlglot's tree is only a carrier: `bind*.py` refuse every node they do not know. Before parsing, two things
are done to its tokens: strings it reads differently from PostgreSQL are rewritten as plain ones (offsets are
mapped back by `Source`), and the names of called functions are marked, so that it builds a plain call and
keeps its hands off name and arguments.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import TokenType

from filestore import errors
from filestore.query import lexer
from filestore.query.lexer import Piece, Token
from filestore.query.names import MARK, shielded
from filestore.query.statements import Source, Statement

# Calls whose arguments have a syntax of their own, and words before a parenthesis that are no calls.
_OWN_SYNTAX: Final = frozenset(
    {
        "cast", "extract", "substring", "trim", "position", "overlay", "over", "conflict", "filter",
        "within", "group", "rollup", "cube", "grouping", "sets", "materialized", "zone", "symmetric",
        "asymmetric", "to", "collate", "by", "row", "key", "recursive", "only", "lateral", "bernoulli",
        "system", "returning", "array", "exists", "any", "some", "all", "using", "in", "as", "and", "or",
        "not", "on", "values", "select", "from", "where", "having", "limit", "offset", "union", "intersect",
        "except", "when", "then", "else", "case", "between", "like", "ilike", "is", "distinct", "interval",
        "date", "time", "timestamp", "operator", "into", "set", "default", "escape", "similar", "with",
        "join", "table", "fetch", "first", "next", "for", "of", "treat", "normalize",
    }
)  # fmt: skip
_CALLABLE_KEYWORDS: Final = frozenset(
    {
        "left", "right", "replace", "format", "current_schema", "current_catalog", "char", "chr", "mod",
        "div", "length", "row_number", "first_value", "last_value", "truncate", "xmlelement", "uuid",
        "unnest", "map", "list", "range", "struct", "merge", "glob",
    }
)  # fmt: skip
_TYPE_WORDS: Final = frozenset(
    {"numeric", "decimal", "dec", "varchar", "character", "char", "float", "bit", "varying", "bpchar", "nchar"}
)


_AFTER_LIST: Final = frozenset(
    {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION", "RETURNING", "SET"}
)


class FileStoreDialect(Postgres):
    """PostgreSQL without sqlglot's dollar quotes, which read `$1,$2` as a tag; `parse` rewrites dollar-quoted
    strings itself."""

    class Tokenizer(Postgres.Tokenizer):
        HEREDOC_STRINGS: Final = []  # type: ignore[misc]
        SINGLE_TOKENS: Final = {**Postgres.Tokenizer.SINGLE_TOKENS, "$": TokenType.PARAMETER}  # type: ignore[misc]


_DIALECT: Final = FileStoreDialect()
_QUERY_WORDS: Final = {"SELECT": "select", "VALUES": "select", "WITH": "select", "TABLE": "select", "INSERT": "insert",
                       "UPDATE": "update", "DELETE": "delete"}  # fmt: skip


def parse(text: str) -> list[Statement]:
    """The statements of a text, in order. Errors: 42601 with the position, 0A000 for what is refused by name,
    54001 when too deep."""
    return [statement(text, piece) for piece in lexer.split(text)]


def statement(text: str, piece: Piece) -> Statement:
    """One statement of a text that was already split."""
    first = piece.tokens[0]
    word = first.upper if first.kind == "word" else ""
    if word in _QUERY_WORDS or first.text == "(":
        return query(text, piece)
    from filestore.query.utility import utility_statement

    return utility_statement(text, piece)


def query(text: str, piece: Piece) -> Statement:
    """A query or INSERT, UPDATE, DELETE, parsed by sqlglot."""
    source = _source(text, piece)
    try:
        tree = _parse_tree(source, piece, text)
    except RecursionError:
        raise errors.StatementTooComplex(
            "stack depth limit exceeded", hint="The statement nests expressions too deeply; split it up."
        ) from None
    kind = _QUERY_WORDS.get(piece.tokens[0].upper, "select")
    if isinstance(tree, exp.Insert):
        kind = "insert"
    elif isinstance(tree, exp.Update):
        kind = "update"
    elif isinstance(tree, exp.Delete):
        kind = "delete"
    return Statement(kind, text[piece.start : piece.end], piece.start, tree, source)


def expression(text: str) -> tuple[Any, Source]:
    """The tree of one scalar expression (DEFAULT, CHECK, EXECUTE's arguments), parsed as the only item of a
    SELECT."""
    prefix = "SELECT "
    whole = prefix + text
    found = parse(whole)
    if len(found) != 1 or found[0].source is None or len(found[0].tree.expressions) != 1:
        raise errors.SqlSyntaxError(f'syntax error in expression "{text}"')
    return found[0].tree.expressions[0], found[0].source


def _source(text: str, piece: Piece) -> Source:
    """The text for sqlglot: strings that are not plain become plain, everything else stays where it is."""
    parts: list[str] = []
    shifts: list[tuple[int, int]] = []
    at, length = piece.start, 0
    previous = ""
    _check_start(text, piece)
    for before, token in pairwise(piece.tokens):
        if before.kind == token.kind == "string" and "\n" not in text[before.end : token.start]:
            raise lexer.syntax_error(text, token)  # only a newline joins two strings
    for token in piece.tokens:
        if previous == "," and (token.text in (",", ")") or token.upper in _AFTER_LIST):
            raise lexer.syntax_error(text, token)  # sqlglot takes a comma too many
        previous = token.text
        if token.kind in ("estring", "dollar") or (token.kind == "string" and token.text[0] != "'"):
            value = "'" + lexer.string_value(token.text, token.start + 1).replace("'", "''") + "'"
            gap = text[at : token.start]
            parts += [gap, value]
            length += len(gap)
            shifts.append((length, token.start))
            length += len(value)
            shifts.append((length, token.end))
            at = token.end
        elif token.kind in ("bits", "unicode"):
            what = "bit strings" if token.kind == "bits" else "U& strings"
            raise errors.FeatureNotSupported(f"{what} are not supported", position=token.start + 1)
    if previous == ",":
        raise lexer.syntax_error(text[: piece.end], None)
    parts.append(text[at : piece.end])
    return Source(text, piece.start, tuple(shifts), "".join(parts))


def _check_start(text: str, piece: Piece) -> None:
    """What PostgreSQL wants and sqlglot does not: INSERT INTO, DELETE FROM."""
    wanted = {"INSERT": "INTO", "DELETE": "FROM"}.get(piece.tokens[0].upper)
    if wanted is None:
        return
    if len(piece.tokens) < 2:
        raise lexer.syntax_error(text[: piece.end], None)
    if piece.tokens[1].upper != wanted:
        raise lexer.syntax_error(text, piece.tokens[1])


def _check_tree(tree: Any, text: str, piece: Piece) -> None:
    """UPDATE without an assignment."""
    if isinstance(tree, exp.Update) and not tree.expressions:
        at = next((i for i, t in enumerate(piece.tokens) if t.upper == "SET"), len(piece.tokens) - 1) + 1
        if at < len(piece.tokens):
            raise lexer.syntax_error(text, piece.tokens[at])
        raise lexer.syntax_error(text[: piece.end], None)


def _parse_tree(source: Source, piece: Piece, text: str) -> Any:
    sql = source.rewritten
    try:
        tokens = _DIALECT.tokenize(sql)
        _mark_calls(tokens)
        tokens = _typed_literals_first(tokens)
        trees = _DIALECT.parser().parse(tokens, sql)
    except ParseError as error:
        raise _translated(error, source, piece, text) from None
    except (TokenError, ValueError) as error:
        raise errors.SqlSyntaxError(f"syntax error: {error}", position=piece.start + 1) from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Command):
        raise lexer.syntax_error(text, piece.tokens[0])
    _check_tree(tree, text, piece)
    return tree


def _mark_calls(tokens: list[Any]) -> None:
    """Marks the names of called functions; a name before a column list is marked as well, and `names` takes
    the mark off."""
    previous: Any = None
    for token in tokens:
        if token.token_type is TokenType.L_PAREN and previous is not None:
            lower = previous.text.lower()
            if previous.token_type is TokenType.VAR:
                if lower not in _OWN_SYNTAX and lower not in _TYPE_WORDS:
                    previous.text += MARK
            elif (
                lower in _CALLABLE_KEYWORDS and previous.token_type is not TokenType.STRING and lower not in _TYPE_WORDS
            ):
                previous.token_type = TokenType.VAR
                previous.text += MARK
        elif token.token_type is TokenType.STRING and getattr(previous, "token_type", None) is TokenType.INTERVAL:
            token.text = shielded(token.text)
        previous = token


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


def _translated(error: ParseError, source: Source, piece: Piece, text: str) -> errors.Error:
    """sqlglot's complaint as PostgreSQL's 42601, at the token where it stopped."""
    if not error.errors:
        return lexer.syntax_error(text, piece.tokens[0])
    first = error.errors[0]
    line, column, highlight = first.get("line"), first.get("col"), first.get("highlight") or ""
    if line is None or column is None:
        return lexer.syntax_error(text, piece.tokens[0])
    lines = source.rewritten.split("\n")
    last = sum(len(x) + 1 for x in lines[: line - 1]) + column - 1
    at = source.position(max(last - len(highlight) + 1, 0)) - 1
    index = next((i for i, t in enumerate(piece.tokens) if t.start <= at < t.end), len(piece.tokens) - 1)
    description = first.get("description") or ""
    if index == len(piece.tokens) - 1 and "Unexpected token" not in description:
        return lexer.syntax_error(text[: piece.end], None)
    token: Token | None = piece.tokens[index]
    return lexer.syntax_error(text, token)
