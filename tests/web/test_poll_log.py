"""Polls of the job resource in the log of the development server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_offload import Offload

WERKZEUG = logging.getLogger("werkzeug")


@pytest.fixture(autouse=True)
def filters() -> Iterator[None]:
    kept, WERKZEUG.filters = list(WERKZEUG.filters), []
    yield
    WERKZEUG.filters = kept


def is_shown(line: str, code: int | str) -> bool:
    record = WERKZEUG.makeRecord(
        "werkzeug", logging.INFO, "x", 0, '127.0.0.1 - - "%s" %s %s', (line, code, "-"), None
    )
    return bool(WERKZEUG.filter(record))


def make(folder: Path, **config: Any) -> None:
    app = Flask("shop", instance_path=str(folder))
    app.config.update(OFFLOAD_WORKER="off", **config)
    Offload(app)


def test_polls_are_not_shown_in_debug_mode(tmp_path: Path) -> None:
    make(tmp_path, DEBUG=True, OFFLOAD_URL_PREFIX="/background")
    assert not is_shown("GET /background/jobs/6b0a1f2e HTTP/1.1", 200)
    assert not is_shown("\x1b[36mGET /app/background/jobs/6b0a1f2e?status HTTP/1.1\x1b[0m", "304")
    assert is_shown("GET /background/jobs/6b0a1f2e HTTP/1.1", 500)
    assert is_shown("GET /background/jobs/6b0a1f2e HTTP/1.1", 404)
    assert is_shown("POST /background/jobs/6b0a1f2e/cancel HTTP/1.1", 200)
    assert is_shown("GET /jobs/6b0a1f2e HTTP/1.1", 200)
    assert is_shown("GET /background/dashboard/jobs HTTP/1.1", 200)


@pytest.mark.parametrize("config", [{}, {"DEBUG": True, "OFFLOAD_LOG_POLLS": True}])
def test_elsewhere_and_where_they_are_wanted_they_are(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    make(tmp_path, **config)
    assert is_shown("GET /offload/jobs/6b0a1f2e HTTP/1.1", 200)
