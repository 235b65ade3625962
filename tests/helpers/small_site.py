"""An app of one file, with real workers for it, as a stranger's app would have them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from flask import Flask

from flask_offload import Job, JobStatus, Offload
from support import Running, running, wait_until


class SmallSite:
    """`source` is the module `shop` with a factory or an `app`, and the variables of `environ`."""

    def __init__(self, folder: Path, source: str, **environ: str) -> None:
        (folder / "shop.py").write_text(source)
        self.folder = folder
        self.database = folder / "jobs.sqlite3"
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "FLASK_OFFLOAD_SQLITE_PATH": str(self.database),
            "FLASK_OFFLOAD_WORKER": "off",
            **environ,
        }
        self.app = Flask("shop")
        self.app.config.update(OFFLOAD_SQLITE_PATH=str(self.database), OFFLOAD_WORKER="off")
        for name in ("ENGINE", "POSTGRES_URL"):
            if f"FLASK_OFFLOAD_{name}" in environ:
                self.app.config[f"OFFLOAD_{name}"] = environ[f"FLASK_OFFLOAD_{name}"]
        self.offload = Offload(self.app)

    def enqueue(self, name: str, *args: object, **options: object) -> str:
        """Enqueue a task of the module, with these options of its own; the job's id."""
        task = self.offload.tasks.get(f"shop.{name}")
        if task is None:
            task = self.offload.task(name=f"shop.{name}", **options)(lambda *args: None)  # type: ignore[call-overload]
        with self.app.app_context():
            job: Job = task.enqueue(*args)
        return job.id

    def job(self, job_id: str) -> Job:
        """The job as it stands."""
        with self.app.app_context():
            return self.offload.get_job(job_id)

    def status(self, job_id: str) -> JobStatus:
        """Its status."""
        return self.job(job_id).status

    def wait_for(self, job_id: str, status: JobStatus, timeout: float = 20.0) -> Job:
        """Wait until the job has this status; the job."""
        wait_until(lambda: self.status(job_id) is status, timeout, f"the job is {status}")
        return self.job(job_id)

    def worker(self, *arguments: str) -> AbstractContextManager[Running]:
        """A worker process that is ready for jobs."""
        command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "worker"]
        return running([*command, *arguments], env=self.environ, cwd=self.folder, ready="started")

    def close(self) -> None:
        """Close the connections of this process."""
        with self.app.app_context():
            self.offload.engine.close()


@contextmanager
def small_site(folder: Path, source: str, **environ: str) -> Iterator[SmallSite]:
    """One for the block."""
    site = SmallSite(folder, source, **environ)
    try:
        yield site
    finally:
        site.close()
