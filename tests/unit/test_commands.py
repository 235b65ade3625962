"""The commands that a newcomer types first: what they run, and what they say when they can't."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import require_tool

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]

# What the make that runs this very test hands down to the ones below it.
INHERITED = {"ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ONCE", "PYTHON", "VENV"}


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in INHERITED}
    return subprocess.run(
        argv, cwd=ROOT, env={**variables, **env}, capture_output=True, text=True, check=False
    )


def program(folder: Path, name: str, script: str) -> str:
    """A program that answers as the script says."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


# --- make --------------------------------------------------------------------------------------


def test_make_alone_lists_every_command() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"(?m)^\.PHONY: ([a-z][^$\n]*)$", text)
    listed = re.findall(r"(?m)^make ([a-z-]+) +\S", run(require_tool("make")).stdout)
    assert sorted(listed) == sorted(phony.split())


@pytest.mark.parametrize(("given", "once"), [("", False), ("1", True), ("0", False)])
def test_make_demo_ends_after_the_table_when_asked(given: str, once: bool) -> None:
    make = require_tool("make")
    command = "-m flask_offload_lab" + (" --once" if once else "")
    assert run(make, "-n", "demo", f"ONCE={given}").stdout.rstrip().endswith(command)
    assert run(make, "-n", "demo", ONCE=given).stdout.rstrip().endswith(command)


def test_make_test_runs_pytest_last() -> None:
    lines = run(require_tool("make"), "-n", "test").stdout.splitlines()
    order = [
        word for line in lines for word in re.findall(r"(ruff|mypy|pytest|architecture)", line)
    ]
    assert order == ["ruff", "ruff", "architecture", "mypy", "pytest"]


# --- scripts -----------------------------------------------------------------------------------


def test_find_python_takes_the_one_that_is_named() -> None:
    done = run("scripts/find-python", PYTHON=sys.executable)
    assert (done.returncode, done.stdout.strip()) == (0, sys.executable)


def test_find_python_says_what_is_missing(tmp_path: Path) -> None:
    none = run("scripts/find-python", PYTHON="no-such-python")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("Python 3.11 or newer is needed, and none was found: ")

    # A program that prints its own path, and then fails at one question.
    old = program(tmp_path, "old", 'case "$2" in *executable*) echo "$0" ;; *) exit 1 ;; esac')
    done = run("scripts/find-python", PYTHON=old)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"needed, and {old} is older" in done.stderr

    bare = program(
        tmp_path, "bare", 'case "$2" in *executable*) echo "$0" ;; *ensurepip*) exit 1 ;; esac'
    )
    done = run("scripts/find-python", PYTHON=bare)
    assert (done.returncode, done.stdout) == (2, "")
    assert "install its venv module" in done.stderr


def test_who_is_not_root_is_told_what_to_install(tmp_path: Path) -> None:
    program(tmp_path, "id", "echo 1000")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("scripts/system-packages", "venv", PATH=path)
    assert done.returncode == 0
    assert "sudo apt-get install --no-install-recommends python3-venv" in done.stderr
