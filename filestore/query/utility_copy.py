"""COPY in all its spellings as a statement, with PostgreSQL's checks of its options."""

from __future__ import annotations

from typing import Any, Final

from filestore import errors
from filestore.query import statements as st
from filestore.query.utility_nodes import (
    Builder,
    child,
    has,
    names_of,
    option_of,
    string_of,
    subtrees,
    table_of,
    tokens_of,
    truth,
    words_of,
)

_COPY_OPTIONS: Final = frozenset(
    {
        "format",
        "freeze",
        "delimiter",
        "null",
        "header",
        "quote",
        "escape",
        "force_quote",
        "force_not_null",
        "force_null",
        "encoding",
    }
)


def copy_statement(b: Builder, tree: Any) -> st.Utility:
    source = child(tree, "copy_table", "copy_query")
    target = child(tree, "stdin", "stdout", "file", "program")
    direction = "from" if has(tree, "FROM") else "to"
    options: dict[str, Any] = {}
    if has(source, "BINARY"):
        options["format"] = "binary"
    for node in subtrees(tree, "copy_option"):
        _set_option(options, *_old_option(node))
    for node in subtrees(tree, "option"):
        name, value = option_of(node)
        _set_option(options, name, value)
    kind = str(target.data)
    where = kind
    if kind in ("stdin", "stdout"):  # PostgreSQL takes both words in both directions
        where = "stdin" if direction == "from" else "stdout"
    strings = tokens_of(target, "STRING")
    path = string_of(strings[0]) if strings else None
    _check_copy(options, direction)
    table: st.Name | None = None
    query: st.Statement | None = None
    columns: tuple[str, ...] = ()
    if str(source.data) == "copy_table":
        table, columns = table_of(child(source, "table")), names_of(source)
    else:
        if direction == "from":
            raise errors.SqlSyntaxError('syntax error at or near "from"')
        query = b.nested(tokens_of(source, "QUERY")[0])
    return st.Copy(direction, where, table, columns, query, path, tuple(sorted(options.items())))


def _old_option(node: Any) -> tuple[str, Any]:
    words = words_of(node)
    strings = tokens_of(node, "STRING")
    if words[0] == "FORCE":
        names = ("*",) if has(node, "STAR") else names_of(node)
        return {"QUOTE": "force_quote", "NOT": "force_not_null"}.get(words[1], "force_null"), names
    if strings:
        return {"DELIMITERS": "delimiter"}.get(words[0], words[0].lower()), string_of(strings[0])
    if words[0] in ("BINARY", "CSV"):
        return "format", words[0].lower()
    return words[0].lower(), True


def _set_option(options: dict[str, Any], name: str, value: Any) -> None:
    if name not in _COPY_OPTIONS:
        raise errors.SqlSyntaxError(f'option "{name}" not recognized')
    if name in options:
        raise errors.SqlSyntaxError("conflicting or redundant options")
    if name == "format":
        value = str(value).lower()
        if value not in ("text", "csv", "binary", "parquet"):
            raise errors.InvalidParameterValue(f'COPY format "{value}" not recognized')
    elif name == "freeze":
        value = truth(name, value)
    elif name == "header":
        value = "match" if str(value).lower() == "match" else truth(name, value)
    elif name in ("delimiter", "null", "quote", "escape", "encoding"):
        value = str(value)
    options[name] = value


def _check_copy(options: dict[str, Any], direction: str) -> None:
    """PostgreSQL's ProcessCopyOptions, as far as one statement tells."""
    form = options.get("format", "text")
    for name in ("delimiter", "null"):
        if form == "binary" and name in options:
            raise errors.SqlSyntaxError(f"cannot specify {name.upper()} in BINARY mode")
    if form == "binary" and options.get("header"):
        raise errors.FeatureNotSupported("cannot specify HEADER in BINARY mode")
    delimiter = options.get("delimiter")
    if delimiter is not None and len(delimiter.encode()) != 1:
        raise errors.FeatureNotSupported("COPY delimiter must be a single one-byte character")
    if delimiter in ("\r", "\n"):
        raise errors.InvalidParameterValue("COPY delimiter cannot be newline or carriage return")
    if form == "text" and delimiter is not None and delimiter in "\\.abcdefghijklmnopqrstuvwxyz0123456789":
        raise errors.InvalidParameterValue(f'COPY delimiter cannot be "{delimiter}"')
    for name in ("quote", "escape", "force_quote", "force_not_null", "force_null"):
        if name in options and form != "csv":
            raise errors.FeatureNotSupported(f"COPY {name.replace('_', ' ')} available only in CSV mode")
    for name in ("quote", "escape"):
        if name in options and len(options[name].encode()) != 1:
            raise errors.FeatureNotSupported(f"COPY {name} must be a single one-byte character")
    if "force_quote" in options and direction == "from":
        raise errors.FeatureNotSupported("COPY force quote only available using COPY TO")
    if options.get("freeze") and direction == "to":
        raise errors.FeatureNotSupported("COPY freeze only available using COPY FROM")
