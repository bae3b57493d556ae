"""Parameters of a Bind to vectors of length 1: the client's text or binary values in the types that binding found.

Integers and plain strings, which are nearly all parameters there are, are read here; everything else, and everything
that looks odd, goes through `query/text_parse`, which also words the errors. Nothing is ever spliced into SQL
(RELIABILITY S7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

from filestore import errors
from filestore.query.datetime_text import TextSettings
from filestore.query.text_parse import from_binary, from_text
from filestore.server.pgwire.encode import all_formats
from filestore.storage.vector import EMPTY_HEAP, Array, Vector, string_vector
from filestore.types import BY_OID, KINDS, REG_KINDS, Kind, SqlType

Decoder = Callable[[bytes, TextSettings], Vector]

_NO_ROWS_VALID: Array = np.zeros(1, np.bool_)
_UNSPECIFIED = (0, 705)
# PostgreSQL's types that drivers name and that are not built; those of arrays are in `types.KINDS`.
_UNBUILT = {
    114: "json", 142: "xml", 199: "json[]", 600: "point", 650: "cidr", 774: "macaddr8", 790: "money", 829: "macaddr",
    869: "inet", 1041: "inet[]", 1266: "time with time zone", 1560: "bit", 1562: "bit varying", 2249: "record",
    2287: "record[]", 3802: "jsonb", 3807: "jsonb[]", 3904: "int4range", 3906: "numrange", 3908: "tsrange",
    3910: "tstzrange", 3912: "daterange", 3926: "int8range",
} | {info.array_oid: f"{kind.value}[]" for kind, info in KINDS.items() if info.array_oid}  # fmt: skip


def given_types(oids: Sequence[int]) -> tuple[SqlType | None, ...]:
    """The types a Parse names; None where the type is left to inference. Errors: 42704 for an unknown OID, 0A000 for
    a type of PostgreSQL's that is not built.
    """
    return tuple(None if oid in _UNSPECIFIED else _type_of(oid) for oid in oids)


def _type_of(oid: int) -> SqlType:
    found = BY_OID.get(oid)
    if found is None:
        name = _UNBUILT.get(oid)
        if name is not None:
            array = name.endswith("[]")
            raise errors.FeatureNotSupported(
                f"array types are not supported: {name}" if array else f"type {name} is not supported",
                hint="Pass the values one by one: x IN ($1, $2)." if array else "Pass it as text.",
            )
        raise errors.UndefinedObject(f"type with OID {oid} does not exist")
    return found


class ParameterDecoder:
    """Reads the values of Binds of one prepared statement; keeps what depends on its types and formats only."""

    __slots__ = ("_known", "types")

    def __init__(self, types: Sequence[SqlType]) -> None:
        self.types = tuple(types)
        self._known: dict[tuple[int, ...], list[Decoder]] = {}

    def vectors(
        self, values: Sequence[bytes | None], codes: tuple[int, ...], settings: TextSettings, names: tuple[str, str]
    ) -> list[Vector]:
        """One vector of length 1 for each value. `names` are portal and statement, for errors.

        Errors: 08P01 for counts that do not fit, 22P02, 22P03, 22003 ... for values; `context` names the parameter.
        """
        decoders = self._known.get(codes)
        if decoders is None or len(values) != len(self.types):
            decoders = self._decoders(len(values), codes, names[1])
        out: list[Vector] = []
        try:
            for value, decode, sql_type in zip(values, decoders, self.types, strict=True):
                out.append(_null(sql_type) if value is None else decode(value, settings))
        except errors.Error as error:
            portal = f'portal "{names[0]}"' if names[0] else "unnamed portal"
            shown = all_formats(codes, len(values), "parameter formats")[len(out)] == 0
            error.context = f"{portal} parameter ${len(out) + 1}" + (" = '...'" if shown else "")
            raise
        return out

    def _decoders(self, count: int, codes: tuple[int, ...], statement: str) -> list[Decoder]:
        if len(codes) > 1 and len(codes) != count:
            raise errors.ProtocolViolation(f"bind message has {len(codes)} parameter formats but {count} parameters")
        if count != len(self.types):
            raise errors.ProtocolViolation(
                f'bind message supplies {count} parameters, but prepared statement "{statement}" '
                f"requires {len(self.types)}"
            )
        formats = all_formats(codes, count, "parameter formats")
        made = [_decoder(t, f) for t, f in zip(self.types, formats, strict=True)]
        self._known[codes] = made
        return made


def _null(sql_type: SqlType) -> Vector:
    shape = (1, 2) if sql_type.width == 16 else 1
    heap = EMPTY_HEAP if sql_type.is_view else None
    return Vector(sql_type, np.zeros(shape, sql_type.dtype), _NO_ROWS_VALID, heap, sql_type.scale or 0)


# Digits that surely fit, so that int() needs no bounds.
_SAFE_DIGITS = {Kind.INT2: 4, Kind.INT4: 9, Kind.INT8: 18}
_INTEGER_FORMS = {Kind.INT2: "!h", Kind.INT4: "!i", Kind.INT8: "!q"}


def _decoder(sql_type: SqlType, code: int) -> Decoder:
    kind = sql_type.kind
    if kind in _SAFE_DIGITS:
        return _binary_integer(sql_type) if code else _text_integer(sql_type)
    if kind in REG_KINDS and not code:
        return _registered(sql_type)
    if kind in (Kind.TEXT, Kind.VARCHAR) and sql_type.length is None:
        return _string(sql_type, code)
    return _any(sql_type, code)


def _any(sql_type: SqlType, code: int) -> Decoder:
    def decode(value: bytes, settings: TextSettings) -> Vector:
        offsets = np.array((0, len(value)), np.int64)
        data = np.frombuffer(value, np.uint8)
        if code:
            return from_binary(sql_type, offsets, data, None)
        return from_text(sql_type, offsets, data, None, settings)

    return decode


def _text_integer(sql_type: SqlType) -> Decoder:
    digits, dtype, general = _SAFE_DIGITS[sql_type.kind], sql_type.dtype, _any(sql_type, 0)

    def decode(value: bytes, settings: TextSettings) -> Vector:
        if len(value) <= digits and (value.isdigit() or (value[:1] == b"-" and value[1:].isdigit())):
            return Vector(sql_type, np.array((int(value),), dtype))
        return general(value, settings)

    return decode


def _binary_integer(sql_type: SqlType) -> Decoder:
    form, general = struct.Struct(_INTEGER_FORMS[sql_type.kind]), _any(sql_type, 1)
    dtype, size, unpack = sql_type.dtype, form.size, form.unpack

    def decode(value: bytes, settings: TextSettings) -> Vector:
        if len(value) == size:
            return Vector(sql_type, np.array(unpack(value), dtype))
        return general(value, settings)

    return decode


def _registered(sql_type: SqlType) -> Decoder:
    """A name or number of what a reg* type stands for."""
    general, kind, dtype = _any(sql_type, 0), sql_type.kind, sql_type.dtype

    def decode(value: bytes, settings: TextSettings) -> Vector:
        if value.isdigit():
            return general(value, settings)
        return Vector(sql_type, np.array((settings.registered_oid(kind, value.decode()),), dtype))

    return decode


def _string(sql_type: SqlType, code: int) -> Decoder:
    general = _any(sql_type, code)

    def decode(value: bytes, settings: TextSettings) -> Vector:
        if value.isascii() and b"\0" not in value:
            return string_vector(sql_type, (value,))
        return general(value, settings)

    return decode
