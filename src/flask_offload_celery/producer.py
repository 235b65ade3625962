"""Enqueueing: a job goes into the records, then as a message to workers; or into the outbox."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from flask_offload.engine_api import JobRecord, NewJob
from flask_offload.errors import EngineUnavailable

from .connections import Connections
from .outbox import Outbox
from .records import new_record
from .rollback import Rollback

PATIENCE: Final = 60.0
"""Seconds for which workers leave it to the sender to send a message. A process that dies between
recording a job and sending its message has not reported the job as accepted."""
KEEP_NOTE: Final = 366 * 86_400
"""Seconds for which the id of a job is noted whose row may still be in an outbox."""
KEEP_DONE: Final = 600
"""The same once the row is gone; a process that has read it before has given up by then."""
CHUNK: Final = 50
"""Messages that are sent within one OFFLOAD_ENQUEUE_TIMEOUT."""


class Producer:
    """The enqueueing part of the engine. `deliver` takes what an outbox has kept."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rollback = Rollback(
            lambda ids: connections.store.run("withdraw", 0, *ids), patience=PATIENCE * 0.75
        )
        # jobs whose message was sent; recorded with the next job, which saves an exchange. If there
        # is none within PATIENCE, a worker sends those that still wait once more, to no effect
        self._sent: list[str] = []

    def close(self) -> None:
        """End the threads: first late calls, as what they have done is withdrawn."""
        self._connections.deadline.close()
        self._rollback.close()
        if self._connections.outbox is not None:
            self._connections.outbox.close()

    def reset_after_fork(self) -> None:
        """A forked child has none of its parent's threads."""
        self._rollback.reset_after_fork()
        self._sent = []
        if self._connections.outbox is not None:
            self._connections.outbox.reset_after_fork()

    def accept(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Record the jobs, then send their messages: all or none. Once the first message of a batch
        is sent, workers send those of the others that this process can't send."""
        outbox = self._connections.outbox
        if outbox is not None and outbox.has_jobs():
            return self._put_into_outbox(outbox, jobs)
        new: list[NewJob] = []
        try:
            records, unsent = self._connections.deadline.run(
                lambda: self._accept(jobs, new), undo=lambda _: self._withdraw(new)
            )
        except EngineUnavailable:
            if outbox is None:
                raise
            return self._put_into_outbox(outbox, jobs)
        self._send_rest(unsent)
        return records

    def _accept(
        self, jobs: Sequence[NewJob], new: list[NewJob]
    ) -> tuple[list[JobRecord], list[NewJob]]:
        """Record the jobs and send the first message; the records, and the jobs left to send.
        Jobs that were not known before are added to `new`."""
        now = self._connections.host.clock()
        drafts = [self._connections.draft(job) for job in jobs]
        sent, self._sent = self._sent, []
        try:
            answers = self._connections.store.create(drafts, now, PATIENCE, sent=sent)
        except EngineUnavailable:
            self._withdraw_later(jobs)
            raise
        new += [job for job, answer in zip(jobs, answers, strict=True) if len(answer) == 1]
        due = [job for job in new if job.run_after is None or job.run_after <= now]
        try:
            records = [
                new_record(job, now=now) if len(answer) == 1 else self._duplicate(answer[1])
                for job, answer in zip(jobs, answers, strict=True)
            ]
        except EngineUnavailable:
            self._withdraw(new)
            raise
        self._send_or_withdraw(due[:1], new)
        return records, due[1:]

    def _duplicate(self, job_id: str) -> JobRecord:
        found = self._connections.read(job_id)
        found.is_duplicate = True
        return found

    def _send_or_withdraw(self, first: Sequence[NewJob], new: Sequence[NewJob]) -> None:
        """Send a first message: if the broker takes it, it will take the others. Else withdraw all
        jobs; if a worker has started one already, all stay accepted."""
        try:
            for job in first:
                self._connections.broker.send(job)
        except EngineUnavailable:
            if not self._withdraw(new, all_or_none=True):
                raise
        else:
            self._sent += [job.id for job in first]

    def _withdraw(self, jobs: Sequence[NewJob], *, all_or_none: bool = False) -> bool:
        """Delete jobs that were not reported as accepted; whether one has started before. Then
        all_or_none deletes none of them."""
        try:
            ids = [job.id for job in jobs]
            return bool(self._connections.store.run("withdraw", int(all_or_none), *ids))
        except EngineUnavailable:
            self._withdraw_later(jobs)
            return False

    def _withdraw_later(self, jobs: Sequence[NewJob]) -> None:
        """With an outbox the jobs are in that, and stay accepted."""
        if self._connections.outbox is None:
            self._rollback.add(job.id for job in jobs)

    def _send_rest(self, jobs: Sequence[NewJob]) -> None:
        """Send the messages of jobs that are accepted, in chunks that are each bounded."""
        connections = self._connections
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            try:
                connections.deadline.run(lambda chunk=chunk: connections.send(chunk))  # type: ignore[misc]
            except EngineUnavailable:
                break

    # --- the outbox of a transaction ---

    def relay(self, jobs: Sequence[NewJob], deadline: float) -> list[JobRecord]:
        """Record jobs, each once, and send their messages in order. Workers send those that this
        process can't send."""
        now = self._connections.host.clock()
        drafts = [self._connections.draft(job, note=KEEP_NOTE) for job in jobs]

        def create() -> list[list[str]]:
            if time.monotonic() > deadline:
                raise EngineUnavailable("relaying took too long: the outbox has to be read again")
            return self._connections.store.create(drafts, now, PATIENCE)

        answers = self._connections.bounded(create)
        new = [job for job, (how, *_) in zip(jobs, answers, strict=True) if how == "new"]
        self._send_rest([job for job in new if job.run_after is None or job.run_after <= now])
        return [
            new_record(job, now=now) if how == "new" else self._duplicate(*other)
            for job, (how, *other) in zip(jobs, answers, strict=True)
            if how != "known"
        ]

    # --- the outbox ---

    def _put_into_outbox(self, outbox: Outbox, jobs: Sequence[NewJob]) -> list[JobRecord]:
        outbox.put(jobs)
        outbox.relay()
        now = self._connections.host.clock()
        return [new_record(job, now=now) for job in jobs]

    def deliver(self, name: str, rows: Sequence[tuple[int, NewJob]]) -> None:
        """Record jobs of an outbox, each once, and send their messages, in order."""
        now = self._connections.host.clock()
        drafts = [self._connections.draft(job, seq=seq) for seq, job in rows]
        self._connections.store.create(drafts, now, PATIENCE, outbox=name)
        due = [job.id for _, job in rows if job.run_after is None or job.run_after <= now]
        if not self._connections.send_again(due):
            raise EngineUnavailable("Celery's broker does not take the messages of the outbox yet")
