"""Code in the README and the docs: all of it compiles, and what stands alone runs."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from blinker import NamedSignal

import flask_offload.errors
from doc_blocks import ROOT, Block, blocks, pages
from flask_offload import signals
from flask_offload.cli import offload_group

ALL = [block for page in pages() for block in blocks(page)]
PYTHON = [block for block in ALL if block.language in {"python", "py"}]
COMMANDS = [block for block in ALL if block.language == "console"]


def test_there_are_blocks() -> None:
    assert len(PYTHON) > 45
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def stands_alone(block: Block) -> bool:
    """Whether it makes its app itself, and imports what is installed here."""
    if block.file or not re.search(r"^(app = Flask\(|def create_app)", block.code, re.M):
        return False
    if "from flask import" not in block.code:
        return False
    return all(
        importlib.util.find_spec(name.partition(".")[0])
        for node in ast.walk(ast.parse(block.code))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    )


ALONE = [block for block in PYTHON if stands_alone(block)]


def test_some_stand_alone() -> None:
    assert ROOT / "README.md" in {block.path for block in ALONE}


@pytest.mark.processes
@pytest.mark.parametrize("block", ALONE, ids=str)
def test_what_stands_alone_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(block.code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import app"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_exist_and_have_these_options(block: Block) -> None:
    for line in block.code.splitlines():
        if not line.startswith("$ ") or "offload" not in line or "…" in line:
            continue
        words = shlex.split(line[2:], comments=True)
        if "flask" not in words or "offload" not in words:
            continue
        name, *rest = words[words.index("offload") + 1 :]
        context = click.Context(offload_group)
        command = offload_group.get_command(context, name)
        assert command is not None, line
        known = {text for p in command.params for text in [*p.opts, *p.secondary_opts]}
        for word in rest:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, f"{line}: no option {word}"


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language in {"json", "toml", "ini"}], ids=str
)
def test_files_can_be_parsed(block: Block) -> None:
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)
    else:
        # Units repeat keys, such as Environment.
        configparser.RawConfigParser(strict=False).read_string(block.code)


# --- the reference -----------------------------------------------------------------------------


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    shown = set(re.findall(r"auto(?:class|function|exception):: (\w+)$", page, re.M))
    errors = {name for name, thing in vars(flask_offload.errors).items() if inspect.isclass(thing)}
    # Every error is on the page Troubleshooting, which is made from their module.
    assert set(flask_offload.__all__) - errors - shown == {"current_job"}


def test_every_signal_is_described() -> None:
    text = signals.__doc__ or ""
    names = [name for name, thing in vars(signals).items() if isinstance(thing, NamedSignal)]
    assert names
    assert [name for name in names if f"`{name}`" not in text] == []
