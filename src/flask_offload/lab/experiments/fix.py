"""Puts the reader's answer together and has it checked, in processes and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import BenchError
from ..fixing.challenges import Challenge
from . import Events

LIMIT = 60.0
"""Seconds for one check; it takes about two."""


def fix(challenge: Challenge, order: Sequence[object], choices: Mapping[str, object]) -> Events:
    """Each event is a step, {"good": …, "text": …}; the last one is "Solved." or what is wrong.

    Raises NoSuchPiece at once if the answer has anything in it that was not given.
    """
    program = challenge.assemble(order, choices)
    return _check(challenge.key, program)


def _check(key: str, program: str) -> Events:
    with TemporaryDirectory(prefix="offload-fix-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "answer.py").write_text(program, encoding="utf-8")
        with (folder / "errors.log").open("wb") as errors:
            checker = subprocess.Popen(
                [sys.executable, "-m", "flask_offload.lab.fixing.check", key],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        watch = threading.Timer(LIMIT, _end, [checker])
        watch.start()
        try:
            assert checker.stdout is not None
            for line in checker.stdout:
                yield json.loads(line)
            if checker.wait():
                raise BenchError((folder / "errors.log").read_text(errors="replace")[-500:])
        finally:
            watch.cancel()
            _end(checker)


def _end(checker: subprocess.Popen[bytes]) -> None:
    """The checker and the worker that it has started."""
    if checker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(checker.pid, signal.SIGKILL)
    checker.wait()
    if checker.stdout is not None:
        checker.stdout.close()
