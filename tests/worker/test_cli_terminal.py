"""`flask offload jobs` on a terminal: bars, and colours for those who want them."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from flask_offload.admin.sqlite import SqliteEngine
from small_site import SmallSite

pytestmark = pytest.mark.processes

SOURCE = """
from flask import Flask
from flask_offload import Offload

app = Flask("shop")
app.config.from_prefixed_env()
offload = Offload(app)

@offload.task
def read(): ...
"""
RUN = "UPDATE jobs SET state = 'running', worker = 'w', attempt = 1, done = 3, total = 10"
ESCAPE = "\x1b["


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    """One with a job that has done three parts of ten."""
    made = SmallSite(tmp_path, SOURCE)
    made.enqueue("read")
    with made.app.app_context():
        engine = made.offload.state_of(made.app).engine
        assert isinstance(engine, SqliteEngine)
        engine.database.write(lambda connection: connection.execute(RUN).fetchall())
        engine.close()
    return made


def shown(site: SmallSite, *, columns: int = 120, **environ: str) -> str:
    """What `flask offload jobs` writes to a terminal of so many columns."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    without = {"NO_COLOR", "COLUMNS", "TERM"}
    kept = {name: value for name, value in site.environ.items() if name not in without}
    command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "jobs"]
    try:
        subprocess.run(
            command,
            env={**kept, "TERM": "xterm", **environ},
            cwd=site.folder,
            stdout=writing,
            check=True,
            timeout=60,
        )
        return os.read(reading, 65_536).decode()
    finally:
        os.close(writing)
        os.close(reading)


def test_a_running_job_has_a_bar_and_a_colour(site: SmallSite) -> None:
    text = shown(site)
    assert "███░░░░░░░  30%" in text
    assert f"{ESCAPE}36mRUNNING" in text


def test_it_fits_a_narrow_terminal(site: SmallSite) -> None:
    text = shown(site, columns=60, NO_COLOR="1")
    assert "███░░" in text
    assert all(len(line) <= 60 for line in text.splitlines())


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(site: SmallSite, environ: dict[str, str]) -> None:
    text = shown(site, columns=120, **environ)
    assert "RUNNING" in text
    assert "███░░░░░░░  30%" in text
    assert ESCAPE not in text


def test_neither_in_a_pipe(site: SmallSite) -> None:
    command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "jobs"]
    environ = {name: value for name, value in site.environ.items() if name != "NO_COLOR"}
    text = subprocess.check_output(command, env=environ, cwd=site.folder, text=True, timeout=60)
    assert "3/10 (30%)" in text
    assert ESCAPE not in text
