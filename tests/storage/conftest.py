"""Makes the helper modules beside the tests importable by their plain names; tests are imported by path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

for _name in ("crash_harness", "store_model"):
    if _name not in sys.modules:
        _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
        assert _spec is not None and _spec.loader is not None
        sys.modules[_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_name])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many crash states were recovered from, also when everything passed."""
    tally: dict[str, int] = sys.modules["crash_harness"].TALLY
    if tally:
        parts = ", ".join(f"{count} ({name})" for name, count in sorted(tally.items()))
        terminalreporter.write_line(f"{sum(tally.values())} crash states: {parts}")
