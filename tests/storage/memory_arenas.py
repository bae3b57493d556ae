"""Arenas that no checkpoint carries: tables in memory."""

from __future__ import annotations

from filestore.storage.arena import Arena


class MemoryArenas:
    """`filestore.storage.segment.Arenas` without a store."""

    def __init__(self) -> None:
        self.arenas: dict[str, Arena] = {}

    def arena(self, name: str, nbytes: int) -> Arena:
        found = self.arenas.get(name)
        if found is None:
            found = self.arenas[name] = Arena(name, nbytes)
        return found

    def drop_arena(self, name: str) -> None:
        self.arenas.pop(name, None)

    def arena_names(self) -> list[str]:
        return list(self.arenas)
