"""The cache of plans and parsed statements: least recently used entries go; threads that meet in it."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import pytest

from filestore.query.plan_cache import PlanCache


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_least_recently_used_goes() -> None:
    cache: PlanCache[int] = PlanCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(k) for k in "abc"] == [1, None, 3]
    assert len(cache) == 2


@pytest.mark.usefixtures("restless")
def test_threads_meet_in_a_full_cache() -> None:
    """Sessions of several threads parse at the same time, without the engine lock."""
    cache: PlanCache[int] = PlanCache(1)
    failed: list[BaseException] = []

    def run(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(30_000):
                key = rng.randrange(2)
                found = cache.get(key)
                assert found in (None, key)
                if found is None:
                    cache.put(key, key)
        except BaseException as error:  # noqa: BLE001 - of a thread, asserted below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(cache) == 1
