"""Whoever is refused is told what to do instead."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import filestore
from filestore.dbapi import connect, exceptions
from filestore.query.hints import HINTS, OTHERWISE, hint_of, not_supported
from tests.slt.runner import parse

SOURCES = Path(filestore.__file__).parent
REFUSED = Path(__file__).parents[2] / "slt" / "statements" / "refused.slt"
# PostgreSQL's own words, which say what is wrong by themselves; it has no hint for them either.
POSTGRESQLS = re.compile(
    r"cannot (use|specify|convert)"
    r"|COPY (query must|\S+ (must|available|only)|force quote only|delimiter must|freeze only)"
    r"|CSV quote character|source for a multiple-column|unit |unsupported frontend protocol|cached plan must not"
)


def test_every_refusal_has_a_hint() -> None:
    bare = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("FeatureNotSupported"):
                continue
            text = ast.unparse(node.args[0]).lstrip("f").strip("'\"") if node.args else ""
            text = re.sub(r"\{[^}]*\}", "x", text)
            if not POSTGRESQLS.match(text) and not any(k.arg == "hint" for k in node.keywords):
                bare.append(f"{path.name}:{node.lineno}: {text}")
    assert not bare, "\n".join(bare)


def test_refused_statements_come_with_hints_of_their_own(tmp_path: Path) -> None:
    refused: list[tuple[str, str | None]] = []
    with connect(str(tmp_path / "d"), autocommit=True) as connection:
        for record in parse(REFUSED.read_text()):
            try:
                connection.execute(record.sql)
            except exceptions.Error as error:
                refused += [(record.sql, error.hint)] * (error.sqlstate == "0A000")
    assert len(refused) > 70
    assert [sql for sql, hint in refused if not hint] == []
    assert [sql for sql, hint in refused if hint == OTHERWISE] == []


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        ("window functions", HINTS["window functions"]),
        ("function lag()", HINTS["window functions"]),
        ("> ANY (subquery)", HINTS["ANY (subquery)"]),
        ("CREATE TABLE LIKE", OTHERWISE),
        ("ALTER TABLE ... RENAME TO", HINTS["ALTER TABLE"]),
    ],
)
def test_hints_are_found_by_what_is_refused(what: str, hint: str) -> None:
    assert hint_of(what) == hint
    assert not_supported(what, 7).hint == hint
    assert not_supported(what, 7, "Otherwise.").hint == "Otherwise."
