"""Types and what hangs on them: pg_type, pg_am, pg_collation, pg_opclass, pg_opfamily, pg_cast, pg_language.

The types are those of `filestore.types`, and an array type for each: no value has one, but clients look
them up by name when they connect. Functions of types (typinput ...) are oids of functions that nobody
calls; they show PostgreSQL's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from filestore.catalog.system_relations import OWNER_OID, Changes, Row, Source, rows_of
from filestore.query.coerce import ASSIGNMENT, IMPLICIT
from filestore.storage.registry import SYSTEM_SCHEMAS
from filestore.types import KINDS, Kind

_CATALOG_OID: Final = SYSTEM_SCHEMAS["pg_catalog"]

# Kind: (typname, by value, alignment, storage, stem of its functions, whether it has modifiers)
_DESCRIBED: Final[dict[Kind, tuple[str, bool, str, str, str, bool]]] = {
    Kind.BOOL: ("bool", True, "c", "p", "bool", False),
    Kind.BYTEA: ("bytea", False, "i", "x", "bytea", False),
    Kind.CHAR: ("char", True, "c", "p", "char", False),
    Kind.NAME: ("name", False, "c", "p", "name", False),
    Kind.INT8: ("int8", True, "d", "p", "int8", False),
    Kind.INT2: ("int2", True, "s", "p", "int2", False),
    Kind.INT4: ("int4", True, "i", "p", "int4", False),
    Kind.REGPROC: ("regproc", True, "i", "p", "regproc", False),
    Kind.TEXT: ("text", False, "i", "x", "text", False),
    Kind.OID: ("oid", True, "i", "p", "oid", False),
    Kind.FLOAT4: ("float4", True, "i", "p", "float4", False),
    Kind.FLOAT8: ("float8", True, "d", "p", "float8", False),
    Kind.UNKNOWN: ("unknown", False, "c", "p", "unknown", False),
    Kind.BPCHAR: ("bpchar", False, "i", "x", "bpchar", True),
    Kind.VARCHAR: ("varchar", False, "i", "x", "varchar", True),
    Kind.DATE: ("date", True, "i", "p", "date_", False),
    Kind.TIME: ("time", True, "d", "p", "time_", True),
    Kind.TIMESTAMP: ("timestamp", True, "d", "p", "timestamp_", True),
    Kind.TIMESTAMPTZ: ("timestamptz", True, "d", "p", "timestamptz_", True),
    Kind.INTERVAL: ("interval", False, "d", "p", "interval_", True),
    Kind.NUMERIC: ("numeric", False, "i", "m", "numeric_", True),
    Kind.REGCLASS: ("regclass", True, "i", "p", "regclass", False),
    Kind.REGTYPE: ("regtype", True, "i", "p", "regtype", False),
    Kind.VOID: ("void", True, "i", "p", "void_", False),
    Kind.UUID: ("uuid", False, "c", "p", "uuid_", False),
    Kind.REGNAMESPACE: ("regnamespace", True, "i", "p", "regnamespace", False),
    Kind.REGROLE: ("regrole", True, "i", "p", "regrole", False),
}
_COLLATIONS: Final = {Kind.TEXT: 100, Kind.VARCHAR: 100, Kind.BPCHAR: 100, Kind.NAME: 950}
_PSEUDO: Final = (Kind.UNKNOWN, Kind.VOID)

INTERNAL_NAMES: Final[dict[Kind, str]] = {kind: described[0] for kind, described in _DESCRIBED.items()}

TYPE_FUNCTIONS: Final[dict[int, str]] = dict(
    enumerate(
        [
            *(
                f"{described[4]}{end}"
                for described in _DESCRIBED.values()
                for end in ("in", "out", "recv", "send")
            ),
            *(f"array_{end}" for end in ("in", "out", "recv", "send", "typanalyze", "subscript_handler")),
            *(
                f"{described[0]}typmod{end}"
                for described in _DESCRIBED.values()
                if described[5]
                for end in ("in", "out")
            ),
        ],
        start=9000,
    )
)
"""Functions that only type rows and access methods name, by oid."""
_FUNCTION_OIDS: Final = {name: oid for oid, name in TYPE_FUNCTIONS.items()}


def _functions(stem: str, modified: str | None) -> dict[str, int]:
    found = {
        f"typ{k}": _FUNCTION_OIDS[f"{stem}{v}"]
        for k, v in (("input", "in"), ("output", "out"), ("receive", "recv"), ("send", "send"))
    }
    if modified is not None:
        found |= {f"typmod{end}": _FUNCTION_OIDS[f"{modified}typmod{end}"] for end in ("in", "out")}
    return found


def _type_rows() -> Iterator[dict[str, Any]]:
    for kind, (name, by_value, alignment, storage, stem, modified) in _DESCRIBED.items():
        info = KINDS[kind]
        common = {
            "typnamespace": _CATALOG_OID,
            "typowner": OWNER_OID,
            "typisdefined": True,
            "typdelim": ",",
            "typtypmod": -1,
            "typcollation": _COLLATIONS.get(kind, 0),
        }
        yield {
            **common,
            "oid": info.oid,
            "typname": name,
            "typlen": info.size,
            "typbyval": by_value,
            "typtype": "p" if kind in _PSEUDO else "b",
            "typcategory": info.category,
            "typispreferred": info.preferred,
            "typarray": info.array_oid,
            "typelem": 18 if kind is Kind.NAME else 0,
            "typalign": alignment,
            "typstorage": storage,
            **_functions(stem, name if modified else None),
        }
        if info.array_oid:
            yield {
                **common,
                "oid": info.array_oid,
                "typname": f"_{name}",
                "typlen": -1,
                "typbyval": False,
                "typtype": "b",
                "typcategory": "A",
                "typelem": info.oid,
                "typalign": "d" if alignment == "d" else "i",
                "typstorage": "x",
                "typsubscript": _FUNCTION_OIDS["array_subscript_handler"],
                "typanalyze": _FUNCTION_OIDS["array_typanalyze"],
                **_functions("array_", name if modified else None),
            }


TYPE_ROWS: Final[dict[int, dict[str, Any]]] = {row["oid"]: row for row in _type_rows()}
"""pg_type by oid."""

ARRAY_ELEMENTS: Final[dict[int, Kind]] = {
    info.array_oid: kind for kind, info in KINDS.items() if info.array_oid
}


@rows_of("pg_type", Changes.NEVER)
def _types(_source: Source) -> Iterator[Row]:
    yield from TYPE_ROWS.values()


@rows_of("pg_am", Changes.NEVER)
def _methods(_source: Source) -> Iterator[Row]:
    yield {"oid": 2, "amname": "heap", "amtype": "t"}
    yield {"oid": 403, "amname": "btree", "amtype": "i"}


@rows_of("pg_collation", Changes.NEVER)
def _collations(_source: Source) -> Iterator[Row]:
    for oid, name, provider, locale in (
        (100, "default", "d", None),
        (950, "C", "c", "C"),
        (951, "POSIX", "c", "POSIX"),
        (12340, "ucs_basic", "c", "C"),
    ):
        yield {
            "oid": oid,
            "collname": name,
            "collnamespace": _CATALOG_OID,
            "collowner": OWNER_OID,
            "collprovider": provider,
            "collisdeterministic": True,
            "collencoding": -1,
            "collcollate": locale,
            "collctype": locale,
        }


# Kind: (oid of its default class for B-trees, class, family's oid, family)
_CLASSES: Final[dict[Kind, tuple[int, str, int, str]]] = {
    Kind.BOOL: (10003, "bool_ops", 424, "bool_ops"),
    Kind.BPCHAR: (10004, "bpchar_ops", 426, "bpchar_ops"),
    Kind.BYTEA: (10006, "bytea_ops", 428, "bytea_ops"),
    Kind.CHAR: (10007, "char_ops", 429, "char_ops"),
    Kind.TIMESTAMP: (3128, "timestamp_ops", 434, "datetime_ops"),
    Kind.TIMESTAMPTZ: (3127, "timestamptz_ops", 434, "datetime_ops"),
    Kind.DATE: (3122, "date_ops", 434, "datetime_ops"),
    Kind.FLOAT8: (3123, "float8_ops", 1970, "float_ops"),
    Kind.FLOAT4: (10012, "float4_ops", 1970, "float_ops"),
    Kind.INT8: (3124, "int8_ops", 1976, "integer_ops"),
    Kind.INT4: (1978, "int4_ops", 1976, "integer_ops"),
    Kind.INT2: (1979, "int2_ops", 1976, "integer_ops"),
    Kind.INTERVAL: (10022, "interval_ops", 1982, "interval_ops"),
    Kind.NUMERIC: (3125, "numeric_ops", 1988, "numeric_ops"),
    Kind.OID: (1981, "oid_ops", 1989, "oid_ops"),
    Kind.TEXT: (3126, "text_ops", 1994, "text_ops"),
    Kind.NAME: (10028, "name_ops", 1994, "text_ops"),
    Kind.TIME: (10038, "time_ops", 1996, "time_ops"),
    Kind.UUID: (10065, "uuid_ops", 2968, "uuid_ops"),
}
OPERATOR_CLASSES: Final = {kind: oid for kind, (oid, *_) in _CLASSES.items()}
"""The operator class that a key column of that kind uses."""


@rows_of("pg_opclass", Changes.NEVER)
def _operator_classes(_source: Source) -> Iterator[Row]:
    for kind, (oid, name, family, _) in _CLASSES.items():
        yield {
            "oid": oid,
            "opcmethod": 403,
            "opcname": name,
            "opcnamespace": _CATALOG_OID,
            "opcowner": OWNER_OID,
            "opcfamily": family,
            "opcintype": KINDS[kind].oid,
            "opcdefault": True,
        }


@rows_of("pg_opfamily", Changes.NEVER)
def _operator_families(_source: Source) -> Iterator[Row]:
    for oid, name in sorted({(family, name) for _, _, family, name in _CLASSES.values()}):
        yield {
            "oid": oid,
            "opfmethod": 403,
            "opfname": name,
            "opfnamespace": _CATALOG_OID,
            "opfowner": OWNER_OID,
        }


@rows_of("pg_cast", Changes.NEVER)
def _casts(_source: Source) -> Iterator[Row]:
    pairs = [(a, b, "i") for a, targets in IMPLICIT.items() for b in targets]
    pairs += [
        (a, b, "a")
        for a, targets in ASSIGNMENT.items()
        for b in targets - IMPLICIT.get(a, frozenset())
        if a is not b
    ]
    ordered = sorted(pairs, key=lambda pair: (KINDS[pair[0]].oid, KINDS[pair[1]].oid))
    for oid, (a, b, context) in enumerate(ordered, 8000):
        yield {
            "oid": oid,
            "castsource": KINDS[a].oid,
            "casttarget": KINDS[b].oid,
            "castcontext": context,
            "castmethod": "i",
        }


@rows_of("pg_language", Changes.NEVER)
def _languages(_source: Source) -> Iterator[Row]:
    yield {"oid": 12, "lanname": "internal", "lanowner": OWNER_OID}
    yield {"oid": 14, "lanname": "sql", "lanowner": OWNER_OID, "lanpltrusted": True}
