"""What a caller is told of a bug: that there is one. What it was is in the server's log."""

from __future__ import annotations

from filestore import errors


def internal_fault() -> errors.InternalError:
    """The error for an exception that is none of ours (XX000)."""
    return errors.InternalError("internal error", hint="The server's log tells more.")
