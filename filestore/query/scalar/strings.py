"""String and bytea functions. Positions and lengths count characters, comparisons are bytewise; case maps ASCII in
a kernel, the rest per distinct value as Python does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from filestore import errors
from filestore.identifiers import quote_ident, quote_literal
from filestore.query import string_kernels
from filestore.query.kernels import frozen
from filestore.query.literals import parse_bytea
from filestore.query.scalar.casts import text_of
from filestore.query.scalar.registry import checked, constant_bytes, implement, result_size, strict
from filestore.query.vectors import all_valid, broadcast, from_python, per_value, safe_views, to_python
from filestore.storage.vector import EMPTY_HEAP, Vector
from filestore.types import BOOL, Kind, SqlType

if TYPE_CHECKING:
    from collections.abc import Callable

    from filestore.query.context import ExecutionContext

MAX_BYTES = 1 << 30


def _too_large() -> errors.ProgramLimitExceeded:
    return errors.ProgramLimitExceeded("requested length too large")


def _value_function(name: str, function: Callable[..., Any]) -> None:
    """A strict function of Python values."""

    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        return per_value(args, length, result, function)


@strict("concat")
def _concat(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return joined(args, length, result)


def joined(args: list[Vector], length: int, result: SqlType) -> Vector:
    """Strings put together row by row; null where any is null."""
    vectors = [broadcast(a, length).plain() for a in args]
    valid = all_valid(vectors, length)
    parts = [safe_views(vector) for vector in vectors]
    total = np.zeros(length + 1, np.int64)
    for views, _ in parts:
        total[1:] += (views[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    np.cumsum(total, out=total)
    out = np.empty(max(int(total[-1]), 1), np.uint8)
    places = total[:-1].copy()
    for views, heap in parts:
        string_kernels.append_views(views, heap, places, out)
    views = np.empty((length, 2), np.uint64)
    string_kernels.split_views(frozen(total), frozen(out), views)
    return Vector(result, views, valid, out)


@implement("concat_fn")
def _concat_fn(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    length = result_size(args, length)
    texts = [text_of(a, ctx) for a in args]
    return joined([_empty_for_null(t) for t in texts], length, result)


def _empty_for_null(vector: Vector) -> Vector:
    vector = vector.plain()
    return Vector(vector.type, safe_views(vector)[0], None, vector.heap)


@implement("concat_ws")
def _concat_ws(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    length = result_size(args, length)
    columns = [to_python(broadcast(text_of(a, ctx), length)) for a in args]
    rows = zip(*columns, strict=True)
    return from_python(
        result, [None if sep is None else sep.join(p for p in parts if p is not None) for sep, *parts in rows]
    )


def _case(name: str, low: int, high: int, delta: int, fallback: Callable[[str], str]) -> None:
    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        views, heap = safe_views(args[0])
        out, out_heap = np.empty_like(views), np.empty(max(_long_bytes(views), 1), np.uint8)
        if string_kernels.map_bytes(views, heap, low, high, delta, out, out_heap) < 0:
            return Vector(result, out, args[0].valid, out_heap)
        return per_value(args, length, result, fallback)


def _long_bytes(views: Any) -> int:
    lengths = views[:, 0] & np.uint64(0xFFFFFFFF)
    return int(lengths[lengths > 12].sum())


def _upper(text: str) -> str:
    """Letter by letter, as towupper: ß stays what it is."""
    whole = text.upper()
    return whole if len(whole) == len(text) else "".join(u if len(u := c.upper()) == 1 else c for c in text)


_case("lower", 65, 90, 32, str.lower)
_case("upper", 97, 122, -32, _upper)


@strict("length")
def _length(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    if args[0].type.kind is Kind.BYTEA:
        return _octet_length(args, length, result, ctx)
    out = np.empty(len(args[0]), np.int32)
    string_kernels.character_counts(*safe_views(args[0]), out)
    return Vector(result, out)


@strict("octet_length")
def _octet_length(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return Vector(result, (args[0].data[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int32))


@checked("substring")
def _substring(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    start = args[1].data.astype(np.int64)
    count = args[2].data.astype(np.int64) if len(args) > 2 else np.full(1, -1, np.int64)
    if len(args) > 2 and (count < 0).any():
        raise errors.SubstringError("negative substring length not allowed")
    if args[0].type.kind is Kind.BYTEA:
        return per_value(args, length, result, _slice)
    source, start, count = _aligned(args[0], start, count)
    views, heap = safe_views(source)
    out = np.empty_like(views)
    string_kernels.substring_views(views, heap, start, count, 0 if len(start) == 1 else 1, out, EMPTY_HEAP)
    return Vector(result, out, None, heap)


def _aligned(source: Vector, start: Any, count: Any) -> tuple[Vector, Any, Any]:
    if len(start) == 1 and len(count) == 1:
        return source, start, count
    n = max(len(source), len(start), len(count))
    wide = (np.ascontiguousarray(np.broadcast_to(a, n)) for a in (start, count))
    return (broadcast(source, n).plain(), *wide)  # type: ignore[return-value]


def _slice(value: Any, start: int, count: int | None = None) -> Any:
    end = len(value) + 1 if count is None else max(start + count, 1)
    return value[max(start, 1) - 1 : end - 1]


@strict("position")
def _position(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    needle = constant_bytes(args[1])
    if needle is None:
        return per_value(args, length, result, lambda s, sub: s.find(sub) + 1)
    out = np.empty(len(args[0]), np.int32)
    wanted = np.frombuffer(needle, np.uint8).copy()
    string_kernels.positions(*safe_views(args[0]), wanted, out)
    return Vector(result, out)


@strict("starts_with")
def _starts_with(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return per_value(args, length, BOOL, str.startswith)


def _trim(name: str, left: bool, right: bool) -> None:
    def one(value: str, cut: str = " ") -> str:
        value = value.lstrip(cut) if left and cut else value
        return value.rstrip(cut) if right and cut else value

    @strict(name)
    def run(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
        cut = b" " if len(args) == 1 else constant_bytes(args[1])
        if cut is None or not cut.isascii():
            return per_value(args, length, result, one)
        table = np.zeros(256, np.bool_)
        table[list(cut)] = True
        views, heap = safe_views(args[0])
        out = np.empty_like(views)
        string_kernels.trim_views(views, heap, table, left, right, out)
        return Vector(result, out, args[0].valid, heap)


_trim("btrim", True, True)
_trim("ltrim", True, False)
_trim("rtrim", False, True)


def _pad(left: bool) -> Callable[..., str]:
    def pad(value: str, size: int, fill: str = " ") -> str:
        if size > MAX_BYTES // 4:
            raise _too_large()
        size = max(size, 0)
        missing = size - len(value)
        if missing <= 0 or not fill:
            return value[:size]
        padding = (fill * (missing // len(fill) + 1))[:missing]
        return padding + value if left else value + padding

    return pad


def _repeat(value: str, times: int) -> str:
    if len(value) * max(times, 0) > MAX_BYTES:
        raise _too_large()
    return value * max(times, 0)


def _split_part(value: str, separator: str, field: int) -> str:
    if field == 0:
        raise errors.InvalidParameterValue("field position must not be zero")
    parts = value.split(separator) if separator else [value]
    index = field - 1 if field > 0 else len(parts) + field
    return parts[index] if 0 <= index < len(parts) else ""


def _initcap(value: str) -> str:
    out, start = [], True
    for char in value:
        out.append(char.upper() if start else char.lower())
        start = not char.isalnum()
    return "".join(out)


def _translate(value: str, source: str, target: str) -> str:
    table: dict[int, str | None] = {}
    for i, char in enumerate(source):
        table.setdefault(ord(char), target[i] if i < len(target) else None)
    return value.translate(table)


def _chr(code: int) -> str:
    if code == 0:
        raise errors.ProgramLimitExceeded("null character not permitted")
    if code < 0:
        raise errors.InvalidParameterValue("character number must be positive")
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise errors.ProgramLimitExceeded(f"requested character too large for encoding: {code}")
    return chr(code)


_value_function("replace", lambda s, old, new: s.replace(old, new) if old else s)
_value_function("lpad", _pad(True))
_value_function("rpad", _pad(False))
_value_function("left", lambda s, n: s[:n])
_value_function("right", lambda s, n: s[len(s) - n :] if 0 < n < len(s) else s if n > 0 else s[-n:] if n < 0 else "")
_value_function("repeat", _repeat)
_value_function("reverse", lambda s: s[::-1])
_value_function("split_part", _split_part)
_value_function("initcap", _initcap)
_value_function(
    "md5", lambda s: hashlib.md5(s.encode() if isinstance(s, str) else s, usedforsecurity=False).hexdigest()
)
_value_function("ascii", lambda s: ord(s[0]) if s else 0)
_value_function("chr", _chr)
_value_function("translate", _translate)
_value_function("quote_ident", quote_ident)
_value_function("quote_literal", quote_literal)


@implement("quote_nullable")
def _quote_nullable(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    return from_python(result, ["NULL" if v is None else quote_literal(v) for v in to_python(args[0])])


@strict("bit_length")
def _bit_length(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    return Vector(result, _octet_length(args, length, result, ctx).data * 8)


def _overlay(value: Any, piece: Any, start: int, count: int | None = None) -> Any:
    if start <= 0:
        raise errors.SubstringError("negative substring length not allowed")
    behind = start + (len(piece) if count is None else count)
    if behind > 0x7FFFFFFF:
        raise errors.NumericOutOfRange("integer out of range")
    return value[: start - 1] + piece + value[max(behind - 1, 0) :]


_value_function("overlay", _overlay)
for _digest in ("sha224", "sha256", "sha384", "sha512"):
    _value_function(_digest, lambda data, name=_digest: hashlib.new(name, data).digest())


@strict("to_hex")
def _to_hex(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:  # noqa: ARG001
    mask = (1 << 32) - 1 if args[0].type.kind is Kind.INT4 else (1 << 64) - 1
    return per_value(args, length, result, lambda n: f"{n & mask:x}")


def _encode(value: bytes, form: str) -> str:
    match form.lower():
        case "hex":
            return value.hex()
        case "base64":
            text = base64.b64encode(value).decode()
            return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
        case "escape":
            return "".join("\\\\" if b == 92 else f"\\{b:03o}" if b == 0 or b >= 128 else chr(b) for b in value)
    raise errors.InvalidParameterValue(f'unrecognized encoding: "{form}"')


_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\s]")


def _decode(text: str, form: str) -> bytes:
    match form.lower():
        case "hex":
            return parse_bytea("\\x" + text)
        case "base64":
            try:
                strange = _NO_BASE64.search(text)
                if strange is not None:
                    raise errors.InvalidParameterValue(
                        f'invalid symbol "{strange[0]}" found while decoding base64 sequence'
                    )
                return base64.b64decode("".join(text.split()), validate=True)
            except binascii.Error as error:
                raise errors.InvalidParameterValue("invalid base64 end sequence") from error
        case "escape":
            return parse_bytea(text)
    raise errors.InvalidParameterValue(f'unrecognized encoding: "{form}"')


_value_function("encode", _encode)
_value_function("decode", _decode)


@implement("format")
def _format(args: list[Vector], length: int, result: SqlType, ctx: ExecutionContext) -> Vector:
    length = result_size(args, length)
    columns = [to_python(broadcast(text_of(a, ctx), length)) for a in args]
    return from_python(
        result, [None if row[0] is None else _formatted(row[0], row[1:]) for row in zip(*columns, strict=True)]
    )


def _formatted(template: str, values: tuple[Any, ...]) -> str:
    out, i, following = [], 0, 0
    while i < len(template):
        if template[i] != "%":
            out.append(template[i])
            i += 1
            continue
        i += 1
        if template[i : i + 1] == "%":
            out.append("%")
            i += 1
            continue
        start = i
        while i < len(template) and (template[i].isdigit() or template[i] in "$-"):
            i += 1
        if i == len(template):
            raise errors.InvalidParameterValue("unterminated format() type specifier")
        index, left, width = _format_options(template[start:i])
        following = index if index is not None else following + 1
        if not 0 < following <= len(values):
            raise errors.InvalidParameterValue("too few arguments for format()")
        out.append(_conversion(template[i], values[following - 1], left, width))
        i += 1
    return "".join(out)


def _format_options(text: str) -> tuple[int | None, bool, int]:
    index = None
    if "$" in text:
        number, _, text = text.partition("$")
        index = int(number)
    left = text.startswith("-")
    return index, left, int(text.lstrip("-") or 0)


def _conversion(kind: str, value: str | None, left: bool, width: int) -> str:
    match kind:
        case "s":
            text = "" if value is None else value
        case "I":
            if value is None:
                raise errors.NullValueNotAllowed("null values cannot be formatted as an SQL identifier")
            text = quote_ident(value)
        case "L":
            text = "NULL" if value is None else quote_literal(value).lstrip()
        case _:
            raise errors.InvalidParameterValue(
                f'unrecognized format() type specifier "{kind}"', hint='For a single "%" use "%%".'
            )
    return text.ljust(width) if left else text.rjust(width)
