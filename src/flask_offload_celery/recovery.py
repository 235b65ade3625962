"""Ends attempts whose process died, and postpones jobs whose task this app does not have."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state as celery_state

from flask_offload import signals
from flask_offload.engine_api import (
    Claim,
    Ending,
    Error,
    JobStatus,
    Outcome,
    ended_badly,
    log_event,
)
from flask_offload.errors import JobCancelled, JobTimeout

from .connections import Connections
from .forked import kill_process, kill_programs
from .heartbeats import Heartbeats
from .records import decode_job
from .transition import transition_of
from .worker_identity import WorkerIdentity, start_time

UNKNOWN_DELAY: Final = 5.0
"""Seconds for which a job is postponed whose task this app doesn't have: during a deploy, another
worker may have it."""
TIMEOUT: Final = "timeout"
BY_FORCE: Final = 2


class Recovery:
    """Used by the maintenance thread; the `note_` methods are called in other threads."""

    def __init__(self, connections: Connections, identity: WorkerIdentity) -> None:
        self._connections = connections
        self._host = connections.host
        self._identity = identity
        self._heartbeats = Heartbeats(identity.id)
        self._notes: deque[Callable[[], None]] = deque()

    # --- from other threads ---

    def note_lost(self, request: Any, reason: str) -> None:
        """A process of the pool died while it ran this message. reason: TIMEOUT if it was killed
        for that."""
        mark = object()
        if (
            request.__dict__.setdefault("offload_lost", mark) is mark
        ):  # noted once, by Celery or by find_lost
            job_id: str = request.id
            if request.worker_pid:
                kill_programs(request.worker_pid)
            self._notes.append(lambda: self._lost(job_id, reason))

    def note_unknown(self, job_id: str, task: str) -> None:
        """A message named a task that this app doesn't have."""
        self._notes.append(lambda: self._unknown(job_id, task))

    # --- in the maintenance thread ---

    def find_lost(self) -> None:
        """Note jobs whose process has ended; Celery itself checks every five seconds only."""
        for request in list(celery_state.active_requests):
            pid = request.worker_pid
            if pid and start_time(os.getpid()) and not start_time(pid):
                self.note_lost(request, f"process {pid} has ended")

    def handle_notes(self) -> None:
        """Handle what was noted. What can't be written now stays noted."""
        while self._notes:
            self._notes[0]()
            self._notes.popleft()

    def recover(self) -> None:
        """Put back the jobs of dead workers."""
        for worker in self._heartbeats.dead(self._connections.store):
            ids = self._connections.store.ask("SMEMBERS", f"running:{worker}")
            for job_id in ids:
                self._end(job_id, worker, self._crashed("the worker died"))
            self._remove_worker(worker)
            if ids:
                log_event(
                    logging.WARNING,
                    "worker_recovered",
                    "worker %s is dead: %d of its jobs put back",
                    worker,
                    len(ids),
                    worker=worker,
                )

    def leave(self) -> None:
        """Remove this worker from the store; jobs that it still holds are put back, and no crash is
        counted."""
        for job_id in self._connections.store.ask("SMEMBERS", f"running:{self._identity.id}"):
            self._end(job_id, self._identity.id, self._interrupted)
        self._remove_worker(self._identity.id)

    def kill(self, job_id: str) -> None:
        """Kill the process that runs this job, if it is one of this pool."""
        for request in list(celery_state.active_requests):
            if request.id == job_id and request.worker_pid:
                kill_process(request.worker_pid)

    # --- steps ---

    def _lost(self, job_id: str, reason: str) -> None:
        def outcome(claim: Claim, began: float, cancel: int) -> Outcome:
            error: JobTimeout | JobCancelled
            if cancel == BY_FORCE:
                error = JobCancelled("the job was cancelled by force")
            elif reason == TIMEOUT:
                error = JobTimeout("the job ran longer than its timeout, and ignored it")
            else:
                return self._crashed(reason)(claim, began, cancel)
            host = self._host
            return ended_badly(host, host.context(claim, lambda _: None), error, began)

        if not self._end(job_id, self._identity.id, outcome):
            self._connections.send_again([job_id])  # its process died before it had claimed the job

    def _unknown(self, job_id: str, task: str) -> None:
        again = self._host.clock() + UNKNOWN_DELAY
        self._connections.store.run("postpone", job_id, again)
        message = "no task %s in this app: its jobs wait for a worker that has it"
        log_event(logging.WARNING, "task_unknown", message, task, task=task)

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
        """End the attempt that `worker` has at this job; False if it has none."""
        ((fields, _, _),) = self._connections.store.read([job_id])
        if fields.get("status") != JobStatus.RUNNING or fields.get("worker") != worker:
            return False
        claim = self._claim(fields)
        outcome = outcome_of(claim, float(fields["started_at"]), int(fields["cancel"]))
        now = self._host.clock()
        transition = transition_of(outcome, claim, self._host, worker, now)
        status = self._connections.store.finish(
            job_id, claim.attempt, worker, transition, now=now, patience=1.0
        )
        if status == JobStatus.READY and not transition.run_after:
            self._connections.send_again([job_id])
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

    def _remove_worker(self, worker: str) -> None:
        commands: list[tuple[Any, ...]] = [
            ("HDEL", "workers", worker),
            ("HDEL", "beats", worker),
            ("DEL", f"stopping:{worker}"),
        ]
        self._connections.store.ask_all(commands)
