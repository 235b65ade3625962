"""A small app for the commands, and how tests call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import Result
from flask import Flask

from flask_offload import Offload, current_job
from flask_offload.admin.sqlite import SqliteEngine

offload = Offload()


@offload.task
def add(a: int, b: int = 0) -> int:
    return a + b


@offload.task(queue_name="mail", max_attempts=2, backoff=0.0)
def send(to: str) -> None:
    current_job.progress(1, 4, "connecting")
    raise ConnectionError(f"no route to {to}")


@offload.every("30 3 29 2 *", name="sweep")  # so seldom that no test meets it by chance
def sweep() -> None: ...


class Shop:
    """The app in a folder, and its commands."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.app = Flask("shop", instance_path=str(folder))
        self.database = folder / "jobs.sqlite3"
        settings = {"TESTING": True, "OFFLOAD_SQLITE_PATH": str(self.database), **config}
        self.app.config.update(settings)
        offload.init_app(self.app)
        self.state = offload.state_of(self.app)

    @property
    def engine(self) -> SqliteEngine:
        """The embedded engine."""
        assert isinstance(self.state.engine, SqliteEngine)
        return self.state.engine

    def run(self, *arguments: str, input: str | None = None) -> Result:
        """`flask offload …`; its standard output, its errors and its exit code."""
        return self.app.test_cli_runner().invoke(args=["offload", *arguments], input=input)

    def text(self, *arguments: str, code: int = 0) -> str:
        """What it prints, having ended with this exit code."""
        result = self.run(*arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one JSON document that it prints."""
        return json.loads(self.text(*arguments, "--json", code=code))

    def error(self, *arguments: str) -> str:
        """The one sentence with which it fails."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        (line,) = result.stderr.splitlines()
        return line
