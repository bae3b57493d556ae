"""The hardware room: files, memory, NUMA, topology, process. The only room that calls the operating system.

Everything above takes `File` and `FileSystem` (see `file.py` for the contract) and works alike on O_DIRECT
files, buffered files and the simulated disk of the crash tests.
"""

from __future__ import annotations

from filestore.hal import process
from filestore.hal.counters import COUNTERS, Counters
from filestore.hal.faults import Fault
from filestore.hal.file import ALIGNMENT, SECTOR, Bytes, DirectIO, File, FileSystem, Lock
from filestore.hal.filesystem import RealFileSystem, open_filesystem
from filestore.hal.memory import Arena, Memory, address, aligned_buffer, reserve, reserved_bytes
from filestore.hal.numa import NullNuma, Numa, NumaPolicy, get_numa
from filestore.hal.simulated import SimulatedCrash, SimulatedDisk
from filestore.hal.topology import Topology, read_topology

__all__ = [
    "ALIGNMENT",
    "COUNTERS",
    "SECTOR",
    "Arena",
    "Bytes",
    "Counters",
    "DirectIO",
    "Fault",
    "File",
    "FileSystem",
    "Lock",
    "Memory",
    "NullNuma",
    "Numa",
    "NumaPolicy",
    "RealFileSystem",
    "SimulatedCrash",
    "SimulatedDisk",
    "Topology",
    "address",
    "aligned_buffer",
    "get_numa",
    "open_filesystem",
    "process",
    "read_topology",
    "reserve",
    "reserved_bytes",
]
