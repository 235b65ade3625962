"""Attempts whose process died, and messages that nobody could read: what becomes of their jobs."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state as celery_state

from flask_offload import signals
from flask_offload.engines.run import ended_badly
from flask_offload.errors import JobCancelled, JobTimeout
from flask_offload.jobs import log
from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error, JobStatus

from .broker import ANONYMOUS
from .connections import Office
from .heartbeats import Watch
from .records import decode_job
from .transition import settled
from .worker_identity import Seat, born

UNKNOWN_DELAY: Final = 5.0
"""Seconds for which a job is left alone whose task this app doesn't have: during a deploy, another
worker may have it."""
TIMEOUT: Final = "timeout"
BY_FORCE: Final = 2


class Losses:
    """Belongs to the clerk, whose thread calls all but the `note_` methods."""

    def __init__(self, office: Office, seat: Seat) -> None:
        self._office = office
        self._host = office.host
        self._seat = seat
        self._watch = Watch(seat.id)
        self._notes: deque[Callable[[], None]] = deque()

    # --- from other threads ---

    def note_lost(self, request: Any, reason: str) -> None:
        """A process of our pool died while it had this message; TIMEOUT: it was killed for that."""
        mark = object()
        if (
            request.__dict__.setdefault("offload_lost", mark) is mark
        ):  # told once, by whoever saw it
            job_id: str = request.id
            self._notes.append(lambda: self._lost(job_id, reason))

    def note_unknown(self, job_id: str, task: str) -> None:
        """There was a message about a task that Celery doesn't know here."""
        self._notes.append(lambda: self._unknown(job_id, task))

    # --- the clerk's ---

    def look_around(self) -> None:
        """Note jobs whose process is gone; Celery itself looks every five seconds only."""
        for request in list(celery_state.active_requests):
            pid = request.worker_pid
            if pid and born(os.getpid()) and not born(pid):
                self.note_lost(request, f"process {pid} is gone")

    def settle(self) -> None:
        """Deal with what was noted. What can't be written now is kept."""
        while self._notes:
            self._notes[0]()
            self._notes.popleft()

    def recover(self) -> None:
        """Put back the jobs of dead workers."""
        for worker in self._watch.dead(self._office.ledger):
            ids = self._office.ledger.ask("SMEMBERS", f"running:{worker}")
            for job_id in ids:
                self._end(job_id, worker, self._crashed("the worker died"))
            self._strike_out(worker)
            if ids:
                log.write(
                    logging.WARNING,
                    "worker_recovered",
                    "worker %s is dead: %d of its jobs put back",
                    worker,
                    len(ids),
                    worker=worker,
                )

    def leave(self) -> None:
        """Take our worker out of the books; jobs that it still holds are put back, at no cost."""
        for job_id in self._office.ledger.ask("SMEMBERS", f"running:{self._seat.id}"):
            self._end(job_id, self._seat.id, self._interrupted)
        self._strike_out(self._seat.id)

    def kill(self, job_id: str) -> None:
        """Kill the process that runs this job, if it is one of ours."""
        for request in list(celery_state.active_requests):
            if request.id == job_id and request.worker_pid:
                os.kill(request.worker_pid, signal.SIGKILL)

    # --- steps ---

    def _lost(self, job_id: str, reason: str) -> None:
        def outcome(claim: Claim, began: float, cancel: int) -> Outcome:
            error: JobTimeout | JobCancelled
            if cancel == BY_FORCE:
                error = JobCancelled("the job was cancelled by force")
            elif reason == TIMEOUT:
                error = JobTimeout("the job ran longer than its timeout, and did not listen")
            else:
                return self._crashed(reason)(claim, began, cancel)
            environment = self._host
            return ended_badly(
                environment, environment.context(claim, lambda _: None), error, began
            )

        if not self._end(job_id, self._seat.id, outcome):
            self._office.send_again([job_id])  # its process died before it had claimed the job

    def _unknown(self, job_id: str, task: str) -> None:
        if self._host.registry.find_task(task) is not None:
            # declared since Celery looked, in a view say: Celery's own list is closed
            self._office.send_again([job_id], task=ANONYMOUS)
            return
        again = self._host.clock() + UNKNOWN_DELAY
        self._office.ledger.run("postpone", job_id, again)
        message = "no task %s in this app: its jobs wait for a worker that has it"
        log.write(logging.WARNING, "task_unknown", message, task, task=task)

    def _crashed(self, reason: str) -> Callable[[Claim, float, int], Outcome]:
        def outcome(claim: Claim, began: float, cancel: int) -> Outcome:
            signals.send(
                signals.crashed,
                self._host.app,
                job_id=claim.id,
                task=claim.task,
                attempt=claim.attempt,
                reason=reason,
            )
            now = self._host.clock()
            error = Error("WorkerDied", f"the process that ran the job died ({reason})")
            return Outcome(claim.seq, claim.attempt, Ending.CRASHED, began, now, error=error)

        return outcome

    def _interrupted(self, claim: Claim, began: float, cancel: int) -> Outcome:
        now = self._host.clock()
        error = Error("Interrupted", "the worker was stopped before the job had ended")
        return Outcome(claim.seq, claim.attempt, Ending.INTERRUPTED, began, now, error=error)

    def _end(
        self, job_id: str, worker: str, outcome_of: Callable[[Claim, float, int], Outcome]
    ) -> bool:
        """End the attempt that `worker` holds at this job; False if it holds none."""
        ((fields, _, _),) = self._office.ledger.read([job_id])
        if fields.get("status") != JobStatus.RUNNING or fields.get("worker") != worker:
            return False
        claim = self._claim(fields)
        outcome = outcome_of(claim, float(fields["started_at"]), int(fields["cancel"]))
        now = self._host.clock()
        settlement = settled(outcome, claim, self._host, worker, now)
        status = self._office.ledger.finish(
            job_id, claim.attempt, worker, settlement, now=now, patience=1.0
        )
        if status == JobStatus.READY and not settlement.run_after:
            self._office.send_again([job_id])
        return True

    def _claim(self, fields: dict[str, str]) -> Claim:
        job = decode_job(fields["body"])
        job.enqueued_at = float(fields["enqueued_at"])
        return job.claim(
            seq=0,
            attempt=int(fields["attempt"]),
            failures=int(fields["failures"]),
            crashes=int(fields["crashes"]),
            claimed_at=float(fields["started_at"]),
        )

    def _strike_out(self, worker: str) -> None:
        commands: list[tuple[Any, ...]] = [
            ("HDEL", "workers", worker),
            ("HDEL", "beats", worker),
            ("DEL", f"stopping:{worker}"),
        ]
        self._office.ledger.ask_all(commands)
