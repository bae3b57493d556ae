"""SQL text to statements: sqlglot for queries and INSERT, UPDATE, DELETE; a grammar of our own for everything
else.

sqlglot's tree is only a carrier: `bind*.py` refuse every node they do not know. Before it parses, what it reads
differently from PostgreSQL is rewritten in the text (offsets are mapped back by `Source`) or in its tokens
(`parse_tokens.py`), and what it would take that PostgreSQL does not is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import TokenType

from filestore import errors
from filestore.query import lexer
from filestore.query.clauses import check_clauses
from filestore.query.hints import not_supported
from filestore.query.lexer import Piece, Token
from filestore.query.literal_lists import split_lists
from filestore.query.names import ONLY_AFTER_AS, RESERVED, resolve_type
from filestore.query.parse_tokens import prepared
from filestore.query.statements import Source, Statement

_AFTER_LIST: Final = frozenset(
    {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION", "RETURNING", "SET"}
)


_FOREIGN_WORDS: Final = """
    ANTI APPLY ASOF AUTOINCREMENT AUTO_INCREMENT DESCRIBE EXEC FILE FORMAT GLOB KEEP KILL NAMESPACE OPTIMIZE OVERWRITE
    PERCENT PIVOT PRAGMA QUALIFY REGEXP RLIKE SEMI SETTINGS STRAIGHT_JOIN UNCACHE UNPIVOT USE XOR
    BIGDECIMAL BIGNUM BIGNUMERIC BLOB BYTE CLOB DATETIME DECFLOAT DECIMAL32 DECIMAL64 DECIMAL128 DECIMAL256 DOUBLE FIXED
    GEOGRAPHY GEOMETRY HUGEINT INT1 INT16 INT32 INT64 INT128 INT256 LIST LONG LONGBLOB LONGTEXT LONGVARCHAR MAP
    MEDIUMBLOB MEDIUMINT MEDIUMTEXT NULLABLE NUMBER NVARCHAR NVARCHAR2 SHORT STR STRING STRUCT TIMESTAMPLTZ TIMESTAMPNTZ
    TIMESTAMP_LTZ TIMESTAMP_NTZ TIME_NS TINYBLOB TINYINT TINYTEXT UHUGEINT UINT UINT128 UINT256 VARBINARY VARCHAR2
    VARIANT VECTOR
"""
_FOREIGN: Final = frozenset(_FOREIGN_WORDS.split())
"""Words that mean something in other dialects. PostgreSQL knows none of them: they are names like any other."""


class FileStoreDialect(Postgres):
    """PostgreSQL without the words of other dialects, and without sqlglot's dollar quotes, which read `$1,$2` as a tag;
    `parse` rewrites dollar-quoted strings itself."""

    class Tokenizer(Postgres.Tokenizer):
        HEREDOC_STRINGS: Final = []  # type: ignore[misc]
        KEYWORDS: Final = {  # type: ignore[misc]
            word: kind for word, kind in Postgres.Tokenizer.KEYWORDS.items() if word not in _FOREIGN
        }
        SINGLE_TOKENS: Final = {**Postgres.Tokenizer.SINGLE_TOKENS, "$": TokenType.PARAMETER}  # type: ignore[misc]


_DIALECT: Final = FileStoreDialect()
_QUERY_WORDS: Final = {"SELECT": "select", "VALUES": "select", "WITH": "select", "TABLE": "select", "INSERT": "insert",
                       "UPDATE": "update", "DELETE": "delete"}  # fmt: skip


def parse(text: str) -> list[Statement]:
    """The statements of a text, in order. Errors: 42601 with the position, 0A000 for what is refused by name,
    54001 when too deep."""
    short, pieces, lists = split_lists(text)
    if lists and not all(_is_query(piece) or piece.tokens[0].upper in _AROUND_QUERIES for piece in pieces):
        short, pieces, lists = text, lexer.split(text), {}
    return [statement(short, piece, lists, text) for piece in pieces]


_AROUND_QUERIES: Final = frozenset({"EXPLAIN", "PREPARE", "DECLARE", "COPY"})


def _is_query(piece: Piece) -> bool:
    first = piece.tokens[0]
    return first.upper in _QUERY_WORDS or first.text == "("


def statement(
    text: str, piece: Piece, lists: Mapping[int, str] | None = None, whole: str | None = None
) -> Statement:
    """One statement of a text that was already split; `lists` were taken out of it, `whole` is the text with them."""
    if _is_query(piece):
        return query(text, piece, lists, whole)
    from filestore.query.utility import utility_statement

    return utility_statement(text, piece, lists, whole)


def query(text: str, piece: Piece, lists: Mapping[int, str] | None = None, whole: str | None = None) -> Statement:
    """A query or INSERT, UPDATE, DELETE, parsed by sqlglot; `lists` and `whole` as in `statement`."""
    source = replace(_source(text, piece), lists=lists or {})
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
    return Statement(kind, (whole or text)[piece.start : piece.end], piece.start, tree, source)


def expression(text: str, start: int = 0) -> tuple[Any, Source]:
    """The tree of one scalar expression (DEFAULT, CHECK, EXECUTE's arguments), parsed as the only item of a
    SELECT. `start` is its offset in the client's text: blanks take the place of what is before, so that positions are
    the client's."""
    whole = "SELECT ".rjust(start) + text
    found = parse(whole)
    tree, source = (found[0].tree, found[0].source) if len(found) == 1 else (None, None)
    if isinstance(tree, exp.Select) and source is not None:
        items, clauses = tree.expressions, {name for name, value in tree.args.items() if value}
        if clauses == {"expressions"} and len(items) == 1 and not isinstance(items[0], exp.Alias | exp.Star):
            return items[0], source
    raise errors.SqlSyntaxError(f'syntax error in expression "{text}"', position=start + 1 if start else None)


def _source(text: str, piece: Piece) -> Source:
    """The text for sqlglot: what it would not read as PostgreSQL does is replaced, the rest stays where it is."""
    parts: list[str] = []
    shifts: list[tuple[int, int]] = []
    at, length = piece.start, 0
    _check_start(text, piece)
    _check_tokens(text, piece)
    check_clauses(text, piece)
    for low, high, value in _replacements(piece.tokens):
        gap = text[at:low]
        parts += [gap, value]
        length += len(gap)
        shifts.append((length, low))
        length += len(value)
        shifts.append((length, high))
        at = high
    parts.append(text[at : piece.end])
    return Source(text, piece.start, tuple(shifts), "".join(parts))


def _check_tokens(text: str, piece: Piece) -> None:
    """42601 for what sqlglot takes and PostgreSQL does not, 0A000 for what is refused by name."""
    previous = ""
    for before, token in pairwise(piece.tokens):
        if before.kind == token.kind == "string" and "\n" not in text[before.end : token.start]:
            raise lexer.syntax_error(text, token)  # only a newline joins two strings
        if before.kind == "number" and token.kind in ("word", "number") and before.end == token.start:
            junk = text[before.start : token.end]
            raise errors.SqlSyntaxError(
                f'trailing junk after numeric literal at or near "{junk}"', position=before.start + 1
            )
        if before.upper == "CURRENT" and token.upper == "OF":
            raise errors.FeatureNotSupported(
                "WHERE CURRENT OF is not supported", hint="Name the row by its key.", position=before.start + 1
            )
    for token in piece.tokens:
        if previous == "," and (token.text in (",", ")") or token.upper in _AFTER_LIST):
            raise lexer.syntax_error(text, token)  # sqlglot takes a comma too many
        previous = token.text
        if token.kind in ("bits", "unicode"):
            what = "bit strings" if token.kind == "bits" else "U& strings"
            raise not_supported(what, token.start + 1)
        if token.kind == "op" and token.text not in _BUILT_OPERATORS:
            raise _unknown_operator(text, piece, token)
        if token.upper in ("NUMERIC", "DECIMAL", "DEC"):
            _check_scale(piece.tokens, token)
    if previous == ",":
        raise lexer.syntax_error(text[: piece.end], None)


def _unknown_operator(text: str, piece: Piece, token: Token) -> errors.Error:
    """0A000 for an operator of PostgreSQL 15 that is not built, 42883 for any other; 42601 for MySQL's quotes."""
    if token.text == "`":
        return _backquote(text, piece, token)
    if token.text in _UNBUILT_OPERATORS:
        return not_supported(f"operator {token.text}", token.start + 1)
    return errors.UndefinedFunction(f"operator does not exist: {token.text}", position=token.start + 1)


def _backquote(text: str, piece: Piece, token: Token) -> errors.Error:
    """Backquotes are operators, of which the second one has nothing behind it; where a name has to stand already the
    first is too much."""
    found, at = piece.tokens, piece.tokens.index(token)
    hint = 'Names are quoted with ", as in "a name".'
    error = lexer.syntax_error(text, token)
    if not at or found[at - 1].upper not in _BEFORE_NAMES:
        second = next((i for i in range(at + 1, len(found)) if found[i].text == "`"), at)
        after = found[second + 1] if second + 1 < len(found) else None
        error = lexer.syntax_error(text[: piece.end] if after is None else text, after)
    error.hint = hint
    return error


_BEFORE_NAMES: Final = frozenset({"AS", "FROM", "INTO", "JOIN", "TABLE", "UPDATE"})


def _check_scale(tokens: Sequence[Token], word: Token) -> None:
    """0A000 for numeric(10,-2), which sqlglot cannot read."""
    at = tokens.index(word)
    texts = [t.text for t in tokens[at + 1 : at + 7]]
    if len(texts) == 6 and (texts[0], texts[2], texts[3], texts[5]) == ("(", ",", "-", ")"):
        resolve_type("numeric", (int(texts[1]), -int(texts[4])), word.start + 1)


_UNBUILT: Final = """
    @ |/ ||/ !! @> <@ && <-> -> ->> #> #>> #- @@ @@@ ? ?| ?& @? <<| |>> &< &> &<| |&> -|- ## ?- ?# ?-| ?|| ~= <^ >^
    <<= >>= ~<~ ~<=~ ~>~ ~>=~ *= *<> *< *> *<= *>= =>
"""
_UNBUILT_OPERATORS: Final = frozenset(_UNBUILT.split())
_BUILT: Final = "+ - * / % ^ || & | # << >> = <> != < <= > >= ~ ~* !~ !~* ~~ ~~* !~~ !~~* ^@"
_BUILT_OPERATORS: Final = frozenset(_BUILT.split())


def _replacements(tokens: Sequence[Token]) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) in order: strings that are not plain, OVERRIDING, ORDER BY ... USING, 1e3+2."""
    for i, token in enumerate(tokens):
        if token.kind in ("estring", "dollar") or (token.kind == "string" and token.text[0] != "'"):
            value = lexer.string_value(token.text, token.start + 1).replace("'", "''")
            yield token.start, token.end, f"'{value}'"
        elif token.kind == "op" and token.text[0] in "+-" and i and _has_exponent(tokens[i - 1], token.start):
            yield token.start, token.start, " "  # sqlglot would read one number
        elif token.upper == "OVERRIDING" and [t.upper for t in tokens[i + 1 : i + 3]] in _OVERRIDING:
            yield token.start, tokens[i + 2].end, ""  # without identity columns there is nothing to override
        elif token.upper in _LABELS and i and tokens[i - 1].upper == "AS":
            yield token.start, token.end, f'"{token.text.lower()}"'  # a label may be any word
        elif token.upper == "USING" and i + 1 < len(tokens) and tokens[i + 1].kind == "op":
            yield token.start, tokens[i + 1].end, _ordering(tokens[i + 1])
        elif token.upper == "USING" and i + 1 < len(tokens) and tokens[i + 1].upper == "OPERATOR":
            raise errors.FeatureNotSupported(
                "ORDER BY ... USING OPERATOR() is not supported", hint="Use ASC or DESC.", position=token.start + 1
            )


def _has_exponent(token: Token, end: int) -> bool:
    """Whether a token is a number with an exponent that ends right there."""
    return token.kind == "number" and token.end == end and "e" in token.text.lower()


_LABELS: Final = (RESERVED | ONLY_AFTER_AS) - {"NOT", "ARRAY", "CHAR", "CHARACTER"}
_OVERRIDING: Final = (["SYSTEM", "VALUE"], ["USER", "VALUE"])


def _ordering(operator: Token) -> str:
    """ASC or DESC for the operator of ORDER BY ... USING. Errors with 42809 for one that does not order."""
    if operator.text not in ("<", ">"):
        raise errors.WrongObjectType(
            f"operator {operator.text} is not a valid ordering operator",
            hint='Ordering operators must be "<" or ">" members of btree operator families.',
            position=operator.start + 1,
        )
    return "ASC" if operator.text == "<" else "DESC"


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
        tokens = prepared(_DIALECT.tokenize(sql))
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
