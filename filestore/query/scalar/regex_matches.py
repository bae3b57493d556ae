"""What a regular expression matches, where it begins and ends: regexp_replace and its kin.

PostgreSQL takes the longest of all matches that begin first (or the shortest, when the first quantifier is not greedy),
Python the first that it meets. So a pattern is taken apart into alternatives without `|`, and from each start the
longest alternative wins. Within one the two agree where it is

- without repeats of variable count, or with one, over something of fixed width: more of it is longer; or
- a row of single characters, each with its own count, all greedy or all not: were there a longer match, the two would
  cross within the repeat of one character, and Python would have gone on there; or
- held by `^` and `$`, so that there is one length only.

All else is refused (0A000) when its extent counts; tests for a match (`patterns.py`) take any pattern.

Source: PostgreSQL 15, 9.7.3.5; src/backend/utils/adt/regexp.c, varlena.c (replace_text_regexp).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from filestore import errors
from filestore.query.scalar.regex_search import search
from filestore.query.scalar.regex_syntax import Translation, advanced_regex, options_of
from filestore.query.scalar.registry import strict
from filestore.query.vectors import per_value
from filestore.storage.vector import Vector
from filestore.types import SqlType

if TYPE_CHECKING:
    from filestore.query.context import ExecutionContext

ALTERNATIVES_MAX = 64
_MANY = 1 << 16
_REFERENCE = re.compile(r"\(\?:\\(\d+)\)")
_REFERENCE_NAME = re.compile(r"\(\?P=(g\d+)\)")
_OPENING = re.compile(r"\(\?P<\w+>")


@dataclass(slots=True)
class _Item:
    """One character, place, group or look-around of a pattern. width: how many characters it takes, None unknown;
    number: that of a group that is remembered; name: that of any group; alternatives: of a group; low and high: how
    often it may come.
    """

    text: str
    width: int | None = 1
    number: int = 0
    name: str = ""
    alternatives: list[list[_Item]] | None = None
    low: int = 1
    high: int = 1
    repeat: str = ""
    references: bool = False

    @property
    def variable(self) -> bool:
        return self.low != self.high

    @property
    def lazy(self) -> bool:
        return self.variable and self.repeat.endswith("?") and self.repeat != "?"

    def rendered(self) -> str:
        if self.alternatives is None:
            return self.text + self.repeat
        inner = "|".join("".join(item.rendered() for item in row) for row in self.alternatives)
        return f"{self.text}{inner}){self.repeat}"


class _Shape(Translation):
    """The translation of a pattern that also keeps how it is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.top: list[list[_Item]] = [[]]
        self.open: list[_Item] = []
        self.has_references = False

    def _rows(self) -> list[list[_Item]]:
        if not self.open:
            return self.top
        rows = self.open[-1].alternatives
        assert rows is not None
        return rows

    def _put(self, text: str, atom: bool = True) -> None:
        super()._put(text, atom)
        if text == "|":
            self._rows().append([])
            return
        reference = _REFERENCE.fullmatch(text)
        if reference is not None:
            self.has_references = True
            self._rows()[-1].append(_Item(f"(?P=g{reference[1]})", self._width_of(int(reference[1])), references=True))
        elif text != ")":
            self._rows()[-1].append(_Item(text, 1 if atom else 0))

    def _width_of(self, number: int) -> int | None:
        found = [i for i in _all(self.top) if i.number == number]
        return found[0].width if found else None

    def _open(self) -> None:
        before = len(self.out)
        super()._open()
        if len(self.out) == before:  # a comment
            return
        text = self.out[-1]
        group = _Item(f"(?P<g{self.groups}>" if text == "(" else text, None, alternatives=[[]])
        if text == "(":
            group.number, group.name = self.groups, f"g{self.groups}"
        elif text == "(?:":
            group.name = f"x{len(self.out)}"
        self._rows()[-1].append(group)
        self.open.append(group)

    def _close(self) -> None:
        super()._close()
        group = self.open.pop()
        rows = group.alternatives or []
        widths = {_width(row) for row in rows}
        group.width = 0 if group.text[2:3] in ("=", "!", "<") and group.number == 0 else None
        if group.width is None and len(widths) == 1:
            group.width = widths.pop()

    def _repeat(self, quantifier: str) -> None:
        super()._repeat(quantifier)
        row = self._rows()[-1]
        row.pop()  # the quantifier itself
        item = row[-1]
        item.repeat = self.out[-1]
        counts = re.fullmatch(r"\{(\d+)(,(\d*))?\}", quantifier)
        if counts is not None:
            item.low = int(counts[1])
            item.high = item.low if counts[2] is None else int(counts[3]) if counts[3] else _MANY
        else:
            item.low, item.high = {"*": (0, _MANY), "+": (1, _MANY), "?": (0, 1)}[quantifier]


def _all(rows: list[list[_Item]]) -> Iterator[_Item]:
    for item in itertools.chain.from_iterable(rows):
        yield item
        yield from _all(item.alternatives or [])


def _width(row: list[_Item]) -> int | None:
    total = 0
    for item in row:
        if item.width is None or (item.variable and item.width):
            return None
        total += item.width * item.low
    return total


@dataclass(frozen=True, slots=True)
class _Way:
    """One way through a pattern, without `|`: `a(b|c)d` has `a(b)d` and `a(c)d`. rank: the choices that were made, as
    the negative of their numbers, and the names of the groups that they were made in, in the order of the pattern.
    """

    items: tuple[_Item, ...]
    rank: tuple[int | str, ...]


def _ways(rows: list[list[_Item]]) -> Iterator[_Way]:
    for number, row in enumerate(rows):
        choices: list[list[_Way]] = []
        for item in row:
            if item.alternatives is None or item.repeat or not item.name:
                choices.append([_Way((item,), ())])
            else:
                opening, closing = _Item(f"(?P<{item.name}>", 0), _Item(")", 0)
                inside = itertools.islice(_ways(item.alternatives), ALTERNATIVES_MAX + 1)
                choices.append([_Way((opening, *w.items, closing), (item.name, *w.rank)) for w in inside])
        for parts in itertools.product(*choices):
            items = itertools.chain.from_iterable(part.items for part in parts)
            yield _Way(tuple(items), (-number, *itertools.chain.from_iterable(part.rank for part in parts)))


def _is_certain(row: tuple[_Item, ...], alone: bool) -> bool:
    """Whether Python's match of a row is PostgreSQL's; see the module's docstring."""
    variable = [item for item in row if item.variable]
    if any(item.width is None or (item.width == 0 and item.variable) for item in row):
        return False
    if any(item.lazy for item in variable) and not alone:
        return False
    if any(inner.variable for item in row for inner in _all(item.alternatives or [])):
        return False
    if len(variable) <= 1:
        return True
    if any(item.references for item in row) or any(item.alternatives or item.width != 1 for item in variable):
        return False
    places = [item.text for item in row if item.text not in (")", "(?:") and not item.text.startswith("(?P<")]
    return len({item.lazy for item in variable}) == 1 or (places[0], places[-1]) == ("^", r"\Z")


@dataclass(frozen=True, slots=True)
class Matcher:
    """A pattern whose matches have certain extents. `first` finds where one begins, `ways` (with their ranks) how far
    it reaches; groups: how many are remembered."""

    first: re.Pattern[str]
    ways: tuple[tuple[re.Pattern[str], tuple[int | str, ...]], ...]
    groups: int

    def search(self, text: str, at: int) -> re.Match[str] | None:
        """The match that PostgreSQL finds from an offset on."""
        if len(self.ways) == 1:
            return self.ways[0][0].search(text, at)
        found = self.first.search(text, at)
        if found is None:
            return None
        matches = [(m, rank) for way, rank in self.ways if (m := way.match(text, found.start())) is not None]
        return max(matches, key=self._preference)[0] if matches else None

    @staticmethod
    def _preference(found: tuple[re.Match[str], tuple[int | str, ...]]) -> tuple[int, ...]:
        """The longest; of those the first alternative, whose parts are the longer the further left they are."""
        match, rank = found
        out = [match.end()]
        for part in rank:
            out += [part] if isinstance(part, int) else match.span(part)
        return tuple(out)

    def span(self, match: re.Match[str], number: int) -> tuple[int, int]:
        """Where a group lies, (-1, -1) when it is in no part of the match."""
        if number == 0:
            return match.span()
        name = f"g{number}"
        return match.span(name) if name in match.re.groupindex else (-1, -1)

    def text(self, match: re.Match[str], number: int) -> str | None:
        low, high = self.span(match, number)
        return None if low < 0 else match.string[low:high]


@lru_cache(maxsize=512)
def matcher(pattern: str, ignore_case: bool) -> Matcher:
    """A PostgreSQL regular expression whose extents are known. Errors with 2201B; 0A000 when they are not."""
    first = advanced_regex(pattern, ignore_case)
    if pattern.startswith("***="):
        return Matcher(first, ((first, ()),), 0)
    text, _ = options_of(pattern.removeprefix("***:"), first.flags)
    shape = _Shape(text)
    shape.run()
    ways = list(itertools.islice(_ways(shape.top), ALTERNATIVES_MAX + 1))
    if len(ways) > ALTERNATIVES_MAX or not all(_is_certain(way.items, len(ways) == 1) for way in ways):
        raise errors.FeatureNotSupported(
            f'the extent of matches of the regular expression "{pattern}" is not supported',
            hint="Repeat single characters and bracket expressions, not groups, and all of them greedily or none.",
        )
    compiled = []
    for way in ways:
        text = "".join(item.rendered() for item in way.items)
        if {f"(?P<{name}>" for name in _REFERENCE_NAME.findall(text)} <= set(_OPENING.findall(text)):
            compiled.append((re.compile(text, first.flags), way.rank))
        # else it refers to a group of another alternative, and matches nothing
    return Matcher(first, tuple(compiled), shape.groups)


# --- the functions ---------------------------------------------------------------------------------------------------


def _options(flags: str, function: str) -> tuple[bool, bool]:
    """(ignore case, global) of a flags argument. Errors with 22023, 0A000 for flags that are not built."""
    ignore_case = everywhere = False
    for flag in flags:
        if flag == "g":
            if not function.startswith("regexp_replace"):
                raise errors.InvalidParameterValue(f'{function} does not support the "global" option')
            everywhere = True
        elif flag in "ic":
            ignore_case = flag == "i"
        elif flag in "bemnpqtwx":
            if flag != "t":
                raise errors.FeatureNotSupported(
                    f'option "{flag}" of regular expressions is not supported', hint="i, c and g are."
                )
        elif flag != "s":
            raise errors.InvalidParameterValue(f'invalid regular expression option: "{flag}"')
    return ignore_case, everywhere


_PIECE = re.compile(r"\\([1-9&\\])")


@lru_cache(maxsize=512)
def _pieces(replacement: str) -> tuple[str | int, ...]:
    r"""A replacement's plain parts, and the numbers of the groups between them: \1, \& (0), \\."""
    out: list[str | int] = []
    at = 0
    for found in _PIECE.finditer(replacement):
        out.append(replacement[at : found.start()])
        char = found[1]
        out.append("\\" if char == "\\" else 0 if char == "&" else int(char))
        at = found.end()
    out.append(replacement[at:])
    return tuple(out)


def replaced_text(source: str, pattern: Matcher, replacement: str, start: int, number: int) -> str:
    """`source` with its match `number` from an offset on replaced, or with all of them (0)."""
    pieces = _pieces(replacement)
    out: list[str] = []
    copied, at, met = 0, start, 0
    while at <= len(source):
        found = pattern.search(source, at)
        if found is None:
            break
        low, high = found.span()
        met += 1
        if number in (0, met):
            out.append(source[copied:low])
            out.extend(p if isinstance(p, str) else pattern.text(found, p) or "" for p in pieces)
            copied = high
            if number:
                break
        at = high + (low == high)
    out.append(source[copied:])
    return "".join(out)


def _positive(value: int, name: str, least: int = 1) -> int:
    if value < least:
        raise errors.InvalidParameterValue(f'invalid value for parameter "{name}": {value}')
    return value


def _replace(source: str, pattern: str, replacement: str, *rest: str | int) -> str:
    """regexp_replace(source, pattern, replacement [, flags]) or (... , start [, N [, flags]])."""
    flags = rest[-1] if rest and isinstance(rest[-1], str) else ""
    numbers = [r for r in rest if isinstance(r, int)]
    if not numbers and flags[:1].isdecimal():
        raise errors.InvalidParameterValue(
            f'invalid regular expression option: "{flags[0]}"',
            hint="If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer"
            " explicitly.",
        )
    start = _positive(numbers[0], "start") if numbers else 1
    number = _positive(numbers[1], "n", 0) if len(numbers) > 1 else None
    ignore_case, everywhere = _options(flags, "regexp_replace()")
    if number is None:
        number = 0 if everywhere else 1
    return replaced_text(source, matcher(pattern, ignore_case), replacement, start - 1, number)


def _matches(source: str, pattern: Matcher, start: int) -> Iterator[re.Match[str]]:
    at = start
    while at <= len(source) and (found := pattern.search(source, at)) is not None:
        yield found
        at = found.end() + (found.start() == found.end())


def _like(source: str, pattern: str, flags: str = "") -> bool:
    ignore_case, _ = _options(flags, "regexp_like()")
    return search(advanced_regex(pattern, ignore_case))(source) is not None


def _count(source: str, pattern: str, start: int = 1, flags: str = "") -> int:
    _positive(start, "start")
    ignore_case, _ = _options(flags, "regexp_count()")
    return sum(1 for _ in _matches(source, matcher(pattern, ignore_case), start - 1))


def _substr(
    source: str, pattern: str, start: int = 1, number: int = 1, flags: str = "", group: int = 0
) -> str | None:
    _positive(start, "start")
    _positive(number, "n")
    _positive(group, "subexpr", 0)
    ignore_case, _ = _options(flags, "regexp_substr()")
    found = matcher(pattern, ignore_case)
    match = next(itertools.islice(_matches(source, found, start - 1), number - 1, None), None)
    return None if match is None or group > found.groups else found.text(match, group)


def _substring(source: str, pattern: str) -> str | None:
    """substring(source FROM pattern): the first group, or the whole match when there is none."""
    found = matcher(pattern, False)
    match = found.search(source, 0)
    return None if match is None else found.text(match, 1 if found.groups else 0)


def _function(name: str, function: Callable[..., object]) -> None:
    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        return per_value(args, length, result, function)


_function("regexp_replace", _replace)
_function("regexp_like", _like)
_function("regexp_count", _count)
_function("regexp_substr", _substr)
_function("regex_substring", _substring)
