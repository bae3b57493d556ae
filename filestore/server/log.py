"""The server's log: one JSON object a line on standard error, with time, level, event and the event's own fields.

It goes through the standard library's logging under the name `filestore`, so that an embedding program may send it
elsewhere. Nothing secret is ever a field: no statement's text, no parameter, no password (RELIABILITY S2).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Any, TextIO


class JsonLines(logging.Formatter):
    """A record as one line of JSON; the fields are the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line = {"time": moment.isoformat(timespec="milliseconds"), "level": record.levelname.lower()}
        return json.dumps({**line, "event": record.getMessage(), **getattr(record, "fields", {})}, default=str)


class Log:
    """Events with fields. Thread rule: any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._logger = logging.getLogger("filestore.server")
        self._logger.setLevel(logging.INFO)
        if not self._logger.handlers:
            handler = logging.StreamHandler(stream or sys.stderr)
            handler.setFormatter(JsonLines())
            self._logger.addHandler(handler)
            self._logger.propagate = False

    def info(self, event: str, **fields: Any) -> None:
        self._logger.info(event, extra={"fields": fields})

    def error(self, event: str, **fields: Any) -> None:
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error that is nobody's doing but ours, with where it came from."""
        trace = traceback.format_exception(error)
        self.error(event, error=f"{type(error).__name__}: {error}", trace="".join(trace[-12:]), **fields)
