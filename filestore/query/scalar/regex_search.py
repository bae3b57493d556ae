"""Whether a regular expression is found in a string: in linear time wherever that is possible.

Python's engine tries one way after the other, and a pattern as `(a+)+$` has exponentially many; nothing interrupts it,
and meanwhile nobody else runs. So what repeats more than once, or a group, goes to RE2, which follows all ways at once.
RE2 knows neither references back nor look-arounds, and takes words to be ASCII's: patterns with those stay with Python.

Whether a pattern is found is the same for both; where it is found need not be, and `regex_matches.py` does not use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import re2

_SIMPLIFIED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"([^(])[*+?{]")
_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|.)", re.DOTALL)

Search = Callable[[str], object]


@lru_cache(maxsize=512)
def search(pattern: re.Pattern[str]) -> Search:
    """What says whether a translated pattern (`regex_syntax.advanced_regex`) is found: a match or None."""
    repeats = _REPEAT.findall(_SIMPLIFIED.sub("x", pattern.pattern))
    if len(repeats) > 1 or repeats[:1] == [")"]:
        linear = _linear(pattern)
        if linear is not None:
            return linear
    return pattern.search


def _linear(pattern: re.Pattern[str]) -> Search | None:
    """The search by RE2; None when it cannot take the pattern."""
    if any(found[1] in "bB" for found in _ESCAPE.finditer(pattern.pattern)):
        return None
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.case_sensitive = not pattern.flags & re.IGNORECASE
    try:
        found: Search = re2.compile(_ESCAPE.sub(_rewritten, pattern.pattern), options).search
    except re2.error:  # of syntax that it does not have, or too large
        return None
    return found


def _rewritten(escape: re.Match[str]) -> str:
    """An escape of Python's in RE2's syntax."""
    if escape[1] == "Z":
        return r"\z"
    if len(escape[1]) > 1:
        return rf"\x{{{escape[1][1:]}}}"
    return escape[0]
