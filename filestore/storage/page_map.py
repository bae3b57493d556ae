"""The page map: for each page of each arena its place in `pages/pages.dat` and its checksum. One file a checkpoint.

    header | PAGE_MAP_ARENA x arenas | PAGE_ENTRY x pages | zeros up to a multiple of 4096

Idea: a page's checksum lives outside of it, in a file that the manifest names with its own checksum, and is seeded
by what the page is and where and when it was written. So a flipped, swapped, misdirected, zeroed, stale or lost
page is seen (RELIABILITY R18). Entries have room for a nonce and a tag (R16).

Validity rule of a map file: name, length and body_crc are those in the manifest; header crc; counts that add up
exactly; slots distinct; reserved bytes zero. Decoding is total.
It does no page I/O: that is `page_store.py`.

Thread rule: values, used anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from filestore.errors import DataCorrupted
from filestore.storage.layout import (
    FORMAT_VERSION,
    NO_SLOT,
    PAGE_ENTRY,
    PAGE_MAP_ARENA,
    PAGE_MAP_HEADER,
    PAGE_MAP_MAGIC,
    PAGE_SEED,
    PAGE_SIZE,
    PAGES_DIR,
    Bytes,
    is_zero,
    round_up,
    struct_of,
)

Entries = NDArray[np.void]  # PAGE_ENTRY[pages]
_HEADER: Final = struct_of(PAGE_MAP_HEADER)
_HEADER_BYTES: Final = PAGE_MAP_HEADER.itemsize
_RESERVED: Final = bytes(56)
NAME_BYTES: Final = PAGE_MAP_ARENA["name"].itemsize
MAP_PREFIX: Final = "map."


@dataclass(frozen=True, slots=True)
class MapHeader:
    """What identifies a map file: the manifest repeats length and crc."""

    sequence: int
    length: int
    crc: int

    @property
    def path(self) -> str:
        return map_path(self.sequence)


def map_path(sequence: int) -> str:
    """Path of the map that checkpoint `sequence` writes."""
    return f"{PAGES_DIR}/{MAP_PREFIX}{sequence:012}"


def new_entries(count: int) -> Entries:
    """Entries of pages that were never written."""
    entries = np.zeros(count, PAGE_ENTRY)
    entries["slot"] = NO_SLOT
    return entries


def encode(arenas: dict[str, Entries], uuid: bytes, sequence: int) -> tuple[Bytes, MapHeader]:
    """(the whole file, what the manifest has to say of it)."""
    table = np.zeros(len(arenas), PAGE_MAP_ARENA)
    first = 0
    for i, (name, entries) in enumerate(sorted(arenas.items())):
        raw = name.encode()
        table[i] = (raw, len(raw), len(entries), first)
        first += len(entries)
    pieces = [table.tobytes(), *(entries.tobytes() for _, entries in sorted(arenas.items()))]
    body_bytes = sum(map(len, pieces))
    length = round_up(_HEADER_BYTES + body_bytes)
    body = b"".join([*pieces, bytes(length - _HEADER_BYTES - body_bytes)])
    crc = google_crc32c.value(body)
    fields = (PAGE_MAP_MAGIC, FORMAT_VERSION, PAGE_SIZE, uuid, sequence, len(arenas), first, length, crc, _RESERVED)
    header_crc = google_crc32c.value(_HEADER.pack(*fields, 0)[:-4])
    data = np.frombuffer(_HEADER.pack(*fields, header_crc) + body, np.uint8)
    return data, MapHeader(sequence, length, crc)


def decode(data: Bytes, path: str, uuid: bytes, length: int, crc: int) -> dict[str, Entries]:
    """The arenas of a map file of which the manifest says `length` and `crc`. Raises DataCorrupted."""
    problem = _problem(data, path, uuid, length, crc)
    if problem is not None:
        raise DataCorrupted(f"file {path} is damaged at offset 0: {problem}")
    *_, count, pages, _, _, _, _ = _HEADER.unpack(data[:_HEADER_BYTES].tobytes())
    start = _HEADER_BYTES + count * PAGE_MAP_ARENA.itemsize
    table = np.frombuffer(data, PAGE_MAP_ARENA, count, _HEADER_BYTES)
    everything = np.frombuffer(data, PAGE_ENTRY, pages, start)
    arenas: dict[str, Entries] = {}
    expected = 0
    for raw, name_length, used, first in table.tolist():
        if len(raw) != name_length or first != expected or first + used > pages:
            raise DataCorrupted(f"file {path} is damaged: its arenas do not add up")
        arenas[raw.decode()] = everything[first : first + used].copy()
        expected += used
    slots = everything["slot"]
    live = slots[slots != NO_SLOT]
    if expected != pages or bool((live < 0).any()) or np.unique(live).size != live.size:
        raise DataCorrupted(f"file {path} is damaged: two pages claim one place")
    return arenas


def _problem(data: Bytes, path: str, uuid: bytes, length: int, crc: int) -> str | None:
    if data.size != length or length < _HEADER_BYTES:
        return f"it has {data.size} bytes instead of {length}"
    header = data[:_HEADER_BYTES].tobytes()
    magic, version, page_size, its_uuid, sequence, arenas, pages, its_length, body_crc, reserved, header_crc = (
        _HEADER.unpack(header)
    )
    if magic != PAGE_MAP_MAGIC or header_crc != google_crc32c.value(header[:-4]):
        return "the header's checksum does not match"
    if body_crc != crc or google_crc32c.value(data[_HEADER_BYTES:]) != crc:
        return "the checksum does not match"
    if version != FORMAT_VERSION or page_size != PAGE_SIZE or its_uuid != uuid or reserved != _RESERVED:
        return "it belongs to another store or version"
    if map_path(sequence) != path or its_length != length:
        return "it is not the map that it is named after"
    used = _HEADER_BYTES + arenas * PAGE_MAP_ARENA.itemsize + pages * PAGE_ENTRY.itemsize
    if used > length or not is_zero(data[used:]):
        return "its counts do not fit its length"
    return None


def page_seeds(
    uuid: bytes, name: str, pages: NDArray[Any], slots: NDArray[Any], generations: NDArray[Any]
) -> list[bytes]:
    """PAGE_SEED of each page: what its checksum begins with."""
    seeds = np.zeros(len(pages), PAGE_SEED)
    seeds["uuid"] = np.void(uuid)
    seeds["name_crc"] = google_crc32c.value(name.encode())
    seeds["page"] = pages
    seeds["slot"] = slots
    seeds["generation"] = generations
    raw = seeds.tobytes()
    size = PAGE_SEED.itemsize
    return [raw[i : i + size] for i in range(0, len(raw), size)]


def page_crcs(seeds: list[bytes], data: Bytes) -> NDArray[np.uint32]:
    """Checksum of each row of uint8[k, PAGE_SIZE]."""
    value, extend = google_crc32c.value, google_crc32c.extend
    return np.array([extend(value(seed), row) for seed, row in zip(seeds, data, strict=True)], np.uint32)
