"""Kernels under everything the executor does with keys: dense codes, hash tables, joins' row lists.

Policy, for this module and every `*_kernels.py` of the query room:

- lazy signatures with few variants: keys are int64, codes int64, validity bool, views uint64[n, 2] with a uint8
  heap. Callers widen what is narrower; where a narrow form matters (uint8 codes) the kernel is told so by name;
- arrays that a kernel only reads are `frozen`, dense codes and outputs are not;
- `nogil` so that the pool's threads run beside each other, `cache` so that a second start compiles nothing;
- a kernel gets its output arrays and allocates nothing; it never raises: it returns a position or a code that the
  caller turns into an error;
- every kernel has a plain oracle in tests/query/exec and a call with its real signature in WARMERS, which
  `filestore.warm` runs.

One idea carries grouping, joining, DISTINCT and the set operations: every key, whatever its types and however many
its columns, becomes one dense int64 code per row (see `keys.py`). So there are exactly two hash tables: of int64
words and of strings.

The tables are open addressing with linear probing over a power of two; an empty place holds code -1. They are
filled at most to one half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from filestore.storage.vector import INLINE_BYTES

_Function = TypeVar("_Function", bound=Callable[..., Any])
_njit: Any = njit  # its types lack the option that leaves out the counts of references


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous, read-only view (or copy) of an array: how kernels are given what they only read.

    Segments are read-only and fresh arrays are not; numba would compile every kernel once for each.
    """
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def inlined(function: _Function) -> _Function:
    """Compiles a small function that only kernels call: always inlined, and without the counts of references that
    numba would take of arrays at every second level of calls.
    """
    compiled: _Function = _njit(nogil=True, cache=True, _nrt=False, forceinline=True, error_model="numpy")(function)
    return compiled


WARMERS: list[Callable[[], None]] = []

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_LENGTH = np.uint64(0xFFFFFFFF)
_INLINE = np.uint64(INLINE_BYTES)


@njit(nogil=True, cache=True, inline="always")
def mix(word: Any) -> Any:
    """A uint64 whose low bits depend on all bits of `word` (splitmix64's finaliser)."""
    x = np.uint64(word)
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def factorize_words(
    keys: Any, start: Any, codes: Any, firsts: Any, count: Any, table_keys: Any, table_codes: Any
) -> Any:
    """Gives equal int64 keys equal codes, numbered by first appearance, from row `start` on.

    Returns (row, count): it stops before a row when the table is half full, so that the caller can grow it and go on.
    firsts[code] is the row where the code first appeared.
    """
    mask = np.uint64(len(table_keys) - 1)
    limit = len(table_keys) // 2
    for i in range(start, len(keys)):
        key = keys[i]
        place = mix(key) & mask
        while True:
            code = table_codes[place]
            if code < 0:
                if count >= limit:
                    return i, count
                table_keys[place] = key
                table_codes[place] = count
                firsts[count] = i
                codes[i] = count
                count += 1
                break
            if table_keys[place] == key:
                codes[i] = code
                break
            place = (place + np.uint64(1)) & mask
    return len(keys), count


@njit(nogil=True, cache=True)
def insert_words(keys: Any, firsts: Any, count: Any, table_keys: Any, table_codes: Any) -> None:
    """Fills an empty table with the distinct keys keys[firsts[0..count]], codes 0..count."""
    mask = np.uint64(len(table_keys) - 1)
    for code in range(count):
        key = keys[firsts[code]]
        place = mix(key) & mask
        while table_codes[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table_keys[place] = key
        table_codes[place] = code


@njit(nogil=True, cache=True)
def lookup_words(keys: Any, table_keys: Any, table_codes: Any, codes: Any) -> None:
    """codes[i] = the code of keys[i], -1 when the table lacks it."""
    mask = np.uint64(len(table_keys) - 1)
    for i in range(len(keys)):
        key = keys[i]
        place = mix(key) & mask
        code = table_codes[place]
        while code >= 0 and table_keys[place] != key:
            place = (place + np.uint64(1)) & mask
            code = table_codes[place]
        codes[i] = code


@njit(nogil=True, cache=True)
def factorize_range(keys: Any, low: Any, table: Any, codes: Any, firsts: Any) -> Any:
    """As factorize_words for keys in [low, low + len(table)): `table` (int64, all -1) is addressed directly.
    Returns the count.
    """
    count = 0
    for i in range(len(keys)):
        place = keys[i] - low
        code = table[place]
        if code < 0:
            code = count
            table[place] = code
            firsts[count] = i
            count += 1
        codes[i] = code
    return count


@njit(nogil=True, cache=True)
def lookup_range(keys: Any, low: Any, table: Any, codes: Any) -> None:
    """codes[i] = table[keys[i] - low], -1 outside the table."""
    size = len(table)
    for i in range(len(keys)):
        # The unsigned difference is in range only when both comparisons would hold, overflow included.
        place = np.uint64(keys[i]) - np.uint64(low)
        codes[i] = table[np.int64(place)] if place < np.uint64(size) else -1


@njit(nogil=True, cache=True, inline="always")
def hash_view(views: Any, heap: Any, i: Any) -> Any:
    """A uint64 hash of string i."""
    first = views[i, 0]
    length = first & _LENGTH
    h = mix(first)
    if length <= _INLINE:
        return mix(h ^ views[i, 1])
    offset = np.int64(views[i, 1] >> np.uint64(32))
    n = np.int64(length)
    position = 4
    while position + 8 <= n:
        word = np.uint64(0)
        for k in range(8):
            word |= np.uint64(heap[offset + position + k]) << np.uint64(8 * k)
        h = mix(h ^ word)
        position += 8
    word = np.uint64(0)
    for k in range(n - position):
        word |= np.uint64(heap[offset + position + k]) << np.uint64(8 * k)
    return mix(h ^ word)


@njit(nogil=True, cache=True, inline="always")
def same_view(left: Any, left_heap: Any, i: Any, right: Any, right_heap: Any, j: Any) -> bool:
    """Whether string i of `left` equals string j of `right`, byte by byte."""
    if left[i, 0] != right[j, 0]:
        return False
    length = left[i, 0] & _LENGTH
    if length <= _INLINE:
        return bool(left[i, 1] == right[j, 1])
    a = np.int64(left[i, 1] >> np.uint64(32))
    b = np.int64(right[j, 1] >> np.uint64(32))
    for k in range(4, np.int64(length)):  # noqa: SIM110 - numba has no generators here
        if left_heap[a + k] != right_heap[b + k]:
            return False
    return True


@njit(nogil=True, cache=True)
def factorize_views(
    views: Any, heap: Any, start: Any, codes: Any, firsts: Any, count: Any, table_hashes: Any, table_codes: Any
) -> Any:
    """As factorize_words, over strings; the table keeps hashes, strings are compared where hashes are equal."""
    mask = np.uint64(len(table_hashes) - 1)
    limit = len(table_hashes) // 2
    for i in range(start, len(views)):
        h = hash_view(views, heap, i)
        place = h & mask
        while True:
            code = table_codes[place]
            if code < 0:
                if count >= limit:
                    return i, count
                table_hashes[place] = h
                table_codes[place] = count
                firsts[count] = i
                codes[i] = count
                count += 1
                break
            if table_hashes[place] == h and same_view(views, heap, i, views, heap, firsts[code]):
                codes[i] = code
                break
            place = (place + np.uint64(1)) & mask
    return len(views), count


@njit(nogil=True, cache=True)
def insert_views(views: Any, heap: Any, firsts: Any, count: Any, table_hashes: Any, table_codes: Any) -> None:
    """Fills an empty table with the distinct strings firsts[0..count], codes 0..count."""
    mask = np.uint64(len(table_hashes) - 1)
    for code in range(count):
        h = hash_view(views, heap, firsts[code])
        place = h & mask
        while table_codes[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table_hashes[place] = h
        table_codes[place] = code


@njit(nogil=True, cache=True)
def lookup_views(
    views: Any, heap: Any, built: Any, built_heap: Any, firsts: Any, table_hashes: Any, table_codes: Any, codes: Any
) -> None:
    """codes[i] = the code of string i among the strings `built` that the table was filled with, -1 when it lacks it."""
    mask = np.uint64(len(table_hashes) - 1)
    for i in range(len(views)):
        h = hash_view(views, heap, i)
        place = h & mask
        code = table_codes[place]
        while code >= 0:
            if table_hashes[place] == h and same_view(views, heap, i, built, built_heap, firsts[code]):
                break
            place = (place + np.uint64(1)) & mask
            code = table_codes[place]
        codes[i] = code


@njit(nogil=True, cache=True)
def count_codes(codes: Any, offsets: Any) -> Any:
    """offsets[c + 2] = number of rows with code c (rows with code -1 are left out). Returns the largest count."""
    most = 0
    for i in range(len(codes)):
        c = codes[i]
        if c >= 0:
            offsets[c + 2] += 1
            if offsets[c + 2] > most:
                most = offsets[c + 2]
    return most


@njit(nogil=True, cache=True)
def list_rows(codes: Any, offsets: Any, rows: Any) -> None:
    """After the prefix sum of `count_codes`: rows[offsets[c]..offsets[c + 1]] = the rows with code c, ascending.

    On entry offsets[c + 1] is where code c begins; on return where it ends, so that offsets[c] is its begin.
    """
    for i in range(len(codes)):
        c = codes[i]
        if c >= 0:
            rows[offsets[c + 1]] = i
            offsets[c + 1] += 1


@njit(nogil=True, cache=True)
def count_matches(codes: Any, offsets: Any, row: Any, skip: Any, budget: Any) -> Any:
    """How many (probe, build) pairs the probe rows from `row` on make, without its first `skip` and at most `budget`:
    (row, skip) to go on with, (len(codes), 0) after the last, and their number.
    """
    pairs = 0
    for i in range(row, len(codes)):
        c = codes[i]
        if c >= 0:
            more = offsets[c + 1] - offsets[c] - skip
            if pairs + more > budget:
                return i, skip + budget - pairs, budget
            pairs += more
        skip = 0
    return len(codes), skip, pairs


@njit(nogil=True, cache=True)
def fill_matches(codes: Any, offsets: Any, rows: Any, row: Any, skip: Any, probe: Any, build: Any) -> None:
    """Writes the len(probe) pairs counted by `count_matches` from (row, skip) on: in probe order, then build order."""
    k, pairs = 0, len(probe)
    for i in range(row, len(codes)):
        if k == pairs:
            return
        c = codes[i]
        if c >= 0:
            low = offsets[c] + skip
            for at in range(low, min(offsets[c + 1], low + pairs - k)):
                probe[k] = i
                build[k] = rows[at]
                k += 1
        skip = 0


@njit(nogil=True, cache=True)
def map_keys(keys: Any, low: Any, bits: Any) -> None:
    """Sets bit keys[i] - low of the uint64 words `bits`."""
    for i in range(len(keys)):
        place = np.uint64(keys[i]) - np.uint64(low)
        bits[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))


@njit(nogil=True, cache=True, inline="always")
def _two_bits(h: Any) -> Any:
    """Two bits of a word, from the high bits of a hash (the low ones choose the word)."""
    return (np.uint64(1) << (h >> np.uint64(58))) | (np.uint64(1) << ((h >> np.uint64(52)) & np.uint64(63)))


@njit(nogil=True, cache=True)
def bloom_keys(keys: Any, bits: Any) -> None:
    """Sets two bits for each key in one of the uint64 words `bits`, a power of two of them."""
    mask = np.uint64(len(bits) - 1)
    for i in range(len(keys)):
        h = mix(np.uint64(keys[i]))
        bits[h & mask] |= _two_bits(h)


@njit(nogil=True, cache=True)
def select_mapped(keys: Any, rows: Any, every: bool, low: Any, high: Any, bits: Any, out: Any) -> Any:
    """out[k] = the k-th position j with the bit of keys[rows[j]] (keys[j] with `every`) set; returns their number.

    keys: integers of any width. No branch depends on what is found, so that mixed answers cost no more than clear ones.
    """
    found = 0
    base = np.uint64(np.int64(low))
    span = np.uint64(np.int64(high)) - base
    for j in range(len(keys) if every else len(rows)):
        place = np.uint64(np.int64(keys[j if every else rows[j]])) - base
        inside = place <= span
        place = place if inside else np.uint64(0)
        bit = (bits[place >> np.uint64(6)] >> (place & np.uint64(63))) & np.uint64(1)
        out[found] = j
        if inside:
            found += int(bit)
    return found


@njit(nogil=True, cache=True)
def select_bloomed(keys: Any, rows: Any, every: bool, low: Any, high: Any, bits: Any, out: Any) -> Any:
    """As select_mapped, of keys in low..high for which bloom_keys has set both bits."""
    found = 0
    mask = np.uint64(len(bits) - 1)
    for j in range(len(keys) if every else len(rows)):
        key = np.int64(keys[j if every else rows[j]])
        h = mix(np.uint64(key))
        wanted = _two_bits(h)
        out[found] = j
        if (bits[h & mask] & wanted) == wanted and low <= key <= high:
            found += 1
    return found


@njit(nogil=True, cache=True)
def keep_counts(codes: Any, left_counts: Any, right_counts: Any, intersect: bool, taken: Any, keep: Any) -> None:
    """INTERSECT ALL / EXCEPT ALL: keep[i] for left row i while its code's share of copies lasts; `taken` counts
    them.
    """
    for i in range(len(codes)):
        c = codes[i]
        if intersect:
            share = min(left_counts[c], right_counts[c])
        else:
            share = left_counts[c] - right_counts[c]
        keep[i] = taken[c] < share
        taken[c] += 1


@njit(nogil=True, cache=True)
def pack_views(views: Any, heap: Any, valid: Any, out: Any, out_heap: Any, base: Any) -> Any:
    """Copies long strings to out_heap from `base` on, with their offsets changed; returns the end. Invalid rows
    become empty.

    `valid` has length 0 when all rows are. With an empty out_heap it only measures.
    """
    position = base
    measuring = len(out_heap) == 0
    for i in range(len(views)):
        if len(valid) > 0 and not valid[i]:
            if not measuring:
                out[i, 0] = 0
                out[i, 1] = 0
            continue
        length = views[i, 0] & _LENGTH
        if not measuring:
            out[i, 0] = views[i, 0]
            out[i, 1] = views[i, 1]
        if length > _INLINE:
            n = np.int64(length)
            if not measuring:
                offset = np.int64(views[i, 1] >> np.uint64(32))
                for k in range(n):
                    out_heap[position + k] = heap[offset + k]
                out[i, 1] = np.uint64(position) << np.uint64(32)
            position += n
    return position


def _warm() -> None:
    keys = frozen(np.arange(4, dtype=np.int64))
    codes = np.zeros(4, np.int64)
    firsts = np.zeros(4, np.int64)
    table_keys = np.zeros(16, np.int64)
    table_codes = np.full(16, -1, np.int64)
    factorize_words(keys, 0, codes, firsts, 0, table_keys, table_codes)
    insert_words(keys, firsts, 4, table_keys, np.full(16, -1, np.int64))
    lookup_words(keys, table_keys, table_codes, codes)
    factorize_range(keys, 0, np.full(4, -1, np.int64), codes, firsts)
    lookup_range(keys, 0, firsts, codes)
    views = frozen(np.zeros((4, 2), np.uint64))
    heap = frozen(np.zeros(1, np.uint8))
    hashes = np.zeros(16, np.uint64)
    table_codes = np.full(16, -1, np.int64)
    factorize_views(views, heap, 0, codes, firsts, 0, hashes, table_codes)
    insert_views(views, heap, firsts, 1, hashes, np.full(16, -1, np.int64))
    lookup_views(views, heap, views, heap, firsts, hashes, table_codes, codes)
    offsets = np.zeros(6, np.int64)
    count_codes(codes, offsets)
    offsets = np.cumsum(offsets)
    list_rows(codes, offsets, firsts)
    count_matches(codes, offsets, 0, 0, 10)
    fill_matches(codes, offsets, firsts, 0, 0, codes[:0], codes[:0])
    keep_counts(codes, codes, codes, True, firsts, np.zeros(4, np.bool_))
    bits = np.zeros(1, np.uint64)
    map_keys(keys, 0, bits)
    bloom_keys(keys, bits)
    for narrow in (keys, frozen(keys.astype(np.int32))):
        for kernel in (select_mapped, select_bloomed):
            kernel(narrow, keys, True, 0, 3, frozen(bits), codes)
    pack_views(views, heap, frozen(np.zeros(0, np.bool_)), views.copy(), np.zeros(1, np.uint8), 0)


WARMERS.append(_warm)
