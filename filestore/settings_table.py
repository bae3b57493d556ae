"""The table of known settings: what SET, SHOW and pg_settings know of each. `settings.py` gives them meaning.

Many are accepted only because clients set them (PostgreSQL 15's names and bounds), and their descriptions say so: the
values are kept and shown, and nothing reads them. Defaults are in base units (ms, kB); a description says what a
setting does in FileStore.

Thread rule: constants.
"""

from __future__ import annotations

from dataclasses import dataclass

from filestore import __version__

POSTGRES_VERSION = "15.18"
SERVER_VERSION = f"{POSTGRES_VERSION} (FileStore {__version__.rpartition('.')[0]})"
POSTGRES_VERSION_NUMBER = 150_018
INT_MAX = 2**31 - 1
REAL_MAX = 1.79769e308


@dataclass(frozen=True, slots=True)
class Setting:
    """A known setting. `report`: the wire tells the client of changes (ParameterStatus).

    type: bool | int | real | enum | string | list; context: user | internal | postmaster | sighup.
    unit: ms | s | kB | 8kB.
    """

    name: str
    type: str
    default: bool | int | float | str
    description: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    context: str = "user"
    report: bool = False


def _bool(name: str, default: bool, description: str, report: bool = False) -> Setting:
    return Setting(name, "bool", default, description, report=report)


def _int(name: str, default: int, low: int, high: int, description: str, unit: str | None = None) -> Setting:
    return Setting(name, "int", default, description, unit, low, high)


def _real(name: str, default: float, low: float, high: float, description: str) -> Setting:
    return Setting(name, "real", default, description, None, low, high)


def _enum(name: str, default: str, choices: str, description: str, report: bool = False) -> Setting:
    return Setting(name, "enum", default, description, choices=tuple(choices.split("|")), report=report)


def _string(name: str, default: str, description: str, report: bool = False) -> Setting:
    return Setting(name, "string", default, description, report=report)


def _preset(name: str, value: str | int | bool, description: str, report: bool = False) -> Setting:
    kind = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "string"
    low = high = value if kind == "int" and isinstance(value, int) else None
    return Setting(name, kind, value, description, None, low, high, context="internal", report=report)


STYLES = "postgres|postgres_verbose|sql_standard|iso_8601"
ISOLATION = "serializable|repeatable read|read committed|read uncommitted"
CLIENT_MESSAGES = "debug5|debug4|debug3|debug2|debug1|log|notice|warning|error|info|debug"
MESSAGES = f"{CLIENT_MESSAGES}|fatal|panic"
_PLANNER = "Accepted for clients; the planner decides by cost alone."
_ACCEPTED = "Accepted for clients; has no effect."

_ROWS = (
    # What a session feels
    _string("DateStyle", "ISO, MDY", "Output style of dates (ISO) and order of ambiguous input.", report=True),
    _string("TimeZone", "UTC", "Zone in which timestamps with time zone are read and shown.", report=True),
    _string("client_encoding", "UTF8", "Encoding of the client: UTF8.", report=True),
    _string("application_name", "", "Name of the client's application, as pg_stat_activity shows it.", report=True),
    Setting("search_path", "list", '"$user", public', "Schemas in which unqualified names are looked up."),
    _int("statement_timeout", 0, 0, INT_MAX, "Longest time a statement may take, 0 for no limit.", "ms"),
    _int("lock_timeout", 0, 0, INT_MAX, "Longest wait for a lock, 0 for no limit.", "ms"),
    _int("idle_in_transaction_session_timeout", 0, 0, INT_MAX, "Longest idle time inside a transaction.", "ms"),
    _int("idle_session_timeout", 0, 0, INT_MAX, _ACCEPTED, "ms"),
    _enum("synchronous_commit", "on", "local|remote_write|remote_apply|on|off", "Whether COMMIT waits for the disk."),
    _enum("default_transaction_isolation", "read committed", ISOLATION, "Isolation level of new transactions."),
    _bool("default_transaction_read_only", False, "Whether new transactions are read-only.", report=True),
    _bool("default_transaction_deferrable", False, _ACCEPTED),
    _enum("transaction_isolation", "read committed", ISOLATION, "Isolation level of the current transaction."),
    _bool("transaction_read_only", False, "Whether the current transaction is read-only."),
    _bool("transaction_deferrable", False, _ACCEPTED),
    _int("extra_float_digits", 1, -15, 3, "Digits of floats in text: above 0 the shortest exact form."),
    _enum("bytea_output", "hex", "escape|hex", "Text form of bytea."),
    _enum("IntervalStyle", "postgres", STYLES, "Text form of intervals.", report=True),
    _bool("standard_conforming_strings", True, "Backslashes in '...' are ordinary characters.", report=True),
    _enum("client_min_messages", "notice", CLIENT_MESSAGES, "The least severe messages that the client is sent."),
    _int("work_mem", 65_536, 64, INT_MAX, "Accepted for clients; sorts and hashes stay in memory.", "kB"),
    # Facts about the server
    _preset("server_version", SERVER_VERSION, "Version.", report=True),
    _preset("server_version_num", POSTGRES_VERSION_NUMBER, "Version as a number."),
    _preset("server_encoding", "UTF8", "Encoding of the store.", report=True),
    _preset("integer_datetimes", True, "Dates and times are integers.", report=True),
    _preset("in_hot_standby", False, "Whether the store is a read-only copy.", report=True),
    _preset("is_superuser", True, "Whether the user may do everything.", report=True),
    _preset("session_authorization", "filestore", "The user of the session.", report=True),
    _preset("max_identifier_length", 63, "Bytes of a name."),
    _preset("max_index_keys", 32, "Columns of a key."),
    _preset("block_size", 8192, "Block size that clients expect."),
    _preset("wal_block_size", 8192, "Block size that clients expect."),
    _preset("segment_size", 131_072, "Segment size that clients expect."),
    _preset("max_function_args", 100, "Arguments of a function."),
    _preset("data_checksums", True, "Every byte read from disk is checked."),
    _preset("lc_collate", "C", "Strings are ordered by their bytes."),
    _preset("lc_ctype", "C", "Character classes are those of Unicode."),
    _preset("debug_assertions", False, "Built with assertions."),
    # Limits and places of the process
    *(
        Setting(name, kind, default, _ACCEPTED, unit, context="postmaster")
        for name, kind, default, unit in (
            ("max_connections", "int", 100, None),
            ("max_prepared_transactions", "int", 0, None),
            ("max_locks_per_transaction", "int", 64, None),
            ("shared_buffers", "int", 16_384, "8kB"),
            ("listen_addresses", "string", "localhost", None),
            ("port", "int", 5432, None),
            ("wal_level", "string", "replica", None),
            ("data_directory", "string", "", None),
            ("unix_socket_directories", "string", "", None),
            ("max_worker_processes", "int", 8, None),
            ("autovacuum_max_workers", "int", 3, None),
            ("max_wal_senders", "int", 0, None),
            ("max_replication_slots", "int", 0, None),
            ("shared_preload_libraries", "string", "", None),
            ("hot_standby", "bool", True, None),
        )
    ),
    *(
        Setting(name, kind, default, _ACCEPTED, context="sighup")
        for name, kind, default in (
            ("autovacuum", "bool", True),
            ("fsync", "bool", True),
            ("full_page_writes", "bool", True),
            ("ssl", "bool", False),
            ("log_line_prefix", "string", "%m [%p] "),
            ("checkpoint_timeout", "int", 300),
            ("primary_conninfo", "string", ""),
        )
    ),
    # What clients set
    _bool("row_security", True, "Accepted for clients; there are no row policies."),
    _bool("jit", True, "Accepted for clients; plans are compiled when they are hot."),
    *(
        _bool(name, default, _ACCEPTED)
        for name, default in (
            ("array_nulls", True),
            ("check_function_bodies", True),
            ("debug_pretty_print", True),
            ("debug_print_plan", False),
            ("escape_string_warning", True),
            ("lo_compat_privileges", False),
            ("log_duration", False),
            ("quote_all_identifiers", False),
            ("synchronize_seqscans", True),
            ("track_activities", True),
            ("track_counts", True),
            ("track_io_timing", False),
            ("transform_null_equals", False),
            ("allow_system_table_mods", False),
            ("ignore_checksum_failure", False),
            ("parallel_leader_participation", True),
            ("zero_damaged_pages", False),
        )
    ),
    *(
        _bool(f"enable_{name}", True, _PLANNER)
        for name in (
            "async_append", "bitmapscan", "gathermerge", "hashagg", "hashjoin", "incremental_sort", "indexonlyscan",
            "indexscan", "material", "memoize", "mergejoin", "nestloop", "parallel_append", "parallel_hash",
            "partition_pruning", "seqscan", "sort", "tidscan",
        )
    ),
    _bool("enable_partitionwise_aggregate", False, _PLANNER),
    _bool("enable_partitionwise_join", False, _PLANNER),
    _bool("geqo", True, _PLANNER),
    *(
        _real(name, default, low, high, _PLANNER)
        for name, default, low, high in (
            ("random_page_cost", 4.0, 0, REAL_MAX),
            ("seq_page_cost", 1.0, 0, REAL_MAX),
            ("cpu_tuple_cost", 0.01, 0, REAL_MAX),
            ("cpu_index_tuple_cost", 0.005, 0, REAL_MAX),
            ("cpu_operator_cost", 0.0025, 0, REAL_MAX),
            ("parallel_setup_cost", 1000.0, 0, REAL_MAX),
            ("parallel_tuple_cost", 0.1, 0, REAL_MAX),
            ("jit_above_cost", 100_000.0, -1, REAL_MAX),
            ("jit_inline_above_cost", 500_000.0, -1, REAL_MAX),
            ("jit_optimize_above_cost", 500_000.0, -1, REAL_MAX),
            ("cursor_tuple_fraction", 0.1, 0, 1),
            ("hash_mem_multiplier", 2.0, 1, 1000),
            ("vacuum_cost_delay", 0.0, 0, 100),
        )
    ),
    *(
        _int(name, default, low, high, _ACCEPTED, unit)
        for name, default, low, high, unit in (
            ("maintenance_work_mem", 65_536, 1024, INT_MAX, "kB"),
            ("logical_decoding_work_mem", 65_536, 64, INT_MAX, "kB"),
            ("temp_file_limit", -1, -1, INT_MAX, "kB"),
            ("temp_buffers", 1024, 100, 1_073_741_823, "8kB"),
            ("effective_cache_size", 524_288, 1, INT_MAX, "8kB"),
            ("min_parallel_table_scan_size", 1024, 0, 715_827_882, "8kB"),
            ("min_parallel_index_scan_size", 64, 0, 715_827_882, "8kB"),
            ("max_parallel_workers", 8, 0, 1024, None),
            ("max_parallel_workers_per_gather", 2, 0, 1024, None),
            ("max_parallel_maintenance_workers", 2, 0, 1024, None),
            ("max_stack_depth", 2048, 100, INT_MAX, "kB"),
            ("effective_io_concurrency", 1, 0, 1000, None),
            ("maintenance_io_concurrency", 10, 0, 1000, None),
            ("default_statistics_target", 100, 1, 10_000, None),
            ("from_collapse_limit", 8, 1, INT_MAX, None),
            ("join_collapse_limit", 8, 1, INT_MAX, None),
            ("geqo_threshold", 12, 2, INT_MAX, None),
            ("gin_fuzzy_search_limit", 0, 0, INT_MAX, None),
            ("deadlock_timeout", 1000, 1, INT_MAX, "ms"),
            ("log_min_duration_statement", -1, -1, INT_MAX, "ms"),
            ("log_temp_files", -1, -1, INT_MAX, "kB"),
            ("commit_delay", 0, 0, 100_000, None),
            ("commit_siblings", 5, 0, 1000, None),
            ("tcp_keepalives_idle", 0, 0, INT_MAX, "s"),
            ("tcp_keepalives_interval", 0, 0, INT_MAX, "s"),
            ("tcp_keepalives_count", 0, 0, INT_MAX, None),
            ("tcp_user_timeout", 0, 0, INT_MAX, "ms"),
            ("client_connection_check_interval", 0, 0, INT_MAX, "ms"),
            ("vacuum_cost_limit", 200, 1, 10_000, None),
        )
    ),
    *(
        _enum(name, default, choices, _ACCEPTED)
        for name, default, choices in (
            ("backslash_quote", "safe_encoding", "safe_encoding|on|off"),
            ("constraint_exclusion", "partition", "partition|on|off"),
            ("default_toast_compression", "pglz", "pglz|lz4"),
            ("force_parallel_mode", "off", "off|on|regress"),
            ("log_error_verbosity", "default", "terse|default|verbose"),
            ("log_min_error_statement", "error", MESSAGES),
            ("log_min_messages", "warning", MESSAGES),
            ("log_statement", "none", "none|ddl|mod|all"),
            ("password_encryption", "scram-sha-256", "md5|scram-sha-256"),
            ("plan_cache_mode", "auto", "auto|force_generic_plan|force_custom_plan"),
            ("session_replication_role", "origin", "origin|replica|local"),
            ("track_functions", "none", "none|pl|all"),
            ("xmlbinary", "base64", "base64|hex"),
            ("xmloption", "content", "content|document"),
            ("compute_query_id", "auto", "auto|regress|on|off"),
        )
    ),
    *(
        _string(name, default, _ACCEPTED)
        for name, default in (
            ("default_table_access_method", "heap"),
            ("default_tablespace", ""),
            ("default_text_search_config", "pg_catalog.english"),
            ("dynamic_library_path", "$libdir"),
            ("lc_messages", "C"),
            ("lc_monetary", "C"),
            ("lc_numeric", "C"),
            ("lc_time", "C"),
            ("local_preload_libraries", ""),
            ("session_preload_libraries", ""),
            ("role", "none"),
            ("temp_tablespaces", ""),
            ("timezone_abbreviations", "Default"),
        )
    ),
)

SETTINGS: dict[str, Setting] = {row.name.lower(): row for row in _ROWS}
