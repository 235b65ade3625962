"""The house rules that a program can check: floors, circles, and how large things are.

`python tests/helpers/architecture.py` prints what breaks them; test_hygiene.py fails for the same.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "flask_offload"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE
OTHERS = tuple(SOURCE.with_name(f"{PACKAGE}_{name}") for name in ("celery", "lab"))
"""Packages of the same distribution that import from this one."""

# From the ground up. A module may import from its own floor and from those below, never from above.
# A name is that of a folder or of a module beside the folders; PACKAGE is what users import.
FLOORS: Sequence[Sequence[str]] = (
    ("errors",),
    ("profiler", "measure"),
    ("config", "role", "signals", "textui"),
    ("payload",),
    ("jobs",),
    ("tasks",),
    ("engines",),
    ("inline", "mail", "worker"),
    ("feature_checks", "transactions"),
    ("admin",),
    ("engine_api",),
    ("state",),
    ("checks",),
    ("web",),
    ("dashboard",),
    ("extension",),
    (PACKAGE,),
    ("testing",),
    ("cli", "pytest_plugin"),
)

# An upward import that has to be, as (module, imported module): the reason.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("flask_offload.extension", "flask_offload.cli"): "init_app adds the commands to app.cli",
}

# Folders that import nothing of each other, with the reason.
APART: Sequence[tuple[str, str, str]] = (
    ("profiler", "measure", "one can be understood, and used, without the other"),
)

MAX_LOOSE = 14
"""Modules beside the folders."""
CORE = ("tasks", "jobs", "payload", "engines", "worker")
"""The folders of the queue. What they import belongs to the core too."""
NOT_CORE = ("profiler", "measure", "dashboard", "engines.postgres")
"""What belongs to the engine of another database, and what the core does not know."""
MAX_CORE = 16_500
"""Lines that a reader of the queue may have to know: CORE and all that it imports, but NOT_CORE."""

MAX_FILE = 420
MAX_FUNCTION = 60
"""Lines of a function's body, without its signature and its docstring."""


@dataclass(frozen=True)
class Import:
    """One module of the package uses another. at_run_time: not merely for its annotations."""

    module: str
    imported: str
    line: int
    at_run_time: bool


def modules(root: Path) -> dict[str, Path]:
    """The dotted name of each module under the package's folder, and its file."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> list[Import]:
    """Every import of one module of the package by another, those inside functions included."""
    known = modules(root)
    return [
        Import(name, imported, line, at_run_time)
        for name, path in known.items()
        for imported, line, at_run_time in _imports_of(name, path, known)
        if imported != name
    ]


def _imports_of(
    name: str, path: Path, known: Mapping[str, Path]
) -> Iterator[tuple[str, int, bool]]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(), str(path))
    running = set(_at_run_time(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in known:
                    yield alias.name, node.lineno, node in running
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                for target in (f"{base}.{alias.name}", base):
                    if target in known:
                        yield target, node.lineno, node in running
                        break


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree, but not into `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _at_run_time(other)
        else:
            yield from _at_run_time(child)


def _floor(module: str, floors: Sequence[Sequence[str]]) -> int | None:
    """The number of a module's floor, the ground being 0; None when the table does not know it."""
    numbers = {name: number for number, names in enumerate(floors) for name in names}
    name = module.partition(".")[2] or module
    while name and name not in numbers:
        name = name.rpartition(".")[0]
    return numbers.get(name)


def upward_imports(
    root: Path,
    floors: Sequence[Sequence[str]] = FLOORS,
    exceptions: Mapping[tuple[str, str], str] = EXCEPTIONS,
) -> list[str]:
    """A sentence for each upward import, each module without a floor, each exception not needed."""
    problems = [
        f"{name} has no floor: give it one in FLOORS (tests/helpers/architecture.py)"
        for name in modules(root)
        if _floor(name, floors) is None
    ]
    used = set()
    for item in imports(root):
        here, there = _floor(item.module, floors), _floor(item.imported, floors)
        if not item.at_run_time or here is None or there is None or there <= here:
            continue
        if (item.module, item.imported) in exceptions:
            used.add((item.module, item.imported))
        else:
            higher = f"{item.imported} stands {there - here} floor(s) higher"
            problems.append(f"{item.module}, line {item.line}, imports upward: {higher}")
    problems += [
        f"EXCEPTIONS lists {pair}, which is no upward import" for pair in {*exceptions} - used
    ]
    return problems


def circles(root: Path, exceptions: Mapping[tuple[str, str], str] = EXCEPTIONS) -> list[str]:
    """A sentence for each circle of imports, those for annotations included: two modules that know
    each other by name can't be understood, or tested, one by one."""
    edges: dict[str, list[str]] = {}
    for item in imports(root):
        if (item.module, item.imported) not in exceptions:
            edges.setdefault(item.module, []).append(item.imported)
    found: dict[frozenset[str], str] = {}
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            circle = trail[trail.index(module) :]
            found.setdefault(frozenset(circle), " -> ".join([*circle, module]))
        elif module not in done:
            for imported in edges.get(module, []):
                walk(imported, [*trail, module])
            done.add(module)

    for start in sorted(edges):
        walk(start, [])
    return [f"imports go round in a circle: {text}" for text in found.values()]


def joined_folders(root: Path, apart: Sequence[tuple[str, str, str]] = APART) -> list[str]:
    """A sentence for each import between two folders that have nothing to do with each other."""
    found = []
    for item in imports(root):
        folders = {name.split(".")[1] for name in (item.module, item.imported) if "." in name}
        for one, other, reason in apart:
            if folders == {one, other}:
                place = f"{item.module}, line {item.line}, imports {item.imported}"
                found.append(f"{place}: {one} and {other} stay apart, so that {reason}")
    return found


def core_modules(
    root: Path, core: Sequence[str] = CORE, without: Sequence[str] = NOT_CORE
) -> dict[str, Path]:
    """The modules of the core's folders and all that they import, directly or through others."""
    known = modules(root)

    def within(module: str, folders: Sequence[str]) -> bool:
        name = module.partition(".")[2] + "."
        return any(name.startswith(f"{folder}.") for folder in folders)

    edges: dict[str, list[str]] = {}
    for item in imports(root):
        if item.at_run_time:
            edges.setdefault(item.module, []).append(item.imported)
    waiting = [name for name in known if within(name, core)]
    found: dict[str, Path] = {}
    while waiting:
        module = waiting.pop()
        if module not in found and not within(module, without):
            found[module] = known[module]
            waiting += edges.get(module, [])
    return found


def too_many_lines(
    root: Path,
    limit: int = MAX_CORE,
    core: Sequence[str] = CORE,
    without: Sequence[str] = NOT_CORE,
) -> list[str]:
    """A sentence when the core has outgrown a reader."""
    found = core_modules(root, core, without)
    total = sum(len(path.read_text().splitlines()) for path in found.values())
    if total <= limit:
        return []
    return [
        f"the core of {root.name} has {total:,} lines, {total - limit:,} more than {limit:,}"
        f" (without {', '.join(without)}): delete what is not reached, or say a thing once"
    ]


def too_many_loose_modules(root: Path, limit: int = MAX_LOOSE) -> list[str]:
    """A sentence when too many modules stand beside the folders."""
    loose = sorted(path.name for path in root.glob("*.py") if path.name != "__init__.py")
    if len(loose) <= limit:
        return []
    return [
        f"{len(loose)} modules stand beside the folders of {root.name}, more than {limit}: find a"
        f" folder for one of {', '.join(loose)}"
    ]


def long_files(root: Path, limit: int = MAX_FILE) -> list[str]:
    """A sentence for each file that is asking to be two."""
    lengths = {path: len(path.read_text().splitlines()) for path in modules(root).values()}
    return [
        f"{path.relative_to(root.parent)} has {length} lines, more than {limit}: make it two files"
        for path, length in lengths.items()
        if length > limit
    ]


def long_functions(root: Path, limit: int = MAX_FUNCTION) -> list[str]:
    """A sentence for each function that is asking to be two."""
    problems = []
    for path in modules(root).values():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                if length > limit:
                    place = f"{path.relative_to(root.parent)}:{node.lineno}"
                    problems.append(f"{place}: {node.name} has {length} lines, more than {limit}")
    return problems


def problems(root: Path = SOURCE, others: Sequence[Path] = OTHERS) -> list[str]:
    """All that breaks the rules."""
    found = [
        *upward_imports(root),
        *joined_folders(root),
        *too_many_loose_modules(root),
        *too_many_lines(root),
    ]
    for package in (root, *others):
        found += [*circles(package), *long_files(package), *long_functions(package)]
    return found


if __name__ == "__main__":
    found = problems()
    print("\n".join(found) or "Architecture: imports run downward only, in no circles.")
    sys.exit(bool(found))
