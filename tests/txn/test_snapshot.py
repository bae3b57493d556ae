"""The visibility rule: a truth table, and its compiled twins on random versions."""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore.storage.directory import ABORTED, INFINITY, mark_of, transaction_of
from filestore.txn import kernels
from filestore.txn.snapshot import Snapshot

OWN, OTHER = mark_of(7), mark_of(8)
SNAPSHOT = Snapshot(10, OWN)

TABLE = [
    # begin, end, address, bound: seen
    (5, INFINITY, 0, 0, True),
    (10, INFINITY, 0, 0, True),
    (11, INFINITY, 0, 0, False),
    (ABORTED, INFINITY, 0, 0, False),
    (OTHER, INFINITY, 0, 9, False),
    (OWN, INFINITY, 3, 4, True),
    (OWN, INFINITY, 4, 4, False),
    (OWN, INFINITY, 3, 0, False),
    (5, 10, 0, 0, False),
    (5, 11, 0, 0, True),
    (5, OTHER, 0, 0, True),
    (5, OWN, 0, 0, False),
    (OWN, OWN, 3, 4, False),
    (OTHER, OTHER, 3, 4, False),
    (11, 12, 0, 0, False),
    (5, 9, 0, 0, False),
]


@pytest.mark.parametrize(("begin", "end", "address", "bound", "seen"), TABLE)
def test_truth_table(begin, end, address, bound, seen):
    assert SNAPSHOT.sees(begin, end, address, bound) is seen
    assert kernels.sees(begin, end, address, 10, OWN, bound) == seen


def test_marks_are_negative_and_invertible():
    assert OWN < 0
    assert transaction_of(OWN) == 7
    assert mark_of(2**40) < 0


def test_a_reader_without_mark_sees_nobody_s_own_versions():
    assert not Snapshot(10).sees(mark_of(1), INFINITY, 0, 10)
    assert Snapshot(10).sees(5, mark_of(1), 0)


def test_the_vectorised_twin_says_the_same(seed):
    rng = random.Random(seed)
    stamps = [1, 9, 10, 11, 100, OWN, OTHER, mark_of(9)]
    for _ in range(200):
        n = rng.randrange(1, 60)
        begin = np.array([rng.choice([*stamps, ABORTED]) for _ in range(n)], np.int64)
        end = np.array([rng.choice([*stamps, INFINITY, INFINITY]) for _ in range(n)], np.int64)
        low = rng.randrange(n)
        bound = rng.randrange(n + 1)
        value = rng.choice(stamps)
        for begins, begin_value in ((begin, 0), (None, value)):
            for ends in (end, None):
                seen = SNAPSHOT.mask(begins, begin_value, ends, low, n, bound)
                expected = [
                    SNAPSHOT.sees(
                        value if begins is None else int(begin[i]), INFINITY if ends is None else int(end[i]), i, bound
                    )
                    for i in range(low, n)
                ]
                assert seen.tolist() == expected
