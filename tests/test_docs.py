"""The documents, held against the program: names resolve, tables say what the code says, examples run.

Goal: a document that lies fails here. Method: tables between `<!-- generated:x -->` marks are made from the code
(`python tests/test_docs.py` writes them anew); tables written by hand are checked for what is missing or too much;
every fence marked `run` is run, page by page in a directory of its own, and what it prints is compared with the fence
marked `output` behind it. Names, files and links in README and docs are checked by tests/test_tidy.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main

from filestore import errors
from filestore.cli import app
from filestore.dbapi.exceptions import class_of
from filestore.settings import show
from filestore.settings_table import SETTINGS
from filestore.types import KINDS, Kind, SqlType, numeric

if TYPE_CHECKING:
    from filestore.demo.server import Server

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVED = "<!-- examples: server -->"  # the page's examples talk to a server instead of a directory
PORTS = (("5433", "port"), ("8815", "flight_port"), ("50051", "grpc_port"))
NO_EFFECT = "Accepted for clients"
SEPARATOR = "\x1e"
HIDDEN = {Kind.UNKNOWN, Kind.VOID}  # no column and no value has them


# --- tables made from the code


def settings_table(rows: list[str]) -> list[str]:
    lines = ["| setting | default | |", "|---|---|---|"]
    for name in sorted(rows, key=str.lower):
        setting = SETTINGS[name]
        default = show(setting, setting.default) if setting.default != "" else ""
        lines.append(f"| `{setting.name}` | {f'`{default}`' if default else ''} | {setting.description} |")
    return lines


def effective_settings() -> list[str]:
    """Settings that a session may change and feels."""
    return settings_table(
        [name for name, s in SETTINGS.items() if s.context == "user" and not s.description.startswith(NO_EFFECT)]
    )


def fixed_settings() -> list[str]:
    """Facts about the server."""
    return settings_table([name for name, s in SETTINGS.items() if s.context == "internal"])


def idle_settings() -> list[str]:
    """Settings that clients set and nothing reads."""
    names = sorted(s.name for s in SETTINGS.values() if s.context == "user" and s.description.startswith(NO_EFFECT))
    return [", ".join(f"`{name}`" for name in names) + "."]


def types_table() -> list[str]:
    lines = ["| type | also | OID | of its array | stored as | Arrow |", "|---|---|---|---|---|---|"]
    for kind, info in KINDS.items():
        if kind in HIDDEN:
            continue
        also = ", ".join(f"`{name}`" for name in info.names if name != kind.value)
        if kind is Kind.NUMERIC:
            rows = [("`numeric(p,s)`, p <= 18", numeric(18, 2)), ("`numeric`, `numeric(p,s)`", SqlType(kind))]
        else:
            rows = [(f"`{kind.value}`", SqlType(kind))]
        for shown, sql_type in rows:
            arrow = "decimal128(p, s)" if sql_type.precision else str(sql_type.arrow())
            stored = f"{sql_type.physical.value}, {sql_type.width} bytes"
            lines.append(f"| {shown} | {also} | {info.oid} | {info.array_oid} | {stored} | {arrow} |")
    return lines


GENERATED = {
    ("settings.md", "effective"): effective_settings,
    ("settings.md", "fixed"): fixed_settings,
    ("settings.md", "idle"): idle_settings,
    ("types.md", "types"): types_table,
}


def generated(text: str, name: str) -> str:
    """What a page has between the marks of a name."""
    found = re.search(rf"<!-- generated:{name} -->\n(.*?)<!-- /generated:{name} -->", text, re.DOTALL)
    assert found is not None, f"no marks of {name}"
    return found[1]


def write_generated() -> None:
    for (page, name), make in GENERATED.items():
        path = REFERENCE / page
        text = path.read_text()
        mark = f"<!-- generated:{name} -->\n"
        path.write_text(text.replace(mark + generated(text, name), mark + "\n".join(make()) + "\n"))


@pytest.mark.parametrize(("page", "name"), GENERATED, ids=lambda part: part.removesuffix(".md"))
def test_a_generated_table_is_the_codes(page: str, name: str) -> None:
    told = generated((REFERENCE / page).read_text(), name)
    assert told == "\n".join(GENERATED[page, name]()) + "\n", "python tests/test_docs.py writes it anew"


# --- tables written by hand


def test_every_sqlstate_is_told() -> None:
    text = (REFERENCE / "errors.md").read_text()
    rows = re.finditer(r"^\| (\w{5}) \| `(\w+)` \| .*? \| (yes ?|)\|$", text, re.MULTILINE)
    told = {row[1]: (row[2], row[3]) for row in rows}
    known = {cls.sqlstate: cls for cls in reversed(errors.all_classes()) if cls is not errors.Error}
    bases = {"22000", "23000", "25000"}  # raised by nobody: their classes stand for a group
    assert told.keys() == known.keys() - bases | {"02000"}
    for code, (name, retry) in told.items():
        assert name == class_of(code).__name__, code
        assert (retry.strip() == "yes") == (code in known and known[code].retryable), code


def test_every_command_and_option_is_told() -> None:
    text = (REFERENCE / "command-line.md").read_text()
    group = typer.main.get_command(app)
    missing = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        if f"`filestore {name}" not in text:
            missing.append(name)
        for parameter in command.params:
            missing += [f"{name} {o}" for o in parameter.opts if o.startswith("-") and o != "--help" and o not in text]
    assert not missing
    known = {o for command in group.commands.values() for p in command.params for o in p.opts}  # type: ignore[attr-defined]
    assert not set(re.findall(r"`(--[\w-]+)", text)) - known - {"--help"}


def test_no_document_names_a_place_of_one_machine() -> None:
    for path in PAGES:
        found = re.search(r"(?<![\w.])/(home|root|work)/", path.read_text())
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


# --- examples


@dataclass(frozen=True)
class Example:
    """A fence marked `run`: its language, its text, and what it has to print, None when that is not told."""

    language: str
    text: str
    output: str | None


def examples(path: Path) -> list[Example]:
    found: list[Example] = []
    for fence in re.finditer(r"^```(\w+) (run|output)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        language, what, text = fence.groups()
        if what == "run":
            found.append(Example(language, text, None))
        else:
            found[-1] = Example(found[-1].language, found[-1].text, text)
    return found


WITH_EXAMPLES = [path for path in PAGES if examples(path)]

EMBEDDED = """
def _sql(text):
    import filestore
    with filestore.connect("./data", autocommit=True) as connection:
        connection.executescript(text)
"""
OVER_THE_PORT = """
def _sql(text):
    import psycopg
    with psycopg.connect("host=127.0.0.1 port=5433 user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(text)
"""


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(path: Path, request: pytest.FixtureRequest, data_dir: Path) -> None:
    place = data_dir.parent
    found = examples(path)
    served = SERVED in path.read_text()
    parts = [OVER_THE_PORT if served else EMBEDDED]
    for example in found:
        assert example.language in ("python", "sql"), example
        parts.append(example.text if example.language == "python" else f"_sql({example.text!r})\n")
    script = f"\nprint({SEPARATOR!r}, flush=True)\n".join(parts).replace("/tmp/", f"{place}/")
    if served:
        server: Server = request.getfixturevalue("server")
        for port, name in PORTS:
            script = script.replace(port, str(getattr(server, name)))
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    printed = run.stdout.split(SEPARATOR + "\n")[1:]
    for example, output in zip(found, printed, strict=True):
        if example.output is not None:
            assert output == example.output, example.text


if __name__ == "__main__":
    write_generated()
