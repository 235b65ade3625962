"""Code in the README and the docs: all of it compiles, and what stands alone runs."""

from __future__ import annotations

import ast
import configparser
import doctest
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
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml  # type: ignore[import-untyped]  # comes with openapi-spec-validator
from blinker import NamedSignal
from flask import Flask
from jinja2 import Environment

import flask_offload.errors
from doc_blocks import ROOT, Block, blocks, pages
from flask_offload import Offload, OffloadError, signals
from flask_offload.cli import offload_group
from support import require_tool

EXTENSIONS = ROOT / "docs" / "_ext"

ALL = [block for page in pages() for block in blocks(page)]
PYTHON = [block for block in ALL if block.language in {"python", "py"}]
CHECKED = {"python", "pycon", "console", "json", "toml", "ini", "yaml", "html", "js"}
NOT_CODE = {"text", "nginx", "dockerfile", "sql", "sh"}
"""Without a parser here."""
COMMANDS = [block for block in ALL if block.language == "console"]


@pytest.fixture(name="messages")
def messages_fixture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the site reads from the source."""
    monkeypatch.syspath_prepend(EXTENSIONS)
    return importlib.import_module("messages")


def test_there_are_blocks() -> None:
    assert len(PYTHON) > 45
    assert len(COMMANDS) > 20


def test_each_fence_is_a_block_of_a_language_that_is_looked_at() -> None:
    """So that none escapes the tests below, by an indent or a name that they don't know."""
    problems = []
    for page in pages():
        found = {block.line for block in blocks(page)}
        fence, indented = False, False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                fence = not fence
                is_directive = line.startswith("```{")
                if fence and not is_directive and not found & {number, number - 1}:
                    problems.append(f"{page.relative_to(ROOT)}:{number}: {line}")
            indented = line.startswith("    $ ") or line.startswith("    >>> ")
            if indented and not fence:
                problems.append(f"{page.relative_to(ROOT)}:{number}: not in a fence: {line}")
    assert problems == []
    assert {block.language for block in ALL} <= CHECKED | NOT_CODE


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "pycon"], ids=str)
def test_sessions_compile(block: Block) -> None:
    for example in doctest.DocTestParser().get_examples(block.code):
        compile(example.source, str(block), "single")


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "html"], ids=str)
def test_templates_compile(block: Block) -> None:
    Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(block.code)
    ElementCounter().feed(re.sub(r"{[{%].*?[%}]}", "", block.code, flags=re.S))


class ElementCounter(HTMLParser):
    """Fails at an end without a start."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.open, f"</{tag}>"


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "js"], ids=str)
@pytest.mark.processes
def test_scripts_compile(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "page.mjs"
    script.write_text(block.code)
    done = subprocess.run(
        [require_tool("node"), "--check", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


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
    "block", [block for block in ALL if block.language in {"json", "toml", "ini", "yaml"}], ids=str
)
def test_files_can_be_parsed(block: Block) -> None:
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)
    elif block.language == "yaml":
        yaml.safe_load(block.code)
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
