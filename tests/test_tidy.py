"""Style as a failing test: who may import whom, what may not be called, how long things may be, what must be told.

Goal: the rules of the house hold for every file at every commit, not only where a reviewer looked. Method: each rule
reads the syntax trees of the package and lists its violations as `file:line: what`. Source: TigerBeetle's tidy.zig.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import statistics
import tokenize
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
    ("types", "identifiers"),
    ("errors",),
)
# Modules of the top level that belong to a room.
ROOM_OF = {"settings_table": "settings", "warm": "database", "connect": "dbapi", "cursor": "dbapi"}

# Rooms of one level that know nothing of each other.
APART = {"server": "dbapi", "dbapi": "server"}

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
# Files that are no part of a store: the modules that touch them without the hal, each with its reason.
FILES_OUTSIDE_HAL = {
    "filestore.cli": "scripts that the shell runs",
    "filestore.demo.flights": "the sample that comes with the demo",
    "filestore.demo.server": "the log of the server that it starts",
    "filestore.demo.show": "the directory that it makes and removes",
    "filestore.query.compile": "sources of fused plans, beside numba's cache of them",
    "filestore.query.utility": "its grammar, a file of the package",
    "filestore.server.serve": "password, certificate and key",
    "filestore.warm": "a mark beside numba's cache",
}
FILE_CALLS = {"read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "touch", "rmdir", "rmtree"}
FILE_CALLS_OF_FS = {"rename", "unlink"}  # a `FileSystem` of the hal has them too
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
            room = ROOM_OF.get(parts[1], parts[1])
            theirs = level(room)
            if APART.get(module.room) == room:
                faults.append(f"{module.where(line)}: {module.room} imports {imported}, which is beside it")
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


def touches_files(node: ast.AST) -> bool:
    """Whether a syntax tree's node is a call that opens, makes or removes a file by itself."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Name):
        return called.id == "open"
    if not isinstance(called, ast.Attribute):
        return False
    mine = called.attr in FILE_CALLS_OF_FS and not re.search(r"\bself$|fs$", ast.unparse(called.value))
    return mine or called.attr in FILE_CALLS


def test_only_the_hal_touches_files() -> None:
    faults, seen = [], set()
    for module in modules():
        if module.room == "hal":
            continue
        for node in ast.walk(module.tree):
            if touches_files(node):
                seen.add(module.name)
                if module.name not in FILES_OUTSIDE_HAL:
                    faults.append(f"{module.where(node.lineno)}: {ast.unparse(node)[:60]}")  # type: ignore[attr-defined]
    faults += [f"tests/test_tidy.py: {name} touches no file now" for name in FILES_OUTSIDE_HAL.keys() - seen]
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


def test_the_rooms_below_say_on_which_threads_they_run() -> None:
    """Each module of the rooms that threads share; constants and pure functions say that they are."""
    rooms = ("filestore.storage.", "filestore.index.", "filestore.txn.")
    told = {m.name: " ".join((ast.get_docstring(m.tree) or "").split()) for m in modules() if m.name.startswith(rooms)}
    none_of([f"{name}: no thread rule" for name, text in told.items() if "Thread rule" not in text])


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


def sources() -> list[Path]:
    """Every hand-written Python file: the package, its tests, its benchmarks."""
    found = [path for top in ("filestore", "tests", "bench", "tools") for path in (ROOT / top).rglob("*.py")]
    return sorted(path for path in found if not path.stem.endswith(("_pb2", "_pb2_grpc")))


@cache
def prose(path: Path) -> tuple[tuple[int, str], ...]:
    """(line, text) of every docstring and comment of a file."""
    text = path.read_text()
    found = []
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            told = ast.get_docstring(node, clean=False)
            if told is not None:
                found.append((node.body[0].lineno, told))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string))
    return tuple(found)


@cache
def members() -> dict[str, tuple[set[str], set[str]]]:
    """Attributes and bases of every class of the package, by its name; classes of one name are taken together."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            attributes, bases = found.setdefault(node.name, (set(), set()))
            bases |= {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
            for child in ast.walk(node):
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    attributes.add(child.name)
                elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    attributes.add(child.id)
                elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
                    attributes.add(child.attr)
    return found


def has_member(name: str, attribute: str) -> bool:
    """Whether a class has an attribute, its own or a base's; one whose base is a library's may have any."""
    attributes, bases = members()[name]
    plain = {"Protocol", "Generic", "object", "ABC"}
    return attribute in attributes or any(
        base not in plain and (base not in members() or has_member(base, attribute)) for base in bases
    )


def is_there(name: str, beside: Path) -> bool:
    """Whether a path, perhaps with a `*`, is found from a file's directory or one above it, up to the root."""
    return any(True for start in beside.parents if start.is_relative_to(ROOT) for _ in start.glob(name))


def test_names_in_docstrings_and_comments_resolve() -> None:
    """`filestore.a.b` is a name, `a/b.py` a file, `Class.attribute` an attribute of the package's class."""
    faults = []
    for path in sources():
        for number, text in prose(path):
            where = f"{path.relative_to(ROOT)}:{number}"
            for dotted in re.findall(r"(?<![\w./-])filestore(?:\.[A-Za-z_]\w*)+", text):
                service = dotted.startswith("filestore.v1.") and f"service {dotted[13:]} " in PROTO.read_text()
                if dotted != "filestore.a.b" and not service and not resolves(dotted):
                    faults.append(f"{where}: {dotted} does not resolve")
            for file in re.findall(r"(?<![\w./{-])([a-z_]+/[\w/*]+\.(?:py|md|txt|toml|proto))\b", text):
                if file not in ("a/b.py", "filestore/a/b.py") and not is_there(file, path):
                    faults.append(f"{where}: {file} is not there")
            for file in re.findall(r"`(\w+\.(?:py|md))`", text):
                if not is_there(file, path):
                    faults.append(f"{where}: {file} is not beside it")
            for name, attribute in re.findall(r"`([A-Z]\w*)\.(\w+)(?:\(\))?`", text):
                if name in members() and not has_member(name, attribute):
                    faults.append(f"{where}: {name} has no {attribute}")
    none_of(faults)


PROTO = PACKAGE / "server" / "proto" / "filestore" / "v1" / "rows.proto"
RULES = ROOT / "docs" / "architecture" / "reliability.md"
RULE = re.compile(r"\b[RSF]\d{1,2}\b")


def test_rules_that_are_cited_are_told() -> None:
    """A rule's number, such as R31, leads to docs/architecture/reliability.md, and what holds it is a test."""
    told = RULES.read_text()
    known = set(re.findall(r'<a id="[rsfp]\d+"></a>\*\*([RSFP]\d+)\*\*', told))
    faults = [f"{RULES.name}: {rule} has another anchor" for rule in known if f'<a id="{rule.lower()}">' not in told]
    for path in sources():
        for number, text in prose(path):
            cited = {*RULE.findall(text), *re.findall(r"RELIABILITY\s+([A-Z]\d+)", text)}
            faults += [f"{path.relative_to(ROOT)}:{number}: {rule} is not told" for rule in cited - known]
    for path in documents():
        cited = set(re.findall(r"RELIABILITY\s+([A-Z]\d+)|\((R\d+)\)", path.read_text()))
        faults += [f"{path.relative_to(ROOT)}: {rule} is not told" for pair in cited for rule in {*pair} - {""} - known]
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", told):
        if f"def {name}(" not in (ROOT / file).read_text():
            faults.append(f"{RULES.name}: {file} has no {name}")
    none_of(faults)


def test_no_wall_clock_below_the_session() -> None:
    """R38: what has to be right asks no clock that can be set."""
    faults = []
    for module in modules():
        if module.room not in ("txn", "index", "storage", "hal"):
            continue
        for node in ast.walk(module.tree):
            clocks = ("time.time", "time.time_ns", "dt.datetime.now")
            if isinstance(node, ast.Attribute) and ast.unparse(node) in clocks:
                faults.append(f"{module.where(node.lineno)}: {ast.unparse(node)}")
    none_of(faults)


def test_the_changelog_has_an_unreleased_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    section = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert re.search(r"^- ", section[1], re.MULTILINE), "nothing unreleased is told"
