"""Rounds of SIGKILL under four writing clients; after each, the books are audited against the clients' oracles.

    python -m tests.crash.sigkill --rounds 20        (RELIABILITY F4)
    python -m tests.crash.sigkill --minutes 10       (make soak)

A round that killed nobody at work would prove nothing, so rounds without an acknowledged transaction are counted, and
a run in which more than half are empty fails.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from filestore.demo import bank
from filestore.demo.server import Killable, Server

KILL_AFTER_S = (0.05, 3.0)


@dataclass(frozen=True)
class Outcome:
    rounds: int
    empty_rounds: int
    audit: bank.Audit
    reopen_s_max: float


def run(server: Killable, oracles: Path, *, rounds: int | None, minutes: float = 0, seed: int) -> Outcome:
    """Kills and audits; AssertionError names the round, the seed and every fault found."""
    chance = random.Random(seed)
    server.start()
    bank.create(server.dsn)
    load = bank.Load(server.dsn, oracles, seed)
    unknown: set[int] = set()
    done = empty = 0
    reopen_s_max = 0.0
    deadline = time.monotonic() + minutes * 60
    while done < rounds if rounds is not None else time.monotonic() < deadline:
        load.start(done)
        if done == 0:
            load.wait_for(1, timeout_s=60)  # a first statement compiles; the kill is to meet work
        time.sleep(chance.uniform(*KILL_AFTER_S))
        server.kill()
        unknown |= load.join()
        reopened_s = server.start()
        reopen_s_max = max(reopen_s_max, reopened_s)
        done += 1
        empty += load.kept == 0
        found = bank.audit(server.dsn, sorted(oracles.glob("*.oracle")), unknown)
        print(
            f"round {done}: {load.kept} transactions, reopened in {reopened_s:.2f} s; {found.kept} acknowledged, "
            f"{found.survived} survived unacknowledged, {len(found.faults)} faults",
            flush=True,
        )
        assert not found.faults, f"round {done}, seed {seed}:\n" + "\n".join(found.faults[:20])
    assert empty * 2 <= done, f"{empty} of {done} rounds killed a server without a transaction, seed {seed}"
    return Outcome(done, empty, found, reopen_s_max)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.sigkill", description=__doc__)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    rounds = None if options.minutes and options.rounds is None else options.rounds or 20
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="filestore-sigkill-") as scratch:
        root = Path(scratch)
        (root / "oracles").mkdir()
        with Server(root / "data", root / "server.log") as server:
            outcome = run(server, root / "oracles", rounds=rounds, minutes=options.minutes, seed=options.seed)
    print(
        f"{outcome.rounds} rounds ({outcome.empty_rounds} empty), {outcome.audit.kept} acknowledged transactions: "
        f"0 lost, 0 partial; slowest restart {outcome.reopen_s_max:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
