"""The sample app's processes: start them, `kill -9` them, start them again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from .engine import SampleAppEngine
from .sample_app.settings import Settings
from .webserver import ChildProcess, WebServer

MODULE = "flask_offload_lab.sample_app"

KEPT_WORKER = "offload worker"
"""Part of the command line of a worker that a web process keeps."""

WORKER_STOP_TIMEOUT = 1.0
"""Seconds that the worker may take to end: the jobs that it runs are not needed any more."""


class SampleAppServer(WebServer):
    """The sample app behind a web server with one thread, and its worker: the one that its keeper
    starts, or one that the lab starts where the engine needs that."""

    routes: Sequence[str] = ("/", "/sync", "/thread", "/background")
    """The pages that can be measured."""

    def __init__(
        self,
        folder: Path,
        smtp_port: int,
        lab_origin: str,
        engine: SampleAppEngine,
        host: str = "127.0.0.1",
    ) -> None:
        environ = dict(engine.environ)
        log = folder / "sample-app.log"
        super().__init__(MODULE, [], environ, log, host)
        self.settings = Settings(folder, smtp_port, self.origin, lab_origin)
        environ |= self.settings.environ()
        self._worker = (
            ChildProcess([MODULE], environ, log, WORKER_STOP_TIMEOUT)
            if engine.needs_worker
            else None
        )

    @property
    def evidence(self) -> Path:
        """The file of the profiler's findings."""
        return self.settings.evidence

    @property
    def worker_has_ended(self) -> bool:
        """Whether a worker that the lab started has ended by itself."""
        return self._worker is not None and self._worker.has_ended

    def start(self, pass_fds: Collection[int] = ()) -> None:
        """Start web process and worker, as a process manager would after a crash."""
        super().start(pass_fds)
        if self._worker is not None:
            self._worker.start()

    def stop(self) -> None:
        """End both."""
        if self._worker is not None:
            self._worker.stop()
        super().stop()

    def workers(self) -> list[int]:
        """The worker's processes, its supervisor first; empty if there is none."""
        if self._worker is None:
            return [process.pid for process in self.below() if KEPT_WORKER in process.command]
        return [self._worker.pid, *(process.pid for process in self._worker.below())]

    def kill_all(self) -> list[int]:
        """`kill -9` all processes at once, as when a container loses its power."""
        return self.kill(also=self.workers())
