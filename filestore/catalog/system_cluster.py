"""What is one per directory: pg_database, pg_tablespace, roles, pg_settings, pg_timezone_names.

A directory is one database and one tablespace. PostgreSQL's second one, pg_global, is listed because
clients join with it.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from typing import Any, Final

from filestore.catalog import system_definitions as define
from filestore.catalog.system_functions import UTF8
from filestore.catalog.system_relations import OWNER_OID, Changes, Row, Source, array_text, rows_of
from filestore.catalog.system_sizes import DATABASE_OID, TABLESPACE_OIDS
from filestore.settings_table import SETTINGS, Setting

_NO_LIMIT: Final = -1


@rows_of("pg_database", Changes.ALWAYS)
def _databases(source: Source) -> Iterator[Row]:
    yield {
        "oid": DATABASE_OID,
        "datname": source.database.name,
        "datdba": OWNER_OID,
        "encoding": UTF8,
        "datlocprovider": "c",
        "datallowconn": True,
        "datconnlimit": _NO_LIMIT,
        "datfrozenxid": "0",
        "datminmxid": "0",
        "dattablespace": TABLESPACE_OIDS["pg_default"],
        "datcollate": "C",
        "datctype": "C",
    }


@rows_of("pg_tablespace", Changes.NEVER)
def _tablespaces(_source: Source) -> Iterator[Row]:
    for name, oid in TABLESPACE_OIDS.items():
        yield {"oid": oid, "spcname": name, "spcowner": OWNER_OID}


# --- roles ----------------------------------------------------------------------------------------


@rows_of("pg_authid", Changes.ALWAYS)
def _authorisations(source: Source) -> Iterator[Row]:
    for oid, name in define.roles(source.catalog):
        yield {
            "oid": oid,
            "rolname": name,
            "rolsuper": True,
            "rolinherit": True,
            "rolcreaterole": True,
            "rolcreatedb": True,
            "rolcanlogin": True,
            "rolbypassrls": True,
            "rolconnlimit": _NO_LIMIT,
        }


@rows_of("pg_roles", Changes.ALWAYS)
def _roles(source: Source) -> Iterator[Row]:
    for row in _authorisations(source):
        yield {**row, "rolreplication": False, "rolpassword": "********"}


@rows_of("pg_user", Changes.ALWAYS)
def _users(source: Source) -> Iterator[Row]:
    for oid, name in define.roles(source.catalog):
        yield {
            "usename": name,
            "usesysid": oid,
            "usecreatedb": True,
            "usesuper": True,
            "userepl": False,
            "usebypassrls": True,
            "passwd": "********",
        }


@rows_of("pg_shadow", Changes.ALWAYS)
def _shadows(source: Source) -> Iterator[Row]:
    for row in _users(source):
        yield {**row, "passwd": None}


# --- settings -------------------------------------------------------------------------------------


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _limit(value: float | None) -> str | None:
    return None if value is None else f"{value:g}" if value != int(value) else str(int(value))


@rows_of("pg_settings", Changes.ALWAYS)
def _settings(source: Source) -> Iterator[Row]:
    settings = source.session.settings
    for key, setting in sorted(SETTINGS.items()):
        value = settings.value(key)
        default = _plain(setting.default)
        shown = _plain(value)
        yield {
            "name": setting.name,
            "setting": shown,
            "unit": setting.unit,
            "category": "FileStore",
            "short_desc": setting.description,
            "context": setting.context,
            "vartype": _VARTYPES.get(setting.type, "string"),
            "source": "default" if shown == default else "session" if setting.context == "user" else "command line",
            "min_val": _limit(setting.minimum),
            "max_val": _limit(setting.maximum),
            "enumvals": _choices(setting),
            "boot_val": default,
            "reset_val": default if setting.context == "user" else shown,
            "pending_restart": False,
        }


_VARTYPES: Final = {"bool": "bool", "int": "integer", "real": "real", "enum": "enum"}


def _choices(setting: Setting) -> str | None:
    if not setting.choices:
        return None
    return array_text(f'"{choice}"' if " " in choice else choice for choice in setting.choices)


# --- time zones -----------------------------------------------------------------------------------


@rows_of("pg_timezone_names", Changes.ALWAYS)
def _time_zones(_source: Source) -> Iterator[Row]:
    now = dt.datetime.now(dt.UTC)
    for name in sorted(zoneinfo.available_timezones()):
        local = now.astimezone(zoneinfo.ZoneInfo(name))
        offset = local.utcoffset() or dt.timedelta()
        yield {
            "name": name,
            "abbrev": local.tzname(),
            "utc_offset": (0, 0, offset // dt.timedelta(microseconds=1)),
            "is_dst": bool(local.dst()),
        }
