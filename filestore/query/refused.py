"""Statements of PostgreSQL 15 that are not built, known by their leading words and refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from filestore import errors
from filestore.query.hints import not_supported
from filestore.query.lexer import Token

_OBJECTS: Final = (
    "ACCESS METHOD", "AGGREGATE", "CAST", "COLLATION", "CONVERSION", "DATABASE", "DEFAULT PRIVILEGES",
    "DOMAIN", "EVENT TRIGGER", "EXTENSION", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "GROUP",
    "INDEX", "LANGUAGE", "LARGE OBJECT", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY",
    "POLICY", "PROCEDURE", "PUBLICATION", "ROLE", "ROUTINE", "RULE", "SEQUENCE", "SERVER", "STATISTICS",
    "SUBSCRIPTION", "SYSTEM", "TABLESPACE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TRIGGER", "TYPE", "USER", "USER MAPPING",
    "VIEW",
)  # fmt: skip
_NOISE: Final = frozenset(
    {
        "OR",
        "REPLACE",
        "TEMP",
        "TEMPORARY",
        "UNIQUE",
        "UNLOGGED",
        "GLOBAL",
        "LOCAL",
        "RECURSIVE",
        "TRUSTED",
        "PROCEDURAL",
        "CONSTRAINT",
    }
)
_WHOLE: Final[dict[str, str | None]] = {
    "ALTER SCHEMA": None, "CALL": None, "CLUSTER": None, "COMMENT": None, "DO": None, "GRANT": None,
    "IMPORT FOREIGN SCHEMA": None, "LOAD": None, "MERGE": "Use UPDATE and INSERT.", "REASSIGN OWNED": None,
    "DROP OWNED": None, "REFRESH MATERIALIZED VIEW": None,
    "REINDEX": "Indexes are kept with their table and need no rebuilding.", "REVOKE": None,
    "SECURITY LABEL": None, "PREPARE TRANSACTION": "Two-phase commit is not built.",
    "COMMIT PREPARED": "Two-phase commit is not built.",
    "ROLLBACK PREPARED": "Two-phase commit is not built.",
}  # fmt: skip
_HINTS: Final = {
    "INDEX": "PRIMARY KEY and UNIQUE constraints make indexes.",
    "VIEW": "Use WITH in the query.",
    "SEQUENCE": "Give the values in INSERT.",
    "DATABASE": "A store is one database; open another directory for another.",
    "ROLE": "Users are given when the server is started.",
    "USER": "Users are given when the server is started.",
}
_TABLE_CLAUSES: Final[tuple[tuple[str, str], ...]] = (
    ("REFERENCES", "FOREIGN KEY constraints"), ("FOREIGN KEY", "FOREIGN KEY constraints"),
    ("GENERATED", "generated columns"), ("EXCLUDE", "EXCLUDE constraints"), ("INHERITS", "INHERITS"),
    ("PARTITION", "partitioned tables"), ("COLLATE", "COLLATE"), ("TABLESPACE", "TABLESPACE"),
    ("DEFERRABLE", "DEFERRABLE constraints"), ("INITIALLY DEFERRED", "DEFERRABLE constraints"),
    ("ON COMMIT", "temporary tables"), ("NULLS NOT DISTINCT", "NULLS NOT DISTINCT"), ("INCLUDE", "INCLUDE"),
)  # fmt: skip


def refusal(tokens: Sequence[Token]) -> errors.Error | None:
    """The error for a statement that is not built, None for one that is (or that PostgreSQL does not know
    either)."""
    words = [t.upper for t in tokens[:12]]
    position = tokens[0].start + 1
    leading = " ".join(words[:3])
    for name, hint in _WHOLE.items():
        if leading == name or leading.startswith(name + " "):
            return not_supported(name, position, hint)
    if words[0] in ("CREATE", "ALTER", "DROP"):
        return _definition(words, tokens, position)
    if words[:2] == ["SELECT", "INTO"]:
        return not_supported("SELECT INTO", position)
    return None


def _definition(words: list[str], tokens: Sequence[Token], position: int) -> errors.Error | None:
    at = 1
    while at < len(words) and words[at] in _NOISE:
        at += 1
    rest = " ".join(words[at : at + 3])
    for name in sorted(_OBJECTS, key=len, reverse=True):
        if rest == name or rest.startswith(name + " "):
            return not_supported(f"{words[0]} {name}", position, _HINTS.get(name))
    if rest.split(" ")[:1] != ["TABLE"]:
        return None
    if words[0] == "CREATE":
        return _create_table(tokens)
    if words[0] == "ALTER":
        return _alter_table(tokens)
    return None


def _create_table(tokens: Sequence[Token]) -> errors.Error | None:
    """Clauses of CREATE TABLE that are not built; columns may be called like them, so only words in clause
    places count."""
    depth = 0
    for i, token in enumerate(tokens):
        previous = tokens[i - 1]
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "punct" else 0
        word = token.upper
        if not word:
            continue
        if depth == 0 and word == "AS" and i > 2:
            return not_supported("CREATE TABLE AS", token.start + 1, "Create the table, then INSERT ... SELECT.")
        if depth == 0 and word == "OF":
            return not_supported("CREATE TABLE OF", token.start + 1)
        starts = previous.text in ("(", ",")
        if word == "LIKE" and depth == 1 and starts:
            return not_supported("CREATE TABLE LIKE", token.start + 1, "List the columns.")
        if depth > 1 or (starts and word not in ("FOREIGN", "EXCLUDE")):
            continue
        pair = f"{word} {tokens[i + 1].upper}" if i + 1 < len(tokens) else word
        triple = f"{pair} {tokens[i + 2].upper}" if i + 2 < len(tokens) else pair
        for clause, what in _TABLE_CLAUSES:
            if clause in (word, pair, triple):
                if word == "DEFERRABLE" and previous.upper == "NOT":
                    continue
                if word == "GENERATED" and "IDENTITY" in [t.upper for t in tokens[i + 1 : i + 5]]:
                    what = "identity columns"
                return not_supported(what, token.start + 1)
    return None


def _alter_table(tokens: Sequence[Token]) -> errors.Error | None:
    """ALTER TABLE's actions, all but ADD [CONSTRAINT] PRIMARY KEY / UNIQUE / CHECK."""
    at = 2
    while at < len(tokens) and tokens[at].upper in ("IF", "EXISTS", "ONLY"):
        at += 1
    at += 1
    while at + 1 < len(tokens) and tokens[at].text == ".":
        at += 2
    if at < len(tokens) and tokens[at].text == "*":
        at += 1
    if at >= len(tokens):
        return None
    words = [t.upper for t in tokens[at : at + 5]]
    position = tokens[at].start + 1
    if words[0] != "ADD":
        action = " ".join(w for w in words[:2] if w)
        return not_supported(f"ALTER TABLE ... {action}", position) if words[0] else None
    rule = words[3] if words[1:2] == ["CONSTRAINT"] and len(words) > 3 else words[1] if len(words) > 1 else ""
    if rule in ("PRIMARY", "UNIQUE", "CHECK"):
        tail = [t.upper for t in tokens[at:]]
        if "USING" in tail and "INDEX" in tail:
            return not_supported("ADD CONSTRAINT USING INDEX", position)
        if "VALID" in tail:
            return not_supported("NOT VALID", position)
        return None
    if rule == "FOREIGN":
        return not_supported("FOREIGN KEY constraints", position)
    if rule == "EXCLUDE":
        return not_supported("EXCLUDE constraints", position)
    return not_supported("ALTER TABLE ... ADD COLUMN", position)
