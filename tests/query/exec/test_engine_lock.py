"""Plans run with the engine lock held: no helper of the pool is asked, since it may need the lock itself."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from filestore.query.pool import WorkerPool

PATIENCE_S = 90
"""How long a statement of two seconds may take before it counts as stuck."""

# The INSERT reads 2,500 rows, so it runs where it is, under the lock; the join gives 450,000, enough for the pool; the
# subquery looks into an index, which takes the lock.
PROGRAM = """
import sys
from filestore.database import Database
from filestore.query.pool import WorkerPool
from filestore.txn.drive import drive

database = Database.open(sys.argv[1])
database.pool.close()
database.pool = WorkerPool(2, database.lock)
session = database.session()
for statement in session.parse('''
    CREATE TABLE s (id int8 PRIMARY KEY, v int8);
    INSERT INTO s SELECT i, i FROM generate_series(1, 1000) i;
    CREATE TABLE a (x int8, g int8);
    INSERT INTO a SELECT i, i % 5 FROM generate_series(1, 1500) i;
    CREATE TABLE o (x int8, v int8);
    INSERT INTO o
    SELECT q.x, (SELECT v FROM s WHERE s.id = q.y AND s.v + q.y > 3 ORDER BY v OFFSET 0 LIMIT 1)
    FROM (SELECT a.x, (a.x + b.x) % 300 AS y FROM a JOIN a b ON a.g = b.g ORDER BY a.x, b.x LIMIT 450000) q;
'''):
    print(drive(session.execute(statement), database.lock, session.poll).tag)
    drive(session.finish(), database.lock, session.poll)
database.close()
"""


def test_a_subquery_by_index_in_a_statement_that_runs_under_the_lock(tmp_path: Path) -> None:
    """In a process of its own: one that is stuck holds the engine lock for ever, and could not be closed."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    done = subprocess.run(command, timeout=PATIENCE_S, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["INSERT 0 450000"], 0), done.stderr


def test_no_helper_is_asked_while_the_caller_holds_the_lock() -> None:
    lock = threading.RLock()
    pool = WorkerPool(2, lock)

    def work(_: int) -> int:
        with lock:
            return threading.get_ident()

    try:
        with lock:
            assert set(pool.map(work, range(100))) == {threading.get_ident()}
        assert len(list(pool.map(work, range(100)))) == 100
    finally:
        pool.close()
