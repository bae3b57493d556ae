"""Functions that ask the session or the registry: version(), format_type(), has_table_privilege() ...

Each takes the session's catalog and canonical arguments and returns a canonical value; which signatures
exist is told in `query/catalog_functions.py`. Null arguments reach only those that are named in its
`NULL_ARGUMENTS`.

There is one role that owns everything and may do everything: privileges are granted, once the object is
known to exist. There are no comments, views, triggers, rules, statistics objects: their definitions are
null.

Thread rule: engine lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from filestore import errors
from filestore.catalog import system_definitions as define
from filestore.catalog import system_sizes as sizes
from filestore.catalog.system_procedures import PROCEDURES
from filestore.catalog.system_relations import BY_OID, array_text
from filestore.catalog.system_types import TYPE_ROWS
from filestore.identifiers import quote_ident
from filestore.query.utility import split_name
from filestore.settings_table import SERVER_VERSION
from filestore.storage.schema import KeyDef
from filestore.types import REG_KINDS, Kind

if TYPE_CHECKING:
    from filestore.catalog.names import SessionCatalog

UTF8: Final = 6
_ENCODINGS: Final = {0: "SQL_ASCII", UTF8: "UTF8", 8: "LATIN1"}


def call(name: str, args: tuple[Any, ...], catalog: SessionCatalog) -> Any:
    """The canonical value of a function. Raises 42883 for one that is not here."""
    function = _FUNCTIONS.get(name)
    if function is None:
        raise errors.UndefinedFunction(f"function {name}() does not exist")
    return function(catalog, *args)


# --- the session ----------------------------------------------------------------------------------


def _version(_catalog: SessionCatalog) -> str:
    return f"PostgreSQL {SERVER_VERSION} on x86_64-pc-linux-gnu, compiled by numba, 64-bit"


def _current_schema(catalog: SessionCatalog) -> str | None:
    return next(iter(define.search_path(catalog, implicit=False)), None)


def _current_schemas(catalog: SessionCatalog, implicit: bool) -> str:
    return array_text(define.search_path(catalog, implicit=implicit))


def _current_setting(catalog: SessionCatalog, name: str, missing_ok: bool = False) -> str | None:
    return catalog.session.settings.get(name, missing_ok)


def _set_config(
    catalog: SessionCatalog, name: str | None, value: str | None, is_local: bool | None
) -> str | None:
    if name is None:
        raise errors.InvalidParameterValue("SET requires parameter name")
    settings = catalog.session.settings
    settings.set(name, value, local=bool(is_local))
    return settings.get(name)


def _cancel(catalog: SessionCatalog, process_id: int) -> bool:
    found = catalog.session.database.sessions.get(process_id)
    if found is None:
        catalog.session.notice("WARNING", "01000", f"PID {process_id} is not a PostgreSQL backend process")
        return False
    found.cancel.set()
    return True


def _listening(catalog: SessionCatalog, fact: str) -> int | str | None:
    """Where the server listens; null for a session within this process."""
    return catalog.session.database.facts.get(fact) if catalog.session.client[0] else None


# --- definitions ----------------------------------------------------------------------------------


def _expression(_catalog: SessionCatalog, text: str, _relation: int, _pretty: bool = False) -> str:
    return text


def _index_definition(catalog: SessionCatalog, oid: int, column: int = 0, pretty: bool = False) -> str | None:
    found = define.constraint(catalog, oid)
    if found is None or not isinstance(found[1], KeyDef):
        return None
    table, key = found[0], found[1]
    if column:
        known = 1 <= column <= len(key.columns)
        return quote_ident(table.columns[key.columns[column - 1]].name) if known else ""
    qualified = not pretty or not define.visible(catalog, table.schema, table.name)
    return define.index_definition(table, key, qualified=qualified)


def _constraint_definition(catalog: SessionCatalog, oid: int, pretty: bool = False) -> str | None:
    found = define.constraint(catalog, oid)
    if found is None:
        return None
    table, constraint = found
    if isinstance(constraint, KeyDef):
        return define.key_definition(table, constraint)
    return define.check_definition(constraint, pretty=pretty)


def _view_definition(_catalog: SessionCatalog, oid: int, _pretty: bool = False) -> str | None:
    return "" if oid in BY_OID and BY_OID[oid].kind == "v" else None


def _arguments(_catalog: SessionCatalog, oid: int) -> str | None:
    found = PROCEDURES.get(oid)
    if found is None:
        return None
    shown = [_type_name(t) for t in found.arguments]
    if found.variadic:
        shown[-1] = f"VARIADIC {shown[-1]}"
    return ", ".join(shown)


def _result(_catalog: SessionCatalog, oid: int) -> str | None:
    found = PROCEDURES.get(oid)
    return None if found is None else _type_name(found.result)


def _type_name(oid: int) -> str:
    return {2276: '"any"', 2281: "internal"}.get(oid) or define.format_type(oid) or ""


def _format_type(_catalog: SessionCatalog, oid: int | None, typmod: int | None) -> str | None:
    return define.format_type(oid, typmod)


# --- names ----------------------------------------------------------------------------------------


def _visible_relation(catalog: SessionCatalog, oid: int) -> bool | None:
    found = define.relation(catalog, oid)
    return None if found is None else define.visible(catalog, *found)


def _serial_sequence(catalog: SessionCatalog, table: str, column: str) -> None:
    """Null: no column takes its values from a sequence. Raises for a table or column that is not there."""
    definition = catalog.registry.by_oid(define.registered_oid(catalog, Kind.REGCLASS, table))
    if definition is not None and definition.ordinal(column) is None:
        raise errors.UndefinedColumn(f'column "{column}" of relation "{definition.name}" does not exist')


def _found_oid(kind: Kind) -> Callable[[SessionCatalog, str], int | None]:
    def find(catalog: SessionCatalog, text: str) -> int | None:
        if text.isdecimal() or text == "-":
            return None
        try:
            return define.registered_oid(catalog, kind, text)
        except (
            errors.UndefinedTable,
            errors.UndefinedObject,
            errors.UndefinedFunction,
            errors.InvalidSchemaName,
        ):
            return None
        except errors.FeatureNotSupported:  # a type of PostgreSQL's that is not here
            return None

    return find


def _name_of(kind: Kind) -> Callable[[SessionCatalog, int], str]:
    return lambda catalog, oid: define.registered_name(catalog, kind, oid)


def _oid_of(kind: Kind) -> Callable[[SessionCatalog, str], int]:
    return lambda catalog, text: define.registered_oid(catalog, kind, text)


def _encoding_name(_catalog: SessionCatalog, number: int) -> str:
    return _ENCODINGS.get(number, "")


def _encoding_number(_catalog: SessionCatalog, name: str) -> int:
    plain = name.upper().replace("-", "").replace("_", "")
    return next((n for n, known in _ENCODINGS.items() if known.replace("_", "") == plain), -1)


# --- privileges -----------------------------------------------------------------------------------


def _relation_privilege(catalog: SessionCatalog, *args: Any) -> bool | None:
    """true for any relation that exists: (user,) relation, privilege. Null for an oid that is none."""
    relation = args[-2]
    if isinstance(relation, int):
        return True if define.relation(catalog, relation) is not None else None
    define.registered_oid(catalog, Kind.REGCLASS, relation)
    return True


def _column_privilege(
    catalog: SessionCatalog, relation: str | int, column: str | int, _privilege: str
) -> bool | None:
    oid = relation if isinstance(relation, int) else define.registered_oid(catalog, Kind.REGCLASS, relation)
    table = catalog.registry.by_oid(oid)
    if table is not None and isinstance(column, str) and table.ordinal(column) is None:
        raise errors.UndefinedColumn(f'column "{column}" of relation "{table.name}" does not exist')
    return _relation_privilege(catalog, oid, "")


def _schema_privilege(catalog: SessionCatalog, *args: Any) -> bool | None:
    schema = args[-2]
    if isinstance(schema, int):
        return True if schema in catalog.registry.schemas().values() else None
    if catalog.registry.schema_oid(split_name(schema)[1]) is None:
        raise errors.InvalidSchemaName(f'schema "{schema}" does not exist')
    return True


def _database_privilege(catalog: SessionCatalog, *args: Any) -> bool | None:
    database = args[-2]
    if isinstance(database, int):
        return True if database == sizes.DATABASE_OID else None
    sizes.check_database(catalog, database)
    return True


def _granted(_catalog: SessionCatalog, *_args: Any) -> bool:
    return True


def _always(value: Any) -> Callable[..., Any]:
    return lambda _catalog, *_args: value


_NULL: Final = (
    "obj_description col_description shobj_description pg_get_ruledef pg_get_triggerdef "
    "pg_get_functiondef pg_get_function_sqlbody pg_get_partkeydef pg_get_statisticsobjdef "
    "pg_get_statisticsobjdef_columns acldefault "
    "pg_partition_ancestors pg_partition_root"
)
_GRANTED: Final = (
    "has_function_privilege has_type_privilege has_tablespace_privilege has_language_privilege "
    "has_server_privilege has_foreign_data_wrapper_privilege pg_has_role"
)
_VISIBLE: Final = (
    "pg_function_is_visible pg_operator_is_visible pg_opclass_is_visible pg_opfamily_is_visible "
    "pg_collation_is_visible pg_conversion_is_visible pg_statistics_obj_is_visible "
    "pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible"
)

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "version": _version,
    "current_database": lambda catalog: catalog.session.database.name,
    "current_user": lambda catalog: catalog.session.user,
    "session_user": lambda catalog: catalog.session.user,
    "current_schema": _current_schema,
    "current_schemas": _current_schemas,
    "current_query": lambda catalog: catalog.session.statement_text,
    "inet_client_addr": lambda catalog: catalog.session.client[0],
    "inet_client_port": lambda catalog: catalog.session.client[1],
    "inet_server_addr": lambda catalog: _listening(catalog, "listen_addresses"),
    "inet_server_port": lambda catalog: _listening(catalog, "port"),
    "getdatabaseencoding": _always("UTF8"),
    "pg_backend_pid": lambda catalog: catalog.session.process_id,
    "current_setting": _current_setting,
    "set_config": _set_config,
    "pg_is_in_recovery": _always(False),
    "pg_advisory_unlock_all": _always(""),  # there are none; pools ask before they hand a connection on
    "txid_current": lambda catalog: catalog.session.begin().id,
    "pg_my_temp_schema": _always(0),
    "pg_postmaster_start_time": lambda catalog: catalog.session.database.started_us,
    "pg_conf_load_time": lambda catalog: catalog.session.database.started_us,
    "pg_cancel_backend": _cancel,
    "pg_encoding_to_char": _encoding_name,
    "pg_char_to_encoding": _encoding_number,
    "pg_table_is_visible": _visible_relation,
    "pg_type_is_visible": lambda _catalog, oid: True if oid in TYPE_ROWS else None,
    **dict.fromkeys(_VISIBLE.split(), _granted),
    "pg_is_other_temp_schema": _always(False),
    "row_security_active": _always(False),
    "pg_get_userbyid": define.role_name,
    "format_type": _format_type,
    "pg_get_expr": _expression,
    "pg_get_indexdef": _index_definition,
    "pg_get_constraintdef": _constraint_definition,
    "pg_get_viewdef": _view_definition,
    "pg_get_function_arguments": _arguments,
    "pg_get_function_identity_arguments": _arguments,
    "pg_get_function_result": _result,
    "pg_get_serial_sequence": _serial_sequence,
    "pg_tablespace_location": _always(""),
    "pg_relation_is_publishable": _always(False),
    **dict.fromkeys(_NULL.split(), _always(None)),
    **{f"to_{kind.value}": _found_oid(kind) for kind in REG_KINDS},
    **{f"{kind.value}out": _name_of(kind) for kind in REG_KINDS},
    **{f"{kind.value}in": _oid_of(kind) for kind in REG_KINDS},
    "pg_relation_size": sizes.relation_size,
    "pg_table_size": sizes.relation_size,
    "pg_indexes_size": sizes.indexes_size,
    "pg_total_relation_size": sizes.total_size,
    "pg_database_size": sizes.database_size,
    "pg_tablespace_size": sizes.tablespace_size,
    "pg_relation_filenode": sizes.file_node,
    "pg_stat_get_numscans": _always(0),
    "has_table_privilege": _relation_privilege,
    "has_any_column_privilege": _relation_privilege,
    "has_sequence_privilege": _relation_privilege,
    "has_column_privilege": _column_privilege,
    "has_schema_privilege": _schema_privilege,
    "has_database_privilege": _database_privilege,
    **dict.fromkeys(_GRANTED.split(), _granted),
}
