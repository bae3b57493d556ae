"""Verifies a B+Tree and says what is wrong where. Product code: run by the verifier, `filestore check`, and tests.

Checked: the meta page against the memory; each node's kind, level, own number, fill, order, cells, zeroed free bytes;
sibling links both ways; equal depth; each separator against the leaf entries beside it; entry and page counts; every
page reachable once or free.

Thread rule: that of `filestore.index.base`. Not here: entries against rows (`filestore.txn.check`), and repairs: an
index is built again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from filestore import errors
from filestore.index import check_kernels, layout
from filestore.index.base import Pages

MESSAGES: Final = {
    check_kernels.BAD_KIND: "node has the wrong kind or level",
    check_kernels.BAD_NUMBER: "page carries another page's number",
    check_kernels.BAD_COUNT: "fill is impossible",
    check_kernels.BAD_PREV: "link to the left sibling is wrong",
    check_kernels.BAD_CHILD: "child is out of bounds, in the wrong place, or has two parents",
    check_kernels.BAD_ORDER: "entries do not ascend",
    check_kernels.BAD_BOUND: "entry lies outside its separators",
    check_kernels.BAD_FREE_BYTES: "free bytes are not zero",
    check_kernels.BAD_ENTRIES: "number of entries differs from the meta page's",
    check_kernels.BAD_FREE_LIST: "free list is broken",
    check_kernels.UNREACHABLE: "page is neither reachable nor free",
    check_kernels.BAD_CELL: "cell is out of bounds, overlaps another, or its slot's head differs",
    check_kernels.BAD_SEPARATOR: "first slot of an inner node has a separator",
    check_kernels.BAD_RECORD: "record number is negative",
    check_kernels.BAD_CHAIN: "sibling link is out of bounds, or the level goes on behind the last parent",
}


def corrupted(page: int, message: str, page_size: int) -> errors.IndexCorrupted:
    """The error for a damaged page; the caller adds the file."""
    return errors.IndexCorrupted(
        f"index page {page} is damaged: {message}",
        detail=f"byte offset {page * page_size} of the index",
        hint="Dropping and creating the index again rebuilds it from its table.",
    )


def check_meta(pages: Pages, form: int) -> None:
    """Verifies the meta page: the few fields that every kernel trusts.

    Raises IndexCorrupted or IncompatibleFormat.
    """
    meta = pages.data[: layout.META.itemsize].view(layout.META)[0]
    size = pages.page_size
    if int(meta["magic"]) != layout.MAGIC:
        raise corrupted(layout.META_PAGE, "not a B+Tree", size)
    if int(meta["version"]) != layout.VERSION:
        raise errors.IncompatibleFormat(f"index has format version {meta['version']}, this is {layout.VERSION}")
    if int(meta["page_size"]) != size:
        raise corrupted(layout.META_PAGE, f"pages of {meta['page_size']} bytes opened as {size}", size)
    if int(meta["form"]) != form:
        raise corrupted(layout.META_PAGE, f"keys of form {meta['form']} opened as form {form}", size)
    used = int(meta["pages"])
    capacities = (int(meta["leaf_capacity"]), int(meta["inner_capacity"]))
    sound = (
        2 <= used <= pages.limit
        and 1 <= int(meta["root"]) < used
        and 1 <= int(meta["height"]) <= layout.MAX_HEIGHT
        and int(meta["free_head"]) < used
        and int(meta["free_pages"]) < used
        and capacities == (layout.leaf_capacity(form, size), layout.inner_capacity(form, size))
    )
    if not sound:
        raise corrupted(layout.META_PAGE, "meta page contradicts itself or the memory", size)


def check_pages(pages: Pages, form: int) -> None:
    """Verifies everything. Raises IndexCorrupted with the page's number.

    O(entries), reads every page once or twice.
    """
    check_meta(pages, form)
    meta = pages.data[: layout.META.itemsize].view(layout.META)[0]
    seen = np.zeros(int(meta["pages"]), np.uint8)
    mark = np.zeros(pages.page_size // layout.WORD, np.uint8)
    code, page = check_kernels.check_tree(pages.data, seen, mark)
    if code != check_kernels.OK:
        raise corrupted(page, MESSAGES[code], pages.page_size)
