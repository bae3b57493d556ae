"""Golden traces: what client and server say, a message a line, as `F Query 'select 1'` and `B DataRow (b'1',)`.

F lines up to a message that is answered at once are sent in one piece, and must be answered by the B lines that
follow. OIDs of tables are shown as their order in the trace. `#` begins a comment. After libpq's PQtrace and
pgproto3's trace_test.go.
"""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any

from filestore.server.pgwire import messages as m
from filestore.server.pgwire import replies as r

# Fields whose values no client may rely on.
_ROUTINE = ("F", "L", "R")
# What a client waits behind.
ANSWERED = (m.Query, m.Sync, m.Flush, m.FunctionCall, m.CopyDone, m.CopyFail)


def parse_line(line: str) -> m.Message:
    """An F line, without the F."""
    name, _, arguments = line.partition(" ")
    values = ast.literal_eval(f"({arguments},)") if arguments else ()
    return getattr(m, name)(*values)


def shown(value: Any, tables: dict[int, int]) -> str:
    if isinstance(value, r.Done):
        return r.NAMES_OF_DONE[value.kind]
    if isinstance(value, r.ErrorResponse):
        told = {k: v for k, v in value.fields.items() if k not in _ROUTINE}
        return f"{type(value).__name__} {told!r}"
    if isinstance(value, r.RowDescription):
        rows = []
        for f in value.fields:
            table = tables.setdefault(f.table_oid, len(tables) + 1) if f.table_oid else 0
            rows.append(repr((f.name, table, f.attnum, f.type_oid, f.size, f.modifier, f.format)))
        return "RowDescription " + ", ".join(rows)
    arguments = ", ".join(repr(getattr(value, f.name)) for f in fields(value))
    return f"{type(value).__name__} {arguments}".rstrip()


def run(path: Path, loopback: Any) -> tuple[str, str]:
    """The file as it is, and as it should read after what was really answered."""
    expected = path.read_text()
    actual: list[str] = []
    group: list[m.Message] = []
    tables: dict[int, int] = {}
    for line in expected.splitlines():
        if line.startswith("B "):
            continue
        actual.append(line)
        if line.startswith("F "):
            group.append(parse_line(line[2:]))
            if isinstance(group[-1], ANSWERED):
                actual += [f"B {shown(reply, tables)}" for reply in loopback.send(*group)]
                group = []
    assert not group, "the last message is one that is answered"
    return expected, "\n".join(actual) + "\n"
