"""psql itself against a running server: what its commands print, beside what they print of PostgreSQL.

psql's queries come from the captures of psql 15; whatever version is installed is the one that is asked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")

TABLES = """
create schema shelf;
create table shelf.author (
    id int primary key, name varchar(50) not null, born date, made timestamptz, code char(3)
);
create table shelf.book (
    id bigint primary key, author_id int not null, title text not null, price numeric(10,2),
    rate float8, flag boolean,
    constraint book_once unique (author_id, title)
);
insert into shelf.author (id, name) values (1, 'ann');
"""


def psql(dsn: str, *commands: str) -> str:
    """What psql prints, errors included."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["psql", "-X", dsn, *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dsn(server: Any) -> Iterator[str]:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        yield server.dsn
        for table in ("shelf.book", "shelf.author"):
            connection.execute(f"drop table {table}")
        connection.execute("drop schema shelf")


@pytest.fixture(scope="module")
def oracle(postgres: Any) -> Iterator[str]:
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        yield postgres.dsn
        connection.execute("drop schema shelf cascade")


SAME_OUTPUT = r"""
\dt shelf.* | \d shelf.* | \d shelf.author | \d shelf.book | \d+ shelf.book | \d shelf.book_once |
\d+ shelf.author_pkey | \di shelf.* | \dv shelf.* | \ds shelf.* | \dm shelf.* | \dE shelf.* | \dp
shelf.* | \dn shelf | \dn+ shelf | \df shelf.* | \da shelf.* | \dT shelf.* | \dD shelf.* | \do
shelf.* | \dO shelf.* | \dc shelf.* | \dX shelf.* | \dP shelf.* | \dd shelf.* | \ddp | \drds | \dRp
| \dRs | \dy | \des | \db | \d shelf.nothing | \dt nothing | \sf nothing | \encoding | \dt shelf.a*
| \dt *.author
"""


@pytest.mark.parametrize("command", [" ".join(c.split()) for c in SAME_OUTPUT.split("|")])
def test_output_is_that_of_postgresql(command: str, dsn: str, oracle: str) -> None:
    assert psql(dsn, command) == psql(oracle, command)


ANSWERED = r"""
\l | \l+ | \dt+ | \di+ | \d | \d+ | \dn | \du | \du+ | \dg | \df | \df+ now | \dT | \dT+
pg_catalog.* | \do | \dC | \dA | \dL | \dx | \dF | \dFd | \dFp | \dFt | \dew | \det | \deu | \dl |
\d pg_class | \dS | \dconfig | \dAc | \dAf | \dAp | \z | \conninfo | \dp
"""


@pytest.mark.parametrize("command", [" ".join(c.split()) for c in ANSWERED.split("|")])
def test_command_is_answered(command: str, dsn: str) -> None:
    assert "ERROR" not in psql(dsn, command)


def test_list_of_databases(dsn: str) -> None:
    assert re.search(r"^ postgres \| postgres \| UTF8 +\| C +\| C ", psql(dsn, r"\l"), re.MULTILINE)


def test_sizes_and_methods(dsn: str) -> None:
    listed = psql(dsn, r"\dt+ shelf.author")
    assert re.search(
        r"^ shelf +\| author \| table \| postgres \| permanent +\| heap +\| \d+ kB", listed, re.MULTILINE
    )


def test_defaults_and_checks(dsn: str) -> None:
    psql(dsn, "create table shelf.limits (n int default 7 check (n > 0), t text default 'x' not null)")
    shown = psql(dsn, r"\d shelf.limits")
    psql(dsn, "drop table shelf.limits")
    assert shown.splitlines() == [
        '               Table "shelf.limits"',
        " Column |  Type   | Collation | Nullable | Default ",
        "--------+---------+-----------+----------+---------",
        " n      | integer |           |          | 7",
        " t      | text    |           | not null | 'x'",
        "Check constraints:",
        '    "limits_n_check" CHECK (n > 0)',
        "",
    ]


def test_description_of_a_query(dsn: str, oracle: str) -> None:
    """\\gdesc: psql asks format_type() of the row description."""
    query = r"select id, name, code, made, 1.5 as n, 'x' as t from shelf.author \gdesc"
    done = [
        subprocess.run(
            ["psql", "-X", to], input=query, capture_output=True, text=True, timeout=60, check=False
        )
        for to in (dsn, oracle)
    ]
    assert done[0].stdout == done[1].stdout
    assert done[0].stderr == done[1].stderr


def test_pgbench_finds_its_tables(dsn: str) -> None:
    """pgbench's first queries: whether its tables exist, and whether they are partitioned."""
    if shutil.which("pgbench") is None:
        pytest.skip("pgbench is not installed")
    done = subprocess.run(
        ["pgbench", "-n", "-t", "1", "-d", dsn], capture_output=True, text=True, timeout=60, check=False
    )
    assert 'relation "pgbench_branches" does not exist' in done.stderr
    psql(
        dsn,
        "create table pgbench_branches (bid int primary key)",
        "create table pgbench_accounts (aid int primary key, abalance int)",
        "insert into pgbench_branches values (1)",
        "insert into pgbench_accounts select g, 0 from generate_series(1, 100000) g",
    )
    done = subprocess.run(
        ["pgbench", "-n", "-S", "-t", "5", dsn], capture_output=True, text=True, timeout=60, check=False
    )
    psql(dsn, "drop table pgbench_branches, pgbench_accounts")
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 5/5" in done.stdout
