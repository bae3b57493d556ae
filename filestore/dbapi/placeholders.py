"""Placeholders: `?`, `:name` and `$1` in SQL text become the `$n` that the engine binds.

The text is scanned by the engine's own lexer, so a placeholder inside a string, a quoted name, a comment or a
dollar quote is left alone, and so are `::type`, `:=` and array slices. One style a statement. Positions in errors
are mapped back to the text as it was given.

Thread rule: templates do not change; any thread.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from filestore.dbapi.exceptions import InterfaceError, ProgrammingError
from filestore.query.lexer import tokens

Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """SQL text with `$n` placeholders. `names` are those of `:name`, in the order of their numbers; `count` the
    number of values.

    edits: (offset in `text`, characters that the given text is shorter by from there on), for positions.
    """

    text: str
    count: int
    names: tuple[str, ...] | None = None
    edits: tuple[tuple[int, int], ...] = field(default=())

    def values(self, parameters: Parameters) -> Sequence[Any]:
        """The values in the order of their numbers. Raises InterfaceError when there are too few, too many or the
        wrong kind.
        """
        if self.names is not None and isinstance(parameters, Mapping):
            missing = [name for name in self.names if name not in parameters]
            if missing:
                raise InterfaceError(f"no value for parameter :{missing[0]}")
            return [parameters[name] for name in self.names]
        if isinstance(parameters, Mapping):
            if parameters or self.count:
                raise InterfaceError("the statement has no named parameters: give a sequence of values")
            return ()
        if isinstance(parameters, str | bytes):
            raise InterfaceError("parameters are a sequence of values; a string is one value: write (value,)")
        if len(parameters) != self.count:
            raise InterfaceError(f"the statement has {self.count} parameters, {len(parameters)} values were given")
        return parameters

    def position(self, position: int | None) -> int | None:
        """A 1-based position in `text` as one in the text that was given."""
        if position is None or not self.edits:
            return position
        at = bisect.bisect_right(self.edits, (position - 1, 1 << 60)) - 1
        return position if at < 0 else position - self.edits[at][1]


@lru_cache(maxsize=1024)
def template(sql: str) -> Template:
    """The template of a statement. Raises ProgrammingError for two styles in one statement, and the lexer's 42601."""
    if "?" not in sql and ":" not in sql and "$" not in sql:
        return Template(sql, 0)
    found: list[tuple[int, int, str]] = []
    numbered = 0
    brackets = 0
    scanned = tokens(sql)
    for index, token in enumerate(scanned):
        if token.kind == "op" and "?" in token.text:
            # The lexer takes `=?` as one operator; none that is built has a question mark in it.
            found += [(token.start + i, token.start + i + 1, "") for i, c in enumerate(token.text) if c == "?"]
        elif token.kind == "param":
            numbered = max(numbered, int(token.text[1:]))
        elif token.kind == "punct" and token.text in "[]":
            brackets += 1 if token.text == "[" else -1
        elif token.kind == "punct" and token.text == ":" and brackets == 0 and index + 1 < len(scanned):
            word = scanned[index + 1]
            if word.kind == "word" and word.start == token.end:
                found.append((token.start, word.end, word.text))
    styles = {bool(name) for _, _, name in found} | ({None} if numbered else set())
    if len(styles) > 1:
        raise ProgrammingError("one statement uses one style of parameters: ? or :name or $1", sqlstate="42601")
    return Template(sql, numbered) if not found else _rewritten(sql, found)


def _rewritten(sql: str, found: list[tuple[int, int, str]]) -> Template:
    numbers: dict[str, int] = {}
    parts: list[str] = []
    edits: list[tuple[int, int]] = []
    at = length = 0
    for count, (start, end, name) in enumerate(found, 1):
        number = numbers.setdefault(name, len(numbers) + 1) if name else count
        mark = f"${number}"
        # A digit or letter right behind would be read as part of the number.
        if sql[end : end + 1].isalnum():
            mark += " "
        parts += [sql[at:start], mark]
        length += start - at + len(mark)
        at = end
        edits.append((length, length - end))
    parts.append(sql[at:])
    names = tuple(numbers) if numbers else None
    return Template("".join(parts), len(numbers) if names else len(found), names, tuple(edits))
