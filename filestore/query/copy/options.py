"""COPY's options, checked as PostgreSQL 15 checks them: same refusals, same words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from filestore import errors
from filestore.settings import parse_bool

FORMATS = ("text", "csv", "binary", "parquet")
ALL = ("*",)
_TEXT_DELIMITERS_REFUSED = "\\.abcdefghijklmnopqrstuvwxyz0123456789"
_FREEFORM = frozenset(("freeze", "compression", "row_group_size"))


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """Checked options. Characters are single bytes; `header` is False, True or 'match'; lists are names or ('*',)."""

    format: str = "text"
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    header: bool | str = False
    quote: bytes = b'"'
    escape: bytes = b'"'
    force_quote: tuple[str, ...] = ()
    force_not_null: tuple[str, ...] = ()
    force_null: tuple[str, ...] = ()
    extra: tuple[tuple[str, Any], ...] = ()

    def flags(self, chosen: tuple[str, ...], names: Sequence[str]) -> list[bool]:
        """Per column whether a column list names it."""
        return [chosen == ALL or name in chosen for name in names]


def copy_options(pairs: Iterable[tuple[str, Any]], *, reading: bool, names: Sequence[str], table: str) -> CopyOptions:
    """Checks a statement's options for columns `names`. Errors with 42601, 22023, 0A000, 42703."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in _KNOWN:
            raise errors.SqlSyntaxError(f'option "{name}" not recognized')
        if name in given:
            raise errors.SqlSyntaxError("conflicting or redundant options")
        given[name] = value
    form = str(given.get("format", "text")).lower()
    if form not in FORMATS:
        raise errors.InvalidParameterValue(f'COPY format "{form}" not recognized')
    _check_encoding(given.get("encoding"))
    header = _header(given.get("header", False), reading)
    if form in ("binary", "parquet"):
        for name in ("delimiter", "null"):
            if name in given:
                raise errors.SqlSyntaxError(f"cannot specify {name.upper()} in {form.upper()} mode")
        if header:
            raise errors.FeatureNotSupported(f"cannot specify HEADER in {form.upper()} mode")
    csv = form == "csv"
    _check_csv_only(given, csv, reading)
    delimiter, null, quote, escape = _characters(given, csv)
    lists = {k: tuple(given.get(k, ())) for k in ("force_quote", "force_not_null", "force_null")}
    for chosen in lists.values():
        for column in chosen:
            if column != "*" and column not in names:
                raise errors.UndefinedColumn(f'column "{column}" of relation "{table}" does not exist')
    extra = tuple((k, given[k]) for k in sorted(_FREEFORM & given.keys()))
    return CopyOptions(form, delimiter, null, header, quote, escape, **lists, extra=extra)


_KNOWN = _FREEFORM | {
    "format", "delimiter", "null", "header", "quote", "escape", "encoding", "force_quote", "force_not_null",
    "force_null",
}  # fmt: skip


def _check_encoding(encoding: Any) -> None:
    if encoding is None or str(encoding).lower().replace("-", "").replace("_", "") in ("utf8", "unicode"):
        return
    raise errors.FeatureNotSupported(f'COPY encoding "{encoding}" is not supported', hint="Use UTF8.")


def _header(value: Any, reading: bool) -> bool | str:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text == "match":
        if not reading:
            raise errors.FeatureNotSupported('cannot use "match" with HEADER in COPY TO')
        return text
    parsed = parse_bool(text)
    if parsed is None:
        raise errors.SqlSyntaxError('header requires a Boolean value or "match"')
    return parsed


def _check_csv_only(given: dict[str, Any], csv: bool, reading: bool) -> None:
    names = {
        "quote": "quote", "escape": "escape", "force_quote": "force quote", "force_not_null": "force not null",
        "force_null": "force null",
    }  # fmt: skip
    for option, words in names.items():
        if option not in given:
            continue
        if not csv:
            raise errors.FeatureNotSupported(f"COPY {words} available only in CSV mode")
        if option == "force_quote" and reading:
            raise errors.FeatureNotSupported("COPY force quote only available using COPY TO")
        if option.endswith("null") and not reading:
            raise errors.FeatureNotSupported(f"COPY {words} only available using COPY FROM")


def _byte(given: dict[str, Any], name: str, default: str) -> bytes:
    value = str(given.get(name, default)).encode()
    if len(value) != 1:
        raise errors.FeatureNotSupported(f"COPY {name} must be a single one-byte character")
    return value


def _characters(given: dict[str, Any], csv: bool) -> tuple[bytes, bytes, bytes, bytes]:
    delimiter = _byte(given, "delimiter", "," if csv else "\t")
    null = str(given.get("null", "" if csv else "\\N")).encode()
    if delimiter in (b"\n", b"\r"):
        raise errors.InvalidParameterValue("COPY delimiter cannot be newline or carriage return")
    if b"\n" in null or b"\r" in null:
        raise errors.InvalidParameterValue("COPY null representation cannot use newline or carriage return")
    if not csv and delimiter.decode() in _TEXT_DELIMITERS_REFUSED:
        raise errors.InvalidParameterValue(f'COPY delimiter cannot be "{delimiter.decode()}"')
    quote = _byte(given, "quote", '"')
    escape = _byte(given, "escape", quote.decode())
    if csv and delimiter == quote:
        raise errors.InvalidParameterValue("COPY delimiter and quote must be different")
    if delimiter in null:
        raise errors.FeatureNotSupported("COPY delimiter must not appear in the NULL specification")
    if csv and quote in null:
        raise errors.FeatureNotSupported("CSV quote character must not appear in the NULL specification")
    return delimiter, null, quote, escape
