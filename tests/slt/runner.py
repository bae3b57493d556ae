"""Runs SQL logic tests: text files of statements and the answers they must give, the same over every transport.

The format is sqllogictest's (SQLite's), as DataFusion and RisingLight use it, with these additions: an expected error
names its SQLSTATE and a part of its message (`statement error 23505 duplicate key`, `query error 22012`); `copyfrom`
feeds the lines behind its `----` to COPY ... FROM STDIN, `copyto` expects those that COPY ... TO STDOUT sends. In
values tab, newline and backslash are written \\t, \\n, \\\\.

The answers in our own files are PostgreSQL 15's: `--oracle` asks one and writes them. Where FileStore means to answer
otherwise, `differences.toml` says what and why; records below `onlyif filestore` have no PostgreSQL answer and
`--complete` writes those.

    python -m tests.slt.runner FILE ...             runs files on an embedded store
    python -m tests.slt.runner --oracle FILE ...    writes PostgreSQL's answers into the files
    python -m tests.slt.runner --complete FILE ...  writes the store's answers to records below `onlyif filestore`

Read the diff of what was written.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filestore.database import Database
from tests.slt.transports import Answer, Embedded, Transport, Wire, oracle_dsn

DIFFERENCES = Path(__file__).with_name("differences.toml")
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ORDERED = re.compile(r"\border\s+by\b(?!.*\bunion\b)", re.IGNORECASE | re.DOTALL)
_SCHEMA = "slt_{}"


@dataclass
class Record:
    """One record of a file. `line` is where it begins, from 1, `end` behind its last line; `expected` None without
    `----`.
    """

    line: int
    end: int
    kind: str
    argument: str
    sql: str
    expected: list[str] | None = None
    ours: bool = False


def parse(source: str) -> Iterator[Record]:
    """The records of a file. `halt` ends it; `skipif postgresql` and `onlyif` of other engines skip the next one."""
    lines = source.split("\n")
    i, skip, ours = 0, False, False
    while i < len(lines):
        line = lines[i].strip()
        words = line.split()
        if not words or line.startswith("#") or words[0] == "hash-threshold":
            i += 1
        elif words[0] == "halt":
            return
        elif words[0] in ("skipif", "onlyif"):
            here = words[1] in ("postgresql", "filestore")
            skip = skip or (here if words[0] == "skipif" else not here)
            ours = words[1] == "filestore"
            i += 1
        else:
            start, kind = i, words[0]
            body_end = _until(lines, i + 1, stop="----")
            sql = "\n".join(lines[i + 1 : body_end])
            i, expected = body_end, None
            if i < len(lines) and lines[i].strip() == "----":
                i = _until(lines, body_end + 1)
                expected = lines[body_end + 1 : i]
            if not skip:
                yield Record(start + 1, i, kind, line[len(kind) :].strip(), sql, expected, ours)
            skip = ours = False


def _until(lines: list[str], at: int, stop: str = "") -> int:
    """The next blank line or `stop`."""
    while at < len(lines) and lines[at].strip() and lines[at].strip() != stop:
        at += 1
    return at


# --- comparing -------------------------------------------------------------------------------------------------------


def shown_values(answer: Answer, types: str, sort: str) -> list[str]:
    """The answer's values as the file lists them: one a line, sorted as the record asks."""
    rows = [[_shown(v, types[i] if i < len(types) else "T") for i, v in enumerate(row)] for row in answer.rows]
    if sort == "rowsort":
        rows.sort()
    values = [v for row in rows for v in row]
    return sorted(values) if sort == "valuesort" else values


def _shown(value: str | None, kind: str) -> str:
    if value is None:
        return "NULL"
    if kind == "R":
        return f"{float(value):.3f}"
    if kind == "I":  # as SQLite reads a number: what is none is 0
        found = re.match(r"-?\d+", value)
        return str(int(found[0])) if found else "0"
    if not value:
        return "(empty)"
    return value.translate(ESCAPES).replace(" ", "\\s") if value.isspace() else value.translate(ESCAPES)


def fault(record: Record, answer: Answer) -> str | None:
    """What is wrong with an answer, None when it is right."""
    outcome, *wanted = record.argument.split(None, 2) or [""]
    if outcome == "error":
        if answer.error is None:
            return "succeeded, but an error is expected"
        if wanted and wanted[0] != answer.error.sqlstate:
            return f"expected SQLSTATE {wanted[0]}, got {answer.error.sqlstate}: {answer.error.message}"
        said = answer.error.message.translate(ESCAPES)
        if len(wanted) > 1 and record.argument.split(None, 2)[2] not in said:
            return f"expected {record.argument.split(None, 2)[2]!r} in {said!r}"
        return None
    if answer.error is not None:
        return f"{answer.error.sqlstate}: {answer.error.message}"
    expected = record.expected or []
    if record.kind == "copyto":
        got = answer.data.decode().split("\n")[:-1]
        return None if got == expected else f"expected {expected}, got {got}"
    if record.kind != "query":
        return None
    return _rows_fault(shown_values(answer, outcome, wanted[0] if wanted else "nosort"), expected)


def _rows_fault(values: list[str], expected: list[str]) -> str | None:
    if len(expected) == 1 and " values hashing to " in expected[0]:
        digest = hashlib.md5("".join(v + "\n" for v in values).encode()).hexdigest()  # the format's own
        got = f"{len(values)} values hashing to {digest}"
        return None if got == expected[0] else f"expected {expected[0]}, got {got}"
    listed = [v for line in expected for v in line.split("\t")] if any("\t" in x for x in expected) else expected
    return None if values == listed else f"expected {listed}, got {values}"


def run_record(record: Record, transport: Transport) -> Answer:
    """Runs one record, feeding what `copyfrom` feeds."""
    if record.kind != "copyfrom":
        return transport.run(record.sql)
    return transport.run(record.sql, "".join(line + "\n" for line in record.expected or []).encode())


# --- known differences -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A record that FileStore answers otherwise than PostgreSQL: its own argument and answer, and why."""

    argument: str
    expected: list[str]
    reason: str


def differences() -> dict[tuple[str, str], Difference]:
    """The known differences by file (without suffix, below tests/slt) and SQL."""
    listed = tomllib.loads(DIFFERENCES.read_text()).get("difference", [])
    return {
        (entry["file"], entry["sql"].strip()): Difference(entry["argument"], entry.get("expected", []), entry["reason"])
        for entry in listed
    }


def name_of(path: Path) -> str:
    """A file's name in `differences.toml`."""
    return path.resolve().relative_to(DIFFERENCES.parent).with_suffix("").as_posix() if _is_ours(path) else path.stem


def _is_ours(path: Path) -> bool:
    return path.resolve().is_relative_to(DIFFERENCES.parent)


# --- running ---------------------------------------------------------------------------------------------------------


def run_source(
    source: str, name: str, transport: Transport, skipped: Callable[[Record, Answer], bool] = lambda *_: False
) -> list[str]:
    """Runs a file's text and returns its faults, each with `name:line`. `skipped` says which answers do not count."""
    known = differences()
    faults = []
    for record in parse(source):
        if record.kind not in ("statement", "query", "copyfrom", "copyto"):
            faults.append(f"{name}:{record.line}: unknown record {record.kind!r}")
            continue
        answer = run_record(record, transport)
        if skipped(record, answer):
            continue
        if (other := known.get((name, record.sql.strip()))) is not None:
            if fault(record, answer) is None:
                faults.append(f"{name}:{record.line}: agrees with PostgreSQL again: take it out of {DIFFERENCES.name}")
            expected = record.expected if record.kind == "copyfrom" else other.expected
            record = Record(record.line, record.end, record.kind, other.argument, record.sql, expected)
        wrong = fault(record, answer)
        if wrong is not None:
            faults.append(f"{name}:{record.line}: {wrong}\n    {record.sql}")
    return faults


def run_file(path: Path, transport: Transport) -> list[str]:
    """Runs a file of ours in a schema of its own, which is dropped afterwards."""
    schema = _SCHEMA.format(name_of(path).replace("/", "_"))
    with_schema(transport, schema)
    try:
        return run_source(path.read_text(), name_of(path), transport)
    finally:
        transport.run("ROLLBACK")
        transport.run(f"DROP SCHEMA {schema} CASCADE")


def with_schema(transport: Transport, schema: str) -> None:
    """Makes an empty schema the one of unqualified names; settings as PostgreSQL's documentation shows values."""
    transport.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    for sql in (f"CREATE SCHEMA {schema}", f"SET search_path = {schema}", "SET timezone = 'UTC'"):
        answer = transport.run(sql)
        if answer.error is not None:
            raise AssertionError(f"{sql}: {answer.error}")


def complete(path: Path, transport: Transport, ours: bool) -> None:
    """Writes the transport's answers into the file: to records of FileStore alone, or to all others."""
    lines = path.read_text().split("\n")
    with_schema(transport, _SCHEMA.format(name_of(path).replace("/", "_")))
    out: list[str] = []
    at = 0
    for record in parse(path.read_text()):
        if record.ours and not ours:
            continue
        answer = run_record(record, transport)
        out += lines[at : record.line - 1]
        at = record.end
        out += _written(record, answer) if record.ours == ours else lines[record.line - 1 : record.end]
    path.write_text("\n".join(out + lines[at:]))
    transport.run("ROLLBACK")
    transport.run(f"DROP SCHEMA {_SCHEMA.format(name_of(path).replace('/', '_'))} CASCADE")


def _written(record: Record, answer: Answer) -> list[str]:
    """A record with an answer."""
    body = record.sql.split("\n")
    fed = ["----", *(record.expected or [])] if record.kind == "copyfrom" else []
    if answer.error is not None:
        said = answer.error.message.translate(ESCAPES)
        return [f"{record.kind} error {answer.error.sqlstate} {said}", *body, *fed]
    if record.kind == "copyto":
        return ["copyto ok", *body, "----", *answer.data.decode().split("\n")[:-1]]
    if record.kind != "query":
        return [f"{record.kind} ok", *body, *fed]
    words = record.argument.split()
    sort = next((word for word in words[:2] if word.endswith("sort")), "")
    if not sort:
        sort = "nosort" if _ORDERED.search(record.sql) or len(answer.rows) < 2 else "rowsort"
    types = "T" * max(1, answer.columns)
    values = shown_values(answer, types, sort)
    rows = ["\t".join(values[i : i + len(types)]) for i in range(0, len(values), len(types))]
    return [f"query {types} {sort}", *body, "----", *rows]


def main() -> int:
    """Runs or completes files on embedded stores of their own; the exit code says whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--oracle", nargs="?", const="", metavar="DSN", help="a running PostgreSQL 15")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    if options.oracle is not None:
        _complete_by_oracle(options.files, options.oracle)
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(directory)
        for path in options.files:
            transport = Embedded(database)
            if options.complete:
                complete(path, transport, ours=True)
            else:
                ours = _is_ours(path)
                faults = run_file(path, transport) if ours else run_source(path.read_text(), path.stem, transport)
                failed += len(faults)
                sys.stdout.write("\n".join(faults) + f"\n{path}: {len(faults)} faults\n")
            transport.close()
        database.close()
    return 1 if failed else 0


def _complete_by_oracle(files: list[Path], dsn: str) -> None:
    from bench.postgres import Postgres

    if dsn:
        for path in files:
            complete(path, Wire(oracle_dsn(dsn)), ours=False)
        return
    with Postgres() as running:
        running.start()
        _complete_by_oracle(files, running.dsn)


if __name__ == "__main__":
    sys.exit(main())
