"""An engine that is no part of Flask-Offload: that of docs/engine-example, installed as a package.

It is found by its entry point, keeps the contract as far as its flags go, and uses nothing but the
public names of the engine API.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flask import Flask
from test_contract import *  # noqa: F403 (all its tests, with our own `kind`)

import flask_offload
from engine_contract import Stage
from flask_offload import (
    ConfigError,
    JobNotFound,
    Offload,
    UnsupportedByEngine,
    engine_api,
)
from support import APP_PATH, APPS, Running, running, wait_until

pytestmark = pytest.mark.processes

PROJECT = APPS.parents[1] / "docs" / "engine-example"


class FolderStage(Stage):
    """The engine from outside, with real workers. installed: where its package is."""

    installed: ClassVar[Path]
    config: ClassVar[dict[str, Any]] = {"OFFLOAD_ENGINE": "folder"}

    def work(self, *, threads: int = 4) -> None:
        with self.run("worker", "--in-this-process", "--burst") as process:
            assert process.wait(60) == 0, str(process)

    @contextmanager
    def worker(self) -> Iterator[Running]:
        with self.run("worker", "--in-this-process") as process:
            yield process

    @contextmanager
    def run(self, *arguments: str) -> Iterator[Running]:
        """A `flask offload` command."""
        environment = {f"FLASK_{name}": str(value) for name, value in self.settings.items()}
        environment["PYTHONPATH"] = f"{APP_PATH}:{self.installed}"
        command = [sys.executable, "-m", "flask", "--app", "contract_app", "offload", *arguments]
        with running(command, env=environment, cwd=self.folder) as process:
            yield process


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, installed by pip into a folder of its own on sys.path."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in PROJECT.iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [*command, *offline, "--target", str(target), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        yield target
    sys.modules.pop("flask_offload_folder", None)
    importlib.invalidate_caches()


@pytest.fixture  # type: ignore[no-redef]
def kind(installed: Path) -> type[FolderStage]:
    FolderStage.installed = installed
    return FolderStage


def test_it_imports_public_names_only() -> None:
    public = {
        "flask_offload": flask_offload.__all__,
        "flask_offload.engine_api": engine_api.__all__,
    }
    used: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((PROJECT / "flask_offload_folder.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flask_offload"):
            used.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    assert used.keys() == public.keys()
    for module, names in used.items():
        assert names <= set(public[module])


def test_every_name_of_the_engine_api_is_there() -> None:
    assert [name for name in engine_api.__all__ if not hasattr(engine_api, name)] == []


def test_the_command_starts_its_worker_and_stops_it(stage: FolderStage) -> None:
    with stage.run("worker") as process:
        job = stage.task("echo").enqueue("by the command")
        wait_until(lambda: job.refresh().is_finished, 60)
        assert process.stop() == 0
    assert job.return_value == "by the command"


def test_commands_name_the_missing_flag(stage: FolderStage) -> None:
    for arguments, flag in {("jobs",): "lists", ("pause", "mail"): "pauses"}.items():
        with stage.run(*arguments) as process:
            assert process.wait(30) == 1
            assert f"the folder engine can't do this (flag '{flag}' is off)" in process.output()
    job = stage.task("echo").enqueue(1)
    with stage.run("job", job.id) as process:
        assert process.wait(30) == 0
        assert job.id in process.output()
    with pytest.raises(UnsupportedByEngine, match="priorities"):
        stage.task("echo").using(priority=3).enqueue(1)
    assert stage.task("echo").using(run_after=timedelta(hours=1)).enqueue(1).waiting_for


def test_ids_are_no_paths(stage: FolderStage) -> None:
    (stage.folder / "secret.json").write_text("{}")
    with pytest.raises(JobNotFound):
        stage.job("../secret")


# --- entry points that lead nowhere ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_module", "broken.*can't be loaded.*no_such_module"),
        ("make = lambda host: 42", "gives 42.*flask_offload.engine_api.Engine"),
        (
            "from flask_offload.engine_api import Engine, Flags\n"
            "class make(Engine):\n"
            "    name, flags = 'x', Flags(own_worker=True)\n"
            "    def __init__(self, host): pass\n"
            "    def enqueue(self, jobs): ...\n"
            "    def get(self, job_id): ...\n",
            "own_worker.*worker_command",
        ),
    ],
    ids=["no import", "no engine", "not our worker"],
)
def test_an_engine_that_can_not_be_created_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: str
) -> None:
    (tmp_path / "broken_engine.py").write_text(source)
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flask_offload.engines]\nbroken = broken_engine:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_engine", raising=False)
    app = Flask("broken")
    app.config["OFFLOAD_ENGINE"] = "broken"
    with pytest.raises(ConfigError, match=f"(?s){expected}"):
        Offload(app)
    sys.modules.pop("broken_engine", None)


def test_an_engine_that_is_not_installed_is_reported_with_those_that_are(installed: Path) -> None:
    app = Flask("typo")
    app.config["OFFLOAD_ENGINE"] = "folders"
    with pytest.raises(ConfigError, match=r"'folders' is not installed.*celery, folder, inline"):
        Offload(app)
