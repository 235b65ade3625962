"""The app of `celery_app` on a broker, in this process, with real workers; and its records."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from brokers import Server
from celery_app import create_app, offload
from flask_offload import Job, JobStatus
from flask_offload_celery.engine import CeleryEngine
from support import APP_PATH, Running, running, wait_until
from worker_process import Forked, Workshop

COMMAND = ("--app", "celery_app", "offload")


class CelerySite:
    """records: the server that keeps them; broker: the same or another."""

    def __init__(self, folder: Path, records: Server, broker: Server, **config: Any) -> None:
        self.folder = folder
        self.broker = broker
        self.records = records
        self.witness_file = folder / "witness"
        self.settings = {
            "OFFLOAD_ENGINE": "celery",
            "CELERY": {"broker_url": broker.url},
            "OFFLOAD_CELERY_RECORDS": records.url,
            "OFFLOAD_CELERY_PREFIX": f"{uuid.uuid4().hex[:8]}:",
            "OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            **config,
        }
        self.app = create_app(**self.settings)
        self.offload = offload

    @property
    def engine(self) -> CeleryEngine:
        engine = self.offload.state_of(self.app).engine
        assert isinstance(engine, CeleryEngine)
        return engine

    @property
    def env(self) -> dict[str, str]:
        """The settings for another process."""
        settings = {
            f"FLASK_{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in self.settings.items()
        }
        return {**settings, "WITNESS": str(self.witness_file), "PYTHONPATH": APP_PATH}

    # --- workers ---

    @contextmanager
    def worker(self, worker_process: Workshop, *arguments: str, **env: str) -> Iterator[Forked]:
        """A worker, registered and up."""
        with worker_process.flask(
            *(*COMMAND, "worker", "--in-this-process", *arguments),
            env={**self.env, **env},
            cwd=self.folder,
        ) as process:
            process.wait_for(" ready.")
            yield process

    def command(self, *arguments: str) -> AbstractContextManager[Running]:
        """A `flask offload` command in a process that is started for it."""
        words = [sys.executable, "-m", "flask", *COMMAND, *arguments]
        return running(words, env=self.env, cwd=self.folder)

    def workers(self) -> set[str]:
        """The ids of the workers in the store."""
        return set(self.engine.connections.store.ask("HKEYS", "workers"))

    # --- what tasks did ---

    def witnessed(self, what: str = "", job: Job | None = None) -> list[list[str]]:
        """The lines that tasks have written: what, job, attempt, process."""
        text = self.witness_file.read_text() if self.witness_file.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [
            line
            for line in lines
            if (not what or line[0] == what) and (job is None or line[1] == job.id)
        ]

    def wait_for_witness(self, what: str, times: int = 1, timeout: float = 30.0) -> list[list[str]]:
        """Wait for so many lines of this kind."""
        found: list[list[str]] = wait_until(
            lambda: lines if len(lines := self.witnessed(what)) >= times else [],
            timeout,
            lambda: f"{times} x {what!r} in {self.witnessed()}",
        )
        return found

    def wait(self, *jobs: Job, timeout: float = 30.0) -> list[Job]:
        """Wait until these jobs have finished."""
        for job in jobs:
            wait_until(
                lambda job=job: job.refresh().is_finished,  # type: ignore[misc]
                timeout,
                lambda job=job: f"the end of {job}: {job.attempts}",  # type: ignore[misc]
            )
        return list(jobs)

    # --- the records ---

    def account(self, jobs: Sequence[Job], title: str) -> Account:
        """Where every job stands and how often it ran; printed, so that it is in the test's log."""
        found = Account(Counter(), Counter(), [], [])
        for job in jobs:
            job.refresh()
            starts = len(self.witnessed("start", job))
            excused = sum(tried.outcome in ("CRASHED", "INTERRUPTED") for tried in job.attempts)
            found.statuses[job.status] += 1
            found.starts[starts] += 1
            if not job.is_finished or (job.status is JobStatus.SUCCESSFUL and not starts):
                found.lost.append(job.id)
            if starts > 1 + excused:
                found.unexcused.append(job.id)
        print(f"\n{title}: {len(jobs)} jobs\n{found}")
        return found


@dataclass
class Account:
    """What became of jobs. starts: how many ran once, twice, …; unexcused: ran again although no
    attempt of theirs was cut short; lost: without an end, or successful without a trace."""

    statuses: Counter[JobStatus]
    starts: Counter[int]
    unexcused: list[str]
    lost: list[str]

    def __str__(self) -> str:
        statuses = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        starts = ", ".join(f"{count} ran {n} x" for n, count in sorted(self.starts.items()))
        return f"  {statuses}\n  {starts}\n  lost: {self.lost}\n  unexcused: {self.unexcused}"


@contextmanager
def make_site(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: Server,
    broker: Server | None = None,
    **config: Any,
) -> Iterator[CelerySite]:
    """A site in `folder`, with an app context pushed."""
    site = CelerySite(folder, records, broker or records, **config)
    monkeypatch.setenv("WITNESS", str(site.witness_file))
    try:
        with site.app.app_context():
            yield site
    finally:
        site.engine.close()


def stop(process: Forked | Running, timeout: float = 30.0) -> None:
    """Ask a worker to stop, and wait until it has."""
    process.send(signal.SIGTERM)
    process.wait(timeout)
