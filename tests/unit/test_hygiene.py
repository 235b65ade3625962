"""The house is in order: floors, circles, sizes, docstrings, links, and no foreign words."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import architecture
import flask_offload
import vocabulary

ROOT = Path(__file__).parents[2]


# --- architecture ------------------------------------------------------------------------------


def test_the_house_is_in_order() -> None:
    assert architecture.problems() == []


def house(folder: Path, **files: str) -> Path:
    """A little package: `a__b="…"` is the file a/b.py."""
    root = folder / "house"
    for name, source in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        (path.parent / "__init__.py").touch()
    (root / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    "source",
    [
        "from .roof import tile",
        "from . import roof",
        "import house.roof",
        "from house import roof",
        "def later():\n    from .roof.tile import red",
        "if True:\n    pass\nelse:\n    from . import roof",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(tmp_path: Path, source: str) -> None:
    root = house(tmp_path, cellar=source, roof__tile="")
    floors = [["cellar"], ["roof"], ["house"]]
    (found,) = architecture.upward_imports(root, floors, {})
    assert re.match(r"house.cellar, line \d, imports upward: house.roof.* stands 1 floor", found)


def test_imports_downward_and_for_annotations_are_free(tmp_path: Path) -> None:
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .roof import tile"
    root = house(tmp_path, cellar=typing, shed="from .cellar import x", roof__tile="")
    floors = [["cellar"], ["roof"], ["shed"], ["house"]]
    assert architecture.upward_imports(root, floors, {}) == []
    assert architecture.circles(root, {}) == []


def test_the_longest_name_gives_the_floor(tmp_path: Path) -> None:
    root = house(tmp_path, cellar="from .roof.beam import x", roof__beam="", roof__tile="")
    assert (
        architecture.upward_imports(root, [["roof.beam"], ["cellar"], ["roof"], ["house"]], {})
        == []
    )


def test_every_module_has_a_floor_and_every_exception_a_need(tmp_path: Path) -> None:
    root = house(tmp_path, cellar="from .roof import tile", roof="", shed="")
    exceptions = {("house.cellar", "house.roof"): "why", ("house.roof", "house.shed"): "stale"}
    found = architecture.upward_imports(root, [["cellar"], ["roof"], ["house"]], exceptions)
    assert [text.partition(":")[0] for text in found] == [
        "house.shed has no floor",
        "EXCEPTIONS lists ('house.roof', 'house.shed'), which is no upward import",
    ]


def test_a_circle_is_told_once_even_when_it_closes_only_in_annotations(tmp_path: Path) -> None:
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a"
    root = house(tmp_path, a="from . import b", b="def f():\n    from . import c", c=typing)
    assert architecture.circles(root, {}) == [
        "imports go round in a circle: house.a -> house.b -> house.c -> house.a"
    ]


def test_lengths_are_counted_without_signature_and_docstring(tmp_path: Path) -> None:
    source = 'def f(\n    a,\n):\n    """Two\n    lines."""\n    a = 1\n\n    return a\n'
    root = house(tmp_path, a=source)
    assert architecture.long_functions(root, 3) == []
    assert architecture.long_functions(root, 2) == ["house/a.py:1: f has 3 lines, more than 2"]
    assert architecture.long_files(root, 8) == []
    assert architecture.long_files(root, 7) == [
        "house/a.py has 8 lines, more than 7: make it two files"
    ]


def test_folders_that_stay_apart(tmp_path: Path) -> None:
    root = house(tmp_path, a__x="from ..b import y", b__y="", c__z="from ..a import x")
    (found,) = architecture.joined_folders(root, [("b", "a", "why")])
    assert found == "house.a.x, line 1, imports house.b.y: b and a stay apart, so that why"


def test_what_is_too_much_is_named(tmp_path: Path) -> None:
    root = house(tmp_path, a="1\n2\n3\n", b="", c__z="from .. import a\n2\n")
    assert architecture.too_many_lines(root, 2, ["c"], ["a"]) == []
    assert architecture.too_many_lines(root, 3, ["a"], []) == []
    (found,) = architecture.too_many_lines(root, 4, ["c"], [])
    assert found.startswith("the core of house has 5 lines, 1 more than 4")
    assert architecture.too_many_loose_modules(root, 2) == []
    (found,) = architecture.too_many_loose_modules(root, 1)
    assert found.endswith("find a folder for one of a.py, b.py")


# --- words -------------------------------------------------------------------------------------


def texts_under_assignments() -> dict[str, str]:
    """The text below `name = …`, which documents what is no class and no function."""
    found = {}
    for path in architecture.modules(architecture.SOURCE).values():
        for first, then in itertools.pairwise(ast.parse(path.read_text()).body):
            if isinstance(first, ast.Assign | ast.AnnAssign) and isinstance(then, ast.Expr):
                for target in first.targets if isinstance(first, ast.Assign) else [first.target]:
                    found[ast.unparse(target)] = str(getattr(then.value, "value", ""))
    return found


def test_every_public_name_says_what_it_is() -> None:
    assert len(set(flask_offload.__all__)) == len(flask_offload.__all__) > 5
    beside = texts_under_assignments()
    for name in flask_offload.__all__:
        thing = inspect.getattr_static(flask_offload, name)
        is_code = inspect.isclass(thing) or inspect.isroutine(thing)
        text = thing.__doc__ if is_code else beside.get(name)
        assert len(text or "") > 10, f"{name} needs a docstring"


def project_files() -> list[Path]:
    """What git knows or would take; without git (an unpacked sdist), all that is not hidden."""
    if (ROOT / ".git").exists():
        # Any owner of the checkout: CI may run as another user.
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        command += ["--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("[!.]*") if not path.is_relative_to(ROOT / ".venv")]
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts]


# Written so that this file does not match itself.
FOREIGN = {
    r"(?<![\w.<>{}-])/(work|root|home/\w+|Users/\w+)/": "a path of somebody's machine",
    r"\b(pypi[.]org|python[h]osted[.]org|npmjs[.](org|com)|deb[.]debian[.]org)": "a package host",
    r"\b(breakpoint|set_trace)[(]": "a debugger's breakpoint",
    r"(?m)^(<{7}|>{7}) ": "a merge conflict",
}


PROJECT_FILES = project_files()


def test_no_word_that_has_no_business_here() -> None:
    found = []
    for path in PROJECT_FILES:
        text = path.read_bytes().decode("utf-8", errors="replace")
        for pattern, what in FOREIGN.items():
            for match in re.finditer(pattern, text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{line}: {match.group()!r} is {what}")
    assert found == []


def test_the_word_check_can_fail() -> None:
    bad = [
        "see /" + "work/main",
        "'/" + "root/x'",
        "https://pypi" + ".org/simple",
        "set_trace" + "()",
    ]
    for text in bad:
        assert any(re.search(pattern, text) for pattern in FOREIGN), text
    for text in ["the /" + "workers/ page", "a/" + "work/b", "<path>/" + "root/"]:
        assert not any(re.search(pattern, text) for pattern in FOREIGN), text


def test_no_retired_word_comes_back() -> None:
    assert "\n".join(vocabulary.problems(PROJECT_FILES)) == ""


def test_a_retired_word_is_found_however_it_is_written() -> None:
    texts = {
        "the ledger": "ledger",
        "class WorkerLedger:": "ledger",
        "def old_ledger_of()": "ledger",
        "In the end": "in the end",
        "a pledge, an officer, mended": "mended",
    }
    for text, word in texts.items():
        assert list(vocabulary.words(text)) == [(1, word)], text
    assert vocabulary.folder_of("src/flask_offload/web/pages.py") == "src/flask_offload/web"
    assert vocabulary.folder_of("README.md") == "."


def test_no_class_name_is_defined_in_two_places() -> None:
    doubled = vocabulary.doubled_classes(ROOT / "src")
    new = {name: places for name, places in doubled.items() if name not in vocabulary.DOUBLED}
    assert not new, "give one of each another name"


def test_links_in_the_docs_lead_somewhere() -> None:
    broken = []
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages]:
        prose = re.sub(r"(?s)```.*?```", "", page.read_text())
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            elsewhere = "://" in target or target.startswith("mailto:")
            if not elsewhere and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_every_page_of_the_docs_can_be_found() -> None:
    docs = ROOT.resolve() / "docs"
    texts = {page: page.read_text() for page in docs.rglob("*.md") if "_build" not in page.parts}
    linked = {
        (page.parent / target).resolve()
        for page, text in texts.items()
        for target in re.findall(r"\]\(([^)#\s]+\.md)", text)
    }
    # The site has these for a file beside docs/.
    copies = {page for page, text in texts.items() if text.startswith("```{include}")}
    lost = texts.keys() - linked - copies - {docs / "README.md", docs / "index.md"}
    assert not lost, "add these to docs/README.md (or to the index beside them)"
    trees = re.findall(r"(?s)```\{toctree\}\n.*?\n\n(.*?)```", texts[docs / "index.md"])
    listed = {docs / f"{name}.md" for tree in trees for name in tree.split()}
    pages = {page for page in texts if page.parent.name != "decisions"}
    missing = pages - listed - {docs / "README.md", docs / "index.md"}
    assert not missing, "add these to a part of docs/index.md, so that the site has them"


# --- entry points ------------------------------------------------------------------------------


def entry_points() -> list[tuple[str, str, str]]:
    """Group, name and value, as pyproject.toml declares them now."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        (group, name, value)
        for group, points in project["entry-points"].items()
        for name, value in points.items()
    ]


@pytest.mark.parametrize(("group", "name", "value"), entry_points())
def test_entry_points_exist(group: str, name: str, value: str) -> None:
    module, _, attribute = value.partition(":")
    thing: object = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        thing = getattr(thing, part)
    assert thing is not None


def test_the_pytest_plugin_is_declared_once_it_is_there() -> None:
    there = (architecture.SOURCE / "pytest_plugin.py").exists()
    assert there == any(group == "pytest11" for group, _, _ in entry_points())
