"""Extents of matches: PostgreSQL's, for random patterns over three letters, or refused."""

from __future__ import annotations

import random

import psycopg
import pytest

from filestore import errors
from filestore.query.scalar.regex_matches import matcher, replaced_text

SHOWN = r"<\&|\1|\2>"
ZERO_WIDTH = ("^", "$", "(?=a)", "(?!b)", r"\y")


def _atom(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.25 and depth < 3:
        return rng.choice(("(", "(", "(?:")) + _alternatives(rng, depth + 1) + ")"
    if kind < 0.4:
        return rng.choice(("[ab]", "[^a]", "[bc]", ".", r"\w", "[^bc]"))
    if kind < 0.45:
        return rng.choice(ZERO_WIDTH)
    return r"\1" if kind < 0.48 else rng.choice("abc")


def _piece(rng: random.Random, depth: int) -> str:
    atom = _atom(rng, depth)
    if atom in ZERO_WIDTH or rng.random() < 0.6:
        return atom
    lazy = "?" if rng.random() < 0.3 else ""
    return atom + rng.choice(("*", "+", "?", "{2}", "{1,2}", "{0,3}")) + lazy


def _alternatives(rng: random.Random, depth: int) -> str:
    count = 1 if rng.random() < 0.7 else 2
    return "|".join("".join(_piece(rng, depth) for _ in range(rng.randrange(1, 5))) for _ in range(count))


def _ours(text: str, pattern: str) -> str | None:
    """The text with all its matches shown, an SQLSTATE, or None when it is refused."""
    try:
        return replaced_text(text, matcher(pattern, False), SHOWN, 0, 0)
    except errors.FeatureNotSupported:
        return None
    except errors.Error as error:
        return error.sqlstate


def test_matches_are_postgresqls(postgres: psycopg.Connection) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    compared = 0
    for _ in range(600):
        pattern = _alternatives(rng, 0)
        for text in ("".join(rng.choice("abc") for _ in range(rng.randrange(9))) for _ in range(3)):
            ours = _ours(text, pattern)
            if ours is None:
                break
            assert ours == _theirs(postgres, text, pattern), (pattern, text)
            compared += 1
    assert compared > 600


def _theirs(connection: psycopg.Connection, text: str, pattern: str) -> str | None:
    try:
        with connection.transaction():
            row = connection.execute("SELECT regexp_replace(%s, %s, %s, 'g')", (text, pattern, SHOWN)).fetchone()
    except psycopg.Error as error:
        return error.sqlstate
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d+", r"^\s+|\s+$", r"(\w+)@(\w+)\.com", "a|ab", "(a|ab)(c|bcd)", "<[^>]*>", "<.+?>", "^(.*?),(.*)$",
        r"(.)\1+", "(ab)+", "https?://[^/]*", "x*",
    ],
)  # fmt: skip
def test_common_patterns_are_built(pattern: str) -> None:
    assert matcher(pattern, False).ways


@pytest.mark.parametrize("pattern", ["(ab)*(abc)?", "a+(bc?)*", "a.*?b.*c", "(a*)+", "a*?|b", "(a|bc)+"])
def test_what_may_have_several_extents_is_refused(pattern: str) -> None:
    with pytest.raises(errors.FeatureNotSupported, match="the extent of matches"):
        matcher(pattern, False)
