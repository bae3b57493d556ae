"""Parse trees of the utility grammar as statements, one function per start rule (or alternative with a name
of its own)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from lark import Token, Tree

from filestore import errors
from filestore.query import lexer
from filestore.query import statements as st
from filestore.query.names import unquote


class Builder(Protocol):
    """What the functions here need: the text, nested queries, types."""

    text: str

    def nested(self, token: Any) -> st.Statement: ...

    def type(self, token: Any) -> Any: ...


def _subtrees(tree: Any, *names: str) -> Iterator[Any]:
    """Direct children that are trees of these names."""
    return (c for c in tree.children if isinstance(c, Tree) and str(c.data) in names)


def _child(tree: Any, *names: str) -> Any | None:
    return next(_subtrees(tree, *names), None)


def _tokens(tree: Any, *kinds: str) -> list[Any]:
    return [c for c in tree.children if isinstance(c, Token) and (not kinds or c.type in kinds)]


def _has(tree: Any, kind: str) -> bool:
    return any(isinstance(c, Token) and c.type == kind for c in tree.children)


def _words(tree: Any) -> list[str]:
    return [str(t.type) for t in _tokens(tree)]


def _name(tree: Any) -> str:
    return unquote(str(tree.children[0]))


def _names(tree: Any) -> tuple[str, ...]:
    return tuple(_name(c) for c in _subtrees(tree, "name"))


def _table(tree: Any) -> st.Name:
    parts = [_name(c) for c in _subtrees(tree, "name")]
    first = next(iter(_subtrees(tree, "name"))).children[0]
    return st.Name(parts[0] if len(parts) == 2 else None, parts[-1], (first.start_pos or 0) + 1)


def _string(token: Any) -> str:
    return lexer.string_value(str(token), (token.start_pos or 0) + 1)


# --- transactions ---------------------------------------------------------------------------------


def _modes(tree: Any) -> st.TransactionModes:
    modes = _child(tree, "modes")
    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None
    for mode in modes.children if modes is not None else ():
        if not isinstance(mode, Tree):
            continue
        match str(mode.data):
            case "isolation":
                level = _child(mode, "level")
                isolation = " ".join(w.lower() for w in _words(level))
            case "read_only":
                read_only = True
            case "read_write":
                read_only = False
            case "deferrable":
                deferrable = True
            case _:
                deferrable = False
    return st.TransactionModes(isolation, read_only, deferrable)


def _begin(_b: Builder, tree: Any) -> st.Utility:
    return st.Begin(_modes(tree))


def _start(_b: Builder, tree: Any) -> st.Utility:
    return st.Begin(_modes(tree), "START TRANSACTION")


def _commit(_b: Builder, tree: Any) -> st.Utility:
    return st.Commit(_child(tree, "chained") is not None)


def _rollback(_b: Builder, tree: Any) -> st.Utility:
    return st.Rollback(_child(tree, "chained") is not None)


def _rollback_to(_b: Builder, tree: Any) -> st.Utility:
    return st.RollbackTo(_names(tree)[0])


# --- settings -------------------------------------------------------------------------------------


def _local(tree: Any) -> bool:
    return _child(tree, "for_transaction") is not None


def _setting(tree: Any) -> str:
    setting = _child(tree, "setting")
    return ".".join(unquote(str(t)).lower() for t in _tokens(setting, "IDENT", "QUOTED", "ON"))


def _value(tree: Any) -> str | None:
    match str(tree.data):
        case "text" | "zone_interval":
            return _string(_tokens(tree, "STRING")[0])
        case "number":
            return "".join(str(t) for t in _tokens(tree))
        case "word":
            return unquote(str(tree.children[0]))
        case _:
            return None


_VALUES: Final = ("text", "number", "word", "zone_default", "zone_interval")


def _set_variable(_b: Builder, tree: Any) -> st.Utility:
    values = [_value(v) or "" for v in _subtrees(_child(tree, "values"), *_VALUES)]
    return st.SetVariable(_setting(tree), ", ".join(values), _local(tree))


def _set_default(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable(_setting(tree), None, _local(tree))


def _set_time_zone(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable("timezone", _value(_child(tree, *_VALUES)), _local(tree))


def _set_names(_b: Builder, tree: Any) -> st.Utility:
    value = _child(tree, *_VALUES)
    return st.SetVariable("client_encoding", _value(value) if value is not None else None, _local(tree))


def _set_word(_b: Builder, tree: Any) -> st.Utility:
    name = "search_path" if _has(tree, "SCHEMA") else "role"
    return st.SetVariable(name, _value(_child(tree, *_VALUES)), _local(tree))


def _set_authorization(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable("session_authorization", _value(_child(tree, *_VALUES)), _local(tree))


def _set_constraints(_b: Builder, _tree: Any) -> st.Utility:
    raise errors.FeatureNotSupported("SET CONSTRAINTS is not supported", hint="Constraints are checked at once.")


# --- prepared statements, cursors, notifications --------------------------------------------------


def _prepare(b: Builder, tree: Any) -> st.Utility:
    types = tuple(b.type(t) for t in _tokens(tree, "TYPE"))
    return st.Prepare(_names(tree)[0], types, b.nested(_tokens(tree, "QUERY")[0]))


def _execute(_b: Builder, tree: Any) -> st.Utility:
    return st.Execute(_names(tree)[0], tuple(str(t) for t in _tokens(tree, "EXPR")))


def _first_or_none(tree: Any) -> str | None:
    names = _names(tree)
    return names[0] if names else None


def _declare(b: Builder, tree: Any) -> st.Utility:
    options = [_words(o) for o in _subtrees(tree, "cursor_option")]
    scroll = None
    if ["SCROLL"] in options:
        scroll = True
    elif ["NO", "SCROLL"] in options:
        scroll = False
    hold = _child(tree, "hold")
    return st.Declare(
        _names(tree)[0],
        b.nested(_tokens(tree, "QUERY")[0]),
        ["BINARY"] in options,
        scroll,
        hold is not None and _has(hold, "WITH"),
    )


def _signed(tree: Any) -> int:
    return int("".join(str(t) for t in _tokens(tree)))


def _fetch(_b: Builder, tree: Any) -> st.Utility:
    move = _has(tree, "MOVE")
    cursor = _names(tree)[0]
    how = _child(tree, "direction")
    if how is None:
        return st.Fetch(cursor, "next", 1, move)
    words = _words(how)
    number = _child(how, "signed")
    count = _signed(number) if number is not None else 1
    if not words:
        return st.Fetch(cursor, "forward", count, move)
    if words == ["ALL"]:
        return st.Fetch(cursor, "forward", None, move)
    if words[-1] == "ALL":
        return st.Fetch(cursor, words[0].lower(), None, move)
    return st.Fetch(cursor, words[0].lower(), count, move)


def _notify(_b: Builder, tree: Any) -> st.Utility:
    payload = _tokens(tree, "STRING")
    return st.Notify(_names(tree)[0], _string(payload[0]) if payload else "")


# --- options --------------------------------------------------------------------------------------


def _option(tree: Any) -> tuple[str, Any]:
    """(name, value) of an option in parentheses; True without a value, names in parentheses as a tuple."""
    name = unquote(str(_child(tree, "option_name").children[0])).lower()
    value = _child(tree, "option_value")
    if value is None:
        return name, True
    if _has(value, "LPAR"):
        return name, _names(value)
    number = _child(value, "signed")
    if number is not None:
        return name, _signed(number)
    token = value.children[0]
    if token.type == "STRING":
        return name, _string(token)
    if token.type == "STAR":
        return name, ("*",)
    return name, unquote(str(token))


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in ("true", "on", "1"):
        return True
    if text in ("false", "off", "0"):
        return False
    raise errors.SqlSyntaxError(f"{name} requires a Boolean value")


_EXPLAIN_FLAGS: Final = (
    "analyze",
    "verbose",
    "costs",
    "settings",
    "generic_plan",
    "buffers",
    "wal",
    "timing",
    "summary",
)


def _explain_options(b: Builder, tree: Any) -> st.Utility:
    found: list[tuple[str, Any]] = []
    for name, value in map(_option, _subtrees(tree, "option")):
        key = "analyze" if name == "analyse" else name
        if key in _EXPLAIN_FLAGS:
            found.append((key, _truth(key, value)))
        elif key == "format":
            form = str(value).lower()
            if form not in ("text", "json", "xml", "yaml"):
                raise errors.InvalidParameterValue(f'unrecognized value for EXPLAIN option "format": "{value}"')
            if form in ("xml", "yaml"):
                raise errors.FeatureNotSupported(
                    f"EXPLAIN (FORMAT {form.upper()}) is not supported", hint="Use TEXT or JSON."
                )
            found.append((key, form))
        else:
            raise errors.SqlSyntaxError(f'unrecognized EXPLAIN option "{name}"')
    return st.Explain(tuple(found), b.nested(_tokens(tree, "QUERY")[0]))


def _explain_words(b: Builder, tree: Any) -> st.Utility:
    options = tuple((w.lower(), True) for w in _words(tree) if w in ("ANALYZE", "VERBOSE"))
    return st.Explain(options, b.nested(_tokens(tree, "QUERY")[0]))


def _relations(tree: Any) -> tuple[st.Name, ...]:
    found = _child(tree, "relations")
    return () if found is None else tuple(_table(_child(r, "table")) for r in _subtrees(found, "relation"))


_VACUUM_OPTIONS: Final = frozenset(
    {
        "full",
        "freeze",
        "verbose",
        "analyze",
        "disable_page_skipping",
        "skip_locked",
        "index_cleanup",
        "process_toast",
        "truncate",
        "parallel",
    }
)


def _vacuum_options(_b: Builder, tree: Any) -> st.Utility:
    options = dict(map(_option, _subtrees(tree, "option")))
    for name in options:
        if name not in _VACUUM_OPTIONS:
            raise errors.SqlSyntaxError(f'unrecognized VACUUM option "{name}"')
    return st.Vacuum(
        _relations(tree), _truth("analyze", options.get("analyze", False)), _truth("full", options.get("full", False))
    )


def _vacuum_words(_b: Builder, tree: Any) -> st.Utility:
    return st.Vacuum(_relations(tree), _has(tree, "ANALYZE") or _has(tree, "ANALYSE"), _has(tree, "FULL"))


def _lock(_b: Builder, tree: Any) -> st.Utility:
    mode = _child(tree, "lock_mode")
    words = " ".join(w.lower() for w in _words(mode)) if mode is not None else "access exclusive"
    return st.LockTable(_tables(_child(tree, "table_list")), words, _has(tree, "NOWAIT"))


def _tables(tree: Any) -> tuple[st.Name, ...]:
    return tuple(_table(t) for t in _subtrees(tree, "table"))


# --- COPY -----------------------------------------------------------------------------------------

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


def _copy(b: Builder, tree: Any) -> st.Utility:
    source = _child(tree, "copy_table", "copy_query")
    target = _child(tree, "stdin", "stdout", "file", "program")
    direction = "from" if _has(tree, "FROM") else "to"
    options: dict[str, Any] = {}
    if _has(source, "BINARY"):
        options["format"] = "binary"
    for node in _subtrees(tree, "copy_option"):
        _set_option(options, *_old_option(node))
    for node in _subtrees(tree, "option"):
        name, value = _option(node)
        _set_option(options, name, value)
    kind = str(target.data)
    # COPY t FROM STDOUT is what it says nowhere, but PostgreSQL takes both words in both directions.
    where = {"stdin": "stdin", "stdout": "stdout"}.get(kind, kind)
    if where in ("stdin", "stdout"):
        where = "stdin" if direction == "from" else "stdout"
    strings = _tokens(target, "STRING")
    path = _string(strings[0]) if strings else None
    _check_copy(options, direction)
    table, query, columns = None, None, ()
    if str(source.data) == "copy_table":
        table, columns = _table(_child(source, "table")), _names(source)
    else:
        if direction == "from":
            raise errors.SqlSyntaxError('syntax error at or near "from"')
        query = b.nested(_tokens(source, "QUERY")[0])
    return st.Copy(direction, where, table, columns, query, path, tuple(sorted(options.items())))


def _old_option(node: Any) -> tuple[str, Any]:
    words = _words(node)
    strings = _tokens(node, "STRING")
    if words[0] == "FORCE":
        names = ("*",) if _has(node, "STAR") else _names(node)
        return {"QUOTE": "force_quote", "NOT": "force_not_null"}.get(words[1], "force_null"), names
    if strings:
        return {"DELIMITERS": "delimiter"}.get(words[0], words[0].lower()), _string(strings[0])
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
        value = _truth(name, value)
    elif name == "header":
        value = "match" if str(value).lower() == "match" else _truth(name, value)
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


# --- definitions ----------------------------------------------------------------------------------


def _cascade(tree: Any) -> bool:
    behaviour = _child(tree, "behaviour")
    return behaviour is not None and _has(behaviour, "CASCADE")


def _truncate(_b: Builder, tree: Any) -> st.Utility:
    return st.Truncate(_tables(_child(tree, "table_list")), _has(tree, "RESTART"), _cascade(tree))


def _drop_table(_b: Builder, tree: Any) -> st.Utility:
    return st.DropTable(_tables(tree), _has(tree, "IF"), _cascade(tree))


def _drop_schema(_b: Builder, tree: Any) -> st.Utility:
    return st.DropSchema(_names(tree), _has(tree, "IF"), _cascade(tree))


def _create_schema(_b: Builder, tree: Any) -> st.Utility:
    return st.CreateSchema(_names(tree)[0], _child(tree, "not_exists") is not None)


def _expression(token: Any) -> str:
    return str(token).strip()


class _TableParts:
    """Columns and constraints of one CREATE TABLE, gathered."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.columns: list[st.ColumnSpec] = []
        self.keys: list[st.KeySpec] = []
        self.checks: list[st.CheckSpec] = []

    def column(self, tree: Any) -> None:
        """Errors with 42601 for NULL and NOT NULL together, for two defaults, and for a serial type (0A000)."""
        name_tree = _child(tree, "name")
        name = _name(name_tree)
        sql_type = self.b.type(_tokens(tree, "TYPE")[0])
        not_null: bool | None = None
        default: str | None = None
        for holder in _subtrees(tree, "column_constraint"):
            label = next(iter(_names(holder)), None)
            rule = next(c for c in holder.children if isinstance(c, Tree) and str(c.data) != "name")
            match str(rule.data):
                case "not_null" | "nullable":
                    wanted = str(rule.data) == "not_null"
                    if not_null is not None and not_null != wanted:
                        raise errors.SqlSyntaxError(f'conflicting NULL/NOT NULL declarations for column "{name}"')
                    not_null = wanted
                case "default":
                    if default is not None:
                        raise errors.SqlSyntaxError(f'multiple default values specified for column "{name}"')
                    default = _expression(_tokens(rule, "EXPR")[0])
                case "check":
                    token = _tokens(rule, "EXPR")[0]
                    self.checks.append(st.CheckSpec(_expression(token), label, name, (token.start_pos or 0) + 1))
                case kind:
                    self.keys.append(st.KeySpec((name,), kind == "primary_key", label))
        position = (name_tree.children[0].start_pos or 0) + 1
        self.columns.append(st.ColumnSpec(name, sql_type, bool(not_null), default, position))

    def constraint(self, tree: Any) -> None:
        label = next(iter(_names(tree)), None)
        found = _constraint(_child(tree, "primary_key", "unique", "check"), label)
        if isinstance(found, st.KeySpec):
            self.keys.append(found)
        else:
            self.checks.append(found)


def _constraint(rule: Any, label: str | None) -> st.KeySpec | st.CheckSpec:
    if str(rule.data) == "check":
        token = _tokens(rule, "EXPR")[0]
        return st.CheckSpec(_expression(token), label, None, (token.start_pos or 0) + 1)
    names = list(_subtrees(rule, "name"))
    position = (names[0].children[0].start_pos or 0) + 1
    return st.KeySpec(_names(rule), str(rule.data) == "primary_key", label, position)


def _create_table(b: Builder, tree: Any) -> st.Utility:
    parts = _TableParts(b)
    for element in _subtrees(tree, "column", "constraint"):
        if str(element.data) == "column":
            parts.column(element)
        else:
            parts.constraint(element)
    kind = _child(tree, "temporary", "unlogged")
    storage = _child(tree, "storage")
    parameters: list[tuple[str, str]] = []
    for parameter in _subtrees(storage, "parameter") if storage is not None else ():
        values = _tokens(parameter, "NUMBER", "IDENT", "STRING", "ON")
        parameters.append((".".join(_names(parameter)), str(values[0]) if values else "true"))
    return st.CreateTable(
        _table(_child(tree, "table")),
        tuple(parts.columns),
        tuple(sorted(parts.keys, key=lambda k: not k.primary)),
        tuple(parts.checks),
        _child(tree, "not_exists") is not None,
        "permanent" if kind is None else str(kind.data),
        tuple(parameters),
    )


def _alter_add(_b: Builder, tree: Any) -> st.Utility:
    label = next(iter(_names(tree)), None)
    found = _constraint(_child(tree, "primary_key", "unique", "check"), label)
    table = _table(_child(tree, "table"))
    if isinstance(found, st.KeySpec):
        return st.AlterTableAddKey(table, found, _has(tree, "IF"))
    return st.AlterTableAddCheck(table, found, _has(tree, "IF"))


BUILDERS: Final[dict[str, Callable[[Any, Any], st.Utility]]] = {
    "begin": _begin,
    "start": _start,
    "commit": _commit,
    "rollback": _rollback,
    "rollback_to": _rollback_to,
    "savepoint": lambda _b, tree: st.Savepoint(_names(tree)[0]),
    "release": lambda _b, tree: st.Release(_names(tree)[0]),
    "set_variable": _set_variable,
    "set_default": _set_default,
    "set_time_zone": _set_time_zone,
    "set_names": _set_names,
    "set_word": _set_word,
    "set_authorization": _set_authorization,
    "set_transaction": lambda _b, tree: st.SetTransaction(_modes(tree)),
    "set_characteristics": lambda _b, tree: st.SetTransaction(_modes(tree), session=True),
    "set_constraints": _set_constraints,
    "reset_all": lambda _b, _tree: st.ResetVariable(None),
    "reset_variable": lambda _b, tree: st.ResetVariable(_setting(tree)),
    "reset_time_zone": lambda _b, _tree: st.ResetVariable("timezone"),
    "reset_authorization": lambda _b, _tree: st.ResetVariable("session_authorization"),
    "reset_isolation": lambda _b, _tree: st.ResetVariable("transaction_isolation"),
    "show_all": lambda _b, _tree: st.ShowVariable(None),
    "show_variable": lambda _b, tree: st.ShowVariable(_setting(tree)),
    "show_time_zone": lambda _b, _tree: st.ShowVariable("timezone"),
    "show_authorization": lambda _b, _tree: st.ShowVariable("session_authorization"),
    "show_isolation": lambda _b, _tree: st.ShowVariable("transaction_isolation"),
    "discard": lambda _b, tree: st.Discard({"TEMPORARY": "temp"}.get(_words(tree)[1], _words(tree)[1].lower())),
    "prepare": _prepare,
    "execute": _execute,
    "deallocate": lambda _b, tree: st.Deallocate(_first_or_none(tree)),
    "declare": _declare,
    "fetch": _fetch,
    "close": lambda _b, tree: st.CloseCursor(_first_or_none(tree)),
    "listen": lambda _b, tree: st.Listen(_names(tree)[0]),
    "unlisten": lambda _b, tree: st.Unlisten(_first_or_none(tree)),
    "notify": _notify,
    "explain_options": _explain_options,
    "explain_words": _explain_words,
    "vacuum_options": _vacuum_options,
    "vacuum_words": _vacuum_words,
    "analyze": lambda _b, tree: st.Analyze(_relations(tree)),
    "checkpoint": lambda _b, _tree: st.Checkpoint(),
    "lock": _lock,
    "copy": _copy,
    "truncate": _truncate,
    "drop_table": _drop_table,
    "drop_schema": _drop_schema,
    "create_table": _create_table,
    "create_schema": _create_schema,
    "alter_add": _alter_add,
}
