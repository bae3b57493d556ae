"""Keys as dense codes: how rows with equal keys are found, and how keys are ordered, for every type and any number
of columns.

`group` numbers the distinct keys of a batch by first appearance. `KeyTable` is the build side of a join: it codes
the build rows and looks up probe rows in the same coding. Both go column by column: a column becomes int64 words
(strings: codes of a string table), words become dense codes, and codes of several columns are combined as `code *
size + code`, renumbered whenever the product would leave 62 bits. Equality is exact; hashes only find the place.

`sort_words` turns a column into int64 arrays whose ascending order is the column's (strings: their ranks), so that
sorting is np.lexsort over plain integers.

Equality and order are PostgreSQL's: NaN equals NaN and is greatest, -0 equals 0, 1.0 equals 1.00, '1 day' equals
'24 hours', char(n) ignores trailing blanks (not stored). Nulls are equal to each other in `group` and equal to
nothing in `KeyTable`.

Thread rule: `group` and the orders are pure functions; a `KeyTable` is built by one thread and then only read, by any.

Not here: spilling, and keys handed to scans (key_set.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filestore.query import kernels, string_kernels
from filestore.query.decimal128_kernels import largest_scale
from filestore.query.kernels import frozen
from filestore.query.vectors import (
    EXACT,
    MAX_DECIMAL128,
    as_decimal64,
    at_scale,
    decimal128_rows,
    interval_fields,
    mask_of,
    safe_views,
    to_decimals,
)
from filestore.storage.vector import EMPTY_HEAP, Array, Vector
from filestore.types import Kind

MAX_RANGE = 1 << 16
"""Keys within so small a range address a table directly, whatever their number."""
_COMBINED_LIMIT = 1 << 62
_DAY_US = 86_400_000_000
_TABLE_MIN = 1024
_RANKED_BY_WORDS = 256
"""Bytes of strings that are ranked eight at a time; a round costs much where few rows are left and they are long."""


@dataclass(slots=True)
class Groups:
    """codes: int64[n], 0..count by first appearance; firsts: int64[count], the row where each appeared."""

    codes: Array
    count: int
    firsts: Array


def group(columns: Sequence[Vector], length: int) -> Groups:
    """Numbers the distinct rows of the columns; nulls are equal to each other."""
    if not columns:
        firsts = np.zeros(min(length, 1), np.int64)
        return Groups(np.zeros(length, np.int64), min(length, 1), firsts)
    codes: Array | None = None
    size = 1
    for column in columns:
        own, own_size = _column_codes(column)
        if codes is None:
            codes, size = own, own_size
        else:
            if size * own_size >= _COMBINED_LIMIT:
                found = factorize(codes, size)
                codes, size = found.codes, found.count
            codes = codes * own_size + own
            size *= own_size
    assert codes is not None
    return factorize(codes, size)


def _column_codes(column: Vector) -> tuple[Array, int]:
    """(codes, size): int64 codes in 0..size, equal for equal values, null included. Not dense."""
    if column.dictionary is not None:
        words = column.dictionary
        if len(words) > 2 * len(column):
            return _column_codes(column.plain())
        table, size = _column_codes(words)
        codes = table[column.data] if len(words) else np.zeros(len(column), np.int64)
    else:
        codes, size = _value_codes(column)
    if column.valid is not None:
        codes = np.where(column.valid, codes + 1, 0)
        size += 1
    return codes, max(size, 1)


def _value_codes(column: Vector) -> tuple[Array, int]:
    if column.type.is_view and column.type.kind is not Kind.NUMERIC:
        found = _factorize_views(column)
        return found.codes, found.count
    codes: Array | None = None
    size = 1
    for words in value_words(column):
        if column.valid is not None:
            words = np.where(column.valid, words, words[0] if len(words) else 0)
        low, high = (int(words.min()), int(words.max())) if len(words) else (0, 0)
        if high - low < _COMBINED_LIMIT // size and (codes is None or high - low < MAX_RANGE):
            own, own_size = words - low, high - low + 1
        else:
            found = factorize(words, None)
            own, own_size = found.codes, found.count
        codes = own if codes is None else codes * own_size + own
        size *= own_size
        if size >= _COMBINED_LIMIT:
            found = factorize(codes, None)
            codes, size = found.codes, found.count
    assert codes is not None
    return codes, size


def factorize(words: Array, size: int | None) -> Groups:
    """Dense codes of int64 words; `size` when they are known to be in 0..size."""
    n = len(words)
    words = frozen(words)
    codes = np.empty(n, np.int64)
    firsts = np.empty(n, np.int64)
    if size is not None and size <= max(MAX_RANGE, n):
        table = np.full(size, -1, np.int64)
        count = kernels.factorize_range(words, 0, table, codes, firsts)
        return Groups(codes, count, firsts[:count].copy())
    count = _WordTable().fill(words, codes, firsts)
    return Groups(codes, count, firsts[:count].copy())


class _WordTable:
    """The growing hash table of int64 words."""

    def __init__(self) -> None:
        self.keys: Array = np.zeros(_TABLE_MIN, np.int64)
        self.codes: Array = np.full(_TABLE_MIN, -1, np.int64)

    def fill(self, words: Array, codes: Array, firsts: Array) -> int:
        row = count = 0
        words = frozen(words)
        while True:
            row, count = kernels.factorize_words(words, row, codes, firsts, count, self.keys, self.codes)
            if row == len(words):
                return int(count)
            self._resize(_grown(count, row, len(words)), len(words))
            kernels.insert_words(words, firsts, count, self.keys, self.codes)

    def _resize(self, size: int, rows: int) -> None:
        size = min(size, max(_TABLE_MIN, _power_above(2 * rows + 2)))
        self.keys = np.zeros(size, np.int64)
        self.codes = np.full(size, -1, np.int64)

    def lookup(self, words: Array) -> Array:
        codes = np.empty(len(words), np.int64)
        kernels.lookup_words(frozen(words), self.keys, self.codes, codes)
        return codes


class _ViewTable:
    """The growing hash table of strings."""

    def __init__(self) -> None:
        self.hashes: Array = np.zeros(_TABLE_MIN, np.uint64)
        self.codes: Array = np.full(_TABLE_MIN, -1, np.int64)
        self.views: Array = np.zeros((0, 2), np.uint64)
        self.heap: Array = EMPTY_HEAP
        self.firsts: Array = np.zeros(0, np.int64)

    def fill(self, column: Vector, codes: Array, firsts: Array) -> int:
        self.views, self.heap = safe_views(column)
        self.firsts = firsts
        row = count = 0
        while True:
            row, count = kernels.factorize_views(
                self.views, self.heap, row, codes, firsts, count, self.hashes, self.codes
            )
            if row == len(column):
                return int(count)
            size = min(_grown(count, row, len(column)), max(_TABLE_MIN, _power_above(2 * len(column) + 2)))
            self.hashes = np.zeros(size, np.uint64)
            self.codes = np.full(size, -1, np.int64)
            kernels.insert_views(self.views, self.heap, firsts, count, self.hashes, self.codes)

    def lookup(self, column: Vector) -> Array:
        codes = np.empty(len(column), np.int64)
        data, heap = safe_views(column)
        kernels.lookup_views(data, heap, self.views, self.heap, self.firsts, self.hashes, self.codes, codes)
        return codes


def _grown(count: int, row: int, rows: int) -> int:
    """A table size for `rows` rows when the first `row` of them had `count` distinct keys."""
    expected = count * rows // max(row, 1)
    return _power_above(max(8 * count, min(2 * expected, 64 * count) + 2))


def _power_above(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


def _factorize_views(column: Vector) -> Groups:
    codes = np.empty(len(column), np.int64)
    firsts = np.empty(len(column), np.int64)
    count = _ViewTable().fill(column, codes, firsts)
    return Groups(codes, count, firsts[:count].copy())


def value_words(column: Vector) -> list[Array]:
    """int64 words, equal for equal values and ordered as them (several words: the first decides first). Not for
    strings.
    """
    kind, data = column.type.kind, column.data
    if kind in (Kind.FLOAT4, Kind.FLOAT8):
        bits = (data.astype(np.float64) + 0.0).view(np.int64)  # + 0.0 makes -0 into 0
        ordered = np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits)
        return [np.where(np.isnan(data), np.int64(2**63 - 1), ordered)]
    if kind is Kind.UUID:
        swapped = np.ascontiguousarray(data).byteswap().view(np.int64) ^ np.int64(-(2**63))
        return [np.ascontiguousarray(swapped[:, 0]), np.ascontiguousarray(swapped[:, 1])]
    if kind is Kind.INTERVAL:
        months, days, micros = interval_fields(column)
        return [months * 30 + days + micros // _DAY_US, micros % _DAY_US]
    if kind is Kind.NUMERIC:
        narrow = as_decimal64(column)
        if narrow is not None:
            return [narrow.data]
        limbs = at_scale(column)
        return [_decimal_ranks(column)] if limbs is None else [limbs[0], _ordered(limbs[1])]
    return [data.astype(np.int64, copy=False)]


def _ordered(words: Array) -> Array:
    """uint64 words as int64 ones of the same order."""
    return (words ^ np.uint64(2**63)).view(np.int64)


def _decimal_ranks(column: Vector) -> Array:
    """Ranks of decimals within this vector; NaN is greatest."""
    values = to_decimals(column).data.tolist()
    numbers = sorted({v for v in values if not v.is_nan()})
    rank = {v: i for i, v in enumerate(numbers)}
    return np.array([len(numbers) if v.is_nan() else rank[v] for v in values], np.int64)


def sort_words(column: Vector) -> list[Array]:
    """int64 words whose ascending order is the column's; data at null rows is arbitrary."""
    if column.dictionary is not None:
        words = sort_words(column.dictionary)
        return [w[column.data] if len(w) else np.zeros(len(column), np.int64) for w in words]
    if column.type.is_view and column.type.kind is not Kind.NUMERIC:
        return [string_ranks(column)]
    return value_words(column)


def string_ranks(column: Vector) -> Array:
    """Dense ranks of strings in bytewise order: rounds of 8 bytes over the rows still tied, at last whole strings."""
    n = len(column)
    views, heap = safe_views(column)
    rank = np.zeros(n, np.int64)
    rows = np.arange(n, dtype=np.int64)
    lengths = (views[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    start = 0
    while len(rows):
        if start == _RANKED_BY_WORDS:
            _rank_whole(Vector(column.type, views[rows], None, heap), rows, rank)
            break
        words = np.empty(len(rows), np.uint64)
        more = string_kernels.word_at(views, heap, frozen(rows), start, words)
        # A zero byte and the end of a string look the same in `words`: the length within these 8 bytes tells them
        # apart.
        inside = np.minimum(lengths[rows] - start, 9)
        order = np.lexsort((inside, words, rank[rows]))
        rows, words, inside = rows[order], words[order], inside[order]
        old = rank[rows]
        fresh = np.ones(len(rows), np.bool_)
        fresh[1:] = (old[1:] != old[:-1]) | (words[1:] != words[:-1]) | (inside[1:] != inside[:-1])
        starts = np.flatnonzero(fresh)
        tie = np.cumsum(fresh) - 1
        # A tie's rank is its old rank plus its place among the rows of that old rank, so ranks stay ordered across
        # rounds.
        bounds = np.ones(len(rows), np.bool_)
        bounds[1:] = old[1:] != old[:-1]
        begin = np.maximum.accumulate(np.where(bounds, np.arange(len(rows)), 0))
        rank[rows] = old + starts[tie] - begin
        if not more:
            break
        tied = np.diff(np.append(starts, len(rows)))[tie] > 1
        rows = rows[tied & (inside > 8)]
        start += 8
    return rank


def _rank_whole(strings: Vector, rows: Array, rank: Array) -> None:
    """Tells the strings of rows apart that have the same rank so far."""
    texts = strings.strings()
    old = rank[rows].tolist()
    last: tuple[int, bytes | None] | None = None
    first = found = 0
    for place, i in enumerate(sorted(range(len(texts)), key=lambda i: (old[i], texts[i] or b""))):
        if last is None or last[0] != old[i]:
            first = place
        if last != (old[i], texts[i]):
            found = old[i] + place - first
        last = (old[i], texts[i])
        rank[rows[i]] = found


class KeyTable:
    """The build side of a hash join: keys that are null in any column match nothing.

    `codes` are the build rows' codes (-1 for null keys), `count` the number of distinct keys. Read from any thread
    once built.
    """

    def __init__(self, columns: Sequence[Vector], length: int) -> None:
        self.length = length
        self._columns: list[_ColumnTable] = []
        self._steps: list[_RangeTable | _HashTable] = []
        codes: Array | None = None
        size = 1
        for column in columns:
            coder = _ColumnTable(column)
            self._columns.append(coder)
            own, own_size = coder.built, coder.size
            if codes is None:
                codes, size = own, own_size
                continue
            codes = np.where((codes >= 0) & (own >= 0), codes * own_size + own, -1)
            size *= own_size
            step = _table_of(codes, size)
            self._steps.append(step)
            codes, size = step.built, step.size
        self.codes: Array = np.zeros(length, np.int64) if codes is None else codes
        self.count = size

    def lookup(self, columns: Sequence[Vector], length: int) -> Array:
        """Codes of probe rows; -1 where no build row has the key."""
        codes: Array | None = None
        steps = iter(self._steps)
        for coder, column in zip(self._columns, columns, strict=True):
            own = coder.lookup(column)
            if codes is None:
                codes = own
                continue
            combined = np.where((codes >= 0) & (own >= 0), codes * coder.size + own, -1)
            codes = next(steps).lookup(combined)
        if codes is None:
            return np.zeros(length, np.int64) if self.length else np.full(length, -1, np.int64)
        return codes


def _decimal_limbs(column: Vector, scale: int) -> tuple[Array, Array, Array]:
    """As vectors.at_scale, of Decimals."""
    values = to_decimals(column).data.tolist()
    scaled = [v.scaleb(scale, EXACT) if v.is_finite() else v for v in values]
    fits = [v.is_finite() and v == v.to_integral_value() and abs(v) < MAX_DECIMAL128 for v in scaled]
    whole = [int(v) if ok else 0 for v, ok in zip(scaled, fits, strict=True)]
    high, low = [v >> 64 for v in whole], [v & (2**64 - 1) for v in whole]
    return np.array(high, np.int64), np.array(low, np.uint64), np.array(fits, np.bool_)


class _RangeTable:
    """Words in a small range, addressed directly; -1 and anything outside is not found."""

    def __init__(self, words: Array, valid: Array | None, low: int, size: int) -> None:
        self.low = low
        self.table: Array = np.full(size, -1, np.int64)
        firsts = np.empty(len(words), np.int64)
        codes = np.empty(len(words), np.int64)
        if valid is None:
            self.size = kernels.factorize_range(frozen(words), low, self.table, codes, firsts)
            self.built: Array = codes
        else:
            some = words[valid]
            self.size = kernels.factorize_range(frozen(some), low, self.table, codes, firsts)
            self.built = np.full(len(words), -1, np.int64)
            self.built[valid] = codes[: len(some)]

    def lookup(self, words: Array) -> Array:
        codes = np.empty(len(words), np.int64)
        kernels.lookup_range(frozen(words), self.low, self.table, codes)
        return codes


class _HashTable:
    """Words anywhere."""

    def __init__(self, words: Array, valid: Array | None) -> None:
        self._table = _WordTable()
        some = words if valid is None else words[valid]
        codes = np.empty(len(some), np.int64)
        self.size = self._table.fill(some, codes, np.empty(len(some), np.int64))
        if valid is None:
            self.built: Array = codes
        else:
            self.built = np.full(len(words), -1, np.int64)
            self.built[valid] = codes

    def lookup(self, words: Array) -> Array:
        return self._table.lookup(words)


def _table_of(words: Array, size: int | None = None, valid: Array | None = None) -> _RangeTable | _HashTable:
    """A table of the words; combined codes (`size` given) are absent where they are -1."""
    if size is not None:
        valid = words >= 0
        valid = None if valid.all() else valid
    some = words if valid is None else words[valid]
    if len(some) == 0:
        return _RangeTable(words, valid, 0, 1)
    low, high = int(some.min()), int(some.max())
    if high - low < max(MAX_RANGE, 8 * len(some)):
        return _RangeTable(words, valid, low, high - low + 1)
    return _HashTable(words, valid)


class _ColumnTable:
    """One key column of a join's build side."""

    def __init__(self, column: Vector) -> None:
        column = column.plain() if column.type.is_view else column
        self.views: _ViewTable | None = None
        self.words: list[_RangeTable | _HashTable] = []
        self.combined: list[_RangeTable | _HashTable] = []
        self.decimals: dict[object, int] | None = None
        self.scale = 0
        if column.type.kind is Kind.NUMERIC:
            self._build_numeric(column)
        elif column.type.is_view:
            some = column if column.valid is None else column.take(column.valid)
            self.views = _ViewTable()
            codes = np.empty(len(some), np.int64)
            self.size = self.views.fill(some, codes, np.empty(len(some), np.int64))
            self.built: Array = codes
            if column.valid is not None:
                self.built = np.full(len(column), -1, np.int64)
                self.built[column.valid] = codes
        else:
            self._build_words(value_words(column), column.valid)
        self.size = max(self.size, 1)

    def _build_words(self, words: list[Array], valid: Array | None) -> None:
        first = _table_of(words[0], None, valid)
        self.words = [first]
        self.built, self.size = first.built, first.size
        for more in words[1:]:
            second = _table_of(more, None, valid)
            self.words.append(second)
            codes = np.where(self.built >= 0, self.built * max(second.size, 1) + second.built, -1)
            step = _table_of(codes, self.size * max(second.size, 1))
            self.combined.append(step)
            self.built, self.size = step.built, step.size

    def _build_numeric(self, column: Vector) -> None:
        narrow = as_decimal64(column)
        if narrow is not None:
            self.scale = narrow.scale
            self._build_words([narrow.data], column.valid)
            return
        rows = decimal128_rows(column)
        limbs = at_scale(column)
        if rows is not None and limbs is not None:
            self.scale = int(largest_scale(rows, mask_of(column)))
            self._build_words([limbs[0], _ordered(limbs[1])], column.valid)
            return
        known: dict[object, int] = {}
        valid = column.valid
        built = np.full(len(column), -1, np.int64)
        for i, value in enumerate(to_decimals(column).data.tolist()):
            if valid is None or valid[i]:
                built[i] = known.setdefault("NaN" if value.is_nan() else value, len(known))
        self.decimals, self.built, self.size = known, built, len(known)

    def lookup(self, column: Vector) -> Array:
        """Codes of a probe column, -1 for nulls and strangers."""
        if self.views is not None and column.dictionary is not None and len(column.dictionary) <= len(column):
            table = self.views.lookup(column.dictionary)
            codes = table[column.data] if len(table) else np.full(len(column), -1, np.int64)
        elif self.views is not None:
            codes = self.views.lookup(column.plain())
        elif column.type.kind is Kind.NUMERIC:
            codes = self._lookup_numeric(column)
        else:
            codes = self._lookup_words(value_words(column))
        return codes if column.valid is None else np.where(column.valid, codes, -1)

    def _lookup_words(self, words: list[Array]) -> Array:
        codes = self.words[0].lookup(words[0])
        for second, step, more in zip(self.words[1:], self.combined, words[1:], strict=True):
            own = second.lookup(more)
            codes = step.lookup(np.where((codes >= 0) & (own >= 0), codes * max(second.size, 1) + own, -1))
        return codes

    def _lookup_numeric(self, column: Vector) -> Array:
        known = self.decimals
        if known is not None:
            values = to_decimals(column).data.tolist()
            return np.array([known.get("NaN" if v.is_nan() else v, -1) for v in values], np.int64)
        narrow = as_decimal64(column)
        if narrow is not None and narrow.scale == self.scale and len(self.words) == 1:
            return self._lookup_words([narrow.data])
        # A value with more digits than the build side has equals none of it.
        limbs = at_scale(column, self.scale)
        high, low, fits = _decimal_limbs(column, self.scale) if limbs is None else limbs
        if len(self.words) == 2:
            return np.where(fits, self._lookup_words([high, _ordered(low)]), -1)
        words = low.view(np.int64)
        return np.where(fits & (high == words >> 63), self._lookup_words([words]), -1)


def order_of(columns: Sequence[tuple[Vector, bool, bool]], length: int) -> Array:
    """The stable order of rows by (vector, descending, nulls first) keys: int64 positions."""
    words: list[Array] = []
    for column, descending, nulls_first in columns:
        valid = column.valid
        if valid is not None and not valid.all():
            words.append(valid.astype(np.int64) if nulls_first else (~valid).astype(np.int64))
        else:
            valid = None
        for word in sort_words(column):
            word = ~word if descending else word
            words.append(word if valid is None else np.where(valid, word, 0))
    if not words:
        return np.arange(length)
    packed = _packed(words)
    if packed is not None:
        return np.argsort(packed, kind="stable")
    return np.lexsort(words[::-1])


def _packed(words: list[Array]) -> Array | None:
    """All words in one, when their ranges allow it: one sort instead of one per word."""
    if len(words) == 1:
        return words[0]
    if len(words[0]) == 0:
        return words[0]
    packed: Array | None = None
    size = 1
    for word in words:
        low, high = int(word.min()), int(word.max())
        size *= high - low + 1
        if size >= _COMBINED_LIMIT:
            return None
        packed = word - low if packed is None else packed * (high - low + 1) + (word - low)
    return packed
