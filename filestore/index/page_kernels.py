"""Pages as compiled code sees them: allocation, the free list, sibling links. Shared by both node forms.

`words` is the page memory as uint64[], `at` the word index of a page's first word, `path` a scratch array of the
descent: path[2 * level] is the page at that level and path[2 * level + 1] the slot taken in it (0 is the leaf level).

Every function that changes a page sets its dirty byte; the meta page's with it where a counter changes.

Thread rule: that of `filestore.index.base`. Not here: entries of nodes, and returning free pages to the memory's
owner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from filestore.index.layout import (
    COUNT,
    FORM_BYTES,
    FREE,
    HEADER_WORDS,
    HEAP,
    KIND,
    LEAF,
    LEVEL,
    META_ENTRIES,
    META_FORM,
    META_FREE_HEAD,
    META_FREE_PAGES,
    META_HEIGHT,
    META_INNER_CAPACITY,
    META_LEAF_CAPACITY,
    META_MAGIC,
    META_PAGE,
    META_PAGE_SIZE,
    META_PAGES,
    META_ROOT,
    META_VERSION,
    NEXT,
    NO_PAGE,
    PAGE,
    PREV,
    WORD,
)


@njit(nogil=True, cache=True)
def get(words: Any, index: int) -> Any:
    """A word as a signed integer: page numbers, counts and offsets all fit."""
    return np.int64(words[index])


@njit(nogil=True, cache=True)
def page_words(words: Any) -> Any:
    """Words of a page."""
    return np.int64(words[META_PAGE_SIZE]) // WORD


@njit(nogil=True, cache=True)
def pages_available(words: Any, limit: int) -> Any:
    """Pages that can still be allocated."""
    return get(words, META_FREE_PAGES) + limit - get(words, META_PAGES)


@njit(nogil=True, cache=True)
def allocate(words: Any, dirty: Any, kind: int, level: int) -> Any:
    """Takes a page from the free list, else from beyond the high-water mark.

    The caller has checked `pages_available`.
    """
    pw = page_words(words)
    page = get(words, META_FREE_HEAD)
    if page != NO_PAGE:
        words[META_FREE_HEAD] = words[page * pw + NEXT]
        words[META_FREE_PAGES] -= np.uint64(1)
    else:
        page = get(words, META_PAGES)
        words[META_PAGES] = page + 1
    at = page * pw
    words[at + KIND] = kind
    words[at + LEVEL] = level
    words[at + COUNT] = 0
    words[at + PAGE] = page
    words[at + PREV] = NO_PAGE
    words[at + NEXT] = NO_PAGE
    dirty[page] = 1
    dirty[META_PAGE] = 1
    return page


@njit(nogil=True, cache=True)
def release(words: Any, dirty: Any, page: int) -> None:
    """Zeroes a page and puts it on the free list."""
    pw = page_words(words)
    at = page * pw
    for i in range(at, at + pw):
        words[i] = 0
    words[at + KIND] = FREE
    words[at + PAGE] = page
    words[at + NEXT] = words[META_FREE_HEAD]
    words[META_FREE_HEAD] = page
    words[META_FREE_PAGES] += np.uint64(1)
    dirty[page] = 1
    dirty[META_PAGE] = 1


@njit(nogil=True, cache=True)
def link_after(words: Any, dirty: Any, left: int, right: int) -> None:
    """Puts the new page `right` behind `left` in its level's chain."""
    pw = page_words(words)
    behind = get(words, left * pw + NEXT)
    words[right * pw + PREV] = left
    words[right * pw + NEXT] = behind
    words[left * pw + NEXT] = right
    dirty[left] = 1
    dirty[right] = 1
    if behind != NO_PAGE:
        words[behind * pw + PREV] = right
        dirty[behind] = 1


@njit(nogil=True, cache=True)
def unlink(words: Any, dirty: Any, page: int) -> None:
    """Takes a page out of its level's chain."""
    pw = page_words(words)
    left = get(words, page * pw + PREV)
    right = get(words, page * pw + NEXT)
    if left != NO_PAGE:
        words[left * pw + NEXT] = right
        dirty[left] = 1
    if right != NO_PAGE:
        words[right * pw + PREV] = left
        dirty[right] = 1


@njit(nogil=True, cache=True)
def format_meta(
    words: Any, dirty: Any, magic: int, version: int, page_size: int, form: int, leaf: int, inner: int
) -> None:
    """Writes the meta page of an empty index whose root, a lone leaf, the caller allocates next."""
    words[META_MAGIC] = magic
    words[META_VERSION] = version
    words[META_PAGE_SIZE] = page_size
    words[META_FORM] = form
    words[META_ROOT] = NO_PAGE
    words[META_HEIGHT] = 1
    words[META_ENTRIES] = 0
    words[META_PAGES] = META_PAGE + 1
    words[META_FREE_HEAD] = NO_PAGE
    words[META_FREE_PAGES] = 0
    words[META_LEAF_CAPACITY] = leaf
    words[META_INNER_CAPACITY] = inner
    dirty[META_PAGE] = 1


@njit(nogil=True, cache=True)
def clear_body(words: Any, at: int, pw: int) -> None:
    """Zeroes everything behind a page's header."""
    for i in range(at + HEADER_WORDS, at + pw):
        words[i] = 0


@njit(nogil=True, cache=True)
def format_index(
    words: Any, dirty: Any, magic: int, version: int, page_size: int, form: int, leaf: int, inner: int
) -> None:
    """Writes the meta page and the root, an empty leaf, into zeroed pages."""
    format_meta(words, dirty, magic, version, page_size, form, leaf, inner)
    root = allocate(words, dirty, LEAF, 0)
    if form == FORM_BYTES:
        words[root * page_words(words) + HEAP] = page_size
    words[META_ROOT] = root
