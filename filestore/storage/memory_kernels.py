"""Loads, stores and copies at raw addresses, for kernels that follow a table's directory of base addresses.

A segment's vectors are many arrays of many dtypes; passing them all to a kernel costs more than the kernel.
So kernels get one int64 matrix of addresses (see `filestore.storage.directory`) and come here for the bytes.
Nothing is checked: the caller owns the proof that the address is live for the length of the call and that the
index is inside the vector.

Thread rule: the caller's.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_intrinsic: Any = intrinsic  # its types describe the typing function, not what kernels call
_memcpy: Any = cgutils.raw_memcpy


def _load(name: str, numba_type: Any, bits: int) -> Any:
    """An intrinsic `name(address) -> value` of the given type."""

    def build(_typing: Any, _address: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = context.get_value_type(numba_type)
            pointer = builder.inttoptr(args[0], kind.as_pointer())
            return builder.load(pointer, align=1)

        return numba_type(types.int64), codegen

    build.__name__ = name
    build.__qualname__ = name
    assert bits == numba_type.bitwidth
    return _intrinsic(build)


def _store(name: str, numba_type: Any, bits: int) -> Any:
    """An intrinsic `name(address, value)` of the given type."""

    def build(_typing: Any, _address: Any, _value: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = context.get_value_type(numba_type)
            pointer = builder.inttoptr(args[0], kind.as_pointer())
            builder.store(args[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, numba_type), codegen

    build.__name__ = name
    build.__qualname__ = name
    assert bits == numba_type.bitwidth
    return _intrinsic(build)


load_u8 = _load("load_u8", types.uint8, 8)
load_u16 = _load("load_u16", types.uint16, 16)
load_u32 = _load("load_u32", types.uint32, 32)
load_i64 = _load("load_i64", types.int64, 64)
store_u8 = _store("store_u8", types.uint8, 8)
store_u16 = _store("store_u16", types.uint16, 16)
store_u32 = _store("store_u32", types.uint32, 32)
store_i64 = _store("store_i64", types.int64, 64)


@_intrinsic
def copy_bytes(_typing: Any, _target: Any, _source: Any, _count: Any) -> Any:
    """copy_bytes(target, source, count): memcpy between addresses; the ranges must not overlap."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        byte = cgutils.voidptr_t
        target = builder.inttoptr(args[0], byte)
        source = builder.inttoptr(args[1], byte)
        _memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@njit(nogil=True, cache=True)
def copy_value(target: int, source: int, width: int) -> None:
    """Copies one value of 1, 2, 4, 8 or 16 bytes."""
    if width == 8:
        store_i64(target, load_i64(source))
    elif width == 16:
        store_i64(target, load_i64(source))
        store_i64(target + 8, load_i64(source + 8))
    elif width == 4:
        store_u32(target, load_u32(source))
    elif width == 2:
        store_u16(target, load_u16(source))
    else:
        store_u8(target, load_u8(source))
