"""How many crash states the quick tests recovered from in this session: thousands (F1).

The enumerations are in `tests/storage/test_crash_store.py` and `test_crash_engine.py`; each asserts its own quota.
"""

from __future__ import annotations

import pytest

from tests.storage import crash_harness as harness


def test_the_quick_tests_check_thousands_of_crash_states() -> None:
    missing = set(harness.QUOTAS) - set(harness.TALLY)
    if missing:
        pytest.skip(f"not run in this session: {', '.join(sorted(missing))}")
    assert sum(harness.TALLY.values()) >= harness.STATES_MIN
    assert sum(n for name, n in harness.TALLY.items() if name.startswith("engine")) >= harness.ENGINE_STATES_MIN
