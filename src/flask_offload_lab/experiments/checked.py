"""Checks a reader's program, in processes and in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..challenges import Challenge
from ..errors import LabError, WorkNotDone
from . import Events

LIMIT = 90.0
"""Seconds for one check; it takes about two."""

NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "instance", "venv", "env", "node_modules", "*.sqlite3*"
)
MAX_COPIED = 20_000_000
"""Bytes. A project of the lesson has some kilobytes; a folder of this size is another one."""

APP = "app.py"


class TooLarge(LabError):
    """The folder of the project holds more than 20 MB: keep other files in another folder."""


class NoProject(LabError):
    """There is no app.py in the folder: restore it, or start the lab again with --build and the
    folder's name."""


def fix(challenge: Challenge, order: Sequence[object], choices: Mapping[str, object]) -> Events:
    """Events are steps, {"good": …, "text": …}; the last one is "Solved." or what is wrong.

    Raises NoSuchPiece, at once, if the answer contains a piece that was not given.
    """
    program = challenge.assemble(order, choices)

    def events() -> Events:
        with _temporary_folder() as name:
            folder = Path(name)
            (folder / "answer.py").write_text(program, encoding="utf-8")
            yield from _check(folder, "fix", challenge.key, "answer")

    return events()


def step(project: Path, key: str) -> Events:
    """The same for a step of Build, on a copy of the folder. Raises NoProject, and TooLarge when
    the check starts."""
    if not (project / APP).is_file():
        raise NoProject

    def events() -> Events:
        with _temporary_folder() as name:
            copy = Path(name) / "project"
            _copy(project, copy)
            yield from _check(copy, "step", key, "app")

    return events()


def _copy(project: Path, copy: Path) -> None:
    """The project's own files: no links, which may lead anywhere, and no pipes or devices."""
    left = MAX_COPIED

    def not_copied(folder: str, names: list[str]) -> set[str]:
        nonlocal left
        ignored = set(NOT_COPIED(folder, names))
        for name in set(names) - ignored:
            status = os.lstat(Path(folder, name))
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                ignored.add(name)
            left -= status.st_size
        if left < 0:
            raise TooLarge
        return ignored

    shutil.copytree(project, copy, ignore=not_copied)


def _temporary_folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="offload-check-", ignore_cleanup_errors=True)


def _check(folder: Path, what: str, key: str, module: str) -> Events:
    with (folder / "errors.log").open("wb") as errors:
        checker = subprocess.Popen(
            [sys.executable, "-m", "flask_offload_lab.checking", what, key, module],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    limit = threading.Timer(LIMIT, _end, [checker])
    limit.start()
    try:
        assert checker.stdout is not None
        for line in checker.stdout:
            yield json.loads(line)
        if checker.wait():
            raise WorkNotDone((folder / "errors.log").read_text(errors="replace")[-500:])
    finally:
        limit.cancel()
        _end(checker)


def _end(checker: subprocess.Popen[bytes]) -> None:
    """The checker, and the worker that it has started."""
    if checker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(checker.pid, signal.SIGKILL)
    checker.wait()
    if checker.stdout is not None:
        checker.stdout.close()
