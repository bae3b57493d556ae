"""What is going on: pg_stat_activity, pg_locks, pg_prepared_statements, pg_cursors, and counts of rows.

Nothing is sampled or delayed: rows are made from the sessions, the lock table and the tables at the moment
of reading. What is not counted (scans, tuples fetched, vacuum runs) is zero or null.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from filestore.catalog.system_relations import OWNER_OID, Changes, Row, Source, array_text, rows_of
from filestore.catalog.system_sizes import DATABASE_OID
from filestore.storage.schema import TableDef

if TYPE_CHECKING:
    from filestore.session import Session
    from filestore.txn.locks import LockMode

_STATES = {"I": "idle", "T": "idle in transaction", "E": "idle in transaction (aborted)"}


def _sessions(source: Source) -> list[Session]:
    return [s for _, s in sorted(source.database.sessions.items())]


@rows_of("pg_stat_activity", Changes.ALWAYS)
def _activity(source: Source) -> Iterator[Row]:
    for session in _sessions(source):
        transaction = session.transaction
        waiting = transaction is not None and bool(transaction.waiting_for)
        active = session is source.session or waiting or (session.status == "I" and transaction is not None)
        yield {
            "datid": DATABASE_OID,
            "datname": source.database.name,
            "pid": session.process_id,
            "usesysid": OWNER_OID,
            "usename": session.user,
            "application_name": session.settings.application_name,
            "client_addr": session.client[0],
            "client_port": session.client[1],
            "backend_start": session.started_us,
            "xact_start": session.settings.transaction_us if transaction is not None else None,
            "query_start": session.settings.statement_us if session.statement_text else None,
            "state_change": session.settings.statement_us if session.statement_text else session.started_us,
            "wait_event_type": "Lock" if waiting else None if active else "Client",
            "wait_event": transaction.waiting_what
            if waiting and transaction is not None
            else None
            if active
            else "ClientRead",
            "state": "active" if active else _STATES[session.status],
            "backend_xid": str(transaction.id)
            if transaction is not None and transaction.has_writes
            else None,
            "query": session.statement_text,
            "backend_type": "client backend",
        }


# --- locks ----------------------------------------------------------------------------------------


def _mode_name(mode: LockMode) -> str:
    return mode.name.title().replace("_", "") + "Lock"


@rows_of("pg_locks", Changes.ALWAYS)
def _locks(source: Source) -> Iterator[Row]:
    owners = {s.transaction.id: s.process_id for s in _sessions(source) if s.transaction is not None}
    for key, number, mode, granted in source.database.engine.locks.held():
        yield {
            **_locked(key),
            "database": DATABASE_OID,
            "virtualtransaction": f"{owners.get(number, 0)}/{number}",
            "pid": owners.get(number),
            "mode": _mode_name(mode),
            "granted": granted,
            "fastpath": False,
        }
    for number, pid in owners.items():
        yield {
            "locktype": "transactionid",
            "transactionid": str(number),
            "virtualtransaction": f"{pid}/{number}",
            "pid": pid,
            "mode": "ExclusiveLock",
            "granted": True,
            "fastpath": False,
        }


def _locked(key: Hashable) -> dict[str, Any]:
    """A lock's key as pg_locks shows it: tables by oid, names (of what is being made) as objects."""
    if isinstance(key, int):
        return {"locktype": "relation", "relation": key}
    return {"locktype": "object"}


# --- a session's own ------------------------------------------------------------------------------


@rows_of("pg_prepared_statements", Changes.ALWAYS)
def _prepared(source: Source) -> Iterator[Row]:
    for name, prepared in sorted(source.session.prepared.items()):
        yield {
            "name": name,
            "statement": prepared.text,
            "prepare_time": source.session.started_us,
            "parameter_types": array_text(t.name for t in prepared.parameters),
            "from_sql": True,
            "generic_plans": 0,
            "custom_plans": 0,
        }


@rows_of("pg_cursors", Changes.ALWAYS)
def _cursors(source: Source) -> Iterator[Row]:
    for name, cursor in sorted(source.session.cursors.items()):
        yield {
            "name": name,
            "statement": "",
            "is_holdable": cursor.hold,
            "is_binary": cursor.binary,
            "is_scrollable": cursor.scroll is not False,
            "creation_time": source.session.settings.transaction_us,
        }


# --- counts ---------------------------------------------------------------------------------------


def _table_counts(source: Source, table: TableDef) -> Row:
    return {
        "relid": table.oid,
        "schemaname": table.schema,
        "relname": table.name,
        "seq_scan": 0,
        "seq_tup_read": 0,
        "idx_scan": 0,
        "idx_tup_fetch": 0,
        "n_tup_ins": 0,
        "n_tup_upd": 0,
        "n_tup_del": 0,
        "n_tup_hot_upd": 0,
        "n_live_tup": int(source.catalog.rows(table)),
        "n_dead_tup": 0,
        "n_mod_since_analyze": 0,
        "n_ins_since_vacuum": 0,
        "vacuum_count": 0,
        "autovacuum_count": 0,
        "analyze_count": 0,
        "autoanalyze_count": 0,
    }


@rows_of("pg_stat_user_tables", Changes.DATA)
@rows_of("pg_stat_all_tables", Changes.DATA)
def _tables(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        yield _table_counts(source, table)


@rows_of("pg_stat_user_indexes", Changes.DATA)
@rows_of("pg_stat_all_indexes", Changes.DATA)
def _indexes(source: Source) -> Iterator[Row]:
    for table in source.registry.tables():
        for key in table.keys:
            yield {
                "relid": table.oid,
                "indexrelid": key.oid,
                "schemaname": table.schema,
                "relname": table.name,
                "indexrelname": key.name,
                "idx_scan": 0,
                "idx_tup_read": 0,
                "idx_tup_fetch": 0,
            }


@rows_of("pg_stat_database", Changes.ALWAYS)
def _database(source: Source) -> Iterator[Row]:
    counts = source.database.engine.statistics()
    yield {
        "datid": DATABASE_OID,
        "datname": source.database.name,
        "numbackends": len(source.database.sessions),
        "xact_commit": int(counts["commits"]),
        "xact_rollback": int(counts["aborts"]),
        "blks_read": 0,
        "blks_hit": 0,
        "conflicts": 0,
        "temp_files": 0,
        "temp_bytes": 0,
        "deadlocks": 0,
        "checksum_failures": 0,
    }
