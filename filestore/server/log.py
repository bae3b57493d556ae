"""The server's log: one JSON object a line on standard error: time, level, logger, event and the event's own fields.

It goes through the standard library's logging. `Log` puts a handler at the root, so that what other rooms, libraries
and `warnings` say has the same form; a program that has put handlers there before keeps its own. Nothing secret is
ever a field: no statement's text, no parameter, no password (S2). Only a bug's own message may quote a value.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Any, TextIO


class JsonLines(logging.Formatter):
    """A record as one line of JSON; the fields are the record's `fields`, an exception is `error` and `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line["error"] = f"{type(error).__name__}: {error}"
            line["trace"] = "".join(traceback.format_exception(error)[-12:])
        return json.dumps(line, default=str)


class Log:
    """Events with fields. Thread rule: any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._logger = logging.getLogger("filestore.server")
        logging.getLogger("filestore").setLevel(logging.INFO)
        root = logging.getLogger()
        if not root.handlers:
            handler = logging.StreamHandler(stream or sys.stderr)
            handler.setFormatter(JsonLines())
            root.addHandler(handler)
            logging.captureWarnings(True)

    def info(self, event: str, **fields: Any) -> None:
        """Something that an operator expects."""
        self._logger.info(event, extra={"fields": fields})

    def error(self, event: str, **fields: Any) -> None:
        """Something that an operator has to look at."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error that is nobody's doing but ours, with where it came from."""
        self._logger.error(event, exc_info=error, extra={"fields": fields})
