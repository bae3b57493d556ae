"""The B+Tree: a thin shell that checks arguments, hands arrays to kernels, and turns answers into results or errors.

The tree object holds the pages and scratch memory, nothing else: opening the same pages twice, or a copy of them,
gives the same tree. Offsets and nodes are the business of the kernels; nothing here touches a byte of a page except
through `layout.META`.

Thread rule: that of `filestore.index.base`. Lifetime: as long as its pages. Not here: the order of values, columns,
concurrency of any kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np

from filestore import errors
from filestore.index import (
    check,
    fixed_insert_kernels,
    fixed_remove_kernels,
    fixed_scan_kernels,
    layout,
    page_kernels,
    slotted_insert_kernels,
    slotted_remove_kernels,
    slotted_scan_kernels,
)
from filestore.index.base import I64, U8, U64, Bools, Key, Keys, Pages, Position, key_count, one_key

FORMS: Final = {"u64": layout.FORM_U64, "u128": layout.FORM_U128, "bytes": layout.FORM_BYTES}
FETCH_ROWS: Final = 4096  # records a range asks a kernel for at a time when nobody set a limit; grows with the result
_ALL_ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def open_btree(pages: Pages, form: str) -> BTree:
    """Opens the index in `pages`, or makes an empty one in pages that were never written. form: a KeyCodec's.

    Raises IndexCorrupted if the meta page is not that of an index of this form and page size.
    """
    number = FORMS[form]
    return SlottedBTree(pages) if number == layout.FORM_BYTES else FixedBTree(pages, number)


class BTree(ABC):
    """What both node forms share. Implements base.Index."""

    def __init__(self, pages: Pages, form: int) -> None:
        size = pages.page_size
        if size % layout.WORD or not layout.MIN_PAGE_SIZE <= size <= layout.MAX_PAGE_SIZE:
            raise errors.InternalError(f"index pages of {size} bytes")
        self.pages = pages
        self.form: Final = form
        self._meta: Any = pages.data[: layout.META.itemsize].view(layout.META)
        self._path = np.zeros(2 * layout.MAX_HEIGHT, np.int64)
        if not pages.data[:size].any():
            self._format()
        check.check_meta(pages, form)

    def _format(self) -> None:
        """Makes an empty index: the meta page and a lone leaf."""
        if self.pages.limit < 2:
            raise _full(self.pages.limit)
        words = self.pages.data.view(np.uint64)
        size = self.pages.page_size
        capacities = layout.leaf_capacity(self.form, size), layout.inner_capacity(self.form, size)
        page_kernels.format_index(words, self.pages.dirty, layout.MAGIC, layout.VERSION, size, self.form, *capacities)

    @property
    def entry_count(self) -> int:
        """Number of (key, record) pairs."""
        return int(self._meta["entries"][0])

    @property
    def page_count(self) -> int:
        """Pages in use, the high-water mark: what a checkpoint has to look at."""
        return int(self._meta["pages"][0])

    @property
    def height(self) -> int:
        """Levels, 1 for a lone leaf."""
        return int(self._meta["height"][0])

    def clear(self) -> None:
        """Empties the index: every page is zeroed and forgotten."""
        used = self.page_count
        self.pages.data[: used * self.pages.page_size] = 0
        self.pages.dirty[:used] = 1
        self._format()

    def check(self) -> None:
        """Verifies the whole structure. Raises IndexCorrupted naming the page."""
        check.check_pages(self.pages, self.form)

    def build(self, keys: Keys, records: I64) -> None:
        """Fills an empty index from pairs in any order, packing leaves from left to right; see base.Index."""
        if self.entry_count:
            raise errors.ObjectNotInPrerequisiteState("index is not empty")
        _check_records(keys, records)
        _, done = self._insert_sorted(keys, records)
        if done < len(records):
            self.clear()
            raise _full(self.pages.limit)

    def insert(self, keys: Keys, records: I64) -> Bools:
        """Adds pairs; True where new. All or nothing; see base.Index. An empty tree is built instead."""
        _check_records(keys, records)
        if self.entry_count == 0 and len(records) > 1:
            inserted, done = self._insert_sorted(keys, records)
        else:
            inserted, done = self._insert(keys, records)
        if done < len(records):
            self._take_back(keys, records, inserted)
            raise _full(self.pages.limit)
        return inserted

    def remove(self, keys: Keys, records: I64) -> Bools:
        """Takes pairs out; True where the pair was there. Needs no pages, so it cannot fail."""
        _check_records(keys, records)
        return self._remove(keys, records, np.arange(len(records)))

    def lookup(self, key: Key) -> I64:
        """Records of one key, ascending."""
        return self._lookup(self._as_keys(key))[1]

    def lookup_many(self, keys: Keys) -> tuple[I64, I64]:
        """(offsets, records) of many keys; see base.Index."""
        return self._lookup(keys)

    def range(
        self,
        low: Key | None = None,
        low_inclusive: bool = True,
        high: Key | None = None,
        high_inclusive: bool = True,
        *,
        reverse: bool = False,
        limit: int | None = None,
        after: Position | None = None,
    ) -> I64:
        """Records of a range in key order; see base.Index."""
        cursor = self.scan(low, low_inclusive, high, high_inclusive, reverse=reverse, after=after)
        if limit is not None:
            return cursor.fetch(limit)
        chunks: list[I64] = []
        size = FETCH_ROWS
        while not chunks or len(chunks[-1]) == size // 2:
            chunks.append(cursor.fetch(size))
            size *= 2
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def scan(
        self,
        low: Key | None = None,
        low_inclusive: bool = True,
        high: Key | None = None,
        high_inclusive: bool = True,
        *,
        reverse: bool = False,
        after: Position | None = None,
    ) -> RangeCursor:
        """A range as a cursor; see base.Index."""
        # An entry bound (key, 0) is below all records of the key, (key, all ones) above them.
        low_bound = None if low is None else (one_key(low, self.form), np.uint64(0) if low_inclusive else _ALL_ONES)
        high_bound = None if high is None else (one_key(high, self.form), _ALL_ONES if high_inclusive else np.uint64(0))
        cursor = RangeCursor(self, low_bound, high_bound, reverse)
        if after is not None:
            cursor.advance(one_key(after.key, self.form), after.record)
        return cursor

    def _take_back(self, keys: Keys, records: I64, inserted: Bools) -> None:
        """Undoes the part of an insert that was done before pages ran out."""
        self._remove(keys, records, np.flatnonzero(inserted))

    @abstractmethod
    def _as_keys(self, key: Key) -> Keys:
        """One key as Keys of length 1."""

    @abstractmethod
    def _insert(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        """Inserts in the given order; (inserted, pairs done)."""

    @abstractmethod
    def _insert_sorted(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        """Sorts, then appends to an empty tree with full leaves; (inserted, pairs done)."""

    @abstractmethod
    def _remove(self, keys: Keys, records: I64, rows: I64) -> Bools:
        """Removes the pairs at `rows`."""

    @abstractmethod
    def _lookup(self, keys: Keys) -> tuple[I64, I64]:
        """(offsets, records)."""

    @abstractmethod
    def fetch(self, low: Bound, high: Bound, reverse: bool, limit: int) -> tuple[I64, Any, int]:
        """Up to `limit` records in [low, high) from its low or high end,
        and the last pair among them: its key and record."""


Bound = tuple[Any, np.uint64] | None
"""An entry that bounds a range: a normalised key (see one_key) and a record; None is unbounded."""


class RangeCursor:
    """A range being read in chunks.

    It remembers the last pair it returned, so the tree may change between fetches.
    """

    def __init__(self, tree: BTree, low: Bound, high: Bound, reverse: bool) -> None:
        self._tree = tree
        self._low = low
        self._high = high
        self._reverse = reverse
        self._position: Position | None = None
        self._done = False

    @property
    def position(self) -> Position | None:
        """The last pair fetched, None before the first."""
        return self._position

    def advance(self, key: Any, record: int) -> None:
        """Goes on behind the pair (key, record), whether it is in the range or not."""
        self._position = Position(_plain(key), record)
        if self._reverse:
            self._high = _least(self._high, (key, np.uint64(record)))
        else:
            self._low = _greatest(self._low, (key, np.uint64(record + 1)))

    def fetch(self, limit: int) -> I64:
        """The next records, at most `limit`; fewer only at the end of the range."""
        if self._done or limit <= 0:
            return np.empty(0, np.int64)
        records, key, record = self._tree.fetch(self._low, self._high, self._reverse, limit)
        self._done = len(records) < limit
        if len(records):
            self.advance(key, record)
        return records


def _plain(key: Any) -> Key:
    """A normalised key as a plain value: bytes, int, or (high, low)."""
    if key.dtype == np.uint8:
        return bytes(key)
    return int(key[0]) if len(key) == 1 else (int(key[0]), int(key[1]))


def _order(bound: tuple[Any, np.uint64]) -> tuple[Any, int]:
    """What bounds are compared by: Python's order of bytes and of tuples of ints is the index's."""
    key, record = bound
    return (bytes(key) if key.dtype == np.uint8 else tuple(key.tolist())), int(record)


def _least(a: Bound, b: tuple[Any, np.uint64]) -> Bound:
    return b if a is None or _order(b) < _order(a) else a


def _greatest(a: Bound, b: tuple[Any, np.uint64]) -> Bound:
    return b if a is None or _order(b) > _order(a) else a


def _check_records(keys: Keys, records: I64) -> None:
    """Raises InternalError unless there is one valid record number for each key."""
    if len(records) != key_count(keys):
        raise errors.InternalError(f"{key_count(keys)} index keys for {len(records)} records")
    if len(records) and int(records.min()) < 0:
        raise errors.InternalError("negative record number in an index")


def _owned(array: Any, dtype: Any) -> Any:
    """The array contiguous and writable: numba would compile every kernel a second time for a read-only argument."""
    found = np.ascontiguousarray(array, dtype)
    return found if found.flags.writeable else found.copy()


def _full(limit: int) -> errors.ProgramLimitExceeded:
    return errors.ProgramLimitExceeded(
        f"index is full: it may use {limit} pages",
        hint="Dropping and creating the index again packs its pages.",
    )


class FixedBTree(BTree):
    """Keys of one or two words; see fixed_kernels."""

    def __init__(self, pages: Pages, form: int) -> None:
        super().__init__(pages, form)
        self._bounds = np.zeros(6, np.uint64)
        self._last = np.zeros(3, np.uint64)

    def _words(self, keys: Any) -> U64:
        """Keys as one run of words."""
        array: U64 = _owned(keys, np.uint64)
        if array.size % self.form or (array.ndim == 2) != (self.form == layout.FORM_U128):
            raise errors.InternalError(f"index keys of shape {array.shape} in an index of form {self.form}")
        return array.reshape(-1)

    def _as_keys(self, key: Key) -> Keys:
        words: U64 = one_key(key, self.form)
        return words if self.form == layout.FORM_U64 else words.reshape(1, 2)

    def _run(self, words: U64, records: I64, packed: bool) -> tuple[Bools, int]:
        inserted = np.zeros(len(records), np.bool_)
        pages = self.pages
        done = fixed_insert_kernels.insert_fixed(
            pages.data, pages.dirty, pages.limit, self._path, words, records, inserted.view(np.uint8), packed
        )
        return inserted, int(done)

    def _insert(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        return self._run(self._words(keys), _owned(records, np.int64), False)

    def _insert_sorted(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        words = self._words(keys)
        records = _owned(records, np.int64)
        if fixed_scan_kernels.is_sorted(words, records, self.form):
            return self._run(words, records, True)
        columns = words.reshape(-1, self.form)
        order = np.lexsort((records, *(columns[:, i] for i in range(self.form - 1, -1, -1))))
        inserted = np.zeros(len(records), np.bool_)
        inserted[order], done = self._run(columns[order].reshape(-1), records[order], True)
        return inserted, done

    def _remove(self, keys: Keys, records: I64, rows: I64) -> Bools:
        columns = self._words(keys).reshape(-1, self.form)
        removed = np.zeros(len(rows), np.bool_)
        words = np.ascontiguousarray(columns[rows]).reshape(-1)
        flags = removed.view(np.uint8)
        taken = _owned(records[rows], np.int64)
        fixed_remove_kernels.remove_fixed(self.pages.data, self.pages.dirty, self._path, words, taken, flags)
        return removed

    def _lookup(self, keys: Keys) -> tuple[I64, I64]:
        words = self._words(keys)
        offsets = np.empty(len(words) // self.form + 1, np.int64)
        out = np.empty(len(offsets) + 7, np.int64)
        total = fixed_scan_kernels.lookup_fixed(self.pages.data, words, offsets, out)
        if total > len(out):
            out = np.empty(total, np.int64)
            fixed_scan_kernels.lookup_fixed(self.pages.data, words, offsets, out)
        return offsets, out[:total]

    def fetch(self, low: Bound, high: Bound, reverse: bool, limit: int) -> tuple[I64, Any, int]:
        """See BTree.fetch."""
        bounds, last = self._bounds, self._last
        bounds[:3] = 0
        bounds[3:] = _ALL_ONES
        if low is not None:
            bounds[2 - self.form : 2], bounds[2] = low
        if high is not None:
            bounds[5 - self.form : 5], bounds[5] = high
        if self.form == layout.FORM_U64:
            bounds[3] = 0  # form u64 has no high word
        out = np.empty(min(limit, max(1, self.entry_count)), np.int64)
        run = fixed_scan_kernels.range_fixed_back if reverse else fixed_scan_kernels.range_fixed
        count = run(self.pages.data, bounds, out, last)
        return out[:count], last[2 - self.form : 2].copy(), int(last[2])


class SlottedBTree(BTree):
    """Keys of bytes; see slotted_kernels."""

    def __init__(self, pages: Pages) -> None:
        super().__init__(pages, layout.FORM_BYTES)
        self._scratch = np.zeros(3 * pages.page_size, np.uint8)
        self._last = np.zeros(2, np.int64)
        self.max_key_bytes: Final = layout.max_key_bytes(pages.page_size)

    def _parts(self, keys: Any) -> tuple[I64, U8]:
        if not isinstance(keys, tuple):
            raise errors.InternalError("packed keys in an index of bytes")
        offsets, data = keys
        return _owned(offsets, np.int64), _owned(data, np.uint8)

    def _as_keys(self, key: Key) -> Keys:
        data: U8 = one_key(key, self.form)
        return np.array([0, len(data)], np.int64), data

    def _run(self, offsets: I64, data: U8, order: I64, records: I64, packed: bool) -> tuple[Bools, int]:
        lengths = np.diff(offsets)
        if len(lengths) and int(lengths.max()) > self.max_key_bytes:
            raise errors.ProgramLimitExceeded(
                f"index row size {int(lengths.max())} exceeds maximum {self.max_key_bytes}",
                hint="Values larger than a quarter of an index page cannot be keys. "
                "Add a column with a hash of the value, such as md5(value), and make that the key.",
            )
        inserted = np.zeros(len(records), np.bool_)
        pages = self.pages
        flags = inserted.view(np.uint8)
        done = slotted_insert_kernels.insert_slotted(
            pages.data,
            pages.dirty,
            pages.limit,
            self._path,
            self._scratch,
            offsets,
            data,
            order,
            records,
            flags,
            packed,
        )
        return inserted, int(done)

    def _insert(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        offsets, data = self._parts(keys)
        return self._run(offsets, data, np.arange(len(records)), _owned(records, np.int64), False)

    def _insert_sorted(self, keys: Keys, records: I64) -> tuple[Bools, int]:
        offsets, data = self._parts(keys)
        records = _owned(records, np.int64)
        order = np.arange(len(records))
        slotted_scan_kernels.sort_pairs(offsets, data, records, order, np.empty_like(order))
        return self._run(offsets, data, order, records, True)

    def _remove(self, keys: Keys, records: I64, rows: I64) -> Bools:
        offsets, data = self._parts(keys)
        removed = np.zeros(len(records), np.bool_)
        flags = removed.view(np.uint8)
        numbers = _owned(records, np.int64)
        slotted_remove_kernels.remove_slotted(
            self.pages.data, self.pages.dirty, self._path, self._scratch, offsets, data, rows, numbers, flags
        )
        return removed

    def _lookup(self, keys: Keys) -> tuple[I64, I64]:
        key_offsets, data = self._parts(keys)
        offsets = np.empty(len(key_offsets), np.int64)
        out = np.empty(len(offsets) + 7, np.int64)
        total = slotted_scan_kernels.lookup_slotted(self.pages.data, key_offsets, data, offsets, out)
        if total > len(out):
            out = np.empty(total, np.int64)
            slotted_scan_kernels.lookup_slotted(self.pages.data, key_offsets, data, offsets, out)
        return offsets, out[:total]

    def fetch(self, low: Bound, high: Bound, reverse: bool, limit: int) -> tuple[I64, Any, int]:
        """See BTree.fetch."""
        low_key, low_record = (np.empty(0, np.uint8), np.uint64(0)) if low is None else low
        high_key, high_record = (np.empty(0, np.uint8), np.uint64(0)) if high is None else high
        out = np.empty(min(limit, max(1, self.entry_count)), np.int64)
        run = slotted_scan_kernels.range_slotted_back if reverse else slotted_scan_kernels.range_slotted
        last = self._last
        count = run(self.pages.data, low_key, low_record, high is not None, high_key, high_record, out, last)
        if count == 0:
            return out[:0], low_key, 0
        size = slotted_scan_kernels.copy_key(self.pages.data, last[0], last[1], self._scratch)
        return out[:count], self._scratch[:size].copy(), int(out[count - 1])
