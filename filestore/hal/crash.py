"""Which states a power cut may leave: an enumeration over the operations in flight.

Idea: a crash state is a value, `Survivors`: at which point of the trace the power went, and what of each
operation in flight survived. The value prints as one line and parses back from it, so a failing state is
reproduced from its text.

Kinds (RELIABILITY F1): none and all survive; each single one dropped; each write torn at each sector edge,
its head or its tail kept; all subsets when at most `SUBSETS_EXACT` are in flight, else seeded samples; the
last write shorn (a sector of garbage inside it); contents survive without names, and names without contents.
When a point has more states than `per_op`, a seeded choice takes from every kind in turn and drops no kind.

It does not know the engine: what a state should recover to is the caller's model.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Final

from filestore.hal.file import SECTOR
from filestore.hal.medium import NAME_KINDS, Medium, Op

SUBSETS_EXACT: Final = 6  # 2**6 states are few enough to try all
SUBSETS_SAMPLED: Final = 64
EDGES_MAX: Final = 16  # torn edges tried of one long write: the first, the last, a seeded sample between


@dataclasses.dataclass(frozen=True, slots=True)
class Survivors:
    """What survived a power cut before operation `op`. Operations are named by their index in the trace.

    `whole`: data operations that survived entirely. `torn`: (op, edge), the bytes before `edge` survived, or
    from -`edge` on when negative. `shorn`: (op, sector), all survived but for garbage in one sector. `names`:
    name operations.
    """

    op: int
    kind: str
    whole: tuple[int, ...] = ()
    torn: tuple[int, int] | None = None
    shorn: tuple[int, int] | None = None
    names: tuple[int, ...] = ()

    def __str__(self) -> str:
        def pair(found: tuple[int, int] | None) -> str:
            return "" if found is None else f"{found[0]}@{found[1]}"

        return (
            f"op={self.op} kind={self.kind} whole={_join(self.whole)} torn={pair(self.torn)} "
            f"shorn={pair(self.shorn)} names={_join(self.names)}"
        )

    @classmethod
    def parse(cls, text: str) -> Survivors:
        """The inverse of `str`. ValueError on anything else."""
        fields = dict(part.split("=", 1) for part in text.split())
        if set(fields) != {"op", "kind", "whole", "torn", "shorn", "names"}:
            raise ValueError(f"not a crash state: {text!r}")
        return cls(
            op=int(fields["op"]),
            kind=fields["kind"],
            whole=_split(fields["whole"]),
            torn=_split_pair(fields["torn"]),
            shorn=_split_pair(fields["shorn"]),
            names=_split(fields["names"]),
        )


def _join(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _split(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _split_pair(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, second = text.partition("@")
    return int(first), int(second)


def garbage(op: int, sector: int) -> bytes:
    """The sector of noise that a shorn write leaves: the same for the same state, never equal to the data."""
    return random.Random(f"shorn {op} {sector}").randbytes(SECTOR)


def survive(medium: Medium, survivors: Survivors) -> Medium:
    """The disk that is left of `medium`, which has been replayed up to `survivors.op`."""
    by_index = {op.index: op for op in medium.in_flight()}
    pieces: dict[int, list[tuple[int, bytes]]] = {}
    for index in survivors.whole:
        op = by_index[index]
        pieces[index] = [(op.offset, op.data)] if op.kind == "write" else []
    if survivors.torn is not None:
        index, edge = survivors.torn
        op = by_index[index]
        pieces[index] = [(op.offset, op.data[:edge])] if edge > 0 else [(op.offset - edge, op.data[-edge:])]
    if survivors.shorn is not None:
        index, sector = survivors.shorn
        op = by_index[index]
        pieces[index] = [(op.offset, op.data), (op.offset + sector * SECTOR, garbage(index, sector))]
    return medium.after_crash(pieces, survivors.names)


def all_survive(medium: Medium, op: int) -> Survivors:
    """The state in which nothing in flight is lost."""
    flight = medium.in_flight()
    return Survivors(
        op,
        "all",
        whole=tuple(found.index for found in flight if found.kind not in NAME_KINDS),
        names=tuple(found.index for found in flight if found.kind in NAME_KINDS),
    )


def enumerate_states(medium: Medium, op: int, seed: int, per_op: int | None) -> list[Survivors]:
    """The states to try for a power cut before operation `op`, at most `per_op` (None: all), each once."""
    rng = random.Random(f"crash {seed} {op}")
    flight = medium.in_flight()
    data = [found for found in flight if found.kind not in NAME_KINDS]
    names = [found for found in flight if found.kind in NAME_KINDS]
    if not flight:
        return [Survivors(op, "none")]
    some = data if per_op is None else _some(data, per_op, rng)
    kinds = [
        list(_simple(op, data, names)),
        list(_dropped(op, data, names)),
        list(_torn(op, data, some, names, rng)),
        list(_shorn(op, data, names, rng)),
        list(_subsets(op, data, names, rng)),
    ]
    limit = sum(map(len, kinds)) if per_op is None else per_op
    for states in kinds[1:]:
        if len(states) > limit // len(kinds):
            rng.shuffle(states)
    chosen: dict[tuple[object, ...], Survivors] = {}
    for state in itertools.chain(kinds[0], *itertools.zip_longest(*kinds[1:])):
        if state is None:
            continue
        if len(chosen) >= limit:
            break
        chosen.setdefault((state.whole, state.torn, state.shorn, state.names), state)
    return list(chosen.values())


def _indexes(ops: Sequence[Op]) -> tuple[int, ...]:
    return tuple(op.index for op in ops)


def _without(ops: Sequence[Op], dropped: Op) -> tuple[int, ...]:
    return tuple(op.index for op in ops if op is not dropped)


def _simple(op: int, data: list[Op], names: list[Op]) -> Iterator[Survivors]:
    yield Survivors(op, "none")
    yield Survivors(op, "all", whole=_indexes(data), names=_indexes(names))
    yield Survivors(op, "nameless", whole=_indexes(data))
    yield Survivors(op, "empty", names=_indexes(names))


def _dropped(op: int, data: list[Op], names: list[Op]) -> Iterator[Survivors]:
    for lost in data:
        yield Survivors(op, "dropped", whole=_without(data, lost), names=_indexes(names))
    for lost in names:
        yield Survivors(op, "dropped", whole=_indexes(data), names=_without(names, lost))


def _some(data: list[Op], limit: int, rng: random.Random) -> list[Op]:
    """At most `limit` of the operations, the last among them: a checkpoint has hundreds in flight."""
    if len(data) <= limit:
        return data
    return [*rng.sample(data[:-1], limit - 1), data[-1]]


def _torn(op: int, data: list[Op], some: list[Op], names: list[Op], rng: random.Random) -> Iterator[Survivors]:
    for torn in some:
        if torn.kind != "write":
            continue
        edges = list(range(SECTOR, len(torn.data), SECTOR))
        if len(edges) > EDGES_MAX:
            edges = [edges[0], *sorted(rng.sample(edges[1:-1], EDGES_MAX - 2)), edges[-1]]
        for edge in edges:
            for kept in (edge, -edge):
                yield Survivors(op, "torn", whole=_without(data, torn), torn=(torn.index, kept), names=_indexes(names))


def _shorn(op: int, data: list[Op], names: list[Op], rng: random.Random) -> Iterator[Survivors]:
    writes = [found for found in data if len(found.data) >= SECTOR]
    if not writes:
        return
    last = writes[-1]
    others = rng.sample(writes[:-1], min(2, len(writes) - 1))
    for shorn in [last, *others]:
        sectors = len(shorn.data) // SECTOR
        for sector in sorted({0, sectors - 1, rng.randrange(sectors), rng.randrange(sectors)}):
            yield Survivors(
                op, "shorn", whole=_without(data, shorn), shorn=(shorn.index, sector), names=_indexes(names)
            )


def _subsets(op: int, data: list[Op], names: list[Op], rng: random.Random) -> Iterator[Survivors]:
    flight = data + names
    if len(flight) <= SUBSETS_EXACT:
        masks: Iterator[int] | list[int] = iter(range(1 << len(flight)))
    else:
        masks = [rng.getrandbits(len(flight)) for _ in range(SUBSETS_SAMPLED)]
    for mask in masks:
        kept = [found for place, found in enumerate(flight) if mask >> place & 1]
        yield Survivors(
            op,
            "subset",
            whole=tuple(found.index for found in kept if found.kind not in NAME_KINDS),
            names=tuple(found.index for found in kept if found.kind in NAME_KINDS),
        )
