"""One pass over SQL text: tokens with their positions, statements between semicolons, literals taken out for
the plan cache.

The tokens are PostgreSQL's (scan.l): nested comments, dollar quotes, E'' strings, `$1` parameters. Offsets
count characters from 0 in the whole text; errors carry them plus one. Nothing is changed: what sqlglot cannot
read is rewritten in `parse.py`.

`normalise` is deliberately timid: a literal is taken out only where its value cannot change the plan's shape
or types.
"""

from __future__ import annotations

import bisect
import itertools
import re
from dataclasses import dataclass
from typing import Final

from filestore import errors

_IDENT = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"

_TOKEN: Final = re.compile(
    rf"""
    (?P<skip>\s+|--[^\n]*)
  | (?P<comment>/\*)
  | (?P<estring>[eE]'(?:[^'\\]|''|\\.)*')
  | (?P<string>[nN]?'(?:[^']|'')*')
  | (?P<bits>[xXbB]'[^']*')
  | (?P<unicode>[uU]&(?:'(?:[^']|'')*'|"(?:[^"]|"")*"))
  | (?P<word>{_IDENT})
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<param>\$\d+)
  | (?P<dollar>\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\$)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<punct>::|:=|\.\.|[(),;.\[\]:{{}}])
  | (?P<op>(?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?])+)
  | (?P<bad>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """kind: word quoted string estring bits unicode dollar number param punct op. `text` is the source,
    quotes included."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind == "word" else ""


def syntax_error(text: str, token: Token | None) -> errors.SqlSyntaxError:
    """PostgreSQL's 42601 at a token, or at the end of the text."""
    if token is None:
        return errors.SqlSyntaxError("syntax error at end of input", position=len(text) + 1)
    return errors.SqlSyntaxError(f'syntax error at or near "{token.text}"', position=token.start + 1)


def check_bytes(text: str) -> None:
    """Errors with 22021 for a NUL character, which no text has: PostgreSQL's protocol ends strings with it."""
    if "\0" in text:
        raise errors.CharacterNotInRepertoire(
            'invalid byte sequence for encoding "UTF8": 0x00', position=text.index("\0") + 1
        )


def tokens(text: str, start: int = 0) -> list[Token]:
    """The tokens of a text, without comments. Errors with 42601 at an unterminated quote or comment, 22021 at NUL."""
    check_bytes(text)
    found: list[Token] = []
    at, length, match = start, len(text), _TOKEN.match
    while at < length:
        m = match(text, at)
        if m is None or m.lastgroup is None:  # unreachable: `bad` takes any character
            raise errors.InternalError("lexer stopped")
        kind, end = m.lastgroup, m.end()
        if kind == "comment":
            end = _end_of_comment(text, at)
        elif kind == "dollar":
            close = text.find(m.group(), end)
            if close < 0:
                raise _unterminated("dollar-quoted string", text, at)
            end = close + len(m.group())
            found.append(Token(kind, text[at:end], at, end))
        elif kind == "bad":
            raise _bad_character(text, at)
        elif kind == "op":
            end = at + len(_operator(m.group()))
            found.append(Token(kind, text[at:end], at, end))
        elif kind != "skip":
            found.append(Token(kind, m.group(), at, end))
        at = end
    return found


def _operator(signs: str) -> str:
    """The first operator of a run of signs: one of several signs ends in + or - only if it has one that SQL's own
    operators have not, so that `=-1` is two."""
    if len(signs) > 1 and not _UNUSUAL.search(signs):
        return signs.rstrip("+-") or signs[0]
    return signs


_UNUSUAL: Final = re.compile(r"[~!@#%^&|`?]")


def _end_of_comment(text: str, at: int) -> int:
    depth, here = 1, at + 2
    while depth:
        edge = _COMMENT_EDGE.search(text, here)
        if edge is None:
            raise errors.SqlSyntaxError(f'unterminated /* comment at or near "{text[at:]}"', position=at + 1)
        depth += 1 if edge.group() == "/*" else -1
        here = edge.end()
    return here


def _unterminated(what: str, text: str, at: int) -> errors.SqlSyntaxError:
    return errors.SqlSyntaxError(f'unterminated {what} at or near "{text[at:]}"', position=at + 1)


def _bad_character(text: str, at: int) -> errors.SqlSyntaxError:
    if text[at] == "'":
        return _unterminated("quoted string", text, at)
    if text[at] == '"':
        return _unterminated("quoted identifier", text, at)
    return errors.SqlSyntaxError(f'syntax error at or near "{text[at]}"', position=at + 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement of a text: its tokens, and where it lies (start, end without the semicolon)."""

    tokens: tuple[Token, ...]
    start: int
    end: int


def split(text: str) -> list[Piece]:
    """The statements of a text; empty ones are left out. Errors as `tokens`."""
    pieces: list[Piece] = []
    current: list[Token] = []
    for token in tokens(text):
        if token.kind == "punct" and token.text == ";":
            if current:
                pieces.append(Piece(tuple(current), current[0].start, current[-1].end))
            current = []
        else:
            current.append(token)
    if current:
        pieces.append(Piece(tuple(current), current[0].start, current[-1].end))
    return pieces


_ESCAPE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL
)
_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def string_value(source: str, position: int | None = None) -> str:
    """The value of a string token's source: '...', E'...', N'...' or $tag$...$tag$. Errors with 22021 for
    bytes not UTF-8."""
    if source[0] == "'":
        return source[1:-1].replace("''", "'")
    if source[0] == "$":
        width = source.index("$", 1) + 1
        return source[width:-width]
    if source[0] in "nN":
        return source[2:-1].replace("''", "'")
    return _escaped_value(source[2:-1], position)


def _escaped_value(body: str, position: int | None) -> str:
    def value(m: re.Match[str]) -> bytes:
        octal, hexa, short, long, letter = m.groups()
        if octal is not None:
            return bytes([int(octal, 8) & 0xFF])
        if hexa is not None:
            return bytes([int(hexa, 16)])
        if short is not None or long is not None:
            return chr(int(short or long, 16)).encode()
        return _LETTERS.get(letter, letter).encode() if letter is not None else b"'"

    parts: list[bytes] = []
    at = 0
    for m in _ESCAPE.finditer(body):
        parts += [body[at : m.start()].encode(), value(m)]
        at = m.end()
    parts.append(body[at:].encode())
    found = b"".join(parts)
    if b"\0" in found:
        raise errors.CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00', position=position)
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise errors.CharacterNotInRepertoire(
            f'invalid byte sequence for encoding "UTF8": 0x{error.object[error.start]:02x}', position=position
        ) from None


# --- literals taken out for the plan cache --------------------------------------------------------

_VALUE: Final = re.compile(r"""["'0-9](?:(?<=')(?:[^']|'')*'|(?<=")(?:[^"]|"")*"|(?<=\d)[0-9]*(?:\.[0-9]+)?)""")
_RISKY: Final = ("$", "\\", "--", "/*", "::")
_RISKY_WORDS: Final = (
    "group",
    "distinct",
    "cast",
    "interval",
    "numeric",
    "decimal",
    "with",
    "union",
    "except",
    "intersect",
    "over",
)
_PLAIN: Final = ("select", "insert", "update", "delete")
_OPERATOR_ENDS: Final = frozenset("=<>+-*/%")
_SMALLEST: Final = frozenset({"2147483648", "9223372036854775808"})
_GLUED: Final = frozenset("_.([$")

_RUNS: Final = re.compile("([0-9]+)")
_RUNS_MAX: Final = 16  # a statement with more digits than that is rarely one of many alike
_SHAPES_KEPT: Final = 512
_SURE_DIGITS: Final = 9  # an int4, whatever they are

Literal = tuple[str, str]

# What texts with the same words between their numbers come to: the shape, which numbers are literals of it, and the
# others, which have to be the same. Any thread: an entry is never changed, and losing one costs time only.
_shapes: dict[tuple[str, ...], tuple[str, tuple[int, ...], tuple[tuple[int, str], ...]]] = {}


def normalise(text: str) -> tuple[str, tuple[Literal, ...]]:
    """`text` with literals replaced by $1, $2 ... and the literals as (kind, text), kind int4 | int8 |
    numeric | string.

    The plan depends on the key and the kinds. A string's text has its quotes taken off. Returns (text, ())
    when unsure.

    >>> normalise("SELECT a FROM t WHERE k = 42 AND b <> 'x'")
    ('SELECT a FROM t WHERE k = $1 AND b <> $2', (('int4', '42'), ('string', 'x')))
    """
    parts = _RUNS.split(text, _RUNS_MAX + 1)
    known = _shapes.get(tuple(parts[::2]))
    if known is not None:
        shape, taken, same = known
        numbers = tuple([("int4", parts[i]) for i in taken if len(parts[i]) <= _SURE_DIGITS])
        if len(numbers) == len(taken) and all(parts[i] == number for i, number in same):
            return shape, numbers
    shape, literals = _normalised(text)
    if known is None and literals and 1 < len(parts) <= 2 * _RUNS_MAX + 1:
        _remember(parts, shape, literals)
    return shape, literals


def _remember(parts: list[str], shape: str, literals: tuple[Literal, ...]) -> None:
    """Keeps a shape whose literals are all small integers, each one of the runs of digits of `parts`."""
    taken: list[int] = []
    chunks = _PLACES.split(shape)
    at = len(chunks[0])
    starts = list(itertools.accumulate(map(len, parts), initial=0))
    for (kind, number), chunk in zip(literals, chunks[1:], strict=True):
        place = bisect.bisect_left(starts, at)
        if kind != "int4" or len(number) > _SURE_DIGITS or not place & 1 or parts[place : place + 1] != [number]:
            return
        taken.append(place)
        at += len(number) + len(chunk)
    same = tuple((i, parts[i]) for i in range(1, len(parts), 2) if i not in taken)
    if len(_shapes) >= _SHAPES_KEPT:
        _shapes.clear()
    _shapes[tuple(parts[::2])] = shape, tuple(taken), same


_PLACES: Final = re.compile(r"\$[0-9]+")


def _normalised(text: str) -> tuple[str, tuple[Literal, ...]]:
    """`normalise`, read anew."""
    lower = text.lower()
    if lower[:6] not in _PLAIN:
        return text, ()
    for risk in _RISKY:
        if risk in text:
            return text, ()
    for risk in _RISKY_WORDS:
        if risk in lower:
            return text, ()
    values = lower.find("values") if lower[:6] == "insert" and "select" not in lower else -1
    taken: list[Literal] = []
    parts: list[str] = []
    at = 0
    listing = bound = -1
    for m in _VALUE.finditer(text):
        low, high = m.span()
        before = low - 1
        while text[before] in " \n\t\r":
            before -= 1
        mark = text[before]
        if mark in _OPERATOR_ENDS:
            if mark == "-" and m.group() in _SMALLEST:  # with its sign a smaller type holds it
                continue
        elif mark == "(" or mark == ",":
            if not (0 <= values < low or _in_list(lower, before, mark, listing)):
                continue
            listing = high
        elif not _in_between(lower, before, bound):
            continue
        else:
            bound = high
        source = m.group()
        if source[0] == '"' or (before == low - 1 and (mark.isalnum() or (mark in _GLUED and mark != "("))):
            continue
        after = text[high : high + 1]
        if after and (after.isalnum() or after in _GLUED or text[high:].lstrip()[:1] == "'"):
            continue
        taken.append(_literal(source))
        parts.append(text[at:low])
        parts.append(f"${len(taken)}")
        at = high
    if not taken:
        return text, ()
    parts.append(text[at:])
    return "".join(parts), tuple(taken)


def _in_list(lower: str, before: int, mark: str, listing: int) -> bool:
    """Whether a literal after this parenthesis or comma is an item of an IN list."""
    if mark == ",":
        return (listing >= 0 and lower[listing:before].isspace()) or listing == before
    head = lower[:before].rstrip()
    return head.endswith(" in")


def _in_between(lower: str, before: int, bound: int) -> bool:
    """Whether a literal after this word is a bound of BETWEEN."""
    if lower[before - 7 : before + 1] == " between":
        return True
    return bound >= 0 and lower[bound : before + 1].strip() == "and"


def _literal(source: str) -> Literal:
    if source[0] == "'":
        return "string", source[1:-1].replace("''", "'")
    if "." in source:
        return "numeric", source
    if len(source) < 10:
        return "int4", source
    value = int(source)
    return ("int4" if value < 1 << 31 else "int8" if value < 1 << 63 else "numeric"), source
