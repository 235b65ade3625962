"""The club's processes, seen from the lab: start them, `kill -9` them, start them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .club.settings import Settings
from .processes import kill_now
from .webserver import WebServer

WORKER = "offload worker"
"""What the command line of a worker says."""


class ClubServer(WebServer):
    """The club behind a web server with one thread, and the worker that its keeper starts."""

    routes: Sequence[str] = ("/", "/sync", "/thread", "/background")
    """The pages that can be measured."""

    def __init__(
        self, folder: Path, smtp_port: int, lab_origin: str, host: str = "127.0.0.1"
    ) -> None:
        environ: dict[str, str] = {}
        super().__init__(["flask_offload.lab.club"], environ, folder / "club.log", host)
        self.settings = Settings(folder, smtp_port, self.origin, lab_origin)
        environ |= self.settings.environ()

    @property
    def evidence(self) -> Path:
        """What its spotter has found."""
        return self.settings.evidence

    def workers(self) -> list[int]:
        """The worker's processes, its supervisor first; empty if there is none."""
        return [process.pid for process in self.below() if WORKER in process.command]

    def kill_worker(self) -> list[int]:
        """`kill -9` of the worker, supervisor and children; gives their former pids."""
        pids = self.workers()
        kill_now(pids)
        return pids

    def kill_all(self) -> list[int]:
        """`kill -9` of everything at once, as when a container loses its power."""
        return self.kill(also=self.workers())
