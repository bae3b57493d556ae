"""How many crash states the quick tests recover from: the bar of RELIABILITY F1, asserted and printed.

The enumerations are in `tests/storage/test_crash_store.py` and `test_crash_engine.py`. Each asserts its own quota;
here the quotas are added up, and what this session has really checked when it ran all of them.
"""

from __future__ import annotations

from tests.storage import crash_harness as harness


def test_the_quick_tests_check_thousands_of_crash_states():
    engine = sum(count for name, count in harness.QUOTAS.items() if name.startswith("engine"))
    assert sum(harness.QUOTAS.values()) >= harness.STATES_MIN >= 3000
    assert engine >= harness.ENGINE_STATES_MIN
    for name, count in harness.TALLY.items():
        print(f"{name}: {count} crash states")
    checked = sum(harness.TALLY.values())
    print(f"{checked} crash states in all")
    if set(harness.TALLY) == set(harness.QUOTAS):
        assert checked >= harness.STATES_MIN
