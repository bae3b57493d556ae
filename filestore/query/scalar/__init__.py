"""Implementations of SQL's functions and operators over vectors, one family per module; `IMPLEMENTATIONS` is the
table by name.
"""

from __future__ import annotations

from filestore.query.scalar import (
    arithmetic,
    arrays,
    compare,
    dates,
    formatting,
    mathematics,
    patterns,
    session,
    strings,
)
from filestore.query.scalar.registry import IMPLEMENTATIONS

__all__ = [
    "IMPLEMENTATIONS",
    "arithmetic",
    "arrays",
    "compare",
    "dates",
    "formatting",
    "mathematics",
    "patterns",
    "session",
    "strings",
]
