"""What the machine is made of: cores, NUMA nodes, caches, memory, and the device below a path.

Read once from /sys, /proc and psutil into frozen values; the planner's thread counts and the shell's
`describe` come from here. A fact that the kernel does not tell is None, never guessed. It does not follow
changes (hotplug, remounts).
"""

from __future__ import annotations

import dataclasses
import os

import psutil

from filestore.hal.numa import get_numa, parse_cpu_list

SYS_CPU = "/sys/devices/system/cpu"
SYS_NODE = "/sys/devices/system/node"
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node: its cores that this process may use, and its memory."""

    number: int
    cpus: tuple[int, ...]
    memory_bytes: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cache:
    """One cache of the first usable core; `shared_by` counts the cores that share it."""

    level: int
    kind: str  # Data, Instruction, Unified
    size_bytes: int
    line_bytes: int | None
    shared_by: int


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """What lies below a path."""

    path: str
    filesystem: str | None
    mount_point: str | None
    name: str | None  # vda; None where no block device is behind (tmpfs, overlay, network)
    rotational: bool | None
    block_bytes: int | None
    total_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Topology:
    """The machine as this process may use it."""

    cpus: tuple[int, ...]
    physical_cores: int | None
    nodes: tuple[Node, ...]
    caches: tuple[Cache, ...]
    memory_bytes: int  # the least of the machine's and the control group's
    page_bytes: int
    numa: str
    device: Device | None

    def describe(self) -> str:
        """A few lines for the log and the shell."""
        caches = ", ".join(f"L{cache.level} {cache.kind.lower()} {_human(cache.size_bytes)}" for cache in self.caches)
        lines = [
            f"{len(self.cpus)} cpus on {len(self.nodes)} node(s), {_human(self.memory_bytes)} memory",
            f"caches: {caches or 'unknown'}",
            self.numa,
        ]
        if self.device is not None:
            device = self.device
            spins = {True: "rotational", False: "solid state", None: "unknown kind"}[device.rotational]
            lines.append(
                f"{device.path}: {device.filesystem or 'unknown filesystem'}"
                f" on {device.name or 'no block device'} ({spins}, {_human(device.total_bytes)})"
            )
        return "\n".join(lines)


def read_topology(path: str | None = None) -> Topology:
    """The machine's topology; `path` (which exists) names what `device` shall describe."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    return Topology(
        cpus=cpus,
        physical_cores=psutil.cpu_count(logical=False),
        nodes=_read_nodes(cpus),
        caches=_read_caches(cpus[0]),
        memory_bytes=_read_memory(),
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        numa=get_numa().describe(),
        device=None if path is None else read_device(path),
    )


def read_device(path: str) -> Device:
    """The device and filesystem below `path`. FileNotFoundError when the path does not exist."""
    full = os.path.realpath(path)
    status = os.stat(full)
    mounted = [
        part
        for part in psutil.disk_partitions(all=True)
        if full == part.mountpoint or full.startswith(part.mountpoint.rstrip("/") + "/")
    ]
    # Later mounts cover earlier ones at the same place, hence the last of the longest.
    mount = max(reversed(mounted), key=lambda part: len(part.mountpoint), default=None)
    block = os.path.realpath(f"/sys/dev/block/{os.major(status.st_dev)}:{os.minor(status.st_dev)}")
    if os.path.exists(os.path.join(block, "partition")):
        block = os.path.dirname(block)  # queue settings belong to the whole disk
    queue = os.path.join(block, "queue")
    known = os.path.isdir(queue)
    rotational = _read_int(os.path.join(queue, "rotational")) if known else None
    space = os.statvfs(full)
    return Device(
        path=full,
        filesystem=mount.fstype if mount is not None else None,
        mount_point=mount.mountpoint if mount is not None else None,
        name=os.path.basename(block) if known else None,
        rotational=None if rotational is None else bool(rotational),
        block_bytes=_read_int(os.path.join(queue, "logical_block_size")) if known else None,
        total_bytes=space.f_blocks * space.f_frsize,
    )


def _read_nodes(cpus: tuple[int, ...]) -> tuple[Node, ...]:
    online = _read_text(os.path.join(SYS_NODE, "online"))
    if online is None:
        return (Node(0, cpus, None),)
    nodes = []
    for number in parse_cpu_list(online):
        listed = parse_cpu_list(_read_text(os.path.join(SYS_NODE, f"node{number}", "cpulist")) or "")
        nodes.append(Node(number, tuple(cpu for cpu in listed if cpu in cpus), _read_node_memory(number)))
    return tuple(nodes)


def _read_node_memory(number: int) -> int | None:
    for line in (_read_text(os.path.join(SYS_NODE, f"node{number}", "meminfo")) or "").splitlines():
        if "MemTotal:" in line:
            return int(line.split()[-2]) * 1024
    return None


def _read_caches(cpu: int) -> tuple[Cache, ...]:
    base = os.path.join(SYS_CPU, f"cpu{cpu}", "cache")
    if not os.path.isdir(base):
        return ()
    caches = []
    for entry in sorted(os.listdir(base)):
        size = _read_text(os.path.join(base, entry, "size"))
        level = _read_int(os.path.join(base, entry, "level"))
        if size is None or level is None:
            continue
        shared = parse_cpu_list(_read_text(os.path.join(base, entry, "shared_cpu_list")) or "")
        caches.append(
            Cache(
                level=level,
                kind=_read_text(os.path.join(base, entry, "type")) or "Unified",
                size_bytes=_parse_size(size),
                line_bytes=_read_int(os.path.join(base, entry, "coherency_line_size")),
                shared_by=len(shared) or 1,
            )
        )
    return tuple(caches)


def _read_memory() -> int:
    total = int(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        text = _read_text(path)
        if text is not None and text.isdigit():  # 'max' means no limit
            total = min(total, int(text))
    return total


def _read_text(path: str) -> str | None:
    """A small file of /sys without its newline, or None where the kernel has none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _read_int(path: str) -> int | None:
    text = _read_text(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def _parse_size(text: str) -> int:
    """'512K' -> 524288."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def _human(nbytes: int) -> str:
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >= 1 << shift:
            return f"{nbytes / (1 << shift):.4g} {unit}"
    return f"{nbytes} B"
