"""What a Flight descriptor or ticket asks for: a SQL text, or a table by its path. The one place that Flight SQL
will have to extend.

Flight SQL's commands are google.protobuf.Any messages, whose first bytes (0x0A, a length, `type.googleapis.com/`)
no SQL text has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pyarrow import flight

from filestore import errors

_FLIGHT_SQL: Final = b"type.googleapis.com/arrow.flight.protocol.sql"


@dataclass(frozen=True, slots=True)
class SqlRequest:
    """The rows of a statement."""

    text: str

    def ticket(self) -> Any:
        return flight.Ticket(self.text.encode())


@dataclass(frozen=True, slots=True)
class TableRequest:
    """All rows of a table; without a schema the first along the search path."""

    schema: str | None
    table: str

    def ticket(self) -> Any:
        return flight.Ticket(json.dumps({"table": [*([self.schema] if self.schema else []), self.table]}).encode())


Request = SqlRequest | TableRequest


def described(descriptor: Any) -> Request:
    """The request of a descriptor. Raises 22023 for a path that is none, 0A000 for Flight SQL."""
    if descriptor.descriptor_type == flight.DescriptorType.PATH:
        return _table([part.decode() for part in descriptor.path])
    return _command(descriptor.command)


def ticketed(ticket: Any) -> Request:
    """The request of a ticket: SQL text, or {"table": "name"}, {"table": ["schema", "name"]}."""
    body = ticket.ticket
    if body[:1] != b"{":
        return _command(body)
    try:
        named = json.loads(body)["table"]
    except (ValueError, KeyError, TypeError, RecursionError):
        named = None
    if isinstance(named, str | list):
        return _table([named] if isinstance(named, str) else named)
    raise errors.InvalidParameterValue("the ticket is not one of this server's", hint='SQL text or {"table": "name"}')


def _command(body: bytes) -> SqlRequest:
    if _FLIGHT_SQL in body[:80]:
        raise errors.FeatureNotSupported("Flight SQL is not supported", hint="Send the SQL text as the command.")
    return SqlRequest(sql_text(body))


def sql_text(body: bytes) -> str:
    """A statement as it was sent. Raises 22021 for what the PostgreSQL port could not be sent either."""
    if 0 in body:
        raise errors.CharacterNotInRepertoire('invalid byte sequence for encoding "UTF8": 0x00')
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise errors.CharacterNotInRepertoire("the statement is not UTF-8 text") from None


def _table(path: list[Any]) -> TableRequest:
    if not 1 <= len(path) <= 2 or not all(isinstance(part, str) and part for part in path):
        raise errors.InvalidParameterValue("the path is not that of a table", hint="[table] or [schema, table]")
    if any("\0" in part or part.encode(errors="replace").decode() != part for part in path):
        raise errors.CharacterNotInRepertoire("a name in the path is not UTF-8 text, or holds a NUL")
    return TableRequest(path[0] if len(path) == 2 else None, path[-1])
