"""The club's processes, seen from the lab: start them, `kill -9` them, start them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .engine import ClubEngine
from .sample_app.settings import Settings
from .sample_app_worker import ClubWorker
from .webserver import WebServer

WORKER = "offload worker"
"""What the command line of a worker says."""


class ClubServer(WebServer):
    """The club behind a web server with one thread, and its worker: the one that its keeper starts,
    or one beside it where the engine needs that."""

    routes: Sequence[str] = ("/", "/sync", "/thread", "/background")
    """The pages that can be measured."""

    def __init__(
        self,
        folder: Path,
        smtp_port: int,
        lab_origin: str,
        engine: ClubEngine,
        host: str = "127.0.0.1",
    ) -> None:
        environ = dict(engine.environ)
        log = folder / "club.log"
        super().__init__(["flask_offload_lab.sample_app"], environ, log, host)
        self.settings = Settings(folder, smtp_port, self.origin, lab_origin)
        environ |= self.settings.environ()
        self._worker = ClubWorker(environ, log) if engine.needs_worker else None

    @property
    def evidence(self) -> Path:
        """What its spotter has found."""
        return self.settings.evidence

    @property
    def worker_has_died(self) -> bool:
        """Whether a worker that was started beside it has ended by itself."""
        return self._worker is not None and self._worker.has_died

    def start(self) -> None:
        """Start web process and worker, as whoever looks after them would after a crash."""
        super().start()
        if self._worker is not None:
            self._worker.start()

    def stop(self) -> None:
        """End both."""
        if self._worker is not None:
            self._worker.stop()
        super().stop()

    def workers(self) -> list[int]:
        """The worker's processes, its supervisor first; empty if there is none."""
        if self._worker is not None:
            return self._worker.pids()
        return [process.pid for process in self.below() if WORKER in process.command]

    def kill_all(self) -> list[int]:
        """`kill -9` of everything at once, as when a container loses its power."""
        return self.kill(also=self.workers())
