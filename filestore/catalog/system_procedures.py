"""What can be called: pg_proc, pg_operator, pg_aggregate, from the binder's tables of functions.

Oids are numbered here and may differ in the next version; only the names of functions are PostgreSQL's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from filestore.catalog.system_relations import OWNER_OID, Changes, Row, Source, rows_of, vector_text
from filestore.catalog.system_types import TYPE_FUNCTIONS
from filestore.query import functions as f
from filestore.query.catalog_functions import SESSION_FUNCTIONS
from filestore.storage.registry import SYSTEM_SCHEMAS
from filestore.types import KINDS, Kind, SqlType

_CATALOG_OID: Final = SYSTEM_SCHEMAS["pg_catalog"]
_FIRST_OID: Final = 10_000
_ANY_OID: Final = 2276
_INTERNAL_OID: Final = 2281


_SESSION_NAMES: Final = frozenset(name for names, _, _ in SESSION_FUNCTIONS for name in names.split())


@dataclass(frozen=True, slots=True)
class Procedure:
    """A function as pg_proc lists it. kind: "f" function, "a" aggregate."""

    oid: int
    name: str
    arguments: tuple[int, ...]
    result: int
    kind: str
    variadic: bool
    volatile: str


def _oid(sql_type: SqlType) -> int:
    return _ANY_OID if sql_type is f.ANY or sql_type == f.ANY else sql_type.oid


def _signatures() -> Iterator[tuple[str, tuple[int, ...], int, str, bool, str]]:
    for name, overloads in f.CALLS.items():
        for o in overloads:
            stable = name in _SESSION_NAMES or o.name in f.TIMEZONE_DEPENDENT
            volatile = "s" if stable else "v" if o.name in f.VOLATILE else "i"
            yield name, tuple(map(_oid, o.takes)), _oid(o.result_type(o.takes)), "f", o.variadic, volatile
    for name, (_, rule) in f.AGGREGATES.items():
        for kind in KINDS:
            result = rule(SqlType(kind))
            if result is not None and kind not in (Kind.UNKNOWN, Kind.VOID, Kind.VARCHAR, Kind.NAME):
                yield name, (SqlType(kind).oid,), result.oid, "a", False, "i"
    yield "count", (), SqlType(Kind.INT8).oid, "a", False, "i"
    yield "count", (_ANY_OID,), SqlType(Kind.INT8).oid, "a", False, "i"
    yield (
        "string_agg",
        (SqlType(Kind.TEXT).oid, SqlType(Kind.TEXT).oid),
        SqlType(Kind.TEXT).oid,
        "a",
        False,
        "i",
    )


@cache
def procedures() -> tuple[Procedure, ...]:
    """Every function and aggregate, one for each signature."""
    return tuple(Procedure(_FIRST_OID + i, *signature) for i, signature in enumerate(_signatures()))


PROCEDURES: Final[dict[int, Procedure]] = {p.oid: p for p in procedures()}
PROCEDURE_NAMES: Final[dict[int, str]] = {**TYPE_FUNCTIONS, **{p.oid: p.name for p in procedures()}}
PROCEDURE_OIDS: Final[dict[str, int]] = {name: oid for oid, name in reversed(list(PROCEDURE_NAMES.items()))}


@rows_of("pg_proc", Changes.NEVER)
def _procedures(_source: Source) -> Iterator[Row]:
    for p in procedures():
        yield _procedure(
            p.oid,
            p.name,
            p.arguments,
            p.result,
            prokind=p.kind,
            provolatile=p.volatile,
            provariadic=p.arguments[-1] if p.variadic else 0,
        )
    for oid, name in TYPE_FUNCTIONS.items():
        yield _procedure(
            oid, name, (_INTERNAL_OID,), _INTERNAL_OID, prokind="f", provolatile="i", provariadic=0
        )


def _procedure(oid: int, name: str, arguments: tuple[int, ...], result: int, **more: Any) -> Row:
    return {
        "oid": oid,
        "proname": name,
        "pronamespace": _CATALOG_OID,
        "proowner": OWNER_OID,
        "prolang": 12,
        "procost": 1.0,
        "proisstrict": True,
        "proparallel": "s",
        "pronargs": len(arguments),
        "prorettype": result,
        "proargtypes": vector_text(arguments),
        "prosrc": name,
        **more,
    }


@rows_of("pg_aggregate", Changes.NEVER)
def _aggregates(_source: Source) -> Iterator[Row]:
    for p in procedures():
        if p.kind == "a":
            yield {
                "aggfnoid": p.oid,
                "aggkind": "n",
                "aggtranstype": p.result,
                "aggfinalmodify": "r",
                "aggmfinalmodify": "r",
            }


@rows_of("pg_operator", Changes.NEVER)
def _operators(_source: Source) -> Iterator[Row]:
    oid = _FIRST_OID - 1
    for name, overloads in f.OPERATORS.items():
        for o in overloads:
            oid += 1
            yield _operator(oid, name, "b", _oid(o.takes[0]), _oid(o.takes[1]), o)
    for name, overloads in f.PREFIX_OPERATORS.items():
        for o in overloads:
            oid += 1
            yield _operator(oid, name, "l", 0, _oid(o.takes[0]), o)


def _operator(oid: int, name: str, kind: str, left: int, right: int, overload: f.Overload) -> Row:
    return {
        "oid": oid,
        "oprname": name,
        "oprnamespace": _CATALOG_OID,
        "oprowner": OWNER_OID,
        "oprkind": kind,
        "oprleft": left,
        "oprright": right,
        "oprresult": _oid(overload.result_type(overload.takes)),
    }
