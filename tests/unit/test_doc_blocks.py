"""Code in the README and the docs: all of it compiles, and what stands alone runs."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType

import click
import pytest
from blinker import NamedSignal
from flask import Flask

import flask_offload.errors
from doc_blocks import ROOT, Block, blocks, pages
from flask_offload import Offload, OffloadError, signals
from flask_offload.cli import offload_group

EXTENSIONS = ROOT / "docs" / "_ext"

ALL = [block for page in pages() for block in blocks(page)]
PYTHON = [block for block in ALL if block.language in {"python", "py"}]
COMMANDS = [block for block in ALL if block.language == "console"]


@pytest.fixture(name="messages")
def messages_fixture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the site reads from the source."""
    monkeypatch.syspath_prepend(EXTENSIONS)
    return importlib.import_module("messages")


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


# --- troubleshooting ---------------------------------------------------------------------------


class Unknown:
    """Of no type that can be encoded."""


def mistakes(app: Flask) -> Iterator[tuple[str, Callable[[], object]]]:
    """Calls that fail, as users write them."""
    offload = Offload(app)

    @offload.task
    def send(to: int, what: object = None) -> int:
        return to

    def rows() -> Iterator[int]:
        yield 1

    def sweep() -> None: ...

    naive = datetime(2030, 1, 1)
    yield "wrong type", lambda: send.enqueue("one")  # type: ignore[arg-type]
    yield "misspelt argument", lambda: send.enqueue(1, wat=2)  # type: ignore[call-arg]
    yield "object", lambda: send.enqueue(1, Unknown())
    yield "large", lambda: send.enqueue(1, "x" * 2_000_000)
    yield "no time zone", lambda: send.using(run_after=naive).enqueue(1)
    yield "misspelt option", lambda: offload.task(max_attempt=3)(rows)  # type: ignore[call-overload]
    yield "generator", lambda: offload.task(rows)
    yield "lambda", lambda: offload.task(lambda: 1)
    yield "cron text", lambda: offload.every("* * *")(sweep)
    yield "no such job", lambda: offload.get_job("6b0a")
    yield "misspelt setting", lambda: Offload(_with(OFFLOAD_WORKERS=2))
    yield "bad setting", lambda: Offload(_with(OFFLOAD_WORKER="yes"))
    yield "unknown engine", lambda: Offload(_with(OFFLOAD_ENGINE="rabbit"))
    yield "not finished", lambda: send.enqueue(1).wait(timeout=0)
    yield "retry of a waiting job", lambda: send.enqueue(1).retry()


def _with(**settings: object) -> Flask:
    app = Flask(__name__)
    app.config.update(settings)
    return app


def test_each_sentence_that_a_mistake_causes_is_on_the_page(
    messages: ModuleType, tmp_path: Path
) -> None:
    errors = {name for name, thing in vars(flask_offload.errors).items() if inspect.isclass(thing)}
    shown = messages.error_messages(errors)
    app = _with(TESTING=True, OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs.sqlite3"))
    missing = []
    with app.app_context():
        for name, call in mistakes(app):
            with pytest.raises(OffloadError) as caught:
                call()
            sentence, kind = str(caught.value), type(caught.value)
            texts = [*shown[kind.__name__], " ".join((inspect.getdoc(kind) or "").split())]
            if not any(_fits(messages.GAP, text, sentence) for text in texts):
                missing.append((name, kind, sentence))
        app.extensions["offload"].engine.close()
    assert missing == []


def _fits(gap: str, text: str, sentence: str) -> bool:
    return re.search(".*".join(map(re.escape, text.split(gap))), sentence, re.S) is not None


def test_the_lines_of_the_log_are_on_the_page(messages: ModuleType) -> None:
    lines = {message.action: message for message in messages.log_messages()}
    assert lines["job_succeeded"].level == "INFO"
    assert lines["job_crashed"].text.endswith("its process died (%s)")
    assert len(lines) > 25
    assert all(re.fullmatch("[a-z_]+", action) for action in lines)


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
