"""Placeholders against what the lexer calls strings, comments and quoted names; positions back in the given text."""

from __future__ import annotations

import pytest

import filestore
from filestore.dbapi.placeholders import template


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("SELECT ?", "SELECT $1"),
        ("a=? AND b IN (?,?)", "a=$1 AND b IN ($2,$3)"),
        ("a=-?", "a=-$1"),
        ("?and?", "$1 and$2"),
        ("'?', \"?\", $$?$$, E'\\'?' -- ?\n/* ? */, ?", "'?', \"?\", $$?$$, E'\\'?' -- ?\n/* ? */, $1"),
        (":a, a::int, :b, :a", "$1, a::int, $2, $1"),
        ("v[1:n] = :v", "v[1:n] = $1"),
        ("$2, $1", "$2, $1"),
        ("SELECT 1", "SELECT 1"),
    ],
)
def test_texts(given: str, sent: str) -> None:
    assert template(given).text == sent


def test_values_of_names_and_numbers() -> None:
    named = template("SELECT :b, :a, :b")
    assert list(named.values({"a": 1, "b": 2, "unused": 3})) == [2, 1]
    assert list(template("SELECT $2, $1").values([10, 20])) == [10, 20]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [("SELECT ?", ()), ("SELECT ?", (1, 2)), ("SELECT :a", {"b": 1}), ("SELECT ?", {"a": 1}), ("SELECT ?", "x")],
)
def test_wrong_values(text: str, parameters: object) -> None:
    with pytest.raises(filestore.InterfaceError):
        template(text).values(parameters)  # type: ignore[arg-type]


def test_two_styles() -> None:
    with pytest.raises(filestore.ProgrammingError):
        template("SELECT ?, :a")


@pytest.mark.parametrize("text", ["SELECT :name, ?x", "SELECT ?, ?, x FROM t", "SELECT :long_name, :b, x", "SELECT x"])
def test_positions(text: str) -> None:
    at = text.index("x") + 1
    made = template(text.replace("?x", "x"))
    at = text.replace("?x", "x").index("x") + 1
    assert made.position(made.text.index("x") + 1) == at
