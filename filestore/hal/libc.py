"""System calls that Python lacks or wraps unsuitably, through ctypes: fallocate, statx, mmap of a file.

Why mmap here: Python's `mmap` keeps a duplicate of the descriptor for the life of the map (until 3.13), and a
store with thousands of mapped segments would run out of descriptors.

Source: fallocate(2), statx(2), mmap(2). Every function raises OSError with the call's errno. It checks no
arguments.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import Any, Final

import numpy as np

from filestore.hal.file import Bytes

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

INTERRUPTED_MAX: Final = 8  # EINTR; Python retries it by itself only in its own calls
MAP_FAILED: Final = ctypes.c_void_p(-1).value

STATX_DIOALIGN: Final = 0x2000
AT_EMPTY_PATH: Final = 0x1000
STATX_BYTES: Final = 256
_STX_MASK: Final = 0  # offsets into struct statx
_STX_DIO_MEM_ALIGN: Final = 152
_STX_DIO_OFFSET_ALIGN: Final = 156


def fallocate(fd: int, size: int) -> None:
    """fallocate(2), mode 0. Not posix_fallocate: glibc's writes into every block where the kernel cannot."""
    number = 0
    for _ in range(INTERRUPTED_MAX):
        if _LIBC.fallocate(fd, 0, 0, size) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EINTR:
            break
    raise OSError(number, os.strerror(number))


def dio_alignment(fd: int) -> tuple[int, int] | None:
    """(memory, offset) alignment that statx names for an open file; (0, 0): no direct I/O; None: not told."""
    if not hasattr(_LIBC, "statx"):
        return None
    answer = (ctypes.c_ubyte * STATX_BYTES)()
    if _LIBC.statx(fd, b"", AT_EMPTY_PATH, STATX_DIOALIGN, ctypes.byref(answer)):
        return None
    words = np.frombuffer(bytes(answer), dtype="<u4")
    if not int(words[_STX_MASK // 4]) & STATX_DIOALIGN:
        return None
    return int(words[_STX_DIO_MEM_ALIGN // 4]), int(words[_STX_DIO_OFFSET_ALIGN // 4])


class _Mapping:
    """Owner of one map: numpy arrays made from it keep it alive, and its end unmaps."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._length = length
        self._address: int | None = None
        found = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, offset)
        if found == MAP_FAILED or found is None:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._address = found
        # True = read-only, and no array on top can be made writable: a store into the map would be SIGSEGV.
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (length,),
            "typestr": "|u1",
            "data": (found, True),
        }

    def __del__(self, munmap: Any = _LIBC.munmap) -> None:
        if self._address is not None:
            munmap(self._address, self._length)


def map_file(fd: int, offset: int, length: int) -> Bytes:
    """A private PROT_READ map of an open file as uint8[length], gone with its last view; needs no descriptor."""
    return np.asarray(_Mapping(fd, offset, length))
