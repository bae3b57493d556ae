"""A checker of isolation: from what clients wrote and read to the anomalies in it.

Each value is written once, so a read says whose writes it saw. Two kinds of keys: a list, to which values are
appended and which is read whole, shows the order of its versions by itself; a register is overwritten, and shows that
order where its writer has read it before. From the order come dependencies between committed transactions: ww (the
next version), wr (what was read), rw (the version behind the one that was read), and from cycles of them the
anomalies:

    G0        a cycle of ww                        G1a  a read of what was rolled back
    G1c       a cycle of ww and wr                 G1b  a read of what its writer overwrote or added to
    G-single  a cycle with a single rw             lost update  two that overwrote the same version, having read it
    G2-item   a cycle with several rw

and beyond them: `order` (lists that are not each other's prefixes), `duplicate`, `internal` (a transaction that does
not see its own writes, or at REPEATABLE READ sees a list change), `lost` (an answered write that the last read does not
show), `stale` (a read that does not show what had been answered before it was asked).

The ideas are Adya's (G0 ...) and Elle's: Kingsbury, Alvaro, VLDB 2020. Not here: predicates, and versions of
registers that nobody read before he wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

APPEND: Final = "append"
WRITE: Final = "write"
READ: Final = "read"  # of a list: a tuple
LOOK: Final = "look"  # at a register: a value, None for none

READ_COMMITTED: Final = frozenset({"G0", "G1a", "G1b", "G1c", "order", "duplicate", "internal", "lost", "stale"})
REPEATABLE_READ: Final = READ_COMMITTED | {"G-single", "lost update"}
SERIALIZABLE: Final = REPEATABLE_READ | {"G2-item"}


@dataclass(frozen=True)
class Op:
    """One operation of a transaction; when it was asked and answered, in seconds."""

    kind: str
    key: int
    value: Any
    asked: float = 0.0
    answered: float = 0.0


@dataclass
class Txn:
    """One transaction: its operations that were answered. `committed` None: nobody knows."""

    ops: list[Op] = field(default_factory=list)
    committed: bool | None = True
    asked: float = 0.0
    answered: float = 0.0


@dataclass(frozen=True)
class Anomaly:
    """What was found, and by which transactions (numbers in the history)."""

    name: str
    what: str
    transactions: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.what} {self.transactions}"


Graph = dict[int, dict[int, set[str]]]


class Checker:
    """The anomalies of one history. `snapshot`: whether a transaction reads as of its first operation."""

    def __init__(self, history: list[Txn], snapshot: bool) -> None:
        self.history = history
        self.snapshot = snapshot
        self.found: list[Anomaly] = []
        self.writers: dict[tuple[str, int, Any], int] = {}
        self.last: dict[tuple[int, str, int], Any] = {}
        self.graph: Graph = defaultdict(lambda: defaultdict(set))
        self.own: dict[tuple[int, int], set[Any]] = defaultdict(set)  # appended, by transaction and list
        self.reads: dict[int, list[tuple[int, Op]]] = defaultdict(list)  # by list
        self.looks: dict[tuple[int, Any], list[int]] = defaultdict(list)  # who, by register and value
        for number, txn in enumerate(history):
            for op in txn.ops:
                if op.kind in (APPEND, WRITE):
                    self.writers[op.kind, op.key, op.value] = number
                    self.last[number, op.kind, op.key] = op.value
                if op.kind == APPEND:
                    self.own[number, op.key].add(op.value)
                elif op.kind == READ:
                    self.reads[op.key].append((number, op))
                elif op.kind == LOOK:
                    self.looks[op.key, op.value].append(number)

    def check(self) -> list[Anomaly]:
        """All anomalies, whatever the level."""
        self._internal()
        self._lists()
        self._registers()
        self._cycles()
        return self.found

    def _add(self, name: str, what: str, *transactions: int) -> None:
        self.found.append(Anomaly(name, what, transactions))

    def _settled(self) -> Iterator[tuple[int, Txn]]:
        return ((i, t) for i, t in enumerate(self.history) if t.committed)

    # --- one transaction alone

    def _internal(self) -> None:
        for number, txn in enumerate(self.history):
            appended: dict[int, list[Any]] = defaultdict(list)
            written: dict[int, Any] = {}
            seen: dict[int, Any] = {}
            for op in txn.ops:
                if op.kind == APPEND:
                    appended[op.key].append(op.value)
                elif op.kind == WRITE:
                    written[op.key] = op.value
                elif op.kind == LOOK:
                    if op.key in written and op.value != written[op.key]:
                        self._add("internal", f"register {op.key} is {op.value}, not {written[op.key]}", number)
                else:
                    own = appended[op.key]
                    if own and list(op.value[-len(own) :]) != own:
                        self._add("internal", f"list {op.key} is {op.value}, without its own {own} at the end", number)
                    others = op.value[: len(op.value) - len(own)]
                    if self.snapshot and seen.setdefault(op.key, others) != others:
                        self._add("internal", f"list {op.key} was {seen[op.key]} and is {others}", number)

    # --- lists

    def _seen(self, reader: int, kind: str, key: int, value: Any, last: bool) -> None:
        """Whether a value may be seen by somebody; `last`: as the newest one."""
        writer = self.writers.get((kind, key, value))
        if writer is None:
            self._add("G1a", f"{value} of key {key} was written by nobody", reader)
        elif writer != reader:
            if self.history[writer].committed is False:
                self._add("G1a", f"{value} of key {key} was rolled back", writer, reader)
            elif last and self.last[writer, kind, key] != value:
                self._add("G1b", f"{value} of key {key} is not its writer's last", writer, reader)

    def _lists(self) -> None:
        """Reads count whether their transaction committed or not: nobody may see what is rolled back."""
        longest: dict[int, tuple[Any, ...]] = {}
        for key, reads in self.reads.items():
            for reader, op in reads:
                if len(set(op.value)) != len(op.value):
                    self._add("duplicate", f"list {key} is {op.value}", reader)
                for position, value in enumerate(op.value):
                    self._seen(reader, APPEND, key, value, position == len(op.value) - 1)
            orders = [self._others(reader, op) for reader, op in reads]
            longest[key] = order = max(orders, key=len)
            for (reader, _), seen in zip(reads, orders, strict=True):
                if seen != order[: len(seen)]:
                    self._add("order", f"list {key} is {seen}, elsewhere {order}", reader)
            self._list_edges(key, order)
        self._stale(longest)

    def _others(self, reader: int, op: Op) -> tuple[Any, ...]:
        """A read without the values that its own transaction appended, unless it has committed."""
        if self.history[reader].committed:
            return tuple(op.value)
        own = self.own[reader, op.key]
        return tuple(v for v in op.value if v not in own)

    def _list_edges(self, key: int, order: tuple[Any, ...]) -> None:
        writers = [self.writers.get((APPEND, key, v)) for v in order]
        for before, after in pairwise(writers):
            self._edge(before, after, "ww")
        for reader, op in self.reads[key]:
            at = len(op.value)
            if at:
                self._edge(self.writers.get((APPEND, key, op.value[-1])), reader, "wr")
            if at < len(order):
                self._edge(reader, writers[at], "rw")

    def _edge(self, source: int | None, target: int | None, kind: str) -> None:
        if source is None or target is None or source == target:
            return
        if self.history[source].committed and self.history[target].committed:
            self.graph[source][target].add(kind)

    def _stale(self, longest: Mapping[int, tuple[Any, ...]]) -> None:
        """Reads that miss what was answered before they were asked; at the end of the history these are losses."""
        done: dict[int, list[tuple[float, int, Any, int]]] = defaultdict(list)
        for number, txn in self._settled():
            for op in txn.ops:
                if op.kind == APPEND:
                    order = longest.get(op.key, ())
                    place = order.index(op.value) if op.value in order else len(order)
                    done[op.key].append((txn.answered, place, op.value, number))
        end = max((t.answered for t in self.history), default=0.0)
        for key, reads in self.reads.items():
            for reader, op in reads:
                txn = self.history[reader]
                since = txn.ops[0].asked if self.snapshot else op.asked
                for answered, place, value, writer in done[key]:
                    if answered < since and place >= len(op.value) and writer != reader:
                        name = "lost" if txn.answered == end else "stale"
                        self._add(name, f"{value} of list {key} is not in {op.value}", writer, reader)

    # --- registers

    def _registers(self) -> None:
        for (key, value), readers in self.looks.items():
            for reader in readers if value is not None else ():
                self._seen(reader, WRITE, key, value, True)
                self._edge(self.writers.get((WRITE, key, value)), reader, "wr")
        over: dict[tuple[int, Any], list[int]] = defaultdict(list)
        for number, txn in self._settled():
            looked: dict[int, Any] = {}
            written: set[int] = set()
            for op in txn.ops:
                if op.kind == LOOK and op.key not in written:
                    looked[op.key] = op.value
                elif op.kind == WRITE and op.key not in written:
                    written.add(op.key)
                    if op.key in looked:
                        over[op.key, looked[op.key]].append(number)
        for (key, value), writers in over.items():
            if len(writers) > 1:
                self._add("lost update", f"all have read {value} of register {key} and overwritten it", *writers)
                continue
            self._edge(self.writers.get((WRITE, key, value)), writers[0], "ww")
            for reader in self.looks[key, value]:
                self._edge(reader, writers[0], "rw")

    # --- cycles

    def _cycles(self) -> None:
        for name, kinds in (("G0", {"ww"}), ("G1c", {"ww", "wr"})):
            for group in components(self._only(kinds)):
                self._add(name, "a cycle", *group)
        writes = self._only({"ww", "wr"})
        everything = self._only({"ww", "wr", "rw"})
        for group in components(everything):
            inside = set(group)
            single = [
                (a, b)
                for a in group
                for b, kinds in self.graph[a].items()
                if "rw" in kinds and b in inside and (a in reachable(writes, b, inside))
            ]
            for a, b in single:
                self._add("G-single", "reads before, and depends on, the same", a, b)
            if not single and not any(g for g in components({n: writes.get(n, set()) & inside for n in inside})):
                self._add("G2-item", "a cycle", *group)

    def _only(self, kinds: set[str]) -> dict[int, set[int]]:
        return {a: {b for b, k in targets.items() if k & kinds} for a, targets in list(self.graph.items())}


def reachable(graph: Mapping[int, set[int]], start: int, inside: set[int]) -> set[int]:
    """Nodes to which a path leads from `start`."""
    seen = {start}
    pending = [start]
    while pending:
        for node in graph.get(pending.pop(), ()):
            if node in inside and node not in seen:
                seen.add(node)
                pending.append(node)
    return seen


def components(graph: Mapping[int, set[int]]) -> list[list[int]]:
    """Strongly connected components of more than one node (Tarjan's, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in graph:
        if root in index:
            continue
        work: list[tuple[int, Iterator[int]]] = [(root, iter(graph.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    group = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        group.append(member)
                        if member == node:
                            break
                    if len(group) > 1:
                        found.append(sorted(group))
            elif target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                on_stack.add(target)
                work.append((target, iter(graph.get(target, ()))))
            elif target in on_stack:
                low[node] = min(low[node], index[target])
    return found


def anomalies(history: list[Txn], forbidden: Iterable[str] = SERIALIZABLE) -> list[Anomaly]:
    """The anomalies of a history that a level forbids."""
    forbidden = frozenset(forbidden)
    snapshot = "G-single" in forbidden
    return [a for a in Checker(history, snapshot).check() if a.name in forbidden]
