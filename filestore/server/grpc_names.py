"""Resource names (AIP-122) and page tokens (AIP-158).

`databases/postgres/schemas/{schema}/tables/{table}/rows/{key}`: every part is percent-encoded, so a slash or a
comma in a name or a key is never mistaken for a separator. A key of several columns is their text forms in key
order, separated by commas.

A page token says where the next page begins: the key of the last row, signed, so that a client cannot make one up
by mistake. It lives as long as the process.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from filestore import errors
from filestore.hal import process

_SIGNATURE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class TableName:
    """databases/{database}/schemas/{schema}/tables/{table}"""

    database: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"databases/{_part(self.database)}/schemas/{_part(self.schema)}/tables/{_part(self.table)}"

    def row(self, key: Sequence[str]) -> str:
        """The name of the row with that key, in text form."""
        return f"{self}/rows/{','.join(_part(value) for value in key)}"


def table_name(text: str) -> TableName:
    """Reads a table's name. Raises 22023 when it is none, 22021 for bytes that are no text."""
    parts = text.split("/")
    if len(parts) != 6 or parts[::2] != ["databases", "schemas", "tables"] or not all(parts):
        raise errors.InvalidParameterValue(
            f'"{text}" is not the name of a table', hint="Write databases/postgres/schemas/{schema}/tables/{table}."
        )
    return TableName(*(_decoded(part) for part in parts[1::2]))


def row_name(text: str) -> tuple[TableName, list[str]]:
    """Reads a row's name: its table and the text forms of its key. Raises as `table_name`."""
    table, separator, key = text.rpartition("/rows/")
    if not separator or "/" in key:
        raise errors.InvalidParameterValue(
            f'"{text}" is not the name of a row',
            hint="Write databases/postgres/schemas/{schema}/tables/{table}/rows/{key}.",
        )
    return table_name(table), [_decoded(value) for value in key.split(",")]


def _part(text: str) -> str:
    return quote(text, safe="")


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise errors.CharacterNotInRepertoire(f'"{part}" does not stand for UTF-8 text') from None


class PageTokens:
    """Makes and reads page tokens; `scope` is everything that must be the same on the next call."""

    def __init__(self) -> None:
        self._secret = process.random_bytes(32)

    def make(self, scope: Sequence[str], key: Sequence[str]) -> str:
        """The token of the page that begins after `key`."""
        body = json.dumps(list(key)).encode()
        return base64.urlsafe_b64encode(self._sign(scope, body) + body).decode()

    def read(self, scope: Sequence[str], token: str) -> list[str]:
        """The key that the page begins after. Raises 22023 for a token that was not made here for this scope."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(scope, body)):
            raise errors.InvalidParameterValue(
                "the page token is not valid for this request", hint="List again from the first page."
            )
        return [str(value) for value in json.loads(body)]

    def _sign(self, scope: Sequence[str], body: bytes) -> bytes:
        message = json.dumps(list(scope)).encode() + b"\0" + body
        return hmac.new(self._secret, message, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
