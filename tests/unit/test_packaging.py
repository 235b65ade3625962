"""What is shipped: the wheel, the sdist, and what a core install weighs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from functools import partial
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from doc_blocks import blocks
from support import answers, free_port, running, wait_until

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def built(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def source_files() -> set[str]:
    """Everything in the folders of the packages, by its name inside the wheel."""
    return {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.processes
def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == source_files()
    assert "flask_offload/py.typed" in names


def test_every_kind_of_data_file_is_shipped(wheel: Path) -> None:
    shipped = {Path(name).suffix for name in zipfile.ZipFile(wheel).namelist()}
    assert {path.suffix for path in SOURCE.rglob("*.*") if path.suffix != ".pyc"} <= shipped


@pytest.mark.processes
def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import flask_offload; print(flask_offload.__file__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(tmp_path / "flask_offload" / "__init__.py"), done.stderr


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel, and what it and its extra `lab` require: no more."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    for found in required_distributions("lab"):
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(found.locate_file(top)))
    return folder / "bin" / "python"


@pytest.mark.processes
def test_the_quickstart_runs_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    quickstart = next(blocks(ROOT / "README.md", "python"))
    (tmp_path / "app.py").write_text(quickstart.code)
    flask = [str(clean), "-m", "flask"]
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    command = [*flask, "run", "--port", str(port)]
    with running(command, cwd=tmp_path, env={}, ready=lambda _: answers(origin)):
        reply = urllib.request.urlopen(f"{origin}/", data=b"names=Ann")
        job = f"{origin}/offload/jobs/{json.load(reply)['id']}"
        reply.close()
        wait_until(partial(has_succeeded, job), 30, "the job has not ended")
        command = [*flask, "offload", "check"]
        done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def has_succeeded(job: str) -> bool:
    with urllib.request.urlopen(job) as reply:
        return bool(json.load(reply)["status"] == "SUCCESSFUL")


@pytest.mark.processes
def test_the_lab_starts_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    command = [str(clean), "-m", "flask", "offload", "lab", "--no-table", "--port", str(port)]
    with running(command, cwd=tmp_path, env={}, ready=lambda _: answers(f"{origin}/measure")):
        assert answers(f"{origin}/why")


def test_the_metadata_is_what_an_installer_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(archive.read(name))
    assert metadata["Name"] == "Flask-Offload"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "LICENSE" in metadata.get_all("License-File", [])
    assert "Flask-Offload" in str(metadata.get_payload())
    for text in metadata.get_all("Requires-Dist", []):
        operators = {spec.operator for spec in Requirement(text).specifier}
        assert operators == {">="}, f"lower bounds only, so that no app is held back: {text}"


def test_the_readme_has_no_relative_link_on_a_package_index(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    page = str(message_from_bytes(archive.read(name)).get_payload())
    targets = re.findall(r'\]\(([^)]+)\)|(?:src|href)="([^"]+)"', page)
    assert len(targets) > 20
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    places = {
        urls["Documentation"] + "en/latest/": "docs",
        urls["Documentation"]: "docs",
        urls["Source"] + "/blob/main/": "",
        urls["Source"].replace("github.com", "raw.githubusercontent.com") + "/main/": "",
    }
    for target in map("".join, targets):
        address, _, _ = target.partition("#")
        start = next((each for each in places if address.startswith(each)), None)
        assert start, target
        file = address.removeprefix(start).replace(".html", ".md") or "index.md"
        assert (ROOT / places[start] / file).exists(), target


def test_the_addresses_of_the_project_are_written_in_two_files_only() -> None:
    """They are placeholders until the project is published; see CONTRIBUTING.md, "Release"."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    names = (urls["Source"].removeprefix("https://"), "flask-offload.readthedocs.io")
    folders = ("src", "docs", "examples", ".github", "scripts", "requirements")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(errors="replace")
        for path in [*paths, *ROOT.glob("*.*")]
        if path.is_file() and "_build" not in path.parts
    }
    found = {file for file, text in texts.items() if any(name in text for name in names)}
    assert found == {"README.md", "pyproject.toml", "CONTRIBUTING.md"}


def test_the_sdist_can_be_tested_by_who_packages_it(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "LICENSE",
        "README.md",
        "CHANGES.md",
        "Makefile",
        "pyproject.toml",
        "tests/conftest.py",
    }
    assert needed <= names
    assert {f"src/{name}" for name in source_files()} <= names
    assert not [
        name for name in names if re.search(r"__pycache__|sqlite3|\.venv|_cache/|\.pyc", name)
    ]


def test_ci_runs_the_lowest_versions_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements" / "lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for text in project["dependencies"]:
        requirement = Requirement(text)
        (lowest,) = (Version(spec.version) for spec in requirement.specifier)
        assert Version(pinned[canonicalize_name(requirement.name)]) == lowest, text


# --- the core install --------------------------------------------------------------------------


def required_distributions(*extras: str) -> Iterator[Distribution]:
    """What Flask-Offload requires with these extras, and what that requires."""
    seen: set[str] = set()
    waiting = ["Flask-Offload"]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        if name != "flask-offload":
            yield found
        for text in found.requires or []:
            requirement = Requirement(text)
            wanted = extras if name == "flask-offload" else ()
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ["", *wanted]
            ):
                waiting.append(requirement.name)


def size(found: Distribution) -> int:
    """Bytes on disk, without what Python compiles."""
    paths = (Path(str(found.locate_file(file))) for file in found.files or [])
    return sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.exists())


def test_a_core_install_stays_small() -> None:
    sizes = {canonicalize_name(found.name): size(found) for found in required_distributions()}
    flask = {"flask", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "click", "blinker"}
    assert set(sizes) == flask | {"apsw", "msgspec", "cronsim"}
    package = sum((SOURCE / name).stat().st_size for name in source_files())
    added = package + sum(size for name, size in sizes.items() if name not in flask)
    assert added < 14_000_000, f"{added:,} bytes on top of Flask: {sizes}"


@pytest.mark.processes
def test_importing_the_core_loads_nothing_but_the_core() -> None:
    code = """
import sys
before = set(sys.modules)
import flask_offload.cli, flask_offload.profiler, flask_offload.measure, flask_offload.testing
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    owners = packages_distributions()
    loaded = {canonicalize_name(o) for root in done.stdout.split() for o in owners.get(root, [])}
    core = {canonicalize_name(found.name) for found in required_distributions()} | {"flask-offload"}
    core.add("typing-extensions")  # msgspec uses it where it happens to be installed
    assert loaded <= core, "an extra's package is imported without the extra"
