"""Apps of one file on each engine whose jobs a test can run in its own thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_offload import Job, Offload
from flask_offload.testing import drain
from postgres_server import shared_server


class EngineApp:
    """An app in its context, without a worker; jobs run in `drain`."""

    def __init__(self, folder: Path, engine: str, **config: Any) -> None:
        self._stack = ExitStack()
        self.app = Flask("shop", instance_path=str(folder))
        self.app.config.update(
            TESTING=True,
            OFFLOAD_ENGINE=engine,
            OFFLOAD_WORKER="off",
            OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"),
            **config,
        )
        if engine == "inline":
            self.app.config["OFFLOAD_INLINE_RAISE_ERRORS"] = False
        if engine == "postgres":
            url = self._stack.enter_context(shared_server().database())
            self.app.config["OFFLOAD_POSTGRES_URL"] = url
        self.offload = Offload(self.app)
        self.engine = self.offload.state_of(self.app).engine
        self._stack.enter_context(self.app.app_context())

    def drain(self) -> list[Job]:
        """Run all that can run now."""
        return drain(self.app)

    def close(self) -> None:
        """Close the connections."""
        self.engine.close()
        self._stack.close()


ENGINES = ("sqlite", pytest.param("postgres", marks=pytest.mark.processes), "inline")


@pytest.fixture(scope="module", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each engine in turn. A server starts here: a test must not leave processes behind."""
    name: str = request.param
    if name == "postgres":
        shared_server()
    return name


@pytest.fixture
def site(engine_name: str, tmp_path: Path) -> Iterator[EngineApp]:
    """An app on each engine."""
    made = EngineApp(tmp_path, engine_name)
    try:
        yield made
    finally:
        made.close()
