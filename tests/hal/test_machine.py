"""Memory, NUMA and its null twin, topology, process."""

from __future__ import annotations

import gc
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from filestore.errors import OutOfMemory
from filestore.hal import (
    ALIGNMENT,
    COUNTERS,
    Arena,
    Memory,
    NullNuma,
    address,
    aligned_buffer,
    get_numa,
    process,
    read_topology,
    reserve,
    reserved_bytes,
)
from filestore.hal.numa import load_numa, parse_cpu_list, pin_thread

GIB = 1 << 30


@pytest.fixture(autouse=True)
def tidy() -> None:
    """What earlier tests have left for the collector must not go while arenas are counted."""
    gc.collect()


def test_reserving_costs_address_space_only() -> None:
    before, resident = reserved_bytes(), process.resident_bytes()
    array = reserve(64 * GIB)
    assert reserved_bytes() - before == 64 * GIB
    assert process.resident_bytes() - resident < 1 << 24
    assert address(array) % ALIGNMENT == 0
    assert array.size == 64 * GIB and array[0] == 0 and array[-1] == 0
    array[GIB : GIB + (1 << 23)] = 7
    assert process.resident_bytes() - resident >= 1 << 23
    view = array[GIB : GIB + 10].view(np.uint16)
    del array
    gc.collect()
    assert reserved_bytes() - before == 64 * GIB, "a view keeps the arena"
    assert view[0] == 0x0707
    del view
    gc.collect()
    assert reserved_bytes() == before
    assert process.resident_bytes() - resident < 1 << 23


def test_trim_gives_whole_pages_back() -> None:
    arena = Arena(100 * ALIGNMENT + 10, huge=True)
    arena.array[:] = 1
    assert arena.trim(10, 3 * ALIGNMENT + 5) == 2 * ALIGNMENT
    assert arena.array[ALIGNMENT - 1] == 1 and not arena.array[ALIGNMENT : 3 * ALIGNMENT].any()
    assert arena.array[3 * ALIGNMENT] == 1
    assert arena.trim(5, 6) == 0
    assert arena.trim() == 101 * ALIGNMENT
    assert not arena.array.any()
    view = arena.array[:1]
    arena.release()
    view[0] = 3
    with pytest.raises(ValueError):
        arena.trim()


def test_memory_releases_its_arenas() -> None:
    before = COUNTERS.arenas
    memory = Memory(huge=True)
    memory.reserve(4 << 20)[:] = 1
    memory.reserve(100)
    assert memory.reserved_bytes() == (4 << 20) + ALIGNMENT
    assert COUNTERS.arenas == before + 2
    memory.release()
    gc.collect()
    assert COUNTERS.arenas == before
    with pytest.raises(ValueError):
        reserve(0)
    with pytest.raises(OutOfMemory):
        reserve(1 << 60)


@pytest.mark.parametrize("nbytes", [0, 1, ALIGNMENT, 12345])
def test_aligned_buffer(nbytes: int) -> None:
    buffer = aligned_buffer(nbytes)
    assert buffer.size == nbytes and buffer.dtype == np.uint8
    assert nbytes == 0 or address(buffer) % ALIGNMENT == 0


def test_null_numa_says_why_and_does_nothing() -> None:
    missing = load_numa("no_such_library")
    assert isinstance(missing, NullNuma)
    assert missing.describe() == "NUMA placement is off: libnuma is not installed"
    broken = load_numa("c")  # a library without the calls
    assert isinstance(broken, NullNuma) and "too old" in broken.describe()
    assert missing.node_count() == 1
    missing.run_on_node(0)
    missing.bind(0, 0, 0)
    assert missing.cpus_of(0) == tuple(sorted(os.sched_getaffinity(0)))
    for call in (missing.run_on_node, missing.cpus_of):
        with pytest.raises(ValueError):
            call(1)


def test_numa_of_this_machine_takes_memory() -> None:
    numa = get_numa()
    assert numa is get_numa()
    assert numa.describe()
    array = reserve(1 << 20, node=0)
    array[:] = 1
    assert numa.cpus_of(0)
    with pytest.raises(ValueError):
        reserve(100, node=numa.node_count())


def test_libnuma_itself_works_where_it_is_installed() -> None:
    """Even with one node, where the twin is used: in a process of its own, as it binds the thread."""
    script = """
import ctypes, ctypes.util, sys
from filestore.hal.memory import reserve, address
from filestore.hal.numa import Numa
found = ctypes.util.find_library("numa")
if found is None:
    sys.exit("skip")
try:
    numa = Numa(ctypes.CDLL(found, use_errno=True))
except OSError:
    sys.exit("skip")
numa.run_on_node(0)
array = reserve(1 << 20)
numa.bind(address(array), 1 << 20, 0)
array[:] = 1
print(numa.describe(), numa.cpus_of(0) != ())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    if "skip" in done.stderr:
        pytest.skip("no libnuma")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("libnuma, ") and done.stdout.endswith("True\n")


def test_topology(tmp_path: pathlib.Path) -> None:
    found = read_topology(str(tmp_path))
    assert len(found.cpus) == process.cpu_count() >= 1
    assert {cpu for node in found.nodes for cpu in node.cpus} == set(found.cpus)
    assert found.memory_bytes > 1 << 28
    assert found.page_bytes == 4096
    assert found.device is not None and found.device.total_bytes > 0
    assert "cpus on" in found.describe() and str(tmp_path) in found.describe()
    assert read_topology().device is None
    with pytest.raises(FileNotFoundError):
        read_topology(str(tmp_path / "missing"))
    assert parse_cpu_list("0-3,8\n") == (0, 1, 2, 3, 8)
    assert parse_cpu_list("") == ()


def test_process() -> None:
    assert process.pid() == os.getpid()
    first = process.monotonic_us()
    assert process.monotonic_us() >= first > 0
    drawn = process.random_bytes(16)
    assert len(drawn) == 16 and drawn != process.random_bytes(16)
    assert process.environ_get("FILESTORE_SURELY_UNSET", "x") == "x"
    assert process.environ_get("PATH")
    assert process.resident_bytes() > 1 << 20
    pinned: list[int] = []

    def pin() -> None:
        pin_thread((min(os.sched_getaffinity(0)),))
        pinned.append(process.cpu_count())

    thread = threading.Thread(target=pin)
    thread.start()
    thread.join()
    assert pinned == [1], "only the thread itself is pinned"
    with pytest.raises(ValueError):
        process.pin_current_thread([100_000])


def test_exit_now_skips_every_handler() -> None:
    script = "import atexit\natexit.register(print, 'no')\nfrom filestore.hal import process\nprocess.exit_now(7)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 7 and done.stdout == b""
