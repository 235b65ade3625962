"""An engine for Flask-Offload that keeps each job in a file: `OFFLOAD_ENGINE = "folder"`.

The folder is beside the embedded engine's database. One lock guards all its files;
each worker holds another for as long as it lives, so that its death is seen.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import ClassVar

import msgspec

from flask_offload import EngineUnavailable, JobNotFound
from flask_offload.engine_api import (
    Attempt,
    Ending,
    Engine,
    Flags,
    Host,
    JobRecord,
    JobStatus,
    NewJob,
    Outcome,
    Report,
    WorkOptions,
    check_cancel,
    check_retry,
    follow,
    moment,
    run,
)


class Kept(msgspec.Struct):
    """What is in a job's file."""

    job: NewJob
    record: JobRecord
    failures: int = 0
    cursor: str | None = None


class FolderEngine(Engine):
    """Jobs in files. Each worker runs one at a time, the oldest first."""

    name = "folder"
    flags: ClassVar[Flags] = Flags(
        durable=True, deferred=True, cancels_waiting=True, retries=True, worker_command=True
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        self._folder = host.database.with_name(host.database.name + "-jobs")

    # --- the sender half ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """One job: without the flag transactional_batches there are never more."""
        with self._locked():
            for job in jobs:
                self._write(Kept(job, job.record()))
            return [self._read(job.id).record for job in jobs]

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFound."""
        with self._locked():
            return self._read(job_id).record

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job."""
        with self._locked():
            kept = self._read(job_id)
            check_cancel(kept.record.status, job_id)
            if kept.record.status is JobStatus.RUNNING:
                raise self.unsupported("cancels_running")
            kept.record.status, kept.record.finished_at = JobStatus.CANCELLED, self._host.clock()
            return self._write(kept)

    def retry(self, job_id: str) -> JobRecord:
        """Let a job that has ended wait again, its counts at nought."""
        with self._locked():
            kept = self._read(job_id)
            check_retry(kept.record.status, job_id)
            kept.failures, kept.record.crashes = 0, 0
            kept.record.status, kept.record.run_after = JobStatus.READY, None
            kept.record.finished_at = None
            return self._write(kept)

    # --- the worker half ---

    def work(self, options: WorkOptions) -> int:
        """`flask offload worker`: run jobs until SIGTERM or ^C; the exit code."""
        stopping = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: stopping.set())
        worker = f"folder-{os.getpid()}"
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / f"{worker}.alive", "w") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            while not stopping.is_set():
                kept = self._claim(worker, options.queues)
                if kept is not None:
                    self._run(kept)
                elif options.burst:
                    break
                else:
                    stopping.wait(0.2)
            os.remove(alive.name)
        return 0

    def _claim(self, worker: str, queues: frozenset[str] | None) -> Kept | None:
        """The oldest job that can run now; jobs of dead workers are put back on the way."""
        with self._locked():
            for path in sorted(self._folder.glob("*.json")):  # ids sort by age
                kept = self._read(path.stem)
                record = kept.record
                if record.status is JobStatus.RUNNING and not self._is_alive(record.worker):
                    now, began = self._host.clock(), record.started_at or 0.0
                    self._end(kept, Outcome(0, record.attempt, Ending.CRASHED, began, now))
                if (
                    record.status is JobStatus.READY
                    and record.waiting_for is None
                    and (queues is None or record.queue_name in queues)
                    and self._host.registry.find_task(record.task) is not None
                ):
                    record.status, record.worker = JobStatus.RUNNING, worker
                    record.attempt, record.started_at = record.attempt + 1, self._host.clock()
                    self._write(kept)
                    return kept
        return None

    def _run(self, kept: Kept) -> None:
        """Run a claimed job once, as every engine does, and write down what came of it."""

        def note(report: Report) -> None:
            record = kept.record
            record.done, record.total, record.message = report.done, report.total, report.message
            kept.cursor = report.cursor or kept.cursor
            with self._locked():
                self._write(kept)

        claim = kept.job.claim(
            seq=0,
            attempt=kept.record.attempt,
            claimed_at=self._host.clock(),
            failures=kept.failures,
            crashes=kept.record.crashes,
            cursor=kept.cursor,
        )
        environment = self._host
        context = environment.context(claim, note)
        outcome = Context().run(run, environment, context)  # nothing a task sets outlives it
        context.finish()
        with self._locked():
            self._end(kept, outcome)

    def _end(self, kept: Kept, outcome: Outcome) -> None:
        """Write down how an attempt ended, and what follows."""
        record = kept.record
        what = follow(
            outcome,
            failures=kept.failures,
            crashes=record.crashes,
            on_crash=kept.job.on_crash,
        )
        kept.failures, record.crashes = what.failures, what.crashes
        record.attempts.append(
            Attempt(
                number=outcome.attempt,
                worker=record.worker,
                started_at=moment(outcome.started_at),
                finished_at=moment(outcome.finished_at),
                outcome=str(outcome.ending),
                error=what.error,
            )
        )
        record.status, record.error = what.status, what.error
        record.result = outcome.result
        record.run_after = outcome.finished_at + what.after if what.after else None
        record.finished_at = outcome.finished_at if what.status.is_finished else None
        self._write(kept)

    def _is_alive(self, worker: str | None) -> bool:
        """Whether it still holds its lock; the kernel takes it away the moment it dies."""
        try:
            with open(self._folder / f"{worker}.alive") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    # --- files ---

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the folder. Raises EngineUnavailable."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / "lock", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise EngineUnavailable(f"the jobs in {self._folder} can't be used: {error}") from error

    def _read(self, job_id: str) -> Kept:
        path = self._folder / f"{job_id}.json"
        if not job_id.isalnum() or not path.exists():  # ids come from URLs, too
            raise JobNotFound(f"there is no job {job_id!r}")
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        due = kept.record.run_after
        is_early = due is not None and due > self._host.clock()
        kept.record.waiting_for = "its time" if is_early else None
        return kept

    def _write(self, kept: Kept) -> JobRecord:
        path = self._folder / f"{kept.job.id}.json"
        with open(path.with_suffix(".new"), "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)  # so that a file is never half written
        return kept.record
