"""Signatures of the functions that ask the session or the catalog, and of those over arrays as text.

Data only: `functions.py` makes overloads of it, `scalar/session.py` and `scalar/arrays.py` implement them
under the same names. What the former answer is `catalog/system_functions.py`'s business.
"""

from __future__ import annotations

from typing import Final

from filestore.types import (
    BOOL,
    CHAR,
    INT2,
    INT4,
    INT8,
    NAME,
    OID,
    REGCLASS,
    REGNAMESPACE,
    REGPROC,
    REGTYPE,
    TEXT,
    TIMESTAMPTZ,
    UNKNOWN,
    VOID,
    SqlType,
)

Signature = tuple[str, SqlType, tuple[tuple[SqlType, ...], ...]]

_PRIVILEGE: Final = (
    (TEXT, TEXT),
    (OID, TEXT),
    (NAME, TEXT, TEXT),
    (NAME, OID, TEXT),
    (OID, TEXT, TEXT),
    (OID, OID, TEXT),
)
_COLUMN_PRIVILEGE: Final = ((TEXT, TEXT, TEXT), (OID, INT2, TEXT), (OID, TEXT, TEXT))
_PRETTY: Final = ((OID,), (OID, BOOL))

SESSION_FUNCTIONS: Final[tuple[Signature, ...]] = (
    # the session and the server
    ("version", TEXT, ((),)),
    ("current_database current_schema getdatabaseencoding", NAME, ((),)),
    ("current_schemas", TEXT, ((BOOL,),)),
    ("current_setting", TEXT, ((TEXT,), (TEXT, BOOL))),
    ("set_config", TEXT, ((TEXT, TEXT, BOOL),)),
    ("current_query inet_client_addr inet_server_addr", TEXT, ((),)),
    ("pg_backend_pid inet_client_port inet_server_port", INT4, ((),)),
    ("pg_is_in_recovery", BOOL, ((),)),
    ("pg_advisory_unlock_all", VOID, ((),)),
    ("txid_current", INT8, ((),)),
    ("pg_my_temp_schema", OID, ((),)),
    ("pg_postmaster_start_time pg_conf_load_time", TIMESTAMPTZ, ((),)),
    ("pg_cancel_backend", BOOL, ((INT4,),)),
    ("pg_encoding_to_char", NAME, ((INT4,),)),
    ("pg_char_to_encoding", INT4, ((NAME,),)),
    # names and definitions
    (
        (
            "pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_operator_is_visible "
            "pg_opclass_is_visible pg_opfamily_is_visible pg_collation_is_visible pg_conversion_is_visible "
            "pg_statistics_obj_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible "
            "pg_ts_parser_is_visible pg_ts_template_is_visible pg_is_other_temp_schema row_security_active"
        ),
        BOOL,
        ((OID,),),
    ),
    ("pg_get_userbyid", NAME, ((OID,),)),
    ("format_type", TEXT, ((OID, INT4),)),
    ("pg_get_expr", TEXT, ((TEXT, OID), (TEXT, OID, BOOL))),
    ("pg_get_indexdef", TEXT, ((OID,), (OID, INT4, BOOL))),
    ("pg_get_constraintdef pg_get_viewdef pg_get_ruledef pg_get_triggerdef", TEXT, _PRETTY),
    (
        (
            "pg_get_functiondef pg_get_function_arguments pg_get_function_identity_arguments "
            "pg_get_function_result pg_get_function_sqlbody pg_get_partkeydef pg_get_statisticsobjdef "
            "pg_get_statisticsobjdef_columns pg_tablespace_location"
        ),
        TEXT,
        ((OID,),),
    ),
    ("pg_get_serial_sequence", TEXT, ((TEXT, TEXT),)),
    ("obj_description", TEXT, ((OID,), (OID, NAME))),
    ("col_description", TEXT, ((OID, INT4),)),
    ("shobj_description", TEXT, ((OID, NAME),)),
    ("to_regclass", REGCLASS, ((TEXT,),)),
    ("to_regtype", REGTYPE, ((TEXT,),)),
    ("to_regproc", REGPROC, ((TEXT,),)),
    ("to_regnamespace", REGNAMESPACE, ((TEXT,),)),
    ("pg_partition_ancestors pg_partition_root", REGCLASS, ((REGCLASS,),)),
    ("pg_relation_is_publishable", BOOL, ((REGCLASS,),)),
    ("acldefault", TEXT, ((CHAR, OID),)),
    # sizes and counts
    ("pg_table_size pg_total_relation_size pg_indexes_size pg_relation_filenode", INT8, ((REGCLASS,),)),
    ("pg_relation_size", INT8, ((REGCLASS,), (REGCLASS, TEXT))),
    ("pg_database_size pg_tablespace_size", INT8, ((NAME,), (OID,))),
    ("pg_stat_get_numscans", INT8, ((OID,),)),
    # privileges
    (
        (
            "has_table_privilege has_any_column_privilege has_schema_privilege has_database_privilege "
            "has_function_privilege has_sequence_privilege has_type_privilege has_tablespace_privilege "
            "has_language_privilege has_server_privilege has_foreign_data_wrapper_privilege pg_has_role"
        ),
        BOOL,
        _PRIVILEGE,
    ),
    ("has_column_privilege", BOOL, _COLUMN_PRIVILEGE),
)
"""(names, result, argument types of each overload)."""

ARRAY_FUNCTIONS: Final[tuple[Signature, ...]] = (
    ("array_to_string", TEXT, ((TEXT, TEXT), (TEXT, TEXT, TEXT))),
    ("array_length array_upper array_lower", INT4, ((TEXT, INT4),)),
    ("cardinality", INT4, ((TEXT,),)),
    ("array_position", INT4, ((TEXT, TEXT),)),
    ("array_append array_cat array_remove", TEXT, ((TEXT, TEXT),)),
    ("string_to_array", TEXT, ((TEXT, TEXT),)),
    # array[i], and x = ANY (array): the binder's own
    ("array_item", UNKNOWN, ((TEXT, INT4),)),
    ("array_contains", BOOL, ((TEXT, TEXT),)),
    ("array_quote", TEXT, ((TEXT,),)),
)
"""Over arrays in text form. An item has no type of its own: it becomes what it is used as."""

NULL_ARGUMENTS: Final = frozenset(
    {"format_type", "set_config", "array_append", "array_quote", "string_to_array", "array_to_string"}
)
"""Functions that are called though an argument is null; the rest are null then."""
