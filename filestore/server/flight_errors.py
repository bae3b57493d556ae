"""Errors as Flight has them. Flight has no field for a SQLSTATE: it opens the message, and `extra_info` is the
fields as JSON.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pyarrow import flight

from filestore import errors

_CLASSES: Final[dict[str, Any]] = {
    "28": flight.FlightUnauthenticatedError,
    "42501": flight.FlightUnauthorizedError,
    "57": flight.FlightUnavailableError,
    "57014": flight.FlightCancelledError,
    "58": flight.FlightUnavailableError,
    "XX": flight.FlightInternalError,
}
_FIELDS: Final = ("schema", "table", "column", "datatype", "constraint", "detail", "hint", "position", "context")


def flight_error(error: errors.Error) -> Any:
    """The Flight exception of an error."""
    cls = _CLASSES.get(error.sqlstate) or _CLASSES.get(error.sqlstate[:2]) or flight.FlightServerError
    parts = [f"{error.sqlstate}: {error.message}"]
    parts += [f"{label}: {text}" for label, text in (("DETAIL", error.detail), ("HINT", error.hint)) if text]
    fields = {name: getattr(error, name) for name in _FIELDS if getattr(error, name) is not None}
    return cls("\n".join(parts), json.dumps({"sqlstate": error.sqlstate, "message": error.message, **fields}).encode())
