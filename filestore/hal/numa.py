"""NUMA through libnuma by ctypes, or a twin that does nothing and says why.

Idea: callers never ask whether there is NUMA. `get_numa()` gives an object whose methods place threads and
memory, or are no-ops on one-node machines and without the library; `describe()` tells which.

Source: numa(3), mbind(2), sched_setaffinity(2). It does not do: policies other than bind, page migration.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
from typing import Final, Protocol

from filestore.errors import InternalError
from filestore.hal.process import pin_current_thread

MPOL_BIND: Final = 2
MPOL_MF_MOVE: Final = 2
NODES_MAX: Final = 1024


class NumaPolicy(Protocol):
    """What both twins offer. Node numbers start at 0."""

    def node_count(self) -> int: ...

    def run_on_node(self, node: int) -> None:
        """Lets the current thread run on the cores of `node` only."""
        ...

    def bind(self, address: int, nbytes: int, node: int) -> None:
        """Binds the whole pages of a page-aligned range to `node`; pages that exist already move."""
        ...

    def cpus_of(self, node: int) -> tuple[int, ...]: ...

    def describe(self) -> str: ...


class NullNuma:
    """The no-op twin: one node that owns every core."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def node_count(self) -> int:
        return 1

    def run_on_node(self, node: int) -> None:
        _check_node(node, 1)

    def bind(self, address: int, nbytes: int, node: int) -> None:
        del address, nbytes  # every page is on the one node already
        _check_node(node, 1)

    def cpus_of(self, node: int) -> tuple[int, ...]:
        _check_node(node, 1)
        return tuple(sorted(os.sched_getaffinity(0)))

    def describe(self) -> str:
        return f"NUMA placement is off: {self.reason}"


class Numa:
    """libnuma. Thread rule: `run_on_node` concerns the calling thread, the rest is safe from any."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.numa_available.restype = ctypes.c_int
        library.numa_max_node.restype = ctypes.c_int
        library.numa_run_on_node.argtypes = [ctypes.c_int]
        library.mbind.restype = ctypes.c_long
        library.mbind.argtypes = [
            ctypes.c_void_p,
            ctypes.c_ulong,
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_ulong),
            ctypes.c_ulong,
            ctypes.c_uint,
        ]
        # numa(3): every other call is undefined when numa_available answers -1.
        if library.numa_available() < 0:
            raise OSError("the kernel has no NUMA support")
        self._nodes = int(library.numa_max_node()) + 1

    def node_count(self) -> int:
        return self._nodes

    def run_on_node(self, node: int) -> None:
        _check_node(node, self._nodes)
        if self._library.numa_run_on_node(node):
            raise InternalError(f"numa_run_on_node({node}): {os.strerror(ctypes.get_errno())}")

    def bind(self, address: int, nbytes: int, node: int) -> None:
        _check_node(node, self._nodes)
        words = (ctypes.c_ulong * (NODES_MAX // 64))()
        words[node // 64] = 1 << node % 64
        if self._library.mbind(address, nbytes, MPOL_BIND, words, NODES_MAX, MPOL_MF_MOVE):
            raise InternalError(f"mbind to node {node}: {os.strerror(ctypes.get_errno())}")

    def cpus_of(self, node: int) -> tuple[int, ...]:
        _check_node(node, self._nodes)
        with open(f"/sys/devices/system/node/node{node}/cpulist", encoding="ascii") as listing:
            return parse_cpu_list(listing.read())

    def describe(self) -> str:
        return f"libnuma, {self._nodes} node" + ("s" if self._nodes > 1 else "")


def _check_node(node: int, count: int) -> None:
    if not 0 <= node < count:
        raise ValueError(f"NUMA node {node} of {count}")


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format: '0-3,8' -> (0, 1, 2, 3, 8)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def load_numa(name: str | None = "numa") -> NumaPolicy:
    """libnuma when it is there and the machine has more than one node, else the twin that says why not."""
    found = ctypes.util.find_library(name) if name is not None else None
    if found is None:
        return NullNuma("libnuma is not installed")
    try:
        numa = Numa(ctypes.CDLL(found, use_errno=True))
    except OSError as error:
        return NullNuma(f"libnuma does not work: {error}")
    except AttributeError as error:
        return NullNuma(f"libnuma is too old: {error}")
    if numa.node_count() == 1:
        return NullNuma("this machine has one node")
    return numa


@functools.cache
def get_numa() -> NumaPolicy:
    """The process's NUMA policy, loaded once."""
    return load_numa()


def pin_thread(cpus: tuple[int, ...]) -> None:
    """Lets the current thread run on `cpus` only."""
    pin_current_thread(cpus)
