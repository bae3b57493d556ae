"""Parse trees of the utility grammar as statements, one function per start rule (or alternative with a name
of its own)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lark import Tree

from filestore import errors
from filestore.query import statements as st
from filestore.query.interval_text import format_interval, parse_interval
from filestore.query.names import unquote
from filestore.query.utility_copy import copy_statement
from filestore.query.utility_nodes import (
    Builder,
    child,
    has,
    name_of,
    names_of,
    option_of,
    signed,
    string_of,
    subtrees,
    table_of,
    tables_of,
    tokens_of,
    truth,
    words_of,
)
from filestore.timezones import fixed

# --- transactions ---------------------------------------------------------------------------------


def _modes(tree: Any) -> st.TransactionModes:
    modes = child(tree, "modes")
    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None
    for mode in modes.children if modes is not None else ():
        if not isinstance(mode, Tree):
            continue
        match str(mode.data):
            case "isolation":
                level = child(mode, "level")
                isolation = " ".join(w.lower() for w in words_of(level))
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
    return st.Commit(child(tree, "chained") is not None)


def _rollback(_b: Builder, tree: Any) -> st.Utility:
    return st.Rollback(child(tree, "chained") is not None)


def _rollback_to(_b: Builder, tree: Any) -> st.Utility:
    return st.RollbackTo(names_of(tree)[0])


# --- settings -------------------------------------------------------------------------------------


def _local(tree: Any) -> bool:
    return child(tree, "for_transaction") is not None


def _setting(tree: Any) -> str:
    setting = child(tree, "setting")
    return ".".join(unquote(str(t)).lower() for t in tokens_of(setting, "IDENT", "QUOTED", "ON"))


def _value(tree: Any) -> str | None:
    match str(tree.data):
        case "text":
            return string_of(tokens_of(tree, "STRING")[0])
        case "zone_interval":
            return _zone_interval(tree)
        case "number":
            return "".join(str(t) for t in tokens_of(tree))
        case "word":
            return unquote(str(tree.children[0]))
        case _:
            return None


def _zone_interval(tree: Any) -> str:
    """The zone that is an interval's time east of Greenwich. Errors with 22007, and 22023 for months and days."""
    text = string_of(tokens_of(tree, "STRING")[0])
    fields = None
    if child(tree, "zone_hour", "zone_minute") is not None:
        fields = "hour" if child(tree, "zone_hour") is not None else "hour to minute"
    months, days, microseconds = parse_interval(text, fields)
    if months or days:
        what = "months" if months else "days"
        raise errors.InvalidParameterValue(
            f"invalid value for parameter \"TimeZone\": \"INTERVAL '{format_interval((months, days, microseconds))}'\"",
            detail=f"Cannot specify {what} in time zone interval."
        )
    return fixed(microseconds // 1_000_000).name


_VALUES: Final = ("text", "number", "word", "zone_default", "zone_interval")


def _one(tree: Any) -> tuple[str] | None:
    """The only value of a setting, None for DEFAULT."""
    value = None if tree is None else _value(tree)
    return None if value is None else (value,)


def _set_variable(_b: Builder, tree: Any) -> st.Utility:
    values = tuple(_value(v) or "" for v in subtrees(child(tree, "values"), *_VALUES))
    return st.SetVariable(_setting(tree), values, _local(tree))


def _set_default(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable(_setting(tree), None, _local(tree))


def _set_time_zone(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable("timezone", _one(child(tree, *_VALUES)), _local(tree))


def _set_names(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable("client_encoding", _one(child(tree, *_VALUES)), _local(tree))


def _set_word(_b: Builder, tree: Any) -> st.Utility:
    name = "search_path" if has(tree, "SCHEMA") else "role"
    return st.SetVariable(name, _one(child(tree, *_VALUES)), _local(tree))


def _set_authorization(_b: Builder, tree: Any) -> st.Utility:
    return st.SetVariable("session_authorization", _one(child(tree, *_VALUES)), _local(tree))


def _set_constraints(_b: Builder, _tree: Any) -> st.Utility:
    raise errors.FeatureNotSupported("SET CONSTRAINTS is not supported", hint="Constraints are checked at once.")


# --- prepared statements, cursors, notifications --------------------------------------------------


def _prepare(b: Builder, tree: Any) -> st.Utility:
    types = tuple(b.type(t) for t in tokens_of(tree, "TYPE"))
    return st.Prepare(names_of(tree)[0], types, b.nested(tokens_of(tree, "QUERY")[0]))


def _execute(_b: Builder, tree: Any) -> st.Utility:
    arguments = tuple((str(t), t.start_pos or 0) for t in tokens_of(tree, "EXPR"))
    return st.Execute(names_of(tree)[0], arguments)


def _first_or_none(tree: Any) -> str | None:
    names = names_of(tree)
    return names[0] if names else None


def _declare(b: Builder, tree: Any) -> st.Utility:
    options = [words_of(o) for o in subtrees(tree, "cursor_option")]
    scroll = None
    if ["SCROLL"] in options:
        scroll = True
    elif ["NO", "SCROLL"] in options:
        scroll = False
    hold = child(tree, "hold")
    return st.Declare(
        names_of(tree)[0],
        b.nested(tokens_of(tree, "QUERY")[0]),
        ["BINARY"] in options,
        scroll,
        hold is not None and has(hold, "WITH"),
    )


def _fetch(_b: Builder, tree: Any) -> st.Utility:
    move = has(tree, "MOVE")
    cursor = names_of(tree)[0]
    how = child(tree, "direction")
    if how is None:
        return st.Fetch(cursor, "next", 1, move)
    words = words_of(how)
    number = child(how, "signed")
    count = signed(number) if number is not None else 1
    if not words:
        return st.Fetch(cursor, "forward", count, move)
    if words == ["ALL"]:
        return st.Fetch(cursor, "forward", None, move)
    if words[-1] == "ALL":
        return st.Fetch(cursor, words[0].lower(), None, move)
    return st.Fetch(cursor, words[0].lower(), count, move)


def _notify(_b: Builder, tree: Any) -> st.Utility:
    payload = tokens_of(tree, "STRING")
    return st.Notify(names_of(tree)[0], string_of(payload[0]) if payload else "")


# --- options --------------------------------------------------------------------------------------


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
    for name, value in map(option_of, subtrees(tree, "option")):
        key = "analyze" if name == "analyse" else name
        if key in _EXPLAIN_FLAGS:
            found.append((key, truth(key, value)))
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
    return st.Explain(tuple(found), b.nested(tokens_of(tree, "QUERY")[0]))


def _explain_words(b: Builder, tree: Any) -> st.Utility:
    options = tuple((w.lower(), True) for w in words_of(tree) if w in ("ANALYZE", "VERBOSE"))
    return st.Explain(options, b.nested(tokens_of(tree, "QUERY")[0]))


def _relations(tree: Any) -> tuple[st.Name, ...]:
    found = child(tree, "relations")
    return () if found is None else tuple(table_of(child(r, "table")) for r in subtrees(found, "relation"))


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
    options = dict(map(option_of, subtrees(tree, "option")))
    for name in options:
        if name not in _VACUUM_OPTIONS:
            raise errors.SqlSyntaxError(f'unrecognized VACUUM option "{name}"')
    for name in ("analyze", "full"):  # it does the same with and without them
        truth(name, options.get(name, False))
    return st.Vacuum(_relations(tree))


def _vacuum_words(_b: Builder, tree: Any) -> st.Utility:
    return st.Vacuum(_relations(tree))


def _lock(_b: Builder, tree: Any) -> st.Utility:
    mode = child(tree, "lock_mode")
    words = " ".join(w.lower() for w in words_of(mode)) if mode is not None else "access exclusive"
    return st.LockTable(tables_of(child(tree, "table_list")), words, has(tree, "NOWAIT"))


# --- definitions ----------------------------------------------------------------------------------


def _cascade(tree: Any) -> bool:
    behaviour = child(tree, "behaviour")
    return behaviour is not None and has(behaviour, "CASCADE")


def _truncate(_b: Builder, tree: Any) -> st.Utility:
    return st.Truncate(tables_of(child(tree, "table_list")), _cascade(tree))


def _drop_table(_b: Builder, tree: Any) -> st.Utility:
    return st.DropTable(tables_of(tree), has(tree, "IF"), _cascade(tree))


def _drop_schema(_b: Builder, tree: Any) -> st.Utility:
    return st.DropSchema(names_of(tree), has(tree, "IF"), _cascade(tree))


def _create_schema(_b: Builder, tree: Any) -> st.Utility:
    return st.CreateSchema(names_of(tree)[0], child(tree, "not_exists") is not None)


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
        name_tree = child(tree, "name")
        name = name_of(name_tree)
        sql_type = self.b.type(tokens_of(tree, "TYPE")[0])
        not_null: bool | None = None
        default: str | None = None
        for holder in subtrees(tree, "column_constraint"):
            label = next(iter(names_of(holder)), None)
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
                    default = _expression(tokens_of(rule, "EXPR")[0])
                case "check":
                    token = tokens_of(rule, "EXPR")[0]
                    self.checks.append(st.CheckSpec(_expression(token), label, name, (token.start_pos or 0) + 1))
                case kind:
                    self.keys.append(st.KeySpec((name,), kind == "primary_key", label))
        position = (name_tree.children[0].start_pos or 0) + 1
        self.columns.append(st.ColumnSpec(name, sql_type, bool(not_null), default, position))

    def constraint(self, tree: Any) -> None:
        label = next(iter(names_of(tree)), None)
        found = _constraint(child(tree, "primary_key", "unique", "check"), label)
        if isinstance(found, st.KeySpec):
            self.keys.append(found)
        else:
            self.checks.append(found)


def _constraint(rule: Any, label: str | None) -> st.KeySpec | st.CheckSpec:
    if str(rule.data) == "check":
        token = tokens_of(rule, "EXPR")[0]
        return st.CheckSpec(_expression(token), label, None, (token.start_pos or 0) + 1)
    names = list(subtrees(rule, "name"))
    position = (names[0].children[0].start_pos or 0) + 1
    return st.KeySpec(names_of(rule), str(rule.data) == "primary_key", label, position)


def _create_table(b: Builder, tree: Any) -> st.Utility:
    parts = _TableParts(b)
    for element in subtrees(tree, "column", "constraint"):
        if str(element.data) == "column":
            parts.column(element)
        else:
            parts.constraint(element)
    kind = child(tree, "temporary", "unlogged")
    storage = child(tree, "storage")
    parameters: list[tuple[str, str]] = []
    for parameter in subtrees(storage, "parameter") if storage is not None else ():
        values = tokens_of(parameter, "NUMBER", "IDENT", "STRING", "ON")
        parameters.append((".".join(names_of(parameter)), str(values[0]) if values else "true"))
    return st.CreateTable(
        table_of(child(tree, "table")),
        tuple(parts.columns),
        tuple(sorted(parts.keys, key=lambda k: not k.primary)),
        tuple(parts.checks),
        child(tree, "not_exists") is not None,
        "permanent" if kind is None else str(kind.data),
        tuple(parameters),
    )


def _alter_add(_b: Builder, tree: Any) -> st.Utility:
    label = next(iter(names_of(tree)), None)
    found = _constraint(child(tree, "primary_key", "unique", "check"), label)
    table = table_of(child(tree, "table"))
    if isinstance(found, st.KeySpec):
        return st.AlterTableAddKey(table, found, has(tree, "IF"))
    return st.AlterTableAddCheck(table, found, has(tree, "IF"))


BUILDERS: Final[dict[str, Callable[[Any, Any], st.Utility]]] = {
    "begin": _begin,
    "start": _start,
    "commit": _commit,
    "rollback": _rollback,
    "rollback_to": _rollback_to,
    "savepoint": lambda _b, tree: st.Savepoint(names_of(tree)[0]),
    "release": lambda _b, tree: st.Release(names_of(tree)[0]),
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
    "discard": lambda _b, tree: st.Discard({"TEMPORARY": "temp"}.get(words_of(tree)[1], words_of(tree)[1].lower())),
    "prepare": _prepare,
    "execute": _execute,
    "deallocate": lambda _b, tree: st.Deallocate(_first_or_none(tree)),
    "declare": _declare,
    "fetch": _fetch,
    "close": lambda _b, tree: st.CloseCursor(_first_or_none(tree)),
    "listen": lambda _b, tree: st.Listen(names_of(tree)[0]),
    "unlisten": lambda _b, tree: st.Unlisten(_first_or_none(tree)),
    "notify": _notify,
    "explain_options": _explain_options,
    "explain_words": _explain_words,
    "vacuum_options": _vacuum_options,
    "vacuum_words": _vacuum_words,
    "analyze": lambda _b, tree: st.Analyze(_relations(tree)),
    "checkpoint": lambda _b, _tree: st.Checkpoint(),
    "lock": _lock,
    "copy": copy_statement,
    "truncate": _truncate,
    "drop_table": _drop_table,
    "drop_schema": _drop_schema,
    "create_table": _create_table,
    "create_schema": _create_schema,
    "alter_add": _alter_add,
}
