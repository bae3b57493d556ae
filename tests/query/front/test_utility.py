"""Utility statements to values, and refusals by name. REWRITE=1 writes what is parsed; the diff is the
review."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from filestore import errors
from filestore.query import statements as st
from filestore.query.parse import parse
from filestore.query.statements import Statement
from filestore.types import SqlType

HERE = Path(__file__).parent
GOLDEN = HERE / "utility.txt"


def shown(value: object) -> str:
    """A statement on one line: types by name, queries by their text."""
    if isinstance(value, SqlType):
        return value.name
    if isinstance(value, Statement):
        return f"<{value.text}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(shown(v) for v in value) + ")"
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        return repr(value)
    return f"{type(value).__name__}({', '.join(f'{n}={shown(getattr(value, n))}' for n in names)})"


def answer(sql: str) -> str:
    try:
        return "; ".join(shown(s.utility) if s.utility else s.kind for s in parse(sql))
    except errors.Error as error:
        return f"{error.sqlstate} at {error.position}: {error.message}"


def test_utility_statements() -> None:
    cases = (HERE / "utility_cases.txt").read_text().splitlines()
    actual = "".join(f"{sql}\n    {answer(sql)}\n" for sql in cases)
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(actual)
    assert actual == GOLDEN.read_text()


def test_every_command_of_postgresql_is_known() -> None:
    """Each SQL command of PostgreSQL 15 is parsed, refused by name, or is a query; none is a syntax error at
    its first word."""
    commands = (HERE / "commands.txt").read_text().splitlines()
    unknown = []
    for command in commands:
        try:
            parse(command)
        except errors.FeatureNotSupported as error:
            if not re.search(r"\b(is|are) not supported", error.message):
                unknown.append(command)
        except errors.SqlSyntaxError as error:
            if error.position is not None and error.position <= len(command.split()[0]):
                unknown.append(command)
    assert unknown == []


@pytest.mark.parametrize("name", ["type", "first", "last", "zone", "role", "string", "update", "query", "year"])
def test_unreserved_words_name_tables_and_columns(name: str) -> None:
    (made,) = parse(f"CREATE TABLE {name} ({name} text NOT NULL, b int, UNIQUE ({name}, b))")
    table = made.utility
    assert isinstance(table, st.CreateTable)
    assert (table.table.name, table.columns[0].name, table.keys[0].columns) == (name, name, (name, "b"))


@pytest.mark.parametrize("name", ["select", "table", "user", "order"])
def test_reserved_words_need_quotes(name: str) -> None:
    with pytest.raises(errors.SqlSyntaxError):
        parse(f"CREATE TABLE t ({name} int)")
