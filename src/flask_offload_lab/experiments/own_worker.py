"""A worker that one experiment has for itself, with a database of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flask_offload import Job

from .. import queue_app
from ..errors import WorkNotDone
from ..journal import Journal, JournalReader, Note
from ..webserver import ChildProcess

START_TIMEOUT = 30.0
"""Seconds that the worker may take until all its threads have run a job."""

STOP_TIMEOUT = 0.5
"""Seconds that it may take to end: its jobs are not needed any more."""

LOOK = 0.02
"""Seconds between two looks at the journal."""


class OwnWorker:
    """Use it in a `with` block. processes: how many run jobs; threads: of each of them.

    Raises WorkNotDone if the worker does not start.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self._size = (processes, threads)

    def __enter__(self) -> OwnWorker:
        processes, threads = self._size
        with ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(
                prefix="offload-queue-", ignore_cleanup_errors=True
            )
            folder = Path(stack.enter_context(temporary))
            self._app = queue_app.create_app(folder)
            with self._app.app_context():
                stack.callback(queue_app.offload.engine.close)
                self._journal = JournalReader(queue_app.journal())
            child = ChildProcess(
                [queue_app.__name__, "--processes", str(processes), "--threads", str(threads)],
                {queue_app.FOLDER: str(folder)},
                folder / "worker.log",
                STOP_TIMEOUT,
            )
            stack.callback(child.stop)
            child.start()
            self._warm_up(processes * threads, child)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _warm_up(self, servers: int, child: ChildProcess) -> None:
        """One job for each thread, so that nothing measured later includes a start."""
        for number in range(servers):
            self.enqueue(queue_app.work, f"warm-up-{number}", 0.2)
        deadline = time.monotonic() + START_TIMEOUT
        while self._journal.count("work-end") < servers:
            if child.has_ended:
                raise child.error("The worker did not start. The end of its log:")
            if time.monotonic() > deadline:
                raise WorkNotDone
            time.sleep(LOOK)
        path = Path(self._app.config[queue_app.FOLDER]) / "journal.txt"
        self._journal = JournalReader(Journal(path))

    def enqueue(self, task: Any, *args: object) -> Job:
        """Enqueue a call of one of queue_app's tasks."""
        with self._app.app_context():
            job: Job = task.enqueue(*args)
        return job

    def refreshed(self, job: Job) -> Job:
        """The job as it is now."""
        with self._app.app_context():
            return job.refresh()

    def notes(self, kind: str) -> list[Note]:
        """What the tasks have written down so far."""
        return [note for note in self._journal.notes if note.kind == kind]

    def names(self, kind: str, names: Collection[str]) -> int:
        """How many of these names the tasks have written down."""
        return self._journal.count(kind, names)
