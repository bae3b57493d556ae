"""Patterns are found in linear time where that can be, and by both engines in the same strings."""

from __future__ import annotations

import random
import re

import pytest

from filestore.query.scalar.patterns import like_regex, similar_regex
from filestore.query.scalar.regex_search import search
from filestore.query.scalar.regex_syntax import advanced_regex

# Each takes Python's engine longer than anybody lives.
HOSTILE = [
    (r"^(a+)+$", "a" * 5000 + "b"),
    (r"(ä+)+$", "ä" * 5000 + "b"),
    (r"(a|a)+$", "a" * 3000 + "b"),
    (r"^(\w+\s?)*$", "word " * 1000 + "!"),
    (r"(.*)*x", "a" * 3000),
    (r"([[:alpha:]]+)*[0-9]", "é" * 3000),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("pattern", "text"), HOSTILE)
def test_hostile_patterns_end(pattern: str, text: str) -> None:
    assert search(advanced_regex(pattern, False))(text) is None
    assert search(advanced_regex(pattern, True))(text) is None


@pytest.mark.timeout(60)
def test_hostile_patterns_of_like_and_similar_to_end() -> None:
    assert search(similar_regex("(a|aa)+"))("a" * 3000 + "b") is None
    assert like_regex("%_a" * 300 + "c", False).fullmatch("ab" * 30_000) is None
    assert like_regex("%a" * 300 + "c", True).fullmatch("AB" * 30_000) is None


def test_both_engines_find_the_same(seed: int) -> None:
    rng = random.Random(seed)
    pieces = ["a", "b", "é", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "(a|b)", "(ab?)", "^", "$", "x|", r"\.", "É"]
    taken = 0
    for _ in range(3000):
        pattern = "".join(rng.choice(pieces) + rng.choice(["", "", "*", "+", "?", "{1,2}", "*?"]) for _ in range(4))
        try:
            plain = advanced_regex(pattern, rng.random() < 0.3)
        except Exception:  # noqa: BLE001, S112 - of PostgreSQL's rules: not of interest here
            continue
        found = search(plain)
        taken += getattr(found, "__self__", None) is not plain
        for _ in range(5):
            text = "".join(rng.choice("aabbéÉ1 .-\nx") for _ in range(rng.randint(0, 8)))
            assert (found(text) is None) == (plain.search(text) is None), (pattern, plain.flags, text)
    assert taken > 500


def test_like_is_its_definition(seed: int) -> None:
    """The pattern written without atomic groups is the twin."""
    rng = random.Random(seed)
    for _ in range(3000):
        pattern = "".join(rng.choice("ab%_A") for _ in range(rng.randint(0, 7)))
        ignore_case = rng.random() < 0.5
        twin = "".join({"%": ".*", "_": "."}.get(c, c) for c in pattern)
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        for _ in range(5):
            text = "".join(rng.choice("aabA\n") for _ in range(rng.randint(0, 9)))
            ours = like_regex(pattern, ignore_case).fullmatch(text) is not None
            assert ours == (re.fullmatch(twin, text, flags) is not None), (pattern, text)
