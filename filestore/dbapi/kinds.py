"""PEP 249's type objects and constructors. A type code is the type's PostgreSQL OID; `code == NUMBER` asks for its
family.

Thread rule: constants and pure functions; any thread.
"""

from __future__ import annotations

import datetime as dt
import time as clock
from collections.abc import Iterable
from typing import Final

from filestore import types
from filestore.types import Kind


class TypeObject:
    """Equal to the type codes (OIDs) of its family."""

    def __init__(self, name: str, kinds: Iterable[Kind]) -> None:
        self.name = name
        self.codes = frozenset(types.KINDS[kind].oid for kind in kinds)

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, int) and other in self.codes)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"filestore.{self.name}"


STRING: Final = TypeObject("STRING", types.STRING_KINDS)
BINARY: Final = TypeObject("BINARY", (Kind.BYTEA,))
NUMBER: Final = TypeObject("NUMBER", types.NUMBER_KINDS)
DATETIME: Final = TypeObject("DATETIME", types.DATETIME_KINDS)
ROWID: Final = TypeObject("ROWID", types.OID_KINDS)

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802 - the name is PEP 249's
    """The local date of a time in seconds since 1970."""
    return dt.date(*clock.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802
    """The local time of day of a time in seconds since 1970."""
    return dt.time(*clock.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802
    """The local date and time of a time in seconds since 1970."""
    return dt.datetime(*clock.localtime(ticks)[:6])
