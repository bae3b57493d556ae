"""Runs SQL logic tests: text files of statements and the answers they must give, the same over every transport.

The format is sqllogictest's (SQLite's), as DataFusion and RisingLight use it, with two additions: an expected error may name its
SQLSTATE and a part of its message (`statement error 23505 duplicate key`), and `query error` does the same for queries.

    python -m tests.slt.runner FILE ...              runs files on an embedded store
    python -m tests.slt.runner --complete FILE ...   writes the answers that the store gives into the files (read the diff)
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from filestore import errors
from filestore.database import Database
from filestore.query.render import text
from filestore.storage.vector import Vector
from filestore.txn.drive import drive

HASH_THRESHOLD = 0


@dataclass
class Record:
    """One statement or query of a file. `line` is where it begins, from 1; `expected` None for a statement."""

    line: int
    kind: str
    argument: str
    sql: str
    expected: list[str] | None = None
    comments: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """Rows as text, None for NULL; or the error."""

    rows: list[list[str | None]] = field(default_factory=list)
    error: errors.Error | None = None


class Transport(Protocol):
    """A way to the store: runs a text and answers with the last statement's rows."""

    def run(self, sql: str) -> Answer: ...

    def close(self) -> None: ...


class Embedded:
    """Through a session in this process."""

    def __init__(self, database: Database) -> None:
        self.session = database.session()

    def run(self, sql: str) -> Answer:
        session = self.session
        lock, poll = session.database.lock, session.poll
        rows: list[list[str | None]] = []
        try:
            for statement in session.parse(sql):
                result = drive(session.execute(statement), lock, poll)
                try:
                    rows = [row for b in result.batches for row in text_rows(b.columns, b.length, session.settings)]
                except errors.Error as error:
                    session.failed(error)
                    raise
                drive(session.finish(), lock, poll)
        except errors.Error as error:
            return Answer(error=error)
        return Answer(rows)

    def close(self) -> None:
        self.session.close()


class Wire:
    """Through the PostgreSQL port, by psycopg; `binary` and `prepared` choose formats and protocol."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self.connection: Any = psycopg.connect(dsn, autocommit=True)
        for oid in (16, 17, 20, 21, 23, 25, 700, 701, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1700, 2950):
            self.connection.adapters.register_loader(oid, _text_loader())

    def run(self, sql: str) -> Answer:
        import psycopg

        try:
            cursor = self.connection.execute(sql)
            while cursor.nextset():
                pass
            rows = [list(row) for row in cursor.fetchall()] if cursor.description else []
        except psycopg.Error as error:
            wrapped = errors.Error(error.diag.message_primary or str(error))
            wrapped.sqlstate = error.sqlstate or "XX000"  # type: ignore[misc]
            return Answer(error=wrapped)
        return Answer(rows)

    def close(self) -> None:
        self.connection.close()


def _text_loader() -> Any:
    from psycopg.adapt import Loader

    class Text(Loader):
        def load(self, data: Any) -> str:
            return bytes(data).decode()

    return Text


def text_rows(columns: Sequence[Vector], length: int, settings: Any) -> list[list[str | None]]:
    """The rows of a batch in PostgreSQL's text form."""
    shown = []
    for column in columns:
        encoded = text(column, settings)
        data, offsets = encoded.data.tobytes(), encoded.offsets.tolist()
        valid = [True] * length if column.valid is None else column.valid.tolist()
        shown.append([data[offsets[i] : offsets[i + 1]].decode() if valid[i] else None for i in range(length)])
    return [list(row) for row in zip(*shown, strict=True)] if columns else [[] for _ in range(length)]


def parse(source: str) -> Iterator[Record]:
    """The records of a file. `halt` ends it; `skipif postgresql` and `onlyif` for other engines skip the next record."""
    lines = source.split("\n")
    i, skip = 0, False
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
            i += 1
        else:
            start, kind = i, words[0]
            argument = line[len(kind) :].strip()
            i += 1
            body: list[str] = []
            while i < len(lines) and lines[i].strip() and lines[i].strip() != "----":
                body.append(lines[i])
                i += 1
            expected: list[str] | None = None
            if kind == "query" and i < len(lines) and lines[i].strip() == "----":
                i += 1
                expected = []
                while i < len(lines) and lines[i].strip():
                    expected.append(lines[i])
                    i += 1
            if not skip:
                yield Record(start + 1, kind, argument, "\n".join(body), expected)
            skip = False


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
    if kind == "I":
        return str(int(float(value))) if "." in value or "e" in value else value
    return "".join(c if " " <= c <= "~" else "@" for c in value) if value else "(empty)"


def fault(record: Record, answer: Answer) -> str | None:
    """What is wrong with an answer, None when it is right."""
    outcome, *wanted = record.argument.split(None, 2)
    if outcome == "error":
        if answer.error is None:
            return "succeeded, but an error is expected"
        if wanted and wanted[0] != answer.error.sqlstate:
            return f"expected SQLSTATE {wanted[0]}, got {answer.error.sqlstate}: {answer.error.message}"
        if len(wanted) > 1 and wanted[1] not in answer.error.message:
            return f"expected {wanted[1]!r} in {answer.error.message!r}"
        return None
    if answer.error is not None:
        return f"{answer.error.sqlstate}: {answer.error.message}"
    if record.kind == "statement":
        return None
    values = shown_values(answer, outcome, wanted[0] if wanted else "nosort")
    expected = record.expected or []
    if len(expected) == 1 and " values hashing to " in expected[0]:
        digest = hashlib.md5("".join(v + "\n" for v in values).encode()).hexdigest()  # the format's own, not for security
        got = f"{len(values)} values hashing to {digest}"
        return None if got == expected[0] else f"expected {expected[0]}, got {got}"
    listed = [v for line in expected for v in line.split("\t")] if any("\t" in x for x in expected) else expected
    return None if values == listed else f"expected {listed}, got {values}"


def run_file(path: Path, transport: Transport) -> list[str]:
    """Runs a file and returns its faults, each with `file:line`."""
    faults = []
    for record in parse(path.read_text()):
        if record.kind not in ("statement", "query"):
            faults.append(f"{path}:{record.line}: unknown record {record.kind!r}")
            continue
        wrong = fault(record, transport.run(record.sql))
        if wrong is not None:
            faults.append(f"{path}:{record.line}: {wrong}\n    {record.sql}")
    return faults


def complete(path: Path, transport: Transport) -> None:
    """Writes the transport's answers into the file's queries."""
    lines = path.read_text().split("\n")
    out: list[str] = []
    at = 0
    for record in parse(path.read_text()):
        answer = transport.run(record.sql)
        if record.kind != "query" or record.argument.startswith("error"):
            continue
        end = record.line + len(record.sql.split("\n"))
        out += lines[at:end]
        at = end
        while at < len(lines) and lines[at].strip():
            at += 1
        words = record.argument.split()
        if answer.error is not None:
            out += ["----", f"!! {answer.error.sqlstate}: {answer.error.message}"]
        else:
            width = max(1, len(words[0]))
            values = shown_values(answer, words[0], words[1] if len(words) > 1 else "nosort")
            rows = ["\t".join(values[i : i + width]) for i in range(0, len(values), width)]
            out += ["----", *rows]
    out += lines[at:]
    path.write_text("\n".join(out))


def main() -> int:
    """Runs or completes files on embedded stores of their own; the exit code says whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    failed = 0
    for path in options.files:
        with tempfile.TemporaryDirectory() as directory:
            database = Database.open(directory)
            transport = Embedded(database)
            if options.complete:
                complete(path, transport)
            else:
                faults = run_file(path, transport)
                failed += len(faults)
                sys.stdout.write("\n".join(faults[:20]) + f"\n{path}: {len(faults)} faults\n")
            transport.close()
            database.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
