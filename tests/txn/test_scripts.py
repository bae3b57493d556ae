"""Scripts of several sessions, with the outcome that PostgreSQL 15 has: tests/txn/scripts/*.txt.

A script is a paragraph: `# what it shows`, `setup: SQL`, then steps `session: SQL` and `sleep seconds`. Every script
begins with the table test: (1, 10), (2, 20). `{level}` stands for each isolation level in turn. Behind the steps comes
`=>`, or `=> level`, and what happens: answers (rows, command tag, or ! and the SQLSTATE), and who waits.

    python -m tests.txn.test_scripts

writes the outcomes anew, from PostgreSQL. The test plays each script on both, so that outcomes are PostgreSQL's and
FileStore's. Which of two sessions that PostgreSQL wakes at once goes first is up to the machine: there a script has
several tries at its outcome. FileStore wakes in the order of waiting, and has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.txn.wire_sessions import Stage

SCRIPTS: Final = Path(__file__).parent / "scripts"
LEVELS: Final = ("read committed", "repeatable read")
SETUP: Final = (
    "DROP TABLE IF EXISTS test, other",
    "CREATE TABLE test (id int PRIMARY KEY, value int)",
    "INSERT INTO test VALUES (1, 10), (2, 20)",
)
TRIES: Final = 20
_STEP: Final = re.compile(r"(\d): (.*)")


@dataclass
class Script:
    """One paragraph. `outcomes` by level; "" for scripts without one."""

    name: str
    lines: list[str] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[str, ...]:
        return LEVELS if any("{level}" in line for line in self.lines) else ("",)

    def text(self) -> str:
        parts = [f"# {self.name}", *self.lines]
        for level, outcome in self.outcomes.items():
            parts += [f"=> {level}".rstrip(), *outcome]
        return "\n".join(parts) + "\n"

    def play(self, dsn: str, level: str, *, postgres: bool) -> list[str]:
        """What happens on a server."""
        setup = [*SETUP, *(line.removeprefix("setup: ") for line in self.lines if line.startswith("setup: "))]
        steps: list[tuple[int, str]] = []
        for line in self.lines:
            found = _STEP.fullmatch(line)
            if found is not None:
                sql = found[2].replace("{level}", f"ISOLATION LEVEL {level.upper()}")
                steps.append((int(found[1]) - 1, sql))
            elif line.startswith("sleep "):
                steps.append((-1, line.removeprefix("sleep ")))
        with Stage(dsn, 1 + max(session for session, _ in steps), postgres=postgres) as stage:
            return stage.play(steps, setup).text().splitlines()


def scripts_of(path: Path) -> list[Script]:
    found: list[Script] = []
    outcome: list[str] | None = None
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            found.append(Script(line[2:]))
            outcome = None
        elif line.startswith("=>"):
            outcome = found[-1].outcomes.setdefault(line[2:].strip(), [])
        elif line:
            (found[-1].lines if outcome is None else outcome).append(line)
    return found


CASES: Final = [
    pytest.param(script, level, id=f"{path.stem}-{script.name}-{level}".rstrip("-"))
    for path in sorted(SCRIPTS.glob("*.txt"))
    for script in scripts_of(path)
    for level in script.levels
]


@pytest.mark.parametrize(("script", "level"), CASES)
def test_script(script, level, server, postgres):
    expected = script.outcomes[level]
    played = script.play(postgres.dsn, level, postgres=True)
    for _ in range(TRIES - 1):
        if played == expected:
            break
        played = script.play(postgres.dsn, level, postgres=True)
    assert played == expected
    assert script.play(server.dsn, level, postgres=False) == expected


def rewrite() -> None:
    """Writes all outcomes anew."""
    from bench.postgres import Postgres

    with Postgres() as postgres:
        postgres.start()
        for path in sorted(SCRIPTS.glob("*.txt")):
            scripts = scripts_of(path)
            for script in scripts:
                script.outcomes = {lv: script.play(postgres.dsn, lv, postgres=True) for lv in script.levels}
            path.write_text("\n".join(script.text() for script in scripts))


if __name__ == "__main__":
    rewrite()
