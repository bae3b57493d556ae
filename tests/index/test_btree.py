"""The B+Tree against a set of pairs, on pages so small that everything splits and merges; `check` after every step."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import pytest

from filestore import errors
from filestore.index import layout
from filestore.index.base import Cursor, Index, Position
from filestore.index.btree import open_btree
from filestore.index.find_kernels import find_bytes, find_next_bytes, find_next_u64, find_next_u128, find_u64, find_u128
from tests.index.memory_pages import MemoryPages, bytes_keys
from tests.index.model import FORMS, PAGE_SIZES, Pair, key_of, keys_of

everywhere = pytest.mark.parametrize(("form", "page_size"), list(itertools.product(FORMS, PAGE_SIZES)))
each_form = pytest.mark.parametrize("form", FORMS)
KEYS = 150


def random_pairs(rng, count, keys=KEYS, records=4):
    return [(rng.randrange(keys), rng.randrange(records)) for _ in range(count)]


@everywhere
def test_random_steps_against_the_model(form, page_size, rng):
    pair = Pair.make(form, page_size)
    for step in range(150):
        growing = step % 80 < 45
        pairs = random_pairs(rng, rng.randrange(1, 40))
        if rng.random() < (0.8 if growing else 0.2):
            pair.insert(pairs)
        else:
            pair.remove(
                pairs if growing or not pair.model else [*pairs, *rng.sample(sorted(pair.model), len(pair.model) // 8)]
            )
        pair.verify()
        if rng.random() < 0.1:
            pair.reopen()
    pair.remove(sorted(pair.model))
    pair.verify()
    assert pair.tree.height == 1
    pair.insert(random_pairs(rng, 200))
    pair.verify()


@everywhere
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_one_by_one_and_back(form, page_size, order, rng):
    pair = Pair.make(form, page_size)
    pairs = [(n, n % 3) for n in range(400)]
    if order == "descending":
        pairs.reverse()
    elif order == "shuffled":
        rng.shuffle(pairs)
    for one in pairs:
        pair.insert([one])
    pair.verify()
    assert pair.tree.height >= (3 if page_size == 256 else 2)
    rng.shuffle(pairs)
    for i, one in enumerate(pairs):
        pair.remove([one])
        if i % 20 == 0:
            pair.verify()
    pair.verify()
    free = int(pair.pages.data[: layout.META.itemsize].view(layout.META)["free_pages"][0])
    assert (pair.tree.height, pair.tree.page_count - free) == (1, 2)


@everywhere
def test_build_is_insert(form, page_size, rng):
    pairs = random_pairs(rng, 1500, keys=600)
    numbers, records = [k for k, _ in pairs], np.array([r for _, r in pairs])
    built, filled = (open_btree(MemoryPages(4000, page_size), form) for _ in range(2))
    built.build(keys_of(form, numbers), records)
    filled.insert(keys_of(form, [10**4]), np.array([1]))
    filled.insert(keys_of(form, numbers), records)
    filled.remove(keys_of(form, [10**4]), np.array([1]))
    built.check()
    filled.check()
    assert built.entry_count == filled.entry_count == len(set(pairs))
    assert np.array_equal(built.range(), filled.range())
    assert built.page_count < filled.page_count
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        built.build(keys_of(form, [1]), np.array([1]))


@everywhere
def test_ranges_and_lookups(form, page_size, rng):
    pair = Pair.make(form, page_size)
    pair.insert(random_pairs(rng, 500, records=12))
    ordered = sorted(pair.model)
    tree = pair.tree
    for _ in range(150):
        low, high = (rng.choice([None, rng.randrange(-0, KEYS + 2)]) for _ in range(2))
        with_low, with_high, reverse = (rng.random() < 0.5 for _ in range(3))
        expected = [
            (k, r)
            for k, r in ordered
            if (low is None or k > low or (with_low and k == low))
            and (high is None or k < high or (with_high and k == high))
        ]
        if reverse:
            expected.reverse()
        low_key, high_key = (None if n is None else key_of(form, n) for n in (low, high))
        arguments = (low_key, with_low, high_key, with_high)
        records = [r for _, r in expected]
        assert tree.range(*arguments, reverse=reverse).tolist() == records
        limit = rng.randrange(0, 40)
        assert tree.range(*arguments, reverse=reverse, limit=limit).tolist() == records[:limit]
        if expected:
            at = rng.randrange(len(expected))
            after = Position(key_of(form, expected[at][0]), expected[at][1])
            assert tree.range(*arguments, reverse=reverse, after=after).tolist() == records[at + 1 :]
    numbers = [rng.randrange(KEYS + 5) for _ in range(60)]
    offsets, found = tree.lookup_many(keys_of(form, numbers))
    for i, number in enumerate(numbers):
        wanted = [r for k, r in ordered if k == number]
        assert found[offsets[i] : offsets[i + 1]].tolist() == wanted
        assert tree.lookup(key_of(form, number)).tolist() == wanted


@everywhere
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_survives_changes(form, page_size, reverse, rng):
    """Every pair that is there throughout is met once; the tree splits and merges between the fetches."""
    pair = Pair.make(form, page_size)
    stays = [(k, 1) for k in range(0, 300, 3)]
    pair.insert(stays)
    cursor: Cursor = pair.tree.scan(reverse=reverse)
    met: list[int] = []
    positions = []
    while len(cursor.fetch(1)):
        assert cursor.position is not None
        positions.append(cursor.position.key)
        noise = [(rng.randrange(300), rng.choice([0, 2, 3])) for _ in range(30)]
        (pair.insert if rng.random() < 0.6 else pair.remove)(noise)
        met.append(cursor.position.record)
        if cursor.position.record == 1:
            pair.verify()
    assert sum(record == 1 for record in met) == len(stays)
    assert positions == sorted(positions, reverse=reverse)
    assert len(cursor.fetch(10)) == 0


@each_form
def test_find_kernels(form, rng):
    pair = Pair.make(form, 256)
    pair.insert(random_pairs(rng, 400, records=40))
    data = pair.pages.data
    for number in range(KEYS + 3):
        key: Any = key_of(form, number)
        found = []
        if form == "u64":
            record = find_u64(data, key)
            while record >= 0:
                found.append(record)
                record = find_next_u64(data, key, record)
        elif form == "u128":
            find_next: Any = find_next_u128
            record = find_u128(data, *key)
            while record >= 0:
                found.append(record)
                record = find_next(data, *key, record)
        else:
            text = np.frombuffer(b"??" + key + b"?", np.uint8).copy()
            record = find_bytes(data, text, 2, 2 + len(key))
            while record >= 0:
                found.append(record)
                record = find_next_bytes(data, text, 2, 2 + len(key), record)
        assert found == sorted(r for k, r in pair.model if k == number)


@each_form
def test_extreme_keys_and_records(form):
    tree = open_btree(MemoryPages(100, 256), form)
    all_ends: dict[str, list[Any]] = {
        "u64": [0, 2**64 - 1],
        "u128": [(0, 0), (2**64 - 1, 2**64 - 1)],
        "bytes": [b"", b"\xff" * 16],
    }
    ends = all_ends[form]
    keys = bytes_keys(ends) if form == "bytes" else np.array(ends, np.uint64)
    records = np.array([2**63 - 1, 2**63 - 1])
    for record in (0, 1, 2**63 - 1):
        tree.insert(keys, np.full(2, record))
    tree.check()
    for key in ends:
        assert tree.lookup(key).tolist() == [0, 1, 2**63 - 1]
        assert tree.range(key, True, key, True, reverse=True).tolist() == [2**63 - 1, 1, 0]
        assert tree.range(key, False, key, True).tolist() == []
    assert tree.range(after=Position(ends[0], 2**63 - 1)).tolist() == [0, 1, 2**63 - 1]
    assert tree.remove(keys, records).all()
    with pytest.raises(errors.InternalError):
        tree.insert(keys, np.array([1, -1]))


@each_form
def test_running_out_of_pages_changes_nothing(form, rng):
    pages = MemoryPages(12, 256)
    tree = open_btree(pages, form)
    assert isinstance(tree, Index)
    tree.insert(keys_of(form, [1, 2, 3]), np.array([1, 1, 1]))
    numbers = [rng.randrange(10**4) for _ in range(2000)]
    with pytest.raises(errors.ProgramLimitExceeded) as caught:
        tree.insert(keys_of(form, numbers), np.full(len(numbers), 7))
    assert caught.value.hint
    tree.check()
    assert tree.range().tolist() == [1, 1, 1]
    empty = open_btree(MemoryPages(12, 256), form)
    with pytest.raises(errors.ProgramLimitExceeded):
        empty.build(keys_of(form, sorted(numbers)), np.full(len(numbers), 7))
    empty.check()
    assert empty.entry_count == 0


def test_long_byte_keys(rng):
    """Keys of every length up to the limit split into nodes that fit; one byte more is refused beforehand."""
    for page_size in (256, 1024):
        pair = Pair.make("bytes", page_size)
        longest = layout.max_key_bytes(page_size)
        model: set[tuple[bytes, int]] = set()
        for step in range(120):
            batch = [rng.choice([b"a", b"b"]) * rng.randrange(longest + 1) for _ in range(rng.randrange(1, 12))]
            batch = [key[: rng.randrange(len(key) + 1)] + rng.randbytes(2)[: longest - len(key)] for key in batch]
            records = np.array([rng.randrange(3) for _ in batch])
            change = pair.tree.insert if rng.random() < (0.7 if step < 60 else 0.3) else pair.tree.remove
            change(bytes_keys(batch), records)
            same = set(zip(batch, records.tolist(), strict=True))
            model = model | same if change == pair.tree.insert else model - same
            pair.tree.check()
            assert pair.tree.range().tolist() == [r for _, r in sorted(model)]
        with pytest.raises(errors.ProgramLimitExceeded) as caught:
            pair.tree.insert(bytes_keys([b"x", b"y" * (longest + 1)]), np.array([1, 2]))
        assert caught.value.hint
        assert pair.tree.entry_count == len(model)


@each_form
def test_opening_the_wrong_thing(form):
    pages = MemoryPages(50, 256)
    open_btree(pages, form)
    other = FORMS[(FORMS.index(form) + 1) % 3]
    with pytest.raises(errors.IndexCorrupted):
        open_btree(pages, other)
    with pytest.raises(errors.IndexCorrupted):
        open_btree(_resized(pages, 512), form)
    pages.data[0] ^= 1
    with pytest.raises(errors.IndexCorrupted):
        open_btree(pages, form)


def _resized(pages: MemoryPages, page_size: int) -> MemoryPages:
    found = MemoryPages(pages.limit, page_size)
    found.data[: len(pages.data)] = pages.data
    return found


@each_form
def test_check_sees_damage(form, rng):
    """A flipped bit is found, unless it makes another sound tree: one pair of a leaf has become another one, or a
    separator has moved where no key lies in between."""
    pair = Pair.make(form, 256)
    pair.insert(random_pairs(rng, 300))
    pair.remove(random_pairs(rng, 200))
    sound = pair.pages.data.copy()
    used = pair.tree.page_count * 256
    ordered = sorted(pair.model)
    keys = keys_of(form, [key for key, _ in ordered])
    caught = 0
    for _ in range(2000):
        place = rng.randrange(used)
        pair.pages.data[:] = sound
        pair.pages.data[place] ^= 1 << rng.randrange(8)
        try:
            pair.tree.check()
        except (errors.IndexCorrupted, errors.IncompatibleFormat):
            caught += 1
            continue
        offsets, records = pair.tree.lookup_many(keys)
        lost = [p for p, (a, b) in zip(ordered, itertools.pairwise(offsets), strict=True) if p[1] not in records[a:b]]
        kind = int(sound.view(np.uint64)[place // 256 * 32 + layout.KIND])
        assert place >= 256 and kind in (layout.LEAF, layout.INNER), f"byte {place} of the meta page or a free one"
        assert len(lost) == (kind == layout.LEAF), f"byte {place}: {lost}"
        assert len(pair.tree.range()) == len(ordered)
    assert caught > 600


@each_form
def test_check_names_the_page(form):
    pair = Pair.make(form, 256)
    pair.insert([(k, 0) for k in range(100)])
    words = pair.pages.data.view(np.uint64)
    for page in range(1, pair.tree.page_count):
        kept = words[page * 32 + layout.PAGE]
        words[page * 32 + layout.PAGE] = 99
        with pytest.raises(errors.IndexCorrupted, match=f"page {page} "):
            pair.tree.check()
        words[page * 32 + layout.PAGE] = kept
    pair.tree.check()


GOLDEN = {"u64": 2462987597, "u128": 2968828641, "bytes": 3718139317}


@each_form
def test_golden_pages(form):
    """The bytes of a small tree, format version 1. If this fails, raise layout.VERSION or the change is a mistake."""
    pair = Pair.make(form, 256, limit=64)
    pair.insert([(k * 7 % 101, k % 3) for k in range(60)])
    pair.insert([(k * 5 % 101, k % 2) for k in range(60)])
    pair.remove([(k * 7 % 101, k % 3) for k in range(0, 60, 2)])
    pair.verify()
    assert zlib.crc32(pair.pages.data.tobytes()) == GOLDEN[form]
