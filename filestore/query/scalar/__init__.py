"""Implementations of SQL's functions and operators over vectors, one family per module; `IMPLEMENTATIONS` is the
table by name.

Thread rule: pure functions of vectors, on any thread, but for what session functions ask of the session.

Not here: names and types, which are the binder's (functions.py), and what is evaluated for which rows (evaluate.py).
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
    regex_matches,
    session,
    strings,
    trigonometry,
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
    "regex_matches",
    "session",
    "strings",
    "trigonometry",
]
