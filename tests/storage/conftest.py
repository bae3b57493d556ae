"""Says after a session how many crash states were recovered from."""

from __future__ import annotations

import pytest

from tests.storage.crash_harness import TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Also when everything passed."""
    if TALLY:
        parts = ", ".join(f"{count} ({name})" for name, count in sorted(TALLY.items()))
        terminalreporter.write_line(f"{sum(TALLY.values())} crash states: {parts}")
