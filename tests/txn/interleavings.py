"""Random scripts for 2 to 4 sessions over two small tables: transactions at READ COMMITTED and REPEATABLE READ that
meet on the same rows and keys.

What is left to chance in PostgreSQL itself is not generated: two sessions woken by one commit and racing for a row.
"""

from __future__ import annotations

import random

Step = tuple[int, str]

SETUP = (
    "DROP TABLE IF EXISTS mixed_t",
    "DROP TABLE IF EXISTS mixed_s",
    "CREATE TABLE mixed_t (id int PRIMARY KEY, v int, g int, u int UNIQUE)",
    "CREATE TABLE mixed_s (id int PRIMARY KEY, w int)",
    "INSERT INTO mixed_t VALUES (1, 10, 1, 101), (2, 20, 1, 102), (3, 30, 2, 103), (4, 40, 2, NULL)",
    "INSERT INTO mixed_s VALUES (1, 1), (2, 2), (3, 3)",
)
FINAL = ("SELECT * FROM mixed_t ORDER BY id", "SELECT * FROM mixed_s ORDER BY id")

_LEVELS = ("BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL REPEATABLE READ")
_MODES = ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
          "EXCLUSIVE", "ACCESS EXCLUSIVE")  # fmt: skip


def statement(rng: random.Random, rechecked: bool) -> str:
    """One statement. `rechecked`: also conditions on what others change, whose rows PostgreSQL keeps locked though
    the condition no longer holds."""
    i, j, n = rng.randint(1, 5), rng.randint(1, 5), rng.randint(0, 9)
    free = [
        f"UPDATE mixed_t SET v = v + {n} WHERE id = {i}",
        f"UPDATE mixed_t SET v = v + {n} WHERE id = {i} RETURNING v",
        f"UPDATE mixed_s SET w = w * 2 + {n} WHERE id = {i}",
        f"UPDATE mixed_t SET u = {100 + j} WHERE id = {i}",
        f"UPDATE mixed_t SET v = s.w + mixed_t.v FROM mixed_s s WHERE s.id = mixed_t.id AND mixed_t.id = {i}",
        f"UPDATE mixed_t SET v = v + (SELECT w FROM mixed_s s WHERE s.id = mixed_t.id) WHERE id = {i}",
        f"UPDATE mixed_t SET v = (SELECT max(v) FROM mixed_t) + {n} WHERE id = {i}",
        f"INSERT INTO mixed_t VALUES ({i}, {n}, 1, NULL)",
        f"INSERT INTO mixed_t VALUES ({i + 5}, {n}, 2, {100 + j})",
        f"INSERT INTO mixed_s VALUES ({i}, {n})",
        f"DELETE FROM mixed_t WHERE id = {i}",
        f"DELETE FROM mixed_s WHERE id = {i} RETURNING w",
        "SELECT * FROM mixed_t ORDER BY id",
        f"SELECT v, u FROM mixed_t WHERE id = {i}",
        "SELECT sum(v) FROM mixed_t",
        "SELECT t.id, v, w FROM mixed_t t JOIN mixed_s s ON s.id = t.id ORDER BY t.id",
        f"LOCK TABLE mixed_{rng.choice('ts')} IN {rng.choice(_MODES)} MODE",
        f"SELECT count(*) FROM mixed_s WHERE w > {n}",
    ]
    looked_at = [
        f"UPDATE mixed_t SET id = {j + 5} WHERE id = {i}",
        f"UPDATE mixed_t SET v = v + 1 WHERE v < {10 * j} AND g = {1 + i % 2}",
        f"DELETE FROM mixed_t WHERE v > {10 * j} AND g = {1 + i % 2}",
        f"UPDATE mixed_t SET v = {n} WHERE id = {i} AND EXISTS (SELECT FROM mixed_s s WHERE s.w > mixed_t.v - 10)",
        f"UPDATE mixed_s SET w = {n} WHERE w IN (SELECT v / 10 FROM mixed_t) AND id = {i}",
        f"UPDATE mixed_t SET v = s.w FROM mixed_s s WHERE s.w >= mixed_t.g AND mixed_t.id = {i} AND s.id = {j}",
        "TRUNCATE mixed_s",
    ]
    return rng.choice(free + looked_at if rechecked else free)


def script(rng: random.Random, steps: int, rechecked: bool = False) -> list[Step]:
    """Statements of 2 to 4 sessions, shuffled; each session's in blocks, some outside of any."""
    sessions = rng.choice((2, 2, 3, 3, 4))
    queues: list[list[str]] = []
    for _ in range(sessions):
        queue: list[str] = []
        while len(queue) < steps // sessions:
            if rng.random() < 0.15:
                queue.append(statement(rng, rechecked).replace("LOCK TABLE", "SELECT count(*) FROM mixed_t --"))
                continue
            queue.append(rng.choice(_LEVELS))
            queue += [statement(rng, rechecked) for _ in range(rng.randint(1, 4))]
            queue.append(rng.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK")))
        queues.append(queue)
    found: list[Step] = []
    while any(queues):
        session = rng.choice([i for i, q in enumerate(queues) if q])
        found.append((session, queues[session].pop(0)))
    return found
