"""The pool: results in order, errors to the reader, early ends, several maps at once, nested maps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from filestore.query.pool import WorkerPool


@pytest.fixture(params=[1, 2, 4])
def pool(request: pytest.FixtureRequest) -> Iterator[WorkerPool]:
    made = WorkerPool(request.param)
    yield made
    made.close()


def test_order(pool: WorkerPool) -> None:
    def work(i: int) -> int:
        time.sleep(0.001 * (i % 3))
        return i * i

    assert list(pool.map(work, range(50))) == [i * i for i in range(50)]


def test_errors_reach_the_reader(pool: WorkerPool) -> None:
    def work(i: int) -> int:
        if i == 7:
            raise ValueError("seven")
        return i

    with pytest.raises(ValueError, match="seven"):
        list(pool.map(work, range(50)))
    assert list(pool.map(work, range(5))) == [0, 1, 2, 3, 4]


def test_errors_of_the_items_reach_the_reader(pool: WorkerPool) -> None:
    def items() -> object:
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError):
        list(pool.map(lambda i: i, items()))  # type: ignore[arg-type]


def test_a_slow_reader_stops_the_workers(pool: WorkerPool) -> None:
    made: list[int] = []
    results = pool.map(made.append, range(1000))
    next(results)
    time.sleep(0.05)
    assert len(made) <= pool.threads * 4 + 2
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.02)
    assert len(made) < 100


def test_many_maps_at_once_and_nested(pool: WorkerPool) -> None:
    def inner(i: int) -> int:
        return sum(pool.map(lambda j: i * j, range(10)))

    sums: list[int] = []
    threads = [threading.Thread(target=lambda: sums.append(sum(pool.map(inner, range(20))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums == [sum(i * j for i in range(20) for j in range(10))] * 4


def test_small_inputs_stay_on_the_callers_thread(pool: WorkerPool) -> None:
    assert set(pool.map(lambda _: threading.get_ident(), range(20), rows=10)) == {threading.get_ident()}


def test_helpers_do_not_wait_for_items_that_are_being_made(pool: WorkerPool) -> None:
    """Items made by a map of their own: the inner map has the helpers while the outer one has no item for them."""
    seen: set[int] = set()

    def inner(i: int) -> int:
        time.sleep(0.002)
        seen.add(threading.get_ident())
        return i

    def items() -> Iterator[int]:
        yield sum(pool.map(inner, range(40)))
        yield from pool.map(inner, range(40))

    assert list(pool.map(lambda i: i + 1, items())) == [sum(range(40)) + 1, *range(1, 41)]
    assert len(seen) == pool.threads


def test_all_threads_work_on_items_of_an_iterator(pool: WorkerPool) -> None:
    def work(_: int) -> int:
        time.sleep(0.005)
        return threading.get_ident()

    assert len(set(pool.map(work, (i for i in range(40))))) == pool.threads
