"""A real server killed under four writing clients loses nothing that it acknowledged (RELIABILITY F4)."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from filestore.demo import bank
from filestore.demo.server import Server
from tests.crash import sigkill


def kill_rounds(data_dir: Path, rounds: int, seed: int) -> None:
    oracles = data_dir.parent / "oracles"
    oracles.mkdir()
    with Server(data_dir, data_dir.parent / "server.log") as server:
        outcome = sigkill.run(server, oracles, rounds=rounds, seed=seed)
    assert outcome.audit.kept > 0


@pytest.mark.timeout(600)
def test_five_kills_lose_nothing(data_dir: Path, seed: int) -> None:
    kill_rounds(data_dir, 5, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_lose_nothing(data_dir: Path, seed: int) -> None:
    kill_rounds(data_dir, 20, seed)


SABOTAGE = {
    "a lost transfer": ("DELETE FROM transfer WHERE id = %(id)s", "is lost"),
    "a lost entry": ("DELETE FROM entry WHERE transfer = %(id)s AND line = 0", "has"),
    "an invented transfer": ("INSERT INTO transfer VALUES (7, 1, 0, NULL)", "nobody sent its COMMIT"),
    "a wrong amount": ("UPDATE entry SET amount = amount + 1 WHERE transfer = %(id)s", "its entries say"),
    "a wrong balance": ("UPDATE account SET balance = balance + 1 WHERE id = 3", "its entries say"),
}


def test_the_audit_sees_every_kind_of_damage(server: Server, tmp_path: Path, seed: int) -> None:
    """Goal: an audit that could not fail would prove nothing. Method: honest load, one lie at a time, rolled back."""
    bank.create(server.dsn)
    load = bank.Load(server.dsn, tmp_path, seed)
    load.start()
    load.wait_for(20, timeout_s=60)
    assert load.stop() == set()
    oracles = sorted(tmp_path.glob("*.oracle"))
    assert bank.audit(server.dsn, oracles, set()).faults == ()
    some = next(number for number, (fate, _) in bank.promises(oracles[0]).items() if fate == "kept")
    with psycopg.connect(server.dsn) as connection:
        for name, (lie, complaint) in SABOTAGE.items():
            connection.execute(lie, {"id": some} if "%" in lie else None)
            faults = bank.audit_on(connection, oracles, set()).faults
            connection.rollback()
            assert any(complaint in fault for fault in faults), f"{name} went unseen: {faults}"
        connection.execute("DROP TABLE account, transfer, entry")
