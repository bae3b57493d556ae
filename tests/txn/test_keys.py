"""Arrays of keys: taking, joining, comparing, duplicates; oracle: Python lists of bytes and integers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from filestore.txn.keys import concat_keys, equal_keys, first_duplicate, key_bytes, take_keys
from tests.index.memory_pages import bytes_keys

FORMS = ("u64", "u128", "bytes")


def make(form, values):
    if form == "bytes":
        return bytes_keys([b"%d" % v for v in values])
    if form == "u64":
        return np.array(values, np.uint64)
    return np.array([(v % 3, v) for v in values], np.uint64).reshape(-1, 2)


def listed(form, keys):
    count = len(keys[0]) - 1 if form == "bytes" else len(keys)
    return [key_bytes(keys, i) for i in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_keys_equal_lists(form, seed):
    rng = random.Random(seed)
    for _ in range(200):
        values = [rng.randrange(200) for _ in range(rng.randrange(1, 30))]
        keys = make(form, values)
        rows = np.array([rng.randrange(len(values)) for _ in range(rng.randrange(10))], np.int64)
        assert listed(form, take_keys(keys, rows)) == [listed(form, keys)[i] for i in rows.tolist()]
        other = [rng.choice((v, rng.randrange(200))) for v in values]
        assert equal_keys(keys, make(form, other)).tolist() == [a == b for a, b in zip(values, other, strict=True)]
        assert listed(form, concat_keys([keys, make(form, other)])) == listed(form, make(form, values + other))
        repeated = [i for i, v in enumerate(values) if v in values[:i]]
        assert first_duplicate(keys) == (repeated[0] if repeated else -1)
        assert first_duplicate(make(form, sorted(set(values)))) == -1
