"""A worker beside the club, for engines whose worker no web process keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .processes import descendants

STOP = 1.0
"""Seconds that it may take to leave when asked to: what it runs is of no use any more."""


class ClubWorker:
    """environ: for its process. log: the file for what it says."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self._environ = environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def has_died(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def pids(self) -> list[int]:
        """Its processes, the first one first; empty if it was not started."""
        if self._process is None:
            return []
        return [self._process.pid, *(each.pid for each in descendants(self._process.pid))]

    def start(self) -> None:
        """Start the process. It takes jobs as soon as it is ready."""
        self.stop()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flask_offload_lab.sample_app.worker"],
                stdin=subprocess.PIPE,  # it leaves when this end is closed, however the lab ends
                stdout=log,
                stderr=log,
                env=os.environ | self._environ,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask it to end, and then see to it that all of its processes have."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP)
        with suppress(ProcessLookupError):  # they have all left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
