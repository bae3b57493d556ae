"""Style as a failing test: who may import whom, what may not be called, how long things may be, what must be told.

Goal: the rules of the house hold for every file at every commit, not only where a reviewer looked. Method: each rule
reads the syntax trees of the package and lists its violations as `file:line: what`. Source: TigerBeetle's tidy.zig.
"""

from __future__ import annotations

import ast
import importlib
import re
import statistics
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "filestore"

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600
MODULE_LINES_MEDIAN_MAX = 200
RETURNS_ANNOTATED_MIN = 0.95

# From the top down; a room may import itself and the rooms below it.
ROOMS = (
    ("cli", "demo", "__main__"),
    ("server", "dbapi"),
    ("database", "session", "planning", "commands", "catalog"),
    ("result",),
    ("query",),
    ("txn",),
    ("index",),
    ("storage",),
    ("hal",),
    ("settings",),
    ("timezones",),
    ("types",),
    ("errors",),
)
# Modules of the top level that belong to a room.
ROOM_OF = {"settings_table": "settings", "warm": "database", "connect": "dbapi", "cursor": "dbapi"}

# Import -> the modules that may have it, as regular expressions over dotted names.
ONLY = {
    "os": r"filestore\.hal\..*",
    "mmap": r"filestore\.hal\..*",
    "ctypes": r"filestore\.hal\..*",
    "fcntl": r"filestore\.hal\..*",
    "grpc": r"filestore\.server\.grpc.*",
    "sqlglot": r"filestore\.query\..*",
    "lark": r"filestore\.query\..*",
    "numba": r"filestore\..*\.(\w+_)?kernels|filestore\.query\.compile",
    "llvmlite": r"filestore\..*\.(\w+_)?kernels|filestore\.query\.compile",
    "pickle": r"(?!)",
    "marshal": r"(?!)",
    "shelve": r"(?!)",
}
CALLS = {
    "eval": r"(?!)",
    "exec": r"filestore\.query\.compile",
    "print": r"filestore\.(cli|__main__|demo\..*)",
    "breakpoint": r"(?!)",
    "NotImplementedError": r"(?!)",
}
WORDS = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b|\bfor now\b")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "stuff"}

# Functions longer than the limit, each with its reason. May only shrink: a name that no longer exists fails.
LONG_FUNCTIONS: dict[str, str] = {}


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        top = parts[1] if len(parts) > 1 else "filestore"
        return ROOM_OF.get(top, top)

    def where(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


@cache
def modules() -> tuple[Module, ...]:
    """Every hand-written module; what protoc generates follows no style."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text()
        found.append(Module(name, path, text, ast.parse(text, str(path))))
    return tuple(found)


def imports(module: Module) -> Iterator[tuple[str, int]]:
    """Dotted names that a module imports, with their lines; `from a import b` yields both a and a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}.{child.name}")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}.{child.name}", child
                yield from walk(child, f"{prefix}.{child.name}")
            else:
                yield from walk(child, prefix)

    return walk(module.tree, module.name)


def none_of(faults: list[str]) -> None:
    """Fails with every fault on a line of its own, sorted by file."""
    if faults:
        pytest.fail(f"{len(faults)} faults:\n" + "\n".join(sorted(set(faults))), pytrace=False)


def level(room: str) -> int | None:
    return next((depth for depth, rooms in enumerate(ROOMS) if room in rooms), None)


def test_imports_point_down() -> None:
    faults = []
    for module in modules():
        mine = level(module.room)
        if module.name == "filestore":
            continue  # the front door names what users call
        if mine is None:
            faults.append(f"{module.where(1)}: no room for {module.name}: add it to ROOMS")
            continue
        for imported, line in imports(module):
            parts = imported.split(".")
            if parts[0] != "filestore" or len(parts) == 1:
                continue
            theirs = level(ROOM_OF.get(parts[1], parts[1]))
            if theirs is not None and theirs < mine:
                faults.append(f"{module.where(line)}: {module.room} imports {imported}, which is above it")
    none_of(faults)


def test_only_some_may_import() -> None:
    faults = []
    for module in modules():
        for imported, line in imports(module):
            allowed = ONLY.get(imported.split(".")[0])
            if allowed is not None and not re.fullmatch(allowed, module.name):
                faults.append(f"{module.where(line)}: imports {imported}, allowed in {allowed} only")
    none_of(faults)


def test_banned_calls() -> None:
    faults = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id in CALLS and not re.fullmatch(CALLS[node.id], module.name):
                faults.append(f"{module.where(node.lineno)}: {node.id}")
    none_of(faults)


def test_no_exception_is_swallowed() -> None:
    faults = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            if node.type is None:
                faults.append(f"{module.where(node.lineno)}: bare except")
            elif isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"):
                if all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
                    faults.append(f"{module.where(node.lineno)}: except {node.type.id} that swallows")
    none_of(faults)


def test_every_module_says_what_it_is() -> None:
    none_of([module.where(1) + ": no module docstring" for module in modules() if not ast.get_docstring(module.tree)])


def test_functions_are_short() -> None:
    faults, long = [], set()
    for module in modules():
        for name, node in functions(module):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                long.add(name)
                if name not in LONG_FUNCTIONS:
                    faults.append(f"{module.where(node.lineno)}: {name} has {lines} lines")
    faults += [
        f"tests/test_tidy.py: {name} is short now: take it off LONG_FUNCTIONS" for name in LONG_FUNCTIONS.keys() - long
    ]
    none_of(faults)


def test_modules_are_short() -> None:
    faults = [f"{module.where(1)}: {module.lines} lines" for module in modules() if module.lines > MODULE_LINES_MAX]
    faults += [f"{m.where(1)}: a name that says nothing" for m in modules() if m.path.stem in VAGUE_NAMES]
    none_of(faults)


def test_the_median_module_is_small() -> None:
    sizes = [module.lines for module in modules() if module.path.stem != "__init__"]
    median = statistics.median(sizes)
    print(f"{len(sizes)} modules, {sum(sizes)} lines, median {median}")
    assert median <= MODULE_LINES_MEDIAN_MAX


def test_returns_are_annotated() -> None:
    bare, total = [], 0
    for module in modules():
        for name, node in functions(module):
            total += 1
            if node.returns is None:
                bare.append(f"{module.where(node.lineno)}: {name}")
    share = 1 - len(bare) / max(total, 1)
    assert share >= RETURNS_ANNOTATED_MIN, f"{share:.1%} of {total} returns annotated; not:\n" + "\n".join(bare[:40])


def test_nothing_is_left_for_later() -> None:
    faults = []
    for module in modules():
        for number, line in enumerate(module.text.splitlines(), 1):
            if WORDS.search(line):
                faults.append(f"{module.where(number)}: {line.strip()[:100]}")
    none_of(faults)


def test_no_module_is_shelf_ware() -> None:
    """Every module is imported by another one of the package, or is where something starts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    started = {target.partition(":")[0] for target in project["scripts"].values()}
    imported: set[str] = set()
    for module in modules():
        imported |= {name for name, _ in imports(module)}
    faults = [
        f"{module.where(1)}: imported by no module of the package"
        for module in modules()
        if module.name not in imported | started and module.path.stem not in ("__init__", "__main__")
    ]
    none_of(faults)


def resolves(dotted: str) -> bool:
    """Whether a name like filestore.txn.snapshot.Snapshot.sees leads somewhere: a module, then attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            if hasattr(found, attribute):
                found = getattr(found, attribute)
            elif attribute in getattr(found, "__annotations__", {}):
                return True  # a field of a dataclass or a protocol
            else:
                return False
        return True
    return False


def documents() -> list[Path]:
    return sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_names_in_the_documents_resolve() -> None:
    """`filestore.a.b` is a name, `filestore/a/b.py` a file; both have to be there."""
    faults = []
    for path in documents():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            for dotted in re.findall(r"(?<![\w./-])filestore(?:\.[A-Za-z_]\w*)+", line):
                if not resolves(dotted):
                    faults.append(f"{where}: {dotted} does not resolve")
            for file in re.findall(r"(?<![\w./-])(?:filestore|tests|bench|docs)/[\w./-]+\.\w+", line):
                if not (ROOT / file).exists():
                    faults.append(f"{where}: {file} is not there")
    none_of(faults)


def test_links_in_the_documents_lead_somewhere() -> None:
    faults = []
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                faults.append(f"{path.relative_to(ROOT)}: link to {target}")
    none_of(faults)


def test_the_changelog_has_an_unreleased_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    section = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert re.search(r"^- ", section[1], re.MULTILINE), "nothing unreleased is told"
