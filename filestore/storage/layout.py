"""Every structure that the durability half puts on disk, each defined once, as an `np.dtype` with explicit offsets.

Idea: writers, readers, the verifier and docs/durability.md all derive from these dtypes; nobody types an offset.
Integers are little-endian, lengths and offsets are bytes, reserved bytes are zero and checked. `record()` builds one
from (name, format) pairs packed without gaps and asserts its size: a changed field cannot move its neighbours unseen.

Versions: FORMAT_VERSION counts incompatible changes of the whole directory. The manifest's feature bits name additions:
an unknown incompatible bit refuses the directory, an unknown read-only bit opens it for reading only.

It does not hold: the bytes of a row (`row_kernels.py` tells them), index pages (`filestore.index.layout`) and
registry JSON; those are payload here. Thread rule: constants.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

FORMAT_VERSION: Final = 1
BLOCK: Final = 4096  # unit of every write: the hal's alignment
PAGE_SIZE: Final = 16384  # page of an arena: 4 blocks, one checksum

# Feature bits known to this version, see `manifest.py`.
INCOMPATIBLE_BITS: Final = 0
READ_ONLY_BITS: Final = 0

MANIFEST_MAGIC: Final = b"FSmanif\x01"
PAGE_MAP_MAGIC: Final = b"FSpgmap\x01"
LOG_FILE_MAGIC: Final = b"FSlogfl\x01"
BATCH_MAGIC: Final = 0x01484354_41425346  # the bytes "FSBATCH\x01"
SEALED_MAGIC: Final = b"FSsegmt\x01"

LOG_DIR: Final = "wal"
PAGES_DIR: Final = "pages"
TABLES_DIR: Final = "tables"
PAGES_FILE: Final = "pages/pages.dat"
MANIFEST_FILE: Final = "manifest"
MANIFEST_TEMP: Final = "manifest.new"

FIRST_LSN: Final = BLOCK  # so that LSN 0 means "never"
NO_SLOT: Final = -1  # a page of zeros that was never written


def record(size: int, *fields: tuple[str, str]) -> np.dtype[np.void]:
    """A packed little-endian structure; AssertionError when the fields do not add up to `size`."""
    dtype = np.dtype([(name, form) for name, form in fields])
    assert dtype.itemsize == size, f"{dtype.itemsize} bytes of fields in a structure of {size}"
    return dtype


def struct_of(dtype: np.dtype[np.void]) -> struct.Struct:
    """The same structure for `struct`, which packs one record ten times as fast as numpy does."""
    codes = {"u1": "B", "<u2": "H", "<u4": "I", "<i4": "i", "<u8": "Q", "<i8": "q"}
    parts = []
    assert dtype.names is not None
    for name in dtype.names:
        field = dtype[name]
        parts.append(f"{field.itemsize}s" if field.kind in "SV" else codes[field.str.replace("|", "")])
    packed = struct.Struct("<" + "".join(parts))
    assert packed.size == dtype.itemsize
    return packed


def offset_of(dtype: np.dtype[np.void], field: str) -> int:
    """Byte offset of a field."""
    assert dtype.fields is not None
    return int(dtype.fields[field][1])


MANIFEST_HEADER: Final = record(
    128,
    ("magic", "V8"),
    ("format_version", "<u4"),
    ("incompatible", "<u4"),  # feature bits: unknown one here = refuse
    ("read_only", "<u4"),  # feature bits: unknown one here = open read-only
    ("reserved", "<u4"),
    ("uuid", "V16"),
    ("sequence", "<u8"),  # one more at each switch
    ("length", "<u8"),  # bytes of JSON right after this header
    ("copy_bytes", "<u8"),  # header + JSON + zeros; the second copy starts there
    ("body_crc", "<u4"),  # crc32c of everything of this copy after the header
    ("previous_crc", "<u4"),  # header_crc of the manifest before this one
    ("reserved_key", "V52"),  # key id, nonce and tag of an encrypted directory
    ("header_crc", "<u4"),  # crc32c of the bytes before
)

PAGE_MAP_HEADER: Final = record(
    128,
    ("magic", "V8"),
    ("format_version", "<u4"),
    ("page_size", "<u4"),
    ("uuid", "V16"),
    ("sequence", "<u8"),
    ("arenas", "<u8"),
    ("pages", "<u8"),
    ("length", "<u8"),  # of the whole file
    ("body_crc", "<u4"),
    ("reserved", "V56"),
    ("header_crc", "<u4"),
)
PAGE_MAP_ARENA: Final = record(
    128,
    ("name", "S104"),
    ("name_length", "<u8"),
    ("used_pages", "<u8"),
    ("first_entry", "<u8"),  # its used_pages entries start here
)
PAGE_ENTRY: Final = record(
    64,
    ("slot", "<i8"),  # place in pages.dat, in pages; NO_SLOT = zeros
    ("generation", "<u8"),  # sequence of the checkpoint that wrote it
    ("crc", "<u4"),  # crc32c of PAGE_SEED, then the page
    ("reserved", "<u4"),
    ("nonce", "V16"),  # room for encryption, zero
    ("tag", "V16"),
    ("reserved2", "V8"),
)
PAGE_SEED: Final = record(  # what a page's checksum begins with: a page in a wrong place or of an old time fails
    48,
    ("uuid", "V16"),
    ("name_crc", "<u8"),
    ("page", "<u8"),
    ("slot", "<u8"),
    ("generation", "<u8"),
)

LOG_FILE_HEADER: Final = record(  # at offset 0, the rest of the first BLOCK is zero
    128,
    ("magic", "V8"),
    ("format_version", "<u4"),
    ("block", "<u4"),
    ("uuid", "V16"),
    ("epoch", "<u8"),  # one more at each recovery
    ("salt", "<u8"),  # random at each use of the file, so that a recycled file's old batches never validate
    ("first_lsn", "<u8"),  # LSN of the byte at offset BLOCK
    ("file_bytes", "<u8"),
    ("file_number", "<u8"),
    ("previous_hash", "<u8"),  # hash of the last batch before first_lsn
    ("key_id", "<u8"),
    ("reserved", "V36"),
    ("header_crc", "<u4"),  # of the whole block with this field zero
)
BATCH_HEADER: Final = record(
    96,
    ("magic", "<u8"),
    ("lsn", "<u8"),  # its own position
    ("epoch", "<u8"),
    ("length", "<u4"),  # header, fragments and zeros: a multiple of BLOCK
    ("payload", "<u4"),  # bytes of fragments after the header
    ("groups", "<u4"),  # groups that end in this batch
    ("flags", "<u4"),
    ("previous_hash", "<u8"),  # `hash` of the batch before
    ("durable_lsn", "<u8"),  # known to be durable when this batch was built
    ("reserved", "V24"),
    ("hash", "<u8"),  # xxh3_64 of the whole batch with hash and header_crc zero, seeded by uuid, epoch, salt and LSN
    ("reserved2", "<u4"),
    ("header_crc", "<u4"),  # crc32c of the header before this field
)
FRAGMENT_HEADER: Final = record(8, ("length", "<u4"), ("flags", "<u4"))  # then `length` bytes, padded to 8
FRAGMENT_FIRST: Final = 1  # a group begins
FRAGMENT_LAST: Final = 2  # and ends

GROUP_HEADER: Final = record(
    48,
    ("length", "<u8"),  # of the whole group
    ("transaction", "<u8"),
    ("commit_timestamp", "<i8"),
    ("records", "<u4"),
    ("flags", "<u4"),
    ("reserved", "<u8"),
    ("crc", "<u4"),  # crc32c of the group with this field zero
    ("reserved2", "<u4"),
)
RECORD_ENTRY: Final = record(  # the group's directory, right after its header
    32,
    ("storage_id", "<i8"),
    ("offset", "<u8"),  # of the payload, from the start of the group; a multiple of 8
    ("length", "<u8"),
    ("kind", "<u4"),
    ("reserved", "<u4"),
)

ROW_IMAGE: Final = record(  # a ROWS record: this, if linked all ROW_RECORDs and all ROW_PREVIOUSes, then the rows
    24,
    ("first", "<i8"),  # address of the first row; the others follow it in its segment
    ("count", "<i8"),
    ("flags", "<i8"),
)
ROW_IMAGE_LINKED: Final = 1
ROW_RECORD: Final = record(8, ("record", "<i8"))  # of each row: its record number + 1
ROW_PREVIOUS: Final = record(8, ("previous", "<i8"))  # of each row: the address of the version it replaces, + 1
ROW_END: Final = record(8, ("address", "<i8"))  # an ENDS record: one for each version that ended

SEALED_HEADER: Final = record(  # at offset 0, the rest of the first BLOCK is zero
    192,
    ("magic", "V8"),
    ("format_version", "<u4"),
    ("flags", "<u4"),
    ("uuid", "V16"),
    ("storage_id", "<i8"),
    ("segment", "<i8"),
    ("rows", "<u8"),
    ("columns", "<u4"),
    ("buffers", "<u4"),
    ("chunks", "<u4"),
    ("chunk_bytes", "<u4"),
    ("begin", "<i8"),  # the one begin of all rows when flag SEALED_BEGIN_SCALAR is set
    ("footer_offset", "<u8"),
    ("footer_length", "<u8"),
    ("file_bytes", "<u8"),
    ("footer_crc", "<u4"),
    ("reserved", "V80"),
    ("header_crc", "<u4"),  # of the whole block with this field zero
)
SEALED_BEGIN_SCALAR: Final = 1
SEALED_COLUMN: Final = record(
    96,
    ("minimum", "V16"),
    ("maximum", "V16"),
    ("null_count", "<u8"),
    ("distinct", "<u8"),  # estimate, 0 = unknown
    ("flags", "<u4"),
    ("reserved", "<u4"),
    ("reserved2", "V40"),
)
SEALED_HAS_ZONE: Final = 1  # minimum and maximum say something
SEALED_BUFFER: Final = record(
    64,
    ("column", "<i4"),  # ordinal, or one of the hidden columns below 0
    ("role", "<u4"),
    ("dtype", "S8"),
    ("inner", "<u4"),  # elements of one value: 2 for 16-byte forms, else 1
    ("reserved", "<u4"),
    ("count", "<u8"),  # values
    ("offset", "<u8"),  # in the file, a multiple of BLOCK
    ("length", "<u8"),  # bytes; zeros follow up to the next BLOCK
    ("first_chunk", "<u4"),
    ("chunk_count", "<u4"),
    ("reserved2", "<u8"),
)
SEALED_CHUNK: Final = record(  # of `chunk_bytes` of a buffer, the zeros behind it included
    40,
    ("crc", "<u4"),  # crc32c of SEALED_SEED, then the bytes
    ("reserved", "<u4"),
    ("nonce", "V16"),
    ("tag", "V16"),
)
SEALED_SEED: Final = record(24, ("uuid", "V16"), ("offset", "<u8"))

ALL: Final = {
    name: value for name, value in list(globals().items()) if isinstance(value, np.dtype) and value.names is not None
}


def describe() -> str:
    """Markdown tables of every structure, offsets included: docs/durability.md holds them, and a test compares."""
    lines = []
    for name, dtype in ALL.items():
        assert dtype.names is not None
        lines += [f"### {name}: {dtype.itemsize} bytes", "", "| offset | bytes | field | form |", "|---|---|---|---|"]
        for field in dtype.names:
            found = dtype[field]
            form = {"V": "bytes", "S": "text, zero-padded", "u": "unsigned", "i": "signed"}[found.kind]
            lines.append(f"| {offset_of(dtype, field)} | {found.itemsize} | {field} | {form} |")
        lines.append("")
    return "\n".join(lines)


def round_up(nbytes: int, unit: int = BLOCK) -> int:
    """The least multiple of `unit` that is not below `nbytes`."""
    return -(-nbytes // unit) * unit


def crc_of(parts: Iterable[Any], start: int = 0) -> int:
    """crc32c of bytes objects or uint8 arrays one after the other, going on from `start`."""
    crc = start
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return int(crc)


def is_zero(data: Bytes) -> bool:
    """Whether every byte is zero."""
    return not data.any()
