"""Date, time and interval input cut into tokens, and the words that it may have; lower case throughout.

A token is a number, a date (digits and delimiters, perhaps a month's name, or a zone's name), a time (with colons), a
word, a signed word (special) or a signed number (zone). Other punctuation only separates.
"""

from __future__ import annotations

import re

MONTHS = {
    word: number
    for number, words in enumerate(
        (
            "jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
            "sep sept september", "oct october", "nov november", "dec december",
        ),
        start=1,
    )
    for word in words.split()
}  # fmt: skip
WEEKDAYS = frozenset(
    (
        "sun", "sunday", "mon", "monday", "tue", "tues", "tuesday", "wed", "wednesday", "weds", "thu", "thur", "thurs",
        "thursday", "fri", "friday", "sat", "saturday",
    )
)  # fmt: skip
SPECIAL = frozenset(
    ("now", "today", "tomorrow", "yesterday", "epoch", "infinity", "-infinity", "allballs")
)
LABELS = frozenset(("y", "m", "d", "h", "mm", "s", "j", "jd", "julian"))
FILLERS = frozenset(("at", "on"))
_KEYWORDS = SPECIAL | MONTHS.keys() | WEEKDAYS | LABELS | FILLERS | {"t", "am", "pm", "ad", "bc", "dst"}

class BadSyntax(Exception):
    """The text does not follow the syntax."""


class OutOfRange(Exception):
    """A field is out of its range; `order` when another DateStyle might read it."""

    def __init__(self, order: bool = False, zone: bool = False) -> None:
        super().__init__()
        self.order = order
        self.zone = zone


_SPACE = " \t\n\r\f\v"
_WORD_DATE_TAIL = re.compile(r"[-+/_.:a-z0-9]*")
_DIGITS = re.compile(r"[0-9]+")
_LETTERS = re.compile(r"[a-z]+")
_TIME_TAIL = re.compile(r":[0-9:.]*")
_SIGNED = re.compile(r"[0-9][0-9:.\-]*")

MAX_FIELDS = 25


def tokens_of(text: str) -> list[tuple[str, str]]:
    """(kind, text) in lower case; kinds: number, date, time, word, special (signed word), zone (signed number)."""
    text = text.lower()
    out: list[tuple[str, str]] = []
    at, end = 0, len(text)
    while at < end:
        c = text[at]
        if c in _SPACE:
            at += 1
            continue
        if len(out) >= MAX_FIELDS:
            raise BadSyntax
        if "0" <= c <= "9":
            kind, stop = _number_token(text, at)
        elif c == ".":
            found = _DIGITS.match(text, at + 1)
            kind, stop = "number", found.end() if found else at + 1
        elif "a" <= c <= "z":
            kind, stop = _word_token(text, at)
        elif c in "+-":
            start = at + 1
            while start < end and text[start] in _SPACE:
                start += 1
            found = _SIGNED.match(text, start)
            kind = "zone" if found else "special"
            found = found or _LETTERS.match(text, start)
            if found is None:
                raise BadSyntax
            out.append((kind, c + found.group()))
            at = found.end()
            continue
        elif "!" <= c <= "~":
            at += 1  # other punctuation separates
            continue
        else:
            raise BadSyntax
        out.append((kind, text[at:stop]))
        at = stop
    return out


def _number_token(text: str, at: int) -> tuple[str, int]:
    found = _DIGITS.match(text, at)
    stop = found.end() if found else at
    delimiter = text[stop : stop + 1]
    if delimiter == ":":
        time_found = _TIME_TAIL.match(text, stop)
        return "time", time_found.end() if time_found else stop
    if not delimiter or delimiter not in "-/.":
        return "number", stop
    stop += 1
    found = _DIGITS.match(text, stop)
    if found is None:
        while stop < len(text) and (text[stop] == delimiter or (text[stop].isascii() and text[stop].isalnum())):
            stop += 1
        return "date", stop
    stop = found.end()
    if text[stop : stop + 1] != delimiter:
        return "number" if delimiter == "." else "date", stop
    while stop < len(text) and (text[stop] == delimiter or "0" <= text[stop] <= "9"):
        stop += 1
    return "date", stop


def _word_token(text: str, at: int) -> tuple[str, int]:
    found = _LETTERS.match(text, at)
    stop = found.end() if found else at
    following = text[stop : stop + 1]
    is_date = following != "" and following in "-/."
    if following == "+" or "0" <= following <= "9":
        is_date = text[at:stop] not in _KEYWORDS
    if not is_date:
        return "word", stop
    tail = _WORD_DATE_TAIL.match(text, stop)
    return "date", tail.end() if tail else stop
