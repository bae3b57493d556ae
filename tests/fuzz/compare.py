"""Runs random queries on FileStore and PostgreSQL 15 and says where the answers differ.

Rows are compared as text, sorted unless the order is total. Errors are compared by class. What may differ:

- the last digits of a float: sums depend on the order of rows;
- the sign of a float's zero: a sum begins with 0 here, with its first value there;
- which of several equal values is shown (1.5 or 1.50, 1 mon or 30 days) where rows were grouped, merged or ordered;
- errors of values, where one engine evaluates what the other need not (`LAZY`);
- NaN in numeric(p,s) up to 18 digits, which is refused here by name.

    python -m tests.fuzz.compare --queries 20000 --seed 7 [--oracle DSN]
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from filestore.database import Database, DatabaseOptions
from tests.fuzz.queries import Queries, Query
from tests.fuzz.tables import BIG_ROWS, setup
from tests.slt.transports import Answer, Embedded, Row, Transport, Wire, oracle_dsn

_NUMBER: Final = re.compile(r"-?\d+(\.\d*)?(e[+-]\d+)?")
_INTERVAL: Final = re.compile(r"([+-]?\d+ (year|mon|day)s? ?)+([+-]?\d+:\d\d:[\d.]+)?")
_MERGED: Final = re.compile("DISTINCT|GROUP BY|UNION|INTERSECT|EXCEPT")
_REFUSED: Final = re.compile(r"NaN is not supported in numeric\(")
TOLERANCE: Final = 1e-9

LAZY: Final = ("22", "0A")
"""Errors of values. PostgreSQL folds constants when it plans, and orders conditions and joins by cost; FileStore
evaluates an expression for the rows that reach it: either may meet such an error where the other does not. Queries
that are `risky` read one table whole, and must agree, save that PostgreSQL folds what is NULL anyway."""


@dataclass
class Outcome:
    """What a run found."""

    ran: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def prepare(transport: Transport, seed: int, big_rows: int = BIG_ROWS) -> None:
    """Makes the tables."""
    for sql in setup(seed, big_rows):
        answer = transport.run(sql)
        if answer.error is not None:
            raise AssertionError(f"{sql}: {answer.error}")


def run(transport: Transport, query: Query) -> list[Answer]:
    """The answers of a query; a write is followed by what it wrote, and undone."""
    if not query.undo:
        return [transport.run(query.sql)]
    transport.run("BEGIN")
    answers = [transport.run(query.sql)]
    if answers[0].error is None:
        answers.append(transport.run("SELECT * FROM a"))
    transport.run("ROLLBACK")
    return answers


def verdict(query: Query, ours: list[Answer], theirs: list[Answer]) -> tuple[str, str]:
    """(same | lazy | failed | fault, what); failed: both, alike."""
    for left, right in zip(ours, theirs, strict=False):
        if left.error is not None and left.error.sqlstate == "0A000" and "cannot convert" not in left.error.message:
            known = right.error is not None or _REFUSED.search(left.error.message)
            return ("same" if known else "fault"), left.error.message
        if left.error is not None and right.error is not None:
            classes = {left.error.sqlstate[:2], right.error.sqlstate[:2]}
            if len(classes) == 1 or classes <= set(LAZY):  # of two errors, either may be met first
                return "failed", right.error.sqlstate
            return "fault", f"{left.error} instead of {right.error}"
        if left.error is not None or right.error is not None:
            error = left.error or right.error
            assert error is not None
            if error.sqlstate[:2] in LAZY and (not query.risky or "NULL::" in query.sql):
                return "lazy", error.message
            return "fault", f"ours {left.error or 'rows'}, theirs {right.error or 'rows'}"
        different = rows_differ(query, left.rows, right.rows)
        if different:
            return "fault", different
    return "same", ""


def rows_differ(query: Query, left: list[Row], right: list[Row]) -> str:
    """What differs, empty when nothing does."""
    if left == right:
        return ""
    if len(left) != len(right):
        return f"{len(left)} rows instead of {len(right)}"
    merged = query.ordered or _MERGED.search(query.sql) is not None
    left, right = ([[_canonical(v, merged) for v in row] for row in rows] for rows in (left, right))
    if not query.ordered:
        left, right = sorted(left, key=_key), sorted(right, key=_key)
    for a, b in zip(left, right, strict=True):
        if not all(_alike(x, y) for x, y in zip(a, b, strict=True)):
            return f"{a} instead of {b}"
    return ""


def _canonical(value: str | None, merged: bool) -> str | None:
    """Without the sign of zero; where equal values were `merged`, whichever of them is shown (1.5 or 1.50)."""
    if value is None or not _NUMBER.fullmatch(value):
        return _length(value) if merged and value is not None and _INTERVAL.fullmatch(value) else value
    if merged and "." in value and "e" not in value:
        value = value.rstrip("0").rstrip(".")
    return "0" if value == "-0" else value


def _length(interval: str) -> str:
    """An interval as PostgreSQL compares it: months of 30 days of 24 hours, in microseconds."""
    total = 0
    for number, unit in re.findall(r"(-?\d+) (year|mon|day)", interval):
        total += int(number) * {"year": 360, "mon": 30, "day": 1}[unit] * 86_400_000_000
    for sign, hours, minutes, seconds in re.findall(r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)", interval):
        micros = (int(hours) * 60 + int(minutes)) * 60_000_000 + round(float(seconds) * 1_000_000)
        total += -micros if sign else micros
    return f"interval {total}"


def _inexact(value: str) -> bool:
    """Whether a text may be a float with digits that depend on the order of a sum."""
    return len(value) > 12 and ("." in value or "e" in value) and _NUMBER.fullmatch(value) is not None


def _key(row: Row) -> list[tuple[bool, str]]:
    """Sorts rows so that floats with other last digits meet their twins."""
    return [(False, "") if v is None else (True, f"{float(v):.10e}" if _inexact(v) else v) for v in row]


def _alike(a: str | None, b: str | None) -> bool:
    if a == b or a is None or b is None or not (_inexact(a) or _inexact(b)):
        return a == b
    if not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
        return False
    x, y = float(a), float(b)
    return abs(x - y) <= TOLERANCE * max(abs(x), abs(y), 1e-300)


def fuzz(ours: Transport, theirs: Transport, seed: int, numbers: Iterator[int], deadline: float = 1e18) -> Outcome:
    """Runs queries until the numbers or the time are used up."""
    queries, outcome = Queries(seed), Outcome()
    for number in numbers:
        if time.monotonic() > deadline:
            break
        query = queries.query(number)
        outcome.ran += 1
        kind, what = verdict(query, run(ours, query), run(theirs, query))
        outcome.kinds[kind] += 1
        if kind == "fault":
            outcome.faults.append(f"seed {seed} query {number}: {what}\n    {query.sql}")
    return outcome


def main() -> int:
    """Prints the differences of a run; the exit code says whether there were any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--compile", default="never", choices=("never", "always", "background"))
    parser.add_argument("--oracle", metavar="DSN", help="a running PostgreSQL 15")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    theirs = Wire(oracle_dsn(options.oracle))
    schema = f"fuzz_{seed}_{options.first}"
    for sql in (f"DROP SCHEMA IF EXISTS {schema} CASCADE", f"CREATE SCHEMA {schema}", f"SET search_path = {schema}"):
        theirs.run(sql)
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(directory, DatabaseOptions(compile=options.compile))
        ours = Embedded(database)
        for transport in (ours, theirs):
            prepare(transport, seed)
        outcome = fuzz(ours, theirs, seed, iter(range(options.first, options.first + options.queries)))
        ours.close()
        database.close()
    theirs.run(f"DROP SCHEMA {schema} CASCADE")
    theirs.close()
    sys.stdout.write("\n".join(outcome.faults) + f"\nseed {seed}: {outcome.ran} queries, {dict(outcome.kinds)}\n")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
