"""From a key to its records inside compiled code: what the kernels of other rooms call.

All take the raw page memory (`Pages.data`) and nothing else, allocate nothing and write nothing, so a compiled point
statement can do lookup, fetch and encoding in one call. Records of one key ascend; walk duplicates with

    record = find_u64(data, key)
    while record >= 0:
        ...
        record = find_next_u64(data, key, record)

`find_next_*` starts from the root again, so the walk survives changes of the tree between its steps.
Keys are the packed words of `key_kernels` (u64, u128) or encoded bytes key[start:end]. -1 means none.

Thread rule: that of `filestore.index.base`. Not here: ranges, and whether an entry is stale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index import fixed_kernels, slotted_kernels
from filestore.index.layout import HEADER_WORDS, META_FORM, META_LEAF_CAPACITY, NO_PAGE
from filestore.index.page_kernels import get, page_words
from filestore.index.slotted_scan_kernels import same_key

_seek_fixed = fixed_kernels.seek
_seek_slotted = slotted_kernels.seek
_record_of = slotted_kernels.record_of


@njit(nogil=True, cache=True)
def find_fixed(data: Any, high: Any, low: Any, record: Any) -> Any:
    """The least record >= `record` of a packed key, -1 if there is none; `high` is 0 in form u64."""
    words = data.view(np.uint64)
    page, slot = _seek_fixed(words, high, low, record)
    if page == NO_PAGE:
        return -1
    cap = get(words, META_LEAF_CAPACITY)
    base = page * page_words(words) + HEADER_WORDS + slot
    if get(words, META_FORM) == 2:
        if words[base] != high:
            return -1
        base += cap
    if words[base] != low:
        return -1
    return get(words, base + cap)


@njit(nogil=True, cache=True)
def find_u64(data: Any, key: Any) -> Any:
    """The least record of a key, -1 if there is none."""
    return find_fixed(data, np.uint64(0), np.uint64(key), np.uint64(0))


@njit(nogil=True, cache=True)
def find_next_u64(data: Any, key: Any, record: int) -> Any:
    """The next record of the key behind `record`, -1 if there is none."""
    return find_fixed(data, np.uint64(0), np.uint64(key), np.uint64(record + 1))


@njit(nogil=True, cache=True)
def find_u128(data: Any, high: Any, low: Any) -> Any:
    """The least record of a key, -1 if there is none."""
    return find_fixed(data, np.uint64(high), np.uint64(low), np.uint64(0))


@njit(nogil=True, cache=True)
def find_next_u128(data: Any, high: Any, low: Any, record: int) -> Any:
    """The next record of the key behind `record`, -1 if there is none."""
    return find_fixed(data, np.uint64(high), np.uint64(low), np.uint64(record + 1))


@njit(nogil=True, cache=True)
def find_next_bytes(data: Any, key: Any, start: int, end: int, record: int) -> Any:
    """The next record of key[start:end] behind `record` (-1: the first), -1 if there is none."""
    words = data.view(np.uint64)
    page, slot = _seek_slotted(data, words, key, start, end, np.uint64(record + 1))
    if page == NO_PAGE:
        return -1
    at = page * page_words(words)
    if not same_key(data, words, at, slot, key, start, end):
        return -1
    return np.int64(_record_of(words, at, slot))


@njit(nogil=True, cache=True)
def find_bytes(data: Any, key: Any, start: int, end: int) -> Any:
    """The least record of the key key[start:end], -1 if there is none."""
    return find_next_bytes(data, key, start, end, -1)
