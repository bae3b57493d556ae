"""PostgreSQL's advanced regular expressions as Python's.

A pattern is read once, token by token, and written again in Python's syntax: `$` is the very end, `\\m` the start of
a word, `[[:alpha:]]` Unicode's letters, `{,3}` plain text. What Python would take and PostgreSQL does not (possessive
and atomic groups, names of groups) is refused in PostgreSQL's words, and so is what is malformed. Which strings match
is the same in both; how long a match is need not be (PostgreSQL takes the longest alternative): `regex_matches.py` says
where it is.

Source: PostgreSQL 15, 9.7.3; src/backend/regex/regcomp.c, regex/regerrs.h.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache

from filestore import errors

_REPEATS_MAX = 255  # RE_DUP_MAX
_WORD_START, _WORD_END = r"\b(?=\w)", r"\b(?<=\w)"
_CONSTRAINTS = {"m": _WORD_START, "M": _WORD_END, "y": r"\b", "Y": r"\B", "A": r"\A", "Z": r"\Z"}
_CONTROLS = {"a": "\a", "b": "\b", "B": "\\", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BALANCE = "parentheses () not balanced"
_BRACKETS = "brackets [] not balanced"
_OPERAND = "quantifier operand invalid"
_COUNTS = "invalid repetition count(s)"
_ESCAPE = "invalid escape \\ sequence"

_UNBROKEN = "\u00a0\u2007\u202f"  # spaces that do not break a line are no spaces to C libraries

_CLASSES: dict[str, Callable[[str], bool]] = {
    "alpha": str.isalpha,
    "alnum": str.isalnum,
    "digit": lambda c: c in "0123456789",
    "lower": str.islower,
    "upper": str.isupper,
    "space": lambda c: c in " \t\n\r\v\f" or (unicodedata.category(c) in ("Zs", "Zl", "Zp") and c not in _UNBROKEN),
    "blank": lambda c: c == "\t" or (unicodedata.category(c) == "Zs" and c not in _UNBROKEN),
    "punct": lambda c: unicodedata.category(c)[0] in "PS",
    "xdigit": lambda c: c in "0123456789abcdefABCDEF",
    "cntrl": lambda c: unicodedata.category(c) == "Cc",
    "print": lambda c: unicodedata.category(c)[0] not in "C",
    "graph": lambda c: unicodedata.category(c)[0] not in "CZ",
    "word": lambda c: c.isalnum() or c == "_",
}


def invalid(why: str) -> errors.InvalidRegularExpression:
    """PostgreSQL's 2201B."""
    return errors.InvalidRegularExpression(f"invalid regular expression: {why}")


@lru_cache(maxsize=512)
def advanced_regex(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """A PostgreSQL regular expression as a Python one, for `search`. Errors with 2201B, 0A000 for options."""
    flags: int = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    if pattern.startswith("***="):
        return re.compile(re.escape(pattern[4:]), flags)
    text, flags = options_of(pattern.removeprefix("***:"), flags)
    try:
        return re.compile(Translation(text).run(), flags)
    except re.error as error:  # what is left: a range backwards, a look-behind of no fixed width
        reversed_range = "bad character range" in error.msg
        raise invalid("invalid character range" if reversed_range else error.msg) from error


def options_of(text: str, flags: int) -> tuple[str, int]:
    """A pattern without the options that it begins with, and Python's flags with them. Errors with 2201B, 0A000."""
    options = re.match(r"\(\?([a-z]+)\)", text)
    if options is None and re.match(r"\(\?[A-Za-z]", text):
        raise invalid("invalid embedded option")
    if options is not None:
        text = text[options.end() :]
        for option in options[1]:
            if option in "ic":
                flags = flags | re.IGNORECASE if option == "i" else flags & ~re.IGNORECASE
            elif option not in "bcimnpqstewx":
                raise invalid("invalid embedded option")
            elif option not in "st":
                raise errors.FeatureNotSupported(
                    f'option "{option}" of regular expressions is not supported', hint="i, c and s are."
                )
    return text, flags


class Translation:
    """One pattern on its way. `atom`: whether what was read last can be repeated."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.out: list[str] = []
        self.depth = 0
        self.groups = 0
        self.atom = False

    def run(self) -> str:
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            match char:
                case "(":
                    self._open()
                case ")":
                    self._close()
                case "|" | "^" | "$":
                    self._put(r"\Z" if char == "$" else char, atom=False)
                case ".":
                    self._put(".")
                case "*" | "+" | "?":
                    self._repeat(char)
                case "{" if self._peek().isdecimal():
                    self._repeat(self._counts())
                case "[":
                    self._bracket()
                case "\\":
                    self._escape()
                case _:
                    self._put(re.escape(char))
        if self.depth:
            raise invalid(_BALANCE)
        return "".join(self.out)

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _put(self, text: str, atom: bool = True) -> None:
        self.out.append(text)
        self.atom = atom

    def _open(self) -> None:
        if self._peek() == "?":
            found = re.compile(r"\?(?:[:=!]|<[=!]|#[^)]*\))").match(self.text, self.at)
            if found is None:
                raise invalid(_OPERAND)
            self.at = found.end()
            if found[0].startswith("?#"):
                return
            self.out.append("(" + found[0])
        else:
            self.groups += 1
            self.out.append("(")
        self.depth += 1
        self.atom = False

    def _close(self) -> None:
        if not self.depth:
            raise invalid(_BALANCE)
        self.depth -= 1
        self._put(")")

    def _repeat(self, quantifier: str) -> None:
        if not self.atom:
            raise invalid(_OPERAND)
        lazy = self._peek() == "?"
        self.at += lazy
        self._put(quantifier + "?" * lazy, atom=False)

    def _counts(self) -> str:
        found = re.compile(r"(\d+)(,(\d*))?\}").match(self.text, self.at)
        if found is None:
            raise invalid("braces {} not balanced" if "}" not in self.text[self.at :] else _COUNTS)
        self.at = found.end()
        low, high = int(found[1]), int(found[3]) if found[3] else 0
        if low > _REPEATS_MAX or high > _REPEATS_MAX or (found[3] and low > high):
            raise invalid(_COUNTS)
        return "{" + found[0]

    # -- escapes -----------------------------------------------------------------------------------

    def _escape(self) -> None:
        char = self._peek()
        if not char:
            raise invalid(_ESCAPE)
        if char in "dswDSW":
            self.at += 1
            self._put(_shorthand(char))
        elif char in _CONSTRAINTS:
            self.at += 1
            self._put(_CONSTRAINTS[char], atom=False)
        elif char in "123456789":
            self._reference()
        else:
            self._put(re.escape(self._character()))

    def _reference(self) -> None:
        found = re.compile(r"\d+").match(self.text, self.at)
        digits = found[0] if found is not None else ""
        octal = re.compile(r"[0-7]{2,3}").match(self.text, self.at)
        if int(digits) > self.groups and octal is not None:
            self.at = octal.end()
            self._put(re.escape(chr(int(octal[0], 8))))
            return
        if int(digits) > self.groups:
            raise invalid("invalid backreference number")
        self.at += len(digits)
        self._put(f"(?:\\{digits})")

    def _character(self) -> str:
        """The character that an escape stands for; its backslash was read."""
        char = self._peek()
        self.at += 1
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "c" and self._peek():
            self.at += 1
            return chr(ord(self.text[self.at - 1]) & 31)
        wanted = {"u": r"[0-9A-Fa-f]{4}", "U": r"[0-9A-Fa-f]{8}", "x": r"[0-9A-Fa-f]+", "0": r"[0-7]{0,2}"}.get(char)
        if wanted is not None:
            found = re.compile(wanted).match(self.text, self.at)
            if found is None:
                raise invalid(_ESCAPE)
            self.at = found.end()
            code = int(found[0] or "0", 8 if char == "0" else 16)
            if code > 0x10FFFF:
                raise invalid(_ESCAPE)
            return chr(code)
        if not char or char.isalnum():
            raise invalid(_ESCAPE)
        return char

    # -- brackets ----------------------------------------------------------------------------------

    def _bracket(self) -> None:
        for name, meaning in (("[:<:]]", _WORD_START), ("[:>:]]", _WORD_END)):
            if self.text.startswith(name, self.at):
                self.at += len(name)
                self._put(meaning, atom=False)
                return
        parts = ["["]
        if self._peek() == "^":
            parts.append("^")
            self.at += 1
        first = self.at
        while self._peek() != "]" or self.at == first:
            parts.append(self._member(first))
        self.at += 1
        self._put("".join(parts) + "]")

    def _member(self, first: int) -> str:
        """One member of a bracket expression, or the dash between two."""
        char = self._peek()
        if not char:
            raise invalid(_BRACKETS)
        self.at += 1
        if char == "-":
            return r"\-" if self.at - 1 == first or self._peek() == "]" else "-"
        if char == "\\":
            if self._peek() and self._peek() in "dsw":
                self.at += 1
                return _shorthand(self.text[self.at - 1])[1:-1]
            return re.escape(self._character())
        if char == "[" and self._peek() and self._peek() in ":.=":
            return self._named(self._peek())
        return re.escape(char)

    def _named(self, kind: str) -> str:
        """[:alpha:], [.x.], [=x=]."""
        end = self.text.find(kind + "]", self.at + 1)
        if end < 0:
            raise invalid(_BRACKETS)
        name, self.at = self.text[self.at + 1 : end], end + 2
        if kind == ":":
            if name not in _CLASSES:
                raise invalid("invalid character class")
            return _members(name)
        if len(name) != 1:
            raise errors.FeatureNotSupported(
                f"collating element {name} is not supported in regular expressions", hint="Write the character."
            )
        return re.escape(name)


def _shorthand(letter: str) -> str:
    """\\d, \\s, \\w and their negations as bracket expressions."""
    name = {"d": "digit", "s": "space", "w": "word"}[letter.lower()]
    return ("[" if letter.islower() else "[^") + _members(name) + "]"


@cache
def _members(name: str) -> str:
    """The characters of a class below U+10000 as ranges for a bracket expression."""
    belongs = _CLASSES[name]
    ranges: list[str] = []
    start: int | None = None
    for code in range(0x10001):
        inside = code < 0x10000 and not 0xD800 <= code < 0xE000 and belongs(chr(code))
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append(f"\\u{start:04x}-\\u{code - 1:04x}")
            start = None
    return "".join(ranges)
